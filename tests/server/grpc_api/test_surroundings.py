"""What surrounds every call: health, the bundle's mask, audit lines, log phrases, and errors nobody expected."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from authsec_sdk.proto import health_grpc, health_pb2
from authsec_sdk.proto.spire import agent_grpc, agent_pb2, bundle_grpc, bundle_pb2, entry_grpc, entry_pb2, types_pb2
from authsec_sdk.rpc import Channel, GRPCError, Server, Status
from icp_common.telemetry import Telemetry
from icp_server.audit.trail import AuditTrail, render
from icp_server.domain.errors import Internal, NotFound
from icp_server.grpc_api.bundle import BundleAPI
from icp_server.grpc_api.gate import Gate
from icp_server.grpc_api.health import HealthAPI
from icp_server.grpc_api.interceptor import Interceptor
from icp_server.grpc_api.limits import RateLimits
from icp_server.grpc_api.local_peer import LocalPeer
from icp_server.telemetry import ServerCounters

pytestmark = pytest.mark.anyio

Lines = Callable[[], list[str]]


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> Lines:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records if "type=audit" in record.getMessage()]


async def test_the_server_is_healthy_as_a_whole_or_not_asked(live: Any) -> None:
    stub = health_grpc.HealthStub(live.admin)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(GRPCError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="spire.api.server.agent.v1.Agent"))
    assert (caught.value.status, caught.value.message) == (
        Status.INVALID_ARGUMENT,
        "per-service health is not supported",
    )
    with pytest.raises(GRPCError) as caught:
        await stub.Watch(health_pb2.HealthCheckRequest())
    assert caught.value.status is Status.UNIMPLEMENTED


async def test_a_bundle_is_masked(live: Any) -> None:
    stub = bundle_grpc.BundleStub(await live.caller())
    whole = await stub.GetBundle(bundle_pb2.GetBundleRequest())
    assert whole.trust_domain == "example.org"
    assert len(whole.x509_authorities) == 1
    bare = await stub.GetBundle(bundle_pb2.GetBundleRequest(output_mask=types_pb2.BundleMask()))
    assert bare == types_pb2.Bundle(trust_domain="example.org")


async def test_operators_are_named_in_the_audit_trail(start_server: Any, audit: Lines) -> None:
    live = await start_server(audit_log_enabled=True)
    entry = types_pb2.Entry(
        spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/web"),
        parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/node"),
        selectors=[types_pb2.Selector(type="unix", value='uid:1" status=success')],
    )
    stub = entry_grpc.EntryStub(live.admin)
    await stub.BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=[entry, types_pb2.Entry()]))
    with pytest.raises(GRPCError):
        await stub.GetEntry(entry_pb2.GetEntryRequest(id="no such"))
    good, bad, missing = audit()
    for line in (good, bad, missing):
        assert line.startswith("API accessed ")
        assert "authorized_as=local authorized_via=transport" in line
        assert "caller_uid=" in line
        assert "caller_path=/" in line
        assert "request_id=" in line
    assert "status=success" in good
    assert 'spiffe_id="spiffe://example.org/web"' in good
    assert r'selectors="unix:uid:1\" status=success"' in good  # quoted: nobody writes another's outcome
    assert "service=entry.v1.Entry" in good
    assert "status=error status_code=InvalidArgument" in bad
    assert 'entry_id="no such"' in missing
    assert 'status_code=NotFound status_message="entry not found"' in missing


async def test_agents_and_strangers_are_named_in_the_audit_trail(start_server: Any, audit: Lines) -> None:
    live = await start_server(audit_log_enabled=True)
    svid = await live.attest()
    with pytest.raises(GRPCError):
        await agent_grpc.AgentStub(await live.caller()).CountAgents(agent_pb2.CountAgentsRequest())
    await agent_grpc.AgentStub(await live.caller(svid)).PostStatus(agent_pb2.PostStatusRequest())
    token, bundle, *_ = audit()
    assert "method=CreateJoinToken" in token
    assert svid.id.path.rpartition("/")[2] not in token  # the token itself is a secret
    assert "authorized_as=nobody" in bundle
    attested = next(line for line in audit() if "method=AttestAgent" in line)
    assert f'agent_id="{svid.id}"' in attested
    assert "node_attestor_type=join_token" in attested
    refused = next(line for line in audit() if "method=CountAgents" in line)
    assert "status_code=PermissionDenied" in refused
    assert 'caller_addr="127.0.0.1:' in refused
    posted = next(line for line in audit() if "method=PostStatus" in line)
    assert f'caller_id="{svid.id}"' in posted
    assert "authorized_as=agent authorized_via=datastore" in posted


async def test_without_audit_log_there_are_no_audit_lines(live: Any, audit: Lines) -> None:
    await entry_grpc.EntryStub(live.admin).CountEntries(entry_pb2.CountEntriesRequest())
    assert audit() == []


def test_fields_are_rendered_so_that_nothing_can_be_forged() -> None:
    assert render({"b": 1, "a": True, "c": "", "d": "x y", "e": "a\nb", "f": "plain-._/@^+"}) == (
        'a=true b=1 c= d="x y" e="a\\nb" f=plain-._/@^+'
    )


async def test_phrases_that_suites_look_for(live: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    svid = await live.attest()
    agent_id = types_pb2.SPIFFEID(trust_domain="example.org", path=svid.id.path)
    stub = agent_grpc.AgentStub(live.admin)
    await stub.BanAgent(agent_pb2.BanAgentRequest(id=agent_id))
    await stub.DeleteAgent(agent_pb2.DeleteAgentRequest(id=agent_id))
    text = caplog.text
    for phrase in ("Agent attestation request completed", "Agent banned", "Agent deleted"):
        assert phrase in text


class FailingBundles:
    """A service whose store fails in a given way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def get(self) -> Any:
        raise self.error

    async def published(self) -> Any:
        raise self.error


async def _serve(path: Any, error: Exception) -> Server:
    counters = ServerCounters(Telemetry())
    bundles: Any = FailingBundles(error)
    gate = Gate(None, None, frozenset())  # type: ignore[arg-type]
    server = Server(
        [BundleAPI(bundles, RateLimits.configured(attestation=True, signing=True)), HealthAPI(bundles)],
        interceptor=Interceptor(gate, AuditTrail(enabled=True), counters),
        on_accept=lambda peer: LocalPeer.of(peer.socket),
    )
    await server.listen_unix(path)
    return server


async def test_an_unexpected_error_is_told_to_the_operator_alone(
    tmp_path: Any, audit: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        await _serve(tmp_path / "s", ZeroDivisionError("secret detail")),
        Channel.unix(str(tmp_path / "s")) as channel,
    ):
        with pytest.raises(GRPCError) as caught:
            await bundle_grpc.BundleStub(channel).GetBundle(bundle_pb2.GetBundleRequest())
    assert (caught.value.status, caught.value.message) == (Status.INTERNAL, "internal error")
    assert "secret detail" in caplog.text
    (line,) = audit()
    assert "status_code=Internal" in line


async def test_a_refusals_cause_is_told_to_the_operator_alone(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    error = Internal("datastore: failed")
    error.__cause__ = ZeroDivisionError("secret detail")
    async with await _serve(tmp_path / "s", error), Channel.unix(str(tmp_path / "s")) as channel:
        with pytest.raises(GRPCError) as caught:
            await bundle_grpc.BundleStub(channel).GetBundle(bundle_pb2.GetBundleRequest())
    assert (caught.value.status, caught.value.message) == (Status.INTERNAL, "datastore: failed")
    assert "secret detail" in caplog.text


async def test_a_server_without_bundle_is_not_serving(tmp_path: Any) -> None:
    async with await _serve(tmp_path / "s", NotFound("bundle not found")), Channel.unix(str(tmp_path / "s")) as channel:
        answer = await health_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
