-- Which workflows were under way when a process ended without a stop, and which are put aside.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/010_process_ends.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

CREATE TABLE IF NOT EXISTS timestep.process_ends (
    workflow_id text NOT NULL,
    -- How many times in a row it was gone on with, recorded nothing, and soon its process ended.
    ends integer NOT NULL,
    -- How much was recorded of it at the newest of these ends.
    recorded text NOT NULL,
    -- DBOS's time, in milliseconds, at which it is gone on with; null: it is not held back.
    delay_until bigint,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT process_ends_pkey PRIMARY KEY (workflow_id)
);

COMMIT;
