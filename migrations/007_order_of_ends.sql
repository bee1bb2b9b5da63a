-- In which order runs, and calls, that went on side by side have ended.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/007_order_of_ends.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- The newest end among the runs beside it that was told when the run began, and where its own ends
-- stand among theirs: each stop for a question, and its end. None in what was recorded before.
ALTER TABLE runs ADD COLUMN IF NOT EXISTS begun_after integer;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS ends jsonb;

-- Where the end of a call, or of a check of one, stands among those of its run.
ALTER TABLE tool_calls ADD COLUMN IF NOT EXISTS end_position integer;
ALTER TABLE tool_guardrail_results ADD COLUMN IF NOT EXISTS end_position integer;

COMMIT;
