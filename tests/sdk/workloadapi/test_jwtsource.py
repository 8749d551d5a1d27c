"""The source of JWT-SVIDs on asyncio, on trio and in threads: fetched once, renewed in time, others' validated."""

import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.errors import (
    InvalidEndpointError,
    NoBundleForTrustDomainError,
    NoIdentityError,
    NotReadyError,
    SourceClosedError,
    UnavailableError,
    WorkloadAPIError,
)
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault
from authsec_sdk.rpc import Status
from authsec_sdk.spiffe import JWTSVID, BundleSet, InvalidAudienceError, JWTBundle
from authsec_sdk.telemetry import Event, TokenOutcome, TokenServed
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.testing.tokens import TokenOptions
from authsec_sdk.workloadapi import JWTSource, SourcePhase

pytestmark = pytest.mark.anyio
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def source_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "authsec-sdk-sources"]


def aged() -> TokenOptions:
    """Tokens that were beyond half of their life when they were issued."""
    return TokenOptions(claims={"iat": int(time.time()) - 1000})


@pytest.fixture
def tokens(fake: FakeWorkloadAPI) -> Iterator[JWTSource]:
    """A source that has its first bundles."""
    with JWTSource(fake.address) as source:
        yield source


# --- fetching --------------------------------------------------------------------------------------------------------


async def test_a_token_is_fetched_once(fake: FakeWorkloadAPI) -> None:
    async with JWTSource(fake.address) as source:
        svid = await source.fetch_svid(["payments"])
        assert (svid.id.path, svid.audience) == ("/workload", ("payments",))
        assert await source.fetch_svid(["payments"]) is svid
        assert await source.fetch_svid(("payments", "payments")) is svid
        assert await source.fetch_svid({"payments"}) is svid
        assert fake.tokens.calls == 1


async def test_the_cache_goes_by_subject_and_audience_in_any_order(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    fake.issue(ca, "/other")
    async with JWTSource(fake.address) as source:
        both = await source.fetch_svid(["a", "b"])
        assert await source.fetch_svid(["b", "a", "b"]) is both
        assert await source.fetch_svid(["a"]) is not both
        other = await source.fetch_svid(["a", "b"], subject="spiffe://example.org/other")
        assert other.id.path == "/other"
        assert await source.fetch_svid(["b", "a"], subject=other.id) is other
        assert fake.tokens.calls == 3


async def test_many_at_once_make_one_call(fake: FakeWorkloadAPI) -> None:
    async with JWTSource(fake.address) as source:
        fake.delay(0.2)
        svids: list[JWTSVID] = []

        async def task() -> None:
            svids.append(await source.fetch_svid(["payments"]))

        def thread() -> None:
            svids.append(source.wait_svid(["payments"]))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(task)
                group.start_soon(anyio.to_thread.run_sync, thread)
        assert len(svids) == 40
        assert {id(svid) for svid in svids} == {id(svids[0])}
        assert fake.tokens.calls == 1


async def test_who_leaves_early_does_not_end_the_call_for_others(fake: FakeWorkloadAPI) -> None:
    async with JWTSource(fake.address) as source:
        fake.delay(3)
        with anyio.move_on_after(0.05) as scope:
            await source.fetch_svid(["payments"])
        assert scope.cancelled_caught
        with pytest.raises(NotReadyError, match=r"JWT-SVID from the agent within 0\.05 s"):
            await source.fetch_svid(["payments"], timeout=0.05)
        assert await source.fetch_svid(["payments"])
        assert fake.tokens.calls == 1


def test_threads(tokens: JWTSource, fake: FakeWorkloadAPI) -> None:
    svid = tokens.wait_svid(["payments"])
    assert tokens.wait_svid(["payments"]) is svid
    fake.delay(60)
    with pytest.raises(NotReadyError):
        tokens.wait_svid(["other"], timeout=0.05)


async def test_beyond_half_of_its_life_it_is_used_while_a_newer_one_comes(
    fake: FakeWorkloadAPI, eventually: Eventually
) -> None:
    async with JWTSource(fake.address) as source:
        fake.tokens.options = aged()
        old = await source.fetch_svid(["payments"])
        fake.tokens.options = TokenOptions()
        fake.delay(0.2)
        for _ in range(10):
            assert await source.fetch_svid(["payments"]) is old, "nobody waits"
        await eventually(lambda: fake.tokens.calls == 2)
        with anyio.fail_after(30):
            while await source.fetch_svid(["payments"]) is old:
                await anyio.sleep(0.005)
        await source.fetch_svid(["payments"])
        assert fake.tokens.calls == 2, "one call, for all who asked meanwhile"


async def test_an_outage_is_outlived_and_not_hammered(
    fake: FakeWorkloadAPI, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    async with JWTSource(fake.address) as source:
        fake.tokens.options = aged()
        svid = await source.fetch_svid(["payments"])
        fake.stop()
        await source.fetch_svid(["payments"])
        await eventually(lambda: "no new JWT-SVID" in caplog.text)
        for _ in range(100):
            assert await source.fetch_svid(["payments"]) is svid
        assert caplog.text.count("no new JWT-SVID") == 1
        assert svid.token not in caplog.text
        with pytest.raises(UnavailableError):
            await source.fetch_svid(["other"])
        fake.start()
        assert await source.fetch_svid(["other"])


async def test_in_its_last_seconds_it_is_not_used(fake: FakeWorkloadAPI) -> None:
    fake.tokens.options = TokenOptions(ttl=timedelta(seconds=2), claims={"iat": int(time.time()) - 1000})
    async with JWTSource(fake.address) as source:
        first = await source.fetch_svid(["payments"])
        assert await source.fetch_svid(["payments"]) is not first
        assert fake.tokens.calls == 2


async def test_a_token_of_a_key_that_is_gone_is_gone(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    async with JWTSource(fake.address) as source:
        old = await source.fetch_svid(["payments"])
        fake.tokens.rotate_keys()
        with anyio.fail_after(30):
            while source.jwt_bundles[ca.trust_domain] != ca.tokens.jwt_bundle():
                await anyio.sleep(0.005)
        assert await source.fetch_svid(["payments"]) is old, "its key is still trusted"
        fake.tokens.rotate_keys(remove_old=True)
        with anyio.fail_after(30):
            while (new := await source.fetch_svid(["payments"])) is old:
                await anyio.sleep(0.005)
        assert new.key_id == ca.tokens.jwt_signer.key_id


async def test_a_token_of_a_key_that_is_in_no_bundle_is_not_kept(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    """An agent which serves from its own cache what was revoked, or knows a key before its bundles."""
    async with JWTSource(fake.address) as source:
        ca.tokens.rotate()
        first = await source.fetch_svid(["payments"])
        assert await source.fetch_svid(["payments"]) is not first
        before = source.jwt_bundles
        fake.tokens.send()
        await anyio.to_thread.run_sync(lambda: source.wait(30, newer_than=before))
        kept = await source.fetch_svid(["payments"])
        assert await source.fetch_svid(["payments"]) is kept


async def test_the_cache_is_bounded(fake: FakeWorkloadAPI) -> None:
    async with JWTSource(fake.address, cache_size=2) as source:
        for name in "abcabc":
            await source.fetch_svid([name])
        assert fake.tokens.calls == 6
        await source.fetch_svid(["c"])
        assert fake.tokens.calls == 6


async def test_an_observer_hears_how_each_request_was_met(fake: FakeWorkloadAPI, eventually: Eventually) -> None:
    heard: list[TokenServed] = []

    def observe(event: Event) -> None:
        if isinstance(event, TokenServed):
            heard.append(event)

    fake.tokens.options = aged()
    async with JWTSource(fake.address, observer=observe) as source:
        svid = await source.fetch_svid(["payments"])
        assert await source.fetch_svid(["payments"]) is svid
        await eventually(lambda: len(heard) == 3)
        fake.fail(Status.INVALID_ARGUMENT)
        with pytest.raises(WorkloadAPIError):
            await source.fetch_svid(["another"])
        await eventually(lambda: len(heard) == 4)
    outcomes = [event.outcome for event in heard]
    assert outcomes == [TokenOutcome.FETCHED, TokenOutcome.CACHED, TokenOutcome.REFRESHED, TokenOutcome.FAILED]
    assert [event.spiffe_id for event in heard[:3]] == [svid.id] * 3
    assert heard[0].expires_at == svid.expires_at
    assert heard[0].seconds > 0 == heard[1].seconds
    assert isinstance(heard[3].error, WorkloadAPIError)
    assert svid.token not in repr(heard)


async def test_a_hint_chooses_among_identities(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    fake.issue(ca, "/other", hint="external")
    async with JWTSource(fake.address, hint="external") as source:
        assert (await source.fetch_svid(["payments"])).id.path == "/other"
    async with JWTSource(fake.address, hint="internal") as source:
        with pytest.raises(NoIdentityError, match=r"'internal'.*external.*/other"):
            await source.fetch_svid(["payments"])


@pytest.mark.parametrize("audience", ["payments", b"payments", "", [], [""], None])
async def test_an_audience_that_is_none(fake: FakeWorkloadAPI, audience: Any) -> None:
    async with JWTSource(fake.address) as source:
        with pytest.raises(InvalidAudienceError):
            await source.fetch_svid(audience)
        with pytest.raises(InvalidAudienceError):
            source.wait_svid(audience)
        with pytest.raises(InvalidAudienceError):
            source.validate("token", audience)
        assert fake.tokens.calls == 0


async def test_refusals_are_told_to_each_who_waits(fake: FakeWorkloadAPI) -> None:
    async with JWTSource(fake.address) as source:
        with pytest.raises(NoIdentityError):
            await source.fetch_svid(["payments"], subject="spiffe://example.org/stranger")
        fake.tokens.options = TokenOptions(claims={"aud": ["other"]})
        errors: list[InvalidTokenError] = []

        async def task() -> None:
            with pytest.raises(InvalidTokenError) as caught:
                await source.fetch_svid(["payments"])
            errors.append(caught.value)

        fake.delay(0.1)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(task)
        assert len({id(error) for error in errors}) == 3
        assert {error.fault for error in errors} == {TokenFault.AUDIENCE_MISMATCH}
        fake.tokens.options = TokenOptions()
        assert await source.fetch_svid(["payments"]), "a failure is not cached"


# --- validating ------------------------------------------------------------------------------------------------------


async def test_validation_by_the_newest_bundles(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    foreign = TestCA("foreign.test")
    async with JWTSource(fake.address) as source:
        token = ca.tokens.jwt_token("/peer", ["payments"])
        assert source.validate(token, ["payments", "other"]).id.path == "/peer"
        with pytest.raises(InvalidTokenError) as caught:
            source.validate(token, ["other"])
        assert caught.value.fault is TokenFault.AUDIENCE_MISMATCH
        theirs = foreign.tokens.jwt_token("/peer", ["payments"])
        with pytest.raises(NoBundleForTrustDomainError):
            source.validate(theirs, ["payments"])
        before = source.jwt_bundles
        fake.federate(foreign)
        await anyio.to_thread.run_sync(lambda: source.wait(30, newer_than=before))
        assert source.validate(theirs, ["payments"]).id.trust_domain.name == "foreign.test"


async def test_leeway_is_the_sources(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    token = ca.tokens.jwt_token("/peer", ["payments"], ttl=timedelta(seconds=-20))
    async with JWTSource(fake.address) as source:
        assert source.validate(token, ["payments"])
    async with JWTSource(fake.address, leeway=timedelta(0)) as source:
        with pytest.raises(InvalidTokenError, match="expired"):
            source.validate(token, ["payments"])


async def test_validation_by_the_agent(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    async with JWTSource(fake.address) as source:
        token = ca.tokens.jwt_token("/peer", ["payments"])
        assert (await source.validate_by_agent(token, "payments")).id.path == "/peer"
        assert (await anyio.to_thread.run_sync(source.wait_validate_by_agent, token, "payments")).id.path == "/peer"
        assert fake.tokens.validations == 2
        with pytest.raises(InvalidTokenError) as caught:
            await source.validate_by_agent(token, "other")
        assert caught.value.fault is TokenFault.REFUSED_BY_AGENT
        for wrong in ("", ["payments"]):
            with pytest.raises(InvalidAudienceError):
                await source.validate_by_agent(token, wrong)  # type: ignore[arg-type]


# --- the stream of bundles -------------------------------------------------------------------------------------------


async def test_updates(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    async with JWTSource(fake.address) as source:
        seen: list[BundleSet[JWTBundle]] = []
        with anyio.fail_after(30):
            async for bundles in source.updates():
                seen.append(bundles)
                if len(seen) == 3:
                    break
                fake.tokens.rotate_keys()
        assert len(set(seen)) == 3
        assert source.jwt_bundles is seen[-1]
        assert source.status.updates == 3


async def test_the_last_good_bundles_are_kept(fake: FakeWorkloadAPI, eventually: Eventually) -> None:
    async with JWTSource(fake.address) as source:
        good = source.jwt_bundles
        fake.send_jwt_bundles(b"", keep=False)
        await eventually(lambda: source.status.rejected == 1)
        fake.stop()
        await eventually(lambda: source.status.phase is SourcePhase.UNAVAILABLE)
        assert source.jwt_bundles is good
        assert source.status.healthy
        fake.tokens.identities[0].ca.tokens.rotate()
        fake.start()
        fake.tokens.rotate_keys()
        await eventually(lambda: source.jwt_bundles != good)


async def test_before_the_first_update(silent: FakeWorkloadAPI) -> None:
    source = JWTSource(silent.address)
    for read in (lambda: source.jwt_bundles, lambda: source.validate("a.b.c", ["payments"])):
        with pytest.raises(NotReadyError, match="JWT bundles"):
            read()
    with pytest.raises(NotReadyError):
        await source.ready(0.05)
    with pytest.raises(NotReadyError):
        source.wait(0.05)
    assert not source.status.healthy
    await source.aclose()
    with pytest.raises(NotReadyError):
        async with JWTSource(silent.address, ready_timeout=0.05):
            pytest.fail("not reached")
    with pytest.raises(NotReadyError), JWTSource(silent.address, ready_timeout=0.05):
        pytest.fail("not reached")


async def test_an_agent_that_does_not_take_the_call(fake: FakeWorkloadAPI) -> None:
    fake.fail(Status.UNIMPLEMENTED, "no JWT here")
    source = JWTSource(fake.address)
    with pytest.raises(WorkloadAPIError, match="no JWT here"):
        await source.ready(30)
    await source.aclose()


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_the_end_leaves_nothing_behind(fake: FakeWorkloadAPI, eventually: Eventually) -> None:
    source = JWTSource(fake.address)
    await source.ready(30)
    fake.delay(60)
    failures: list[Exception] = []

    async def task() -> None:
        with pytest.raises(SourceClosedError) as caught:
            await source.fetch_svid(["payments"])
        failures.append(caught.value)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(task)
        await eventually(lambda: fake.calls == 2)
        await source.aclose()
    assert len(failures) == 3
    await source.aclose()
    source.close()
    assert source.status.phase is SourcePhase.CLOSED
    for use in (lambda: source.jwt_bundles, lambda: source.wait_svid(["a"]), source.start, source.wait, source.updates):
        with pytest.raises(SourceClosedError):
            use()
    with pytest.raises(SourceClosedError):
        await source.validate_by_agent("a.b.c", "payments")
    await eventually(lambda: fake.streams == 0 and not source_threads())


def test_threads_that_wait_hear_of_the_end(fake: FakeWorkloadAPI) -> None:
    source = JWTSource(fake.address)
    source.wait(30)
    fake.delay(60)
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            source.wait_svid(["payments"])
        except SourceClosedError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: fake.calls == 2)
    source.close()
    thread.join(30)
    assert len(failures) == 1


def test_a_forked_child_has_what_was_known_and_fetches_for_itself(tokens: JWTSource, fake: FakeWorkloadAPI) -> None:
    cached = tokens.wait_svid(["payments"])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            same = tokens.wait_svid(["payments"]).token == cached.token
            new = tokens.wait_svid(["from the child"], timeout=30).audience == ("from the child",)
            old = tokens.jwt_bundles
            code = 0 if same and new and old else 2
            tokens.close()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert tokens.wait_svid(["payments"]) is cached
    assert tokens.wait_svid(["from the parent"])
    assert fake.tokens.calls == 3


def test_no_file_stays_open(fake: FakeWorkloadAPI) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def use() -> None:
        with JWTSource(fake.address) as source:
            for name in "abc":
                source.wait_svid([name])

    use()
    wait_until(lambda: not source_threads() and fake.streams == 0)
    gc.collect()
    before = descriptors()
    for _ in range(3):
        use()
    wait_until(lambda: not source_threads() and fake.streams == 0)
    gc.collect()
    wait_until(lambda: descriptors() <= before)


def test_where_is_the_agent(fake: FakeWorkloadAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidEndpointError):
        JWTSource()
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", fake.address)
    with JWTSource() as source:
        assert repr(source) == f"<JWTSource {fake.address} connected>"
