"""Rows of a large database, made inside PostgreSQL from a seed: the same for the same arguments.

About 20 items, 6 model calls and 9 tool calls a run; 90 days of runs; one run of 200 turns.
"""

from __future__ import annotations

from collections.abc import Iterator

LONG_TURNS = 200

TABLES = (
    "agents", "sessions", "runs", "model_responses", "tool_calls", "run_items", "usage_metrics",
    "request_usage_entries", "run_states", "interruptions", "guardrail_results",
)  # fmt: skip
"""Those of `public` that are filled, and DBOS's `workflow_status`."""

_ID = "md5('{seed} {kind} ' || {number})::uuid"


def identity(kind: str, number: str, seed: int) -> str:
    """An expression: the id of one row of a kind, at random but the same each time."""
    return _ID.format(seed=seed, kind=kind, number=number)


def plans(runs: int, seed: int, now: str) -> Iterator[str]:
    """Statements that draw what the rows are made of, into the schema `drawn`."""

    def id_(kind: str, number: str) -> str:
        return identity(kind, number, seed)

    yield "DROP SCHEMA IF EXISTS drawn CASCADE"
    yield "CREATE SCHEMA drawn"
    yield f"SELECT setseed({seed % 1000} / 1000.0)"
    # Few words are common and most are rare.
    yield """
        CREATE UNLOGGED TABLE drawn.texts AS
        SELECT n, string_agg(w, ' ') AS words FROM (
            SELECT n, 'w' || floor(6000 * random() ^ 3)::int AS w
            FROM generate_series(0, 4999) n, generate_series(1, 8 + n % 24)) one GROUP BY n"""
    yield f"""
        CREATE UNLOGGED TABLE drawn.agents AS
        SELECT n, {id_("agent", "n")} AS id, 'Agent ' || n % 24 AS name, 1 + n / 24 AS version,
            (ARRAY['gpt-5', 'gpt-5-mini', 'gpt-4.1', 'o4-mini', 'in-house'])[1 + n % 5] AS model
        FROM generate_series(0, 39) n"""
    yield f"""
        CREATE UNLOGGED TABLE drawn.runs AS
        SELECT i, {id_("run", "i")} AS id,
            CASE WHEN i % 20 = 7 THEN i - 1 ELSE i END AS root,
            timestamptz '{now}' - interval '90 days' * (1 - (i - 0.5) / {runs}) AS started_at,
            floor(40 * random() ^ 2)::int AS agent,
            CASE WHEN random() < 0.4 THEN floor({runs} * 0.15 * random())::int END AS session,
            CASE WHEN i = {runs} - 30 THEN {LONG_TURNS} - 1
                ELSE least(60, 1 + floor(-ln(1 - random()) * 4.4)) END::int AS tool_turns,
            CASE WHEN i = {runs} - 30 THEN 'completed'
                WHEN i > {runs} * 0.9995 AND random() < 0.7 THEN 'running'
                WHEN i > {runs} * 0.9 AND random() < 0.02 THEN 'interrupted'
                WHEN random() < 0.04 THEN 'failed'
                WHEN random() < 0.02 THEN 'cancelled' ELSE 'completed' END AS status
        FROM generate_series(1, {runs}) i"""
    yield f"""
        CREATE UNLOGGED TABLE drawn.turns AS
        SELECT i, turn, {id_("response", "i || '.' || turn")} AS id, calls, started_at, agent,
            1 + coalesce(sum(greatest(1, 2 * calls)) OVER earlier, 0)::int AS place
        FROM (
            SELECT i, turn, started_at + turn * interval '2 seconds' AS started_at, agent,
                CASE WHEN turn > tool_turns THEN 0 WHEN tool_turns = {LONG_TURNS} - 1 THEN 1
                    ELSE 1 + floor(5 * random() * random())::int END AS calls
            FROM drawn.runs, generate_series(1, tool_turns + 1) turn) one
        WINDOW earlier AS (
            PARTITION BY i ORDER BY turn ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ORDER BY i, turn"""
    yield "ANALYZE drawn.texts, drawn.agents, drawn.runs, drawn.turns"


_CALL = """
    drawn.turns t JOIN drawn.runs r USING (i) JOIN drawn.agents a ON a.n = t.agent,
    generate_series(1, calls) k"""
_CALL_NUMBER = "t.i || '.' || turn || '.' || k"
_TOOL = "'tool_' || (t.i + turn * 3 + k) % 30"
_TEXT = "drawn.texts ON texts.n = ({} * 7919) % 5000"


def fillers(seed: int) -> dict[str, str]:
    """Statements that fill the tables, in an order that may be any."""

    def id_(kind: str, number: str) -> str:
        return identity(kind, number, seed)

    call_id = id_("call", _CALL_NUMBER)
    tokens = """1 AS requests, 800 + t.i % 4000 + turn * 150 AS input_tokens,
        (t.i % 3) * 128 AS cached_input_tokens, 40 + (t.i + turn) % 400 AS output_tokens,
        (t.i % 2) * 64 AS reasoning_tokens, 840 + t.i % 4000 + turn * 150 + (t.i + turn) % 400,
        CASE WHEN a.model <> 'in-house' THEN
            round((800 + t.i % 4000 + turn * 150) * 0.00000125
                + (40 + (t.i + turn) % 400) * 0.00001, 10) END"""
    names = """requests, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens,
        total_tokens, estimated_cost"""
    return {
        "agents": """
            INSERT INTO agents (id, name, version, instructions_type, model)
            SELECT id, name, version, 'none', model FROM drawn.agents""",
        "sessions": f"""
            INSERT INTO sessions (id, session_key)
            SELECT {id_("session", "session")}, 'session-' || session
            FROM (SELECT DISTINCT session FROM drawn.runs WHERE session IS NOT NULL) s""",
        "runs": f"""
            INSERT INTO runs (id, workflow_id, workflow_name, workflow_step, parent_run_id,
                root_run_id, agent_id, current_agent_id, session_id, status, input, final_output,
                current_turn, max_turns, error_type, error_message, sdk_version, started_at,
                updated_at, completed_at, cancel_reason)
            SELECT r.id, 'workflow-' || r.root, 'answer', CASE WHEN r.root = r.i THEN 0 END,
                CASE WHEN r.root <> r.i THEN {id_("run", "r.root")} END, {id_("run", "r.root")},
                a.id, a.id,
                CASE WHEN r.session IS NOT NULL THEN {id_("session", "r.session")} END,
                r.status, to_jsonb(texts.words),
                CASE WHEN r.status = 'completed' THEN to_jsonb(texts.words || ' done') END,
                tool_turns + 1, 50, CASE WHEN r.status = 'failed' THEN 'RateLimitError' END,
                CASE WHEN r.status = 'failed' THEN 'too many requests' END, '0.24.0',
                started_at, started_at + (tool_turns + 1) * interval '2 seconds',
                CASE WHEN r.status NOT IN ('running', 'interrupted')
                    THEN started_at + (tool_turns + 2) * interval '2 seconds' END,
                CASE WHEN r.status = 'cancelled' THEN 'cancelled' END
            FROM drawn.runs r JOIN drawn.agents a ON a.n = r.agent
            JOIN {_TEXT.format("r.i::bigint")} ORDER BY r.i""",
        "workflow_status": """
            INSERT INTO dbos.workflow_status (workflow_uuid, status, name, inputs, output,
                serialization, executor_id, application_version, application_name, owner_xid,
                created_at, updated_at, completed_at)
            SELECT 'workflow-' || i, CASE status WHEN 'running' THEN 'PENDING'
                    WHEN 'interrupted' THEN 'DELAYED' WHEN 'failed' THEN 'ERROR'
                    WHEN 'cancelled' THEN 'CANCELLED' ELSE 'SUCCESS' END,
                'answer', '{"positionalArgs": [], "namedArgs": {"question": "..."}}', '"done"',
                'portable_json', 'local', '1', 'timestep', i::text,
                extract(epoch FROM started_at) * 1000, extract(epoch FROM started_at) * 1000,
                CASE WHEN status NOT IN ('running', 'interrupted')
                    THEN extract(epoch FROM started_at) * 1000 + 30000 END
            FROM drawn.runs WHERE root = i ORDER BY i""",
        "model_responses": """
            INSERT INTO model_responses (id, run_id, agent_id, turn, ordinal, response_id, model,
                output, usage, duration_ms, created_at)
            SELECT t.id, r.id, a.id, turn, turn, 'resp_' || md5(t.id::text), a.model,
                jsonb_build_array(jsonb_build_object('type', 'message', 'role', 'assistant',
                    'id', 'msg_' || t.i || '_' || turn, 'status', 'completed',
                    'content', jsonb_build_array(jsonb_build_object(
                        'type', 'output_text', 'text', texts.words)))),
                jsonb_build_object('requests', 1, 'input_tokens', 800, 'output_tokens', 40),
                300 + turn, t.started_at
            FROM drawn.turns t JOIN drawn.runs r USING (i) JOIN drawn.agents a ON a.n = t.agent
            JOIN """
        + _TEXT.format("(t.i::bigint + turn)"),
        "tool_calls": f"""
            INSERT INTO tool_calls (id, run_id, agent_id, model_response_id, turn, call_id,
                tool_name, tool_type, arguments, status, output, attempts, duration_ms,
                created_at, started_at, completed_at)
            SELECT {call_id}, r.id, a.id, t.id, turn, 'call_' || {_CALL_NUMBER}, {_TOOL},
                'function', jsonb_build_object('number', t.i + k),
                CASE WHEN is_open THEN 'pending' ELSE 'executed' END,
                CASE WHEN NOT is_open THEN to_jsonb('found ' || t.i * k) END, 1, 20 + k,
                t.started_at, t.started_at,
                CASE WHEN NOT is_open THEN t.started_at + interval '1 second' END
            FROM {_CALL},
            LATERAL (SELECT r.status = 'interrupted' AND turn = r.tool_turns AND k = 1) o(is_open)
            """,
        "run_items": f"""
            INSERT INTO run_items (id, run_id, agent_id, model_response_id, tool_call_id, turn,
                position, item_type, role, item_data, created_at)
            SELECT {id_("item", "i || '.' || position")}, run, agent_id, response, call, turn,
                position, item_type, role, item_data, at
            FROM (
                SELECT r.i, r.id AS run, NULL::uuid AS agent_id, NULL::uuid AS response,
                    NULL::uuid AS call, 0 AS turn, 0 AS position, 'message_input_item' AS item_type,
                    'user' AS role, jsonb_build_object('role', 'user', 'content', words)
                    AS item_data, r.started_at AS at
                FROM drawn.runs r JOIN {_TEXT.format("r.i::bigint")}
                UNION ALL
                SELECT t.i, r.id, a.id, t.id, {call_id}, turn, place + k - 1, 'tool_call_item',
                    NULL, jsonb_build_object('type', 'function_call', 'name', {_TOOL},
                        'call_id', 'call_' || {_CALL_NUMBER}, 'status', 'completed',
                        'arguments', '{{"number": ' || t.i + k || '}}'), t.started_at
                FROM {_CALL}
                UNION ALL
                SELECT t.i, r.id, a.id, NULL, {call_id}, turn, place + calls + k - 1,
                    'tool_call_output_item', NULL, jsonb_build_object(
                        'type', 'function_call_output', 'call_id', 'call_' || {_CALL_NUMBER},
                        'output', words), t.started_at + interval '1 second'
                FROM {_CALL}, drawn.texts
                WHERE texts.n = ((t.i::bigint + k * 13 + turn) * 7919) % 5000
                UNION ALL
                SELECT t.i, r.id, a.id, t.id, NULL, turn, place, 'message_output_item',
                    'assistant', jsonb_build_object('type', 'message', 'role', 'assistant',
                        'id', 'msg_' || t.i, 'status', 'completed',
                        'content', jsonb_build_array(jsonb_build_object(
                            'type', 'output_text', 'annotations', '[]'::jsonb, 'text', words))),
                    t.started_at
                FROM drawn.turns t JOIN drawn.runs r USING (i) JOIN drawn.agents a ON a.n = t.agent
                JOIN {_TEXT.format("(t.i::bigint + turn)")} WHERE calls = 0
            ) one ORDER BY i, position""",
        "usage_metrics": f"""
            INSERT INTO usage_metrics (id, run_id, {names}, created_at)
            SELECT {id_("usage", "i")}, run, count(*), sum(input_tokens), sum(cached_input_tokens),
                sum(output_tokens), sum(reasoning_tokens), sum(total), sum(cost), min(at)
            FROM (SELECT t.i, r.id, t.started_at, {tokens}
                FROM drawn.turns t JOIN drawn.runs r USING (i) JOIN drawn.agents a ON a.n = t.agent
            ) one(i, run, at, requests, input_tokens, cached_input_tokens, output_tokens,
                reasoning_tokens, total, cost)
            GROUP BY i, run ORDER BY i""",
        "request_usage_entries": f"""
            INSERT INTO request_usage_entries (id, run_id, agent_id, usage_metrics_id,
                model_response_id, model, created_at, {names})
            SELECT {id_("entry", "t.i || '.' || turn")}, r.id, a.id, {id_("usage", "t.i")}, t.id,
                a.model, t.started_at, {tokens}
            FROM drawn.turns t JOIN drawn.runs r USING (i) JOIN drawn.agents a ON a.n = t.agent
            ORDER BY t.i, turn""",
        "run_states": f"""
            INSERT INTO run_states (id, run_id, state_type, schema_version, sdk, sdk_version, turn,
                encoding, state_data, created_at)
            SELECT {id_("state", "i")}, r.id, CASE r.status WHEN 'completed' THEN 'final'
                    WHEN 'interrupted' THEN 'interrupted' ELSE 'checkpoint' END,
                '1.21', 'python', '0.24.0', tool_turns + 1, 'whole',
                jsonb_build_object('$schemaVersion', '1.21', 'current_turn', tool_turns + 1,
                    'current_agent', jsonb_build_object('name', a.name),
                    'original_input', texts.words, 'max_turns', 50, 'generated_items', '[]'::jsonb),
                r.started_at
            FROM drawn.runs r JOIN drawn.agents a ON a.n = r.agent
            JOIN {_TEXT.format("r.i::bigint")} ORDER BY i""",
        "interruptions": f"""
            INSERT INTO interruptions (id, run_id, agent_id, tool_call_id, type, reason, call_id,
                tool_name, arguments, created_at, resolved_at, resolution_action, resolved_by)
            SELECT {id_("question", _CALL_NUMBER)}, r.id, a.id, {call_id}, 'tool_approval',
                'needs_approval', 'call_' || {_CALL_NUMBER}, {_TOOL},
                jsonb_build_object('number', t.i), t.started_at,
                CASE WHEN is_decided THEN t.started_at + interval '1 minute' END,
                CASE WHEN is_decided THEN 'approve' END, CASE WHEN is_decided THEN 'somebody' END
            FROM {_CALL}, LATERAL (SELECT r.status <> 'interrupted') d(is_decided)
            WHERE k = 1 AND turn = r.tool_turns AND (r.status = 'interrupted' OR t.i % 50 = 0)""",
        "guardrail_results": f"""
            INSERT INTO guardrail_results (id, run_id, agent_id, guardrail_name, type, turn,
                position, tripwire_triggered, duration_ms, created_at)
            SELECT {id_("check", "i")}, r.id, a.id, 'relevance', 'input', 1, 0, i % 200 = 0, 3,
                r.started_at
            FROM drawn.runs r JOIN drawn.agents a ON a.n = r.agent WHERE i % 10 = 0 ORDER BY i""",
    }
