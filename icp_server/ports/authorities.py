"""What signs, and what moves authorities and follows the bundles of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from authsec_sdk.spiffe import SpiffeID, TrustDomain
from authsec_sdk.spire.svids import IssuedToken
from icp_server.domain.authorities import AuthorityKind, LocalAuthorities
from icp_server.domain.ca_slots import AuthorityRecord
from icp_server.domain.issued import IssuedSVID, LeafRequest
from icp_server.domain.results import ItemResult
from icp_server.domain.token_template import JWTRequest, WITRequest


class X509Signer(Protocol):
    """Signs with the active X.509 authority."""

    def key_digest(self, csr: bytes) -> bytes:
        """SHA-256 over the SubjectPublicKeyInfo of a CSR whose signature is right.

        Raises:
            InvalidArgument: the CSR does not parse, its signature is wrong, or its key is of a kind we do not sign.
        """

    async def sign(self, requests: Sequence[LeafRequest]) -> list[ItemResult[IssuedSVID]]:
        """Sign workloads' leaves, in order, each item with its own outcome.

        Errors of items: InvalidArgument for a CSR that does not parse or whose signature is wrong; Internal for an ID
        that may not be signed (no path, another trust domain, reserved); Unavailable without an active authority.
        """

    async def sign_agent(self, csr: bytes, agent_id: SpiffeID) -> IssuedSVID:
        """Sign an agent's leaf with the agents' lifetime.

        Raises:
            InvalidArgument: the CSR does not parse or its signature is wrong.
            Unavailable: there is no active authority yet.
        """

    async def sign_downstream(self, csr: bytes, ttl: int) -> tuple[tuple[bytes, ...], int]:
        """Sign a CA certificate for a downstream server; its chain, the root excluded, and its end in Unix seconds.

        Raises:
            InvalidArgument: the CSR does not parse or its signature is wrong.
            Unavailable: there is no active authority, or it has expired.
        """

    async def mint(self, csr: bytes, ttl: int) -> IssuedSVID:
        """Sign what the CSR names: its one URI SAN, its DNS names, its subject. For administrators only.

        Raises:
            InvalidArgument: the CSR is wrong or names what may not be signed.
            Unavailable: there is no active authority yet.
        """


class TokenSigner(Protocol):
    """Signs JWT-SVIDs with the active JWT authority, and WIT-SVIDs with the active WIT authority."""

    async def sign_jwt(self, request: JWTRequest) -> IssuedToken:
        """Sign a JWT-SVID.

        Raises:
            Internal: the ID may not be signed (no path, another trust domain, reserved).
            Unavailable: there is no active JWT authority, or it has expired.
        """

    async def sign_wit(self, request: WITRequest) -> IssuedToken:
        """Sign a WIT-SVID.

        Raises:
            Internal: the ID may not be signed.
            Unavailable: there is no active WIT authority, or it has expired.
        """


class BundleRefresher(Protocol):
    """What follows the bundles of other trust domains."""

    def reload(self) -> None:
        """Look at the relationships soon: they changed."""

    async def refresh(self, trust_domain: TrustDomain) -> bool:
        """Fetch a bundle now; False if there is no relationship with this trust domain.

        Raises:
            SpiffeError: it cannot be had, or not be kept.
        """


class AuthorityControl(Protocol):
    """The authorities of this server, as an operator moves them by hand."""

    def local_authorities(self, kind: AuthorityKind) -> LocalAuthorities:
        """The active authority and the one beside it.

        Raises:
            Unavailable: there is no active one.
        """

    async def prepare(self, kind: AuthorityKind) -> AuthorityRecord:
        """Make the next authority and publish it, in place of one that was prepared before.

        Raises:
            SpiffeError: its key or record cannot be kept.
        """

    async def activate(self, kind: AuthorityKind, authority_id: str) -> AuthorityRecord:
        """Sign with the prepared authority from now on.

        Raises:
            InvalidArgument, Internal: it is not the prepared one.
        """

    async def bundle_changed(self) -> None:
        """An authority was tainted or revoked: replace what this server itself has from it."""
