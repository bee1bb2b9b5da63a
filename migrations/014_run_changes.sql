-- What readers are told of runs besides their items: how each stands, and what it asks people.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/014_run_changes.sql
--
-- Running it again changes nothing. Of what happened before there are no rows.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- Every change of a run's status, every question, and every decision of one. `number` orders them
-- over all runs, and only they draw from its sequence: a number that is missing was drawn by a
-- transaction that goes on, or was rolled back. `sequence` orders them among what their run did.
CREATE SEQUENCE IF NOT EXISTS timestep.change_sequence;

CREATE TABLE IF NOT EXISTS timestep.run_changes (
    number bigint NOT NULL DEFAULT nextval('timestep.change_sequence'),
    sequence bigint NOT NULL DEFAULT nextval('timestep.event_sequence'),
    run_id uuid NOT NULL,
    change text NOT NULL,
    turn integer NOT NULL,
    cancel_reason text,
    questions uuid[],
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT run_changes_pkey PRIMARY KEY (number),
    CONSTRAINT run_changes_change_check CHECK (change IN (
        'run.started', 'run.waiting', 'run.resumed', 'run.completed', 'run.failed',
        'run.cancelled', 'question.asked', 'question.decided')),
    CONSTRAINT run_changes_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS run_changes_run_id_idx ON timestep.run_changes (run_id, sequence);
COMMENT ON INDEX timestep.run_changes_run_id_idx IS
    'Read by: live readers of a run, after the last they have seen.';

-- Triggers, so that nothing changes a run unseen: they are a part of the statement that does, and
-- write where it has locked the run's workflow.
CREATE OR REPLACE FUNCTION timestep.note_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO timestep.run_changes (run_id, change, turn, cancel_reason, questions)
    VALUES (
        NEW.id,
        CASE
            WHEN NEW.status = 'interrupted' THEN 'run.waiting'
            WHEN NEW.status <> 'running' THEN 'run.' || NEW.status
            WHEN TG_OP = 'INSERT' THEN 'run.started'
            ELSE 'run.resumed' END,
        NEW.current_turn,
        NEW.cancel_reason,
        CASE NEW.status WHEN 'interrupted' THEN ARRAY(
            SELECT i.id FROM public.interruptions i JOIN public.runs r ON r.id = i.run_id
            WHERE (r.id = NEW.id OR r.root_run_id = NEW.id) AND i.resolved_at IS NULL
            ORDER BY i.created_at, i.id) END);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION timestep.note_question() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO timestep.run_changes (run_id, change, turn, questions)
    SELECT NEW.run_id, CASE TG_OP WHEN 'INSERT' THEN 'question.asked' ELSE 'question.decided' END,
        r.current_turn, ARRAY[NEW.id]
    FROM public.runs r WHERE r.id = NEW.run_id;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS note_beginning ON runs;
CREATE TRIGGER note_beginning AFTER INSERT ON runs
    FOR EACH ROW EXECUTE FUNCTION timestep.note_run();
DROP TRIGGER IF EXISTS note_status ON runs;
CREATE TRIGGER note_status AFTER UPDATE OF status ON runs
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION timestep.note_run();
DROP TRIGGER IF EXISTS note_question ON interruptions;
CREATE TRIGGER note_question AFTER INSERT ON interruptions
    FOR EACH ROW EXECUTE FUNCTION timestep.note_question();
DROP TRIGGER IF EXISTS note_decision ON interruptions;
CREATE TRIGGER note_decision AFTER UPDATE OF resolved_at ON interruptions
    FOR EACH ROW WHEN (OLD.resolved_at IS NULL AND NEW.resolved_at IS NOT NULL)
    EXECUTE FUNCTION timestep.note_question();

COMMIT;
