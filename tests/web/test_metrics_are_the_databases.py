"""`GET /metrics`: exact, the same at every host, only growing, and bounded."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import psycopg
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    Model,
    ModelProvider,
    RunConfig,
    UserError,
    function_tool,
    input_guardrail,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, SetWorkflowID
from dbos._utils import INTERNAL_QUEUE_NAME
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

import timestep
from tests.support.api_client import asking, client_of, sends
from tests.support.dbos_app import BODIES, App, host_starts, run_it
from tests.support.interrupting_agents import deleter, look, nested
from tests.support.problems import problem
from timestep.errors import DatabaseUnreachableError
from timestep.operations.queries.metrics import METRICS, Values, count_recoveries, read_metrics
from timestep.operations.queries.usage import usage_report
from timestep.runtime import process_state
from timestep.store.reads import metrics as store
from timestep.web.routes import metrics as route

Labels = tuple[str, ...]
MODEL = "ScriptedModel"
DOCS = Path(__file__).parents[2] / "docs"


def shown(text: str) -> dict[str, dict[Labels, float]]:
    """The values of what Prometheus is told, by the metric's name and its labels' values."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def answering(app: App, name: str, times: int = 1) -> None:
    async def body() -> str:
        answers = [[function_call("look", {"name": "x"}, call_id="c")], [assistant_message("done")]]
        agent = Agent(name, model=ScriptedModel(answers), tools=[look])
        return str((await timestep.run_agent(agent, "go")).final_output)

    for _ in range(times):
        app.run(body)


def failing(app: App) -> None:
    async def body() -> None:
        await timestep.run_agent(Agent("Failing", model=ScriptedModel([ValueError("no")])), "go")

    with pytest.raises(ValueError, match="no"):
        app.run(body)


def counters(values: Values) -> dict[tuple[str, Labels], float]:
    names = [one.name for one in METRICS if one.kind == "counter"]
    return {(name, labels): number for name in names for labels, number in values[name].items()}


def counted_anew(app: App) -> dict[Labels, float]:
    """Steps by kind and outcome, counted in the rows."""
    found: dict[Labels, float] = {}
    for kind, table, condition in (
        ("model", "public.model_responses", "true"),
        (
            "tool",
            "public.tool_calls",
            "completed_at IS NOT NULL AND status IN ('executed','failed')",
        ),
        ("guardrail", "public.guardrail_results", "true"),
        ("value", "timestep.step_values", "true"),
    ):
        rows = app.execute(
            f"SELECT error IS NULL, count(*) FROM {table} WHERE {condition} GROUP BY 1"
        )
        found.update({(kind, "ok" if is_ok else "error"): n for is_ok, n in rows})
    return found


def test_counters_are_what_the_rows_say_and_only_grow(app: App) -> None:
    before = read_metrics()
    assert before["timestep_runs_ended_total"] == {
        ("completed",): 0, ("failed",): 0, ("cancelled",): 0
    }  # fmt: skip
    answering(app, "Ann", 2)
    first = read_metrics()
    failing(app)
    outcome: list[Any] = []

    async def body() -> str:
        return str((await timestep.run_agent(deleter(), "tidy up")).final_output)

    thread = Thread(target=lambda: outcome.append(app.run(body, workflow_id="asked")))
    thread.start()
    app.until(lambda: app.execute("SELECT 1 FROM runs WHERE status = 'interrupted'").fetchone())
    waiting = read_metrics()
    assert waiting["timestep_steps_total"] == counted_anew(app)
    assert waiting["timestep_runs"] == {("running",): 0, ("interrupted",): 1}
    assert waiting["timestep_questions_pending"] == {(): 2}
    assert waiting["timestep_oldest_question_age_seconds"][()] > 0
    asyncio.run(timestep.resume_workflow("asked", approve="all"))
    thread.join(60)
    assert outcome
    after = read_metrics()
    assert after["timestep_steps_total"] == counted_anew(app)
    assert after["timestep_runs_started_total"] == {(): 4}
    assert after["timestep_runs_ended_total"] == {
        ("completed",): 3, ("failed",): 1, ("cancelled",): 0
    }  # fmt: skip
    assert after["timestep_questions_asked_total"] == {(): 2}
    assert after["timestep_questions_decided_total"] == {(): 2}
    assert after["timestep_questions_pending"] == {(): 0}
    assert after["timestep_oldest_question_age_seconds"] == {(): 0}
    report = {row.name: row for row in asyncio.run(usage_report(by="agent"))}
    for (agent, _), requests in after["timestep_model_requests_total"].items():
        assert requests == report[agent].requests
    for (agent, _, kind), tokens in after["timestep_tokens_total"].items():
        assert tokens == getattr(report[agent], f"{kind}_tokens")
    rows = app.execute("SELECT sum(duration_ms) / 1000.0 FROM model_responses").fetchone()
    assert rows is not None
    assert after["timestep_step_seconds_total"][("model",)] == pytest.approx(float(rows[0]))
    # Everything grows, and nothing is lost with what is deleted, or the process.
    values = [before, first, waiting, after]
    with process_state.renewed():
        values.append(read_metrics())
    app.execute("DELETE FROM runs")
    values.append(read_metrics())
    assert counters(values[-1]) == counters(values[-2]) == counters(after)
    for earlier, later in itertools.pairwise(values):
        for series, number in counters(earlier).items():
            assert number <= counters(later)[series], series


def test_steps_are_counted_while_a_run_goes_on_and_once(app: App) -> None:
    held, go_on = Barrier(2, timeout=60), Barrier(2, timeout=60)

    async def body() -> str:
        async def wait() -> None:
            await asyncio.to_thread(held.wait)
            await asyncio.to_thread(go_on.wait)

        tool = function_tool(wait)
        calls = [[function_call("wait", {}, call_id=id_)] for id_ in "ab"]
        model = ScriptedModel([*calls, [assistant_message("done")]])
        return str(
            (await timestep.run_agent(Agent("A", model=model, tools=[tool]), "go")).final_output
        )

    thread = Thread(target=app.run, args=(body,))
    thread.start()
    for answers in (1, 2):
        held.wait()
        values = read_metrics()
        assert values["timestep_steps_total"][("model", "ok")] == answers
        assert values["timestep_steps_total"].get(("tool", "ok"), 0) == answers - 1
        assert values["timestep_runs"][("running",)] == 1
        go_on.wait()
    thread.join(60)
    for _ in range(2):
        assert read_metrics()["timestep_steps_total"] == {("model", "ok"): 3, ("tool", "ok"): 2}


def test_runs_inside_runs_and_guardrails_are_counted_once_however_often_it_is_asked(
    app: App,
) -> None:
    @input_guardrail
    async def check(*given: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, False)

    async def body() -> str:
        agent = nested(2)
        agent.input_guardrails = [check]
        session = timestep.DatabaseSession("talk")
        return str((await timestep.run_agent(agent, "tidy up", session)).final_output)

    def asked_while(is_so: Callable[[], Any]) -> Values:
        while is_so():
            read_metrics()
        return read_metrics()

    thread = Thread(target=app.run, args=(body, "nested"))
    thread.start()
    waits = "SELECT FROM runs WHERE status = 'interrupted' AND parent_run_id IS NULL"
    values = asked_while(lambda: app.execute(waits).fetchone() is None)
    assert values["timestep_steps_total"] == counted_anew(app)
    asyncio.run(timestep.resume_workflow("nested", approve="all"))
    values = asked_while(thread.is_alive)
    assert values["timestep_steps_total"] == counted_anew(app)
    assert values["timestep_steps_total"]["guardrail", "ok"] == 1
    assert values["timestep_runs_ended_total"]["completed",] == 3


def test_hosts_that_add_at_the_same_time_count_once(app: App) -> None:
    answering(app, "Ann", 3)
    with ThreadPoolExecutor(4) as threads:
        found = [one.result() for one in [threads.submit(read_metrics) for _ in range(8)]]
    steps = {("model", "ok"): 6, ("tool", "ok"): 3}
    assert [one["timestep_steps_total"] for one in found] == [steps] * 8
    assert counters(read_metrics()) == counters(read_metrics())
    assert read_metrics()["timestep_model_requests_total"] == {("Ann", MODEL): 6}


def test_what_may_still_be_added_is_waited_for(app: App) -> None:
    answering(app, "Ann")
    read_metrics()
    with psycopg.connect(app.url) as late:
        late.execute(
            "INSERT INTO timestep.run_changes (run_id, change, turn) "
            "SELECT id, 'question.asked', 1 FROM runs"
        )
        late.execute(
            "INSERT INTO request_usage_entries (run_id, usage_metrics_id, requests) "
            "SELECT run_id, id, 100 FROM usage_metrics"
        )
        answering(app, "Ann")
        values = read_metrics()
        assert values["timestep_steps_total"] == {("model", "ok"): 4, ("tool", "ok"): 2}
        assert values["timestep_questions_asked_total"] == {(): 0}
        late.commit()
    for _ in range(3):
        values = read_metrics()
    assert values["timestep_questions_asked_total"] == {(): 1}
    assert values["timestep_runs_ended_total"][("completed",)] == 2
    assert values["timestep_model_requests_total"] == {
        ("Ann", MODEL): 4,
        ("Ann", ""): 100,
    }


def test_names_from_outside_are_bounded_and_escaped(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_PAIRS", 3)
    bad = 'a "quote"\\ and\nline ' + "x" * 500
    answering(app, bad)
    answering(app, "Two")
    read_metrics()
    answering(app, "Three")
    answering(app, "Four")
    read_metrics()
    answering(app, "Five")
    answering(app, "Two")
    requests = read_metrics()["timestep_model_requests_total"]
    assert len(requests) == 4
    assert requests["Two", MODEL] == 4
    assert sum(requests.values()) == 12
    assert requests[store.OTHERS, store.OTHERS] == 4

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            answer = await client.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain")
            assert shown(answer.text)["timestep_model_requests_total"][bad[:100], MODEL] == 2
            asked = {"accept": "application/openmetrics-text; version=1.0.0"}
            answer = await client.get("/metrics", headers=asked)
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            assert answer.text.endswith("# EOF\n")

    asking(work)


def test_who_may_see_and_that_nothing_else_is_shown(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "vera:viewer:seen-by-nobody")

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            assert problem(await client.get("/metrics"), 401)
            assert problem(await client.get("/metrics", headers=sends("wrong")), 401)
            answer = await client.get("/metrics", headers=sends("seen-by-nobody"))
            assert answer.status_code == 200
            assert "seen-by-nobody" not in answer.text
            assert app.url not in answer.text

    asking(work)


def test_the_database_is_asked_once_for_all_who_ask_meanwhile(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def reading() -> Values:
        asked.append(1)
        return read_metrics()

    monkeypatch.setattr(route, "read_metrics", reading)
    monkeypatch.setattr(route, "KEPT", 3600.0)

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            answers = await asyncio.gather(*(client.get("/metrics") for _ in range(20)))
            assert {one.status_code for one in answers} == {200}
            answering_later = await client.get("/metrics")
            assert answering_later.text == answers[0].text

    asking(work)
    assert len(asked) == 1


def test_a_database_that_is_away_is_told_and_asked_again(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def reading() -> Values:
        asked.append(1)
        if len(asked) == 1:
            raise DatabaseUnreachableError
        return read_metrics()

    monkeypatch.setattr(route, "read_metrics", reading)

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            assert problem(await client.get("/metrics"), 503)
            assert (await client.get("/metrics")).status_code == 200

    asking(work)


def test_queues_and_recoveries_are_told(app: App) -> None:
    app.execute(
        "INSERT INTO dbos.workflow_status (workflow_uuid, status, queue_name) "
        "SELECT 'm' || n, CASE WHEN n < 3 THEN 'ENQUEUED' ELSE 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' "
        "END, 'slow' FROM generate_series(0, 4) n"
    )
    app.execute(
        "INSERT INTO timestep.hosts (application, executor_id, claim, node, process_id, seen_at, "
        "expires_at) SELECT 'a', n::text, timestep.new_id(), 'n', 1, now(), "
        "now() + n * interval '1 hour' FROM generate_series(-1, 2) n WHERE n <> 0"
    )
    count_recoveries(2)
    count_recoveries(3)
    values = read_metrics()
    assert values["timestep_queue_workflows"] == {("slow", "waiting"): 3}
    assert values["timestep_workflows_held"] == {
        ("put_back",): 0, ("set_aside",): 0, ("given_up",): 2
    }  # fmt: skip
    assert values["timestep_hosts"] == {(): 2}
    assert values["timestep_recoveries_total"] == {(): 5}


@pytest.fixture
def told(app: App) -> list[tuple[str, str, list[str], str]]:
    """What is exported: name, kind, labels, meaning."""
    found: list[tuple[str, str, list[str], str]] = []

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            text = (await client.get("/metrics")).text
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.M))
        labels = {one.name: list(one.labels) for one in (*METRICS, *route.HOST_METRICS)}
        found.extend((name, kinds[name], labels.pop(name), helps[name]) for name in kinds)
        assert labels == {}

    asking(work)
    return found


def test_the_document_tells_exactly_what_is_exported(
    told: list[tuple[str, str, list[str], str]],
) -> None:
    rows = re.findall(
        r"^\| `(timestep_\w+)` \| (counter|gauge) \| (.*?) \| (.*) \|$",
        (DOCS / "metrics.md").read_text(),
        re.M,
    )
    assert [
        (name, kind, re.findall(r"`(\w+)`", labels), help_) for name, kind, labels, help_ in rows
    ] == told


def test_the_dashboard_asks_for_what_is_exported(
    told: list[tuple[str, str, list[str], str]],
) -> None:
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    assert dashboard["schemaVersion"] >= 39
    assert dashboard["title"] == "Timestep"
    panels = [one for one in dashboard["panels"] if one["type"] != "row"]
    asked: set[str] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["targets"]
        for target in panel["targets"]:
            found = set(re.findall(r"timestep_\w+", target["expr"]))
            assert found, target
            asked |= found
            counted = re.findall(r"(?:rate|increase)\((timestep_\w+)", target["expr"])
            assert set(counted) == {name for name in found if name.endswith("_total")}
            labels = {label for name, _, labels, _ in told if name in found for label in labels}
            for by in re.findall(r"by \(([^)]*)\)", target["expr"]):
                assert set(re.findall(r"\w+", by)) <= labels | {"instance"}
    assert asked == {name for name, _, _, _ in told}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_a_run_that_is_put_back_has_not_ended(app: App) -> None:
    class Provider(ModelProvider):
        lacks = True

        def get_model(self, model_name: str | None) -> Model:
            if self.lacks:
                raise UserError("no key")
            return ScriptedModel([[assistant_message("done")]])

    async def body() -> str:
        config = RunConfig(model_provider=Provider())
        agent = Agent("Lacking", model="some/thing")
        return str((await timestep.run_agent(agent, "go", run_config=config)).final_output)

    def is_put_back() -> bool:
        rows = app.execute("SELECT status FROM dbos.workflow_status").fetchall()
        return rows == [("DELAYED",)]

    BODIES["w"] = body
    with SetWorkflowID("w"):
        DBOS.enqueue_workflow(INTERNAL_QUEUE_NAME, run_it, "w")
    for times in (1, 2):
        app.until(is_put_back)
        failed = "SELECT count(*) FROM timestep.run_changes WHERE change = 'run.failed'"
        assert app.execute(failed).fetchone() == (times,)
        assert read_metrics()["timestep_runs_ended_total"][("failed",)] == 0
        assert read_metrics()["timestep_workflows_held"][("put_back",)] == 1
        if times == 2:
            Provider.lacks = False
        host_starts()
    DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02)
    assert read_metrics()["timestep_runs_ended_total"] == {
        ("completed",): 1, ("failed",): 0, ("cancelled",): 0
    }  # fmt: skip

    # Awaited, it is not put back: that is an end, once it is certain.
    Provider.lacks = True
    with pytest.raises(UserError):
        app.run(body)
    assert read_metrics()["timestep_runs_ended_total"][("failed",)] == 0
    app.execute("UPDATE timestep.run_changes SET created_at = created_at - interval '10 seconds'")
    assert read_metrics()["timestep_runs_ended_total"][("failed",)] == 1
