"""Certificate signing requests from outside: proof that somebody has a key, and, when minting, what they ask for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.dns_names import InvalidDNSNameError, check_dns_name, check_no_wildcard_overlap
from icp_server.ca import der
from icp_server.domain.errors import InvalidArgument

MAX_CSR_BYTES = 16 * 1024
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""Verifying with an RSA key costs more the longer it is; a short one is no proof."""

# SubjectPublicKeyInfo of an uncompressed P-256 point: nearly every request has this one, and needs no further look.
_P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_LENGTH = 91


@dataclass(frozen=True, slots=True)
class ProvenKey:
    """A public key whose private half signed the request."""

    public_key_info: bytes
    subject_key_id: bytes
    """SHA-1 over the key's bits: an identifier (RFC 5280 section 4.2.1.2), not a protection."""

    @property
    def digest(self) -> bytes:
        """SHA-256 over the public key."""
        return hashlib.sha256(self.public_key_info).digest()


@dataclass(frozen=True, slots=True)
class MintRequest:
    """What an administrator's request asks to be signed."""

    key: ProvenKey
    spiffe_id: SpiffeID
    dns_names: tuple[str, ...]
    subject: x509.Name


def prove(csr: bytes) -> ProvenKey:
    """Check a request's signature and give its key. Its subject and names are ignored, whatever they say.

    Raises:
        InvalidArgument: it does not parse, its signature is wrong, or its key is of a kind not signed here.
    """
    return _proven(_parse(csr))


def read_mint_request(csr: bytes) -> MintRequest:
    """Check a request and read what it names: exactly one SPIFFE ID, DNS names, a subject.

    Raises:
        InvalidArgument: as for `prove`, or a name is missing, doubled or malformed. Whether the ID may be signed is
            not checked here.
    """
    request = _parse(csr)
    key = _proven(request)
    try:
        uris, dns_names = _names(request)
        subject = request.subject
        list(subject)
    except Exception as error:
        raise _malformed(error) from error
    if not uris:
        raise InvalidArgument("CSR URI SAN is required")
    if len(uris) > 1:
        raise InvalidArgument("only one URI SAN is expected")
    try:
        spiffe_id = SpiffeID.parse(uris[0])
    except InvalidSpiffeIDError as error:
        raise InvalidArgument(f"CSR URI SAN is invalid: {error}") from error
    try:
        for name in dns_names:
            check_dns_name(name)
    except InvalidDNSNameError as error:
        raise InvalidArgument(f"CSR DNS name is invalid: {error}") from error
    try:
        check_no_wildcard_overlap(dns_names)
    except InvalidDNSNameError as error:
        raise InvalidArgument(
            f"CSR DNS name contains a wildcard that covers another non-wildcard name: {error}"
        ) from error
    return MintRequest(key, spiffe_id, dns_names, subject)


def _parse(csr: bytes) -> x509.CertificateSigningRequest:
    if len(csr) > MAX_CSR_BYTES:
        raise InvalidArgument(f"malformed CSR: longer than {MAX_CSR_BYTES} bytes")
    try:
        return x509.load_der_x509_csr(csr)
    except Exception as error:
        raise _malformed(error) from error


def _malformed(error: Exception) -> InvalidArgument:
    # The parser has no error class of its own: beside ValueError it raises whatever a field it reads late runs into
    # (InvalidVersion, DuplicateExtension, UnsupportedAlgorithm, …). All of it is the sender's doing.
    return InvalidArgument(f"malformed CSR: {error}")


def _proven(request: x509.CertificateSigningRequest) -> ProvenKey:
    try:
        info = der.public_key_info_of_request(request.tbs_certrequest_bytes)
        bits = der.key_bits(info)
        if not (len(info) == _P256_LENGTH and info.startswith(_P256_PREFIX)):
            _check_kind(request)
        valid = request.is_signature_valid
    except InvalidArgument:
        raise
    except Exception as error:
        raise _malformed(error) from error
    if not valid:
        raise InvalidArgument("invalid CSR signature")
    return ProvenKey(info, hashlib.sha1(bits, usedforsecurity=False).digest())


def _check_kind(request: x509.CertificateSigningRequest) -> None:
    key = request.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise InvalidArgument(
                f"malformed CSR: RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits here, not {key.key_size}"
            )
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
            raise InvalidArgument(f"malformed CSR: curve {key.curve.name} is not one of P-256, P-384, P-521")
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise InvalidArgument("malformed CSR: the key is neither RSA, nor elliptic-curve, nor Ed25519")


def _names(request: x509.CertificateSigningRequest) -> tuple[list[str], tuple[str, ...]]:
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], ()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris, tuple(names.get_values_for_type(x509.DNSName))
