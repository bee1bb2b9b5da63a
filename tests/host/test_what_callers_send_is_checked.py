"""Texts, numbers and documents from outside, sent to a host: 422 or 404, and nothing is changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.host_process import Host, host
from tests.support.problems import problem

__all__ = ["host"]

NOT_TEXT = ("\ud800", "a\udfffb", "a\x00b")
TOO_LONG = ("x" * 9000, "\N{GRINNING FACE}" * 251)
START = "/api/workflows/greet/runs"


@pytest.fixture
def client(host: Host) -> Iterator[httpx.Client]:
    """One for a test's many requests: to make one takes longer than a request."""
    with httpx.Client(base_url=host.url, timeout=30, verify=False) as made:
        yield made


def sent(client: httpx.Client, path: str, text: str | bytes) -> httpx.Response:
    """What is answered to JSON that is sent as it is written."""
    return client.post(path, content=text, headers={"content-type": "application/json"})


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def rows(host: Host) -> list[dict[str, Any]]:
    """How many workflows there are; those of other tests may still begin runs."""
    return host.rows("SELECT count(*) FROM dbos.workflow_status")


def test_what_a_start_cannot_use_starts_nothing(host: Host, client: httpx.Client) -> None:
    before = rows(host)
    for name in ("workflow_id", "queue", "deduplication_id"):
        for text in ("", " ", *NOT_TEXT, *TOO_LONG):
            answer = sent(client, START, json.dumps({"input": {"name": "x"}, name: text}))
            assert name in problem(answer, 422)
    for name in ("timeout", "delay"):
        for number in (
            *("1e300", "1e400", "-1e300", "-1", "0", "1e-9", "1e10", "NaN", '"nan"', "true", '"5"'),
        ):
            answer = sent(client, START, f'{{"input": {{"name": "x"}}, "{name}": {number}}}')
            assert problem(answer, 422)
    for number in ("1e300", "-1", "0", str(2**31), "9" * 4000, "9" * 5000, "1.5", "true", '"5"'):
        answer = sent(client, START, f'{{"input": {{"name": "x"}}, "priority": {number}}}')
        assert problem(answer, 422)
    assert rows(host) == before


def test_a_body_is_taken_as_it_is(host: Host, client: httpx.Client) -> None:
    before = rows(host)
    resume, fork = "/api/workflows/w/resume", "/api/runs/w/fork"
    for path, text in (
        (resume, '{"approve": "all", "always": 1}'),
        (resume, '{"approve": "all", "always": "true"}'),
        (resume, '{"approve": [1]}'),
        (resume, '{"from_checkpoint": 1}'),
        (fork, '{"turn": true}'),
        (fork, '{"turn": "1"}'),
        (fork, '{"turn": 1, "agent": {"model": 5}}'),
        (fork, '{"turn": 1, "agent": {"model_settings": {"temperature": true}}}'),
        (fork, '{"turn": 1, "agent": {"model_settings": {"max_tokens": "5"}}}'),
        (START, '{"input": {"name": "x"}, "workflow_id": 5}'),
    ):
        problem(sent(client, path, text), 422)
    assert rows(host) == before


def test_an_id_may_have_a_slash(host: Host, client: httpx.Client) -> None:
    ids = ("shop/orders/7", "shop%2Forders", "/")
    for workflow_id in ids:
        started = client.post(START, json={"input": {"name": "x"}, "workflow_id": workflow_id})
        assert started.json() == {"workflow_id": workflow_id}
        written = quote(workflow_id, safe="")
        host.output(written)
        run = client.get(f"/api/runs/{written}").json()
        assert run["workflow_id"] == workflow_id
        lower = written.replace("%2F", "%2f")
        items = client.get(f"/api/runs/{lower}/items").json()["items"]
        assert {item["run_id"] for item in items} == {run["id"]}
        forked = client.post(
            f"/api/runs/{written}/fork", json={"turn": 1, "workflow_id": f"{workflow_id}/again"}
        )
        assert forked.json() == {"workflow_id": f"{workflow_id}/again"}
        ended = problem(client.post(f"/api/workflows/{written}/cancel"), 409)
        assert repr(workflow_id) in ended
        again = client.post(f"/api/workflows/{written}/resume", json={"approve": ["x"]})
        assert f"no workflow {workflow_id!r} that asked" in problem(again, 404)
    assert "nothing at '/api/runs/a/b'" in problem(client.get("/api/runs/a/b"), 404)
    unknown = client.post("/api/workflows/a%2Fb/runs", json={"input": {}})
    assert "there is no entrypoint 'a/b'" in problem(unknown, 404)
    assert "nothing at '/api/no/a%2Fb'" in problem(client.get("/api/no/a%2Fb"), 404)


def test_json_that_cannot_be_used_starts_nothing(host: Host, client: httpx.Client) -> None:
    before = rows(host)
    for text, reason in {
        '{"input": ' + "[" * 100_000 + "]" * 100_000 + "}": "nested deeper than 100",
        '{"input": ' + "[" * 100 + "]" * 100 + "}": "nested deeper than 100",
        '{"input": {"name": "x", "name": "y"}}': "the key 'name' is there twice",
        '{"input": {"name": "x"}, "input": {}}': "the key 'input' is there twice",
        '{"input": {"name": "x"}, "delay": Infinity}': "Infinity is not JSON",
        '{"input": {"name": "x", "times": ' + "9" * 5000 + "}}": "digits",
        '{"input": {"name": "x"}}\x00': "JSON",
        '"\udcff"': "body",
        "": "body",
    }.items():
        answer = sent(client, START, text.encode("utf-8", "surrogatepass"))
        assert reason in problem(answer, 422), text[:60]
    assert rows(host) == before


def test_what_text_may_hold_is_kept(host: Host, client: httpx.Client) -> None:
    name = "a\x00b \ud800 \N{GRINNING FACE} \x1b[31m"
    body = json.dumps({"input": {"name": name}})
    workflow_id = sent(client, START, body).json()["workflow_id"]
    assert host.output(workflow_id) == f"[offline model] hello {name}"
    assert host.run(workflow_id)["input"] == name


def test_a_name_that_nothing_has_is_not_found(host: Host, client: httpx.Client) -> None:
    for name in ("%00", "a%00b", "%ED%A0%80", "%ff", "x" * 9000, "%20", "%2e%2e%2f", "%5B"):
        for path in (f"/api/runs/{name}", f"/api/runs/{name}/items"):
            assert "there is no" in problem(client.get(path), 404)
        for path, body in {
            f"/api/workflows/{name}/cancel": {},
            f"/api/workflows/{name}/resume": {"approve": "all"},
            f"/api/runs/{name}/fork": {"turn": 1},
            f"/api/workflows/{name}/runs": {"input": {}},
        }.items():
            assert "there is no" in problem(client.post(path, json=body), 404)
    again = {"from_checkpoint": True}
    assert "there is no" in problem(host.post("/api/workflows/%00/resume", again), 404)


def test_a_filter_that_cannot_be_used_is_told(host: Host, client: httpx.Client) -> None:
    for name in ("agent", "session_id", "workflow_id"):
        assert name in problem(client.get("/api/runs", params={name: "a\x00b"}), 422)
        assert client.get("/api/runs", params={name: "x" * 9000}).json()["items"] == []
    assert "workflow_id" in problem(host.get("/api/interruptions", workflow_id="\x00"), 422)
    assert problem(host.get("/api/runs", status="\x00"), 422)
    assert problem(host.get("/api/runs", limit="9" * 5000), 422)
    assert problem(host.get("/api/interruptions", resolved="\x00"), 422)


def test_a_cursor_that_cannot_be_used_is_told(host: Host, client: httpx.Client) -> None:
    workflow_id = host.begin("greet", name="Ada")
    host.output(workflow_id)
    run = host.run(workflow_id)["id"]
    moment = "2026-01-01T00:00:00"
    for text in (
        "[" * 5000 + "]" * 5000,
        "9" * 5000,
        "1e400",
        '["a", "b"]',
        f'["{moment}", "{run}"]',
        f'["{moment}+23:59", "{run}", 1]',
        f'["0001-01-01T00:00:00+23:59", "{run}"]',
        f'["{moment}+00:00", "\\ud800"]',
        '"\\u0000"',
    ):
        for path in ("/api/runs", "/api/interruptions", f"/api/runs/{run}/items"):
            answer = client.get(path, params={"cursor": cursor(text)})
            assert "is not a cursor" in problem(answer, 422), (path, text[:60])
    # Python knows time zones that PostgreSQL does not.
    odd = host.get("/api/runs", cursor=cursor(f'["{moment}+23:59:59.5", "{run}"]'))
    assert odd.status_code == 200


def test_a_fork_that_cannot_be_made_makes_nothing(host: Host, client: httpx.Client) -> None:
    workflow_id = host.begin("greet", name="Ada")
    host.output(workflow_id)
    before = rows(host)
    deep = "[" * 99 + "]" * 99
    for body in (
        *({"turn": 1, "workflow_id": text} for text in ("", " ", *NOT_TEXT, *TOO_LONG)),
        *({"turn": turn} for turn in (0, -1, 2**31, 10**100)),
        {"turn": 1, "agent": {"model": "a\x00b"}},
        {"turn": 1, "agent": {"model": "\ud800"}},
        {"turn": 1, "agent": {"model_settings": {"temperature": "hot"}}},
        {"turn": 1, "input": []},
        {"turn": 1, "input": [{"role": "user", "content": "x"}, 5]},
        {"turn": 1, "append": ["x"]},
    ):
        answer = sent(client, f"/api/runs/{workflow_id}/fork", json.dumps(body))
        assert problem(answer, 422), body
    nested = f'{{"turn": 1, "input": [{{"role": "user", "content": {deep}}}]}}'
    assert "nested" in problem(sent(client, f"/api/runs/{workflow_id}/fork", nested), 422)
    assert rows(host) == before


def test_what_a_fork_is_told_may_be_any_text(host: Host, client: httpx.Client) -> None:
    workflow_id = host.begin("greet", name="Ada")
    host.output(workflow_id)
    agent = {"instructions": "a\x00b", "model_settings": {"metadata": {"a": "\x00"}}}
    made = host.post(f"/api/runs/{workflow_id}/fork", {"turn": 1, "agent": agent, "input": "\x00"})
    assert made.status_code == 202, made.text
    assert host.output(made.json()["workflow_id"]) == "[offline model] hello \x00"


def test_a_decision_that_cannot_be_made_changes_nothing(host: Host, client: httpx.Client) -> None:
    workflow_id = host.begin("ask", target="moon")
    (asked,) = host.run_when(workflow_id, "interrupted")["interruptions"]
    path = f"/api/workflows/{workflow_id}/resume"
    for body, status in (
        ({"approve": ["\ud800"]}, 404),
        ({"approve": ["a\x00b"]}, 404),
        ({"approve": ["x" * 9000]}, 404),
        ({"supply": {"\ud800": 1}}, 404),
        ({"supply": {"\x00": 1}}, 404),
        ({"edit": {"\ud800": {}}}, 404),
        ({"edit": {asked["id"]: 5}}, 422),
        ({"edit": {asked["id"]: {"target": "\ud800"}}}, 422),
        ({"edit": {asked["id"]: {"target": 5}}}, 422),
        ({"edit": {asked["id"]: {"target": "x"}}, "always": True}, 422),
        ({"edit": {asked["id"]: {"target": "x"}}, "approve": [asked["id"]]}, 409),
        ({"approve": [asked["id"]], "expect": {asked["id"]: "\ud800" * 64}}, 409),
        ({"approve": [asked["id"]], "expect": {asked["id"]: 5}}, 422),
        ({"approve": [asked["id"]], "expect": {"x": asked["hash"]}}, 404),
        ({"approve": [1] * 10_000}, 422),
        ({"approve": [asked["id"]], "reject": [asked["id"]]}, 409),
    ):
        detail = problem(sent(client, path, json.dumps(body)), status)
        assert len(detail) < 20_000
    deep = f'{{"supply": {{"{asked["id"]}": {"[" * 99 + "]" * 99}}}}}'
    assert "nested" in problem(sent(client, path, deep), 422)
    assert "nested" in problem(sent(client, path, deep.replace("supply", "edit")), 422)
    assert host.run(workflow_id)["interruptions"] == [asked]
    text = "done \ud800 \x00"
    decided = sent(client, path, json.dumps({"supply": {asked["id"]: text}, "message": text}))
    assert decided.status_code == 200, decided.text
    assert host.output(workflow_id) == f"[offline model] {text}"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_is_not_sent_as_json_is_told(host: Host, kind: str) -> None:
    answer = httpx.post(host.url + START, content="{}", headers={"content-type": kind})
    assert problem(answer, 422)
