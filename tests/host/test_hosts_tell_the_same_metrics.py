"""`GET /metrics` of two hosts on one database, one of which is killed; and a queue's limit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import forked_processes
from tests.support.conditions import until
from tests.support.host_process import Host, host, lines, own_host
from tests.web.test_metrics_are_the_databases import shown

__all__ = ["host", "own_host"]

TIME = "timestep_oldest_question_age_seconds"


@pytest.fixture
def other_host(own_host: Host) -> Iterator[Host]:
    """Another host on the same database; not started yet."""
    served = Host(own_host.folder, own_host.database, DBOS__VMID="other")
    served.log = own_host.folder / "other.log"
    yield served
    served.close()


def metrics(host: Host) -> dict[str, dict[tuple[str, ...], float]]:
    """What a host tells, but for what is its own."""
    answer = host.get("/metrics")
    assert answer.status_code == 200, answer.text
    found = shown(answer.text)
    assert found["timestep_host_connections"][()] >= 1
    return {name: values for name, values in found.items() if not name.startswith("timestep_host_")}


def told(host: Host, name: str, *labels: str) -> float:
    return metrics(host)[name].get(labels, 0)


def test_both_tell_the_same_and_go_on_where_one_was_killed(
    own_host: Host, other_host: Host, tmp_path: Path
) -> None:
    host = own_host.start()
    workflow_id = host.begin("work", folder=str(tmp_path))
    until(lambda: bool(lines(tmp_path, "held")))
    until(lambda: told(host, "timestep_steps_total", "tool", "ok") == 1)
    before = metrics(host)
    host.signal(signal.SIGKILL)
    host.ended()
    other_host.start()
    host.start()
    asking = other_host.begin("ask", target="moon")
    until(lambda: other_host.is_parked(asking))
    (tmp_path / "go").touch()
    assert host.output(workflow_id) == "[offline model] all done"

    def are_settled() -> bool:
        one, other = metrics(host), metrics(other_host)
        ages = [found.pop(TIME)[()] for found in (one, other)]
        return min(ages) > 0 and one == other and one["timestep_hosts"] == {(): 2}

    until(are_settled)
    after = metrics(other_host)
    assert after["timestep_runs_started_total"] == {(): 2}
    assert after["timestep_runs_ended_total"]["completed",] == 1
    assert after["timestep_runs"] == {("running",): 0, ("interrupted",): 1}
    assert after["timestep_questions_pending"] == {(): 1}
    assert after["timestep_recoveries_total"] == {(): 1}
    # Three answers and two calls of the one, an answer of the other: none is counted twice.
    assert after["timestep_steps_total"] == {("model", "ok"): 4, ("tool", "ok"): 2}
    for name, values in before.items():
        if name.endswith("_total"):
            assert all(after[name][labels] >= number for labels, number in values.items())


def test_a_start_from_the_command_line_is_told_that_the_queue_is_full(
    own_host: Host,
) -> None:
    done = forked_processes.run(
        "-m", "timestep", "start", "greet", "--input", '{"name": "you"}',
        cwd=own_host.folder,
        env={**own_host.environment, "TIMESTEP_QUEUE_LIMIT": "0"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "as may: 0" in line
    assert "TIMESTEP_QUEUE_LIMIT" in line
