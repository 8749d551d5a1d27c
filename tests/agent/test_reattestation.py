"""A node that may attest as often as it likes: that is how it renews, and how it comes back after an eviction."""

from datetime import timedelta

import pytest

from authsec_sdk.proto.spire import agent_pb2
from authsec_sdk.rpc import GRPCError, Status
from icp_agent.domain.agent_state import DenialReason, Phase

pytestmark = pytest.mark.anyio


@pytest.fixture
def attested(server):
    """Let the server take any token, any number of times."""
    paths = []

    async def act(call):
        request = await call.stream.recv_message()
        path = "/spire/agent/x509pop/node"
        paths.append(path)
        server.denial = None
        svid = server.sign(request.params.params.csr, path, server.agent_ttl)
        result = agent_pb2.AttestAgentResponse.Result(svid=svid, reattestable=True)
        await call.stream.send_message(agent_pb2.AttestAgentResponse(result=result))
        return True

    server.script["AttestAgent"] = act
    return paths


async def test_it_attests_again_instead_of_renewing(server, start_agent, eventually, attested):
    server.agent_ttl = timedelta(seconds=6)
    agent = await start_agent()
    await eventually(lambda: len(attested) > 2)
    assert server.calls["RenewAgent"] == 0
    await eventually(lambda: agent.phase is Phase.READY)
    await eventually(lambda: len(set(server.serials)) > 2, lambda: server.serials)


async def test_workloads_notice_nothing_of_it(server, start_agent, eventually, attested, entry, workload):
    server.entries["web"] = entry("web")
    server.agent_ttl = timedelta(seconds=6)
    agent = await start_agent()
    caller = workload(agent)
    async with caller.svids() as stream:
        await caller.next(stream)
        await eventually(lambda: len(attested) > 2)
        assert await caller.ids() == ["spiffe://example.org/web"]


async def test_a_denial_of_the_svid_that_is_being_replaced_proves_nothing(server, start_agent, eventually, attested):
    """The server forgets the old SVID when it has signed the new one, and the agent may sync in between."""
    server.agent_ttl = timedelta(seconds=12)
    agent = await start_agent()
    attest, denied = server.script["AttestAgent"], []

    async def slowly(call):
        if not denied:
            server.denial = DenialReason.AGENT_NOT_ACTIVE
            before = server.calls["SyncAuthorizedEntries"]
            await eventually(lambda: server.calls["SyncAuthorizedEntries"] > before)
            denied.append(agent.phase)
        return await attest(call)

    server.script["AttestAgent"] = slowly
    before = len(attested)  # on a busy machine the start may have taken so long that there were two
    await eventually(lambda: denied and len(attested) > before)
    await agent.until(Phase.READY)
    assert len(attested) == before + 1
    assert denied[0] in (Phase.READY, Phase.SERVER_AWAY)


async def test_a_server_that_is_away_meanwhile_is_asked_again(server, start_agent, eventually, attested):
    server.agent_ttl = timedelta(seconds=20)
    agent = await start_agent()
    await server.stop()
    await eventually(lambda: agent.phase is Phase.SERVER_AWAY)
    await server.start()
    await eventually(lambda: agent.phase is Phase.READY)


@pytest.mark.parametrize("reason", [DenialReason.AGENT_NOT_ATTESTED, DenialReason.AGENT_NOT_ACTIVE])
async def test_evicted_it_comes_back_and_its_streams_stay_open(
    server, start_agent, eventually, attested, entry, workload, reason
):
    server.entries["web"] = entry("web")
    agent = await start_agent()
    caller = workload(agent)
    async with caller.svids() as stream:
        await caller.next(stream)
        server.denial = reason
        await eventually(lambda: len(attested) == 2)
        await agent.until(Phase.READY)
        assert await caller.ids() == ["spiffe://example.org/web"]


async def test_evicted_and_refused_it_hands_nothing_out(server, start_agent, eventually, attested, entry, workload):
    server.entries["web"] = entry("web")
    agent = await start_agent()
    assert await workload(agent).ids() == ["spiffe://example.org/web"]

    async def refuse(call):
        raise GRPCError(Status.PERMISSION_DENIED, "nodeattestor(x509pop): certificate verification failed")

    server.script["AttestAgent"] = refuse
    server.denial = DenialReason.AGENT_NOT_ATTESTED
    await agent.until(Phase.FORGOTTEN)
    assert (await workload(agent).refusal()).status is Status.UNAVAILABLE


async def test_evicted_while_the_server_cannot_answer_it_serves_what_it_has(
    server, start_agent, eventually, attested, entry, workload
):
    server.entries["web"] = entry("web")
    agent = await start_agent()
    assert await workload(agent).ids() == ["spiffe://example.org/web"]

    async def away(call):
        raise GRPCError(Status.UNAVAILABLE, "restarting")

    before = server.script["AttestAgent"]
    server.script["AttestAgent"] = away
    server.denial = DenialReason.AGENT_NOT_ATTESTED
    await agent.until(Phase.EXPIRED)
    assert await workload(agent).ids() == ["spiffe://example.org/web"]
    server.script["AttestAgent"] = before
    await agent.until(Phase.READY)


async def test_a_ban_is_final_all_the_same(server, start_agent, eventually, attested, entry, workload):
    server.entries["web"] = entry("web")
    agent = await start_agent()

    async def banned(call):
        raise GRPCError(Status.PERMISSION_DENIED, "failed to attest: agent is banned")

    server.script["AttestAgent"] = banned
    server.denial = DenialReason.AGENT_BANNED
    await agent.until(Phase.BANNED)
    assert (await workload(agent).refusal()).status is Status.PERMISSION_DENIED
