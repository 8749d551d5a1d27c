"""Authorizers which look at the peer's ID alone, and their combinations.

Each is a frozen value: equal to another one made of the same, and printed as the text that its refusals show.
Those which could accept nobody because they were given nothing are refused when they are made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from authsec_sdk.authz.authorizers import (
    Authorizer,
    BrokenAuthorizerError,
    authorize,
    describe,
    require_authorizer,
    require_plain_function,
)
from authsec_sdk.authz.path_pattern import PathPattern
from authsec_sdk.errors import InvalidAuthorizerError, PeerNotAuthorizedError
from authsec_sdk.spiffe.ids import SpiffeID, TrustDomain

__all__ = [
    "Matcher",
    "all_of",
    "any_of",
    "authorize_id",
    "authorize_if",
    "authorize_member_of",
    "authorize_one_of",
    "authorize_path",
    "not_",
    "unsafe_authorize_any",
]

_ALLOW_ID = "if it should be, add its ID where this authorizer is made"
_ALLOW_DOMAIN = "if it should be, add its trust domain where this authorizer is made"


class Matcher(ABC):
    """An authorizer of this module. ``a & b`` is `all_of(a, b)`, ``a | b`` is `any_of(a, b)` and ``~a`` is `not_(a)`.

    The other operand may be any authorizer. Python's own ``and``, ``or`` and ``not`` do not combine: they pick one.
    """

    __slots__ = ()

    @abstractmethod
    def __call__(self, peer: SpiffeID) -> None:
        """Accept by returning None, or raise PeerNotAuthorizedError."""

    @abstractmethod
    def trust_domains(self) -> frozenset[TrustDomain] | None:
        """Return the trust domains outside of which nobody is accepted; None where that cannot be said."""

    def __and__(self, other: Authorizer | Callable[[SpiffeID], None]) -> Matcher:
        return all_of(self, other)

    def __rand__(self, other: Authorizer | Callable[[SpiffeID], None]) -> Matcher:
        return all_of(other, self)

    def __or__(self, other: Authorizer | Callable[[SpiffeID], None]) -> Matcher:
        return any_of(self, other)

    def __ror__(self, other: Authorizer | Callable[[SpiffeID], None]) -> Matcher:
        return any_of(other, self)

    def __invert__(self) -> Matcher:
        return not_(self)


def authorize_id(spiffe_id: SpiffeID | str) -> Matcher:
    """Accept exactly one SPIFFE ID.

    Raises:
        InvalidSpiffeIDError: the text is none.
    """
    return _OneOf(frozenset({_id(spiffe_id)}))


def authorize_one_of(*spiffe_ids: SpiffeID | str) -> Matcher:
    """Accept any of the given SPIFFE IDs.

    Raises:
        InvalidAuthorizerError: none was given.
        InvalidSpiffeIDError: a text is none.
    """
    _require_some(spiffe_ids, "authorize_one_of", "SPIFFE ID")
    return _OneOf(frozenset(_id(spiffe_id) for spiffe_id in spiffe_ids))


def authorize_member_of(*trust_domains: TrustDomain | str) -> Matcher:
    """Accept every workload of the given trust domains, named by `TrustDomain`, name, or any SPIFFE ID in them.

    Raises:
        InvalidAuthorizerError: none was given.
        InvalidTrustDomainError: a text is none.
    """
    _require_some(trust_domains, "authorize_member_of", "trust domain")
    return _MemberOf(
        frozenset(domain if isinstance(domain, TrustDomain) else TrustDomain.parse(domain) for domain in trust_domains)
    )


def authorize_path(pattern: str) -> Matcher:
    """Accept the SPIFFE IDs that a pattern like `spiffe://example.org/ns/*/sa/payments` matches.

    In the path, a segment `*` matches any one segment, and a last segment `**` matches one or more segments; every
    other segment matches itself alone. Wildcards inside a segment (`pay*`) or in the trust domain do not exist.

    Raises:
        InvalidSpiffeIDError: the text is no such pattern.
    """
    return _Path(PathPattern.parse(pattern))


def authorize_if(predicate: Callable[[SpiffeID], bool], description: str) -> Matcher:
    """Accept the IDs for which `predicate` returns True itself; anything else refuses.

    `description` ends the sentence "wanted: …" in refusals.

    Raises:
        InvalidAuthorizerError: the predicate is async or no function of one argument, or the description is empty.
    """
    require_plain_function(predicate, "a predicate", "pass a function that returns True or False")
    if not isinstance(description, str) or not description.strip():
        raise InvalidAuthorizerError("authorize_if needs a description of whom it accepts, for those who read refusals")
    return _If(predicate, description)


def all_of(*authorizers: Authorizer | Callable[[SpiffeID], None]) -> Matcher:
    """Accept a peer that every one of the authorizers accepts; they are asked in order, up to the first refusal.

    Raises:
        InvalidAuthorizerError: none was given, or one cannot be an authorizer.
    """
    _require_some(authorizers, "all_of", "authorizer")
    return _AllOf(tuple(require_authorizer(authorizer) for authorizer in authorizers))


def any_of(*authorizers: Authorizer | Callable[[SpiffeID], None]) -> Matcher:
    """Accept a peer that at least one of the authorizers accepts; they are asked in order, up to the first consent.

    Raises:
        InvalidAuthorizerError: none was given, or one cannot be an authorizer.
    """
    _require_some(authorizers, "any_of", "authorizer")
    return _AnyOf(tuple(require_authorizer(authorizer) for authorizer in authorizers))


def not_(authorizer: Authorizer | Callable[[SpiffeID], None]) -> Matcher:
    """Accept a peer that the authorizer decides to refuse. An authorizer that fails accepts nobody here either.

    This accepts peers of every trust domain we hold a bundle of: mostly wanted inside `all_of`.

    Raises:
        InvalidAuthorizerError: it cannot be an authorizer.
    """
    return _Not(require_authorizer(authorizer))


def unsafe_authorize_any() -> Matcher:
    """Accept everybody with a valid SVID of any trust domain we hold a bundle of, federated ones too.

    Unsafe unless the peer's ID is judged elsewhere for every request.
    """
    return _Anybody()


@dataclass(frozen=True, slots=True)
class _OneOf(Matcher):
    ids: frozenset[SpiffeID]

    def __call__(self, peer: SpiffeID) -> None:
        if peer not in self.ids:
            raise PeerNotAuthorizedError(peer, str(self), _ALLOW_ID)

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return frozenset(spiffe_id.trust_domain for spiffe_id in self.ids)

    def __str__(self) -> str:
        return _listed([str(spiffe_id) for spiffe_id in sorted(self.ids)], "or")


@dataclass(frozen=True, slots=True)
class _MemberOf(Matcher):
    domains: frozenset[TrustDomain]

    def __call__(self, peer: SpiffeID) -> None:
        if peer.trust_domain not in self.domains:
            raise PeerNotAuthorizedError(peer, str(self), _ALLOW_DOMAIN)

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return self.domains

    def __str__(self) -> str:
        return f"a member of trust domain {_listed([str(domain) for domain in sorted(self.domains)], 'or')}"


@dataclass(frozen=True, slots=True)
class _Path(Matcher):
    pattern: PathPattern

    def __call__(self, peer: SpiffeID) -> None:
        if not self.pattern.matches(peer):
            raise PeerNotAuthorizedError(peer, str(self), "if it should be, widen the pattern")

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return frozenset({self.pattern.trust_domain})

    def __str__(self) -> str:
        return str(self.pattern)


@dataclass(frozen=True, slots=True)
class _If(Matcher):
    predicate: Callable[[SpiffeID], bool]
    description: str

    def __call__(self, peer: SpiffeID) -> None:
        answer: object = self.predicate(peer)
        if answer is False:
            raise PeerNotAuthorizedError(peer, str(self), "if it should be, change the predicate of authorize_if")
        if answer is not True:
            raise BrokenAuthorizerError(
                peer, str(self), f"the predicate returned {type(answer).__name__}: let it return True or False"
            )

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return None

    def __str__(self) -> str:
        return self.description


@dataclass(frozen=True, slots=True)
class _AllOf(Matcher):
    parts: tuple[Authorizer, ...]

    def __call__(self, peer: SpiffeID) -> None:
        for part in self.parts:
            authorize(part, peer)

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        known = [domains for domains in (part.trust_domains() for part in self.parts) if domains is not None]
        return frozenset.intersection(*known) if known else None

    def __str__(self) -> str:
        return _grouped(self.parts, "and")


@dataclass(frozen=True, slots=True)
class _AnyOf(Matcher):
    parts: tuple[Authorizer, ...]

    def __call__(self, peer: SpiffeID) -> None:
        broken: BrokenAuthorizerError | None = None
        for part in self.parts:
            try:
                authorize(part, peer)
            except BrokenAuthorizerError as error:
                broken = broken or error
            except PeerNotAuthorizedError:
                continue
            else:
                return
        if broken is not None:  # it might have accepted, so this is not a decision to refuse
            raise BrokenAuthorizerError(peer, str(self), broken.action) from broken
        raise PeerNotAuthorizedError(peer, str(self), _ALLOW_ID)

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        union: frozenset[TrustDomain] = frozenset()
        for part in self.parts:
            domains = part.trust_domains()
            if domains is None:
                return None
            union |= domains
        return union

    def __str__(self) -> str:
        return _grouped(self.parts, "or")


@dataclass(frozen=True, slots=True)
class _Not(Matcher):
    part: Authorizer

    def __call__(self, peer: SpiffeID) -> None:
        try:
            authorize(self.part, peer)
        except BrokenAuthorizerError:
            raise
        except PeerNotAuthorizedError:
            return
        raise PeerNotAuthorizedError(peer, str(self), "if it should be, take it out of what not_(…) names")

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return None

    def __str__(self) -> str:
        return f"not ({describe(self.part)})"


@dataclass(frozen=True, slots=True)
class _Anybody(Matcher):
    def __call__(self, peer: SpiffeID) -> None:
        return None

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return None

    def __str__(self) -> str:
        return "anybody"


def _id(spiffe_id: SpiffeID | str) -> SpiffeID:
    return spiffe_id if isinstance(spiffe_id, SpiffeID) else SpiffeID.parse(spiffe_id)


def _require_some(given: tuple[object, ...], name: str, what: str) -> None:
    if not given:
        raise InvalidAuthorizerError(f"{name}() of no {what} would accept nobody: name at least one")


def _listed(texts: list[str], word: str) -> str:
    shown = texts if len(texts) <= 10 else [*texts[:9], f"{len(texts) - 9} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {word} {shown[-1]}"


def _grouped(parts: tuple[Authorizer, ...], word: str) -> str:
    texts = [describe(part) for part in parts]
    return _listed(texts if len(texts) == 1 else [f"({text})" for text in texts], word)
