"""Serve gRPC health over mutual TLS: python grpc_server.py PORT SPIFFE_ID_OF_THE_CALLER."""

import sys
from concurrent.futures import ThreadPoolExecutor

from grpc_health.v1 import health, health_pb2_grpc

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.grpc import mtls_server
from authsec_sdk.workloadapi import X509Source


def main(port: int, caller: str) -> None:
    with X509Source() as source:
        source.wait(timeout=10)
        server = mtls_server(ThreadPoolExecutor(8), source, authorize_id(caller))
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
        server.add_mtls_port(f"127.0.0.1:{port}")
        server.start()
        server.wait_for_termination()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
