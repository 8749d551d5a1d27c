"""The SPIFFE bundle map: the bundles of many trust domains in one JSON document, both directions side by side.

Trust Domain and Bundle section 5. Unlike a bundle document, a map says whose each bundle is, so it may be handed on as
one file. It is bounded, and refused as a whole if any part of it is malformed: its owner keeps the last good one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final, cast

from authsec_sdk.errors import InvalidBundleError, InvalidTrustDomainError
from authsec_sdk.spiffe._json import load_object
from authsec_sdk.spiffe.bundle import BundleSet, TrustBundle
from authsec_sdk.spiffe.bundle_json import read_bundle, write_bundle
from authsec_sdk.spiffe.ids import TrustDomain

__all__ = ["MAX_MAP_BYTES", "MAX_TRUST_DOMAINS", "format_bundle_map", "parse_bundle_map"]

MAX_MAP_BYTES: Final = 16 * 1024 * 1024
MAX_TRUST_DOMAINS: Final = 1024


def parse_bundle_map(data: bytes) -> BundleSet[TrustBundle]:
    """Read a bundle map; one without any bundle is legal and trusts nobody.

    The refresh hints of single bundles are checked and then dropped: section 5.1.1 forbids that they change how often
    the map is asked for, so nothing gets hold of them. Members the standard does not name are passed over.

    Not checked: that whoever made the map may speak for the trust domains in it. Who reads a map trusts its maker for
    all of them.

    Raises:
        InvalidBundleError: it is longer than 16 MiB or has more than 1024 trust domains; no JSON object in UTF-8; a
            member name, so a trust domain too, comes twice; `trust_domains` is missing; a key of it is no trust domain
            name (a SPIFFE ID is none); or a bundle breaks a rule of `parse_bundle_document`.
    """
    try:
        members = load_object(data, MAX_MAP_BYTES).get("trust_domains")
        if not isinstance(members, dict):
            raise InvalidBundleError("the member trust_domains must be present and be an object")
        if len(members) > MAX_TRUST_DOMAINS:
            raise InvalidBundleError(f"it has {len(members)} trust domains, more than {MAX_TRUST_DOMAINS}")
        return BundleSet(_read(name, value) for name, value in cast("dict[str, object]", members).items())
    except InvalidBundleError as error:
        raise InvalidBundleError(f"the bundle map is malformed: {error}") from error


def format_bundle_map(bundles: BundleSet[TrustBundle]) -> bytes:
    """Write bundles as a map, sorted by trust domain, without refresh hints (section 5.1.1: publishers leave them out).

    `parse_bundle_map` reads back equal bundles but for those hints.

    Raises:
        InvalidBundleError: an X.509 authority has a key for which there is no JWK here.
    """
    documents = {
        trust_domain.name: write_bundle(replace(bundles[trust_domain], refresh_hint=None))
        for trust_domain in sorted(bundles)
    }
    return json.dumps({"trust_domains": documents}, indent=4).encode("ascii") + b"\n"


def _read(name: str, value: object) -> TrustBundle:
    try:
        trust_domain = TrustDomain(name)
    except InvalidTrustDomainError as error:
        raise InvalidBundleError(f"a key of trust_domains is no trust domain name: {error}") from error
    if not isinstance(value, dict):
        raise InvalidBundleError(f"the bundle of {trust_domain} is no JSON object")
    try:
        bundle = read_bundle(trust_domain, cast("dict[str, object]", value))
    except InvalidBundleError as error:
        raise InvalidBundleError(f"the bundle of {trust_domain}: {error}") from error
    return replace(bundle, refresh_hint=None)
