"""Talk to a websocket server over mutual TLS: python websockets_client.py URI SPIFFE_ID_OF_THE_SERVER."""

import asyncio
import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.websockets import MTLSClient, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source


async def main(uri: str, server: str) -> None:
    async with X509Source() as source:
        await source.ready(timeout=10)
        client = MTLSClient(source, authorize_id(server))
        async with client.connect(uri) as connection:
            print(f"{peer_spiffe_id(connection)} says: {await connection.recv()!r}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
