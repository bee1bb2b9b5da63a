/** Ids that are made of names: the same in every language. */

import { createHash } from 'node:crypto';

const URL_NAMESPACE = '6ba7b811-9dad-11d1-80b4-00c04fd430c8';
const SESSIONS = '0d1f8f0e-9a3a-5f0e-8a7e-6f1a3c5b7d92';

function uuid5(namespace, name) {
  const bytes = createHash('sha1')
    .update(Buffer.from(namespace.replaceAll('-', ''), 'hex'))
    .update(name)
    .digest()
    .subarray(0, 16);
  bytes[6] = (bytes[6] & 0x0f) | 0x50;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** The row of `runs` that any text stands for. */
export function nameOfRun(name) {
  return uuid5(URL_NAMESPACE, `timestep:run:${name}`);
}

/** The run that a session's states are saved to where no run is named. */
export function nameOfSession(sessionId) {
  return uuid5(URL_NAMESPACE, `timestep:session:${sessionId}`);
}

/** The id and the key of the row of `sessions`. */
export function rowOfSession(sessionId) {
  return [uuid5(SESSIONS, sessionId), sessionId];
}

/** An agent as a row of `agents`: its tools and settings are not recorded from JavaScript. */
export function agentRow({ name, instructions, model, handoffDescription }) {
  const isText = typeof instructions === 'string' && instructions !== '';
  const type = isText ? 'static' : typeof instructions === 'function' ? 'dynamic' : 'none';
  const content = [
    plain(name),
    isText ? plain(instructions) : null,
    type,
    (typeof model === 'string' ? model : model?.constructor.name) || null,
    plain(handoffDescription || null),
  ];
  return [uuid5(URL_NAMESPACE, `timestep:agent:${JSON.stringify(content)}`), ...content];
}

/** What a text column cannot hold becomes U+FFFD. */
function plain(text) {
  return text?.replaceAll('\0', '\ufffd').toWellFormed() ?? null;
}
