"""People's part in a run: who is told that it waits, how it waits, and what a decision means.

Operations and the runner may import it. Begin with `decide`.
"""

import importlib
from typing import Any

_RECORDED = {"Interruption", "ResumeResult"}
"""Classes that values of earlier versions name by a path in here; they stand above."""


def __getattr__(name: str) -> Any:
    if name in _RECORDED:
        return getattr(importlib.import_module("timestep.operations.queries.records"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
