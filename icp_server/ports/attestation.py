"""What node attestors are asked, and what they answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from authsec_sdk.hcl import Fields
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.spire.selectors import Selector
from icp_server.ports.clock import Clock
from icp_server.ports.stores import Store

Challenge: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge to the agent that attests and returns its response."""


@dataclass(frozen=True, slots=True)
class NodeAttestation:
    """What a node attestor found out: who the agent is, and what can be said about its node."""

    agent_id: SpiffeID
    selectors: tuple[Selector, ...]
    can_reattest: bool
    first_use_only: bool = False
    """The proof counts for an agent that has never attested, and for nobody after it."""


@dataclass(frozen=True, slots=True)
class AttestationRequest:
    """What an agent shows, and how to ask it for more.

    ``key_digest`` is SHA-256 over the SubjectPublicKeyInfo of the CSR, whose signature was checked; ``peer_address``
    is the IP address the call came from, which may be that of a proxy, or empty.
    """

    payload: bytes = field(repr=False)
    key_digest: bytes
    challenge: Challenge
    peer_address: str = ""


class NodeAttestor(Protocol):
    """Proves which node an agent runs on; one file an attestor and one line in ``nodeattestors/registry.py``."""

    @property
    def name(self) -> str:
        """The attestation type agents name it by."""

    async def attest(self, request: AttestationRequest) -> NodeAttestation:
        """Judge the payload, asking the agent as often as it takes.

        Raises:
            InvalidArgument: the payload or a response is wrong.
            PermissionDenied: it is right, and the node is refused.
        """


MakeNodeAttestor: TypeAlias = Callable[[Store, Clock], NodeAttestor]
"""Makes a configured attestor when the server starts; reads its files. Raises ConfigurationError.

Equal for equal settings, as a frozen dataclass with ``__call__`` is."""

ReadNodeAttestor: TypeAlias = Callable[[Fields], MakeNodeAttestor]
"""Reads an attestor's ``plugin_data``, every key of it. Raises ConfigurationError. What an entry point names."""
