"""With mutual TLS, KEDA alone is answered: not whoever has a certificate of the same authority."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest
from scaler_process import ANSWER_S, Certificates, poll, ref, wire_grpc
from scaler_server import RunningServer, code_of, tls_settings


def test_another_certificate_of_the_same_authority_is_refused_for_every_call_and_said_once(
    serve: Callable[..., RunningServer], certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(**tls_settings(certificates))
    with certificates.channel(server.address, certificates.issue("other", "prometheus")) as channel:
        stub = wire_grpc.ExternalScalerStub(channel)
        calls = (
            lambda: stub.IsActive(ref(), timeout=ANSWER_S),
            lambda: stub.GetMetricSpec(ref(), timeout=ANSWER_S),
            lambda: next(stub.StreamIsActive(ref(), timeout=ANSWER_S)),
            lambda: next(stub.StreamMetricSpec(ref(), timeout=ANSWER_S)),
        )
        for call in calls:
            assert code_of(call) is grpc.StatusCode.PERMISSION_DENIED
    assert server.calls.last_at is None
    assert caplog.text.count("a client with a certificate for prometheus is refused") == 1
    with certificates.channel(server.address, certificates.issue("keda", "keda-operator")) as channel:
        stub = wire_grpc.ExternalScalerStub(channel)
        assert poll(stub, ref()) == (True, 1.0)
        assert next(stub.StreamIsActive(ref(), timeout=ANSWER_S)).result


@pytest.mark.parametrize("name", ["prometheus", ""], ids=["another name", "any name"])
def test_the_name_is_a_setting(serve: Callable[..., RunningServer], certificates: Certificates, name: str) -> None:
    server = serve(**tls_settings(certificates), client_name=name)
    with certificates.channel(server.address, certificates.issue("other", "prometheus")) as channel:
        assert poll(wire_grpc.ExternalScalerStub(channel), ref()) == (True, 1.0)
