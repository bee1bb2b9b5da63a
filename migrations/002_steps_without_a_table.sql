-- What a run's steps record that no table of the schema holds, live streams, and what replays
-- need to know of attempts and of the run's context.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/002_steps_without_a_table.sql
--
-- Running it again changes nothing. The new tables live in the schema `timestep`: they are for
-- recoveries and live readers, not for people's queries.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- Values that a replay must see again: what a session answered, an MCP server's tools.
CREATE TABLE IF NOT EXISTS timestep.step_values (
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    name text NOT NULL,
    value jsonb,
    value_text text,
    error jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT step_values_pkey PRIMARY KEY (id),
    CONSTRAINT step_values_run_id_fkey
        FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE
);
-- Read by: a recovery, which reads a run's values with its other rows.
CREATE INDEX IF NOT EXISTS step_values_run_id_idx ON timestep.step_values (run_id);

-- The order in which what a run did became visible. A step's statement locks its workflow's row
-- before it draws from here, so within a run a later number is a later commit: a reader that
-- has seen a number has seen everything before it.
CREATE SEQUENCE IF NOT EXISTS timestep.event_sequence;

ALTER TABLE run_items
    ADD COLUMN IF NOT EXISTS sequence bigint NOT NULL DEFAULT nextval('timestep.event_sequence');
-- Read by: live readers, which go on after the last number they have seen.
CREATE INDEX IF NOT EXISTS run_items_sequence_idx ON run_items (run_id, sequence);

-- Events of a model's stream, in batches: a token is not a transaction.
CREATE TABLE IF NOT EXISTS timestep.stream_batches (
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    model_response_id uuid NOT NULL,
    turn integer NOT NULL,
    attempt integer NOT NULL,
    first_attempt integer NOT NULL,
    position integer NOT NULL,
    events jsonb NOT NULL,
    sequence bigint NOT NULL DEFAULT nextval('timestep.event_sequence'),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stream_batches_pkey PRIMARY KEY (id),
    CONSTRAINT stream_batches_run_id_fkey
        FOREIGN KEY (run_id) REFERENCES runs (id) ON DELETE CASCADE
);
-- Read by: live readers, and replays of a streamed answer.
CREATE INDEX IF NOT EXISTS stream_batches_run_id_idx
    ON timestep.stream_batches (run_id, sequence);

-- A call of a model that is tried again leaves a row for each attempt.
ALTER TABLE model_responses ADD COLUMN IF NOT EXISTS attempt integer NOT NULL DEFAULT 1;
ALTER TABLE model_responses DROP CONSTRAINT IF EXISTS model_responses_run_id_ordinal_key;
ALTER TABLE model_responses DROP CONSTRAINT IF EXISTS model_responses_run_id_ordinal_attempt_key;
ALTER TABLE model_responses ADD CONSTRAINT model_responses_run_id_ordinal_attempt_key
    UNIQUE (run_id, ordinal, attempt);

-- How often the body of a call's tool ran: its step holds every attempt.
ALTER TABLE tool_calls ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0;

-- What a tool's call changed in the run's context, and which change of the run it was.
ALTER TABLE tool_calls ADD COLUMN IF NOT EXISTS context_change jsonb;
ALTER TABLE tool_calls ADD COLUMN IF NOT EXISTS context_position integer;

-- Why a run is cancelled: somebody cancelled its workflow; the workflow's time, or that of the run
-- around it, was over; the workflow's own code cut it off; or the workflow ended without it. And
-- the newest step numbers when code cut it off: whether the code went on is seen from later ones.
ALTER TABLE runs ADD COLUMN IF NOT EXISTS cancel_reason text;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS cancel_steps jsonb;
UPDATE runs SET cancel_reason = 'cancelled' WHERE status = 'cancelled' AND cancel_reason IS NULL;
ALTER TABLE runs DROP CONSTRAINT IF EXISTS runs_cancel_reason_check;
ALTER TABLE runs ADD CONSTRAINT runs_cancel_reason_check CHECK (
    cancel_reason IN ('cancelled', 'timeout', 'code', 'abandoned') AND status = 'cancelled'
    OR cancel_reason IS NULL AND status <> 'cancelled');

-- How far a run's numbers had come where a checkpoint was made: steps after it are told apart by
-- them when the run goes on from there.
ALTER TABLE run_states ADD COLUMN IF NOT EXISTS progress jsonb;

-- A run that began with the checkpoint of another run, before one of its turns.
ALTER TABLE runs ADD COLUMN IF NOT EXISTS forked_from_run_id uuid;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS forked_at_turn integer;
ALTER TABLE runs DROP CONSTRAINT IF EXISTS runs_forked_from_run_id_fkey;
ALTER TABLE runs ADD CONSTRAINT runs_forked_from_run_id_fkey
    FOREIGN KEY (forked_from_run_id) REFERENCES runs (id) ON DELETE SET NULL;
ALTER TABLE runs DROP CONSTRAINT IF EXISTS runs_forked_at_turn_check;
ALTER TABLE runs ADD CONSTRAINT runs_forked_at_turn_check CHECK (forked_at_turn > 0);
CREATE INDEX IF NOT EXISTS runs_forked_from_run_id_idx ON runs (forked_from_run_id);

-- Which run of a workflow is which recorded run, where the workflow's steps do not tell: in a
-- fork, and in a workflow that goes on in other code. A run's place is the task that begins it,
-- and how many runs that task began before.
CREATE TABLE IF NOT EXISTS timestep.continuations (
    workflow_id text NOT NULL,
    lane integer NOT NULL,
    ordinal integer NOT NULL,
    kind text NOT NULL,
    run_id uuid NOT NULL,
    source_run_id uuid NOT NULL,
    workflow_step integer,
    turn integer,
    state jsonb,
    progress jsonb,
    context_changes jsonb,
    input jsonb,
    changes jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT continuations_pkey PRIMARY KEY (workflow_id, lane, ordinal),
    CONSTRAINT continuations_kind_check CHECK (kind IN ('ended', 'forked', 'taken_over')),
    CONSTRAINT continuations_source_run_id_fkey
        FOREIGN KEY (source_run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS continuations_source_run_id_idx
    ON timestep.continuations (source_run_id);

COMMIT;
