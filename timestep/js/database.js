/** PostgreSQL, or PGlite in this process: either runs a transaction of statements. */

import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ConfigurationError } from './errors.js';

/** In it is which process has a PGlite directory open, and where it serves it, if it does. */
const LOCK = 'timestep.lock';
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

/** PGlites that are open in this process, each by its directory: stores share them. */
const open = new Map();

async function pglite(path) {
  const holder = open.has(path) ? null : holderOf(path);
  if (holder?.url) return postgres(holder.url);
  if (holder !== null) {
    throw new ConfigurationError(
      `the PGlite directory ${path} is in use by process ${holder.pid}, and it is one process's: ` +
        'close that store, or set pglitePath to another directory',
    );
  }
  if (!open.has(path)) open.set(path, { users: 0, database: opened(path) });
  const shared = open.get(path);
  shared.users += 1;
  const database = await shared.database.catch((error) => {
    open.delete(path);
    throw error;
  });
  return {
    transaction: (work) =>
      database.transaction((inside) => work((sql, values) => inside.query(sql, values))),
    async close() {
      shared.users -= 1;
      if (shared.users > 0) return;
      open.delete(path);
      await database.close();
      truncateSync(join(path, LOCK));
    },
  };
}

async function opened(path) {
  const { PGlite } = await import('@electric-sql/pglite').catch((error) => {
    throw new ConfigurationError('usePglite needs @electric-sql/pglite: npm install it', {
      cause: error,
    });
  });
  mkdirSync(path, { recursive: true, mode: 0o700 });
  writeFileSync(join(path, LOCK), JSON.stringify([process.pid, null]), { mode: 0o600 });
  const database = await PGlite.create({ dataDir: path });
  await migrate(database);
  return database;
}

/** Which other process has the directory open, and where it serves it, if it does. */
function holderOf(path) {
  const file = join(path, LOCK);
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  if (text === '') return null;
  const [pid, sockets] = JSON.parse(text);
  if (pid === process.pid || !isAlive(pid)) return null;
  const host = encodeURIComponent(sockets ?? '');
  return { pid, url: sockets && `postgresql://postgres@/postgres?host=${host}&port=5432` };
}

function isAlive(pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
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
