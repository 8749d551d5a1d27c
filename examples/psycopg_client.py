"""Ask a PostgreSQL server over mutual TLS who we are: python psycopg_client.py CONNINFO SPIFFE_ID_OF_THE_SERVER."""

import sys

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.psycopg import PsycopgConnector, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source


def main(conninfo: str, server: str) -> None:
    with X509Source() as source:
        connector = PsycopgConnector(source, authorize_id(server))
        with connector.connect(conninfo) as connection:
            [row] = connection.execute("SELECT current_user").fetchall()
            print(peer_spiffe_id(connection), row[0])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
