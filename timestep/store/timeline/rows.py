"""Reads a part of what a run did: some of its items, and what belongs to them.

A document is read as text, and its beginning only: it may have megabytes, or a depth that no
parser follows.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

Row = dict[str, Any]

FETCHED = 65_536
"""Characters of a document that are read."""


INSTRUCTIONS = 20_000
"""Characters of instructions that are read."""


def _document(column: str, name: str | None = None) -> str:
    """A document's beginning, and its length: `NAME` and `NAME_length`."""
    name = name or column.rpartition(".")[2]
    return f"left({column}::text, {FETCHED}) AS {name}, length({column}::text) AS {name}_length"


# The output of a call is told with the call; but where another run's model asked for that, no item
# of this run does.
# Looked up for each item: with EXISTS, all calls that there are would be read for it.
_IS_TOLD = """(i.item_type <> 'tool_call_output_item' OR (
        SELECT c.model_response_id FROM public.tool_calls c WHERE c.id = i.tool_call_id) IS NULL)"""

_ITEMS = f"""
    SELECT i.id, i.position, i.turn, i.item_type, i.role, i.agent_id, i.model_response_id,
        i.tool_call_id, i.created_at, {_document("i.item_data")}
    FROM public.run_items i WHERE i.run_id = %(run_id)s AND {{which}} AND {_IS_TOLD}
    ORDER BY i.position {{order}} LIMIT %(limit)s"""

_PARTS = {
    "after": ("i.position > %(place)s", ""),
    "before": ("i.position < %(place)s", "DESC"),
    "newest": ("true", "DESC"),
    "turn": (
        """i.position >= (SELECT position FROM public.run_items
            WHERE run_id = %(run_id)s AND turn >= %(place)s ORDER BY position LIMIT 1)""",
        "",
    ),
}

_ITEMS_OF = _ITEMS.format(
    which="(i.id = ANY(%(items)s) OR i.tool_call_id = ANY(%(calls)s))",
    order="",
)

_ANSWERS = f"""
    SELECT m.id, m.turn, m.ordinal, m.attempt, m.agent_id, m.response_id, m.request_id, m.model,
        {_document("m.error")}, {_document("m.usage")}, m.started_at, m.duration_ms, m.created_at,
        u.input_tokens, u.cached_input_tokens, u.output_tokens, u.reasoning_tokens,
        u.total_tokens, u.estimated_cost, u.sequence
    FROM public.model_responses m
    LEFT JOIN public.request_usage_entries u ON u.model_response_id = m.id
    WHERE m.run_id = %(run_id)s AND {{which}} ORDER BY m.ordinal, m.attempt LIMIT %(limit)s"""

_NEIGHBOUR = f"""
    SELECT i.position, i.turn, i.created_at FROM public.run_items i
    WHERE i.run_id = %(run_id)s AND i.position {{is_beside}} %(place)s AND {_IS_TOLD}
    ORDER BY i.position {{order}} LIMIT 1"""

# Answers without an item are between those of the items beside the part.
_BESIDE = """
    SELECT m.ordinal FROM public.run_items i
    JOIN public.model_responses m ON m.id = i.model_response_id
    WHERE i.run_id = %(run_id)s AND i.position {is_beside} %(place)s
    ORDER BY i.position {order} LIMIT 1"""

_BEGINS_BEFORE = """(m.ordinal < %(before)s OR m.ordinal <= (
    SELECT max(o.ordinal) FROM public.model_responses o WHERE o.id = ANY(%(own)s)))"""

_CALLS = f"""
    SELECT c.id, c.agent_id, c.model_response_id, c.turn, c.call_id, c.tool_name, c.tool_type,
        {_document("c.arguments")}, {_document("c.edited_arguments")}, {_document("c.output")},
        {_document("c.error")}, c.status, c.is_error, c.safe_to_repeat, c.intents, c.attempts,
        c.duration_ms, c.created_at, c.started_at, c.completed_at, c.run_id, r.workflow_id,
        c.end_position, c.failed_attempts::text AS failed_attempts
    FROM public.tool_calls c JOIN public.runs r ON r.id = c.run_id
    WHERE c.id = ANY(%(calls)s)"""

_CHECKS = f"""
    SELECT g.id, g.turn, g.position, g.guardrail_name, g.type, g.tripwire_triggered,
        {_document("g.output_info")}, {_document("g.error")}, g.duration_ms, g.created_at
    FROM public.guardrail_results g WHERE g.run_id = %(run_id)s AND {{which}}
    ORDER BY g.position LIMIT %(limit)s"""

_CHECKS_OF_CALLS = f"""
    SELECT g.id, g.tool_call_id, g.guardrail_name, g.type, g.behavior, g.message,
        {_document("g.output_info")}, {_document("g.error")}, g.duration_ms, g.created_at
    FROM public.tool_guardrail_results g WHERE g.tool_call_id = ANY(%(calls)s)
    ORDER BY g.created_at, g.id"""

_QUESTIONS = f"""
    SELECT q.id, q.tool_call_id, q.reason, q.description, q.expires_at, q.created_at, q.resolved_at,
        q.resolution_action, q.resolution_message, q.resolution_always, q.resolved_by,
        {_document("q.resolution_arguments")}
    FROM public.interruptions q WHERE q.tool_call_id = ANY(%(calls)s)
    ORDER BY q.created_at, q.id"""

_RECOVERIES = """
    SELECT token AS id, executor_id, node, process_id, turn, answers, calls, checks, recovered_at
    FROM timestep.recoveries WHERE run_id = %(run_id)s AND turn BETWEEN %(first)s AND %(last)s
    ORDER BY recovered_at, token LIMIT %(limit)s"""

_AGENTS = f"""
    SELECT a.id, a.name, a.version, a.model, left(a.instructions, {INSTRUCTIONS}) AS instructions,
        a.instructions_type, left((to_jsonb(s)
            - '{{id,created_at,deleted_at}}'::text[])::text, 4000) AS settings, ARRAY(
            SELECT t.name FROM public.agent_tools l JOIN public.tools t ON t.id = l.tool_id
            WHERE l.agent_id = a.id ORDER BY l.position) AS tools
    FROM public.agents a LEFT JOIN public.model_settings s ON s.id = a.model_settings_id
    WHERE a.id = ANY(%(ids)s)"""

_USED_BEFORE = """
    SELECT coalesce(sum(total_tokens), 0), sum(estimated_cost)
    FROM public.request_usage_entries WHERE run_id = %(run_id)s AND sequence < %(sequence)s"""

_USED_UNTIL = """
    SELECT coalesce(sum(u.total_tokens), 0), sum(u.estimated_cost)
    FROM public.request_usage_entries u JOIN public.model_responses m ON m.id = u.model_response_id
    WHERE u.run_id = %(run_id)s AND m.turn <= %(turn)s"""

# What a model says in an answer that is no item yet comes after these.
_SEEN = """
    SELECT coalesce(max(greatest(
        (SELECT max(sequence) FROM public.run_items i WHERE i.run_id = r.id),
        (SELECT max(sequence) FROM timestep.run_changes c WHERE c.run_id = r.id))), 0)
    FROM public.runs r WHERE {which}"""

_WHOLE = {
    "input": ("runs", "input"),
    "final_output": ("runs", "final_output"),
    "item": ("run_items", "item_data"),
    "arguments": ("tool_calls", "arguments"),
    "edited_arguments": ("tool_calls", "edited_arguments"),
    "output": ("tool_calls", "output"),
    "error": ("tool_calls", "error"),
    "answer_error": ("model_responses", "error"),
    "usage": ("model_responses", "usage"),
    "check": ("guardrail_results", "output_info"),
    "check_error": ("guardrail_results", "error"),
    "call_check": ("tool_guardrail_results", "output_info"),
    "call_check_error": ("tool_guardrail_results", "error"),
    "resolution_arguments": ("interruptions", "resolution_arguments"),
}
"""Where each kind of document is: its table, and its column."""


@dataclass(frozen=True)
class Part:
    """Some of a run's items, in their order, with those beside them."""

    items: list[Row]
    before: Row | None
    """The item before the first: its position, turn and time. None: there is none, as with
    `after`, the one after the last."""
    after: Row | None

    @property
    def is_cut(self) -> bool:
        """Whether the first of its turns begins before it."""
        return self.before is not None and self.before["turn"] == self.items[0]["turn"]

    @property
    def is_cut_off(self) -> bool:
        """Whether the last of its turns goes on after it."""
        return self.after is not None and self.after["turn"] == self.items[-1]["turn"]


def part(connection: sa.Connection, run_id: uuid.UUID, which: str, place: int, limit: int) -> Part:
    """Some items of a run: whole turns, unless one alone has more than fit.

    Args:
        connection: To the database.
        run_id: The run.
        which: Those `after` or `before` a position, the `newest`, or those from a `turn` on; where
            nothing is after it, the newest.
        place: The position, or the turn.
        limit: How many at most.
    """
    condition, order = _PARTS[which]
    values = {"run_id": run_id, "place": place, "limit": limit + 1}
    found = _rows(connection, _ITEMS.format(which=condition, order=order), values)
    if len(found) > limit:
        cut = found[limit]["turn"]
        whole = [row for row in found[:limit] if row["turn"] != cut]
        found = whole or found[:limit]
    if not found:
        return Part([], None, None) if which == "newest" else _newest(connection, run_id, limit)
    if order:
        found.reverse()
    before = _neighbour(connection, run_id, found[0], "<", "DESC")
    return Part(found, before, _neighbour(connection, run_id, found[-1], ">", ""))


def _newest(connection: sa.Connection, run_id: uuid.UUID, limit: int) -> Part:
    return part(connection, run_id, "newest", 0, limit)


def _neighbour(
    connection: sa.Connection, run_id: uuid.UUID, item: Row, is_beside: str, order: str
) -> Row | None:
    sql = _NEIGHBOUR.format(is_beside=is_beside, order=order)
    found = _rows(connection, sql, {"run_id": run_id, "place": item["position"]})
    return found[0] if found else None


def items_of(
    connection: sa.Connection,
    run_id: uuid.UUID,
    items: Collection[uuid.UUID],
    calls: Collection[uuid.UUID],
    limit: int,
) -> list[Row]:
    """These items of a run, and those that ask for these calls."""
    values = {"run_id": run_id, "items": list(items), "calls": list(calls), "limit": limit}
    return _rows(connection, _ITEMS_OF, values)


def answers(
    connection: sa.Connection,
    run_id: uuid.UUID,
    first: int | None,
    last: int | None,
    own: Collection[uuid.UUID],
    limit: int,
) -> list[Row]:
    """The answers of a run's model that begin in a part of it, each attempt at them.

    Args:
        connection: To the database.
        run_id: The run.
        first: The position of the first item; None: from the beginning on.
        last: That of the last one; None: to the end.
        own: The answers that items of the part come of: the last may go on after it.
        limit: How many at most.
    """
    after = _beside(connection, run_id, first, "<", "DESC") if first is not None else None
    before = _beside(connection, run_id, last, ">", "") if last is not None else None
    conditions = ["true"]
    if after is not None:
        conditions.append("m.ordinal > %(after)s")
    if before is not None:
        conditions.append(_BEGINS_BEFORE)
    values = {
        "run_id": run_id,
        "after": after,
        "before": before,
        "own": list(own),
        "limit": limit,
    }
    return _rows(connection, _ANSWERS.format(which=" AND ".join(conditions)), values)


def _beside(
    connection: sa.Connection, run_id: uuid.UUID, place: int | None, is_beside: str, order: str
) -> int | None:
    sql = _BESIDE.format(is_beside=is_beside, order=order)
    values = {"run_id": run_id, "place": place}
    found: int | None = connection.exec_driver_sql(sql, values).scalar_one_or_none()
    return found


def answers_of(
    connection: sa.Connection, run_id: uuid.UUID, ids: Collection[uuid.UUID], limit: int
) -> list[Row]:
    """These answers of a run."""
    values = {"run_id": run_id, "ids": list(ids), "limit": limit}
    return _rows(connection, _ANSWERS.format(which="m.id = ANY(%(ids)s)"), values)


def calls(connection: sa.Connection, ids: Collection[uuid.UUID]) -> list[Row]:
    """These tool calls."""
    return _rows(connection, _CALLS, {"calls": list(ids)}) if ids else []


def checks(
    connection: sa.Connection, run_id: uuid.UUID, turns: tuple[int, int], limit: int
) -> list[Row]:
    """What guardrails said of the run in these turns, the first and the last."""
    values = {"run_id": run_id, "first": turns[0], "last": turns[1], "limit": limit}
    which = "g.turn BETWEEN %(first)s AND %(last)s"
    return _rows(connection, _CHECKS.format(which=which), values)


def checks_by_id(
    connection: sa.Connection, run_id: uuid.UUID, ids: Collection[uuid.UUID], limit: int
) -> list[Row]:
    """These checks of a run."""
    values = {"run_id": run_id, "ids": list(ids), "limit": limit}
    return _rows(connection, _CHECKS.format(which="g.id = ANY(%(ids)s)"), values)


def checks_of_calls(connection: sa.Connection, calls: Collection[uuid.UUID]) -> list[Row]:
    """What guardrails said of these calls."""
    return _rows(connection, _CHECKS_OF_CALLS, {"calls": list(calls)}) if calls else []


def questions(connection: sa.Connection, calls: Collection[uuid.UUID]) -> list[Row]:
    """What was asked about these calls."""
    return _rows(connection, _QUESTIONS, {"calls": list(calls)}) if calls else []


def recoveries(
    connection: sa.Connection, run_id: uuid.UUID, turns: tuple[int, int], limit: int
) -> list[Row]:
    """Where other executions went on with a run in these turns, the first and the last."""
    values = {"run_id": run_id, "first": turns[0], "last": turns[1], "limit": limit}
    return _rows(connection, _RECOVERIES, values)


def recovery_count(connection: sa.Connection, run_id: uuid.UUID) -> int:
    """How often another execution went on with a run."""
    query = "SELECT count(*) FROM timestep.recoveries WHERE run_id = %(run_id)s"
    return int(connection.exec_driver_sql(query, {"run_id": run_id}).scalar_one())


def agents(connection: sa.Connection, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Row]:
    """These agents and their models' settings, by their ids."""
    return {row["id"]: row for row in _rows(connection, _AGENTS, {"ids": list(ids)})}


def used_before(
    connection: sa.Connection, run_id: uuid.UUID, sequence: int
) -> tuple[int, float | None]:
    """The tokens and the cost of what a run used before an entry of its usage."""
    return _used(connection, _USED_BEFORE, {"run_id": run_id, "sequence": sequence})


def used_until(connection: sa.Connection, run_id: uuid.UUID, turn: int) -> tuple[int, float | None]:
    """The tokens and the cost of what a run used to the end of a turn."""
    return _used(connection, _USED_UNTIL, {"run_id": run_id, "turn": turn})


def _used(connection: sa.Connection, sql: str, values: dict[str, Any]) -> tuple[int, float | None]:
    tokens, cost = connection.exec_driver_sql(sql, values).one()
    return int(tokens), None if cost is None else float(cost)


def seen(connection: sa.Connection, run_id: uuid.UUID, workflow_id: str | None) -> int:
    """The number of the newest item or change of a run, or of all runs of its workflow."""
    which = "r.id = %(run_id)s" if workflow_id is None else "r.workflow_id = %(workflow_id)s"
    values = {"run_id": run_id, "workflow_id": workflow_id}
    return int(connection.exec_driver_sql(_SEEN.format(which=which), values).scalar_one())


def whole(connection: sa.Connection, run_id: uuid.UUID, kind: str, id_: uuid.UUID) -> str | None:
    """A document of a run as text; None: there is none of this kind and id."""
    if kind not in _WHOLE:
        return None
    table, column = _WHOLE[kind]
    of = "id" if table == "runs" else "run_id"
    sql = f"SELECT {column}::text FROM public.{table} WHERE id = %(id)s AND {of} = %(run_id)s"
    found: str | None = connection.exec_driver_sql(
        sql, {"id": id_, "run_id": run_id}
    ).scalar_one_or_none()
    return found


def _rows(connection: sa.Connection, sql: str, values: dict[str, Any]) -> list[Row]:
    return [dict(row) for row in connection.exec_driver_sql(sql, values).mappings()]
