"""What hooks, traces and errors are like in a durable run, and that no key is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import httpx2
import openai
import psycopg
import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIResponsesModel,
    RunConfig,
    RunHooks,
    Runner,
    Span,
    Trace,
    TracingProcessor,
    UserError,
    function_tool,
    set_trace_processors,
    set_tracing_disabled,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, Serializer, SetWorkflowID
from dbos._serialization import DBOSDefaultSerializer
from psycopg import sql

import timestep
from tests.sdk.test_results_equal_the_plain_runner import CASES, Case, asked, told_error
from tests.support.dbos_app import BODIES, App, launch, run_it
from timestep import JSONSerializer

RUNNER = timestep.DurableRunner


class Flags(RunHooks[Any]):
    """Whether each hook was called in a replay."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, what: str) -> None:
        self.told.append(f"{what}: {'again' if timestep.is_replaying() else 'first'}")

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        self.tell("start")

    async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
        self.tell("end")

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self.tell(f"{tool.name} starts")

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.tell(f"{tool.name} ends")

    async def on_llm_start(self, context: Any, agent: Any, system: Any, given: Any) -> None:
        self.tell("asked")

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        self.tell("answered")


@pytest.mark.parametrize("is_streamed", [False, True])
def test_hooks_can_ask_whether_they_are_called_again(app: App, is_streamed: bool) -> None:
    """The process ends while one of two tools runs; the other one is done."""
    inside = Event()
    is_stuck = True
    hooks = Flags()

    @function_tool
    async def quick() -> str:
        hooks.tell("quick")
        return "quick"

    @function_tool
    async def slow() -> str:
        hooks.tell("slow")
        if is_stuck:
            await asyncio.to_thread(app.until, lambda: "quick ends: first" in hooks.told)
            inside.set()
            await asyncio.sleep(3600)
        return "slow"

    calls = [function_call("quick", {}, call_id="c1"), function_call("slow", {}, call_id="c2")]
    model = ScriptedModel([calls, [assistant_message("done")]])
    agent = Agent("A", model=model, tools=[quick, slow])

    async def body() -> str:
        if is_streamed:
            streamed = RUNNER.run_streamed(agent, "hi", hooks=hooks)
            async for _ in streamed.stream_events():
                pass
            return str(streamed.final_output)
        return str((await RUNNER.run(agent, "hi", hooks=hooks)).final_output)

    assert not timestep.is_replaying()
    leave_in_the_middle({"w": body}, [inside])
    # The SDK may tell of the end of a tool that is cancelled.
    assert set(hooks.told) - {"slow ends: first"} == {
        *("start: first", "asked: first", "answered: first", "quick starts: first"),
        *("slow starts: first", "quick: first", "slow: first", "quick ends: first"),
    }
    hooks.told.clear()
    is_stuck = False
    (handle,) = DBOS._recover_pending_workflows()
    assert handle.get_result(polling_interval_sec=0.02) == "done"
    before, after = hooks.told[:3], hooks.told[-4:]
    assert before == ["start: again", "asked: again", "answered: again"]
    assert set(hooks.told[3:-4]) == {
        *("quick starts: again", "slow starts: again", "quick ends: again", "slow: first"),
    }
    assert after == ["slow ends: first", "asked: first", "answered: first", "end: first"]


def leave_in_the_middle(bodies: dict[str, Any], inside: list[Event]) -> None:
    """Run workflows in a program that ends once all of them have come somewhere."""
    BODIES.update(bodies)

    async def program() -> None:
        for name in bodies:
            with SetWorkflowID(name):
                await DBOS.start_workflow_async(run_it, name)
        for event in inside:
            assert await asyncio.to_thread(event.wait, 60)

    asyncio.run(program())


def test_a_conversation_goes_on_where_it_was_left(app: App) -> None:
    """An answer that is recorded is never asked for again, and the next one as it was to be."""
    names = ["conversation", "previous response", "automatic previous response"]
    cases: dict[str, Case] = {}
    bodies: dict[str, Any] = {}
    inside: list[Event] = []
    is_stuck = True

    def add(name: str) -> None:
        case = cases[name] = CASES[name]()
        came = Event()
        inside.append(came)

        class Stuck(ScriptedModel):
            async def get_response(self, *args: Any, **kwargs: Any) -> Any:
                if is_stuck and case.model.calls:
                    came.set()
                    await asyncio.sleep(3600)
                return await case.model.get_response(*args, **kwargs)

        case.agent.model = Stuck()

        async def body() -> str:
            return str((await RUNNER.run(case.agent, case.given, **case.options)).final_output)

        bodies[name] = body

    for name in names:
        add(name)
    leave_in_the_middle(bodies, inside)
    assert [len(case.model.calls) for case in cases.values()] == [1, 1, 1]
    is_stuck = False
    for handle in DBOS._recover_pending_workflows():
        assert handle.get_result(polling_interval_sec=0.02) == "x"
    for name, case in cases.items():
        plain = CASES[name]()
        asyncio.run(Runner.run(plain.agent, plain.given, **plain.options))
        assert asked(case.model) == asked(plain.model)
    ids = [(c.previous_response_id, c.conversation_id) for c in cases[names[1]].model.calls]
    assert ids == [("resp-before", None), ("resp-0", None)]


def raised(work: Callable[[], Any]) -> Exception:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # given back
        return error
    raise AssertionError("nothing was raised")


ERRORS = [
    *("output that does not fit", "tripped by the input", "tripped by the output"),
    *("tripped by a call", "tripped by a result", "max turns", "unknown tool"),
    *("exploding tool", "slow tool", "model error", "user error"),
]


@pytest.mark.own_database
@pytest.mark.parametrize("serializer", [JSONSerializer(), DBOSDefaultSerializer])
def test_an_error_reaches_who_asks_for_the_workflow_s_result(
    app: App, serializer: Serializer
) -> None:
    """DBOS keeps it, in JSON or pickled; nobody in the workflow catches it."""
    DBOS.destroy()
    launch(app.url, serializer=serializer)
    for name in ERRORS:
        case = CASES[name]()

        async def body(case: Case = case) -> Any:
            return await RUNNER.run(case.agent, case.given, **case.options)

        first = raised(functools.partial(app.run, body, workflow_id=name))
        later = raised(DBOS.retrieve_workflow(name).get_result)
        assert type(later) is type(first)
        # The run's objects are the process's.
        vars(first).pop("run_data", None)
        assert told_error(later) == told_error(first)


class Spans(TracingProcessor):
    """Every span and trace as it ended: what it is, and inside what."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.kinds: dict[str | None, str] = {None: "trace"}

    def on_trace_start(self, trace: Trace) -> None:
        pass

    def on_trace_end(self, trace: Trace) -> None:
        self.told.append(f"trace {trace.name}")

    def on_span_start(self, span: Span[Any]) -> None:
        name = span.span_data.export().get("name")
        self.kinds[span.span_id] = f"{span.span_data.type} {name}"

    def on_span_end(self, span: Span[Any]) -> None:
        error = f" {span.error['message']}" if span.error else ""
        self.told.append(f"{self.kinds[span.span_id]} in {self.kinds[span.parent_id]}{error}")

    def shutdown(self) -> None:
        pass

    def force_flush(self) -> None:
        pass


@pytest.fixture
def spans() -> Iterator[Spans]:
    found = Spans()
    set_trace_processors([found])
    yield found
    set_trace_processors([])


@pytest.mark.parametrize("name", ["hooks", "guardrails of the run", "exploding tool", "trace"])
def test_spans_are_the_sdk_s(app: App, spans: Spans, name: str) -> None:
    set_tracing_disabled(False)
    told = []
    for durable in (False, True):
        case = CASES[name]()
        case.model._emit_traces = True

        async def body(case: Case = case, durable: bool = durable) -> None:
            runner: Any = RUNNER if durable else Runner
            with contextlib.suppress(*([UserError] if name == "exploding tool" else [])):
                await runner.run(case.agent, case.given, **case.options)

        if durable:
            app.run(body)
        else:
            asyncio.run(body())
        told.append(list(spans.told))
        spans.told.clear()
    assert told[0] == told[1]
    assert any(one.startswith("generation") for one in told[1])


KEY = "sk-sentinel-0123456789"


def test_no_key_is_recorded(app: App) -> None:
    answers = [
        httpx2.Response(429, json={"error": {"message": "slow down", "code": "slow"}}),
        httpx2.Response(401, json={"error": {"message": "who are you", "code": "key"}}),
    ]
    asked_with: list[httpx2.Headers] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked_with.append(request.headers)
        return answers.pop(0)

    client = openai.AsyncOpenAI(
        api_key=KEY,
        base_url="https://user:" + KEY + "@model.invalid/v1",
        default_headers={"x-own": KEY},
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)),
    )
    settings = ModelSettings(
        extra_headers={"x-extra": KEY}, extra_query={"key": KEY}, extra_body={"key": KEY}
    )
    model = OpenAIResponsesModel("some-model", client)
    agent = Agent("A", model=model, model_settings=settings)
    config = RunConfig(model_settings=settings)

    async def body() -> Any:
        with pytest.raises(openai.RateLimitError):
            await RUNNER.run(agent, "hi")
        return await RUNNER.run(agent, "hi", run_config=config)

    with pytest.raises(openai.AuthenticationError):
        app.run(body, workflow_id="w")
    assert [headers["x-extra"] for headers in asked_with] == [KEY, KEY]
    recorded = "\n".join(row for rows in app.everything().values() for row in rows)
    with psycopg.connect(app.url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'dbos'")
        for (table,) in tables.fetchall():
            query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier("dbos", table))
            recorded += "\n".join(row for (row,) in connection.execute(query))
    assert "AuthenticationError" in recorded
    assert "who are you" in recorded
    assert KEY not in recorded
