"""Base64url without padding (RFC 7515 section 2): one text for each value, and no other is read."""

from __future__ import annotations

import base64

from authsec_sdk.jose.fault import InvalidTokenError, TokenFault

__all__ = ["decode", "encode"]


def encode(data: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str, what: str) -> bytes:
    """Read base64url without padding; `what` is what errors call it.

    Raises:
        InvalidTokenError: it has padding, characters of other alphabets, blanks, or bits that stand for nothing.
    """
    try:
        given = text.encode("ascii")
        data = base64.urlsafe_b64decode(given + b"=" * (-len(given) % 4))
        # The decoder passes over what it does not know; writing the value again shows whether it did.
        if base64.urlsafe_b64encode(data).rstrip(b"=") == given:
            return data
    except ValueError:  # binascii.Error and UnicodeEncodeError are ValueErrors
        pass
    raise InvalidTokenError(TokenFault.BAD_ENCODING, f"{what} is not base64url without padding") from None
