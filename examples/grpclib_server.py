"""Serve gRPC health over mutual TLS with grpclib: python grpclib_server.py PORT SPIFFE_ID_OF_THE_CALLER."""

import asyncio
import sys

from grpclib.health.service import Health

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.grpclib import MTLSServer
from authsec_sdk.workloadapi import X509Source


async def main(port: int, caller: str) -> None:
    async with X509Source() as source:
        server = MTLSServer([Health()], source, authorize_id(caller))
        await server.start("127.0.0.1", port)
        await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
