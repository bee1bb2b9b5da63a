/**
 * Ids and keys that are made of names: the same in every language, whatever a name holds.
 *
 * See `timestep/serialization/ids.py`, which makes them for Python.
 */

import { createHash } from 'node:crypto';

const URL_NAMESPACE = '6ba7b811-9dad-11d1-80b4-00c04fd430c8';
const SESSIONS = '0d1f8f0e-9a3a-5f0e-8a7e-6f1a3c5b7d92';

/** Bytes of a name or key in UTF-8: an index holds no more of all that it orders by. */
const LONGEST_NAME = 1000;
const DIGITS = 32;

/** The id that a name has within a namespace; half surrogate pairs count as Python writes them. */
function uuid5(namespace, name) {
  const bytes = createHash('sha1')
    .update(Buffer.from(namespace.replaceAll('-', ''), 'hex'))
    .update(name.isWellFormed() ? name : ascii(name))
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
  return [uuid5(SESSIONS, sessionId), storableName(sessionId)];
}

/** An agent as a row of `agents`: its tools and settings are not recorded from JavaScript. */
export function agentRow({ name, instructions, model, handoffDescription }) {
  const isText = typeof instructions === 'string' && instructions !== '';
  const type = isText ? 'static' : typeof instructions === 'function' ? 'dynamic' : 'none';
  const content = [
    storableName(name),
    isText ? plain(instructions) : null,
    type,
    (typeof model === 'string' ? model : model?.constructor.name) || null,
    plain(handoffDescription || null),
  ];
  return [uuid5(URL_NAMESPACE, `timestep:agent:${JSON.stringify(content)}`), ...content];
}

/** The name as columns and indexes hold it: itself, or its beginning and a hash of it. */
export function storableName(name) {
  const whole = bytesOf(name);
  const isPlain = !name.includes('\0') && name.isWellFormed();
  if (isPlain && whole.length <= LONGEST_NAME) return name;
  const mark = `…${createHash('sha256').update(whole).digest('hex').slice(0, DIGITS)}`;
  const shown = Buffer.from(name.replaceAll('\0', '\ufffd').replace(HALVES, '?'));
  let end = Math.min(LONGEST_NAME - Buffer.byteLength(mark), shown.length);
  // No character is cut in two.
  while ((shown[end] & 0xc0) === 0x80) end -= 1;
  return shown.toString('utf8', 0, end) + mark;
}

const HALVES = /\p{Surrogate}/gu;

/** A text in UTF-8, with half surrogate pairs as three bytes each. */
function bytesOf(text) {
  const parts = text.split(/(\p{Surrogate})/u).map((part) => {
    if (part.isWellFormed()) return Buffer.from(part);
    const code = part.charCodeAt(0);
    return Buffer.from([0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f)]);
  });
  return Buffer.concat(parts);
}

const SHORT = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' };

/** A text as Python's `ascii()` writes it. */
function ascii(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const written = Array.from(text, (character) => {
    const code = character.codePointAt(0);
    if (character === quote) return `\\${quote}`;
    if (character in SHORT) return SHORT[character];
    if (code >= 0x20 && code < 0x7f) return character;
    const hex = code.toString(16);
    if (code <= 0xff) return `\\x${hex.padStart(2, '0')}`;
    return code <= 0xffff ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
  });
  return quote + written.join('') + quote;
}

/** What a text column cannot hold becomes U+FFFD. */
function plain(text) {
  return text?.replaceAll('\0', '\ufffd').toWellFormed() ?? null;
}
