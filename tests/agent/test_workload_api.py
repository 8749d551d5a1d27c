"""The Workload API as a workload sees it: what it gets, what it is told later, and how its streams end."""

import asyncio
from datetime import timedelta

import pytest

from authsec_sdk.proto import health_grpc, health_pb2, workload_grpc, workload_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status
from authsec_sdk.spiffe import X509SVID, X509Bundle
from authsec_sdk.spire.selectors import Selector
from authsec_sdk.testing import TestCA
from icp_agent.api.health import STATE_HEADER
from icp_agent.domain.agent_state import DenialReason, Phase
from icp_agent.syncer import SyncSettings
from tests.agent.relay import relayed_from_a_dead_process

pytestmark = pytest.mark.anyio

HEADER = {"workload.spiffe.io": "true"}


@pytest.fixture
async def agent(server, start_agent, entry):
    server.entries = {"a": entry("a")}
    return await start_agent()


class TestFetchX509SVID:
    async def test_everything_a_client_insists_on(self, server, agent, workload):
        (message,) = (await workload(agent).fetch()).svids
        svid = X509SVID.parse_der(message.x509_svid, message.x509_svid_key)  # key PKCS#8 and the leaf's
        assert message.spiffe_id == str(svid.id) == "spiffe://example.org/web"
        bundle = X509Bundle.parse_der(server.ca.trust_domain, message.bundle)
        assert bundle == server.ca.bundle()

    async def test_identities_go_by_entry_id_with_their_hints(self, server, start_agent, entry, workload):
        server.entries = {
            id_: entry(id_, f"/{id_}", hint=hint) for id_, hint in [("c", "x"), ("a", ""), ("b", "internal")]
        }
        agent = await start_agent()
        svids = (await workload(agent).fetch()).svids
        assert [(svid.spiffe_id[-1], svid.hint) for svid in svids] == [("a", ""), ("b", "internal"), ("c", "x")]

    async def test_federated_bundles_are_keyed_by_the_domains_id(self, server, start_agent, entry, workload):
        partner = TestCA("partner.org")
        server.federated["partner.org"] = partner.bundle()
        server.entries = {"a": entry("a", federates_with=["partner.org"])}
        agent = await start_agent()
        federated = (await workload(agent).fetch()).federated_bundles
        assert dict(federated) == {"spiffe://partner.org": partner.bundle().to_der()}

    async def test_intermediates_come_along_and_the_root_does_not(self, server, start_agent, entry, workload):
        server.entries = {"a": entry("a")}
        intermediate = server.ca.intermediate()
        plain = server.sign

        def sign(csr, path, ttl, ca=None):
            return plain(csr, path, ttl, ca or intermediate)

        server.sign = sign
        agent = await start_agent()
        (message,) = (await workload(agent).fetch()).svids
        svid = X509SVID.parse_der(message.x509_svid, message.x509_svid_key)
        assert [certificate.subject for certificate in svid.certificates[1:]] == [intermediate.certificate.subject]

    async def test_nothing_registered_for_this_process(self, server, agent, entry, workload, eventually):
        server.entries = {"a": entry("a", "/web", "unix:uid:4242424")}
        await eventually(lambda: agent.agent.identities.cache.entries["a"].selectors[0].value == "uid:4242424")
        error = await workload(agent).refusal()
        assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no identity issued")

    async def test_one_message_for_each_change(self, server, agent, entry, workload, eventually):
        async with workload(agent).svids() as stream:
            first = await workload.next(stream)
            syncs = server.calls["SyncAuthorizedEntries"]
            await eventually(lambda: server.calls["SyncAuthorizedEntries"] > syncs + 3)
            server.entries["b"] = entry("b", "/b")
            second = await workload.next(stream)
            server.entries.pop("a")
            third = await workload.next(stream)
        assert [[svid.spiffe_id[-1] for svid in each.svids] for each in (first, second, third)] == [
            ["b"],
            ["b", "b"],
            ["b"],
        ]

    async def test_a_new_authority_is_told(self, server, agent, workload):
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            server.rotate()
            message = await workload.next(stream)
        assert X509Bundle.parse_der(server.ca.trust_domain, message.svids[0].bundle) == server.ca.bundle()

    async def test_identities_that_disappear_end_the_stream(self, server, agent, workload):
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            server.entries.clear()
            error = await workload(agent).refusal(stream)
        assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no identity issued")

    async def test_waits_until_all_svids_are_signed(self, server, start_agent, entry, workload):
        server.entries = {"a": entry("a", "/a"), "b": entry("b", "/b")}
        server.maximum_batch = 1
        release = asyncio.Event()
        signed = []

        async def second_waits(call):
            signed.append(call)
            if len(signed) > 2:  # two are refused together, then each comes alone
                await release.wait()
            return False

        server.script["BatchNewX509SVID"] = second_waits
        agent = await start_agent(wait=False)
        async with workload(agent).svids() as stream:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stream.recv_message()
        release.set()
        assert len(await workload(agent).ids()) == 2

    async def test_before_the_first_sync_it_waits(self, server, start_agent, entry, workload):
        """UNAVAILABLE or silence, never PERMISSION_DENIED: some clients drop a valid identity over that."""
        server.entries = {"a": entry("a")}
        release = asyncio.Event()

        async def wait(call):
            await release.wait()
            return False

        server.script["SyncAuthorizedEntries"] = wait
        agent = await start_agent(wait=False)
        asked = asyncio.ensure_future(workload(agent).ids())
        await agent.until(Phase.ATTESTED)
        assert not asked.done()
        release.set()
        assert await asked == ["spiffe://example.org/web"]

    async def test_svids_that_expired_are_not_served(self, server, start_agent, entry, workload, eventually):
        server.entries = {"a": entry("a")}
        server.svid_ttl = timedelta(seconds=2)
        agent = await start_agent()
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            await server.stop()
            error = await workload(agent).refusal(stream)
            assert error.status is Status.UNAVAILABLE
        error = await workload(agent).refusal()
        assert error.status is Status.UNAVAILABLE
        await server.start()
        await eventually(lambda: agent.phase is Phase.READY)
        assert await workload(agent).ids() == ["spiffe://example.org/web"]

    async def test_an_expired_identity_leaves_the_others(self, server, start_agent, entry, workload):
        server.entries = {"a": entry("a", "/a"), "b": entry("b", "/b")}
        plain = server.sign_entry

        def sign_entry(params):
            server.svid_ttl = timedelta(seconds=2) if params.entry_id == "a" else timedelta(hours=1)
            return plain(params)

        server.sign_entry = sign_entry
        agent = await start_agent()
        async with workload(agent).svids() as stream:
            while len((await workload.next(stream)).svids) != 2:
                pass
            await server.stop()
            while True:
                left = [svid.spiffe_id for svid in (await workload.next(stream)).svids]
                if len(left) == 1:
                    break
        assert left == ["spiffe://example.org/b"]


class TestSecurityHeader:
    @pytest.mark.parametrize(
        "metadata",
        [{}, {"workload.spiffe.io": "false"}, {"workload.spiffe.io": "TRUE"}, [("workload.spiffe.io", "true")] * 2],
        ids=["missing", "false", "upper case", "twice"],
    )
    async def test_calls_without_it_are_refused(self, agent, metadata):
        async with agent.channel() as channel:
            stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
            with pytest.raises(GRPCError) as caught:
                await stub.FetchJWTSVID(workload_pb2.JWTSVIDRequest(), metadata=metadata)
            assert caught.value.status is Status.INVALID_ARGUMENT
            assert caught.value.message == "security header missing from request"
            with pytest.raises(GRPCError) as caught:
                async with stub.FetchX509SVID.open(metadata=metadata) as stream:
                    await stream.send_message(workload_pb2.X509SVIDRequest(), end=True)
                    await stream.recv_message()
            assert caught.value.status is Status.INVALID_ARGUMENT

    async def test_health_needs_none(self, agent):
        async with agent.channel() as channel:
            answer = await health_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("method", "request_message"),
    [
        ("FetchWITSVID", workload_pb2.WITSVIDRequest()),
        ("FetchWITBundles", workload_pb2.WITBundlesRequest()),
    ],
)
async def test_what_is_not_supported_says_so(agent, method, request_message):
    async with agent.channel() as channel:
        call = getattr(workload_grpc.SpiffeWorkloadAPIStub(channel), method)
        with pytest.raises(GRPCError) as caught:
            async with call.open(metadata=HEADER, timeout=30) as stream:
                await stream.send_message(request_message, end=True)
                await stream.recv_message()
    assert caught.value.status is Status.UNIMPLEMENTED


class TestFetchX509Bundles:
    async def test_own_and_federated(self, server, start_agent, entry, workload):
        partner = TestCA("partner.org")
        server.federated["partner.org"] = partner.bundle()
        server.entries = {"a": entry("a", federates_with=["partner.org"])}
        agent = await start_agent()
        async with workload(agent).bundles() as stream:
            bundles = dict((await workload.next(stream)).bundles)
            server.rotate()
            later = dict((await workload.next(stream)).bundles)
        assert bundles.keys() == {"spiffe://example.org", "spiffe://partner.org"}
        assert bundles["spiffe://partner.org"] == partner.bundle().to_der()
        assert later["spiffe://example.org"] != bundles["spiffe://example.org"]

    async def test_a_rotated_svid_is_no_news(self, server, start_agent, entry, workload, eventually):
        server.entries = {"a": entry("a")}
        server.svid_ttl = timedelta(seconds=2)
        agent = await start_agent()
        async with workload(agent).bundles() as stream:
            await workload.next(stream)
            batches = len(server.batches)
            await eventually(lambda: len(server.batches) > batches + 2)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await stream.recv_message()

    async def test_without_an_entry_there_is_none(self, server, start_agent, workload):
        agent = await start_agent()
        async with workload(agent).bundles() as stream:
            error = await workload(agent).refusal(stream)
        assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no identity issued")

    async def test_unauthenticated_verifiers_get_the_own_one(self, server, start_agent, workload):
        agent = await start_agent(allow_unauthenticated_verifiers=True)
        async with workload(agent).bundles() as stream:
            assert dict((await workload.next(stream)).bundles) == {"spiffe://example.org": server.ca.bundle().to_der()}
        assert (await workload(agent).refusal()).status is Status.PERMISSION_DENIED


class TestHowStreamsEnd:
    async def test_on_shutdown_with_unavailable_and_nothing_else(self, agent, workload):
        async with workload(agent).svids() as stream, workload(agent).bundles() as bundles:
            await workload.next(stream)
            await workload.next(bundles)
            stopped = asyncio.ensure_future(agent.stop())
            for each in (stream, bundles):
                assert (await workload(agent).refusal(each)).status is Status.UNAVAILABLE
            assert await stopped == 0

    async def test_on_a_ban_with_no_identity_issued(self, server, agent, workload):
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            server.denial = DenialReason.AGENT_BANNED
            error = await workload(agent).refusal(stream)
        assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no identity issued")
        assert (await workload(agent).refusal()).status is Status.PERMISSION_DENIED

    @pytest.mark.parametrize("reason", [DenialReason.AGENT_NOT_ATTESTED, DenialReason.AGENT_NOT_ACTIVE])
    async def test_on_eviction_with_unavailable(self, server, agent, workload, reason):
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            server.denial = reason
            error = await workload(agent).refusal(stream)
        assert error.status is Status.UNAVAILABLE
        assert (await workload(agent).refusal()).status is Status.UNAVAILABLE

    async def test_not_when_the_server_is_away(self, server, agent, workload):
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            await server.stop()
            await agent.until(Phase.SERVER_AWAY)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await stream.recv_message()


class TestDenials:
    async def test_a_ban_forgets_everything_and_is_logged_in_upstreams_words(
        self, server, agent, eventually, folder, caplog
    ):
        server.denial = DenialReason.AGENT_BANNED
        await agent.until(Phase.BANNED)
        assert dict(agent.agent.identities.cache.svids) == {}
        await eventually(lambda: not (folder / "data" / "agent-svid.sealed").exists())
        assert any("Agent is banned: removing SVID and shutting down" in r.getMessage() for r in caplog.records)

    async def test_when_the_ban_is_lifted_a_new_token_brings_it_back(self, server, agent, workload):
        server.denial = DenialReason.AGENT_BANNED
        await agent.until(Phase.BANNED)
        server.denial = None
        server.tokens.add("good-token")
        await agent.until(Phase.READY)
        assert await workload(agent).ids() == ["spiffe://example.org/web"]

    async def test_an_agent_that_has_to_attest_again_keeps_serving(self, server, agent, workload, eventually):
        server.denial = DenialReason.AGENT_MUST_REATTEST
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            await agent.until(Phase.EXPIRED)
            assert await workload(agent).ids() == ["spiffe://example.org/web"]
            server.denial = None
            server.tokens.add("good-token")
            await agent.until(Phase.READY)
            server.rotate()
            assert (await workload.next(stream)).svids


class TestHealth:
    async def test_says_where_the_agent_stands(self, server, agent):
        async with agent.channel() as channel:
            check = health_grpc.HealthStub(channel).Check
            async with check.open(timeout=30) as stream:
                await stream.send_message(health_pb2.HealthCheckRequest(), end=True)
                answer = await stream.recv_message()
                state = stream.initial_metadata[STATE_HEADER]
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            assert state.startswith("ready since ")
            server.denial = DenialReason.AGENT_BANNED
            await agent.until(Phase.BANNED)
            answer = await check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING

    async def test_is_good_without_the_server(self, server, agent):
        await server.stop()
        await agent.until(Phase.SERVER_AWAY)
        async with agent.channel() as channel:
            answer = await health_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

    async def test_watch_tells_changes(self, server, agent):
        async with agent.channel() as channel, health_grpc.HealthStub(channel).Watch.open(timeout=60) as stream:
            await stream.send_message(health_pb2.HealthCheckRequest(), end=True)
            assert (await stream.recv_message()).status == health_pb2.HealthCheckResponse.SERVING
            server.denial = DenialReason.AGENT_BANNED
            assert (await stream.recv_message()).status == health_pb2.HealthCheckResponse.NOT_SERVING

    async def test_a_named_service_is_unknown(self, agent):
        async with agent.channel() as channel:
            with pytest.raises(GRPCError) as caught:
                await health_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="x"))
        assert caught.value.status is Status.INVALID_ARGUMENT


class TestCallers:
    async def test_one_who_is_not_who_connected_gets_nothing(self, agent, folder):
        """The process that connected hands its socket to another one and ends: the other must not be served as it."""
        async with relayed_from_a_dead_process(agent.config.socket_path, folder / "relay") as path:
            channel = Channel.unix(str(path), max_backoff=0)
            async with channel:
                stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
                with pytest.raises(GRPCError) as caught:
                    async with stub.FetchX509SVID.open(metadata=HEADER, timeout=30) as stream:
                        await stream.send_message(workload_pb2.X509SVIDRequest(), end=True)
                        await stream.recv_message()
        assert caught.value.status is Status.UNAUTHENTICATED
        assert caught.value.message == "could not verify existence of the original caller"

    async def test_a_stream_ends_at_the_next_change_when_its_process_is_gone(self, server, agent, folder, workload):
        died = asyncio.Event()
        async with relayed_from_a_dead_process(agent.config.socket_path, folder / "relay", dies=died) as path:
            async with workload(agent).svids(path=str(path)) as stream:
                await workload.next(stream)
                died.set()
                await asyncio.sleep(0.2)
                server.rotate()
                with pytest.raises(GRPCError) as caught:
                    await workload.next(stream)  # the very next message must not be told any more
        assert caught.value.status is Status.UNAUTHENTICATED


class ScriptedAttestor:
    """An attestor whose findings a test decides."""

    name = "unix"

    def __init__(self, *values: str) -> None:
        self.selectors = frozenset(Selector("unix", value) for value in values)
        self.error: Exception | None = None
        self.attested = 0

    async def attest(self, peer: object) -> frozenset[Selector]:
        self.attested += 1
        if self.error is not None:
            raise self.error
        return self.selectors


class TestReattestation:
    """A stream is one call that never ends: what was true when it began is asked again."""

    async def test_selectors_that_change_end_the_stream(self, server, start_agent, entry, workload):
        attestor = ScriptedAttestor("role:web")
        server.entries = {"a": entry("a", "/web", "unix:role:web")}
        agent = await start_agent(options={"attestors": [attestor], "reattest_seconds": 0.5})
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            attestor.selectors = frozenset({Selector("unix", "role:none")})
            error = await workload(agent).refusal(stream)
        assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no identity issued")

    async def test_selectors_that_change_to_others_give_other_identities(self, server, start_agent, entry, workload):
        attestor = ScriptedAttestor("role:web")
        server.entries = {"a": entry("a", "/web", "unix:role:web"), "b": entry("b", "/db", "unix:role:db")}
        agent = await start_agent(options={"attestors": [attestor], "reattest_seconds": 0.5})
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            attestor.selectors = frozenset({Selector("unix", "role:db")})
            (svid,) = (await workload.next(stream)).svids
        assert svid.spiffe_id == "spiffe://example.org/db"

    async def test_the_same_selectors_are_no_news(self, server, start_agent, entry, workload, eventually):
        attestor = ScriptedAttestor("role:web")
        server.entries = {"a": entry("a", "/web", "unix:role:web")}
        agent = await start_agent(options={"attestors": [attestor], "reattest_seconds": 0.1})
        async with workload(agent).svids() as stream:
            await workload.next(stream)
            await eventually(lambda: attestor.attested > 4)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await stream.recv_message()

    async def test_attestation_that_fails_is_unavailable(self, server, start_agent, entry, workload):
        attestor = ScriptedAttestor("role:web")
        attestor.error = OSError("no")
        server.entries = {"a": entry("a", "/web", "unix:role:web")}
        agent = await start_agent(options={"attestors": [attestor]})
        error = await workload(agent).refusal()
        assert (error.status, error.message) == (Status.UNAVAILABLE, "workload attestation failed")

    async def test_the_log_shows_only_the_selectors_an_operator_allows(self, start_agent, workload, caplog):
        attestor = ScriptedAttestor("uid:5", "secret:hush", "uidish:1")
        agent = await start_agent(options={"attestors": [attestor]}, log_selectors=("unix:uid",))
        await workload(agent).refusal()
        (line,) = [record.getMessage() for record in caplog.records if "No identity issued" in record.getMessage()]
        assert "selectors=['unix:uid:5']" in line
        assert not any("hush" in record.getMessage() for record in caplog.records)


async def test_many_streams_at_once(server, start_agent, entry, workload):
    server.entries = {f"e{n}": entry(f"e{n}", f"/{n}") for n in range(7)}
    agent = await start_agent(sync=SyncSettings(interval=timedelta(milliseconds=200)))

    async def one() -> int:
        async with workload(agent).svids() as stream:
            first = await workload.next(stream)
            second = await workload.next(stream)
            return len(first.svids) + len(second.svids)

    streams = [asyncio.ensure_future(one()) for _ in range(60)]
    await asyncio.sleep(1)
    server.rotate()
    assert set(await asyncio.gather(*streams)) == {14}
