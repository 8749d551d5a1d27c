"""Whether a chain of CA certificates is good to sign with: pure checks, whose refusals say which link and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.errors import InvalidX509SVIDError
from authsec_sdk.spiffe.x509_rules import check_authority, check_signing_certificate
from icp_server.ca.upstream import UpstreamError

MAX_LINKS = 10
"""Verifiers give up on longer chains, and each handshake carries them."""


@dataclass(frozen=True, slots=True)
class CheckedChain:
    """A chain that leads to a root."""

    links: tuple[x509.Certificate, ...]
    """Without the root."""
    root: x509.Certificate
    not_after: datetime
    """When the first of them ends, the root included."""


def check_chain(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime, *, below: int
) -> CheckedChain:
    """Check that each certificate may sign, is valid now, and was issued by the next, the last one by a root.

    `below` is how many more CA certificates are to come below the first one, which path lengths must allow.
    A root at the end is left out of the links. Not checked: name constraints, revocation lists.

    Raises:
        UpstreamError: which certificate is wrong, and how.
    """
    if not chain:
        raise UpstreamError("there is no certificate")
    if len(chain) > MAX_LINKS:
        raise UpstreamError(f"the chain has {len(chain)} certificates; at most {MAX_LINKS} are of use")
    for place, certificate in enumerate(chain):
        _check_link(certificate, now, below + place)
    for place in range(1, len(chain)):
        if not issued_by(chain[place - 1], chain[place]):
            raise UpstreamError(f"{_name(chain[place - 1])} was not issued by the next one, {_name(chain[place])}")
    last = chain[-1]
    if last in roots:
        links, root = tuple(chain[:-1]), last
    else:
        links, root = tuple(chain), _root_of(last, roots)
        _check_root(root, now, below + len(chain))
    ends = [certificate.not_valid_after_utc for certificate in (*links, root)]
    return CheckedChain(links, root, min(ends))


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key are behind a certificate's; nothing else is looked at."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def subject_key_id(certificate: x509.Certificate) -> bytes:
    """The key identifier a certificate names itself by, or where it names none the one of its key by SHA-1."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def parse_certificates(data: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """The certificates of PEM data, at least one.

    Raises:
        UpstreamError: there is none, or one is malformed.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError as error:
        raise UpstreamError(f"{what} holds no certificates in PEM: {error}") from error


def to_der(certificate: x509.Certificate) -> bytes:
    """The DER of a certificate."""
    return certificate.public_bytes(Encoding.DER)


def _check_link(certificate: x509.Certificate, now: datetime, below: int) -> None:
    try:
        check_signing_certificate(certificate)
    except InvalidX509SVIDError as error:
        raise UpstreamError(f"{_name(certificate)} may not sign CA certificates: {error}") from error
    _check_dates(certificate, now)
    _check_path_length(certificate, below)


def _check_root(root: x509.Certificate, now: datetime, below: int) -> None:
    try:
        check_authority(root)
    except InvalidX509SVIDError as error:
        raise UpstreamError(f"the root {_name(root)} may not sign CA certificates: {error}") from error
    _check_dates(root, now)
    _check_path_length(root, below)


def _check_dates(certificate: x509.Certificate, now: datetime) -> None:
    if now >= certificate.not_valid_after_utc:
        raise UpstreamError(f"{_name(certificate)} expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    if now < certificate.not_valid_before_utc:
        raise UpstreamError(
            f"{_name(certificate)} is not valid before {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
        )


def _check_path_length(certificate: x509.Certificate, below: int) -> None:
    length = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if length is not None and length < below:
        raise UpstreamError(
            f"{_name(certificate)} allows {length} CA certificates below it (path length), and {below} are needed"
        )


def _root_of(last: x509.Certificate, roots: Sequence[x509.Certificate]) -> x509.Certificate:
    for root in roots:
        if issued_by(last, root):
            return root
    raise UpstreamError(f"{_name(last)} was issued by none of the {len(roots)} roots of the bundle")


def _name(certificate: x509.Certificate) -> str:
    return f"the certificate {certificate.subject.rfc4514_string()!r}"
