"""Shows the settings as the README does: a table in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from timestep import config


def table() -> str:
    """The settings as the documentation shows them: a table in Markdown."""
    rows = ["| variable | value | default | meaning |", "| --- | --- | --- | --- |"]
    for name, found in config.Settings.model_fields.items():
        told = found.json_schema_extra
        assert isinstance(told, dict)
        value = str(told["kind"] or _kind(found.annotation))
        if told["unit"]:
            value += f", {told['unit']}"
        default = told["unset"] or f"`{_as_written(found.default)}`"
        rows.append(f"| `{config.variable_of(name)}` | {value} | {default} | {found.description} |")
    return "\n".join(rows) + "\n"


_KINDS: dict[object, str] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    Path: "path",
}


def _kind(annotation: Any) -> str:
    if annotation in _KINDS:
        return _KINDS[annotation]
    choices = get_args(get_args(annotation)[0])  # Of `Literal[...] | None`.
    return " or ".join(f"`{choice}`" for choice in choices)


def _as_written(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, Path):
        return f"./{default}"
    return f"{default:g}" if isinstance(default, float) else str(default)
