"""Files that change under the reader: only a consistent whole is published, and the last good one is kept."""

import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.errors import ConfigurationError, NotReadyError, SourceClosedError, SpiffeError
from authsec_sdk.filesource import CERT_MANAGER, SPIFFE_FILES, SPIFFE_HELPER, FileLayout, FileSource
from authsec_sdk.filesource.folder import Folder
from authsec_sdk.filesource.watch import retry_after
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.telemetry import Event, SourceClosed, SourceConnected, SourceLost, SourceName, SourceUpdated
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import mtls_client_context, mtls_server_context, peer_spiffe_id
from authsec_sdk.workloadapi import SourceState

pytestmark = pytest.mark.anyio


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def refused(writer: Any, match: str, **options: Any) -> None:
    """The files there are refused, and the reason can be read."""
    source = writer.source(**options)
    try:
        source.start()
        until(lambda: source.status.last_error is not None)
        with pytest.raises(NotReadyError, match=match):
            source.wait(0.01)
        assert not source.status.current
    finally:
        source.close()


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [SPIFFE_HELPER, CERT_MANAGER, SPIFFE_FILES])
def test_each_layout_is_read(make_writer: Any, tmp_path: Path, layout: FileLayout) -> None:
    writer = make_writer(tmp_path, layout=layout)
    writer.write()
    with writer.source() as source:
        context = source.x509_context
        assert str(context.svid.id) == "spiffe://example.org/workload"
        assert context.bundles[writer.ca.trust_domain] == writer.ca.bundle()
        status = source.status
        assert (status.healthy, status.current, status.updates, status.last_error) == (True, True, 1, None)
        assert "spiffe://example.org/workload" in repr(source)
    assert not source.status.healthy
    with pytest.raises(SourceClosedError):
        source.x509_context  # noqa: B018


async def test_tasks_wait_for_the_first_files_and_follow(writer: Any) -> None:
    source = writer.source()
    assert source.status.last_error is None
    seen = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                async for context in source.updates():
                    seen.append(context)
                    if len(seen) == 3:
                        return
                    writer.write()

            tasks.start_soon(follow)
            await anyio.sleep(0.1)
            writer.write()
            await source.ready()
    assert len({context.svid.leaf.serial_number for context in seen}) == 3
    await source.aclose()


def test_kubelets_swap_of_a_link(writer: Any) -> None:
    writer.swap(0)
    with writer.source() as source:
        for number in range(1, 6):
            before = source.x509_context
            writer.swap(number)
            assert source.wait(30, newer_than=before).svid != before.svid
        assert source.status.updates == 6


# --- what is torn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (2, 0, 1)])
def test_files_replaced_in_any_order_show_only_wholes(writer: Any, order: tuple[int, ...]) -> None:
    writer.write()
    with writer.source() as source:
        before = source.x509_context
        writer.ca.rotate()
        writer.ca.remove_old_roots()
        items = list(writer.contents().items())
        for step in order[:2]:
            writer.put(*items[step])
            rejected = source.status.rejected
            until(lambda rejected=rejected: not source.status.current or source.status.rejected > rejected)
            assert source.x509_context is before
        assert source.status.healthy
        assert source.status.last_error is not None
        writer.put(*items[order[2]])
        after = source.wait(30, newer_than=before)
        assert after.bundles[writer.ca.trust_domain] == writer.ca.bundle()
        assert source.status.current


def test_a_half_written_file_is_waited_for(writer: Any) -> None:
    writer.write()
    with writer.source() as source:
        before = source.x509_context
        for name, data in writer.contents().items():
            with (writer.folder / name).open("wb") as file:  # in place, in two halves
                file.write(data[: len(data) // 2])
                file.flush()
                until(lambda: not source.status.current)
                assert source.x509_context is before
                file.write(data[len(data) // 2 :])
        assert source.wait(30, newer_than=before).svid != before.svid


@pytest.mark.parametrize("name", ["svid.pem", "svid_key.pem", "svid_bundle.pem"])
@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\0" * 1000, b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"A" * 17_000_000]
)
def test_garbage_is_refused_and_the_last_good_kept(writer: Any, name: str, data: bytes) -> None:
    writer.write()
    with writer.source() as source:
        before = source.x509_context
        writer.put(name, data)
        until(lambda: source.status.last_error is not None)
        assert source.x509_context is before
        assert source.status.healthy
        assert not source.status.current


def test_an_observer_hears_what_the_states_say(writer: Any) -> None:
    heard: list[Event] = []
    source = writer.source(observer=heard.append)
    assert source.status.state is SourceState.INITIALIZING
    source.start()
    until(lambda: source.status.state is SourceState.FAILED)
    writer.write()
    until(lambda: source.status.state is SourceState.READY)
    assert timedelta() < source.status.expires_in <= source.status.expires_at - datetime.now(UTC) + timedelta(minutes=1)
    writer.put("svid.pem", b"nothing")
    until(lambda: source.status.state is SourceState.STALE)
    assert source.status.healthy
    writer.write()
    until(lambda: source.status.state is SourceState.READY)
    until(lambda: len([each for each in heard if isinstance(each, SourceUpdated)]) == 2)
    source.close()
    assert source.status.state is SourceState.CLOSED
    assert {getattr(event, "source", None) for event in heard} == {SourceName("files", str(writer.folder))}
    first, last = (event for event in heard if isinstance(event, SourceUpdated))
    assert (first.number, last.number) == (1, 2)
    assert str(first.spiffe_id) == "spiffe://example.org/workload"
    assert first.serial != last.serial
    assert type(heard[0]) is SourceLost
    assert isinstance(heard[-1], SourceClosed)
    assert sum(isinstance(event, SourceConnected) for event in heard) == 2


def test_a_missing_folder_a_folder_and_a_pipe_in_a_files_place(writer: Any) -> None:
    refused(writer, r"svid\.pem cannot be read: No such file")
    writer.write()
    (writer.folder / "svid_bundle.pem").unlink()
    os.mkfifo(writer.folder / "svid_bundle.pem")
    refused(writer, "is not a file")
    (writer.folder / "svid_bundle.pem").unlink()
    (writer.folder / "svid_bundle.pem").mkdir()
    refused(writer, "is a directory|is not a file|Is a directory")


def test_an_expired_svid_is_refused(writer: Any) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    old = writer.ca.credential("/workload", not_before=past - timedelta(hours=1), not_after=past)
    for name, data in writer.contents(old).items():
        writer.put(name, data)
    refused(writer, "expired at")


# --- threats ---------------------------------------------------------------------------------------------------------


def test_a_pem_bundle_with_a_foreign_authority_is_refused(writer: Any) -> None:
    """spiffe-helper with include_federated_domains: B's authority would vouch for IDs of A."""
    writer.write()
    writer.put("svid_bundle.pem", writer.ca.bundle().to_pem() + TestCA("b.test").bundle().to_pem())
    refused(writer, r"names the trust domain b\.test: .*trust_bundles\.json")


def test_a_foreign_authority_that_comes_later_changes_nothing(writer: Any) -> None:
    writer.write()
    with writer.source() as source:
        before = source.x509_context
        writer.put("svid_bundle.pem", writer.ca.bundle().to_pem() + TestCA("b.test").bundle().to_pem())
        until(lambda: source.status.last_error is not None)
        assert source.x509_context is before


def test_an_svid_of_another_domain_than_configured_is_refused(writer: Any) -> None:
    writer.write()
    refused(writer, r"names the trust domain example\.org", trust_domain="other.test")


def test_the_bundle_map_keeps_domains_apart(make_writer: Any, make_bundle_map: Any, tmp_path: Path) -> None:
    writer, other = make_writer(tmp_path, layout=SPIFFE_FILES), TestCA("b.test")
    writer.write()
    writer.put("trust_bundles.json", make_bundle_map(writer.ca, other))
    with writer.source() as source:
        assert set(source.x509_context.bundles) == {writer.ca.trust_domain, other.trust_domain}
        assert source.x509_context.bundles[other.trust_domain] == other.bundle()
    text = make_bundle_map(writer.ca, other).decode().replace('"b.test"', '"c.test"')
    writer.put("trust_bundles.json", text.encode())
    refused(writer, r"wrong key of trust_domains")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_key_that_others_can_use_is_refused_unless_allowed(writer: Any, mode: int) -> None:
    writer.write()
    (writer.folder / "svid_key.pem").chmod(mode)
    refused(writer, "unsafe_key_readable_by_others")
    with writer.source(unsafe_key_readable_by_others=True) as source:
        assert source.status.healthy


def test_a_key_for_a_group_is_taken_and_a_mended_mode_is_seen(writer: Any) -> None:
    writer.write()
    (writer.folder / "svid_key.pem").chmod(0o644)
    source = writer.source()
    source.start()
    until(lambda: source.status.last_error is not None)
    (writer.folder / "svid_key.pem").chmod(0o640)
    assert source.wait(30).svid
    source.close()


def test_no_frame_and_no_text_holds_a_key(writer: Any) -> None:
    writer.write()
    secret = (writer.folder / "svid_key.pem").read_bytes().splitlines()[1]
    writer.put("svid.pem", writer.ca.credential("/other").chain_pem())
    swapped = {"svid_bundle.pem": (writer.folder / "svid_key.pem").read_bytes()}
    for change in ({}, swapped):
        for name, data in change.items():
            writer.put(name, data)
        with pytest.raises(SpiffeError) as caught:
            Folder(writer.folder, SPIFFE_HELPER, TrustDomain("example.org")).load()
        error: BaseException | None = caught.value
        while error is not None:
            for frame, _ in traceback.walk_tb(error.__traceback__):
                if frame.f_code.co_filename != __file__:
                    assert secret not in repr(frame.f_locals).encode()
            assert secret.decode() not in str(error)
            error = error.__cause__ or error.__context__


def test_wrong_arguments() -> None:
    for interval in (0, -1, float("inf")):
        with pytest.raises(ConfigurationError):
            FileSource("/nowhere", trust_domain="example.org", interval=interval)
    for names in (("a", "b", "a"), ("a", "b", "b"), ("../a", "b", "c"), ("", "b", "c")):
        with pytest.raises(ConfigurationError):
            FileLayout(*names)
    with pytest.raises(SpiffeError):
        FileSource("/nowhere", trust_domain="not a domain")


def test_retries_are_fast_and_then_as_slow_as_the_interval() -> None:
    assert [retry_after(failures, 1.0) for failures in (1, 2, 7, 5000)] == [0.02, 0.04, 1.0, 1.0]


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_twenty_rotations_under_load_fail_no_request(make_writer: Any, tmp_path: Path) -> None:
    ca = TestCA("example.org")
    writers = []
    for side in ("server", "client"):
        (tmp_path / side).mkdir()
        writers.append(make_writer(tmp_path / side, ca=ca, path=f"/{side}"))
        writers[-1].write()
    with writers[0].source() as server_source, writers[1].source() as client_source:
        server = mtls_server_context(server_source, authorize_member_of("example.org"))
        client = mtls_client_context(client_source, authorize_member_of("example.org"))
        listener = socket.create_server(("127.0.0.1", 0))
        stopping, failures, done = threading.Event(), [], []

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                if not threads[1].is_alive():  # this connection came to end the loop: no request is cut short
                    connection.close()
                    return
                try:
                    with server.wrap_socket(connection, server_side=True) as tls:
                        tls.sendall(tls.recv(4))
                except OSError as error:
                    failures.append(error)

        def load() -> None:
            while not stopping.is_set():
                try:
                    with socket.create_connection(listener.getsockname(), timeout=30) as connection:
                        with client.wrap_socket(connection, server_hostname="ignored.invalid") as tls:
                            tls.sendall(b"ping")
                            assert tls.recv(4) == b"ping"
                            done.append(peer_spiffe_id(tls))
                except (OSError, AssertionError) as error:
                    failures.append(error)

        threads = [threading.Thread(target=serve), threading.Thread(target=load)]
        for thread in reversed(threads):
            thread.start()

        def settle(write: Callable[[Any], None]) -> None:
            befores = (server.generation, client.generation)
            for writer in writers:
                write(writer)
            until(lambda: server.generation != befores[0] and client.generation != befores[1])
            served = len(done)
            until(lambda: len(done) > served + 1 or bool(failures))

        try:
            for _ in range(20):
                ca.rotate()
                settle(lambda writer: writer.put("svid_bundle.pem", writer.ca.bundle().to_pem()))
                settle(lambda writer: [writer.put(*item) for item in list(writer.contents().items())[:2]])
                ca.remove_old_roots()
                settle(lambda writer: writer.put("svid_bundle.pem", writer.ca.bundle().to_pem()))
        finally:
            stopping.set()
            threads[1].join(30)
            socket.create_connection(listener.getsockname()).close()
            threads[0].join(30)
            listener.close()
        assert failures == []
        assert server_source.status.updates >= 61
        assert len(done) > 60


# --- fork ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_follows_by_itself(writer: Any) -> None:
    writer.write()
    with writer.source() as source:
        before = source.x509_context
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert source.x509_context is before
                writer.write()
                code = 0 if source.wait(30, newer_than=before).svid != before.svid else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert source.wait(30, newer_than=before).svid != before.svid
