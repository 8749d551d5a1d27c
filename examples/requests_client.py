"""Call a service over mutual TLS with requests: python requests_client.py URL SPIFFE_ID_OF_THE_SERVER."""

import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.requests import mtls_session, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source


def main(url: str, server: str) -> None:
    with X509Source() as source:
        source.wait(timeout=10)
        with mtls_session(source, authorize_id(server)) as session:
            response = session.get(url, timeout=10)
            print(f"{source.x509_context.svid.id} called {peer_spiffe_id(response)}: {response.status_code}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
