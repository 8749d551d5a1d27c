"""The first trust from a service of this host or a Workload API, and asked for again once all servers are strangers."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.proto.spire import agent_pb2
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from icp_agent.bootstrap import BootstrapTrust, bootstrap_bundle
from icp_agent.config.later import Later
from icp_agent.config.raw import RawSettings
from icp_agent.config.trust import read_rebootstrap, read_trust
from icp_agent.domain.agent_state import Phase
from icp_agent.domain.trust_watch import BootstrapAttempt, RebootstrapMode, RebootstrapSettings
from icp_agent.ports import ServerUnavailableError
from icp_agent.trust_watch import TrustWatch, is_unknown_authority

pytestmark = pytest.mark.anyio

CA = TestCA("example.org")
FIRST = BootstrapAttempt(3, datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))


@asynccontextmanager
async def service(path, answer):
    """A service of this host that hands out bundles."""
    asked = []

    async def serve(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield asked
    finally:
        server.close()


def http(body, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class TestServiceOfTheHost:
    def trust(self, folder):
        return BootstrapTrust(
            url="http://bundles/x?role=a", unix_socket=folder / "s", server=("spire.example.org", 8081)
        )

    async def test_it_is_told_who_asks_for_what(self, folder):
        async with service(folder / "s", http(CA.bundle().to_pem())) as asked:
            assert await bootstrap_bundle(self.trust(folder), CA.trust_domain, FIRST) == CA.bundle()
        split = urlsplit(asked[0])
        assert split.path == "/x"
        assert dict(parse_qsl(split.query)) == {
            "role": "a",
            "spire-attest-mode": "bootstrap",
            "spire-connection-attempts": "3",
            "spire-attest-start-time": "2030-01-02T03:04:05Z",
            "spire-server-address": "spire.example.org",
            "spire-server-port": "8081",
            "spiffe-trust-domain": "example.org",
        }

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (http(b"", "404 Not Found"), "HTTP 404"),
            (http(b"", "302 Found"), "HTTP 302"),
            (b"", "unable to fetch trust bundle"),
            (http(b"x" * 5_000_000), "more than"),
        ],
    )
    async def test_answers_that_are_none(self, folder, answer, words):
        async with service(folder / "s", answer):
            with pytest.raises(ServerUnavailableError, match=words):
                await bootstrap_bundle(self.trust(folder), CA.trust_domain, FIRST)

    async def test_nobody_there(self, folder):
        with pytest.raises(ServerUnavailableError, match="unable to fetch trust bundle"):
            await bootstrap_bundle(self.trust(folder), CA.trust_domain, FIRST)


class TestWorkloadAPI:
    async def test_the_bundle_of_our_trust_domain(self):
        with FakeWorkloadAPI() as api:
            api.set(CA.svid("/agent"), bundles=[CA.bundle(), TestCA("other.org").bundle()])
            bundle = await bootstrap_bundle(BootstrapTrust(workload_api=api.address), CA.trust_domain, FIRST)
        assert bundle == CA.bundle()

    async def test_a_workload_api_without_it(self):
        other = TestCA("other.org")
        with FakeWorkloadAPI() as api:
            api.set(other.svid("/agent"), bundles=[other.bundle()])
            with pytest.raises(ServerUnavailableError, match="did not provide a trust bundle for trust domain"):
                await bootstrap_bundle(BootstrapTrust(workload_api=api.address), CA.trust_domain, FIRST)

    async def test_nobody_there(self, folder):
        trust = BootstrapTrust(workload_api=f"unix://{folder}/none.sock")
        with pytest.raises(ServerUnavailableError, match="Workload API"):
            await bootstrap_bundle(trust, CA.trust_domain, FIRST)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "must be configured unless"),
        ({"trust_bundle_unix_socket": "/s"}, "so must be trust_bundle_url"),
        ({"trust_bundle_unix_socket": "/s", "trust_bundle_path": "p"}, "so must be trust_bundle_url"),
        ({"trust_bundle_unix_socket": "/s", "trust_bundle_url": "https://h"}, "must start with http:// when"),
        ({"trust_bundle_unix_socket": "/s", "trust_bundle_url": "http://h?spire-x=1"}, "can not start with spire-"),
        ({"trust_bundle_unix_socket": "/s", "trust_bundle_url": "http://h?spiffe-x"}, "can not start with spiffe-"),
        ({"trust_bundle_url": "http://h"}, "must start with https://"),
        ({"trust_bundle_spiffe_workload_api": "unix:relative"}, "is not a valid SPIFFE Workload API endpoint"),
        ({"trust_bundle_spiffe_workload_api": "unix:///s", "trust_bundle_path": "p"}, "only one of"),
        (
            {"trust_bundle_spiffe_workload_api": "unix:///s", "trust_bundle_unix_socket": "/s"},
            "can not be used with trust_bundle_spiffe_workload_api",
        ),
    ],
)
def test_settings_that_do_not_fit_together(settings, words):
    with pytest.raises(ConfigurationError, match=words):
        read_trust(RawSettings(**settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rebootstrap_mode": "sometimes"}, "unknown rebootstrap mode specified: sometimes"),
        ({"rebootstrap_mode": "auto", "insecure_bootstrap": True}, "can not be used with rebootstrapping"),
    ],
)
def test_modes_that_are_refused(settings, words):
    with pytest.raises(ConfigurationError, match=words):
        read_rebootstrap(RawSettings(**settings), Later())


class TestLostTrust:
    """The server was rebuilt with new keys, as after a disaster: to the agent it is a stranger."""

    @pytest.fixture
    def attested(self, server):
        times = []

        async def act(call):
            request = await call.stream.recv_message()
            times.append(1)
            svid = server.sign(request.params.params.csr, "/spire/agent/x509pop/node", server.agent_ttl)
            result = agent_pb2.AttestAgentResponse.Result(svid=svid, reattestable=True)
            await call.stream.send_message(agent_pb2.AttestAgentResponse(result=result))
            return True

        server.script["AttestAgent"] = act
        return times

    async def rebuild(self, server, folder):
        await server.stop()
        server.ca = TestCA("example.org")
        await server.start()
        (folder / "bundle.pem").write_bytes(server.ca.bundle().to_pem())

    async def test_after_the_delay_it_begins_again(
        self, server, start_agent, eventually, attested, folder, entry, workload
    ):
        server.entries["web"] = entry("web")
        soon = RebootstrapSettings(RebootstrapMode.AUTO, timedelta(seconds=1))
        agent = await start_agent(rebootstrap=soon)
        await self.rebuild(server, folder)
        await eventually(lambda: len(attested) == 2, lambda: agent.problem)
        await agent.until(Phase.READY)
        assert await workload(agent).ids() == ["spiffe://example.org/web"]
        assert agent.agent._node.bundle.x509_bundle() == server.ca.bundle()

    @pytest.mark.parametrize(
        "settings",
        [RebootstrapSettings(), RebootstrapSettings(RebootstrapMode.AUTO)],
        ids=["never", "before the delay"],
    )
    async def test_not_otherwise(self, server, start_agent, eventually, attested, folder, settings):
        agent = await start_agent(rebootstrap=settings)
        await self.rebuild(server, folder)
        await eventually(lambda: "peer refused" in agent.problem)
        assert agent.phase is Phase.SERVER_AWAY
        assert len(attested) == 1

    async def test_a_node_that_cannot_attest_again_says_so(self, server, start_agent, eventually, folder, caplog):
        now = RebootstrapSettings(RebootstrapMode.ALWAYS, timedelta())
        agent = await start_agent(rebootstrap=now)
        await self.rebuild(server, folder)
        await eventually(lambda: "cannot attest again by itself" in caplog.text)
        assert agent.phase is Phase.SERVER_AWAY
        assert server.calls["AttestAgent"] == 1

    async def test_trust_that_is_lost_while_the_agent_is_off(self, server, start_agent, eventually, attested, folder):
        agent = await start_agent()
        await agent.stop()
        (folder / "data" / "agent-svid.sealed").unlink()
        await self.rebuild(server, folder)
        agent = await start_agent(
            wait=False, rebootstrap=RebootstrapSettings(RebootstrapMode.AUTO, timedelta(seconds=1))
        )
        await agent.until(Phase.READY)
        assert len(attested) == 2

    async def test_a_server_that_is_away_is_no_stranger(self, server, start_agent, eventually, attested):
        agent = await start_agent(rebootstrap=RebootstrapSettings(RebootstrapMode.AUTO, timedelta()))
        await server.stop()
        await agent.until(Phase.SERVER_AWAY)
        assert len(attested) == 1
        assert agent.agent._node.bundle is not None

    async def test_a_workload_in_the_servers_place_is_no_reason(self, server, start_agent, eventually, attested):
        """Whoever has an SVID of the trust domain could otherwise make agents give up their bundle."""
        agent = await start_agent(rebootstrap=RebootstrapSettings(RebootstrapMode.AUTO, timedelta()))
        server.server_path = "/web"
        await server.stop()
        await server.start()
        await eventually(lambda: "not authorized" in agent.problem, lambda: agent.problem)
        assert len(attested) == 1


def test_a_server_that_is_trusted_begins_the_delay_anew():
    now = [datetime(2030, 1, 1, tzinfo=UTC)]
    watch = TrustWatch(RebootstrapSettings(RebootstrapMode.AUTO, timedelta(minutes=10)), lambda: now[0])
    stranger = _stranger()
    for _ in range(5):
        watch.failed(stranger, reattestable=True)
        now[0] += timedelta(minutes=9)
        watch.went_well()


def test_attempts_are_counted_until_one_leads_somewhere():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    watch = TrustWatch(RebootstrapSettings(), lambda: now)
    assert [watch.next_attempt().number for _ in range(3)] == [1, 2, 3]
    watch.went_well()
    assert watch.next_attempt() == BootstrapAttempt(1, now)


def test_other_errors_are_no_strangers():
    assert not is_unknown_authority(None)
    assert not is_unknown_authority(ServerUnavailableError("away"))
    assert is_unknown_authority(_stranger())


def _stranger():
    from authsec_sdk.errors import UntrustedPeerError
    from authsec_sdk.tls import PeerVerificationError

    error = ServerUnavailableError("refused")
    error.__cause__ = PeerVerificationError(UntrustedPeerError("unknown"))
    return error
