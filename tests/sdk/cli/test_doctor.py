"""``authsec doctor``: one thing wrong at a time, and what it says to do."""

import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from authsec_sdk.rpc import Status
from authsec_sdk.spiffe import X509Bundle
from authsec_sdk.testing import FakeWorkloadAPI, TestCA


@pytest.fixture
def doctor(authsec: Any) -> Any:
    """Run the doctor; return the exit code and the findings by name."""

    def call(address: str, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
        with authsec("doctor", "--output", "json", "--socket", address, env=env) as running:
            code = running.wait()
        facts = json.loads(running.said())
        assert facts["verdict"].startswith("FAILED") == (code == 1)
        for check in facts["checks"]:
            assert check["result"] in ("ok", "skipped") or check["remedy"], check
        return code, {check["check"]: check for check in facts["checks"]}

    return call


def test_nothing_wrong(doctor: Any, agent: FakeWorkloadAPI) -> None:
    code, found = doctor(agent.address)
    assert code == 0
    assert {check["result"] for check in found.values()} == {"ok"}
    assert "spiffe://example.org/payments" in found["identity"]["detail"]
    assert "refused" in found["security header"]["detail"]


@pytest.mark.parametrize(
    ("address", "failing"), [("http://x", "address of the Workload API"), ("unix:///etc/hostname", "socket")]
)
def test_wrong_addresses(doctor: Any, address: str, failing: str) -> None:
    code, found = doctor(address)
    assert (code, found[failing]["result"], found["identity"]["result"]) == (1, "FAILED", "skipped")


def test_nobody_listens(doctor: Any, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "dead.sock"))
    code, found = doctor(f"unix://{folder}/dead.sock")
    assert (code, found["who listens"]["result"]) == (1, "FAILED")
    assert "is the agent running" in found["who listens"]["remedy"]


def test_somebody_listens_who_is_no_agent(doctor: Any, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "other.sock"))
        listener.listen()

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            code, found = doctor(f"unix://{folder}/other.sock")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert (code, found["security header"]["result"]) == (1, "FAILED")


def test_no_entry(doctor: Any, agent: FakeWorkloadAPI) -> None:
    agent.deny()
    code, found = doctor(agent.address)
    assert (code, found["identity"]["result"]) == (1, "FAILED")
    assert "registration entry" in found["identity"]["remedy"]


def test_an_agent_that_cannot_answer(doctor: Any, agent: FakeWorkloadAPI) -> None:
    agent.fail(Status.UNAVAILABLE, "no server")
    code, found = doctor(agent.address)
    assert code == 1
    assert "no server" in found["identity"]["detail"]


@pytest.mark.parametrize(
    ("begins", "ends", "words", "results"),
    [
        (-7200, -60, "compare the clocks", {"identity": "FAILED"}),
        (600, 7200, "this clock is behind", {"life of the identity": "FAILED"}),
        (-3600, 300, "s left of 3900", {"life of the identity": "warning"}),
    ],
)
def test_life(
    doctor: Any, agent: FakeWorkloadAPI, ca: TestCA, begins: int, ends: int, words: str, results: dict[str, str]
) -> None:
    now = datetime.now(UTC)
    svid = ca.svid("/a", not_before=now + timedelta(seconds=begins), not_after=now + timedelta(seconds=ends))
    agent.set(svid, bundles=[ca.bundle()])
    code, found = doctor(agent.address)
    assert code == ("FAILED" in results.values())
    for name, result in results.items():
        assert found[name]["result"] == result
        assert words in found[name]["detail"]


def test_no_authority(doctor: Any, agent: FakeWorkloadAPI, ca: TestCA) -> None:
    foreign = TestCA("other.org")
    agent.set(ca.svid("/a"), bundles=[X509Bundle(ca.trust_domain, ()), foreign.bundle()])
    code, found = doctor(agent.address)
    assert code == 1
    assert found["identity"]["result"] == "FAILED" or found["authorities"]["result"] == "FAILED"


def test_the_environment(doctor: Any, agent: FakeWorkloadAPI) -> None:
    code, found = doctor(agent.address, SSLKEYLOGFILE="/tmp/keys")
    assert (code, found["environment"]["result"]) == (0, "warning")
