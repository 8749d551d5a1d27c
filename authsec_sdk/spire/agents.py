"""An attested agent as both sides of SPIRE's API know it."""

from dataclasses import dataclass

from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.selectors import Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A node the server attested. Times are seconds since 1970.

    `serial_number` is the decimal serial of the agent's current certificate; a banned agent has none.
    """

    id: SpiffeID
    attestation_type: str
    serial_number: str = ""
    expires_at: int = 0
    selectors: tuple[Selector, ...] = ()
    banned: bool = False
    can_reattest: bool = False
    agent_version: str = ""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A text which lets one agent attest once, until `expires_at` (seconds since 1970). The text is a secret."""

    value: str
    expires_at: int

    def __repr__(self) -> str:
        return f"JoinToken(value=<{len(self.value)} characters>, expires_at={self.expires_at})"
