"""Reads what people are asked, with all that they need to decide it; and what they decided."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from timestep.approvals import edited_arguments
from timestep.errors import UnknownInterruptionError
from timestep.journal.fail_fast_read import reading
from timestep.operations.access import acting
from timestep.operations.arguments import check_document, check_filter
from timestep.operations.overview import led_to
from timestep.operations.overview.led_to import LedTo
from timestep.operations.overview.questions import (
    Asking,
    Document,
    Entry,
    Piece,
    Question,
    Waiting,
)
from timestep.operations.queries import executions
from timestep.operations.queries.interruptions import ended_workflows
from timestep.operations.queries.pagination import (
    Page,
    page_of,
    page_size,
    run_place,
    session_place,
)
from timestep.runtime import terminal
from timestep.runtime.terminal import quoted
from timestep.store.reads.overview import inbox as store

WORKFLOWS = 20
"""Workflows of a page."""
EACH = 20
"""Questions of each of them that a page has; of one workflow alone, `MOST`."""
MOST = 200


async def count() -> int:
    """How many questions wait for people, up to 100.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    return await asyncio.to_thread(lambda: reading(store.count))


async def waiting(*, workflow_id: str | None = None, cursor: str | None = None) -> Page[Waiting]:
    """The workflows that wait for people, which waits longest first, with all that they ask.

    Args:
        workflow_id: Only this one.
        cursor: The `next_cursor` of an earlier page.

    Raises:
        InvalidQueryError: The filter or the cursor cannot be used.
        DatabaseError: The database refused, or is away.
    """
    check_filter("workflow_id", workflow_id)
    after = session_place(cursor)

    def read(connection: Any) -> tuple[list[store.Row], list[store.Row], LedTo]:
        found = store.workflows(
            connection, workflow_id=workflow_id, after=after, limit=WORKFLOWS + 1
        )
        ids = [row["workflow_id"] for row in found[:WORKFLOWS]]
        asked = store.of_workflows(connection, ids, EACH if workflow_id is None else MOST)
        return found, asked, led_to.read(connection, asked)

    def work() -> Page[Waiting]:
        found, asked, before = reading(read)
        page = page_of(found, WORKFLOWS, lambda row: [row["since"].isoformat(), row["workflow_id"]])
        return Page(_waiting(page.items, asked, before), page.next_cursor)

    return await asyncio.to_thread(work)


def _waiting(rows: Sequence[store.Row], asked: Sequence[store.Row], before: LedTo) -> list[Waiting]:
    ids = [row["workflow_id"] for row in rows]
    ended = ended_workflows(ids)
    standing = executions.of_workflows(ids) if ids else {}
    starts = reading(lambda connection: store.starts(connection, ids)) if ids else []
    started = {row["workflow_id"]: row for row in starts}
    made = []
    for row in rows:
        id_ = row["workflow_id"]
        own = [one for one in asked if one["workflow_id"] == id_]
        if not own:
            continue  # It was decided while this was read.
        start = started.get(id_, {"who": None, "at": None, "act": None})
        execution = standing.get(id_)
        made.append(
            Waiting(
                workflow_id=id_,
                workflow_name=own[0]["workflow_name"],
                session_id=own[0]["session_id"],
                since=row["since"],
                count=row["questions"],
                started_by=start["who"],
                started_at=start["at"],
                is_fork=start["act"] == "fork",
                closed=ended.get(id_),
                obstacle=execution.obstacle if execution is not None else None,
                runs=_asking(own, before),
            )
        )
    return made


def _asking(rows: Sequence[store.Row], before: LedTo) -> list[Asking]:
    runs: dict[uuid.UUID, list[store.Row]] = {}
    for row in rows:
        runs.setdefault(row["run_id"], []).append(row)
    made = []
    for run_id, own in runs.items():
        session_id, session = before.session(run_id)
        made.append(
            Asking(
                run_id=str(run_id),
                agent_name=own[0]["agent_name"],
                outer_agent_name=own[0]["outer_agent_name"],
                session_id=session_id,
                session=session,
                given=before.given(run_id),
                before=before.items(run_id),
                questions=[_question(row) for row in own],
            )
        )
    return made


async def questions(ids: Collection[str]) -> list[Question]:
    """Questions by their ids, decided or not, oldest first, with the audit's entries of them.

    Raises:
        UnknownInterruptionError: One of them is no question's.
        DatabaseError: The database refused, or is away.
    """
    wanted = [_id(one) for one in ids]
    found = await asyncio.to_thread(lambda: reading(lambda c: store.named(c, wanted)))
    missing = set(wanted) - {row["id"] for row in found}
    if missing:
        raise _unknown(str(missing.pop()))
    return await asyncio.to_thread(lambda: _with_entries(found))


async def obstacles(questions: Collection[Question]) -> dict[str, str]:
    """Why nobody, or maybe nobody, goes on with the workflows of questions, and what helps.

    Returns:
        That by the ids of workflows, without those that have ended, or that somebody goes on with.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    ids = {one.workflow_id for one in questions if one.workflow_id is not None}
    if not ids:
        return {}
    found = await asyncio.to_thread(lambda: executions.of_workflows(ids))
    return {id_: one.obstacle for id_, one in found.items() if id_ and one.obstacle}


async def decided(*, workflow_id: str | None = None, cursor: str | None = None) -> Page[Question]:
    """What was decided, what was decided last first, with what the audit says of it.

    Args:
        workflow_id: Only what this one asked.
        cursor: The `next_cursor` of an earlier page.

    Raises:
        InvalidQueryError: The filter or the cursor cannot be used.
        DatabaseError: The database refused, or is away.
    """
    check_filter("workflow_id", workflow_id)
    size, before = page_size(50), run_place(cursor)

    def work() -> Page[Question]:
        rows = reading(
            lambda connection: store.decided(
                connection, workflow_id=workflow_id, before=before, limit=size + 1
            )
        )
        page = page_of(rows, size, lambda row: [row["resolved_at"].isoformat(), str(row["id"])])
        return Page(_with_entries(page.items), page.next_cursor)

    return await asyncio.to_thread(work)


async def schema(id_: str) -> Any:
    """The JSON schema of the call that a question is about; None: none is recorded.

    Raises:
        UnknownInterruptionError: There is no such question.
        DatabaseError: The database refused, or is away.
    """
    return await asyncio.to_thread(lambda: reading(lambda c: store.schema(c, _id(id_))))


async def check_edit(id_: str, arguments: dict[str, Any]) -> None:
    """See whether a call can be made with other arguments, as `resume_workflow(edit=…)` does.

    Args:
        id_: The question about the call.
        arguments: What a person gives instead of the model's.

    Raises:
        InvalidInputError: They are nested too deeply, or the call cannot be edited.
        InvalidArgumentsError: They do not fit the tool's JSON schema: `fields` says where.
        UnknownInterruptionError: There is no such question.
        DatabaseError: The database refused, or is away.
    """
    check_document("what is edited", arguments)
    wanted = _id(id_)

    def work() -> None:
        rows = reading(lambda connection: store.named(connection, [wanted]))
        known = reading(lambda connection: store.schema(connection, wanted))
        if not rows:
            raise _unknown(id_)
        edited_arguments.checked({id_: ({**rows[0], "arguments_schema": known}, arguments)})

    await asyncio.to_thread(work)


async def arguments(id_: str) -> str:
    """The whole arguments of the call that a question is about, as JSON text.

    Raises:
        UnknownInterruptionError: There is no such question.
        DatabaseError: The database refused, or is away.
    """
    found = await asyncio.to_thread(lambda: reading(lambda c: store.arguments(c, _id(id_))))
    if found is None:
        raise _unknown(id_)
    return found


def _with_entries(rows: Sequence[store.Row]) -> list[Question]:
    done = [str(row["id"]) for row in rows if row["resolved_at"] is not None]
    entries: dict[str, Entry] = {}
    for row in reading(lambda connection: store.entries(connection, done)) if done else ():
        for told in row["details"].get("decisions", ()):
            is_nobody = row["who"] == acting.NOBODY
            is_page = bool(row["details"].get("page"))
            entries[told["id"]] = Entry(
                who=row["who"],
                is_nobody=is_nobody,
                way=acting.way(row["via"], is_page=is_page, is_nobody=is_nobody),
                address=row["address"],
                machine=row["machine"],
                seen=told.get("seen"),
                is_link=bool(told.get("link")),
            )
    return [_question(row, entries.get(str(row["id"]))) for row in rows]


def _question(row: store.Row, entry: Entry | None = None) -> Question:
    apart = ("id", "run_id", "parent_run_id", "not_edited", "entry")
    documents = ["arguments", "resolution_arguments", "resolution_output"]
    found: dict[str, Any] = {name: _document(row, name) for name in documents}
    names = [name for name in Question.__dataclass_fields__ if name not in (*apart, *documents)]
    return Question(
        **{name: row[name] for name in names},
        **found,
        id=str(row["id"]),
        run_id=str(row["run_id"]),
        parent_run_id=None if row["parent_run_id"] is None else str(row["parent_run_id"]),
        not_edited=edited_arguments.why_not(row, has_schema=bool(row["has_schema"]))
        or _no_form(found["arguments"], row),
        entry=entry,
    )


def _no_form(arguments: Document | None, row: store.Row) -> str | None:
    """Why no form shows a call's arguments; None: one does."""
    try:
        if arguments is not None:
            arguments.value()
    except ValueError:
        command = terminal.command(
            "resume", row["workflow_id"] or "", "--edit", str(row["id"]), "JSON"
        )
        return f"its arguments are too long, or nested too deeply, for a form: use `{command}`"
    return None


def _document(row: store.Row, name: str) -> Document | None:
    text = row[name]
    if text is None:
        return None
    found, count = row[f"{name}_pieces"], row[f"{name}_count"]
    pieces = tuple(
        Piece(piece, kind == "string", shown, length, hash_)
        for piece, kind, shown, length, hash_ in found or ()
    )
    is_object = text.startswith("{")
    return Document(text, row[f"{name}_length"], pieces if is_object else None, count)


def _id(text: str) -> uuid.UUID:
    try:
        found = uuid.UUID(text)
    except ValueError:
        raise _unknown(text) from None
    if str(found) != text:
        # What is decided is found again by its id, so there is one way to write it.
        raise _unknown(text)
    return found


def _unknown(id_: str) -> UnknownInterruptionError:
    return UnknownInterruptionError(f"there is no question {quoted(id_)}: see /approvals")
