"""Starting, finding and cancelling workflows from Python."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from agents import Agent
from agents.testing import ScriptedModel, assistant_message
from dbos import DBOS, SetWorkflowID, WorkflowSerializationFormat
from pydantic import BaseModel, PrivateAttr

import timestep
from tests.support.dbos_app import App
from timestep.errors import (
    AlreadyEndedError,
    AlreadyStartedError,
    InvalidInputError,
    InvalidQueryError,
    UnknownEntrypointError,
    UnknownInterruptionError,
    UnknownRunError,
)


@DBOS.workflow()
async def add(one: int, two: int = 2) -> int:
    await DBOS.sleep_async(0.05)
    return one + two


@DBOS.workflow()
def multiply(one: int, two: int = 2) -> int:
    return one * two


@DBOS.workflow()
async def sleep() -> None:
    await DBOS.sleep_async(3600)


@DBOS.workflow()
async def delegate(one: int) -> str:
    return await timestep.start_run(add, {"one": one})


@DBOS.workflow()
async def talk(session: str, words: str) -> str:
    agent = Agent("Talker", model=ScriptedModel([[assistant_message(f"so: {words}")]]))
    result = await timestep.run_agent(agent, words, timestep.DatabaseSession(session))
    return str(result.final_output)


@DBOS.workflow(serialization_type=WorkflowSerializationFormat.PORTABLE)
async def portable(place: Path) -> None: ...


class Place(BaseModel):
    x: int
    _since: object = PrivateAttr(default_factory=object)


@DBOS.workflow()
async def goes(place: Place) -> None: ...


def start(entrypoint: Any, given: dict[str, Any], **options: Any) -> str:
    return asyncio.run(timestep.start_run(entrypoint, given, **options))


def output(workflow_id: str) -> Any:
    return DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02)


def test_a_workflow_outlives_the_loop_that_started_it(app: App) -> None:
    assert output(start(add, {"one": 1})) == 3
    assert output(start(multiply, {"one": 3, "two": 4})) == 12


def test_a_workflow_starts_another(app: App) -> None:
    assert output(output(start(delegate, {"one": 1}))) == 3


def test_the_same_id_is_the_same_workflow(app: App) -> None:
    assert start(add, {"one": 1}, workflow_id="w") == "w"
    assert start(add, {"one": 1, "two": 2}, workflow_id="w") == "w"
    with pytest.raises(AlreadyStartedError, match="with another input"):
        start(add, {"one": 2}, workflow_id="w")
    with pytest.raises(AlreadyStartedError, match="as 'add', not 'multiply'"):
        start(multiply, {"one": 1}, workflow_id="w")
    assert output("w") == 3


def test_what_cannot_be_started_is_told(app: App) -> None:
    with pytest.raises(InvalidInputError, match="'one' is missing"):
        start(add, {})
    with pytest.raises(UnknownEntrypointError, match="'start' is not a workflow"):
        start(start, {})
    with pytest.raises(InvalidInputError, match="there is no queue 'timestep-tests'"):
        start(add, {"one": 1}, priority=1)
    with pytest.raises(InvalidInputError, match="has serialization_type=PORTABLE, and Object of"):
        start(portable, {"place": "a"})
    with pytest.raises(
        InvalidInputError, match=r"the argument place._since is of the class object, which"
    ):
        start(goes, {"place": {"x": 1}})


def test_a_queue_of_the_application_s_own_is_used(app: App) -> None:
    DBOS.register_queue("own", polling_interval_sec=0.05)
    assert output(start(add, {"one": 5}, queue="own", priority=1)) == 7


def test_a_workflow_has_a_timeout(app: App) -> None:
    workflow_id = start(sleep, {}, timeout=0.1)
    app.until(lambda: asyncio.run(timestep.get_run(workflow_id)).status == "cancelled")


def test_a_workflow_is_cancelled(app: App) -> None:
    workflow_id = start(sleep, {})
    assert asyncio.run(timestep.get_run(workflow_id)).status == "running"
    asyncio.run(timestep.cancel_run(workflow_id))
    run = asyncio.run(timestep.get_run(workflow_id))
    assert (run.status, run.id) == ("cancelled", None)
    asyncio.run(timestep.cancel_run(workflow_id))  # Again, without harm.
    with pytest.raises(UnknownRunError, match="there is no workflow 'nope'"):
        asyncio.run(timestep.cancel_run("nope"))


def test_a_workflow_is_cancelled_as_dbos_cancels_one(app: App) -> None:
    """Wherever it is: under way, in a queue, delayed, given up; and not where it is over."""
    statuses = (
        "PENDING",
        "ENQUEUED",
        "DELAYED",
        "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
        "SUCCESS",
        "ERROR",
    )
    output(start(add, {"one": 1}, workflow_id="w"))
    found = {}
    for status in statuses:
        cancelled = []
        for cancel in (DBOS.cancel_workflow, lambda id_: asyncio.run(timestep.cancel_run(id_))):
            app.execute(
                "UPDATE dbos.workflow_status SET status = %s, queue_name = 'q', owner_xid = 'x', "
                "deduplication_id = 'd', started_at_epoch_ms = 1, updated_at = 1, "
                "completed_at = 1, delay_until_epoch_ms = 9",
                (status,),
            )
            with contextlib.suppress(AlreadyEndedError):
                cancel("w")
            ((row,),) = app.execute("SELECT to_jsonb(w) FROM dbos.workflow_status w").fetchall()
            assert row["updated_at"] == row["completed_at"]
            assert (row["completed_at"] == 1) == (status in ("SUCCESS", "ERROR"))
            cancelled.append({**row, "updated_at": None, "completed_at": None})
        assert cancelled[0] == cancelled[1]
        found[status] = cancelled[1]["status"]
    assert found == {**dict.fromkeys(statuses, "CANCELLED"), "SUCCESS": "SUCCESS", "ERROR": "ERROR"}


def test_an_ended_workflow_cannot_be_cancelled(app: App) -> None:
    ended = start(add, {"one": 1}, workflow_id="done")
    output(ended)
    with pytest.raises(AlreadyEndedError, match="'done' cannot be cancelled: it has completed"):
        asyncio.run(timestep.cancel_run(ended))
    assert output(ended) == 3
    with pytest.raises(ValueError, match="out of tea"):
        app.run(_failing, "wrong")
    with pytest.raises(AlreadyEndedError, match="it has failed already"):
        asyncio.run(timestep.cancel_run("wrong"))


async def _failing() -> str:
    raise ValueError("out of tea")


def test_runs_are_found_by_what_they_belong_to(app: App) -> None:
    for session, words in (("s1", "hello"), ("s2", "bye"), ("s1", "again")):
        output(start(talk, {"session": session, "words": words}, workflow_id=words))
    page = asyncio.run(timestep.list_runs(session_id="s1"))
    assert [run.workflow_id for run in page.items] == ["again", "hello"]
    assert {run.session_id for run in page.items} == {"s1"}
    assert len(asyncio.run(timestep.list_runs(agent="Talker")).items) == 3
    (run,) = asyncio.run(timestep.list_runs(workflow_id="bye")).items
    assert run.final_output == "so: bye"
    assert asyncio.run(timestep.list_runs(session_id="none")).items == []

    found = asyncio.run(timestep.get_run("again"))
    assert found.id == page.items[0].id
    assert found.workflow is not None
    assert found.workflow.output == "so: again"
    assert found.id is not None
    assert asyncio.run(timestep.get_run(found.id)) == found
    # No other workflow may be named as a run is; one of DBOS's own is not taken for it.
    given = {"session": "s1", "words": "no"}
    with pytest.raises(InvalidInputError, match=f"'{found.id}' is the id of a run"):
        start(talk, given, workflow_id=found.id)
    audit = app.execute("SELECT count(*) FROM timestep.audit WHERE act = 'start'").fetchone()
    assert audit == (3,)
    with SetWorkflowID(found.id):
        DBOS.start_workflow(sleep)
    assert start(sleep, {}, workflow_id=found.id) == found.id
    with pytest.raises(UnknownInterruptionError):
        asyncio.run(timestep.resume_workflow(found.id, approve=["x"]))
    assert asyncio.run(timestep.cancel_run(found.id)) == found.id
    (item,) = asyncio.run(timestep.list_items(found.id)).items
    assert (item.run_id, item.agent_name, item.turn) == (found.id, "Talker", 1)


def test_what_is_not_there_is_told(app: App) -> None:
    with pytest.raises(UnknownRunError, match="there is no run and no workflow 'nope'"):
        asyncio.run(timestep.get_run("nope"))
    with pytest.raises(UnknownRunError):
        asyncio.run(timestep.list_items("0d7b4b53-0000-4000-8000-000000000000"))
    with pytest.raises(InvalidQueryError, match="status 'odd' is not one of running, completed,"):
        asyncio.run(timestep.list_runs(status="odd"))
