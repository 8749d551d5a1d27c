# Written by authsec_sdk.proto.generate from authsec_sdk/proto/workload.proto. Do not edit.
"""Services of authsec_sdk/proto/workload.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated import workload_pb2


class SpiffeWorkloadAPIBase:
    """Handlers of /SpiffeWorkloadAPI/: override what is served."""

    async def FetchX509SVID(
        self, stream: "grpclib.server.Stream[workload_pb2.X509SVIDRequest, workload_pb2.X509SVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method FetchX509SVID not implemented")

    async def FetchX509Bundles(
        self, stream: "grpclib.server.Stream[workload_pb2.X509BundlesRequest, workload_pb2.X509BundlesResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method FetchX509Bundles not implemented")

    async def FetchJWTSVID(
        self, stream: "grpclib.server.Stream[workload_pb2.JWTSVIDRequest, workload_pb2.JWTSVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method FetchJWTSVID not implemented")

    async def FetchJWTBundles(
        self, stream: "grpclib.server.Stream[workload_pb2.JWTBundlesRequest, workload_pb2.JWTBundlesResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method FetchJWTBundles not implemented")

    async def ValidateJWTSVID(
        self, stream: "grpclib.server.Stream[workload_pb2.ValidateJWTSVIDRequest, workload_pb2.ValidateJWTSVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ValidateJWTSVID not implemented")

    async def FetchWITSVID(
        self, stream: "grpclib.server.Stream[workload_pb2.WITSVIDRequest, workload_pb2.WITSVIDResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method FetchWITSVID not implemented")

    async def FetchWITBundles(
        self, stream: "grpclib.server.Stream[workload_pb2.WITBundlesRequest, workload_pb2.WITBundlesResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method FetchWITBundles not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/SpiffeWorkloadAPI/FetchX509SVID": Handler(
                self.FetchX509SVID, Cardinality.UNARY_STREAM, workload_pb2.X509SVIDRequest, workload_pb2.X509SVIDResponse
            ),
            "/SpiffeWorkloadAPI/FetchX509Bundles": Handler(
                self.FetchX509Bundles, Cardinality.UNARY_STREAM, workload_pb2.X509BundlesRequest, workload_pb2.X509BundlesResponse
            ),
            "/SpiffeWorkloadAPI/FetchJWTSVID": Handler(
                self.FetchJWTSVID, Cardinality.UNARY_UNARY, workload_pb2.JWTSVIDRequest, workload_pb2.JWTSVIDResponse
            ),
            "/SpiffeWorkloadAPI/FetchJWTBundles": Handler(
                self.FetchJWTBundles, Cardinality.UNARY_STREAM, workload_pb2.JWTBundlesRequest, workload_pb2.JWTBundlesResponse
            ),
            "/SpiffeWorkloadAPI/ValidateJWTSVID": Handler(
                self.ValidateJWTSVID, Cardinality.UNARY_UNARY, workload_pb2.ValidateJWTSVIDRequest, workload_pb2.ValidateJWTSVIDResponse
            ),
            "/SpiffeWorkloadAPI/FetchWITSVID": Handler(
                self.FetchWITSVID, Cardinality.UNARY_STREAM, workload_pb2.WITSVIDRequest, workload_pb2.WITSVIDResponse
            ),
            "/SpiffeWorkloadAPI/FetchWITBundles": Handler(
                self.FetchWITBundles, Cardinality.UNARY_STREAM, workload_pb2.WITBundlesRequest, workload_pb2.WITBundlesResponse
            ),
        }


class SpiffeWorkloadAPIStub:
    """Calls of /SpiffeWorkloadAPI/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.FetchX509SVID = grpclib.client.UnaryStreamMethod(
            channel, "/SpiffeWorkloadAPI/FetchX509SVID", workload_pb2.X509SVIDRequest, workload_pb2.X509SVIDResponse
        )
        self.FetchX509Bundles = grpclib.client.UnaryStreamMethod(
            channel, "/SpiffeWorkloadAPI/FetchX509Bundles", workload_pb2.X509BundlesRequest, workload_pb2.X509BundlesResponse
        )
        self.FetchJWTSVID = grpclib.client.UnaryUnaryMethod(
            channel, "/SpiffeWorkloadAPI/FetchJWTSVID", workload_pb2.JWTSVIDRequest, workload_pb2.JWTSVIDResponse
        )
        self.FetchJWTBundles = grpclib.client.UnaryStreamMethod(
            channel, "/SpiffeWorkloadAPI/FetchJWTBundles", workload_pb2.JWTBundlesRequest, workload_pb2.JWTBundlesResponse
        )
        self.ValidateJWTSVID = grpclib.client.UnaryUnaryMethod(
            channel, "/SpiffeWorkloadAPI/ValidateJWTSVID", workload_pb2.ValidateJWTSVIDRequest, workload_pb2.ValidateJWTSVIDResponse
        )
        self.FetchWITSVID = grpclib.client.UnaryStreamMethod(
            channel, "/SpiffeWorkloadAPI/FetchWITSVID", workload_pb2.WITSVIDRequest, workload_pb2.WITSVIDResponse
        )
        self.FetchWITBundles = grpclib.client.UnaryStreamMethod(
            channel, "/SpiffeWorkloadAPI/FetchWITBundles", workload_pb2.WITBundlesRequest, workload_pb2.WITBundlesResponse
        )
