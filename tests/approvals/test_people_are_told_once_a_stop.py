"""Escalation: who is told that a run waits for approvals, how often, and what stays secret."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, SetWorkflowID
from psycopg import sql

import timestep
from tests.support.conditions import until
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App
from tests.support.decisions import waiting
from tests.support.host_process import Host, own_host
from timestep.approvals import notifications
from timestep.execution.identity import known_runs
from timestep.operations.diagnosis import doctor

__all__ = ["own_host"]

KEY = b"a key of twenty-four byt"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
PATH = "/services/T0/B0/hunter2"


@dataclass
class Message:
    """A request that the receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes
    came_at: float

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def assert_signed(self) -> None:
        sent_at = self.headers["webhook-timestamp"]
        assert abs(int(sent_at) - time.time()) < 60
        signed = f"{self.id}.{sent_at}.".encode() + self.body
        digest = hmac.digest(KEY, signed, hashlib.sha256)
        assert self.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@dataclass
class Receiver:
    """A web server on this machine that answers as a test says: statuses, then 204."""

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    got: list[Message] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Message(self.path, headers, body, time.monotonic()))
                receiver.may_answer.wait(60)
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                with contextlib.suppress(BrokenPipeError):
                    self.send_response(status)
                    for name, value in receiver.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            self.may_answer.set()
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that answers at once, and that the settings name."""
    found = Receiver()
    found.may_answer.set()
    monkeypatch.setattr(notifications, "_PAUSES", (0.01,) * 4)
    with found.serving():
        monkeypatch.setenv("TIMESTEP_ESCALATION_URL", found.url)
        monkeypatch.setenv("TIMESTEP_ESCALATION_SECRET", SECRET)
        yield found


@function_tool(needs_approval=True)
async def delete(name: str) -> str:
    return f"deleted {name}"


def operator(*names: str) -> Agent[Any]:
    model = ScriptedModel(
        [
            [
                function_call("delete", {"name": name}, call_id=f"c{number}")
                for number, name in enumerate(names, start=1)
            ],
            [assistant_message("done")],
        ]
    )
    return Agent(name="Operator", model=model, tools=[delete])


def running(app: App, agent: Agent[Any], **options: Any) -> Callable[[], str]:
    """Start the workflow `w`; what is returned waits for its result."""

    async def body() -> str:
        return str((await timestep.run_agent(agent, "clean up", **options)).final_output)

    BODIES["w"] = body
    with SetWorkflowID("w"):
        app.started("w")
    return lambda: str(DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02))


def approve(result: Callable[[], str]) -> None:
    """Let the workflow end."""
    timestep.resume_workflow_sync("w", approve="all")
    assert result() == "done"


def escalations() -> list[Any]:
    return DBOS.list_workflows(name="timestep.escalate")


def outcome(app: App) -> str:
    """What became of the only escalation, once it has ended."""
    (one,) = app.until(lambda: [one for one in escalations() if one.status == "SUCCESS"])
    return str(one.output)


def stored(url: str) -> str:
    """Everything that DBOS and Timestep have written, as text."""
    found = []
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_schema IN ('dbos', 'public', 'timestep') AND table_type = 'BASE TABLE'"
        ).fetchall()
        for name in tables:
            query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(*name))
            found += [text for (text,) in connection.execute(query)]
    return "\n".join(found)


def test_a_webhook_is_told_until_it_has_heard_and_only_once(
    app: App, receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TIMESTEP_PUBLIC_URL", "https://agents.example/")
    receiver.statuses = [500, 408]
    result = running(app, operator("a", "b"))
    assert outcome(app) == "told"

    assert [message.path for message in receiver.got] == [PATH] * 3
    assert len({message.id for message in receiver.got}) == 1
    for message in receiver.got:
        message.assert_signed()
        assert message.headers["content-type"] == "application/json"
    document = receiver.got[-1].content
    first, second = waiting()
    assert document["type"] == "interruptions.waiting"
    assert document["timestamp"] == first.created_at.isoformat()
    data = document["data"]
    assert (data["workflow_id"], data["run_id"]) == ("w", first.run_id)
    assert data["interruptions"][0] == {
        "id": first.id,
        "run_id": first.run_id,
        "type": "tool_approval",
        "reason": "needs_approval",
        "tool_name": "delete",
        "call_id": "c1",
        "agent_name": "Operator",
        "description": None,
        "hash": first.hash,
        "arguments": {"name": "a"},
        "arguments_are_cut": False,
        "created_at": first.created_at.isoformat(),
        "expires_at": None,
    }
    assert [one["id"] for one in data["interruptions"]] == [first.id, second.id]
    assert data["resume"] == {
        "method": "POST",
        "path": "/api/workflows/w/resume",
        "url": "https://agents.example/api/workflows/w/resume",
        "page": "https://agents.example/approvals?workflow_id=w",
        "command": "timestep resume w --approve all",
    }
    (one,) = escalations()
    sleeps = ["escalation: send", "DBOS.sleep"] * 2
    assert app.steps(one.workflow_id) == [*sleeps, "escalation: send"]
    assert not [name for name in app.steps("w") if "escalat" in name]

    timestep.resume_workflow_sync("w", approve=[first.id])
    timestep.resume_workflow_sync("w", reject=[second.id])
    assert result() == "done"
    assert app.replay("w") == "done"
    assert len(escalations()) == 1
    assert len(receiver.got) == 3
    for text in (stored(app.url), caplog.text):
        assert "hunter2" not in text
        assert SECRET not in text


def test_what_was_told_is_not_told_again_though_some_is_decided(
    app: App, receiver: Receiver
) -> None:
    agent = operator("a", "b")

    async def body() -> str:
        result = await timestep.run_agent(agent, "clean up", on_interruption="return")
        (run,) = known_runs()
        for call_id in ("c1", "c2"):
            # As an execution comes to its wait that takes over from one which died there.
            await notifications.announce(run)
            await timestep.resume_workflow("w", approve=[call_id])
        return str(len(result.interruptions))

    assert app.run(body, workflow_id="w") == "2"
    assert outcome(app) in ("told", "decided")
    assert len(escalations()) == 1


def test_each_stop_is_told_of(app: App, receiver: Receiver) -> None:
    model = ScriptedModel(
        [
            [function_call("delete", {"name": "a"}, call_id="c1")],
            [function_call("delete", {"name": "b"}, call_id="c2")],
            [assistant_message("done")],
        ]
    )
    result = running(app, Agent(name="Operator", model=model, tools=[delete]))
    for number in (1, 2):
        app.until(lambda: len(receiver.got) == number)  # noqa: B023
        timestep.resume_workflow_sync("w", approve="all")
    assert result() == "done"
    told = [message.content["data"]["interruptions"] for message in receiver.got]
    assert [[one["call_id"] for one in asked] for asked in told] == [["c1"], ["c2"]]
    assert len({message.id for message in receiver.got}) == 2


def test_a_run_inside_a_tool_that_waits_is_told_of_once(app: App, receiver: Receiver) -> None:
    inner = operator("a")

    @function_tool
    async def ask() -> str:
        return str((await timestep.run_agent(inner, "go")).final_output)

    def answer(items: list[Any]) -> list[Any]:
        return (
            [assistant_message(outputs(items)["c0"])]
            if outputs(items)
            else [function_call("ask", {}, call_id="c0")]
        )

    result = running(app, Agent(name="Outer", model=AnsweringModel(answer), tools=[ask]))
    assert outcome(app) == "told"
    approve(result)
    assert app.replay("w") == "done"
    (message,) = receiver.got
    (asked,) = message.content["data"]["interruptions"]
    assert asked["agent_name"] == "Operator"
    assert message.content["data"]["run_id"] == asked["run_id"]


def test_a_receiver_may_ask_for_time(app: App, receiver: Receiver) -> None:
    receiver.statuses, receiver.headers = [429], {"retry-after": "1"}
    result = running(app, operator("a"))
    assert outcome(app) == "told"
    approve(result)
    before, after = (message.came_at for message in receiver.got)
    assert after - before >= 1


def test_a_receiver_that_cannot_be_reached_is_tried_again(
    app: App, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Receiver()
    later.may_answer.set()
    with later.serving():
        pass
    monkeypatch.setenv("TIMESTEP_ESCALATION_URL", later.url)
    monkeypatch.setattr(notifications, "_PAUSES", (0.05,) * 100)
    result = running(app, operator("a"))
    one = app.until(escalations)[0].workflow_id
    app.until(lambda: "DBOS.sleep" in app.steps(one))
    with later.serving():
        assert outcome(app) == "told"
    assert len(later.got) == 1
    approve(result)


@pytest.mark.parametrize(("status", "attempts"), [(400, 1), (302, 1), (503, 5)])
def test_what_cannot_be_told_is_one_warning_and_the_run_waits_on(
    app: App,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    status: int,
    attempts: int,
) -> None:
    receiver.statuses = [status] * 10
    result = running(app, operator("a"))
    made = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    reason = f"http://127.0.0.1:{receiver.port}: HTTP status {status} ({made})"
    assert outcome(app) == f"failed: {reason}"
    assert len(receiver.got) == attempts
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warning == (
        "nobody was told that workflow w waits for 1 approval(s), and it waits on: " + reason
    )
    assert len(waiting()) == 1
    approve(result)


def test_nobody_is_told_of_what_is_decided_meanwhile(
    app: App, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "_PAUSES", (60.0,))
    receiver.statuses = [500]
    result = running(app, operator("a"))
    one = app.until(escalations)[0].workflow_id
    app.until(lambda: "DBOS.sleep" in app.steps(one))
    approve(result)
    app.pass_time()
    assert outcome(app) == "decided"
    assert len(receiver.got) == 1


def test_a_chat_is_told_in_words_without_the_arguments(
    app: App, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_ESCALATION_FORMAT", "slack")
    monkeypatch.setenv("TIMESTEP_PUBLIC_URL", "https://agents.example")
    agent = operator("hunter2", "b")
    agent.name = "<!channel> & Co"
    result = running(app, agent, approval_timeout=3600.0)
    assert outcome(app) == "told"
    lines = receiver.got[0].content["text"].splitlines()
    assert lines[:3] == [
        "2 approvals are waiting in workflow w:",
        *["• &lt;!channel&gt; &amp; Co wants to call delete"] * 2,
    ]
    (_, deadline, page, _) = lines[2:]
    assert page == "Decide at: <https://agents.example/approvals?workflow_id=w>"
    assert deadline.startswith("What nobody decides is rejected from 2")
    assert lines[-1] == "Decide with: timestep resume w --approve all"
    assert set(receiver.got[0].content) == {"text"}
    approve(result)


def test_long_arguments_are_cut(app: App, receiver: Receiver) -> None:
    result = running(app, operator("x" * 100_000))
    assert outcome(app) == "told"
    (asked,) = receiver.got[0].content["data"]["interruptions"]
    assert asked["arguments_are_cut"]
    assert asked["arguments"].startswith('{"name": "xxx')
    assert len(receiver.got[0].body) < 6000
    approve(result)


def test_nothing_is_begun_where_nobody_is_to_be_told(app: App) -> None:
    result = running(app, operator("a"))
    app.until(waiting)
    approve(result)
    assert escalations() == []


def test_a_host_that_is_killed_while_it_tells_tells_after_its_return(own_host: Host) -> None:
    receiver = Receiver()
    with receiver.serving():
        own_host.environment |= {
            "TIMESTEP_ESCALATION_URL": receiver.url,
            "TIMESTEP_ESCALATION_SECRET": SECRET,
        }
        own_host.start()
        workflow_id = own_host.begin("ask", target="hunter3")
        until(lambda: len(receiver.got) == 1)
        own_host.close()
        receiver.may_answer.set()
        own_host.start()
        until(lambda: len(receiver.got) == 2)
        own_host.run_when(workflow_id, "interrupted")
        own_host.post(f"/api/workflows/{workflow_id}/resume", {"approve": "all"})
        assert own_host.output(workflow_id) == "[offline model] launched hunter3"
    first, again = receiver.got
    assert (first.id, first.body) == (again.id, again.body)
    again.assert_signed()
    assert "hunter2" not in own_host.log.read_text() + stored(own_host.database)


def test_doctor_tells_who_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> str:
        return next(one.text for one in doctor.examine() if one.check == "escalation")

    assert "set TIMESTEP_ESCALATION_URL" in found()
    monkeypatch.setenv("TIMESTEP_ESCALATION_URL", "https://hooks.slack.com/services/T0/hunter2")
    assert found() == (
        "https://hooks.slack.com is told that approvals wait, with a text, not signed"
    )
    monkeypatch.setenv("TIMESTEP_ESCALATION_URL", "https://me:hunter2@example.com/hook?k=hunter2")
    monkeypatch.setenv("TIMESTEP_ESCALATION_SECRET", "hunter2")
    assert found() == (
        "https://example.com is told that approvals wait, with a JSON document, signed"
    )
