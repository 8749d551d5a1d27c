"""One rule of a policy: which peers it names, of which requests it speaks, and whether it allows or denies; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from authsec_sdk.authz.path_pattern import PathPattern
from authsec_sdk.authz.request import Request
from authsec_sdk.authz.route_pattern import RoutePattern
from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.spiffe.ids import SpiffeID, TrustDomain

__all__ = ["DatabaseScope", "Effect", "GRPCScope", "HTTPScope", "PeerPattern", "Place", "Rule", "parse_peer"]

Effect = Literal["allow", "deny"]
PeerPattern = SpiffeID | PathPattern | TrustDomain


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a document something stands; lines and columns count from 1."""

    line: int
    column: int


def parse_peer(text: str) -> PeerPattern:
    """Read whom a rule names: a SPIFFE ID, a pattern of them (`spiffe://example.org/ns/*/sa/web`), or a trust domain.

    Raises:
        InvalidSpiffeIDError: it is none of these; or a SPIFFE ID without a path, which no workload has.
    """
    if "://" not in text:
        return TrustDomain(text)
    if "*" in text:
        return PathPattern.parse(text)
    spiffe_id = SpiffeID.parse(text)
    if not spiffe_id.path:
        raise InvalidSpiffeIDError(
            f"{text!r} names no workload: write {spiffe_id.trust_domain.name} for the whole trust domain"
        )
    return spiffe_id


@dataclass(frozen=True, slots=True)
class HTTPScope:
    """HTTP requests whose path one of the patterns matches, with one of the methods; None: with any.

    GET stands for HEAD too (RFC 9110 section 9.3.2).
    """

    paths: frozenset[RoutePattern]
    methods: frozenset[str] | None = None

    def covers(self, request: Request) -> bool:
        """Say whether the request is one of these."""
        if request.kind != "http" or not self._has(request.action):
            return False
        segments = request.segments
        return any(path.matches(segments) for path in self.paths)

    def _has(self, method: str) -> bool:
        methods = self.methods
        return methods is None or method in methods or (method == "HEAD" and "GET" in methods)

    def __str__(self) -> str:
        methods = "any method" if self.methods is None else "|".join(sorted(self.methods))
        return f"{methods} {', '.join(str(path) for path in sorted(self.paths))}"


@dataclass(frozen=True, slots=True)
class GRPCScope:
    """gRPC calls: `/package.Service/Method`, `/package.Service/*`, or `/*` for all."""

    methods: frozenset[str]

    def covers(self, request: Request) -> bool:
        """Say whether the request is one of these."""
        if request.kind != "grpc":
            return False
        service = request.target.rpartition("/")[0]
        return any(pattern in self.methods for pattern in (request.target, f"{service}/*", "/*"))

    def __str__(self) -> str:
        return f"gRPC {', '.join(sorted(self.methods))}"


@dataclass(frozen=True, slots=True)
class DatabaseScope:
    """Sessions under one of the roles, in one of the databases; None: in any, or under any."""

    names: frozenset[str] | None
    roles: frozenset[str] | None

    def covers(self, request: Request) -> bool:
        """Say whether the request is one of these."""
        return (
            request.kind == "database"
            and (self.names is None or request.target in self.names)
            and (self.roles is None or request.action in self.roles)
        )

    def __str__(self) -> str:
        roles = "any role" if self.roles is None else f"role {'|'.join(sorted(self.roles))}"
        names = "any database" if self.names is None else f"database {'|'.join(sorted(self.names))}"
        return f"{roles} in {names}"


Scope = HTTPScope | GRPCScope | DatabaseScope


@dataclass(frozen=True, slots=True)
class Rule:
    """Peers and requests together, and what becomes of them. Made of a document by `read_policy`.

    `scopes` is None where the rule speaks of everything; else of what at least one of them covers.
    """

    name: str
    effect: Effect
    peers: frozenset[PeerPattern]
    scopes: frozenset[Scope] | None
    place: Place | None = field(default=None, compare=False)

    def names(self, peer: SpiffeID) -> bool:
        """Say whether the rule is about this peer."""
        return any(_stands_for(pattern, peer) for pattern in self.peers)

    def covers(self, request: Request) -> bool:
        """Say whether the rule is about this request."""
        return self.scopes is None or any(scope.covers(request) for scope in self.scopes)

    def trust_domains(self) -> frozenset[TrustDomain]:
        """Return every trust domain the rule names."""
        return frozenset(each if isinstance(each, TrustDomain) else each.trust_domain for each in self.peers)

    def __str__(self) -> str:
        scopes = ["everything"] if self.scopes is None else sorted(str(scope) for scope in self.scopes)
        return f"{self.effect} {_listed(map(str, self.peers))}: {_listed(scopes)}"


def _stands_for(pattern: PeerPattern, peer: SpiffeID) -> bool:
    if isinstance(pattern, SpiffeID):
        return pattern == peer
    if isinstance(pattern, PathPattern):
        return pattern.matches(peer)
    return peer.trust_domain == pattern


def _listed(texts: Iterable[str], key: Callable[[str], str] | None = None) -> str:
    known = sorted(texts, key=key)
    return "; ".join(known if len(known) <= 5 else [*known[:4], f"{len(known) - 4} more"])
