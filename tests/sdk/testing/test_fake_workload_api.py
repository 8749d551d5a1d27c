"""The fake speaks the real protocol to clients that are not ours, and does what it is told."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
import spiffe

from authsec_sdk.proto import workload_grpc, workload_pb2
from authsec_sdk.rpc import Channel, GRPCError, Status
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import WorkloadAPIClient

HEADER = {"workload.spiffe.io": "true"}


async def first(address: str, **metadata: str) -> workload_pb2.X509SVIDResponse | None:
    """The first message of FetchX509SVID, by a client without any of our source's habits."""
    async with Channel.unix(address.removeprefix("unix://")) as channel:
        async with workload_grpc.SpiffeWorkloadAPIStub(channel).FetchX509SVID.open(metadata=metadata) as stream:
            await stream.send_message(workload_pb2.X509SVIDRequest(), end=True)
            return await stream.recv_message()


def status_of(address: str, metadata: dict[str, str]) -> Status:
    with pytest.raises(GRPCError) as caught:
        asyncio.run(first(address, **metadata))
    return caught.value.status


def test_an_independent_client_understands_it(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    """py-spiffe, over grpcio."""
    fake_workload_api.federate(TestCA("foreign.test"))
    with spiffe.WorkloadApiClient(socket_path=fake_workload_api.address) as client:
        context = client.fetch_x509_context(timeout=20)
        assert str(context.default_svid.spiffe_id) == "spiffe://example.org/workload"
        bundles = client.fetch_x509_bundles(timeout=20)
    names = {bundle.trust_domain.name for bundle in bundles.bundles}
    assert names == {"example.org", "foreign.test"}
    own = bundles.get_bundle_for_trust_domain(spiffe.TrustDomain("example.org"))
    assert own is not None
    assert set(own.x509_authorities) == {spiffe_ca.certificate}


@pytest.mark.parametrize("metadata", [{}, {"workload.spiffe.io": "True"}, {"workload.spiffe.io": "false"}])
def test_calls_without_the_security_header_are_refused(
    fake_workload_api: FakeWorkloadAPI, metadata: dict[str, str]
) -> None:
    assert status_of(fake_workload_api.address, metadata) is Status.INVALID_ARGUMENT


def test_without_a_wit_profile_its_calls_are_unimplemented(fake_workload_api: FakeWorkloadAPI) -> None:
    fake_workload_api.tokens.wit = False

    async def fetch() -> None:
        async with Channel.unix(fake_workload_api.address.removeprefix("unix://")) as channel:
            stub = workload_grpc.SpiffeWorkloadAPIStub(channel)
            async with stub.FetchWITSVID.open(metadata=HEADER) as stream:
                await stream.send_message(workload_pb2.WITSVIDRequest(), end=True)
                await stream.recv_message()

    with pytest.raises(GRPCError) as caught:
        asyncio.run(fetch())
    assert caught.value.status is Status.UNIMPLEMENTED


def test_deny_fail_and_recover(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    fake_workload_api.deny()
    assert status_of(fake_workload_api.address, HEADER) is Status.PERMISSION_DENIED
    fake_workload_api.fail(Status.UNAVAILABLE)
    assert status_of(fake_workload_api.address, HEADER) is Status.UNAVAILABLE
    fake_workload_api.recover()
    assert asyncio.run(first(fake_workload_api.address, **HEADER)) is not None
    fake_workload_api.deny()
    fake_workload_api.rotate()
    assert asyncio.run(first(fake_workload_api.address, **HEADER)) is not None, "what is set is served"


def test_rotation_issues_everything_again(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    fake_workload_api.issue(TestCA("second.test"), "/other", hint="x")
    before = asyncio.run(first(fake_workload_api.address, **HEADER))
    fake_workload_api.rotate(root=True)
    after = asyncio.run(first(fake_workload_api.address, **HEADER))
    assert before is not None
    assert after is not None
    assert [svid.spiffe_id for svid in before.svids] == [svid.spiffe_id for svid in after.svids]
    assert [svid.hint for svid in after.svids] == ["", "x"]
    for old, new in zip(before.svids, after.svids, strict=True):
        assert old.x509_svid_key != new.x509_svid_key
        assert len(new.bundle) > len(old.bundle)
    fake_workload_api.remove_root()
    last = asyncio.run(first(fake_workload_api.address, **HEADER))
    assert last is not None
    assert len(last.svids[0].bundle) < len(after.svids[0].bundle)


def test_what_was_set_as_it_is_cannot_be_issued_again(fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    fake_workload_api.set(spiffe_ca.svid("/exact"), bundles=[spiffe_ca.bundle()])
    for method in (fake_workload_api.rotate, fake_workload_api.remove_root):
        with pytest.raises(RuntimeError, match="nothing was issued"):
            method()


def test_it_can_be_gone_and_back_at_the_same_address(spiffe_ca: TestCA, tmp_path: Path) -> None:
    for fake in (FakeWorkloadAPI(), FakeWorkloadAPI(tcp=True), FakeWorkloadAPI(f"@authsec-fake-{os.getpid()}")):
        with fake:
            fake.issue(spiffe_ca)
            address = fake.address
            fake.stop()
            fake.stop()
            if address.startswith("unix://"):
                assert not Path(address.removeprefix("unix://")).exists()
            fake.start()
            fake.start()
            assert fake.address == address
            context = asyncio.run(WorkloadAPIClient(address).fetch_x509_context(timeout=20))
            assert context.svid.id.path == "/workload"


def test_what_was_issued_before_it_began_is_served(spiffe_ca: TestCA) -> None:
    fake = FakeWorkloadAPI()
    fake.issue(spiffe_ca)
    with pytest.raises(RuntimeError, match="context manager"):
        fake.start()
    with fake:
        assert asyncio.run(first(fake.address, **HEADER)) is not None


def test_nothing_is_left_behind(spiffe_ca: TestCA) -> None:
    before = threading.active_count()
    with FakeWorkloadAPI() as fake:
        path = Path(fake.address.removeprefix("unix://"))
        assert path.is_socket()
        assert path.parent.stat().st_mode & 0o077 == 0
    assert not path.parent.exists()
    assert threading.active_count() == before


def test_waiting_for_what_does_not_come_fails(fake_workload_api: FakeWorkloadAPI) -> None:
    with pytest.raises(TimeoutError):
        fake_workload_api.wait_until(lambda: False, timeout=0.05)
