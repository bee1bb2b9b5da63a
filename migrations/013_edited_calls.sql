-- Calls that a person approved with other arguments, and what a call will do in a sentence.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/013_edited_calls.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

SET LOCAL search_path TO public;

-- What the call will do, as its tool's `describe` said when the question was asked; and the JSON
-- schema of its arguments, where the tool has no row in `tools`.
ALTER TABLE interruptions ADD COLUMN IF NOT EXISTS description text;
ALTER TABLE interruptions ADD COLUMN IF NOT EXISTS arguments_schema jsonb;

-- The arguments that a person gave instead of the model's, which stay in `arguments`.
ALTER TABLE interruptions ADD COLUMN IF NOT EXISTS resolution_arguments jsonb;
ALTER TABLE tool_calls ADD COLUMN IF NOT EXISTS edited_arguments jsonb;

-- The item as the model gave it, where `item_data` is the one that a person edited.
ALTER TABLE run_items ADD COLUMN IF NOT EXISTS original_data jsonb;

ALTER TABLE interruptions DROP CONSTRAINT IF EXISTS interruptions_resolution_action_check;
ALTER TABLE interruptions ADD CONSTRAINT interruptions_resolution_action_check
    CHECK (resolution_action IN ('approve', 'edit', 'reject', 'supply'));
ALTER TABLE interruptions DROP CONSTRAINT IF EXISTS interruptions_resolution_arguments_check;
ALTER TABLE interruptions ADD CONSTRAINT interruptions_resolution_arguments_check
    CHECK ((resolution_arguments IS NOT NULL) = (resolution_action IS NOT DISTINCT FROM 'edit'));

COMMIT;
