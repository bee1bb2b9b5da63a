"""Reads runs and workflows, and imports neither DBOS nor the SDK. Begin with `database`."""
