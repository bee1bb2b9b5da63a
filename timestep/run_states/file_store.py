"""Keeps a run's state in a file, replaced as a whole or not at all, and private to its owner."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agents import Agent, RunState
from filelock import FileLock

from timestep import config
from timestep.errors import CorruptStateError, UnknownStateError
from timestep.journal.checkpoints import SDK_VERSION
from timestep.run_states.base_store import RunStateStore
from timestep.run_states.document import ContextDeserializer, ContextSerializer, Document, Stored
from timestep.runtime.cancellation import in_thread
from timestep.serialization.values import dumps, restored

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


class FileRunStateStore(RunStateStore):
    """Keeps a run's state in a file of JSON that only its owner can read.

    Args:
        agent: The agent whose run it is; the agents that it hands off to are found from it.
        run_id: Any text that names the run.
        session_id: The session of the run; names the file where there is no `run_id`.
        file_path: The file. None: one under `TIMESTEP_HOME`, named by the ids.
        context_serializer: Makes a mapping of the run's context, if that is none.
        context_deserializer: Makes the context again of that mapping.

    Raises:
        ConfigurationError: An id is empty.
    """

    def __init__(
        self,
        agent: Agent[Any],
        *,
        run_id: str | uuid.UUID | None = None,
        session_id: str | None = None,
        file_path: str | os.PathLike[str] | None = None,
        context_serializer: ContextSerializer | None = None,
        context_deserializer: ContextDeserializer | None = None,
    ) -> None:
        super().__init__(agent, run_id, session_id, context_serializer, context_deserializer)
        self._given_path = None if file_path is None else Path(file_path)

    def _path(self, run_id: uuid.UUID) -> Path:
        return config.read().home / "run_states" / f"{run_id}.json"

    def _known_path(self) -> Path:
        return self._given_path or self._path(self._known_run())

    async def _save(self, document: Document, run_id: uuid.UUID, state_id: uuid.UUID) -> None:
        envelope = {
            "sdk": "python",
            "sdk_version": SDK_VERSION,
            "schema_version": document.schema_version,
            "saved_at": _now(),
            "resumed_at": None,
            "state": document.state,
        }
        path = self._given_path or self._path(run_id)
        await in_thread(lambda: _write(path, envelope))

    async def _load(self) -> tuple[str, tuple[RunState[Any], list[Any]]]:
        path = self._known_path()
        while (text := await in_thread(lambda: _text_of(path))) is not None:
            read = await self._read(_kept(path, _envelope(path, text)))
            taken = {**_envelope(path, text), "resumed_at": _now()}
            if await in_thread(functools.partial(_rewrite, path, text, taken)):
                return text, read
            # Another one was saved while this one was read.
        raise UnknownStateError(f"no state is saved in {path}")

    async def _load_again(self, state: str, mcp_tools: list[Any]) -> RunState[Any]:
        path = self._known_path()
        return (await self._read(_kept(path, _envelope(path, state)), mcp_tools))[0]

    async def _clear(self) -> None:
        path = self._known_path()
        await in_thread(lambda: _remove(path))


def _write(path: Path, envelope: dict[str, Any]) -> None:
    """Replace what the file holds.

    Raises:
        OSError: It cannot be written; it holds what it held before.
    """
    with _locked(path):
        _replace(path, dumps(envelope))


def _read(path: Path) -> str | None:
    """The file's text; None if there is no file.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _parsed(text: str) -> Any:
    """What was written.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return restored(json.loads(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _rewrite(path: Path, before: str, envelope: dict[str, Any]) -> bool:
    """Replace what the file holds, if it is still that; whether it was."""
    with _locked(path):
        if _read(path) != before:
            return False
        _replace(path, dumps(envelope))
        return True


def _remove(path: Path) -> None:
    """Remove the file, if there is one."""
    if not path.exists():
        return
    with _locked(path):
        path.unlink(missing_ok=True)
        _sync(path.parent)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a state's file, which keeps writers of every process out."""
    path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    with FileLock(path.parent / f".{path.name}.lock", mode=PRIVATE_FILE):
        yield


def _replace(path: Path, text: str) -> None:
    # In the same directory, where a rename is atomic. Who was killed may have left one behind.
    new = path.parent / f".{path.name}.new"
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink()
        raise
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Make the directory's entries last, as fsync of a file makes its content last."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _text_of(path: Path) -> str | None:
    try:
        return _read(path)
    except UnicodeDecodeError as error:
        raise CorruptStateError(f"{path} is no text: {error}") from error


def _envelope(path: Path, text: str) -> dict[str, Any]:
    try:
        envelope = _parsed(text)
    except ValueError as error:
        raise CorruptStateError(f"{path} is no JSON: {error}") from error
    if not isinstance(envelope, dict) or "state" not in envelope:
        raise CorruptStateError(f"{path} holds no state")
    return envelope


def _kept(path: Path, envelope: dict[str, Any]) -> Stored:
    where = f"the state in {path}"
    return Stored(where, envelope.get("sdk"), envelope.get("sdk_version"), envelope["state"])


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()
