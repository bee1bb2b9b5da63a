"""Serves what decides from the inbox: a page that asks once more, naming each call, and the act.

What is decided is what was shown: forms have the hash of each question, and what was changed or
decided meanwhile is refused, with what it is now.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from timestep.errors import (
    DatabaseError,
    InvalidArgumentsError,
    InvalidInputError,
    TimestepError,
)
from timestep.operations import resume
from timestep.operations.access.acting import acting
from timestep.operations.overview import inbox
from timestep.operations.overview.questions import Question
from timestep.serialization import json_input
from timestep.web import auth
from timestep.web.callers import Caller, actor_of
from timestep.web.dependencies import Operator
from timestep.web.gate import address_of
from timestep.web.pages.approvals import laid_out
from timestep.web.pages.filters import json_text, of_field
from timestep.web.pages.forms import properties, schema_forms
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router
from timestep.web.problems import told

router = page_router()

Action = Literal["approve", "reject", "supply", "edit"]
ACTIONS: tuple[Action, ...] = get_args(Action)

_NOBODY = "the page, without a login"
"""Who decides where no token is asked."""
_QUESTION = "question."
"""What the names of fields begin with that have a question's hash, and what was shown of it."""
_LONGEST_SHOWN = 400
"""Characters of what was shown that a form holds, to be shown again where it has changed."""
NAMED = 50
"""Questions that an address names at most: a proxy takes no answer whose head is long."""
_SEE_OTHER = 303


@dataclass(frozen=True)
class Shown:
    """What a form says that a person was shown of a question."""

    hash: str
    arguments: str
    """As JSON, maybe its beginning alone: only to be shown again."""


@dataclass(frozen=True)
class Choice:
    """What a form decides."""

    action: Action
    shown: dict[str, Shown]
    """By the ids of the questions."""
    message: str = ""
    always: bool = False
    result: str = ""
    """What is supplied, as it was typed."""
    is_json: bool = False
    """Whether that is JSON."""
    arguments: str = ""
    """Those of an edited call, as JSON."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """What is wrong with it, by the names of fields."""


@dataclass(frozen=True)
class Refusal:
    """A question that is not decided as was asked for."""

    question: Question
    """As it is now."""
    shown: Shown | None
    why: str
    """`decided`, `changed`, or what an error says."""


@router.post("/approvals/confirm")
async def confirm(request: Request, caller: Operator) -> Response:
    """The page that asks once more, before what was chosen is decided."""
    form = auth.form(await request.body())
    choice = _choice(form)
    if choice.action == "edit":
        raise InvalidInputError("a call is edited in a form of its own: see Edit… at the question")
    if everything := form.get("all"):
        found = (await inbox.waiting(workflow_id=of_field(everything))).items
        asked = [one for waiting in found for run in waiting.runs for one in run.questions]
        choice = dataclasses.replace(choice, shown={one.id: shown_of(one) for one in asked})
    if not choice.shown:
        raise InvalidInputError(
            "nothing is chosen: tick what is to be decided, or press its button"
        )
    questions = await inbox.questions(choice.shown)
    if refused := _refusals(choice, questions):
        return _refused(request, choice, [], refused)
    return await _confirm(request, choice, questions)


@router.post("/approvals/decide")
async def decide(request: Request, caller: Operator) -> Response:
    """Decide what the page before has named."""
    choice = _choice(auth.form(await request.body()))
    if not choice.shown:
        raise InvalidInputError("nothing is decided: go back to /approvals")
    questions = await inbox.questions(choice.shown)
    # All of it is looked at before any of it is done.
    if refused := _refusals(choice, questions):
        return _refused(request, choice, [], refused)
    choice, given = _checked(choice, questions)
    if choice.problems:
        return await _confirm(request, choice, questions, status=422)
    done: list[str] = []
    errors: dict[str, TimestepError] = {}
    for workflow_id, own in _by_workflow(questions).items():
        decision: dict[str, Any] = {choice.action: given or [one.id for one in own]}
        try:
            actor = actor_of(caller, address_of(request.scope), request.url.path)
            with acting(actor):
                result = await resume.resume_workflow(
                    workflow_id,
                    **decision,
                    expect={one.id: choice.shown[one.id].hash for one in own},
                    message=choice.message or None,
                    always=choice.always,
                    by=name_of(caller),
                )
            done += result.resolved
        except InvalidArgumentsError as error:
            problems = schema_forms.by_field(error.fields, below=1)
            return await _edit(request, own[0], None, problems, status=422)
        except TimestepError as error:
            if isinstance(error, DatabaseError | InvalidInputError) and not done:
                raise
            errors |= {one.id: error for one in own}
    if errors:
        now = await inbox.questions(errors)
        refused = _refusals(choice, now)
        # Of a run's, one that is decided holds up the others, of which nothing is wrong.
        told_of = {one.question.workflow_id for one in refused}
        refused += [
            Refusal(one, choice.shown[one.id], told(request, errors[one.id]))
            for one in now
            if one.workflow_id not in told_of
        ]
        return _refused(request, choice, done, refused)
    return RedirectResponse(f"/approvals?done={','.join(done[:NAMED])}", _SEE_OTHER)


@router.get("/approvals/{question_id}/edit")
async def edit(request: Request, question_id: str) -> Response:
    """The form with the arguments of a call."""
    (question,) = await inbox.questions([question_id])
    if question.resolved_at is not None:
        refusal = Refusal(question, None, "decided")
        return _refused(request, Choice("edit", {}), [], [refusal])
    return await _edit(request, question, None, {})


@router.post("/approvals/{question_id}/edit")
async def edited(request: Request, question_id: str, caller: Operator) -> Response:
    """Ask once more about a call with edited arguments; where they do not fit, ask again."""
    form = auth.form(await request.body())
    choice = dataclasses.replace(_choice(form), action="edit")
    if question_id not in choice.shown:
        raise InvalidInputError("the form does not say what was shown: load it anew")
    questions = await inbox.questions([question_id])
    if refused := _refusals(choice, questions):
        return _refused(request, choice, [], refused)
    (question,) = questions
    _check_edited(question)
    schema = await inbox.schema(question_id)
    values, problems = schema_forms.read(schema, form, _values(question))
    try:
        await inbox.check_edit(question_id, values)
    except InvalidArgumentsError as error:
        # What cannot be read is missing there, and is told of by itself.
        problems = {**schema_forms.by_field(error.fields, below=1), **problems}
    except InvalidInputError as error:
        problems.setdefault(properties.REST, [error.message])
    if problems:
        return await _edit(request, question, form, problems, status=422)
    choice = dataclasses.replace(choice, arguments=json.dumps(values))
    return await _confirm(request, choice, questions)


def name_of(caller: Caller | None) -> str:
    """Who decides, as it is recorded: what the login says, whatever a form does."""
    return caller.name if caller is not None else _NOBODY


def shown_of(question: Question) -> Shown:
    """What a page shows of a question, as its forms say."""
    document = question.arguments
    return Shown(question.hash, "" if document is None else document.text[:_LONGEST_SHOWN])


def _choice(form: Mapping[str, str]) -> Choice:
    action = next((one for one in ACTIONS if one == form.get("action")), None)
    if action is None:
        raise InvalidInputError("the form does not say what is to be done: load the page anew")
    shown = {}
    for name, value in form.items():
        if name.startswith(_QUESTION):
            hash_, _, arguments = value.partition(" ")
            shown[name.removeprefix(_QUESTION)] = Shown(hash_, arguments)
    return Choice(
        action=action,
        shown=shown,
        message=form.get("message", "").replace("\r\n", "\n").strip(),
        always="always" in form and action in ("approve", "reject"),
        result=form.get("result", "").replace("\r\n", "\n"),
        is_json=form.get("result_as") == "json",
        arguments=form.get("arguments", ""),
    )


def _checked(choice: Choice, questions: Sequence[Question]) -> tuple[Choice, dict[str, Any]]:
    """A choice with what is wrong with it, and what it gives to calls, by their questions."""
    if choice.action not in ("supply", "edit"):
        return choice, {}
    if len(questions) > 1:
        raise InvalidInputError("one call at a time is edited, or given a result")
    text = choice.result if choice.action == "supply" else choice.arguments
    value: Any = text
    if choice.action == "edit" or choice.is_json:
        try:
            value = json_input.loads(text)
        except ValueError as error:
            if choice.action == "edit":
                raise InvalidInputError(f"the edited arguments are no JSON: {error}") from None
            problems = {"result": [f"This is no JSON that can be used: {error}."]}
            return dataclasses.replace(choice, problems=problems), {}
    return choice, {questions[0].id: value}


def _refusals(choice: Choice, questions: Sequence[Question]) -> list[Refusal]:
    found = []
    for one in questions:
        shown = choice.shown[one.id]
        why = _why(one, choice)
        if why is not None:
            found.append(Refusal(one, shown, why))
    return found


def _why(question: Question, choice: Choice) -> str | None:
    """Why a question is not to be decided as it was shown; None: it may be."""
    if question.resolved_at is not None:
        return "decided"
    if question.hash != choice.shown[question.id].hash:
        return "changed"
    if question.ended is not None:
        return f"Its run is {question.ended}: nobody waits for the answer any more."
    return None


def _by_workflow(questions: Sequence[Question]) -> dict[str, list[Question]]:
    found: dict[str, list[Question]] = {}
    for one in questions:
        found.setdefault(str(one.workflow_id), []).append(one)
    return found


def _values(question: Question) -> dict[str, Any]:
    """The arguments of a call, as what is in its form's fields."""
    value = question.arguments.value() if question.arguments is not None else {}
    return value if isinstance(value, dict) else {}


def _check_edited(question: Question) -> None:
    """Refuse to edit a call that cannot be, or whose arguments no form shows.

    Raises:
        InvalidInputError: It is one.
    """
    if question.not_edited is not None:
        raise InvalidInputError(f"this call cannot be edited: {question.not_edited}")


async def _edit(
    request: Request,
    question: Question,
    typed: Mapping[str, str] | None,
    problems: dict[str, list[str]],
    status: int = 200,
) -> Response:
    _check_edited(question)
    schema = await inbox.schema(question.id)
    fields = schema_forms.fields(schema, _values(question), typed=typed, problems=problems)
    known = {one.name for one in fields}
    return page(
        request,
        "edit.html",
        status,
        question=question,
        shown_of=shown_of,
        no_object=laid_out.no_object(question.arguments),
        fields=fields,
        others=[line for name in problems.keys() - known for line in problems[name]],
        is_wrong=bool(problems),
    )


async def _confirm(
    request: Request, choice: Choice, questions: Sequence[Question], status: int = 200
) -> Response:
    return page(
        request,
        "confirm.html",
        status,
        choice=choice,
        questions=questions,
        shown_of=shown_of,
        obstacles=defaultdict(str, await inbox.obstacles(questions)),
        laid_out=laid_out.on_page(len(questions)),
        no_object=laid_out.no_object(questions[0].arguments),
        changes=_changes(questions[0], choice) if choice.action == "edit" else [],
    )


@dataclass(frozen=True)
class Change:
    """An argument before and after."""

    name: str
    before: str
    after: str
    is_changed: bool


def _changes(question: Question, choice: Choice) -> list[Change]:
    before, after = _values(question), json_input.loads(choice.arguments)
    made = []
    for name in laid_out.ordered({**before, **after}, question.required):
        was, is_ = (_written(values, name) for values in (before, after))
        made.append(Change(name, was, is_, was != is_))
    return made


def _written(values: Mapping[str, Any], name: str) -> str:
    return json_text(values[name]) if name in values else "left out"


def _refused(
    request: Request, choice: Choice, done: Sequence[str], refused: Sequence[Refusal]
) -> Response:
    """The page that says what is not decided, and what holds instead."""
    ids = {one.question.id for one in refused}
    rest = {id_: shown for id_, shown in choice.shown.items() if id_ not in {*ids, *done}}
    return page(
        request,
        "refused.html",
        409,
        choice=choice,
        done=done,
        named=NAMED,
        refused=refused,
        rest=rest,
        laid_out=laid_out.on_page(len(refused)),
    )
