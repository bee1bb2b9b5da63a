-- Calls that have no outcome when their run ends say so: `skipped` or `unknown`.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/005_calls_of_ended_runs.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

ALTER TABLE tool_calls DROP CONSTRAINT IF EXISTS tool_calls_status_check;
ALTER TABLE tool_calls ADD CONSTRAINT tool_calls_status_check CHECK (
    status IN ('pending', 'approved', 'rejected', 'executed', 'failed', 'started', 'in_doubt',
        'skipped', 'unknown'));

COMMIT;
