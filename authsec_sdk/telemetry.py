"""What sources and TLS contexts tell an observer: values for metrics and traces, and the one way they are told.

A source is given an observer when it is made; every TLS context over that source reports to it, too. Nothing is global,
and where there is no observer an event is not even made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, TypeAlias

from authsec_sdk.errors import (
    InvalidX509SVIDError,
    NoBundleForTrustDomainError,
    PeerNotAuthorizedError,
    SpiffeError,
    UntrustedPeerError,
)
from authsec_sdk.spiffe import SpiffeID

__all__ = [
    "Event",
    "GenerationMade",
    "HandshakeCompleted",
    "Observer",
    "Rejection",
    "SourceClosed",
    "SourceConnected",
    "SourceLost",
    "SourceName",
    "SourceUpdated",
    "TokenOutcome",
    "TokenServed",
    "UpdateRejected",
    "observe_all",
    "observer_of",
    "refusal_class",
    "tell",
]

_logger = logging.getLogger(__name__)


# --- TLS: told in the thread of the handshake ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """A peer was verified and accepted. `role` is ours; `seconds` ran from when the connection was wrapped.

    `peer` is None for one that was not asked for a certificate, or had to bring none; `own` where we present none.
    """

    role: str
    peer: SpiffeID | None
    own: SpiffeID | None
    generation: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """A peer that was refused, for the operator. Nothing of it reaches the peer.

    `spiffe_id` is the ID that its certificate claims, None if none could be read: OpenSSL keeps nothing of a client
    whose chain it refused itself. It is proven only where `reason` is a `PeerNotAuthorizedError`. `role` is ours:
    client or server.
    """

    spiffe_id: SpiffeID | None
    reason: SpiffeError
    role: str
    generation: int


@dataclass(frozen=True, slots=True)
class GenerationMade:
    """A TLS context made what connections use from now on: its first generation, or a rotation."""

    role: str
    number: int


# --- sources: told in the thread that all sources share --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceName:
    """Which source: what `kind` of things it brings, and the `place` it has them from (an address, a folder)."""

    kind: str
    place: str


@dataclass(frozen=True, slots=True)
class SourceConnected:
    """The source has had something acceptable, after it had nothing or was cut off: news will arrive."""

    source: SourceName


@dataclass(frozen=True, slots=True)
class SourceUpdated:
    """The source published something new; `number` counts from 1. ID, serial and expiry are those of the SVID used."""

    source: SourceName
    number: int
    spiffe_id: SpiffeID | None = None
    serial: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UpdateRejected:
    """What arrived broke a rule; the last good one stays."""

    source: SourceName
    error: SpiffeError


@dataclass(frozen=True, slots=True)
class SourceLost:
    """The source is cut off, `failures` times in a row; it tries again after `retry_in` seconds."""

    source: SourceName
    error: SpiffeError
    failures: int
    retry_in: float


@dataclass(frozen=True, slots=True)
class SourceClosed:
    """The source was closed. Told in the thread that closed it."""

    source: SourceName


class TokenOutcome(Enum):
    """How a request for a token was met."""

    CACHED = "cached"
    """At once, from the cache."""

    FETCHED = "fetched"
    """By the agent, while somebody waited."""

    REFRESHED = "refreshed"
    """By the agent, ahead of time, while the old one was still good."""

    FAILED = "failed"
    """Not."""


@dataclass(frozen=True, slots=True)
class TokenServed:
    """A JWT-SVID was asked for. `seconds` is what the agent took; 0 from the cache, which the caller's thread tells."""

    source: SourceName
    outcome: TokenOutcome
    seconds: float = 0.0
    spiffe_id: SpiffeID | None = None
    expires_at: datetime | None = None
    error: SpiffeError | None = None


Event: TypeAlias = (
    HandshakeCompleted
    | Rejection
    | GenerationMade
    | SourceConnected
    | SourceUpdated
    | UpdateRejected
    | SourceLost
    | SourceClosed
    | TokenServed
)

Observer: TypeAlias = Callable[[Event], None]
"""Told each event as it happens, in the thread where it happens: it must be quick, not wait, and be safe among threads.
New kinds of events may come; ignore those you do not know. What it raises is logged and changes nothing else."""


def tell(observer: Observer | None, event: Event) -> None:
    """Tell an observer, if there is one; whatever `Exception` it raises goes to the log."""
    if observer is None:
        return
    try:
        observer(event)
    except Exception:
        _logger.exception("an observer failed event=%s", type(event).__name__)


def observe_all(*observers: Observer) -> Observer:
    """Return an observer that tells all of these, each whether or not another one fails."""

    def each(event: Event) -> None:
        for observer in observers:
            tell(observer, event)

    return each


def observer_of(source: object) -> Observer | None:
    """Return the observer that a source names in its attribute `observer`, as all of ours do; None for one without."""
    observer: Observer | None = getattr(source, "observer", None)
    return observer if callable(observer) else None  # a source of somebody's own may mean something else by it


_REFUSALS: Final[tuple[tuple[type[SpiffeError], str], ...]] = (
    (PeerNotAuthorizedError, "not_authorized"),
    (NoBundleForTrustDomainError, "no_bundle"),
    (UntrustedPeerError, "untrusted"),
    (InvalidX509SVIDError, "invalid_svid"),
)


def refusal_class(reason: SpiffeError) -> str:
    """Name the class of a refusal in one of five words, which a peer cannot add to: fit for a metric's label."""
    for error_class, name in _REFUSALS:
        if isinstance(reason, error_class):
            return name
    return "other"
