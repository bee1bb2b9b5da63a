"""The configuration of Prometheus in docs/metrics.md asks a host rightly, and for what it tells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.documented_examples import examples
from tests.support.host_process import Host, own_host
from timestep.config import Settings
from timestep.operations.queries.metrics import METRICS
from timestep.web.routes.metrics import HOST_METRICS

__all__ = ["own_host"]

TOKEN = "t" * 40
_SELECTOR = re.compile(r"(timestep_\w+)(?:\{(\w+)(=~?)\"([^\"]*)\"\})?(?:\[\w+\])?")


def documented() -> tuple[dict[str, Any], dict[str, Any]]:
    """What the page has: how hosts are asked, and the alerts."""
    asks, alerts = (yaml.safe_load(text) for text in examples("docs/metrics.md", "yaml"))
    return asks, alerts


def only(found: dict[str, Any], *names: str) -> list[Any]:
    """The values of a mapping that has these names and no others."""
    assert sorted(found) == sorted(names)
    return [found[name] for name in names]


def test_a_host_is_asked_with_the_token_of_the_file(own_host: Host, tmp_path: Path) -> None:
    """As Prometheus asks: GET /metrics over http, a Bearer token, where nothing else is said."""
    ((job,),) = only(documented()[0], "scrape_configs")
    _, authorization, (group,) = only(job, "job_name", "authorization", "static_configs")
    (path,) = only(authorization, "credentials_file")
    ((target,),) = only(group, "targets")
    assert target == f"{Settings().host}:{Settings().port}"

    file = tmp_path / Path(path).name
    file.write_text(TOKEN + "\n")
    own_host.environment["TIMESTEP_API_TOKENS"] = f"prometheus:viewer:{TOKEN}"
    address = f"{own_host.start().url}/metrics"
    sent = {"Authorization": f"Bearer {file.read_text().strip()}"}
    answer = httpx.get(address, headers=sent, trust_env=False)
    assert answer.status_code == 200
    assert "timestep_runs_started_total 0.0" in answer.text
    assert httpx.get(address, trust_env=False).status_code == 401


def test_the_alerts_are_about_what_is_told() -> None:
    """A file of rules: groups with a name, and rules with an alert and an expression."""
    (groups,) = only(documented()[1], "groups")
    metrics = {one.name: one for one in (*METRICS, *HOST_METRICS)}
    for group in groups:
        name, rules = only(group, "name", "rules")
        assert name
        assert len({rule["alert"] for rule in rules}) == len(rules) > 0
        for rule in rules:
            _, expression = only(rule, "alert", "expr")
            asked = _SELECTOR.findall(expression)
            for metric, label, operator, value in asked:
                if label:
                    place = metrics[metric].labels.index(label)
                    told = {labels[place] for labels in metrics[metric].always}
                    assert set(value.split("|") if operator == "=~" else [value]) <= told, rule
                assert ("rate(" in expression) == (metrics[metric].kind == "counter"), rule
            assert asked, rule
            for side in _SELECTOR.sub("x", expression).split(" or "):
                assert re.fullmatch(r"(max\(x\)|max\(rate\(x\)\)) [<>] [\d.]+|absent\(x\)", side)
