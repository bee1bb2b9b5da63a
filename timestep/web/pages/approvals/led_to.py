"""Tells what led to a question, for a person to read: who said, asked for or gave what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from timestep.operations.overview.questions import Asking, Given, Said
from timestep.web.pages.filters import counted, json_text

_LONGEST = 700
"""Characters of what was said that are shown; of what was said in the session before, fewer."""
_LONGEST_BEFORE = 300
_INPUTS = 3
"""Items of a run's input that are shown, its last."""

_CALLED = {
    "executed": "called {}",
    "failed": "called {}, which failed",
    "supplied": "wanted to call {}, and a person gave the result instead",
    "rejected": "wanted to call {}, which was rejected",
    "expired": "wanted to call {}, which was rejected, as nobody had decided in time",
    "waits": "wants to call {}, which waits, too",
    "approved": "may call {}, which was approved, and has not yet",
    "pending": "wants to call {}, and has not yet",
    "started": "began to call {}, and what came of it is not known",
    "in_doubt": "began to call {}, and what came of it is not known",
    "unknown": "began to call {}, and what came of it is not known",
    "skipped": "wanted to call {}, which was not done",
}
"""What an agent did by a call, by what became of it."""


@dataclass(frozen=True)
class Message:
    """What was said, asked for or given."""

    who: str
    what: str
    text: str
    is_cut: bool


@dataclass(frozen=True)
class Part:
    """Messages of one kind."""

    about: str
    """What they are; empty: of the run that asks, and nothing else is shown."""
    link: str
    """Where there is more of it: a run's id, or a session's."""
    is_session: bool
    messages: list[Message]


def parts(run: Asking) -> list[Part]:
    """What led to the questions of a run, the oldest first.

    That is the end of the session before it, what the runs around it were given, what it was given
    itself, and its last items before its questions.
    """
    made = []
    if run.session and run.session_id is not None:
        before = [_message(said, _LONGEST_BEFORE) for said in run.session]
        made.append(Part("Before, in the session", run.session_id, True, before))
    *around, own = run.given or [Given(run.run_id, run.agent_name, [], 0)]
    for one in around:
        agent = one.agent_name or "an agent"
        made.append(Part(f"Given to {agent}", one.run_id, False, _given(one)))
    about = ""
    if made:
        about = f"In the run of {run.agent_name or 'the agent'}" if around else "In this run"
    mine = [*_given(own), *(_message(said, _LONGEST) for said in run.before)]
    return [*made, Part(about, run.run_id, False, mine)]


def _given(given: Given) -> list[Message]:
    items: list[Any] = []
    cut = False
    for one in given.items:
        try:
            value = one.item.value()
        except ValueError:
            return [Message("the run", "was given", one.item.text[:_LONGEST], True)]
        # What JSONB cannot hold is kept as a whole, and may be a list, too.
        items += value if isinstance(value, list) else [value]
        cut = cut or one.is_cut
    left = max(given.count, len(items)) - len(items[-_INPUTS:])
    shown = [
        _of_item(
            one if isinstance(one, dict) else {"role": "user", "content": one}, None, "item", cut
        )
        for one in items[-_INPUTS:]
    ]
    return [*([Message("before", counted(left, "item"), "", True)] if left else []), *shown]


def _message(said: Said, longest: int) -> Message:
    try:
        item = said.item.value()
    except ValueError:
        return _cut(said.agent_name, said.item_type or "item", said.item.text, longest, True)
    return _of_item(item, said, said.item_type or "item", said.is_cut, longest)


def _of_item(
    item: Any, said: Said | None, item_type: str, is_cut: bool, longest: int = _LONGEST
) -> Message:
    """An item of a run as one reads it: who said, asked for or gave what."""
    agent = said.agent_name if said is not None else None

    def message(who: str | None, what: str, text: str) -> Message:
        return _cut(who, what, text, longest, is_cut)

    if not isinstance(item, dict):
        return message(agent, item_type, json_text(item))
    kind = item.get("type", "message")
    if "role" in item or kind == "message":
        role = item.get("role", "assistant")
        who = agent if role == "assistant" else str(role)
        return message(who, "said", "\n".join(_texts(item.get("content"))))
    fate = said.fate if said is not None else None
    if "arguments" in item and "name" in item:
        # Of a call that nothing is recorded of, such as one of an input, nobody knows more.
        done = _CALLED.get(fate or "", "asked for {}").format(item["name"])
        return message(agent, done, str(item["arguments"]))
    if "output" in item:
        output = item["output"]
        text = output if isinstance(output, str) else json_text(output)
        return message(*_gave(said.tool_name if said is not None else None, fate), text)
    if kind == "reasoning":
        return message(agent, "thought", "\n".join(_texts(item.get("summary"))))
    return message(agent, str(kind).replace("_", " "), json_text(item))


def _gave(tool: str | None, fate: str | None) -> tuple[str, str]:
    """Who gave an output, and how."""
    called = tool or "a tool"
    if fate == "supplied":
        return "a person", f"gave the result of {called}"
    if fate in ("rejected", "expired"):
        return "the model", f"was told, as {called} was not called"
    return called, "failed" if fate == "failed" else "gave"


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        text = part.get("text", part.get("refusal")) if isinstance(part, dict) else None
        yield text if isinstance(text, str) else json_text(part)


def _cut(who: str | None, what: str, text: str, longest: int, is_cut: bool) -> Message:
    return Message(who or "the agent", what, text[:longest], is_cut or len(text) > longest)
