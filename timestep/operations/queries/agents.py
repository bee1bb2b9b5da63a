"""Lists agents as their runs recorded them, and draws who may hand over to whom."""

from __future__ import annotations

import asyncio
from typing import Any

from timestep.errors import UnknownEntrypointError
from timestep.journal.fail_fast_read import reading
from timestep.operations.arguments import check_filter
from timestep.operations.queries.records import AgentDefinition
from timestep.runtime.terminal import printable, quoted
from timestep.store.reads import definitions as store


async def list_agents() -> list[AgentDefinition]:
    """The agents that runs had, by name, each in its newest version.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    rows = await asyncio.to_thread(lambda: reading(store.agents))
    return [
        AgentDefinition(**{name: value for name, value in row.items() if name != "id"})
        for row in rows
    ]


async def handoff_graph(entrypoint: str) -> str:
    """Who may hand over to whom, from the agents on that an entrypoint's newest workflow ran.

    Args:
        entrypoint: DBOS's name of the workflow: its function's.

    Returns:
        A flowchart in Mermaid's language.

    Raises:
        UnknownEntrypointError: No run of it is recorded.
        DatabaseError: The database refused, or is away.
    """
    check_filter("entrypoint", entrypoint)

    def work(connection: Any) -> tuple[list[Any], list[dict[str, Any]], list[dict[str, Any]]]:
        first, agents = store.reached(connection, entrypoint)
        return first, agents, store.handoffs(connection, [row["id"] for row in agents])

    first, agents, handoffs = await asyncio.to_thread(lambda: reading(work))
    if not agents:
        raise UnknownEntrypointError(
            f"no run of an entrypoint {quoted(entrypoint)} is recorded: start one with "
            "`timestep start`, then ask again"
        )
    nodes = {row["id"]: f"agent{number}" for number, row in enumerate(agents, 1)}
    lines = ["flowchart TD", f"    entrypoint([{_label(entrypoint)}])"]
    lines += [f"    {nodes[row['id']]}[{_label(row['name'])}]" for row in agents]
    lines += [f"    entrypoint --> {nodes[id_]}" for id_ in first]
    for number, row in enumerate(handoffs, 1):
        target = nodes.get(row["target_agent_id"])
        if target is None:
            # Its handoff tells only when it is invoked.
            target = f"other{number}"
            lines.append(f"    {target}[{_label(row['target_name'])}]")
        arrow = "-.->" if row["is_enabled"] == "dynamic" else "-->"
        lines.append(f"    {nodes[row['agent_id']]} {arrow}|{_label(row['tool_name'])}| {target}")
    return "\n".join(lines)


def _label(text: str) -> str:
    """A text in quotes that Mermaid shows as it is."""
    shown = printable(text)
    for character, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        shown = shown.replace(character, entity)
    return f'"{shown}"'
