"""`icp-server agent …`: which agents are attested; ban one, evict one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from authsec_sdk.proto.spire import agent_grpc, agent_pb2
from authsec_sdk.rpc import Channel
from icp_common.flags import Flag
from icp_server.cli.api import TIMEOUT, APICommand, CommandError
from icp_server.cli.ids import id_message, match_number, selector_messages
from icp_server.cli.output import Console, plural
from icp_server.cli.records import agent_lines

_PAGE_SIZE = 1000
_ZONE = re.compile(r"[+-]\d{2}|UTC", re.ASCII)


def list_(arguments: Sequence[str]) -> int:
    """Print the attested agents."""
    command = APICommand(
        "agent list",
        summary="Lists attested agents and their SPIFFE IDs.",
        examples=("", "-attestationType join_token -banned true", "-output json"),
    )
    chosen = _Filter(command)

    async def talk(channel: Channel, console: Console) -> None:
        stub = agent_grpc.AgentStub(channel)
        filter_ = agent_pb2.ListAgentsRequest.Filter()
        chosen.fill(filter_)
        answer = agent_pb2.ListAgentsResponse()
        token = ""
        while True:
            page = await stub.ListAgents(
                agent_pb2.ListAgentsRequest(filter=filter_, page_size=_PAGE_SIZE, page_token=token), timeout=TIMEOUT
            )
            answer.agents.extend(page.agents)
            if not (token := page.next_page_token):
                break
        if console.wants_json:
            console.json(answer)
        elif not answer.agents:
            console.out("No attested agents found")
        else:
            count = len(answer.agents)
            console.out(f"Found {count} attested {plural(count, 'agent', 'agents')}:\n")
            for agent in answer.agents:
                console.record(agent_lines(agent))

    return command.run(arguments, talk)


def count(arguments: Sequence[str]) -> int:
    """Print how many agents are attested."""
    command = APICommand(
        "agent count",
        summary="Counts attested agents.",
        examples=("", "-selector x509pop:subject:cn:node -banned false"),
    )
    chosen = _Filter(command)

    async def talk(channel: Channel, console: Console) -> None:
        filter_ = agent_pb2.CountAgentsRequest.Filter()
        chosen.fill(filter_)
        answer = await agent_grpc.AgentStub(channel).CountAgents(
            agent_pb2.CountAgentsRequest(filter=filter_), timeout=TIMEOUT
        )
        if console.wants_json:
            console.json(answer)
        else:
            console.out(f"{answer.count} attested {plural(answer.count, 'agent', 'agents')}")

    return command.run(arguments, talk)


def show(arguments: Sequence[str]) -> int:
    """Print one agent with its selectors."""
    command = APICommand(
        "agent show",
        summary="Shows the details of an attested agent given its SPIFFE ID.",
        examples=("-spiffeID spiffe://example.org/spire/agent/join_token/2f1d…",),
    )
    spiffe_id = command.flags.string("spiffeID", "The SPIFFE ID of the agent to show (agent identity)")

    async def talk(channel: Channel, console: Console) -> None:
        request = agent_pb2.GetAgentRequest(id=id_message(_required(spiffe_id)))
        agent = await agent_grpc.AgentStub(channel).GetAgent(request, timeout=TIMEOUT)
        if console.wants_json:
            console.json(agent)
            return
        console.out("Found an attested agent given its SPIFFE ID\n")
        console.record(agent_lines(agent))
        console.record(f"Selectors         : {selector.type}:{selector.value}" for selector in agent.selectors)

    return command.run(arguments, talk)


def ban(arguments: Sequence[str]) -> int:
    """Ban one agent."""
    command = APICommand(
        "agent ban",
        summary="Bans an agent: it is refused, and cannot attest again, until it is evicted.",
        examples=("-spiffeID spiffe://example.org/spire/agent/join_token/2f1d…",),
    )
    spiffe_id = command.flags.string("spiffeID", "The SPIFFE ID of the agent to ban (agent identity)")

    async def talk(channel: Channel, console: Console) -> None:
        request = agent_pb2.BanAgentRequest(id=id_message(_required(spiffe_id)))
        answer = await agent_grpc.AgentStub(channel).BanAgent(request, timeout=TIMEOUT)
        if console.wants_json:
            console.json(answer)
        else:
            console.out("Agent banned successfully")

    return command.run(arguments, talk)


def evict(arguments: Sequence[str]) -> int:
    """Evict one agent."""
    command = APICommand(
        "agent evict",
        summary="Evicts an agent: it has to attest anew, and a ban is lifted.",
        examples=("-spiffeID spiffe://example.org/spire/agent/join_token/2f1d…",),
    )
    spiffe_id = command.flags.string("spiffeID", "The SPIFFE ID of the agent to evict (agent identity)")

    async def talk(channel: Channel, console: Console) -> None:
        request = agent_pb2.DeleteAgentRequest(id=id_message(_required(spiffe_id)))
        answer = await agent_grpc.AgentStub(channel).DeleteAgent(request, timeout=TIMEOUT)
        if console.wants_json:
            console.json(answer)
        else:
            console.out("Agent evicted successfully")

    return command.run(arguments, talk)


class _Filter:
    """The flags that choose agents."""

    def __init__(self, command: APICommand) -> None:
        flags = command.flags
        self.selectors = flags.strings("selector", "A colon-delimited type:value selector. Can be used more than once")
        self.match = flags.string(
            "matchSelectorsOn",
            "The match mode used when filtering by selectors. Options: exact, any, superset and subset",
            "superset",
        )
        self.attestation_type = flags.string(
            "attestationType", "Filter by attestation type, like join_token or x509pop."
        )
        self.can_reattest = flags.string(
            "canReattest",
            "Filter based on string received, 'true': agents that can reattest, 'false': agents that can't reattest, "
            "other value will return all.",
        )
        self.banned = flags.string(
            "banned",
            "Filter based on string received, 'true': banned agents, 'false': not banned agents, "
            "other value will return all.",
        )
        self.expires_before = flags.string(
            "expiresBefore", 'Filter by expiration time (format: "2006-01-02 15:04:05 -0700 -07")'
        )

    def fill(self, filter_: agent_pb2.ListAgentsRequest.Filter | agent_pb2.CountAgentsRequest.Filter) -> None:
        """Write what was chosen into the message.

        Raises:
            CommandError: a date or a way of matching is none.
            InvalidSelectorError: a selector is none.
        """
        if self.selectors.value:
            filter_.by_selector_match.match = match_number(self.match.value)  # type: ignore[assignment]
            filter_.by_selector_match.selectors.extend(selector_messages(self.selectors.value))
        if self.expires_before.value:
            filter_.by_expires_before = _checked_date(self.expires_before.value)
        filter_.by_attestation_type = self.attestation_type.value
        if self.can_reattest.value in ("true", "false"):
            filter_.by_can_reattest.value = self.can_reattest.value == "true"
        if self.banned.value in ("true", "false"):
            filter_.by_banned.value = self.banned.value == "true"


def _checked_date(text: str) -> str:
    stamp, _, zone = text.rpartition(" ")
    try:
        datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S %z")
        if not _ZONE.fullmatch(zone):
            raise ValueError(zone)
    except ValueError:
        raise CommandError(f"date is not valid: {text!r} is not of the form '2006-01-02 15:04:05 -0700 -07'") from None
    return text


def _required(spiffe_id: Flag[str]) -> str:
    if not spiffe_id.value:
        raise CommandError("a SPIFFE ID is required")
    return spiffe_id.value
