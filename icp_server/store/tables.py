"""The tables. Every one but `trust_domains` has `trust_domain_id`, and every query names it.

The migrations make them; a test holds the two against each other.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite counts rows up only for INTEGER keys; AUTOINCREMENT, because a page token must survive its row's deletion.
_RowID = BigInteger().with_variant(Integer, "sqlite")


def _row_id() -> Column[int]:
    return Column("id", _RowID, primary_key=True, autoincrement=True)


def _trust_domain() -> Column[int]:
    return Column("trust_domain_id", _RowID, ForeignKey("trust_domains.id", ondelete="CASCADE"), nullable=False)


trust_domains = Table(
    "trust_domains",
    metadata,
    _row_id(),
    Column("name", Text, nullable=False, unique=True),
    # Counts the transactions that changed something; raised under the row's lock, so it follows the order of commits.
    Column("position", BigInteger, nullable=False),
    # Which life of the database the positions belong to: another after a restore.
    Column("epoch", Text, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)

bundles = Table(
    "bundles",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("name", Text, nullable=False),
    Column("sequence_number", BigInteger, nullable=False),
    Column("refresh_hint", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # Counts the writes of the row, from a random number on: a sequence number is the publisher's, and may come again.
    Column("revision", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("trust_domain_id", "name", name="uq_bundles_name"),
    sqlite_autoincrement=True,
)

bundle_authorities = Table(
    "bundle_authorities",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("bundle_id", _RowID, ForeignKey("bundles.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    # A certificate, or a SubjectPublicKeyInfo, as DER.
    Column("data", LargeBinary, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("tainted", Boolean, nullable=False),
    UniqueConstraint("bundle_id", "kind", "data", name="uq_bundle_authorities_data"),
    Index("ix_bundle_authorities_bundle", "trust_domain_id", "bundle_id"),
    sqlite_autoincrement=True,
)

federation_relationships = Table(
    "federation_relationships",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    # The SPIFFE ID of the endpoint's server; empty where the web's authorities prove it.
    Column("server_id", Text, nullable=False),
    UniqueConstraint("trust_domain_id", "name", name="uq_federation_relationships_name"),
    sqlite_autoincrement=True,
)

entries = Table(
    "entries",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("entry_id", Text, nullable=False),
    Column("spiffe_id", Text, nullable=False),
    Column("parent_id", Text, nullable=False),
    # SHA-256 over the sorted selectors: equal exactly if the sets are.
    Column("selector_digest", LargeBinary, nullable=False),
    Column("x509_svid_ttl", Integer, nullable=False),
    Column("jwt_svid_ttl", Integer, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("downstream", Boolean, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("dns_names", JSON, nullable=False),
    Column("store_svid", Boolean, nullable=False),
    Column("hint", Text, nullable=False),
    Column("disable_x509_svid_prefetch", Boolean, nullable=False),
    Column("jwt_svid_include_jti", Boolean, nullable=False),
    Column("revision_number", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("trust_domain_id", "entry_id", name="uq_entries_entry_id"),
    Index("ix_entries_spiffe_id", "trust_domain_id", "spiffe_id"),
    Index("ix_entries_parent_id", "trust_domain_id", "parent_id"),
    Index("ix_entries_selector_digest", "trust_domain_id", "selector_digest"),
    Index("ix_entries_hint", "trust_domain_id", "hint"),
    Index("ix_entries_expires_at", "trust_domain_id", "expires_at"),
    sqlite_autoincrement=True,
)

entry_selectors = Table(
    "entry_selectors",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("entry_row_id", _RowID, ForeignKey("entries.id", ondelete="CASCADE"), nullable=False),
    # `type:value`; a type has no colon, so this is one text a selector.
    Column("selector", Text, nullable=False),
    UniqueConstraint("entry_row_id", "selector", name="uq_entry_selectors_selector"),
    Index("ix_entry_selectors_selector", "trust_domain_id", "selector", "entry_row_id"),
)

entry_federates_with = Table(
    "entry_federates_with",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("entry_row_id", _RowID, ForeignKey("entries.id", ondelete="CASCADE"), nullable=False),
    Column("bundle_id", _RowID, ForeignKey("bundles.id", ondelete="RESTRICT"), nullable=False),
    UniqueConstraint("entry_row_id", "bundle_id", name="uq_entry_federates_with_bundle"),
    Index("ix_entry_federates_with_bundle", "trust_domain_id", "bundle_id", "entry_row_id"),
)

changes = Table(
    "changes",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("position", BigInteger, nullable=False),
    # What it is the name of: an entry's id, or an agent's SPIFFE ID.
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Index("ix_changes_position", "trust_domain_id", "position"),
)

agents = Table(
    "agents",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("spiffe_id", Text, nullable=False),
    Column("attestation_type", Text, nullable=False),
    Column("serial_number", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("new_serial_number", Text, nullable=False),
    Column("new_expires_at", BigInteger, nullable=False),
    Column("can_reattest", Boolean, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("trust_domain_id", "spiffe_id", name="uq_agents_spiffe_id"),
    Index("ix_agents_expires_at", "trust_domain_id", "expires_at"),
    sqlite_autoincrement=True,
)

agent_selectors = Table(
    "agent_selectors",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("agent_row_id", _RowID, ForeignKey("agents.id", ondelete="CASCADE"), nullable=False),
    Column("selector", Text, nullable=False),
    UniqueConstraint("agent_row_id", "selector", name="uq_agent_selectors_selector"),
    Index("ix_agent_selectors_selector", "trust_domain_id", "selector", "agent_row_id"),
)

join_tokens = Table(
    "join_tokens",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("digest", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    UniqueConstraint("trust_domain_id", "digest", name="uq_join_tokens_digest"),
)

spent_join_tokens = Table(
    "spent_join_tokens",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("digest", LargeBinary, nullable=False),
    # Which key spent it, and until when that key may ask again; no key: nobody may.
    Column("key_digest", LargeBinary, nullable=True),
    Column("expires_at", BigInteger, nullable=False),
    UniqueConstraint("trust_domain_id", "digest", name="uq_spent_join_tokens_digest"),
)

ca_journals = Table(
    "ca_journals",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("revision", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

privileged_svids = Table(
    "privileged_svids",
    metadata,
    _row_id(),
    _trust_domain(),
    Column("spiffe_id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    UniqueConstraint("trust_domain_id", "spiffe_id", "fingerprint", name="uq_privileged_svids_fingerprint"),
    Index("ix_privileged_svids_expires_at", "trust_domain_id", "expires_at"),
)
