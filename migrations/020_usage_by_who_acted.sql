-- Usage is summed by the agent that asked, also after a handoff, and not by the run's first one.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/020_usage_by_who_acted.sql
--
-- Running it again changes nothing. Whoever asks for usage next sums all that there is once more.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- What is summed is by the first agents.
DO $$
BEGIN
    IF (SELECT prosrc NOT LIKE '%coalesce(OLD.agent_id%' FROM pg_proc
        WHERE oid = 'timestep.follow_entry()'::regprocedure)
    THEN
        PERFORM FROM timestep.usage_watermark FOR UPDATE;
        DELETE FROM timestep.usage_sums;
        UPDATE timestep.usage_watermark SET sequence = 0;
    END IF;
END
$$;
COMMENT ON COLUMN timestep.usage_sums.agent_id IS
    'The agent that asked; of an entry that has none, the one that its run began with.';

-- As migration 003 has them, but for whose an entry is.
CREATE OR REPLACE FUNCTION timestep.follow_entry() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    summed bigint;
BEGIN
    SELECT sequence INTO summed FROM timestep.usage_watermark FOR UPDATE;
    -- An entry that goes with its run was taken out before the run was gone.
    IF OLD.sequence <= summed THEN
        PERFORM timestep.add_usage(started_at, coalesce(OLD.agent_id, agent_id), OLD, -1)
        FROM public.runs WHERE id = OLD.run_id;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.sequence <= summed THEN
        PERFORM timestep.add_usage(started_at, coalesce(NEW.agent_id, agent_id), NEW, 1)
        FROM public.runs WHERE id = NEW.run_id;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION timestep.follow_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    summed bigint;
BEGIN
    SELECT sequence INTO summed FROM timestep.usage_watermark FOR UPDATE;
    PERFORM timestep.add_usage(OLD.started_at, coalesce(e.agent_id, OLD.agent_id), e, -1)
    FROM public.request_usage_entries e WHERE run_id = OLD.id AND sequence <= summed;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    PERFORM timestep.add_usage(NEW.started_at, coalesce(e.agent_id, NEW.agent_id), e, 1)
    FROM public.request_usage_entries e WHERE run_id = OLD.id AND sequence <= summed;
    RETURN NEW;
END
$$;

COMMIT;
