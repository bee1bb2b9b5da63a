"""What replays and live readers need besides the 23 tables; these live in schema `timestep`.

Both go with their run. They are not in `metadata`, which is the schema that people query.
"""

from sqlalchemy import Column, Integer, MetaData, Table, Uuid

from timestep.tables.base import created, json_value, sequence, words

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
