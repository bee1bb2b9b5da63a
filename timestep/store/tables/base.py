"""Defines the metadata every table joins, and the column shapes they share."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    MetaData,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    schema="public",
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)
"""Names are given here, so a driver error names a constraint that can be looked up."""

NEW_ID = text("timestep.new_id()")
NOW = text("now()")


def identifier() -> Column[object]:
    """The primary key: made by the application, or by the default for hand-written SQL."""
    return Column("id", Uuid, primary_key=True, server_default=NEW_ID)


def reference(name: str, target: str, *, on_delete: str, nullable: bool = True) -> Column[object]:
    """A foreign key column to `target`'s id, with its delete policy."""
    return Column(
        name,
        Uuid,
        ForeignKey(f"public.{target}.id", ondelete=on_delete),
        nullable=nullable,
    )


def created() -> Column[object]:
    return moment("created_at", default_now=True)


def moment(name: str, *, default_now: bool = False) -> Column[object]:
    """A timestamptz; one with a default is never null."""
    if default_now:
        return Column(name, DateTime(timezone=True), nullable=False, server_default=NOW)
    return Column(name, DateTime(timezone=True))


def json_object(name: str) -> Column[object]:
    """A JSONB column that holds `{}` until told otherwise."""
    return Column(name, JSONB, nullable=False, server_default=text("'{}'::jsonb"))


def json_value(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, JSONB(none_as_null=True), nullable=nullable)


def words(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, Text, nullable=nullable)


def flag(name: str, default: str = "false") -> Column[object]:
    return Column(name, Boolean, nullable=False, server_default=text(default))


def count(name: str) -> Column[object]:
    """A token or request count."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def sequence() -> Column[object]:
    """Where a row stands among everything a run made visible; drawn under its workflow's lock."""
    drawn = text("nextval('timestep.event_sequence')")
    return Column("sequence", BigInteger, nullable=False, server_default=drawn)


def of_run() -> Column[object]:
    return reference("run_id", "runs", on_delete="CASCADE", nullable=False)


def acting_agent() -> Column[object]:
    """The agent that was acting."""
    return reference("agent_id", "agents", on_delete="SET NULL")
