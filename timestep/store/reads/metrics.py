"""Sums what the metrics count, keeps the sums, and reads how things stand.

Sums hold all up to two numbers: one of the changes of runs, one of the usage of requests. They are
moved on only to where no transaction may still add something before them, by one host at a time,
in the transaction that adds to the sums: what is in them was counted once, whoever did.

A run's steps are in the sums up to its newest change there that let it stand still: it waits, or
has ended. What it did since is read with the sums, for the runs that go on: so nothing is read
that was counted, however many runs there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from timestep.store.fleet.process_ends import IS_HELD, NEVER
from timestep.store.parked_workflows import UNDECIDED
from timestep.store.reads import usage
from timestep.store.tables.usage import USAGE_COUNTS

Labels = tuple[str, ...]
Sums = dict[str, dict[Labels, Decimal]]
"""By the metric's name and the values of its labels."""

OTHERS = "(other)"
"""What stands for agents, models and queues beyond those that have values of their own."""
_PAIRS = 200
"""Pairs of an agent and a model with values of their own: the first that were counted."""
_QUEUES = 100
_LONGEST = 100
"""Characters of a name."""
_AT_ONCE = 2_000
"""Changes that one transaction adds: of many more, whole tables would be read."""

_SUMMED = "SELECT sequence FROM timestep.usage_watermark"

_CURSOR = "SELECT change, entry FROM timestep.metric_cursor"

_STANDS_STILL = "change IN ('run.waiting', 'run.completed', 'run.failed', 'run.cancelled')"

# Where a workflow is put back for what its application lacks, its run goes on as soon as it has
# failed: it has not ended.
_IS_TAKEN_BACK = """EXISTS (
        SELECT FROM timestep.run_changes n
        WHERE n.run_id = c.run_id AND n.change = 'run.resumed' AND n.number > c.number
        AND n.created_at < c.created_at + interval '10 seconds')"""

_CHANGES = f"""
    SELECT c.change, count(*) FROM timestep.run_changes c
    WHERE c.number > %(after)s::bigint AND c.number <= %(until)s::bigint
    AND NOT (c.change = 'run.failed' AND {_IS_TAKEN_BACK}) GROUP BY 1"""

# The first failure that may be taken back yet.
_UNSURE = f"""
    SELECT min(c.number) FROM timestep.run_changes c JOIN public.runs failed ON failed.id = c.run_id
    WHERE c.number > %(after)s::bigint AND c.number <= %(until)s::bigint
    AND c.change = 'run.failed' AND failed.error -> 'lacks' = 'true'
    AND c.created_at > clock_timestamp() - interval '10 seconds' AND NOT {_IS_TAKEN_BACK}"""

_COUNTED = {
    "run.started": ("timestep_runs_started_total", ()),
    "run.completed": ("timestep_runs_ended_total", ("completed",)),
    "run.failed": ("timestep_runs_ended_total", ("failed",)),
    "run.cancelled": ("timestep_runs_ended_total", ("cancelled",)),
    "question.asked": ("timestep_questions_asked_total", ()),
    "question.decided": ("timestep_questions_decided_total", ()),
}

# Everything of a run has one place in time, by the database's clock: at its end, or before its
# newest change, or after it.
_SINCE = f"""coalesce((SELECT max(p.created_at) FROM timestep.run_changes p
    WHERE p.run_id = {{run}} AND p.number <= %(after)s::bigint AND p.{_STANDS_STILL}),
    '-infinity')"""

_TO_BE_COUNTED = f"""
    SELECT run_id, until, {_SINCE.format(run="s.run_id")} AS since FROM (
        SELECT run_id, max(created_at) AS until FROM timestep.run_changes
        WHERE number > %(after)s::bigint AND number <= %(until)s::bigint AND {_STANDS_STILL}
        GROUP BY 1) s"""

_GOES_ON = f"""
    SELECT run_id, timestamptz 'infinity' AS until, {_SINCE.format(run="r.run_id")} AS since FROM (
        SELECT id AS run_id FROM public.runs WHERE status = 'running'
        UNION SELECT run_id FROM timestep.run_changes
        WHERE number > %(after)s::bigint AND {_STANDS_STILL}) r"""


# The model is told of most errors of tools, and their calls end well then.
_FAILED = "t.error IS NOT NULL"
_CALL_FAILED = f"{_FAILED} OR t.is_error OR t.failed_attempts -> -1 -> 'followed_ms' = 'null'"


def _of(
    kind: str,
    table: str,
    at: str,
    duration: str = "duration_ms",
    failed: str = _FAILED,
    more: str = "",
) -> str:
    return f"""
        SELECT '{kind}', CASE WHEN {failed} THEN 'error' ELSE 'ok' END, count(*),
            sum({duration})
        FROM spans s JOIN {table} t ON t.run_id = s.run_id
        WHERE t.{at} > s.since AND t.{at} <= s.until {more} GROUP BY 1, 2"""


_STEPS = "WITH spans AS MATERIALIZED ({spans})" + " UNION ALL ".join(
    (
        _of("model", "public.model_responses", "created_at"),
        _of("tool", "public.tool_calls", "completed_at", failed=_CALL_FAILED,
            more="AND t.status NOT IN ('pending', 'approved', 'rejected', 'skipped')"),
        _of("guardrail", "public.guardrail_results", "created_at"),
        _of("tool_guardrail", "public.tool_guardrail_results", "created_at"),
        _of("value", "timestep.step_values", "created_at", duration="0"),
    )
)  # fmt: skip

_ENTRIES = f"""
    SELECT left(a.name, {_LONGEST}), left(coalesce(e.model, ''), {_LONGEST}),
        {", ".join(f"sum(e.{name})" for name in USAGE_COUNTS)},
        coalesce(sum(e.estimated_cost), 0), count(*) - count(e.estimated_cost)
    FROM public.request_usage_entries e JOIN public.runs r ON r.id = e.run_id
    JOIN public.agents a ON a.id = {usage.WHO}
    WHERE e.sequence > %(after)s::bigint AND e.sequence <= %(until)s::bigint GROUP BY 1, 2"""

_KNOWN = """
    SELECT labels FROM timestep.metric_sums WHERE metric = 'timestep_model_requests_total'"""

_ADD = """
    INSERT INTO timestep.metric_sums AS s (metric, labels, value)
    VALUES (%(metric)s, %(labels)s, %(value)s)
    ON CONFLICT (metric, labels) DO UPDATE SET value = s.value + excluded.value"""

_MOVE = "UPDATE timestep.metric_cursor SET change = %(change)s, entry = %(entry)s"

_RUNS = """
    SELECT status, count(*) FROM public.runs
    WHERE status IN ('running', 'interrupted') GROUP BY 1"""

_QUESTIONS = f"""
    SELECT count(*),
        coalesce(extract(epoch FROM clock_timestamp() - min(i.created_at)), 0)::numeric
    {UNDECIDED}"""

# By the clock of the database alone: every host says the same of the others.
_HOSTS = "SELECT count(*) FROM timestep.hosts WHERE expires_at > clock_timestamp()"

# One part for each of DBOS's partial indexes.
_WAITING = "SELECT queue_name, {state} FROM {schema}.workflow_status WHERE queue_name IS NOT NULL"
_QUEUED = f"""
    SELECT queue_name, state, count(*) FROM (
        {_WAITING.format(state="'waiting' AS state", schema="{schema}")} AND status = 'ENQUEUED'
        UNION ALL
        {_WAITING.format(state="'executing'", schema="{schema}")} AND status = 'PENDING'
        UNION ALL
        {_WAITING.format(state="'delayed'", schema="{schema}")} AND status = 'DELAYED') q
    GROUP BY 1, 2"""

_HELD = f"""
    SELECT 'put_back', count(*) FROM timestep.setbacks s
    JOIN {{schema}}.workflow_status w ON w.workflow_uuid = s.workflow_id
    AND w.status IN ('DELAYED', 'ENQUEUED') AND w.delay_until_epoch_ms = s.delay_until
    UNION ALL SELECT 'set_aside', count(*) FROM timestep.process_ends e
    JOIN {{schema}}.workflow_status w ON {IS_HELD} WHERE e.delay_until = {NEVER}"""

_GIVEN_UP = """
    SELECT count(*) FROM {schema}.workflow_status
    WHERE status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'"""


def move_on(connection: sa.Connection, settled: Callable[[sa.Connection], int | None]) -> bool:
    """Add to the sums what no transaction may still change; whether there is more of it.

    Needs READ COMMITTED, as `usage.move_on` does. Nobody waits for it, and it waits for nobody:
    where another host adds, that is enough.

    Args:
        connection: Where the transaction goes on.
        settled: Up to which number of the changes nothing comes any more; None: not known.
    """
    usage.move_on(connection)
    found = connection.exec_driver_sql(f"{_CURSOR} FOR UPDATE SKIP LOCKED").one_or_none()
    if found is None:
        return False
    change, entry = found
    summed = connection.exec_driver_sql(_SUMMED).scalar_one()
    last = settled(connection)
    until = change if last is None else max(change, min(last, change + _AT_ONCE))
    unsure = connection.exec_driver_sql(_UNSURE, {"after": change, "until": until}).scalar()
    if unsure is not None:
        last = until = unsure - 1
    added: Sums = defaultdict(lambda: defaultdict(Decimal))
    if until > change:
        span = {"after": change, "until": until}
        for kind, number in connection.exec_driver_sql(_CHANGES, span):
            if kind in _COUNTED:
                metric, labels = _COUNTED[kind]
                added[metric][labels] += number
        _add_steps(added, connection, _TO_BE_COUNTED, span)
    if summed > entry:
        rows = connection.exec_driver_sql(_ENTRIES, {"after": entry, "until": summed}).all()
        _add_entries(added, rows, {tuple(row) for row in _known(connection)})
    if until > change or summed > entry:
        add(connection, added)
        connection.exec_driver_sql(_MOVE, {"change": until, "entry": max(entry, summed)})
    return last is not None and until < last


def _known(connection: sa.Connection) -> Iterable[list[str]]:
    return connection.exec_driver_sql(_KNOWN).scalars()


def _add_steps(
    added: Sums, connection: sa.Connection, spans: str, values: Mapping[str, int]
) -> None:
    for kind, outcome, number, milliseconds in connection.exec_driver_sql(
        _STEPS.format(spans=spans), dict(values)
    ):
        added["timestep_steps_total"][kind, outcome] += number
        if kind != "value":  # How long those take is not recorded.
            seconds = Decimal(milliseconds or 0) / 1000
            added["timestep_step_seconds_total"][(kind,)] += seconds


def _add_entries(added: Sums, rows: Iterable[Any], known: set[Labels]) -> None:
    """Add what requests used, under the names of the first pairs only: names come from outside."""
    for agent, model, requests, given, cached, output, reasoning, _, cost, unpriced in rows:
        pair = (agent, model)
        if pair not in known and len(known) >= _PAIRS:
            pair = (OTHERS, OTHERS)
        known.add(pair)
        added["timestep_model_requests_total"][pair] += requests
        added["timestep_cost_dollars_total"][pair] += cost
        added["timestep_unpriced_requests_total"][pair] += unpriced
        tokens = added["timestep_tokens_total"]
        tokens[*pair, "input"] += given
        tokens[*pair, "cached_input"] += cached
        tokens[*pair, "output"] += output
        tokens[*pair, "reasoning"] += reasoning


def add(connection: sa.Connection, sums: Mapping[str, Mapping[Labels, Decimal | int]]) -> None:
    """Add to sums, in the order in which everybody does."""
    rows = [
        {"metric": metric, "labels": list(labels), "value": value}
        for metric, values in sorted(sums.items())
        for labels, value in sorted(values.items())
    ]
    for row in rows:
        connection.exec_driver_sql(_ADD, row)


def read(connection: sa.Connection) -> Sums:
    """The sums, with what the runs that go on did since; and how runs, questions and hosts stand.

    Needs REPEATABLE READ: all of it at one time.
    """
    found: Sums = defaultdict(lambda: defaultdict(Decimal))
    change, _ = connection.exec_driver_sql(_CURSOR).one()
    for metric, labels, value in connection.exec_driver_sql(
        "SELECT metric, labels, value FROM timestep.metric_sums"
    ):
        found[metric][tuple(labels)] += value
    _add_steps(found, connection, _GOES_ON, {"after": change})
    for status, number in connection.exec_driver_sql(_RUNS):
        found["timestep_runs"][(status,)] += number
    number, seconds = connection.exec_driver_sql(_QUESTIONS).one()
    found["timestep_questions_pending"][()] += number
    found["timestep_oldest_question_age_seconds"][()] += seconds
    found["timestep_hosts"][()] += connection.exec_driver_sql(_HOSTS).scalar_one()
    return found


def read_queues(connection: sa.Connection, schema: str) -> Sums:
    """How many workflows are in which queue, and how many DBOS gave up.

    Args:
        connection: To the database with DBOS's tables, which may be SQLite.
        schema: Where those are.
    """
    found: Sums = defaultdict(lambda: defaultdict(Decimal))
    counts = connection.exec_driver_sql(_QUEUED.format(schema=f'"{schema}"')).all()
    depths: dict[str, int] = defaultdict(int)
    for queue, _, number in counts:
        depths[queue] += number
    named = set(sorted(depths, key=lambda queue: (-depths[queue], queue))[:_QUEUES])
    for queue, state, number in counts:
        shown = queue[:_LONGEST] if queue in named else OTHERS
        found["timestep_queue_workflows"][shown, state] += number
    given_up = connection.exec_driver_sql(_GIVEN_UP.format(schema=f'"{schema}"')).scalar_one()
    found["timestep_workflows_held"][("given_up",)] += given_up
    return found


def read_held(connection: sa.Connection, schema: str) -> Sums:
    """How many workflows wait for what their application lacks, and how many are put aside.

    Args:
        connection: To the database that has DBOS's tables, too.
        schema: Where those are.
    """
    found: Sums = defaultdict(lambda: defaultdict(Decimal))
    query = _HELD.format(schema=f'"{schema}"')
    for reason, number in connection.exec_driver_sql(query):
        found["timestep_workflows_held"][(reason,)] += number
    return found
