"""Those who follow runs in one process: one query for all, and none that waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
import pytest
from agents import Agent
from agents.testing import ScriptedModel, assistant_message

import timestep
from tests.support.dbos_app import App
from timestep.errors import DatabaseUnreachableError
from timestep.operations.queries import follow, live
from timestep.operations.queries.follow import ALL, Place
from timestep.operations.queries.live import Page, Reader, Readers
from timestep.operations.queries.records import RunEvent
from timestep.store.streams import Followed, Found

FOREVER = 3600.0


def sent(event: RunEvent) -> bytes:
    return f"{event.cursor} {event.type}\n".encode()


def made(app: App, workflow_id: str, runs: int = 1) -> list[str]:
    """What is told of a workflow, whose runs say something each."""
    texts = [[assistant_message(str(number))] for number in range(runs)]
    agent = Agent("A", model=ScriptedModel(texts))

    async def body() -> str:
        for _ in range(runs):
            await timestep.run_agent(agent, "hi")
        return "done"

    app.run(body, workflow_id)

    async def all_of_it() -> list[str]:
        events = timestep.follow(workflow_id)
        return [sent(event).decode().rstrip("\n") async for event in events]

    return asyncio.run(all_of_it())


async def read(reader: Reader, lines: list[str]) -> Page:
    """The page that says the end; what comes before it is added to the lines."""
    while True:
        page = await reader.next(FOREVER)
        assert page is not None
        lines += b"".join(one.sent for one in page.entries).decode().splitlines()
        if page.end is not None:
            return page


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Followed]]:
    """What each query asked for."""
    asked: list[Sequence[Followed]] = []
    query = follow.read

    def noting(given: Sequence[Followed]) -> list[Found]:
        asked.append(given)
        return query(given)

    monkeypatch.setattr(follow, "read", noting)
    return asked


def test_who_reads_the_same_is_served_by_the_same_query(
    app: App, queries: list[Sequence[Followed]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_ROWS", 2)
    told = made(app, "w", runs=3)
    queries.clear()

    async def work() -> None:
        readers, lines = Readers(sent), [list[str]() for _ in range(50)]

        async def one(heard: list[str], place: Place) -> None:
            with readers.reading((None, "w"), place) as reader:
                page = await read(reader, heard)
                assert (page.end, page.status) == ("over", "completed")

        await asyncio.gather(*(one(heard, (0, -1)) for heard in lines))
        assert lines == [told] * 50
        # What follows the last row is read once more, as two rows were found.
        assert len(queries) == len(told) // 2 + 1
        assert [len(asked) for asked in queries] == [1] * len(queries)
        queries.clear()
        # Those who come back at different places are served by one query, too.
        for heard in lines:
            heard.clear()
        places = [follow.place_of(line.split()[0]) for line in told]
        monkeypatch.setattr(follow, "_ROWS", 200)
        await asyncio.gather(*map(one, lines, places))
        assert lines[: len(told)] == [told[number + 1 :] for number in range(len(told))]
        assert [len(asked) for asked in queries] == [len(told)]
        assert len(readers) == 0

    asyncio.run(work())


def test_a_slow_reader_is_not_asked_for_and_loses_nothing(
    app: App, queries: list[Sequence[Followed]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_ROWS", 2)
    told = made(app, "w", runs=5)
    queries.clear()

    async def work() -> None:
        readers = Readers(sent)
        quick: list[str] = []
        slow: list[str] = []
        with (
            readers.reading((None, "w"), (0, -1)) as first,
            readers.reading((None, "w"), (0, -1)) as second,
        ):
            await read(first, quick)
            assert quick == told
            # One page waits for the slow one.
            assert second.place == (follow.place_of(told[2].split()[0])[0], -1)
            asked = len(queries)
            await read(second, slow)
            assert slow == told
            assert len(queries) == 2 * asked - 1

    asyncio.run(work())


def test_who_is_gone_is_forgotten_and_who_comes_after_all_left_is_served(app: App) -> None:
    told = made(app, "w")

    async def work() -> None:
        readers = Readers(sent)
        for _ in range(2):
            lines: list[str] = []
            with readers.reading((None, "w"), (0, -1)) as reader:
                await read(reader, lines)
            assert lines == told
            with readers.reading((None, "w"), (0, -1)) as reader:
                reader.leave()
                assert await reader.next(FOREVER) is None
                assert not reader.has_room
            assert len(readers) == 0
            assert readers._rounds is not None
            await readers._rounds

    asyncio.run(work())


def test_readers_wait_for_a_database_that_is_away(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = made(app, "w")
    query, failures = follow.read, [1, 1, 1]

    def failing(given: Sequence[Followed]) -> list[Found]:
        if failures:
            failures.pop()
            raise DatabaseUnreachableError("it is away")
        return query(given)

    monkeypatch.setattr(follow, "read", failing)
    monkeypatch.setattr(live, "_PAUSE_AFTER_FAILURE", 0.0)

    async def work() -> None:
        lines: list[str] = []
        with Readers(sent).reading((None, "w"), (0, -1)) as reader:
            await read(reader, lines)
        assert lines == told

    asyncio.run(work())
    said = [one.getMessage() for one in caplog.records if one.name == "timestep"]
    assert said == ["those who follow runs wait: it is away"]


def test_what_cannot_be_told_ends_its_own_readers_only(app: App) -> None:
    told = made(app, "good")
    made(app, "bad")
    bad = {str(row["id"]) for row in app.rows("runs") if row["workflow_id"] == "bad"}

    def refusing(event: RunEvent) -> bytes:
        if event.run_id in bad:
            raise ValueError("no")
        return sent(event)

    async def work() -> None:
        readers, lines = Readers(refusing), list[str]()
        with (
            readers.reading((None, "good"), (0, -1)) as good,
            readers.reading((None, "bad"), (0, -1)) as other,
        ):
            assert (await read(other, [])).end == "unreadable"
            await read(good, lines)
        assert lines == told

    asyncio.run(work())


def test_a_reader_of_a_run_that_is_deleted_is_told(app: App) -> None:
    for how in ("DELETE FROM runs", "UPDATE runs SET deleted_at = now()"):
        made(app, how)
        app.execute("UPDATE runs SET status = 'running', completed_at = NULL")
        app.execute("UPDATE dbos.workflow_status SET status = 'PENDING'")
        run_id = app.rows("runs")[0]["id"]

        async def work(run_id: Any = run_id, how: str = how) -> None:
            with Readers(sent).reading((run_id, how), (0, -1)) as reader:
                page = await reader.next(FOREVER)
                assert page is not None
                assert page.end is None
                app.execute(how)
                assert (await read(reader, [])).end == "deleted"

        asyncio.run(work())
        app.execute("DELETE FROM runs")


def test_those_who_read_are_told_that_the_process_stops(app: App) -> None:
    made(app, "w")
    app.execute("UPDATE dbos.workflow_status SET status = 'PENDING'")

    async def work() -> None:
        readers = Readers(sent)
        with readers.reading((None, "w"), (0, -1)) as reader:
            await reader.next(FOREVER)
            readers.close()
            assert (await read(reader, [])).end == "stopping"
        with readers.reading((None, "w"), (0, -1)) as late:
            assert (await read(late, [])).end == "stopping"

    asyncio.run(work())


def change(connection: psycopg.Connection[Any], run_id: Any, name: str) -> None:
    connection.execute(
        "INSERT INTO timestep.run_changes (run_id, change, turn) VALUES (%s, %s, 0)", (run_id, name)
    )


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Is released by each look for changes of all runs, which are made quickly."""
    made, look = asyncio.Semaphore(0), Readers._hand

    def noting(self: Readers, groups: Any, pages: Any) -> None:
        look(self, groups, pages)
        made.release()

    monkeypatch.setattr(Readers, "_hand", noting)
    monkeypatch.setattr(follow, "POLL_EVERY", 0.01)
    return made


async def looked(looks: asyncio.Semaphore) -> None:
    """Wait until a look was made that began after now."""
    while not looks.locked():
        await looks.acquire()
    await looks.acquire()
    await looks.acquire()


def following_all(app: App, work: Callable[[Reader, Any], Awaitable[None]]) -> None:
    """Do `work` with a reader of all runs, and the id of a run."""
    made(app, "w")
    run_id = app.rows("runs")[0]["id"]

    async def run() -> None:
        with Readers(sent).reading(ALL, None) as reader:
            first = await reader.next(FOREVER)
            assert first is not None
            assert not first.entries
            await work(reader, run_id)

    asyncio.run(run())


async def heard(reader: Reader, count: int) -> list[str]:
    """The names of the next changes."""
    names: list[str] = []
    while len(names) < count:
        page = await reader.next(FOREVER)
        assert page is not None
        names += [one.sent.decode().split()[1] for one in page.entries]
    return names


def test_changes_that_become_visible_late_are_told_in_their_order(
    app: App, looks: asyncio.Semaphore
) -> None:
    async def work(reader: Reader, run_id: Any) -> None:
        with psycopg.connect(app.url) as slow, psycopg.connect(app.url, autocommit=True) as quick:
            change(slow, run_id, "run.waiting")
            change(quick, run_id, "run.resumed")
            await looked(looks)
            assert reader._page is None
            slow.commit()
            assert await heard(reader, 2) == ["run.waiting", "run.resumed"]

    following_all(app, work)


def test_a_number_that_was_rolled_back_is_passed_by(app: App, looks: asyncio.Semaphore) -> None:
    async def work(reader: Reader, run_id: Any) -> None:
        with psycopg.connect(app.url) as slow, psycopg.connect(app.url, autocommit=True) as quick:
            # Who writes elsewhere keeps nobody waiting.
            slow.execute("CREATE TEMPORARY TABLE busy ()")
            with psycopg.connect(app.url) as failing:
                change(failing, run_id, "run.waiting")
                change(quick, run_id, "run.resumed")
                await looked(looks)
                assert reader._page is None
                failing.rollback()
            assert await heard(reader, 1) == ["run.resumed"]
            change(quick, run_id, "run.waiting")
            assert await heard(reader, 1) == ["run.waiting"]

    following_all(app, work)


def test_who_begins_amid_a_change_is_told_of_it(app: App, looks: asyncio.Semaphore) -> None:
    made(app, "w")
    run_id = app.rows("runs")[0]["id"]

    async def work() -> None:
        with psycopg.connect(app.url) as slow, psycopg.connect(app.url, autocommit=True) as quick:
            change(slow, run_id, "run.waiting")
            with Readers(sent).reading(ALL, None) as reader:
                await looked(looks)
                assert reader._page is None
                slow.commit()
                page = await reader.next(FOREVER)
                assert page is not None
                change(quick, run_id, "run.resumed")
                assert await heard(reader, 1) == ["run.resumed"]
            with Readers(sent).reading(ALL, (1, -1)) as reader:
                assert (await heard(reader, 4))[-2:] == ["run.waiting", "run.resumed"]

    asyncio.run(work())
