"""What an authorizer is, what can be one, and the one way in which everybody runs it.

An authorizer refuses by raising. So that nothing accepts by accident, only a call which returns None accepts:
a coroutine that nobody awaited, False, or a broken authorizer all refuse.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from authsec_sdk.errors import InvalidAuthorizerError, PeerNotAuthorizedError
from authsec_sdk.spiffe.ids import SpiffeID, TrustDomain

__all__ = [
    "Authorizer",
    "BrokenAuthorizerError",
    "authorize",
    "describe",
    "require_authorizer",
    "require_plain_function",
]

_HINT = "pass one of authsec_sdk.authz, such as authorize_id(…) or authorize_member_of(…)"


@runtime_checkable
class Authorizer(Protocol):
    """Decides whether a peer, whose ID is already proven, may talk to us. `str()` of it says whom it accepts."""

    def __call__(self, peer: SpiffeID) -> None:
        """Accept `peer` by returning None.

        Raises:
            PeerNotAuthorizedError: `peer` is refused.
        """
        ...

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        """Every trust domain in which a peer could be accepted; None if that cannot be said.

        Used to trust no more authorities than needed. Naming too few refuses peers, naming too many is safe.
        """
        ...


class BrokenAuthorizerError(PeerNotAuthorizedError):
    """A refusal because an authorizer failed, not because it decided. `not_` never turns it into consent."""


def authorize(authorizer: Authorizer, peer: SpiffeID) -> None:
    """Run an authorizer: the one place where it is called. Returns if it accepts the peer.

    Raises:
        PeerNotAuthorizedError: it refuses; or it returned something other than None, or failed with another exception,
            which is then the cause.
    """
    try:
        answer: object = authorizer(peer)  # type: ignore[func-returns-value]  # what others return is the question
    except PeerNotAuthorizedError:
        raise
    except Exception as error:
        raise BrokenAuthorizerError(
            peer, describe(authorizer), f"the authorizer failed with {type(error).__name__}: mend it"
        ) from error
    if answer is not None:
        if inspect.iscoroutine(answer):
            answer.close()  # nobody will await it; say so once, below, and not again as a warning
        raise BrokenAuthorizerError(
            peer,
            describe(authorizer),
            f"the authorizer returned {type(answer).__name__} where only None accepts: "
            "raise to refuse, or wrap a function that answers True or False in authorize_if(…)",
        )


def require_authorizer(candidate: object) -> Authorizer:
    """Check, when a context or a server is made, that `candidate` can be an authorizer, and return it as one.

    A plain function that takes a SpiffeID and returns None or raises is adapted.

    Raises:
        InvalidAuthorizerError: it is None, not callable, a class, async, a generator, or takes other arguments.
    """
    if candidate is None:
        raise InvalidAuthorizerError(f"no authorizer was given, and by default nobody is accepted: {_HINT}")
    require_plain_function(candidate, "an authorizer", _HINT)
    if isinstance(candidate, Authorizer):
        _require_trust_domains(candidate)
        return candidate
    assert callable(candidate)
    return _PlainFunction(candidate)


def require_plain_function(candidate: object, what: str, hint: str) -> None:
    """Check that `candidate` can be called with one SpiffeID and answers when it is called, not when awaited.

    Raises:
        InvalidAuthorizerError: it cannot.
    """
    if not callable(candidate) or isinstance(candidate, type):
        raise InvalidAuthorizerError(f"{what} must be a function of a SpiffeID, not {_kind(candidate)}: {hint}")
    function: object = candidate
    while isinstance(function, functools.partial):
        function = function.func
    for code in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - objects may have an async __call__
        if inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code) or inspect.isgeneratorfunction(code):
            raise InvalidAuthorizerError(
                f"{what} must answer at once, and {describe(candidate)} is async or a generator, which would accept "
                f"everybody without having run: {hint}"
            )
    try:
        inspect.signature(candidate).bind(object())
    except TypeError as error:
        raise InvalidAuthorizerError(f"{what} is called with one SpiffeID; {describe(candidate)}: {error}") from error
    except ValueError:
        pass  # no signature to be had, as for some built-in functions


def describe(authorizer: object) -> str:
    """Say whom an authorizer accepts, or at least what it is called."""
    name = getattr(authorizer, "__qualname__", None)
    if isinstance(name, str):
        return f"what {name} accepts"
    kind = type(authorizer)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        return f"what {kind.__qualname__} accepts"
    try:
        return str(authorizer)
    except Exception:  # noqa: BLE001 - the text of a refusal must not be what turns it into another error
        return f"what {kind.__qualname__} accepts"


def _require_trust_domains(authorizer: Authorizer) -> None:
    domains: object = authorizer.trust_domains()
    if inspect.iscoroutine(domains):
        domains.close()
    if domains is not None and not (
        isinstance(domains, frozenset) and all(isinstance(domain, TrustDomain) for domain in domains)
    ):
        raise InvalidAuthorizerError(
            f"trust_domains() must return a frozenset of TrustDomain, or None; asked for {describe(authorizer)}, "
            f"it returned a {type(domains).__name__}"
        )


def _kind(candidate: object) -> str:
    return f"the class {candidate.__qualname__}" if isinstance(candidate, type) else f"a {type(candidate).__name__}"


@dataclass(frozen=True, slots=True)
class _PlainFunction:
    """A user's function, seen as an authorizer that says nothing of trust domains."""

    function: Callable[[SpiffeID], object]

    def __call__(self, peer: SpiffeID) -> None:
        # Whatever it returns goes to `authorize`, which judges it.
        return self.function(peer)  # type: ignore[return-value]

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return None

    def __str__(self) -> str:
        return describe(self.function)
