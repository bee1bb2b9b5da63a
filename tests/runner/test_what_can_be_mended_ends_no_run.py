"""A workflow whose application lacks a key, a provider or a package goes on once it is mended."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest
from agents import Agent, Model, ModelProvider, RunConfig, UserError, function_tool
from agents.testing import assistant_message, function_call
from click.testing import CliRunner
from dbos import DBOS, SetWorkflowID
from openai import OpenAIError

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, host_starts, run_it
from timestep.cli import main
from timestep.operations.queries import executions

QUEUE = "_dbos_internal_queue"

made: list[str] = []


@function_tool
async def look(name: str) -> str:
    made.append(name)
    return f"saw {name}"


def answer(items: list[Any]) -> list[Any]:
    if seen := outputs(items):
        return [assistant_message(" ".join(seen.values()))]
    return [function_call("look", {"name": "a"}, call_id="c")]


class Provider(ModelProvider):
    """Has no model until it is mended, from a turn on."""

    def __init__(self, error: Exception | None, works: int = 0) -> None:
        self.error, self.works = error, works
        self.model = AnsweringModel(answer)

    def get_model(self, model_name: str | None) -> Model:
        if self.error is not None and self.works <= 0:
            raise self.error
        self.works -= 1
        return self.model


def body_of(provider: Provider, **options: Any) -> Any:
    async def body() -> str:
        config = RunConfig(model_provider=provider)
        agent = Agent("Looker", model="any/thing", tools=[look])
        result = await timestep.run_agent(agent, "go", run_config=config, **options)
        return str(result.final_output)

    return body


def begun(workflow_id: str, body: Any) -> None:
    BODIES[workflow_id] = body
    with SetWorkflowID(workflow_id):
        DBOS.enqueue_workflow(QUEUE, run_it, workflow_id)


def status(workflow_id: str) -> str:
    found = DBOS.get_workflow_status(workflow_id)
    assert found is not None
    return found.status


def outcome(workflow_id: str) -> str:
    return str(DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02))


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("works", [0, 1])
def test_a_run_that_could_ask_no_model_goes_on_later(app: App, works: int, stream: bool) -> None:
    provider = Provider(UserError("Unknown prefix: any."), works)
    begun("w", body_of(provider, stream=stream))
    app.until(lambda: status("w") == "DELAYED")
    (run,) = app.rows("runs")
    assert (run["status"], run["error_type"], provider.model.asked) == ("running", None, works)
    told = (
        "w: lacks something: UserError: Unknown prefix: any: it is tried again every minute, "
        "and when a host of its version starts; or end it with `timestep cancel w`"
    )
    for command in (["show", "w"], ["runs"]):
        said = " ".join(CliRunner().invoke(main, command).output.split())
        assert told in said
    assert "running (lacks something)" in said
    assert executions.set_back() == 1
    # It is not tried again before its time, and does not fail again and again.
    (row,) = app.execute(
        "SELECT delay_until > (extract(epoch FROM now()) + 30) * 1000, version "
        "FROM timestep.setbacks"
    ).fetchall()
    assert row == (True, "1")

    version = "UPDATE dbos.workflow_status SET application_version = %s"
    app.execute(version, ("0",))
    obstacle = executions.of_workflows(["w"])["w"].obstacle or ""
    assert "again when a host of its version runs; no live host runs its version 0" in obstacle
    assert "every minute" not in obstacle
    app.execute(version, ("1",))
    # Another application's is its own concern; one without a name is anybody's.
    name = "UPDATE dbos.workflow_status SET application_name = %s"
    app.execute(name, ("other",))
    assert (executions.set_back(), host_starts()) == (0, 0)
    app.execute(name, (None,))
    assert executions.set_back() == 1

    provider.error = None
    assert host_starts() == 1
    assert outcome("w") == "saw a"
    assert (made, provider.model.asked) == (["a"], 2)
    assert (host_starts(), executions.set_back()) == (0, 0)
    assert app.replay("w") == "saw a"


def test_readers_are_told_what_each_failure_was(app: App) -> None:
    provider = Provider(UserError("Unknown prefix: any."))
    begun("w", body_of(provider))
    app.until(lambda: status("w") == "DELAYED")
    provider.error = UserError("Unknown prefix: any/thing.")
    assert host_starts() == 1
    app.until(lambda: len(app.execute("SELECT FROM timestep.run_changes").fetchall()) == 5)
    provider.error = None
    app.until(host_starts)
    assert outcome("w") == "saw a"

    async def changes() -> list[tuple[str, Any]]:
        return [
            (one.type, one.data.get("error"))
            async for one in timestep.follow("w")
            if one.kind == "run"
        ]

    failures = [
        {"type": "UserError", "message": f"Unknown prefix: {what}.", "turn": 1}
        for what in ("any", "any/thing")
    ]
    assert asyncio.run(changes()) == [
        ("run.started", None),
        ("run.failed", failures[0]),
        ("run.resumed", None),
        ("run.failed", failures[1]),
        ("run.resumed", None),
        ("run.completed", None),
    ]


def failed_at(app: App) -> list[Any]:
    return app.execute("SELECT failed_at FROM timestep.setbacks").fetchall()


def test_it_lacks_it_still(app: App, caplog: pytest.LogCaptureFixture) -> None:
    # From the second turn on, and then, in a recovery of the first, from the first on.
    provider = Provider(UserError("Unknown prefix: any"), works=1)
    begun("w", body_of(provider))
    app.until(lambda: status("w") == "DELAYED")
    (first,) = failed_at(app)
    assert host_starts() == 1
    app.until(lambda: failed_at(app) != [first] and status("w") == "DELAYED")
    assert len(app.rows("runs")) == 1
    assert len(lines := [one for one in caplog.messages if "Unknown prefix" in one]) == 2
    (second,) = failed_at(app)
    provider.error = UserError("Another prefix")
    assert host_starts() == 1
    app.until(lambda: failed_at(app) != [second] and status("w") == "DELAYED")
    assert [one for one in caplog.messages if "Unknown prefix" in one] == lines
    assert len([one for one in caplog.messages if "Another prefix" in one]) == 2
    asyncio.run(timestep.cancel_run("w"))
    assert (status("w"), host_starts()) == ("CANCELLED", 0)


def test_who_awaits_it_is_told_and_code_may_answer_it(app: App) -> None:
    broken = Provider(OpenAIError("no key"))
    with pytest.raises(OpenAIError, match="no key"):
        app.run(body_of(broken), "attended")
    assert status("attended") == "ERROR"

    async def falls_back() -> str:
        try:
            return str(await body_of(broken)())
        except OpenAIError:
            return str(await body_of(Provider(None))())

    begun("w", falls_back)
    assert outcome("w") == "saw a"
    assert [run["status"] for run in app.rows("runs")] == ["failed", "failed", "completed"]


def test_what_code_has_answered_it_answers_again(app: App) -> None:
    broken, last = Provider(UserError("no")), Provider(UserError("no"))

    async def falls_back() -> str:
        try:
            return str(await body_of(broken)())
        except UserError:
            await noted()
            return str(await body_of(last)())

    begun("w", falls_back)
    app.until(lambda: status("w") == "DELAYED")
    broken.error = last.error = None
    host_starts()
    assert outcome("w") == "saw a"
    assert [run["status"] for run in app.rows("runs")] == ["failed", "completed"]
    assert (broken.model.asked, last.model.asked) == (0, 2)
    assert app.replay("w") == "saw a"


def test_a_replay_of_recorded_answers_needs_no_provider(app: App) -> None:
    first, second = Provider(None), Provider(UserError("no"))

    async def body() -> str:
        try:
            said = await body_of(first)()
        except UserError:
            said = "nothing"
        return f"{said}, {await body_of(second)()}"

    begun("w", body)
    app.until(lambda: status("w") == "DELAYED")
    first.error, second.error = UserError("gone"), None
    host_starts()
    assert outcome("w") == "saw a, saw a"
    second.error = UserError("gone, too")
    assert app.replay("w") == "saw a, saw a"
    assert (first.model.asked, second.model.asked) == (2, 2)


def test_runs_side_by_side_that_lack_the_same_go_on_together(app: App) -> None:
    providers = [Provider(UserError("no")) for _ in range(3)]

    async def body() -> str:
        return " ".join(await asyncio.gather(*(body_of(one)() for one in providers)))

    begun("w", body)
    app.until(lambda: status("w") == "DELAYED")
    for one in providers:
        one.error = None
    host_starts()
    assert outcome("w") == "saw a saw a saw a"
    assert [run["status"] for run in app.rows("runs")] == ["completed"] * 3


def test_killed_before_it_was_put_back_it_is_put_back_by_the_next(app: App) -> None:
    provider = Provider(UserError("Unknown prefix: any"))
    with pytest.raises(UserError):
        app.run(body_of(provider), "w")
    app.execute(
        "UPDATE dbos.workflow_status SET status = 'PENDING', error = NULL, queue_name = %s",
        (QUEUE,),
    )
    assert [run["status"] for run in app.rows("runs")] == ["failed"]
    provider.error = None
    DBOS._recover_pending_workflows()
    app.until(lambda: status("w") == "DELAYED")
    host_starts()
    assert outcome("w") == "saw a"
    assert len(app.rows("runs")) == 1


def test_a_package_that_is_missing_is_waited_for(app: App) -> None:
    async def body() -> str:
        import no_such_package  # type: ignore[import-not-found]

        return str(no_such_package.NAME)

    timestep.install()
    begun("w", body)
    app.until(lambda: status("w") == "DELAYED")
    assert "No module named 'no_such_package'" in str(asyncio.run(timestep.get_run("w")).obstacle)
    installed = ModuleType("no_such_package")
    installed.NAME = "there"  # type: ignore[attr-defined]
    sys.modules["no_such_package"] = installed
    try:
        host_starts()
        assert outcome("w") == "there"
    finally:
        timestep.uninstall()
        del sys.modules["no_such_package"]


@DBOS.step()
async def noted() -> str:
    return "noted"


@DBOS.step()
async def imports() -> None:
    raise ImportError("recorded")


def test_what_is_recorded_or_no_lack_ends_it(app: App) -> None:
    begun("step", imports)
    with pytest.raises(ImportError):
        outcome("step")

    @function_tool(failure_error_function=None)
    async def broken() -> str:
        raise ImportError("of a tool")

    async def tool() -> None:
        model = AnsweringModel(lambda items: [function_call("broken", {}, call_id="c")])
        await timestep.run_agent(Agent("A", tools=[broken], model=model), "go")

    begun("tool", tool)
    with pytest.raises(UserError, match="of a tool"):
        outcome("tool")
    assert [status(name) for name in ("step", "tool")] == ["ERROR", "ERROR"]


def test_a_workflow_that_has_begun_no_run_is_listed(app: App) -> None:
    """Its own code lacks the package, before it begins a run."""
    timestep.install()
    is_mended = False

    async def body() -> str:
        if not is_mended:
            raise ImportError("no module named 'kettle'")
        return str(await body_of(Provider(None))())

    for name in ("w1", "w2"):
        begun(name, body)
    app.until(lambda: status("w1") == status("w2") == "DELAYED")
    app.run(body_of(Provider(None)), "ran")
    said = " ".join(CliRunner().invoke(main, ["runs"]).output.split())
    assert "w2 running (lacks something)" in said
    assert "w1 running (lacks something)" in said
    assert "w2: lacks something: ImportError: no module named 'kettle'" in said

    def pages(**filters: Any) -> list[str | None]:
        found: list[str | None] = []
        cursor = None
        while True:
            page = asyncio.run(timestep.list_runs(limit=1, cursor=cursor, **filters))
            found += [run.workflow_id for run in page.items]
            if (cursor := page.next_cursor) is None:
                return found

    assert pages()[0] == "ran"
    assert set(pages(status="running")) == {*pages()[1:]} == {"w1", "w2"}
    assert pages(workflow_id="w1") == ["w1"]
    assert pages(status="completed") == pages(workflow_id="ran") == ["ran"]
    assert pages(agent="Looker") == ["ran"]
    is_mended = True
    host_starts()
    assert outcome("w1") == outcome("w2") == "saw a"
    assert sorted(map(str, pages())) == ["ran", "w1", "w2"]
