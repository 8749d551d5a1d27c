# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/agent.proto. Do not edit.
"""Services of authsec_sdk/proto/spire/agent.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated import empty_pb2
from authsec_sdk.proto._generated.spire import agent_pb2
from authsec_sdk.proto._generated.spire import types_pb2


class AgentBase:
    """Handlers of /spire.api.server.agent.v1.Agent/: override what is served."""

    async def CountAgents(
        self, stream: "grpclib.server.Stream[agent_pb2.CountAgentsRequest, agent_pb2.CountAgentsResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method CountAgents not implemented")

    async def ListAgents(
        self, stream: "grpclib.server.Stream[agent_pb2.ListAgentsRequest, agent_pb2.ListAgentsResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ListAgents not implemented")

    async def GetAgent(
        self, stream: "grpclib.server.Stream[agent_pb2.GetAgentRequest, types_pb2.Agent]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetAgent not implemented")

    async def DeleteAgent(
        self, stream: "grpclib.server.Stream[agent_pb2.DeleteAgentRequest, empty_pb2.Empty]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method DeleteAgent not implemented")

    async def BanAgent(
        self, stream: "grpclib.server.Stream[agent_pb2.BanAgentRequest, empty_pb2.Empty]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BanAgent not implemented")

    async def AttestAgent(
        self, stream: "grpclib.server.Stream[agent_pb2.AttestAgentRequest, agent_pb2.AttestAgentResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method AttestAgent not implemented")

    async def RenewAgent(
        self, stream: "grpclib.server.Stream[agent_pb2.RenewAgentRequest, agent_pb2.RenewAgentResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method RenewAgent not implemented")

    async def CreateJoinToken(
        self, stream: "grpclib.server.Stream[agent_pb2.CreateJoinTokenRequest, types_pb2.JoinToken]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method CreateJoinToken not implemented")

    async def PostStatus(
        self, stream: "grpclib.server.Stream[agent_pb2.PostStatusRequest, agent_pb2.PostStatusResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method PostStatus not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.agent.v1.Agent/CountAgents": Handler(
                self.CountAgents, Cardinality.UNARY_UNARY, agent_pb2.CountAgentsRequest, agent_pb2.CountAgentsResponse
            ),
            "/spire.api.server.agent.v1.Agent/ListAgents": Handler(
                self.ListAgents, Cardinality.UNARY_UNARY, agent_pb2.ListAgentsRequest, agent_pb2.ListAgentsResponse
            ),
            "/spire.api.server.agent.v1.Agent/GetAgent": Handler(
                self.GetAgent, Cardinality.UNARY_UNARY, agent_pb2.GetAgentRequest, types_pb2.Agent
            ),
            "/spire.api.server.agent.v1.Agent/DeleteAgent": Handler(
                self.DeleteAgent, Cardinality.UNARY_UNARY, agent_pb2.DeleteAgentRequest, empty_pb2.Empty
            ),
            "/spire.api.server.agent.v1.Agent/BanAgent": Handler(
                self.BanAgent, Cardinality.UNARY_UNARY, agent_pb2.BanAgentRequest, empty_pb2.Empty
            ),
            "/spire.api.server.agent.v1.Agent/AttestAgent": Handler(
                self.AttestAgent, Cardinality.STREAM_STREAM, agent_pb2.AttestAgentRequest, agent_pb2.AttestAgentResponse
            ),
            "/spire.api.server.agent.v1.Agent/RenewAgent": Handler(
                self.RenewAgent, Cardinality.UNARY_UNARY, agent_pb2.RenewAgentRequest, agent_pb2.RenewAgentResponse
            ),
            "/spire.api.server.agent.v1.Agent/CreateJoinToken": Handler(
                self.CreateJoinToken, Cardinality.UNARY_UNARY, agent_pb2.CreateJoinTokenRequest, types_pb2.JoinToken
            ),
            "/spire.api.server.agent.v1.Agent/PostStatus": Handler(
                self.PostStatus, Cardinality.UNARY_UNARY, agent_pb2.PostStatusRequest, agent_pb2.PostStatusResponse
            ),
        }


class AgentStub:
    """Calls of /spire.api.server.agent.v1.Agent/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.CountAgents = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.agent.v1.Agent/CountAgents", agent_pb2.CountAgentsRequest, agent_pb2.CountAgentsResponse
        )
        self.ListAgents = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.agent.v1.Agent/ListAgents", agent_pb2.ListAgentsRequest, agent_pb2.ListAgentsResponse
        )
        self.GetAgent = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.agent.v1.Agent/GetAgent", agent_pb2.GetAgentRequest, types_pb2.Agent
        )
        self.DeleteAgent = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.agent.v1.Agent/DeleteAgent", agent_pb2.DeleteAgentRequest, empty_pb2.Empty
        )
        self.BanAgent = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.agent.v1.Agent/BanAgent", agent_pb2.BanAgentRequest, empty_pb2.Empty
        )
        self.AttestAgent = grpclib.client.StreamStreamMethod(
            channel, "/spire.api.server.agent.v1.Agent/AttestAgent", agent_pb2.AttestAgentRequest, agent_pb2.AttestAgentResponse
        )
        self.RenewAgent = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.agent.v1.Agent/RenewAgent", agent_pb2.RenewAgentRequest, agent_pb2.RenewAgentResponse
        )
        self.CreateJoinToken = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.agent.v1.Agent/CreateJoinToken", agent_pb2.CreateJoinTokenRequest, types_pb2.JoinToken
        )
        self.PostStatus = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.agent.v1.Agent/PostStatus", agent_pb2.PostStatusRequest, agent_pb2.PostStatusResponse
        )
