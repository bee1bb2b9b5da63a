"""Changes of one session that say the same are told apart, in whatever order they come again."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import Any

import pytest

from timestep.execution.replay.session_contents import SessionContents

SAME = {"role": "user", "content": "same"}


class Listed:
    in_memory = True

    def __init__(self, *items: Any) -> None:
        self.items = list(items)

    async def get_items(self) -> list[Any]:
        return list(self.items)

    async def add_items(self, items: list[Any]) -> None:
        self.items.extend(items)


def contents_of(session: Listed) -> SessionContents:
    """As each run has of its session."""
    contents = SessionContents(session)
    contents.everything, contents.give = session.get_items, session.add_items
    return contents


@pytest.mark.parametrize("held", [0, 3], ids=["lost", "kept"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_each_change_is_there_once(order: tuple[int, ...], held: int) -> None:
    """Of three parallel changes each was recorded with what the session held after it."""
    session = Listed(*[SAME] * held)
    changes = [uuid.uuid4() for _ in range(3)]

    async def again() -> None:
        for number in (*order, *order):
            after = [SAME] * (number + 1)
            await contents_of(session).add_again(changes[number], [SAME], after)

    asyncio.run(again())
    assert session.items == [SAME] * 3


def test_what_is_added_anew_is_not_taken_for_what_was_lost() -> None:
    session = Listed()

    async def live() -> None:
        contents = contents_of(session)
        await contents.added(uuid.uuid4(), [SAME], lambda: session.add_items([SAME]))
        await contents_of(session).add_again(uuid.uuid4(), [SAME], [SAME])

    asyncio.run(live())
    assert session.items == [SAME] * 2


def test_what_others_had_said_comes_back_in_its_order() -> None:
    items = [{"role": "user", "content": text} for text in "abcd"]
    session = Listed(items[0])

    async def again() -> None:
        await contents_of(session).add_again(uuid.uuid4(), [items[3]], items)
        contents = contents_of(session)
        contents.known = items[:3]
        await contents.put_back()

    asyncio.run(again())
    assert session.items == items
