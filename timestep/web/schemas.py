"""Defines the bodies of requests and answers."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from timestep.config import Role
from timestep.operations.arguments import LONGEST, SHORTEST

Names = list[str] | Literal["all"]

_STRICT = ConfigDict(extra="forbid", strict=True)
"""Of bodies of requests: true is no number, and "5" is none either."""


class Health(BaseModel):
    """The process serves."""

    status: Literal["ok"]


class Readiness(Health):
    """The host can start workflows."""

    set_back: int | None = Field(
        None, description="How many workflows wait for what the application lacks; none: no field."
    )


class FieldProblem(BaseModel):
    """What is wrong with a part of the request."""

    pointer: str = Field(
        description="A JSON pointer (RFC 6901). Of `invalid-request` it begins with `query`, "
        "`header`, `path` or `body`; of `invalid-input`, with the entrypoint's parameter; of "
        "`invalid-arguments`, which is about what was given as `edit`, with the call's id; of "
        "`invalid-tags`, with the tag's name."
    )
    detail: str


class Question(BaseModel):
    """What a run asks about a call."""

    id: str
    hash: str
    tool_name: str | None
    arguments: Any
    agent_name: str | None


class QuestionChange(Question):
    """What is asked now, where it is not what was shown."""

    expected: str | None = Field(description="The hash that was given; null: none was.")
    was: Question | None = Field(description="The workflow's question that has it.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Which kind of problem: each answer says which it may be.")
    title: str
    status: int
    detail: str = Field(description="What happened, and what to do, for people.")
    errors: list[FieldProblem] | None = Field(
        None,
        description="Of `urn:timestep:invalid-request`, `…:invalid-input`, "
        "`…:invalid-arguments` and `…:invalid-tags`: each field that does not fit.",
    )
    changes: list[QuestionChange] | None = Field(
        None, description="Of `urn:timestep:changed-question`: what is asked now."
    )


class WorkflowOut(BaseModel):
    """An entrypoint."""

    name: str
    description: str
    input_schema: dict[str, Any]


class Workflows(BaseModel):
    items: list[WorkflowOut]
    next_cursor: str | None


class Graph(BaseModel):
    """Who may hand over to whom."""

    mermaid: str = Field(description="A flowchart in Mermaid's language.")


class Traceback(BaseModel):
    """Where in the code a run failed."""

    traceback: str | None = Field(
        description="Lines without secrets and values; null: the run did not fail, or none is "
        "recorded."
    )


class Start(BaseModel):
    """What to start a workflow with."""

    model_config = _STRICT
    MISPLACED: ClassVar[str] = "the entrypoint's parameters go into 'input'"
    """What is told of a field that is none."""

    input: dict[str, Any] = Field({}, description="The entrypoint's parameters by name.")
    workflow_id: str | None = Field(None, description="The same id again answers the same run.")
    queue: str | None = None
    priority: int | None = Field(None, description="1 to 2147483647; lower runs first.")
    deduplication_id: str | None = None
    delay: float | None = Field(None, description="Seconds.")
    timeout: float | None = Field(None, description="Seconds.")
    tags: dict[str, str] | None = Field(
        None, description="What its runs are found by: texts by their names, up to 50."
    )


class Decision(BaseModel):
    """Which interruptions are decided how: by their ids, or by those of the tool calls."""

    model_config = _STRICT

    approve: Names = []
    reject: Names = []
    supply: dict[str, Any] = Field({}, description="Results, by the calls not to be made.")
    edit: dict[str, dict[str, Any]] = Field(
        {}, description="Arguments, by the calls that are made with them instead of the model's."
    )
    expect: dict[str, str] = Field(
        {}, description="The hashes of the questions as they were shown: others are not decided."
    )
    message: str | None = Field(None, description="What the model is told of a rejection.")
    always: bool = Field(False, description="Decide later calls of the same tool likewise.")


class Resume(Decision):
    """A decision, that the workflow goes on in this version of the application, or both."""

    from_checkpoint: bool = Field(
        False, description="Go on from the newest checkpoint in this code."
    )
    repeat_steps: bool = Field(
        False, description="With `from_checkpoint`: execute the workflow's own steps again."
    )
    again: bool = Field(False, description="Try once more what was put aside.")


class Changes(BaseModel):
    """What is different about the agent."""

    model_config = _STRICT

    instructions: str | None = Field(None, description="Of the agent whose turn it is.")
    model: str | None = Field(None, description="Of every agent from that turn on.")
    model_settings: dict[str, Any] | None = None


class Fork(BaseModel):
    """Before which turn a new run begins, and what is different in it."""

    model_config = _STRICT

    turn: int = Field(description="Counted from 1.")
    input: str | list[Any] | None = Field(None, description="What the model is shown instead.")
    append: str | list[Any] | None = Field(None, description="What it is shown in addition.")
    agent: Changes | None = None
    workflow_id: str | None = Field(None, description="The id of the new workflow.")


class WorkflowRef(BaseModel):
    workflow_id: str


class CreateToken(BaseModel):
    """A token to be made."""

    model_config = _STRICT

    name: str = Field(description="Whose it is.")
    role: Role
    expires: float | None = Field(
        None, ge=SHORTEST, le=LONGEST, description="Seconds after which it is none any more."
    )


class CreatedToken(BaseModel):
    """A token, and what nobody is told again."""

    id: str
    name: str
    role: Role
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    last_used_at: datetime.datetime | None
    revoked_at: datetime.datetime | None
    token: str
