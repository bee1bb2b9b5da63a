-- When each attempt of a step was made, so that a timeline shows those that failed.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/018_times_of_attempts.sql
--
-- Running it again changes nothing. Of what happened before there are no such times.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- When the model was asked: the rows of a call's attempts are written together, once it ends.
ALTER TABLE model_responses ADD COLUMN IF NOT EXISTS started_at timestamptz;

-- Of a call that was tried again, each attempt before the last one, with what it raised, and the
-- milliseconds after `started_at` at which it began, ended and was followed by the next one.
ALTER TABLE tool_calls ADD COLUMN IF NOT EXISTS failed_attempts jsonb;

COMMIT;
