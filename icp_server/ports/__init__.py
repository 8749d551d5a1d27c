"""What the services need from the outside: clock, stores, signers, node attestors — as protocols.

Implemented by ``store``, ``ca``, ``federation`` and ``nodeattestors``, joined with the services in ``app``.
"""

from icp_server.ports.attestation import (
    AttestationRequest,
    Challenge,
    MakeNodeAttestor,
    NodeAttestation,
    NodeAttestor,
    ReadNodeAttestor,
)
from icp_server.ports.authorities import AuthorityControl, BundleRefresher, TokenSigner, X509Signer
from icp_server.ports.clock import Clock
from icp_server.ports.stores import (
    AgentStore,
    AuthorityStore,
    BundleStore,
    EntryDelta,
    EntryStore,
    FederationRelationshipStore,
    IssuanceStore,
    JoinTokenStore,
    JournalStore,
    Store,
    StoredJournal,
)

__all__ = [
    "AgentStore",
    "AttestationRequest",
    "AuthorityControl",
    "AuthorityStore",
    "BundleRefresher",
    "BundleStore",
    "Challenge",
    "Clock",
    "EntryDelta",
    "EntryStore",
    "FederationRelationshipStore",
    "IssuanceStore",
    "JoinTokenStore",
    "JournalStore",
    "MakeNodeAttestor",
    "NodeAttestation",
    "NodeAttestor",
    "ReadNodeAttestor",
    "Store",
    "StoredJournal",
    "TokenSigner",
    "X509Signer",
]
