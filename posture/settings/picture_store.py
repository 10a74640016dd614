"""The address of the pictures' store, ``analyzer.pictures_url``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from posture.settings.parsers import NotAcceptedError, text

SCHEMES = ("s3+http", "s3+https")
DEFAULT_REGION = "us-east-1"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*|")
REGION = re.compile(r"[A-Za-z0-9-]{1,63}")


@dataclass(frozen=True)
class BucketAddress:
    """A bucket of an S3 server.

    Attributes:
        endpoint: host, or host:port.
        secure: whether it is spoken to with TLS.
        bucket: its name.
        prefix: of all names in it, without slashes at its ends; may be empty.
        region: what requests are signed for.
    """

    endpoint: str
    secure: bool
    bucket: str
    prefix: str
    region: str

    def __str__(self) -> str:
        """The address, as it is given."""
        scheme = SCHEMES[self.secure]
        return f"{scheme}://{self.endpoint}/{'/'.join(filter(None, (self.bucket, self.prefix)))}"


def bucket_address(url: str) -> BucketAddress:
    """Return what an address says.

    Raises:
        NotAcceptedError: it is none.
    """
    if "@" in url:
        raise NotAcceptedError("the keys belong into POSTURE_PICTURES_KEY_ID and POSTURE_PICTURES_SECRET_KEY")
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else {}
    except ValueError:  # unbalanced brackets, a port that is no number up to 65535, a query that is none
        raise NotAcceptedError from None
    bucket, _, prefix = parts.path.strip("/").partition("/")
    regions = query.pop("region", [DEFAULT_REGION])
    well_formed = (
        parts.scheme in SCHEMES
        and parts.hostname
        and re.fullmatch(r"[A-Za-z0-9.:\[\]_-]+", parts.netloc)
        and port != 0
        and BUCKET.fullmatch(bucket)
        and PREFIX.fullmatch(prefix)
        and len(regions) == 1
        and REGION.fullmatch(regions[0])
    )
    if not well_formed or query or parts.fragment:
        raise NotAcceptedError
    return BucketAddress(parts.netloc, parts.scheme == SCHEMES[True], bucket, prefix, regions[0])


def pictures_url(value: Any) -> str:
    """Accept the address of a bucket, or nothing: pictures go to a folder then."""
    given = text(value)
    if given:
        bucket_address(given)
    return given
