"""`Client` and `BlockingClient` do over HTTP what the Python calls do on the database."""

from __future__ import annotations

import asyncio
import datetime
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import timestep
from tests.support.conditions import until
from tests.support.host_process import Host, host, own_host
from timestep import BlockingClient, Client
from timestep.errors import (
    AlreadyEndedError,
    AlreadyStartedError,
    ChangedQuestionError,
    InvalidArgumentsError,
    InvalidInputError,
    InvalidQueryError,
    InvalidTagsError,
    RemoteError,
    UnknownEntrypointError,
    UnknownInterruptionError,
    UnknownRunError,
    UnknownSessionError,
    UnknownTokenError,
)
from timestep.operations.access.audit import list_audit
from timestep.operations.queries.agents import handoff_graph, list_agents
from timestep.operations.queries.runs import list_tool_calls
from timestep.operations.queries.usage import usage_report

__all__ = ["host", "own_host"]


@pytest.fixture(autouse=True)
def beside(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python calls ask the host's database; a client asks the host."""
    monkeypatch.setenv("TIMESTEP_DB_URL", host.database)
    monkeypatch.setenv("TIMESTEP_URL", host.url)


def test_reads_answer_with_the_same_records(host: Host) -> None:
    asked = host.begin("ask", target="the/moon")
    host.begin("greet", name="Ann", times=3)
    host.run_when(asked, "interrupted")
    until(lambda: host.is_parked(asked))

    async def work() -> None:
        async with Client() as client:
            assert await client.get_run(asked) == (run := await timestep.get_run(asked))
            page = await client.page_of_runs(limit=2)
            assert page == await timestep.list_runs(limit=2)
            runs = [one async for one in client.list_runs()]
            assert runs == (await timestep.list_runs(limit=200)).items
            assert [one async for one in client.list_runs(workflow_id=asked)] == [
                one for one in runs if one.workflow_id == asked
            ]
            assert await client.list_items(asked) == (await timestep.list_items(asked)).items
            assert await client.list_tool_calls(asked) == await list_tool_calls(str(run.id))
            found = await client.interruptions(workflow_id=asked)
            assert found == await timestep.list_interruptions(workflow_id=asked)
            assert await client.agents() == await list_agents()
            since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
            for by in ("agent", "entrypoint"):
                used = await client.usage(by=by, since=since)
                assert used == await usage_report(by=by, since=since)
            entries = [one async for one in client.audit(subject=asked)]
            assert entries == (await list_audit(subject=asked)).items
            assert [one async for one in client.audit(limit=1)] == (await list_audit(limit=1)).items
            assert await client.sessions() == []
            assert await client.tokens() == []
            names = [one.name for one in await client.workflows()]
            assert names == ["ask", "fail", "greet", "plain", "work"]

    asyncio.run(work())


def test_a_workflow_is_started_decided_followed_forked_and_cancelled(host: Host) -> None:
    async def work() -> None:
        async with Client() as client:
            tags = {"to": "mars"}
            with pytest.raises(InvalidTagsError) as misnamed:
                await client.start("ask", {"target": "mars"}, tags={"to:": "mars"})
            assert misnamed.value.fields[0]["pointer"] == "/to:"
            with pytest.raises(InvalidInputError) as misfit:
                await client.start("ask", {"target": 3})
            assert misfit.value.fields[0]["pointer"] == "/target"
            started = await client.start(
                "ask", {"target": "mars"}, workflow_id="to/mars?", tags=tags
            )
            assert started == "to/mars?"
            assert await client.start("ask", {"target": "mars"}, workflow_id=started) == started
            with pytest.raises(AlreadyStartedError):
                await client.start("ask", {"target": "venus"}, workflow_id=started)
            reading = client.events(started)
            seen = [await anext(reading)]
            while seen[-1].type != "question.asked" and seen[-1].type != "run.waiting":
                seen.append(await anext(reading))
            (question,) = await client.interruptions(workflow_id=started)
            with pytest.raises(ChangedQuestionError) as changed:
                await client.resume(started, approve="all", expect={question.id: "0" * 16})
            assert changed.value.changes[0]["hash"] == question.hash
            with pytest.raises(InvalidArgumentsError) as unfit:
                await client.resume(started, edit={question.id: {"target": 3}})
            assert unfit.value.fields[0]["pointer"] == f"/{question.id}/target"
            result = await client.resume(
                started,
                edit={question.id: {"target": "phobos"}},
                expect={question.id: question.hash},
            )
            assert (result.resolved, result.pending) == ([question.id], [])
            seen += [one async for one in reading]
            assert seen[-1].type == "run.completed"
            told = [one async for one in timestep.follow(started)]
            assert [one async for one in client.events(started)] == told
            after = told[2].cursor
            assert [one async for one in client.events(started, after=after)] == told[3:]
            (found,) = [one async for one in client.list_runs(tag=["to:mars", "to"])]
            assert (found.workflow_id, found.tags) == (started, tags)
            assert await client.graph("ask") == await handoff_graph("ask")
            assert await client.traceback(started) is None
            assert (await client.get_run(started)).final_output == "[offline model] launched phobos"
            (decided,) = await client.interruptions(workflow_id=started, resolved=True)
            assert decided.resolution_arguments == {"target": "phobos"}
            forked = await client.fork(started, turn=1, new_workflow_id="again")
            assert forked == "again"
            await client.cancel(forked)
            await client.cancel(forked)
            until(lambda: host.run(forked)["status"] == "cancelled")
            with pytest.raises(AlreadyEndedError):
                await client.cancel(started)

    asyncio.run(work())


def test_what_cannot_be_done_raises_what_the_python_calls_raise() -> None:
    with BlockingClient() as client:
        for name in ("nobody", ".", "..", "a/b", "%2F", "ä?#"):
            with pytest.raises(UnknownRunError) as unknown:
                client.get_run(name)
            with pytest.raises(UnknownRunError) as same:
                asyncio.run(timestep.get_run(name))
            assert str(unknown.value) == str(same.value)
        with pytest.raises(UnknownEntrypointError):
            client.start("nothing")
        with pytest.raises(InvalidInputError):
            client.start("greet", {"nobody": 1})
        with pytest.raises(InvalidInputError):
            client.start("greet", {"name": "Ann"}, delay=-1)
        with pytest.raises(InvalidQueryError):
            client.page_of_runs(cursor="x")
        with pytest.raises(UnknownInterruptionError):
            client.resume("nobody", approve=["x"])
        with pytest.raises(UnknownSessionError):
            client.session_items("nobody")
        with pytest.raises(UnknownTokenError):
            client.revoke_token("nobody")
        with pytest.raises(UnknownRunError):
            list(client.events("nobody"))
        with pytest.raises(RemoteError) as refused:
            client.create_token("ann", role="viewer")
        assert refused.value.status == 403


def test_blocking_calls_wait_and_iterate(host: Host) -> None:
    client = BlockingClient(host.url)
    assert repr(client) == f"BlockingClient({host.url!r})"
    workflow_id = client.start("greet", {"name": "Bob"})
    kinds = [one.type for one in client.events(workflow_id)]
    assert kinds[-1] == "run.completed"
    assert client.get_run(workflow_id).final_output == "[offline model] hello Bob"
    assert next(iter(client.list_runs(workflow_id=workflow_id))).workflow_id == workflow_id
    # One that is left in the middle leaves nothing behind.
    for one in client.events(workflow_id):
        assert one.run_id
        break
    client.close()
    client.close()

    async def inside() -> None:
        with BlockingClient() as other:
            assert other.get_run(workflow_id).status == "completed"

    asyncio.run(inside())


def test_a_client_imports_neither_the_sdk_nor_dbos() -> None:
    code = "import sys, timestep; timestep.Client; timestep.BlockingClient; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"agents", "dbos", "openai", "mcp", "pydantic", "sqlalchemy", "psycopg", "fastapi"}
    assert heavy & set(done.stdout.split()) == set()


def test_events_go_on_through_the_hosts_death(own_host: Host, tmp_path: Path) -> None:
    host = own_host
    with socket.create_server(("127.0.0.1", 0)) as free:
        host.environment["TIMESTEP_PORT"] = str(free.getsockname()[1])
    host.start()

    async def work() -> list[timestep.RunEvent]:
        async with Client(host.url) as client:
            started = await client.start("work", {"folder": str(tmp_path), "stream": True})
            seen = []
            async for one in client.events(started):
                seen.append(one)
                if one.type == "tool_call_output_item" and not (tmp_path / "go").exists():
                    await asyncio.to_thread(host.signal, signal.SIGKILL)
                    await asyncio.to_thread(host.ended)
                    (tmp_path / "go").touch()
                    await asyncio.to_thread(host.start)
            assert [one async for one in client.events(started, after=seen[-1].cursor)] == []
            return seen

    seen = asyncio.run(work())
    cursors = [one.cursor for one in seen]
    assert len(set(cursors)) == len(cursors)
    assert (seen[0].type, seen[-1].type) == ("run.started", "run.completed")
    assert any("all done" in str(one.data) for one in seen)
