"""Serve over mutual TLS with aiohttp.web: python aiohttp_server.py PORT SPIFFE_ID_OF_THE_CALLER."""

import asyncio
import sys

from aiohttp import web

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.aiohttp import peer_spiffe_id, serve
from authsec_sdk.workloadapi import X509Source


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"hello {peer_spiffe_id(request)}\n")


async def main(port: int, caller: str) -> None:
    app = web.Application()
    app.router.add_get("/", hello)
    async with X509Source() as source:
        await source.ready(timeout=10)
        await serve(app, source, authorize_id(caller), "127.0.0.1", port)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
