-- Timestep's schema: 23 tables in `public`, for PostgreSQL 12 to 18.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/001_initial_schema.sql
--
-- Running it again changes nothing. What is not a table of the schema (the log of migrations
-- and two functions) lives in the schema `timestep`.
--
-- Delete policies: an agent that has runs cannot be deleted; a run that loses its session
-- keeps its rows; everything of a run goes with the run. Rows of definitions are written once:
-- a changed definition is a new row with the next version of its name. `deleted_at` marks what
-- people should no longer see.

BEGIN;

-- Two migrations at a time would trip over each other's CREATE.
SELECT pg_advisory_xact_lock(7470263211650384);

CREATE SCHEMA IF NOT EXISTS timestep;

SET LOCAL search_path TO public;

-- PostgreSQL 12 makes UUIDs with an extension; 13 and newer can by themselves, and not every
-- server ships the extension or lets everybody enable it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'uuid-ossp') THEN
        CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'the extension uuid-ossp could not be enabled: %', SQLERRM;
END
$$;

-- The default of every id, for hand-written SQL: the application makes its own ids.
DO $$
BEGIN
    IF to_regprocedure('timestep.new_id()') IS NULL THEN
        IF to_regprocedure('pg_catalog.gen_random_uuid()') IS NOT NULL THEN
            CREATE FUNCTION timestep.new_id() RETURNS uuid LANGUAGE sql VOLATILE
                AS 'SELECT pg_catalog.gen_random_uuid()';
        ELSIF to_regprocedure('public.uuid_generate_v4()') IS NOT NULL THEN
            CREATE FUNCTION timestep.new_id() RETURNS uuid LANGUAGE sql VOLATILE
                AS 'SELECT public.uuid_generate_v4()';
        ELSE
            CREATE FUNCTION timestep.new_id() RETURNS uuid LANGUAGE sql VOLATILE
                AS 'SELECT md5(random()::text || clock_timestamp()::text)::uuid';
        END IF;
    END IF;
END
$$;

-- The words of an item. A tsvector holds at most 1 MB, and an item may be larger: its
-- beginning is searched then, rather than the item refused.
CREATE OR REPLACE FUNCTION timestep.search_vector(item jsonb) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT CASE
            WHEN octet_length(item::text) <= 200000
            THEN jsonb_to_tsvector('simple'::regconfig, item, '["string"]'::jsonb)
            ELSE to_tsvector('simple'::regconfig, left(item::text, 50000))
        END
    $$;

CREATE TABLE IF NOT EXISTS model_settings (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    temperature double precision,
    top_p double precision,
    frequency_penalty double precision,
    presence_penalty double precision,
    max_tokens integer,
    parallel_tool_calls boolean,
    store boolean,
    truncation text,
    verbosity text,
    tool_choice jsonb,
    reasoning jsonb,
    extra jsonb NOT NULL DEFAULT '{}'::jsonb,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT model_settings_pkey PRIMARY KEY (id),
    CONSTRAINT model_settings_max_tokens_check CHECK (max_tokens IS NULL OR max_tokens > 0)
);

CREATE TABLE IF NOT EXISTS agents (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    name text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    instructions text,
    instructions_type text NOT NULL,
    prompt jsonb,
    model text,
    model_settings_id uuid,
    handoff_description text,
    output_type text,
    output_schema jsonb,
    tool_use_behavior jsonb,
    reset_tool_choice boolean NOT NULL DEFAULT true,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT agents_pkey PRIMARY KEY (id),
    CONSTRAINT agents_name_version_key UNIQUE (name, version),
    CONSTRAINT agents_name_check CHECK (name <> ''),
    CONSTRAINT agents_version_check CHECK (version > 0),
    CONSTRAINT agents_instructions_type_check
        CHECK (instructions_type IN ('static', 'dynamic', 'none')),
    CONSTRAINT agents_instructions_check
        CHECK ((instructions_type = 'static') = (instructions IS NOT NULL)),
    CONSTRAINT agents_model_settings_id_fkey
        FOREIGN KEY (model_settings_id) REFERENCES model_settings (id) ON DELETE SET NULL
);
CREATE INDEX IF NOT EXISTS agents_alive_idx ON agents (name, version) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS agents_metadata_idx ON agents USING gin (metadata);
CREATE INDEX IF NOT EXISTS agents_model_settings_id_idx ON agents (model_settings_id);

CREATE TABLE IF NOT EXISTS tools (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    name text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    type text NOT NULL,
    description text,
    params_json_schema jsonb,
    strict boolean,
    needs_approval text NOT NULL,
    safe_to_repeat boolean NOT NULL DEFAULT true,
    config jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT tools_pkey PRIMARY KEY (id),
    CONSTRAINT tools_name_version_key UNIQUE (name, version),
    CONSTRAINT tools_name_check CHECK (name <> ''),
    CONSTRAINT tools_version_check CHECK (version > 0),
    CONSTRAINT tools_needs_approval_check CHECK (needs_approval IN ('never', 'always', 'dynamic'))
);
CREATE INDEX IF NOT EXISTS tools_alive_idx ON tools (name, version) WHERE deleted_at IS NULL;

CREATE TABLE IF NOT EXISTS agent_tools (
    agent_id uuid NOT NULL,
    tool_id uuid NOT NULL,
    position integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT agent_tools_pkey PRIMARY KEY (agent_id, tool_id),
    CONSTRAINT agent_tools_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE CASCADE,
    CONSTRAINT agent_tools_tool_id_fkey
        FOREIGN KEY (tool_id) REFERENCES tools (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS agent_tools_tool_id_idx ON agent_tools (tool_id);

CREATE TABLE IF NOT EXISTS handoff_configs (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    tool_name text NOT NULL,
    tool_description text,
    target_name text NOT NULL,
    input_json_schema jsonb,
    strict boolean NOT NULL DEFAULT true,
    input_filter text,
    is_enabled text NOT NULL,
    nest_handoff_history boolean,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT handoff_configs_pkey PRIMARY KEY (id),
    CONSTRAINT handoff_configs_is_enabled_check CHECK (is_enabled IN ('always', 'never', 'dynamic'))
);

CREATE TABLE IF NOT EXISTS agent_handoffs (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    agent_id uuid NOT NULL,
    handoff_config_id uuid NOT NULL,
    target_agent_id uuid,
    position integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT agent_handoffs_pkey PRIMARY KEY (id),
    CONSTRAINT agent_handoffs_target_key UNIQUE (agent_id, handoff_config_id, target_agent_id),
    CONSTRAINT agent_handoffs_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE CASCADE,
    CONSTRAINT agent_handoffs_handoff_config_id_fkey
        FOREIGN KEY (handoff_config_id) REFERENCES handoff_configs (id) ON DELETE CASCADE,
    CONSTRAINT agent_handoffs_target_agent_id_fkey
        FOREIGN KEY (target_agent_id) REFERENCES agents (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS agent_handoffs_handoff_config_id_idx
    ON agent_handoffs (handoff_config_id);
CREATE INDEX IF NOT EXISTS agent_handoffs_target_agent_id_idx ON agent_handoffs (target_agent_id);

CREATE TABLE IF NOT EXISTS guardrails (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    name text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    type text NOT NULL,
    run_in_parallel boolean NOT NULL DEFAULT true,
    function text,
    description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT guardrails_pkey PRIMARY KEY (id),
    CONSTRAINT guardrails_name_version_key UNIQUE (name, version),
    CONSTRAINT guardrails_name_check CHECK (name <> ''),
    CONSTRAINT guardrails_version_check CHECK (version > 0),
    CONSTRAINT guardrails_type_check CHECK (type IN ('input', 'output'))
);

CREATE TABLE IF NOT EXISTS agent_guardrails (
    agent_id uuid NOT NULL,
    guardrail_id uuid NOT NULL,
    position integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT agent_guardrails_pkey PRIMARY KEY (agent_id, guardrail_id),
    CONSTRAINT agent_guardrails_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE CASCADE,
    CONSTRAINT agent_guardrails_guardrail_id_fkey
        FOREIGN KEY (guardrail_id) REFERENCES guardrails (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS agent_guardrails_guardrail_id_idx ON agent_guardrails (guardrail_id);

CREATE TABLE IF NOT EXISTS tool_guardrails (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    tool_id uuid NOT NULL,
    name text NOT NULL,
    type text NOT NULL,
    function text,
    position integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT tool_guardrails_pkey PRIMARY KEY (id),
    CONSTRAINT tool_guardrails_tool_id_type_position_key UNIQUE (tool_id, type, position),
    CONSTRAINT tool_guardrails_type_check CHECK (type IN ('input', 'output')),
    CONSTRAINT tool_guardrails_tool_id_fkey
        FOREIGN KEY (tool_id) REFERENCES tools (id) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS mcp_servers (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    name text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    transport text NOT NULL,
    config jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT mcp_servers_pkey PRIMARY KEY (id),
    CONSTRAINT mcp_servers_name_version_key UNIQUE (name, version),
    CONSTRAINT mcp_servers_name_check CHECK (name <> ''),
    CONSTRAINT mcp_servers_version_check CHECK (version > 0),
    CONSTRAINT mcp_servers_transport_check
        CHECK (transport IN ('stdio', 'sse', 'streamable_http', 'other'))
);

CREATE TABLE IF NOT EXISTS agent_mcp_servers (
    agent_id uuid NOT NULL,
    mcp_server_id uuid NOT NULL,
    position integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT agent_mcp_servers_pkey PRIMARY KEY (agent_id, mcp_server_id),
    CONSTRAINT agent_mcp_servers_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE CASCADE,
    CONSTRAINT agent_mcp_servers_mcp_server_id_fkey
        FOREIGN KEY (mcp_server_id) REFERENCES mcp_servers (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS agent_mcp_servers_mcp_server_id_idx ON agent_mcp_servers (mcp_server_id);

CREATE TABLE IF NOT EXISTS sessions (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    session_key text NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_session_key_key UNIQUE (session_key),
    CONSTRAINT sessions_session_key_check CHECK (session_key <> '')
);

CREATE TABLE IF NOT EXISTS runs (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    workflow_id text,
    workflow_name text,
    workflow_step integer,
    parent_run_id uuid,
    root_run_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    current_agent_id uuid,
    session_id uuid,
    session_revision bigint,
    status text NOT NULL,
    input jsonb NOT NULL,
    final_output jsonb,
    current_turn integer NOT NULL DEFAULT 0,
    max_turns integer,
    error_type text,
    error_message text,
    error_turn integer,
    error jsonb,
    sdk_version text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT runs_pkey PRIMARY KEY (id),
    CONSTRAINT runs_status_check
        CHECK (status IN ('running', 'completed', 'failed', 'interrupted', 'cancelled')),
    CONSTRAINT runs_completed_at_check
        CHECK ((status IN ('running', 'interrupted')) = (completed_at IS NULL)),
    CONSTRAINT runs_error_type_check CHECK ((status = 'failed') = (error_type IS NOT NULL)),
    CONSTRAINT runs_current_turn_check CHECK (current_turn >= 0),
    CONSTRAINT runs_times_check CHECK (completed_at >= started_at),
    CONSTRAINT runs_parent_run_id_fkey
        FOREIGN KEY (parent_run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT runs_root_run_id_fkey
        FOREIGN KEY (root_run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT runs_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE RESTRICT,
    CONSTRAINT runs_current_agent_id_fkey
        FOREIGN KEY (current_agent_id) REFERENCES agents (id) ON DELETE SET NULL,
    CONSTRAINT runs_session_id_fkey
        FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE SET NULL
);
CREATE INDEX IF NOT EXISTS runs_active_idx
    ON runs (agent_id, started_at DESC) WHERE status IN ('running', 'interrupted');
CREATE INDEX IF NOT EXISTS runs_agent_id_idx ON runs (agent_id, started_at DESC);
CREATE INDEX IF NOT EXISTS runs_current_agent_id_idx ON runs (current_agent_id);
CREATE INDEX IF NOT EXISTS runs_metadata_idx ON runs USING gin (metadata);
CREATE INDEX IF NOT EXISTS runs_parent_run_id_idx ON runs (parent_run_id);
CREATE INDEX IF NOT EXISTS runs_root_run_id_idx ON runs (root_run_id);
CREATE INDEX IF NOT EXISTS runs_session_id_idx ON runs (session_id, started_at DESC);
CREATE INDEX IF NOT EXISTS runs_started_at_idx ON runs (started_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS runs_status_idx ON runs (status, started_at DESC);
CREATE INDEX IF NOT EXISTS runs_workflow_id_idx ON runs (workflow_id, workflow_step);

CREATE TABLE IF NOT EXISTS session_items (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    session_id uuid NOT NULL,
    run_id uuid,
    run_change integer,
    removed_run_id uuid,
    removed_run_change integer,
    position bigint NOT NULL,
    added_revision bigint NOT NULL,
    removed_revision bigint,
    item_type text,
    role text,
    item_data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT session_items_pkey PRIMARY KEY (id),
    CONSTRAINT session_items_session_id_position_key UNIQUE (session_id, position),
    CONSTRAINT session_items_removed_revision_check
        CHECK ((removed_revision IS NULL) = (deleted_at IS NULL)),
    CONSTRAINT session_items_session_id_fkey
        FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
    CONSTRAINT session_items_run_id_fkey
        FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE SET NULL,
    CONSTRAINT session_items_removed_run_id_fkey
        FOREIGN KEY (removed_run_id) REFERENCES runs (id) ON DELETE SET NULL
);
CREATE INDEX IF NOT EXISTS session_items_alive_idx
    ON session_items (session_id, position) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS session_items_created_at_idx ON session_items (created_at);
CREATE INDEX IF NOT EXISTS session_items_item_data_idx
    ON session_items USING gin (item_data jsonb_path_ops);
CREATE INDEX IF NOT EXISTS session_items_removed_run_id_idx ON session_items (removed_run_id);
CREATE INDEX IF NOT EXISTS session_items_run_id_idx ON session_items (run_id);

CREATE TABLE IF NOT EXISTS model_responses (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    run_id uuid NOT NULL,
    agent_id uuid,
    turn integer NOT NULL,
    ordinal integer NOT NULL,
    response_id text,
    request_id text,
    model text,
    output jsonb,
    usage jsonb,
    error jsonb,
    duration_ms integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT model_responses_pkey PRIMARY KEY (id),
    CONSTRAINT model_responses_run_id_ordinal_key UNIQUE (run_id, ordinal),
    CONSTRAINT model_responses_outcome_check CHECK ((output IS NULL) <> (error IS NULL)),
    CONSTRAINT model_responses_ordinal_check CHECK (ordinal > 0 AND turn > 0),
    CONSTRAINT model_responses_run_id_fkey
        FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT model_responses_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE SET NULL
);
CREATE INDEX IF NOT EXISTS model_responses_agent_id_idx ON model_responses (agent_id);
CREATE INDEX IF NOT EXISTS model_responses_response_id_idx ON model_responses (response_id);

CREATE TABLE IF NOT EXISTS tool_calls (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    run_id uuid NOT NULL,
    agent_id uuid,
    tool_id uuid,
    model_response_id uuid,
    turn integer NOT NULL,
    call_id text NOT NULL,
    tool_name text NOT NULL,
    tool_type text NOT NULL,
    arguments jsonb,
    status text NOT NULL,
    output jsonb,
    output_text text,
    error jsonb,
    is_error boolean NOT NULL DEFAULT false,
    safe_to_repeat boolean NOT NULL DEFAULT true,
    intents integer NOT NULL DEFAULT 0,
    duration_ms integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    completed_at timestamptz,
    CONSTRAINT tool_calls_pkey PRIMARY KEY (id),
    CONSTRAINT tool_calls_status_check
        CHECK (status IN ('pending', 'approved', 'rejected',
            'executed', 'failed', 'started', 'in_doubt')),
    CONSTRAINT tool_calls_completed_at_check
        CHECK (status <> 'executed' OR completed_at IS NOT NULL),
    CONSTRAINT tool_calls_error_check CHECK ((status = 'failed') = (error IS NOT NULL)),
    CONSTRAINT tool_calls_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT tool_calls_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE SET NULL,
    CONSTRAINT tool_calls_tool_id_fkey
        FOREIGN KEY (tool_id) REFERENCES tools (id) ON DELETE SET NULL,
    CONSTRAINT tool_calls_model_response_id_fkey
        FOREIGN KEY (model_response_id) REFERENCES model_responses (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS tool_calls_agent_id_idx ON tool_calls (agent_id);
CREATE INDEX IF NOT EXISTS tool_calls_model_response_id_idx ON tool_calls (model_response_id);
CREATE INDEX IF NOT EXISTS tool_calls_open_idx
    ON tool_calls (run_id) WHERE status IN ('pending', 'approved', 'started', 'in_doubt');
CREATE INDEX IF NOT EXISTS tool_calls_run_id_idx ON tool_calls (run_id, call_id);
CREATE INDEX IF NOT EXISTS tool_calls_tool_id_idx ON tool_calls (tool_id);
CREATE INDEX IF NOT EXISTS tool_calls_tool_name_idx ON tool_calls (tool_name, created_at DESC);

CREATE TABLE IF NOT EXISTS run_items (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    run_id uuid NOT NULL,
    agent_id uuid,
    model_response_id uuid,
    tool_call_id uuid,
    turn integer NOT NULL,
    position integer NOT NULL,
    item_type text NOT NULL,
    role text,
    item_data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT run_items_pkey PRIMARY KEY (id),
    CONSTRAINT run_items_run_id_position_key UNIQUE (run_id, position),
    CONSTRAINT run_items_position_check CHECK (position >= 0 AND turn >= 0),
    CONSTRAINT run_items_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT run_items_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE SET NULL,
    CONSTRAINT run_items_model_response_id_fkey
        FOREIGN KEY (model_response_id) REFERENCES model_responses (id) ON DELETE CASCADE,
    CONSTRAINT run_items_tool_call_id_fkey
        FOREIGN KEY (tool_call_id) REFERENCES tool_calls (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS run_items_agent_id_idx ON run_items (agent_id);
CREATE INDEX IF NOT EXISTS run_items_created_at_idx ON run_items (created_at);
CREATE INDEX IF NOT EXISTS run_items_item_data_idx
    ON run_items USING gin (item_data jsonb_path_ops);
CREATE INDEX IF NOT EXISTS run_items_model_response_id_idx ON run_items (model_response_id);
CREATE INDEX IF NOT EXISTS run_items_raw_type_idx ON run_items ((item_data ->> 'type'), created_at);
CREATE INDEX IF NOT EXISTS run_items_text_idx
    ON run_items USING gin (timestep.search_vector(item_data));
CREATE INDEX IF NOT EXISTS run_items_tool_call_id_idx ON run_items (tool_call_id);

CREATE TABLE IF NOT EXISTS guardrail_results (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    run_id uuid NOT NULL,
    agent_id uuid,
    guardrail_id uuid,
    guardrail_name text NOT NULL,
    type text NOT NULL,
    turn integer NOT NULL,
    position integer NOT NULL,
    tripwire_triggered boolean,
    output_info jsonb,
    error jsonb,
    duration_ms integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT guardrail_results_pkey PRIMARY KEY (id),
    CONSTRAINT guardrail_results_type_check CHECK (type IN ('input', 'output')),
    CONSTRAINT guardrail_results_outcome_check
        CHECK ((tripwire_triggered IS NULL) = (error IS NOT NULL)),
    CONSTRAINT guardrail_results_run_id_fkey
        FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT guardrail_results_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE SET NULL,
    CONSTRAINT guardrail_results_guardrail_id_fkey
        FOREIGN KEY (guardrail_id) REFERENCES guardrails (id) ON DELETE SET NULL
);
CREATE INDEX IF NOT EXISTS guardrail_results_agent_id_idx ON guardrail_results (agent_id);
CREATE INDEX IF NOT EXISTS guardrail_results_guardrail_id_idx ON guardrail_results (guardrail_id);
CREATE INDEX IF NOT EXISTS guardrail_results_run_id_idx ON guardrail_results (run_id, position);
CREATE INDEX IF NOT EXISTS guardrail_results_tripped_idx
    ON guardrail_results (guardrail_name, created_at DESC) WHERE tripwire_triggered;

CREATE TABLE IF NOT EXISTS tool_guardrail_results (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    run_id uuid NOT NULL,
    agent_id uuid,
    tool_call_id uuid,
    tool_guardrail_id uuid,
    guardrail_name text NOT NULL,
    type text NOT NULL,
    behavior text,
    message text,
    output_info jsonb,
    error jsonb,
    duration_ms integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tool_guardrail_results_pkey PRIMARY KEY (id),
    CONSTRAINT tool_guardrail_results_type_check CHECK (type IN ('input', 'output')),
    CONSTRAINT tool_guardrail_results_behavior_check
        CHECK (behavior IN ('allow', 'reject_content', 'raise_exception')),
    CONSTRAINT tool_guardrail_results_outcome_check
        CHECK ((behavior IS NULL) = (error IS NOT NULL)),
    CONSTRAINT tool_guardrail_results_run_id_fkey
        FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT tool_guardrail_results_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE SET NULL,
    CONSTRAINT tool_guardrail_results_tool_call_id_fkey
        FOREIGN KEY (tool_call_id) REFERENCES tool_calls (id) ON DELETE CASCADE,
    CONSTRAINT tool_guardrail_results_tool_guardrail_id_fkey
        FOREIGN KEY (tool_guardrail_id) REFERENCES tool_guardrails (id) ON DELETE SET NULL
);
CREATE INDEX IF NOT EXISTS tool_guardrail_results_agent_id_idx ON tool_guardrail_results (agent_id);
CREATE INDEX IF NOT EXISTS tool_guardrail_results_run_id_idx ON tool_guardrail_results (run_id);
CREATE INDEX IF NOT EXISTS tool_guardrail_results_tool_call_id_idx
    ON tool_guardrail_results (tool_call_id);
CREATE INDEX IF NOT EXISTS tool_guardrail_results_tool_guardrail_id_idx
    ON tool_guardrail_results (tool_guardrail_id);

CREATE TABLE IF NOT EXISTS interruptions (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    run_id uuid NOT NULL,
    agent_id uuid,
    tool_call_id uuid,
    type text NOT NULL,
    reason text NOT NULL,
    call_id text,
    tool_name text,
    arguments jsonb,
    expires_at timestamptz,
    resolution_action text,
    resolution_message text,
    resolution_output jsonb,
    resolution_always boolean NOT NULL DEFAULT false,
    resolved_by text,
    resolved_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT interruptions_pkey PRIMARY KEY (id),
    CONSTRAINT interruptions_type_check
        CHECK (type IN ('tool_approval', 'mcp_approval', 'guardrail')),
    CONSTRAINT interruptions_reason_check CHECK (reason IN ('needs_approval', 'in_doubt')),
    CONSTRAINT interruptions_resolution_action_check
        CHECK (resolution_action IN ('approve', 'reject', 'supply')),
    CONSTRAINT interruptions_resolved_at_check
        CHECK ((resolved_at IS NULL) = (resolution_action IS NULL)),
    CONSTRAINT interruptions_resolution_output_check
        CHECK ((resolution_output IS NOT NULL) = (resolution_action IS NOT DISTINCT FROM 'supply')),
    CONSTRAINT interruptions_run_id_fkey
        FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT interruptions_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE SET NULL,
    CONSTRAINT interruptions_tool_call_id_fkey
        FOREIGN KEY (tool_call_id) REFERENCES tool_calls (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS interruptions_agent_id_idx ON interruptions (agent_id);
CREATE INDEX IF NOT EXISTS interruptions_run_id_idx ON interruptions (run_id);
CREATE INDEX IF NOT EXISTS interruptions_tool_call_id_idx ON interruptions (tool_call_id);
CREATE INDEX IF NOT EXISTS interruptions_unresolved_idx
    ON interruptions (created_at) WHERE resolved_at IS NULL;

CREATE TABLE IF NOT EXISTS usage_metrics (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    run_id uuid NOT NULL,
    requests bigint NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    cached_input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    reasoning_tokens bigint NOT NULL DEFAULT 0,
    total_tokens bigint NOT NULL DEFAULT 0,
    estimated_cost numeric(20, 10),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT usage_metrics_pkey PRIMARY KEY (id),
    CONSTRAINT usage_metrics_run_id_key UNIQUE (run_id),
    CONSTRAINT usage_metrics_counts_check
        CHECK (requests >= 0 AND input_tokens >= 0 AND cached_input_tokens >= 0
            AND output_tokens >= 0 AND reasoning_tokens >= 0 AND total_tokens >= 0),
    CONSTRAINT usage_metrics_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS request_usage_entries (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    run_id uuid NOT NULL,
    agent_id uuid,
    usage_metrics_id uuid NOT NULL,
    model_response_id uuid,
    model text,
    requests bigint NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    cached_input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    reasoning_tokens bigint NOT NULL DEFAULT 0,
    total_tokens bigint NOT NULL DEFAULT 0,
    estimated_cost numeric(20, 10),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT request_usage_entries_pkey PRIMARY KEY (id),
    CONSTRAINT request_usage_entries_counts_check
        CHECK (requests >= 0 AND input_tokens >= 0 AND cached_input_tokens >= 0
            AND output_tokens >= 0 AND reasoning_tokens >= 0 AND total_tokens >= 0),
    CONSTRAINT request_usage_entries_run_id_fkey
        FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT request_usage_entries_agent_id_fkey
        FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE SET NULL,
    CONSTRAINT request_usage_entries_usage_metrics_id_fkey
        FOREIGN KEY (usage_metrics_id) REFERENCES usage_metrics (id) ON DELETE CASCADE,
    CONSTRAINT request_usage_entries_model_response_id_fkey
        FOREIGN KEY (model_response_id) REFERENCES model_responses (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS request_usage_entries_agent_id_idx ON request_usage_entries (agent_id);
CREATE INDEX IF NOT EXISTS request_usage_entries_created_at_idx
    ON request_usage_entries (created_at, model);
CREATE INDEX IF NOT EXISTS request_usage_entries_model_response_id_idx
    ON request_usage_entries (model_response_id);
CREATE INDEX IF NOT EXISTS request_usage_entries_run_id_idx ON request_usage_entries (run_id);
CREATE INDEX IF NOT EXISTS request_usage_entries_usage_metrics_id_idx
    ON request_usage_entries (usage_metrics_id);

CREATE TABLE IF NOT EXISTS run_states (
    id uuid NOT NULL DEFAULT timestep.new_id(),
    run_id uuid NOT NULL,
    state_type text NOT NULL,
    schema_version text NOT NULL,
    sdk text NOT NULL,
    sdk_version text NOT NULL,
    turn integer NOT NULL,
    encoding text NOT NULL,
    previous_id uuid,
    state_data jsonb NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    resumed_at timestamptz,
    CONSTRAINT run_states_pkey PRIMARY KEY (id),
    CONSTRAINT run_states_state_type_check
        CHECK (state_type IN ('interrupted', 'checkpoint', 'final')),
    CONSTRAINT run_states_encoding_check CHECK (encoding IN ('whole', 'delta')),
    CONSTRAINT run_states_previous_id_check
        CHECK ((encoding = 'delta') = (previous_id IS NOT NULL)),
    CONSTRAINT run_states_whole_when_it_matters_check
        CHECK (encoding = 'whole' OR state_type = 'checkpoint'),
    CONSTRAINT run_states_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT run_states_previous_id_fkey
        FOREIGN KEY (previous_id) REFERENCES run_states (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX IF NOT EXISTS run_states_active_key ON run_states (run_id) WHERE is_active;
CREATE INDEX IF NOT EXISTS run_states_current_agent_idx
    ON run_states ((state_data #>> '{current_agent,name}'::text[]));
CREATE INDEX IF NOT EXISTS run_states_previous_id_idx ON run_states (previous_id);
CREATE INDEX IF NOT EXISTS run_states_run_id_idx ON run_states (run_id, created_at);

COMMIT;
