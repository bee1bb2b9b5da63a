-- Whether a host reads pickles, so that what it leaves alone is told elsewhere, too.
--
--     psql postgresql://user:password@localhost/dbname -f migrations/011_hosts_that_read_pickles.sql
--
-- Running it again changes nothing.

BEGIN;

SELECT pg_advisory_xact_lock(7470263211650384);

-- Null until the host executes workflows; and of a host of an earlier version.
ALTER TABLE timestep.hosts ADD COLUMN IF NOT EXISTS reads_pickles boolean;

COMMIT;
