"""Serve an ASGI application over mutual TLS: python uvicorn_server.py PORT SPIFFE_ID_OF_THE_CALLER."""

import asyncio
import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.asgi import Receive, Scope, Send, peer_spiffe_id
from authsec_sdk.integrations.uvicorn import serve
from authsec_sdk.workloadapi import X509Source


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = f"hello {peer_spiffe_id(scope)}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


async def main(port: int, caller: str) -> None:
    async with X509Source() as source:
        await source.ready(timeout=10)
        await serve(app, source, authorize_id(caller), port=port, lifespan="off")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
