"""Refuses what a tool changes in an agent: a replay takes the tool's outcome, and changes nothing.

The agent of a recovery would lack the tool that was added to it, or have the instructions from
before. A call is judged only where it alone can have done it: no step of its run, no run that has
the agent, and no other workflow went on beside it. Else the change is said in the log. Values that
are changed in place, such as one of the model's settings, and what a subclass of the SDK's `Agent`
adds, are not looked at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import threading
from collections.abc import Iterator
from typing import Any

from agents import Agent

from timestep.dbos_internals import process
from timestep.errors import NotDurableError
from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess

_FIELDS = tuple(one.name for one in dataclasses.fields(Agent))

_log = logs.logger()


class _Users:
    """How many runs have an agent, and how often one began or ended to have it."""

    def __init__(self) -> None:
        self.runs = 0
        self.changes = 0


class AgentUses(PerProcess):
    """Keeps how many runs of this process have each agent, and what was said of changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[int, _Users] = {}
        """By the `id()` of an agent, which its runs keep."""
        self.told: set[tuple[str, str]] = set()
        """Agents' names and fields."""

    def begin(self, agent_id: int) -> _Users:
        with self._lock:
            users = self._users.setdefault(agent_id, _Users())
            users.runs += 1
            users.changes += 1
            return users

    def end(self, agent_id: int, users: _Users) -> None:
        with self._lock:
            users.runs -= 1
            users.changes += 1
            if users.runs == 0:
                self._users.pop(agent_id, None)


class AgentUse:
    """Which agents one run has, and what it does with them."""

    def __init__(self) -> None:
        self._agents: list[Agent[Any]] = []
        self._users: dict[int, _Users] = {}
        self._is_open = False
        self._steps = 0
        self._begun = 0

    def begin(self, agents: list[Agent[Any]]) -> None:
        """Note that the run has these agents until it ends; the list may become longer."""
        self._agents = agents
        self._is_open = True
        self.meet()

    def meet(self) -> None:
        """Note that the run may have met further agents, while it goes on."""
        if not self._is_open:
            return
        uses = process_state.of(AgentUses)
        for agent in self._agents:
            if id(agent) not in self._users:
                self._users[id(agent)] = uses.begin(id(agent))

    def end(self) -> None:
        """Note that the run has ended; it may begin again after a person has decided."""
        self._is_open = False
        uses = process_state.of(AgentUses)
        while self._users:
            uses.end(*self._users.popitem())

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """While a step of the run is made."""
        self._steps += 1
        self._begun += 1
        try:
            yield
        finally:
            self._steps -= 1

    def watch(self, calls: int) -> Watch:
        """Look at the agents before a call is made, which is a step of the run.

        Args:
            calls: How many calls the turn has: the hooks of each may run beside another one.
        """
        return Watch(self, self._agents, is_alone=calls <= 1 and self._steps <= 1)

    def moment(self) -> tuple[int, ...] | None:
        """What changes when a step begins, or another run; None where another has an agent."""
        users = self._users.values()
        if any(one.runs > 1 for one in users):
            return None
        return (self._begun, *(one.changes for one in users))


class Watch:
    """A call that is made, and what its run's agents consisted of before.

    Args:
        use: The run's.
        agents: The agents.
        is_alone: Whether nothing else of the run goes on that may change them.
    """

    def __init__(self, use: AgentUse, agents: list[Agent[Any]], *, is_alone: bool) -> None:
        self._use = use
        self._moment = use.moment() if is_alone else None
        self._before = [(agent, _fields_of(agent)) for agent in agents]

    def refusal(self, tool_name: str, workflow_id: str) -> NotDurableError | None:
        """Why a tool cannot have done what it did, if it changed an agent.

        A change that may be another's is said in the log, once for an agent's name and a field.
        """
        for agent, before in self._before:
            if not (changed := _changed(agent, before)):
                continue
            if self._is_sure() and process.executes_alone(workflow_id):
                return NotDurableError(
                    f"tool {tool_name!r} changed {', '.join(changed)} of agent {agent.name!r} "
                    f"while it was called. {_ADVICE}"
                )
            told = process_state.of(AgentUses).told
            for name in changed:
                if (agent.name, name) not in told:
                    told.add((agent.name, name))
                    _log.warning(
                        "%s of agent %r was changed while tool %r was called, by the tool or by "
                        "what went on beside it. If it was the tool: %s",
                        name,
                        agent.name,
                        tool_name,
                        _ADVICE,
                    )
        return None

    def _is_sure(self) -> bool:
        return self._moment is not None and self._moment == self._use.moment()


_ADVICE = (
    "A recovery takes the call's outcome from the record and would go on with an unchanged agent: "
    "let the agent have it from the start, and let the run's context decide, with a tool's "
    "is_enabled or with instructions that are a function"
)


def _fields_of(agent: Agent[Any]) -> dict[str, Any]:
    """What an agent holds; past properties of a subclass, which may compute."""
    return {name: list(v) if type(v) is list else v for name, v in vars(agent).items()}


def _changed(agent: Agent[Any], before: dict[str, Any]) -> list[str]:
    """The fields of the SDK's class that hold other objects than before."""
    held = vars(agent)
    return [name for name in _FIELDS if not _is_same(before.get(name), held.get(name))]


def _is_same(was: Any, now: Any) -> bool:
    """Whether a field holds the very same objects, whatever they say of themselves."""
    if type(was) is list and type(now) is list:
        return len(was) == len(now) and all(map(operator.is_, was, now))
    return was is now
