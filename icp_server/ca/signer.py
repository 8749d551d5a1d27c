"""Signs leaves with the active authority, in batches; the rotator swaps the authority by one reference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from authsec_sdk.jose.jwk import JWTPublicKey
from authsec_sdk.spiffe import SpiffeID, TrustDomain
from icp_server.ca.authority import SigningAuthority, subordinate
from icp_server.ca.composer import NO_COMPOSERS, Composers
from icp_server.ca.csr import ProvenKey, prove, read_mint_request
from icp_server.domain.composer import CAAttributes, X509Attributes
from icp_server.domain.errors import Internal, InvalidArgument, ServiceError, Unavailable
from icp_server.domain.issued import IssuedSVID, LeafRequest
from icp_server.domain.results import ItemResult
from icp_server.domain.svid_template import (
    CATemplate,
    LeafTemplate,
    check_agent_id,
    check_server_id,
    check_workload_id,
    downstream_ca_template,
    leaf_subject,
    leaf_validity,
    minted_subject,
    new_serial_number,
)
from icp_server.ports import Clock

P = ParamSpec("P")
T = TypeVar("T")

_INLINE = 8
"""A batch up to this size is signed where it is asked for (about a millisecond); a larger one in a thread, so that the
event loop goes on."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long leaves live when nobody says."""

    x509_svid: timedelta = timedelta(hours=1)
    agent: timedelta | None = None
    """None: as x509_svid."""


class SVIDSigner:
    """Implements the `X509Signer` port. Not ready until an authority was activated."""

    def __init__(
        self, trust_domain: TrustDomain, lifetimes: Lifetimes, clock: Clock, composers: Composers = NO_COMPOSERS
    ) -> None:
        self.composers = composers
        self._trust_domain = trust_domain
        self._workload_ttl = lifetimes.x509_svid
        self._agent_ttl = lifetimes.agent or lifetimes.x509_svid
        self._clock = clock
        self._authority: SigningAuthority | None = None

    @property
    def authority(self) -> SigningAuthority:
        """The active authority.

        Raises:
            Unavailable: there is none yet.
        """
        if self._authority is None:
            raise Unavailable("X509 CA is not available for signing")
        return self._authority

    def activate(self, authority: SigningAuthority) -> None:
        """Sign with this authority from now on; what is being signed goes on with the one before."""
        self._authority = authority

    def key_digest(self, csr: bytes) -> bytes:
        """SHA-256 over the public key of a CSR whose signature is right.

        Raises:
            InvalidArgument: it is not.
        """
        return prove(csr).digest

    async def sign(self, requests: Sequence[LeafRequest]) -> list[ItemResult[IssuedSVID]]:
        """Sign workloads' leaves, in order; an item's error is its own."""
        if len(requests) <= _INLINE:
            return await self._run(self._sign_all, requests)
        return await asyncio.to_thread(self._sign_all, requests)

    async def sign_agent(self, csr: bytes, agent_id: SpiffeID) -> IssuedSVID:
        """Sign an agent's leaf.

        Raises:
            InvalidArgument: the CSR is wrong.
            Internal: the ID is not an agent's.
            Unavailable: there is no active authority, or it has expired.
        """
        check_agent_id(agent_id, self._trust_domain)
        key = prove(csr)
        return await self._run(lambda: self._issue(key, agent_id, self._agent_ttl, self._clock(), role="agent_svid"))

    async def mint(self, csr: bytes, ttl: int) -> IssuedSVID:
        """Sign what the CSR names.

        Raises:
            InvalidArgument: the CSR is wrong, or names what may not be signed.
            Unavailable: there is no active authority, or it has expired.
        """
        request = read_mint_request(csr)
        try:
            check_workload_id(request.spiffe_id, self._trust_domain)
        except Internal as error:
            raise InvalidArgument(f"CSR URI SAN is invalid: {error.message}") from error
        return await self._run(
            lambda: self._issue(
                request.key,
                request.spiffe_id,
                self._ttl(ttl),
                self._clock(),
                dns_names=request.dns_names,
                subject=minted_subject(request.subject, request.dns_names),
            )
        )

    async def sign_downstream(self, csr: bytes, ttl: int) -> tuple[tuple[bytes, ...], int]:
        """Sign a CA certificate for the key of a CSR; its chain, the root excluded, and its end in Unix seconds.

        Raises:
            InvalidArgument: the CSR is wrong.
            Unavailable: there is no active authority, or it has expired.
        """
        key = prove(csr)
        authority = self.authority
        record = authority.record
        now = self._clock()
        wanted = timedelta(seconds=ttl) if ttl > 0 else record.not_after - now + timedelta(seconds=1)
        validity = leaf_validity(now, wanted, record.not_after)
        issuer = x509.load_der_x509_certificate(record.data).subject
        template = downstream_ca_template(self._trust_domain, validity, issuer, 1 + len(record.upstream_chain))
        template = self.composed_ca(template)
        public_key = cast("JWTPublicKey", load_der_public_key(key.public_key_info))
        certificate = await self._run(subordinate, template, public_key, authority)
        return (certificate, *record.upstream_chain), int(template.not_after.timestamp())

    def sign_server(self, csr: bytes, server_id: SpiffeID) -> IssuedSVID:
        """Sign this server's own leaf.

        Raises:
            Internal: the ID is not the server's.
            Unavailable: there is no active authority, or it has expired.
        """
        check_server_id(server_id, self._trust_domain)
        return self._issue(prove(csr), server_id, self._workload_ttl, self._clock(), role="server_svid")

    def composed_ca(self, template: CATemplate) -> CATemplate:
        """A CA certificate's template as the credential composers want it.

        Raises:
            Internal: one of them failed, or went beyond its bounds.
        """
        if not self.composers:
            return template
        attributes = CAAttributes(template.subject, template.not_after, template.extensions)
        composed = self.composers.server_ca(attributes, template.not_before)
        return replace(template, subject=composed.subject, not_after=composed.not_after, extensions=composed.extensions)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Sign here where that takes less than a millisecond; where the key is elsewhere, in a thread."""
        if self._authority is not None and self._authority.remote:
            return await asyncio.to_thread(work, *args, **kwargs)
        return work(*args, **kwargs)

    def _sign_all(self, requests: Sequence[LeafRequest]) -> list[ItemResult[IssuedSVID]]:
        now = self._clock()
        return [self._sign_one(request, now) for request in requests]

    def _sign_one(self, request: LeafRequest, now: datetime) -> ItemResult[IssuedSVID]:
        try:
            key = prove(request.csr)
            check_workload_id(request.spiffe_id, self._trust_domain)
            issued = self._issue(
                key,
                request.spiffe_id,
                self._ttl(request.ttl),
                now,
                dns_names=request.dns_names,
                hint=request.hint,
            )
        except ServiceError as error:
            return ItemResult(error=error)
        return ItemResult(issued)

    def _issue(
        self,
        key: ProvenKey,
        spiffe_id: SpiffeID,
        ttl: timedelta,
        now: datetime,
        *,
        dns_names: tuple[str, ...] = (),
        subject: x509.Name | None = None,
        hint: str = "",
        role: str = "workload_svid",
    ) -> IssuedSVID:
        """The one place a leaf is made. The caller has checked that the ID may be signed.

        `role` is what credential composers are asked for.
        """
        authority = self.authority
        not_before, not_after = leaf_validity(now, ttl, authority.record.not_after)
        serial_number = new_serial_number()
        template = LeafTemplate(
            serial_number, subject or leaf_subject(dns_names), spiffe_id, dns_names, not_before, not_after
        )
        if self.composers:
            template = self._composed(template, role)
        to_be_signed = authority.encoder.to_be_signed(template, key.public_key_info, key.subject_key_id)
        leaf = authority.encoder.certificate(to_be_signed, authority.sign(to_be_signed))
        chain = (leaf, *authority.record.upstream_chain)
        return IssuedSVID(spiffe_id, chain, int(template.not_after.timestamp()), str(serial_number), hint)

    def _composed(self, template: LeafTemplate, role: str) -> LeafTemplate:
        attributes = X509Attributes(template.subject, template.dns_names, template.not_after)
        made = self.composers.x509_svid(role, template.spiffe_id, attributes, template.not_before)
        return replace(
            template,
            subject=made.subject,
            dns_names=made.dns_names,
            not_after=made.not_after,
            extensions=made.extensions,
        )

    def _ttl(self, seconds: int) -> timedelta:
        return timedelta(seconds=seconds) if seconds > 0 else self._workload_ttl
