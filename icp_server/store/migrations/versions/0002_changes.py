"""One log of changes for entries and agents; positions belong to an epoch, which a restore ends.

A migration is history: it does not import the tables, which change, and is never edited once released.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Rename the position, give each trust domain an epoch, and begin a new log."""
    # Not by copying the table, which is how Alembic changes SQLite's: rows that refer to it would go with the old one.
    op.execute("ALTER TABLE trust_domains RENAME COLUMN entry_position TO position")
    op.add_column("trust_domains", sa.Column("epoch", sa.Text(), nullable=False, server_default=""))
    connection = op.get_bind()
    trust_domains = sa.table("trust_domains", sa.column("id", sa.BigInteger()), sa.column("epoch", sa.Text()))
    for row_id in list(connection.execute(sa.select(trust_domains.c.id)).scalars()):
        change = sa.update(trust_domains).where(trust_domains.c.id == row_id)
        connection.execute(change.values(epoch=secrets.token_hex(16)))
    op.create_table(
        "changes",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("trust_domain_id", _ROW_ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["trust_domain_id"], ["trust_domains.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_changes_position", "changes", ["trust_domain_id", "position"])
    op.drop_index("ix_entry_changes_position", table_name="entry_changes")
    op.drop_table("entry_changes")
