"""Opens the pages of a host: open."""

from __future__ import annotations

import click

from timestep.cli import output
from timestep.cli.group import as_json
from timestep.cli.reach import page_of_host


@click.command("open")
@click.argument("run", required=False)
@click.option("--print", "only_printed", is_flag=True, help="Only print the address.")
@as_json
def open_(run: str | None, only_printed: bool, as_json: bool) -> None:
    """Open the page of a host, or of a run, in a browser.

    Of the host that TIMESTEP_URL names; else of the one of this machine.
    """
    address = page_of_host(run)
    if not as_json:
        output.say(address)
    is_open = not only_printed and _is_opened(address)
    if as_json:
        output.document({"address": address, "opened": is_open})
    elif not is_open and not only_printed:
        output.say("no browser is found here: open the address in one")


def _is_opened(address: str) -> bool:
    import webbrowser

    return webbrowser.open(address)
