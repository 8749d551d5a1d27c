"""What the agent needs of the outside: a server to ask, ways to prove what its node is and what a workload is."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from authsec_sdk.errors import OperatorError, UnavailableError
from authsec_sdk.hcl import Fields
from authsec_sdk.spiffe import TrustBundle, TrustDomain
from authsec_sdk.spire.entries import AuthorizedEntry
from authsec_sdk.spire.selectors import Selector
from authsec_sdk.spire.svids import IssuedToken, IssuedX509SVID
from authsec_sdk.spire.tainted import PublishedBundle
from icp_agent.domain.agent_state import DenialReason
from icp_common.peer_credentials import PeerCredentials
from icp_common.telemetry import Telemetry


class WorkloadAttestor(Protocol):
    """Finds out facts about a process that called, as selectors of its own type."""

    @property
    def name(self) -> str:
        """As a configuration names it."""
        ...

    async def attest(self, peer: PeerCredentials) -> frozenset[Selector]:
        """The selectors this attestor vouches for; none if it knows nothing of such a process.

        Raises:
            Exception: it could not find out. The other attestors' selectors are used all the same.
        """
        ...


MakeWorkloadAttestor: TypeAlias = Callable[[Telemetry], WorkloadAttestor]
"""Makes a configured attestor. Equal for equal settings, as a frozen dataclass with `__call__` is."""

ReadWorkloadAttestor: TypeAlias = Callable[[Fields], MakeWorkloadAttestor]
"""Reads an attestor's `plugin_data`, every key of it. Raises ConfigurationError."""


class NodeAttestation(Protocol):
    """One attempt to prove what this node is."""

    @property
    def payload(self) -> bytes:
        """The first message; may be a secret."""
        ...

    async def respond(self, challenge: bytes) -> bytes:
        """Answer the server's challenge.

        Raises:
            OperatorError: this attestor expects none, or cannot answer it.
        """
        ...


class NodeAttestor(Protocol):
    """Proves to the server what this node is."""

    @property
    def name(self) -> str:
        """As a configuration and the server name it."""
        ...

    def begin(self) -> AbstractAsyncContextManager[NodeAttestation]:
        """Start an attempt, which lasts as long as the context.

        Raises, when entered:
            OperatorError: what the proof is made of is missing; the text says what to do.
        """
        ...


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What the agent has for a node attestor beside the attestor's own settings."""

    trust_domain: TrustDomain
    read_join_token: Callable[[], str]


MakeNodeAttestor: TypeAlias = Callable[[NodeParts], NodeAttestor]
"""Makes a configured attestor. Equal for equal settings, as a frozen dataclass with `__call__` is."""

ReadNodeAttestor: TypeAlias = Callable[[Fields], MakeNodeAttestor]
"""Reads an attestor's `plugin_data`, every key of it. Raises ConfigurationError. What an entry point names."""


class DeniedByServerError(OperatorError):
    """The server knows which agent calls and denies it, or does not know it any more: `reason`."""

    def __init__(self, reason: DenialReason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.reason.name})"


class RefusedByServerError(OperatorError):
    """The server answered, and the answer is no: trying the same again is pointless without a person's help.

    `status` is the gRPC status number.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


class UnsupportedByServerError(RefusedByServerError):
    """The server does not offer this call."""


class ServerUnavailableError(UnavailableError):
    """The server cannot be reached, does not answer in time, is not trusted, or answers what makes no sense."""


class MalformedAnswerError(ServerUnavailableError):
    """The server answers, and what it says makes no sense: what was known before stays true."""


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """Asks for an SVID for an entry: `csr` is PKCS#10 DER, of which the server uses the public key alone."""

    entry_id: str
    csr: bytes


@dataclass(frozen=True, slots=True)
class SigningRefusal:
    """The server's answer to one request of a batch when it is no."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Attested:
    """What attestation gives: the agent's SVID, the bundle of that moment, whether the node may do it again."""

    svid: IssuedX509SVID
    bundle: TrustBundle
    reattestable: bool


class AttestationAPI(Protocol):
    """The one call of a server that a node without an SVID makes."""

    async def attest(self, attestor: str, attestation: NodeAttestation, csr: bytes) -> Attested:
        """Prove what this node is and get its SVID, and the trust bundle over the same connection.

        Raises:
            RefusedByServerError: the server does not accept the proof.
            ServerUnavailableError: everything that may pass.
        """
        ...


class ServerAPI(Protocol):
    """The calls of a SPIRE server an attested agent makes. Every call ends after its own deadline.

    All raise:
        DeniedByServerError: the agent may not do this any more.
        RefusedByServerError: a final answer.
        ServerUnavailableError: everything that may pass.
    """

    async def bundle(self) -> PublishedBundle:
        """The trust bundle of the agent's own trust domain, and which of its authorities are tainted."""
        ...

    async def federated_bundle(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """The bundle of another trust domain; None if the server has none."""
        ...

    async def authorized_entries(self, known: Mapping[str, AuthorizedEntry]) -> Sequence[AuthorizedEntry]:
        """All entries this agent may sign for; `known` ones (by id) need not be sent again."""
        ...

    async def sign(self, requests: Sequence[SigningRequest]) -> Sequence[IssuedX509SVID | SigningRefusal]:
        """One answer for each request, in their order. At most 500 requests."""
        ...

    async def new_jwt_svid(self, entry_id: str, audience: Sequence[str]) -> IssuedToken:
        """A new JWT-SVID of an entry."""
        ...

    async def renew(self, csr: bytes) -> IssuedX509SVID:
        """A new SVID for the agent itself."""
        ...

    async def post_status(self, version: str) -> None:
        """Tell the server which version this agent is."""
        ...
