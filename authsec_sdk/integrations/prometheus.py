"""Prometheus metrics: handshakes, refusals, rotations, expiry and outages, of sources and TLS (extra ``prometheus``).

One observer, given to each source; every TLS context over a source reports to the source's observer by itself::

    metrics = PrometheusObserver()
    source = X509Source(observer=metrics)
    prometheus_client.start_http_server(9464)

Labels come from a small, closed set: roles, classes of refusals, this process's own sources and SPIFFE IDs. What a peer
sends never becomes a label, unless ``refused_ids`` asks for it.
"""

import os
from collections.abc import Sequence
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

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

__all__ = ["HANDSHAKE_BUCKETS", "PrometheusObserver"]

HANDSHAKE_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds: a handshake on one host takes about two milliseconds, a stuck one is ended in seconds."""

_SOURCE: Final = ("source", "place")


class PrometheusObserver:
    """Counts what sources and TLS contexts tell. Safe among threads; one serves any number of sources.

    Sources of one kind at one place share their series.

    In multi-process mode (``PROMETHEUS_MULTIPROC_DIR``) counters add up over processes, and the two gauges show the
    worst live one: the earliest expiry, and 0 if any source is cut off. There a closed source goes on showing 0 until
    its process ends, because that mode cannot drop a series; elsewhere its series are dropped.

    Args:
        registry: where the metrics are registered; ``prometheus_client``'s own by default. A registry takes one
            observer: the second raises ``ValueError``.
        refused_ids: add the label ``spiffe_id`` to refusals. Whoever can connect can then make new series, with any
            name their certificate claims: only for a listener that no stranger reaches.
        buckets: upper bounds of the two histograms, in seconds.

    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        refused_ids: bool = False,
        buckets: Sequence[float] = HANDSHAKE_BUCKETS,
    ) -> None:
        self._refused_ids = refused_ids
        self._expiring: dict[SourceName, str] = {}
        self._handshakes = Histogram(
            "spiffe_tls_handshake_duration_seconds",
            "Accepted TLS handshakes, from wrapping the connection to the verdict; the count is their number.",
            ("role",),
            registry=registry,
            buckets=buckets,
        )
        self._refusals = Counter(
            "spiffe_tls_refusals",
            "Peers refused, by our role and the class of the reason.",
            ("role", "reason", "spiffe_id") if refused_ids else ("role", "reason"),
            registry=registry,
        )
        self._generations = Counter(
            "spiffe_tls_generations",
            "TLS generations made: the first, and each rotation.",
            ("role",),
            registry=registry,
        )
        self._updates = Counter("spiffe_source_updates", "New values published.", _SOURCE, registry=registry)
        self._rejected = Counter(
            "spiffe_source_rejected_updates", "Updates that broke a rule.", _SOURCE, registry=registry
        )
        self._losses = Counter(
            "spiffe_source_losses",
            "Attempts to reach the agent that ended, by error; each is tried again.",
            (*_SOURCE, "error"),
            registry=registry,
        )
        self._connected = Gauge(
            "spiffe_source_connected",
            "1 if news would arrive, 0 if the source is cut off or closed.",
            _SOURCE,
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._expiry = Gauge(
            "spiffe_svid_expiry_timestamp_seconds",
            "When the SVID in use expires, as Unix time.",
            (*_SOURCE, "spiffe_id"),
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._tokens = Counter(
            "spiffe_jwt_requests", "Requests for JWT-SVIDs, by how they were met.", ("outcome",), registry=registry
        )
        self._token_seconds = Histogram(
            "spiffe_jwt_fetch_duration_seconds",
            "How long the agent took to answer for a JWT-SVID.",
            ("outcome",),
            registry=registry,
            buckets=buckets,
        )

    def __call__(self, event: Event) -> None:
        """Count one event."""
        match event:
            case HandshakeCompleted(role=role, seconds=seconds):
                self._handshakes.labels(role).observe(seconds)
            case Rejection(spiffe_id, reason, role):
                claimed = (str(spiffe_id or ""),) if self._refused_ids else ()
                self._refusals.labels(role, refusal_class(reason), *claimed).inc()
            case GenerationMade(role):
                self._generations.labels(role).inc()
            case SourceConnected(source):
                self._connected.labels(*_labels(source)).set(1)
            case SourceUpdated(source):
                self._updates.labels(*_labels(source)).inc()
                self._expires(event)
            case UpdateRejected(source):
                self._rejected.labels(*_labels(source)).inc()
            case SourceLost(source, error):
                self._losses.labels(*_labels(source), type(error).__name__).inc()
                self._connected.labels(*_labels(source)).set(0)
            case SourceClosed(source):
                self._closed(source)
            case TokenServed(outcome=outcome, seconds=seconds):
                self._tokens.labels(outcome.value).inc()
                if outcome is not TokenOutcome.CACHED:
                    self._token_seconds.labels(outcome.value).observe(seconds)

    def _expires(self, event: SourceUpdated) -> None:
        if event.expires_at is None:
            return
        spiffe_id = str(event.spiffe_id)
        before = self._expiring.get(event.source)
        if before not in (None, spiffe_id):
            self._drop_expiry(event.source)
        self._expiring[event.source] = spiffe_id
        self._expiry.labels(*_labels(event.source), spiffe_id).set(event.expires_at.timestamp())

    def _closed(self, source: SourceName) -> None:
        self._drop_expiry(source)
        if _multiprocess():
            self._connected.labels(*_labels(source)).set(0)
        else:
            self._connected.remove(*_labels(source))

    def _drop_expiry(self, source: SourceName) -> None:
        spiffe_id = self._expiring.pop(source, None)
        if spiffe_id is None:
            return
        if _multiprocess():  # no series can be dropped there: one that never expires is what no alert fires on
            self._expiry.labels(*_labels(source), spiffe_id).set(float("inf"))
        else:
            self._expiry.remove(*_labels(source), spiffe_id)


def _labels(source: SourceName) -> tuple[str, str]:
    return source.kind, source.place


def _multiprocess() -> bool:
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ
