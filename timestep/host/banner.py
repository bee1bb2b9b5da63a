"""Says what a host found when it started, and what to do next."""

from __future__ import annotations

import shlex
import socket

import click

from timestep import config
from timestep.host.launch import Launched
from timestep.operations.entrypoints import Entrypoint


def greet(launched: Launched, listener: socket.socket) -> None:
    """Say what is there, and what to do next."""
    host, port = listener.getsockname()[:2]
    place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    lines = [f"Timestep listens on {place}", f"  database     {launched.database}"]
    names = ", ".join(sorted(launched.entrypoints)) or "none: put one into workflows/"
    lines.append(f"  entrypoints  {names}")
    if launched.recovered:
        lines.append(f"  recovering   {_workflows(launched.recovered)}")
    if launched.undecided:
        lines.append(
            f"  undecided    {_workflows(launched.undecided)} waiting for a person: see "
            "`timestep approvals`"
        )
    if launched.stranded:
        lines.append(
            f"  waiting      {_workflows(launched.stranded)} of other versions of the sources: "
            "start those with DBOS__APPVERSION set to theirs, or go on in this one with\n"
            f"               timestep resume {shlex.quote(launched.stranded_id or 'WORKFLOW_ID')} "
            "--from-checkpoint"
        )
    if launched.pickled:
        lines.append(
            f"  left alone   {_workflows(launched.pickled)} recorded as pickles, which run code "
            "when they are read: where nobody\n"
            "               else can write into the database, serve with "
            "TIMESTEP_READ_PICKLES=true until they are done, or end them with\n"
            f"               timestep cancel {shlex.quote(launched.pickled_id or 'WORKFLOW_ID')}"
        )
    if config.read().openai_api_key is None:
        lines.append("  model        offline: set OPENAI_API_KEY to use a provider's")
    if launched.entrypoints:
        name, given = _example(launched.entrypoints)
        lines.append(f"Try:  timestep start {name} --input '{given}' --wait")
        lines.append(
            f"      curl {place}/api/workflows/{name}/runs -H 'content-type: application/json' "
            f"-d '{{\"input\": {given}}}'"
        )
    click.echo("\n".join(lines))


def _workflows(count: int) -> str:
    return "1 workflow" if count == 1 else f"{count} workflows"


def _example(found: dict[str, Entrypoint]) -> tuple[str, str]:
    name = min(found)
    schema = found[name].input_schema
    samples = {"string": '"hello"', "integer": "1", "number": "1.5", "boolean": "true"}
    parts = [
        f'"{parameter}": '
        + samples.get(schema["properties"][parameter].get("type", "string"), "null")
        for parameter in schema.get("required", [])
    ]
    return name, "{" + ", ".join(parts) + "}"
