"""Runs the host and looks after its database: serve, migrate, stop, doctor."""

from __future__ import annotations

import contextlib
import sys

import click

from timestep import config
from timestep.cli import output
from timestep.cli.group import as_json, fail
from timestep.cli.reach import refuse_host


@click.command()
def serve() -> None:
    """Run the workflows of ./workflows and serve the HTTP API.

    Until it is stopped.
    """
    refuse_host("serve")

    from timestep.host import server
    from timestep.runtime import garbage_collection

    garbage_collection.as_usual()
    server.serve()


@click.command("migrate")
@click.option("--dry-run", is_flag=True, help="Only tell what would be applied.")
@as_json
def migrate_(dry_run: bool, as_json: bool) -> None:
    """Bring the database to this version's schema."""
    refuse_host("migrate")

    from timestep.database import migrations
    from timestep.database.engines import (
        database_url,
        engine_for,
        existing_database_url,
        system_database_url,
    )

    url = existing_database_url() if dry_run else database_url()
    applied = migrations.apply(engine_for(url), dry_run=dry_run)
    for migration in () if as_json else applied:
        output.say(f"{'would apply' if dry_run else 'applied'} {migration.name}")
    if not applied and not as_json:
        output.say("the schema is up to date")
    if not dry_run:
        from dbos import DBOS

        DBOS.migrate(system_database_url())
    if as_json:
        names = [migration.name for migration in applied]
        output.document({"applied": [] if dry_run else names, "pending": names if dry_run else []})


@click.command()
@as_json
def stop(as_json: bool) -> None:
    """Stop the embedded PostgreSQL.

    A running host waits until it is there again.
    """
    refuse_host("stop")

    from timestep.database.servers import embedded_postgres

    settings = config.read()
    if settings.use_pglite:
        fail("PGlite has no server to stop: it ends with the process that holds it")
    if settings.db_url is not None:
        fail("TIMESTEP_DB_URL names a server that is not Timestep's: stop it as it was started")
    home = settings.home.expanduser().absolute()
    is_stopped = embedded_postgres.stop(home)
    if as_json:
        output.document({"home": str(home), "stopped": is_stopped})
    elif is_stopped:
        output.say(f"stopped the PostgreSQL of {home}: the next command that needs it starts it")
    else:
        output.say(f"no PostgreSQL of {home} runs")


@click.command("doctor")
@as_json
def doctor_(as_json: bool) -> None:
    """Check settings, packages, the database and the entrypoints."""
    refuse_host("doctor")

    from timestep.operations.diagnosis import doctor

    findings = []
    if as_json:
        # Modules of workflows may print when they are imported.
        with contextlib.redirect_stdout(sys.stderr):
            findings = list(doctor.examine())
        output.document({"items": findings})
    else:
        for found in doctor.examine():
            output.finding(found.check, found.mark, found.text)
            findings.append(found)
    problems = sum(found.mark == "problem" for found in findings)
    if problems:
        fail(f"{problems} problem{'s' if problems > 1 else ''} found")
