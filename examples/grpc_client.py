"""Check a gRPC server's health over mutual TLS: python grpc_client.py HOST:PORT SPIFFE_ID_OF_THE_SERVER."""

import sys

from grpc_health.v1 import health_pb2, health_pb2_grpc

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.grpc import mtls_channel
from authsec_sdk.workloadapi import X509Source


def main(target: str, server: str) -> None:
    with X509Source() as source:
        source.wait(timeout=10)
        with mtls_channel(target, source, authorize_id(server)) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            print(f"{source.x509_context.svid.id} called {channel.peer_spiffe_id}: {status}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
