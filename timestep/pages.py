"""Gives the classes of pages of lists their recorded path.

Values that workflows and tools of earlier versions returned name them by it; nothing else uses it.
"""

from timestep.operations.queries.pagination import Page

__all__ = ["Page"]
