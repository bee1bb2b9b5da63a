"""Defines the tables of what runs did, all of it gone when the run is deleted.

No uniqueness is asked of ids that a model provider makes: a `call_id` is unique within a
run at best, a `response_id` may repeat or be a placeholder, and `total_tokens` is what the
provider said, not a sum.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    Table,
    UniqueConstraint,
    text,
)

from timestep.store.tables.base import (
    acting_agent,
    created,
    flag,
    identifier,
    json_object,
    json_value,
    metadata,
    moment,
    of_run,
    reference,
    sequence,
    words,
)


def _turn() -> Column[object]:
    return Column("turn", Integer, nullable=False)


runs = Table(
    "runs",
    metadata,
    identifier(),
    words("workflow_id"),
    words("workflow_name"),
    Column("workflow_step", Integer),
    reference("parent_run_id", "runs", on_delete="CASCADE"),
    reference("root_run_id", "runs", on_delete="CASCADE", nullable=False),
    reference("agent_id", "agents", on_delete="RESTRICT", nullable=False),
    reference("current_agent_id", "agents", on_delete="SET NULL"),
    reference("session_id", "sessions", on_delete="SET NULL"),
    # The session as the run found it: it reads that and what it adds itself.
    Column("session_revision", BigInteger),
    words("status", nullable=False),
    json_value("input", nullable=False),
    json_value("final_output"),
    Column("current_turn", Integer, nullable=False, server_default=text("0")),
    Column("max_turns", Integer),
    words("error_type"),
    words("error_message"),
    Column("error_turn", Integer),
    json_value("error"),
    words("sdk_version", nullable=False),
    json_object("metadata"),
    moment("started_at", default_now=True),
    moment("updated_at", default_now=True),
    moment("completed_at"),
    moment("deleted_at"),
    # What ended a cancelled run. cancelled: somebody cancelled its workflow; timeout: the
    # workflow's time was over, or that of the run around it; code: the workflow's own code cut
    # it off; abandoned: the workflow ended without waiting for it.
    words("cancel_reason"),
    # The newest step numbers when code cut it off: whether the code went on is seen from later
    # ones.
    json_value("cancel_steps"),
    # The newest end among the runs beside it that was told when the run began, and where its own
    # ends stand among theirs: each stop for a question, and its end; with the time of each where
    # operations of DBOS's end among them.
    Column("begun_after", Integer),
    json_value("ends"),
    # The run whose checkpoint this one began with, and the turn that the checkpoint is before.
    reference("forked_from_run_id", "runs", on_delete="SET NULL"),
    Column("forked_at_turn", Integer),
    CheckConstraint("forked_at_turn > 0", name="forked_at_turn"),
    CheckConstraint(
        "status IN ('running', 'completed', 'failed', 'interrupted', 'cancelled')",
        name="status",
    ),
    CheckConstraint(
        "(status IN ('running', 'interrupted')) = (completed_at IS NULL)", name="completed_at"
    ),
    CheckConstraint("(status = 'failed') = (error_type IS NOT NULL)", name="error_type"),
    CheckConstraint(
        "cancel_reason IN ('cancelled', 'timeout', 'code', 'abandoned') "
        "AND status = 'cancelled' OR cancel_reason IS NULL AND status <> 'cancelled'",
        name="cancel_reason",
    ),
    CheckConstraint("current_turn >= 0", name="current_turn"),
    CheckConstraint("completed_at >= started_at", name="times"),
    # Read by: the runs of a workflow (get_run, resume_workflow, recovery).
    Index("runs_workflow_id_idx", "workflow_id", "workflow_step"),
    # Read by: an agent's runs, newest first (list_runs by agent).
    Index("runs_agent_id_idx", "agent_id", text("started_at DESC")),
    # Read by: the newest runs; usage by agents over a time, which finds all in it.
    Index(
        "runs_newest_idx",
        text("started_at DESC"),
        text("id DESC"),
        postgresql_include=["agent_id"],
    ),
    # Read by: runs by status, newest first.
    Index("runs_status_idx", "status", text("started_at DESC")),
    # Read by: what is going on now, the sweep for cancelled workflows.
    Index(
        "runs_active_idx",
        "agent_id",
        text("started_at DESC"),
        postgresql_where=text("status IN ('running', 'interrupted')"),
    ),
    Index("runs_parent_run_id_idx", "parent_run_id"),
    Index("runs_root_run_id_idx", "root_run_id"),
    Index("runs_forked_from_run_id_idx", "forked_from_run_id"),
    Index("runs_current_agent_id_idx", "current_agent_id"),
    Index("runs_session_id_idx", "session_id", text("started_at DESC")),
    # Read by: people's questions, such as metadata @> '{"customer": 4}'.
    Index(
        "runs_metadata_path_idx",
        "metadata",
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
    ),
)

model_responses = Table(
    "model_responses",
    metadata,
    identifier(),
    of_run(),
    acting_agent(),
    _turn(),
    # The number of the call in its run: a turn whose call was retried has several.
    Column("ordinal", Integer, nullable=False),
    words("response_id"),
    words("request_id"),
    words("model"),
    json_value("output"),
    json_value("usage"),
    json_value("error"),
    Column("duration_ms", Integer),
    created(),
    # A call that is tried again leaves a row for each attempt.
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    # When the model was asked: the rows of all attempts are written together.
    moment("started_at"),
    UniqueConstraint("run_id", "ordinal", "attempt"),
    CheckConstraint("(output IS NULL) <> (error IS NULL)", name="outcome"),
    CheckConstraint("ordinal > 0 AND turn > 0", name="ordinal"),
    Index("model_responses_agent_id_idx", "agent_id"),
)

tool_calls = Table(
    "tool_calls",
    metadata,
    identifier(),
    of_run(),
    acting_agent(),
    reference("tool_id", "tools", on_delete="SET NULL"),
    reference("model_response_id", "model_responses", on_delete="CASCADE"),
    _turn(),
    words("call_id", nullable=False),
    words("tool_name", nullable=False),
    words("tool_type", nullable=False),
    json_value("arguments"),
    words("status", nullable=False),
    json_value("output"),
    # The output's JSON as it was, where JSONB would order its keys otherwise: a replay shows
    # the model the same text.
    words("output_text"),
    json_value("error"),
    # Whether the output is the error text that the SDK gave the model.
    flag("is_error"),
    flag("safe_to_repeat", "true"),
    # Intents committed for a call that must not be repeated.
    Column("intents", Integer, nullable=False, server_default=text("0")),
    Column("duration_ms", Integer),
    created(),
    moment("started_at"),
    moment("completed_at"),
    # How often the body of the call's tool ran: its step holds every attempt.
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # What the call changed in the run's context, and which change of the run it was.
    json_value("context_change"),
    Column("context_position", Integer),
    # Where its end stands among those of the run's calls, and of the checks of calls.
    Column("end_position", Integer),
    # What a person gave instead of `arguments`, and what it is made with then.
    json_value("edited_arguments"),
    # Each attempt that raised, the newest 20: its number, what it raised, and the milliseconds
    # after `started_at` at which it began, ended and was followed by the next one. A call whose
    # last attempt raised, which nothing follows, may be `executed`: the model was told of it.
    json_value("failed_attempts"),
    # started: an intent to make a call that must not be repeated; in_doubt: the process died
    # between that intent and its outcome, and a person decides. Of a run that has ended: skipped:
    # it was never begun; unknown: it was under way, or may have been, and what became of it is not
    # known.
    CheckConstraint(
        "status IN ('pending', 'approved', 'rejected', 'executed', 'failed', "
        "'started', 'in_doubt', 'skipped', 'unknown')",
        name="status",
    ),
    CheckConstraint("status <> 'executed' OR completed_at IS NOT NULL", name="completed_at"),
    CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="error"),
    # Read by: a run's calls. Not unique: see above.
    Index("tool_calls_run_id_idx", "run_id"),
    Index("tool_calls_agent_id_idx", "agent_id"),
    Index("tool_calls_tool_id_idx", "tool_id"),
    Index("tool_calls_model_response_id_idx", "model_response_id"),
    # No index has what a call's end changes: that is an update in place.
)

run_items = Table(
    "run_items",
    metadata,
    identifier(),
    of_run(),
    acting_agent(),
    reference("model_response_id", "model_responses", on_delete="CASCADE"),
    reference("tool_call_id", "tool_calls", on_delete="CASCADE"),
    _turn(),
    # Where the item stands in the run. A gap is an item that never came.
    Column("position", Integer, nullable=False),
    words("item_type", nullable=False),
    words("role"),
    json_value("item_data", nullable=False),
    created(),
    # The order in which items became visible: a reader goes on after the last it has seen.
    sequence(),
    # The item as the model gave it, where `item_data` is the one that a person edited.
    json_value("original_data"),
    UniqueConstraint("run_id", "position"),
    CheckConstraint("position >= 0 AND turn >= 0", name="position"),
    Index("run_items_agent_id_idx", "agent_id"),
    Index("run_items_model_response_id_idx", "model_response_id"),
    Index("run_items_tool_call_id_idx", "tool_call_id"),
    # Read by: live readers.
    Index("run_items_sequence_idx", "run_id", "sequence"),
    # Read by: people's questions, such as item_data @> '{"type": "web_search_call"}'.
    Index(
        "run_items_item_data_idx",
        "item_data",
        postgresql_using="gin",
        postgresql_ops={"item_data": "jsonb_path_ops"},
    ),
    # Read by: full-text search over what was said and done.
    Index(
        "run_items_text_idx",
        text("timestep.search_vector(item_data)"),
        postgresql_using="gin",
    ),
)

guardrail_results = Table(
    "guardrail_results",
    metadata,
    identifier(),
    of_run(),
    acting_agent(),
    reference("guardrail_id", "guardrails", on_delete="SET NULL"),
    words("guardrail_name", nullable=False),
    words("type", nullable=False),
    _turn(),
    # The order in which the checks of a run ended: the first tripwire decides.
    Column("position", Integer, nullable=False),
    Column("tripwire_triggered", Boolean),
    json_value("output_info"),
    json_value("error"),
    Column("duration_ms", Integer),
    created(),
    CheckConstraint("type IN ('input', 'output')", name="type"),
    CheckConstraint("(tripwire_triggered IS NULL) = (error IS NOT NULL)", name="outcome"),
    Index("guardrail_results_run_id_idx", "run_id", "position"),
    Index("guardrail_results_agent_id_idx", "agent_id"),
    Index("guardrail_results_guardrail_id_idx", "guardrail_id"),
)

tool_guardrail_results = Table(
    "tool_guardrail_results",
    metadata,
    identifier(),
    of_run(),
    acting_agent(),
    reference("tool_call_id", "tool_calls", on_delete="CASCADE"),
    reference("tool_guardrail_id", "tool_guardrails", on_delete="SET NULL"),
    words("guardrail_name", nullable=False),
    words("type", nullable=False),
    words("behavior"),
    words("message"),
    json_value("output_info"),
    json_value("error"),
    Column("duration_ms", Integer),
    # Where its end stands among those of the run's calls, and of the checks of calls.
    Column("end_position", Integer),
    created(),
    CheckConstraint("type IN ('input', 'output')", name="type"),
    CheckConstraint("behavior IN ('allow', 'reject_content', 'raise_exception')", name="behavior"),
    CheckConstraint("(behavior IS NULL) = (error IS NOT NULL)", name="outcome"),
    Index("tool_guardrail_results_run_id_idx", "run_id"),
    Index("tool_guardrail_results_agent_id_idx", "agent_id"),
    Index("tool_guardrail_results_tool_call_id_idx", "tool_call_id"),
    Index("tool_guardrail_results_tool_guardrail_id_idx", "tool_guardrail_id"),
)

run_states = Table(
    "run_states",
    metadata,
    identifier(),
    of_run(),
    words("state_type", nullable=False),
    # The SDK's own RunState schema version, and which SDK of which version wrote it.
    words("schema_version", nullable=False),
    words("sdk", nullable=False),
    words("sdk_version", nullable=False),
    _turn(),
    # whole: state_data is a RunState; delta: what changed since previous_id.
    words("encoding", nullable=False),
    reference("previous_id", "run_states", on_delete="CASCADE"),
    json_value("state_data", nullable=False),
    flag("is_active", "true"),
    created(),
    moment("resumed_at"),
    # How far the run's numbers had come, of a checkpoint that steps after it are counted from.
    json_value("progress"),
    # What makes the run's checkpoints of its last state, newest first; see states.py.
    json_value("turns"),
    CheckConstraint("state_type IN ('interrupted', 'checkpoint', 'final')", name="state_type"),
    CheckConstraint("encoding IN ('whole', 'delta')", name="encoding"),
    CheckConstraint("(encoding = 'delta') = (previous_id IS NOT NULL)", name="previous_id"),
    CheckConstraint(
        "encoding = 'whole' OR state_type = 'checkpoint'", name="whole_when_it_matters"
    ),
    # One active state a run.
    Index("run_states_active_key", "run_id", unique=True, postgresql_where=text("is_active")),
    Index("run_states_run_id_idx", "run_id", "created_at"),
    Index("run_states_previous_id_idx", "previous_id"),
    # Read by: people's questions for states by the agent that was acting.
    Index(
        "run_states_agent_name_idx",
        text("(state_data #>> '{current_agent,name}'::text[])"),
        postgresql_where=text("encoding = 'whole'"),
        # A name may be longer than a B-tree holds.
        postgresql_using="hash",
    ),
)
