"""Agents: attest, renew, judge every call of theirs, ban, evict; and the tokens they join with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.agents import JoinToken
from icp_server.domain.agent import Agent
from icp_server.domain.filters import AgentFilter
from icp_server.domain.issued import IssuedSVID
from icp_server.domain.results import Page, PageRequest
from icp_server.ports import Challenge, Clock, NodeAttestor, Store, X509Signer


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

    async def attest(self, data_type: str, payload: bytes, csr: bytes, challenge: Challenge) -> AttestResult:
        """Attest a node and sign its agent's first SVID.

        Raises:
            InvalidArgument: a part is missing or wrong, the token is unknown, spent or expired.
            FailedPrecondition: no such attestor is configured.
            PermissionDenied: the agent is banned, or data that counts once was used before.
        """
        raise NotImplementedError

    async def renew(self, agent: Agent, csr: bytes) -> IssuedSVID:
        """A new SVID for an active agent; the old one stays good until the new one is used.

        Raises:
            PermissionDenied: the agent must re-attest instead (reason AGENT_MUST_REATTEST).
            InvalidArgument: the CSR is missing or wrong.
        """
        raise NotImplementedError

    async def authorize(self, agent_id: SpiffeID, serial_number: str, not_after: datetime) -> Agent:
        """The record of the agent whose (verified) certificate this is; first use of a renewed one promotes it.

        Raises:
            AgentDenied: with the reason the agent acts on.
        """
        raise NotImplementedError

    async def post_status(self, agent: Agent, version: str) -> None:
        """Remember the agent's release.

        Raises:
            InvalidArgument: the text is too long.
        """
        raise NotImplementedError

    async def get(self, agent_id: SpiffeID) -> Agent:
        """One agent.

        Raises:
            NotFound: there is no such agent.
        """
        raise NotImplementedError

    async def list(self, filter_: AgentFilter, page: PageRequest) -> Page[Agent]:
        """Agents that pass the filter, in the order they first attested.

        Raises:
            Internal: the selector set is empty or the page token is none of ours (upstream's code for both).
        """
        raise NotImplementedError

    async def count(self, filter_: AgentFilter) -> int:
        """How many agents pass the filter.

        Raises:
            Internal: the selector set is empty.
        """
        raise NotImplementedError

    async def ban(self, agent_id: SpiffeID) -> None:
        """Refuse the agent from now on, until it is deleted.

        Raises:
            NotFound: there is no such agent.
        """
        raise NotImplementedError

    async def delete(self, agent_id: SpiffeID) -> None:
        """Evict the agent: it must attest anew, and a ban is lifted.

        Raises:
            NotFound: there is no such agent.
        """
        raise NotImplementedError

    async def create_join_token(self, ttl: int, token: str = "", agent_id: SpiffeID | None = None) -> JoinToken:
        """A token valid for ``ttl`` seconds, generated if no text is given; with ``agent_id`` also an alias entry.

        Raises:
            InvalidArgument: no TTL, a text that is not one path segment, an agent_id that may not be used.
            AlreadyExists: the text was used before, or its agent exists or ever existed.
            Internal: the same token is waiting already.
        """
        raise NotImplementedError
