"""What the X509-SVID standard demands of one certificate, taken by itself: of a leaf, of a signer, of an authority.

Signatures, dates and trust are no rules of one certificate; `verify` looks at those.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from authsec_sdk.errors import InvalidSpiffeIDError, InvalidX509SVIDError
from authsec_sdk.spiffe._der import MalformedCertificatesError, load_one, to_der
from authsec_sdk.spiffe.ids import SpiffeID

__all__ = [
    "authority_der_check",
    "check_authority",
    "check_signing_certificate",
    "leaf_der_id",
    "signer_der_check",
    "x509_svid_id",
]

_Type = TypeVar("_Type", bound=x509.ExtensionType)


def x509_svid_id(leaf: x509.Certificate) -> SpiffeID:
    """Check every rule for a leaf and return the SPIFFE ID it names.

    X509-SVID sections 2, 3.1, 4.1, 4.3, 4.4 and 5.2: exactly one URI SAN (of whatever scheme), which is a SPIFFE ID
    with a path; the SAN extension critical where the subject is empty; basic constraints present with `cA` false; key
    usage present, critical, with `digitalSignature` and without `keyCertSign` and `cRLSign`; an extended key usage, if
    there is one, with both `serverAuth` and `clientAuth`.

    Not checked: dates, signature, trust, and every other kind of name in the certificate.

    Raises:
        InvalidX509SVIDError: a rule is broken, or the certificate cannot be parsed so far.
    """
    return leaf_der_id(to_der(leaf))


def check_signing_certificate(certificate: x509.Certificate) -> None:
    """Check every rule for a certificate which signs others, such as an intermediate.

    X509-SVID sections 3.2, 4.1 and 4.3: `cA` true, key usage present with `keyCertSign`. If it names a SPIFFE ID it is
    an SVID itself: then its key usage is critical, it has one URI SAN, and the ID has no path.

    Not checked: dates, signature, trust, path length (path validation does that), name constraints.

    Raises:
        InvalidX509SVIDError: a rule is broken, or the certificate cannot be parsed so far.
    """
    signer_der_check(to_der(certificate))


def check_authority(certificate: x509.Certificate) -> None:
    """Check the rules for a certificate that is trusted because a bundle says so.

    As for other signers, except that a key usage extension may be missing (roots made for other purposes often have
    none, and RFC 5280 section 6.1.1 trusts an anchor for its name and key); if present, it has `keyCertSign`.

    Raises:
        InvalidX509SVIDError: a rule is broken, or the certificate cannot be parsed so far.
    """
    authority_der_check(to_der(certificate))


# The three functions below are the same checks by DER, remembered: each handshake asks about the same few
# certificates again. Only good answers are remembered, so a hostile peer cannot drive them out without being signed.


@lru_cache(maxsize=1024)
def leaf_der_id(der: bytes) -> SpiffeID:
    """`x509_svid_id` of a certificate's DER bytes, remembered."""
    leaf = _parsed(der)
    spiffe_id = _leaf_id(leaf)
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is None:
        raise InvalidX509SVIDError(f"the leaf of {spiffe_id} has no basic constraints, which must say cA=false")
    if constraints.value.ca:
        raise InvalidX509SVIDError(f"the leaf of {spiffe_id} is a CA certificate (cA=true)")
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None:
        raise InvalidX509SVIDError(f"the leaf of {spiffe_id} has no key usage")
    if not usage.critical:
        raise InvalidX509SVIDError(f"the leaf of {spiffe_id} has a key usage that is not critical")
    if not usage.value.digital_signature:
        raise InvalidX509SVIDError(f"the leaf of {spiffe_id} lacks the key usage digitalSignature")
    if usage.value.key_cert_sign:
        raise InvalidX509SVIDError(f"the leaf of {spiffe_id} has the key usage keyCertSign")
    if usage.value.crl_sign:
        raise InvalidX509SVIDError(f"the leaf of {spiffe_id} has the key usage cRLSign")
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    if extended is not None and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= set(
        extended.value
    ):
        raise InvalidX509SVIDError(
            f"the leaf of {spiffe_id} has an extended key usage without serverAuth and clientAuth both"
        )
    return spiffe_id


@lru_cache(maxsize=1024)
def signer_der_check(der: bytes) -> None:
    """`check_signing_certificate` of a certificate's DER bytes, remembered."""
    signer = _parsed(der)
    name = _check_ca(signer)
    usage = _extension(signer, x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign:
        raise InvalidX509SVIDError(f"the signing certificate {name} lacks the key usage keyCertSign")
    if _check_signer_id(signer, name) and not usage.critical:
        raise InvalidX509SVIDError(f"the signing certificate {name} has a key usage that is not critical")


@lru_cache(maxsize=1024)
def authority_der_check(der: bytes) -> None:
    """`check_authority` of a certificate's DER bytes, remembered."""
    authority = _parsed(der)
    name = _check_ca(authority)
    usage = _extension(authority, x509.KeyUsage)
    if usage is not None and not usage.value.key_cert_sign:
        raise InvalidX509SVIDError(f"the authority {name} lacks the key usage keyCertSign")
    _check_signer_id(authority, name)


def _parsed(der: bytes) -> x509.Certificate:
    try:
        return load_one(der, "the certificate")
    except MalformedCertificatesError as error:
        raise InvalidX509SVIDError(str(error)) from error


def _extension(certificate: x509.Certificate, kind: type[_Type]) -> x509.Extension[_Type] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _uris(certificate: x509.Certificate) -> list[str]:
    names = _extension(certificate, x509.SubjectAlternativeName)
    return [] if names is None else names.value.get_values_for_type(x509.UniformResourceIdentifier)


def _leaf_id(leaf: x509.Certificate) -> SpiffeID:
    uris = _uris(leaf)
    if len(uris) != 1:
        raise InvalidX509SVIDError(f"a leaf must have exactly one URI SAN, this one has {len(uris)}")
    try:
        spiffe_id = SpiffeID.parse(uris[0])
    except InvalidSpiffeIDError as error:
        raise InvalidX509SVIDError(f"the leaf's URI SAN is not a SPIFFE ID: {error}") from error
    if not spiffe_id.path:
        raise InvalidX509SVIDError(f"the leaf's SPIFFE ID {spiffe_id} has no path: it names a trust domain")
    names = _extension(leaf, x509.SubjectAlternativeName)
    if names is not None and not names.critical and not list(leaf.subject):
        raise InvalidX509SVIDError(f"the leaf of {spiffe_id} has no subject, and its SAN extension is not critical")
    return spiffe_id


def _check_ca(certificate: x509.Certificate) -> str:
    """Check `cA` and return a name to call the certificate by in further messages, quoted: anybody may have made it."""
    subject = certificate.subject.rfc4514_string()
    name = repr(subject[:128]) if subject else f"with serial number {certificate.serial_number:x}"
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.value.ca:
        raise InvalidX509SVIDError(f"the signing certificate {name} is not a CA certificate (cA=true is missing)")
    return name


def _check_signer_id(certificate: x509.Certificate, name: str) -> bool:
    """Check the SPIFFE ID of a signer, if it has one, and say whether it has."""
    uris = _uris(certificate)
    # The scheme is told apart whatever its case, so that an odd spelling is refused and not overlooked.
    if not any(uri[:7].lower() == "spiffe:" for uri in uris):
        return False
    if len(uris) != 1:
        raise InvalidX509SVIDError(f"the signing certificate {name} has {len(uris)} URI SANs beside a SPIFFE ID")
    # The bundle standard's own example (appendix A) gives a root the URI `spiffe://example.com/`: no path either.
    text = uris[0].removesuffix("/") if uris[0].count("/") == 3 else uris[0]
    try:
        spiffe_id = SpiffeID.parse(text)
    except InvalidSpiffeIDError as error:
        raise InvalidX509SVIDError(f"the signing certificate {name} has a malformed SPIFFE ID: {error}") from error
    if spiffe_id.path:
        raise InvalidX509SVIDError(f"the signing certificate {name} has the SPIFFE ID {spiffe_id}, which has a path")
    return True
