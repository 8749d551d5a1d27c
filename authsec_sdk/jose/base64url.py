"""Base64url without padding (RFC 7515 section 2): one text for each value, and no other is read."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from authsec_sdk.jose.fault import InvalidTokenError, TokenFault

__all__ = ["decode", "encode"]


# To the alphabet that `binascii` reads; what only that one has becomes what none has.
_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/\x00\x00\x00")
# The characters whose last four or two bits, which stand for nothing, are zero (RFC 4648 section 3.5), by what is left
# of a group of four.
_LAST: Final = (None, "", "AQgw", "AEIMQUYcgkosw048")
_PADDING: Final = (b"", b"", b"==", b"=")


def encode(data: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str, what: str) -> bytes:
    """Read base64url without padding; `what` is what errors call it.

    Raises:
        InvalidTokenError: it has padding, characters of other alphabets, blanks, or bits that stand for nothing.
    """
    try:
        left = len(text) % 4
        last = _LAST[left]
        if last is None or text[-1] in last:
            return binascii.a2b_base64(text.encode("ascii").translate(_TO_BASE64) + _PADDING[left], strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are ValueErrors
        pass
    raise InvalidTokenError(TokenFault.BAD_ENCODING, f"{what} is not base64url without padding") from None
