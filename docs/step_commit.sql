-- What one step writes, in one statement and one commit: the rows of a model's answer, and those
-- of a tool call's outcome, each together with DBOS's own record of the step (the last CTE).
--
-- `holder` locks the workflow's row, `mine` is empty unless the caller's execution still owns the
-- workflow, or it was cancelled and nobody owns it. Every insert selects from `mine`. The rows come
-- as JSON, a parameter a table.
--
-- Made from timestep/store/step_commit.py, with line breaks for reading. To make it anew:
--     pytest tests/store/test_step_commit_is_the_golden_file.py --renew-golden

-- A model's answer: the response, its items and calls, what it used, where the run is now, and
-- the state before the turn.
WITH holder AS MATERIALIZED (
    SELECT status, owner_xid
    FROM "dbos".workflow_status
    WHERE workflow_uuid = %(workflow_id)s FOR NO KEY UPDATE),
mine AS MATERIALIZED (SELECT status
    FROM holder
    WHERE owner_xid = %(token)s AND status = 'PENDING' OR owner_xid IS NULL
        AND status = 'CANCELLED'),
model_responses_written AS (INSERT INTO public.model_responses (id, run_id, agent_id, turn,
    ordinal, response_id, request_id, model, output, usage, error, duration_ms, attempt,
    started_at)
    SELECT r.id, r.run_id, r.agent_id, r.turn, r.ordinal, r.response_id, r.request_id, r.model,
        r.output, r.usage, r.error, r.duration_ms, coalesce(r.attempt, 1),
        CASE jsonb_typeof(r.started_at) WHEN 'number' THEN now() - make_interval(secs => %(clock)s::float8 - r.started_at::float8) ELSE (r.started_at #>> '{}')::timestamptz END
    FROM mine, jsonb_to_recordset(%(model_responses)s::text::jsonb) AS r(id UUID, run_id UUID,
        agent_id UUID, turn INTEGER, ordinal INTEGER, response_id TEXT, request_id TEXT,
        model TEXT, output JSONB, usage JSONB, error JSONB, duration_ms INTEGER, attempt INTEGER,
        started_at jsonb)
    ON CONFLICT (id) DO NOTHING
    RETURNING id),
tool_calls_written AS (INSERT INTO public.tool_calls (id, run_id, agent_id, tool_id,
    model_response_id, turn, call_id, tool_name, tool_type, arguments, status, output,
    output_text, error, is_error, safe_to_repeat, intents, duration_ms, started_at, completed_at,
    attempts, context_change, context_position, end_position, failed_attempts)
    SELECT r.id, r.run_id, r.agent_id, r.tool_id, r.model_response_id, r.turn, r.call_id,
        r.tool_name, r.tool_type, r.arguments, CASE WHEN mine.status = 'CANCELLED'
        AND r.status = 'pending' THEN 'skipped' ELSE r.status END, r.output, r.output_text,
        r.error, coalesce(r.is_error, false), coalesce(r.safe_to_repeat, true),
        coalesce(r.intents, 0), r.duration_ms,
        CASE jsonb_typeof(r.started_at) WHEN 'number' THEN now() - make_interval(secs => %(clock)s::float8 - r.started_at::float8) ELSE (r.started_at #>> '{}')::timestamptz END,
        CASE jsonb_typeof(r.completed_at) WHEN 'number' THEN now() - make_interval(secs => %(clock)s::float8 - r.completed_at::float8) ELSE (r.completed_at #>> '{}')::timestamptz END,
        coalesce(r.attempts, 0), r.context_change, r.context_position, r.end_position,
        r.failed_attempts
    FROM mine, jsonb_to_recordset(%(tool_calls)s::text::jsonb) AS r(id UUID, run_id UUID,
        agent_id UUID, tool_id UUID, model_response_id UUID, turn INTEGER, call_id TEXT,
        tool_name TEXT, tool_type TEXT, arguments JSONB, status TEXT, output JSONB,
        output_text TEXT, error JSONB, is_error BOOLEAN, safe_to_repeat BOOLEAN, intents INTEGER,
        duration_ms INTEGER, started_at jsonb, completed_at jsonb, attempts INTEGER,
        context_change JSONB, context_position INTEGER, end_position INTEGER,
        failed_attempts JSONB)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, output = excluded.output,
        output_text = excluded.output_text, error = excluded.error, is_error = excluded.is_error,
        intents = excluded.intents, attempts = excluded.attempts,
        failed_attempts = excluded.failed_attempts, duration_ms = excluded.duration_ms,
        completed_at = excluded.completed_at, context_change = excluded.context_change,
        context_position = excluded.context_position, end_position = excluded.end_position,
        started_at = coalesce(excluded.started_at, tool_calls.started_at)
    WHERE tool_calls.completed_at IS NULL AND excluded.status <> 'pending'
    RETURNING id),
run_items_written AS (INSERT INTO public.run_items (id, run_id, agent_id, model_response_id,
    tool_call_id, turn, position, item_type, role, item_data)
    SELECT r.id, r.run_id, r.agent_id, r.model_response_id, r.tool_call_id, r.turn, r.position,
        r.item_type, r.role, r.item_data
    FROM mine, jsonb_to_recordset(%(run_items)s::text::jsonb) AS r(id UUID, run_id UUID,
        agent_id UUID, model_response_id UUID, tool_call_id UUID, turn INTEGER, position INTEGER,
        item_type TEXT, role TEXT, item_data JSONB)
    ON CONFLICT (id) DO UPDATE SET item_data = excluded.item_data, sequence = excluded.sequence
    WHERE run_items.item_data IS DISTINCT FROM excluded.item_data
    RETURNING id),
entries AS (INSERT INTO public.request_usage_entries (id, run_id, agent_id, usage_metrics_id,
    model_response_id, model, requests, input_tokens, cached_input_tokens, output_tokens,
    reasoning_tokens, total_tokens, estimated_cost)
    SELECT r.id, r.run_id, r.agent_id, r.usage_metrics_id, r.model_response_id, r.model,
        coalesce(r.requests, 0), coalesce(r.input_tokens, 0), coalesce(r.cached_input_tokens, 0),
        coalesce(r.output_tokens, 0), coalesce(r.reasoning_tokens, 0), coalesce(r.total_tokens,
        0), r.estimated_cost
    FROM jsonb_to_recordset(%(request_usage_entries)s::text::jsonb) AS r(id UUID, run_id UUID,
        agent_id UUID, usage_metrics_id UUID, model_response_id UUID, model TEXT, requests BIGINT,
        input_tokens BIGINT, cached_input_tokens BIGINT, output_tokens BIGINT,
        reasoning_tokens BIGINT, total_tokens BIGINT, estimated_cost NUMERIC(20, 10))
    JOIN model_responses_written written
    ON written.id = r.model_response_id
    RETURNING *),
metrics AS (INSERT INTO public.usage_metrics (id, run_id, requests, input_tokens,
    cached_input_tokens, output_tokens, reasoning_tokens, total_tokens, estimated_cost)
    SELECT usage_metrics_id, run_id, sum(requests), sum(input_tokens), sum(cached_input_tokens),
        sum(output_tokens), sum(reasoning_tokens), sum(total_tokens), sum(estimated_cost)
    FROM entries
    GROUP BY usage_metrics_id, run_id
    ON CONFLICT (run_id) DO UPDATE SET requests = usage_metrics.requests + excluded.requests,
        input_tokens = usage_metrics.input_tokens + excluded.input_tokens,
        cached_input_tokens = usage_metrics.cached_input_tokens + excluded.cached_input_tokens,
        output_tokens = usage_metrics.output_tokens + excluded.output_tokens,
        reasoning_tokens = usage_metrics.reasoning_tokens + excluded.reasoning_tokens,
        total_tokens = usage_metrics.total_tokens + excluded.total_tokens, updated_at = now(),
        estimated_cost = coalesce( usage_metrics.estimated_cost + excluded.estimated_cost,
        usage_metrics.estimated_cost, excluded.estimated_cost)),
given_runs AS MATERIALIZED (SELECT r.*
    FROM jsonb_to_recordset(%(runs)s::text::jsonb) AS r(id UUID, status TEXT,
        current_turn INTEGER, current_agent_id UUID, final_output JSONB, error_type TEXT,
        error_message TEXT, error_turn INTEGER, error JSONB, cancel_reason TEXT,
        cancel_steps JSONB, ends JSONB, completed_at boolean)),
run AS (UPDATE public.runs SET status = r.status, current_turn = r.current_turn,
    current_agent_id = r.current_agent_id, final_output = r.final_output,
    error_type = r.error_type, error_message = r.error_message, error_turn = r.error_turn,
    error = r.error, cancel_reason = r.cancel_reason, cancel_steps = r.cancel_steps,
    ends = coalesce(r.ends, runs.ends), completed_at = CASE WHEN r.completed_at THEN now() END,
    updated_at = now()
    FROM mine, given_runs r
    WHERE runs.id = r.id AND runs.id = ANY (ARRAY(SELECT id FROM given_runs))
        AND runs.completed_at IS NULL),
given_states AS MATERIALIZED (SELECT r.*
    FROM jsonb_to_recordset(%(run_states)s::text::jsonb) AS r(id UUID, run_id UUID,
        state_type TEXT, schema_version TEXT, sdk TEXT, sdk_version TEXT, turn INTEGER,
        encoding TEXT, previous_id UUID, state_data JSONB, is_active BOOLEAN, resumed_at boolean,
        progress JSONB, turns JSONB)),
superseded AS (UPDATE public.run_states SET is_active = false
    FROM mine, given_states r
    WHERE run_states.run_id = r.run_id
        AND run_states.run_id = ANY (ARRAY(SELECT run_id FROM given_states))
        AND run_states.is_active AND run_states.id <> r.id
    RETURNING run_states.id),
state AS (INSERT INTO public.run_states (id, run_id, state_type, schema_version, sdk, sdk_version,
    turn, encoding, previous_id, state_data, is_active, resumed_at, progress, turns)
    SELECT r.id, r.run_id, r.state_type, r.schema_version, r.sdk, r.sdk_version, r.turn,
        r.encoding, r.previous_id, r.state_data, coalesce(r.is_active, true),
        CASE WHEN r.resumed_at THEN now() END, r.progress, r.turns
    FROM mine, (SELECT count(*) FROM superseded) AS waited, given_states r
    ON CONFLICT (id) DO NOTHING),
dbos AS (INSERT INTO "dbos".operation_outputs ( workflow_uuid, function_id, function_name, output,
    error, serialization, started_at_epoch_ms, completed_at_epoch_ms, application_name,
    retention_timestamp)
    SELECT %(workflow_id)s, %(number)s::int, %(name)s, %(output)s, %(error)s, %(serialization)s,
        %(started_at)s::bigint, %(completed_at)s::bigint, %(application)s,
        (extract(epoch FROM now()) * 1000)::bigint
    FROM mine)
SELECT status, EXISTS (SELECT FROM mine) FROM holder;

-- A tool call's outcome: the call, and the item that the model is shown.
WITH holder AS MATERIALIZED (
    SELECT status, owner_xid
    FROM "dbos".workflow_status
    WHERE workflow_uuid = %(workflow_id)s FOR NO KEY UPDATE),
mine AS MATERIALIZED (SELECT status
    FROM holder
    WHERE owner_xid = %(token)s AND status = 'PENDING' OR owner_xid IS NULL
        AND status = 'CANCELLED'),
tool_calls_written AS (INSERT INTO public.tool_calls (id, run_id, agent_id, tool_id,
    model_response_id, turn, call_id, tool_name, tool_type, arguments, status, output,
    output_text, error, is_error, safe_to_repeat, intents, duration_ms, started_at, completed_at,
    attempts, context_change, context_position, end_position, failed_attempts)
    SELECT r.id, r.run_id, r.agent_id, r.tool_id, r.model_response_id, r.turn, r.call_id,
        r.tool_name, r.tool_type, r.arguments, CASE WHEN mine.status = 'CANCELLED'
        AND r.status = 'pending' THEN 'skipped' ELSE r.status END, r.output, r.output_text,
        r.error, coalesce(r.is_error, false), coalesce(r.safe_to_repeat, true),
        coalesce(r.intents, 0), r.duration_ms,
        CASE jsonb_typeof(r.started_at) WHEN 'number' THEN now() - make_interval(secs => %(clock)s::float8 - r.started_at::float8) ELSE (r.started_at #>> '{}')::timestamptz END,
        CASE jsonb_typeof(r.completed_at) WHEN 'number' THEN now() - make_interval(secs => %(clock)s::float8 - r.completed_at::float8) ELSE (r.completed_at #>> '{}')::timestamptz END,
        coalesce(r.attempts, 0), r.context_change, r.context_position, r.end_position,
        r.failed_attempts
    FROM mine, jsonb_to_recordset(%(tool_calls)s::text::jsonb) AS r(id UUID, run_id UUID,
        agent_id UUID, tool_id UUID, model_response_id UUID, turn INTEGER, call_id TEXT,
        tool_name TEXT, tool_type TEXT, arguments JSONB, status TEXT, output JSONB,
        output_text TEXT, error JSONB, is_error BOOLEAN, safe_to_repeat BOOLEAN, intents INTEGER,
        duration_ms INTEGER, started_at jsonb, completed_at jsonb, attempts INTEGER,
        context_change JSONB, context_position INTEGER, end_position INTEGER,
        failed_attempts JSONB)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, output = excluded.output,
        output_text = excluded.output_text, error = excluded.error, is_error = excluded.is_error,
        intents = excluded.intents, attempts = excluded.attempts,
        failed_attempts = excluded.failed_attempts, duration_ms = excluded.duration_ms,
        completed_at = excluded.completed_at, context_change = excluded.context_change,
        context_position = excluded.context_position, end_position = excluded.end_position,
        started_at = coalesce(excluded.started_at, tool_calls.started_at)
    WHERE tool_calls.completed_at IS NULL AND excluded.status <> 'pending'
    RETURNING id),
run_items_written AS (INSERT INTO public.run_items (id, run_id, agent_id, model_response_id,
    tool_call_id, turn, position, item_type, role, item_data)
    SELECT r.id, r.run_id, r.agent_id, r.model_response_id, r.tool_call_id, r.turn, r.position,
        r.item_type, r.role, r.item_data
    FROM mine, jsonb_to_recordset(%(run_items)s::text::jsonb) AS r(id UUID, run_id UUID,
        agent_id UUID, model_response_id UUID, tool_call_id UUID, turn INTEGER, position INTEGER,
        item_type TEXT, role TEXT, item_data JSONB)
    ON CONFLICT (id) DO UPDATE SET item_data = excluded.item_data, sequence = excluded.sequence
    WHERE run_items.item_data IS DISTINCT FROM excluded.item_data
    RETURNING id),
dbos AS (INSERT INTO "dbos".operation_outputs ( workflow_uuid, function_id, function_name, output,
    error, serialization, started_at_epoch_ms, completed_at_epoch_ms, application_name,
    retention_timestamp)
    SELECT %(workflow_id)s, %(number)s::int, %(name)s, %(output)s, %(error)s, %(serialization)s,
        %(started_at)s::bigint, %(completed_at)s::bigint, %(application)s,
        (extract(epoch FROM now()) * 1000)::bigint
    FROM mine)
SELECT status, EXISTS (SELECT FROM mine) FROM holder;
