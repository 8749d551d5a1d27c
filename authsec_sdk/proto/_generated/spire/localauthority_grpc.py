# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/localauthority.proto. Do not edit.
"""Services of authsec_sdk/proto/spire/localauthority.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated.spire import localauthority_pb2


class LocalAuthorityBase:
    """Handlers of /spire.api.server.localauthority.v1.LocalAuthority/: override what is served."""

    async def GetJWTAuthorityState(
        self, stream: "grpclib.server.Stream[localauthority_pb2.GetJWTAuthorityStateRequest, localauthority_pb2.GetJWTAuthorityStateResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetJWTAuthorityState not implemented")

    async def PrepareJWTAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.PrepareJWTAuthorityRequest, localauthority_pb2.PrepareJWTAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method PrepareJWTAuthority not implemented")

    async def ActivateJWTAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.ActivateJWTAuthorityRequest, localauthority_pb2.ActivateJWTAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ActivateJWTAuthority not implemented")

    async def TaintJWTAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.TaintJWTAuthorityRequest, localauthority_pb2.TaintJWTAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method TaintJWTAuthority not implemented")

    async def RevokeJWTAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.RevokeJWTAuthorityRequest, localauthority_pb2.RevokeJWTAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method RevokeJWTAuthority not implemented")

    async def GetX509AuthorityState(
        self, stream: "grpclib.server.Stream[localauthority_pb2.GetX509AuthorityStateRequest, localauthority_pb2.GetX509AuthorityStateResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetX509AuthorityState not implemented")

    async def PrepareX509Authority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.PrepareX509AuthorityRequest, localauthority_pb2.PrepareX509AuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method PrepareX509Authority not implemented")

    async def ActivateX509Authority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.ActivateX509AuthorityRequest, localauthority_pb2.ActivateX509AuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ActivateX509Authority not implemented")

    async def TaintX509Authority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.TaintX509AuthorityRequest, localauthority_pb2.TaintX509AuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method TaintX509Authority not implemented")

    async def TaintX509UpstreamAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.TaintX509UpstreamAuthorityRequest, localauthority_pb2.TaintX509UpstreamAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method TaintX509UpstreamAuthority not implemented")

    async def RevokeX509Authority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.RevokeX509AuthorityRequest, localauthority_pb2.RevokeX509AuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method RevokeX509Authority not implemented")

    async def RevokeX509UpstreamAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.RevokeX509UpstreamAuthorityRequest, localauthority_pb2.RevokeX509UpstreamAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method RevokeX509UpstreamAuthority not implemented")

    async def GetWITAuthorityState(
        self, stream: "grpclib.server.Stream[localauthority_pb2.GetWITAuthorityStateRequest, localauthority_pb2.GetWITAuthorityStateResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetWITAuthorityState not implemented")

    async def PrepareWITAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.PrepareWITAuthorityRequest, localauthority_pb2.PrepareWITAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method PrepareWITAuthority not implemented")

    async def ActivateWITAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.ActivateWITAuthorityRequest, localauthority_pb2.ActivateWITAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ActivateWITAuthority not implemented")

    async def TaintWITAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.TaintWITAuthorityRequest, localauthority_pb2.TaintWITAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method TaintWITAuthority not implemented")

    async def RevokeWITAuthority(
        self, stream: "grpclib.server.Stream[localauthority_pb2.RevokeWITAuthorityRequest, localauthority_pb2.RevokeWITAuthorityResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method RevokeWITAuthority not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState": Handler(
                self.GetJWTAuthorityState, Cardinality.UNARY_UNARY, localauthority_pb2.GetJWTAuthorityStateRequest, localauthority_pb2.GetJWTAuthorityStateResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority": Handler(
                self.PrepareJWTAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.PrepareJWTAuthorityRequest, localauthority_pb2.PrepareJWTAuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority": Handler(
                self.ActivateJWTAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.ActivateJWTAuthorityRequest, localauthority_pb2.ActivateJWTAuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority": Handler(
                self.TaintJWTAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.TaintJWTAuthorityRequest, localauthority_pb2.TaintJWTAuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority": Handler(
                self.RevokeJWTAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.RevokeJWTAuthorityRequest, localauthority_pb2.RevokeJWTAuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState": Handler(
                self.GetX509AuthorityState, Cardinality.UNARY_UNARY, localauthority_pb2.GetX509AuthorityStateRequest, localauthority_pb2.GetX509AuthorityStateResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority": Handler(
                self.PrepareX509Authority, Cardinality.UNARY_UNARY, localauthority_pb2.PrepareX509AuthorityRequest, localauthority_pb2.PrepareX509AuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority": Handler(
                self.ActivateX509Authority, Cardinality.UNARY_UNARY, localauthority_pb2.ActivateX509AuthorityRequest, localauthority_pb2.ActivateX509AuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority": Handler(
                self.TaintX509Authority, Cardinality.UNARY_UNARY, localauthority_pb2.TaintX509AuthorityRequest, localauthority_pb2.TaintX509AuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority": Handler(
                self.TaintX509UpstreamAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.TaintX509UpstreamAuthorityRequest, localauthority_pb2.TaintX509UpstreamAuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority": Handler(
                self.RevokeX509Authority, Cardinality.UNARY_UNARY, localauthority_pb2.RevokeX509AuthorityRequest, localauthority_pb2.RevokeX509AuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority": Handler(
                self.RevokeX509UpstreamAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.RevokeX509UpstreamAuthorityRequest, localauthority_pb2.RevokeX509UpstreamAuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState": Handler(
                self.GetWITAuthorityState, Cardinality.UNARY_UNARY, localauthority_pb2.GetWITAuthorityStateRequest, localauthority_pb2.GetWITAuthorityStateResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority": Handler(
                self.PrepareWITAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.PrepareWITAuthorityRequest, localauthority_pb2.PrepareWITAuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority": Handler(
                self.ActivateWITAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.ActivateWITAuthorityRequest, localauthority_pb2.ActivateWITAuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority": Handler(
                self.TaintWITAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.TaintWITAuthorityRequest, localauthority_pb2.TaintWITAuthorityResponse
            ),
            "/spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority": Handler(
                self.RevokeWITAuthority, Cardinality.UNARY_UNARY, localauthority_pb2.RevokeWITAuthorityRequest, localauthority_pb2.RevokeWITAuthorityResponse
            ),
        }


class LocalAuthorityStub:
    """Calls of /spire.api.server.localauthority.v1.LocalAuthority/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.GetJWTAuthorityState = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState", localauthority_pb2.GetJWTAuthorityStateRequest, localauthority_pb2.GetJWTAuthorityStateResponse
        )
        self.PrepareJWTAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority", localauthority_pb2.PrepareJWTAuthorityRequest, localauthority_pb2.PrepareJWTAuthorityResponse
        )
        self.ActivateJWTAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority", localauthority_pb2.ActivateJWTAuthorityRequest, localauthority_pb2.ActivateJWTAuthorityResponse
        )
        self.TaintJWTAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority", localauthority_pb2.TaintJWTAuthorityRequest, localauthority_pb2.TaintJWTAuthorityResponse
        )
        self.RevokeJWTAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority", localauthority_pb2.RevokeJWTAuthorityRequest, localauthority_pb2.RevokeJWTAuthorityResponse
        )
        self.GetX509AuthorityState = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState", localauthority_pb2.GetX509AuthorityStateRequest, localauthority_pb2.GetX509AuthorityStateResponse
        )
        self.PrepareX509Authority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority", localauthority_pb2.PrepareX509AuthorityRequest, localauthority_pb2.PrepareX509AuthorityResponse
        )
        self.ActivateX509Authority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority", localauthority_pb2.ActivateX509AuthorityRequest, localauthority_pb2.ActivateX509AuthorityResponse
        )
        self.TaintX509Authority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority", localauthority_pb2.TaintX509AuthorityRequest, localauthority_pb2.TaintX509AuthorityResponse
        )
        self.TaintX509UpstreamAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority", localauthority_pb2.TaintX509UpstreamAuthorityRequest, localauthority_pb2.TaintX509UpstreamAuthorityResponse
        )
        self.RevokeX509Authority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority", localauthority_pb2.RevokeX509AuthorityRequest, localauthority_pb2.RevokeX509AuthorityResponse
        )
        self.RevokeX509UpstreamAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority", localauthority_pb2.RevokeX509UpstreamAuthorityRequest, localauthority_pb2.RevokeX509UpstreamAuthorityResponse
        )
        self.GetWITAuthorityState = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState", localauthority_pb2.GetWITAuthorityStateRequest, localauthority_pb2.GetWITAuthorityStateResponse
        )
        self.PrepareWITAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority", localauthority_pb2.PrepareWITAuthorityRequest, localauthority_pb2.PrepareWITAuthorityResponse
        )
        self.ActivateWITAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority", localauthority_pb2.ActivateWITAuthorityRequest, localauthority_pb2.ActivateWITAuthorityResponse
        )
        self.TaintWITAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority", localauthority_pb2.TaintWITAuthorityRequest, localauthority_pb2.TaintWITAuthorityResponse
        )
        self.RevokeWITAuthority = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority", localauthority_pb2.RevokeWITAuthorityRequest, localauthority_pb2.RevokeWITAuthorityResponse
        )
