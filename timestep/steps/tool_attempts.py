"""Repeats a tool's body within one call where it raises, as `tool_options` says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from agents.exceptions import ModelBehaviorError, ToolTimeoutError

from timestep.dbos_internals import control_errors
from timestep.errors import NotDurableError, NotInToolCallError, TimestepError
from timestep.runtime import lease, logs
from timestep.runtime.cancellation import EXITS, cancels
from timestep.runtime.secrets import without_secrets
from timestep.runtime.terminal import quoted
from timestep.serialization import exceptions
from timestep.serialization.documents.json_text import plain_text
from timestep.steps.step import no_exit
from timestep.tool_options import ToolOptions

_log = logs.logger()

T = TypeVar("T")

_HOPELESS = (ModelBehaviorError, TimestepError, *control_errors.CONTROL_ERRORS)
"""Raised where arguments do not fit, or no further effect may start."""

_MOST = 20
"""Attempts that raised that are recorded, of more the newest."""
_LONGEST = 1_000
"""Characters that are kept of what each of them raised."""
_LOOKED_THROUGH = 50_000
"""Of which secrets are looked for."""
_LONGEST_NAME = 200
"""Of the name of its class."""

_key: ContextVar[str | None] = ContextVar("timestep_idempotency_key", default=None)


def idempotency_key() -> str:
    """A key for what the tool's call that the caller is inside of does elsewhere.

    The same after a crash and for each attempt of the call, and different for every other
    call. Works in a tool's body, whether async or in the SDK's thread.

    Raises:
        NotInToolCallError: The caller is not the body of a tool that a durable run calls.
    """
    key = _key.get()
    if key is None:
        raise NotInToolCallError
    return key


class ToolResult(NamedTuple):
    """What a tool's call gave: its output, and whether that is the SDK's error text."""

    output: Any
    is_error: bool
    is_paused: bool = False
    """The call stopped for an approval inside it, and will be continued."""


class ToolAttempts:
    """The attempts of one call."""

    def __init__(self, tool_name: str, options: ToolOptions, key: str) -> None:
        self.tool_name = tool_name
        self.options = options
        self.key = key
        self.made = 0
        self.failed: list[dict[str, Any]] = []
        """The newest attempts that raised, as the column `failed_attempts` has them."""
        self._answered: Exception | None = None
        self._first_began: float | None = None
        self.is_last = False
        """Whether no other attempt is wanted, though the one that goes on is."""

    @property
    def is_one(self) -> bool:
        """Whether the body runs once, for as long as it likes."""
        return not self.options.retries and self.options.timeout is None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the call's row that tell of its attempts."""
        return {"attempts": self.made, "failed_attempts": self.failed or None}

    def restore(self, columns: Mapping[str, Any]) -> None:
        """Tell of the attempts that another execution made; an earlier version counted only."""
        self.made = columns["attempts"]
        self.failed = columns.get("failed_attempts") or []

    async def make(self, body: Callable[[], Awaitable[T]]) -> T:
        """What `body` gives, tried as often as the tool's options say.

        Raises:
            Exception: What the last attempt raised.
        """
        delay = self.options.retry_delay
        last = self.made + self.options.retries
        before = cancels()
        while True:
            self.made += 1
            began = self._now()
            try:
                made = await self._once(body)
            except Exception as error:
                if cancels() > before or isinstance(error, control_errors.CONTROL_ERRORS):
                    # It is what a cancelled attempt ended with: nobody wants another.
                    raise
                self._note(began, error)
                if self.is_last or self.made > last or not self._may_try_again(error):
                    raise
            else:
                if self._answered is not None:
                    self._note(began, self._answered)
                return made
            await asyncio.sleep(delay)
            await lease.held()
            self.failed[-1]["followed_ms"] = self._now()
            delay *= self.options.retry_backoff

    def answers(self, error: Exception) -> None:
        """Note what the body raised where the SDK tells the model of it, and goes on."""
        self._answered = error

    def _note(self, began: int, error: Exception) -> None:
        failed = {
            "number": self.made,
            "began_ms": began,
            "ended_ms": self._now(),
            "followed_ms": None,
            "error": _told(error),
        }
        self.failed = [*self.failed, failed][-_MOST:]

    def _now(self) -> int:
        """Milliseconds since the first attempt began."""
        now = time.monotonic()
        if self._first_began is None:
            self._first_began = now
        return round((now - self._first_began) * 1000)

    async def _once(self, body: Callable[[], Awaitable[T]]) -> T:
        token = _key.set(self.key)
        try:
            return await (body() if self.options.timeout is None else self._in_time(body))
        except EXITS as exit_:
            # It would end the event loop of every run in this process.
            raise no_exit(f"tool {self.tool_name!r}", exit_) from exit_
        except Exception as error:
            if not control_errors.is_of_workflows_only(error):
                raise
            refused = NotDurableError(
                f"tool {quoted(self.tool_name)} did what only a workflow may, such as start "
                "another one, sleep or send a message, and its call is a step: give it "
                "timestep.tool_options(as_workflow=True), and the call is a workflow of its own"
            )
            _log.warning("%s", refused)
            raise refused from error
        finally:
            _key.reset(token)

    async def _in_time(self, body: Callable[[], Awaitable[T]]) -> T:
        seconds = self.options.timeout
        try:
            async with asyncio.timeout(seconds) as limit:
                return await body()
        except Exception as error:
            if not limit.expired() or seconds is None:
                raise
            # Whatever its cancellation made of it.
            cause = None if isinstance(error, TimeoutError) else error
            raise ToolTimeoutError(self.tool_name, seconds) from cause

    def _may_try_again(self, error: Exception) -> bool:
        if isinstance(error, ToolTimeoutError) and not self.options.safe_to_repeat:
            return False  # What it did before it was cancelled is unknown.
        return isinstance(error, self.options.retry_on) and not isinstance(error, _HOPELESS)


def _told(error: Exception) -> dict[str, Any]:
    """The class of an error, and what it says, for people: the model is not shown it."""
    said = exceptions.told_by(error)[:_LOOKED_THROUGH]
    message = exceptions.shortened(without_secrets(said), _LONGEST)
    name = exceptions.name_of(error)[:_LONGEST_NAME]
    return {"type": plain_text(name), "message": plain_text(message)}
