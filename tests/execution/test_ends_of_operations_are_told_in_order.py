"""Ends of DBOS's operations have their places, whoever draws them, and whatever comes in vain."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from timestep.dbos_internals.ends import records
from timestep.dbos_internals.ends.records import GET_RESULT, Made, Recorded
from timestep.execution.replay import end_order
from timestep.execution.replay.operation_order import OperationEnd, Operations
from timestep.execution.replay.run_order import RunOrder


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(test(*args, **options))

    return run


def order_of(monkeypatch: pytest.MonkeyPatch, *found: Recorded, copied_until: int = 0) -> RunOrder:
    """The order of an execution of which earlier ones have recorded something."""
    monkeypatch.setattr(records, "recorded", lambda _: list(found))
    monkeypatch.setattr(records, "made", lambda _: Made(copied_until, is_fork=True))
    order = RunOrder(is_repeated=True)
    order.operations.know("w")
    return order


def step(number: int, place: int) -> Recorded:
    return Recorded(number, "step", None, place)


def end(order: RunOrder, number: int) -> OperationEnd:
    return OperationEnd(order, "w", number, "step", None)


def begun(operations: Operations, number: int, child: str) -> int | None:
    operations.begin(number, child)
    return operations.place_of(number)


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@on_a_loop
async def test_only_the_loop_changes_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """DBOS records in threads of its own, which may be on their way after the caller has left."""
    order = order_of(monkeypatch)
    forgotten_by: set[int] = set()
    forget = order.forget

    def forgot(position: int) -> None:
        forgotten_by.add(threading.get_ident())
        forget(position)

    monkeypatch.setattr(order, "forget", forgot)
    left, mistaken, last = (end(order, number) for number in (1, 2, 3))
    left.leave()
    for one in (left, mistaken, last):
        await asyncio.to_thread(one.stamp, None, int)
    await asyncio.to_thread(mistaken.take_back)
    for one in (mistaken, last):
        await one.hand_over()
        one.leave()
    assert forgotten_by == {threading.get_ident()}


@on_a_loop
async def test_what_a_fork_copied_is_waited_for_when_something_else_came_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [step(1, 10), step(2, 15), step(3, 30), step(4, 40)]
    order = order_of(monkeypatch, *found, copied_until=20)
    monkeypatch.setattr(order, "patience", 0.0)
    monkeypatch.setattr(end_order, "PATIENCE", 0.0)
    await end(order, 4).hand_over()
    monkeypatch.undo()
    order.patience = end_order.PATIENCE
    first, second = end(order, 1), end(order, 2)
    told: list[int] = []

    async def hand_over(one: OperationEnd, number: int) -> None:
        await one.hand_over()
        told.append(number)
        one.leave()

    waits = asyncio.ensure_future(hand_over(second, 2))
    await ticks(50)
    await hand_over(first, 1)
    await waits
    assert told == [1, 2]


def test_results_of_one_child_have_their_own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Recorded(number, GET_RESULT, "c", 30 - number) for number in (5, 6, 7)]
    monkeypatch.setattr(records, "recorded", lambda _: found)
    monkeypatch.setattr(records, "made", lambda _: Made(0, is_fork=False))
    operations = Operations()
    operations.know("w")
    # Earlier versions had drawn another number for that of 9.
    assert [begun(operations, number, "c") for number in (6, 9, 7)] == [24, 25, 23]
    assert begun(operations, 10, "c") is None


@pytest.mark.parametrize("is_read_first", [True, False])
def test_results_of_children_have_their_places_whoever_is_asked_first(
    monkeypatch: pytest.MonkeyPatch, is_read_first: bool
) -> None:
    found = [Recorded(5, GET_RESULT, "a", 30), Recorded(6, GET_RESULT, "b", 20)]
    monkeypatch.setattr(records, "recorded", lambda _: found)
    monkeypatch.setattr(records, "made", lambda _: Made(0, is_fork=False))
    operations = Operations()
    if is_read_first:
        operations.know("w")
    operations.begin(5, "b")
    operations.begin(6, "a")
    operations.know("w")
    assert [operations.place_of(number) for number in (5, 6)] == [20, 30]
    operations.leave(5)
    assert operations.first_before(31, is_repeated=True) == 5
    operations.leave(6)
    # That of another child is not its own.
    assert begun(operations, 5, "c") is None
