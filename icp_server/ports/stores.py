"""What is kept, one protocol an aggregate. A handle is bound to one trust domain when it is made.

No method here takes a trust domain of its own, so no query can cross two by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from authsec_sdk.spiffe import SpiffeID, TrustBundle, TrustDomain
from authsec_sdk.spire.agents import JoinToken
from authsec_sdk.spire.entries import EntryChanges, RegistrationEntry
from authsec_sdk.spire.tainted import PublishedBundle
from icp_server.domain.agent import Agent
from icp_server.domain.authorities import AuthorityKind
from icp_server.domain.federation import (
    BundleFields,
    DeleteMode,
    Endpoint,
    FederationRelationship,
    RelationshipChanges,
)
from icp_server.domain.filters import AgentFilter, EntryFilter
from icp_server.domain.issued import IssuedSVID
from icp_server.domain.results import ItemResult, Page, PageRequest
from icp_server.domain.revision import Changes, Revision


@dataclass(frozen=True, slots=True)
class EntryDelta:
    """Entries that changed since a revision, in the state they have now."""

    revision: Revision
    changed: tuple[RegistrationEntry, ...]
    removed: frozenset[str]
    complete: bool
    """True: ``changed`` is every entry there is, and what is not in it is gone."""


class EntryStore(Protocol):
    """Registration entries of one trust domain."""

    async def create(self, entries: Sequence[RegistrationEntry]) -> list[ItemResult[RegistrationEntry]]:
        """Write new entries in one transaction, each with its own outcome; ids must be set.

        Errors of items: AlreadyExists beside the entry with the same id, or a similar one (same SPIFFE ID, same
        parent, same set of selectors); Internal for a trust domain to federate with that has no bundle here.
        """

    async def update(
        self, changes: Sequence[EntryChanges], check: Callable[[RegistrationEntry], None]
    ) -> list[ItemResult[RegistrationEntry]]:
        """Change entries, found by id, in one transaction; the revision of each goes up by one.

        ``check`` sees each entry as it would be; a ServiceError it raises is that item's. Other errors of items:
        NotFound, and Internal as for `create`.
        """

    async def delete(self, ids: Sequence[str]) -> list[ItemResult[str]]:
        """Remove entries in one transaction; an item's error is NotFound, its value always the id."""

    async def get(self, entry_id: str) -> RegistrationEntry | None:
        """The entry with this id."""

    async def list(self, filter_: EntryFilter, page: PageRequest) -> Page[RegistrationEntry]:
        """Entries in the order they were created."""

    async def count(self, filter_: EntryFilter) -> int:
        """How many entries the filter lets through."""

    def revision(self) -> Revision:
        """The newest revision this process knows of; cheap enough for every call."""

    async def changes_since(self, known: Revision | None) -> EntryDelta:
        """What changed after a revision; everything for one that is unknown, too old, or of another epoch."""

    async def inventory(self) -> tuple[Revision, frozenset[tuple[str, int, int]]]:
        """Every entry by id, revision number and time of creation: enough to tell whether another reader has them."""

    async def prune_expired(self, now: datetime) -> int:
        """Remove the entries whose own expiry has passed; how many."""


class AgentStore(Protocol):
    """Attested nodes of one trust domain."""

    async def get(self, agent_id: SpiffeID, *, fresh: bool = False) -> Agent | None:
        """The agent's record; ``fresh``: as the database has it, whatever is remembered of it."""

    async def save_attested(self, agent: Agent, *, first_use_only: bool = False) -> None:
        """Write the record of a fresh attestation: a new one, or in place of the one before.

        Raises:
            PermissionDenied: the agent was banned meanwhile, or with ``first_use_only``: it has a record already.
        """

    async def set_new_certificate(self, agent: Agent, serial_number: str, expires_at: int) -> None:
        """Remember what a renewal handed out; the current certificate stays good until the new one is used.

        Raises:
            NotFound: no such agent.
            PermissionDenied: it is banned, or has another current certificate than the record which renewed.
        """

    async def promote(self, agent_id: SpiffeID, serial_number: str) -> Agent | None:
        """Make the new certificate the current one if it is still the new one; the record after, or None."""

    async def set_version(self, agent_id: SpiffeID, version: str) -> None:
        """Remember which release the agent runs.

        Raises:
            NotFound: no such agent.
        """

    async def ban(self, agent_id: SpiffeID) -> None:
        """Empty the serial numbers and keep the record.

        Raises:
            NotFound: no such agent.
        """

    async def delete(self, agent_id: SpiffeID, token_digest: bytes | None) -> None:
        """Remove the record (which lifts a ban).

        With the digest of the join token it attested with: also its alias entry, and the right to attest once more.

        Raises:
            NotFound: no such agent.
        """

    async def list(self, filter_: AgentFilter, page: PageRequest) -> Page[Agent]:
        """Agents in the order they first attested."""

    async def count(self, filter_: AgentFilter) -> int:
        """How many agents the filter lets through."""


class JoinTokenStore(Protocol):
    """Join tokens of one trust domain; the texts themselves are not kept."""

    async def create(self, token: JoinToken, alias: RegistrationEntry | None) -> None:
        """Keep a token, and in the same transaction the alias entry of its agent (its id must be set).

        Raises:
            AlreadyExists: the text was used before, or its agent exists or ever existed.
            Internal: the same token is waiting already (what upstream answers).
        """

    async def consume(self, text: str, key_digest: bytes, now: datetime) -> None:
        """Spend the token for one key: an atomic deletion that remembers the key's digest.

        A retry (the reply was lost) is accepted from the same key until the token's expiry, from no other.

        Raises:
            InvalidArgument: unknown, spent by another key, evicted, or expired (an expired token is deleted too).
        """

    async def prune(self, now: datetime) -> int:
        """Delete the tokens that expired unused; how many."""


class BundleStore(Protocol):
    """The bundle of the trust domain itself and those of the ones it federates with."""

    async def get(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """The bundle of a trust domain."""

    async def published(self, trust_domain: TrustDomain) -> PublishedBundle | None:
        """The bundle of a trust domain with what is tainted and when keys end."""

    async def count(self) -> int:
        """How many bundles there are, the own one included."""

    async def list(self, page: PageRequest) -> Page[PublishedBundle]:
        """Bundles in the order they were made, the own one among them.

        Raises:
            Internal: the page token is none of ours.
        """

    async def create(self, bundle: PublishedBundle) -> PublishedBundle:
        """Keep the bundle of another trust domain; what is kept of it: no marks.

        Raises:
            AlreadyExists: there is one.
            InvalidArgument: a key stands in it under two key IDs.
        """

    async def update(self, bundle: PublishedBundle, fields: BundleFields) -> PublishedBundle:
        """Replace the parts that `fields` names of the bundle of another trust domain; what it is then.

        Raises:
            NotFound: there is none.
            InvalidArgument: as for `create`.
        """

    async def set(self, bundle: PublishedBundle) -> PublishedBundle:
        """Keep the bundle of another trust domain, in place of the one there may be.

        Raises:
            InvalidArgument: as for `create`.
        """

    async def delete(self, trust_domain: TrustDomain, mode: DeleteMode) -> None:
        """Delete the bundle of another trust domain, and do with the entries that federate with it what is said.

        Raises:
            NotFound: there is none.
            FailedPrecondition: entries federate with it, and the mode is to refuse then.
        """

    async def append(self, authorities: PublishedBundle) -> PublishedBundle:
        """Add authorities to the own bundle; the sequence number goes up by one if any of them was not in.

        Raises:
            InvalidArgument: a key ID stands for another authority already, or a key has another key ID.
        """

    async def append_x509(self, certificate_der: bytes) -> TrustBundle:
        """Add an authority to the own bundle (made if absent); the sequence number goes up if it was not in."""

    async def prune_x509(self, expired_before: datetime) -> TrustBundle | None:
        """Remove the own authorities that expired before; the bundle if that changed it. The last one stays."""


class AuthorityStore(Protocol):
    """The own bundle's authorities one by one; each change raises its sequence number."""

    async def append_key(self, kind: AuthorityKind, key_id: str, public_key: bytes, not_after: int) -> None:
        """Add a token key (SubjectPublicKeyInfo, DER; its end in Unix seconds); nothing happens if it is there.

        Raises:
            InvalidArgument: the key ID stands for another authority already, or the key has another key ID.
        """

    async def prune_keys(self, expired_before: datetime) -> bool:
        """Remove the token keys that ended before; whether there were any."""

    async def taint(self, kind: AuthorityKind, authority_id: str) -> None:
        """Mark an authority as tainted.

        Raises:
            Internal: there is none with this id, or it is tainted already.
        """

    async def revoke(self, kind: AuthorityKind, authority_id: str) -> None:
        """Remove a tainted authority.

        Raises:
            Internal: there is none with this id, or it is not tainted.
        """


class FederationRelationshipStore(Protocol):
    """From where the bundles of other trust domains are fetched, as operators said through the API."""

    async def get(self, trust_domain: TrustDomain) -> FederationRelationship | None:
        """The relationship with a trust domain."""

    async def list(self, page: PageRequest) -> Page[FederationRelationship]:
        """Relationships in the order they were created.

        Raises:
            Internal: the page token is none of ours.
        """

    async def endpoints(self) -> dict[TrustDomain, Endpoint]:
        """Where the bundle of each trust domain is fetched."""

    async def create(self, new: FederationRelationship) -> FederationRelationship:
        """Write a relationship, and with it the bundle that it brings.

        Raises:
            AlreadyExists: there is one with this trust domain.
            InvalidArgument: as for bundles.
        """

    async def update(self, changes: RelationshipChanges) -> FederationRelationship:
        """Change a relationship, and write the bundle that comes with the change; what it is then.

        Raises:
            NotFound: there is none.
            InvalidArgument: as for bundles.
        """

    async def delete(self, trust_domain: TrustDomain) -> None:
        """Remove a relationship; the bundle stays.

        Raises:
            NotFound: there is none.
        """


@dataclass(frozen=True, slots=True)
class StoredJournal:
    """A CA journal as it is in the database: opaque data and the revision a write must name."""

    journal_id: int
    revision: int
    data: bytes


class JournalStore(Protocol):
    """CA journals: which authorities a server holds, in which slot and state."""

    async def all(self) -> tuple[StoredJournal, ...]:
        """The journals of every server of this trust domain, newest first."""

    async def create(self, data: bytes) -> StoredJournal:
        """A journal for a server that has none."""

    async def replace(self, journal: StoredJournal, data: bytes) -> StoredJournal:
        """Compare-and-swap on the revision.

        Raises:
            JournalConflictError: the journal is at another revision, or gone.
        """

    async def delete(self, journal: StoredJournal) -> None:
        """Remove a journal, unless it changed since it was read."""


class IssuanceStore(Protocol):
    """Which privileged certificates were really issued here: an ID counts for nothing, nor does a serial number.

    Both can be seen in any handshake, and a downstream CA can sign a certificate that has both.
    """

    async def record(self, issued: Sequence[IssuedSVID]) -> None:
        """Remember certificates that carry admin or downstream rights."""

    async def known(self, spiffe_id: SpiffeID, fingerprint: str) -> bool:
        """Whether the certificate with this fingerprint (of `domain.issued`) was issued here."""

    async def prune(self, now: datetime) -> int:
        """Forget the expired ones; how many."""


class Store(Protocol):
    """Everything the server keeps about one trust domain."""

    @property
    def trust_domain(self) -> TrustDomain:
        """The trust domain this handle is bound to."""

    @property
    def shared(self) -> bool:
        """Whether other servers may write to the same database."""

    async def changes_since(self, known: Revision | None) -> Changes:
        """What became different after a revision, by whichever server; what is remembered of it is forgotten."""

    def turn(self, name: str, patience: float = 0.0) -> AbstractAsyncContextManager[bool]:
        """Wait so long for this server's turn at some work; whether it came.

        It orders the work of several servers and protects nothing: a server without its turn may have to go on, and
        one that had it may have been paused. What is done must be right either way.
        """

    @property
    def entries(self) -> EntryStore:
        """Registration entries."""

    @property
    def agents(self) -> AgentStore:
        """Attested nodes."""

    @property
    def join_tokens(self) -> JoinTokenStore:
        """Join tokens."""

    @property
    def bundles(self) -> BundleStore:
        """Trust bundles."""

    @property
    def authorities(self) -> AuthorityStore:
        """The own bundle's authorities."""

    @property
    def relationships(self) -> FederationRelationshipStore:
        """Federation relationships."""

    @property
    def journals(self) -> JournalStore:
        """CA journals."""

    @property
    def issuance(self) -> IssuanceStore:
        """Issued certificates with rights of their own."""
