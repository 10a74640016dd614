#!/usr/bin/env python3
"""A server that speaks S3's API: versitygw, built once from s3/go.mod and kept outside the checkout.

python3 tests/support/s3_server.py     # builds it if it is missing (two minutes), says where it is
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import pytest
from go_tools import BinariesMissingError, GoTools
from servers import Server, free_port

VERSITYGW = GoTools(
    Path(__file__).resolve().parent / "s3",
    "s3",
    "an S3 server for the tests: two minutes on two cores, once",
    ("versitygw",),
)
BUCKET = "posture"


class S3Server(Server):
    """A server with one bucket, whose objects are files of ``folder``: what is on its disk can be seen.

    Args:
        folder: for its log, and for its data.
        data: a folder for the objects instead, such as one on a small disk.
    """

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        super().__init__()
        try:
            program = VERSITYGW.ensure() / "versitygw"
        except BinariesMissingError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))
        self.port = free_port()
        self.key_id, self.secret_key = "farm", secrets.token_hex(8)
        self.data = data or folder / "s3"
        (self.data / BUCKET).mkdir(parents=True)
        self.log = folder / "s3.log"
        # env gives them to the program alone, and is no shell
        self.command = [
            "env", f"ROOT_ACCESS_KEY={self.key_id}", f"ROOT_SECRET_KEY={self.secret_key}",
            str(program), "--port", f"127.0.0.1:{self.port}", "--keep-alive", "posix", str(self.data),
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int, bucket: str = BUCKET) -> str:
        return f"s3+http://127.0.0.1:{port}/{bucket}"

    def settings(self, url: str = "") -> dict[str, str]:
        """The variables with which a program finds it."""
        return {
            "POSTURE_PICTURES_URL": url or self.url,
            "POSTURE_PICTURES_KEY_ID": self.key_id,
            "POSTURE_PICTURES_SECRET_KEY": self.secret_key,
        }

    def pictures(self, pi_id: str = "pi1") -> dict[str, bytes]:
        """What the bucket has of a stream."""
        folder = self.data / BUCKET / f"analyzed_images_from_{pi_id}"
        return {path.name: path.read_bytes() for path in folder.glob("*.jpg")}


if __name__ == "__main__":
    try:
        print(VERSITYGW.ensure())
    except BinariesMissingError as error:
        sys.exit(f"error: {error}")
