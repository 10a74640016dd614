"""Fixtures: the scaler's server and certificates for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from scaler_process import Certificates, wire_grpc
from scaler_server import RunningServer


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningServer]]:
    with contextlib.ExitStack() as servers:

        def start(**settings: Any) -> RunningServer:
            server = RunningServer(**settings)
            servers.callback(server.close)
            return server

        yield start


@pytest.fixture
def server(serve: Callable[..., RunningServer]) -> RunningServer:
    return serve()


@pytest.fixture
def stub(server: RunningServer) -> Iterator[wire_grpc.ExternalScalerStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield wire_grpc.ExternalScalerStub(channel)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certificates")
