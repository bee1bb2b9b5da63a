-- The usage report from sums by the day and hour, and no index without a reader.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/003_usage_report_and_indexes.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- Sums of request_usage_entries up to a number of theirs; a report adds those that come after it.
-- Whoever asks for a report moves the number on: runs write none of this, so they neither pay for
-- it nor wait for each other.
ALTER TABLE request_usage_entries
    ADD COLUMN IF NOT EXISTS sequence bigint NOT NULL DEFAULT nextval('timestep.event_sequence');
DROP INDEX IF EXISTS request_usage_entries_created_at_idx;
CREATE INDEX IF NOT EXISTS request_usage_entries_sequence_idx ON request_usage_entries (sequence);

CREATE TABLE IF NOT EXISTS timestep.usage_sums (
    -- The `day` or `hour` (UTC) in which runs began, and the agent that they began with, as the
    -- schema's example asks.
    unit text NOT NULL,
    start timestamptz NOT NULL,
    agent_id uuid NOT NULL,
    -- Empty where an entry has none.
    model text NOT NULL,
    entries bigint NOT NULL,
    requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    total_tokens bigint NOT NULL,
    -- How many entries have a cost, and the sum of these.
    priced bigint NOT NULL,
    estimated_cost numeric NOT NULL,
    CONSTRAINT usage_sums_pkey PRIMARY KEY (unit, start, agent_id, model)
);

-- One row. A number may have been drawn by a transaction that has not ended: `candidate` becomes
-- what is summed once all who wrote when it was the newest (`writers`) have ended.
CREATE TABLE IF NOT EXISTS timestep.usage_watermark (
    id boolean NOT NULL DEFAULT true,
    sequence bigint NOT NULL DEFAULT 0,
    candidate bigint NOT NULL DEFAULT 0,
    writers text[] NOT NULL DEFAULT '{}',
    CONSTRAINT usage_watermark_pkey PRIMARY KEY (id),
    CONSTRAINT usage_watermark_id_check CHECK (id)
);
INSERT INTO timestep.usage_watermark DEFAULT VALUES ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION timestep.usage_start(unit text, started_at timestamptz)
    RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT date_trunc(unit, started_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' $$;

-- Add an entry to the sums, or with sign -1 take it out of them.
CREATE OR REPLACE FUNCTION timestep.add_usage(
    started_at timestamptz, agent uuid, e public.request_usage_entries, sign integer
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO timestep.usage_sums AS h
    SELECT unit, timestep.usage_start(unit, started_at), agent, coalesce(e.model, ''), sign,
        sign * e.requests, sign * e.input_tokens, sign * e.cached_input_tokens,
        sign * e.output_tokens, sign * e.reasoning_tokens, sign * e.total_tokens,
        CASE WHEN e.estimated_cost IS NULL THEN 0 ELSE sign END,
        sign * coalesce(e.estimated_cost, 0)
    FROM (VALUES ('day'), ('hour')) units(unit)
    ON CONFLICT (unit, start, agent_id, model) DO UPDATE SET entries = h.entries + excluded.entries,
        requests = h.requests + excluded.requests,
        input_tokens = h.input_tokens + excluded.input_tokens,
        cached_input_tokens = h.cached_input_tokens + excluded.cached_input_tokens,
        output_tokens = h.output_tokens + excluded.output_tokens,
        reasoning_tokens = h.reasoning_tokens + excluded.reasoning_tokens,
        total_tokens = h.total_tokens + excluded.total_tokens,
        priced = h.priced + excluded.priced,
        estimated_cost = h.estimated_cost + excluded.estimated_cost
$$;

-- Steps only insert. People delete runs, or correct what something cost: the sums follow, and
-- wait for whoever moves the number on.
CREATE OR REPLACE FUNCTION timestep.follow_entry() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    summed bigint;
BEGIN
    SELECT sequence INTO summed FROM timestep.usage_watermark FOR UPDATE;
    -- An entry that goes with its run was taken out before the run was gone.
    IF OLD.sequence <= summed THEN
        PERFORM timestep.add_usage(started_at, agent_id, OLD, -1)
        FROM public.runs WHERE id = OLD.run_id;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.sequence <= summed THEN
        PERFORM timestep.add_usage(started_at, agent_id, NEW, 1)
        FROM public.runs WHERE id = NEW.run_id;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION timestep.follow_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    summed bigint;
BEGIN
    SELECT sequence INTO summed FROM timestep.usage_watermark FOR UPDATE;
    PERFORM timestep.add_usage(OLD.started_at, OLD.agent_id, e, -1)
    FROM public.request_usage_entries e WHERE run_id = OLD.id AND sequence <= summed;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    PERFORM timestep.add_usage(NEW.started_at, NEW.agent_id, e, 1)
    FROM public.request_usage_entries e WHERE run_id = OLD.id AND sequence <= summed;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION timestep.forget_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM timestep.usage_watermark FOR UPDATE;
    DELETE FROM timestep.usage_sums;
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS usage_follows_entry ON request_usage_entries;
CREATE TRIGGER usage_follows_entry AFTER UPDATE OR DELETE ON request_usage_entries
    FOR EACH ROW EXECUTE FUNCTION timestep.follow_entry();
DROP TRIGGER IF EXISTS usage_is_forgotten ON request_usage_entries;
CREATE TRIGGER usage_is_forgotten AFTER TRUNCATE ON request_usage_entries
    FOR EACH STATEMENT EXECUTE FUNCTION timestep.forget_usage();
DROP TRIGGER IF EXISTS usage_follows_run ON runs;
CREATE TRIGGER usage_follows_run BEFORE DELETE OR UPDATE OF agent_id, started_at ON runs
    FOR EACH ROW EXECUTE FUNCTION timestep.follow_run();

-- Indexes that nothing reads and the schema's document does not ask for, or that another one
-- serves as well. A call's status is in no index now, so its end is an update in place.
DROP INDEX IF EXISTS agents_alive_idx;
DROP INDEX IF EXISTS agents_metadata_idx;
DROP INDEX IF EXISTS tools_alive_idx;
DROP INDEX IF EXISTS session_items_alive_idx;
DROP INDEX IF EXISTS session_items_created_at_idx;
DROP INDEX IF EXISTS model_responses_response_id_idx;
DROP INDEX IF EXISTS tool_calls_open_idx;
DROP INDEX IF EXISTS tool_calls_tool_name_idx;
DROP INDEX IF EXISTS run_items_created_at_idx;
DROP INDEX IF EXISTS run_items_raw_type_idx;
DROP INDEX IF EXISTS guardrail_results_tripped_idx;
DROP INDEX IF EXISTS runs_metadata_idx;
DROP INDEX IF EXISTS runs_started_at_idx;
DROP INDEX IF EXISTS run_states_current_agent_idx;

-- What these are in place of them.
CREATE INDEX IF NOT EXISTS runs_metadata_path_idx ON runs USING gin (metadata jsonb_path_ops);
CREATE INDEX IF NOT EXISTS runs_newest_idx
    ON runs (started_at DESC, id DESC) INCLUDE (agent_id);
-- What a checkpoint changed has no agent's name.
CREATE INDEX IF NOT EXISTS run_states_agent_name_idx
    ON run_states ((state_data #>> '{current_agent,name}'::text[])) WHERE encoding = 'whole';
CREATE INDEX IF NOT EXISTS interruptions_created_at_idx ON interruptions (created_at);

-- Room for a row's next version on its page: an update in place touches no index.
ALTER TABLE runs SET (fillfactor = 80);
ALTER TABLE tool_calls SET (fillfactor = 70);
ALTER TABLE usage_metrics SET (fillfactor = 80);

-- Words are looked for, not ids: those would be most of the index.
DO $$
BEGIN
    IF (SELECT prosrc NOT LIKE '%encrypted_content%' FROM pg_proc
        WHERE oid = 'timestep.search_vector(jsonb)'::regprocedure)
    THEN
        CREATE OR REPLACE FUNCTION timestep.search_vector(item jsonb) RETURNS tsvector
            LANGUAGE sql IMMUTABLE PARALLEL SAFE
            AS $body$
                SELECT CASE
                    WHEN octet_length(item::text) > 200000
                    THEN to_tsvector('simple'::regconfig, left(item::text, 50000))
                    WHEN jsonb_typeof(item) = 'object'
                    THEN jsonb_to_tsvector('simple'::regconfig, item - '{id,call_id,type,role,status,encrypted_content}'::text[], '["string"]'::jsonb)
                    ELSE jsonb_to_tsvector('simple'::regconfig, item, '["string"]'::jsonb)
                END
            $body$;
        REINDEX INDEX run_items_text_idx;
    END IF;
END
$$;

-- Who reads each index. Those of foreign keys are also read when a row that they refer to is
-- deleted, and are asked for by the schema's document.
COMMENT ON INDEX agents_model_settings_id_idx IS 'Read by: deletes of model settings.';
COMMENT ON INDEX agent_tools_tool_id_idx IS 'Read by: deletes of tools.';
COMMENT ON INDEX agent_handoffs_handoff_config_id_idx IS 'Read by: deletes of handoffs.';
COMMENT ON INDEX agent_handoffs_target_agent_id_idx IS 'Read by: deletes of agents.';
COMMENT ON INDEX agent_guardrails_guardrail_id_idx IS 'Read by: deletes of guardrails.';
COMMENT ON INDEX agent_mcp_servers_mcp_server_id_idx IS 'Read by: deletes of MCP servers.';
COMMENT ON INDEX runs_active_idx IS
    'Read by: the example of an agent''s active runs, the sweep for cancelled workflows.';
COMMENT ON INDEX runs_agent_id_idx IS 'Read by: the list of an agent''s runs, deletes of agents.';
COMMENT ON INDEX runs_current_agent_id_idx IS 'Read by: deletes of agents.';
COMMENT ON INDEX runs_forked_from_run_id_idx IS 'Read by: deletes of runs.';
COMMENT ON INDEX runs_metadata_path_idx IS 'Read by: people''s questions: metadata @> ...';
COMMENT ON INDEX runs_newest_idx IS
    'Read by: the list of runs, and usage by agents over a time, which finds all in it.';
COMMENT ON INDEX runs_parent_run_id_idx IS
    'Read by: what a run and those inside it used, deletes of runs.';
COMMENT ON INDEX runs_root_run_id_idx IS
    'Read by: recoveries and what a run asks, with the runs inside it; deletes of runs.';
COMMENT ON INDEX runs_session_id_idx IS
    'Read by: the list of a session''s runs, its active state, deletes of sessions.';
COMMENT ON INDEX runs_status_idx IS 'Read by: the list of runs by status.';
COMMENT ON INDEX runs_workflow_id_idx IS
    'Read by: the runs of a workflow, when it is shown, decided, cancelled and recovered.';
COMMENT ON INDEX session_items_item_data_idx IS 'Read by: people''s questions: item_data @> ...';
COMMENT ON INDEX session_items_removed_run_id_idx IS 'Read by: deletes of runs.';
COMMENT ON INDEX session_items_run_id_idx IS 'Read by: deletes of runs.';
COMMENT ON INDEX model_responses_agent_id_idx IS 'Read by: deletes of agents.';
COMMENT ON INDEX tool_calls_agent_id_idx IS 'Read by: deletes of agents.';
COMMENT ON INDEX tool_calls_model_response_id_idx IS 'Read by: deletes of runs.';
COMMENT ON INDEX tool_calls_run_id_idx IS
    'Read by: a run''s calls, when it is shown and recovered; deletes of runs.';
COMMENT ON INDEX tool_calls_tool_id_idx IS 'Read by: deletes of tools.';
COMMENT ON INDEX run_items_agent_id_idx IS 'Read by: deletes of agents.';
COMMENT ON INDEX run_items_item_data_idx IS
    'Read by: people''s questions: item_data @> ..., such as every call of one type.';
COMMENT ON INDEX run_items_model_response_id_idx IS 'Read by: deletes of runs.';
COMMENT ON INDEX run_items_sequence_idx IS 'Read by: live readers, after the last they have seen.';
COMMENT ON INDEX run_items_text_idx IS
    'Read by: people''s searches: timestep.search_vector(item_data) @@ ...';
COMMENT ON INDEX run_items_tool_call_id_idx IS
    'Read by: the list of approvals, in the order of calls; deletes of runs.';
COMMENT ON INDEX guardrail_results_agent_id_idx IS 'Read by: deletes of agents.';
COMMENT ON INDEX guardrail_results_guardrail_id_idx IS 'Read by: deletes of guardrails.';
COMMENT ON INDEX guardrail_results_run_id_idx IS 'Read by: recoveries, deletes of runs.';
COMMENT ON INDEX tool_guardrail_results_agent_id_idx IS 'Read by: deletes of agents.';
COMMENT ON INDEX tool_guardrail_results_run_id_idx IS 'Read by: recoveries, deletes of runs.';
COMMENT ON INDEX tool_guardrail_results_tool_call_id_idx IS 'Read by: deletes of runs.';
COMMENT ON INDEX tool_guardrail_results_tool_guardrail_id_idx IS
    'Read by: deletes of tools'' guardrails.';
COMMENT ON INDEX interruptions_agent_id_idx IS 'Read by: deletes of agents.';
COMMENT ON INDEX interruptions_created_at_idx IS 'Read by: the list of what was decided.';
COMMENT ON INDEX interruptions_run_id_idx IS
    'Read by: what a run asks, when it is shown and recovered; deletes of runs.';
COMMENT ON INDEX interruptions_tool_call_id_idx IS 'Read by: deletes of runs.';
COMMENT ON INDEX interruptions_unresolved_idx IS
    'Read by: the list of approvals, and how many wait when a host starts.';
COMMENT ON INDEX request_usage_entries_agent_id_idx IS 'Read by: deletes of agents.';
COMMENT ON INDEX request_usage_entries_model_response_id_idx IS 'Read by: deletes of runs.';
COMMENT ON INDEX request_usage_entries_run_id_idx IS
    'Read by: the usage report, for runs of a part of an hour; deletes of runs.';
COMMENT ON INDEX request_usage_entries_sequence_idx IS
    'Read by: the usage report, for what is not in its sums yet.';
COMMENT ON INDEX request_usage_entries_usage_metrics_id_idx IS 'Read by: deletes of runs.';
COMMENT ON INDEX run_states_active_key IS
    'Read by: the example of a run''s active state, state stores; lets a run have only one.';
COMMENT ON INDEX run_states_agent_name_idx IS
    'Read by: people''s questions: states by the agent that acted.';
COMMENT ON INDEX run_states_previous_id_idx IS 'Read by: deletes of runs and of checkpoints.';
COMMENT ON INDEX run_states_run_id_idx IS
    'Read by: a run''s states, when it is recovered and forked; deletes of runs.';

COMMIT;
