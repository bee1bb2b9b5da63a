"""Prints tables of sessions, agents and what was used, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from timestep.cli import output

if TYPE_CHECKING:
    from timestep.operations.queries.records import AgentDefinition, Session, SessionItem, UsageRow


def sessions(found: Sequence[Session]) -> None:
    """A table of sessions, the one that was changed last first."""
    if not found:
        output.say("No sessions.")
        return
    table = output.table_of("session", "items", "changed", "begun")
    for one in found:
        changed, begun = output.when(one.updated_at), output.when(one.created_at)
        table.add_row(output.cell(one.session_id), str(one.items), changed, begun)
    output.show(table, is_wrapped=False)


def session_items(found: Sequence[SessionItem]) -> None:
    """What was said in a session, an entry each."""
    if not found:
        output.say("Nothing is in it.")
    for item in found:
        output.entry(f"{item.role or item.item_type or 'item'}: ", output.said(item.item_data))


def agents(found: Sequence[AgentDefinition]) -> None:
    """A table of agents, by name."""
    if not found:
        output.say("No agents: no run is recorded.")
        return
    table = output.table_of("agent", "version", "model", "tools", "hands over to", "guardrails")
    for one in found:
        tools = [*one.tools, *(f"{server} (MCP)" for server in one.mcp_servers)]
        lists = (", ".join(names) for names in (tools, one.handoffs, one.guardrails))
        table.add_row(
            output.cell(one.name),
            str(one.version),
            output.cell(one.model),
            *map(output.cell, lists),
        )
    output.show(table, is_wrapped=False)


def usage(found: Sequence[UsageRow], by: str) -> None:
    """A table of what was used, and the sum of it."""
    if not found:
        output.say("Nothing was used.")
        return
    table = output.table_of(by, "requests", "tokens in", "cached", "out", "reasoning", "cost")
    for row in found:
        table.add_row(output.cell(row.name or "(not known)"), *_figures([row]))
    if len(found) > 1:
        table.add_section()
        table.add_row("all", *_figures(found))
    output.show(table, is_wrapped=False)
    if unpriced := sum(row.unpriced_requests for row in found):
        what = output.count(unpriced, "answer")
        output.say(f"{what} of models whose price is not known: not in the cost")


def _figures(rows: Sequence[UsageRow]) -> Iterator[str]:
    for name in (
        "requests",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
    ):
        yield f"{sum(getattr(row, name) for row in rows):,}"
    priced = [row.cost for row in rows if row.cost is not None]
    yield f"${sum(priced):.4f}" if priced else ""
