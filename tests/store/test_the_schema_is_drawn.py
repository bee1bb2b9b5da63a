"""The drawing of the schema in its documentation has each table, and each reference."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

PAGE = Path(__file__).parents[2] / "docs" / "schema.md"

_TABLES = """
    SELECT c.relname FROM pg_class c
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY 1"""

_REFERENCES = """
    SELECT f.relname AS target, c.relname AS source, a.attname AS column, a.attnotnull AS needed
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_class f ON f.oid = k.confrelid
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
    WHERE k.contype = 'f' AND c.relnamespace = 'public'::regnamespace
    ORDER BY 1, 2, 3"""


def drawing(engine: sa.Engine) -> str:
    """The tables of the schema and what each row of one refers to, for Mermaid."""
    lines = ["```mermaid", "erDiagram"]
    with engine.connect() as connection:
        names = connection.exec_driver_sql(_TABLES).scalars().all()
        lines += [f"    {name}" for name in names]
        for row in connection.exec_driver_sql(_REFERENCES):
            one = "||" if row.needed else "|o"
            lines.append(f"    {row.target} {one}--o{{ {row.source} : {row.column}")
    return "\n".join([*lines, "```", ""])


def test_the_golden_drawing_is_the_databases(engine: sa.Engine, renew_golden: bool) -> None:
    before, start, rest = PAGE.read_text().partition("<!-- the drawing -->\n")
    shown, end, after = rest.partition("<!-- end -->\n")
    drawn = drawing(engine)
    if renew_golden:
        PAGE.write_text(f"{before}{start}{drawn}{end}{after}")
    else:
        assert shown == drawn
