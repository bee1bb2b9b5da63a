"""The gate of a process that ends."""

from __future__ import annotations

import asyncio

import pytest

from timestep.runtime import draining


def test_a_step_that_runs_is_waited_for_and_no_other_begins() -> None:
    async def main() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        begun: list[str] = []

        async def step(name: str) -> None:
            async with draining.Passage():
                begun.append(name)
                entered.set()
                await leave.wait()

        first = asyncio.create_task(step("first"))
        await entered.wait()
        draining.close()
        second = asyncio.create_task(step("second"))
        await asyncio.sleep(0)
        assert not draining.wait(0)
        leave.set()
        await first
        assert draining.wait(0)
        assert begun == ["first"]
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert draining.wait(0)

    asyncio.run(main())


def test_a_step_that_raises_is_not_waited_for() -> None:
    async def main() -> None:
        async with draining.Passage():
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())
    draining.close()
    assert draining.wait(0)
