"""The 23 tables as SQLAlchemy metadata: columns, constraints and indexes, no behaviour.

`migrations/` makes them; a test holds the two equal.
"""

from timestep.store.tables import definitions, interruptions, journal, sessions
from timestep.store.tables.base import metadata

__all__ = ["definitions", "interruptions", "journal", "metadata", "runs", "sessions", "usage"]
