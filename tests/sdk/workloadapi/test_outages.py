"""Whatever the agent does, the last good context is kept, the status and the log say so, and it heals by itself."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from authsec_sdk.errors import NoIdentityError, NotReadyError, UnavailableError, WorkloadAPIError
from authsec_sdk.proto import workload_pb2
from authsec_sdk.rpc import Status
from authsec_sdk.spiffe import TrustDomain, X509Bundle, X509Context
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import SourcePhase, UpdateLimits, X509Source
from authsec_sdk.workloadapi.wire import encode_x509_context


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def before(source: X509Source) -> X509Context:
    """The context that must survive."""
    return source.x509_context


def heals(source: X509Source, fake: FakeWorkloadAPI) -> None:
    known = source.x509_context
    fake.start()
    fake.rotate()
    assert source.wait(30, newer_than=known) is not known
    status = source.status
    assert status.healthy
    assert status.connected
    assert status.failures == 0
    assert status.last_error is not None, "what was wrong stays readable"


def test_an_agent_that_goes_away_and_comes_back(source: X509Source, fake: FakeWorkloadAPI, before: X509Context) -> None:
    fake.stop()
    wait_until(lambda: source.status.failures >= 3)
    status = source.status
    assert status.phase in (SourcePhase.UNAVAILABLE, SourcePhase.CONNECTING)
    assert isinstance(status.last_error, UnavailableError)
    assert "no socket at this path" in str(status.last_error)
    assert status.healthy
    assert not status.connected
    assert source.x509_context is before
    heals(source, fake)
    assert source.status.reconnects >= 3


@pytest.mark.parametrize("trouble", ["hang_up", "end_streams", "garbage"])
def test_streams_that_break(source: X509Source, fake: FakeWorkloadAPI, before: X509Context, trouble: str) -> None:
    getattr(fake, trouble)()
    wait_until(lambda: source.status.reconnects >= 1)
    assert source.x509_context is before, "the same update again is no update"
    heals(source, fake)


def test_every_status_an_agent_may_end_with(source: X509Source, fake: FakeWorkloadAPI, before: X509Context) -> None:
    """go-spiffe never comes back from CANCELLED, java-spiffe never from OK."""
    for status in (Status.CANCELLED, Status.UNAVAILABLE, Status.INTERNAL, Status.UNKNOWN, Status.RESOURCE_EXHAUSTED):
        reconnects = source.status.reconnects
        fake.end_streams(status, "restarting")
        wait_until(lambda: source.status.reconnects > reconnects and source.status.connected)  # noqa: B023
        assert status.name in str(source.status.last_error)
    assert source.x509_context is before


def test_a_denial_keeps_what_is_known_and_shows(source: X509Source, fake: FakeWorkloadAPI, before: X509Context) -> None:
    fake.deny()
    wait_until(lambda: source.status.phase is SourcePhase.NO_IDENTITY)
    assert isinstance(source.status.last_error, NoIdentityError)
    assert source.x509_context is before
    assert source.status.healthy
    fake.recover()
    heals(source, fake)


def test_a_denied_workload_gets_its_identity_once_there_is_an_entry(silent: FakeWorkloadAPI) -> None:
    silent.deny()
    with pytest.raises(NotReadyError, match="selectors"), X509Source(silent.address, ready_timeout=0.5):
        pytest.fail("not reached")
    threading.Timer(0.1, lambda: silent.issue(TestCA())).start()
    silent.wait_until(lambda: silent.streams == 0)
    with X509Source(silent.address) as source:
        assert source.status.healthy


@pytest.mark.parametrize("status", [Status.UNIMPLEMENTED, Status.INVALID_ARGUMENT])
def test_a_refusal_is_told_at_once_and_what_is_known_is_kept(
    source: X509Source, fake: FakeWorkloadAPI, before: X509Context, status: Status
) -> None:
    fake.fail(status, "unknown service SpiffeWorkloadAPI")
    wait_until(lambda: source.status.phase is SourcePhase.REFUSED)
    assert source.x509_context is before
    assert source.wait(0) is before
    new = X509Source(fake.address)
    with pytest.raises(WorkloadAPIError, match="unknown service SpiffeWorkloadAPI") as caught:
        new.wait(30)
    assert caught.value.status == status.value
    new.close()


BAD_UPDATES: list[tuple[str, Callable[[TestCA], workload_pb2.X509SVIDResponse | bytes], str]] = [
    ("empty", lambda ca: b"", "without any SVID"),
    (
        "mismatch",
        lambda ca: _changed(ca, lambda svid: setattr(svid, "spiffe_id", "spiffe://example.org/admin")),
        "is said to be",
    ),
    ("empty-own-bundle", lambda ca: _changed(ca, lambda svid: svid.ClearField("bundle")), "empty bundle"),
    ("bad-certificate", lambda ca: _changed(ca, lambda svid: setattr(svid, "x509_svid", b"x")), "DER"),
    (
        "expired",
        lambda ca: _changed(
            ca,
            lambda svid: setattr(
                svid,
                "x509_svid",
                ca.credential(
                    not_before=datetime.now(UTC) - timedelta(days=2), not_after=datetime.now(UTC) - timedelta(days=1)
                ).chain_der(),
            ),
        ),
        "",
    ),
]


def _changed(ca: TestCA, change: Callable[[workload_pb2.X509SVID], None]) -> workload_pb2.X509SVIDResponse:
    from authsec_sdk.spiffe import BundleSet

    message = encode_x509_context(X509Context((ca.svid(),), BundleSet.of(ca.bundle())))
    change(message.svids[0])
    return message


@pytest.mark.parametrize(("make", "words"), [row[1:] for row in BAD_UPDATES], ids=[row[0] for row in BAD_UPDATES])
def test_a_bad_update_is_refused_and_the_stream_goes_on(
    source: X509Source,
    fake: FakeWorkloadAPI,
    before: X509Context,
    ca: TestCA,
    make: Callable[[TestCA], workload_pb2.X509SVIDResponse | bytes],
    words: str,
) -> None:
    fake.send(make(ca), keep=False)
    wait_until(lambda: source.status.rejected == 1)
    assert words in str(source.status.last_error)
    assert source.x509_context is before
    assert source.status.connected
    heals(source, fake)
    assert fake.calls == 1, "it is the same stream still"


def test_a_first_update_that_is_bad_is_what_the_timeout_tells(fake: FakeWorkloadAPI) -> None:
    fake.send(b"")
    with pytest.raises(NotReadyError, match="without any SVID"), X509Source(fake.address, ready_timeout=0.5):
        pytest.fail("not reached")


def test_empty_and_broken_federated_bundles_do_not_stop_renewal(source: X509Source, fake: FakeWorkloadAPI) -> None:
    known = source.x509_context
    fake.federate(X509Bundle(TrustDomain("empty.test")))
    known = source.wait(30, newer_than=known)
    assert known.bundles[TrustDomain("empty.test")].authorities == ()
    message = encode_x509_context(known)
    message.federated_bundles["spiffe://broken.test"] = b"garbage"
    del message.federated_bundles["spiffe://empty.test"]
    fake.send(message)
    known = source.wait(30, newer_than=known)
    assert {domain.name for domain in known.bundles} == {"example.org"}, "and what is no longer sent is dropped"
    (problem,) = source.status.problems
    assert "broken.test" in str(problem)
    fake.rotate()
    wait_until(lambda: source.status.problems == ())


def test_an_update_without_news_is_no_update(source: X509Source, fake: FakeWorkloadAPI, before: X509Context) -> None:
    heard: list[X509Context] = []
    source._add_listener(heard.append)
    first = source.status.last_update
    assert first is not None
    for _ in range(3):
        fake.send(encode_x509_context(before))
    wait_until(lambda: (last := source.status.last_update) is not None and last > first)
    fake.rotate()
    source.wait(30, newer_than=before)
    wait_until(lambda: heard == [source.x509_context])
    assert source.status.updates == 2


def test_removed_roots_and_svids_are_gone(source: X509Source, fake: FakeWorkloadAPI, ca: TestCA) -> None:
    known = source.x509_context
    fake.issue(ca, "/second")
    known = source.wait(30, newer_than=known)
    fake.rotate(root=True)
    known = source.wait(30, newer_than=known)
    assert len(known.bundles[ca.trust_domain].authorities) == 2
    fake.remove_root()
    known = source.wait(30, newer_than=known)
    assert known.bundles[ca.trust_domain].authorities == (ca.certificate,)
    fake.set(ca.svid("/second"), bundles=[ca.bundle()])
    known = source.wait(30, newer_than=known)
    assert [svid.id.path for svid in known.svids] == ["/second"]


def test_a_giant_update_is_refused_and_the_last_good_one_kept(fake: FakeWorkloadAPI) -> None:
    with X509Source(fake.address, limits=UpdateLimits(message_bytes=100_000)) as source:
        before = source.x509_context
        fake.send(b"\x12" + b"\xff" * 3_000_000, keep=False)
        wait_until(lambda: source.status.reconnects >= 1)
        assert source.x509_context is before
        heals(source, fake)


def test_an_agent_that_comes_late_to_a_new_socket_is_found(ca: TestCA) -> None:
    """The CSI driver mounts a directory in which the agent makes its socket anew after each start."""
    with FakeWorkloadAPI() as fake:
        fake.issue(ca)
        fake.stop()
        source = X509Source(fake.address)
        source.start()
        wait_until(lambda: source.status.failures >= 1)
        for _ in range(3):
            fake.start()
            known = source.wait(30)
            assert known.svid.id.path == "/workload"
            fake.stop()
            wait_until(lambda: not source.status.connected)
        source.close()


def test_a_slow_agent_is_waited_for(fake: FakeWorkloadAPI) -> None:
    fake.delay(0.3)
    with X509Source(fake.address) as source:
        assert source.status.reconnects == 0


def test_trouble_is_logged_once_and_so_is_its_end(
    fake: FakeWorkloadAPI, source: X509Source, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="authsec_sdk.workloadapi")
    fake.stop()
    wait_until(lambda: source.status.failures >= 3)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sum("no socket at this path" in text for text in warnings) == 1
    assert len(warnings) <= 2
    assert all("retry_in=" in text and "times=1" in text for text in warnings)
    heals(source, fake)
    assert "the agent answers" in caplog.text
    assert "after_failures=" in caplog.text


def test_rejections_and_left_out_bundles_are_logged_once(
    fake: FakeWorkloadAPI, source: X509Source, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        fake.send(b"", keep=False)
    wait_until(lambda: source.status.rejected == 5)
    assert caplog.text.count("refused an update") == 1
    message = encode_x509_context(source.x509_context)
    message.federated_bundles["spiffe://broken.test"] = b"garbage"
    for _ in range(3):
        fake.send(message)
    wait_until(lambda: len(source.status.problems) == 1)
    last = source.status.last_update
    fake.send(message)
    wait_until(lambda: source.status.last_update != last)
    assert caplog.text.count("left out a part") == 1


def test_no_key_is_ever_logged(fake: FakeWorkloadAPI, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="authsec_sdk")
    with X509Source(fake.address) as source:
        key = source.x509_context.svid.key_der()
        for trouble in (fake.garbage, fake.hang_up, fake.rotate):
            trouble()
        wait_until(lambda: source.status.reconnects >= 1 and source.status.connected)
    for record in caplog.records:
        text = repr(record.__dict__)
        assert "PRIVATE KEY" not in text
        assert key.hex() not in text
        assert repr(key)[2:40] not in text


def test_plain_tcp_is_warned_of(ca: TestCA, caplog: pytest.LogCaptureFixture) -> None:
    with FakeWorkloadAPI(tcp=True) as fake:
        fake.issue(ca)
        with X509Source(fake.address) as source:
            assert source.status.healthy
    assert caplog.text.count("plain text") == 1
