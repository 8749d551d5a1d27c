"""A leaf's template as the bytes to be signed: everything that is the same for all leaves is encoded once."""

from __future__ import annotations

import functools
from datetime import datetime

from cryptography import x509

from icp_server.ca import der
from icp_server.domain.svid_template import WORKLOAD_SUBJECT, LeafTemplate

_VERSION_3 = der.tlv(0xA0, der.integer(2))
_CRITICAL = bytes.fromhex("0101ff")
_SUBJECT_KEY_ID, _SUBJECT_ALT_NAME, _BASIC_CONSTRAINTS = (
    bytes.fromhex(oid) for oid in ("0603551d0e", "0603551d11", "0603551d13")
)
_KEY_USAGE, _AUTHORITY_KEY_ID, _EXTENDED_KEY_USAGE = (
    bytes.fromhex(oid) for oid in ("0603551d0f", "0603551d23", "0603551d25")
)
_GENERAL_NAME_DNS, _GENERAL_NAME_URI = 0x82, 0x86


def _extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    return der.sequence(oid, _CRITICAL if critical else b"", der.tlv(der.OCTET_STRING, value))


# X509-SVID section 4: digitalSignature is a must, certificate and CRL signing are forbidden; SPIRE's leaves also have
# keyEncipherment and keyAgreement, and both roles of TLS.
_SAME_FOR_ALL = b"".join(
    (
        _extension(_KEY_USAGE, bytes.fromhex("030203a8"), critical=True),
        _extension(
            _EXTENDED_KEY_USAGE,
            der.sequence(bytes.fromhex("06082b06010505070301"), bytes.fromhex("06082b06010505070302")),
        ),
        _extension(_BASIC_CONSTRAINTS, der.sequence(), critical=True),
    )
)
_WORKLOAD_SUBJECT_DER = WORKLOAD_SUBJECT.public_bytes()


class LeafEncoder:
    """Encodes leaves below one authority; immutable, usable from several threads."""

    def __init__(self, issuer: x509.Name, issuer_key_id: bytes, algorithm: bytes) -> None:
        self._algorithm = algorithm
        self._issuer = algorithm + issuer.public_bytes()  # they are neighbours in the certificate
        self._authority_key_id = _extension(_AUTHORITY_KEY_ID, der.sequence(der.tlv(0x80, issuer_key_id)))

    def to_be_signed(self, template: LeafTemplate, public_key_info: bytes, subject_key_id: bytes) -> bytes:
        """The TBSCertificate (RFC 5280 section 4.1.2)."""
        names = [der.tlv(_GENERAL_NAME_DNS, name.encode("ascii")) for name in template.dns_names]
        names.append(der.tlv(_GENERAL_NAME_URI, str(template.spiffe_id).encode("ascii")))
        extensions = (
            _SAME_FOR_ALL
            + _extension(_SUBJECT_KEY_ID, der.tlv(der.OCTET_STRING, subject_key_id))
            + self._authority_key_id
            + _extension(_SUBJECT_ALT_NAME, der.sequence(*names))
        )
        for more in template.extensions:
            extensions += _extension(_object_identifier(more.oid), more.value.public_bytes(), critical=more.critical)
        return der.sequence(
            _VERSION_3,
            der.integer(template.serial_number),
            self._issuer,
            _validity(template.not_before, template.not_after),
            _subject(template.subject),
            public_key_info,
            der.tlv(0xA3, der.tlv(der.SEQUENCE, extensions)),
        )

    def certificate(self, to_be_signed: bytes, signature: bytes) -> bytes:
        """The certificate of the signed bytes."""
        return der.sequence(to_be_signed, self._algorithm, der.bit_string(signature))


@functools.lru_cache(maxsize=256)
def _object_identifier(oid: x509.ObjectIdentifier) -> bytes:
    first, second, *others = map(int, oid.dotted_string.split("."))
    return der.tlv(der.OID, b"".join(map(_base_128, (first * 40 + second, *others))))


def _base_128(number: int) -> bytes:
    """Seven bits a byte, the highest first, all but the last marked (X.690 section 8.19.2)."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))


@functools.lru_cache(maxsize=256)
def _validity(not_before: datetime, not_after: datetime) -> bytes:
    return der.sequence(der.time(not_before), der.time(not_after))


def _subject(name: x509.Name) -> bytes:
    return _WORKLOAD_SUBJECT_DER if name is WORKLOAD_SUBJECT else name.public_bytes()
