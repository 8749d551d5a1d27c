"""The SPIFFE bundle document: a `TrustBundle` as a JSON Web Key Set, both directions side by side.

Trust Domain and Bundle section 4, X509-SVID section 6, JWT-SVID section 6, WIT-SVID section 6. A document names no
trust domain; whoever fetched it knows whose it is. Documents come from other organizations, so they are bounded, and
anything that could be read in two ways refuses the whole document: its owner keeps the last good one.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, cast

from cryptography import x509

from authsec_sdk.errors import InvalidBundleError
from authsec_sdk.jose.jwk import (
    InvalidJWKError,
    JWTPublicKey,
    UnknownKeyTypeError,
    check_key_type,
    format_jwk,
    is_signature_key,
    parse_jwk,
)
from authsec_sdk.spiffe._der import MalformedCertificatesError, load_one, to_der
from authsec_sdk.spiffe._json import load_object
from authsec_sdk.spiffe.bundle import TrustBundle
from authsec_sdk.spiffe.ids import TrustDomain

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "MAX_KEYS",
    "format_bundle_document",
    "parse_bundle_document",
    "read_bundle",
    "write_bundle",
]

MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
MAX_KEYS: Final = 4096
_MAX_SEQUENCE: Final = 2**64 - 1
_MAX_REFRESH_HINT: Final = 2**31 - 1  # seconds, some 68 years
_X509: Final = "x509-svid"
_JWT: Final = "jwt-svid"
_WIT: Final = "wit-svid"
_KEY_MEMBERS: Final = frozenset({"n", "e", "crv", "x", "y"})


@dataclass(slots=True)
class _Authorities:
    """What was read of a document so far."""

    x509: list[x509.Certificate] = field(default_factory=list)
    jwt: dict[str, JWTPublicKey] = field(default_factory=dict)
    wit: dict[str, JWTPublicKey] = field(default_factory=dict)


def parse_bundle_document(trust_domain: TrustDomain, data: bytes) -> TrustBundle:
    """Read a bundle document of a trust domain.

    Passed over, as the standard demands: keys of unknown or missing `use`, of unknown `kty` or curve, X.509 keys
    without certificate, certificates of an `x5c` after its first, and members not named by the standards.

    Raises:
        InvalidBundleError: it is longer than 4 MiB or has more than 4096 keys; no JSON object in UTF-8; a member name
            comes twice; `keys` is missing; a number is no integer in its range; a key for one of our uses is malformed,
            symmetric or private, lacks or repeats its `kid`, or contradicts the certificate beside it.
    """
    try:
        return read_bundle(trust_domain, load_object(data, MAX_DOCUMENT_BYTES))
    except InvalidBundleError as error:
        raise InvalidBundleError(f"the bundle document of {trust_domain} is malformed: {error}") from error


def format_bundle_document(bundle: TrustBundle) -> bytes:
    """Write a bundle as a document, which `parse_bundle_document` reads back as an equal bundle.

    Members the bundle has no value for are left out. A refresh hint is given in whole seconds.

    Raises:
        InvalidBundleError: an X.509 authority has a key for which there is no JWK here.
    """
    return json.dumps(write_bundle(bundle), indent=4).encode("ascii") + b"\n"


def read_bundle(trust_domain: TrustDomain, document: Mapping[str, object]) -> TrustBundle:
    """Read a bundle from a document already parsed by `load_object`, such as one value of a bundle map.

    Raises:
        InvalidBundleError: as `parse_bundle_document`, without the name of the trust domain in the text.
    """
    authorities = _Authorities()
    for index, key in enumerate(_keys(document)):
        _read_key(authorities, key, f"key {index}")
    hint = _integer(document, "spiffe_refresh_hint", _MAX_REFRESH_HINT)
    return TrustBundle(
        trust_domain,
        tuple(authorities.x509),
        authorities.jwt,
        authorities.wit,
        _integer(document, "spiffe_sequence", _MAX_SEQUENCE),
        None if hint is None else timedelta(seconds=hint),
    )


def write_bundle(bundle: TrustBundle) -> dict[str, object]:
    """Write a bundle as the JSON object which `read_bundle` reads back as an equal bundle.

    Raises:
        InvalidBundleError: as `format_bundle_document`.
    """
    keys: list[dict[str, object]] = []
    for authority in bundle.x509_authorities:
        public_key = authority.public_key()
        if not is_signature_key(public_key):
            raise InvalidBundleError(
                f"an X.509 authority of {bundle.trust_domain} has a key of a kind that bundle documents cannot hold"
            )
        x5c = [base64.b64encode(to_der(authority)).decode("ascii")]
        keys.append({"use": _X509, **format_jwk(public_key), "x5c": x5c})
    for use, by_id in ((_JWT, bundle.jwt_authorities), (_WIT, bundle.wit_authorities)):
        keys.extend({"use": use, "kid": key_id, **format_jwk(key)} for key_id, key in by_id.items())
    document: dict[str, object] = {"keys": keys}
    if bundle.sequence_number is not None:
        document["spiffe_sequence"] = bundle.sequence_number
    if bundle.refresh_hint is not None:
        document["spiffe_refresh_hint"] = int(bundle.refresh_hint.total_seconds())
    return document


def _keys(document: Mapping[str, object]) -> list[object]:
    keys = document.get("keys")
    if not isinstance(keys, list):
        raise InvalidBundleError("the member keys must be present and be an array")
    if len(keys) > MAX_KEYS:
        raise InvalidBundleError(f"it has {len(keys)} keys, more than {MAX_KEYS}")
    return keys


def _integer(document: Mapping[str, object], name: str, maximum: int) -> int | None:
    if name not in document:
        return None
    value = document[name]
    if type(value) is not int or not 0 <= value <= maximum:  # bool is an int to isinstance
        raise InvalidBundleError(f"the member {name} must be an integer from 0 to {maximum}")
    return value


def _read_key(authorities: _Authorities, key: object, what: str) -> None:
    if not isinstance(key, dict):
        raise InvalidBundleError(f"{what} is no JSON object")
    members = cast("dict[str, object]", key)
    use = members.get("use")
    if use not in (_X509, _JWT, _WIT):
        return
    try:
        if use == _X509:
            certificate = _read_certificate(members, what)
            if certificate is not None:
                authorities.x509.append(certificate)
            return
        public_key = parse_jwk(members)
    except UnknownKeyTypeError:
        return
    except InvalidJWKError as error:
        raise InvalidBundleError(f"{what} is malformed: {error}") from error
    key_id = members.get("kid")
    if not isinstance(key_id, str) or not key_id:
        raise InvalidBundleError(f"{what} lacks its key ID (kid)")
    if key_id in authorities.jwt or key_id in authorities.wit:
        raise InvalidBundleError(f"the key ID {key_id[:128]!r} comes twice")
    (authorities.jwt if use == _JWT else authorities.wit)[key_id] = public_key


def _read_certificate(members: Mapping[str, object], what: str) -> x509.Certificate | None:
    """X509-SVID section 6.2; None for a key to pass over. Key members, where given, must be the certificate's."""
    check_key_type(members)
    public_key = parse_jwk(members) if _KEY_MEMBERS & members.keys() else None
    chain = members.get("x5c", [])
    if not isinstance(chain, list) or not all(isinstance(text, str) for text in chain):
        raise InvalidBundleError(f"the x5c of {what} must be an array of texts")
    if not chain:
        return None
    try:
        certificate = load_one(base64.b64decode(chain[0], validate=True), f"the certificate of {what}")
    except (binascii.Error, MalformedCertificatesError, ValueError) as error:
        raise InvalidBundleError(f"the x5c of {what} holds no certificate: {error}") from error
    if public_key is not None and certificate.public_key() != public_key:
        raise InvalidBundleError(f"{what} and the certificate in its x5c have different public keys")
    return certificate
