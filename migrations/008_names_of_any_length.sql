-- No index holds whole a text that comes from outside: ids of calls may be as long as an answer.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/008_names_of_any_length.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- Nothing looks for a call by the provider's id but among those of its run.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index
        WHERE indexrelid = to_regclass('public.tool_calls_run_id_idx') AND indnatts <> 1
    ) THEN
        DROP INDEX public.tool_calls_run_id_idx;
    END IF;
END
$$;
CREATE INDEX IF NOT EXISTS tool_calls_run_id_idx ON tool_calls (run_id);
COMMENT ON INDEX tool_calls_run_id_idx IS
    'Read by: a run''s calls, when it is shown and recovered; deletes of runs.';

-- An index of hashes finds what is equal, however long it is.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_class c JOIN pg_am a ON a.oid = c.relam
        WHERE c.oid = to_regclass('public.run_states_agent_name_idx') AND a.amname <> 'hash'
    ) THEN
        DROP INDEX public.run_states_agent_name_idx;
    END IF;
END
$$;
CREATE INDEX IF NOT EXISTS run_states_agent_name_idx
    ON run_states USING hash ((state_data #>> '{current_agent,name}'::text[]))
    WHERE encoding = 'whole';
COMMENT ON INDEX run_states_agent_name_idx IS
    'Read by: people''s questions: states by the agent that acted.';

COMMIT;
