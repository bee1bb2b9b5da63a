"""Defines the tables of what runs used: sums of a run, and an entry for each request."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Numeric, Table, UniqueConstraint

from timestep.store.tables.base import (
    acting_agent,
    count,
    created,
    identifier,
    metadata,
    moment,
    of_run,
    reference,
    sequence,
    words,
)


def _tokens() -> list[Column[object]]:
    return [
        count("requests"),
        count("input_tokens"),
        count("cached_input_tokens"),
        count("output_tokens"),
        count("reasoning_tokens"),
        # As the provider counted: not always input plus output.
        count("total_tokens"),
        # US dollars; null where the price of a model is not known.
        Column("estimated_cost", Numeric(20, 10)),
    ]


USAGE_COUNTS = (
    "requests",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
)
"""What is counted of each request, and summed."""

_COUNTS_CHECK = " AND ".join(f"{name} >= 0" for name in USAGE_COUNTS)

usage_metrics = Table(
    "usage_metrics",
    metadata,
    identifier(),
    of_run(),
    *_tokens(),
    created(),
    moment("updated_at", default_now=True),
    UniqueConstraint("run_id"),
    CheckConstraint(_COUNTS_CHECK, name="counts"),
)

request_usage_entries = Table(
    "request_usage_entries",
    metadata,
    identifier(),
    of_run(),
    acting_agent(),
    reference("usage_metrics_id", "usage_metrics", on_delete="CASCADE", nullable=False),
    reference("model_response_id", "model_responses", on_delete="CASCADE"),
    words("model"),
    *_tokens(),
    created(),
    # The order in which they are added to the sums of the usage report.
    sequence(),
    CheckConstraint(_COUNTS_CHECK, name="counts"),
    Index("request_usage_entries_run_id_idx", "run_id"),
    Index("request_usage_entries_agent_id_idx", "agent_id"),
    Index("request_usage_entries_usage_metrics_id_idx", "usage_metrics_id"),
    Index("request_usage_entries_model_response_id_idx", "model_response_id"),
    # Read by: the usage report, for what is not in its sums yet.
    Index("request_usage_entries_sequence_idx", "sequence"),
)
