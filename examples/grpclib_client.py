"""Check a gRPC server's health over mutual TLS with grpclib: python grpclib_client.py PORT SPIFFE_ID_OF_THE_SERVER."""

import asyncio
import sys

from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.grpclib import mtls_channel, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source


async def main(port: int, server: str) -> None:
    async with (
        X509Source() as source,
        mtls_channel("127.0.0.1", port, source, authorize_id(server)) as channel,
        HealthStub(channel).Check.open(timeout=10) as stream,
    ):
        await stream.send_message(HealthCheckRequest(), end=True)
        answer = await stream.recv_message()
        if answer is None:
            raise SystemExit("the server said nothing")
        status = HealthCheckResponse.ServingStatus.Name(answer.status)
        print(f"{source.x509_context.svid.id} called {peer_spiffe_id(stream)}: {status}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
