"""Lists agents, and draws who may hand over to whom: agents, graph."""

from __future__ import annotations

import click

from timestep.cli import listings, output
from timestep.cli.group import as_json
from timestep.cli.reach import ask
from timestep.operations.queries.pagination import Page


@click.command()
@as_json
def agents(as_json: bool) -> None:
    """List the agents that runs had, each in its newest version."""
    found = ask(lambda host: host.agents())
    output.document(Page(found, None)) if as_json else listings.agents(found)


@click.command()
@click.argument("entrypoint")
@as_json
def graph(entrypoint: str, as_json: bool) -> None:
    """Draw who may hand over to whom, as a Mermaid flowchart.

    From the agents on that the newest workflow of ENTRYPOINT ran.
    """
    drawn = ask(lambda host: host.graph(entrypoint))
    output.document({"mermaid": drawn}) if as_json else output.say_lines(drawn)
