/** PostgreSQL, or PGlite in this process: either runs a transaction of statements. */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ConfigurationError } from './errors.js';

const MIGRATIONS = ['./migrations/', '../migrations/', '../../migrations/'];

/**
 * Which database the options name, or else the environment.
 * @returns {{ url: string } | { path: string }}
 */
export function chosen({ connectionString, usePglite, pglitePath }) {
  if (usePglite && connectionString !== undefined) {
    throw new ConfigurationError(
      'a store has a connectionString or is in PGlite (usePglite, pglitePath): give one of them',
    );
  }
  const { TIMESTEP_DB_URL, TIMESTEP_USE_PGLITE, TIMESTEP_PGLITE_PATH } = process.env;
  const inPglite = usePglite ?? (connectionString === undefined && TIMESTEP_USE_PGLITE === 'true');
  if (inPglite) return { path: resolve(pglitePath ?? TIMESTEP_PGLITE_PATH ?? './pglite_data') };
  const url = connectionString ?? TIMESTEP_DB_URL;
  if (!url) {
    throw new ConfigurationError(
      'no database is named: give connectionString or usePglite, or set TIMESTEP_DB_URL ' +
        '(only Timestep in Python keeps states in files)',
    );
  }
  return { url };
}

/** @returns {Promise<{ transaction: (work: Function) => Promise<any>, close: () => Promise<void> }>} */
export function connect({ url, path }) {
  return path === undefined ? postgres(url) : pglite(path);
}

async function postgres(url) {
  const { default: pg } = await import('pg');
  // SQLAlchemy's spelling names a driver, too.
  const pool = new pg.Pool({ connectionString: url.replace(/^(postgres(ql)?)\+\w+:/, 'postgresql:') });
  // Whoever asks next is told of a connection that was lost while nobody used it.
  pool.on('error', () => {});
  return {
    async transaction(work) {
      const client = await pool.connect();
      let failure;
      try {
        await client.query('BEGIN');
        const result = await work((sql, values) => client.query(sql, values));
        await client.query('COMMIT');
        return result;
      } catch (error) {
        failure = error;
        throw error;
      } finally {
        // A connection in an open transaction is thrown away: the server rolls back.
        client.release(failure);
      }
    },
    close: () => pool.end(),
  };
}

async function pglite(path) {
  const { PGlite } = await import('@electric-sql/pglite').catch((error) => {
    throw new ConfigurationError('usePglite needs @electric-sql/pglite: npm install it', {
      cause: error,
    });
  });
  mkdirSync(dirname(path), { recursive: true });
  const database = await PGlite.create({ dataDir: path });
  await migrate(database);
  return {
    transaction: (work) =>
      database.transaction((inside) => work((sql, values) => inside.query(sql, values))),
    close: () => database.close(),
  };
}

/** Bring an empty PGlite to this version's schema, as `timestep migrate` does. */
async function migrate(database) {
  const { rows } = await database.query("SELECT to_regclass('public.run_states') AS found");
  if (rows[0].found !== null) return;
  const directory = MIGRATIONS.map((place) => fileURLToPath(new URL(place, import.meta.url))).find(
    existsSync,
  );
  if (directory === undefined) {
    throw new ConfigurationError(
      "the PGlite directory is empty, and the files of Timestep's schema are not installed with " +
        'this package: make it with TIMESTEP_USE_PGLITE=true timestep migrate',
    );
  }
  for (const file of readdirSync(directory).sort()) {
    const match = /^(\d+)_\w+\.sql$/.exec(file);
    if (match === null) continue;
    const sql = readFileSync(`${directory}/${file}`, 'utf8').replace(/\r\n?/g, '\n');
    await database.exec(sql);
    await database.exec(`CREATE TABLE IF NOT EXISTS timestep.migrations (
      version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT now())`);
    await database.query(
      'INSERT INTO timestep.migrations (version, name, checksum) VALUES ($1, $2, $3)',
      [Number(match[1]), file.slice(0, -4), createHash('sha256').update(sql).digest('hex')],
    );
  }
}
