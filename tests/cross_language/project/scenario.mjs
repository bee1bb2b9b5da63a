// The run that both languages know: triage hands off to worker, whose second answer makes three
// calls at once, of which two wait for an approval.

import { appendFileSync } from 'node:fs';
import { Agent, run, setTracingDisabled, tool, Usage } from '@openai/agents';

setTracingDisabled(true);

const call = (name, callId, given) => ({
  type: 'function_call',
  name,
  callId,
  arguments: given,
  id: `fc_${callId}`,
  status: 'completed',
});

const said = (text) => [
  {
    type: 'message',
    id: 'msg_1',
    role: 'assistant',
    status: 'completed',
    content: [{ type: 'output_text', text }],
  },
];

const TURNS = [
  [
    {
      type: 'reasoning',
      id: 'rs_1',
      content: [{ type: 'input_text', text: 'Who can do it?' }],
      providerData: { encrypted_content: 'sealed' },
    },
    call('transfer_to_worker', 'call_0', '{}'),
  ],
  [
    call('note', 'call_1', '{"text": "hi"}'),
    call('deploy', 'call_2', '{"size": 1.50, "copies": 2}'),
    call('erase', 'call_3', '{"path": "/é"}'),
  ],
  said('all done'),
];

/** Answers by how many outputs there are; `asked` is what it was given each time. */
class Model {
  asked = [];

  constructor(turns) {
    this.turns = turns;
  }

  async getResponse({ input }) {
    this.asked.push(input);
    const items = typeof input === 'string' ? [] : input;
    const outputs = items.filter(({ type }) => type === 'function_call_result');
    const turn = Math.min(outputs.length, this.turns.length - 1);
    const usage = new Usage({
      requests: 1,
      inputTokens: 10,
      outputTokens: 5,
      totalTokens: 15,
      inputTokensDetails: { cached_tokens: 3 },
      outputTokensDetails: { reasoning_tokens: 2 },
    });
    return { usage, output: this.turns[turn], responseId: `resp_${turn}` };
  }
}

const model = new Model(TURNS);

/** A tool that leaves a line in the file of effects. */
function effect(name, properties, needsApproval, execute) {
  const parameters = {
    type: 'object',
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  };
  return tool({
    name,
    description: '',
    parameters,
    strict: true,
    needsApproval,
    execute: async (given, context) => {
      appendFileSync(process.env.EFFECTS, `javascript ${name} ${context.context.user}\n`);
      return execute(given);
    },
  });
}

const worker = new Agent({
  name: 'worker',
  model,
  tools: [
    effect('note', { text: { type: 'string' } }, false, () => 'noted'),
    effect('deploy', { size: { type: 'number' }, copies: { type: 'number' } }, true, (given) => ({
      deployed: given.size,
    })),
    effect('erase', { path: { type: 'string' } }, true, () => 'erased'),
  ],
});

export const triage = new Agent({ name: 'triage', model, handoffs: [worker] });

const miner = new Agent({
  name: 'miner',
  model: new Model([[call('dig', 'call_2', '{"depth": 3}')], said('found gold')]),
  tools: [effect('dig', { depth: { type: 'number' } }, true, () => 'gold')],
});

/** Asks for an approval within the run of an agent that is its tool. */
export const boss = new Agent({
  name: 'boss',
  model: new Model([[call('mine', 'call_1', '{"input": "gold"}')], said('rich')]),
  tools: [miner.asTool({ toolName: 'mine', toolDescription: '' })],
});

export async function interrupted(agent, context = { user: 'ada' }) {
  return (await run(agent, 'go', { context })).state;
}

export function decide(state, which = ['deploy', 'erase']) {
  for (const asked of state.getInterruptions()) {
    if (!which.includes(asked.name)) continue;
    if (asked.name !== 'erase') state.approve(asked);
    else state.reject(asked, { message: 'not that path' });
  }
}

export async function finished(agent, state) {
  const asked = (agent.model.asked = []);
  const result = await run(agent, state);
  return {
    state: result.state,
    told: {
      output: result.finalOutput,
      agent: result.lastAgent.name,
      usage: {
        requests: result.state.usage.requests,
        total_tokens: result.state.usage.totalTokens,
        cached_tokens: sum(result.state.usage.inputTokensDetails, 'cached_tokens'),
        reasoning_tokens: sum(result.state.usage.outputTokensDetails, 'reasoning_tokens'),
      },
      asked: asked.length,
      outputs: Object.fromEntries(
        asked
          .at(-1)
          .filter(({ type }) => type === 'function_call_result')
          .map(({ callId, output }) => [callId, output.text ?? output]),
      ),
      items: asked.at(-1).map(({ type }) => type),
    },
  };
}

function sum(details, name) {
  return details.reduce((total, one) => total + (one[name] ?? 0), 0);
}
