/** The statements of `timestep/store/states.py`, which Python's stores run. */

export const LOCK_DEFINITIONS = 'SELECT pg_advisory_xact_lock(7470263211650385)';

export const AGENT = `
  INSERT INTO public.agents (
    id, name, version, instructions, instructions_type, model, handoff_description)
  SELECT $1::uuid, $2::text,
    (SELECT coalesce(max(version), 0) + 1 FROM public.agents old WHERE old.name = $2::text),
    $3::text, $4::text, $5::text, $6::text
  WHERE NOT EXISTS (SELECT FROM public.agents old WHERE old.id = $1::uuid)`;

export const SESSION = `
  INSERT INTO public.sessions (id, session_key) VALUES ($1, $2)
  ON CONFLICT DO NOTHING`;

export const RUN = `
  INSERT INTO public.runs (
    id, root_run_id, agent_id, session_id, status, input, max_turns, sdk_version)
  VALUES ($1, $1, $2, (SELECT id FROM public.sessions WHERE session_key = $3), 'running',
    $4::text::jsonb, $5, $6)
  ON CONFLICT (id) DO NOTHING`;

// Whoever saves next waits here.
export const LOCK = 'SELECT FROM public.runs WHERE id = $1 FOR UPDATE';

export const SUPERSEDE =
  'UPDATE public.run_states SET is_active = false WHERE run_id = $1 AND is_active';

export const STATE = `
  INSERT INTO public.run_states (
    id, run_id, state_type, schema_version, sdk, sdk_version, turn, encoding, state_data)
  VALUES ($1, $2, $3, $4, 'javascript', $5, $6, 'whole', $7::text::jsonb)`;

// A run that no workflow executes is what its newest state says.
export const FOLLOW = `
  UPDATE public.runs SET status = CASE $2::text
      WHEN 'interrupted' THEN 'interrupted' WHEN 'final' THEN 'completed' ELSE 'running' END,
    completed_at = CASE $2::text WHEN 'final' THEN now() END,
    current_turn = $3::int, current_agent_id = $4::uuid, updated_at = now()
  WHERE id = $1::uuid AND workflow_id IS NULL
  AND status IN ('running', 'interrupted', 'completed')`;

const OF_RUN_OR_SESSION = `
  s.is_active AND (s.run_id = $1::uuid OR r.session_id IN (
    SELECT id FROM public.sessions WHERE session_key = $2::text))`;

// The newest active state, and what it is a change of.
export const ACTIVE = `
  WITH RECURSIVE chosen AS (
    SELECT s.* FROM public.run_states s JOIN public.runs r ON r.id = s.run_id
    WHERE ${OF_RUN_OR_SESSION} ORDER BY s.created_at DESC, s.id DESC LIMIT 1
  ), chain AS (
    SELECT chosen.*, 0 AS depth FROM chosen
    UNION ALL
    SELECT s.*, depth + 1 FROM chain JOIN public.run_states s ON s.id = chain.previous_id
    WHERE chain.encoding = 'delta'
  ) SELECT to_jsonb(chain) AS chain FROM chain ORDER BY depth`;

export const RESUMED =
  'UPDATE public.run_states SET resumed_at = now() WHERE id = $1 AND is_active RETURNING id';

export const CLEAR = `
  UPDATE public.run_states SET is_active = false WHERE id IN (
    SELECT s.id FROM public.run_states s JOIN public.runs r ON r.id = s.run_id
    WHERE ${OF_RUN_OR_SESSION})`;
