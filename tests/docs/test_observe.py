"""The pages about metrics, traces, status and WIT-SVIDs, and the examples: each block does what its page says."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from authsec_sdk.integrations.opentelemetry import OpenTelemetryObserver
from authsec_sdk.integrations.prometheus import PrometheusObserver
from authsec_sdk.telemetry import Event
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.workloadapi import SourceState

ROOT = Path(__file__).resolve().parents[2]
FRONTEND, PAYMENTS = "spiffe://example.org/frontend", "spiffe://example.org/payments"
Agents = tuple[FakeWorkloadAPI, FakeWorkloadAPI]


@pytest.fixture
def agents() -> Iterator[Agents]:
    ca = TestCA("example.org")
    with FakeWorkloadAPI() as frontend, FakeWorkloadAPI() as payments:
        frontend.issue(ca, "/frontend")
        payments.issue(ca, "/payments")
        yield frontend, payments


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(agent: FakeWorkloadAPI, *code: object) -> Iterator["subprocess.Popen[str]"]:
    env = {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, code)]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(agent: FakeWorkloadAPI, *code: object) -> str:
    with started(agent, *code) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


def until_listening(port: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "not listening in time"
            time.sleep(0.05)


def scraped(port: int, process: "subprocess.Popen[str]", wanted: str) -> str:
    deadline = time.monotonic() + 30
    text = ""
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
                text = response.read().decode()
        except OSError:
            pass
        if wanted in text:
            return text
        time.sleep(0.05)
    pytest.fail(f"{wanted!r} is not in {text}")


def test_status(agents: Agents) -> None:
    assert said(agents[0], "-c", blocks("docs/how-to/observe.md")[0]).startswith(f"ready True {FRONTEND} ")


def test_news(agents: Agents) -> None:
    assert said(agents[0], "-c", blocks("docs/how-to/observe.md")[1]).startswith(f"{FRONTEND} until 20")


def test_an_observer(agents: Agents) -> None:
    assert said(agents[0], "-c", blocks("docs/how-to/observe.md")[2]).startswith("rotated: expires_at=20")


def test_backoffs(agents: Agents) -> None:
    assert said(agents[0], "-c", blocks("docs/how-to/observe.md")[3] + "print(source.status.state.value)") == (
        "initializing\n"
    )


def test_wit(agents: Agents) -> None:
    [code] = blocks("docs/how-to/wit.md")
    assert said(agents[0], "-c", code) == f"{FRONTEND}, proofs by ES256\n"


def test_every_state_and_event_is_on_the_page() -> None:
    page = (ROOT / "docs/how-to/observe.md").read_text()
    for name in [*(state.name for state in SourceState), *(event.__name__ for event in get_args(Event))]:
        assert f"`{name}`" in page


def test_prometheus(agents: Agents) -> None:
    [code] = blocks("docs/integrations/prometheus.md")
    port = free_port()
    with started(agents[1], "-c", code, port) as process:
        text = scraped(port, process, "spiffe_svid_expiry_timestamp_seconds{")
        assert f'spiffe_id="{PAYMENTS}"' in text
        assert process.communicate("", timeout=30)[0] == ""
        assert process.returncode == 0


def names_on(page: str, pattern: str) -> set[str]:
    text = (ROOT / page).read_text()
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `spiffe")]
    return {name for row in rows for name in re.findall(pattern, row)}


def test_every_prometheus_metric_is_on_the_page_and_in_the_alerts_only_those() -> None:
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    kinds = re.findall(r"# TYPE (\S+) (counter|gauge|histogram)", generate_latest(registry).decode())
    assert names_on("docs/integrations/prometheus.md", r"`(\S+?)`") == {name for name, _ in kinds}
    [rules] = (yaml.safe_load(text) for text in blocks("docs/integrations/prometheus.md", "yaml"))
    used = {name for rule in rules["groups"][0]["rules"] for name in re.findall(r"spiffe_\w+", rule["expr"])}
    assert used <= {name for name, _ in kinds}


def test_prometheus_example(agents: Agents) -> None:
    port, metrics = free_port(), free_port()
    with started(agents[1], ROOT / "examples/prometheus_server.py", port, metrics, FRONTEND) as process:
        scraped(metrics, process, "spiffe_source_connected{")
        until_listening(port, process)
        url = f"https://127.0.0.1:{port}/"
        assert ": 200" in said(agents[0], ROOT / "examples/httpx_client.py", url, PAYMENTS)
        span = json.loads(said(agents[0], ROOT / "examples/opentelemetry_client.py", url, PAYMENTS))
        scraped(metrics, process, 'spiffe_tls_handshake_duration_seconds_count{role="server"} 2.0')
    assert span["spiffe.peer.id"] == PAYMENTS
    assert span["tls.protocol.version"] == "1.3"


def test_opentelemetry(agents: Agents) -> None:
    server, client = blocks("docs/integrations/opentelemetry.md")
    port = free_port()
    exporter = f"""
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(
    formatter=lambda span: " ".join(sorted([*span.attributes, *(event.name for event in span.events)])) + "\\n"
)))
trace.set_tracer_provider(provider)
PORT = {port}
"""
    serve = """
from authsec_sdk.authz import authorize_member_of
from authsec_sdk.integrations.uvicorn import MTLSConfig, MTLSServer
source.wait(30)
policy = authorize_member_of("example.org")
MTLSServer(MTLSConfig(traced, source, policy, port=PORT, lifespan="off", log_level="error")).run()
"""
    tls = "tls.established tls.protocol.name tls.protocol.version"
    with started(agents[1], "-c", exporter + server + serve) as process:
        until_listening(port, process)
        output = said(agents[0], "-c", exporter + client.replace("8443", str(port)))
        process.terminate()
        served = process.communicate(timeout=30)[0]
    assert output == f"spiffe.handshake spiffe.peer.id spiffe.peer.trust_domain {tls}\n"
    assert served == f"spiffe.id spiffe.peer.id spiffe.peer.trust_domain {tls}\n"


def test_every_opentelemetry_metric_is_on_the_page() -> None:
    made: set[str] = set()

    class Provider:
        def get_meter(self, *args: Any, **options: Any) -> Any:
            del args, options
            return self

        def __getattr__(self, name: str) -> Any:
            return lambda instrument, *args, **options: made.add(instrument)

    OpenTelemetryObserver(Provider())  # type: ignore[arg-type]
    text = (ROOT / "docs/integrations/opentelemetry.md").read_text().split("## Metrics")[1]
    assert {name for name in re.findall(r"`(spiffe\.\S+?)`", text) if name.count(".") > 1} - {
        "spiffe.source.kind",
        "spiffe.source.place",
    } == made
