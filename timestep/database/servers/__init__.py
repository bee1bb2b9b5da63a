"""Starts the databases that need no server of the user's: embedded PostgreSQL, and PGlite.

Imported by `timestep.database.engines`, `doctor` and the host. Begin with `embedded_postgres`.
"""
