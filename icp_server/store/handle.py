"""The store of one trust domain: every aggregate over one scope."""

from __future__ import annotations

from authsec_sdk.spiffe import TrustDomain
from icp_server.ports import Clock
from icp_server.store.agents import SQLAgentStore
from icp_server.store.authorities import SQLAuthorityStore
from icp_server.store.bundles import SQLBundleStore
from icp_server.store.database import Database
from icp_server.store.entries import SQLEntryStore
from icp_server.store.issuance import SQLIssuanceStore
from icp_server.store.join_tokens import SQLJoinTokenStore
from icp_server.store.journals import SQLJournalStore
from icp_server.store.scope import Scope, bind


class SQLStore:
    """Implements the `Store` port. One handle a trust domain: entries' changes are counted in it."""

    def __init__(self, scope: Scope) -> None:
        self.trust_domain = scope.trust_domain
        self.entries = SQLEntryStore(scope)
        self.agents = SQLAgentStore(scope)
        self.join_tokens = SQLJoinTokenStore(scope)
        self.bundles = SQLBundleStore(scope)
        self.authorities = SQLAuthorityStore(scope)
        self.journals = SQLJournalStore(scope)
        self.issuance = SQLIssuanceStore(scope)

    @classmethod
    async def bind(cls, database: Database, trust_domain: TrustDomain, clock: Clock) -> SQLStore:
        """The store of a trust domain in a database; the trust domain is written down the first time.

        Raises:
            Internal: the database failed.
        """
        return cls(await bind(database, trust_domain, clock))
