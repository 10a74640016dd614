"""Who may ask the scaler: with mutual TLS one client by its name, not whoever has a certificate of the same CA."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from posture.system.said_once import SaidOnce
from posture.system.untrusted import shown

_log = logging.getLogger(__name__)

NAMES = ("x509_common_name", "x509_subject_alternative_name")
"""Where a certificate names its owner, as gRPC has verified it."""
Handler = Any
"""An RpcMethodHandler; only the type stubs know it as generic."""


class OnlyOneClient(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Refuses a service's calls to a client whose certificate does not have a name.

    Args:
        service: the full name of the service; others, such as health, are not looked at.
        name: the client's common name, or one of its alternative names.
    """

    def __init__(self, service: str, name: str) -> None:
        self._calls = f"/{service}/"
        self._name = name
        self._said = SaidOnce(_log)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler of a call, with the question for the name before it."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(self._calls):
            return handler
        if handler.response_streaming:
            stream: Any = handler.unary_stream

            async def answers(request: Any, context: Any) -> Any:
                await self._check(context)
                async for answer in stream(request, context):
                    yield answer

            return grpc.unary_stream_rpc_method_handler(
                answers, handler.request_deserializer, handler.response_serializer
            )
        call: Any = handler.unary_unary

        async def answer(request: Any, context: Any) -> Any:
            await self._check(context)
            return await call(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )

    async def _check(self, context: Any) -> None:
        authenticated = context.auth_context()
        names = [name.decode(errors="replace") for key in NAMES for name in authenticated.get(key, []) if name]
        if self._name in names:
            return
        who = shown(", ".join(names) or "no name")
        self._said.warning(
            f"a client with a certificate for {who} is refused; scaler.client_name: {self._name}", who
        )
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this certificate is not that of scaler.client_name")
