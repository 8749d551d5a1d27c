"""Greet the clients of a trusted front, and nobody else: python trusted_front.py PORT OWN_ID FRONT_ID."""

import asyncio
import sys

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.integrations.asgi import (
    Receive,
    Route,
    RouteAuthorizationMiddleware,
    Scope,
    Send,
    TrustedFrontMiddleware,
    forwarded_peer,
    peer_spiffe_id,
)
from authsec_sdk.integrations.trusted_front import TrustedFronts
from authsec_sdk.integrations.uvicorn import serve
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.workloadapi import X509Source


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = f"hello {forwarded_peer(scope).spiffe_id}, by way of {peer_spiffe_id(scope)}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


async def main(port: int, own: str, front: str) -> None:
    clients = authorize_member_of(SpiffeID.parse(own).trust_domain)
    routes = [Route("/**", authorize_id(front), forwarded=clients)]
    fronted = TrustedFrontMiddleware(RouteAuthorizationMiddleware(app, routes), TrustedFronts(own, [front]))
    async with X509Source() as source:
        await source.ready(timeout=10)
        await serve(fronted, source, authorize_id(front), port=port, lifespan="off")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
