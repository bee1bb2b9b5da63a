-- Where another execution went on with a run, and what it did not make again.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/017_recoveries.sql
--
-- Running it again changes nothing. Of what happened before there are no rows.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

CREATE TABLE IF NOT EXISTS timestep.recoveries (
    run_id uuid NOT NULL,
    -- DBOS's, of the execution that went on.
    token text NOT NULL,
    -- Which process executes it.
    executor_id text NOT NULL,
    node text NOT NULL,
    process_id integer NOT NULL,
    -- The run's turn, and what was recorded of it by then: none of that is made again.
    turn integer NOT NULL,
    answers integer NOT NULL,
    calls integer NOT NULL,
    checks integer NOT NULL,
    recovered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT recoveries_pkey PRIMARY KEY (run_id, token),
    CONSTRAINT recoveries_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE
);

COMMIT;
