"""QuickStartSVID does what it says, on asyncio and trio."""

import copy
import os
import pickle
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from cryptography import x509

from authsec_sdk import QuickStartSVID
from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import (
    CallerError,
    InvalidAuthorizerError,
    InvalidEndpointError,
    NotReadyError,
    SourceClosedError,
)
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.tls import PeerVerificationError, mtls_client_context, mtls_server_context, peer_spiffe_id
from authsec_sdk.workloadapi import X509Source

pytestmark = pytest.mark.anyio
Handshake = Callable[[ssl.SSLContext, ssl.SSLContext], tuple[ssl.SSLObject, ssl.SSLObject]]
ID = SpiffeID.parse("spiffe://example.org/workload")


async def test_the_one_line(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA, handshake: Handshake) -> None:
    svid = await QuickStartSVID.initialize(socket_path=fake_workload_api.address)
    assert svid.spiffe_id == str(ID)
    assert svid.x509_svid.id == ID
    client, server = handshake(svid.create_ssl_context_for_client(), svid.create_ssl_context_for_server())
    assert peer_spiffe_id(client) == peer_spiffe_id(server) == ID
    assert x509.load_pem_x509_certificate(svid.certificate.encode()) == svid.x509_svid.leaf
    assert x509.load_pem_x509_certificates(svid.trust_bundle.encode()) == [spiffe_ca.certificate]
    assert svid.expires_at == svid.x509_svid.not_after
    assert svid.status.healthy
    await QuickStartSVID.shutdown()


async def test_the_chain_of_an_intermediate_is_whole(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    fake_workload_api.set(spiffe_ca.intermediate().svid(), bundles=[spiffe_ca.bundle()])
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    assert len(x509.load_pem_x509_certificates(svid.certificate.encode())) == 2
    await QuickStartSVID.shutdown()


async def test_attributes_are_those_of_the_newest_svid(fake_workload_api: FakeWorkloadAPI) -> None:
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    certificate, bundle = svid.certificate, svid.trust_bundle
    fake_workload_api.rotate(root=True)
    with anyio.fail_after(30):
        while svid.certificate == certificate:
            await anyio.sleep(0.005)
    assert svid.trust_bundle.count("BEGIN CERTIFICATE") == 2
    assert bundle.strip() in svid.trust_bundle
    await QuickStartSVID.shutdown()


async def test_a_plain_path_and_the_environment_are_addresses(
    fake_workload_api: FakeWorkloadAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    svid = await QuickStartSVID.initialize(fake_workload_api.address.removeprefix("unix://"))
    assert await QuickStartSVID.initialize() is svid, "whoever gives no address takes what there is"
    await QuickStartSVID.shutdown()
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", fake_workload_api.address)
    svid = await QuickStartSVID.initialize()
    assert await QuickStartSVID.initialize(fake_workload_api.address) is svid
    await QuickStartSVID.shutdown()


async def test_one_stream_for_all_who_initialize_at_once(fake_workload_api: FakeWorkloadAPI) -> None:
    fake_workload_api.stop()
    found: list[QuickStartSVID] = []

    async def initialize() -> None:
        found.append(await QuickStartSVID.initialize(fake_workload_api.address))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(initialize)
        await anyio.sleep(0.05)
        with pytest.raises(CallerError, match="initialize"):
            await QuickStartSVID.get()
        fake_workload_api.start()
    assert len(set(map(id, found))) == 1
    assert fake_workload_api.calls == 1
    assert await QuickStartSVID.get() is found[0]
    await QuickStartSVID.shutdown()


async def test_who_gives_up_first_does_not_take_it_from_the_others(fake_workload_api: FakeWorkloadAPI) -> None:
    fake_workload_api.stop()
    async with anyio.create_task_group() as tasks:
        found: list[QuickStartSVID] = []

        async def patient() -> None:
            found.append(await QuickStartSVID.initialize(fake_workload_api.address, timeout=None))

        tasks.start_soon(patient)
        await anyio.sleep(0.01)
        with pytest.raises(NotReadyError):
            await QuickStartSVID.initialize(fake_workload_api.address, timeout=0.05)
        with anyio.move_on_after(0.05):
            await QuickStartSVID.initialize(fake_workload_api.address)
        fake_workload_api.start()
    assert await QuickStartSVID.get() is found[0]
    await QuickStartSVID.shutdown()


async def test_shutdown_ends_everything_and_may_be_called_again(
    fake_workload_api: FakeWorkloadAPI, handshake: Handshake
) -> None:
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    context = svid.create_ssl_context_for_client()
    await QuickStartSVID.shutdown()
    await QuickStartSVID.shutdown()
    with pytest.raises(CallerError):
        await QuickStartSVID.get()
    with pytest.raises(SourceClosedError):
        svid.spiffe_id  # noqa: B018
    with pytest.raises(ssl.SSLError):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    again = await QuickStartSVID.initialize(fake_workload_api.address)
    assert again is not svid
    await QuickStartSVID.shutdown()


async def test_shutdown_wakes_whoever_still_waits(fake_workload_api: FakeWorkloadAPI) -> None:
    fake_workload_api.stop()
    async with anyio.create_task_group() as tasks:

        async def initialize() -> None:
            with pytest.raises(SourceClosedError):
                await QuickStartSVID.initialize(fake_workload_api.address)

        tasks.start_soon(initialize)
        await anyio.sleep(0.05)
        await QuickStartSVID.shutdown()


@asynccontextmanager
async def foreign_peer(foreign: TestCA, trusts: TestCA) -> AsyncIterator[X509Source]:
    """A workload of another domain which is federated with ours."""
    with FakeWorkloadAPI() as agent:
        agent.issue(foreign, "/service")
        agent.federate(trusts)
        async with X509Source(agent.address) as source:
            yield source


async def test_members_of_the_own_trust_domain_are_accepted_and_nobody_else(
    fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA, handshake: Handshake
) -> None:
    foreign = TestCA("foreign.test")
    fake_workload_api.federate(foreign)
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    async with foreign_peer(foreign, spiffe_ca) as peer:
        server = mtls_server_context(peer, authorize_id(ID))
        with pytest.raises(PeerVerificationError, match=r"trusted are authorities of: example\.org"):
            handshake(svid.create_ssl_context_for_client(), server)
        with pytest.raises(PeerVerificationError, match=r"trusted are authorities of: example\.org"):
            handshake(mtls_client_context(peer, authorize_id(ID)), svid.create_ssl_context_for_server())
        wished = svid.create_ssl_context_for_client(authorizer=authorize_id("spiffe://foreign.test/service"))
        assert peer_spiffe_id(handshake(wished, server)[0]) == SpiffeID.parse("spiffe://foreign.test/service")
    await QuickStartSVID.shutdown()


async def test_the_authorizer_given_decides(fake_workload_api: FakeWorkloadAPI, handshake: Handshake) -> None:
    svid = await QuickStartSVID.initialize(
        fake_workload_api.address, authorizer=authorize_id("spiffe://example.org/payments")
    )
    with pytest.raises(PeerVerificationError, match="payments"):
        handshake(svid.create_ssl_context_for_client(), svid.create_ssl_context_for_server())
    await QuickStartSVID.shutdown()

    async def later(peer: SpiffeID) -> None:
        """Never awaited, so it would refuse nobody."""

    with pytest.raises(InvalidAuthorizerError):
        await QuickStartSVID.initialize(fake_workload_api.address, authorizer=later)  # type: ignore[arg-type]
    with pytest.raises(CallerError):
        await QuickStartSVID.get()


async def test_tls_1_2_and_alpn_by_argument(fake_workload_api: FakeWorkloadAPI, handshake: Handshake) -> None:
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    old = svid.create_ssl_context_for_client(minimum_version=ssl.TLSVersion.TLSv1_2, alpn=["h2"])
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(old, svid.create_ssl_context_for_server())
    server = svid.create_ssl_context_for_server(minimum_version=ssl.TLSVersion.TLSv1_2, alpn=["h2", "http/1.1"])
    client, _ = handshake(old, server)
    assert (client.version(), client.selected_alpn_protocol()) == ("TLSv1.2", "h2")
    await QuickStartSVID.shutdown()


async def test_hint_picker_and_owner_are_passed_on(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    fake_workload_api.issue(spiffe_ca, "/internal", hint="internal")
    svid = await QuickStartSVID.initialize(fake_workload_api.address, hint="internal", expected_agent_uid=os.getuid())
    assert svid.spiffe_id == "spiffe://example.org/internal"
    await QuickStartSVID.shutdown()
    svid = await QuickStartSVID.initialize(fake_workload_api.address, svid_picker=lambda svids: svids[1])
    assert svid.spiffe_id == "spiffe://example.org/internal"
    await QuickStartSVID.shutdown()
    with pytest.raises(NotReadyError, match="fake agent"):
        await QuickStartSVID.initialize(fake_workload_api.address, expected_agent_uid=os.getuid() + 1, timeout=0.2)


async def test_it_belongs_to_its_process(fake_workload_api: FakeWorkloadAPI) -> None:
    svid = await QuickStartSVID.initialize(fake_workload_api.address)
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(svid)
    assert "spiffe://example.org/workload" in repr(svid)
    await QuickStartSVID.shutdown()


async def test_there_is_no_default_address() -> None:
    with pytest.raises(InvalidEndpointError, match="SPIFFE_ENDPOINT_SOCKET"):
        await QuickStartSVID.initialize()
