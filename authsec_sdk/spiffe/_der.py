"""Take certificates apart as they arrive: concatenated DER (the Workload API's form), or PEM.

The bytes come from outside: lengths are checked before anything is sliced, and whatever the parser thinks of them,
callers see one error class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

__all__ = [
    "MAX_CERTIFICATES",
    "MalformedCertificatesError",
    "load_der",
    "load_one",
    "load_or_explain",
    "load_pem",
    "to_der",
]

MAX_CERTIFICATES: Final = 4096
"""More certificates than this in one text are refused; the largest bundles known hold some hundreds."""

_SEQUENCE: Final = 0x30
_LONG_FORM: Final = 0x80
_MAX_LENGTH_BYTES: Final = 4
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"


class MalformedCertificatesError(Exception):
    """Bytes are not certificates. Callers turn it into the error of the value they were parsing."""


def load_der(data: bytes) -> tuple[x509.Certificate, ...]:
    """Parse any number of DER certificates which follow each other without a gap; none for no bytes.

    Raises:
        MalformedCertificatesError: they are not that.
    """
    return tuple(load_one(der, f"certificate {index}") for index, der in enumerate(_split(data), 1))


def load_pem(data: bytes) -> tuple[x509.Certificate, ...]:
    """Parse every `CERTIFICATE` block of a PEM text, passing over blocks of other kinds; none for blank text.

    Raises:
        MalformedCertificatesError: the text is not blank and holds no certificate, or one which cannot be parsed.
    """
    parts = data.split(_BEGIN, MAX_CERTIFICATES + 1)[1:]
    blank = not data.strip()
    del data  # a private key may stand beside the certificates, and tracebacks show locals
    if not parts and not blank:
        raise MalformedCertificatesError("there is no PEM block of a certificate")
    if len(parts) > MAX_CERTIFICATES:
        del parts
        raise MalformedCertificatesError(f"there are more than {MAX_CERTIFICATES} certificates")
    # A block that is cut, or holds another one, becomes an empty text: refused below, without a key in that frame.
    blocks = [
        _BEGIN + body + _END if end and b"--" not in body else b""
        for body, end, _ in (p.partition(_END) for p in parts)
    ]
    del parts
    return tuple(_load_block(block, f"certificate {index}") for index, block in enumerate(blocks, 1))


def load_or_explain(
    load: Callable[[bytes], tuple[x509.Certificate, ...]], data: bytes
) -> tuple[tuple[x509.Certificate, ...], str]:
    """Run `load_der` or `load_pem` for callers that raise errors of their own: the certificates, or what is wrong.

    The parser's error does not come along: whoever mixes up two arguments or two files gives us a private key, and
    the frames of that error hold it.
    """
    try:
        return load(data), ""
    except MalformedCertificatesError as error:
        return (), str(error)
    finally:
        del data


def load_one(der: bytes, what: str) -> x509.Certificate:
    """Parse one DER certificate so far that no rule which looks at it later meets a parser error.

    Raises:
        MalformedCertificatesError: it is none; the text begins with `what`.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        _touch(certificate)
    except Exception as error:
        raise MalformedCertificatesError(f"{what} cannot be parsed: {error}") from error
    return certificate


def to_der(certificate: x509.Certificate) -> bytes:
    """The certificate's bytes, by which certificates are compared everywhere in this package."""
    return certificate.public_bytes(Encoding.DER)


def _load_block(block: bytes, what: str) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(block)
        _touch(certificate)
    except Exception as error:
        raise MalformedCertificatesError(f"{what} cannot be parsed: {error}") from error
    return certificate


def _touch(certificate: x509.Certificate) -> None:
    """Read what rules read, because `cryptography` parses lazily and would raise in the middle of one."""
    _ = (certificate.extensions, certificate.subject, certificate.issuer, certificate.public_key())
    _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.signature_algorithm_oid)


def _split(data: bytes) -> list[bytes]:
    parts: list[bytes] = []
    rest = memoryview(data)
    while rest:
        if len(parts) == MAX_CERTIFICATES:
            raise MalformedCertificatesError(f"there are more than {MAX_CERTIFICATES} certificates")
        length = _element_length(rest, f"certificate {len(parts) + 1}")
        parts.append(bytes(rest[:length]))
        rest = rest[length:]
    return parts


def _element_length(rest: memoryview, what: str) -> int:
    """Length of the first element and its header: X.690 sections 8.1.3 and 10.1 (definite, in the shortest form)."""
    if len(rest) < 2 or rest[0] != _SEQUENCE:
        raise MalformedCertificatesError(f"{what} does not begin as a DER certificate does")
    first = rest[1]
    if first < _LONG_FORM:
        header, length = 2, first
    else:
        count = first - _LONG_FORM
        if not 1 <= count <= _MAX_LENGTH_BYTES or len(rest) < 2 + count:
            raise MalformedCertificatesError(f"{what} has a length that cannot be read")
        header, length = 2 + count, int.from_bytes(rest[2 : 2 + count], "big")
        if length < _LONG_FORM or rest[2] == 0:
            raise MalformedCertificatesError(f"{what} has a length that is not in the shortest form")
    if len(rest) < header + length:
        raise MalformedCertificatesError(f"{what} ends too early")
    return header + length
