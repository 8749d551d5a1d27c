"""Call a service over mutual TLS with urllib3: python urllib3_client.py URL SPIFFE_ID_OF_THE_SERVER."""

import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.urllib3 import mtls_pool_manager, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source


def main(url: str, server: str) -> None:
    with X509Source() as source:
        source.wait(timeout=10)
        with mtls_pool_manager(source, authorize_id(server), timeout=10) as manager:
            response = manager.request("GET", url)
            print(f"{source.x509_context.svid.id} called {peer_spiffe_id(response)}: {response.status}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
