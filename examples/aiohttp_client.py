"""Call a service over mutual TLS with aiohttp: python aiohttp_client.py URL SPIFFE_ID_OF_THE_SERVER."""

import asyncio
import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.aiohttp import mtls_session, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source


async def main(url: str, server: str) -> None:
    async with X509Source() as source:
        await source.ready(timeout=10)
        async with mtls_session(source, authorize_id(server)) as session, session.get(url) as response:
            print(f"{source.x509_context.svid.id} called {peer_spiffe_id(response)}: {response.status}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
