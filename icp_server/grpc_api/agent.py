"""The Agent service: attestation and renewal for agents; listing, banning, evicting and join tokens for operators."""

from __future__ import annotations

import logging
from datetime import datetime

import grpclib.server

from authsec_sdk.proto import empty_pb2
from authsec_sdk.proto.spire import agent_grpc, agent_pb2, types_pb2
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.spire.reserved_ids import check_agent_id, check_workload_id
from authsec_sdk.spire.wire import agent_to_wire, join_token_to_wire
from icp_server.audit.trail import render
from icp_server.domain.errors import Internal, InvalidArgument
from icp_server.domain.filters import AgentFilter
from icp_server.domain.results import PageRequest
from icp_server.grpc_api.decode import member_id, output_mask, request_of, selector_match, selector_text
from icp_server.grpc_api.limits import RateLimits, take_turn
from icp_server.grpc_api.request import current_request
from icp_server.grpc_api.svid import csr_digest, issued_to_wire
from icp_server.services.agents import AgentService
from icp_server.telemetry import ServerCounters

logger = logging.getLogger(__name__)

AttestStream = grpclib.server.Stream[agent_pb2.AttestAgentRequest, agent_pb2.AttestAgentResponse]


class AgentAPI(agent_grpc.AgentBase):
    """Decodes, calls the use case, encodes."""

    def __init__(
        self, agents: AgentService, trust_domain: TrustDomain, limits: RateLimits, counters: ServerCounters
    ) -> None:
        self._agents = agents
        self._trust_domain = trust_domain
        self._limits = limits
        self._counters = counters

    async def AttestAgent(self, stream: AttestStream) -> None:  # noqa: N802  (the method's name on the wire)
        """Attest a node: parameters in, challenges back and forth, its first SVID out."""
        request = current_request()
        await take_turn(self._limits.attestation, request.caller.host, "attest agent")
        first = await request_of(stream)
        params = _attestation_of(first)
        request.note(node_attestor_type=params.data.type)

        async def challenge(text: bytes) -> bytes:
            await stream.send_message(agent_pb2.AttestAgentResponse(challenge=text))
            answer = await stream.recv_message()
            if answer is None:
                raise Internal("failed to receive challenge from agent")
            return answer.challenge_response

        result = await self._agents.attest(
            params.data.type,
            params.data.payload,
            params.params.csr,
            challenge,
            peer_address=request.caller.host or "",
        )
        request.note(agent_id=result.svid.spiffe_id)
        self._counters.attestations.increment(attestor=params.data.type)
        logger.info(
            "Agent attestation request completed %s",
            render({"agent_id": result.svid.spiffe_id, "node_attestor_type": params.data.type, **request.identity()}),
        )
        answer = agent_pb2.AttestAgentResponse.Result(
            svid=issued_to_wire(result.svid), reattestable=result.can_reattest
        )
        await stream.send_message(agent_pb2.AttestAgentResponse(result=answer))

    async def RenewAgent(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[agent_pb2.RenewAgentRequest, agent_pb2.RenewAgentResponse]
    ) -> None:
        """Sign the calling agent's next SVID."""
        message = await request_of(stream)
        request = current_request()
        request.note(csr=csr_digest(message.params.csr))
        await take_turn(self._limits.signing, request.caller.host, "renew agent")
        if not message.HasField("params"):
            raise InvalidArgument("params cannot be nil")
        issued = await self._agents.renew(request.agent, message.params.csr)
        logger.info("Renewed agent SVID %s", render(request.identity()))
        await stream.send_message(agent_pb2.RenewAgentResponse(svid=issued_to_wire(issued)))

    async def PostStatus(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[agent_pb2.PostStatusRequest, agent_pb2.PostStatusResponse]
    ) -> None:
        """Remember the calling agent's release."""
        message = await request_of(stream)
        request = current_request()
        await take_turn(self._limits.status, request.caller.host, "post status")
        request.note(spiffe_id=request.agent.id)
        if message.agent_version:
            request.note(agent_version=message.agent_version)
            await self._agents.post_status(request.agent, message.agent_version)
        await stream.send_message(agent_pb2.PostStatusResponse())

    async def ListAgents(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[agent_pb2.ListAgentsRequest, agent_pb2.ListAgentsResponse]
    ) -> None:
        """Send one page of the attested agents."""
        message = await request_of(stream)
        wanted = _filter(message.filter)
        size = max(0, message.page_size)
        page = await self._agents.list(wanted, PageRequest(size, message.page_token if size else ""))
        mask = output_mask(message)
        agents = [agent_to_wire(agent.shown(), mask) for agent in page.items]
        await stream.send_message(agent_pb2.ListAgentsResponse(agents=agents, next_page_token=page.next_token))

    async def CountAgents(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[agent_pb2.CountAgentsRequest, agent_pb2.CountAgentsResponse]
    ) -> None:
        """Send how many agents pass the filter."""
        message = await request_of(stream)
        count = await self._agents.count(_filter(message.filter))
        await stream.send_message(agent_pb2.CountAgentsResponse(count=count))

    async def GetAgent(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[agent_pb2.GetAgentRequest, types_pb2.Agent]
    ) -> None:
        """Send one agent."""
        message = await request_of(stream)
        agent_id = member_id(message.id, self._trust_domain, check_agent_id, "invalid agent ID")
        current_request().note(spiffe_id=agent_id)
        agent = await self._agents.get(agent_id)
        await stream.send_message(agent_to_wire(agent.shown(), output_mask(message)))

    async def DeleteAgent(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[agent_pb2.DeleteAgentRequest, empty_pb2.Empty]
    ) -> None:
        """Evict an agent; a ban is lifted with it."""
        message = await request_of(stream)
        agent_id = member_id(message.id, self._trust_domain, check_agent_id, "invalid agent ID")
        request = current_request()
        request.note(spiffe_id=agent_id)
        await self._agents.delete(agent_id)
        logger.info("Agent deleted %s", render({"spiffe_id": agent_id, **request.identity()}))
        await stream.send_message(empty_pb2.Empty())

    async def BanAgent(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[agent_pb2.BanAgentRequest, empty_pb2.Empty]
    ) -> None:
        """Refuse an agent until it is evicted."""
        message = await request_of(stream)
        agent_id = member_id(message.id, self._trust_domain, check_agent_id, "invalid agent ID")
        request = current_request()
        request.note(spiffe_id=agent_id)
        await self._agents.ban(agent_id)
        logger.info("Agent banned %s", render({"spiffe_id": agent_id, **request.identity()}))
        await stream.send_message(empty_pb2.Empty())

    async def CreateJoinToken(  # noqa: N802  (the method's name on the wire)
        self, stream: grpclib.server.Stream[agent_pb2.CreateJoinTokenRequest, types_pb2.JoinToken]
    ) -> None:
        """Make a token one agent can attest with; the token stays out of every log."""
        message = await request_of(stream)
        request = current_request()
        request.note(ttl=message.ttl)
        alias = None
        if message.HasField("agent_id"):
            alias = member_id(message.agent_id, self._trust_domain, check_workload_id, "invalid agent ID")
            request.note(spiffe_id=alias)
        token = await self._agents.create_join_token(message.ttl, message.token, alias)
        await stream.send_message(join_token_to_wire(token))


def _attestation_of(message: agent_pb2.AttestAgentRequest) -> agent_pb2.AttestAgentRequest.Params:
    params = message.params
    problem = None
    if not message.HasField("params"):
        problem = "missing params"
    elif not params.HasField("data"):
        problem = "missing attestation data"
    elif not params.HasField("params"):
        problem = "missing X509-SVID parameters"
    if problem:
        raise InvalidArgument(f"malformed param: {problem}")
    return params


def _filter(message: agent_pb2.ListAgentsRequest.Filter | agent_pb2.CountAgentsRequest.Filter) -> AgentFilter:
    if message.HasField("by_selector_match"):
        selectors = selector_match(message.by_selector_match, "failed to parse selectors")
        current_request().note(by_selectors=selector_text(message.by_selector_match.selectors))
    else:
        selectors = None
    return AgentFilter(
        attestation_type=message.by_attestation_type or None,
        selectors=selectors,
        banned=message.by_banned.value if message.HasField("by_banned") else None,
        can_reattest=message.by_can_reattest.value if message.HasField("by_can_reattest") else None,
        expires_before=_expires_before(message.by_expires_before),
    )


def _expires_before(text: str) -> int | None:
    """Read `2006-01-02 15:04:05 -0700 -07`.

    Junk filters nothing, as in SPIRE: there the command line checks the form, and API clients rely on no one doing so.
    """
    stamp, _, zone = text.rpartition(" ")
    if not zone:
        return None
    try:
        return int(datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S %z").timestamp())
    except ValueError:
        return None
