-- The page of what was decided shows what was decided last first.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/019_what_was_decided_last.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

CREATE INDEX IF NOT EXISTS interruptions_resolved_at_idx
    ON interruptions (resolved_at DESC, id DESC) WHERE resolved_at IS NOT NULL;
COMMENT ON INDEX interruptions_resolved_at_idx IS 'Read by: the page of what was decided.';
COMMENT ON INDEX interruptions_created_at_idx IS 'Read by: the list of questions, decided or not.';

COMMIT;
