"""Writes states that users save: one of a run is active, and is replaced, never changed."""

from __future__ import annotations

import json
import uuid
from typing import Any

import sqlalchemy as sa

from timestep.store import session_items

_RUN = """
    INSERT INTO public.runs (
        id, root_run_id, agent_id, session_id, status, input, max_turns, sdk_version)
    VALUES (%(run_id)s, %(run_id)s, %(agent_id)s,
        (SELECT id FROM public.sessions WHERE session_key = %(session_key)s),
        'running', %(input)s::text::jsonb, %(max_turns)s, %(sdk_version)s)
    ON CONFLICT (id) DO NOTHING"""

# Whoever saves next waits here; so does a step that writes rows of the run.
_LOCK = """
    SELECT EXISTS (SELECT FROM public.run_states WHERE id = %(id)s)
    FROM public.runs WHERE id = %(run_id)s FOR UPDATE"""

_SUPERSEDE = (
    "UPDATE public.run_states SET is_active = false WHERE run_id = %(run_id)s AND is_active"
)

_STATE = """
    INSERT INTO public.run_states (
        id, run_id, state_type, schema_version, sdk, sdk_version, turn, encoding, state_data)
    VALUES (%(id)s, %(run_id)s, %(state_type)s, %(schema_version)s, 'python', %(sdk_version)s,
        %(turn)s, 'whole', %(state)s::text::jsonb)"""

# A run that no workflow executes is what its newest state says.
_FOLLOW = """
    UPDATE public.runs SET status = CASE %(state_type)s
            WHEN 'interrupted' THEN 'interrupted' WHEN 'final' THEN 'completed' ELSE 'running' END,
        completed_at = CASE %(state_type)s WHEN 'final' THEN now() END,
        current_turn = %(turn)s, current_agent_id = %(current_agent_id)s, updated_at = now()
    WHERE id = %(run_id)s AND workflow_id IS NULL
    AND status IN ('running', 'interrupted', 'completed')"""

_CHAIN = """
    WITH RECURSIVE chosen AS (
        SELECT s.* FROM public.run_states s
        WHERE {chosen} ORDER BY s.created_at DESC, s.id DESC LIMIT 1
    ), chain AS (
        SELECT chosen.*, 0 AS depth FROM chosen
        UNION ALL
        SELECT s.*, depth + 1 FROM chain JOIN public.run_states s ON s.id = chain.previous_id
        WHERE chain.encoding = 'delta'
    ) SELECT to_jsonb(chain) FROM chain ORDER BY depth"""

_OF_RUN_OR_SESSION = """
    s.is_active AND s.run_id = ANY (ARRAY(
        SELECT %(run_id)s::uuid UNION ALL
        SELECT runs.id FROM public.runs JOIN public.sessions ON sessions.id = runs.session_id
        WHERE session_key = %(session_key)s))"""

_RESUMED = "UPDATE public.run_states SET resumed_at = now() WHERE id = %(id)s AND is_active"

_CLEAR = f"""
    UPDATE public.run_states SET is_active = false WHERE id IN (
        SELECT s.id FROM public.run_states s WHERE {_OF_RUN_OR_SESSION})"""


def save(
    connection: sa.Connection, session: tuple[uuid.UUID, str] | None, values: dict[str, Any]
) -> None:
    """Make a state the active one of its run, in the open transaction; once for each id.

    Args:
        connection: Where the run's agents are written already.
        session: The id and the key of the row of its session.
        values: `id` of the state, `run_id`, `agent_id`, `current_agent_id`, `input` and `state`
            as JSON can hold them, `state_type`, `schema_version`, `sdk_version`, `turn`,
            `max_turns`.
    """
    if session is not None:
        session_items.ensure(connection, *session)
    parameters = {
        **values,
        "session_key": None if session is None else session[1],
        "input": json.dumps(values["input"]),
        "state": json.dumps(values["state"]),
    }
    connection.exec_driver_sql(_RUN, parameters)
    if connection.exec_driver_sql(_LOCK, parameters).scalar_one():
        # An earlier execution of the caller saved it, and others may have followed.
        return
    for statement in (_SUPERSEDE, _STATE, _FOLLOW):
        connection.exec_driver_sql(statement, parameters)


def active(
    connection: sa.Connection, run_id: uuid.UUID, session_key: str | None
) -> list[dict[str, Any]]:
    """The newest active state of a run, or of any run of a session; and what it is a change of."""
    sql = _CHAIN.replace("{chosen}", _OF_RUN_OR_SESSION)
    return _rows(connection, sql, {"run_id": run_id, "session_key": session_key})


def one(connection: sa.Connection, state_id: uuid.UUID) -> list[dict[str, Any]]:
    """A state, active or not, and what it is a change of."""
    return _rows(connection, _CHAIN.replace("{chosen}", "s.id = %(id)s"), {"id": state_id})


def _rows(connection: sa.Connection, sql: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    return list(connection.exec_driver_sql(sql, values).scalars())


def resumed(connection: sa.Connection, state_id: uuid.UUID) -> bool:
    """Note that a state was loaded, if it is still the active one; whether it is."""
    return connection.exec_driver_sql(_RESUMED, {"id": state_id}).rowcount == 1


def clear(connection: sa.Connection, run_id: uuid.UUID, session_key: str | None) -> None:
    """Leave a run, or every run of a session, without an active state."""
    connection.exec_driver_sql(_CLEAR, {"run_id": run_id, "session_key": session_key})
