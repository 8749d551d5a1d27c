"""An attested agent's record, and the pure judgement whether a certificate is this agent's active one."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from datetime import datetime

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire import agents
from authsec_sdk.spire.selectors import Selector
from icp_server.domain.errors import AgentDenied, DenialReason

MAX_AGENT_VERSION = 255


@dataclass(frozen=True, slots=True)
class Agent:
    """What the server remembers of an attested node. Serial numbers are decimal text, times Unix seconds.

    ``new_serial_number`` is the certificate handed out by the last renewal and not used yet. A banned agent keeps its
    record and has no serial number at all.
    """

    id: SpiffeID
    attestation_type: str
    serial_number: str
    expires_at: int
    new_serial_number: str = ""
    new_expires_at: int = 0
    can_reattest: bool = False
    selectors: tuple[Selector, ...] = ()
    agent_version: str = ""

    @property
    def banned(self) -> bool:
        """Whether the agent is refused until it is deleted (evicted)."""
        return not self.serial_number

    def shown(self) -> agents.Agent:
        """What callers of the API may see of the record."""
        return agents.Agent(
            id=self.id,
            attestation_type=self.attestation_type,
            serial_number=self.serial_number,
            expires_at=self.expires_at,
            selectors=self.selectors,
            banned=self.banned,
            can_reattest=self.can_reattest,
            agent_version=self.agent_version,
        )


class Standing(enum.Enum):
    """How a certificate stands to an agent's record when it is accepted."""

    CURRENT = "current"
    NEW = "new"
    """Handed out by a renewal and used for the first time: it becomes the current one."""


def judge(agent: Agent | None, agent_id: SpiffeID, serial_number: str, not_after: datetime, now: datetime) -> Standing:
    """Accept the certificate of an agent's call, or refuse with one of the reasons an agent acts on.

    Raises:
        AgentDenied: expired, not attested, banned, or a certificate other than the current and the new one.
    """
    if now >= not_after:
        raise AgentDenied(f'agent "{agent_id}" SVID is expired', DenialReason.AGENT_EXPIRED)
    if agent is None:
        raise AgentDenied(f'agent "{agent_id}" is not attested', DenialReason.AGENT_NOT_ATTESTED)
    if agent.banned:
        raise AgentDenied(f'agent "{agent_id}" is banned', DenialReason.AGENT_BANNED)
    if serial_number == agent.serial_number:
        return Standing.CURRENT
    if agent.new_serial_number and serial_number == agent.new_serial_number:
        return Standing.NEW
    raise AgentDenied(f'agent "{agent_id}" expected to have another active SVID', DenialReason.AGENT_NOT_ACTIVE)


def promoted(agent: Agent) -> Agent:
    """The record after the new certificate was used: it is the current one, and the old one is refused."""
    return replace(
        agent,
        serial_number=agent.new_serial_number,
        expires_at=agent.new_expires_at,
        new_serial_number="",
        new_expires_at=0,
    )
