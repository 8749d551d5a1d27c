"""Serve an ASGI application by a policy file that may change while it runs: python policy_server.py PORT POLICY."""

import asyncio
import sys

from authsec_sdk.integrations.asgi import PolicyMiddleware, Receive, Scope, Send, peer_spiffe_id
from authsec_sdk.integrations.uvicorn import serve
from authsec_sdk.policyfile import PolicyFile
from authsec_sdk.workloadapi import X509Source


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = f"{scope['path']} for {peer_spiffe_id(scope)}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


async def main(port: int, file: str) -> None:
    async with PolicyFile(file, trust_domains=["example.org"]) as policy, X509Source() as source:
        await serve(PolicyMiddleware(app, policy), source, policy.authorizer, port=port, lifespan="off")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
