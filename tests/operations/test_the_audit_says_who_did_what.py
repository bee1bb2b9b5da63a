"""The audit: an entry for each act, none for what was done before, and who, when, from where."""

from __future__ import annotations

import asyncio
import datetime
from concurrent.futures import Future
from threading import Thread
from typing import Any

import pytest
from agents import Runner
from dbos import DBOS

import timestep
from tests.support.dbos_app import BODIES, App, run_it
from tests.support.interrupting_agents import deleter
from timestep.errors import (
    AlreadyEndedError,
    AlreadyResolvedError,
    AlreadyStartedError,
    DatabaseError,
    InvalidInputError,
    InvalidQueryError,
    TokenNameTakenError,
    UnknownRunError,
    UnknownTokenError,
)
from timestep.journal.recorder import recorder
from timestep.operations.access import acting, audit
from timestep.operations.access.acting import Actor
from timestep.operations.access.audit import list_audit
from timestep.operations.access.records import AuditEntry
from timestep.operations.access.tokens import create_token, list_tokens, revoke_token
from timestep.store.fleet import cancellations

ANN = Actor("ann", "http", "operator", None, "192.0.2.1")


@DBOS.workflow()
async def audited(number: int) -> int:
    return number


@DBOS.workflow()
async def asks() -> str:
    return str((await timestep.run_agent(deleter(), "tidy up")).final_output)


@DBOS.workflow()
async def asks_in_vain() -> str:
    result = await timestep.run_agent(deleter(), "tidy up", approval_timeout=0.001)
    return str(result.final_output)


@DBOS.workflow()
async def sleeps() -> None:
    await DBOS.sleep_async(3600)


@DBOS.workflow()
async def starts(workflow_id: str | None) -> str:
    return await timestep.start_run(audited, {"number": 1}, workflow_id=workflow_id)


def entries(**asked: Any) -> list[AuditEntry]:
    return list(reversed(asyncio.run(list_audit(**asked)).items))


def told(**asked: Any) -> list[tuple[Any, ...]]:
    return [(one.who, one.via, one.act, one.subjects, one.refused) for one in entries(**asked)]


def start(entrypoint: Any, given: dict[str, Any], **options: Any) -> str:
    return asyncio.run(timestep.start_run(entrypoint, given, **options))


def output(workflow_id: str) -> Any:
    return DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02)


def waits(app: App, workflow_id: str) -> list[str]:
    """The ids of a workflow's questions, once it asks them."""

    def asked() -> list[str]:
        found = asyncio.run(timestep.list_interruptions(workflow_id=workflow_id))
        return [one.id for one in found]

    return list(app.until(asked))


def test_a_start_has_one_entry_however_often_it_is_asked_for(app: App) -> None:
    with acting.acting(ANN):
        start(audited, {"number": 1}, workflow_id="once")
    start(audited, {"number": 1}, workflow_id="once")
    with pytest.raises(AlreadyStartedError):
        start(audited, {"number": 2}, workflow_id="once")
    (entry,) = entries()
    assert (entry.who, entry.role, entry.via, entry.address) == (
        "ann",
        "operator",
        "http",
        "192.0.2.1",
    )
    assert (entry.act, entry.subjects, entry.refused) == ("start", ["once"], None)
    assert entry.details["entrypoint"] == "audited"
    assert abs(datetime.datetime.now(datetime.UTC) - entry.at) < datetime.timedelta(hours=1)
    assert entry.machine


def test_a_start_without_an_id_is_entered_with_the_one_it_has(app: App) -> None:
    with acting.acting(ANN):
        workflow_id = start(audited, {"number": 1})
    assert output(workflow_id) == 1
    assert told() == [("ann", "http", "start", [workflow_id], None)]


def test_what_is_refused_before_it_is_begun_has_none(app: App) -> None:
    for given, options in (({"number": "x"}, {}), ({"number": 1}, {"queue": "nowhere"})):
        with pytest.raises(InvalidInputError):
            start(audited, given, **options)
    with pytest.raises(UnknownRunError):
        asyncio.run(timestep.cancel_run("nothing"))
    assert told() == []


def test_what_dbos_refuses_says_so(app: App) -> None:
    DBOS.register_queue("slow", concurrency=1)
    held = start(sleeps, {}, queue="slow", deduplication_id="one")
    with pytest.raises(AlreadyStartedError):
        start(sleeps, {}, queue="slow", deduplication_id="one")
    first, second = entries()
    assert (first.subjects, first.refused) == ([held], None)
    assert second.refused == "AlreadyStartedError"
    assert second.details["queue"] == "slow"


def test_nothing_is_started_or_cancelled_without_an_entry(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = start(sleeps, {})

    def refuse(*given: Any) -> int:
        raise DatabaseError("no")

    monkeypatch.setattr(audit, "begin", refuse)
    with pytest.raises(DatabaseError):
        start(audited, {"number": 1}, workflow_id="never")
    assert DBOS.get_workflow_status("never") is None
    with pytest.raises(DatabaseError):
        asyncio.run(timestep.cancel_run(workflow_id))
    status = DBOS.get_workflow_status(workflow_id)
    assert status is not None
    assert status.status == "PENDING"


def test_whether_an_act_was_done_is_left_open_where_nobody_knows(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = start(sleeps, {})

    def cut(*given: Any) -> None:
        raise DatabaseError("the connection was lost")

    with monkeypatch.context() as patched:
        patched.setattr(cancellations, "cancel", cut)
        with pytest.raises(DatabaseError):
            asyncio.run(timestep.cancel_run(workflow_id))
    assert told(act="cancel") == [(acting.user(), "python", "cancel", [workflow_id], None)]


def test_what_a_workflow_starts_is_nobodys_act(app: App) -> None:
    with acting.acting(ANN):
        named, unnamed = (
            start(starts, {"workflow_id": "inner"}),
            start(starts, {"workflow_id": None}),
        )
    assert output(named) == "inner"
    inner = output(unnamed)
    assert inner.startswith(unnamed)
    for workflow_id in (named, unnamed):
        app.recover(workflow_id)
    assert [subjects for *_, subjects, _ in told()] == [[named], [unnamed]]


def test_what_somebody_starts_does_not_act_in_that_name(app: App) -> None:
    async def body() -> str:
        return str((await timestep.resume_workflow("asked", approve="all")).pending)

    start(asks, {}, workflow_id="asked")
    questions = waits(app, "asked")
    BODIES["decides"] = body
    with acting.acting(ANN):
        workflow_id = start(run_it, {"key": "decides"})
    assert output(workflow_id) == "[]"
    (entry,) = entries(act="decide")
    assert (entry.who, entry.via, entry.address) == (acting.user(), "python", None)
    assert entry.subjects == ["asked", *questions]
    output("asked")


def test_a_cancellation_has_one_entry(app: App) -> None:
    workflow_id = start(sleeps, {})
    done = start(audited, {"number": 1})
    assert output(done) == 1
    for _ in range(2):
        with acting.acting(ANN):
            asyncio.run(timestep.cancel_run(workflow_id))
    with pytest.raises(AlreadyEndedError):
        asyncio.run(timestep.cancel_run(done))
    assert told(act="cancel") == [("ann", "http", "cancel", [workflow_id], None)]


def test_decisions_have_one_entry_each_in_their_transaction(app: App) -> None:
    start(asks, {}, workflow_id="asked")
    first, second = waits(app, "asked")
    with acting.acting(ANN):
        asyncio.run(timestep.resume_workflow("asked", approve=[first], by="somebody else"))
    asyncio.run(timestep.resume_workflow("asked", approve=[first], by="bob"))
    with pytest.raises(AlreadyResolvedError):
        asyncio.run(timestep.resume_workflow("asked", reject="all", approve=[first, second]))
    with pytest.raises(AlreadyResolvedError):
        asyncio.run(timestep.resume_workflow("asked", reject=[first], approve=[second], by="eve"))
    asyncio.run(
        timestep.resume_workflow("asked", reject=[second], message="hunter2", always=True, by="bob")
    )
    output("asked")
    assert told(act="decide") == [
        ("ann", "http", "decide", ["asked", first], None),
        ("bob", "python", "decide", ["asked", second], None),
    ]
    approved, rejected = entries(act="decide")
    tool = {"tool": "delete"}
    assert approved.details == {"decisions": [{**tool, "id": first, "action": "approve"}]}
    always = {"action": "reject", "always": True}
    assert rejected.details == {"decisions": [{**tool, "id": second, **always}]}
    assert told(subject=second) == [told(act="decide")[1]]
    assert told(who="ann", act="decide") == [told(act="decide")[0]]


def test_a_decision_that_is_not_entered_is_not_made(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(asks, {}, workflow_id="asked")
    waits(app, "asked")
    app.execute("ALTER TABLE timestep.audit ADD CONSTRAINT none CHECK (act <> 'decide') NOT VALID")
    try:
        with pytest.raises(DatabaseError):
            asyncio.run(timestep.resume_workflow("asked", approve="all"))
        assert len(waits(app, "asked")) == 2
    finally:
        app.execute("ALTER TABLE timestep.audit DROP CONSTRAINT none")


def test_what_time_or_code_decides_is_entered_once_as_such(app: App) -> None:
    workflow_id = start(asks_in_vain, {})
    output(workflow_id)
    (late,) = entries(act="decide")
    assert (late.who, late.via, late.subjects[0]) == ("timeout", "python", workflow_id)

    async def body() -> str:
        result = await Runner.run(deleter(), "tidy up")
        state = result.to_state()
        for item in result.interruptions:
            state.approve(item)
        return str((await Runner.run(deleter(), state)).final_output)

    timestep.install()
    try:
        app.run(body, workflow_id="coded")
        app.recover("coded")
    finally:
        timestep.uninstall()
    (coded,) = [one for one in entries(act="decide") if one.who == "code"]
    assert coded.subjects[0] == "coded"
    assert len(coded.details["decisions"]) == 2


def test_a_fork_has_one_entry_with_what_it_is_of(app: App) -> None:
    workflow_id = start(asks_in_vain, {})
    output(workflow_id)
    run = asyncio.run(timestep.get_run(workflow_id))

    def fork() -> None:
        asyncio.run(
            timestep.fork_run(
                workflow_id, turn=2, agent={"instructions": "hunter2"}, new_workflow_id="forked"
            )
        )

    with acting.acting(ANN):
        fork()
    fork()
    output("forked")
    (entry,) = entries(act="fork")
    assert (entry.who, entry.subjects) == ("ann", ["forked", workflow_id, run.id])
    assert entry.details == {"turn": 2, "changed": ["instructions"]}
    assert told(subject=run.id) == [("ann", "http", "fork", entry.subjects, None)]


def test_a_fork_that_dbos_refuses_says_so(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow_id = start(asks_in_vain, {})
    output(workflow_id)
    app.execute("DELETE FROM dbos.workflow_status WHERE workflow_uuid = %s", [workflow_id])
    with pytest.raises(UnknownRunError):
        asyncio.run(timestep.fork_run(workflow_id, turn=1, new_workflow_id="forked"))
    (entry,) = entries(act="fork")
    assert entry.refused == "DBOSNonExistentWorkflowError"


def test_tokens_have_entries_and_no_secrets(app: App) -> None:
    with acting.acting(Actor("root", "cli")):
        token, secret = asyncio.run(create_token("ann", role="admin"))
    for _ in range(2):
        with acting.acting(Actor("root", "cli")):
            asyncio.run(revoke_token("ann"))
    assert told() == [
        ("root", "cli", "create_token", [token.id], None),
        ("root", "cli", "revoke_token", [token.id], None),
    ]
    assert entries()[0].details == {"name": "ann", "role": "admin", "expires_at": None}
    assert secret not in str(app.execute("SELECT * FROM timestep.audit").fetchall())


def test_a_name_is_one_tokens_until_it_is_revoked(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = asyncio.run(create_token("ann", role="viewer"))
    with pytest.raises(TokenNameTakenError, match="there is a token 'ann' already"):
        asyncio.run(create_token("ann", role="admin"))
    asyncio.run(revoke_token("ann"))
    second, _ = asyncio.run(create_token("ann", role="admin"))
    assert asyncio.run(revoke_token(first.id)).id == first.id
    assert [token.revoked_at is None for token in asyncio.run(list_tokens())] == [False, True]
    assert asyncio.run(revoke_token("ann")).id == second.id
    for bad in ("", "a\x00", "x" * 1001, "nobody", "timeout", "code"):
        with pytest.raises(InvalidInputError):
            asyncio.run(create_token(bad, role="viewer"))
    with pytest.raises(InvalidInputError):
        asyncio.run(create_token("bob", role="viewer", expires=datetime.timedelta(0)))
    with pytest.raises(UnknownTokenError, match="there is no token 'eve'"):
        asyncio.run(revoke_token("eve"))
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "eve:viewer:secret")
    with pytest.raises(TokenNameTakenError, match="TIMESTEP_API_TOKENS"):
        asyncio.run(create_token("eve", role="viewer"))


def test_two_who_take_a_name_at_once_are_told_apart(app: App) -> None:
    outcomes: list[Future[Any]] = []
    for _ in range(4):
        outcome: Future[Any] = Future()
        outcomes.append(outcome)

        def work(outcome: Future[Any] = outcome) -> None:
            try:
                outcome.set_result(asyncio.run(create_token("ann", role="viewer")))
            except TokenNameTakenError as error:
                outcome.set_exception(error)

        Thread(target=work).start()
    assert sum(outcome.exception(60) is None for outcome in outcomes) == 1


def test_the_audit_is_paged_and_filtered(app: App) -> None:
    for number in range(5):
        with acting.acting(Actor(f"who-{number % 2}", "cli")):
            asyncio.run(create_token(f"token-{number}", role="viewer"))
    found: list[int] = []
    cursor = None
    while True:
        page = asyncio.run(list_audit(limit=2, cursor=cursor))
        found += [one.id for one in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert len(found) == 5
    assert found == sorted(found, reverse=True)
    assert len(entries(who="who-0")) == 3
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    assert [len(entries(since=now + sign * hour)) for sign in (-1, 1)] == [5, 0]
    for asked in (
        {"act": "nothing"},
        {"cursor": "x"},
        {"limit": 0},
        {"who": "\x00"},
        {"since": datetime.datetime(2026, 1, 1)},
    ):
        with pytest.raises(InvalidQueryError):
            entries(**asked)


def test_what_it_is_about_may_be_called_anything(app: App) -> None:
    long = "\N{SNOWMAN}" * 3000
    with acting.acting(Actor("\x00\ud800" + long, "python")):
        asyncio.run(create_token("ann", role="viewer"))
    with recorder().transactions.begin() as connection:
        audit.add(connection, ANN, "cancel", [long])
    assert len(entries(subject=long)) == 1
    assert len(entries()) == 2
