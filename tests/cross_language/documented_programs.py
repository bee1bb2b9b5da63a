"""The TypeScript programs of the documents, with what a reader puts in their places."""

from __future__ import annotations

from pathlib import Path

from tests.support.documented_examples import examples

README = "timestep/js/README.md"
CLIENTS = {"docs/clients.md": "clients.ts", README: "readme_clients.ts"}
STATES = {"docs/run-states.md": "states.ts", README: "readme_states.ts"}
"""Where the program of each page is written to."""

SESSIONS = {
    "docs/run-states.md": "the id that the Python store was given",
    README: "chat 1",
}
"""The sessions whose states the pages' programs go on with."""

_ENVIRONMENT = "declare const process: { env: Record<string, string> };\n"

_CLIENT = {
    "'https://runs.example.com'": "process.env['HOST']",
    "'research'": "'greet'",
    "topic: 'tides'": "name: 'tides'",
}

_STATE = {"'postgresql://user:pass@localhost/timestep'": "process.env['DATABASE']"}

_AGENT = "new Agent({ name: 'assistant'"

_TOOL = """
import { tool } from '@openai/agents';
const refund = tool({
  name: 'refund',
  description: '',
  parameters: {
    type: 'object',
    properties: { order: { type: 'string' } },
    required: ['order'],
    additionalProperties: false,
  },
  strict: true,
  needsApproval: true,
  execute: async (given) => `refunded ${(given as { order: string }).order}`,
});
"""


def write_clients(folder: Path) -> list[str]:
    """Write the programs that ask a host, whose URL is `HOST`, into a folder: their names."""
    for page, name in CLIENTS.items():
        program = f"const token = undefined;\n{_placed(page, 'createClient', _CLIENT)}"
        (folder / name).write_text(f"{program}console.log(JSON.stringify(data ?? error));\n")
    return list(CLIENTS.values())


def write_states(folder: Path) -> list[str]:
    """Write the programs that go on with a state of `DATABASE` into a folder: their names."""
    for page, name in STATES.items():
        # The tools of the run are in the program that goes on with it, as the page says.
        head, agent, rest = _placed(page, "createRunStateStore", _STATE).partition(_AGENT)
        assert agent, page
        program = f"{_TOOL}{head}{agent}, tools: [refund]{rest}"
        (folder / name).write_text(f"{program}console.log(JSON.stringify(result.finalOutput));\n")
    return list(STATES.values())


def _placed(page: str, function: str, places: dict[str, str]) -> str:
    """The example of a page that calls a function, with other text in some places."""
    (example,) = (text for text in examples(page, "typescript") if f"{function}(" in text)
    for shown, given in places.items():
        assert example.count(shown) == 1, f"{page}: {shown}"
        example = example.replace(shown, given)
    return _ENVIRONMENT + example
