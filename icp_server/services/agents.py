"""Agents: attest, renew, judge every call of theirs, ban, evict; and the tokens they join with."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from authsec_sdk.errors import InvalidSpiffeIDError
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.agents import JoinToken
from authsec_sdk.spire.entries import RegistrationEntry
from authsec_sdk.spire.reserved_ids import check_agent_id, check_workload_id
from authsec_sdk.spire.selectors import Selector, unique_selectors
from icp_server.domain import join_token
from icp_server.domain.agent import MAX_AGENT_VERSION, Agent, Standing, judge
from icp_server.domain.errors import (
    AgentDenied,
    DenialReason,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServiceError,
)
from icp_server.domain.filters import AgentFilter
from icp_server.domain.issued import IssuedSVID
from icp_server.domain.results import Page, PageRequest
from icp_server.ports import AttestationRequest, Challenge, Clock, NodeAttestation, NodeAttestor, Store, X509Signer


@dataclass(frozen=True, slots=True)
class AttestResult:
    """A successful attestation."""

    svid: IssuedSVID
    can_reattest: bool


class AgentService:
    """The Agent API's use cases over one trust domain."""

    def __init__(
        self,
        store: Store,
        signer: X509Signer,
        attestors: Mapping[str, NodeAttestor],
        clock: Clock,
        *,
        agent_spiffe_id_as_selector: bool = False,
    ) -> None:
        self._store = store
        self._signer = signer
        self._attestors = attestors
        self._clock = clock
        self._id_as_selector = agent_spiffe_id_as_selector

    async def attest(
        self, data_type: str, payload: bytes, csr: bytes, challenge: Challenge, *, peer_address: str = ""
    ) -> AttestResult:
        """Attest a node and sign its agent's first SVID.

        The CSR's signature is checked before anything else, and the attestation counts for its key alone.

        Raises:
            InvalidArgument: a part is missing or wrong, the token is unknown, spent or expired.
            FailedPrecondition: no such attestor is configured.
            PermissionDenied: the agent is banned, or data that counts once was used before.
        """
        parts = {"CSR": csr, "attestation data type": data_type, "attestation data payload": payload}
        for name, part in parts.items():
            if not part:
                raise InvalidArgument(f"malformed param: missing {name}")
        attestor = self._attestors.get(data_type)
        if attestor is None:
            raise FailedPrecondition(f'error getting node attestor: could not find node attestor type "{data_type}"')
        key_digest = self._signer.key_digest(csr)
        try:
            attestation = await attestor.attest(AttestationRequest(payload, key_digest, challenge, peer_address))
        except ServiceError as error:
            raise _named(error, data_type) from error
        agent_id = attestation.agent_id
        try:
            check_agent_id(self._store.trust_domain, agent_id)
        except InvalidSpiffeIDError as error:
            raise Internal(f"invalid agent ID: {error}") from error
        svid = await self._signer.sign_agent(csr, agent_id)
        try:
            # Banned or seen before: judged where it is written, so that nothing slips in between.
            await self._store.agents.save_attested(
                self._record(attestation, data_type, svid), first_use_only=attestation.first_use_only
            )
        except PermissionDenied as error:
            if attestation.first_use_only and error.reason is DenialReason.UNKNOWN:
                raise _named(error, data_type) from error
            raise PermissionDenied(f"failed to attest: {error.message}", error.reason) from error
        return AttestResult(svid, attestation.can_reattest)

    async def renew(self, agent: Agent, csr: bytes) -> IssuedSVID:
        """A new SVID for an active agent; the old one stays good until the new one is used.

        Raises:
            PermissionDenied: the agent must re-attest instead (reason AGENT_MUST_REATTEST), or is not active any more.
            InvalidArgument: the CSR is missing or wrong.
        """
        if agent.can_reattest:
            raise PermissionDenied("agent must reattest instead of renew", DenialReason.AGENT_MUST_REATTEST)
        if not csr:
            raise InvalidArgument("missing CSR")
        svid = await self._signer.sign_agent(csr, agent.id)
        await self._store.agents.set_new_certificate(agent, svid.serial_number, svid.expires_at)
        return svid

    async def authorize(self, agent_id: SpiffeID, serial_number: str, not_after: datetime) -> Agent:
        """The record of the agent whose (verified) certificate this is; first use of a renewed one promotes it.

        Raises:
            AgentDenied: with the reason the agent acts on.
        """
        agent = await self._store.agents.get(agent_id)
        try:
            standing = judge(agent, agent_id, serial_number, not_after, self._clock())
        except AgentDenied:
            if not self._store.shared:
                raise
            # It may have attested or renewed at another server a moment ago: a denial costs it what it has.
            agent = await self._store.agents.get(agent_id, fresh=True)
            standing = judge(agent, agent_id, serial_number, not_after, self._clock())
        if standing is Standing.CURRENT:
            assert agent is not None, "judge refuses what is not there"
            return agent
        promoted = await self._store.agents.promote(agent_id, serial_number)
        if promoted is None:  # banned, evicted or renewed again in between
            raise AgentDenied(f'agent "{agent_id}" is not active any more', DenialReason.AGENT_NOT_ACTIVE)
        return promoted

    async def post_status(self, agent: Agent, version: str) -> None:
        """Remember the agent's release.

        Raises:
            InvalidArgument: the text is too long.
        """
        if len(version.encode()) > MAX_AGENT_VERSION:
            raise InvalidArgument(f"agent version is longer than {MAX_AGENT_VERSION} bytes")
        if version != agent.agent_version:
            await self._store.agents.set_version(agent.id, version)

    async def get(self, agent_id: SpiffeID) -> Agent:
        """One agent.

        Raises:
            InvalidArgument: the ID is not one of an agent of this trust domain.
            NotFound: there is no such agent.
        """
        self._check(agent_id)
        agent = await self._store.agents.get(agent_id)
        if agent is None:
            raise NotFound("agent not found")
        return agent

    async def list(self, filter_: AgentFilter, page: PageRequest) -> Page[Agent]:
        """Agents that pass the filter, in the order they first attested.

        Raises:
            Internal: the selector set is empty or the page token is none of ours (upstream's code for both).
        """
        _check_filter(filter_, "list")
        try:
            return await self._store.agents.list(filter_, page)
        except Internal as error:
            raise Internal(f"failed to list agents: {error.message}") from error

    async def count(self, filter_: AgentFilter) -> int:
        """How many agents pass the filter.

        Raises:
            Internal: the selector set is empty.
        """
        _check_filter(filter_, "count")
        return await self._store.agents.count(filter_)

    async def ban(self, agent_id: SpiffeID) -> None:
        """Refuse the agent from now on, until it is deleted.

        Raises:
            InvalidArgument: the ID is not one of an agent of this trust domain.
            NotFound: there is no such agent.
        """
        self._check(agent_id)
        await self._store.agents.ban(agent_id)

    async def delete(self, agent_id: SpiffeID) -> None:
        """Evict the agent: it must attest anew, and a ban is lifted.

        Raises:
            InvalidArgument: the ID is not one of an agent of this trust domain.
            NotFound: there is no such agent.
        """
        self._check(agent_id)
        await self._store.agents.delete(agent_id, join_token.digest_of_agent(agent_id))

    async def create_join_token(self, ttl: int, token: str = "", agent_id: SpiffeID | None = None) -> JoinToken:
        """A token valid for ``ttl`` seconds, generated if no text is given; with ``agent_id`` also an alias entry.

        Raises:
            InvalidArgument: no TTL, a text that is not one path segment, an agent_id that may not be used.
            AlreadyExists: the text was used before, or its agent exists or ever existed.
            Internal: the same token is waiting already.
        """
        if ttl < 1:
            raise InvalidArgument("ttl is required, you must provide one")
        text = token or join_token.generate_text()
        parent = join_token.agent_id_of(self._store.trust_domain, text)
        alias = None if agent_id is None else self._alias(agent_id, parent)
        made = JoinToken(text, int(self._clock().timestamp()) + ttl)
        await self._store.join_tokens.create(made, alias)
        return made

    def _alias(self, agent_id: SpiffeID, parent: SpiffeID) -> RegistrationEntry:
        try:
            check_workload_id(self._store.trust_domain, agent_id)
        except InvalidSpiffeIDError as error:
            raise InvalidArgument(f"invalid agent ID: {error}") from error
        return RegistrationEntry(
            id=str(uuid.uuid4()),
            spiffe_id=agent_id,
            parent_id=parent,
            selectors=(Selector("spiffe_id", str(parent)),),
        )

    def _record(self, attestation: NodeAttestation, data_type: str, svid: IssuedSVID) -> Agent:
        selectors = attestation.selectors
        if self._id_as_selector:
            selectors = (*selectors, Selector("spiffe_id", str(attestation.agent_id)))
        return Agent(
            id=attestation.agent_id,
            attestation_type=data_type,
            serial_number=svid.serial_number,
            expires_at=svid.expires_at,
            can_reattest=attestation.can_reattest,
            selectors=unique_selectors(selectors),
        )

    def _check(self, agent_id: SpiffeID) -> None:
        try:
            check_agent_id(self._store.trust_domain, agent_id)
        except InvalidSpiffeIDError as error:
            raise InvalidArgument(f"invalid agent ID: {error}") from error


def _named(error: ServiceError, attestor: str) -> ServiceError:
    """Say whose refusal it is, as upstream does for every attestor that is a plugin there."""
    if attestor == join_token.ATTESTATION_TYPE:
        return error
    message = f"nodeattestor({attestor}): {error.message}"
    return PermissionDenied(message, error.reason) if isinstance(error, PermissionDenied) else type(error)(message)


def _check_filter(filter_: AgentFilter, verb: str) -> None:
    if filter_.selectors is not None and not filter_.selectors.selectors:
        raise Internal(f"failed to {verb} agents: invalid selector filter: empty selector set")
