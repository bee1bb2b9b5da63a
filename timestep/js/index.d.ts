import type { Agent, RunState } from '@openai/agents';

export interface StoreOptions {
  /** Any text that names the run. A UUID is the id of a row of `runs` as it is. */
  runId?: string;
  /** The session of the run. Without a `runId`, the newest state of any run of it is loaded. */
  sessionId?: string;
  /** A PostgreSQL URL. Otherwise `TIMESTEP_DB_URL`. */
  connectionString?: string;
  /** Whether the database is PGlite, in this process. Otherwise as `TIMESTEP_USE_PGLITE` says. */
  usePglite?: boolean;
  /** PGlite's data directory. Otherwise `TIMESTEP_PGLITE_PATH`, or `./pglite_data`. */
  pglitePath?: string;
}

/** Keeps a run's state in `run_states`, where Timestep finds it in Python, too. */
export class DatabaseRunStateStore<TAgent extends Agent<any, any> = Agent<any, any>> {
  /** @throws {ConfigurationError} An id is empty, or no database is named. */
  constructor(options: StoreOptions & { agent: TAgent });
  /** The id of the run that is saved to; undefined as long as nothing says which. */
  readonly runId: string | undefined;
  /** Keep a state; it is the one that `load` gives from then on. */
  save(state: RunState<any, TAgent>): Promise<void>;
  /**
   * The state that was saved last, in whichever language; that it was taken up is noted with it.
   * @throws {StateError} There is none, or it cannot be gone on with here. It stays as it is.
   */
  load(): Promise<RunState<any, TAgent>>;
  /** Leave the run, or every run of the session, without a state to load. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

/** A store in the database that the options or the environment name, connected. */
export function createRunStateStore<TAgent extends Agent<any, any>>(
  agent: TAgent,
  options?: StoreOptions,
): Promise<DatabaseRunStateStore<TAgent>>;

/** A state that is not there, or that cannot be gone on with here. It stays as it is. */
export class StateError extends Error {
  readonly reason: 'unknown' | 'corrupt' | 'too_new' | 'foreign';
}

/** Options, or an installation, that cannot work. */
export class ConfigurationError extends Error {}

/** What `RunState.fromString()` reads, of what `RunState.to_json()` of Python gave. */
export function javascriptStateFromPython(
  document: Record<string, unknown>,
): Record<string, unknown>;
