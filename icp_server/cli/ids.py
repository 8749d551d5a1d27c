"""IDs, selectors and trust domains as they are typed, turned into messages."""

from __future__ import annotations

from collections.abc import Iterable

from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.selectors import Selector
from authsec_sdk.spire.wire import spiffe_id_to_wire
from icp_server.cli.api import CommandError

_MATCHES = {"exact": 0, "subset": 1, "superset": 2, "any": 3}


def id_message(text: str) -> types_pb2.SPIFFEID:
    """Read a SPIFFE ID.

    Raises:
        InvalidSpiffeIDError: it is none.
    """
    return spiffe_id_to_wire(SpiffeID.parse(text))


def selector_messages(texts: Iterable[str]) -> list[types_pb2.Selector]:
    """Read selectors, each as `type:value`.

    Raises:
        InvalidSelectorError: one is not of that form.
    """
    selectors = [Selector.parse(text) for text in texts]
    return [types_pb2.Selector(type=selector.type, value=selector.value) for selector in selectors]


def match_number(text: str) -> int:
    """Read the name of a way of matching.

    Raises:
        CommandError: there is no such way.
    """
    try:
        return _MATCHES[text]
    except KeyError:
        raise CommandError(f'match behavior "{text}" unknown') from None
