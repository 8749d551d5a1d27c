"""JSON from other organizations: one object, bounded, refused wherever two readers could read it differently."""

from __future__ import annotations

import json
from typing import NoReturn

from authsec_sdk.errors import InvalidBundleError

__all__ = ["load_object"]


def load_object(data: bytes, maximum: int) -> dict[str, object]:
    """Parse a JSON object of at most `maximum` bytes.

    Raises:
        InvalidBundleError: it is longer, no JSON object in UTF-8, nested too deeply, holds NaN or Infinity, or a member
            name comes twice in one of its objects, however each is escaped.
    """
    if len(data) > maximum:
        raise InvalidBundleError(f"it has {len(data)} bytes, more than {maximum}")
    try:
        text = bytes(data).decode("utf-8")
        document = json.loads(text, object_pairs_hook=_unique_members, parse_constant=_refuse_constant)
    except InvalidBundleError:
        raise
    except RecursionError:
        raise InvalidBundleError("it is nested too deeply") from None
    except ValueError as error:  # no UTF-8, no JSON, or a number of thousands of digits
        raise InvalidBundleError(f"it is no JSON in UTF-8: {error}") from error
    if not isinstance(document, dict):
        raise InvalidBundleError("it is no JSON object")
    return document


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """RFC 7517 section 4 and RFC 8259 section 4: of a name that comes twice, readers differ on which they take."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidBundleError("a member name comes twice in one object")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidBundleError(f"{name} is no JSON")
