"""Runs the host and looks after its database: serve, migrate, doctor."""

from __future__ import annotations

import click
from dbos import DBOS

from timestep.cli import doctor, output
from timestep.cli.group import fail
from timestep.database import migrations
from timestep.database.engines import database_url, engine_for, system_database_url


@click.command()
def serve() -> None:
    """Run the workflows of ./workflows and serve the HTTP API until stopped."""
    from timestep.host import server

    server.serve()


@click.command("migrate")
@click.option("--dry-run", is_flag=True, help="Only tell what would be applied.")
def migrate_(dry_run: bool) -> None:
    """Bring the database to this version's schema."""
    url = database_url()
    applied = migrations.apply(engine_for(url), dry_run=dry_run)
    for migration in applied:
        output.say(f"{'would apply' if dry_run else 'applied'} {migration.name}")
    if not applied:
        output.say("the schema is up to date")
    if not dry_run:
        DBOS.migrate(system_database_url())


@click.command("doctor")
def doctor_() -> None:
    """Check settings, packages, the database and the entrypoints."""

    problems = 0
    for found in doctor.examine():
        output.finding(found.check, found.mark, found.text)
        problems += found.mark == "problem"
    if problems:
        fail(f"{problems} problem{'s' if problems > 1 else ''} found")
