-- With which error each failure came, for readers: the run's row has it until the run goes on.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/016_errors_of_failures.sql
--
-- Running it again changes nothing. Of a run that went on before, the error is not known.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- Of 'run.failed': its `type`, `message` and `turn`.
ALTER TABLE timestep.run_changes ADD COLUMN IF NOT EXISTS error jsonb;

CREATE OR REPLACE FUNCTION timestep.note_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO timestep.run_changes (run_id, change, turn, cancel_reason, error, questions)
    VALUES (
        NEW.id,
        CASE
            WHEN NEW.status = 'interrupted' THEN 'run.waiting'
            WHEN NEW.status <> 'running' THEN 'run.' || NEW.status
            WHEN TG_OP = 'INSERT' THEN 'run.started'
            ELSE 'run.resumed' END,
        NEW.current_turn,
        NEW.cancel_reason,
        CASE NEW.status WHEN 'failed' THEN jsonb_build_object(
            'type', NEW.error_type, 'message', NEW.error_message, 'turn', NEW.error_turn) END,
        CASE NEW.status WHEN 'interrupted' THEN ARRAY(
            SELECT i.id FROM public.interruptions i JOIN public.runs r ON r.id = i.run_id
            WHERE (r.id = NEW.id OR r.root_run_id = NEW.id) AND i.resolved_at IS NULL
            ORDER BY i.created_at, i.id) END);
    RETURN NULL;
END $$;

UPDATE timestep.run_changes c SET error = jsonb_build_object(
    'type', r.error_type, 'message', r.error_message, 'turn', r.error_turn)
FROM runs r WHERE r.id = c.run_id AND c.change = 'run.failed' AND c.error IS NULL;

COMMIT;
