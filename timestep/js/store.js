/**
 * States of runs in Timestep's database: one of a run is active, and is replaced, never changed.
 *
 * Tested with @openai/agents 0.20.0; states of openai-agents 0.24.0 are loaded, too.
 */

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { RunState } from '@openai/agents';
import { javascriptStateFromPython } from './conversion.js';
import { chosen, connect } from './database.js';
import { folded, storable } from './documents.js';
import { ConfigurationError, StateError } from './errors.js';
import { agentRow, nameOfRun, nameOfSession, rowOfSession } from './ids.js';
import * as sql from './statements.js';

const MAIN = createRequire(import.meta.url).resolve('@openai/agents');
const SDK_VERSION = JSON.parse(readFileSync(join(MAIN, '../../package.json'), 'utf8')).version;
const STATE_TYPES = {
  next_step_interruption: 'interrupted',
  next_step_final_output: 'final',
};
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** What each member does is said in `index.d.ts`. */
export class DatabaseRunStateStore {
  #agent;
  #database;
  #isOfRun;
  #place;
  #runId;
  #sessionId;

  constructor({ agent, runId, sessionId, ...place }) {
    this.#agent = agent;
    this.#sessionId = named('sessionId', sessionId);
    this.#isOfRun = named('runId', runId) !== undefined;
    if (this.#isOfRun) this.#runId = UUID.test(runId) ? runId.toLowerCase() : nameOfRun(runId);
    else if (sessionId !== undefined) this.#runId = nameOfSession(sessionId);
    this.#place = chosen(place);
  }

  get runId() {
    return this.#runId;
  }

  async save(state) {
    const document = state.toJSON();
    const stateType = STATE_TYPES[document.currentStep?.type] ?? 'checkpoint';
    const runId = this.#runId ?? randomUUID();
    const agent = agentRow(this.#agent);
    const current = agentRow(reached(this.#agent, document.currentAgent.name) ?? this.#agent);
    const session = this.#session;
    await this.#transaction(async (query) => {
      await query(sql.LOCK_DEFINITIONS);
      for (const row of [agent, current]) await query(sql.AGENT, row);
      if (session !== null) await query(sql.SESSION, session);
      const key = session === null ? null : session[1];
      const input = storable(document.originalInput);
      await query(sql.RUN, [runId, agent[0], key, input, document.maxTurns, SDK_VERSION]);
      await query(sql.LOCK, [runId]);
      await query(sql.SUPERSEDE, [runId]);
      await query(sql.STATE, [
        randomUUID(),
        runId,
        stateType,
        document.$schemaVersion,
        SDK_VERSION,
        document.currentTurn,
        storable(document),
      ]);
      await query(sql.FOLLOW, [runId, stateType, document.currentTurn, current[0]]);
    });
    this.#runId = runId;
  }

  async load() {
    const whose = this.#whose();
    for (;;) {
      const rows = await this.#transaction((query) => query(sql.ACTIVE, whose));
      const [row, ...before] = rows.rows.map(({ chain }) => chain);
      if (row === undefined) {
        const what = whose[1] === null ? `run ${whose[0]}` : `session ${JSON.stringify(whose[1])}`;
        throw new StateError('unknown', `no state of ${what} is saved`);
      }
      const state = await read([row, ...before], this.#agent);
      const { rows: noted } = await this.#transaction((query) => query(sql.RESUMED, [row.id]));
      if (noted.length === 1) {
        this.#runId = row.run_id;
        return state;
      }
      // Another one was saved while this one was read.
    }
  }

  async clear() {
    const whose = this.#whose();
    await this.#transaction((query) => query(sql.CLEAR, whose));
  }

  async close() {
    const database = this.#database;
    this.#database = undefined;
    await (await database)?.close();
  }

  get #session() {
    return this.#sessionId === undefined ? null : rowOfSession(this.#sessionId);
  }

  /** The run, and the session whose runs are looked at as well, if no run is named. */
  #whose() {
    if (this.#runId === undefined) {
      throw new StateError(
        'unknown',
        'this store has neither a runId nor a sessionId, so it has nothing to load before its ' +
          'first save(): give it one of them',
      );
    }
    return [this.#runId, this.#isOfRun ? null : (this.#session?.[1] ?? null)];
  }

  async #transaction(work) {
    this.#database ??= connect(this.#place);
    return (await this.#database).transaction(work);
  }
}

export async function createRunStateStore(agent, options = {}) {
  return new DatabaseRunStateStore({ ...options, agent });
}

function named(option, value) {
  if (value === undefined) return undefined;
  if (typeof value === 'string' && value) return value;
  throw new ConfigurationError(`${option}: ${JSON.stringify(value)} is no text that names anything`);
}

/** The agent of a name among those that an agent hands off to. */
function reached(agent, name, seen = new Set()) {
  if (agent.name === name) return agent;
  seen.add(agent);
  for (const entry of agent.handoffs) {
    const target = entry.agent ?? entry;
    const found = seen.has(target) ? undefined : reached(target, name, seen);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The state that rows stand for, or why it cannot be gone on with. */
async function read(rows, agent) {
  const { id, run_id: runId, sdk, sdk_version: version } = rows[0];
  const where = `state ${id} of run ${runId}, which ${sdk} ${version} saved,`;
  let document;
  try {
    document = folded(rows);
  } catch (error) {
    throw new StateError('corrupt', `${where} cannot be put together: ${error.message}`, {
      cause: error,
    });
  }
  if (sdk !== 'python' && sdk !== 'javascript') {
    throw new StateError('foreign', `${where} is in a format that is not known here`);
  }
  try {
    const readable = sdk === 'python' ? javascriptStateFromPython(document) : document;
    return await RunState.fromString(agent, JSON.stringify(readable));
  } catch (error) {
    if (error instanceof StateError) {
      throw new StateError(error.reason, `${where} ${error.message}`, { cause: error });
    }
    const reason = /schema version .* not supported/.test(error.message)
      ? 'too_new'
      : /not found/.test(error.message)
        ? 'foreign'
        : 'corrupt';
    const message = `${where} cannot be loaded by @openai/agents ${SDK_VERSION}: ${error.message}`;
    throw new StateError(reason, message, { cause: error });
  }
}
