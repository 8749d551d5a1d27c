"""Serve to whoever sends a JWT-SVID for "payments": python jwt_gateway.py PORT ID_OF_THE_GATEWAY ID_OF_THE_CALLER.

The gateway is known by mutual TLS, and the caller behind it by its token.
"""

import asyncio
import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.asgi import Receive, Scope, Send, peer_spiffe_id
from authsec_sdk.integrations.jwt_asgi import JWTBearerMiddleware, token_identity
from authsec_sdk.integrations.uvicorn import serve
from authsec_sdk.workloadapi import JWTSource, X509Source


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = f"hello {token_identity(scope).spiffe_id}, by way of {peer_spiffe_id(scope)}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


async def main(port: int, gateway: str, caller: str) -> None:
    async with X509Source() as source, JWTSource() as tokens:
        await source.ready(timeout=10)
        protected = JWTBearerMiddleware(app, tokens, "payments", authorize_id(caller))
        await serve(protected, source, authorize_id(gateway), port=port, lifespan="off")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
