"""Every method of every service against every kind of caller, over real sockets, as the table of `access` says."""

from collections.abc import Callable
from typing import Any

import grpclib.client
import pytest

from authsec_sdk.proto import health_grpc, reflection_v1_grpc, reflection_v1alpha_grpc
from authsec_sdk.proto.spire import (
    agent_grpc,
    bundle_grpc,
    debug_grpc,
    entry_grpc,
    entry_pb2,
    localauthority_grpc,
    logger_grpc,
    svid_grpc,
    trustdomain_grpc,
    types_pb2,
)
from authsec_sdk.rpc import Channel, GRPCError, Status, error_details
from authsec_sdk.spiffe import SpiffeID
from icp_server.grpc_api.access import ACCESS, LOCAL_SERVICES, Right

pytestmark = pytest.mark.anyio

STUBS: tuple[Callable[[Any], Any], ...] = (
    agent_grpc.AgentStub,
    bundle_grpc.BundleStub,
    entry_grpc.EntryStub,
    svid_grpc.SVIDStub,
    localauthority_grpc.LocalAuthorityStub,
    trustdomain_grpc.TrustDomainStub,
    health_grpc.HealthStub,
    logger_grpc.LoggerStub,
    debug_grpc.DebugStub,
    reflection_v1_grpc.ServerReflectionStub,
    reflection_v1alpha_grpc.ServerReflectionStub,
)

CALLERS = {
    "no certificate": Right.ANY,
    "workload": Right.ANY,
    "agent": Right.ANY | Right.AGENT,
    "local": Right.ANY | Right.LOCAL,
    "admin by entry": Right.ANY | Right.ADMIN,
    "admin by configuration": Right.ANY | Right.ADMIN,
    "downstream": Right.ANY | Right.DOWNSTREAM,
}

CONFIGURED_ADMIN = "spiffe://example.org/configured-admin"


async def status_of_call(channel: Channel, method: str) -> Status:
    """Call with an empty message and say how it ended."""
    for make in STUBS:
        for call in vars(make(channel)).values():
            if call.name == method:
                return await _status(call)
    raise AssertionError(method)


async def _status(call: Any) -> Status:
    try:
        if isinstance(call, (grpclib.client.UnaryUnaryMethod, grpclib.client.UnaryStreamMethod)):
            await call(call.request_type(), timeout=20)
        else:
            async with call.open(timeout=20) as stream:
                await stream.send_message(call.request_type(), end=True)
                await stream.recv_message()
    except GRPCError as error:
        return Status(error.status)
    return Status.OK


async def _entry(live: Any, path: str, **rights: bool) -> None:
    entry = types_pb2.Entry(
        spiffe_id=types_pb2.SPIFFEID(trust_domain="example.org", path=path),
        parent_id=types_pb2.SPIFFEID(trust_domain="example.org", path="/node"),
        selectors=[types_pb2.Selector(type="unix", value="uid:0")],
        **rights,
    )
    answer = await entry_grpc.EntryStub(live.admin).BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=[entry]))
    assert answer.results[0].status.code == 0


async def _caller(live: Any, kind: str) -> Channel:
    channel: Channel
    match kind:
        case "no certificate":
            channel = await live.caller()
        case "workload":
            channel = await live.caller(await live.mint("/workload"))
        case "agent":
            channel = await live.caller(await live.attest())
        case "local":
            channel = live.admin
        case "admin by entry":
            await _entry(live, "/admin", admin=True)
            channel = await live.caller(await live.mint("/admin"))
        case "admin by configuration":
            channel = await live.caller(await live.mint("/configured-admin"))
        case "downstream":
            await _entry(live, "/downstream", downstream=True)
            channel = await live.caller(await live.mint("/downstream"))
        case _:
            raise AssertionError(kind)
    return channel


@pytest.mark.usefixtures("root_level")
@pytest.mark.parametrize("kind", CALLERS)
async def test_a_caller_may_do_what_the_table_says_and_nothing_else(start_server: Any, kind: str) -> None:
    live = await start_server(admin_ids=frozenset({SpiffeID.parse(CONFIGURED_ADMIN)}))
    channel = await _caller(live, kind)
    for method, right in ACCESS.items():
        status = await status_of_call(channel, method)
        if method.split("/")[1] in LOCAL_SERVICES and kind != "local":
            assert status is Status.UNIMPLEMENTED, method  # not even there over TCP
        elif right & CALLERS[kind]:
            assert status is not Status.PERMISSION_DENIED, method
        else:
            assert status is Status.PERMISSION_DENIED, method


async def test_a_workload_that_calls_as_an_agent_learns_that_it_is_none(live: Any) -> None:
    channel = await live.caller(await live.mint("/workload"))
    with pytest.raises(GRPCError) as caught:
        await entry_grpc.EntryStub(channel).GetAuthorizedEntries(entry_pb2.GetAuthorizedEntriesRequest())
    assert (
        caught.value.message == "authorization denied for method /spire.api.server.entry.v1.Entry/GetAuthorizedEntries"
    )
    details = error_details(caught.value, types_pb2.PermissionDeniedDetails)
    assert details is not None
    assert details.reason == types_pb2.PermissionDeniedDetails.AGENT_NOT_ATTESTED


async def test_a_caller_without_certificate_gets_no_reason(live: Any) -> None:
    with pytest.raises(GRPCError) as caught:
        await entry_grpc.EntryStub(await live.caller()).GetAuthorizedEntries(entry_pb2.GetAuthorizedEntriesRequest())
    assert error_details(caught.value, types_pb2.PermissionDeniedDetails) is None


async def test_an_administrators_id_alone_is_worth_nothing(start_server: Any) -> None:
    """Threat 14: the certificate has the right ID and leads to our bundle, but we have no record of issuing it."""
    live = await start_server()
    before = await live.mint("/admin")  # issued while the ID had no rights, as a downstream CA would at any time
    await _entry(live, "/admin", admin=True)
    method = "/spire.api.server.agent.v1.Agent/CountAgents"
    assert await status_of_call(await live.caller(before), method) is Status.PERMISSION_DENIED
    after = await live.mint("/admin")
    assert await status_of_call(await live.caller(after), method) is Status.OK


async def test_an_administrator_without_its_entry_is_one_no_more(live: Any) -> None:
    await _entry(live, "/admin", admin=True)
    channel = await live.caller(await live.mint("/admin"))
    entries = entry_grpc.EntryStub(channel)
    (entry,) = (await entries.ListEntries(entry_pb2.ListEntriesRequest())).entries
    await entries.BatchDeleteEntry(entry_pb2.BatchDeleteEntryRequest(ids=[entry.id]))
    with pytest.raises(GRPCError, match="authorization denied"):
        await entries.ListEntries(entry_pb2.ListEntriesRequest())


async def test_a_method_nobody_serves_is_unimplemented(live: Any) -> None:
    for path in ("/spire.api.server.trustdomain.v1.TrustDomain/Nothing", "/spire.api.server.logger.v1.Logger/X"):
        call = grpclib.client.UnaryUnaryMethod(live.admin, path, types_pb2.SPIFFEID, types_pb2.SPIFFEID)
        with pytest.raises(GRPCError) as caught:
            await call(types_pb2.SPIFFEID())
        assert caught.value.status is Status.UNIMPLEMENTED
