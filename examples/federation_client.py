"""Follow the bundle of another trust domain and say what changes:

python federation_client.py TRUST_DOMAIN URL SPIFFE_ID_OF_ITS_SERVER FIRST_BUNDLE_FILE
"""

import asyncio
import sys

from authsec_sdk.federation import BundleEndpoint, FederationSource, read_bundle_file


async def main(trust_domain: str, url: str, server: str, first: str) -> None:
    bundle = read_bundle_file(server, first)  # a PEM file, or a SPIFFE bundle document
    async with FederationSource(BundleEndpoint.spiffe(trust_domain, url, server, bundle=bundle)) as federation:
        async for bundles in federation.updates():
            for domain, known in bundles.items():
                roots, keys = len(known.x509_authorities), len(known.jwt_authorities)
                print(f"{domain} sequence={known.sequence_number} x509={roots} jwt={keys}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
