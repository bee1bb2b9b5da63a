"""Gives the classes of events of a run their recorded path.

Values that workflows and tools of earlier versions returned name them by it; nothing else uses it.
"""

from timestep.operations.queries.records import RunEvent

__all__ = ["RunEvent"]
