/**
 * A state that the Python SDK saved, as that of `@openai/agents`.
 *
 * What becomes of each field, and what is lost or refused, is said in
 * `timestep/run_states/from_javascript.py`, which converts the other way; both take the names from
 * `state_fields.json`.
 */

import { StateError } from './errors.js';
import { FIELDS, item, namesOfCalls, rejected, renamed } from './items.js';

const VERSIONS = FIELDS.versions.python;
const RUN_AGAIN = { type: 'next_step_run_again' };
const BEHAVIORS = { reject_content: 'rejectContent', raise_exception: 'throwException' };

/**
 * @param {object} document What `RunState.to_json()` of openai-agents gave. It stays as it is.
 * @returns {object} What `RunState.fromString()` of `@openai/agents` reads.
 * @throws {StateError} `too_new`, `foreign` or `corrupt`.
 */
export function javascriptStateFromPython(document) {
  checkVersion(document);
  try {
    return state(document);
  } catch (error) {
    if (error instanceof StateError) throw error;
    const message = `the state of openai-agents cannot be converted: ${error.message}`;
    throw new StateError('corrupt', message, { cause: error });
  }
}

function checkVersion(document) {
  const version = document?.$schemaVersion;
  if (typeof version !== 'string' || !/^\d+\.\d+$/.test(version)) {
    const shown = JSON.stringify(version);
    throw new StateError('corrupt', `this is no state of openai-agents: its $schemaVersion is ${shown}`);
  }
  const has = `the state of openai-agents has schema version ${version}`;
  if (compared(version, VERSIONS.newest) > 0) {
    throw new StateError(
      'too_new',
      `${has}; this version of Timestep converts up to ${VERSIONS.newest}: upgrade @timestep-ai/timestep`,
    );
  }
  if (compared(version, VERSIONS.oldest) < 0) {
    throw new StateError(
      'foreign',
      `${has}; this version of Timestep converts from ${VERSIONS.oldest} on: ` +
        'load it with a newer openai-agents and save it again',
    );
  }
}

function compared(left, right) {
  const [major, minor] = left.split('.').map(Number);
  const [otherMajor, otherMinor] = right.split('.').map(Number);
  return major - otherMajor || minor - otherMinor;
}

function state(document) {
  const names = namesOfCalls(document);
  const step = document.current_step;
  const answer = step?.type === 'next_step_interruption' ? document.last_processed_response : null;
  const last = document.last_model_response;
  return {
    ...renamed('state', document),
    $schemaVersion: FIELDS.versions.javascript.written,
    maxTurns: document.max_turns,
    currentAgent: agent(document.current_agent),
    originalInput: input(document.original_input, names),
    modelResponses: document.model_responses.map((found) => response(found, names)),
    ...(last ? { lastModelResponse: response(last, names) } : {}),
    context: context(document),
    generatedItems: document.generated_items.map((found) => runItem(found, names)),
    currentStep: currentStep(document, names),
    ...(answer ? { lastProcessedResponse: processed(answer, names) } : {}),
    pendingAgentToolRuns: Object.fromEntries(
      runsWithin(answer).map(({ tool_call: call, agent_run_state: inner }) => [
        `${stateKey(call.name)}:${call.call_id}`,
        JSON.stringify(javascriptStateFromPython(inner)),
      ]),
    ),
    toolInputGuardrailResults: document.tool_input_guardrail_results.map(toolCheck),
    toolOutputGuardrailResults: document.tool_output_guardrail_results.map(toolCheck),
    trace: document.trace ? { group_id: null, metadata: {}, ...document.trace } : null,
    // The model has answered, so the input has been checked.
    initialInputGuardrailsCompleted: document.model_responses.length > 0,
    currentTurnInProgress: answer !== null,
    noActiveAgentRun: false,
    currentTurnPersistedItemCount: 0,
  };
}

function input(given, names) {
  return typeof given === 'string' ? given : given.map((found) => item(found, names));
}

function agent(reference) {
  if (reference.identity && reference.identity !== reference.name) {
    throw new StateError(
      'foreign',
      `the run has two agents named ${JSON.stringify(reference.name)}, which the SDKs tell apart ` +
        'in different ways: give each a name of its own',
    );
  }
  return { name: reference.name };
}

function currentStep(document, names) {
  const step = document.current_step;
  if (step === null) {
    if (document.model_responses.length === 0) return RUN_AGAIN;
    return { type: 'next_step_final_output', output: lastText(document) };
  }
  if (step.type === 'next_step_interruption') {
    if (step.data.response_accepted) throw rejected("a model's answer that is being taken in");
    const interruptions = step.data.interruptions.map((found) => runItem(found, names));
    return { type: step.type, data: { interruptions } };
  }
  if (step.type !== RUN_AGAIN.type) throw rejected(`a next step of type ${step.type}`);
  return RUN_AGAIN;
}

/** What a run that is over said last: the SDK's own document does not have its final output. */
function lastText(document) {
  const last = document.generated_items.at(-1);
  if (last?.type === 'message_output_item') {
    return last.raw_item.content.map((part) => part.text ?? part.refusal ?? '').join('');
  }
  return text(last?.output ?? '');
}

function text(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function runItem(found, names) {
  // What the provider lists is, in JavaScript, a call like others of its own.
  const isHosted = FIELDS.hosted_call_items.includes(found.raw_item?.type);
  const type = isHosted ? 'tool_call_item' : found.type;
  if (!FIELDS.run_item_types.includes(type)) throw rejected(`an item of type ${found.type}`);
  const converted = {
    ...renamed('run_item', found),
    type,
    rawItem: item(found.raw_item, names),
  };
  if (type === 'handoff_output_item') {
    converted.sourceAgent = agent(found.source_agent);
    converted.targetAgent = agent(found.target_agent);
  } else {
    converted.agent = agent(found.agent);
  }
  if ('output' in found) converted.output = text(found.output);
  if (type === 'tool_approval_item') {
    const { name } = found.raw_item;
    const key = found.tool_lookup_key;
    if (key && (key.kind !== 'bare' || key.name !== name)) {
      throw rejected(`a call of ${name}, a tool of a namespace or loaded by a search`);
    }
    converted.toolName = name;
    converted.functionToolStateKey = stateKey(name);
  }
  return converted;
}

function stateKey(name) {
  return JSON.stringify(['bare', name]);
}

function response(found, names) {
  return {
    ...renamed('model_response', found),
    usage: usage(found.usage),
    output: found.output.map((output) => item(output, names)),
  };
}

function usage(found) {
  const converted = {
    ...renamed('usage', found),
    inputTokensDetails: details(found.input_tokens_details),
    outputTokensDetails: details(found.output_tokens_details),
  };
  if (found.request_usage_entries?.length) {
    converted.requestUsageEntries = found.request_usage_entries.map((entry) => ({
      ...renamed('usage', entry),
      inputTokensDetails: counts(entry.input_tokens_details ?? {}),
      outputTokensDetails: counts(entry.output_tokens_details ?? {}),
    }));
  }
  return converted;
}

function details(found) {
  return (Array.isArray(found) ? found : [found ?? {}]).map(counts);
}

function counts(found) {
  return Object.fromEntries(Object.entries(found).filter(([, count]) => typeof count === 'number'));
}

function processed(answer, names) {
  return {
    ...renamed('processed_response', answer),
    newItems: answer.new_items.map((found) => runItem(found, names)),
    functions: answer.functions.map((call) => toolFunction(call, answer, names)),
    handoffs: [],
    functionToolsNotFound: [],
    computerActions: [],
    shellActions: [],
    applyPatchActions: [],
    mcpApprovalRequests: [],
  };
}

function toolFunction(call, answer, names) {
  const binding = answer.mcp_tool_bindings?.[call.tool_call.call_id];
  return {
    toolCall: item(call.tool_call, names),
    tool: { type: 'function', name: call.tool.name },
    mcpToolBinding: binding
      ? { serverName: binding[0], toolName: binding[1], serverIndex: binding[2] }
      : null,
  };
}

/** The calls of agents that are tools, and wait for an approval themselves. */
function runsWithin(answer) {
  return (answer?.functions ?? []).filter((call) => call.agent_run_state);
}

function toolCheck(result) {
  const { behavior } = result.output;
  const type = BEHAVIORS[behavior.type] ?? behavior.type;
  return { ...result, output: { ...result.output, behavior: { ...behavior, type } } };
}

function context(document) {
  const found = document.context;
  return {
    ...renamed('context', found),
    context: found.context ?? {},
    usage: usage(found.usage),
    approvals: {},
    functionApprovals: decisions(approvals(document)),
  };
}

/** What was decided, for the runs of agents that are tools as well: JavaScript has it in one. */
function approvals(document) {
  const within = runsWithin(document.last_processed_response);
  const inner = within.flatMap((call) => approvals(call.agent_run_state));
  return [...(document.context.function_tool_approvals ?? []), ...inner];
}

function decisions(approved) {
  const owners = new Map();
  for (const { agent: owner, tool_key: key, decision } of approved) {
    const { name } = agent(owner);
    if (/[.:]/.test(key)) throw rejected(`a decision on ${key}, a tool of a namespace`);
    if (!owners.has(name)) owners.set(name, { agentIdentity: name, approvals: {} });
    owners.get(name).approvals[stateKey(key)] = renamed('decision', decision);
  }
  return [...owners.values()];
}
