"""Federation relationships, and a count of writes for each bundle, whose sequence number is its publisher's.

A migration is history: it does not import the tables, which change, and is never edited once released.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("bundles", sa.Column("revision", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "federation_relationships",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("trust_domain_id", _ROW_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("server_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("trust_domain_id", "name", name="uq_federation_relationships_name"),
        sqlite_autoincrement=True,
    )
