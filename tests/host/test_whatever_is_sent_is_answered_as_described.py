"""Whatever programs send, a host answers as `/openapi.json` says: no 500, nothing undocumented."""

from __future__ import annotations

import collections
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok

from tests.support.conditions import until
from tests.support.host_process import Host, own_host
from timestep.web.problems import KINDS, TYPE

__all__ = ["own_host"]

TOKENS = {role: f"a-{role}s-token-that-nobody-guesses-in-this-test" for role in ("viewer", "admin")}
_TOKENS = [TOKENS["admin"], *TOKENS.values(), TOKENS["admin"], "a-wrong-one"]

CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

ENTRYPOINTS: dict[str, Any] = {
    "greet": {"name": "Ada"},
    "ask": {"target": "x"},
    "plain": {"order": {"item": "x"}},
}
"""What may be started, and with what: none holds the host up."""


class Sender:
    """Sends cases to a host, and sees that each answer is as it is described."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.answers: collections.Counter[int] = collections.Counter()
        self.session = requests.Session()
        self.token = {"authorization": f"Bearer {TOKENS['admin']}"}
        for number, name in enumerate(ENTRYPOINTS):
            self._start(name, f"known/{number}")
        described = self.session.get(f"{host.url}/openapi.json", headers=self.token).json()
        self.schema = schemathesis.openapi.from_dict(described)
        load_all_checks()
        self.checks: list[Any] = CHECKS.get_by_names(list(CHECKED))
        asked = self._run("known%2F1", "interrupted")
        self.known = {
            "workflow_id": ["known%2F0", "known%2F1"],
            "run_id": ["known%2F0", self._run("known%2F0", "completed"), asked],
            "name": list(ENTRYPOINTS),
            "session_id": ["talk"],
        }

    def _start(self, name: str, workflow_id: str) -> None:
        body = {"input": ENTRYPOINTS[name], "workflow_id": workflow_id}
        url = f"{self.host.url}/api/workflows/{name}/runs"
        answer = self.session.post(url, json=body, headers=self.token)
        assert answer.status_code == 202, answer.text

    def _run(self, workflow_id: str, status: str) -> str:
        """The id of a workflow's run, once it has a status."""
        url = f"{self.host.url}/api/runs/{workflow_id}"
        until(lambda: self._get(url)["status"] == status)
        return str(self._get(url)["id"])

    def _get(self, url: str) -> dict[str, Any]:
        return dict(self.session.get(url, headers=self.token).json())

    def send(self, case: Case[Any], token: str, data: st.DataObject) -> None:
        operation = str(case.operation.definition.raw["operationId"])
        for name in case.path_parameters or {}:
            known = data.draw(st.sampled_from([None, *self.known[name]]))
            if known is not None:
                case.path_parameters[name] = known
        if operation == "start_workflow" and isinstance(case.body, dict):
            name = str(case.path_parameters["name"])
            if name in ENTRYPOINTS and data.draw(st.booleans()):
                case.body["input"] = ENTRYPOINTS[name]
        case.headers = CaseInsensitiveDict(case.headers or {})
        case.headers["Authorization"] = f"Bearer {token}"
        if operation in ("follow_run", "follow_all"):
            self._follow(case)
            return
        response = case.call(base_url=self.host.url, session=self.session, timeout=60)
        self.answers[response.status_code] += 1
        case.validate_response(response, checks=self.checks)
        if response.status_code >= 400:
            kind = response.json()["type"].removeprefix(TYPE)
            assert KINDS[kind][0] == response.status_code

    def _follow(self, case: Case[Any]) -> None:
        """Read no more than how an answer begins that may have no end."""
        sent = case.as_transport_kwargs(base_url=self.host.url)
        with self.session.request(**sent, stream=True, timeout=60) as response:
            self.answers[response.status_code] += 1
            described = case.operation.definition.raw["responses"]
            assert str(response.status_code) in described, response.status_code
            assert response.status_code < 500
            kind = {200: "text/event-stream", 204: ""}.get(
                response.status_code, "application/problem+json"
            )
            assert response.headers.get("content-type", "").partition(";")[0] == kind


def _cases(operation: APIOperation[Any, Any, Any, Any]) -> st.SearchStrategy[Case[Any]]:
    # What fits gets further than what does not.
    modes = (GenerationMode.POSITIVE, GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    return st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])


_MANY = pytest.param(2000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])


@pytest.mark.parametrize("cases", [200, _MANY], ids=["some", "many"])
def test_all_answers_are_described(own_host: Host, cases: int, record_property: Any) -> None:
    given_tokens = ",".join(f"{role}:{role}:{token}" for role, token in TOKENS.items())
    own_host.environment["TIMESTEP_API_TOKENS"] = given_tokens
    sender = Sender(own_host.start())
    found = list(sender.schema.get_all_operations())
    operations = [one.ok() for one in found if isinstance(one, Ok)]
    assert len(operations) == len(found)
    # Of calls that take little, there are fewer.
    examples = -(-cases // (len(operations) - 4))
    for operation in operations:
        # None that an earlier run has found: the same in each run.
        @given(_cases(operation), st.sampled_from(_TOKENS), st.data())
        @settings(
            max_examples=examples,
            phases=[Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def send(case: Case[Any], token: str, data: st.DataObject) -> None:
            sender.send(case, token, data)

        send()
    sent = sum(sender.answers.values())
    assert sent >= cases
    assert {200, 401, 403, 404, 422} <= set(sender.answers)
    told = ", ".join(f"{status}: {count}" for status, count in sorted(sender.answers.items()))
    record_property("summary", f"{sent} requests to {len(operations)} calls: {told}")
