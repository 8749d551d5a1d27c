"""The client's calls about tokens, against a real socket."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from authsec_sdk.errors import CallerError, NoIdentityError, UnavailableError, WorkloadAPIError
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.proto import workload_pb2
from authsec_sdk.rpc import Status
from authsec_sdk.spiffe import BundleSet, InvalidAudienceError, SpiffeID, UnprovenWIT
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.testing.tokens import TokenOptions
from authsec_sdk.workloadapi import WorkloadAPIClient

pytestmark = pytest.mark.anyio
ID = SpiffeID.parse("spiffe://example.org/workload")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(fake: FakeWorkloadAPI) -> AsyncIterator[WorkloadAPIClient]:
    async with WorkloadAPIClient(fake.address) as client:
        yield client


async def test_fetch(client: WorkloadAPIClient, fake: FakeWorkloadAPI) -> None:
    fake.issue(TestCA("second.test"), "/other", hint="external")
    svids = await client.fetch_jwt_svids(["payments"], timeout=10)
    assert [(str(svid.id), svid.hint, svid.audience) for svid in svids] == [
        ("spiffe://example.org/workload", "", ("payments",)),
        ("spiffe://second.test/other", "external", ("payments",)),
    ]
    assert (await client.fetch_jwt_svid({"payments", "more"}, timeout=10)).audience == ("more", "payments")
    only = await client.fetch_jwt_svids(["payments"], subject="spiffe://second.test/other", timeout=10)
    assert [svid.id.path for svid in only] == ["/other"]
    assert (await client.fetch_jwt_svid(["payments"], subject=ID, timeout=10)).id == ID


async def test_a_subject_that_is_not_ours(client: WorkloadAPIClient) -> None:
    with pytest.raises(NoIdentityError):
        await client.fetch_jwt_svid(["payments"], subject="spiffe://example.org/other", timeout=10)


@pytest.mark.parametrize("audience", ["payments", "", [], [""], None, [["a"]]])
async def test_an_audience_that_is_none_is_not_even_sent(
    client: WorkloadAPIClient, fake: FakeWorkloadAPI, audience: Any
) -> None:
    with pytest.raises(InvalidAudienceError):
        await client.fetch_jwt_svid(audience, timeout=10)
    assert fake.calls == 0


@pytest.mark.parametrize("audience", ["", ["payments"], None])
async def test_to_validate_takes_one_name(client: WorkloadAPIClient, fake: FakeWorkloadAPI, audience: Any) -> None:
    with pytest.raises(InvalidAudienceError):
        await client.validate_jwt_svid("token", audience, timeout=10)
    assert fake.calls == 0


async def test_the_agent_validates(client: WorkloadAPIClient, ca: TestCA) -> None:
    token = ca.tokens.jwt_token("/peer", ["payments"], claims={"x": 1})
    svid = await client.validate_jwt_svid(token, "payments", timeout=10)
    assert (svid.id.path, svid.claims["x"]) == ("/peer", 1)


async def test_of_foreign_tokens_the_agent_vouches_for_less(client: WorkloadAPIClient, fake: FakeWorkloadAPI) -> None:
    foreign = TestCA("foreign.test")
    fake.federate(foreign)
    token = foreign.tokens.jwt_token("/peer", ["payments"], claims={"role": "admin"})
    svid = await client.validate_jwt_svid(token, "payments", timeout=10)
    assert set(svid.claims) == {"sub", "aud", "exp"}


async def test_the_agent_refuses(client: WorkloadAPIClient, ca: TestCA) -> None:
    stranger = TestCA("example.org")
    for token in (
        ca.tokens.jwt_token("/peer", ["other"]),
        stranger.tokens.jwt_token("/peer", ["payments"]),
        TestCA("unknown.test").tokens.jwt_token("/peer", ["payments"]),
        "no token",
        "",
    ):
        with pytest.raises(InvalidTokenError, match="the agent refused the token") as caught:
            await client.validate_jwt_svid(token, "payments", timeout=10)
        assert caught.value.fault is TokenFault.REFUSED_BY_AGENT


async def test_what_the_agent_sends_wrongly(client: WorkloadAPIClient, fake: FakeWorkloadAPI) -> None:
    fake.tokens.options = TokenOptions(without=["exp"])
    with pytest.raises(InvalidTokenError, match="exp"):
        await client.fetch_jwt_svid(["payments"], timeout=10)
    fake.tokens.answer = workload_pb2.JWTSVIDResponse()
    with pytest.raises(NoIdentityError):
        await client.fetch_jwt_svid(["payments"], timeout=10)
    fake.tokens.answer = b"\xff\xff\xff\xff"
    with pytest.raises(UnavailableError):
        await client.fetch_jwt_svid(["payments"], timeout=10)


async def test_agents_that_deny_hang_or_are_away(client: WorkloadAPIClient, fake: FakeWorkloadAPI) -> None:
    fake.deny()
    with pytest.raises(NoIdentityError):
        await client.fetch_jwt_svid(["payments"], timeout=10)
    fake.fail(Status.UNIMPLEMENTED)
    with pytest.raises(WorkloadAPIError):
        await client.fetch_jwt_svid(["payments"], timeout=10)
    fake.fail(Status.UNAVAILABLE)
    with pytest.raises(UnavailableError):
        await client.validate_jwt_svid("a.b.c", "payments", timeout=10)
    fake.recover()
    fake.delay(60)
    with pytest.raises(UnavailableError, match="too long"):
        await client.fetch_jwt_svid(["payments"], timeout=0.2)
    fake.stop()
    with pytest.raises(UnavailableError, match="no socket"):
        await client.fetch_jwt_svid(["payments"], timeout=10)
    await client.aclose()
    with pytest.raises(CallerError, match="closed"):
        await client.fetch_jwt_svid(["payments"])


async def test_bundles(client: WorkloadAPIClient, fake: FakeWorkloadAPI, ca: TestCA) -> None:
    foreign = TestCA("foreign.test")
    fake.federate(foreign)
    expected = BundleSet.of(ca.tokens.jwt_bundle(), foreign.tokens.jwt_bundle())
    assert await client.fetch_jwt_bundles(timeout=10) == expected
    with anyio.fail_after(30):
        async with aclosing(client.watch_jwt_bundles()) as updates:
            assert await anext(updates) == expected
            fake.tokens.rotate_keys()
            fake.tokens.rotate_keys(remove_old=True)
            async for update in updates:
                if update[ca.trust_domain] == ca.tokens.jwt_bundle():
                    break


async def test_an_independent_client_understands_the_fake(fake: FakeWorkloadAPI) -> None:
    """py-spiffe, over grpcio."""
    import spiffe

    def fetch() -> tuple[str, set[str]]:
        with spiffe.WorkloadApiClient(socket_path=fake.address) as client:
            svid = client.fetch_jwt_svid({"payments"}, timeout=20)
            bundles = client.fetch_jwt_bundles(timeout=20)
            checked = client.validate_jwt_svid(svid.token, "payments", timeout=20)
            assert checked.spiffe_id == svid.spiffe_id
            return str(svid.spiffe_id), {bundle.trust_domain.name for bundle in bundles.bundles}

    assert await anyio.to_thread.run_sync(fetch) == ("spiffe://example.org/workload", {"example.org"})


# --- WIT-SVIDs -------------------------------------------------------------------------------------------------------


async def test_wit_svids_and_their_bundles(client: WorkloadAPIClient, fake: FakeWorkloadAPI, ca: TestCA) -> None:
    fake.issue(ca, "/other", hint="external")
    svids = await client.fetch_wit_svids(timeout=10)
    assert [(svid.id.path, svid.hint) for svid in svids] == [("/workload", ""), ("/other", "external")]
    bundles = await client.fetch_wit_bundles(timeout=10)
    assert bundles == BundleSet.of(ca.tokens.wit_bundle())
    wit = UnprovenWIT.parse_and_validate(svids[0].token, bundles, now=datetime.now(UTC))
    assert wit.confirmation_key == svids[0].private_key.public_key()


async def test_wit_updates(client: WorkloadAPIClient, fake: FakeWorkloadAPI, ca: TestCA) -> None:
    with anyio.fail_after(30):
        async with aclosing(client.watch_wit_svids()) as updates, aclosing(client.watch_wit_bundles()) as bundles:
            first, before = await anext(updates), await anext(bundles)
            fake.tokens.rotate_keys()
            assert (await anext(updates))[0].key_id != first[0].key_id
            assert before != await anext(bundles) == BundleSet.of(ca.tokens.wit_bundle())


async def test_a_refused_wit_update_leaves_the_stream_open(client: WorkloadAPIClient, fake: FakeWorkloadAPI) -> None:
    with anyio.fail_after(30):
        async with aclosing(client.watch_wit_svids()) as updates:
            first = await anext(updates)
            fake.send_wit_svids(workload_pb2.WITSVIDResponse(svids=[workload_pb2.WITSVID(spiffe_id="x")]), keep=False)
            fake.tokens.rotate_keys()
            assert (await anext(updates))[0].token != first[0].token


async def test_an_agent_without_the_profile_is_not_asked_again(
    client: WorkloadAPIClient, fake: FakeWorkloadAPI
) -> None:
    fake.tokens.wit = False
    with pytest.raises(WorkloadAPIError) as caught:
        await client.fetch_wit_svids(timeout=10)
    assert caught.value.status == Status.UNIMPLEMENTED.value
    with pytest.raises(WorkloadAPIError):
        await client.fetch_wit_bundles(timeout=10)
    calls = fake.calls
    with anyio.fail_after(30), pytest.raises(WorkloadAPIError):
        async with aclosing(client.watch_wit_svids()) as updates:
            await anext(updates)
    assert fake.calls == calls + 1
