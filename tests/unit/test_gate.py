"""The gate of a process that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from timestep import gate


@pytest.fixture(autouse=True)
def open_gate() -> Iterator[None]:
    yield
    gate.reopen()


def test_a_step_that_runs_is_waited_for_and_no_other_begins() -> None:
    async def main() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        begun: list[str] = []

        async def step(name: str) -> None:
            async with gate.Passage():
                begun.append(name)
                entered.set()
                await leave.wait()

        first = asyncio.create_task(step("first"))
        await entered.wait()
        gate.close()
        second = asyncio.create_task(step("second"))
        await asyncio.sleep(0)
        assert not gate.wait(0)
        leave.set()
        await first
        assert gate.wait(0)
        assert begun == ["first"]
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert gate.wait(0)

    asyncio.run(main())


def test_a_step_that_raises_is_not_waited_for() -> None:
    async def main() -> None:
        async with gate.Passage():
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())
    gate.close()
    assert gate.wait(0)
