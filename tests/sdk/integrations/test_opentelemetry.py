"""What OpenTelemetry's own in-memory exporters hold after real requests over mutual TLS."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.httpx import mtls_async_client, mtls_client
from authsec_sdk.integrations.opentelemetry import (
    OpenTelemetryObserver,
    SpanMiddleware,
    annotate_httpx,
    annotate_httpx_async,
    peer_attributes,
)
from authsec_sdk.spiffe import X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI
from authsec_sdk.workloadapi import Backoff, FailureKind, JWTSource, X509Source

FRONTEND, PAYMENTS = "spiffe://example.org/frontend", "spiffe://example.org/payments"
AT_ONCE = dict.fromkeys(FailureKind, Backoff(base=0.01, cap=0.01))


class Measured:
    """A meter provider in memory, and what it holds."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader])

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        data = self._reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), getattr(point, "count", getattr(point, "value", None)))
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def measured() -> Iterator[Measured]:
    measured = Measured()
    yield measured
    measured.provider.shutdown()


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> trace.Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider.get_tracer("tests")


class Traced:
    """A server's span for each request, as instrumentation of ASGI makes it, around an application."""

    def __init__(self, app: Any, tracer: trace.Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._tracer.start_as_current_span(scope["type"]):
            await self._app(scope, receive, send)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = (span for span in spans.get_finished_spans() if span.name == name)
    return span


TLS = {"tls.established": True, "tls.protocol.name": "tls", "tls.protocol.version": "1.3"}
AS_CLIENT = {"spiffe.peer.id": PAYMENTS, "spiffe.peer.trust_domain": "example.org", **TLS}


def test_the_servers_span_names_the_caller_and_itself(
    world: Any, serve: Any, tracer: trace.Tracer, spans: InMemorySpanExporter
) -> None:
    app = Traced(SpanMiddleware(answer, source=world.payments), tracer)
    with serve(app) as server, mtls_client(world.frontend, authorize_id(PAYMENTS)) as client:
        assert client.get(server.url).status_code == 204
    assert dict(named(spans, "http").attributes or {}) == {
        "spiffe.id": PAYMENTS,
        "spiffe.peer.id": FRONTEND,
        "spiffe.peer.trust_domain": "example.org",
        **TLS,
    }


def test_the_clients_span_names_the_server(
    world: Any, serve: Any, tracer: trace.Tracer, spans: InMemorySpanExporter
) -> None:
    hooks = {"response": [annotate_httpx]}
    with serve(answer) as server, mtls_client(world.frontend, authorize_id(PAYMENTS), event_hooks=hooks) as client:
        with tracer.start_as_current_span("call"):
            client.get(server.url)
        client.get(server.url)  # without a span nothing happens
    assert dict(named(spans, "call").attributes or {}) == AS_CLIENT


def test_the_clients_span_on_trio(world: Any, serve: Any, tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    async def call(url: str) -> None:
        hooks = {"response": [annotate_httpx_async]}
        async with mtls_async_client(world.frontend, authorize_id(PAYMENTS), event_hooks=hooks) as client:
            with tracer.start_as_current_span("call"):
                await client.get(url)

    with serve(answer) as server:
        trio.run(call, server.url)
    assert dict(named(spans, "call").attributes or {}) == AS_CLIENT


def test_handshakes_and_refusals_are_events_of_the_span_they_happen_in(
    world: Any, serve: Any, tracer: trace.Tracer, spans: InMemorySpanExporter, measured: Measured
) -> None:
    source = X509ContextHolder(world.frontend.x509_context, observer=OpenTelemetryObserver(measured.provider))
    with serve(answer) as server:
        with mtls_client(source, authorize_id(PAYMENTS)) as client, tracer.start_as_current_span("accepted"):
            client.get(server.url)
        with (
            mtls_client(source, authorize_id("spiffe://example.org/other")) as client,
            tracer.start_as_current_span("refused", record_exception=False),
            pytest.raises(httpx.ConnectError),
        ):
            client.get(server.url)
    (event,) = named(spans, "accepted").events
    assert event.name == "spiffe.handshake"
    assert dict(event.attributes or {}) == {
        "role": "client",
        "spiffe.id": FRONTEND,
        "spiffe.peer.id": PAYMENTS,
        "spiffe.peer.trust_domain": "example.org",
    }
    (event,) = named(spans, "refused").events
    assert event.name == "spiffe.refusal"
    assert dict(event.attributes or {}) == {
        "role": "client",
        "reason": "not_authorized",
        "spiffe.peer.claimed_id": PAYMENTS,
    }
    assert measured.points("spiffe.tls.handshake.duration") == [({"role": "client"}, 1)]
    assert measured.points("spiffe.tls.refusals") == [({"role": "client", "reason": "not_authorized"}, 1)]
    assert measured.points("spiffe.tls.generations") == [({"role": "client"}, 2)]


def test_span_events_can_be_left_out(
    world: Any, serve: Any, tracer: trace.Tracer, spans: InMemorySpanExporter, measured: Measured
) -> None:
    observer = OpenTelemetryObserver(measured.provider, span_events=False)
    source = X509ContextHolder(world.frontend.x509_context, observer=observer)
    with serve(answer) as server, mtls_client(source, authorize_id(PAYMENTS)) as client:
        with tracer.start_as_current_span("call"):
            client.get(server.url)
    assert named(spans, "call").events == ()
    assert measured.points("spiffe.tls.handshake.duration") == [({"role": "client"}, 1)]


def test_a_source_is_measured(measured: Measured, fake_workload_api: FakeWorkloadAPI) -> None:
    fake, observer = fake_workload_api, OpenTelemetryObserver(measured.provider)
    where = {"spiffe.source.kind": "x509", "spiffe.source.place": fake.address}
    with X509Source(fake.address, observer=observer, backoffs=AT_ONCE) as source:
        before = source.wait(30)
        fake.rotate()
        svid = source.wait(30, newer_than=before).svid
        fake.wait_until(lambda: measured.points("spiffe.source.updates") == [(where, 2)])
        expiry = ({**where, "spiffe.id": str(svid.id)}, svid.not_after.timestamp())
        assert measured.points("spiffe.svid.expiry") == [expiry]
        assert measured.points("spiffe.source.connected") == [(where, 1)]
        fake.stop()
        fake.wait_until(lambda: measured.points("spiffe.source.connected") == [(where, 0)])
        (lost,) = measured.points("spiffe.source.losses")
        assert lost[0] == {**where, "error.type": "UnavailableError"}
    assert measured.points("spiffe.source.connected") == [(where, 0)]


def test_tokens_are_measured(measured: Measured, fake_workload_api: FakeWorkloadAPI) -> None:
    with JWTSource(fake_workload_api.address, observer=OpenTelemetryObserver(measured.provider)) as source:
        source.wait_svid(["payments"])
        source.wait_svid(["payments"])
        fake_workload_api.wait_until(lambda: len(measured.points("spiffe.jwt.requests")) == 2)
    assert ({"outcome": "fetched"}, 1) in measured.points("spiffe.jwt.requests")
    assert ({"outcome": "cached"}, 1) in measured.points("spiffe.jwt.requests")
    assert measured.points("spiffe.jwt.fetch.duration") == [({"outcome": "fetched"}, 1)]


@pytest.mark.parametrize(
    "extensions", [None, {}, {"tls": {"tls_version": 0x0304}}, {"spiffe": {"peer": None}}, {"spiffe": {}}]
)
def test_a_scope_without_a_peer_names_none(extensions: Any, tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    async def call() -> None:
        async def send(message: Any) -> None:
            del message

        scope = {"type": "http", "extensions": extensions}
        await Traced(SpanMiddleware(answer, source=X509ContextHolder()), tracer)(scope, None, send)

    trio.run(call)
    assert "spiffe.peer.id" not in (named(spans, "http").attributes or {})


def test_a_connection_that_is_none_of_ours_has_no_attributes() -> None:
    assert peer_attributes(object()) == {}
