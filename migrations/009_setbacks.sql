-- What keeps workflows from beginning that can be mended, and what they were before other code
-- took them over.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/009_setbacks.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

-- The newest setback of a workflow: its application lacked something, such as a key.
CREATE TABLE IF NOT EXISTS timestep.setbacks (
    workflow_id text NOT NULL,
    -- Of the application that could not go on.
    version text,
    reason text NOT NULL,
    -- DBOS's time, in milliseconds, at which the workflow is tried again; null where it was taken
    -- over, and is what it was before.
    delay_until bigint,
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT setbacks_pkey PRIMARY KEY (workflow_id)
);

-- What the newest takeover of a workflow changed, as it was before; gone once it is so again.
CREATE TABLE IF NOT EXISTS timestep.takeovers (
    workflow_id text NOT NULL,
    before jsonb NOT NULL,
    taken_over_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT takeovers_pkey PRIMARY KEY (workflow_id)
);

COMMIT;
