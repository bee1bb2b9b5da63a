"""Defines the table of what runs ask people, and of what people decided."""

from sqlalchemy import CheckConstraint, Index, Table, text

from timestep.store.tables.base import (
    acting_agent,
    created,
    flag,
    identifier,
    json_value,
    metadata,
    moment,
    of_run,
    reference,
    words,
)

interruptions = Table(
    "interruptions",
    metadata,
    identifier(),
    of_run(),
    acting_agent(),
    reference("tool_call_id", "tool_calls", on_delete="CASCADE"),
    words("type", nullable=False),
    # in_doubt: the outcome of a call that must not be repeated is unknown after a crash.
    words("reason", nullable=False),
    words("call_id"),
    words("tool_name"),
    json_value("arguments"),
    moment("expires_at"),
    words("resolution_action"),
    words("resolution_message"),
    json_value("resolution_output"),
    flag("resolution_always"),
    words("resolved_by"),
    moment("resolved_at"),
    created(),
    # What the call will do, as its tool's `describe` said when the question was asked.
    words("description"),
    # The JSON schema of its arguments, where the tool has no row in `tools`.
    json_value("arguments_schema"),
    # What a person gave instead of `arguments`.
    json_value("resolution_arguments"),
    CheckConstraint("type IN ('tool_approval', 'mcp_approval', 'guardrail')", name="type"),
    CheckConstraint("reason IN ('needs_approval', 'in_doubt')", name="reason"),
    CheckConstraint(
        "resolution_action IN ('approve', 'edit', 'reject', 'supply')", name="resolution_action"
    ),
    CheckConstraint("(resolved_at IS NULL) = (resolution_action IS NULL)", name="resolved_at"),
    CheckConstraint(
        "(resolution_output IS NOT NULL) = (resolution_action IS NOT DISTINCT FROM 'supply')",
        name="resolution_output",
    ),
    CheckConstraint(
        "(resolution_arguments IS NOT NULL) = (resolution_action IS NOT DISTINCT FROM 'edit')",
        name="resolution_arguments",
    ),
    Index("interruptions_run_id_idx", "run_id"),
    Index("interruptions_agent_id_idx", "agent_id"),
    Index("interruptions_tool_call_id_idx", "tool_call_id"),
    # Read by: questions, decided or not, oldest first.
    Index("interruptions_created_at_idx", "created_at"),
    # Read by: what was decided, what was decided last first.
    Index(
        "interruptions_resolved_at_idx",
        text("resolved_at DESC"),
        text("id DESC"),
        postgresql_where=text("resolved_at IS NOT NULL"),
    ),
    # Read by: what waits for a person, oldest first.
    Index(
        "interruptions_unresolved_idx",
        "created_at",
        postgresql_where=text("resolved_at IS NULL"),
    ),
)
