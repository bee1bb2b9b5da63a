"""Makes and revokes tokens of the HTTP API, and tells who did what: tokens, audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from timestep.cli import access_tables, output
from timestep.cli.group import as_json
from timestep.cli.moments import moment, span
from timestep.cli.reach import ask
from timestep.operations.queries.pagination import Page

if TYPE_CHECKING:
    import datetime

    from timestep.cli.reach import Reached
    from timestep.config import Role


@click.group("tokens")
def tokens_() -> None:
    """Make, list and revoke tokens of the HTTP API."""


@tokens_.command()
@click.argument("name")
@click.option("--role", metavar="ROLE", required=True,
              help="viewer reads; operator starts and decides; admin sees the audit.")  # fmt: skip
@click.option("--expires", metavar="TIME", callback=span, help="After 12h, 30d, 8w; else never.")
@as_json
def create(name: str, role: Role, expires: datetime.timedelta | None, as_json: bool) -> None:
    """Make a token, and print it: it is kept nowhere, and shown this once."""
    token, secret = ask(lambda host: host.create_token(name, role=role, expires=expires))
    if as_json:
        output.document({**vars(token), "token": secret})
    else:
        output.tell(f"The token of {name}, who is {role}. It is not shown again:")
        output.say(secret)


@tokens_.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List the tokens, the oldest first, without what they are."""
    found = ask(lambda host: host.tokens())
    if as_json:
        output.document(Page(found, None))
    else:
        access_tables.tokens(found)


@tokens_.command()
@click.argument("name")
@as_json
def revoke(name: str, as_json: bool) -> None:
    """Let the token of NAME, or with this id, be none any more; its logins and streams end."""
    token = ask(lambda host: host.revoke_token(name))
    if as_json:
        output.document(token)
    else:
        output.say(f"revoked the token of {token.name}")


@click.command("audit")
@click.option("--who", metavar="NAME", help="Only what this one did.")
@click.option("--act", metavar="ACT", help="Only acts of this kind, such as start or decide.")
@click.option("--subject", metavar="ID", help="Only about this workflow, question or token.")
@click.option("--since", metavar="TIME", callback=moment,
              help="Only since then: 12h, 30d, 8w ago, or a day or time.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="So many at most; by default 50, or all.")
@click.option("--json", "as_json", is_flag=True, help="All of them, a line of JSON each.")
@click.option("--csv", "as_csv", is_flag=True, help="All of them, as CSV.")
def audit_(
    who: str | None,
    act: str | None,
    subject: str | None,
    since: datetime.datetime | None,
    limit: int | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Tell who did what, newest first."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two forms: give one")
    most = limit if as_json or as_csv else limit or _SHOWN

    from timestep.cli.csv_lines import CsvLines
    from timestep.operations.access.records import AuditEntry

    async def work(host: Reached) -> None:
        found = host.audit(who=who, act=act, subject=subject, since=since, limit=most)
        if as_json:
            async for entry in found:
                output.document(entry)
        elif as_csv:
            table = CsvLines(AuditEntry)
            async for entry in found:
                table.row(entry)
        else:
            access_tables.audit([entry async for entry in found])

    ask(work)


_SHOWN = 50
