"""Ends are handed over one after the other, and nobody waits for what does not come again."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from timestep.errors import ReplayError
from timestep.execution.replay import end_order
from timestep.execution.replay.run_order import RunEnds, RunOrder

A, B, C = (uuid.UUID(int=number) for number in (1, 2, 3))


def recorded(
    *rows: tuple[uuid.UUID, int, list[int | None]], is_taken_over: bool = False
) -> dict[str, Any]:
    """What the database answers of runs: their ids, after which ends they began, and their ends."""
    runs = [{"id": str(id_), "begun_after": after, "ends": ends} for id_, after, ends in rows]
    return {"runs": runs, "took": 0, "is_taken_over": is_taken_over}


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(test(*args, **options))

    return run


class Workflow:
    """One execution of a workflow's code, and which ends it was told."""

    def __init__(self, *, is_repeated: bool = True) -> None:
        self.order = RunOrder(is_repeated=is_repeated)
        self.order.operations.nothing_is_recorded()
        self.told: list[uuid.UUID] = []
        self.ends: dict[uuid.UUID, RunEnds] = {}

    def begin(self, id_: uuid.UUID, beside: dict[str, Any]) -> None:
        self.ends[id_] = RunEnds(self.order, id_, "w")
        self.order.read(beside)
        (row,) = [row for row in beside["runs"] if row["id"] == str(id_)] or [{}]
        self.ends[id_].read(id_, row, may_go_on=False)

    async def end(self, id_: uuid.UUID) -> None:
        self.ends[id_].end(is_recorded=False)
        await self.ends[id_].hand_over()
        self.told.append(id_)


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@on_a_loop
async def test_an_end_waits_for_what_ended_before() -> None:
    beside = recorded((A, 0, [2]), (B, 0, [1]))
    flow = Workflow()
    for id_ in (A, B, C):
        flow.begin(id_, beside)
    ending = [asyncio.ensure_future(flow.end(id_)) for id_ in (C, A)]
    await ticks(100)
    assert flow.told == []
    await flow.end(B)
    await asyncio.gather(*ending)
    assert flow.told == [B, A, C]
    assert flow.order.told == 3


@on_a_loop
async def test_between_two_ends_code_has_time_for_what_it_does_then() -> None:
    flow = Workflow()
    told: list[str] = []

    async def late(id_: uuid.UUID, hops: int) -> None:
        await flow.end(id_)
        await ticks(hops)
        told.append(str(id_.int))

    for id_ in (A, B):
        flow.begin(id_, recorded())
    await asyncio.gather(late(A, 15), late(B, 0))
    assert told == ["1", "2"]


@on_a_loop
async def test_an_end_waits_for_a_run_that_began_before() -> None:
    beside = recorded((A, 0, [1]), (B, 0, [2]), (C, 1, []))
    flow = Workflow()
    for id_ in (A, B):
        flow.begin(id_, beside)
    ending = asyncio.ensure_future(flow.end(B))
    await flow.end(A)
    await ticks(100)
    assert flow.told == [A]
    flow.begin(C, beside)
    await ending
    assert flow.ends[C].begun_after == 1


@pytest.mark.parametrize(
    "flow", [Workflow(is_repeated=False), Workflow()], ids=["in a tool", "taken over"]
)
@on_a_loop
async def test_what_need_not_begin_again_is_not_waited_for(flow: Workflow) -> None:
    beside = recorded((A, 0, [1]), (B, 0, [2]), is_taken_over=True)
    flow.begin(B, beside)
    await flow.end(B)
    assert flow.told == [B]


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_order, "PATIENCE", 0.01)


@pytest.mark.usefixtures("no_patience")
@on_a_loop
async def test_a_wait_that_is_in_vain_says_what_for() -> None:
    flow = Workflow()
    flow.order.patience = 0.01
    flow.begin(B, recorded((A, 0, [1]), (B, 0, [2])))
    with pytest.raises(ReplayError, match=f"run {A} ends before run {B} ends, as the record tells"):
        await flow.end(B)
    flow = Workflow()
    flow.order.patience = 0.01
    flow.begin(B, recorded((A, 0, []), (B, 0, [1])))
    with pytest.raises(ReplayError, match=f"run {A} begins before run {B} ends"):
        await flow.end(B)


@pytest.mark.usefixtures("no_patience")
@on_a_loop
async def test_what_ends_only_now_goes_on_without_what_does_not_come(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flow = Workflow()
    flow.begin(B, recorded((A, 0, [1])))
    await flow.end(B)
    assert flow.told == [B]
    assert f"run {A} ends before run {B} ends" in caplog.text


@on_a_loop
async def test_who_was_cut_off_unread_holds_nobody_up() -> None:
    beside = recorded((A, 0, [1]), (B, 0, [2]))
    flow = Workflow()
    flow.ends[A] = RunEnds(flow.order, A, "w")
    await flow.ends[A].hand_over()
    flow.begin(B, beside)
    await flow.end(B)
    assert flow.told == [B]


@on_a_loop
async def test_stops_of_an_earlier_version_have_no_place() -> None:
    ends = RunEnds(RunOrder(is_repeated=False), A, "w")
    ends.read(A, {"ends": None}, may_go_on=False)
    assert ends.end(is_recorded=True) == []
    await ends.hand_over()
    ends.go_on()
    assert ends.end(is_recorded=False) == [None, 1]
