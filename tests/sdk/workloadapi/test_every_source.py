"""What holds of every kind of source alike: waiting, updates, states, backoffs, what an observer hears, fork, spawn."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.errors import NotReadyError, SourceClosedError, UnavailableError, WorkloadAPIError
from authsec_sdk.rpc import Status
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.telemetry import (
    Event,
    SourceClosed,
    SourceConnected,
    SourceLost,
    SourceName,
    SourceUpdated,
    UpdateRejected,
)
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import (
    Backoff,
    FailureKind,
    JWTSource,
    SourceState,
    WITBundleSource,
    WITSource,
    X509BundleSource,
    X509Source,
)

pytestmark = pytest.mark.anyio

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
ID = SpiffeID.parse("spiffe://example.org/workload")
AT_ONCE = dict.fromkeys(FailureKind, Backoff(base=0.01, cap=0.01))
KINDS: dict[type[Any], str] = {
    X509Source: "x509",
    X509BundleSource: "x509 bundles",
    JWTSource: "jwt bundles",
    WITSource: "wit",
    WITBundleSource: "wit bundles",
}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def rotate(fake: FakeWorkloadAPI) -> Callable[[], None]:
    """Make the agent send something new on every stream."""

    def rotate() -> None:
        fake.tokens.rotate_keys()
        fake.rotate(root=True)

    return rotate


async def test_tasks_wait_for_what_is_newer(kind: Any, fake: FakeWorkloadAPI, rotate: Callable[[], None]) -> None:
    async with kind(fake.address) as source:
        before = await source.ready(30)
        with pytest.raises(NotReadyError):
            await source.ready(0.05, newer_than=before)
        rotate()
        assert await source.ready(30, newer_than=before) != before


async def test_updates_bring_each_newest(kind: Any, fake: FakeWorkloadAPI, rotate: Callable[[], None]) -> None:
    seen: list[Any] = []
    async with kind(fake.address) as source:
        with anyio.fail_after(30):
            async for value in source.updates():
                assert value not in seen
                seen.append(value)
                if len(seen) == 3:
                    break
                rotate()


def test_threads_wait(kind: Any, fake: FakeWorkloadAPI, rotate: Callable[[], None]) -> None:
    with kind(fake.address) as source:
        before = source.wait(30)
        rotate()
        assert source.wait(30, newer_than=before) != before
    with pytest.raises(SourceClosedError):
        source.wait(1)


async def test_a_blocked_event_loop_does_not_delay_a_rotation(
    kind: Any, fake: FakeWorkloadAPI, rotate: Callable[[], None]
) -> None:
    async with kind(fake.address) as source:
        before = source.status.updates
        rotate()
        deadline = time.monotonic() + 30
        while source.status.updates == before:  # no await in this loop: this task lets nothing else run
            assert time.monotonic() < deadline
            time.sleep(0.001)


async def test_the_states_of_a_life(
    kind: Any, fake: FakeWorkloadAPI, rotate: Callable[[], None], eventually: Eventually
) -> None:
    fake.stop()
    source: Any = kind(fake.address, backoffs=AT_ONCE)
    assert source.status.state is SourceState.INITIALIZING
    source.start()
    await eventually(lambda: source.status.state is SourceState.FAILED)
    assert not source.status.healthy
    assert isinstance(source.status.last_error, UnavailableError)
    fake.start()
    await eventually(lambda: source.status.state is SourceState.READY)
    assert source.status.healthy
    fake.stop()
    await eventually(lambda: source.status.state is SourceState.STALE)
    assert source.status.healthy
    await source.aclose()
    assert source.status.state is SourceState.CLOSED
    assert not source.status.healthy


async def test_an_observer_hears_of_a_life(
    kind: Any, fake: FakeWorkloadAPI, rotate: Callable[[], None], eventually: Eventually
) -> None:
    heard: list[Event] = []

    def of(event: type[Any]) -> list[Any]:
        return [each for each in heard if isinstance(each, event)]

    async with kind(fake.address, backoffs=AT_ONCE, observer=heard.append) as source:
        rotate()
        await eventually(lambda: len(of(SourceUpdated)) > 1)
        fake.garbage()
        await eventually(lambda: bool(of(UpdateRejected)) or bool(of(SourceLost)))
        fake.stop()
        await eventually(lambda: bool(of(SourceLost)))
        fake.start()
        await eventually(lambda: len(of(SourceConnected)) > 1)
        status = source.status
    assert [event.number for event in of(SourceUpdated)] == list(range(1, len(of(SourceUpdated)) + 1))
    assert of(SourceClosed) == [SourceClosed(SourceName(KINDS[kind], fake.address))]
    assert {getattr(event, "source", None) for event in heard} == {SourceName(KINDS[kind], fake.address)}
    lost = of(SourceLost)[-1]
    assert str(lost.error)
    assert lost.retry_in > 0
    if kind in (X509Source, WITSource):
        last = of(SourceUpdated)[-1]
        assert last.spiffe_id == ID
        assert last.expires_at == status.expires_at
        assert status.expires_in is not None
        assert status.expires_in.total_seconds() > 0
    else:
        assert status.expires_in is None


def test_an_observer_that_fails_stops_nothing(
    kind: Any, fake: FakeWorkloadAPI, rotate: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    def fails(event: Event) -> None:
        raise RuntimeError(f"full {event}")

    with kind(fake.address, observer=fails) as source:
        before = source.wait(30)
        rotate()
        assert source.wait(30, newer_than=before) != before
    assert "an observer failed event=SourceUpdated" in caplog.text


@pytest.mark.parametrize("delay", [lambda: float("nan"), lambda: -1.0, lambda: 1 / 0, lambda: "soon"])
def test_a_backoff_of_ones_own_that_is_wrong_hurts_nobody(
    delay: Callable[[], Any], fake: FakeWorkloadAPI, rotate: Callable[[], None]
) -> None:
    asked: list[tuple[int, float]] = []

    class Mine:
        def delay(self, failures: int, random: float, /) -> float:
            asked.append((failures, random))
            result: float = delay()
            return result

    with X509Source(fake.address, backoffs={FailureKind.UNAVAILABLE: Mine()}) as source:
        before = source.wait(30)
        fake.end_streams()
        fake.wait_until(lambda: bool(asked) and source.status.connected)
        rotate()
        assert source.wait(30, newer_than=before) != before
    assert asked[0][0] == 1
    assert 0 <= asked[0][1] < 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_keeps_what_was_known_and_follows_by_itself(
    kind: Any, fake: FakeWorkloadAPI, rotate: Callable[[], None]
) -> None:
    told, tell = os.pipe()
    with kind(fake.address) as source:
        before = source.wait(30)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert source.status.healthy
                assert source.wait(30) is before
                deadline = time.monotonic() + 30
                while not source.status.connected:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                os.write(tell, b"x")
                code = 0 if source.wait(30, newer_than=before) != before else 2
                source.close()
            finally:
                os._exit(code)
        os.close(tell)
        assert os.read(told, 1) == b"x"
        os.close(told)
        rotate()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert source.wait(30, newer_than=before) != before
        assert source.status.reconnects == 0, "the parent's stream was not ended by the child"


def test_a_spawned_child_makes_its_own(kind: Any, fake: FakeWorkloadAPI, tmp_path: Path) -> None:
    with kind(fake.address) as source, pytest.raises(TypeError, match="make one there"):
        pickle.dumps(source)
    program = f"""
import multiprocessing
from authsec_sdk.workloadapi import {kind.__name__}

def work(queue):
    with {kind.__name__}({fake.address!r}) as source:
        queue.put(source.status.healthy)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with {kind.__name__}({fake.address!r}):  # a source of the parent's changes nothing
        queue = spawn.SimpleQueue()
        worker = spawn.Process(target=work, args=(queue,))
        worker.start()
        worker.join(60)
        assert queue.get() is True
        assert worker.exitcode == 0
"""
    (tmp_path / "program.py").write_text(program, "utf-8")
    command = [sys.executable, "-W", "error", str(tmp_path / "program.py")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (result.returncode, result.stderr) == (0, "")


async def test_a_wit_svid_comes_with_its_key_and_is_validated(fake: FakeWorkloadAPI, ca: TestCA) -> None:
    fake.issue(ca, "/second", hint="second")
    async with WITSource(fake.address, hint="second") as ours, WITBundleSource(fake.address) as theirs:
        svid = ours.wit_svid
        assert str(svid.id) == "spiffe://example.org/second"
        assert [str(each.id) for each in ours.wit_svids] == [str(svid.id), str(ID)]
        shown = theirs.validate(svid.token)
        assert shown.id == svid.id
        assert shown.confirmation_key == svid.private_key.public_key()
        assert "second" in repr(ours)
        assert "connected" in repr(theirs)
    with pytest.raises(SourceClosedError):
        theirs.validate(svid.token)


@pytest.mark.parametrize("kind", [WITSource, WITBundleSource])
def test_an_agent_without_the_profile_is_asked_once(kind: Any, fake: FakeWorkloadAPI) -> None:
    fake.tokens.wit = False
    source: Any = kind(fake.address, backoffs=AT_ONCE)
    for _ in range(3):
        with pytest.raises(WorkloadAPIError) as refusal:
            source.wait(30)
        assert refusal.value.status == Status.UNIMPLEMENTED.value
    time.sleep(0.2)  # twenty times as long as it would wait otherwise
    assert fake.calls == 1
    assert source.status.state is SourceState.FAILED
    source.close()
    assert source.status.state is SourceState.CLOSED


def test_no_wit_svid_with_this_hint(fake: FakeWorkloadAPI) -> None:
    source: Any = WITSource(fake.address, hint="external")
    source.start()
    fake.wait_until(lambda: source.status.rejected > 0)
    with pytest.raises(NotReadyError, match="no WIT-SVID has the hint 'external'"):
        source.wait(0.01)
    assert source.status.state is SourceState.FAILED
    source.close()


def test_who_waited_and_closes_at_once_has_been_observed(fake: FakeWorkloadAPI) -> None:
    heard: list[Event] = []

    def slow(event: Event) -> None:
        time.sleep(0.1)
        heard.append(event)

    with X509Source(fake.address, observer=slow):
        pass
    assert [type(event) for event in heard] == [SourceConnected, SourceUpdated, SourceClosed]
