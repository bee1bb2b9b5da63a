"""The TypeScript client is made of the HTTP API's description, and asks a running host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import timestep
from tests.cross_language.documented_programs import write_clients
from tests.cross_language.javascript import compile_typescript, ran
from tests.support.host_process import Host, own_host
from timestep import config
from timestep.web.app import create_app

__all__ = ["own_host"]

TYPES = Path(timestep.__file__).parent / "js" / "openapi.d.ts"
SECRET = "ts_" + 43 * "x"


def test_its_types_are_golden(packages: Path, tmp_path: Path, renew_golden: bool) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(create_app(config.read(), {}).openapi()))
    made = tmp_path / "openapi.d.ts"
    command = "node_modules/openapi-typescript/bin/cli.js"
    # Else what has a default would have to be sent.
    ran(packages, command, str(document), "-o", str(made), "--default-non-nullable=false")
    if renew_golden:
        TYPES.write_text(made.read_text())
    else:
        assert made.read_text() == TYPES.read_text(), "pytest --renew-golden -k golden"


def test_it_is_typed_and_asks_a_host(own_host: Host, packages: Path) -> None:
    written = write_clients(packages)
    compile_typescript(packages, "client.ts", *written)
    host = own_host.start()
    for program in written:
        said = ran(packages, f"made/{program[:-3]}.js", HOST=host.url).splitlines()[-1]
        assert host.output(json.loads(said)["workflow_id"]) == "[offline model] hello tides"
    told = json.loads(ran(packages, "made/client.js", TIMESTEP_URL=host.url))
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
    said = ran(packages, "--input-type=module", "--eval", code)
    assert told in said
    assert SECRET not in said
