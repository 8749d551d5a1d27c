"""The Agent service over real sockets: attest, renew, be banned and evicted; list and count; every bad message."""

from typing import Any

import anyio
import pytest

from authsec_sdk.proto.spire import agent_grpc, agent_pb2, entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError, Server, Status, error_details
from authsec_sdk.spiffe import X509SVID
from icp_common.telemetry import Telemetry
from icp_server.audit.trail import AuditTrail
from icp_server.config.model import RateLimitSwitches
from icp_server.domain.issued import IssuedSVID
from icp_server.grpc_api.agent import AgentAPI
from icp_server.grpc_api.gate import Gate
from icp_server.grpc_api.interceptor import Interceptor
from icp_server.grpc_api.limits import RateLimits
from icp_server.grpc_api.local_peer import LocalPeer
from icp_server.services.agents import AttestResult
from icp_server.telemetry import ServerCounters

pytestmark = pytest.mark.anyio

Denied = types_pb2.PermissionDeniedDetails


async def _attest(live: Any, message: agent_pb2.AttestAgentRequest) -> Any:
    async with agent_grpc.AgentStub(await live.caller()).AttestAgent.open() as stream:
        await stream.send_message(message, end=True)
        return await stream.recv_message()


def _params(live: Any, **changes: Any) -> agent_pb2.AttestAgentRequest:
    data = types_pb2.AttestationData(
        type=changes.get("type", "join_token"), payload=changes.get("payload", b"no-such-token")
    )
    csr = agent_pb2.AgentX509SVIDParams(csr=changes.get("csr", live.csr()))
    return agent_pb2.AttestAgentRequest(params=agent_pb2.AttestAgentRequest.Params(data=data, params=csr))


async def _post_status(live: Any, svid: X509SVID, version: str = "1") -> None:
    stub = agent_grpc.AgentStub(await live.caller(svid))
    await stub.PostStatus(agent_pb2.PostStatusRequest(agent_version=version))


async def _renew(live: Any, svid: X509SVID) -> X509SVID:
    stub = agent_grpc.AgentStub(await live.caller(svid))
    request = agent_pb2.RenewAgentRequest(params=agent_pb2.AgentX509SVIDParams(csr=live.csr()))
    renewed: X509SVID = live.svid((await stub.RenewAgent(request)).svid)
    return renewed


async def _reason(live: Any, svid: X509SVID) -> int:
    with pytest.raises(GRPCError) as caught:
        await _post_status(live, svid)
    assert caught.value.status is Status.PERMISSION_DENIED
    details = error_details(caught.value, Denied)
    assert details is not None
    return details.reason


def _id(svid: X509SVID) -> types_pb2.SPIFFEID:
    return types_pb2.SPIFFEID(trust_domain=svid.id.trust_domain.name, path=svid.id.path)


async def test_a_token_makes_one_agent(live: Any) -> None:
    token = await live.token()
    svid = await live.attest(token)
    assert str(svid.id) == f"spiffe://example.org/spire/agent/join_token/{token}"
    await _post_status(live, svid, "1.15.3")
    agent = await agent_grpc.AgentStub(live.admin).GetAgent(agent_pb2.GetAgentRequest(id=_id(svid)))
    assert agent.agent_version == "1.15.3"
    assert agent.x509svid_serial_number == str(svid.leaf.serial_number)
    assert (agent.attestation_type, agent.can_reattest, agent.banned) == ("join_token", False, False)


async def test_a_used_token_makes_no_second_agent(live: Any) -> None:
    token = await live.token()
    await live.attest(token)
    live.key = type(live)(live.config, live.app, live.admin, live.parts).key  # another host
    with pytest.raises(GRPCError) as caught:
        await live.attest(token)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert caught.value.message == "failed to attest: join token does not exist or has already been used"


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, Status.INVALID_ARGUMENT, "join token does not exist or has already been used"),
        ({"payload": b""}, Status.INVALID_ARGUMENT, "malformed param: missing attestation data payload"),
        ({"payload": b"\xff\x00/../x"}, Status.INVALID_ARGUMENT, "join token does not exist"),
        ({"type": ""}, Status.INVALID_ARGUMENT, "malformed param: missing attestation data type"),
        ({"type": "nope"}, Status.FAILED_PRECONDITION, 'could not find node attestor type "nope"'),
        ({"csr": b""}, Status.INVALID_ARGUMENT, "malformed param: missing CSR"),
        ({"csr": b"junk"}, Status.INVALID_ARGUMENT, "CSR"),
    ],
)
async def test_a_bad_attestation_is_refused(live: Any, changes: Any, status: Status, words: str) -> None:
    with pytest.raises(GRPCError) as caught:
        await _attest(live, _params(live, **changes))
    assert caught.value.status is status
    assert words in (caught.value.message or "")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (agent_pb2.AttestAgentRequest(), "missing params"),
        (agent_pb2.AttestAgentRequest(challenge_response=b"x"), "missing params"),
        (
            agent_pb2.AttestAgentRequest(params=agent_pb2.AttestAgentRequest.Params()),
            "missing attestation data",
        ),
        (
            agent_pb2.AttestAgentRequest(
                params=agent_pb2.AttestAgentRequest.Params(data=types_pb2.AttestationData(type="x", payload=b"x"))
            ),
            "missing X509-SVID parameters",
        ),
    ],
)
async def test_an_incomplete_attestation_says_what_is_missing(live: Any, message: Any, words: str) -> None:
    with pytest.raises(GRPCError) as caught:
        await _attest(live, message)
    assert (caught.value.status, caught.value.message) == (Status.INVALID_ARGUMENT, f"malformed param: {words}")


async def test_an_attestation_that_says_nothing_is_refused(live: Any) -> None:
    with pytest.raises(GRPCError) as caught:
        async with agent_grpc.AgentStub(await live.caller()).AttestAgent.open() as stream:
            await stream.send_request()
            await stream.end()
            await stream.recv_message()
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_a_renewed_svid_replaces_the_old_one_when_it_is_used(live: Any) -> None:
    old = await live.attest()
    new = await _renew(live, old)
    assert new.id == old.id
    await _post_status(live, old)  # the reply may be lost: the old one stays good
    await _post_status(live, new)
    assert await _reason(live, old) == Denied.AGENT_NOT_ACTIVE


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (agent_pb2.RenewAgentRequest(), "params cannot be nil"),
        (agent_pb2.RenewAgentRequest(params=agent_pb2.AgentX509SVIDParams()), "missing CSR"),
        (agent_pb2.RenewAgentRequest(params=agent_pb2.AgentX509SVIDParams(csr=b"junk")), "CSR"),
    ],
)
async def test_a_bad_renewal_is_refused(live: Any, request_: Any, words: str) -> None:
    stub = agent_grpc.AgentStub(await live.caller(await live.attest()))
    with pytest.raises(GRPCError) as caught:
        await stub.RenewAgent(request_)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert words in (caught.value.message or "")


async def test_a_banned_agent_is_told_so_and_stays_out_until_evicted(live: Any) -> None:
    svid = await live.attest()
    stub = agent_grpc.AgentStub(live.admin)
    await stub.BanAgent(agent_pb2.BanAgentRequest(id=_id(svid)))
    assert await _reason(live, svid) == Denied.AGENT_BANNED
    await stub.DeleteAgent(agent_pb2.DeleteAgentRequest(id=_id(svid)))
    assert await _reason(live, svid) == Denied.AGENT_NOT_ATTESTED


async def test_a_ban_counts_on_a_connection_that_is_open(live: Any) -> None:
    """Threat 7: authorized per call, not per connection."""
    svid = await live.attest()
    agent = agent_grpc.AgentStub(await live.caller(svid))
    await agent.PostStatus(agent_pb2.PostStatusRequest())
    await agent_grpc.AgentStub(live.admin).BanAgent(agent_pb2.BanAgentRequest(id=_id(svid)))
    with pytest.raises(GRPCError, match="authorization denied"):
        await agent.PostStatus(agent_pb2.PostStatusRequest())


@pytest.mark.parametrize("method", ["GetAgent", "BanAgent", "DeleteAgent"])
@pytest.mark.parametrize(
    ("domain", "path", "status", "words"),
    [
        ("", "", Status.INVALID_ARGUMENT, "invalid agent ID: request must specify SPIFFE ID"),
        ("other.org", "/spire/agent/x", Status.INVALID_ARGUMENT, "is not a member of trust domain"),
        ("example.org", "", Status.INVALID_ARGUMENT, "path is empty"),
        ("example.org", "/workload", Status.INVALID_ARGUMENT, "path is not in the agent namespace"),
        ("Example.Org", "/spire/agent/x", Status.INVALID_ARGUMENT, "invalid agent ID"),
        ("example.org", "/spire/agent/../x", Status.INVALID_ARGUMENT, "invalid agent ID"),
        ("example.org", "/spire/agent/x", Status.NOT_FOUND, "agent not found"),
    ],
)
async def test_agents_are_named_by_their_own_ids(
    live: Any, method: str, domain: str, path: str, status: Status, words: str
) -> None:
    call = getattr(agent_grpc.AgentStub(live.admin), method)
    with pytest.raises(GRPCError) as caught:
        await call(call.request_type(id=types_pb2.SPIFFEID(trust_domain=domain, path=path)))
    assert caught.value.status is status
    assert words in (caught.value.message or "")


async def test_agents_are_listed_counted_filtered_paged_and_masked(live: Any) -> None:
    svids = [await live.attest() for _ in range(3)]
    stub = agent_grpc.AgentStub(live.admin)
    await stub.BanAgent(agent_pb2.BanAgentRequest(id=_id(svids[0])))

    filter_ = agent_pb2.ListAgentsRequest.Filter()
    filter_.by_banned.value = True
    banned = await stub.ListAgents(agent_pb2.ListAgentsRequest(filter=filter_))
    assert [agent.id.path for agent in banned.agents] == [svids[0].id.path]
    counted = agent_pb2.CountAgentsRequest.Filter()
    counted.by_banned.value = False
    assert (await stub.CountAgents(agent_pb2.CountAgentsRequest(filter=counted))).count == 2

    first = await stub.ListAgents(agent_pb2.ListAgentsRequest(page_size=2))
    rest = await stub.ListAgents(agent_pb2.ListAgentsRequest(page_size=2, page_token=first.next_page_token))
    assert [agent.id.path for agent in [*first.agents, *rest.agents]] == [svid.id.path for svid in svids]

    bare = await stub.ListAgents(agent_pb2.ListAgentsRequest(output_mask=types_pb2.AgentMask()))
    assert bare.agents[1] == types_pb2.Agent(id=_id(svids[1]))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2006-01-02 15:04:05 -0700 -07", 0),
        ("2999-01-02 15:04:05 +0000 UTC", 1),
        ("junk", 1),  # filters nothing, as upstream: the command line checks the form
        ("2999-01-02", 1),
    ],
)
async def test_agents_are_filtered_by_their_expiry(live: Any, text: str, count: int) -> None:
    await live.attest()
    filter_ = agent_pb2.CountAgentsRequest.Filter(by_expires_before=text)
    answer = await agent_grpc.AgentStub(live.admin).CountAgents(agent_pb2.CountAgentsRequest(filter=filter_))
    assert answer.count == count


async def test_a_malformed_filter_is_refused(live: Any) -> None:
    stub = agent_grpc.AgentStub(live.admin)
    filter_ = agent_pb2.ListAgentsRequest.Filter()
    filter_.by_selector_match.selectors.add(type="", value="x")
    with pytest.raises(GRPCError, match="failed to parse selectors: missing selector type"):
        await stub.ListAgents(agent_pb2.ListAgentsRequest(filter=filter_))
    filter_.by_selector_match.selectors[0].type = "x"
    filter_.by_selector_match.match = 77  # type: ignore[assignment]
    with pytest.raises(GRPCError, match="unknown match behavior 77"):
        await stub.ListAgents(agent_pb2.ListAgentsRequest(filter=filter_))
    with pytest.raises(GRPCError) as caught:
        await stub.ListAgents(agent_pb2.ListAgentsRequest(page_size=1, page_token="junk"))
    assert caught.value.status is Status.INTERNAL
    empty = agent_pb2.ListAgentsRequest.Filter(by_selector_match=types_pb2.SelectorMatch())
    with pytest.raises(GRPCError) as caught:
        await stub.ListAgents(agent_pb2.ListAgentsRequest(filter=empty))
    assert caught.value.status is Status.INTERNAL


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (agent_pb2.CreateJoinTokenRequest(), Status.INVALID_ARGUMENT, "ttl is required, you must provide one"),
        (agent_pb2.CreateJoinTokenRequest(ttl=-1), Status.INVALID_ARGUMENT, "ttl is required"),
        (agent_pb2.CreateJoinTokenRequest(ttl=5, token="a/b"), Status.INVALID_ARGUMENT, "path segment"),
        (agent_pb2.CreateJoinTokenRequest(ttl=5, token=".."), Status.INVALID_ARGUMENT, "path segment"),
        (
            agent_pb2.CreateJoinTokenRequest(
                ttl=5, agent_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/spire/x")
            ),
            Status.INVALID_ARGUMENT,
            "invalid agent ID: ",
        ),
        (
            agent_pb2.CreateJoinTokenRequest(ttl=5, agent_id=types_pb2.SPIFFEID()),
            Status.INVALID_ARGUMENT,
            "invalid agent ID: ",
        ),
    ],
)
async def test_a_bad_token_is_not_made(live: Any, request_: Any, status: Status, words: str) -> None:
    with pytest.raises(GRPCError) as caught:
        await agent_grpc.AgentStub(live.admin).CreateJoinToken(request_)
    assert caught.value.status is status
    assert words in (caught.value.message or "")


async def test_a_token_for_a_node_brings_its_alias(live: Any) -> None:
    token = await live.token(node="/rack1")
    (entry,) = (await entry_grpc.EntryStub(live.admin).ListEntries(entry_pb2.ListEntriesRequest())).entries
    assert entry.spiffe_id.path == "/rack1"
    assert entry.parent_id.path == f"/spire/agent/join_token/{token}"


async def test_a_version_that_is_too_long_is_refused(live: Any) -> None:
    svid = await live.attest()
    with pytest.raises(GRPCError) as caught:
        await _post_status(live, svid, "x" * 256)
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_one_address_attests_once_a_second(start_server: Any) -> None:
    live = await start_server(rate_limits=RateLimitSwitches(attestation=True, signing=True))
    before = anyio.current_time()
    for _ in range(2):
        with pytest.raises(GRPCError, match="join token"):
            await _attest(live, _params(live))
    assert anyio.current_time() - before >= 0.75


async def test_the_challenge_of_an_attestor_reaches_the_agent(live: Any) -> None:
    """join_token never asks, so the API's half of a challenge is tried with an attestor that does."""

    class Asking:
        async def attest(
            self, data_type: str, payload: bytes, csr: bytes, challenge: Any, *, peer_address: str
        ) -> AttestResult:
            answer = await challenge(b"who?")
            assert peer_address == ""  # a Unix socket has none
            assert (data_type, payload, answer) == ("asking", b"hello", b"me")
            svid = await live.attest()
            return AttestResult(IssuedSVID(svid.id, tuple(svid.chain_der()), 1, "1"), can_reattest=True)

    counters = ServerCounters(Telemetry())
    limits = RateLimits.configured(attestation=True, signing=True)
    api = AgentAPI(Asking(), live.config.trust_domain, limits, counters)  # type: ignore[arg-type]
    gate = Gate(None, None, frozenset())  # type: ignore[arg-type]
    path = live.config.listeners.socket_path.with_name("asking.sock")
    async with Server(
        [api],
        interceptor=Interceptor(gate, AuditTrail(enabled=False), counters),
        on_accept=lambda peer: LocalPeer.of(peer.socket),
    ) as server:
        await server.listen_unix(path)
        async with Channel.unix(str(path)) as channel, agent_grpc.AgentStub(channel).AttestAgent.open() as stream:
            await stream.send_message(_params(live, type="asking", payload=b"hello"))
            asked = await stream.recv_message()
            assert asked is not None
            assert asked.challenge == b"who?"
            await stream.send_message(agent_pb2.AttestAgentRequest(challenge_response=b"me"), end=True)
            answer = await stream.recv_message()
            assert answer is not None
            assert answer.result.reattestable
