"""Authorize by route in front of any ASGI application: python asgi_routes.py PORT TRUST_DOMAIN."""

import asyncio
import sys

from authsec_sdk.authz import authorize_member_of, authorize_path
from authsec_sdk.integrations.asgi import Receive, Route, RouteAuthorizationMiddleware, Scope, Send, peer_spiffe_id
from authsec_sdk.integrations.uvicorn import serve
from authsec_sdk.workloadapi import X509Source


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = f"{scope['path']} for {peer_spiffe_id(scope)}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


async def main(port: int, domain: str) -> None:
    members = authorize_member_of(domain)
    routes = [
        Route("/", members),
        Route("/admin/**", authorize_path(f"spiffe://{domain}/admin/*")),
    ]
    async with X509Source() as source:
        await source.ready(timeout=10)
        await serve(RouteAuthorizationMiddleware(app, routes), source, members, port=port, lifespan="off")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
