-- An ended run keeps its last state, and what makes each of its checkpoints of it.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/004_states_of_ended_runs.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- Pairs of a turn and a change, newest first: each makes the checkpoint before that turn of the
-- state that the one before it made, and the first of the state in the row.
ALTER TABLE run_states ADD COLUMN IF NOT EXISTS turns jsonb;

COMMIT;
