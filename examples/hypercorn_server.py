"""Serve HTTP/2 over mutual TLS with worker processes: python hypercorn_server.py PORT CALLER [asyncio|uvloop|trio]."""

import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.asgi import Receive, Scope, Send, peer_spiffe_id
from authsec_sdk.integrations.hypercorn import run


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise RuntimeError("HTTP only")
    body = f"hello {peer_spiffe_id(scope)}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    worker_class = sys.argv[3] if len(sys.argv) > 3 else "asyncio"
    run(
        f"{__file__}:app",
        authorize_id(sys.argv[2]),
        port=int(sys.argv[1]),
        workers=2,
        worker_class=worker_class,
        loglevel="WARNING",
    )
