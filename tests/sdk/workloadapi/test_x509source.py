"""The source on asyncio, on trio and in threads: read without blocking, wait without missing anything."""

import os
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest

from authsec_sdk.errors import CallerError, InvalidEndpointError, NotReadyError, SourceClosedError
from authsec_sdk.spiffe import BundleSet, SpiffeID, X509Context
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import SourcePhase, X509Source

pytestmark = pytest.mark.anyio
ID = SpiffeID.parse("spiffe://example.org/workload")
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


def source_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "authsec-sdk-sources"]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- tasks -----------------------------------------------------------------------------------------------------------


async def test_async_with_waits_for_the_first_identity(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    async with X509Source(fake.address) as source:
        assert source.x509_context.svid.id == ID
        assert source.x509_context.bundles == BundleSet.of(ca.bundle())
        assert await source.ready() is source.x509_context
        assert await source.ready(timeout=0) is source.x509_context
    with pytest.raises(SourceClosedError):
        source.x509_context  # noqa: B018


async def test_an_agent_that_is_not_there_yet_is_waited_for(fake: FakeWorkloadAPI) -> None:
    fake.stop()
    async with anyio.create_task_group() as tasks:
        source = X509Source(fake.address)
        source.start()

        async def arrives() -> None:
            assert (await source.ready()).svid.id == ID
            await source.aclose()

        tasks.start_soon(arrives)
        await anyio.sleep(0.1)
        fake.start()


async def test_a_busy_or_blocked_event_loop_does_not_delay_a_rotation(fake: FakeWorkloadAPI) -> None:
    async with X509Source(fake.address) as source:
        before = source.x509_context
        fake.rotate()
        deadline = time.monotonic() + 30
        while source.x509_context is before:  # no await in this loop: this task lets nothing else run
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert source.x509_context.svid != before.svid


async def test_reading_before_the_first_update_says_why(silent: FakeWorkloadAPI) -> None:
    source = X509Source(silent.address)
    with pytest.raises(NotReadyError, match="has not answered"):
        source.x509_context  # noqa: B018
    assert source.status.phase in (SourcePhase.NEW, SourcePhase.CONNECTING)
    await source.aclose()


async def test_a_timeout_carries_the_last_cause(fake: FakeWorkloadAPI, eventually: Eventually) -> None:
    fake.deny("no identity issued")
    source = X509Source(fake.address)
    source.start()
    await eventually(lambda: source.status.last_error is not None)
    with pytest.raises(NotReadyError, match=r"within 0\.01 s: .*no identity issued") as caught:
        await source.ready(timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.__cause__ is source.status.last_error
    await source.aclose()


async def test_a_failed_async_with_leaves_nothing_behind(silent: FakeWorkloadAPI, eventually: Eventually) -> None:
    source = X509Source(silent.address, ready_timeout=0.2)
    with pytest.raises(NotReadyError):
        async with source:
            pytest.fail("not reached")
    assert source.status.phase is SourcePhase.CLOSED
    await eventually(lambda: silent.streams == 0 and not source_threads())


async def test_updates_yield_the_newest_to_every_task(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    async with X509Source(fake.address) as source:
        seen: dict[int, list[X509Context]] = {number: [] for number in range(5)}

        async def follow(number: int) -> None:
            async for context in source.updates():
                seen[number].append(context)
                if len(context.svids) == 2:
                    return
                await anyio.sleep(0.003 * number)  # the slow ones miss some in between

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in seen:
                    tasks.start_soon(follow, number)
                for _ in range(20):
                    before = source.x509_context
                    fake.rotate()
                    while source.x509_context is before:
                        await anyio.sleep(0.001)
                fake.issue(ca, "/last")
        for contexts in seen.values():
            assert contexts[-1] is source.x509_context
            assert len(set(map(id, contexts))) == len(contexts), "no context comes twice"


async def test_updates_end_with_the_source(fake: FakeWorkloadAPI) -> None:
    source = X509Source(fake.address)
    ended = anyio.Event()
    began = anyio.Event()

    async def follow() -> None:
        async for _ in source.updates():
            began.set()
        ended.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await began.wait()
            await source.aclose()
            await ended.wait()
    with pytest.raises(SourceClosedError):
        source.updates()


async def test_waiting_can_be_cancelled(silent: FakeWorkloadAPI) -> None:
    source = X509Source(silent.address)
    with anyio.move_on_after(0.05):
        await source.ready()
    with anyio.move_on_after(0.05):
        async for _ in source.updates():
            pytest.fail("there was nothing to yield")
    silent.issue(TestCA("example.org"))  # and whoever comes next is served
    with anyio.fail_after(30):
        assert (await source.ready()).svid.id == ID
    await source.aclose()


async def test_close_wakes_whoever_waits(silent: FakeWorkloadAPI) -> None:
    source = X509Source(silent.address)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(SourceClosedError):
                    await source.ready()

            for _ in range(3):
                tasks.start_soon(wait)
            await anyio.sleep(0.02)
            await source.aclose()
            await source.aclose()


async def test_a_source_can_be_followed_from_loops_that_came_and_went(fake: FakeWorkloadAPI) -> None:
    """A waiter whose event loop is gone must not hurt the others, nor the thread that wakes them."""
    import asyncio

    with X509Source(fake.address) as source:

        def abandoned() -> None:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(anext(source.updates()))
            waiting = loop.create_task(follow())
            loop.run_until_complete(asyncio.sleep(0.02))
            loop.close()
            waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # this is what the test is about
            keep.append(waiting)

        async def follow() -> None:
            async for _ in source.updates():
                pass

        keep: list[object] = []
        thread = threading.Thread(target=abandoned)
        thread.start()
        thread.join()
        before = source.x509_context
        fake.rotate()
        with anyio.fail_after(30):
            while source.x509_context is before:
                await anyio.sleep(0.005)
            fake.rotate()


# --- threads ---------------------------------------------------------------------------------------------------------


def test_with_waits_for_the_first_identity(fake: FakeWorkloadAPI) -> None:
    with X509Source(fake.address) as source:
        assert source.x509_context.svid.id == ID
        assert source.wait(timeout=0) is source.x509_context
    with pytest.raises(SourceClosedError):
        source.wait()


def test_threads_wait_for_the_next_context(source: X509Source, fake: FakeWorkloadAPI) -> None:
    before = source.x509_context
    got: list[X509Context] = []
    threads = [threading.Thread(target=lambda: got.append(source.wait(30, newer_than=before))) for _ in range(5)]
    for thread in threads:
        thread.start()
    fake.rotate()
    for thread in threads:
        thread.join(30)
    assert got == [source.x509_context] * 5
    with pytest.raises(NotReadyError, match=r"within 0\.05 s"):
        source.wait(0.05, newer_than=source.x509_context)


def test_a_failed_with_leaves_nothing_behind(silent: FakeWorkloadAPI) -> None:
    with pytest.raises(NotReadyError), X509Source(silent.address, ready_timeout=0.1):
        pytest.fail("not reached")
    wait_until(lambda: silent.streams == 0 and not source_threads())


def test_all_sources_share_one_thread_which_ends_with_the_last(fake: FakeWorkloadAPI) -> None:
    wait_until(lambda: not source_threads())
    with X509Source(fake.address), X509Source(fake.address), X509Source(fake.address):
        assert len(source_threads()) == 1
        assert source_threads()[0].daemon
    wait_until(lambda: not source_threads())
    with X509Source(fake.address):
        assert len(source_threads()) == 1


def test_many_sources_begin_and_end_in_many_threads(fake: FakeWorkloadAPI) -> None:
    failures: list[BaseException] = []

    def come_and_go() -> None:
        try:
            for _ in range(5):
                with X509Source(fake.address) as source:
                    assert source.x509_context.svid.id == ID
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    wait_until(lambda: fake.streams == 0 and not source_threads())


def test_close_may_be_called_again_and_from_anywhere(fake: FakeWorkloadAPI) -> None:
    source = X509Source(fake.address)
    source.close()
    source.close()
    with pytest.raises(SourceClosedError):
        source.start()
    with X509Source(fake.address) as source:
        closed = threading.Event()

        def close(context: X509Context) -> None:
            source.close()
            job = source._feed._job
            assert job is not None
            assert not job.join(3600), "in the shared thread there is nothing to wait for"
            closed.set()

        source._add_listener(close)
        fake.rotate()
        assert closed.wait(30)
    assert source.status.phase is SourcePhase.CLOSED


def test_reading_starts_a_source_that_nobody_started(fake: FakeWorkloadAPI) -> None:
    source = X509Source(fake.address)
    with pytest.raises(NotReadyError):
        source.x509_context  # noqa: B018
    assert source.wait(30).svid.id == ID
    source.close()


# --- which SVID ------------------------------------------------------------------------------------------------------


def test_hint_and_picker_choose_among_svids(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    fake.issue(ca, "/internal", hint="internal")
    with X509Source(fake.address) as first, X509Source(fake.address, hint="internal") as hinted:
        assert first.x509_context.svid.id.path == "/workload"
        assert hinted.x509_context.svid.id.path == "/internal"
        assert len(hinted.x509_context.svids) == 2
    with X509Source(fake.address, svid_picker=lambda svids: svids[-1]) as picked:
        assert picked.x509_context.svid.id.path == "/internal"


def test_a_choice_that_cannot_be_made_refuses_the_update(fake: FakeWorkloadAPI) -> None:
    with pytest.raises(CallerError, match="not both"):
        X509Source(fake.address, hint="x", svid_picker=lambda svids: svids[0])
    for options, words in [({"hint": "external"}, "no SVID has the hint 'external'"), ({"svid_picker": len}, "int")]:
        source = X509Source(fake.address, **options)  # type: ignore[arg-type]
        source.start()
        wait_until(lambda: source.status.rejected == 1)  # noqa: B023
        with pytest.raises(NotReadyError, match=words):
            _ = source.x509_context
        source.close()


def test_addresses_are_checked_when_the_source_is_made() -> None:
    with pytest.raises(InvalidEndpointError, match="SPIFFE_ENDPOINT_SOCKET"):
        X509Source()
    with pytest.raises(InvalidEndpointError, match="scheme"):
        X509Source("http://127.0.0.1:80")


# --- listeners -------------------------------------------------------------------------------------------------------


def test_listeners_hear_each_change_in_the_shared_thread(source: X509Source, fake: FakeWorkloadAPI) -> None:
    heard: list[tuple[X509Context, X509Context, str]] = []
    remove = source._add_listener(
        lambda context: heard.append((context, source.x509_context, threading.current_thread().name))
    )
    before = source.x509_context
    fake.rotate()
    wait_until(lambda: len(heard) == 1)
    assert heard[0] == (source.x509_context, source.x509_context, "authsec-sdk-sources")
    remove()
    remove()
    fake.rotate()
    assert source.wait(30, newer_than=heard[0][0]) is not before
    assert len(heard) == 1


def test_a_listener_that_fails_hurts_nobody(
    source: X509Source, fake: FakeWorkloadAPI, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(context: X509Context) -> None:
        raise RuntimeError("mine alone")

    heard: list[X509Context] = []
    source._add_listener(fails)
    source._add_listener(heard.append)
    fake.rotate()
    wait_until(lambda: len(heard) == 1)
    assert "mine alone" in caplog.text
    assert source.status.connected


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_tells_how_it_is(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    source = X509Source(fake.address)
    status = source.status
    assert (status.phase, status.healthy, status.connected) == (SourcePhase.NEW, False, False)
    assert status.expires_at is status.last_update is status.last_error is status.spiffe_id is None
    with source:
        status = source.status
        assert (status.phase, status.healthy, status.connected) == (SourcePhase.CONNECTED, True, True)
        assert status.spiffe_id == ID
        assert status.expires_at == source.x509_context.svid.not_after
        assert status.last_update is not None
        assert (status.updates, status.reconnects, status.failures, status.rejected) == (1, 0, 0, 0)
        assert str(ID) in repr(source)
        assert "connected" in repr(source)
    status = source.status
    assert (status.phase, status.healthy) == (SourcePhase.CLOSED, False)
    assert "closed" in repr(source)


def test_an_identity_that_has_expired_is_not_healthy(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    fake.set(ca.svid(ttl=timedelta(seconds=2)), bundles=[ca.bundle()])
    with X509Source(fake.address) as source:
        assert source.status.healthy
        wait_until(lambda: not source.status.healthy)
        assert source.status.connected
        assert source.x509_context.svid.id == ID, "what to do about it is for TLS to say"


def test_only_the_expected_owner_of_the_socket_is_believed(fake: FakeWorkloadAPI) -> None:
    with (
        pytest.raises(NotReadyError, match="fake agent"),
        X509Source(fake.address, expected_agent_uid=os.getuid() + 1, ready_timeout=0.3),
    ):
        pytest.fail("not reached")
    assert fake.calls == 0
    with X509Source(fake.address, expected_agent_uid=os.getuid()) as source:
        assert source.status.healthy
