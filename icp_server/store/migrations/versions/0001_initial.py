"""The first schema: trust domains, bundles, entries, agents, join tokens, CA journals, privileged certificates.

A migration is history: it does not import the tables, which change, and is never edited once released.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _row_id() -> sa.Column[int]:
    return sa.Column("id", _ROW_ID, autoincrement=True, nullable=False)


def _reference(name: str) -> sa.Column[int]:
    return sa.Column(name, _ROW_ID, nullable=False)


def _required(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "trust_domains",
        _row_id(),
        _required("name", sa.Text()),
        _required("entry_position", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "agents",
        _row_id(),
        _reference("trust_domain_id"),
        _required("spiffe_id", sa.Text()),
        _required("attestation_type", sa.Text()),
        _required("serial_number", sa.Text()),
        _required("expires_at", sa.BigInteger()),
        _required("new_serial_number", sa.Text()),
        _required("new_expires_at", sa.BigInteger()),
        _required("can_reattest", sa.Boolean()),
        _required("agent_version", sa.Text()),
        _required("created_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("trust_domain_id", "spiffe_id", name="uq_agents_spiffe_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_agents_expires_at", "agents", ["trust_domain_id", "expires_at"])
    op.create_table(
        "bundles",
        _row_id(),
        _reference("trust_domain_id"),
        _required("name", sa.Text()),
        _required("sequence_number", sa.BigInteger()),
        _required("refresh_hint", sa.BigInteger()),
        _required("created_at", sa.BigInteger()),
        _required("updated_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("trust_domain_id", "name", name="uq_bundles_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ca_journals",
        _row_id(),
        _reference("trust_domain_id"),
        _required("revision", sa.BigInteger()),
        _required("data", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "entries",
        _row_id(),
        _reference("trust_domain_id"),
        _required("entry_id", sa.Text()),
        _required("spiffe_id", sa.Text()),
        _required("parent_id", sa.Text()),
        _required("selector_digest", sa.LargeBinary()),
        _required("x509_svid_ttl", sa.Integer()),
        _required("jwt_svid_ttl", sa.Integer()),
        _required("admin", sa.Boolean()),
        _required("downstream", sa.Boolean()),
        _required("expires_at", sa.BigInteger()),
        _required("dns_names", sa.JSON()),
        _required("store_svid", sa.Boolean()),
        _required("hint", sa.Text()),
        _required("disable_x509_svid_prefetch", sa.Boolean()),
        _required("jwt_svid_include_jti", sa.Boolean()),
        _required("revision_number", sa.BigInteger()),
        _required("created_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("trust_domain_id", "entry_id", name="uq_entries_entry_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_entries_expires_at", "entries", ["trust_domain_id", "expires_at"])
    op.create_index("ix_entries_hint", "entries", ["trust_domain_id", "hint"])
    op.create_index("ix_entries_parent_id", "entries", ["trust_domain_id", "parent_id"])
    op.create_index("ix_entries_selector_digest", "entries", ["trust_domain_id", "selector_digest"])
    op.create_index("ix_entries_spiffe_id", "entries", ["trust_domain_id", "spiffe_id"])
    op.create_table(
        "entry_changes",
        _row_id(),
        _reference("trust_domain_id"),
        _required("position", sa.BigInteger()),
        _required("entry_id", sa.Text()),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_entry_changes_position", "entry_changes", ["trust_domain_id", "position"])
    op.create_table(
        "join_tokens",
        _row_id(),
        _reference("trust_domain_id"),
        _required("digest", sa.LargeBinary()),
        _required("expires_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("trust_domain_id", "digest", name="uq_join_tokens_digest"),
    )
    op.create_table(
        "privileged_svids",
        _row_id(),
        _reference("trust_domain_id"),
        _required("spiffe_id", sa.Text()),
        _required("serial_number", sa.Text()),
        _required("expires_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("trust_domain_id", "spiffe_id", "serial_number", name="uq_privileged_svids_serial_number"),
    )
    op.create_index("ix_privileged_svids_expires_at", "privileged_svids", ["trust_domain_id", "expires_at"])
    op.create_table(
        "spent_join_tokens",
        _row_id(),
        _reference("trust_domain_id"),
        _required("digest", sa.LargeBinary()),
        sa.Column("key_digest", sa.LargeBinary(), nullable=True),
        _required("expires_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("trust_domain_id", "digest", name="uq_spent_join_tokens_digest"),
    )
    op.create_table(
        "agent_selectors",
        _row_id(),
        _reference("trust_domain_id"),
        _reference("agent_row_id"),
        _required("selector", sa.Text()),
        sa.ForeignKeyConstraint(["agent_row_id"], ["agents.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("agent_row_id", "selector", name="uq_agent_selectors_selector"),
    )
    op.create_index("ix_agent_selectors_selector", "agent_selectors", ["trust_domain_id", "selector", "agent_row_id"])
    op.create_table(
        "bundle_authorities",
        _row_id(),
        _reference("trust_domain_id"),
        _reference("bundle_id"),
        _required("kind", sa.Text()),
        _required("key_id", sa.Text()),
        _required("data", sa.LargeBinary()),
        _required("not_after", sa.BigInteger()),
        _required("tainted", sa.Boolean()),
        sa.ForeignKeyConstraint(["bundle_id"], ["bundles.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("bundle_id", "kind", "data", name="uq_bundle_authorities_data"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_bundle_authorities_bundle", "bundle_authorities", ["trust_domain_id", "bundle_id"])
    op.create_table(
        "entry_federates_with",
        _row_id(),
        _reference("trust_domain_id"),
        _reference("entry_row_id"),
        _reference("bundle_id"),
        sa.ForeignKeyConstraint(["bundle_id"], ["bundles.id"], ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["entry_row_id"], ["entries.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("entry_row_id", "bundle_id", name="uq_entry_federates_with_bundle"),
    )
    op.create_index(
        "ix_entry_federates_with_bundle", "entry_federates_with", ["trust_domain_id", "bundle_id", "entry_row_id"]
    )
    op.create_table(
        "entry_selectors",
        _row_id(),
        _reference("trust_domain_id"),
        _reference("entry_row_id"),
        _required("selector", sa.Text()),
        sa.ForeignKeyConstraint(["entry_row_id"], ["entries.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("entry_row_id", "selector", name="uq_entry_selectors_selector"),
    )
    op.create_index("ix_entry_selectors_selector", "entry_selectors", ["trust_domain_id", "selector", "entry_row_id"])
