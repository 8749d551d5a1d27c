"""Attestation by an X.509 certificate that the node was given beforehand, and a signature with its key."""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from authsec_sdk.hcl import Fields
from authsec_sdk.spire.attestation import x509pop as wire
from authsec_sdk.spire.attestation.messages import NONCE_BYTES, AttestationMessageError
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.errors import Internal, InvalidArgument, PermissionDenied
from icp_server.nodeattestors.agent_path import agent_id, read_template
from icp_server.nodeattestors.certificates import (
    ChainError,
    common_name,
    fingerprint,
    load_authorities,
    serial_number_hex,
    template_fields,
    template_names,
    uris,
    verified_chains,
)
from icp_server.nodeattestors.path_template import Known, PathTemplate
from icp_server.ports import AttestationRequest, Clock, MakeNodeAttestor, NodeAttestation, NodeAttestor, Store

logger = logging.getLogger(__name__)

NAME: Final = wire.NAME
EXTERNAL_PKI: Final = "external_pki"
SPIFFE: Final = "spiffe"
MAX_INTERMEDIATES: Final = 4
MAX_RSA_KEY_SIZE: Final = 8192
DEFAULT_PREFIX: Final = "/spire-exchange/"

_KNOWN: Final = Known(
    template_names() | {"PluginName", "TrustDomain", "SVIDPathTrimmed"}, maps=frozenset({"URISanSelectors"})
)
_DEFAULT_TEMPLATES: Final = {
    EXTERNAL_PKI: "/{{ .PluginName }}/{{ .Fingerprint }}",
    SPIFFE: "/{{ .PluginName }}/{{ .SVIDPathTrimmed }}",
}


@dataclass(frozen=True, slots=True)
class X509PoPSettings:
    """What `plugin_data` says; called, it makes the attestor."""

    mode: str
    ca_paths: tuple[Path, ...]
    svid_prefix: str
    template: PathTemplate
    max_intermediates: int = MAX_INTERMEDIATES
    max_rsa_key_size: int = MAX_RSA_KEY_SIZE
    verify_client_ip: bool = False

    def __call__(self, store: Store, clock: Clock) -> NodeAttestor:
        """Make the attestor.

        Raises:
            ConfigurationError: a bundle cannot be read, or is none.
        """
        roots = tuple(root for path in self.ca_paths for root in load_authorities(path))
        return X509PoPAttestor(self, roots, store, clock)


class X509PoPAttestor:
    """Implements the `NodeAttestor` port. The node may come again: its certificate says who it is each time."""

    name = NAME

    def __init__(
        self, settings: X509PoPSettings, roots: Sequence[x509.Certificate], store: Store, clock: Clock
    ) -> None:
        self._settings = settings
        self._roots = tuple(roots)
        self._store = store
        self._clock = clock

    async def attest(self, request: AttestationRequest) -> NodeAttestation:
        """Verify the chain, then let the node sign a nonce with the leaf's key.

        Not checked: revocation.

        Raises:
            InvalidArgument: the payload or the response is malformed or too large.
            PermissionDenied: the chain does not lead to an authority, or the signature is not the leaf's.
            Internal: the leaf may not sign or its key is of no use here, or it makes no agent's ID.
        """
        leaf, *intermediates = self._parsed(request.payload)
        try:
            chains = verified_chains(
                leaf,
                intermediates,
                await self._authorities(),
                at=self._clock(),
                most=self._settings.max_intermediates,
            )
        except ChainError as error:
            raise PermissionDenied(f"certificate verification failed: {error}") from error
        if self._settings.verify_client_ip:
            _check_address(leaf, request.peer_address)
        await _prove(leaf, request)
        trust_domain = self._store.trust_domain
        named = _uri_selectors(leaf, trust_domain.name)
        fields = {
            **template_fields(leaf),
            "PluginName": NAME,
            "TrustDomain": trust_domain.name,
            "SVIDPathTrimmed": self._trimmed_path(leaf),
            **{f"URISanSelectors.{key}": value for key, value in named.items()},
        }
        values = [
            *([f"subject:cn:{name}"] if (name := common_name(leaf)) else []),
            *(f"ca:fingerprint:{each}" for each in _fingerprints(chains)),
            f"serialnumber:{serial_number_hex(leaf)}",
            *(f"san:{key}:{value}" for key, value in named.items()),
        ]
        selectors = tuple(Selector(NAME, value) for value in values)
        return NodeAttestation(agent_id(trust_domain, self._settings.template, fields), selectors, can_reattest=True)

    def _parsed(self, payload: bytes) -> list[x509.Certificate]:
        settings = self._settings
        try:
            ders = wire.parse_payload(payload, most=settings.max_intermediates + 1)
        except AttestationMessageError as error:
            raise InvalidArgument(f"failed to unmarshal data: {error}") from error
        if not ders:
            raise InvalidArgument("no certificate to attest")
        if len(ders) - 1 > settings.max_intermediates:
            raise InvalidArgument("too many intermediate certificates")
        certificates = []
        for index, der in enumerate(ders):
            which = f"intermediate certificate {index - 1}" if index else "leaf certificate"
            try:
                certificate = x509.load_der_x509_certificate(der)
                key = certificate.public_key()
                tuple(certificate.extensions)  # read here, where a malformed one is the node's fault
            except Exception as error:  # the parser's errors are of many kinds, and this is somebody else's data
                raise InvalidArgument(f"unable to parse {which}: {str(error)[:200]}") from error
            if isinstance(key, rsa.RSAPublicKey) and key.key_size > settings.max_rsa_key_size:
                raise InvalidArgument(f"{which} key size too large")
            certificates.append(certificate)
        return certificates

    async def _authorities(self) -> Sequence[x509.Certificate]:
        if self._settings.mode == EXTERNAL_PKI:
            return self._roots
        bundle = await self._store.bundles.get(self._store.trust_domain)
        return bundle.x509_bundle().authorities if bundle is not None else ()

    def _trimmed_path(self, leaf: x509.Certificate) -> str:
        if self._settings.mode == EXTERNAL_PKI:
            return ""
        ids = [uri for uri in uris(leaf) if urlsplit(uri).scheme == "spiffe"]
        if not ids:
            raise PermissionDenied("valid SVID x509 cert not found")
        split = urlsplit(ids[0])
        if split.netloc != self._store.trust_domain.name or len(ids) > 1:
            # Upstream does not look. An SVID has one ID, and one of another trust domain names no node of ours.
            raise PermissionDenied(f"x509 cert is no SVID of trust domain {self._store.trust_domain}")
        if not split.path.startswith(self._settings.svid_prefix):
            raise PermissionDenied("x509 cert doesnt match SVID prefix")
        return split.path.removeprefix(self._settings.svid_prefix)


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: they are wrong, do not fit together, or one is unknown.
    """
    with data:
        mode = data.text("mode") or EXTERNAL_PKI
        if mode not in (EXTERNAL_PKI, SPIFFE):
            raise data.error("mode can only be either spiffe or external_pki", "mode")
        return X509PoPSettings(
            mode,
            _ca_paths(data, mode),
            _prefix(data),
            read_template(data, _DEFAULT_TEMPLATES[mode], _KNOWN),
            _positive(data, "max_intermediates", MAX_INTERMEDIATES),
            _positive(data, "max_rsa_key_size", MAX_RSA_KEY_SIZE),
            data.boolean("verify_client_ip") or False,
        )


def _ca_paths(data: Fields, mode: str) -> tuple[Path, ...]:
    one, several = data.text("ca_bundle_path"), data.texts("ca_bundle_paths") or ()
    if mode == SPIFFE:
        if one or several:
            raise data.error("you can not use ca_bundle_path or ca_bundle_paths in spiffe mode")
        return ()
    if one and several:
        raise data.error("only one of ca_bundle_path or ca_bundle_paths can be configured, not both")
    if not one and not several:
        raise data.error("one of ca_bundle_path or ca_bundle_paths must be configured")
    return tuple(map(Path, several or (one or "",)))


def _prefix(data: Fields) -> str:
    """Read the prefix by the name upstream's documentation gives it, or by the one its code reads."""
    documented, real = data.text("svid_prefix"), data.text("spiffe_prefix")
    if documented is not None and real is not None:
        raise data.error("svid_prefix and spiffe_prefix are one setting: give one of them", "spiffe_prefix")
    prefix = documented if documented is not None else real
    if prefix is None:
        return DEFAULT_PREFIX
    return prefix if prefix.endswith("/") else f"{prefix}/"


def _positive(data: Fields, key: str, default: int) -> int:
    number = data.integer(key)
    if number is None:
        return default
    if number <= 0:
        raise data.error(f"{key} must be greater than 0", key)
    return number


async def _prove(leaf: x509.Certificate, request: AttestationRequest) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    if usage is None or not usage.digital_signature:
        raise Internal("unable to generate challenge: certificate not intended for digital signature use")
    nonce = secrets.token_bytes(NONCE_BYTES)
    try:
        challenge = wire.challenge(leaf.public_key(), nonce)
    except AttestationMessageError as error:
        raise Internal(f"unable to generate challenge: {error}") from error
    response = await request.challenge(challenge)
    try:
        wire.verify(leaf.public_key(), nonce, response)
    except AttestationMessageError as error:
        raise PermissionDenied(f"challenge response verification failed: {error}") from error


def _check_address(leaf: x509.Certificate, address: str) -> None:
    if not address:
        raise Internal("client IP not available for verification")
    try:
        client = ipaddress.ip_address(address.partition("%")[0])
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except ValueError as error:
        raise Internal(f'invalid client IP "{address}"') from error
    except x509.ExtensionNotFound:
        names = None
    mapped = getattr(client, "ipv4_mapped", None) or client
    if names is None or mapped not in names.get_values_for_type(x509.IPAddress):
        raise PermissionDenied(f"client IP {mapped} does not match any certificate IP SAN")


def _uri_selectors(leaf: x509.Certificate, trust_domain: str) -> dict[str, str]:
    named: dict[str, str] = {}
    prefix = f"x509pop://{trust_domain}/"
    for uri in uris(leaf):
        if not uri.startswith(prefix):
            continue
        key, slash, value = urlsplit(uri).path.strip("/").partition("/")
        if not slash or not key or not value:
            logger.warning("Cannot extract x509pop san selectors uri=%r", uri)
            continue
        named[key] = value
    return named


def _fingerprints(chains: Sequence[Sequence[x509.Certificate]]) -> list[str]:
    return list(dict.fromkeys(fingerprint(each) for chain in chains for each in chain[1:]))
