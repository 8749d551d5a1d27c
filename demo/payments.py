"""The workload ``payments``: an ASGI application under uvicorn that only ``frontend`` may call."""

import asyncio
import hashlib
import json
import os
import socket

from authsec_sdk.authz import Authorizer, authorize_id, unsafe_authorize_any
from authsec_sdk.integrations.asgi import (
    ASGIApp,
    Receive,
    Route,
    RouteAuthorizationMiddleware,
    Scope,
    Send,
    peer_spiffe_id,
)
from authsec_sdk.integrations.uvicorn import MTLSConfig, MTLSServer
from authsec_sdk.tls import Rejection
from authsec_sdk.workloadapi import X509Source
from demo.events import emit


class Payments:
    """Answers each request with the caller it saw, and tells when a caller comes with a certificate not seen before."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            raise RuntimeError("payments speaks HTTP only")
        caller = str(peer_spiffe_id(scope))
        leaf = scope["extensions"]["tls"]["client_cert_chain"][0]
        certificate = hashlib.sha256(leaf.encode()).hexdigest()[:12]
        if (caller, certificate) not in self._seen:
            self._seen.add((caller, certificate))
            emit("peer_certificate", peer=caller, certificate=certificate)
        body = json.dumps({"paid": True, "caller": caller}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _rejected(rejection: Rejection) -> None:
    emit("refused", peer=str(rejection.spiffe_id), reason=str(rejection.reason))


async def main(authorizer: Authorizer) -> None:
    """Serve until told to stop, on a port that the first event names."""
    async with X509Source() as source:
        await source.ready(timeout=20)
        emit("identity", spiffe_id=str(source.x509_context.svid.id))
        app: ASGIApp = RouteAuthorizationMiddleware(
            Payments(), [Route("/pay", authorizer, methods=frozenset({"POST"}))]
        )
        config = MTLSConfig(
            app, source, authorizer, on_rejected=_rejected, lifespan="off", log_level="warning", access_log=False
        )
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
            listener.bind(("127.0.0.1", 0))
            emit("listening", port=listener.getsockname()[1])
            await MTLSServer(config).serve(sockets=[listener])


if __name__ == "__main__":
    frontend_only = authorize_id(os.environ["DEMO_FRONTEND"])
    asyncio.run(main(unsafe_authorize_any() if os.environ.get("DEMO_BREAK") == "authorizer" else frontend_only))
