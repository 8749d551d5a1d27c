"""What Prometheus scrapes over HTTP of real sources and real handshakes, in one process and in several."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from authsec_sdk.authz import Authorizer, authorize_id
from authsec_sdk.integrations.grpc import mtls_channel, mtls_server
from authsec_sdk.integrations.prometheus import PrometheusObserver
from authsec_sdk.telemetry import SourceName, SourceUpdated
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.tls import mtls_client_context, mtls_server_context
from authsec_sdk.workloadapi import Backoff, FailureKind, JWTSource, X509Source

ID = "spiffe://example.org/workload"
AT_ONCE = dict.fromkeys(FailureKind, Backoff(base=0.01, cap=0.01))
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scraped:
    """A registry behind a real HTTP endpoint."""

    def __init__(self, registry: CollectorRegistry, port: int) -> None:
        self.registry = registry
        self._url = f"http://127.0.0.1:{port}/metrics"

    def text(self) -> str:
        with urllib.request.urlopen(self._url, timeout=30) as response:
            assert response.headers["Content-Type"].startswith("text/plain")
            body: bytes = response.read()
        return body.decode()

    def value(self, name: str, **labels: str) -> float | None:
        return read(self.text()).get((name, frozenset(labels.items())))

    def names(self) -> set[str]:
        return {name for name, _ in read(self.text())}


@pytest.fixture
def scraped() -> Iterator[Scraped]:
    registry = CollectorRegistry()
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield Scraped(registry, server.server_port)
    server.shutdown()
    server.server_close()
    thread.join(30)


def handshake(source: X509Source, server: Authorizer, client: Authorizer) -> bool:
    """Connect a source to itself, and say whether both sides accepted."""
    ours, theirs = socket.socketpair()
    results: list[bool] = []

    def serve() -> None:
        with theirs:
            try:
                with mtls_server_context(source, server).wrap_socket(theirs, server_side=True) as connection:
                    results.append(connection.recv(1) == b"x")
            except OSError:
                results.append(False)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, mtls_client_context(source, client).wrap_socket(ours, server_hostname="x") as connection:
            connection.sendall(b"x")
            connection.recv(1)
    except OSError:
        pass
    thread.join(30)
    return results == [True]


def test_handshakes_refusals_and_generations(scraped: Scraped, fake_workload_api: FakeWorkloadAPI) -> None:
    with X509Source(fake_workload_api.address, observer=PrometheusObserver(scraped.registry)) as source:
        assert handshake(source, authorize_id(ID), authorize_id(ID))
        assert handshake(source, authorize_id(ID), authorize_id(ID))
        assert not handshake(source, authorize_id("spiffe://example.org/other"), authorize_id(ID))
        for role, accepted in (("server", 2), ("client", 3)):
            assert scraped.value("spiffe_tls_handshake_duration_seconds_count", role=role) == accepted
            assert (scraped.value("spiffe_tls_handshake_duration_seconds_sum", role=role) or 0) > 0
            assert scraped.value("spiffe_tls_generations_total", role=role) == 3
        assert scraped.value("spiffe_tls_refusals_total", role="server", reason="not_authorized") == 1
        assert scraped.value("spiffe_tls_refusals_total", role="client", reason="not_authorized") is None


def test_callers_that_a_grpc_server_refuses(scraped: Scraped, fake_workload_api: FakeWorkloadAPI) -> None:
    """grpcio refuses after its handshake; the observer hears of it all the same."""
    observer = PrometheusObserver(scraped.registry)
    other = authorize_id("spiffe://example.org/other")
    with X509Source(fake_workload_api.address, observer=observer) as source, ThreadPoolExecutor(1) as pool:
        server = mtls_server(pool, source, other)
        port = server.add_mtls_port("127.0.0.1:0")
        server.start()
        try:
            with mtls_channel(f"localhost:{port}", source, authorize_id(ID)) as channel:
                with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
                    channel.unary_unary("/test.Service/Call")(b"", timeout=30)
        finally:
            server.stop(None).wait(30)
    assert scraped.value("spiffe_tls_refusals_total", role="server", reason="not_authorized") == 1


def test_ids_of_refused_peers_are_labels_only_when_asked_for(
    scraped: Scraped, fake_workload_api: FakeWorkloadAPI
) -> None:
    observer = PrometheusObserver(scraped.registry, refused_ids=True)
    with X509Source(fake_workload_api.address, observer=observer) as source:
        assert not handshake(source, authorize_id("spiffe://example.org/other"), authorize_id(ID))
    labels = {"role": "server", "reason": "not_authorized", "spiffe_id": ID}
    assert scraped.value("spiffe_tls_refusals_total", **labels) == 1


def test_rotation_expiry_outage_and_end(scraped: Scraped, fake_workload_api: FakeWorkloadAPI) -> None:
    fake, observer = fake_workload_api, PrometheusObserver(scraped.registry)
    where = {"source": "x509", "place": fake.address}
    with X509Source(fake.address, observer=observer, backoffs=AT_ONCE) as source:
        before = source.wait(30)
        fake.rotate()
        svid = source.wait(30, newer_than=before).svid
        fake.wait_until(lambda: scraped.value("spiffe_source_updates_total", **where) == 2)
        expiry = scraped.value("spiffe_svid_expiry_timestamp_seconds", spiffe_id=ID, **where)
        assert expiry == svid.not_after.timestamp()
        assert scraped.value("spiffe_source_connected", **where) == 1
        fake.stop()
        fake.wait_until(lambda: scraped.value("spiffe_source_connected", **where) == 0)
        assert scraped.value("spiffe_source_losses_total", error="UnavailableError", **where) is not None
        fake.start()
        fake.wait_until(lambda: scraped.value("spiffe_source_connected", **where) == 1)
        fake.garbage()
    assert scraped.value("spiffe_source_connected", **where) is None
    assert "spiffe_svid_expiry_timestamp_seconds" not in scraped.names()


def test_an_update_that_breaks_a_rule_is_counted(scraped: Scraped, fake_workload_api: FakeWorkloadAPI) -> None:
    observer = PrometheusObserver(scraped.registry)
    with X509Source(fake_workload_api.address, observer=observer, hint=""):
        ca = TestCA("example.org")
        fake_workload_api.set(ca.svid("/workload", hint="another"), bundles=[ca.bundle()])
        where = {"source": "x509", "place": fake_workload_api.address}
        fake_workload_api.wait_until(lambda: (scraped.value("spiffe_source_rejected_updates_total", **where) or 0) >= 1)


def test_another_id_ends_the_series_of_the_last(scraped: Scraped, fake_workload_api: FakeWorkloadAPI) -> None:
    fake, observer = fake_workload_api, PrometheusObserver(scraped.registry)
    ca = TestCA("example.org")
    with X509Source(fake.address, observer=observer) as source:
        before = source.wait(30)
        fake.set(ca.svid("/renamed"), bundles=[ca.bundle()])
        source.wait(30, newer_than=before)
        where = {"source": "x509", "place": fake.address}
        name = "spiffe_svid_expiry_timestamp_seconds"
        fake.wait_until(lambda: scraped.value(name, spiffe_id="spiffe://example.org/renamed", **where) is not None)
        assert scraped.value(name, spiffe_id=ID, **where) is None


def test_tokens(scraped: Scraped, fake_workload_api: FakeWorkloadAPI) -> None:
    with JWTSource(fake_workload_api.address, observer=PrometheusObserver(scraped.registry)) as source:
        for _ in range(3):
            source.wait_svid(["payments"])
        fake_workload_api.wait_until(lambda: scraped.value("spiffe_jwt_requests_total", outcome="fetched") == 1)
        assert scraped.value("spiffe_jwt_requests_total", outcome="cached") == 2
        assert scraped.value("spiffe_jwt_fetch_duration_seconds_count", outcome="fetched") == 1
        assert scraped.value("spiffe_source_connected", source="jwt bundles", place=fake_workload_api.address) == 1


def test_a_registry_takes_one_observer() -> None:
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusObserver(registry)


def test_a_text_cannot_break_the_exposition(scraped: Scraped) -> None:
    observer = PrometheusObserver(scraped.registry)
    observer(SourceUpdated(SourceName("files", '/odd"\n\\folder'), 1))
    assert scraped.value("spiffe_source_updates_total", source="files", place='/odd"\n\\folder') == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_several_processes_add_up(fake_workload_api: FakeWorkloadAPI, tmp_path: Path) -> None:
    """As under gunicorn with `preload_app`: made before the fork, used in two workers, scraped from all of them."""
    program = """
        import os, sys, warnings
        warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector
        from authsec_sdk.integrations.prometheus import PrometheusObserver
        from authsec_sdk.telemetry import HandshakeCompleted
        from authsec_sdk.workloadapi import X509Source

        observer = PrometheusObserver()
        with X509Source(sys.argv[1], observer=observer) as source:
            for _ in range(2):
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        observer(HandshakeCompleted("server", None, None, 1, 0.01))
                        source.close()
                        code = 0
                    finally:
                        os._exit(code)
                assert os.waitpid(pid, 0)[1] == 0
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
            sys.stdout.write(generate_latest(registry).decode())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), fake_workload_api.address],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    samples = read(done.stdout)
    assert samples["spiffe_tls_handshake_duration_seconds_count", frozenset({("role", "server")})] == 2
    place = ("place", fake_workload_api.address)
    assert samples["spiffe_source_updates_total", frozenset({("source", "x509"), place})] == 1
