-- What the counters of `GET /metrics` have come to, the same for all hosts.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/015_metrics.sql
--
-- Running it again changes nothing. Counters begin here: of what happened before, they know nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

-- Sums that only grow: what is deleted was counted. Runs write none of this; whoever asks for
-- metrics adds what is new.
CREATE TABLE IF NOT EXISTS timestep.metric_sums (
    metric text NOT NULL,
    labels text[] NOT NULL,
    value numeric NOT NULL,
    CONSTRAINT metric_sums_pkey PRIMARY KEY (metric, labels)
);

-- One row: up to which number of `run_changes`, and up to which sequence of
-- `request_usage_entries`, all is in the sums.
CREATE TABLE IF NOT EXISTS timestep.metric_cursor (
    id boolean NOT NULL DEFAULT true,
    change bigint NOT NULL,
    entry bigint NOT NULL,
    CONSTRAINT metric_cursor_pkey PRIMARY KEY (id),
    CONSTRAINT metric_cursor_id_check CHECK (id)
);
INSERT INTO timestep.metric_cursor (change, entry)
SELECT CASE WHEN c.is_called THEN c.last_value ELSE 0 END,
    CASE WHEN e.is_called THEN e.last_value ELSE 0 END
FROM timestep.change_sequence c, timestep.event_sequence e
ON CONFLICT DO NOTHING;

COMMIT;
