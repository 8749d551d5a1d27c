# Written by authsec_sdk.proto.generate from authsec_sdk/proto/envoy/sds.proto. Do not edit.
"""Services of authsec_sdk/proto/envoy/sds.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated.envoy import discovery_pb2


class SecretDiscoveryServiceBase:
    """Handlers of /envoy.service.secret.v3.SecretDiscoveryService/: override what is served."""

    async def DeltaSecrets(
        self, stream: "grpclib.server.Stream[discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method DeltaSecrets not implemented")

    async def StreamSecrets(
        self, stream: "grpclib.server.Stream[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method StreamSecrets not implemented")

    async def FetchSecrets(
        self, stream: "grpclib.server.Stream[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method FetchSecrets not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets": Handler(
                self.DeltaSecrets, Cardinality.STREAM_STREAM, discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse
            ),
            "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets": Handler(
                self.StreamSecrets, Cardinality.STREAM_STREAM, discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse
            ),
            "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets": Handler(
                self.FetchSecrets, Cardinality.UNARY_UNARY, discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse
            ),
        }


class SecretDiscoveryServiceStub:
    """Calls of /envoy.service.secret.v3.SecretDiscoveryService/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.DeltaSecrets = grpclib.client.StreamStreamMethod(
            channel, "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse
        )
        self.StreamSecrets = grpclib.client.StreamStreamMethod(
            channel, "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse
        )
        self.FetchSecrets = grpclib.client.UnaryUnaryMethod(
            channel, "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse
        )
