"""What a process has one of: made once, closed in order, and new for each test and each fork."""

from __future__ import annotations

import ast
import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import timestep
from tests.support.conditions import until
from timestep.approvals import wait_for_decision
from timestep.approvals.wait_for_decision import Decisions
from timestep.database import engines, urls
from timestep.dbos_internals.workflow_scope import Owner
from timestep.journal import ownership_watch, recorder
from timestep.runtime import process_state
from timestep.runtime.garbage_collection import uncollected
from timestep.runtime.process_state import PerProcess

closed: list[str] = []


class First(PerProcess):
    def close(self) -> None:
        closed.append("first")


class Second(PerProcess):
    def __init__(self) -> None:
        self.first = process_state.of(First)

    def close(self) -> None:
        closed.append("second")


class Failing(PerProcess):
    def close(self) -> None:
        raise OSError("does not close")


class Kept(PerProcess):
    def is_kept_in_child(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def nothing_closed() -> None:
    closed.clear()


def test_each_kind_is_made_once_and_is_new_in_a_new_state() -> None:
    first = process_state.of(First)
    assert process_state.of(First) is first
    with process_state.renewed():
        assert process_state.of(First) is not first
        assert closed == []
    assert closed == ["first"]
    assert process_state.of(First) is first


def test_the_newest_is_closed_first_and_a_failure_keeps_none_of_the_others_open() -> None:
    second = process_state.of(Second)
    process_state.of(Failing)
    with pytest.raises(OSError, match="does not close"):
        process_state.close()
    assert closed == ["second", "first"]
    assert process_state.of(Second) is not second
    process_state.close()


def test_threads_that_ask_at_the_same_time_have_the_same() -> None:
    made: list[PerProcess] = []

    class Slow(PerProcess):
        def __init__(self) -> None:
            time.sleep(0.05)
            made.append(self)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: process_state.of(Slow), range(8)))
    assert len(set(found)) == len(made) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_begins_anew_and_closes_nothing_of_its_parent() -> None:
    first, kept = process_state.of(First), process_state.of(Kept)
    closing = process_state.of(Decisions)
    pid = os.fork()
    if pid == 0:
        is_new = process_state.of(First) is not first and process_state.of(Kept) is kept
        os._exit(0 if is_new and not closed and process_state.of(Decisions) is not closing else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert process_state.of(First) is first


@pytest.fixture
def configured(database_url: str, monkeypatch: pytest.MonkeyPatch) -> recorder.Recorder:
    monkeypatch.setenv("TIMESTEP_DB_URL", database_url)
    return recorder.recorder()


@pytest.fixture
def sessions(server: str, configured: recorder.Recorder) -> Iterator[Callable[..., int]]:
    """How many connections to the test's database there are, counted over another one."""
    other = engines.private_engine(urls.parse_url(server))
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{configured.url.database}'"

    def count(which: str = "") -> int:
        with other.connect() as connection:
            return int(connection.execute(sa.text(f"{query} {which}")).scalar_one())

    yield count
    other.dispose()


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_who_hears_of_decisions_ends_with_its_connection_when_it_is_closed(
    configured: recorder.Recorder,
    sessions: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wait_for_decision, "_POLL", 600.0)
    decisions = process_state.of(Decisions)
    loop, told = asyncio.new_event_loop(), asyncio.Event()
    with decisions.awaited("w", loop, told):
        decisions.listen(configured)
        until(lambda: sessions("AND state = 'idle' AND query LIKE 'LISTEN%'") == 1)
        time.sleep(0.1)  # It has listened; now it waits for what it may hear.
        began = time.monotonic()
        process_state.close()
        assert time.monotonic() - began < 60, "it was waited for until its next look"
    loop.close()
    assert "timestep-decisions" not in names()
    until(lambda: sessions() == 0)


def test_the_watch_ends_when_it_is_closed(configured: recorder.Recorder) -> None:
    async def body() -> None:
        owner = Owner("no such workflow", "t")
        with ownership_watch.watching(configured, owner, lambda _: None):
            assert "timestep-watch" in names()
            process_state.close()
            assert "timestep-watch" not in names()

    asyncio.run(body())


_MADE_ANEW = {"Lock", "RLock", "Condition", "Event", "Thread", "WeakSet", "WeakKeyDictionary"}
_EMPTY = (ast.Dict, ast.List, ast.Set)


def _registries(path: Path) -> Iterator[str]:
    """What of a module changes while the process runs, and belongs to no object."""
    with uncollected():
        # Python 3.11's parser may fail where objects are finalized meanwhile (gh-106905).
        tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"global {', '.join(node.names)}"
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and _changes(statement.value):
            yield ast.unparse(statement)


def _changes(value: Any) -> bool:
    if isinstance(value, ast.Call):
        name = getattr(value.func, "attr", None) or getattr(value.func, "id", None)
        return name in _MADE_ANEW or (name in {"dict", "list", "set", "deque"} and not value.args)
    return isinstance(value, _EMPTY) and not ast.unparse(value).strip("{}[]")


def test_no_other_module_holds_what_changes() -> None:
    root = Path(timestep.__file__).parent
    found = {
        str(path.relative_to(root)): list(_registries(path))
        for path in sorted(root.rglob("*.py"))
        if path != root / "runtime" / "process_state.py"
    }
    assert {name: what for name, what in found.items() if what} == {}
