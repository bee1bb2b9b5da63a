"""Gives the classes of runs, items and calls their recorded path.

Values that workflows and tools of earlier versions returned name them by it; nothing else uses it.
"""

from timestep.operations.queries.records import Run, RunError, RunItem, ToolCall, Usage, Workflow

__all__ = ["Run", "RunError", "RunItem", "ToolCall", "Usage", "Workflow"]
