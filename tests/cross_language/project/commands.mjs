// node commands.mjs: what tests ask for, a line of JSON each on standard input, answered in a line
// on standard output.

import { createInterface } from 'node:readline';
import { PGlite } from '@electric-sql/pglite';
import { createRunStateStore, javascriptStateFromPython } from '@timestep-ai/timestep';
import * as ids from './node_modules/@timestep-ai/timestep/ids.js';
import { boss, decide, finished, interrupted, triage } from './scenario.mjs';

const COMMANDS = {
  async start({ store, context, decided, nested }) {
    const agent = nested ? boss : triage;
    const state = await interrupted(agent, context);
    decide(state, decided);
    return using(store, agent, async (states) => {
      await states.save(state);
      return { runId: states.runId };
    });
  },

  async decide({ store, decided }) {
    return using(store, triage, async (states) => {
      const state = await states.load();
      decide(state, decided);
      await states.save(state);
      return { runId: states.runId };
    });
  },

  async finish({ store, decided, nested }) {
    const agent = nested ? boss : triage;
    return using(store, agent, async (states) => {
      const loaded = await states.load();
      decide(loaded, decided);
      const { state, told } = await finished(agent, loaded);
      await states.save(state);
      return { ...told, runId: states.runId };
    });
  },

  /** What went wrong with each of the stores, one after the other. */
  async refused({ stores }) {
    const errors = [];
    for (const store of stores) {
      errors.push(
        await using(store, triage, (states) => states.load()).then(
          () => null,
          ({ name, reason, message }) => ({ name, reason, message }),
        ),
      );
    }
    return errors;
  },

  async saveAtOnce({ store, times }) {
    const state = await interrupted(triage);
    const one = async () => using(store, triage, (states) => states.save(state));
    await Promise.all(Array.from({ length: times }, one));
    return null;
  },

  async convert({ documents }) {
    return documents.map((document) => {
      try {
        return javascriptStateFromPython(document);
      } catch ({ name, reason, message }) {
        return { name, reason, message };
      }
    });
  },

  /** A run in a PGlite that is closed in between, and the migrations that it has had. */
  async pglite({ store }) {
    await COMMANDS.start({ store, context: { user: 'ada' }, decided: ['deploy', 'erase'] });
    // Stores of one process share it.
    await using(store, triage, (one) => using(store, triage, (two) => Promise.all([one.load(), two.load()])));
    const told = await COMMANDS.finish({ store, decided: [] });
    const database = await PGlite.create({ dataDir: store.pglitePath });
    const { rows } = await database.query(
      'SELECT version, name, checksum FROM timestep.migrations ORDER BY version',
    );
    await database.close();
    return { ...told, migrations: rows.map(Object.values) };
  },

  /** The ids and keys of a run, a session and an agent of each name. */
  async named({ names }) {
    return names.map((name) => [
      ids.nameOfRun(name),
      ids.nameOfSession(name),
      ...ids.rowOfSession(name),
      ids.agentRow({ name })[1],
    ]);
  },

  async cleared({ store }) {
    return using(store, triage, (states) => states.clear());
  },
};

async function using(options, agent, work) {
  const states = await createRunStateStore(agent, options);
  try {
    return await work(states);
  } finally {
    await states.close();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { command, effects, given } = JSON.parse(line);
  process.env.EFFECTS = effects;
  const said = await COMMANDS[command](given).then(
    (answer) => ({ answer: answer ?? null }),
    (error) => ({ failure: String(error?.stack ?? error) }),
  );
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
