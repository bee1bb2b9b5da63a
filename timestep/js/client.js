import createFetchClient from 'openapi-fetch';

import { ConfigurationError } from './errors.js';

/**
 * A client of a host's HTTP API.
 *
 * @param {import('./client.js').HostOptions} [options]
 * @returns {import('./client.js').HostClient}
 */
export function createClient({ url, token, plainHttp = false, fetch } = {}) {
  const environment = globalThis.process?.env ?? {};
  const baseUrl = checked(url ?? environment.TIMESTEP_URL);
  const shown = token ?? environment.TIMESTEP_TOKEN;
  if (!shown) return createFetchClient({ baseUrl, fetch });
  if (!/^[\x21-\x7e]+$/.test(shown))
    throw new ConfigurationError('the token has characters that no token has: copy it again, as one line');
  if (baseUrl.startsWith('http:') && !isLoopback(new URL(baseUrl).hostname) && !plainHttp)
    throw new ConfigurationError(
      `${baseUrl} is plain http to another machine, where others could read the token: use https, or give plainHttp: true`,
    );
  return createFetchClient({
    baseUrl,
    fetch,
    headers: { Authorization: `Bearer ${shown}` },
    // A redirect could lead anywhere.
    redirect: 'error',
  });
}

function checked(url) {
  if (!url) throw new ConfigurationError('no host is named: give url, or set TIMESTEP_URL');
  const found = URL.canParse(url) ? new URL(url) : undefined;
  if (found?.username || found?.password)
    // It is not repeated: what is written there is a secret.
    throw new ConfigurationError("the host's URL has a user or a password: give a token instead");
  if (!['http:', 'https:'].includes(found?.protocol) || found.search || found.hash)
    throw new ConfigurationError(`${JSON.stringify(url)} is not a URL like https://runs.example.com`);
  return found.href.replace(/\/+$/, '');
}

function isLoopback(host) {
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);
}
