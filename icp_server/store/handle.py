"""The store of one trust domain: every aggregate over one scope."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from authsec_sdk.spiffe import TrustDomain
from icp_server.domain.revision import Changes, Revision
from icp_server.ports import Clock
from icp_server.store import feed
from icp_server.store.agents import SQLAgentStore
from icp_server.store.authorities import SQLAuthorityStore
from icp_server.store.bundles import SQLBundleStore
from icp_server.store.database import Database
from icp_server.store.entries import SQLEntryStore
from icp_server.store.federation_relationships import SQLFederationRelationshipStore
from icp_server.store.issuance import SQLIssuanceStore
from icp_server.store.join_tokens import SQLJoinTokenStore
from icp_server.store.journals import SQLJournalStore
from icp_server.store.scope import Scope, bind, channel_of

if TYPE_CHECKING:
    from icp_server.store.wakes import PostgresWakes


class SQLStore:
    """Implements the `Store` port. One handle a trust domain: entries' changes are counted in it."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._bundles_told: Mapping[str, int] = {}
        self.trust_domain = scope.trust_domain
        self.shared = scope.database.postgres is not None
        self.entries = SQLEntryStore(scope)
        self.agents = SQLAgentStore(scope)
        self.join_tokens = SQLJoinTokenStore(scope)
        self.bundles = SQLBundleStore(scope)
        self.authorities = SQLAuthorityStore(scope)
        self.relationships = SQLFederationRelationshipStore(scope)
        self.journals = SQLJournalStore(scope)
        self.issuance = SQLIssuanceStore(scope)

    @classmethod
    async def bind(cls, database: Database, trust_domain: TrustDomain, clock: Clock) -> SQLStore:
        """The store of a trust domain in a database; the trust domain is written down the first time.

        Raises:
            Internal: the database failed.
        """
        return cls(await bind(database, trust_domain, clock))

    async def changes_since(self, known: Revision | None) -> Changes:
        """What became different after a revision, by whichever server; what is remembered of it is forgotten."""
        changes = await feed.changes_since(self._scope, known)
        self.agents.forget(None if changes.complete else changes.agents)
        if changes.complete or changes.bundles != self._bundles_told:
            self._scope.remembered.outdate()
            self._bundles_told = changes.bundles
        return changes

    def wakes(self) -> PostgresWakes | None:
        """What tells that another server wrote; None where there is no other."""
        settings = self._scope.database.postgres
        if settings is None:
            return None
        from icp_server.store.wakes import PostgresWakes

        return PostgresWakes(settings, channel_of(self._scope.row_id))

    @asynccontextmanager
    async def turn(self, name: str, patience: float = 0.0) -> AsyncIterator[bool]:
        """Wait so long for this server's turn at some work; whether it came. Alone, it is always."""
        settings = self._scope.database.postgres
        if settings is None:
            yield True
            return
        from icp_server.store.turns import lock_key, turn

        async with turn(settings, lock_key(self._scope.row_id, name), patience) as mine:
            yield mine
