"""Serve websockets over mutual TLS: python websockets_server.py PORT SPIFFE_ID_OF_THE_CALLER."""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.websockets import mtls_serve, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source


async def hello(connection: ServerConnection) -> None:
    await connection.send(f"hello {peer_spiffe_id(connection)}")


async def main(port: int, caller: str) -> None:
    async with X509Source() as source:
        await source.ready(timeout=10)
        async with mtls_serve(hello, source, authorize_id(caller), "127.0.0.1", port) as server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
