"""What the schema promises, shown by real rows: delete policies and constraints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from timestep.store.tables import metadata


class Rows:
    """Makes rows that hold the least a table accepts."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection

    def add(self, table: str, **values: Any) -> UUID:
        identity = uuid4()
        inserted = metadata.tables[f"public.{table}"].insert()
        self.connection.execute(inserted.values(id=identity, **values))
        return identity

    def link(self, table: str, **values: Any) -> None:
        self.connection.execute(metadata.tables[f"public.{table}"].insert().values(**values))

    def agent(self, **values: Any) -> UUID:
        return self.add("agents", name=str(uuid4()), instructions_type="none", **values)

    def run(self, **values: Any) -> UUID:
        identity = uuid4()
        row: dict[str, Any] = {
            "id": identity,
            "root_run_id": identity,
            "agent_id": values.pop("agent_id", None) or self.agent(),
            "status": "running",
            "input": [],
            "sdk_version": "0",
        }
        self.connection.execute(metadata.tables["public.runs"].insert().values(row | values))
        return identity

    def tool_call(self, run: UUID, **values: Any) -> UUID:
        row = {"turn": 1, "call_id": "c", "tool_name": "t", "tool_type": "function"}
        return self.add("tool_calls", **{**row, "run_id": run, "status": "pending", **values})

    def state(self, run: UUID, **values: Any) -> UUID:
        row = {
            "run_id": run,
            "state_type": "checkpoint",
            "schema_version": "1",
            "sdk": "python",
            "sdk_version": "0",
            "turn": 1,
            "encoding": "whole",
            "state_data": {},
        }
        return self.add("run_states", **{**row, **values})

    def delete(self, table: str, identity: UUID) -> None:
        found = metadata.tables[f"public.{table}"]
        self.connection.execute(found.delete().where(found.c.id == identity))

    def value(self, table: str, identity: UUID, column: str) -> Any:
        found = metadata.tables[f"public.{table}"]
        query = sa.select(found.c[column]).where(found.c.id == identity)
        return self.connection.execute(query).scalar_one()

    def count(self, table: str) -> int:
        query = sa.select(sa.func.count()).select_from(metadata.tables[f"public.{table}"])
        return int(self.connection.execute(query).scalar_one())


@pytest.fixture
def rows(engine: sa.Engine) -> Iterator[Rows]:
    with engine.connect() as connection:
        yield Rows(connection)


def _violated(caught: pytest.ExceptionInfo[IntegrityError]) -> str | None:
    name: str | None = getattr(caught.value.orig, "diag").constraint_name  # noqa: B009
    return name


def test_an_agent_that_has_runs_cannot_be_deleted(rows: Rows) -> None:
    agent = rows.agent()
    run = rows.run(agent_id=agent)

    with pytest.raises(IntegrityError) as caught:
        rows.delete("agents", agent)
    assert _violated(caught) == "runs_agent_id_fkey"

    rows.delete("runs", run)
    rows.delete("agents", agent)
    assert rows.count("agents") == 0


def test_an_agent_outlives_its_model_settings(rows: Rows) -> None:
    settings = rows.add("model_settings")
    agent = rows.agent(model_settings_id=settings)

    rows.delete("model_settings", settings)

    assert rows.value("agents", agent, "model_settings_id") is None


def test_links_go_with_an_agent_and_what_they_link_stays(rows: Rows) -> None:
    agent, target = rows.agent(), rows.agent()
    tool = rows.add("tools", name="t", type="function", needs_approval="never")
    config = rows.add("handoff_configs", tool_name="t", target_name="a", is_enabled="always")
    guardrail = rows.add("guardrails", name="g", type="input")
    mcp_server = rows.add("mcp_servers", name="m", transport="stdio")
    rows.link("agent_tools", agent_id=agent, tool_id=tool)
    rows.link("agent_guardrails", agent_id=agent, guardrail_id=guardrail)
    rows.link("agent_mcp_servers", agent_id=agent, mcp_server_id=mcp_server)
    handoff = {"handoff_config_id": config, "target_agent_id": target}
    rows.add("agent_handoffs", agent_id=agent, **handoff)

    rows.delete("agents", agent)

    for table in ("agent_tools", "agent_guardrails", "agent_mcp_servers", "agent_handoffs"):
        assert rows.count(table) == 0, table
    for table in ("tools", "guardrails", "mcp_servers", "handoff_configs", "agents"):
        assert rows.count(table) == 1, table


def test_links_go_with_a_tool_and_with_a_handoffs_target(rows: Rows) -> None:
    agent, target = rows.agent(), rows.agent()
    tool = rows.add("tools", name="t", type="function", needs_approval="never")
    config = rows.add("handoff_configs", tool_name="t", target_name="a", is_enabled="always")
    rows.link("agent_tools", agent_id=agent, tool_id=tool)
    handoff = {"handoff_config_id": config, "target_agent_id": target}
    rows.add("agent_handoffs", agent_id=agent, **handoff)

    rows.delete("tools", tool)
    rows.delete("agents", target)

    assert rows.count("agent_tools") == rows.count("agent_handoffs") == 0
    assert rows.count("agents") == 1


def test_a_run_outlives_its_session_whose_items_go(rows: Rows) -> None:
    session = rows.add("sessions", session_key="s")
    run = rows.run(session_id=session)
    item = {"position": 0, "added_revision": 1, "item_data": {}}
    rows.add("session_items", session_id=session, run_id=run, **item)

    rows.delete("sessions", session)

    assert rows.value("runs", run, "session_id") is None
    assert rows.count("session_items") == 0


def test_an_item_of_a_session_outlives_its_run(rows: Rows) -> None:
    session = rows.add("sessions", session_key="s")
    run = rows.run(session_id=session)
    values = {"position": 0, "added_revision": 1, "item_data": {}}
    item = rows.add("session_items", session_id=session, run_id=run, **values)

    rows.delete("runs", run)

    assert rows.value("session_items", item, "run_id") is None


def test_everything_of_a_run_goes_with_it(rows: Rows) -> None:
    run = rows.run()
    nested = rows.run(parent_run_id=run, root_run_id=run)
    response = rows.add("model_responses", run_id=run, turn=1, ordinal=1, output=[])
    call = rows.tool_call(run, model_response_id=response)
    item = {"turn": 1, "position": 0, "item_type": "tool_call_item", "item_data": {}}
    rows.add("run_items", run_id=run, tool_call_id=call, **item)
    pending = {"type": "tool_approval", "reason": "needs_approval"}
    rows.add("interruptions", run_id=run, tool_call_id=call, **pending)
    check = {"guardrail_name": "g", "type": "input"}
    rows.add("guardrail_results", run_id=run, turn=1, position=0, tripwire_triggered=False, **check)
    rows.add("tool_guardrail_results", run_id=run, tool_call_id=call, behavior="allow", **check)
    usage = rows.add("usage_metrics", run_id=run)
    rows.add("request_usage_entries", run_id=run, usage_metrics_id=usage)
    rows.state(run)
    rows.state(nested)

    rows.delete("runs", run)

    kept = {table.name for table in metadata.sorted_tables if rows.count(table.name)}
    assert kept == {"agents"}


def test_what_a_run_did_outlives_the_definitions(rows: Rows) -> None:
    run = rows.run()
    tool = rows.add("tools", name="t", type="function", needs_approval="never")
    other = rows.agent()
    call = rows.tool_call(run, tool_id=tool, agent_id=other)

    rows.delete("tools", tool)
    rows.delete("agents", other)

    assert rows.value("tool_calls", call, "tool_id") is None
    assert rows.value("tool_calls", call, "agent_id") is None


def test_a_run_has_one_active_state(rows: Rows) -> None:
    run = rows.run()
    rows.state(run)
    rows.state(run, is_active=False)
    rows.state(rows.run())

    with pytest.raises(IntegrityError) as caught:
        rows.state(run)

    assert _violated(caught) == "run_states_active_key"


@pytest.mark.parametrize("status", ["running", "completed", "failed", "interrupted", "cancelled"])
def test_a_run_has_a_status_of_these(status: str, rows: Rows) -> None:
    ended = sa.func.now() if status not in ("running", "interrupted") else None
    error = "E" if status == "failed" else None

    run = rows.run(status=status, completed_at=ended, error_type=error)

    assert rows.value("runs", run, "status") == status


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"status": "pending", "completed_at": sa.func.now()}, "runs_status_check"),
        ({"status": "completed"}, "runs_completed_at_check"),
        ({"status": "running", "completed_at": sa.func.now()}, "runs_completed_at_check"),
        ({"status": "failed", "completed_at": sa.func.now()}, "runs_error_type_check"),
    ],
)
def test_a_run_has_no_other_status(values: dict[str, Any], constraint: str, rows: Rows) -> None:
    with pytest.raises(IntegrityError) as caught:
        rows.run(**values)

    assert _violated(caught) == constraint


def test_other_checks(rows: Rows) -> None:
    run = rows.run()
    with pytest.raises(IntegrityError) as caught:
        rows.tool_call(run, status="running")
    assert _violated(caught) == "tool_calls_status_check"
    with pytest.raises(IntegrityError) as caught:
        rows.state(run, state_type="other")
    assert _violated(caught) == "run_states_state_type_check"
    with pytest.raises(IntegrityError) as caught:
        rows.add("interruptions", run_id=run, type="other", reason="needs_approval")
    assert _violated(caught) == "interruptions_type_check"


def test_each_index_has_a_reader(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        unread = connection.exec_driver_sql(
            """SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE c.relnamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid AND contype <> 'f')
            AND coalesce(obj_description(c.oid), '') NOT LIKE 'Read by: %%'"""
        ).scalars()
        assert list(unread) == []


def test_each_foreign_key_has_an_index(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        without = connection.exec_driver_sql(
            """SELECT conname FROM pg_constraint c
            WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND NOT EXISTS (
                SELECT FROM pg_index WHERE indrelid = conrelid AND indkey[0] = conkey[1]
                AND indpred IS NULL)"""
        ).scalars()
        assert list(without) == []


def test_hand_written_sql_gets_ids_and_times(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        row = connection.exec_driver_sql(
            "INSERT INTO sessions (session_key) VALUES ('s') RETURNING id, created_at"
        ).one()

    assert row.id.version == 4
    assert row.created_at.tzinfo is not None
