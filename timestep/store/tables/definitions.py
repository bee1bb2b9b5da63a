"""Defines the tables of what agents are made of.

Rows are written once and never changed: a changed definition is a new row with the next
version of its name. Runs point at the row that was in force.
"""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    UniqueConstraint,
    Uuid,
    text,
)

from timestep.store.tables.base import (
    created,
    identifier,
    json_object,
    json_value,
    metadata,
    moment,
    reference,
    words,
)


def _version() -> Column[object]:
    return Column("version", Integer, nullable=False, server_default=text("1"))


def _position() -> Column[object]:
    return Column("position", Integer, nullable=False, server_default=text("0"))


model_settings = Table(
    "model_settings",
    metadata,
    identifier(),
    Column("temperature", Float),
    Column("top_p", Float),
    Column("frequency_penalty", Float),
    Column("presence_penalty", Float),
    Column("max_tokens", Integer),
    Column("parallel_tool_calls", Boolean),
    Column("store", Boolean),
    words("truncation"),
    words("verbosity"),
    json_value("tool_choice"),
    json_value("reasoning"),
    json_object("extra"),
    json_object("metadata"),
    created(),
    moment("deleted_at"),
    CheckConstraint("max_tokens IS NULL OR max_tokens > 0", name="max_tokens"),
)

agents = Table(
    "agents",
    metadata,
    identifier(),
    words("name", nullable=False),
    _version(),
    words("instructions"),
    words("instructions_type", nullable=False),
    json_value("prompt"),
    words("model"),
    reference("model_settings_id", "model_settings", on_delete="SET NULL"),
    words("handoff_description"),
    words("output_type"),
    json_value("output_schema"),
    json_value("tool_use_behavior"),
    Column("reset_tool_choice", Boolean, nullable=False, server_default=text("true")),
    json_object("metadata"),
    created(),
    moment("deleted_at"),
    UniqueConstraint("name", "version"),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("instructions_type IN ('static', 'dynamic', 'none')", name="instructions_type"),
    CheckConstraint(
        "(instructions_type = 'static') = (instructions IS NOT NULL)", name="instructions"
    ),
    Index("agents_model_settings_id_idx", "model_settings_id"),
)

tools = Table(
    "tools",
    metadata,
    identifier(),
    words("name", nullable=False),
    _version(),
    words("type", nullable=False),
    words("description"),
    json_value("params_json_schema"),
    Column("strict", Boolean),
    words("needs_approval", nullable=False),
    Column("safe_to_repeat", Boolean, nullable=False, server_default=text("true")),
    json_object("config"),
    created(),
    moment("deleted_at"),
    UniqueConstraint("name", "version"),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("needs_approval IN ('never', 'always', 'dynamic')", name="needs_approval"),
)

agent_tools = Table(
    "agent_tools",
    metadata,
    Column("agent_id", Uuid, ForeignKey("public.agents.id", ondelete="CASCADE"), primary_key=True),
    Column("tool_id", Uuid, ForeignKey("public.tools.id", ondelete="CASCADE"), primary_key=True),
    _position(),
    created(),
    Index("agent_tools_tool_id_idx", "tool_id"),
)

handoff_configs = Table(
    "handoff_configs",
    metadata,
    identifier(),
    words("tool_name", nullable=False),
    words("tool_description"),
    words("target_name", nullable=False),
    json_value("input_json_schema"),
    Column("strict", Boolean, nullable=False, server_default=text("true")),
    words("input_filter"),
    words("is_enabled", nullable=False),
    Column("nest_handoff_history", Boolean),
    created(),
    moment("deleted_at"),
    CheckConstraint("is_enabled IN ('always', 'never', 'dynamic')", name="is_enabled"),
)

agent_handoffs = Table(
    "agent_handoffs",
    metadata,
    identifier(),
    reference("agent_id", "agents", on_delete="CASCADE", nullable=False),
    reference("handoff_config_id", "handoff_configs", on_delete="CASCADE", nullable=False),
    # Null where a handoff names its target only when it is invoked.
    reference("target_agent_id", "agents", on_delete="CASCADE"),
    _position(),
    created(),
    UniqueConstraint(
        "agent_id", "handoff_config_id", "target_agent_id", name="agent_handoffs_target_key"
    ),
    Index("agent_handoffs_handoff_config_id_idx", "handoff_config_id"),
    Index("agent_handoffs_target_agent_id_idx", "target_agent_id"),
)

guardrails = Table(
    "guardrails",
    metadata,
    identifier(),
    words("name", nullable=False),
    _version(),
    words("type", nullable=False),
    Column("run_in_parallel", Boolean, nullable=False, server_default=text("true")),
    words("function"),
    words("description"),
    created(),
    moment("deleted_at"),
    UniqueConstraint("name", "version"),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("type IN ('input', 'output')", name="type"),
)

agent_guardrails = Table(
    "agent_guardrails",
    metadata,
    Column("agent_id", Uuid, ForeignKey("public.agents.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "guardrail_id",
        Uuid,
        ForeignKey("public.guardrails.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    _position(),
    created(),
    Index("agent_guardrails_guardrail_id_idx", "guardrail_id"),
)

tool_guardrails = Table(
    "tool_guardrails",
    metadata,
    identifier(),
    reference("tool_id", "tools", on_delete="CASCADE", nullable=False),
    words("name", nullable=False),
    words("type", nullable=False),
    words("function"),
    _position(),
    created(),
    moment("deleted_at"),
    UniqueConstraint("tool_id", "type", "position"),
    CheckConstraint("type IN ('input', 'output')", name="type"),
)

mcp_servers = Table(
    "mcp_servers",
    metadata,
    identifier(),
    words("name", nullable=False),
    _version(),
    words("transport", nullable=False),
    # Never holds a secret: header and environment values are left out, their names kept.
    json_object("config"),
    created(),
    moment("deleted_at"),
    UniqueConstraint("name", "version"),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("transport IN ('stdio', 'sse', 'streamable_http', 'other')", name="transport"),
)

agent_mcp_servers = Table(
    "agent_mcp_servers",
    metadata,
    Column("agent_id", Uuid, ForeignKey("public.agents.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "mcp_server_id",
        Uuid,
        ForeignKey("public.mcp_servers.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    _position(),
    created(),
    Index("agent_mcp_servers_mcp_server_id_idx", "mcp_server_id"),
)
