"""`import timestep` costs nothing: its names are imported when the first of them is asked for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import timestep

SOURCE = Path(timestep.__file__)


def names_for_type_checkers() -> dict[str, str]:
    """What `__init__` imports where nothing is executed: each name, and the module it is of."""
    block = next(node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    found: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        module = (node.module or "").removeprefix("timestep").removeprefix(".")
        found |= {alias.name: module for alias in node.names}
    return found


def test_the_table_is_what_type_checkers_and_readers_are_told() -> None:
    everywhere = {**timestep._WHERE, **timestep._ALONE}
    assert names_for_type_checkers() == everywhere
    assert timestep.__all__ == sorted({*everywhere, "tool_options"})
    assert set(timestep.__all__) <= set(dir(timestep))


def test_each_name_is_what_its_module_has() -> None:
    for name, module in timestep._WHERE.items():
        found = getattr(timestep, name)
        assert getattr(found, "__module__", found.__name__) == f"timestep.{module or name}", name
    assert callable(timestep.tool_options)
    with pytest.raises(AttributeError, match="module 'timestep' has no attribute 'nothing'"):
        _ = timestep.nothing  # type: ignore[attr-defined]
