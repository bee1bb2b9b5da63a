"""Helpers for asyncio, the process, terminal and log; they know nothing of runs or databases.

Everything may import this package; it imports only `timestep.errors`. Begin with `cancellation`.
"""
