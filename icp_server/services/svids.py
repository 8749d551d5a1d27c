"""X509-SVIDs: in batches for agents, one by one for administrators; and CA certificates for downstream servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.spire.entries import RegistrationEntry
from icp_server.domain.agent import Agent
from icp_server.domain.errors import Internal, InvalidArgument, NotFound, ResourceExhausted, ServiceError, Unavailable
from icp_server.domain.issued import IssuedSVID, LeafRequest, NewX509SVID
from icp_server.domain.results import MAX_BATCH, ItemResult
from icp_server.ports import Store, X509Signer
from icp_server.services.entries import EntryService


@dataclass(frozen=True, slots=True)
class IssuedAuthority:
    """A downstream server's CA certificate and the chain above it, and the roots it leads to; each DER."""

    chain: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    expires_at: int


class SVIDService:
    """The SVID API's use cases over one trust domain."""

    def __init__(self, store: Store, signer: X509Signer, entries: EntryService) -> None:
        self._store = store
        self._signer = signer
        self._entries = entries

    async def batch_new_x509(self, agent: Agent, items: Sequence[NewX509SVID]) -> list[ItemResult[IssuedSVID]]:
        """Sign an SVID for each item whose entry the agent is authorized for, in order.

        Raises:
            InvalidArgument: there is no item.
            ResourceExhausted: there are more than MAX_BATCH.
        """
        if not items:
            raise InvalidArgument("missing parameters")
        if len(items) > MAX_BATCH:
            raise ResourceExhausted(f"rate ({len(items)}) exceeds burst size ({MAX_BATCH})")
        authorized = await self._entries.authorized_by_id(agent, [item.entry_id for item in items if item.entry_id])
        refusals = [_refusal(item, authorized) for item in items]
        wanted = [
            (item, authorized[item.entry_id]) for item, refusal in zip(items, refusals, strict=True) if refusal is None
        ]
        signed = await self._signer.sign([_request(item, entry) for item, entry in wanted])
        await self._record_privileged(
            [
                result.value
                for result, (_, entry) in zip(signed, wanted, strict=True)
                if result.value is not None and self._entries.is_privileged(entry)
            ]
        )
        outcomes = iter(signed)
        return [_outcome(next(outcomes)) if refusal is None else ItemResult(error=refusal) for refusal in refusals]

    async def mint_x509(self, csr: bytes, ttl: int) -> IssuedSVID:
        """Sign what an administrator's CSR names; ``ttl`` ≤ 0 means the default.

        Raises:
            InvalidArgument: the CSR is missing or wrong, or names what may not be signed.
        """
        if not csr:
            raise InvalidArgument("missing CSR")
        issued = await self._signer.mint(csr, ttl)
        rights = await self._entries.rights_by_entries(issued.spiffe_id)
        if rights.admin or rights.downstream:
            await self._record_privileged([issued])
        return issued

    async def new_downstream_ca(self, csr: bytes, preferred_ttl: int) -> IssuedAuthority:
        """Sign a CA certificate for the downstream server that has this key; ``preferred_ttl`` ≤ 0 means the longest.

        Neither the CSR's names nor the caller's entry say anything of it (as upstream): it stands for the trust domain.

        Raises:
            InvalidArgument: the CSR is wrong.
            Internal: it cannot be signed.
        """
        try:
            chain, expires_at = await self._signer.sign_downstream(csr, preferred_ttl)
        except Unavailable as error:
            raise Internal(f"failed to sign downstream X.509 CA: {error.message}") from error
        bundle = await self._store.bundles.get(self._store.trust_domain)
        if bundle is None:
            raise Internal("failed to fetch bundle")
        return IssuedAuthority(
            chain, tuple(root.public_bytes(Encoding.DER) for root in bundle.x509_authorities), expires_at
        )

    async def _record_privileged(self, issued: Sequence[IssuedSVID]) -> None:
        """Before the certificate leaves: one that is not on record has no rights."""
        if issued:
            await self._store.issuance.record(issued)


def _refusal(item: NewX509SVID, authorized: Mapping[str, RegistrationEntry]) -> ServiceError | None:
    if not item.entry_id:
        return InvalidArgument("missing entry ID")
    if not item.csr:
        return InvalidArgument("missing CSR")
    if item.entry_id not in authorized:
        return NotFound("entry not found or not authorized")
    return None


def _request(item: NewX509SVID, entry: RegistrationEntry) -> LeafRequest:
    return LeafRequest(item.csr, entry.spiffe_id, entry.x509_svid_ttl, entry.dns_names, entry.hint)


def _outcome(result: ItemResult[IssuedSVID]) -> ItemResult[IssuedSVID]:
    if isinstance(result.error, Internal):
        return ItemResult(error=Internal(f"failed to sign X509-SVID: {result.error.message}"))
    return result
