"""Defines what reads and decisions answer with: runs, items, calls, interruptions."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, get_args

from timestep.operations.described import Described


class RunFilters(TypedDict, total=False):
    """Which runs are listed, as `list_runs` has it."""

    status: str | None
    agent: str | None
    entrypoint: str | None
    session_id: str | None
    workflow_id: str | None
    version: str | None
    since: datetime.datetime | None
    until: datetime.datetime | None
    text: str | None
    tag: str | Sequence[str] | None


@dataclass(frozen=True)
class Interruption(Described):
    """A question that a run waits for a person to answer."""

    id: str
    run_id: str
    workflow_id: str | None
    type: str
    """`tool_approval`, `mcp_approval` or `guardrail`."""
    reason: str
    """`needs_approval`; or `in_doubt`: a call that must not be repeated may have happened."""
    tool_name: str | None
    call_id: str | None
    arguments: Any
    agent_name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    resolved_at: datetime.datetime | None
    resolution_action: str | None
    """`approve`, `edit`, `reject` or `supply`."""
    resolution_message: str | None
    resolution_always: bool
    """Whether later calls of the same tool in the same run are decided likewise."""
    resolved_by: str | None
    """Who decided: a person, `a one-time link`, `timeout`, or `code` that decided on the run's
    state."""
    is_waited_for: bool = True
    """False: its workflow has ended; whoever goes on with its run's state decides."""
    obstacle: str | None = None
    """Why nobody would follow a decision now, or maybe nobody, and what helps."""
    hash: str = ""
    """SHA-256 of what is asked, to be given back as `expect`: of the JSON array of the tool's
    name, the arguments and the id of the agent's version, as PostgreSQL writes a jsonb."""
    description: str | None = None
    """What the call will do, as its tool's `describe` said when it was asked about."""
    arguments_schema: Any = None
    """The JSON schema that edited arguments have to fit; None: it is decided, or has none."""
    resolution_arguments: Any = None
    """The arguments that a person gave instead; None: it was not edited."""


@dataclass(frozen=True)
class ResumeResult(Described):
    """What a resume-workflow call did."""

    workflow_id: str
    resolved: list[str]
    """Ids of the interruptions that are decided as the call asked."""
    pending: list[str]
    """Ids of those that still wait for a decision."""
    goes_on: bool = True
    """Whether something follows what is decided, as far as is known."""
    reason: str | None = None
    """Why nothing does, or maybe nothing, and what helps."""


Status = Literal["running", "completed", "failed", "interrupted", "cancelled"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Usage(Described):
    """Requests and tokens of a run, without those of the runs inside it."""

    requests: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    """As the provider counted: not always input plus output."""


@dataclass(frozen=True)
class RunError(Described):
    """What ended a run."""

    type: str
    """The name of the exception's class."""
    message: str
    turn: int | None
    """The turn in which it happened, counted from 1."""


@dataclass(frozen=True)
class Workflow(Described):
    """What DBOS knows of the workflow that a run belongs to."""

    status: str
    """DBOS's: `PENDING`, `ENQUEUED`, `DELAYED`, `SUCCESS`, `ERROR`, `CANCELLED` or
    `MAX_RECOVERY_ATTEMPTS_EXCEEDED`."""
    output: Any
    """What the workflow returned."""
    error: RunError | None
    """What it raised."""
    delayed_until: datetime.datetime | None = None
    """Of a `DELAYED` one, when it goes on by itself, at the earliest; None: it does not."""


@dataclass(frozen=True)
class RunExecutor(Described):
    """Which process executes a run that has not ended.

    `is_live` says whether it is there, and does not leave the run alone; null: no host is it, and
    whether another application is cannot be told, because only hosts claim their executor ids.
    """

    id: str
    """DBOS's id of the executor: `DBOS__VMID` of its process, or `local`."""
    version: str | None
    """The version of the application that it executes."""
    is_live: bool | None


@dataclass(frozen=True)
class Run(Described):
    """A run; or a workflow that has not begun one, which has no `id`."""

    id: str | None
    workflow_id: str | None
    workflow_name: str | None
    status: Status
    parent_run_id: str | None = None
    """The run inside which this one was started."""
    is_newest: bool = False
    """Whether its workflow's id stands for it, too, as it does for the newest that is inside no
    other."""
    agent_name: str | None = None
    current_agent_name: str | None = None
    """The agent that acted last."""
    session_id: str | None = None
    input: Any = None
    """What the agent was given; of a workflow without a run, its arguments."""
    final_output: Any = None
    turns: int = 0
    error: RunError | None = None
    cancel_reason: str | None = None
    """Of a cancelled run: `cancelled`, `timeout`, `code` or `abandoned`."""
    forked_from_run_id: str | None = None
    """The run with whose checkpoint this one began."""
    forked_at_turn: int | None = None
    """The turn that the checkpoint was before, counted from 1."""
    usage: Usage = field(default_factory=Usage)
    total_usage: Usage | None = None
    """Of the run and all runs inside it; only of a run that is asked for by itself."""
    recoveries: int | None = None
    """How often another execution went on with it, as the one before was lost: its host died, or
    was stopped. Only of a run that is asked for by itself."""
    cost: float | None = None
    """Estimated, in US dollars; None where the price of a model is not known."""
    interruptions: list[Interruption] = field(default_factory=list)
    """What it and the runs inside it asked, oldest first, decided or not."""
    started_at: datetime.datetime | None = None
    completed_at: datetime.datetime | None = None
    workflow: Workflow | None = None
    """Of a run that is asked for by itself, and of a workflow without one; else None."""
    executor: RunExecutor | None = None
    """None where it has ended, or its workflow waits in a queue or outside of any process."""
    is_left_alone: bool = False
    """Whether its workflow goes on only where pickles are read: it is recorded as one."""
    is_stuck: bool = False
    """Whether nobody goes on with it, as far as is known: no live host has it, or its version."""
    obstacle: str | None = None
    """Why nobody does, or maybe nobody, and what helps."""
    tags: dict[str, Any] = field(default_factory=dict)
    """Of its workflow: texts by their names, as they were given at its start; or what code gave
    DBOS as the workflow's attributes, of any type of JSON's."""


@dataclass(frozen=True)
class RunItem(Described):
    """One item of a run: a message, a call, a call's output."""

    id: str
    run_id: str
    position: int
    turn: int
    """Counted from 1; 0 for the input."""
    item_type: str
    """As the SDK names it, such as `message_output_item`."""
    role: str | None
    agent_name: str | None
    tool_call_id: str | None
    """The row of `tool_calls` that it belongs to."""
    item_data: Any
    """The provider's item; of a call that a person edited, as the model is shown it."""
    created_at: datetime.datetime
    original_data: Any = None
    """Of such a call: the item as the model gave it."""


@dataclass(frozen=True)
class ToolCall(Described):
    """One tool call of a run."""

    id: str
    turn: int
    call_id: str
    tool_name: str
    tool_type: str
    arguments: Any
    status: str
    """`pending`, `approved`, `rejected`, `started`, `in_doubt`, `executed` or `failed`; of a run
    that has ended also `skipped`, never begun, or `unknown`: under way then, or maybe."""
    output: Any
    error: Any
    is_error: bool
    """Whether the output is the error text that the model was given."""
    intents: int
    duration_ms: int | None
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None
    edited_arguments: Any = None
    """What a person gave instead of `arguments`; None: it was not edited."""
    attempts: int = 0
    """How often the execution that ended the call began the body of its tool, since it last
    waited for a person."""
    failed_attempts: list[dict[str, Any]] | None = None
    """The newest of those that raised: each one's `number`, what it raised (`error`, with `type`
    and `message`), and the milliseconds after `started_at` at which it began (`began_ms`), ended
    (`ended_ms`) and was followed by the next one (`followed_ms`; None: there was none). A call
    whose last attempt raised may be `executed`: the model was told of it. None: none raised."""


@dataclass(frozen=True)
class EntrypointDescription(Described):
    """An entrypoint, as a host tells of it."""

    name: str
    description: str
    input_schema: dict[str, Any]
    """The JSON schema of its input."""


@dataclass(frozen=True)
class RunEvent(Described):
    """Something that became visible of a run."""

    cursor: str
    """Where it stands: `follow(..., after=cursor)` goes on with what comes after it."""
    kind: Literal["item", "model", "run", "question"]
    """An item of the run as it is recorded, an event of a model's stream, a change of the run's
    status, or a question to people."""
    type: str
    """The item's type (`message_output_item`, …), the model's event's (`response.created`, …), or
    what changed: `run.started`, `run.waiting` for decisions, `run.resumed`, `run.completed`,
    `run.failed`, `run.cancelled`, `question.asked`, `question.decided`."""
    run_id: str
    turn: int
    """Counted from 1; 0 before the first turn."""
    position: int
    """Of an item: its place in the run; an item that changed comes again with the same one. Of
    a model's event: its place in the attempt, counted from 0. Else 0."""
    attempt: int | None
    """Of a model's event: which attempt at this answer it belongs to, counted from 1, over all
    executions. A higher one replaces what the lower ones said."""
    response_id: str | None
    """Of a model's event: the row of `model_responses` that holds the answer, once there is one."""
    data: Any
    """The item, or the event as the provider's API writes it. Of a change: whose run it is
    (`workflow_id`, `workflow_name`, `parent_run_id`, `agent_name`), the `questions` where it is
    about some, `error` of a run that failed, and `cancel_reason` of a cancelled one."""
    created_at: datetime.datetime | None = None
    """When it was recorded; of an item that changed, first."""
    duration_ms: int | None = None
    """Of a tool call's output: how long the call took."""


UsageBy = Literal["agent", "model", "day", "entrypoint"]


@dataclass(frozen=True)
class UsageRow(Described):
    """What an agent's requests, a model's answers, or the runs of a day or an entrypoint used."""

    name: str | None
    """The agent's, model's or workflow's name, or the day (UTC) on which the runs began,
    `2026-01-31`."""
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int
    cost: float | None
    """Estimated, in US dollars, of what has a price; None: nothing has one."""
    unpriced_requests: int
    """Answers of models whose price is not known."""


@dataclass(frozen=True)
class Session(Described):
    """A `DatabaseSession`."""

    session_id: str
    items: int
    created_at: datetime.datetime
    updated_at: datetime.datetime


@dataclass(frozen=True)
class SessionItem(Described):
    """One item of a session: what a user, a model or a tool said."""

    position: int
    item_type: str | None
    role: str | None
    item_data: Any
    """The provider's item."""
    run_id: str | None
    """The run that added it; None: it was added outside of runs, or the run was deleted."""
    created_at: datetime.datetime


@dataclass(frozen=True)
class AgentDefinition(Described):
    """An agent in the newest version that a run had it in."""

    name: str
    version: int
    """Counted from 1: how often it was changed, and one."""
    model: str | None
    """None: the SDK's default, or the run's own."""
    instructions: str | None
    """None: there are none, or a function makes them."""
    instructions_type: str
    """`static`, `dynamic` or `none`."""
    output_type: str | None
    tools: list[str]
    handoffs: list[str]
    """The agents that it may hand over to."""
    guardrails: list[str]
    mcp_servers: list[str]
    created_at: datetime.datetime
