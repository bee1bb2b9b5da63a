"""Defines the tables of conversations.

Every change of a session has a revision; an item knows the revision that added it and the
one that removed it, so a replay reads the session exactly as it was then.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, UniqueConstraint

from timestep.store.tables.base import (
    count,
    created,
    identifier,
    json_object,
    json_value,
    metadata,
    moment,
    reference,
    words,
)

sessions = Table(
    "sessions",
    metadata,
    identifier(),
    words("session_key", nullable=False),
    count("revision"),
    json_object("metadata"),
    created(),
    moment("updated_at", default_now=True),
    moment("deleted_at"),
    UniqueConstraint("session_key"),
    CheckConstraint("session_key <> ''", name="session_key"),
)

session_items = Table(
    "session_items",
    metadata,
    identifier(),
    reference("session_id", "sessions", on_delete="CASCADE", nullable=False),
    # The run that added it, and by which of its changes; an item outlives the run.
    reference("run_id", "runs", on_delete="SET NULL"),
    Column("run_change", Integer),
    reference("removed_run_id", "runs", on_delete="SET NULL"),
    Column("removed_run_change", Integer),
    Column("position", BigInteger, nullable=False),
    Column("added_revision", BigInteger, nullable=False),
    Column("removed_revision", BigInteger),
    words("item_type"),
    words("role"),
    json_value("item_data", nullable=False),
    created(),
    moment("deleted_at"),
    UniqueConstraint("session_id", "position"),
    CheckConstraint("(removed_revision IS NULL) = (deleted_at IS NULL)", name="removed_revision"),
    Index("session_items_run_id_idx", "run_id"),
    Index("session_items_removed_run_id_idx", "removed_run_id"),
    # Read by: people's questions, such as item_data @> '{"role": "user"}'.
    Index(
        "session_items_item_data_idx",
        "item_data",
        postgresql_using="gin",
        postgresql_ops={"item_data": "jsonb_path_ops"},
    ),
)
