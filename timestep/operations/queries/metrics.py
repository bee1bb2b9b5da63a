"""Tells monitoring how runs, questions, queues and hosts stand, and what was done altogether.

All of it is the database's: whichever host is asked, it says the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from timestep.database.error_translation import translated
from timestep.errors import DatabaseUnreachableError
from timestep.journal.reads.database import database
from timestep.runtime.process_state import PerProcess, of
from timestep.store.reads import metrics as store
from timestep.store.reads import run_changes

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Metric:
    """What is measured."""

    name: str
    kind: Literal["counter", "gauge"]
    labels: Labels
    meaning: str
    always: tuple[Labels, ...] = ()
    """Values of its labels that are there, with 0, before anything is."""


_PAIR = ("agent", "model")

METRICS: tuple[Metric, ...] = (
    Metric("timestep_runs", "gauge", ("status",),
           "Runs that have not ended: `running`, or `interrupted` as they wait for a person.",
           (("running",), ("interrupted",))),
    Metric("timestep_runs_started_total", "counter", (), "Runs that began.", ((),)),
    Metric("timestep_runs_ended_total", "counter", ("status",),
           "Runs that ended: `completed`, `failed` or `cancelled`.",
           (("completed",), ("failed",), ("cancelled",))),
    Metric("timestep_questions_pending", "gauge", (),
           "Questions that wait for a person's decision.", ((),)),
    Metric("timestep_oldest_question_age_seconds", "gauge", (),
           "How long the oldest of them waits; 0: there is none.", ((),)),
    Metric("timestep_questions_asked_total", "counter", (), "Questions that were asked.", ((),)),
    Metric("timestep_questions_decided_total", "counter", (),
           "Questions that were decided, by a person or as their time was over.", ((),)),
    Metric("timestep_queue_workflows", "gauge", ("queue", "state"),
           "Workflows of a queue of DBOS: `waiting` for a host, `executing`, or `delayed`: until "
           "their time, or for a person."),
    Metric("timestep_steps_total", "counter", ("kind", "outcome"),
           "Steps that were recorded, by kind (`model`, `tool`, `guardrail`, `tool_guardrail`, "
           "`value`: sessions, listings of tools and the like) and outcome (`ok`, `error`)."),
    Metric("timestep_step_seconds_total", "counter", ("kind",),
           "How long they took together; that of `value` is not recorded."),
    Metric("timestep_model_requests_total", "counter", _PAIR,
           "Requests that models answered, by the agent that asked, also after a handoff, and the "
           "model."),
    Metric("timestep_tokens_total", "counter", (*_PAIR, "kind"),
           "Tokens: `input`, `output`, and of these `cached_input` and `reasoning`."),
    Metric("timestep_cost_dollars_total", "counter", _PAIR,
           "Their estimated cost, as far as prices are known."),
    Metric("timestep_unpriced_requests_total", "counter", _PAIR,
           "Requests to models whose price is not known."),
    Metric("timestep_recoveries_total", "counter", (),
           "Workflows that a host went on with as it started, after a process that was executing "
           "them had ended.", ((),)),
    Metric("timestep_workflows_held", "gauge", ("reason",),
           "Workflows that nobody goes on with now: they lack something (`put_back`), are put "
           "aside (`set_aside`), or were given up by DBOS (`given_up`).",
           (("put_back",), ("set_aside",), ("given_up",))),
    Metric("timestep_hosts", "gauge", (), "Hosts that are alive.", ((),)),
)  # fmt: skip
"""What the database tells, in the order in which it is shown."""

RECOVERIES = "timestep_recoveries_total"

Values = Mapping[str, Mapping[Labels, float]]
"""By the metric's name and the values of its labels."""


class _Changes(PerProcess):
    """How far this process knows that the changes of runs are all there."""

    def __init__(self) -> None:
        self.settled = run_changes.Settled()


def read_metrics() -> Values:
    """The values of `METRICS` now. Blocks.

    What is new since somebody asked last is counted first, and kept: the first who asks after long
    waits for that.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    try:
        return _read()
    except DatabaseUnreachableError:
        # A pooled connection that was lost while nobody looked: a new one tells.
        return _read()


def _read() -> Values:
    found = database()
    settled = of(_Changes).settled
    with translated(found.url):
        is_more = True
        while is_more:
            with found.transactions.begin() as connection:
                is_more = store.move_on(connection, settled.until)
        with found.snapshots.begin() as connection:
            parts = [store.read(connection)]
            if found.mirror is None:
                parts.append(store.read_held(connection, found.schema))
                parts.append(store.read_queues(connection, found.schema))
        if found.mirror is not None:
            with found.system() as (connection, schema):
                parts.append(store.read_queues(connection, schema))
    values: dict[str, dict[Labels, float]] = {
        one.name: dict.fromkeys(one.always, 0.0) for one in METRICS
    }
    for metric, sums in itertools.chain.from_iterable(part.items() for part in parts):
        values[metric].update({labels: float(value) for labels, value in sums.items()})
    return values


def count_recoveries(workflows: int) -> None:
    """Count workflows that this process goes on with after another one.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    found = database()
    with translated(found.url), found.transactions.begin() as connection:
        store.add(connection, {RECOVERIES: {(): workflows}})
