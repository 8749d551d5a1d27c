# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/trustdomain.proto. Do not edit.
"""Services of authsec_sdk/proto/spire/trustdomain.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated import empty_pb2
from authsec_sdk.proto._generated.spire import trustdomain_pb2
from authsec_sdk.proto._generated.spire import types_pb2


class TrustDomainBase:
    """Handlers of /spire.api.server.trustdomain.v1.TrustDomain/: override what is served."""

    async def ListFederationRelationships(
        self, stream: "grpclib.server.Stream[trustdomain_pb2.ListFederationRelationshipsRequest, trustdomain_pb2.ListFederationRelationshipsResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ListFederationRelationships not implemented")

    async def GetFederationRelationship(
        self, stream: "grpclib.server.Stream[trustdomain_pb2.GetFederationRelationshipRequest, types_pb2.FederationRelationship]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetFederationRelationship not implemented")

    async def BatchCreateFederationRelationship(
        self, stream: "grpclib.server.Stream[trustdomain_pb2.BatchCreateFederationRelationshipRequest, trustdomain_pb2.BatchCreateFederationRelationshipResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchCreateFederationRelationship not implemented")

    async def BatchUpdateFederationRelationship(
        self, stream: "grpclib.server.Stream[trustdomain_pb2.BatchUpdateFederationRelationshipRequest, trustdomain_pb2.BatchUpdateFederationRelationshipResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchUpdateFederationRelationship not implemented")

    async def BatchDeleteFederationRelationship(
        self, stream: "grpclib.server.Stream[trustdomain_pb2.BatchDeleteFederationRelationshipRequest, trustdomain_pb2.BatchDeleteFederationRelationshipResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchDeleteFederationRelationship not implemented")

    async def RefreshBundle(
        self, stream: "grpclib.server.Stream[trustdomain_pb2.RefreshBundleRequest, empty_pb2.Empty]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method RefreshBundle not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships": Handler(
                self.ListFederationRelationships, Cardinality.UNARY_UNARY, trustdomain_pb2.ListFederationRelationshipsRequest, trustdomain_pb2.ListFederationRelationshipsResponse
            ),
            "/spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship": Handler(
                self.GetFederationRelationship, Cardinality.UNARY_UNARY, trustdomain_pb2.GetFederationRelationshipRequest, types_pb2.FederationRelationship
            ),
            "/spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship": Handler(
                self.BatchCreateFederationRelationship, Cardinality.UNARY_UNARY, trustdomain_pb2.BatchCreateFederationRelationshipRequest, trustdomain_pb2.BatchCreateFederationRelationshipResponse
            ),
            "/spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship": Handler(
                self.BatchUpdateFederationRelationship, Cardinality.UNARY_UNARY, trustdomain_pb2.BatchUpdateFederationRelationshipRequest, trustdomain_pb2.BatchUpdateFederationRelationshipResponse
            ),
            "/spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship": Handler(
                self.BatchDeleteFederationRelationship, Cardinality.UNARY_UNARY, trustdomain_pb2.BatchDeleteFederationRelationshipRequest, trustdomain_pb2.BatchDeleteFederationRelationshipResponse
            ),
            "/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle": Handler(
                self.RefreshBundle, Cardinality.UNARY_UNARY, trustdomain_pb2.RefreshBundleRequest, empty_pb2.Empty
            ),
        }


class TrustDomainStub:
    """Calls of /spire.api.server.trustdomain.v1.TrustDomain/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.ListFederationRelationships = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships", trustdomain_pb2.ListFederationRelationshipsRequest, trustdomain_pb2.ListFederationRelationshipsResponse
        )
        self.GetFederationRelationship = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship", trustdomain_pb2.GetFederationRelationshipRequest, types_pb2.FederationRelationship
        )
        self.BatchCreateFederationRelationship = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship", trustdomain_pb2.BatchCreateFederationRelationshipRequest, trustdomain_pb2.BatchCreateFederationRelationshipResponse
        )
        self.BatchUpdateFederationRelationship = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship", trustdomain_pb2.BatchUpdateFederationRelationshipRequest, trustdomain_pb2.BatchUpdateFederationRelationshipResponse
        )
        self.BatchDeleteFederationRelationship = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship", trustdomain_pb2.BatchDeleteFederationRelationshipRequest, trustdomain_pb2.BatchDeleteFederationRelationshipResponse
        )
        self.RefreshBundle = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle", trustdomain_pb2.RefreshBundleRequest, empty_pb2.Empty
        )
