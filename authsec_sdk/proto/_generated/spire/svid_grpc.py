# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/svid.proto. Do not edit.
"""Services of authsec_sdk/proto/spire/svid.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated.spire import svid_pb2


class SVIDBase:
    """Handlers of /spire.api.server.svid.v1.SVID/: override what is served."""

    async def MintX509SVID(
        self, stream: "grpclib.server.Stream[svid_pb2.MintX509SVIDRequest, svid_pb2.MintX509SVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method MintX509SVID not implemented")

    async def MintJWTSVID(
        self, stream: "grpclib.server.Stream[svid_pb2.MintJWTSVIDRequest, svid_pb2.MintJWTSVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method MintJWTSVID not implemented")

    async def MintWITSVID(
        self, stream: "grpclib.server.Stream[svid_pb2.MintWITSVIDRequest, svid_pb2.MintWITSVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method MintWITSVID not implemented")

    async def BatchNewX509SVID(
        self, stream: "grpclib.server.Stream[svid_pb2.BatchNewX509SVIDRequest, svid_pb2.BatchNewX509SVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchNewX509SVID not implemented")

    async def NewJWTSVID(
        self, stream: "grpclib.server.Stream[svid_pb2.NewJWTSVIDRequest, svid_pb2.NewJWTSVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method NewJWTSVID not implemented")

    async def BatchNewWITSVID(
        self, stream: "grpclib.server.Stream[svid_pb2.BatchNewWITSVIDRequest, svid_pb2.BatchNewWITSVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchNewWITSVID not implemented")

    async def NewDownstreamX509CA(
        self, stream: "grpclib.server.Stream[svid_pb2.NewDownstreamX509CARequest, svid_pb2.NewDownstreamX509CAResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method NewDownstreamX509CA not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.svid.v1.SVID/MintX509SVID": Handler(
                self.MintX509SVID, Cardinality.UNARY_UNARY, svid_pb2.MintX509SVIDRequest, svid_pb2.MintX509SVIDResponse
            ),
            "/spire.api.server.svid.v1.SVID/MintJWTSVID": Handler(
                self.MintJWTSVID, Cardinality.UNARY_UNARY, svid_pb2.MintJWTSVIDRequest, svid_pb2.MintJWTSVIDResponse
            ),
            "/spire.api.server.svid.v1.SVID/MintWITSVID": Handler(
                self.MintWITSVID, Cardinality.UNARY_UNARY, svid_pb2.MintWITSVIDRequest, svid_pb2.MintWITSVIDResponse
            ),
            "/spire.api.server.svid.v1.SVID/BatchNewX509SVID": Handler(
                self.BatchNewX509SVID, Cardinality.UNARY_UNARY, svid_pb2.BatchNewX509SVIDRequest, svid_pb2.BatchNewX509SVIDResponse
            ),
            "/spire.api.server.svid.v1.SVID/NewJWTSVID": Handler(
                self.NewJWTSVID, Cardinality.UNARY_UNARY, svid_pb2.NewJWTSVIDRequest, svid_pb2.NewJWTSVIDResponse
            ),
            "/spire.api.server.svid.v1.SVID/BatchNewWITSVID": Handler(
                self.BatchNewWITSVID, Cardinality.UNARY_UNARY, svid_pb2.BatchNewWITSVIDRequest, svid_pb2.BatchNewWITSVIDResponse
            ),
            "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA": Handler(
                self.NewDownstreamX509CA, Cardinality.UNARY_UNARY, svid_pb2.NewDownstreamX509CARequest, svid_pb2.NewDownstreamX509CAResponse
            ),
        }


class SVIDStub:
    """Calls of /spire.api.server.svid.v1.SVID/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.MintX509SVID = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.svid.v1.SVID/MintX509SVID", svid_pb2.MintX509SVIDRequest, svid_pb2.MintX509SVIDResponse
        )
        self.MintJWTSVID = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.svid.v1.SVID/MintJWTSVID", svid_pb2.MintJWTSVIDRequest, svid_pb2.MintJWTSVIDResponse
        )
        self.MintWITSVID = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.svid.v1.SVID/MintWITSVID", svid_pb2.MintWITSVIDRequest, svid_pb2.MintWITSVIDResponse
        )
        self.BatchNewX509SVID = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.svid.v1.SVID/BatchNewX509SVID", svid_pb2.BatchNewX509SVIDRequest, svid_pb2.BatchNewX509SVIDResponse
        )
        self.NewJWTSVID = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.svid.v1.SVID/NewJWTSVID", svid_pb2.NewJWTSVIDRequest, svid_pb2.NewJWTSVIDResponse
        )
        self.BatchNewWITSVID = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.svid.v1.SVID/BatchNewWITSVID", svid_pb2.BatchNewWITSVIDRequest, svid_pb2.BatchNewWITSVIDResponse
        )
        self.NewDownstreamX509CA = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA", svid_pb2.NewDownstreamX509CARequest, svid_pb2.NewDownstreamX509CAResponse
        )
