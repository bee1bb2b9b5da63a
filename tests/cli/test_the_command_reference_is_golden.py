"""`docs/command-line.md` has each command, with its arguments, its options and an example."""

from __future__ import annotations

from tests.support import command_reference
from tests.support.documented_examples import ROOT


def test_the_golden_reference_is_the_commands(renew_golden: bool) -> None:
    page = ROOT / "docs" / "command-line.md"
    before, start, rest = page.read_text().partition("<!-- the commands -->\n")
    shown, end, after = rest.partition("<!-- end -->\n")
    if renew_golden:
        page.write_text(f"{before}{start}{command_reference.text()}{end}{after}")
    else:
        assert shown == command_reference.text(), "pytest -n0 --renew-golden on this file"
