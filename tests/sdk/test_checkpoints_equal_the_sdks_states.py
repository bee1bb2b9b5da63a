"""Checkpoints hold what the SDK itself would write of the run before each turn, exactly."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, HandoffInputData, RunContextWrapper, function_tool, handoff
from agents.testing import ScriptedModel, assistant_message, function_call
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import timestep
from tests.support.conversational_model import AnsweringModel
from tests.support.dbos_app import App
from timestep.execution.current import current_run
from timestep.journal.checkpoints import Checkpoint, CheckpointHistory, States, context_document
from timestep.sdk.state import turn_state
from timestep.sdk.state.run_history import Told
from timestep.serialization.sdk_objects import jsonable
from timestep.serialization.values import restored

_numbers = itertools.count()

Shape = list[tuple[str, ...]]
"""What a run's answers call, one after the other."""

CALLS = st.sampled_from(["look", "note", "drop", "ask", "fail"])
TURN = st.lists(CALLS, min_size=1, max_size=3).map(tuple) | st.sampled_from(
    [("transfer_to_other",), ("transfer_to_cutter",)]
)
SHAPES = st.lists(TURN, min_size=1, max_size=7)


@function_tool
async def look(name: str) -> str:
    return f"saw {name}\x00" if name.endswith("7") else f"saw {name}"


@function_tool
async def note(context: RunContextWrapper[Any], name: str) -> list[str]:
    context.context["notes"].append(name)
    return [name]


@function_tool
async def drop(context: RunContextWrapper[Any], name: str) -> str:
    del context.context["notes"][1:]
    context.context[name] = 1.0
    return "dropped"


@function_tool(needs_approval=True)
async def ask(name: str) -> str:
    return f"did {name}"


@function_tool
async def fail(name: str) -> str:
    raise ValueError(name)


def cut(data: HandoffInputData) -> HandoffInputData:
    """Changes an item where it is, and leaves others out."""
    for item in data.pre_handoff_items:
        raw: Any = item.raw_item
        if isinstance(raw, dict) and "output" in raw:
            raw["output"] = "cut"
    return data.clone(pre_handoff_items=data.pre_handoff_items[1:])


def agent_of(shape: Shape, *, ends: bool) -> Agent[Any]:
    answers = iter(shape)

    def answer(_: list[Any]) -> list[Any]:
        names = next(answers, None)
        if names is None:
            if not ends:
                raise ValueError("no answer")
            return [assistant_message("done")]
        return [
            function_call(
                name,
                {} if name.startswith("transfer") else {"name": str(number)},
                call_id=f"c{number}",
            )
            for name, number in zip(names, _numbers, strict=False)
        ]

    tools: list[Any] = [look, note, drop, ask, fail]
    model = AnsweringModel(answer)
    agents = [Agent[Any](name=name, model=model, tools=tools) for name in ("other", "cutter")]
    targets: list[Any] = [agents[0], handoff(agents[1], input_filter=cut)]
    for one in (first := Agent[Any](name="first", model=model, tools=tools), *agents):
        one.handoffs = targets
    return first


def same(one: object, other: object) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int | None], Any]:
    """What the SDK writes of each run before each turn, and (None) at its end."""
    found: dict[tuple[str, int | None], Any] = {}
    original = turn_state.written

    def written(result: Any, turn: int | None, told: Told) -> Any:
        answer = original(result, turn, told)
        state = result.to_state()
        if turn is not None:
            state._current_turn = turn - 1
        run = current_run()
        assert run is not None
        found[str(run.id), turn] = jsonable(state.to_json(context_serializer=context_document))
        return answer

    monkeypatch.setattr(turn_state, "written", written)
    return found


def body_of(shape: Shape, stream: bool, ends: bool, session: str | None) -> Callable[[], Any]:
    agent = agent_of(shape, ends=ends)

    async def body() -> str:
        given: Any = [{"role": "user", "content": "go"}, {"role": "user", "content": "on"}]
        options: dict[str, Any] = {
            "session": None if session is None else timestep.DatabaseSession(session),
            "stream": stream,
            "on_interruption": "return",
            "max_turns": 30,
        }
        context = {"notes": ["a", 1, {"b": True}]}
        result = await timestep.run_agent(agent, given, context=context, **options)
        while result.interruptions:
            state = result.to_state()
            for index, item in enumerate(result.interruptions):
                state.approve(item) if index % 2 == 0 else state.reject(item)
            result = await timestep.run_agent(agent, state, **options)
        return str(result.final_output)

    return body


# DBOS's threads do, while a shape is drawn.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@settings(
    max_examples=10,
    deadline=None,
    # A run takes its time, and calls have new ids in each.
    phases=[Phase.explicit, Phase.generate],
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example([("look", "note"), ("transfer_to_cutter",), ("look",)], False, True, False)
@example([("look", "ask", "ask"), ("drop",), ("look",), ("note",)], True, False, True)
@given(shape=SHAPES, stream=st.booleans(), ends=st.booleans(), has_session=st.booleans())
def test_checkpoints_are_what_the_sdk_writes(
    app: App,
    told: dict[tuple[str, int | None], Any],
    shape: Shape,
    stream: bool,
    ends: bool,
    has_session: bool,
) -> None:
    key = f"shape-{next(_numbers)}"
    body = body_of(shape, stream, ends, key if has_session else None)
    if ends:
        assert app.run(body, key) == "done"
    else:
        with pytest.raises(ValueError, match="no answer"):
            app.run(body, key)
    (run,) = [row for row in app.rows("runs") if row["workflow_id"] == key]
    states = [row for row in app.rows("run_states") if row["run_id"] == run["id"]]
    for row in states:
        row.update({name: row[name] and str(row[name]) for name in ("id", "previous_id")})
    kinds = {row["state_type"] for row in states}
    assert kinds - {"interrupted"} == ({"final"} if ends else {"checkpoint"})

    history = CheckpointHistory([row for row in states if row["state_type"] != "interrupted"])

    turns = len(shape) + 1 if ends else len(shape)
    assert history.turns[:turns] == list(range(1, turns + 1))
    for turn in history.turns:
        assert same(history.state(turn), told[str(run["id"]), turn])
    if ends:
        (final,) = [row for row in states if row["state_type"] == "final"]
        assert same(restored(final["state_data"]), told[str(run["id"]), None])
    else:
        again = States(uuid.UUID(str(run["id"])))
        again.resume({row["id"]: row for row in states})
        last = {**told[str(run["id"]), turns], "session_items": []}
        rows = again.final_rows(Checkpoint(last, turns, "1"))["run_states"]
        recovered = CheckpointHistory(json.loads(json.dumps(rows)))
        assert recovered.turns == history.turns
        for turn in recovered.turns:
            assert same(recovered.state(turn), told[str(run["id"]), turn])


def test_a_change_may_name_what_jsonb_cannot_hold_and_is_gone(app: App) -> None:
    @function_tool
    async def forget(context: RunContextWrapper[Any]) -> str:
        del context.context["a\x00"]
        return "forgotten"

    said = [[function_call("forget", {}, call_id="c")], [assistant_message("done")]]
    agent = Agent[Any]("A", model=ScriptedModel(said), tools=[forget])

    async def body() -> str:
        run = await timestep.run_agent(agent, "go", context={"a\x00": 1, "b": 2})
        return str(run.final_output)

    assert app.run(body, "w") == "done"
    history = CheckpointHistory(app.rows("run_states"))
    contexts = [history.state(turn)["context"]["context"] for turn in history.turns]
    assert contexts == [{"a\x00": 1, "b": 2}, {"b": 2}]
