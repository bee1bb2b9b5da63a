// Asks a host; what it is told is printed as JSON. TypeScript checks it, and compiles it.
import { createClient, type Schemas } from '@timestep-ai/timestep/client';

const host = createClient();
const workflow_id = 'to/mars';

const started = await host.POST('/api/workflows/{name}/runs', {
  params: { path: { name: 'ask' } },
  body: { input: { target: 'mars' }, workflow_id },
});

let asked: Schemas['Interruption'] | undefined;
while (asked === undefined) {
  const found = await host.GET('/api/interruptions', { params: { query: { workflow_id } } });
  asked = found.data?.items[0];
}

const decided = await host.POST('/api/workflows/{workflow_id}/resume', {
  params: { path: { workflow_id } },
  body: { edit: { [asked.id]: { target: 'phobos' } }, expect: { [asked.id]: asked.hash ?? '' } },
});

let run: Schemas['Run'] | undefined;
while (run?.status !== 'completed') {
  run = (await host.GET('/api/runs/{run_id}', { params: { path: { run_id: workflow_id } } })).data;
}

const unknown = await host.GET('/api/runs/{run_id}', { params: { path: { run_id: 'nobody' } } });

// What the document does not have is no path, no parameter and no field.
type Checks = [
  // @ts-expect-error
  Schemas['Run']['colour'],
  // @ts-expect-error
  Schemas['Nothing'],
];
const checks: Checks | undefined = undefined;
// @ts-expect-error
const misnamed = () => host.GET('/api/nothing');
// @ts-expect-error
const misused = () => host.GET('/api/runs', { params: { query: { status: 'odd' } } });

console.log(
  JSON.stringify({
    started: started.data?.workflow_id,
    asked: [asked.tool_name, asked.arguments],
    decided: decided.data?.pending,
    output: run.final_output,
    unknown: [unknown.response.status, unknown.error?.detail],
    kept: [checks, misnamed, misused].length,
  }),
);
