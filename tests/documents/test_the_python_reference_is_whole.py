"""`docs/python.md` has every name of `timestep` once, with the parameters that it takes."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import timestep

TEXT = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
_ENTRY = re.compile(r"- (?:`(await|async for)` (?:in )?)?\*\*`(\w+)`\*\*(?:`(\([^`]*\))`)?")


def entries() -> list[tuple[str, str, str | None, str]]:
    """Of each entry how it is called, its name, its parameters, and what is said of it."""
    found = []
    for text in re.split(r"^(?=- )", TEXT, flags=re.MULTILINE)[1:]:
        parts = _ENTRY.match(text)
        assert parts is not None, text
        found.append((parts[1] or "", parts[2], parts[3], text))
    return found


def parameters(function: object) -> str:
    """The parameters of a function or a class as the page writes them, without annotations."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    empty = inspect.Parameter.empty
    bare = [one.replace(annotation=empty) for one in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=empty))
    return text.replace("<class 'Exception'>", "Exception")


def test_each_name_is_there_once() -> None:
    assert sorted(name for _, name, _, _ in entries()) == timestep.__all__


def test_each_is_called_as_it_says() -> None:
    for how, name, given, text in entries():
        it = getattr(timestep, name)
        if inspect.ismodule(it):
            assert given is None
        elif dataclasses.is_dataclass(it):
            fields = {field.name for field in dataclasses.fields(it)}
            assert fields - set(re.findall(r"`(\w+)`", text)) == set(), name
        else:
            assert given == parameters(it), name
            assert (how == "await") == inspect.iscoroutinefunction(it), name
            assert (how == "async for") == inspect.isasyncgenfunction(it), name


def test_each_error_that_is_named_is_one() -> None:
    errors = {name for name in dir(timestep.errors) if name.endswith("Error")}
    assert set(re.findall(r"\b\w+Error\b", TEXT)) - errors == {"TypeError", "ValueError"}
