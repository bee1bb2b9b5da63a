"""The host serves its API in a process of its own, and recovers what it was executing."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import forked_processes
from tests.support.conditions import until
from tests.support.host_process import Host, host, lines, own_host
from tests.support.problems import problem

__all__ = ["host", "own_host"]


def test_it_says_where_it_listens_and_what_to_try(host: Host) -> None:
    text = host.log.read_text()
    assert "entrypoints  ask, fail, greet, plain, work" in text
    assert "model        offline, for agents made with timestep.offline; any other" in text
    assert 'timestep start ask --input \'{"target": "hello"}\' --wait' in text
    assert "Traceback" not in text


def test_it_is_healthy_and_ready(host: Host) -> None:
    assert host.get("/healthz").json() == {"status": "ok"}
    assert host.get("/readyz").json() == {"status": "ok"}


def test_the_entrypoints_have_a_schema(host: Host) -> None:
    found = host.get("/api/workflows").json()
    assert found["next_cursor"] is None
    (greet,) = [one for one in found["items"] if one["name"] == "greet"]
    assert greet["description"] == "Greet somebody."
    assert greet["input_schema"]["required"] == ["name"]
    assert greet["input_schema"]["properties"]["times"]["default"] == 1
    assert greet["input_schema"]["additionalProperties"] is False


def test_a_run_can_be_started_and_read(host: Host) -> None:
    workflow_id = host.begin("greet", name="Ada")
    assert host.output(workflow_id) == "[offline model] hello Ada"

    run = host.run(workflow_id)
    assert run["workflow_id"] == workflow_id
    assert (run["status"], run["turns"], run["agent_name"]) == ("completed", 1, "Greeter")
    assert run["input"] == "Ada"
    assert run["final_output"] == "[offline model] hello Ada"
    assert run["usage"]["requests"] == 1
    assert run["usage"]["total_tokens"] > 0
    assert run["error"] is None
    assert host.run(run["id"]) == run

    (item,) = host.get(f"/api/runs/{run['id']}/items").json()["items"]
    assert (item["position"], item["item_type"]) == (1, "message_output_item")
    assert item["item_data"]["content"][0]["text"] == "[offline model] hello Ada"


def test_lists_come_in_pages_newest_first(host: Host) -> None:
    workflow_id = host.begin("greet", name="Grace", times=5)
    host.output(workflow_id)
    whole = host.get("/api/runs", workflow_id=workflow_id).json()
    ids = [run["id"] for run in whole["items"]]
    assert len(ids) == 5
    assert whole["next_cursor"] is None
    starts = [run["started_at"] for run in whole["items"]]
    assert starts == sorted(starts, reverse=True)

    paged: list[str] = []
    query: dict[str, Any] = {"workflow_id": workflow_id, "limit": 2}
    while True:
        page = host.get("/api/runs", **query).json()
        paged += [run["id"] for run in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert paged == ids

    assert host.run(workflow_id)["id"] == ids[0]
    assert host.get("/api/runs", agent="Nobody").json() == {"items": [], "next_cursor": None}
    some = host.get("/api/runs", agent="Greeter", status="completed").json()["items"]
    assert set(ids) <= {run["id"] for run in some}


def test_items_come_in_pages(host: Host, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    workflow_id = host.begin("work", folder=str(tmp_path))
    host.output(workflow_id)
    whole = host.get(f"/api/runs/{workflow_id}/items").json()["items"]
    assert [item["item_type"] for item in whole] == [
        "tool_call_item",
        "tool_call_output_item",
        "tool_call_item",
        "tool_call_output_item",
        "message_output_item",
    ]
    first = host.get(f"/api/runs/{workflow_id}/items", limit=4).json()
    rest = host.get(f"/api/runs/{workflow_id}/items", limit=4, cursor=first["next_cursor"]).json()
    assert first["items"] + rest["items"] == whole
    assert rest["next_cursor"] is None


def test_a_workflow_that_is_no_coroutine_takes_a_model(host: Host) -> None:
    workflow_id = host.begin("plain", order={"item": "tea"})
    assert host.output(workflow_id) == "1 tea"
    run = host.run(workflow_id)
    assert (run["id"], run["status"], run["final_output"]) == (None, "completed", "1 tea")
    assert run["input"] == {"order": {"item": "tea", "count": 1}}
    assert host.get(f"/api/runs/{workflow_id}/items").json() == {"items": [], "next_cursor": None}


def test_a_workflow_that_fails_before_its_first_run_is_shown(host: Host) -> None:
    run = host.run_when(host.begin("fail", reason="out of tea"), "failed")
    cancelled = host.post(f"/api/workflows/{run['workflow_id']}/cancel")
    assert "cannot be cancelled: it has failed" in problem(cancelled, 409)
    assert run["id"] is None
    assert run["error"] == {"type": "ValueError", "message": "out of tea", "turn": None}
    assert run["workflow"]["status"] == "ERROR"


def test_the_same_workflow_id_is_the_same_run(host: Host) -> None:
    body = {"input": {"name": "Alan"}, "workflow_id": "once"}
    path = "/api/workflows/greet/runs"
    assert host.post(path, body).json() == {"workflow_id": "once"}
    host.output("once")
    again = host.post(path, {**body, "input": {"name": "Alan", "times": 1}})
    assert (again.status_code, again.json()) == (202, {"workflow_id": "once"})
    assert len(host.get("/api/runs", workflow_id="once").json()["items"]) == 1

    other = host.post(path, {**body, "input": {"name": "Eve"}})
    assert "'once' was started already, with another input ('name'): give" in problem(other, 409)
    other = host.post("/api/workflows/fail/runs", {"input": {"reason": "x"}, "workflow_id": "once"})
    assert "'once' was started already, as 'greet', not 'fail'" in problem(other, 409)

    def keyed(body: Any, key: str = "once") -> httpx.Response:
        return httpx.post(host.url + path, json=body, headers={"idempotency-key": key}, timeout=60)

    assert keyed({"input": {"name": "Alan"}}).json() == {"workflow_id": "once"}
    assert keyed(body).json() == {"workflow_id": "once"}
    assert "('name')" in problem(keyed({"input": {"name": "Eve"}}), 409)
    assert "Idempotency-Key says 'more', and workflow_id 'once'" in problem(
        keyed(body, "more"), 422
    )
    assert "workflow_id '' is empty" in problem(keyed({"input": {"name": "Alan"}}, ""), 422)


def test_a_run_that_did_not_change_is_not_sent_again(host: Host) -> None:
    workflow_id = host.begin("ask", target="rocket")
    host.run_when(workflow_id, "interrupted")
    url = f"{host.url}/api/runs/{workflow_id}"
    tag = httpx.get(url).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = httpx.get(url, headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert "no-cache" in answer.headers["cache-control"]
    for other in ('"other"', tag.strip('"'), '"odd', ""):
        assert httpx.get(url, headers={"if-none-match": other}).status_code == 200
    host.post(f"/api/workflows/{workflow_id}/resume", {"approve": "all"})
    host.output(workflow_id)
    answer = httpx.get(url, headers={"if-none-match": tag})
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert answer.headers["etag"] != tag


def test_options_enqueue(host: Host) -> None:
    body = {"input": {"name": "Bob"}, "priority": 3, "deduplication_id": "bob", "delay": 60}
    first = host.post("/api/workflows/greet/runs", body)
    workflow_id = first.json()["workflow_id"]
    run = host.run(workflow_id)
    assert (run["status"], run["workflow"]["status"]) == ("running", "DELAYED")
    taken = host.post("/api/workflows/greet/runs", body)
    assert "the deduplication id 'bob' is taken" in problem(taken, 409)
    assert host.post(f"/api/workflows/{workflow_id}/cancel").status_code == 202
    assert host.run(workflow_id)["status"] == "cancelled"

    workflow_id = host.post(
        "/api/workflows/greet/runs", {"input": {"name": "Bob"}, "queue": "timestep"}
    ).json()["workflow_id"]
    assert host.output(workflow_id) == "[offline model] hello Bob"
    for option, reason in {
        ("queue", "nope"): "there is no queue 'nope'",
        ("priority", 0): "priority 0 is not between 1 and 2147483647",
        ("delay", -1): "delay -1.0 is not a positive number",
        ("timeout", 0): "timeout 0.0 is not a positive number",
        ("workflow_id", " "): "workflow_id ' ' is empty",
    }.items():
        answer = host.post(
            "/api/workflows/greet/runs", {"input": {"name": "x"}, option[0]: option[1]}
        )
        assert reason in problem(answer, 422)


def test_an_approval_is_decided_once(host: Host) -> None:
    workflow_id = host.begin("ask", target="rocket")
    run = host.run_when(workflow_id, "interrupted")
    (asked,) = host.get("/api/interruptions", workflow_id=workflow_id).json()["items"]
    assert run["interruptions"] == [asked]
    assert (asked["tool_name"], asked["arguments"]) == ("launch", {"target": "rocket"})

    path = f"/api/workflows/{workflow_id}/resume"
    assert "nothing is decided" in problem(host.post(path, {}), 422)
    unknown = host.post(path, {"approve": ["nope"], "reject": [asked["id"]]})
    assert "'nope' is not one of" in problem(unknown, 404)
    answer = host.post(path, {"approve": [asked["id"]]})
    assert answer.status_code == 200
    assert answer.json() == {
        "workflow_id": workflow_id,
        "resolved": [asked["id"]],
        "pending": [],
        "goes_on": True,
        "reason": None,
    }
    assert host.post(path, {"approve": [asked["id"]]}).status_code == 200
    assert "decided already" in problem(host.post(path, {"reject": [asked["id"]]}), 409)
    assert host.output(workflow_id) == "[offline model] launched rocket"
    assert host.get("/api/interruptions", workflow_id=workflow_id).json()["items"] == []


def test_a_call_is_edited_and_bound_to_what_was_shown(host: Host) -> None:
    workflow_id = host.begin("ask", target="rocket")
    (asked,) = host.run_when(workflow_id, "interrupted")["interruptions"]
    assert asked["description"] == "Launch rocket"
    assert asked["arguments_schema"]["properties"]["target"]["type"] == "string"
    path = f"/api/workflows/{workflow_id}/resume"

    wrong = host.post(path, {"edit": {asked["id"]: {"target": 5, "when": "now"}}})
    assert "target: 5 is not of type 'string'" in problem(wrong, 422)
    assert wrong.json()["type"] == "urn:timestep:invalid-arguments"
    assert {one["pointer"] for one in wrong.json()["errors"]} == {
        f"/{asked['id']}/target",
        f"/{asked['id']}",
    }
    edit = {"edit": {asked["call_id"]: {"target": "probe"}}}
    stale = host.post(path, {**edit, "expect": {asked["id"]: "0" * 64}})
    assert "is not what was shown" in problem(stale, 409)
    assert stale.json()["type"] == "urn:timestep:changed-question"
    (change,) = stale.json()["changes"]
    assert (change["hash"], change["arguments"]) == (asked["hash"], asked["arguments"])
    assert host.run(workflow_id)["interruptions"] == [asked]

    answer = host.post(path, {**edit, "expect": {asked["id"]: asked["hash"]}})
    assert (answer.status_code, answer.json()["resolved"]) == (200, [asked["id"]])
    assert host.output(workflow_id) == "[offline model] launched probe"
    (one,) = host.run(workflow_id)["interruptions"]
    assert (one["resolution_action"], one["resolution_arguments"]) == ("edit", {"target": "probe"})
    assert (one["arguments"], one["hash"]) == (asked["arguments"], asked["hash"])
    items = host.get(f"/api/runs/{workflow_id}/items").json()["items"]
    (call,) = [item for item in items if item["item_type"] == "tool_call_item"]
    assert json.loads(call["item_data"]["arguments"]) == {"target": "probe"}
    assert json.loads(call["original_data"]["arguments"]) == {"target": "rocket"}


def test_everything_is_decided_always_and_read_in_pages(host: Host) -> None:
    begun = []
    for number in range(3):
        begun.append(host.begin("ask", target=f"probe {number}"))
        # One after the other: questions are listed in the order in which they were asked.
        host.run_when(begun[-1], "interrupted")
    first = host.get("/api/interruptions", limit=2).json()
    rest = host.get("/api/interruptions", limit=2, cursor=first["next_cursor"]).json()
    whole = host.get("/api/interruptions").json()
    assert first["items"] + rest["items"] == whole["items"]
    assert (len(whole["items"]), rest["next_cursor"], whole["next_cursor"]) == (3, None, None)
    assert "is not a cursor" in problem(host.get("/api/interruptions", cursor="odd!"), 422)

    decisions = [{"approve": "all", "always": True}, {"approve": ["all"]}]
    decisions.append({"reject": "all", "message": "not today"})
    for workflow_id, decision in zip(begun, decisions, strict=True):
        answer = host.post(f"/api/workflows/{workflow_id}/resume", decision)
        assert (answer.status_code, answer.json()["pending"]) == (200, [])
    outputs = [str(host.output(workflow_id)).rpartition("] ")[2] for workflow_id in begun]
    assert outputs == ["launched probe 0", "launched probe 1", "not today"]
    decided = host.get("/api/interruptions", resolved=True).json()["items"]
    assert [one["resolution_action"] for one in decided if one["workflow_id"] in begun] == [
        "approve",
        "approve",
        "reject",
    ]
    wrong = host.post(f"/api/workflows/{begun[0]}/resume", {"approve": "some"})
    assert "body.approve" in problem(wrong, 422)


def test_a_waiting_workflow_can_be_cancelled(host: Host) -> None:
    workflow_id = host.begin("ask", target="moon")
    host.run_when(workflow_id, "interrupted")
    assert host.post(f"/api/workflows/{workflow_id}/cancel").status_code == 202
    assert host.post(f"/api/workflows/{workflow_id}/cancel").status_code == 202
    run = host.run(workflow_id)
    assert (run["status"], run["workflow"]["status"]) == ("cancelled", "CANCELLED")
    assert run["completed_at"] is not None
    assert host.get("/api/interruptions", workflow_id=workflow_id).json()["items"] == []


def test_what_is_not_there_is_a_problem(host: Host) -> None:
    start = "/api/workflows/nope/runs"
    known = "there are 'ask', 'fail', 'greet', 'plain', 'work'"
    assert known in problem(host.post(start, {"input": {}}), 404)
    assert "'nope'" in problem(host.get("/api/runs/nope"), 404)
    assert "'nope'" in problem(host.get("/api/runs/nope/items"), 404)
    assert "'nope'" in problem(host.post("/api/workflows/nope/cancel"), 404)
    assert "'nope'" in problem(host.post("/api/workflows/nope/resume", {"approve": "all"}), 404)
    assert "there is nothing at '/api/nope'" in problem(host.get("/api/nope"), 404)
    assert "DELETE is not a method" in problem(httpx.delete(f"{host.url}/api/runs"), 405)
    assert "no run" in problem(host.get("/api/runs/%00"), 404)


def test_what_does_not_fit_is_a_problem(host: Host) -> None:
    path = "/api/workflows/greet/runs"
    wrong = host.post(path, {"input": {"name": 5, "times": "many", "size": 1}})
    assert problem(wrong, 422) == (
        "the input does not fit 'greet': 'name': input should be a valid string, not 5; 'times': "
        'input should be a valid integer, unable to parse string as an integer, not "many"; '
        "there is no parameter 'size': it takes 'name', 'times'"
    )
    assert "'name' is missing" in problem(host.post(path, {"input": {}}), 422)
    assert "body.input" in problem(host.post(path, {"input": [1]}), 422)
    assert "body.extra" in problem(host.post(path, {"input": {}, "extra": 1}), 422)
    form = httpx.post(host.url + path, data={"name": "Ada"})
    assert "comes as 'application/x-www-form-urlencoded'" in problem(form, 422)
    broken = httpx.post(host.url + path, content="{", headers={"content-type": "application/json"})
    assert "JSON" in problem(broken, 422)
    wrong = host.get("/api/runs", limit=0)
    assert "query.limit" in problem(wrong, 422)
    assert [one["pointer"] for one in wrong.json()["errors"]] == ["/query/limit"]
    wrong = host.post("/api/workflows/greet/runs", {"input": {"times": "x", "a/b": 1}})
    assert "'name' is missing" in problem(wrong, 422)
    fields = {one["pointer"]: one["detail"] for one in wrong.json()["errors"]}
    assert set(fields) == {"/name", "/times", "/a~1b"}
    assert fields["/a~1b"].startswith("there is no parameter 'a/b'")
    assert "query.status" in problem(host.get("/api/runs", status="odd"), 422)
    for cursor in ("odd!", "bnVsbA", "W10", "\u00e4"):
        assert "is not a cursor" in problem(host.get("/api/runs", cursor=cursor), 422)


def test_pages_of_other_sites_are_kept_out(host: Host) -> None:
    port = host.url.rpartition(":")[2]
    answer = httpx.get(f"{host.url}/api/runs", headers={"host": f"evil.example:{port}"})
    assert "'evil.example:" in problem(answer, 403)
    cancel = "/api/workflows/nope/cancel"
    assert "evil.example" in problem(host.post(cancel, origin="http://evil.example"), 403)
    assert problem(host.post(cancel, origin="null"), 403)
    assert problem(host.post(cancel, origin=host.url), 404)
    named = httpx.get(f"{host.url}/healthz", headers={"host": f"localhost:{port}"})
    assert named.status_code == 200


def test_the_interface_is_described(host: Host) -> None:
    described = host.get("/openapi.json").json()
    run = described["components"]["schemas"]["Run"]
    assert {"status", "final_output", "usage", "cost", "interruptions"} <= set(run["properties"])
    assert "/api/workflows/{name}/runs" in described["paths"]


def test_a_running_step_may_end_before_the_host_does(own_host: Host, tmp_path: Path) -> None:
    own_host.start()
    workflow_id = own_host.begin("work", folder=str(tmp_path))
    until(lambda: len(lines(tmp_path, "held")) == 1)
    own_host.signal(signal.SIGTERM)
    until(lambda: "Stopping" in own_host.log.read_text())
    assert own_host.process is not None
    assert own_host.process.poll() is None
    (tmp_path / "go").touch()
    assert own_host.ended() == 0
    assert "Traceback" not in own_host.log.read_text()
    calls = own_host.rows("SELECT tool_name, status FROM tool_calls ORDER BY turn")
    assert [tuple(row.values()) for row in calls] == [("note", "executed"), ("hold", "executed")]
    assert own_host.rows("SELECT status FROM runs") == [{"status": "running"}]

    own_host.start()
    assert "recovering   1 workflow" in own_host.log.read_text()
    assert own_host.output(workflow_id) == "[offline model] all done"
    assert lines(tmp_path, "notes") == ["noted"]
    assert len(lines(tmp_path, "held")) == 1
    own_host.signal(signal.SIGINT)
    assert own_host.ended() == 0


def test_a_step_that_does_not_end_is_made_again_by_the_next_host(
    own_host: Host, tmp_path: Path
) -> None:
    own_host.environment["TIMESTEP_GRACE"] = "0.2"
    own_host.start()
    workflow_id = own_host.begin("work", folder=str(tmp_path))
    waiting = own_host.begin("ask", target="rocket")
    until(lambda: len(lines(tmp_path, "held")) == 1)
    until(lambda: own_host.is_parked(waiting))
    own_host.signal(signal.SIGTERM)
    assert own_host.ended() == 0
    assert "Traceback" not in own_host.log.read_text()
    statuses = own_host.rows("SELECT status FROM runs ORDER BY status")
    assert [row["status"] for row in statuses] == ["interrupted", "running"]

    own_host.start()
    said = own_host.log.read_text()
    assert "recovering   1 workflow\n" in said
    assert "undecided    1 workflow waiting for a person" in said
    (tmp_path / "go").touch()
    assert own_host.output(workflow_id) == "[offline model] all done"
    assert lines(tmp_path, "notes") == ["noted"]
    assert len(lines(tmp_path, "held")) == 2
    own_host.post(f"/api/workflows/{waiting}/resume", {"approve": "all"})
    assert own_host.output(waiting) == "[offline model] launched rocket"


def test_a_killed_host_loses_nothing_and_repeats_nothing(own_host: Host, tmp_path: Path) -> None:
    own_host.start()
    workflow_id = own_host.begin("work", folder=str(tmp_path))
    until(lambda: len(lines(tmp_path, "held")) == 1)
    own_host.signal(signal.SIGKILL)
    assert own_host.ended() == -signal.SIGKILL

    own_host.start()
    (tmp_path / "go").touch()
    assert own_host.output(workflow_id) == "[offline model] all done"
    assert lines(tmp_path, "notes") == ["noted"]


def test_tokens_have_roles(own_host: Host) -> None:
    own_host.environment["TIMESTEP_API_TOKENS"] = "vera:viewer:see,olga:operator:do"
    own_host.start()
    assert own_host.get("/healthz").status_code == 200
    answer = own_host.get("/api/runs")
    assert "no bearer token was sent" in problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    wrong = httpx.get(f"{own_host.url}/api/runs", headers={"authorization": "Bearer dot"})
    assert "an unknown bearer token" in problem(wrong, 401)
    see = {"authorization": "Bearer see"}
    do = {"authorization": "Bearer do"}
    assert httpx.get(f"{own_host.url}/api/runs", headers=see).status_code == 200
    path = "/api/workflows/ask/runs"
    body = {"input": {"target": "x"}, "workflow_id": "w"}
    refused = own_host.post(path, body, **see)
    assert "the token of 'vera' is a viewer's: this takes an operator's" in problem(refused, 403)
    assert own_host.post(path, body, **do).status_code == 202

    def decided() -> bool:
        answer = own_host.post("/api/workflows/w/resume", {"approve": "all"}, **do)
        return answer.status_code == 200 and bool(answer.json()["resolved"])

    until(decided)
    assert own_host.rows("SELECT resolved_by FROM interruptions") == [{"resolved_by": "olga"}]
    text = own_host.log.read_text()
    assert "see," not in text
    assert "olga:operator:do" not in text


def failing(own_host: Host) -> str:
    """What `serve` says on standard error when it cannot start."""
    done = forked_processes.run(
        "-m", "timestep", "serve", cwd=own_host.folder, env=own_host.environment
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_an_address_that_is_taken_is_one_clear_line(own_host: Host) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        own_host.environment["TIMESTEP_PORT"] = str(taken.getsockname()[1])
        text = failing(own_host)
    assert f"cannot listen on 127.0.0.1, port {own_host.environment['TIMESTEP_PORT']}" in text


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"TIMESTEP_HOST": "0.0.0.0"}, "there are no tokens: make one"),
        ({"TIMESTEP_GRACE": "soon"}, "TIMESTEP_GRACE='soon' is not a number of seconds"),
        ({"TIMESTEP_DB_URL": "postgresql://x@127.0.0.1:1/x"}, "postgresql://x@127.0.0.1:1/x:"),
    ],
)
def test_a_setting_that_cannot_work_is_one_clear_line(
    own_host: Host, settings: dict[str, str], reason: str
) -> None:
    own_host.environment.update(settings)
    assert reason in failing(own_host)


def test_a_module_that_cannot_be_imported_is_one_clear_line(own_host: Host) -> None:
    (own_host.folder / "workflows" / "bad.py").write_text("import nowhere\n")
    text = failing(own_host)
    assert "workflows/bad.py, line 1 cannot be imported: ModuleNotFoundError" in text


def test_it_tells_of_workflows_that_fail(own_host: Host) -> None:
    own_host.start()
    hostile = "out of tea\x1b[2J\u202e\nforged"
    workflow_id = own_host.begin("fail", reason=hostile)
    own_host.run_when(workflow_id, "failed")
    told = rf"workflow {workflow_id} failed: ValueError: out of tea\x1b[2J\u202e forged"
    until(lambda: told in own_host.log.read_text())
    text = own_host.log.read_text()
    assert text.count("out of tea") == 1
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if "out of tea" in line]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ERROR timestep: workflow ", line)
