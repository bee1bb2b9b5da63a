"""Helpers for asyncio and for the process; they know nothing of runs, steps or databases.

Everything may import this package; it imports only `timestep.errors`. Begin with `cancellation`.
"""
