"""The bundled entrypoints on a real database, with the offline model."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
from typing import Any

import pytest
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.dbos_app import App
from tests.support.forked_processes import Forked
from timestep.offline import PREFIX

LIFE = """
import asyncio, importlib, sys
from dbos import DBOS, SetWorkflowID
name, argument, url = sys.argv[1:]
entrypoint = getattr(importlib.import_module(f"workflows.{name}"), name)
DBOS(config={
    "name": "timestep-tests",
    "system_database_url": url,
    "application_version": "1",
    "log_level": "ERROR",
})
DBOS.launch()
with SetWorkflowID(name):
    asyncio.run(entrypoint(argument))
"""
"""One life of an entrypoint, in a process of its own that can be killed."""


def entrypoint(name: str) -> Any:
    """Imported inside a test, where no API key of the machine is seen."""
    return getattr(importlib.import_module(f"workflows.{name}"), name)


def start(name: str, argument: str) -> Any:
    with SetWorkflowID(name):
        return DBOS.start_workflow(entrypoint(name), argument)


def steps(workflow_id: str) -> list[str]:
    """The recorded steps, without call ids."""
    names = [step["function_name"] for step in DBOS.list_workflow_steps(workflow_id)]
    return [re.sub(r" \(call_\w+\)$", "", name) for name in names]


def asked(app: App) -> list[timestep.Interruption]:
    """The two approvals that `operations` waits for, once it sleeps."""

    def waits_for() -> list[timestep.Interruption]:
        found = asyncio.run(timestep.list_interruptions(workflow_id="operations"))
        return found if len(found) == 2 else []

    return sorted(app.until(waits_for), key=lambda each: str(each.tool_name))


def outcome(app: App) -> tuple[str, Any, int]:
    (run,) = app.rows("runs")
    return run["status"], run["final_output"], run["current_turn"]


def triggered(app: App) -> list[tuple[str, bool]]:
    rows = app.rows("guardrail_results", "position")
    return [(row["guardrail_name"], row["tripwire_triggered"]) for row in rows]


SUPPORT_STEPS = {
    "Billing": [
        "input guardrail: polite",
        "turn 1: Triage",
        "turn 2: Billing",
        "tool: find_invoice",
        "turn 3: Billing",
        "output guardrail: no_card_numbers",
    ],
    "Shipping": [
        "input guardrail: polite",
        "turn 1: Triage",
        "turn 2: Shipping",
        "tool: track_parcel",
        "turn 3: Shipping",
        "output guardrail: no_card_numbers",
    ],
}


@pytest.mark.parametrize(
    ("message", "desk", "answer"),
    [
        ("Was I charged for A100?", "Billing", "Order A100: 49.00 EUR, card ending in 4242."),
        ("Where is order a101?", "Shipping", "The parcel of order A101: delivered."),
        ("Where is my parcel?", "Shipping", "The parcel of order unknown: no such order."),
    ],
)
def test_customer_support_hands_over_to_the_right_desk(
    app: App, message: str, desk: str, answer: str
) -> None:
    assert (
        start("customer_support", message).get_result(polling_interval_sec=0.02) == PREFIX + answer
    )

    assert steps("customer_support") == SUPPORT_STEPS[desk]
    assert outcome(app) == ("completed", PREFIX + answer, 3)
    (run,) = app.rows("runs")
    assert (run["workflow_id"], run["workflow_name"]) == ("customer_support",) * 2
    assert app.names("agents", run["current_agent_id"]) == desk
    assert triggered(app) == [("polite", False), ("no_card_numbers", False)]
    assert [row["item_type"] for row in app.rows("run_items", "position")] == [
        "handoff_call_item",
        "handoff_output_item",
        "tool_call_item",
        "tool_call_output_item",
        "message_output_item",
    ]
    assert {row["model"] for row in app.rows("agents")} == {"offline"}


def test_customer_support_answers_abuse_politely_and_asks_no_model(app: App) -> None:
    assert (
        start("customer_support", "You idiots!")
        .get_result(polling_interval_sec=0.02)
        .startswith("We are glad to help")
    )

    assert steps("customer_support") == ["input guardrail: polite"]
    assert outcome(app)[:2] == ("failed", None)
    assert triggered(app) == [("polite", True)]
    assert app.rows("model_responses") == []


def test_customer_support_shows_no_card_number(app: App) -> None:
    answer = start("customer_support", "Which card paid for A101?").get_result(
        polling_interval_sec=0.02
    )

    assert answer.startswith("We cannot show that here")
    assert steps("customer_support") == SUPPORT_STEPS["Billing"]
    assert outcome(app) == ("failed", None, 3)
    assert triggered(app) == [("polite", False), ("no_card_numbers", True)]


RESEARCH_STEPS = [
    "turn 1: Researcher",
    "tool: search_papers",
    "tool: search_news",
    "tool: search_encyclopedia",
    "turn 2: Researcher",
]


def check_research(app: App, result: Any) -> None:
    assert result["topic"] == "bees"
    assert len(result["findings"]) == 3
    assert result["summary"] == f"{PREFIX}Bees: {'; '.join(result['findings'])}."
    assert steps("research") == RESEARCH_STEPS
    assert outcome(app) == ("completed", result["summary"], 2)
    calls = app.rows("tool_calls", "call_id")
    assert [(row["turn"], row["status"], row["output"]) for row in calls] == [
        (1, "executed", finding) for finding in result["findings"]
    ]
    assert [row["turn"] for row in app.rows("model_responses", "ordinal")] == [1, 2]


def test_research_searches_every_source_at_once(app: App) -> None:
    check_research(app, start("research", "bees").get_result(polling_interval_sec=0.02))

    (usage,) = app.rows("usage_metrics")
    assert usage["requests"] == 2
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


OPERATIONS_STEPS = [
    "turn 1: Operator",
    "tool: check_health",
    "turn 2: Operator",
    "tool: restart_service",
    "tool: delete_backups",
    "turn 3: Operator",
]
TASK = "Restart billing and delete its backups"
DONE = (
    f"{PREFIX}billing: 3 of 4 instances fail; billing is restarted; "
    "the backups of billing are deleted."
)


def test_operations_waits_for_approvals(app: App) -> None:
    running = start("operations", TASK)
    backups, restart = asked(app)
    assert [(each.tool_name, each.arguments) for each in (backups, restart)] == [
        ("delete_backups", {"service": "billing"}),
        ("restart_service", {"service": "billing"}),
    ]
    assert outcome(app) == ("interrupted", None, 2)

    first = timestep.resume_workflow_sync("operations", approve=[backups.id], by="ann")
    assert first.pending == [restart.id]
    second = timestep.resume_workflow_sync("operations", approve="all", by="ann")
    assert second.pending == []

    assert running.get_result(polling_interval_sec=0.02) == DONE
    assert set(steps("operations")) == set(OPERATIONS_STEPS)
    assert outcome(app) == ("completed", DONE, 3)
    assert [row["resolved_by"] for row in app.rows("interruptions")] == ["ann", "ann"]
    safe = {row["name"]: row["safe_to_repeat"] for row in app.rows("tools")}
    assert safe == {"check_health": True, "restart_service": True, "delete_backups": False}


def test_operations_does_nothing_that_is_rejected(app: App) -> None:
    running = start("operations", TASK)
    asked(app)

    timestep.resume_workflow_sync("operations", reject="all", message="not today")

    assert running.get_result(polling_interval_sec=0.02) == (
        f"{PREFIX}billing: 3 of 4 instances fail; not today; not today."
    )
    assert [step for step in OPERATIONS_STEPS if step not in steps("operations")] == [
        "tool: restart_service",
        "tool: delete_backups",
    ]
    called = {row["tool_name"]: row["status"] for row in app.rows("tool_calls")}
    assert called["check_health"] == "executed"
    assert called["restart_service"] == called["delete_backups"] == "rejected"


def test_operations_only_looks_where_nothing_else_is_asked(app: App) -> None:
    assert (
        start("operations", "How is search?").get_result(polling_interval_sec=0.02)
        == f"{PREFIX}search: disk 91 % full."
    )
    assert steps("operations") == OPERATIONS_STEPS[:3]


def kill_in_the_middle(app: App, name: str, argument: str, table: str) -> None:
    """Run an entrypoint in another process; kill that once a row of a table is written."""
    process = Forked(
        "-c", LIFE, name, argument, app.url, env={**os.environ, "TIMESTEP_OFFLINE_DELAY": "1"}
    )
    try:
        app.until(lambda: app.rows(table) or process.poll() is not None, seconds=60)
    finally:
        process.kill()
    assert process.wait() != 0


def recovered(name: str) -> Any:
    """What the workflow that was killed answers now."""
    return recover(name).get_result(polling_interval_sec=0.02)


def recover(name: str) -> Any:
    entrypoint(name)
    (handle,) = DBOS._recover_pending_workflows()
    assert handle.workflow_id == name
    return handle


def test_customer_support_goes_on_after_its_process_is_killed(app: App) -> None:
    kill_in_the_middle(app, "customer_support", "Was I charged for A100?", "model_responses")

    answer = recovered("customer_support")

    assert answer == f"{PREFIX}Order A100: 49.00 EUR, card ending in 4242."
    assert steps("customer_support") == SUPPORT_STEPS["Billing"]
    assert outcome(app) == ("completed", answer, 3)
    assert [row["status"] for row in app.rows("tool_calls")] == ["executed"]
    assert [row["turn"] for row in app.rows("model_responses", "ordinal")] == [1, 2, 3]


def test_research_goes_on_after_its_process_is_killed(app: App) -> None:
    kill_in_the_middle(app, "research", "bees", "model_responses")

    check_research(app, recovered("research"))


def test_operations_waits_on_after_its_process_is_killed(app: App) -> None:
    kill_in_the_middle(app, "operations", TASK, "interruptions")
    running = recover("operations")
    asked(app)

    timestep.resume_workflow_sync("operations", approve="all")

    assert running.get_result(polling_interval_sec=0.02) == DONE
    assert [step for step in steps("operations") if "DBOS" not in step] == [
        step for step in OPERATIONS_STEPS if "DBOS" not in step
    ]
    assert outcome(app) == ("completed", DONE, 3)
