-- When each attempt of a step was made, and what those that failed raised.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/018_times_of_attempts.sql
--
-- Running it again changes nothing. Of what happened before there are no such times.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- When the model was asked: the rows of a call's attempts are written together, once it ends.
ALTER TABLE model_responses ADD COLUMN IF NOT EXISTS started_at timestamptz;

-- Each attempt of a call that raised, the newest 20: its number, what it raised, and the milliseconds
-- after `started_at` at which it began, ended and was followed by the next one. A call whose last
-- attempt raised, which nothing follows, may be `executed`: the model was told an error's text then.
ALTER TABLE tool_calls ADD COLUMN IF NOT EXISTS failed_attempts jsonb;

COMMIT;
