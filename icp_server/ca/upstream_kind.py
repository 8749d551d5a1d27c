"""X.509 and token authorities of a server that has an upstream authority: signed, and published, by it."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.errors import InvalidBundleError
from authsec_sdk.spiffe import TrustBundle, TrustDomain, X509Bundle
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.ca.keys import PrivateKey, public_key_info, scheme_of
from icp_server.ca.kinds import CASettings, SlotKind, TokenKind, X509Kind
from icp_server.ca.signer import SVIDSigner
from icp_server.ca.token_signer import ActiveTokenKey, SVIDTokenSigner
from icp_server.ca.upstream import MintedCA, UpstreamAuthority, UpstreamError
from icp_server.ca.upstream_chain import check_chain, subject_key_id, to_der
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.ca_slots import AuthorityRecord, Status
from icp_server.domain.key_type import KeyType
from icp_server.domain.svid_template import CATemplate, new_serial_number, upstream_ca_subject
from icp_server.ports import Store

logger = logging.getLogger(__name__)


class UpstreamX509Kind(X509Kind):
    """X.509 authorities signed by an upstream one. What the bundle gets of them are upstream's roots."""

    def __init__(self, store: Store, signer: SVIDSigner, settings: CASettings, upstream: UpstreamAuthority) -> None:
        super().__init__(store, signer, settings)
        self._upstream = upstream
        self._roots: dict[str, tuple[bytes, ...]] = {}

    async def made(self, key: PrivateKey, slot: str, now: datetime) -> AuthorityRecord:
        """See `SlotKind`.

        Raises:
            UpstreamError: upstream does not sign, or what it signed is of no use.
        """
        trust_domain = self._store.trust_domain
        ttl, subject = self._settings.ca_ttl, upstream_ca_subject(self._settings.subject)
        # Of what composers say the subject goes upstream; what else the certificate has is upstream's to say.
        wanted = CATemplate(new_serial_number(), subject, trust_domain, now, now.replace(microsecond=0) + ttl)
        composed = self._signer.composed_ca(wanted)
        csr = await asyncio.to_thread(_request, key, trust_domain, composed.subject)
        minted = await self._upstream.mint(csr, min(ttl, composed.not_after - now))
        record = checked_record(minted, key, trust_domain, slot, now)
        self._roots = {record.authority_id: minted.roots}
        return record

    async def publish(self, record: AuthorityRecord) -> None:
        """See `SlotKind`."""
        trust_domain = self._store.trust_domain
        roots = X509Bundle.parse_der(trust_domain, b"".join(self._roots.pop(record.authority_id)))
        await self._store.bundles.append(PublishedBundle(TrustBundle(trust_domain, roots.authorities)))


class UpstreamTokenKind(TokenKind):
    """Token authorities that upstream publishes with its own, so that the whole trust domain verifies the tokens."""

    def __init__(
        self,
        kind: AuthorityKind,
        store: Store,
        active: ActiveTokenKey,
        key_type: KeyType,
        lifetime: timedelta,
        upstream: UpstreamAuthority,
    ) -> None:
        super().__init__(kind, store, active, key_type, lifetime)
        self._upstream = upstream

    async def publish(self, record: AuthorityRecord) -> None:
        """See `SlotKind`. First upstream: what others cannot verify is not signed with.

        Raises:
            UpstreamError: upstream cannot publish it now.
        """
        published = await self._upstream.publish(
            self.kind, record.authority_id, record.data, int(record.not_after.timestamp())
        )
        if published is None:
            logger.warning(
                "The upstream authority publishes no %s keys: what this server signs verifies below it alone",
                self._words,
            )
        else:
            await self._store.bundles.append(published)
        await super().publish(record)


def upstream_kinds(
    store: Store, signer: SVIDSigner, tokens: SVIDTokenSigner, settings: CASettings, upstream: UpstreamAuthority
) -> tuple[SlotKind[Any], ...]:
    """The kinds of a server below an upstream authority by its settings, X.509 first."""
    kinds: list[SlotKind[Any]] = [UpstreamX509Kind(store, signer, settings, upstream)]
    for wanted, kind, active, key_type in (
        (settings.jwt, AuthorityKind.JWT, tokens.jwt, settings.jwt_key_type),
        (settings.wit, AuthorityKind.WIT, tokens.wit, settings.wit_key_type),
    ):
        if wanted:
            chosen = key_type or settings.key_type
            kinds.append(UpstreamTokenKind(kind, store, active, chosen, settings.ca_ttl, upstream))
    return tuple(kinds)


def checked_record(
    minted: MintedCA, key: PrivateKey, trust_domain: TrustDomain, slot: str, now: datetime
) -> AuthorityRecord:
    """Check what an upstream authority signed, and make a prepared authority of it.

    Raises:
        UpstreamError: it is for another key or trust domain, or its chain does not lead to upstream's roots.
    """
    try:
        chain = [x509.load_der_x509_certificate(link) for link in minted.chain]
        roots = X509Bundle.parse_der(trust_domain, b"".join(minted.roots)).authorities
    except (ValueError, InvalidBundleError) as error:
        raise UpstreamError(f"the upstream authority's answer cannot be read: {error}") from error
    checked = check_chain(chain, roots, now, below=0)
    if not checked.links:
        raise UpstreamError("the upstream authority answered with a root")
    ours = checked.links[0]
    if ours.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public_key_info(key):
        raise UpstreamError("the upstream authority signed another key than ours")
    if (names := _uris(ours)) != [str(trust_domain.id)]:
        raise UpstreamError(f"the upstream authority signed for {names}; this server's trust domain is {trust_domain}")
    return AuthorityRecord(
        authority_id=subject_key_id(ours).hex(),
        slot=slot,
        status=Status.PREPARED,
        issued_at=now,
        not_after=checked.not_after,
        data=to_der(ours),
        upstream_chain=tuple(map(to_der, checked.links)),
    )


def _request(key: PrivateKey, trust_domain: TrustDomain, subject: x509.Name) -> bytes:
    uri = x509.UniformResourceIdentifier(str(trust_domain.id))
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    )
    request = builder.sign(key, scheme_of(key).hash)  # type: ignore[arg-type]  # the two hashes are among those it takes
    return request.public_bytes(Encoding.DER)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
