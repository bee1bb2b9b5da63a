/** A state as JSONB holds it: whole, or what changed since the checkpoint before. */

/** The document, or what stands for it where JSONB cannot hold it; see `timestep/serialization/values.py`. */
export function storable(document) {
  const text = JSON.stringify(document);
  return /\\u0000|\\ud[89a-f]/.test(text) ? JSON.stringify({ $text: text }) : text;
}

function restored(stored) {
  const isText =
    stored !== null &&
    typeof stored === 'object' &&
    typeof stored.$text === 'string' &&
    Object.keys(stored).length === 1;
  return isText ? JSON.parse(stored.$text) : stored;
}

/**
 * The whole state that rows of `run_states` stand for.
 * @param {object[]} rows A row, and those that it is a change of, one after the other.
 */
export function folded(rows) {
  const documents = rows.map((row) => restored(row.state_data));
  return documents.reduceRight((state, change) => patched(state, change));
}

const TWINS = { session_items: 'generated_items' };
const REPEATED = { last_model_response: 'model_responses' };

/** The document that a change makes of another; see `timestep/serialization/json_delta.py`. */
function patched(old, delta) {
  const { set = {}, unset = [], extend = {}, alike = [], cut = {}, change = {}, repeat = [] } = delta;
  const changed = { ...old, ...set };
  for (const key of unset) delete changed[key];
  for (const [key, tail] of Object.entries(extend)) changed[key] = [...old[key], ...tail];
  for (const key of alike) changed[key] = [...old[key], ...extend[TWINS[key]]];
  for (const [key, length] of Object.entries(cut)) changed[key] = old[key].slice(0, length);
  for (const [key, inner] of Object.entries(change)) changed[key] = patched(old[key], inner);
  for (const key of repeat) changed[key] = changed[REPEATED[key]].at(-1);
  return changed;
}
