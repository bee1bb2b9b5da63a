"""Private names of the Agents SDK are used in `sdk` only, those of DBOS in `dbos_internals` only.

Each of the two packages has a table of them at its top, and the tables are complete.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import timestep

PACKAGE = Path(timestep.__file__).parent
ROOMS = {"agents": PACKAGE / "sdk", "dbos": PACKAGE / "dbos_internals"}
OTHERS = {"_exit", "_field_defaults", "_fields", "_name_", "_replace", "_run_exitfuncs", "_value_"}
"""Names of Python's own library."""


def is_private(name: str) -> bool:
    return re.match(r"_[A-Za-z]|__agents_", name) is not None or name == "run_internal"


def imported(tree: ast.AST, library: str) -> Iterator[str]:
    """What a module imports of a library's private modules, or under a private name."""
    for node in ast.walk(tree):
        origin = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            path = f"{origin}{alias.name}".split(".")
            if path[0] == library and any(map(is_private, path)):
                yield path[-1]


def attributes(tree: ast.AST) -> set[str]:
    """Private attributes of objects that are not the module's own."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = {node.attr for node in found if is_own(node)} | OTHERS
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return {node.attr for node in found if is_private(node.attr)} - own


def reached(tree: ast.AST) -> Iterator[str]:
    """The same, also where their names are text or keywords."""
    yield from attributes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and str(node.value).isidentifier():
            yield from filter(is_private, [str(node.value)])
        elif isinstance(node, ast.keyword) and is_private(node.arg or ""):
            yield node.arg or ""


def is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def modules(folder: Path) -> dict[Path, ast.AST]:
    return {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}


def table(folder: Path) -> dict[str, str]:
    """Why each name is used, as the table in the package's docstring says."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    _, _, rows = text.partition("\nname ")
    found = [row.split(maxsplit=2) for row in rows.splitlines()[1:] if row.startswith("    ")]
    assert all(re.fullmatch(r"\d\.\d+|[a-z]+", since) for _, since, _ in found), "since when?"
    return {name: why for name, _, why in found}


@pytest.mark.parametrize("library", ROOMS)
def test_a_private_module_is_imported_in_its_room_only(library: str) -> None:
    for path, tree in modules(PACKAGE).items():
        if ROOMS[library] not in path.parents:
            assert not list(imported(tree, library)), path


def test_private_names_are_reached_in_their_room_only() -> None:
    named = {name for room in ROOMS.values() for name in table(room)}
    for path, tree in modules(PACKAGE).items():
        if not any(room in path.parents for room in ROOMS.values()):
            assert not attributes(tree) | (named & set(reached(tree))), path


@pytest.mark.parametrize("library", ROOMS)
def test_the_table_has_what_is_used_and_nothing_else(library: str) -> None:
    used = {
        name
        for tree in modules(ROOMS[library]).values()
        for name in (*imported(tree, library), *reached(tree))
    }
    assert table(ROOMS[library]).keys() == used
