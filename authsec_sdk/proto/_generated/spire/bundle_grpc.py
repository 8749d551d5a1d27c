# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/bundle.proto. Do not edit.
"""Services of authsec_sdk/proto/spire/bundle.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated.spire import bundle_pb2
from authsec_sdk.proto._generated.spire import types_pb2


class BundleBase:
    """Handlers of /spire.api.server.bundle.v1.Bundle/: override what is served."""

    async def CountBundles(
        self, stream: "grpclib.server.Stream[bundle_pb2.CountBundlesRequest, bundle_pb2.CountBundlesResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method CountBundles not implemented")

    async def GetBundle(
        self, stream: "grpclib.server.Stream[bundle_pb2.GetBundleRequest, types_pb2.Bundle]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetBundle not implemented")

    async def AppendBundle(
        self, stream: "grpclib.server.Stream[bundle_pb2.AppendBundleRequest, types_pb2.Bundle]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method AppendBundle not implemented")

    async def PublishJWTAuthority(
        self, stream: "grpclib.server.Stream[bundle_pb2.PublishJWTAuthorityRequest, bundle_pb2.PublishJWTAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method PublishJWTAuthority not implemented")

    async def PublishWITAuthority(
        self, stream: "grpclib.server.Stream[bundle_pb2.PublishWITAuthorityRequest, bundle_pb2.PublishWITAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method PublishWITAuthority not implemented")

    async def ListFederatedBundles(
        self, stream: "grpclib.server.Stream[bundle_pb2.ListFederatedBundlesRequest, bundle_pb2.ListFederatedBundlesResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ListFederatedBundles not implemented")

    async def GetFederatedBundle(
        self, stream: "grpclib.server.Stream[bundle_pb2.GetFederatedBundleRequest, types_pb2.Bundle]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetFederatedBundle not implemented")

    async def BatchCreateFederatedBundle(
        self, stream: "grpclib.server.Stream[bundle_pb2.BatchCreateFederatedBundleRequest, bundle_pb2.BatchCreateFederatedBundleResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchCreateFederatedBundle not implemented")

    async def BatchUpdateFederatedBundle(
        self, stream: "grpclib.server.Stream[bundle_pb2.BatchUpdateFederatedBundleRequest, bundle_pb2.BatchUpdateFederatedBundleResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchUpdateFederatedBundle not implemented")

    async def BatchSetFederatedBundle(
        self, stream: "grpclib.server.Stream[bundle_pb2.BatchSetFederatedBundleRequest, bundle_pb2.BatchSetFederatedBundleResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchSetFederatedBundle not implemented")

    async def BatchDeleteFederatedBundle(
        self, stream: "grpclib.server.Stream[bundle_pb2.BatchDeleteFederatedBundleRequest, bundle_pb2.BatchDeleteFederatedBundleResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchDeleteFederatedBundle not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.bundle.v1.Bundle/CountBundles": Handler(
                self.CountBundles, Cardinality.UNARY_UNARY, bundle_pb2.CountBundlesRequest, bundle_pb2.CountBundlesResponse
            ),
            "/spire.api.server.bundle.v1.Bundle/GetBundle": Handler(
                self.GetBundle, Cardinality.UNARY_UNARY, bundle_pb2.GetBundleRequest, types_pb2.Bundle
            ),
            "/spire.api.server.bundle.v1.Bundle/AppendBundle": Handler(
                self.AppendBundle, Cardinality.UNARY_UNARY, bundle_pb2.AppendBundleRequest, types_pb2.Bundle
            ),
            "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority": Handler(
                self.PublishJWTAuthority, Cardinality.UNARY_UNARY, bundle_pb2.PublishJWTAuthorityRequest, bundle_pb2.PublishJWTAuthorityResponse
            ),
            "/spire.api.server.bundle.v1.Bundle/PublishWITAuthority": Handler(
                self.PublishWITAuthority, Cardinality.UNARY_UNARY, bundle_pb2.PublishWITAuthorityRequest, bundle_pb2.PublishWITAuthorityResponse
            ),
            "/spire.api.server.bundle.v1.Bundle/ListFederatedBundles": Handler(
                self.ListFederatedBundles, Cardinality.UNARY_UNARY, bundle_pb2.ListFederatedBundlesRequest, bundle_pb2.ListFederatedBundlesResponse
            ),
            "/spire.api.server.bundle.v1.Bundle/GetFederatedBundle": Handler(
                self.GetFederatedBundle, Cardinality.UNARY_UNARY, bundle_pb2.GetFederatedBundleRequest, types_pb2.Bundle
            ),
            "/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle": Handler(
                self.BatchCreateFederatedBundle, Cardinality.UNARY_UNARY, bundle_pb2.BatchCreateFederatedBundleRequest, bundle_pb2.BatchCreateFederatedBundleResponse
            ),
            "/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle": Handler(
                self.BatchUpdateFederatedBundle, Cardinality.UNARY_UNARY, bundle_pb2.BatchUpdateFederatedBundleRequest, bundle_pb2.BatchUpdateFederatedBundleResponse
            ),
            "/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle": Handler(
                self.BatchSetFederatedBundle, Cardinality.UNARY_UNARY, bundle_pb2.BatchSetFederatedBundleRequest, bundle_pb2.BatchSetFederatedBundleResponse
            ),
            "/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle": Handler(
                self.BatchDeleteFederatedBundle, Cardinality.UNARY_UNARY, bundle_pb2.BatchDeleteFederatedBundleRequest, bundle_pb2.BatchDeleteFederatedBundleResponse
            ),
        }


class BundleStub:
    """Calls of /spire.api.server.bundle.v1.Bundle/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.CountBundles = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/CountBundles", bundle_pb2.CountBundlesRequest, bundle_pb2.CountBundlesResponse
        )
        self.GetBundle = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/GetBundle", bundle_pb2.GetBundleRequest, types_pb2.Bundle
        )
        self.AppendBundle = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/AppendBundle", bundle_pb2.AppendBundleRequest, types_pb2.Bundle
        )
        self.PublishJWTAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority", bundle_pb2.PublishJWTAuthorityRequest, bundle_pb2.PublishJWTAuthorityResponse
        )
        self.PublishWITAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/PublishWITAuthority", bundle_pb2.PublishWITAuthorityRequest, bundle_pb2.PublishWITAuthorityResponse
        )
        self.ListFederatedBundles = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/ListFederatedBundles", bundle_pb2.ListFederatedBundlesRequest, bundle_pb2.ListFederatedBundlesResponse
        )
        self.GetFederatedBundle = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/GetFederatedBundle", bundle_pb2.GetFederatedBundleRequest, types_pb2.Bundle
        )
        self.BatchCreateFederatedBundle = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle", bundle_pb2.BatchCreateFederatedBundleRequest, bundle_pb2.BatchCreateFederatedBundleResponse
        )
        self.BatchUpdateFederatedBundle = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle", bundle_pb2.BatchUpdateFederatedBundleRequest, bundle_pb2.BatchUpdateFederatedBundleResponse
        )
        self.BatchSetFederatedBundle = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle", bundle_pb2.BatchSetFederatedBundleRequest, bundle_pb2.BatchSetFederatedBundleResponse
        )
        self.BatchDeleteFederatedBundle = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle", bundle_pb2.BatchDeleteFederatedBundleRequest, bundle_pb2.BatchDeleteFederatedBundleResponse
        )
