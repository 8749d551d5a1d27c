"""OpenTelemetry: peers and identities as attributes of spans, and metrics (extra ``opentelemetry``).

Metrics, and an event in the current span for each handshake and refusal, come from one observer, given to each source.
Spans of requests get the peer from the ASGI middleware on the server's side and from an event hook of httpx on the
client's::

    source = X509Source(observer=OpenTelemetryObserver())
    app = SpanMiddleware(app)  # inside what starts the server's span
    client = mtls_client(source, authorizer, event_hooks={"response": [annotate_httpx]})

Attributes: ``spiffe.id`` is this workload's SPIFFE ID, ``spiffe.peer.id`` and ``spiffe.peer.trust_domain`` are the
peer's, as the handshake proved it; OpenTelemetry's semantic conventions have no name for either. What they do name is
called so: ``tls.established``, ``tls.protocol.name``, ``tls.protocol.version``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span

from authsec_sdk.errors import SpiffeError
from authsec_sdk.integrations.asgi import ASGIApp, Receive, Scope, Send
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.telemetry import (
    Event,
    GenerationMade,
    HandshakeCompleted,
    Rejection,
    SourceClosed,
    SourceConnected,
    SourceLost,
    SourceName,
    SourceUpdated,
    TokenOutcome,
    TokenServed,
    UpdateRejected,
    refusal_class,
)
from authsec_sdk.tls import peer_spiffe_id

if TYPE_CHECKING:  # whoever has no httpx uses the rest
    import httpx

__all__ = [
    "OpenTelemetryObserver",
    "SpanMiddleware",
    "annotate_httpx",
    "annotate_httpx_async",
    "peer_attributes",
]

Attributes = dict[str, str | bool]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_VERSIONS: Final[Mapping[int, str]] = {0x0303: "1.2", 0x0304: "1.3"}
_SCOPE: Final = "authsec_sdk"


class OpenTelemetryObserver:
    """Counts what sources and TLS contexts tell, and notes handshakes and refusals in the span they happen in.

    Safe among threads; one serves any number of sources. Metrics have labels from a small, closed set; the ID that a
    refused peer claims is in the span's event alone.

    Args:
        meter_provider: whose meter to use; OpenTelemetry's global one by default.
        span_events: note handshakes (``spiffe.handshake``) and refusals (``spiffe.refusal``) in the current span.

    """

    def __init__(self, meter_provider: MeterProvider | None = None, *, span_events: bool = True) -> None:
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._span_events = span_events
        self._handshakes = meter.create_histogram(
            "spiffe.tls.handshake.duration",
            "s",
            "Accepted TLS handshakes, from wrapping the connection to the verdict.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._refusals = meter.create_counter("spiffe.tls.refusals", "{peer}", "Peers refused, by class of the reason.")
        self._generations = meter.create_counter("spiffe.tls.generations", "{generation}", "TLS generations made.")
        self._updates = meter.create_counter("spiffe.source.updates", "{update}", "New values published.")
        self._rejected = meter.create_counter(
            "spiffe.source.rejected_updates", "{update}", "Updates that broke a rule."
        )
        self._losses = meter.create_counter(
            "spiffe.source.losses", "{attempt}", "Attempts to reach the agent that ended."
        )
        self._connected = meter.create_gauge("spiffe.source.connected", "1", "1 if news would arrive, else 0.")
        self._expiry = meter.create_gauge("spiffe.svid.expiry", "s", "When the SVID in use expires, as Unix time.")
        self._tokens = meter.create_counter("spiffe.jwt.requests", "{request}", "Requests for JWT-SVIDs, by outcome.")
        self._token_seconds = meter.create_histogram(
            "spiffe.jwt.fetch.duration",
            "s",
            "How long the agent took to answer for a JWT-SVID.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )

    def __call__(self, event: Event) -> None:
        """Count one event."""
        match event:
            case HandshakeCompleted(role=role, seconds=seconds):
                self._handshakes.record(seconds, {"role": role})
                self._note("spiffe.handshake", {"role": role, **_ids(event.own, event.peer)})
            case Rejection(spiffe_id, reason, role):
                refused = {"role": role, "reason": refusal_class(reason)}
                self._refusals.add(1, refused)
                claimed = {} if spiffe_id is None else {"spiffe.peer.claimed_id": str(spiffe_id)}
                self._note("spiffe.refusal", {**refused, **claimed})
            case GenerationMade(role):
                self._generations.add(1, {"role": role})
            case SourceConnected(source):
                self._connected.set(1, _labels(source))
            case SourceUpdated(source, _, spiffe_id, _, expires_at):
                self._updates.add(1, _labels(source))
                if expires_at is not None:
                    self._expiry.set(expires_at.timestamp(), {**_labels(source), "spiffe.id": str(spiffe_id)})
            case UpdateRejected(source):
                self._rejected.add(1, _labels(source))
            case SourceLost(source, error):
                self._losses.add(1, {**_labels(source), "error.type": type(error).__name__})
                self._connected.set(0, _labels(source))
            case SourceClosed(source):
                self._connected.set(0, _labels(source))
            case TokenServed(outcome=outcome, seconds=seconds):
                self._tokens.add(1, {"outcome": outcome.value})
                if outcome is not TokenOutcome.CACHED:
                    self._token_seconds.record(seconds, {"outcome": outcome.value})

    def _note(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._span_events:
            trace.get_current_span().add_event(name, attributes)


class SpanMiddleware:
    """Put the caller into the server's span, which whatever is around this middleware has started.

    ``source`` adds this workload's own ID. Without a server integration of ours, or outside a span, does nothing.
    """

    def __init__(self, app: ASGIApp, *, source: X509ContextSource | None = None) -> None:
        self._app = app
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        span = trace.get_current_span()
        extensions = scope.get("extensions") or {}
        if scope["type"] != "lifespan" and span.is_recording() and "spiffe" in extensions:
            peer = extensions["spiffe"].get("peer")
            version = (extensions.get("tls") or {}).get("tls_version")
            span.set_attributes(
                {**_ids(_own(self._source), peer), **_tls(_VERSIONS.get(version) if version is not None else None)}
            )
        await self._app(scope, receive, send)


def peer_attributes(connection: object) -> Attributes:
    """Return the attributes of a connection; ``connection`` is what :func:`authsec_sdk.tls.peer_spiffe_id` takes.

    Empty for one that is none of ours.
    """
    peer = peer_spiffe_id(connection)
    if peer is None:
        return {}
    return {**_ids(None, peer), **_tls(_version_of(connection))}


def annotate_httpx(response: "httpx.Response") -> None:
    """Put the server that answered into the current span: for ``event_hooks={"response": [annotate_httpx]}``."""
    _annotate(trace.get_current_span(), response)


async def annotate_httpx_async(response: "httpx.Response") -> None:
    """As :func:`annotate_httpx`, for ``httpx.AsyncClient``."""
    _annotate(trace.get_current_span(), response)


def _annotate(span: Span, response: "httpx.Response") -> None:
    if span.is_recording():
        span.set_attributes(peer_attributes(response.extensions.get("network_stream")))


def _ids(own: SpiffeID | None, peer: SpiffeID | None) -> dict[str, str]:
    ours = {} if own is None else {"spiffe.id": str(own)}
    theirs = {} if peer is None else {"spiffe.peer.id": str(peer), "spiffe.peer.trust_domain": str(peer.trust_domain)}
    return {**ours, **theirs}


def _tls(version: str | None) -> Attributes:
    known: Attributes = {} if version is None else {"tls.protocol.version": version}
    return {"tls.established": True, "tls.protocol.name": "tls", **known}


def _version_of(connection: object) -> str | None:
    extra: Any = getattr(connection, "get_extra_info", None)
    found: Any = extra("ssl_object") if callable(extra) else connection
    version = getattr(found, "version", None)
    name = version() if callable(version) else None
    return name.removeprefix("TLSv") if isinstance(name, str) else None


def _own(source: X509ContextSource | None) -> SpiffeID | None:
    try:
        return None if source is None else source.x509_context.svid.id
    except SpiffeError:  # no identity yet, or no longer: a span goes on without it
        return None


def _labels(source: SourceName) -> dict[str, str]:
    return {"spiffe.source.kind": source.kind, "spiffe.source.place": source.place}
