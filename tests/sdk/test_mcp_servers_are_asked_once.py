"""MCP servers: lists and calls are recorded, and a replay needs no server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunContextWrapper, function_tool
from agents.exceptions import MCPToolCancellationError
from agents.mcp import (
    MCPServer,
    MCPServerSse,
    MCPServerStdio,
    MCPServerStreamableHttp,
    ToolFilterContext,
    create_static_tool_filter,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from mcp.shared.exceptions import MCPError
from mcp.types import CONNECTION_CLOSED, CallToolResult, TextContent, Tool

import timestep
from tests.support import forked_processes
from tests.support.dbos_app import BODIES, App
from tests.support.forked_processes import Forked
from timestep.runtime import process_state
from timestep.sdk.mcp import shared_connections

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.touch()
    return path


def asked(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if not line.startswith("start")]


def starts(log: Path) -> int:
    return sum(line.startswith("start") for line in log.read_text().splitlines())


def stdio(log: Path, **options: Any) -> MCPServerStdio:
    params: Any = {
        **forked_processes.command("-m", "tests.support.mcp_server", str(log), "stdio"),
        "env": {"API_KEY": "s3cret"},
        "cwd": ROOT,
    }
    return MCPServerStdio(params, name="weather", client_session_timeout_seconds=30, **options)


class Fake(MCPServer):
    """A server in this process that tells what was asked of it, and by which task."""

    def __init__(self, name: str = "fake", **options: Any) -> None:
        super().__init__(**options)
        self._name = name
        self.session: object = None
        self.tasks: list[tuple[str, Any]] = []
        self.asked: list[Any] = []
        self.sessions: list[object] = []
        self.tools = ["add", "drop"]
        self.loop: Any = None
        self.is_clean = asyncio.Event()
        self.breaks: Callable[[str], BaseException | None] = lambda _: None

    @property
    def name(self) -> str:
        return self._name

    async def connect(self) -> None:
        self.tasks.append(("connect", asyncio.current_task()))
        await asyncio.sleep(0)
        self.session, self.loop = object(), asyncio.get_running_loop()

    async def cleanup(self) -> None:
        self.tasks.append(("cleanup", asyncio.current_task()))
        await asyncio.sleep(0)
        self.session = None
        self.is_clean.set()

    async def list_tools(self, run_context: Any = None, agent: Any = None) -> list[Tool]:
        self._ask("list")
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
        return [Tool.model_validate({"name": n, "inputSchema": schema}) for n in self.tools]

    async def call_tool(
        self, tool_name: str, arguments: Any, meta: dict[str, Any] | None = None
    ) -> CallToolResult:
        self._ask(tool_name, arguments, meta)
        return CallToolResult.model_validate(
            {
                "content": [TextContent(type="text", text=f"{tool_name} done")],
                "structuredContent": {"z": 1, "a": [2]},
            }
        )

    def _ask(self, *what: Any) -> None:
        assert self.session is not None
        assert self.loop is asyncio.get_running_loop()
        self.asked.append(what)
        self.sessions.append(self.session)
        if (error := self.breaks(what[0])) is not None:
            raise error

    async def list_prompts(self) -> Any:
        raise NotImplementedError

    async def get_prompt(self, name: str, arguments: Any = None) -> Any:
        raise NotImplementedError


def caller(*turns: Any, **options: Any) -> Agent[Any]:
    """An agent that calls tools, a list of them each turn, and then answers."""
    script = [
        *([function_call(*call, call_id=f"c{t}{n}") for n, call in enumerate(turn)]
          for t, turn in enumerate(turns)),
        [assistant_message("done")],
    ]  # fmt: skip
    return Agent(name="A", model=ScriptedModel(script), **options)


async def items(agent: Agent[Any], **options: Any) -> str:
    return json.dumps((await timestep.DurableRunner.run(agent, "hi", **options)).to_input_list())


def replayed_alike(app: App, body: Any, workflow_id: str = "w") -> str:
    """The answer of a workflow, that is the same when it is executed again from its record."""
    answer = app.run(body, workflow_id=workflow_id)
    everything, steps = app.everything(), app.steps(workflow_id)
    assert app.replay(workflow_id) == answer
    assert app.everything() == everything
    assert app.steps(workflow_id) == steps
    return answer


def test_a_stdio_server_is_asked_once_and_not_needed_by_a_replay(app: App, log: Path) -> None:
    agent = caller(
        [("forecast", {"city": "Oslo"}), ("measure", {"city": "Oslo"}), ("picture", {})],
        [("storm", {})],
        mcp_servers=[stdio(log)],
    )

    async def body() -> str:
        return await items(agent)

    answer = replayed_alike(app, body)
    assert "Oslo is sunny" in answer
    assert '\\"zone\\": 1' in answer
    assert "data:image/png;base64," in answer
    assert "no shelter" in answer
    assert asked(log)[0] == "list"
    assert sorted(asked(log)) == sorted(
        ["list"] * 3 + ["call forecast Oslo", "call measure Oslo", "call picture", "call storm"]
    )
    assert starts(log) == 1
    assert app.steps("w") == [
        "mcp list_tools: weather",
        "turn 1: A",
        "tool: forecast (c00)",
        "tool: measure (c01)",
        "tool: picture (c02)",
        "mcp list_tools: weather",
        "turn 2: A",
        "tool: storm (c10)",
        "mcp list_tools: weather",
        "turn 3: A",
    ]
    (row,) = app.rows("mcp_servers")
    assert (row["name"], row["transport"]) == ("weather", "stdio")
    assert row["config"] == {"class": "MCPServerStdio"}
    assert app.rows("agent_mcp_servers")[0]["mcp_server_id"] == row["id"]
    assert "s3cret" not in json.dumps(app.everything())
    assert {call["status"] for call in app.rows("tool_calls")} == {"executed"}


def test_two_runs_of_a_server_that_caches_record_the_same_steps(app: App, log: Path) -> None:
    server = stdio(log, cache_tools_list=True)

    async def body() -> str:
        first = await items(caller(mcp_servers=[server]))
        return first + await items(caller(mcp_servers=[server]))

    replayed_alike(app, body)
    assert asked(log) == ["list"]
    assert app.steps("w") == ["mcp list_tools: weather", "turn 1: A"] * 2


@contextlib.contextmanager
def served(log: Path, transport: str, port: int) -> Iterator[None]:
    process = Forked("-m", "tests.support.mcp_server", str(log), transport, str(port))
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("kind", "transport", "path"),
    [(MCPServerSse, "sse", "/sse"), (MCPServerStreamableHttp, "streamable-http", "/mcp")],
)
def test_http_servers_are_reconnected_and_not_needed_by_a_replay(
    app: App, log: Path, kind: Any, transport: str, path: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://user:s3cret@127.0.0.1:{port}{path}?token=s3cret"
    server = kind({"url": url, "headers": {"Authorization": "s3cret"}})
    call = [("forecast", {"city": "Oslo"})]

    async def body() -> str:
        with served(log, transport, port):
            first = await items(caller(call, mcp_servers=[server]))
        with served(log, transport, port):
            return first + await items(caller(call, mcp_servers=[server]))

    answer = app.run(body, workflow_id="w")
    assert answer.count("Oslo is sunny") == 2
    assert asked(log) == ["list", "call forecast Oslo", "list"] * 2

    async def offline() -> str:
        first = await items(caller(call, mcp_servers=[server]))
        return first + await items(caller(call, mcp_servers=[server]))

    BODIES["w"] = offline
    everything = app.everything()
    assert app.replay("w") == answer
    assert app.everything() == everything
    assert "s3cret" not in json.dumps(everything) + str(app.steps("w"))
    (row,) = app.rows("mcp_servers")
    assert row["name"] == f"{transport.replace('-', '_')}: http://127.0.0.1:{port}{path}"
    assert row["transport"] == transport.replace("-", "_")


def test_a_broken_connection_is_made_again_for_the_next_step(app: App, log: Path) -> None:
    agent = caller(
        [("crash", {})], [("forecast", {"city": "Rome"})], mcp_servers=[stdio(log)]
    )  # fmt: skip

    async def body() -> str:
        return await items(agent)

    answer = replayed_alike(app, body)
    assert "An error occurred while running the tool" in answer
    assert "Rome is sunny" in answer
    assert asked(log) == ["list", "call crash", "list", "call forecast Rome", "list"]
    assert starts(log) == 2


def test_only_a_list_is_asked_again_when_the_connection_breaks(app: App) -> None:
    server = Fake()
    lost = [MCPError(CONNECTION_CLOSED, "gone") for _ in range(2)]
    server.breaks = lambda what: (
        lost.pop() if what == "add" or (what == "list" and len(lost) == 2) else None
    )

    async def body() -> str:
        return await items(caller([("add", {"n": 1})], mcp_servers=[server]))

    replayed_alike(app, body)
    assert [what[0] for what in server.asked] == ["list", "list", "add", "list"]
    first, again, called, last = server.sessions
    assert first is not again
    assert again is called
    assert called is not last
    assert [what for what, _ in server.tasks] == ["connect", "cleanup"] * 3


def test_a_server_that_cannot_be_connected_fails_the_run_alike(app: App) -> None:
    server = MCPServerStdio({"command": "/no/such/command"}, name="gone")
    agent = caller(mcp_servers=[server])

    async def body() -> str:
        with pytest.raises(FileNotFoundError) as caught:
            await items(agent)
        return str(caught.value)

    assert "/no/such/command" in replayed_alike(app, body)
    (run,) = app.rows("runs")
    assert run["status"] == "failed"


def test_a_servers_error_is_raised_as_it_was(app: App) -> None:
    server = Fake()
    server.breaks = lambda what: MCPError(-32603, "no disk") if what == "list" else None

    async def body() -> str:
        with pytest.raises(MCPError) as caught:
            await items(caller(mcp_servers=[server]))
        return f"{caught.value} {caught.value.code}"

    assert replayed_alike(app, body) == "no disk -32603"
    assert server.asked == [("list",)]


@pytest.mark.parametrize("answer", ["handled", "raised"])
def test_a_call_that_the_server_cancels(app: App, answer: str) -> None:
    options: dict[str, Any] = {} if answer == "handled" else {"failure_error_function": None}
    server = Fake(**options)
    server.breaks = lambda what: asyncio.CancelledError() if what == "add" else None

    async def body() -> str:
        try:
            return await items(caller([("add", {"n": 1})], mcp_servers=[server]))
        except Exception as error:  # noqa: BLE001  # what it is, is what is looked at
            return f"{type(error).__name__} {type(error.__cause__).__name__} {error}"

    told = replayed_alike(app, body)
    if answer == "handled":
        assert "An error occurred while running the tool" in told
    else:
        assert MCPToolCancellationError.__name__ in told
    assert [what[0] for what in server.asked].count("add") == 1


def test_what_a_server_is_told_to_do_goes_on_working(app: App) -> None:
    """Filters, prefixes, strict schemas, metadata, structured content, error functions."""
    seen: list[Any] = []

    def allowed(context: ToolFilterContext, tool: Any) -> bool:
        seen.append((context.agent.name, context.run_context.context, tool.name))
        return bool(tool.name == context.run_context.context)

    filtered = Filtered(
        "one",
        use_structured_content=True,
        tool_meta_resolver=lambda _: {"k": 1},
        custom_data_extractor=lambda context: {"from": context.server_name, "a": 1},
    )
    filtered.filter = allowed
    failing = Fake("two", failure_error_function=lambda _, error: f"sorry: {error}")
    failing.breaks = lambda what: RuntimeError("full") if what == "drop" else None
    agent = caller(
        [("mcp_one__add", {"n": 1}), ("mcp_two__drop", {"n": 2})],
        mcp_servers=[filtered, failing],
        mcp_config={"include_server_in_tool_names": True, "convert_schemas_to_strict": True},
    )
    model: Any = agent.model

    async def body() -> str:
        result = await timestep.DurableRunner.run(agent, "hi", context="add")
        told = [getattr(item, "custom_data", None) for item in result.new_items]
        assert [data for data in told if data] == [{"from": "one", "a": 1}]
        return json.dumps(result.to_input_list())

    answer = replayed_alike(app, body)
    assert "sorry: Error invoking MCP tool mcp_two__drop" in answer
    assert r"{\"z\": 1, \"a\": [2]}" in json.dumps(json.loads(answer)[3]["output"])
    assert filtered.asked == [("list",), ("add", {"n": 1}, {"k": 1}), ("list",)]
    assert [tool.name for tool in model.calls[0].tools] == [
        "mcp_one__add",
        "mcp_two__add",
        "mcp_two__drop",
    ]
    assert all(tool.strict_json_schema for tool in model.calls[0].tools)
    # Not asked by the replay: what was left in is what was recorded.
    assert seen == [("A", "add", "add"), ("A", "add", "drop")] * 2
    assert app.steps("w")[:2] == ["mcp list_tools: one", "mcp list_tools: two"]


class Filtered(Fake):
    filter: Any = None

    async def list_tools(self, run_context: Any = None, agent: Any = None) -> list[Tool]:
        context = ToolFilterContext(run_context, agent, self.name)
        return [t for t in await super().list_tools() if self.filter(context, t)]


def test_a_static_filter_and_an_approval_for_one_tool(app: App, log: Path) -> None:
    server = stdio(
        log,
        tool_filter=create_static_tool_filter(allowed_tool_names=["forecast", "measure"]),
        require_approval={"forecast": "always"},
    )
    agent = caller(
        [("forecast", {"city": "Oslo"}), ("measure", {"city": "Rome"})], mcp_servers=[server]
    )

    async def body() -> str:
        result = await timestep.run_agent(agent, "hi")
        return json.dumps(result.to_input_list())

    def approve() -> None:
        app.until(lambda: app.rows("interruptions"))
        assert "call forecast Oslo" not in asked(log)
        asyncio.run(timestep.resume_workflow("w", approve=["c00"], by="tester"))

    person = threading.Thread(target=approve)
    person.start()
    answer = app.run(body, workflow_id="w")
    person.join()
    assert "Oslo is sunny" in answer
    everything, before = app.everything(), asked(log)
    assert app.replay("w") == answer
    assert app.everything() == everything
    assert asked(log) == before
    assert before.count("call forecast Oslo") == before.count("call measure Rome") == 1
    (question,) = app.rows("interruptions")
    assert (question["tool_name"], question["resolution_action"]) == ("forecast", "approve")
    model: Any = agent.model
    assert [tool.name for tool in model.calls[0].tools] == ["forecast", "measure"]


def test_an_agent_as_a_tool_has_servers_of_its_own(app: App) -> None:
    inner, outer = Fake("inner"), Fake("outer")
    expert = caller([("add", {"n": 1})], mcp_servers=[inner])
    agent = caller(
        [("expert", {"input": "one"}), ("drop", {"n": 2})],
        tools=[expert.as_tool("expert", "Knows.")],
        mcp_servers=[outer],
    )

    async def body() -> str:
        return await items(agent)

    replayed_alike(app, body)
    assert inner.asked == [("list",), ("add", {"n": 1}, None), ("list",)]
    assert outer.asked == [("list",), ("drop", {"n": 2}, None), ("list",)]
    assert app.steps("w").count("mcp list_tools: inner") == 0


def test_a_tools_body_may_ask_a_server_for_itself(app: App) -> None:
    server = Fake()

    @function_tool
    async def inspect(context: RunContextWrapper[Any]) -> str:
        found = await Agent(name="B", mcp_servers=[server]).get_mcp_tools(context)
        return ", ".join(tool.name for tool in found)

    async def body() -> str:
        return await items(caller([("inspect", {})], tools=[inspect]))

    assert "add, drop" in replayed_alike(app, body)
    assert server.asked == [("list",)]
    assert "mcp list_tools: fake" not in app.steps("w")


def test_parallel_runs_share_a_connection_that_closes_after_the_last(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_connections, "LINGER", 0)
    runs_that_use_it = asyncio.Barrier(5)

    class Together(Fake):
        """Answers the calls of the five runs together: none ends before each of them uses it."""

        async def call_tool(self, *call: Any, **named: Any) -> CallToolResult:
            await runs_that_use_it.wait()
            return await super().call_tool(*call, **named)

    server = Together()

    async def body() -> str:
        runs = (items(caller([("add", {"n": 1})], mcp_servers=[server])) for _ in range(5))
        await asyncio.gather(*runs)
        # It may be closed by now: the last of them has ended.
        assert [what for what, _ in server.tasks].count("connect") == 1
        await server.is_clean.wait()
        await items(caller(mcp_servers=[server]))
        return "done"

    app.run(body)
    assert [what for what, _ in server.tasks] == ["connect", "cleanup"] * 2
    for (_, connecting), (_, cleaning) in zip(server.tasks[::2], server.tasks[1::2], strict=True):
        assert connecting is cleaning
    assert server not in process_state.of(shared_connections.SharedConnections)


def test_a_connection_that_is_used_outlives_another_run(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_connections, "LINGER", 0)
    server = Fake()

    @function_tool
    async def other() -> str:
        await asyncio.gather(asyncio.create_task(once()))
        await asyncio.sleep(0.01)
        return "ok"

    async def once() -> None:
        user = uuid.uuid4()
        await shared_connections.use(server, user, server.list_tools)
        shared_connections.leave(user)

    async def body() -> str:
        return await items(caller([("other", {})], mcp_servers=[server], tools=[other]))

    app.run(body)
    assert [what for what, _ in server.tasks] == ["connect", "cleanup"]


def test_a_server_that_its_owner_connected_is_left_alone(app: App) -> None:
    server = Fake()

    async def body() -> str:
        await server.connect()
        await items(caller([("add", {"n": 1})], mcp_servers=[server]))
        assert server.session is not None
        await server.cleanup()
        return "done"

    app.run(body)
    assert [what for what, _ in server.tasks] == ["connect", "cleanup"]


def test_a_server_on_another_loop_is_asked_there(app: App, log: Path) -> None:
    """What recovers on DBOS's own loop may use a server that the application connected."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server: Any = stdio(log)
    asyncio.run_coroutine_threadsafe(server.connect(), loop).result()
    call = [("forecast", {"city": "Oslo"})]

    async def body() -> str:
        return await items(caller(call, mcp_servers=[server]))

    try:
        assert "Oslo is sunny" in app.run(body)
        assert starts(log) == 1
    finally:
        asyncio.run_coroutine_threadsafe(server.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_connection_of_a_loop_that_ended_is_made_again(app: App) -> None:
    server = Fake()

    async def body() -> str:
        return await items(caller([("add", {"n": 1})], mcp_servers=[server]))

    app.run(body)
    assert server.session is None  # closed with its loop
    app.run(body)
    assert [what for what, _ in server.tasks] == ["connect", "cleanup"] * 2
