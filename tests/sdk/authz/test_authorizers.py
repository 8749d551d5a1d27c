"""What can be an authorizer, and that running one accepts for no other reason than its returning None."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from authsec_sdk.authz import (
    Authorizer,
    all_of,
    any_of,
    authorize,
    authorize_id,
    authorize_if,
    not_,
    require_authorizer,
)
from authsec_sdk.errors import CallerError, InvalidAuthorizerError, PeerNotAuthorizedError
from authsec_sdk.spiffe import SpiffeID, TrustDomain

PEER = SpiffeID.parse("spiffe://example.org/web")


async def async_function(peer: SpiffeID) -> None:
    return None


async def async_generator(peer: SpiffeID) -> AsyncIterator[None]:
    yield None


def generator(peer: SpiffeID) -> Iterator[None]:
    yield None


class AsyncObject:
    async def __call__(self, peer: SpiffeID) -> None:
        return None

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return None


class AsyncMethod:
    async def decide(self, peer: SpiffeID) -> None:
        return None


class Custom:
    """An authorizer as users write them."""

    def __init__(self, answer: Any = None, domains: Any = None) -> None:
        self.answer = answer
        self.domains = domains

    def __call__(self, peer: SpiffeID) -> None:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def trust_domains(self) -> frozenset[TrustDomain] | None:
        return self.domains


def nothing() -> None: ...


def two(peer: SpiffeID, other: SpiffeID) -> None: ...


def keyword_only(*, peer: SpiffeID) -> None: ...


CANNOT_BE: dict[str, Any] = {
    "None": None,
    "a text": "spiffe://example.org/web",
    "an ID": PEER,
    "a trust domain": TrustDomain("example.org"),
    "True": True,
    "a list of IDs": [PEER],
    "async def": async_function,
    "async generator": async_generator,
    "generator": generator,
    "async lambda in partial": functools.partial(async_function),
    "partial of partial": functools.partial(functools.partial(async_function)),
    "object with async __call__": AsyncObject(),
    "async method": AsyncMethod().decide,
    "partial of object with async __call__": functools.partial(AsyncObject()),
    "a class": Custom,
    "a function of nothing": nothing,
    "a function of two": two,
    "a function of a keyword": keyword_only,
    "the factory itself": authorize_if,
}


@pytest.mark.parametrize("kind", list(CANNOT_BE))
def test_what_cannot_be_an_authorizer_is_refused_when_it_is_given(kind: str) -> None:
    for accept in (require_authorizer, not_, all_of, any_of):
        with pytest.raises(InvalidAuthorizerError) as refusal:
            accept(CANNOT_BE[kind])
        assert isinstance(refusal.value, CallerError)
        assert isinstance(refusal.value, TypeError)
        assert len(str(refusal.value)) > 40


@pytest.mark.parametrize("domains", [{TrustDomain("a")}, frozenset({"a"}), "a", [], True])
def test_what_says_nonsense_of_trust_domains_is_refused_when_it_is_given(domains: Any) -> None:
    with pytest.raises(InvalidAuthorizerError, match="trust_domains"):
        require_authorizer(Custom(domains=domains))


def test_an_async_trust_domains_is_refused_without_a_warning() -> None:
    class Odd(Custom):
        async def trust_domains(self) -> Any:  # type: ignore[override]
            return None

    with pytest.raises(InvalidAuthorizerError, match="coroutine"):
        require_authorizer(Odd())


def test_authorizers_and_plain_functions_are_taken() -> None:
    ours = authorize_id(PEER)
    theirs: Authorizer = Custom()
    assert require_authorizer(ours) is ours
    assert require_authorizer(theirs) is theirs
    for plain in (lambda peer: None, functools.partial(two, PEER), Custom().__call__):
        adapted = require_authorizer(plain)
        authorize(adapted, PEER)
        assert adapted.trust_domains() is None


def test_a_plain_function_refuses_by_raising() -> None:
    def only_web(peer: SpiffeID) -> None:
        if peer.path != "/web":
            raise PeerNotAuthorizedError(peer, "web", "ask the owner")

    authorizer = require_authorizer(only_web)
    authorize(authorizer, PEER)
    with pytest.raises(PeerNotAuthorizedError, match="wanted: web; ask the owner"):
        authorize(authorizer, SpiffeID.parse("spiffe://example.org/db"))


@pytest.mark.parametrize("answer", [True, False, 0, 1, "", "yes", PEER, [], object(), NotImplemented, ...])
def test_every_answer_but_none_refuses(answer: Any) -> None:
    for authorizer in (Custom(answer), require_authorizer(lambda peer: answer)):
        with pytest.raises(PeerNotAuthorizedError) as refusal:
            authorize(authorizer, PEER)
        assert refusal.value.spiffe_id == PEER
        assert "None" in str(refusal.value)
        assert "authorize_if" in str(refusal.value)


@pytest.mark.parametrize("function", [async_function, AsyncObject(), async_generator, generator])
def test_what_was_not_checked_when_given_refuses_when_run_and_warns_of_nothing(function: Any) -> None:
    with pytest.raises(PeerNotAuthorizedError):
        authorize(function, PEER)
    with pytest.raises(PeerNotAuthorizedError):
        authorize(require_authorizer(lambda peer: function(peer)), PEER)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), AssertionError(), RuntimeError(), TypeError("y")])
def test_an_authorizer_that_fails_refuses_with_the_failure_as_cause(error: Exception) -> None:
    with pytest.raises(PeerNotAuthorizedError, match=type(error).__name__) as refusal:
        authorize(Custom(error), PEER)
    assert refusal.value.__cause__ is error
    assert refusal.value.spiffe_id == PEER


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_ends_the_program_is_not_held_up(error: BaseException) -> None:
    with pytest.raises(type(error)):
        authorize(Custom(error), PEER)


def test_a_refusal_passes_unchanged() -> None:
    refusal = PeerNotAuthorizedError(PEER, "nobody", "go away")
    with pytest.raises(PeerNotAuthorizedError) as seen:
        authorize(Custom(refusal), PEER)
    assert seen.value is refusal


def test_refusals_name_functions_and_objects_readably() -> None:
    class Mute(Custom):
        pass

    class Angry(Custom):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    class Told(Custom):
        def __str__(self) -> str:
            return "friends of the house"

    for authorizer, text in (
        (require_authorizer(lambda peer: False), "<lambda>"),
        (Mute(False), "Mute"),
        (Angry(False), "Angry"),
        (Told(False), "friends of the house"),
        (any_of(Mute(False)), "Mute"),
    ):
        with pytest.raises(PeerNotAuthorizedError) as refusal:
            authorize(authorizer, PEER)
        assert text in refusal.value.wanted
        assert "0x" not in refusal.value.wanted
