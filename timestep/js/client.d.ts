import type { Client } from 'openapi-fetch';

import type { components, paths } from './openapi.js';

export type { components, paths } from './openapi.js';

/** The classes of what is sent and answered, by name: `Schemas['Run']`. */
export type Schemas = components['schemas'];

/** `GET` and `POST` with a path of the API; each answers `{ data, error, response }`. */
export type HostClient = Client<paths>;

export interface HostOptions {
  /** The host's address. Otherwise `TIMESTEP_URL`. */
  url?: string;
  /** A token of `timestep tokens`. Otherwise `TIMESTEP_TOKEN`, or none. */
  token?: string;
  /** Whether the token may be sent over plain http to another machine. */
  plainHttp?: boolean;
  /** Instead of the global `fetch`. */
  fetch?: (request: Request) => Promise<Response>;
}

/**
 * A client of a host's HTTP API. Errors are answers: `error` is a problem document then.
 *
 * @throws {ConfigurationError} No host is named, the address or the token cannot be used, or the
 * token would be sent over plain http to another machine.
 */
export function createClient(options?: HostOptions): HostClient;
