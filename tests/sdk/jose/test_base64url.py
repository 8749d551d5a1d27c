"""Base64url: one text for each value. The fast reader accepts what writing the value again would give, and no other."""

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.jose import base64url
from authsec_sdk.jose.fault import InvalidTokenError, TokenFault

ALPHABET = string.ascii_letters + string.digits + "-_"


def meant(text: str) -> bytes | None:
    """The value that a text stands for by the long way: decoded by the library, written again and compared."""
    try:
        given_ = text.encode("ascii")
        data = base64.urlsafe_b64decode(given_ + b"=" * (-len(given_) % 4))
    except ValueError:
        return None
    return data if base64.urlsafe_b64encode(data).rstrip(b"=") == given_ else None


def read(text: str) -> bytes | None:
    try:
        return base64url.decode(text, "the text")
    except InvalidTokenError as error:
        return None if error.fault is TokenFault.BAD_ENCODING else b"another fault"


@given(st.binary(max_size=200))
def test_what_is_written_is_read(data: bytes) -> None:
    assert base64url.decode(base64url.encode(data), "the text") == data


@given(st.text(ALPHABET, max_size=12) | st.text(ALPHABET + "+/=\n\r \t\0.é", max_size=12) | st.text(max_size=8))
def test_nothing_else_is_read(text: str) -> None:
    assert read(text) == meant(text)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_last_character(length: int) -> None:
    for last in map(chr, range(256)):
        text = "A" * (length - 1) + last
        assert read(text) == meant(text), repr(text)


@pytest.mark.parametrize("position", range(8))
def test_every_character_at_every_place(position: int) -> None:
    for odd in map(chr, range(256)):
        text = "A" * position + odd + "A" * (7 - position)
        assert read(text) == meant(text), repr(text)
