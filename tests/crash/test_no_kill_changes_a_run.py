"""Kill a run at every boundary of every step, recover it, and find nothing changed.

Every scenario is run once undisturbed. Then, for each boundary it passed, a process that
runs it is killed there with SIGKILL and another recovers it: the answer, every row and
DBOS's records of its steps must be those of the undisturbed run, and an effect whose outcome
was committed must not have happened again.

Every scenario is killed where steps are recorded jointly with their rows, some where DBOS
records them itself, too; and a process of either way recovers what one of either way began.

That takes minutes: `pytest -m long`. Without it each scenario is killed at every sixth of its
boundaries, another sixth for each, so that together they come to every kind of them.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Iterator
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
}

SCENARIOS = {
    "trip": "Oslo is sunny / Rome is sunny / booked Rome / ",
    "streamed": "Oslo is sunny / Rome is sunny / booked Rome / ",
    "fails": "UserError: Error running tool breaks: no more fuel",
    "tripped": "InputGuardrailTripwireTriggered",
    "nested": "so says the expert / Oslo is sunny",
    "approved": "Oslo is sunny / deleted a / b stays",
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

IN_THE_ORDINARY_WAY = ("trip", "fails", "tripped", "approved")
"""Scenarios that are killed where DBOS records the steps itself, too."""

FEW = 6
"""Boundaries of which the short form takes one."""

FEWER = 18
"""That of the SDK's examples: their steps are of kinds that other scenarios have."""

EXAMPLES = ("input_guardrails", "research", "remembered")

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
    check(matrix, scenario, way, report)


@pytest.mark.parametrize(("scenario", "way"), WAYS)
def test_killed_here_and_there_a_run_ends_as_if_it_had_not_been(
    matrix: Matrix, scenario: str, way: Way, report: Callable[[str], None]
) -> None:
    few = FEWER if scenario in EXAMPLES else FEW
    check(matrix, scenario, way, report, slice(WAYS.index((scenario, way)) % few, None, few))


def check(
    matrix: Matrix,
    scenario: str,
    way: Way,
    report: Callable[[str], None],
    some: slice = slice(None),
) -> None:
    """Kill a scenario at its boundaries, or at some of them, and compare what is left."""
    other: Way = "joint" if way == "ordinary" else "ordinary"
    whole = matrix.lives(scenario, None, way)
    assert whole.result.startswith(SCENARIOS[scenario])
    assert whole.doubled() == []
    points = labels(whole.log)
    if way == "ordinary" and len(points) > MANY:
        # Each step has four of them: every third one comes to each kind of them in turn.
        points = points[::3]
    points = points[some] or points[-1:]

    def recovered(point: str) -> Outcome:
        # Every other one in the other way.
        return matrix.lives(scenario, point, way, (way, other)[points.index(point) % 2])

    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = dict(zip(points, pool.map(recovered, points), strict=True))
    outcomes["nowhere, in the other way"] = matrix.lives(scenario, None, other)

    for point, outcome in outcomes.items():
        assert outcome.doubled() == [], point
        assert outcome.result == whole.result, point
        for table, rows in whole.rows.items():
            assert outcome.rows[table] == rows, (point, table)
        assert outcome.steps == whole.steps, point
    line = f"{scenario}, {way} steps: {len(points)} kill points, 0 effects doubled"
    report(f"crash matrix: {line}")


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
