"""The Agent API's use cases, and join tokens under attack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.agent import Agent
from icp_server.domain.errors import (
    AgentDenied,
    AlreadyExists,
    DenialReason,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from icp_server.domain.filters import AgentFilter, EntryFilter, SelectorMatch
from icp_server.domain.results import PageRequest
from icp_server.ports import AttestationRequest, NodeAttestation
from icp_server.services.agents import AgentService, AttestResult

pytestmark = pytest.mark.anyio


async def no_challenge(_: bytes) -> bytes:
    pytest.fail("a join token has no challenge")


def not_after(issued: Any) -> datetime:
    return x509.load_der_x509_certificate(issued.chain[0]).not_valid_after_utc


async def join(server: Any, requester: Any, text: str = "") -> AttestResult:
    """Attest with a token; with a new one if none is given."""
    text = text or (await server.agents.create_join_token(600)).value
    result: AttestResult = await server.agents.attest("join_token", text.encode(), requester.csr(), no_challenge)
    return result


async def denial(server: Any, issued: Any) -> DenialReason:
    with pytest.raises(AgentDenied) as caught:
        await server.agents.authorize(issued.spiffe_id, issued.serial_number, not_after(issued))
    return caught.value.reason


async def active(server: Any, issued: Any) -> Agent:
    agent: Agent = await server.agents.authorize(issued.spiffe_id, issued.serial_number, not_after(issued))
    return agent


async def test_a_token_makes_an_agent(server: Any, requester: Any, clock: Any) -> None:
    token = await server.agents.create_join_token(600)
    assert token.expires_at == int(clock().timestamp()) + 600
    result = await join(server, requester, token.value)
    assert str(result.svid.spiffe_id) == f"spiffe://example.org/spire/agent/join_token/{token.value}"
    assert not result.can_reattest
    agent = await active(server, result.svid)
    assert agent == await server.agents.get(result.svid.spiffe_id)
    assert agent.attestation_type == "join_token"
    assert agent.serial_number == result.svid.serial_number
    assert agent.expires_at == result.svid.expires_at


async def test_a_used_token_is_refused_to_every_other_key(
    server: Any, requester: Any, new_requester: Callable[..., Any]
) -> None:
    token = (await server.agents.create_join_token(600)).value
    first = await join(server, requester, token)
    with pytest.raises(InvalidArgument, match="failed to attest: join token does not exist or has already been used"):
        await join(server, new_requester(), token)
    assert (await active(server, first.svid)).serial_number == first.svid.serial_number


async def test_a_lost_reply_can_be_asked_for_again_by_the_same_key(
    server: Any, requester: Any, new_requester: Callable[..., Any], clock: Any
) -> None:
    token = (await server.agents.create_join_token(600)).value
    lost = await join(server, requester, token)
    again = await join(server, requester, token)
    assert again.svid.spiffe_id == lost.svid.spiffe_id
    await active(server, again.svid)
    assert await denial(server, lost.svid) is DenialReason.AGENT_NOT_ACTIVE
    with pytest.raises(InvalidArgument):
        await join(server, new_requester(), token)
    clock.forward(seconds=600)
    with pytest.raises(InvalidArgument):
        await join(server, requester, token)


async def test_of_many_keys_with_one_token_one_becomes_the_agent(
    server: Any, new_requester: Callable[..., Any]
) -> None:
    token = (await server.agents.create_join_token(600)).value
    outcomes = await asyncio.gather(*(join(server, new_requester(), token) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, AttestResult) for outcome in outcomes) == 1


async def test_an_expired_token(server: Any, requester: Any, clock: Any) -> None:
    token = (await server.agents.create_join_token(1)).value
    clock.forward(seconds=1)
    with pytest.raises(InvalidArgument, match="join token expired"):
        await join(server, requester, token)
    with pytest.raises(InvalidArgument, match="does not exist"):
        await join(server, requester, token)


@pytest.mark.parametrize("payload", [b"unknown", b"a/b", b"..", b"\xff\xfe", "é".encode(), b"a" * 5000, b"a\0b", b"A "])
async def test_texts_that_are_no_token(server: Any, requester: Any, payload: bytes) -> None:
    with pytest.raises(InvalidArgument, match="join token does not exist or has already been used"):
        await server.agents.attest("join_token", payload, requester.csr(), no_challenge)


async def test_a_wrong_request_does_not_cost_the_token(server: Any, requester: Any) -> None:
    token = (await server.agents.create_join_token(600)).value
    for csr in (b"junk", requester.csr()[:-1]):
        with pytest.raises(InvalidArgument, match="malformed CSR"):
            await server.agents.attest("join_token", token.encode(), csr, no_challenge)
    with pytest.raises(InvalidArgument, match="missing CSR"):
        await server.agents.attest("join_token", token.encode(), b"", no_challenge)
    with pytest.raises(InvalidArgument, match="missing attestation data type"):
        await server.agents.attest("", token.encode(), requester.csr(), no_challenge)
    with pytest.raises(InvalidArgument, match="missing attestation data payload"):
        await server.agents.attest("join_token", b"", requester.csr(), no_challenge)
    with pytest.raises(FailedPrecondition, match='could not find node attestor type "x509pop"'):
        await server.agents.attest("x509pop", token.encode(), requester.csr(), no_challenge)
    await join(server, requester, token)


async def test_renewal_keeps_the_old_certificate_until_the_new_one_is_used(server: Any, requester: Any) -> None:
    first = (await join(server, requester)).svid
    second = await server.agents.renew(await active(server, first), requester.csr())
    assert second.serial_number != first.serial_number
    await active(server, first)
    agent = await active(server, second)
    assert agent.serial_number == second.serial_number
    assert await denial(server, first) is DenialReason.AGENT_NOT_ACTIVE
    await active(server, second)


async def test_a_second_renewal_replaces_one_that_was_never_used(server: Any, requester: Any) -> None:
    first = (await join(server, requester)).svid
    lost = await server.agents.renew(await active(server, first), requester.csr())
    used = await server.agents.renew(await active(server, first), requester.csr())
    assert await denial(server, lost) is DenialReason.AGENT_NOT_ACTIVE
    await active(server, used)


async def test_first_uses_of_a_renewed_certificate_at_once_all_pass(server: Any, requester: Any) -> None:
    first = (await join(server, requester)).svid
    second = await server.agents.renew(await active(server, first), requester.csr())
    agents = await asyncio.gather(*(active(server, second) for _ in range(10)))
    assert {agent.serial_number for agent in agents} == {second.serial_number}


async def test_renewal_refusals(server: Any, requester: Any) -> None:
    agent = await active(server, (await join(server, requester)).svid)
    with pytest.raises(InvalidArgument, match="missing CSR"):
        await server.agents.renew(agent, b"")
    with pytest.raises(InvalidArgument, match="malformed CSR"):
        await server.agents.renew(agent, b"junk")
    again = Agent(agent.id, "x509pop", "1", 1, can_reattest=True)
    with pytest.raises(PermissionDenied, match="agent must reattest instead of renew") as caught:
        await server.agents.renew(again, requester.csr())
    assert caught.value.reason is DenialReason.AGENT_MUST_REATTEST
    await server.agents.delete(agent.id)
    with pytest.raises(NotFound):
        await server.agents.renew(agent, requester.csr())


async def test_a_certificate_replaced_while_it_renews_gets_no_other(server: Any, requester: Any) -> None:
    """Its call was let in a moment before the agent used its new certificate: a stolen one must not outlive that."""
    first = (await join(server, requester)).svid
    let_in = await active(server, first)
    second = await server.agents.renew(let_in, requester.csr())
    await active(server, second)
    with pytest.raises(AgentDenied) as caught:
        await server.agents.renew(let_in, requester.csr())
    assert caught.value.reason is DenialReason.AGENT_NOT_ACTIVE
    await active(server, second)


async def test_the_reasons_of_denial(
    server: Any, requester: Any, new_requester: Callable[..., Any], clock: Any
) -> None:
    svid = (await join(server, requester)).svid
    stranger = SpiffeID.parse("spiffe://example.org/spire/agent/join_token/stranger")
    with pytest.raises(AgentDenied) as caught:
        await server.agents.authorize(stranger, "1", clock() + timedelta(minutes=1))
    assert caught.value.reason is DenialReason.AGENT_NOT_ATTESTED
    await server.agents.ban(svid.spiffe_id)
    assert await denial(server, svid) is DenialReason.AGENT_BANNED
    await server.agents.delete(svid.spiffe_id)
    assert await denial(server, svid) is DenialReason.AGENT_NOT_ATTESTED
    clock.forward(hours=2)
    assert await denial(server, svid) is DenialReason.AGENT_EXPIRED


async def test_a_banned_agent_does_not_come_back(server: Any, requester: Any) -> None:
    token = (await server.agents.create_join_token(600)).value
    svid = (await join(server, requester, token)).svid
    await server.agents.ban(svid.spiffe_id)
    with pytest.raises(PermissionDenied, match="failed to attest: agent is banned"):
        await join(server, requester, token)
    agent = await server.agents.get(svid.spiffe_id)
    assert agent.banned
    with pytest.raises(PermissionDenied):
        await server.agents.renew(agent, requester.csr())


async def test_an_evicted_join_token_agent_needs_another_token(server: Any, requester: Any) -> None:
    token = (await server.agents.create_join_token(600)).value
    svid = (await join(server, requester, token)).svid
    await server.agents.delete(svid.spiffe_id)
    with pytest.raises(InvalidArgument, match="already been used"):
        await join(server, requester, token)
    with pytest.raises(AlreadyExists):
        await server.agents.create_join_token(600, token)


async def test_a_ban_that_comes_while_a_node_attests_wins(server: Any, requester: Any, clock: Any) -> None:
    """The ban is committed between the look at the record and the write of the new one."""
    name = SpiffeID.parse("spiffe://example.org/spire/agent/slow/a")

    class Slow:
        name = "slow"

        async def attest(self, request: AttestationRequest) -> NodeAttestation:
            return NodeAttestation(name, (), can_reattest=True)

    class BansInBetween:
        """The signer, and somebody who bans while it signs."""

        def key_digest(self, csr: bytes) -> bytes:
            digest: bytes = server.signer.key_digest(csr)
            return digest

        async def sign_agent(self, csr: bytes, agent_id: SpiffeID) -> Any:
            issued = await server.signer.sign_agent(csr, agent_id)
            await server.agents.ban(agent_id)
            return issued

    first = AgentService(server.store, server.signer, {"slow": Slow()}, clock)
    await first.attest("slow", b"x", requester.csr(), no_challenge)
    raced = AgentService(server.store, BansInBetween(), {"slow": Slow()}, clock)  # type: ignore[arg-type]
    with pytest.raises(PermissionDenied, match="failed to attest: agent is banned"):
        await raced.attest("slow", b"x", requester.csr(), no_challenge)
    assert (await server.agents.get(name)).banned


@pytest.mark.parametrize("wrong", ["spiffe://other.org/spire/agent/x/a", "spiffe://example.org/web",
                                   "spiffe://example.org/spire/server"])  # fmt: skip
async def test_an_attestor_cannot_name_what_is_no_agent(server: Any, requester: Any, clock: Any, wrong: str) -> None:
    class Confused:
        name = "confused"

        async def attest(self, request: AttestationRequest) -> NodeAttestation:
            return NodeAttestation(SpiffeID.parse(wrong), (), can_reattest=True)

    agents = AgentService(server.store, server.signer, {"confused": Confused()}, clock)
    with pytest.raises(Internal, match="invalid agent ID"):
        await agents.attest("confused", b"x", requester.csr(), no_challenge)
    assert await agents.count(AgentFilter()) == 0


async def test_selectors_and_challenges_reach_the_attestor_and_the_record(
    server: Any, requester: Any, clock: Any
) -> None:
    async def answer(challenge: bytes) -> bytes:
        return challenge[::-1]

    class Asking:
        name = "asking"

        async def attest(self, request: AttestationRequest) -> NodeAttestation:
            assert (request.payload, request.peer_address) == (b"hello", "192.0.2.1")
            assert request.key_digest == server.signer.key_digest(requester.csr())
            assert await request.challenge(b"abc") == b"cba"
            selectors = (Selector("a", "1"), Selector("a", "1"))
            return NodeAttestation(
                SpiffeID.parse("spiffe://example.org/spire/agent/asking/x"), selectors, can_reattest=True
            )

    agents = AgentService(server.store, server.signer, {"asking": Asking()}, clock, agent_spiffe_id_as_selector=True)
    result = await agents.attest("asking", b"hello", requester.csr(), answer, peer_address="192.0.2.1")
    assert result.can_reattest
    agent = await agents.get(result.svid.spiffe_id)
    assert agent.selectors == (Selector("a", "1"), Selector("spiffe_id", str(agent.id)))


async def test_tokens_are_checked_when_they_are_made(server: Any) -> None:
    for ttl in (0, -1):
        with pytest.raises(InvalidArgument, match="ttl is required, you must provide one"):
            await server.agents.create_join_token(ttl)
    for text in ("a/b", "..", "a b", "é"):
        with pytest.raises(InvalidArgument, match="failed to create token"):
            await server.agents.create_join_token(60, text)
    for wrong in ("spiffe://other.org/a", "spiffe://example.org/spire/x", "spiffe://example.org"):
        with pytest.raises(InvalidArgument, match="invalid agent ID"):
            await server.agents.create_join_token(60, "", SpiffeID.parse(wrong))
    assert await server.entries.count(EntryFilter()) == 0
    await server.agents.create_join_token(60, "mine")
    with pytest.raises(Internal):
        await server.agents.create_join_token(60, "mine")


async def test_a_token_for_an_id_gives_the_agent_what_hangs_below_it(
    server: Any, requester: Any, new_entry: Any
) -> None:
    await server.entries.create([new_entry("web", id="web", parent="node")])
    token = await server.agents.create_join_token(60, "", SpiffeID.parse("spiffe://example.org/node"))
    agent = await active(server, (await join(server, requester, token.value)).svid)
    assert {entry.spiffe_id.path for entry in await server.entries.authorized(agent)} == {"/node", "/web"}
    [alias] = [entry for entry in await server.entries.authorized(agent) if entry.spiffe_id.path == "/node"]
    assert alias.parent_id == agent.id
    assert alias.selectors == (Selector("spiffe_id", str(agent.id)),)
    await server.agents.delete(agent.id)
    assert await server.entries.authorized(agent) == ()


async def test_post_status(server: Any, requester: Any) -> None:
    agent = await active(server, (await join(server, requester)).svid)
    await server.agents.post_status(agent, "1.15.3")
    assert (await server.agents.get(agent.id)).agent_version == "1.15.3"
    await server.agents.post_status(agent, "é" * 127)
    with pytest.raises(InvalidArgument):
        await server.agents.post_status(agent, "é" * 128)


async def test_operators_calls_on_agents(server: Any, requester: Any) -> None:
    agent = await active(server, (await join(server, requester)).svid)
    assert (await server.agents.list(AgentFilter(), PageRequest())).items == (agent,)
    assert await server.agents.count(AgentFilter(banned=True)) == 0
    unknown = SpiffeID.parse("spiffe://example.org/spire/agent/join_token/nobody")
    for call in (server.agents.get, server.agents.ban, server.agents.delete):
        with pytest.raises(NotFound, match="agent not found"):
            await call(unknown)
        for wrong in ("spiffe://example.org/web", "spiffe://other.org/spire/agent/a/b"):
            with pytest.raises(InvalidArgument, match="invalid agent ID"):
                await call(SpiffeID.parse(wrong))
    empty = AgentFilter(selectors=SelectorMatch(frozenset()))
    with pytest.raises(Internal, match="empty selector set"):
        await server.agents.list(empty, PageRequest())
    with pytest.raises(Internal, match="empty selector set"):
        await server.agents.count(empty)
    with pytest.raises(Internal, match="failed to list agents: could not parse token"):
        await server.agents.list(AgentFilter(), PageRequest(1, "x"))
