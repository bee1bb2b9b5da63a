"""Tells what runs do, event by event: entries of a timeline, and what goes on now."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from timestep.cli.output import REASONS, words
from timestep.operations.queries.records import RunEvent
from timestep.runtime import deciding
from timestep.runtime.terminal import printable, printable_lines

_SAID = 160
"""Characters of what a model is saying that are shown: its newest ones."""
_STYLES = {
    "run.completed": "green",
    "run.failed": "red",
    "run.cancelled": "yellow",
    "run.waiting": "yellow",
}


@dataclass
class _Run:
    agent: str | None
    depth: int
    turn: int = 0
    calls: dict[str, tuple[str, datetime.datetime | None]] = field(default_factory=dict)
    """The calls without an output by their ids: what is called, and since when."""
    said: dict[tuple[str | None, int | None], str] = field(default_factory=dict)
    """What its model has said of an answer that is not an item yet, by answer and attempt."""


class Timeline:
    """What runs did, one run inside another set in; made of their events in their order."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def entries(self, event: RunEvent) -> Iterator[Text]:
        """What is told of an event, fit for a terminal; nothing while a model still speaks."""
        run = self._runs.get(event.run_id)
        if run is None:
            run = self._runs[event.run_id] = self._met(event)
        if event.kind == "model":
            _hear(run, event)
            return
        inset = "    " * run.depth
        if event.kind == "item":
            run.said.clear()
            if event.turn > run.turn:
                run.turn = event.turn
                yield Text(f"{inset}Turn {event.turn}", "bold")
            yield _entry(f"{inset}  ", _item(run, event))
        else:
            for line in _change(event):
                yield _entry(inset, line, _STYLES.get(event.type, ""))

    def now(self, moment: datetime.datetime) -> Text:
        """In one line, what goes on: what a model is saying, and the calls that are being made."""
        parts = []
        for run in self._runs.values():
            if run.said:
                said = printable(next(reversed(run.said.values()))[-_SAID:])
                parts.append(f"{printable(run.agent or 'the model')}: {said}")
            for name, since in run.calls.values():
                seconds = f" {(moment - since).total_seconds():.0f} s" if since else ""
                parts.append(f"{printable(name)}{seconds}")
        return Text(" · ".join(parts) or "…", "dim", overflow="ellipsis", no_wrap=True)

    def _met(self, event: RunEvent) -> _Run:
        data = event.data if event.kind == "run" else {}
        around = self._runs.get(str(data.get("parent_run_id")))
        return _Run(data.get("agent_name"), 0 if around is None else around.depth + 1)


def _entry(before: str, text: str, style: str = "") -> Text:
    """An entry whose further lines are set in: no text it quotes looks like another entry."""
    further = "\n" + " " * (len(before) + 6)
    return Text(before + printable_lines(text).replace("\n", further), style)


def _hear(run: _Run, event: RunEvent) -> None:
    # A higher attempt replaces what lower ones said.
    answer = (event.response_id, event.attempt)
    if answer not in run.said:
        run.said = {answer: ""}
    if isinstance(event.data, dict) and isinstance(delta := event.data.get("delta"), str):
        run.said[answer] = (run.said[answer] + delta)[-_SAID:]


def _item(run: _Run, event: RunEvent) -> str:
    data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
    call_id = str(data.get("call_id") or data.get("id"))
    who = f"{run.agent}: " if run.agent else ""
    if event.type in ("tool_call_item", "handoff_call_item"):
        name = str(data.get("name") or data.get("type"))
        if event.type == "tool_call_item":
            run.calls[call_id] = name, event.created_at
        return f"→ {who}{_call(name, data.get('arguments', {}))}"
    if event.type == "tool_call_output_item":
        name, _ = run.calls.pop(call_id, ("the call", None))
        took = f" ({event.duration_ms} ms)" if event.duration_ms is not None else ""
        return f"← {name}: {words(data.get('output'))}{took}"
    if event.type == "handoff_output_item":
        return f"⇒ {words(data.get('output'))}"
    return f"{who}{words(data.get('content', data.get('summary', data)))}"


def _change(event: RunEvent) -> Iterator[str]:
    data = event.data
    agent = data["agent_name"] or "an agent"
    if event.type == "run.started":
        # One that is inside another is told with its id, which nobody else tells.
        who = agent if data["parent_run_id"] is None else f"Run {event.run_id} of {agent}"
        yield f"{who} started"
    elif event.type == "run.resumed":
        yield f"{agent} goes on"
    elif event.type == "run.completed":
        yield f"{agent} completed"
    elif event.type == "run.failed":
        error = data["error"]
        yield f"{agent} failed: {error['type']}: {error['message']}"
    elif event.type == "run.cancelled":
        yield f"{agent} is cancelled: {REASONS[data['cancel_reason']]}"
    elif event.type == "question.decided":
        for one in data["questions"]:
            by = f" by {one['by']}" if one["by"] else ""
            told = f": {one['message']}" if one["message"] else ""
            call = _call(one["tool_name"], one["arguments"])
            if one["action"] == "edit":
                call += f" to {_call(one['tool_name'], one['edited_arguments'])}"
            yield f"Decided: {one['action']} {call}{by}{told}"
    elif event.type == "run.waiting":
        for one in data["questions"]:
            call = _call(one["tool_name"], one["arguments"])
            doubt = [deciding.MAY_BE_DONE] if deciding.is_in_doubt(one["reason"]) else []
            how = deciding.ways(data["workflow_id"] or "", one["id"], one["reason"])
            yield "\n".join([f"Waits for a decision: {call}", *doubt, *how])


def _call(name: str | None, arguments: Any) -> str:
    given = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{name}({given})"
