"""Serve one's own bundle to other trust domains: python federation_server.py PORT TRUST_DOMAIN STATE_FILE.

Whoever federates with us needs the URL, the SPIFFE ID of this workload, and our bundle once, by a safe way.
"""

import asyncio
import ssl
import sys

import uvicorn

from authsec_sdk.federation import BundleServer, own_bundle
from authsec_sdk.tls import tls_server_context
from authsec_sdk.workloadapi import JWTSource, X509Source


async def main(port: int, trust_domain: str, state_file: str) -> None:
    async with X509Source() as source, JWTSource() as jwt_source:
        app = BundleServer(own_bundle(trust_domain, source, jwt_source), state_file=state_file)
        context = tls_server_context(source, minimum_version=ssl.TLSVersion.TLSv1_2, alpn=["http/1.1"])
        config = uvicorn.Config(app, host="0.0.0.0", port=port, ssl_context_factory=lambda *_: context)
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
