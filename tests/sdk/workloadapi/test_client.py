"""The client on asyncio: one fetch, or a watch without end, against a real socket."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from authsec_sdk.errors import (
    CallerError,
    InvalidBundleError,
    InvalidEndpointError,
    NoIdentityError,
    SpiffeError,
    UnavailableError,
    WorkloadAPIError,
)
from authsec_sdk.rpc import Status
from authsec_sdk.spiffe import BundleSet, SpiffeID, TrustDomain
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import UnexpectedOwnerError, UpdateLimits, WorkloadAPIClient
from authsec_sdk.workloadapi.backoff import Backoff
from authsec_sdk.workloadapi.connection import open_channel
from authsec_sdk.workloadapi.failure import FailureKind
from authsec_sdk.workloadapi.stream import x509_updates
from authsec_sdk.workloadapi.watch import Call, Connecting, Lost, Received, watch

pytestmark = pytest.mark.anyio
ID = SpiffeID.parse("spiffe://example.org/workload")
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(fake: FakeWorkloadAPI) -> AsyncIterator[WorkloadAPIClient]:
    async with WorkloadAPIClient(fake.address) as client:
        yield client


async def test_fetch(client: WorkloadAPIClient, fake: FakeWorkloadAPI, ca: TestCA) -> None:
    context = await client.fetch_x509_context(timeout=10)
    assert context.svid.id == ID
    assert context.bundles == BundleSet.of(ca.bundle())
    assert await client.fetch_x509_bundles(timeout=10) == context.bundles
    fake.wait_until(lambda: fake.streams == 0)


async def test_everything_of_a_rich_update_arrives(client: WorkloadAPIClient, fake: FakeWorkloadAPI) -> None:
    fake.issue(TestCA("second.test").intermediate(), "/other", hint="external")
    fake.federate(TestCA("foreign.test"))
    context = await client.fetch_x509_context(timeout=10)
    assert [(str(svid.id), svid.hint, len(svid.certificates)) for svid in context.svids] == [
        ("spiffe://example.org/workload", "", 1),
        ("spiffe://second.test/other", "external", 2),
    ]
    assert {domain.name for domain in context.bundles} == {"example.org", "second.test", "foreign.test"}


@pytest.mark.parametrize("place", ["tcp", "abstract"])
async def test_other_kinds_of_address(place: str, ca: TestCA) -> None:
    fake = FakeWorkloadAPI(tcp=True) if place == "tcp" else FakeWorkloadAPI(f"@authsec-test-{os.getpid()}")
    with fake:
        fake.issue(ca)
        assert (await WorkloadAPIClient(fake.address).fetch_x509_context(timeout=10)).svid.id.path == "/workload"


async def test_the_environment_names_the_agent(fake: FakeWorkloadAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original never read SPIFFE_ENDPOINT_SOCKET and had three default sockets."""
    with pytest.raises(InvalidEndpointError, match="SPIFFE_ENDPOINT_SOCKET"):
        WorkloadAPIClient()
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", fake.address)
    assert (await WorkloadAPIClient().fetch_x509_context(timeout=10)).svid.id == ID


async def test_a_call_without_the_security_header_is_what_agents_refuse(fake: FakeWorkloadAPI) -> None:
    """The fake refuses it, so every other test here proves that the header is sent."""
    from authsec_sdk.proto import workload_grpc, workload_pb2
    from authsec_sdk.rpc import Channel, GRPCError

    async with Channel.unix(fake.address.removeprefix("unix://")) as channel:
        with pytest.raises(GRPCError, match="security header missing"):
            await workload_grpc.SpiffeWorkloadAPIStub(channel).FetchX509SVID(workload_pb2.X509SVIDRequest())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.PERMISSION_DENIED, NoIdentityError),
        (Status.UNIMPLEMENTED, WorkloadAPIError),
        (Status.INVALID_ARGUMENT, WorkloadAPIError),
        (Status.UNAVAILABLE, UnavailableError),
        (Status.CANCELLED, UnavailableError),
        (Status.OK, UnavailableError),
    ],
)
async def test_fetch_tells_refusals_apart(
    client: WorkloadAPIClient, fake: FakeWorkloadAPI, status: Status, error: type[SpiffeError]
) -> None:
    fake.fail(status, "because")
    for fetch in (client.fetch_x509_context, client.fetch_x509_bundles):
        with pytest.raises(error) as caught:
            await fetch(timeout=10)
        assert status is Status.OK or "because" in str(caught.value)


async def test_fetch_from_nowhere_says_so(tmp_path: Path) -> None:
    client = WorkloadAPIClient(f"unix://{tmp_path}/no.sock")
    with pytest.raises(UnavailableError, match="no socket at this path"):
        await client.fetch_x509_context()
    Path(tmp_path / "no.sock").touch()
    with pytest.raises(UnavailableError, match="nobody listens"):
        await client.fetch_x509_context()


async def test_fetch_has_a_deadline(silent: FakeWorkloadAPI) -> None:
    with pytest.raises(UnavailableError, match="took too long"):
        await WorkloadAPIClient(silent.address).fetch_x509_context(timeout=0.2)
    silent.wait_until(lambda: silent.streams == 0)


async def test_fetch_refuses_what_breaks_the_rules(client: WorkloadAPIClient, fake: FakeWorkloadAPI) -> None:
    fake.send_bundles(b"")
    with pytest.raises(InvalidBundleError, match="without any bundle"):
        await client.fetch_x509_bundles(timeout=10)
    fake.garbage(keep=True)
    for fetch in (client.fetch_x509_context, client.fetch_x509_bundles):
        with pytest.raises(UnavailableError, match="unmarshalling"):
            await fetch(timeout=10)


async def test_an_oversize_message_is_refused_unread(fake: FakeWorkloadAPI) -> None:
    fake.send(b"\x12" + b"\xff" * 1_000_000)
    client = WorkloadAPIClient(fake.address, limits=UpdateLimits(message_bytes=100_000))
    with pytest.raises(UnavailableError, match="RESOURCE_EXHAUSTED"):
        await client.fetch_x509_context(timeout=10)


async def test_who_listens_is_checked_before_anything_is_said(fake: FakeWorkloadAPI) -> None:
    """Threat model 13: a socket squatted in a folder others may write to."""
    wrong = WorkloadAPIClient(fake.address, expected_agent_uid=os.getuid() + 1)
    with pytest.raises(UnexpectedOwnerError, match=f"user {os.getuid()} listens") as caught:
        await wrong.fetch_x509_context(timeout=10)
    assert "fake agent" in str(caught.value)
    assert fake.calls == 0
    right = WorkloadAPIClient(fake.address, expected_agent_uid=os.getuid())
    assert (await right.fetch_x509_context(timeout=10)).svid.id == ID


async def test_who_listens_cannot_be_told_over_tcp(ca: TestCA) -> None:
    with FakeWorkloadAPI(tcp=True) as fake:
        fake.issue(ca)
        with pytest.raises(UnexpectedOwnerError, match="use a Unix socket"):
            await WorkloadAPIClient(fake.address, expected_agent_uid=0).fetch_x509_context(timeout=10)


@pytest.mark.parametrize("noise", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64, b"", os.urandom(4096)])
async def test_whatever_answers_that_is_no_agent_is_an_error_and_never_a_hang(
    silent: FakeWorkloadAPI, noise: bytes
) -> None:
    path = silent.address.removeprefix("unix://") + "2"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)

        async def answer() -> None:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            with connection:
                await asyncio.get_running_loop().sock_sendall(connection, noise)

        answering = asyncio.create_task(answer())
        with pytest.raises(UnavailableError):
            await WorkloadAPIClient(f"unix://{path}").fetch_x509_context(timeout=20)
        await answering


async def test_watch_yields_each_change_once(
    client: WorkloadAPIClient, fake: FakeWorkloadAPI, eventually: Eventually
) -> None:
    async with asyncio.timeout(30), aclosing(client.watch_x509_contexts()) as contexts:
        first = await anext(contexts)
        assert first.svid.id == ID
        fake.rotate(root=True)
        second = await anext(contexts)
        assert len(second.bundles[TrustDomain("example.org")].authorities) == 2
        fake.hang_up()  # and the same again on a new stream, which is no change
        next_one = asyncio.create_task(anext(contexts))  # type: ignore[arg-type]  # typeshed: Awaitable, no Coroutine
        await eventually(lambda: fake.calls == 2 and fake.streams == 1)
        fake.remove_root()
        third = await next_one
        assert len(third.bundles[TrustDomain("example.org")].authorities) == 1
    fake.wait_until(lambda: fake.streams == 0)


async def test_watch_of_bundles(client: WorkloadAPIClient, fake: FakeWorkloadAPI) -> None:
    async with asyncio.timeout(30), aclosing(client.watch_x509_bundles()) as bundles:
        assert len(await anext(bundles)) == 1
        fake.federate(TestCA("foreign.test"))
        assert len(await anext(bundles)) == 2


async def test_watch_lives_through_everything_but_a_refusal(client: WorkloadAPIClient, fake: FakeWorkloadAPI) -> None:
    async with asyncio.timeout(60), aclosing(client.watch_x509_contexts()) as contexts:
        await anext(contexts)
        for trouble in (fake.hang_up, fake.end_streams, fake.garbage, fake.stop, lambda: fake.send(b"", keep=False)):
            trouble()
            fake.start()
            fake.rotate()
            await anext(contexts)
        fake.deny()
        fake.wait_until(lambda: fake.streams == 0)
        fake.recover()
        fake.rotate()
        await anext(contexts)
        fake.fail(Status.UNIMPLEMENTED, "older than the standard")
        with pytest.raises(WorkloadAPIError, match="older than the standard") as caught:
            await anext(contexts)
        assert caught.value.status == Status.UNIMPLEMENTED.value


async def test_the_watch_below_heals_even_after_a_refusal(fake: FakeWorkloadAPI) -> None:
    """An agent that is upgraded in place must not leave sources behind that gave up on its predecessor."""
    limits = UpdateLimits()
    client = WorkloadAPIClient(fake.address)
    call = Call(
        client.endpoint,
        lambda: open_channel(client.endpoint, limits),
        lambda channel: x509_updates(channel, limits),
        dict.fromkeys(FailureKind, Backoff(0.01, 0.02)),
    )
    fake.fail(Status.UNIMPLEMENTED)
    async with asyncio.timeout(30), aclosing(watch(call)) as events:
        assert await anext(events) == Connecting(1)
        lost = await anext(events)
        assert isinstance(lost, Lost)
        assert lost.failure.kind is FailureKind.REFUSED
        fake.recover()
        assert await anext(events) == Connecting(2)
        assert isinstance(await anext(events), Received)


async def test_a_closed_client_refuses(client: WorkloadAPIClient) -> None:
    await client.aclose()
    await client.aclose()
    with pytest.raises(CallerError, match="closed"):
        await client.fetch_x509_context()
    with pytest.raises(CallerError, match="closed"):
        await anext(client.watch_x509_contexts())


def test_outside_of_asyncio_it_says_what_to_use(fake: FakeWorkloadAPI) -> None:
    import trio

    with pytest.raises(CallerError, match="X509Source"):
        trio.run(WorkloadAPIClient(fake.address).fetch_x509_context)
