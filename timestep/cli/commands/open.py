"""Opens the pages of a host: open."""

from __future__ import annotations

import click

from timestep.cli import output
from timestep.cli.reach import page_of_host


@click.command("open")
@click.argument("run", required=False)
@click.option("--print", "only_printed", is_flag=True, help="Only print the address.")
def open_(run: str | None, only_printed: bool) -> None:
    """Open the page of a host, or of a run, in a browser.

    Of the host that TIMESTEP_URL names; else of the one of this machine.
    """
    address = page_of_host(run)
    output.say(address)
    if only_printed:
        return

    import webbrowser

    if not webbrowser.open(address):
        output.say("no browser is found here: open the address in one")
