"""A host's forks, and a new version of its sources that goes on with what the old one left."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from tests.support import forked_processes
from tests.support.conditions import until
from tests.support.host_process import Host, host, lines, own_host
from tests.support.problems import problem

__all__ = ["host", "own_host"]

_OLD = """    result = await timestep.run_agent(worker, folder, stream=stream)
    return str(result.final_output)
"""
_NEW = """    await tell(folder)
    result = await timestep.run_agent(worker, folder, stream=stream)
    return f"in other code: {result.final_output}"


@DBOS.step()
async def tell(folder: str) -> None:
    with Path(folder, "told").open("a") as file:
        file.write("told\\\\n")
"""


def command(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked_processes.run("-m", "timestep", *arguments, cwd=host.folder, env=host.environment)


def test_a_new_version_goes_on_with_what_the_old_one_left(own_host: Host, tmp_path: Path) -> None:
    own_host.start()
    workflow_id = own_host.begin("work", folder=str(tmp_path))
    until(lambda: bool(lines(tmp_path, "held")))
    asking = [own_host.begin("ask", target=name) for name in ("moon", "mars")]
    until(lambda: all(map(own_host.is_parked, asking)))
    refused = command(own_host, "resume", workflow_id, "--from-checkpoint")
    assert refused.returncode == 1
    assert "is being executed by a live host" in refused.stderr
    old = own_host.run(workflow_id)
    own_host.signal(signal.SIGKILL)
    own_host.ended()

    jobs = own_host.folder / "workflows" / "jobs.py"
    source = jobs.read_text()
    assert _OLD in source
    jobs.write_text(source.replace(_OLD, _NEW.replace("\\\\", "\\")))
    (tmp_path / "go").touch()
    own_host.start()
    greeting = own_host.log.read_text()
    assert (
        "waiting      3 workflows of other versions of the application, which no live" in greeting
    )
    assert "--from-checkpoint" in greeting
    # Nobody approves what was not seen.
    assert "--approve" not in greeting
    check_decisions(own_host, *asking)
    assert own_host.run(workflow_id)["status"] == "running"
    assert lines(tmp_path, "held") == lines(tmp_path, "held")[:1]

    done = command(own_host, "resume", workflow_id, "--from-checkpoint")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{workflow_id} goes on from its newest checkpoint\n"
    assert own_host.output(workflow_id) == "in other code: [offline model] all done"
    assert lines(tmp_path, "notes") == ["noted"]
    assert (len(lines(tmp_path, "held")), lines(tmp_path, "told")) == (2, ["told"])
    run = own_host.run(workflow_id)
    assert (run["id"], run["status"], run["turns"]) == (old["id"], "completed", 3)
    assert "has ended" in command(own_host, "resume", workflow_id, "--from-checkpoint").stderr


def check_decisions(host: Host, by_command: str, by_api: str) -> None:
    """Decide what workflows ask whose version no host runs; in the end they are taken over."""
    helps = f"`timestep resume {by_api} --from-checkpoint`"
    asked = {one["workflow_id"]: one for one in host.get("/api/interruptions").json()["items"]}
    assert asked[by_api]["obstacle"].startswith("no live host runs its version")
    assert helps in asked[by_api]["obstacle"]
    assert (host.run(by_api)["is_stuck"], host.run(by_api)["obstacle"]) == (
        True,
        asked[by_api]["obstacle"],
    )
    told = command(host, "resume", by_command, "--approve", "all")
    assert (told.returncode, told.stdout) == (0, "decided 1\n")
    assert f"with `timestep resume {by_command} --from-checkpoint`, or end it" in told.stderr
    both = {"approve": [asked[by_api]["id"]], "from_checkpoint": True}
    answer = host.post(f"/api/workflows/{by_api}/resume", both)
    assert (answer.status_code, answer.json()["goes_on"]) == (200, True)
    assert host.output(by_api) == "[offline model] launched mars"
    assert host.run(by_command)["workflow"]["status"] == "ENQUEUED"
    command(host, "resume", by_command, "--from-checkpoint")
    assert host.output(by_command) == "[offline model] launched moon"


def test_a_run_is_forked_by_the_api_and_the_command(host: Host, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    old = host.begin("work", folder=str(tmp_path))
    host.output(old)
    assert lines(tmp_path, "notes") == ["noted"]
    run_id = host.run(old)["id"]
    answer = host.post(f"/api/runs/{run_id}/fork", {"turn": 2, "workflow_id": "forked"})
    assert (answer.status_code, answer.json()) == (202, {"workflow_id": "forked"})
    told = command(host, "fork", old, "--turn", "3", "--append", '"thanks"', "--json")
    assert told.returncode == 0, told.stderr
    new = json.loads(told.stdout)["workflow_id"]
    for workflow_id, turn in (("forked", 2), (new, 3)):
        assert host.output(workflow_id) == "[offline model] all done"
        run = host.run(workflow_id)
        assert (run["forked_from_run_id"], run["forked_at_turn"]) == (run_id, turn)
    assert lines(tmp_path, "notes") == ["noted"]
    assert len(lines(tmp_path, "held")) == 2


def test_a_fork_or_takeover_that_cannot_be_is_a_problem(host: Host) -> None:
    workflow_id = host.begin("greet", name="Ada")
    host.output(workflow_id)
    fork, resume = f"/api/runs/{workflow_id}/fork", f"/api/workflows/{workflow_id}/resume"
    assert "no workflow that began one" in problem(host.post("/api/runs/no/fork", {"turn": 1}), 404)
    assert "turns 1 to 1" in problem(host.post(fork, {"turn": 2}), 422)
    assert "turn" in problem(host.post(fork, {"turn": "x"}), 422)
    assert "either" in problem(host.post(fork, {"turn": 1, "input": "a", "append": "b"}), 422)
    taken = {"turn": 1, "workflow_id": workflow_id}
    assert "is not this fork" in problem(host.post(fork, taken), 409)
    assert "has ended" in problem(host.post(resume, {"from_checkpoint": True}), 409)
    both = {"from_checkpoint": True, "approve": "all"}
    assert "has ended" in problem(host.post(resume, both), 409)
    lost = host.post("/api/workflows/no/resume", {"from_checkpoint": True})
    assert "'no'" in problem(lost, 404)
    usage = command(host, "fork", workflow_id)
    assert usage.returncode == 2
    assert "--turn" in usage.stderr
    failed = command(host, "fork", workflow_id, "--turn", "7")
    assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1)
