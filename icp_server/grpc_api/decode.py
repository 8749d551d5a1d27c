"""From a message's field to a value, with the words SPIRE refuses each field with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.selectors import InvalidSelectorError
from authsec_sdk.spire.wire import selectors_from_wire, spiffe_id_from_wire
from icp_server.domain.errors import InvalidArgument
from icp_server.domain.filters import FederatesWithMatch, Match, SelectorMatch

_Received_co = TypeVar("_Received_co", covariant=True)
_Mask_co = TypeVar("_Mask_co", covariant=True)
_T = TypeVar("_T")


class Receiving(Protocol[_Received_co]):
    """The half of a grpclib stream a handler reads from."""

    def recv_message(self) -> Awaitable[_Received_co | None]:
        """The next message, or None at the end."""


class Masked(Protocol[_Mask_co]):
    """A request that says which fields of the answer it wants."""

    @property
    def output_mask(self) -> _Mask_co:
        """The fields, where there is such a mask."""

    def HasField(self, field_name: str) -> bool:  # noqa: N802 - protobuf's name
        """Whether a field is there."""


async def request_of(stream: Receiving[_T]) -> _T:
    """Receive the one message of a unary call.

    Raises:
        InvalidArgument: the caller ended the call without a message.
    """
    message = await stream.recv_message()
    if message is None:
        raise InvalidArgument("received no request message")
    return message


def output_mask(request: Masked[_T]) -> _T | None:
    """Return what of the answer is wanted: absent means everything; present, also empty, only what it names."""
    return request.output_mask if request.HasField("output_mask") else None


def member_id(
    message: types_pb2.SPIFFEID,
    trust_domain: TrustDomain,
    check: Callable[[TrustDomain, SpiffeID], None],
    what: str,
) -> SpiffeID:
    """Read an ID that must pass `check` (of `spire.reserved_ids`); `what` begins the refusal.

    Raises:
        InvalidArgument: it is missing, malformed or fails the check.
    """
    try:
        spiffe_id = spiffe_id_from_wire(message)
        check(trust_domain, spiffe_id)
    except InvalidSpiffeIDError as error:
        raise InvalidArgument(f"{what}: {error}") from error
    return spiffe_id


def trust_domain_of(text: str, what: str) -> TrustDomain:
    """Read a trust domain, by its name or by any SPIFFE ID in it; `what` begins the refusal.

    Raises:
        InvalidArgument: it is missing or malformed.
    """
    try:
        return TrustDomain.parse(text)
    except InvalidSpiffeIDError as error:
        raise InvalidArgument(f"{what}: {error}") from error


def selector_match(message: types_pb2.SelectorMatch, what: str) -> SelectorMatch:
    """Read a filter by selectors; an empty set is for the service to judge.

    Raises:
        InvalidArgument: a selector is malformed, or the way of matching is unknown.
    """
    try:
        selectors = frozenset(selectors_from_wire(message.selectors))
    except InvalidSelectorError as error:
        raise InvalidArgument(f"{what}: {error}") from error
    return SelectorMatch(selectors, match(message.match, what))


def federates_with_match(messages: Iterable[str], behavior: int, what: str) -> FederatesWithMatch:
    """Read a filter by federated trust domains.

    Raises:
        InvalidArgument: a trust domain is malformed, or the way of matching is unknown.
    """
    try:
        trust_domains = frozenset(TrustDomain.parse(text) for text in messages)
    except InvalidSpiffeIDError as error:
        raise InvalidArgument(f"{what}: {error}") from error
    return FederatesWithMatch(trust_domains, match(behavior, what))


def match(behavior: int, what: str) -> Match:
    """Read a way of matching.

    Raises:
        InvalidArgument: it is none of the four.
    """
    try:
        return Match(behavior)
    except ValueError:
        raise InvalidArgument(f"{what}: unknown match behavior {behavior}") from None


def selector_text(messages: Iterable[types_pb2.Selector]) -> str:
    """Render selectors for an audit line."""
    return ",".join(f"{selector.type}:{selector.value}" for selector in messages)
