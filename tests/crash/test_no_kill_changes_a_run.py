"""Kill a run at every boundary of every step, recover it, and find nothing changed.

Every scenario is run once undisturbed. Then, for each boundary it passed, a process that
runs it is killed there with SIGKILL and another recovers it: the answer, every row and
DBOS's records of its steps must be those of the undisturbed run, and an effect whose outcome
was committed must not have happened again.

Every scenario is killed where steps are recorded jointly with their rows, some where DBOS
records them itself, too; and a process of either way recovers what one of either way began.

That takes minutes: `pytest -m long`. Without it a run is killed once at every kind of boundary,
each in one of the scenarios: `KILLS` says where.
"""

from __future__ import annotations

import itertools
import queue
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.crash.harness import Outcome, Way, Zygote, database, labels, observed

WORKERS = 2

DECISIONS: dict[str, dict[str, Any]] = {
    "c1": {"approve": ["c1"]},
    "c3": {"reject": ["c3"], "message": "b stays"},
    "innermost0": {"approve": ["innermost0"]},
    "clerk0": {"edit": {"clerk0": {"name": "b"}}},
    "office1": {"edit": {"office1": {"name": "a"}}},
}

SCENARIOS = {
    "trip": "Oslo is sunny / Rome is sunny / booked Rome / ",
    "streamed": "Oslo is sunny / Rome is sunny / booked Rome / ",
    "fails": "UserError: Error running tool breaks: no more fuel",
    "tripped": "InputGuardrailTripwireTriggered",
    "nested": "so says the expert / Oslo is sunny",
    "approved": "Oslo is sunny / deleted a / b stays",
    "edited": 'office: {"input":"x"}: clerk: {"name":"b"}: deleted b / {"name":"a"}: deleted a | '
    """['{"input":"x"}', '{"name":"a"}']""",
    "mcp": "Oslo is sunny / Rome is sunny",
    "sqlite_session": "from Oslo to Rome, then ['assistant']",
    "apart": "1a, so says the guide {'seats': ['1a']} 4",
    "native": "select: 3 rows / ran ls / made a {'commands': ['ls'], 'queries': ['select']}",
    "deep": "outermost: middle: innermost: deleted x",
    "guarded_by_agent": "not guilty",
    "as_completed": "after ['quick outside', 'slow outside'] / overseer: "
    "after ['quick inside', 'slow inside']",
    "retried": "Oslo is sunny after 4 requests",
    "forked": "Oslo is sunny / Rome is sunny / booked Rome / ",
    "input_guardrails": "What's the capital of California? / answer 1 / Can you help",
    "research": "from Oslo to Rome: ['found first to know', None, 'found last to know']",
    "remembered": "['population', 'population is item 5'] of 6",
}

IN_THE_ORDINARY_WAY = ("trip", "fails", "tripped", "approved", "edited")
"""Scenarios that are killed where DBOS records the steps itself, too."""

KILLS: dict[str, tuple[str, ...]] = {
    "trip": (
        "before tool input guardrail: small",
        "after tool input guardrail: small",
        "committed output guardrail: short",
    ),
    "streamed": ("committed tool input guardrail: small", "streamed turn 2: Planner"),
    "fails": ("before tool: breaks (c1)", "committed end of run"),
    "tripped": ("after input guardrail: trips", "committed input guardrail: trips"),
    "nested": ("committed start of run #2", "after tool: look_up (c1)"),
    "approved": ("before parking", "told of a decision #2"),
    "edited": (
        "told of a decision",
        "after tool: delete (clerk0)",
        "committed tool: delete (office1)",
        "recorded session: read",
    ),
    "mcp": (
        "before mcp list_tools: weather #2",
        "after mcp list_tools: weather #2",
        "committed mcp list_tools: weather #2",
    ),
    "sqlite_session": (
        "before session get_items",
        "after session get_items",
        "committed session get_items",
        "before session pop_item",
        "after session pop_item",
        "committed session pop_item",
        "before session add_items: before #2",
        "after session add_items: before #2",
        "committed session add_items: before #2",
    ),
    "apart": ("recorded reserve", "inside tool: seat"),
    "native": ("committed tool: shell (c1)", "before turn 2: Worker"),
    "deep": ("parked",),
    "guarded_by_agent": ("before input guardrail: judged",),
    "as_completed": ("after turn 1: Leader #4",),
    "retried": ("committed turn 2: Busy",),
    "forked": ("before output guardrail: short", "after output guardrail: short"),
    "input_guardrails": ("committed end of run", "committed turn 1: Guardrail check #2"),
    "research": ("committed end of run #3",),
    "remembered": ("committed session add_items: before #3", "committed end of run #2"),
}
"""Where the short form kills a run."""

KILLS_IN_THE_ORDINARY_WAY: dict[str, tuple[str, ...]] = {
    "trip": (
        "committed tool input guardrail: small",
        "recorded tool input guardrail: small",
        "committed output guardrail: short",
        "recorded output guardrail: short",
    ),
    "fails": (
        "committed turn 1: Failing",
        "recorded turn 1: Failing",
        "committed tool: breaks (c1)",
        "recorded tool: breaks (c1)",
    ),
    "tripped": (
        "committed start of run",
        "committed input guardrail: trips",
        "recorded input guardrail: trips",
        "committed end of run",
    ),
    "approved": ("before parking", "parked", "told of a decision #2"),
    "edited": ("committed tool: delete (clerk0)", "recorded tool: delete (office1)"),
}
"""Where else, with steps that DBOS records itself: between the two commits, and behind them."""

MANY = 20
"""Boundaries of which some are left out there: the same code came to them in the joint way."""

FORKED = {"forked": ("trip", 2)}
"""Scenarios that begin with a turn of another one, which has ended."""


@pytest.fixture(scope="module")
def zygotes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Zygote]]:
    started = [Zygote(tmp_path_factory.mktemp(f"zygote{n}")) for n in range(WORKERS)]
    yield started
    for zygote in started:
        zygote.close()


class Matrix:
    """Lives of one scenario, each in a database of its own."""

    def __init__(self, server: str, template: str, zygotes: list[Zygote], folder: Path) -> None:
        self.server = server
        self.template = template
        self.folder = folder
        self.names = itertools.count()
        self.free: queue.SimpleQueue[Zygote] = queue.SimpleQueue()
        for zygote in zygotes:
            self.free.put(zygote)

    def lives(
        self, scenario: str, kill_at: str | None, way: Way, recovered: Way | None = None
    ) -> Outcome:
        """What is left after a life that ends at `kill_at`, if any, and one that recovers.

        `way` is that of the first life, and of the other one, if it is not `recovered`.
        """
        fork = FORKED.get(scenario)
        number = next(self.names)
        log = self.folder / f"{number}.log"
        zygote = self.free.get()
        try:
            with database(self.server, f"crash_{number}", self.template) as url:
                if fork is not None:
                    old = log.with_suffix(".old")
                    zygote.live(fork[0], url, old, workflow_id=fork[0], way=way)
                if kill_at is not None:
                    first = zygote.live(scenario, url, log, kill_at, DECISIONS, fork=fork, way=way)
                    assert first is None, f"the run never came to {kill_at!r}"
                last = recovered or way
                result = zygote.live(scenario, url, log, None, DECISIONS, fork=fork, way=last)
                return observed(url, log, result)
        finally:
            self.free.put(zygote)


@pytest.fixture
def matrix(server: str, template: str, zygotes: list[Zygote], tmp_path: Path) -> Matrix:
    return Matrix(server, template, zygotes, tmp_path)


WAYS: list[tuple[str, Way]] = [
    *((scenario, "joint") for scenario in SCENARIOS),
    *((scenario, "ordinary") for scenario in IN_THE_ORDINARY_WAY),
]


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("scenario", "way"), WAYS)
def test_killed_anywhere_a_run_ends_as_if_it_had_not_been(
    matrix: Matrix, scenario: str, way: Way, report: Callable[[str], None]
) -> None:
    whole = undisturbed(matrix, scenario, way)
    other = undisturbed(matrix, scenario, other_than(way))
    assert_same(other, whole, "nowhere, in the other way")
    points = labels(whole.log)
    if way == "ordinary" and len(points) > MANY:
        # Each step has four of them: every third one comes to each kind of them in turn.
        points = points[::3]
    check(matrix, scenario, way, points, whole)
    line = f"{scenario}, {way} steps: {len(points)} kill points, 0 effects doubled"
    report(f"crash matrix: {line}")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_here_and_there_a_run_ends_as_if_it_had_not_been(
    matrix: Matrix, scenario: str, report: Callable[[str], None]
) -> None:
    whole = undisturbed(matrix, scenario, "joint")
    known = {kind_of(point) for points in KILLS.values() for point in points}
    new = [point for point in labels(whole.log) if kind_of(point) not in known]
    assert new == [], "KILLS comes to no such boundary"
    points = KILLS[scenario]
    check(matrix, scenario, "joint", points, whole)
    ordinary = KILLS_IN_THE_ORDINARY_WAY.get(scenario, ())
    check(matrix, scenario, "ordinary", ordinary, whole)
    count = len(points) + len(ordinary)
    report(f"crash matrix: {scenario}: {count} kill points, 0 effects doubled")


def kind_of(boundary: str) -> tuple[str, str]:
    """Where a boundary lies, and of what kind the step is."""
    place, _, step = boundary.partition(" ")
    return place, re.sub(r"[ #]*\d+", "", step.partition(":")[0])


def other_than(way: Way) -> Way:
    return "joint" if way == "ordinary" else "ordinary"


def undisturbed(matrix: Matrix, scenario: str, way: Way) -> Outcome:
    """What a scenario leaves that nothing kills."""
    whole = matrix.lives(scenario, None, way)
    assert whole.result.startswith(SCENARIOS[scenario])
    assert whole.doubled() == []
    return whole


def check(matrix: Matrix, scenario: str, way: Way, points: Sequence[str], whole: Outcome) -> None:
    """Kill a scenario at boundaries, and compare what is left with what an undisturbed one left."""

    def recovered(point: str) -> Outcome:
        # Every other one in the other way.
        recovers = (way, other_than(way))[points.index(point) % 2]
        return matrix.lives(scenario, point, way, recovers)

    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = zip(points, pool.map(recovered, points), strict=True)
        for point, outcome in outcomes:
            assert outcome.doubled() == [], point
            assert_same(outcome, whole, point)


def assert_same(outcome: Outcome, whole: Outcome, point: str) -> None:
    assert outcome.result == whole.result, point
    for table, rows in whole.rows.items():
        assert outcome.rows[table] == rows, (point, table)
    assert outcome.steps == whole.steps, point


def _refund(matrix: Matrix, kill_at: str, decision: dict[str, Any]) -> Outcome:
    number = next(matrix.names)
    log = matrix.folder / f"{number}.log"
    zygote = matrix.free.get()
    try:
        with database(matrix.server, f"crash_{number}", matrix.template) as url:
            assert zygote.live("refunded", url, log, kill_at) is None
            result = zygote.live("refunded", url, log, None, {"c1": decision})
            return observed(url, log, result)
    finally:
        matrix.free.put(zygote)


def _refunds(outcome: Outcome) -> int:
    return outcome.log.count("effect tool refund 5")


@pytest.mark.parametrize("kill_at", ["intended tool: refund (c1)", "after tool: refund (c1)"])
@pytest.mark.parametrize(
    ("decision", "answer", "made_again", "status"),
    [
        ({"approve": ["c1"]}, "refunded 5", True, "executed"),
        ({"reject": ["c1"]}, "It may or may not have taken effect.", False, "rejected"),
        ({"supply": {"c1": "refunded by hand"}}, "refunded by hand", False, "executed"),
    ],
    ids=["approve", "reject", "supply"],
)
def test_a_call_in_doubt_is_made_again_only_if_a_person_says_so(
    matrix: Matrix,
    kill_at: str,
    decision: dict[str, Any],
    answer: str,
    made_again: bool,
    status: str,
) -> None:
    outcome = _refund(matrix, kill_at, decision)
    happened_before = kill_at.startswith("after")
    assert _refunds(outcome) == happened_before + made_again
    assert answer in outcome.result
    assert "Oslo is sunny" in outcome.result
    (call,) = [c for c in outcome.rows["tool_calls"] if c["tool_name"] == "refund"]
    assert call["status"] == status
    (question,) = outcome.rows["interruptions"]
    assert question["reason"] == "in_doubt"
    assert question["resolved_by"] == "tester"
    (run,) = outcome.rows["runs"]
    assert run["status"] == "completed"


@pytest.mark.parametrize("kill_at", ["before tool: refund (c1)", "committed tool: refund (c1)"])
def test_a_call_whose_outcome_is_known_asks_nobody(matrix: Matrix, kill_at: str) -> None:
    outcome = _refund(matrix, kill_at, {"approve": ["c1"]})
    assert _refunds(outcome) == 1
    assert outcome.rows["interruptions"] == []
    assert outcome.result.startswith("Oslo is sunny / refunded 5") or "refunded 5" in outcome.result


APPROVE = {"c1": {"approve": ["c1"]}, "c2": {"approve": ["c2"]}}
REFUND = "after tool: refund (c1)"
PAY = "after tool: pay (c1)"


@pytest.mark.parametrize(
    ("scenario", "kills", "made"),
    [
        # A person said to call again, and the process died in that call, too.
        ("refunded", [REFUND, REFUND], 3),
        # ... and once more after the outcome was recorded: nothing is asked anew.
        ("refunded", [REFUND, REFUND, "committed turn 2: Cashier"], 3),
        ("refunded", [REFUND, "committed tool: refund (c1)"], 2),
        # A tool that needs an approval, too: the doubt is a question of its own.
        ("paid", [PAY], 2),
        ("paid", [PAY, "committed turn 2: Payer"], 2),
    ],
)
def test_each_doubt_is_asked_about_once(
    matrix: Matrix, scenario: str, kills: list[str], made: int
) -> None:
    number = next(matrix.names)
    log = matrix.folder / f"{number}.log"
    zygote = matrix.free.get()
    try:
        with database(matrix.server, f"crash_{number}", matrix.template) as url:
            for kill_at in kills:
                assert zygote.live(scenario, url, log, kill_at, APPROVE) is None
            outcome = observed(url, log, zygote.live(scenario, url, log, None, APPROVE))
    finally:
        matrix.free.put(zygote)
    first = {"refunded": "effect tool refund 5", "paid": "effect tool pay 1"}[scenario]
    assert outcome.log.count(first) == made
    asked = outcome.rows["interruptions"]
    assert {row["resolution_action"] for row in asked} == {"approve"}
    for call in outcome.rows["tool_calls"]:
        doubts = [
            row
            for row in asked
            if row["tool_call_id"] == call["id"] and row["reason"] == "in_doubt"
        ]
        # One for each intent but the one whose outcome was recorded.
        assert len(doubts) == max(call["intents"] - 1, 0)
        assert call["status"] == "executed"
    assert outcome.rows["runs"][0]["status"] == "completed"


def test_a_call_that_was_edited_is_in_doubt_as_edited(matrix: Matrix) -> None:
    number = next(matrix.names)
    log = matrix.folder / f"{number}.log"
    edit: dict[str, dict[str, Any]] = {**APPROVE, "c1": {"edit": {"c1": {"cents": 3}}}}
    zygote = matrix.free.get()
    try:
        with database(matrix.server, f"crash_{number}", matrix.template) as url:
            assert zygote.live("paid", url, log, PAY, edit) is None
            outcome = observed(url, log, zygote.live("paid", url, log, None, APPROVE))
    finally:
        matrix.free.put(zygote)
    assert outcome.log.count("effect tool pay 3") == 2
    assert outcome.log.count("effect tool pay 1") == 0
    assert outcome.result.startswith("paid 3")
    asked = [row for row in outcome.rows["interruptions"] if row["call_id"] == "c1"]
    first, doubt = sorted(asked, key=lambda row: row["reason"] == "in_doubt")
    assert (first["resolution_action"], first["arguments"]) == ("edit", {"cents": 1})
    assert first["resolution_arguments"] == {"cents": 3}
    assert (doubt["resolution_action"], doubt["arguments"]) == ("approve", {"cents": 3})
    (call,) = [row for row in outcome.rows["tool_calls"] if row["call_id"] == "c1"]
    assert (call["arguments"], call["edited_arguments"]) == ({"cents": 1}, {"cents": 3})


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_call_in_doubt_is_asked_about_though_its_tool_is_always_approved(
    matrix: Matrix, decision: str
) -> None:
    number = next(matrix.names)
    log = matrix.folder / f"{number}.log"
    decisions: dict[str, dict[str, Any]] = {
        "c1": {"approve": ["c1"], "always": True},
        "c2": {decision: ["c2"]},
    }
    zygote = matrix.free.get()
    try:
        with database(matrix.server, f"crash_{number}", matrix.template) as url:
            kill_at = "after tool: pay (c2)"
            assert zygote.live("paid_twice", url, log, kill_at, decisions) is None
            outcome = observed(url, log, zygote.live("paid_twice", url, log, None, decisions))
    finally:
        matrix.free.put(zygote)
    again = decision == "approve"
    assert outcome.log.count("effect tool pay 1") == 1
    assert outcome.log.count("effect tool pay 2") == 1 + again
    asked = {(row["call_id"], row["reason"]) for row in outcome.rows["interruptions"]}
    assert asked == {("c1", "needs_approval"), ("c2", "in_doubt")}
    ending = "paid 2" if again else "It may or may not have taken effect."
    assert outcome.result.startswith("paid 1 / ")
    assert outcome.result.endswith(ending)
