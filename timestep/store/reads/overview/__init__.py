"""Reads what pages tell of many runs at once; `timestep.operations.overview` alone asks."""
