"""The statement that commits a step, as `docs/step_commit.sql` shows it to readers."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from timestep.store import step_commit

SHOWN = Path(__file__).parents[2] / "docs" / "step_commit.sql"

HEADER = """\
-- What one step writes, in one statement and one commit: the rows of a model's answer, and those
-- of a tool call's outcome, each together with DBOS's own record of the step (the last CTE).
--
-- `holder` locks the workflow's row, `mine` is empty unless the caller's execution still owns the
-- workflow, or it was cancelled and nobody owns it. Every insert selects from `mine`. The rows come
-- as JSON, a parameter a table.
--
-- Made from timestep/store/step_commit.py, with line breaks for reading. To make it anew:
--     pytest tests/store/test_step_commit_is_the_golden_file.py --renew-golden
"""

STEPS = {
    "A model's answer: the response, its items and calls, what it used, where the run is now, and "
    "the state before the turn": (
        "model_responses",
        "run_items",
        "tool_calls",
        "request_usage_entries",
        "runs",
        "run_states",
    ),
    "A tool call's outcome: the call, and the item that the model is shown": (
        "tool_calls",
        "run_items",
    ),
}
"""What each statement is of, and the tables that the step writes."""

_CLAUSES = {"SELECT", "FROM", "WHERE", "JOIN", "GROUP", "ON", "RETURNING"}


def test_the_documentation_shows_the_statement(renew_golden: bool) -> None:
    made = HEADER + "".join(
        f"\n{textwrap.fill(title + '.', 98, initial_indent='-- ', subsequent_indent='-- ')}\n"
        f"{readable(step_commit.statement(tables, 'dbos', is_joint=True, is_outcome=True))};\n"
        for title, tables in STEPS.items()
    )
    if renew_golden:
        SHOWN.write_text(made)
    assert SHOWN.read_text() == made


def readable(sql: str) -> str:
    """A statement of CTEs with a line a clause."""
    clauses, depth = [""], 0
    for word in sql.split():
        before = clauses[-1]
        if depth == 0:
            # The next CTE, or what comes after the last one.
            is_new = before.endswith("),") or (before.endswith(")") and word == "SELECT")
        else:
            is_new = depth == 1 and word in _CLAUSES and not before.endswith("DISTINCT")
            is_new &= not before.startswith("SELECT")
        if is_new:
            clauses.append("    " * depth + word)
        else:
            clauses[-1] = f"{before} {word}" if before else word
        depth += word.count("(") - word.count(")")
    return "\n".join(line for clause in clauses for line in _wrapped(clause))


def _wrapped(clause: str) -> list[str]:
    """Lines that end between two columns, values or conditions."""
    text = clause.strip()
    indent = " " * (len(clause) - len(text))
    found = textwrap.wrap(
        re.sub(r"(?<!,) (?!AND )", "\0", text),
        98,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in found]
