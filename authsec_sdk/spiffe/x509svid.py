"""An X.509-SVID of our own: a certificate chain which keeps every rule, and the private key that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final, NoReturn, TypeAlias, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from authsec_sdk.errors import InvalidX509SVIDError
from authsec_sdk.spiffe._der import load_der, load_or_explain, load_pem, to_der
from authsec_sdk.spiffe.ids import SpiffeID
from authsec_sdk.spiffe.x509_rules import check_authority, check_signing_certificate, x509_svid_id

__all__ = ["MAX_CHAIN_LENGTH", "X509SVID", "SVIDPrivateKey"]

MAX_CHAIN_LENGTH: Final = 16
"""Longer chains are refused, ours and those of peers; the deepest hierarchies in use have four or five."""

SVIDPrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_KEY_TYPES: Final = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)


@dataclass(frozen=True, slots=True, repr=False)
class X509SVID:
    """A chain (leaf first), the leaf's private key, and the SPIFFE ID read from the leaf.

    What holds for every instance: the leaf keeps all leaf rules and each further certificate all signer rules of the
    X509-SVID standard, each certificate is issued and signed by the next, and the key is the leaf's.
    What is not checked: that anybody trusts the chain, and that it is in its time (`is_expired`).

    Equal if chain and hint are; the key takes no part in `repr` and comparison, and an SVID cannot be pickled.

    Raises:
        InvalidX509SVIDError: something of the above does not hold.
    """

    certificates: tuple[x509.Certificate, ...]
    private_key: SVIDPrivateKey = field(compare=False)
    hint: str = ""
    id: SpiffeID = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "certificates", tuple(self.certificates))
        object.__setattr__(self, "id", _check_chain(self.certificates))
        if not isinstance(self.private_key, _KEY_TYPES):
            raise InvalidX509SVIDError("the private key is neither RSA, nor elliptic-curve, nor Ed25519")
        own = self.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if own != self.leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
            raise InvalidX509SVIDError(f"the private key does not belong to the certificate of {self.id}")

    @classmethod
    def parse_der(cls, chain: bytes, key: bytes, *, hint: str = "") -> X509SVID:
        """Read an SVID as the Workload API sends it: concatenated DER certificates, leaf first, and a PKCS#8 key.

        Raises:
            InvalidX509SVIDError: either cannot be parsed, or a rule is broken. No frame of ours in its traceback holds
                the key's bytes; those of the caller are the caller's.
        """
        try:
            private_key = _load_key(key, load_der_private_key)
            certificates = _load_chain(chain, load_der)
        finally:
            del key, chain  # tracebacks show locals, and crash reporters print them; and callers mix up arguments
        return cls(certificates, private_key, hint)

    @classmethod
    def parse_pem(cls, certificates: bytes, key: bytes, *, hint: str = "") -> X509SVID:
        """Read an SVID from PEM: `CERTIFICATE` blocks, leaf first, and an unencrypted private key.

        Both may stand in one text, which is then given twice.

        Raises:
            InvalidX509SVIDError: as `parse_der`.
        """
        try:
            private_key = _load_key(key, load_pem_private_key)
            chain = _load_chain(certificates, load_pem)
        finally:
            del key, certificates  # as above
        return cls(chain, private_key, hint)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate which names this SVID's ID."""
        return self.certificates[0]

    @property
    def not_before(self) -> datetime:
        """When the leaf begins to be valid, in UTC."""
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """The last moment at which the leaf is valid, in UTC."""
        return self.leaf.not_valid_after_utc

    def is_expired(self, at: datetime) -> bool:
        """Say whether the leaf's time is over at `at`, which must carry a time zone."""
        return at > self.not_after

    def chain_der(self) -> tuple[bytes, ...]:
        """The certificates as DER, leaf first."""
        return tuple(to_der(certificate) for certificate in self.certificates)

    def key_der(self) -> bytes:
        """The private key as unencrypted PKCS#8 DER. Whoever calls this has the key: keep it out of logs and frames."""
        return self.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        hint = f", hint={self.hint!r}" if self.hint else ""
        serial = f"{self.leaf.serial_number:x}"
        return f"X509SVID({str(self.id)!r}, serial={serial}, not_after={self.not_after:%FT%TZ}{hint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an X509SVID holds a private key and is never pickled or copied; share the source instead")


def _load_key(key: bytes, load: Callable[[bytes, None], PrivateKeyTypes]) -> SVIDPrivateKey:
    problem = ""
    loaded: PrivateKeyTypes | None = None
    try:
        loaded = load(key, None)
    except TypeError:  # what `cryptography` raises for an encrypted key without a password
        problem = "it is encrypted, or not bytes"
    except Exception as error:  # noqa: BLE001 - parsers meet foreign bytes with more than ValueError
        problem = type(error).__name__  # never the parser's text, which could quote what it read
    finally:
        del key
    if loaded is None:  # raised out here, so that the parser's error is not even the context of ours
        raise InvalidX509SVIDError(f"the private key cannot be parsed ({problem})")
    return cast("SVIDPrivateKey", loaded)  # X509SVID itself refuses other kinds


def _load_chain(data: bytes, load: Callable[[bytes], tuple[x509.Certificate, ...]]) -> tuple[x509.Certificate, ...]:
    certificates, problem = load_or_explain(load, data)
    del data
    if problem:
        raise InvalidX509SVIDError(f"the certificate chain is malformed: {problem}")
    return certificates


def _check_chain(chain: Sequence[x509.Certificate]) -> SpiffeID:
    """Check all that can be said of a chain without trusting anybody, and return the ID of its leaf."""
    if not chain:
        raise InvalidX509SVIDError("the certificate chain is empty")
    if len(chain) > MAX_CHAIN_LENGTH:
        raise InvalidX509SVIDError(f"the chain has {len(chain)} certificates, more than {MAX_CHAIN_LENGTH}")
    spiffe_id = x509_svid_id(chain[0])
    for index, (certificate, issuer) in enumerate(pairwise(chain), 1):
        # A root may be sent along; it is held to no more than the rules for the roots of bundles.
        check = check_authority if issuer.issuer == issuer.subject else check_signing_certificate
        check(issuer)
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise InvalidX509SVIDError(
                f"certificate {index} in the chain of {spiffe_id} is not issued by certificate {index + 1}"
            ) from error
    return spiffe_id
