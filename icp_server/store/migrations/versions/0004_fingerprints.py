"""Privileged certificates by fingerprint: a serial number can be put into another certificate.

What was on record by serial number gives no rights any more: administrators need a new SVID after the upgrade, which
those of agents get by themselves.

A migration is history: it does not import the tables, which change, and is never edited once released.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Replace the table; its index goes and comes with it."""
    op.drop_table("privileged_svids")
    op.create_table(
        "privileged_svids",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("trust_domain_id", _ROW_ID, nullable=False),
        sa.Column("spiffe_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("trust_domain_id", "spiffe_id", "fingerprint", name="uq_privileged_svids_fingerprint"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_privileged_svids_expires_at", "privileged_svids", ["trust_domain_id", "expires_at"])
