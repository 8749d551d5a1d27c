"""JSON Web Key Sets of one trust domain, of one kind of key: how the Workload API hands out JWT and WIT bundles.

Such a set is RFC 7517 alone: it holds keys of one use, which it need not name, and no member of SPIFFE's own (Workload
API section 6.2.2). A bundle document, in which `use` tells the kinds apart, is read by `bundle_json`.
"""

from __future__ import annotations

import json
from typing import cast

from authsec_sdk.errors import InvalidBundleError
from authsec_sdk.jose.jwk import InvalidJWKError, JWTPublicKey, UnknownKeyTypeError, format_jwk, parse_jwk
from authsec_sdk.spiffe._json import load_object
from authsec_sdk.spiffe.bundle import JWTBundle, WITBundle
from authsec_sdk.spiffe.bundle_json import MAX_DOCUMENT_BYTES, MAX_KEYS
from authsec_sdk.spiffe.ids import TrustDomain

__all__ = ["format_key_set", "parse_jwt_key_set", "parse_wit_key_set"]


def parse_jwt_key_set(trust_domain: TrustDomain, data: bytes) -> JWTBundle:
    """Read the keys that sign JWT-SVIDs of a trust domain.

    Passed over: keys of types or curves not known, and keys with a `use` but `jwt-svid` or `sig`.

    Raises:
        InvalidBundleError: it is longer than 4 MiB or has more than 4096 keys; is no JSON object in UTF-8, or has a
            member name twice; `keys` is missing; a key is malformed, symmetric or private, or lacks or repeats a `kid`.
    """
    return JWTBundle(trust_domain, _read(trust_domain, data, "jwt-svid"))


def parse_wit_key_set(trust_domain: TrustDomain, data: bytes) -> WITBundle:
    """Read the keys that sign WIT-SVIDs; all else as `parse_jwt_key_set`, with the `use` `wit-svid`."""
    return WITBundle(trust_domain, _read(trust_domain, data, "wit-svid"))


def format_key_set(bundle: JWTBundle | WITBundle) -> bytes:
    """Write the keys of a bundle as a set, which is read back as an equal bundle."""
    keys = [{"kid": key_id, **format_jwk(key)} for key_id, key in bundle.authorities.items()]
    return json.dumps({"keys": keys}).encode("ascii")


def _read(trust_domain: TrustDomain, data: bytes, use: str) -> dict[str, JWTPublicKey]:
    try:
        keys = load_object(data, MAX_DOCUMENT_BYTES).get("keys")
        if not isinstance(keys, list):
            raise InvalidBundleError("the member keys must be present and be an array")
        if len(keys) > MAX_KEYS:
            raise InvalidBundleError(f"it has {len(keys)} keys, more than {MAX_KEYS}")
        found: dict[str, JWTPublicKey] = {}
        for index, key in enumerate(keys):
            _read_key(found, key, f"key {index}", use)
    except InvalidBundleError as error:
        raise InvalidBundleError(f"the key set of {trust_domain} is malformed: {error}") from error
    return found


def _read_key(found: dict[str, JWTPublicKey], key: object, what: str, use: str) -> None:
    if not isinstance(key, dict):
        raise InvalidBundleError(f"{what} is no JSON object")
    members = cast("dict[str, object]", key)
    given = members.get("use")
    if given != use and not (given is None or given == "sig"):
        return
    try:
        public_key = parse_jwk(members)
    except UnknownKeyTypeError:
        return
    except InvalidJWKError as error:
        raise InvalidBundleError(f"{what} is malformed: {error}") from error
    key_id = members.get("kid")
    if not isinstance(key_id, str) or not key_id:
        raise InvalidBundleError(f"{what} lacks its key ID (kid)")
    if key_id in found:
        raise InvalidBundleError(f"the key ID {key_id[:128]!r} comes twice")
    found[key_id] = public_key
