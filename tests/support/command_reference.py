"""Shows the commands as the documentation does: a section each, made of their own help."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import click

from timestep.cli import group

EXAMPLES = {
    "agents": "timestep agents --json",
    "approvals": "timestep approvals",
    "audit": "timestep audit --act decide --since 30d --csv",
    "cancel": "timestep cancel night-shift",
    "completion": "timestep completion bash",
    "doctor": "timestep doctor",
    "fork": 'timestep fork night-shift --turn 2 --agent \'{"instructions": "Restart nothing."}\'',
    "graph": "timestep graph support",
    "init": "timestep init support",
    "migrate": "timestep migrate --dry-run",
    "open": "timestep open night-shift --print",
    "resume": "timestep resume night-shift --reject all --message 'Not during the day.'",
    "runs": "timestep runs --status failed --since 7d --tag team:billing",
    "serve": "timestep serve",
    "sessions": "timestep sessions customer-4",
    "show": "timestep show night-shift --traceback",
    "start": 'timestep start research --input \'{"topic": "tides"}\' --id tides --wait',
    "stop": "timestep stop",
    "tokens create": "timestep tokens create ann --role operator --expires 30d",
    "tokens list": "timestep tokens list",
    "tokens revoke": "timestep tokens revoke ann",
    "usage": "timestep usage --by model --since 30d",
    "watch": "timestep watch night-shift",
}


def text() -> str:
    """All commands, in the order of their names, in Markdown."""
    return "\n".join(_section(name, command) for name, command in commands())


def commands() -> Iterator[tuple[str, click.Command]]:
    """Each command that does something, by its whole name."""
    for name, (where, _) in sorted(group._COMMANDS.items()):
        module, _, attribute = where.partition(":")
        command = getattr(importlib.import_module(f"timestep.cli.commands.{module}"), attribute)
        if isinstance(command, click.Group):
            yield from ((f"{name} {one}", it) for one, it in sorted(command.commands.items()))
        else:
            yield name, command


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    arguments = [one for one in command.collect_usage_pieces(context) if one != "[OPTIONS]"]
    usage = " ".join([f"timestep {name}", *arguments])
    told = inspect.cleandoc(command.help or "").split("\n\n")
    lines = [f"### {name}", "", f"`{usage}`: {' '.join(' '.join(told).split())}", ""]
    for option in command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None and record != ("--json", "JSON alone on standard output."):
            lines.append(f"- `{record[0]}`: {' '.join(record[1].split())}")
    if lines[-1]:
        lines.append("")
    return "\n".join([*lines, "```sh", EXAMPLES[name], "```"]) + "\n"
