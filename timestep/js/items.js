/**
 * Items of a conversation that Python saved, in the names of `@openai/agents`.
 *
 * Python keeps the items of the Responses API as they are. What JavaScript has no name for is
 * kept under `providerData`, as its own converter does.
 */

import { readFileSync } from 'node:fs';
import { StateError } from './errors.js';

/** What the fields are called in Python and in JavaScript. */
export const FIELDS = JSON.parse(
  readFileSync(new URL('./state_fields.json', import.meta.url), 'utf8'),
);

export function rejected(what) {
  return new StateError(
    'foreign',
    `the state holds ${what}, which is not converted: finish the run with openai-agents`,
  );
}

/** The fields of a document that are only called otherwise. One that nothing is known of is refused. */
export function renamed(kind, document) {
  const table = FIELDS[kind];
  const converted = {};
  for (const [name, value] of Object.entries(document)) {
    if (name in table.renamed) {
      if (value !== null) converted[table.renamed[name]] = value;
    } else if (!(name in table.converted) && !table.lost.python.includes(name)) {
      if (!table.refused.python.includes(name) || !isEmpty(value)) {
        throw new StateError(
          'foreign',
          `the state has "${name}" in its ${kind.replace('_', ' ')}, which has no place in the ` +
            'state of @openai/agents: finish the run with openai-agents',
        );
      }
    }
  }
  return converted;
}

function isEmpty(value) {
  return !value || (typeof value === 'object' && Object.keys(value).length === 0);
}

/** The function that each call is of: an output names only its call. */
export function namesOfCalls(document) {
  const given = document.original_input;
  const items = [
    ...(typeof given === 'string' ? [] : given),
    ...document.model_responses.flatMap((response) => response.output),
    ...document.generated_items.map((found) => found.raw_item),
  ];
  const calls = items.filter((found) => found.type === 'function_call');
  return new Map(calls.map((call) => [call.call_id, call.name]));
}

/**
 * An item of an input, or of a model's answer.
 * @param {object} found
 * @param {Map<string, string>} names Of functions, by the ids of their calls.
 */
export function item(found, names) {
  const type = found.type ?? 'message';
  if (type === 'message') return message(found);
  if (type === 'function_call') {
    checkCall(found);
    return filled(found, type, { type }, ['namespace', 'caller']);
  }
  if (type === 'function_call_output') {
    checkCall(found);
    const result = {
      type: 'function_call_result',
      name: names.get(found.call_id) ?? found.call_id,
      status: 'completed',
      output: typeof found.output === 'string' ? found.output : found.output.map(part),
    };
    return filled(found, type, result, ['output', 'namespace', 'caller']);
  }
  if (type === 'reasoning') {
    const content = found.summary.map(({ text }) => ({ type: 'input_text', text }));
    const raw = found.content?.map(({ type: kind, text }) => ({ type: kind, text }));
    const reasoning = { type, content, ...(raw ? { rawContent: raw } : {}) };
    return filled(found, type, reasoning, ['summary', 'content']);
  }
  if (type === 'compaction') return filled(found, type, { type });
  if (FIELDS.hosted_calls.includes(type)) return hosted(found, type);
  throw rejected(`an item of type ${type}`);
}

/** What is converted already, what is called otherwise, and the rest as the provider's. */
function filled(found, kind, converted, done = []) {
  const rest = {};
  const table = FIELDS.items[kind];
  for (const [name, value] of Object.entries(found)) {
    if (value === null || name === 'type' || done.includes(name)) continue;
    if (name in table) converted[table[name]] = value;
    else rest[name] = value;
  }
  if (Object.keys(rest).length > 0) converted.providerData = rest;
  return converted;
}

function checkCall(call) {
  if ((call.caller?.type ?? 'direct') !== 'direct') throw rejected('a call that a program made');
  if (call.namespace) throw rejected('a call of a tool in a namespace');
}

function message(found) {
  const role = found.role === 'developer' ? 'system' : found.role;
  let content = found.content;
  if (role === 'system') content = words(content);
  else if (typeof content !== 'string') content = content.map(part);
  else if (role === 'assistant') content = [{ type: 'output_text', text: content }];
  const status = role === 'assistant' ? { status: 'completed' } : {};
  const converted = filled(found, 'message', { type: 'message', ...status }, ['content']);
  return { ...converted, role, content };
}

function words(content) {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('\n');
}

function part(found) {
  const { type, prompt_cache_breakpoint: breakpoint, ...rest } = found;
  const converted = { type };
  const take = (name) => {
    const value = rest[name];
    delete rest[name];
    return value ?? undefined;
  };
  if (type === 'input_text' || type === 'output_text') converted.text = take('text');
  else if (type === 'refusal') converted.refusal = take('refusal');
  else if (type === 'input_image') {
    const [url, id] = [take('image_url'), take('file_id')];
    Object.assign(converted, { image: id ? { id } : url, detail: take('detail') });
  } else if (type === 'input_file') {
    const [data, url, id] = [take('file_data'), take('file_url'), take('file_id')];
    Object.assign(converted, {
      file: id ? { id } : url ? { url } : data,
      filename: take('filename'),
    });
  } else if (type === 'input_audio') {
    const { data, format } = take('input_audio');
    Object.assign(converted, { type: 'audio', audio: data, format });
  } else throw rejected(`a part of a message of type ${type}`);
  if (breakpoint) converted.promptCacheBreakpoint = breakpoint;
  const kept = Object.entries(rest).filter(([, value]) => value !== null && !isNone(value));
  if (kept.length > 0) converted.providerData = Object.fromEntries(kept);
  return defined(converted);
}

function isNone(value) {
  return Array.isArray(value) && value.length === 0;
}

function defined(document) {
  return Object.fromEntries(Object.entries(document).filter(([, value]) => value !== undefined));
}

/** A call that the provider made by itself. */
function hosted(found, type) {
  checkCall(found);
  const name = type === 'image_generation_call' ? 'result' : 'output';
  const output = typeof found[name] === 'string' ? { output: found[name] } : {};
  const call = { type: 'hosted_tool_call', name: type, status: 'completed', ...output };
  const converted = filled(found, 'hosted', call, ['caller', ...('output' in output ? [name] : [])]);
  converted.providerData = { ...converted.providerData, type, id: found.id };
  return converted;
}
