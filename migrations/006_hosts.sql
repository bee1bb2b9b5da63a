-- Which host is which executor, for as long as it says so again and again.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/006_hosts.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

-- A row is written when a host begins, prolonged while it lives, and deleted when it stops. One
-- that is not prolonged is that of a host that died.
CREATE TABLE IF NOT EXISTS timestep.hosts (
    -- DBOS's name for the application, and its id for the process.
    application text NOT NULL,
    executor_id text NOT NULL,
    -- New each time that a process becomes this executor: whoever has another one is it no more.
    claim uuid NOT NULL,
    -- Of the application's workflows; null until it executes them.
    version text,
    -- Where it runs, for people; and so that one beside it can see that it is gone.
    node text NOT NULL,
    process_id integer NOT NULL,
    identity text,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT hosts_pkey PRIMARY KEY (application, executor_id)
);

COMMIT;
