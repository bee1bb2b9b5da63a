"""The TypeScript client is made of the HTTP API's description, and asks a running host."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import timestep
from tests.cross_language.javascript import node_command
from tests.support.host_process import Host, own_host
from timestep import config
from timestep.web.app import create_app

__all__ = ["own_host"]

TYPES = Path(timestep.__file__).parent / "js" / "openapi.d.ts"
SECRET = "ts_" + 43 * "x"


def node(packages: Path, *arguments: str, **environment: str) -> str:
    """What a program of the project prints."""
    kept = {name: value for name, value in os.environ.items() if "TIMESTEP" not in name}
    done = subprocess.run(
        [*node_command(), *arguments],
        cwd=packages,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_types_are_golden(packages: Path, tmp_path: Path, renew_golden: bool) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(create_app(config.read(), {}).openapi()))
    made = tmp_path / "openapi.d.ts"
    command = "node_modules/openapi-typescript/bin/cli.js"
    # Else what has a default would have to be sent.
    node(packages, command, str(document), "-o", str(made), "--default-non-nullable=false")
    if renew_golden:
        TYPES.write_text(made.read_text())
    else:
        assert made.read_text() == TYPES.read_text(), "pytest --renew-golden -k golden"


def documented() -> str:
    """A program with the example of the documentation, which prints what it is answered."""
    page = Path(__file__).parents[2] / "docs" / "clients.md"
    (example,) = re.findall(
        r"^```typescript\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE
    )
    for shown, given in {
        "'https://runs.example.com'": "process.env['HOST']",
        "'research'": "'greet'",
        "topic: 'tides'": "name: 'tides'",
    }.items():
        assert example.count(shown) == 1, shown
        example = example.replace(shown, given)
    around = "declare const process: { env: Record<string, string> };\nconst token = undefined;\n"
    return f"{around}{example}console.log(JSON.stringify(data ?? error));\n"


def test_it_is_typed_and_asks_a_host(own_host: Host, packages: Path, tmp_path: Path) -> None:
    options = "--strict --module nodenext --target es2022 --lib es2023,dom,dom.iterable"
    compiler = "node_modules/typescript/bin/tsc"
    (packages / "documented.ts").write_text(documented())
    programs = ("client.ts", "documented.ts")
    node(packages, compiler, *programs, *options.split(), "--outDir", "made")
    host = own_host.start()
    told = json.loads(node(packages, "made/documented.js", HOST=host.url))
    assert host.output(told["workflow_id"]) == "[offline model] hello tides"
    told = json.loads(node(packages, "made/client.js", TIMESTEP_URL=host.url))
    assert told == {
        "started": "to/mars",
        "asked": ["launch", {"target": "mars"}],
        "decided": [],
        "output": "[offline model] launched phobos",
        "unknown": [404, "there is no run and no workflow 'nobody': see `timestep runs`"],
        "kept": 3,
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("{}", "no host is named"),
        ("{ url: 'runs.example.com' }", "is not a URL"),
        (f"{{ url: 'https://ann:{SECRET}@runs.example.com' }}", "a user or a password"),
        (f"{{ url: 'http://runs.example.com', token: '{SECRET}' }}", "plain http"),
        (f"{{ url: 'https://runs.example.com', token: '{SECRET}\\n' }}", "no token has"),
    ],
)
def test_what_it_may_not_send_is_refused(packages: Path, options: str, told: str) -> None:
    code = f"""
        import {{ createClient }} from '@timestep-ai/timestep/client';
        createClient({{ url: 'http://localhost:1', token: '{SECRET}' }});
        try {{ createClient({options}); }} catch (error) {{ console.log(String(error)); }}
    """
    said = node(packages, "--input-type=module", "--eval", code)
    assert told in said
    assert SECRET not in said
