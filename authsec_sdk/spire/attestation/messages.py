"""The JSON of SPIRE's node attestors: one object, small, read without surprises, written as Go's programs expect it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from authsec_sdk.errors import SpiffeError

MAXIMUM_BYTES: Final = 64 * 1024
"""For each message. Five certificates with keys of 8192 bits are 20 KiB in base64."""

NONCE_BYTES: Final = 32


class AttestationMessageError(SpiffeError, ValueError):
    """A message of the other side is no such message, or its proof is wrong."""


class AttestationMessage:
    """One JSON object, read key by key. Keys are compared as Go does, without regard to case; others are ignored."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    @classmethod
    def parse(cls, data: bytes) -> AttestationMessage:
        """Read a message of at most `MAXIMUM_BYTES`.

        Raises:
            AttestationMessageError: it is larger, no JSON, no object, or says something twice.
        """
        if len(data) > MAXIMUM_BYTES:
            raise AttestationMessageError(f"the message has {len(data)} bytes, more than {MAXIMUM_BYTES}")
        try:
            values = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
        except AttestationMessageError:
            raise
        except (ValueError, RecursionError) as error:
            raise AttestationMessageError(f"no JSON: {type(error).__name__}") from None
        if not isinstance(values, dict):
            raise AttestationMessageError("not a JSON object")
        return cls(values)

    def text(self, key: str) -> str:
        """A string; absent or null is the empty one.

        Raises:
            AttestationMessageError: it is something else.
        """
        value = self._values.get(key, "")
        if value is None:
            return ""
        if not isinstance(value, str):
            raise AttestationMessageError(f"{key} is no string")
        return value

    def integer(self, key: str) -> int:
        """A whole number; absent or null is 0.

        Raises:
            AttestationMessageError: it is something else.
        """
        value = self._values.get(key, 0)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int):
            raise AttestationMessageError(f"{key} is no whole number")
        return value

    def octets(self, key: str) -> bytes:
        """Bytes in base64; absent or null is none.

        Raises:
            AttestationMessageError: it is something else.
        """
        return _decoded(key, self.text(key))

    def octets_list(self, key: str, *, most: int) -> tuple[bytes, ...]:
        """A list of bytes in base64; absent or null is empty. More than `most` are not decoded.

        Raises:
            AttestationMessageError: it is something else.
        """
        values = self._values.get(key)
        if values is None:
            return ()
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise AttestationMessageError(f"{key} is no list of strings")
        return tuple(_decoded(key, value) for value in values[: most + 1])

    def object(self, key: str) -> AttestationMessage | None:
        """An object within the object; None where it is absent or null.

        Raises:
            AttestationMessageError: it is something else.
        """
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise AttestationMessageError(f"{key} is no object")
        return AttestationMessage(value)


def encode(values: Mapping[str, Any]) -> bytes:
    """Write a message; bytes become base64."""
    return json.dumps(values, default=_encoded, separators=(",", ":")).encode()


def combined(challenge: bytes, response: bytes) -> bytes:
    """Both nonces in a row: what is signed, so that neither side alone chooses it.

    Raises:
        AttestationMessageError: one of them has not 32 bytes.
    """
    if len(challenge) != NONCE_BYTES:
        raise AttestationMessageError("invalid challenge nonce")
    if len(response) != NONCE_BYTES:
        raise AttestationMessageError("invalid response nonce")
    return challenge + response


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        folded = key.lower()
        if folded in values:
            raise AttestationMessageError(f"{key[:40]!r} stands there twice")
        values[folded] = value
    return values


def _decoded(key: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AttestationMessageError(f"{key} is no base64") from None


def _encoded(value: object) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} cannot be sent")
    return base64.b64encode(value).decode("ascii")
