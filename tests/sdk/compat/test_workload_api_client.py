"""The client of authsec-sdk 4.x: the calls its README shows, answered as they were, by an agent of the standard."""

import asyncio
from contextlib import aclosing

import anyio
import pytest
from cryptography import x509

from authsec_sdk.errors import CallerError, InvalidEndpointError, NoIdentityError, SpiffeError, UnavailableError
from authsec_sdk.spiffe import WorkloadAPIClient  # type: ignore[attr-defined]  # found when it is asked for
from authsec_sdk.testing import FakeWorkloadAPI, TestCA

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(fake_workload_api: FakeWorkloadAPI) -> WorkloadAPIClient:
    return WorkloadAPIClient(socket_path=fake_workload_api.address)


async def test_fetch_once_says_whether_and_why_not(
    client: WorkloadAPIClient, fake_workload_api: FakeWorkloadAPI
) -> None:
    await client.connect()
    assert (client.has_svid(), client.spiffe_id, client.certificate, client.private_key) == (False, None, None, None)
    assert client.get_mtls_config() is None
    fake_workload_api.deny()
    assert not await client.fetch_x509_svid_once()
    assert isinstance(client.last_error, NoIdentityError)
    fake_workload_api.recover()
    ok = await client.fetch_x509_svid_once()
    if not ok:
        raise client.last_error
    assert client.last_error is None
    assert client.has_svid()
    assert client.spiffe_id == "spiffe://example.org/workload"
    assert client.get_mtls_config() == {
        "cert": client.certificate,
        "key": client.private_key,
        "ca_bundle": client.trust_bundle,
    }
    assert x509.load_pem_x509_certificate(client.certificate.encode())
    fake_workload_api.stop()
    assert not await client.fetch_x509_svid_once()
    assert isinstance(client.last_error, UnavailableError)
    assert client.spiffe_id == "spiffe://example.org/workload", "what is known stays"
    await client.disconnect()


@pytest.mark.parametrize("kind", ["function", "coroutine function", "one that fails", "none"])
async def test_a_stream_tells_of_each_change_and_outlives_what_ends_it(
    client: WorkloadAPIClient, fake_workload_api: FakeWorkloadAPI, kind: str
) -> None:
    told: list[str] = []

    def note(updated: WorkloadAPIClient) -> None:
        told.append(updated.certificate)

    async def note_later(updated: WorkloadAPIClient) -> None:
        await asyncio.sleep(0)
        note(updated)

    def fail(updated: WorkloadAPIClient) -> None:
        note(updated)
        raise RuntimeError("not my day")

    callbacks = {"function": note, "coroutine function": note_later, "one that fails": fail, "none": None}
    await client.start_streaming(on_update=callbacks[kind])
    with pytest.raises(CallerError, match="streams already"):
        await client.start_streaming()
    for turn in range(3):
        before = client.certificate
        if turn:
            fake_workload_api.hang_up()
            fake_workload_api.rotate()
        with anyio.fail_after(30):
            while client.certificate == before or (kind != "none" and len(told) <= turn):
                await anyio.sleep(0.005)
    assert kind == "none" or told[-1] == client.certificate
    await client.disconnect()
    await client.disconnect()
    assert {task for task in asyncio.all_tasks() if "authsec" in task.get_name()} == set()
    await client.start_streaming()
    await client.disconnect()


async def test_tokens(client: WorkloadAPIClient, fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    token = await client.fetch_jwt_svid(["my-api"])
    assert isinstance(token, str)
    result = await client.validate_jwt_svid(token, "my-api")
    assert result["spiffe_id"] == "spiffe://example.org/workload"
    assert result["claims"]["aud"] in (["my-api"], "my-api")
    assert await client.validate_jwt_svid(token, "another") is None
    assert await client.validate_jwt_svid("a.b.c", "another") is None
    with pytest.raises(SpiffeError):
        await client.fetch_jwt_svid(["my-api"], "spiffe://example.org/nobody")
    assert client.last_error is not None
    fake_workload_api.stop()
    with pytest.raises(UnavailableError):
        await client.validate_jwt_svid(token, "my-api")


async def test_bundles(client: WorkloadAPIClient, fake_workload_api: FakeWorkloadAPI, spiffe_ca: TestCA) -> None:
    fake_workload_api.federate(TestCA("other.test"))
    async with aclosing(client.fetch_x509_bundles_stream()) as updates:
        bundles = await anext(updates)
        assert set(bundles) == {"spiffe://example.org", "spiffe://other.test"}
        assert bundles["spiffe://example.org"] == spiffe_ca.bundle().to_der()
        fake_workload_api.rotate(root=True)
        assert (await anext(updates))["spiffe://example.org"] == spiffe_ca.bundle().to_der()


async def test_the_agent_is_named_by_the_caller_or_the_environment(
    fake_workload_api: FakeWorkloadAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidEndpointError, match="SPIFFE_ENDPOINT_SOCKET"):
        WorkloadAPIClient()
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", fake_workload_api.address)
    client = WorkloadAPIClient()
    assert client.socket_path == fake_workload_api.address
    assert await client.fetch_x509_svid_once()
    shown = repr(client) + repr(vars(client))
    assert "PRIVATE" not in shown
    assert "private_key" not in dir(client)
