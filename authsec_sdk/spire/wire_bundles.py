"""Bundles in SPIRE's protobuf, both directions; the half of `wire` that knows certificates and keys."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from google.protobuf.message import Message

from authsec_sdk.errors import InvalidBundleError
from authsec_sdk.jose.jwk import JWTPublicKey, is_signature_key
from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.spiffe import TrustBundle, TrustDomain, X509Bundle
from authsec_sdk.spire.tainted import PublishedBundle, TaintedAuthorities

_KeyMessage: TypeAlias = types_pb2.JWTKey | types_pb2.WITKey
_M = TypeVar("_M", bound=Message)


def bundle_to_wire(bundle: TrustBundle, mask: types_pb2.BundleMask | None = None) -> types_pb2.Bundle:
    """The bundle, or what the mask lets through of it. Absent numbers are 0. Nothing is marked as tainted."""
    return published_to_wire(PublishedBundle(bundle), mask)


def published_to_wire(published: PublishedBundle, mask: types_pb2.BundleMask | None = None) -> types_pb2.Bundle:
    """As `bundle_to_wire`, with the marks of what is tainted and when keys end (0 where nobody said)."""
    bundle, tainted, expiry = published.bundle, published.tainted, published.key_expiry
    tainted_x509 = X509Bundle(bundle.trust_domain, tainted.x509_authorities)
    message = types_pb2.Bundle(
        trust_domain=bundle.trust_domain.name,
        x509_authorities=[
            types_pb2.X509Certificate(
                asn1=authority.public_bytes(Encoding.DER), tainted=tainted_x509.contains(authority)
            )
            for authority in bundle.x509_authorities
        ],
        jwt_authorities=[
            types_pb2.JWTKey(
                public_key=_spki(key),
                key_id=key_id,
                expires_at=expiry.get(key_id, 0),
                tainted=key_id in tainted.jwt_key_ids,
            )
            for key_id, key in bundle.jwt_authorities.items()
        ],
        wit_authorities=[
            types_pb2.WITKey(
                public_key=_spki(key),
                key_id=key_id,
                expires_at=expiry.get(key_id, 0),
                tainted=key_id in tainted.wit_key_ids,
            )
            for key_id, key in bundle.wit_authorities.items()
        ],
        refresh_hint=int(bundle.refresh_hint.total_seconds()) if bundle.refresh_hint else 0,
        sequence_number=bundle.sequence_number or 0,
    )
    return masked(message, mask)


def bundle_from_wire(message: types_pb2.Bundle) -> TrustBundle:
    """Read a whole bundle: tainted authorities too (`tainted_from_wire` tells them apart). A hint of 0 is none.

    Raises:
        InvalidTrustDomainError: the trust domain is malformed or missing.
        InvalidBundleError: an authority is empty or cannot be parsed, a key has no id, or the hint is negative.
    """
    trust_domain = TrustDomain.parse(message.trust_domain)
    if message.refresh_hint < 0:
        raise InvalidBundleError(f"the refresh hint of {trust_domain} is negative")
    return TrustBundle(
        trust_domain,
        x509_authorities=_authorities_from_wire(trust_domain, message.x509_authorities),
        jwt_authorities=_keys_from_wire(trust_domain, "JWT", message.jwt_authorities),
        wit_authorities=_keys_from_wire(trust_domain, "WIT", message.wit_authorities),
        sequence_number=message.sequence_number,
        refresh_hint=_seconds(message.refresh_hint),
    )


def tainted_from_wire(message: types_pb2.Bundle) -> TaintedAuthorities:
    """Which authorities of a bundle are tainted.

    Raises:
        InvalidTrustDomainError: the trust domain is malformed or missing.
        InvalidBundleError: a tainted authority is empty or cannot be parsed.
    """
    trust_domain = TrustDomain.parse(message.trust_domain)
    return TaintedAuthorities(
        _authorities_from_wire(trust_domain, [each for each in message.x509_authorities if each.tainted]),
        frozenset(key.key_id for key in message.jwt_authorities if key.tainted),
        frozenset(key.key_id for key in message.wit_authorities if key.tainted),
    )


def published_from_wire(message: types_pb2.Bundle) -> PublishedBundle:
    """Read a whole bundle with its marks.

    Raises:
        InvalidTrustDomainError: the trust domain is malformed or missing.
        InvalidBundleError: as for `bundle_from_wire`.
    """
    keys: list[_KeyMessage] = [*message.jwt_authorities, *message.wit_authorities]
    return PublishedBundle(
        bundle_from_wire(message),
        tainted_from_wire(message),
        MappingProxyType({key.key_id: key.expires_at for key in keys}),
    )


def masked(message: _M, mask: Message | None) -> _M:
    """Clear each field the mask knows and does not set; what no mask can name stays."""
    if mask is not None:
        for field in mask.DESCRIPTOR.fields:
            if not getattr(mask, field.name):
                message.ClearField(field.name)
    return message


def _authorities_from_wire(
    trust_domain: TrustDomain, messages: Iterable[types_pb2.X509Certificate]
) -> tuple[x509.Certificate, ...]:
    authorities: list[x509.Certificate] = []
    for message in messages:
        parsed = X509Bundle.parse_der(trust_domain, message.asn1).authorities
        if not parsed:
            raise InvalidBundleError(f"an X.509 authority of {trust_domain} is empty")
        authorities.extend(parsed)
    return tuple(authorities)


def _keys_from_wire(trust_domain: TrustDomain, kind: str, messages: Sequence[_KeyMessage]) -> dict[str, JWTPublicKey]:
    keys: dict[str, JWTPublicKey] = {}
    for message in messages:
        if not message.key_id:
            raise InvalidBundleError(f"a {kind} authority of {trust_domain} has no key ID")
        if message.key_id in keys:
            raise InvalidBundleError(f"two {kind} authorities of {trust_domain} have the key ID {message.key_id!r}")
        try:
            key = load_der_public_key(message.public_key)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidBundleError(
                f"{kind} authority {message.key_id!r} of {trust_domain} cannot be parsed"
            ) from error
        if not is_signature_key(key):
            raise InvalidBundleError(f"{kind} authority {message.key_id!r} of {trust_domain} is no key for signatures")
        keys[message.key_id] = key
    return keys


def _spki(key: JWTPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _seconds(hint: int) -> timedelta | None:
    try:
        return timedelta(seconds=hint) if hint else None
    except OverflowError:
        return timedelta.max
