"""Serve FastAPI over mutual TLS, an authorizer for each route: python fastapi_server.py PORT TRUST_DOMAIN."""

import asyncio
import sys
from typing import Annotated

from fastapi import Depends, FastAPI

from authsec_sdk.authz import authorize_member_of, authorize_path
from authsec_sdk.integrations.fastapi import Peer, add_mutual_tls, authorized
from authsec_sdk.integrations.uvicorn import serve
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.workloadapi import X509Source


def application(domain: str) -> FastAPI:
    app = FastAPI()
    add_mutual_tls(app)
    admins = authorized(authorize_path(f"spiffe://{domain}/admin/*"))

    @app.get("/")
    async def hello(peer: Peer) -> str:
        return f"hello {peer}"

    @app.get("/admin")
    async def admin(peer: Annotated[SpiffeID, Depends(admins)]) -> str:
        return f"at your service, {peer}"

    return app


async def main(port: int, domain: str) -> None:
    async with X509Source() as source:
        await source.ready(timeout=10)
        await serve(application(domain), source, authorize_member_of(domain), port=port)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
