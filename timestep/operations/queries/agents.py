"""Lists agents as their runs recorded them, and draws who may hand over to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from timestep.errors import UnknownEntrypointError
from timestep.journal.fail_fast_read import reading
from timestep.operations.arguments import check_filter
from timestep.operations.queries.pagination import Page, item_place, name_place, page_of, page_size
from timestep.operations.queries.records import AgentDefinition
from timestep.runtime.terminal import printable, quoted
from timestep.serialization.documents.json_text import displayed
from timestep.serialization.ids import storable_name
from timestep.store.reads import definitions as store


async def list_agents() -> list[AgentDefinition]:
    """The agents that runs had, by name, each in its newest version.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    return [_agent(row) for row in await asyncio.to_thread(lambda: reading(store.agents))]


async def list_versions(
    name: str, *, limit: int = 50, cursor: str | None = None
) -> Page[AgentDefinition]:
    """The versions in which runs had an agent, the newest first.

    Args:
        name: The agent's.
        limit: 1 to 200.
        cursor: The `next_cursor` of an earlier page.

    Raises:
        InvalidQueryError: The limit or the cursor cannot be used.
        DatabaseError: The database refused, or is away.
    """
    size, before, key = page_size(limit), item_place(cursor), storable_name(name)
    rows = await asyncio.to_thread(
        lambda: reading(
            lambda connection: store.versions(connection, key, before=before, limit=size + 1)
        )
    )
    return page_of([_agent(row) for row in rows], size, lambda one: one.version)


def _agent(row: dict[str, Any]) -> AgentDefinition:
    return AgentDefinition(**{name: displayed(row[name]) for name in row if name != "id"})


@dataclass(frozen=True)
class Handoff:
    """That an agent may hand over to another one."""

    source: str
    target: str
    """The other agent's name."""
    tool_name: str
    """The tool that the model calls to do so."""
    is_dynamic: bool
    """Whether that is decided while a run goes on."""


@dataclass(frozen=True)
class Team:
    """Some agents, and who of them may hand over to whom."""

    agents: Page[AgentDefinition]
    handoffs: list[Handoff]
    is_cut: bool
    """Whether there are more handoffs of theirs than are here."""


async def team(
    *, text: str | None = None, most: int, limit: int = 100, cursor: str | None = None
) -> Team:
    """Some of the agents that runs had, by name, each in its newest version, with their handoffs.

    Args:
        text: What their names have in them, in small letters or capitals; None: anything.
        most: How many handoffs there are at most.
        limit: 1 to 200 agents.
        cursor: The `next_cursor` of an earlier page, with the same text.

    Raises:
        InvalidQueryError: The text, the limit or the cursor cannot be used.
        DatabaseError: The database refused, or is away.
    """
    check_filter("text", text)
    size, after = page_size(limit), name_place(cursor)

    def work(connection: Any) -> Team:
        rows = store.some_agents(connection, text=text, after=after, limit=size + 1)
        names = {row["id"]: row["name"] for row in rows[:size]}
        arrows = store.handoffs(connection, list(names), limit=most + 1)
        found = [
            Handoff(
                names[row["agent_id"]],
                row["target_name"],
                row["tool_name"],
                row["is_enabled"] == "dynamic",
            )
            for row in arrows[:most]
        ]
        page = page_of([_agent(row) for row in rows], size, lambda one: one.name)
        # The same to several versions of the other agent is one.
        return Team(page, list(dict.fromkeys(found)), len(arrows) > most)

    return await asyncio.to_thread(lambda: reading(work))


def mermaid(handoffs: Sequence[Handoff]) -> str:
    """A flowchart of who may hand over to whom, in Mermaid's language."""
    names = dict.fromkeys(name for one in handoffs for name in (one.source, one.target))
    nodes = {name: f"agent{number}" for number, name in enumerate(names, 1)}
    lines = ["flowchart TD", *(f"    {node}[{_label(name)}]" for name, node in nodes.items())]
    for one in handoffs:
        arrow = "-.->" if one.is_dynamic else "-->"
        label = _label(one.tool_name)
        lines.append(f"    {nodes[one.source]} {arrow}|{label}| {nodes[one.target]}")
    return "\n".join(lines)


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
