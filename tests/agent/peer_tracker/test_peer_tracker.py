import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.spire.selectors import Selector
from icp_agent.peer_tracker import CallerGoneError, WorkloadAttestationError, attest_peer
from icp_common.peer_credentials import PeerCredentials
from icp_common.telemetry import Telemetry

pytestmark = pytest.mark.anyio
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


class Attestor:
    """Says what it is told to, after doing what it is told to."""

    def __init__(
        self, name: str, *values: str, first: Callable[[], Awaitable[None]] | None = None, forge: str = ""
    ) -> None:
        self.name = name
        self._selectors = frozenset(Selector(forge or name, value) for value in values)
        self._first = first

    async def attest(self, peer: PeerCredentials) -> frozenset[Selector]:
        if self._first is not None:
            await self._first()
        return self._selectors


async def fail() -> None:
    raise ValueError("no such thing")


@pytest.fixture
def credentials(connection: socket.socket) -> PeerCredentials:
    return PeerCredentials.of(connection)


async def test_the_selectors_of_all_attestors_come_together(credentials: PeerCredentials) -> None:
    selectors = await attest_peer(
        credentials, [Attestor("a", "1", "2"), Attestor("b", "3"), Attestor("c")], deadline=30
    )
    assert selectors == {Selector("a", "1"), Selector("a", "2"), Selector("b", "3")}


async def test_a_caller_nobody_knows_anything_of_has_no_selectors(credentials: PeerCredentials) -> None:
    assert await attest_peer(credentials, [Attestor("a")], deadline=30) == frozenset()


async def test_attestors_work_side_by_side(credentials: PeerCredentials) -> None:
    one, two = anyio.Event(), anyio.Event()

    async def first() -> None:
        one.set()
        await two.wait()

    async def second() -> None:
        two.set()
        await one.wait()

    with anyio.fail_after(60):
        found = await attest_peer(
            credentials, [Attestor("a", "1", first=first), Attestor("b", "2", first=second)], deadline=30
        )
    assert len(found) == 2


async def test_a_failing_attestor_costs_only_its_own_selectors(
    credentials: PeerCredentials, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry()
    attestors = [Attestor("good", "1"), Attestor("bad", "2", first=fail)]
    with caplog.at_level(logging.ERROR):
        found = await attest_peer(credentials, attestors, deadline=30, telemetry=telemetry)
    assert found == {Selector("good", "1")}
    assert "attestor=bad" in caplog.text
    assert "no such thing" in caplog.text
    counter = telemetry.counter("workload_attestor_failures_total", "")
    assert (counter.value(attestor="bad"), counter.value(attestor="good")) == (1, 0)


async def test_an_attestor_that_hangs_is_left_behind(
    credentials: PeerCredentials, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled = anyio.Event()

    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    with anyio.fail_after(60):
        found = await attest_peer(credentials, [Attestor("a", "1"), Attestor("b", "2", first=hang)], deadline=0.05)
    assert found == {Selector("a", "1")}
    assert cancelled.is_set()
    assert "no answer within 0.05 s" in caplog.text


async def test_an_attestor_vouches_for_its_own_selectors_alone(credentials: PeerCredentials) -> None:
    forger = Attestor("docker", "uid:0", forge="unix")
    assert await attest_peer(credentials, [Attestor("a", "1"), forger], deadline=30) == {Selector("a", "1")}
    with pytest.raises(WorkloadAttestationError):
        await attest_peer(credentials, [forger], deadline=30)


@pytest.mark.parametrize("attestors", [[], [Attestor("a", "1", first=fail), Attestor("b", "2", first=fail)]])
async def test_if_all_fail_attestation_fails(credentials: PeerCredentials, attestors: list[Attestor]) -> None:
    with pytest.raises(WorkloadAttestationError, match="workload attestation failed"):
        await attest_peer(credentials, attestors, deadline=30)


async def test_a_caller_that_is_gone_before_is_not_attested(credentials: PeerCredentials, peer: Any) -> None:
    asked = False

    async def ask() -> None:
        nonlocal asked
        asked = True

    peer.end()
    with pytest.raises(CallerGoneError):
        await attest_peer(credentials, [Attestor("a", "1", first=ask)], deadline=30)
    assert not asked


@pytest.mark.parametrize(
    "change",
    [
        lambda peer: peer.end(),
        lambda peer: peer.become("/bin/sleep", "60"),
        pytest.param(lambda peer: peer.tell("os.setuid(12345)"), marks=needs_root),
        pytest.param(lambda peer: peer.tell("os.setgid(12345)"), marks=needs_root),
        pytest.param(lambda peer: peer.tell("os.setgroups([54321])"), marks=needs_root),
    ],
    ids=["ends", "executes another program", "changes user", "changes group", "changes supplementary groups"],
)
async def test_a_caller_that_changes_meanwhile_gets_nothing(
    credentials: PeerCredentials, peer: Any, change: Callable[[Any], None]
) -> None:
    async def meanwhile() -> None:
        await anyio.to_thread.run_sync(change, peer)

    with pytest.raises(CallerGoneError):
        await attest_peer(credentials, [Attestor("a", "1"), Attestor("b", "2", first=meanwhile)], deadline=30)


async def test_a_caller_that_moves_to_another_mount_namespace_meanwhile_gets_nothing(
    credentials: PeerCredentials, peer: Any, can_unshare: Callable[..., bool]
) -> None:
    if not can_unshare("-U", "-m"):
        pytest.skip("making namespaces is not permitted here (unshare)")

    async def meanwhile() -> None:
        await anyio.to_thread.run_sync(peer.tell, "assert ctypes.CDLL(None).unshare(0x10020000) == 0")

    with pytest.raises(CallerGoneError, match="changed while it was attested"):
        await attest_peer(credentials, [Attestor("a", "1", first=meanwhile)], deadline=30)


async def test_a_caller_that_proc_does_not_show_any_more_cannot_be_attested(
    connection: socket.socket, peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tmp_path / str(peer.pid)
    shown.mkdir()
    for name in ("stat", "status"):
        (shown / name).write_bytes(Path(f"/proc/{peer.pid}/{name}").read_bytes())
    monkeypatch.setenv("HOST_PROC", str(tmp_path))
    credentials = PeerCredentials.of(connection)
    assert await attest_peer(credentials, [Attestor("a", "1")], deadline=30) == {Selector("a", "1")}
    (shown / "status").write_bytes(b"")
    with pytest.raises(WorkloadAttestationError, match="unknown form"):
        await attest_peer(credentials, [Attestor("a", "1")], deadline=30)


async def test_cancelling_ends_all_attestors(credentials: PeerCredentials) -> None:
    running = 0

    async def hang() -> None:
        nonlocal running
        running += 1
        try:
            await anyio.sleep_forever()
        finally:
            running -= 1

    with anyio.move_on_after(0.1) as scope:
        await attest_peer(credentials, [Attestor("a", "1", first=hang), Attestor("b", "1", first=hang)], deadline=3600)
    assert scope.cancelled_caught
    assert running == 0
