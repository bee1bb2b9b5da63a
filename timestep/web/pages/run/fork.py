"""Serves /runs/{id}/fork: the form that makes a new run begin before a turn of this one."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from timestep.errors import (
    AlreadyStartedError,
    InvalidInputError,
    UnknownCheckpointError,
)
from timestep.operations import fork
from timestep.operations.queries import runs
from timestep.operations.queries.records import Run
from timestep.operations.queries.story import timeline
from timestep.operations.queries.story.steps import AgentVersion
from timestep.serialization import json_input
from timestep.serialization.json_output import dumps
from timestep.web import auth
from timestep.web.dependencies import Operator
from timestep.web.pages.filters import segment
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router
from timestep.web.slashes import RunName

router = page_router()

_SEE_OTHER = 303
_LONGEST = 100_000
"""Characters of what the model was shown that a form has, to be edited."""
_BEGINS_LIST = re.compile(r"\s*\[\s*[{\]]")
_WAYS = {
    "keep": "as it was",
    "replace": "this instead",
    "append": "this in addition",
}
"""What becomes of what the model was shown."""


@router.get("/runs/{run_id}/fork")
async def form(request: Request, run_id: RunName, turn: str = "1") -> Response:
    """The form, filled in with what the run has."""
    run = await runs.get_run(run_id)
    agent = await _agent(run, turn)
    text = await _shown(run, turn)
    return _page(
        request,
        run,
        run_id,
        {
            "turn": turn,
            "for_turn": turn.strip(),
            "way": "keep",
            "text": text or "",
            "was": _hash(text or ""),
            "instructions": _instructions(agent) or "",
            "instructed": _hash(_instructions(agent) or ""),
            "model": "",
            # Sent twice, it is the same fork.
            "workflow_id": str(uuid.uuid4()),
        },
        agent,
        is_too_long=text is None,
    )


@router.post("/runs/{run_id}/fork")
async def make(request: Request, run_id: RunName, caller: Operator) -> Response:
    """Make the fork, and go to its page; or ask again with what is wrong."""
    run = await runs.get_run(run_id)
    sent = auth.form(await request.body())
    names = (
        *("turn", "for_turn", "way", "text", "was", "instructions", "instructed"),
        *("model", "workflow_id"),
    )
    given = {name: sent.get(name, "").replace("\r\n", "\n") for name in names}
    agent = await _agent(run, given["turn"])
    problems: dict[str, str] = {}
    turn = _number(given["turn"])
    if turn is None:
        problems["turn"] = "Give the number of a turn, counted from 1."
    is_there = turn is not None and run.id is not None and await fork.shown_in(run.id, turn)
    problems = {**_wrong(given), **(_elsewhere(given, agent) if is_there else {}), **problems}
    if turn is not None and not problems:
        try:
            workflow_id = await fork.fork_run(str(run.id or run_id), turn=turn, **_options(given))
            return RedirectResponse(f"/runs/{segment(workflow_id)}", _SEE_OTHER)
        except UnknownCheckpointError as error:
            problems["turn"] = error.message
        except (InvalidInputError, AlreadyStartedError) as error:
            problems[""] = error.message
    return _page(request, run, run_id, given, agent, problems)


def _wrong(given: dict[str, str]) -> dict[str, str]:
    """What is wrong with what the model is shown: nothing that was typed is left out unsaid."""
    problems = {}
    is_changed = _hash(given["text"]) != given["was"]
    if given["way"] not in _WAYS:
        problems["way"] = "Choose one of these."
    elif given["way"] != "keep" and not given["text"].strip():
        problems["text"] = "Say what the model is shown, or leave it as it was."
    elif given["way"] == "keep" and given["text"] and is_changed:
        given["way"] = "replace"
        problems["way"] = (
            "The text below was changed, and 'as it was' chosen, which leaves it out. Now it is "
            "what the model is shown: fork so, or choose another."
        )
    elif given["way"] == "append" and not is_changed:
        problems["text"] = (
            "This is what the model was shown: write what it is shown in addition instead."
        )
    elif given["way"] != "keep" and (why := _no_list(given["text"])):
        problems["text"] = why
    return problems


def _elsewhere(given: dict[str, str], agent: AgentVersion | None) -> dict[str, str]:
    """That what the form has was of another turn, which is asked about once."""
    is_instructed = _hash(given["instructions"]) != given["instructed"]
    is_more = given["way"] != "keep" or is_instructed
    if not is_more or given["turn"].strip() == given["for_turn"]:
        return {}
    was, given["for_turn"] = given["for_turn"], given["turn"].strip()
    who = f", whose agent is {agent.name}" if agent else ""
    return {
        "turn": f"What is below was of turn {was or 'another one'}. Fork once more to use it for "
        f"turn {given['for_turn']}{who}."
    }


def _options(given: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {"new_workflow_id": given["workflow_id"] or None}
    if given["way"] != "keep":
        key = "input" if given["way"] == "replace" else "append"
        options[key] = _items(given["text"])
    changes = {}
    # Those that the form had, and nobody changed, may be another agent's.
    if given["instructions"].strip() and _hash(given["instructions"]) != given["instructed"]:
        changes["instructions"] = given["instructions"]
    if given["model"].strip():
        changes["model"] = given["model"].strip()
    return {**options, "agent": changes or None}


def _items(text: str) -> Any:
    """A list of items where the text is one in JSON; else the text, which a user says."""
    try:
        found = json_input.loads(text)
    except ValueError:
        return text
    is_items = isinstance(found, list) and all(isinstance(one, dict) for one in found)
    return found if is_items and found else text


def _no_list(text: str) -> str | None:
    """Why a text that begins as a list of items is none; None: it is one, or does not."""
    if _BEGINS_LIST.match(text) is None:
        return None
    try:
        found = json_input.loads(text)
    except ValueError as error:
        return f"It begins as a list of items, and is no JSON: {error}"
    if not found or not all(isinstance(one, dict) for one in found):
        return "It begins as a list of items, and each of these is an object in JSON."
    return None


async def _shown(run: Run, turn: str) -> str | None:
    """What the model was shown in a turn, to be edited; None: it is too long for that."""
    number = _number(turn)
    if run.id is None or number is None:
        return ""
    found = await fork.shown_in(run.id, number)
    if found is None:
        return ""
    text = found
    if not isinstance(found, str):
        text = json.dumps(json.loads(dumps(found)), ensure_ascii=False, indent=2)
    return str(text) if len(text) <= _LONGEST else None


def _hash(text: str) -> str:
    """What a form knows its first text by."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()


def _number(turn: str) -> int | None:
    """The turn that somebody names; None: it is no number of one."""
    number = turn.strip()
    is_one = number.isascii() and number.isdigit() and len(number) < 10
    return int(number) if is_one else None


def _instructions(agent: AgentVersion | None) -> str | None:
    """Those that the form has, to be edited; None: they are made by a function, or too long."""
    text = agent.instructions if agent else None
    return text if text is not None and len(text) < timeline.LONGEST_INSTRUCTIONS else None


async def _agent(run: Run, turn: str) -> AgentVersion | None:
    """The agent whose turn it was."""
    number = _number(turn)
    if run.id is None or number is None:
        return None
    found = await timeline.part_of(run.id, None, goes_on=False, which="turn", place=number, limit=1)
    answers = [step.of for one in found.turns for step in one.steps if step.kind == "answer"]
    return answers[0].agent if answers else None


def _page(
    request: Request,
    run: Run,
    name: str,
    given: dict[str, str],
    agent: AgentVersion | None,
    problems: dict[str, str] | None = None,
    *,
    is_too_long: bool = False,
) -> Response:
    return page(
        request,
        "fork.html",
        422 if problems else 200,
        run=run,
        here=f"/runs/{segment(name)}",
        given=given,
        agent=agent,
        ways=_WAYS,
        is_too_long=is_too_long,
        problems=problems or {},
    )
