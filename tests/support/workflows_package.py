"""Importing a package `workflows` of a test's own, and forgetting it again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dbos import _dbos

from timestep.operations.entrypoints import PACKAGE


@contextmanager
def own_workflows() -> Iterator[None]:
    """Until the end, `workflows` is not imported yet; then all is as it was."""
    registry = _dbos._get_or_create_dbos_registry()
    known = dict(registry.workflow_info_map)
    path = list(sys.path)
    others = {name: sys.modules.pop(name) for name in _loaded()}
    try:
        yield
    finally:
        sys.path[:] = path
        for name in _loaded():
            del sys.modules[name]
        sys.modules.update(others)
        registry.workflow_info_map.clear()
        registry.workflow_info_map.update(known)


def _loaded() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] == PACKAGE]
