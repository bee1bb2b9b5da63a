"""What code gets of DBOS's own steps, and of child workflows, is what it gets in a recovery."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from dbos import DBOS
from dbos import error as dbos_errors
from dbos._serialization import DBOSDefaultSerializer, DBOSPortableJSONSerializer

from tests.support.dbos_app import App, launch
from timestep.errors import RecordedError, UnrecordableError
from timestep.journal.reads.database import forget_databases
from timestep.journal.recorder import recorder
from timestep.journal.unfinished_executions import look_after


class Locked(Exception):
    """Has an attribute that no record holds."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"locked {code}")
        self.lock = threading.Lock()
        self.code = code


calls: list[str] = []
asked: list[bool] = []


@pytest.fixture(autouse=True)
def _contained(app: App) -> None:
    look_after(recorder())
    calls.clear()
    asked.clear()


def ask(error: BaseException) -> bool:
    """Decide by what only the first execution has of an error."""
    asked.append(isinstance(error, Locked) and hasattr(error, "lock"))
    return True


async def ask_later(error: BaseException) -> bool:
    return ask(error)


@DBOS.step(retries_allowed=True, max_attempts=2, interval_seconds=0.001, should_retry=ask)
def fail_twice() -> None:
    calls.append("step")
    raise Locked(code=2)


@DBOS.step(retries_allowed=True, max_attempts=2, interval_seconds=0.001, should_retry=ask_later)
async def fail_twice_later() -> None:
    calls.append("step")
    raise Locked(code=2)


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.001)
async def give_a_lock() -> Any:
    calls.append("step")
    return threading.Lock()


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.001, should_retry=ask)
def give_a_deep_list() -> Any:
    calls.append("step")
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@DBOS.step(timeout_seconds=0.01)
async def take_too_long() -> None:
    calls.append("step")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise Locked(code=3) from None


@DBOS.step()
async def give_errors() -> list[Any]:
    calls.append("step")
    return [Locked(code=4), "text", [KeyError("k")]]


@DBOS.workflow()
async def failing_child() -> None:
    calls.append("child")
    raise Locked(code=5)


@DBOS.workflow()
def failing_child_of_a_thread() -> None:
    calls.append("child")
    raise Locked(code=5)


async def in_a_thread() -> None:
    await asyncio.to_thread(failing_child_of_a_thread)


def told(found: Any) -> Any:
    """What code can tell of a value or an error."""
    if isinstance(found, list):
        return [told(one) for one in found]
    if not isinstance(found, BaseException):
        return found
    kinds = (Locked, RecordedError, UnrecordableError, dbos_errors.DBOSException)
    names = [kind.__name__ for kind in kinds if isinstance(found, kind)]
    code, cause = getattr(found, "code", None), found.__cause__
    errors = told(getattr(found, "errors", None))
    return [str(found), names, hasattr(found, "lock"), code, errors, cause and told(cause)]


CALLED: dict[str, Callable[[], Any]] = {
    "retried": lambda: asyncio.to_thread(fail_twice),
    "retried later": fail_twice_later,
    "unrecordable": give_a_lock,
    "too deep": lambda: asyncio.to_thread(give_a_deep_list),
    "timeout": take_too_long,
    "errors": give_errors,
    "child": failing_child,
    "child of a thread": in_a_thread,
}

_LOCKED = ["Locked", "RecordedError"]


def test_code_gets_what_a_recovery_gets(app: App, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[dict[str, Any]] = []

    async def body() -> str:
        found: dict[str, Any] = {}
        for name, call in CALLED.items():
            try:
                found[name] = told(await call())
            except Exception as error:  # noqa: BLE001  # whatever it raises is looked at
                found[name] = told(error)
        seen.append(found)
        return "done"

    app.run(body, workflow_id="w")
    made = list(calls)
    [line] = (text for text in caplog.messages if "goes on as a RecordedError" in text)
    assert "Locked" in line
    assert line.endswith("no record gives back its lock")
    first = seen[0]
    app.recover("w")
    assert seen[1] == first
    assert calls == made == ["step"] * 2 * 2 + ["step"] * 4 + ["child"] * 2
    # `should_retry` is asked of the very error, and not where the work was done.
    assert asked == [True] * 4
    for name in ("retried", "retried later"):
        text, kinds, _, _, errors, _ = first[name]
        assert ("exceeded its maximum of 2" in text, kinds) == (True, ["DBOSException"])
        assert errors == [["locked 2", _LOCKED, False, 2, None, None]] * 2
    for name in ("unrecordable", "too deep"):
        assert first[name][1] == ["UnrecordableError"], first[name]
    assert first["timeout"][5][:4] == ["locked 3", _LOCKED, False, 3]
    assert first["errors"][0][:4] == ["locked 4", _LOCKED, False, 4]
    for name in ("child", "child of a thread"):
        assert first[name][:4] == ["locked 5", _LOCKED, False, 5]


class NeedsName(Exception):
    """Is pickled, and then nothing makes it of the pickle."""

    def __init__(self, *, name: str) -> None:
        super().__init__(f"{name} is needed")
        self.name = name


@DBOS.step()
async def ask_for_a_name() -> None:
    calls.append("step")
    raise NeedsName(name="ada")


@DBOS.step()
def fail_as_usual() -> None:
    raise KeyError("k")


@pytest.mark.own_database
@pytest.mark.parametrize("kind", ["py_pickle", "portable_json"])
def test_an_error_that_a_serializer_does_not_give_back_is_another_or_told(
    app: App, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    serializer = {"py_pickle": DBOSDefaultSerializer, "portable_json": DBOSPortableJSONSerializer()}
    DBOS.destroy()
    forget_databases()
    launch(app.url, serializer=serializer[kind])
    look_after(recorder())
    seen: list[Any] = []

    async def body() -> str:
        for call in (ask_for_a_name, ask_for_a_name, fail_as_usual):
            try:
                await asyncio.ensure_future(call()) if call is ask_for_a_name else call()
            except Exception as error:  # noqa: BLE001  # whatever it raises is looked at
                names = [kind.__name__ for kind in type(error).__mro__]
                seen.append([str(error), "NeedsName" in names, getattr(error, "name", None)])
        return "done"

    app.run(body, workflow_id="w")
    first = seen.copy()
    app.recover("w")
    assert first[:2] == [["ada is needed", True, "ada"]] * 2
    assert first[2][0] == "'k'"
    [line] = (
        text for text in caplog.messages if "NeedsName is another" in text or "goes on" in text
    )
    if kind == "py_pickle":
        assert seen[3:] == first
        assert "something that it holds" in line
    else:
        assert "the serializer portable_json gives back another one" in line
