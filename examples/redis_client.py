"""Count visits in a Redis server over mutual TLS: python redis_client.py HOST PORT SPIFFE_ID_OF_THE_SERVER."""

import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.redis import mtls_client
from authsec_sdk.workloadapi import X509Source


def main(host: str, port: str, server: str) -> None:
    with X509Source() as source:
        source.wait(timeout=10)
        with mtls_client(source, authorize_id(server), host, int(port)) as client:
            print(f"{source.x509_context.svid.id} counted {client.incr('visits')} in {server}")


if __name__ == "__main__":
    main(*sys.argv[1:])
