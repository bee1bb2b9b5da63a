"""Says what a host found when it started, and what to do next."""

from __future__ import annotations

import socket

import click

from timestep import config
from timestep.host.launch import Launched, Left
from timestep.operations.entrypoints import Entrypoint
from timestep.runtime import terminal
from timestep.runtime.terminal import printable, shell_word

_LISTED = 3
"""Executors that are told of one by one."""


def greet(launched: Launched, listener: socket.socket) -> None:
    """Say what is there, and what to do next."""
    host, port = listener.getsockname()[:2]
    place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    lines = [f"Timestep listens on {place}", f"  database     {printable(launched.database)}"]
    names = ", ".join(sorted(launched.entrypoints)) or "none: put one into workflows/"
    lines.append(f"  entrypoints  {names}")
    if launched.recovered:
        lines.append(f"  recovering   {_workflows(launched.recovered)}")
    if launched.retried:
        lines.append(
            f"  trying again {_workflows(launched.retried)} whose version lacked something, such "
            "as a key: `timestep show ID` tells what"
        )
    if launched.aside:
        id_ = launched.aside_id or "WORKFLOW_ID"
        lines.append(
            f"  put aside    {_workflows(launched.aside)} whose recovery ended the host each time: "
            "try once more, or end, with\n"
            f"               {terminal.command('resume', id_, '--again')}\n"
            f"               {terminal.command('cancel', id_)}"
        )
    if launched.undecided:
        lines.append(
            f"  undecided    {_workflows(launched.undecided)} waiting for a person: see "
            "`timestep approvals`"
        )
    if launched.stranded:
        lines.append(
            f"  waiting      {_workflows(launched.stranded)} of other versions of the application, "
            "which no live host runs:\n               start a host with their code, or go on in "
            "this one with\n"
            f"               {_take_over(launched.stranded_id)}"
        )
    lines += [_left(one) for one in launched.left[:_LISTED]]
    if len(launched.left) > _LISTED:
        more = len(launched.left) - _LISTED
        others = "1 more executor" if more == 1 else f"{more} more executors"
        lines.append(f"  no host      {others}: see `timestep runs --status running`")
    if launched.pickled:
        lines.append(
            f"  left alone   {_workflows(launched.pickled)} recorded as pickles, which run code "
            "when they are read: where nobody\n"
            "               else can write into the database, serve with "
            "TIMESTEP_READ_PICKLES=true until they are done, or end them with\n"
            f"               {terminal.command('cancel', launched.pickled_id or 'WORKFLOW_ID')}"
        )
    settings = config.read()
    if settings.read_pickles:
        lines.append(
            "  pickles      read, by TIMESTEP_READ_PICKLES=true: who can write into the database "
            "can run code here. Unset\n               it once no unfinished workflow is recorded "
            "as one"
        )
    if settings.openai_api_key is None:
        lines.append(
            "  model        offline, for agents made with timestep.offline; any other needs "
            "OPENAI_API_KEY"
        )
    if launched.entrypoints:
        name, given = _example(launched.entrypoints)
        body = f'{{"input": {given}}}'
        lines.append(f"Try:  timestep start {name} --input {shell_word(given)} --wait")
        lines.append(
            f"      curl {place}/api/workflows/{name}/runs -H 'content-type: application/json' "
            f"-d {shell_word(body)}"
        )
    click.echo("\n".join(lines))


def _left(left: Left) -> str:
    """What an executor left that no live host is, and what to do about it."""
    unless = "" if left.is_gone else ", unless an application of your own is it"
    id_ = left.executor_id
    return (
        f"  no host      {_workflows(left.workflows)} of the executor {printable(id_)}, which no "
        f"live host is{unless}: start\n               it again, a host with "
        f"DBOS__VMID={shell_word(id_)} or your own application as it was,\n"
        f"               or go on in this one with {_take_over(left.example)}"
    )


def _take_over(workflow_id: str | None) -> str:
    return terminal.command("resume", workflow_id or "WORKFLOW_ID", "--from-checkpoint")


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
