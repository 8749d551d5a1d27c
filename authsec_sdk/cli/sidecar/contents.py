"""What each file holds; pure."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.cli.sidecar.settings import RunSettings
from authsec_sdk.errors import InvalidBundleError, NoIdentityError
from authsec_sdk.spiffe import (
    JWTSVID,
    BundleSet,
    JWTBundle,
    TrustBundle,
    X509Bundle,
    X509Context,
    format_bundle_map,
    format_key_set,
)
from authsec_sdk.workloadapi.choice import choose

__all__ = ["FileContent", "Files", "jwt_bundle_file", "jwt_svid_file", "pick_jwt", "x509_files"]


@dataclass(frozen=True, slots=True, repr=False)
class FileContent:
    """The bytes and the mode of one file; often a secret, so only its size is shown."""

    data: bytes
    mode: int

    def __repr__(self) -> str:
        return f"<{len(self.data)} bytes, mode {self.mode:04o}>"


Files = Mapping[str, FileContent]
"""By name, in the order they are to be replaced."""


def x509_files(context: X509Context, settings: RunSettings, *, now: datetime) -> dict[str, FileContent]:
    """Return the SVID, its key and the authorities of its own trust domain, as PEM; where asked, all bundles as a map.

    Authorities of other domains are in the PEM bundle only with `unsafe_federated_in_pem`: nothing in it says whose
    each is, so they could vouch for IDs of ours (threat model 5).

    Raises:
        NoIdentityError: there is no SVID, or none with the hint.
        NoBundleForTrustDomainError: there is no bundle of its trust domain.
        InvalidBundleError: no authority would be left, or one has no form in a bundle map.
    """
    layout = settings.layout
    if layout is None:
        return {}
    svid = choose(context, None, settings.hint).svid
    own = context.bundles.require(svid.id.trust_domain)
    leaf, *intermediates = svid.certificates
    authorities = list(own.authorities)
    if settings.add_intermediates_to_bundle:
        authorities += intermediates
        intermediates = []
    if settings.unsafe_federated_in_pem:
        authorities += [
            authority for bundle in context.bundles.values() if bundle != own for authority in bundle.authorities
        ]
    if settings.omit_expired:
        intermediates = [certificate for certificate in intermediates if certificate.not_valid_after_utc > now]
        authorities = [certificate for certificate in authorities if certificate.not_valid_after_utc > now]
    if not authorities:
        raise InvalidBundleError(f"the bundle of {svid.id.trust_domain} has no authority that could be written")
    modes = settings.modes
    files = {layout.bundle: FileContent(_pem(authorities), modes.certificates)}
    if settings.bundle_map is not None:
        files[settings.bundle_map] = FileContent(_bundle_map(context.bundles), modes.certificates)
    key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = _pem([leaf, *intermediates])
    if layout.private_key == layout.certificates:
        files[layout.certificates] = FileContent(key + chain, modes.key)
    else:
        files[layout.private_key] = FileContent(key, modes.key)
        files[layout.certificates] = FileContent(chain, modes.certificates)
    return files


def jwt_bundle_file(bundles: BundleSet[JWTBundle]) -> bytes:
    """Return the keys of every trust domain as spiffe-helper writes them: by domain, each key set in base64."""
    sets = {domain.name: base64.b64encode(format_key_set(bundles[domain])).decode() for domain in sorted(bundles)}
    return json.dumps(sets).encode()


def jwt_svid_file(svid: JWTSVID) -> bytes:
    """Return the token, with no line end behind it."""
    return svid.token.encode()


def pick_jwt(svids: tuple[JWTSVID, ...], hint: str | None) -> JWTSVID:
    """Return the first, or the first with the hint.

    Raises:
        NoIdentityError: there is none.
    """
    for svid in svids:
        if hint is None or svid.hint == hint:
            return svid
    raise NoIdentityError(f"no JWT-SVID has the hint {hint!r}: set the hint in the registration entry")


def _bundle_map(bundles: BundleSet[X509Bundle]) -> bytes:
    return format_bundle_map(
        BundleSet(TrustBundle(bundle.trust_domain, bundle.authorities) for bundle in bundles.values())
    )


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
