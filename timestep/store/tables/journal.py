"""Defines the tables that replays and live readers need besides the 23; in schema `timestep`.

Both go with their run. They are not in `metadata`, which is the schema that people query.
"""

from sqlalchemy import Column, Integer, MetaData, Table, Text, Uuid

from timestep.store.tables.base import created, json_value, sequence, words

_metadata = MetaData(schema="timestep")


def _id(name: str) -> Column[object]:
    return Column(name, Uuid, primary_key=name == "id", nullable=False)


step_values = Table(
    "step_values",
    _metadata,
    _id("id"),
    _id("run_id"),
    words("name", nullable=False),
    json_value("value"),
    # The value's JSON as it was, where JSONB would order its keys otherwise.
    words("value_text"),
    json_value("error"),
    created(),
)

stream_batches = Table(
    "stream_batches",
    _metadata,
    _id("id"),
    _id("run_id"),
    _id("model_response_id"),
    Column("turn", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    # The first attempt of the execution that wrote it.
    Column("first_attempt", Integer, nullable=False),
    # Where the first of its events stands among those of the attempt.
    Column("position", Integer, nullable=False),
    json_value("events", nullable=False),
    sequence(),
    created(),
)

continuations = Table(
    "continuations",
    _metadata,
    # Which of the workflow's runs: its task, and how many runs that task began before.
    Column("workflow_id", Text, primary_key=True),
    Column("lane", Integer, primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    # ended: it is that run, which has ended; forked: it begins with a state of that run;
    # taken_over: it is that run, and goes on from its state.
    words("kind", nullable=False),
    _id("run_id"),
    _id("source_run_id"),
    # The step of this workflow at which it stands, once it was come to.
    Column("workflow_step", Integer),
    # The turn that begins, counted from 1.
    Column("turn", Integer),
    # The whole state before it; null: the run begins from its input.
    json_value("state"),
    json_value("progress"),
    # What calls changed in the run's context until then: each change with its position.
    json_value("context_changes"),
    # The input instead of what the code gives: {"replace": ...} or {"append": [...]}.
    json_value("input"),
    # What is different about the agent.
    json_value("changes"),
    created(),
)
