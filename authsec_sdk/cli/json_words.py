"""What a bundle document, a bundle map or a key set says, key by key, and what is wrong with it; pure."""

from collections.abc import Mapping

from authsec_sdk.cli.output import Facts, bundle_facts
from authsec_sdk.errors import SpiffeError
from authsec_sdk.jose.jwk import InvalidJWKError, UnknownKeyTypeError, parse_jwk
from authsec_sdk.spiffe import (
    TrustDomain,
    parse_bundle_document,
    parse_bundle_map,
    parse_jwt_key_set,
)
from authsec_sdk.spiffe._json import load_object
from authsec_sdk.spiffe.bundle_map_json import MAX_MAP_BYTES

__all__ = ["document_facts"]

_USES = {
    "x509-svid": "verifies X.509-SVIDs (X509-SVID 6.1)",
    "jwt-svid": "verifies JWT-SVIDs (JWT-SVID 6.1)",
    "wit-svid": "verifies WIT-SVIDs (WIT-SVID 6.1)",
}
_NOBODY = TrustDomain("unknown")


def document_facts(data: bytes, trust_domain: TrustDomain | None) -> Facts:
    """Say what kind of document it is, what its keys are for, and whether it is taken.

    A document does not say whose it is (Trust Domain and Bundle 4); a map does (5).
    """
    facts: Facts = {"kind": "JSON"}
    try:
        document = load_object(data, MAX_MAP_BYTES)
        if "trust_domains" in document:
            facts["kind"] = "bundle map"
            bundles = parse_bundle_map(data)
            facts["bundles"] = [bundle_facts(bundle) for bundle in bundles.values()]
            facts["verdict"] = f"a bundle map of {len(bundles)} trust domains (Trust Domain and Bundle 5)"
            return facts
        keys = document.get("keys")
        listed = keys if isinstance(keys, list) else []
        facts["keys"] = [_key(key) for key in listed]
        if any(isinstance(key, dict) and str(key.get("use")) in _USES for key in listed) or not listed:
            facts["kind"] = "bundle document"
            bundle = parse_bundle_document(trust_domain or _NOBODY, data)
            facts |= (
                bundle_facts(bundle) if trust_domain else {**bundle_facts(bundle), "trust_domain": "it does not say"}
            )
            facts["verdict"] = "a bundle document that keeps every rule (Trust Domain and Bundle 4)"
        else:
            facts["kind"] = "key set"
            found = parse_jwt_key_set(trust_domain or _NOBODY, data)
            facts["verdict"] = f"a key set with {len(found)} keys that count (Workload API 6.2.2)"
    except SpiffeError as error:
        facts["verdict"] = f"REFUSED: {error}"
    return facts


def _key(key: object) -> Facts:
    if not isinstance(key, Mapping):
        return {"says": "no JSON object: the document is refused"}
    use = key.get("use")
    says = _USES.get(use, "passed over: no use that SPIFFE knows (4.2.2)") if isinstance(use, str) else "has no use"
    if use != "x509-svid":
        try:
            parse_jwk(dict(key))
        except UnknownKeyTypeError as error:
            says = f"passed over: {error}"
        except InvalidJWKError as error:
            says = f"wrong: {error}"
    told: Facts = {name: str(key[name])[:128] for name in ("use", "kty", "kid", "crv", "alg") if name in key}
    return told | {"says": says}
