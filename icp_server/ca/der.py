"""DER written and read by hand, as little as a leaf certificate needs (X.690 section 10: definite, shortest lengths).

It exists for speed: a builder object per certificate costs several times what the signature does. Tests hold it
against what `cryptography` builds, byte by byte.
"""

from __future__ import annotations

from datetime import datetime

INTEGER, BIT_STRING, OCTET_STRING, OID, UTC_TIME, GENERALIZED_TIME = 0x02, 0x03, 0x04, 0x06, 0x17, 0x18
SEQUENCE = 0x30
_SHORT = 0x80
_FIRST_GENERALIZED_YEAR = 2050  # RFC 5280 section 4.1.2.5


class MalformedDERError(ValueError):
    """The bytes are not the element that was expected."""


def tlv(tag: int, content: bytes) -> bytes:
    """An element: tag, length, content."""
    length = len(content)
    if length < _SHORT:
        return bytes((tag, length)) + content
    if length < 0x100:
        return bytes((tag, 0x81, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, _SHORT | size)) + length.to_bytes(size, "big") + content


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE of elements."""
    return tlv(SEQUENCE, b"".join(parts))


def integer(value: int) -> bytes:
    """A non-negative INTEGER."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def bit_string(content: bytes) -> bytes:
    """A BIT STRING of whole bytes."""
    return tlv(BIT_STRING, b"\0" + content)


def time(moment: datetime) -> bytes:
    """A UTC time as certificates have it: UTCTime to the end of 2049, GeneralizedTime after."""
    if moment.year < _FIRST_GENERALIZED_YEAR:
        return tlv(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode("ascii"))
    return tlv(GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode("ascii"))


def element(data: bytes, offset: int) -> tuple[int, int, int]:
    """Tag, start of the content, and end of the element that begins at an offset.

    Raises:
        MalformedDERError: it does not fit into the data, or its length is not the shortest.
    """
    try:
        tag, first = data[offset], data[offset + 1]
    except IndexError:
        raise MalformedDERError("element ends too early") from None
    if first < _SHORT:
        start, length = offset + 2, first
    else:
        size = first - _SHORT
        start = offset + 2 + size
        length = int.from_bytes(data[offset + 2 : start], "big")
        if not 1 <= size <= 4 or length < _SHORT or data[offset + 2] == 0:
            raise MalformedDERError("length is not in the shortest form")
    if start + length > len(data):
        raise MalformedDERError("element ends too early")
    return tag, start, start + length


def public_key_info_of_request(tbs_request: bytes) -> bytes:
    """The SubjectPublicKeyInfo in a CertificationRequestInfo (RFC 2986 section 4.1), as the bytes that were signed.

    Raises:
        MalformedDERError: it is not where it should be.
    """
    tag, position, _ = element(tbs_request, 0)
    if tag != SEQUENCE:
        raise MalformedDERError("a certification request is a SEQUENCE")
    for expected in (INTEGER, SEQUENCE):  # version, subject
        tag, _, end = element(tbs_request, position)
        if tag != expected:
            raise MalformedDERError("the certification request's fields are out of order")
        position = end
    tag, _, end = element(tbs_request, position)
    if tag != SEQUENCE:
        raise MalformedDERError("the certification request has no public key")
    return tbs_request[position:end]


def key_bits(public_key_info: bytes) -> bytes:
    """The content of a SubjectPublicKeyInfo's BIT STRING without its count of unused bits: what key ids are made of.

    Raises:
        MalformedDERError: it has no such BIT STRING.
    """
    _, position, _ = element(public_key_info, 0)
    _, _, position = element(public_key_info, position)
    tag, start, end = element(public_key_info, position)
    if tag != BIT_STRING or start == end:
        raise MalformedDERError("the public key is not a BIT STRING")
    return public_key_info[start + 1 : end]
