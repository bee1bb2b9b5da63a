"""A workflow whose recovery ends its host is found, put aside and told; those beside it go on."""

from __future__ import annotations

from pathlib import Path

from tests.support.conditions import until
from tests.support.host_process import Host, lines, own_host
from timestep.host.process_ends import judged
from timestep.store.fleet.process_ends import UnderWay

__all__ = ["own_host"]

_JOB = '''\
import asyncio
import os
from pathlib import Path

from agents import Agent, function_tool
from dbos import DBOS

import timestep
from timestep import offline
from timestep.host import process_ends

# What waits for its turn does so for longer than the test.
process_ends._BETWEEN_GROUPS = 3600.0


@function_tool
async def crash(folder: str) -> str:
    """End the process once the test says so."""
    with Path(folder, "crashes").open("a") as file:
        file.write("begun\\n")
    while not Path(folder, "crash").exists():
        if Path(folder, "mended").exists():
            return "survived"
        await asyncio.sleep(0.01)
    os._exit(70)


crasher = Agent(
    "Crasher",
    tools=[crash],
    model=offline.OfflineModel(
        lambda seen: [offline.call("crash", folder=seen.text)],
        lambda seen: seen.output("crash"),
    ),
)


@DBOS.workflow()
async def crashing(folder: str) -> str:
    """Ends its process."""
    result = await timestep.run_agent(crasher, folder)
    return str(result.final_output)
'''


def crash(host: Host, folder: Path, times: int) -> None:
    """Let the tool end the host once it is in it for so many times."""
    until(lambda: len(lines(folder, "crashes")) == times)
    (folder / "crash").touch()
    assert host.ended() == 70
    (folder / "crash").unlink()


def test_the_one_that_ends_its_host_is_put_aside_and_the_other_completes(
    own_host: Host, tmp_path: Path
) -> None:
    Path(own_host.folder, "workflows", "crashes.py").write_text(_JOB)
    own_host.start()
    innocent = own_host.begin("work", folder=str(tmp_path))
    until(lambda: len(lines(tmp_path, "held")) == 1)
    guilty = own_host.begin("crashing", folder=str(tmp_path))
    crash(own_host, tmp_path, 1)

    # Both are recovered at once, as ever.
    own_host.start()
    until(lambda: len(lines(tmp_path, "held")) == 2)
    crash(own_host, tmp_path, 2)

    # Its recovery ended the process: the likelier one is recovered before the other.
    own_host.start()
    assert "ended soon after it went on with 2 workflows" in own_host.log.read_text()
    held = own_host.run(innocent)
    assert (held["workflow"]["status"], held["is_stuck"]) == ("DELAYED", False)
    assert "held back: its host ended soon after" in held["obstacle"]
    # Both of them twice: that the one goes on a little later, too.
    counted = own_host.rows(
        "SELECT value FROM timestep.metric_sums WHERE metric = 'timestep_recoveries_total'"
    )
    assert [row["value"] for row in counted] == [4]
    crash(own_host, tmp_path, 3)
    assert len(lines(tmp_path, "held")) == 2

    own_host.start()
    log = own_host.log.read_text()
    assert f"workflow '{guilty}' is put aside: the host ended 2 times in a row" in log
    assert "put aside    1 workflow whose recovery ended the host" in log
    (tmp_path / "go").touch()
    assert own_host.output(innocent).endswith("all done")
    aside = own_host.run(guilty)
    assert (aside["status"], aside["is_stuck"]) == ("running", True)
    assert aside["obstacle"] == (
        "put aside: the host ended 2 times in a row, each time soon after it went on with it: try "
        f"it once more with `timestep resume {guilty} --again`, or end it with "
        f"`timestep cancel {guilty}`"
    )
    assert f"{guilty}: put aside: the host ended 2 times" in own_host.command("show", guilty)
    assert "running (put aside)" in own_host.command("runs")
    assert len(lines(tmp_path, "crashes")) == 3

    # Once more, and not twice.
    assert own_host.command("resume", guilty, "--again") == f"{guilty} goes on"
    crash(own_host, tmp_path, 4)
    own_host.start()
    assert "put aside: the host ended 2 times in a row" in own_host.run(guilty)["obstacle"]

    (tmp_path / "mended").touch()
    answer = own_host.post(f"/api/workflows/{guilty}/resume", {"again": True})
    assert (answer.status_code, answer.json()["goes_on"]) == (200, True)
    assert own_host.output(guilty).endswith("survived")
    assert own_host.run(guilty)["obstacle"] is None


def under_way(name: str, ends: int, seconds: float = 1.0, recorded_at: int = 0) -> UnderWay:
    return UnderWay(name, "1", ends, seconds, recorded_at)


def test_the_only_one_that_it_can_have_been_is_put_aside() -> None:
    # Begun beside it since, and gone on with for long, and new: none of these.
    beside = [under_way("late", 0), under_way("long", 1, seconds=301), under_way("new", -1)]

    found = judged([under_way("guilty", 1), *beside])

    assert (found.aside, found.delays) == ("guilty", {})
    assert found.ends == {"guilty": 2, "late": 1, "long": 0, "new": 0}


def test_one_end_puts_nothing_aside() -> None:
    assert judged([under_way("first", -1)]).ends == {"first": 0}
    assert judged([under_way("second", 0)]).aside is None
    assert judged([under_way("second", 0)]).delays == {}
    assert judged([]).aside is None
    # The host was seen last before it took them up.
    both = [under_way("b", 0, seconds=-0.5), under_way("a", 0, seconds=0.5, recorded_at=1)]
    assert judged(both).delays == {"b": 15}


def test_several_begin_in_groups_that_grow() -> None:
    many = [under_way(str(n), 0, recorded_at=-n) for n in range(1000)]

    delays = judged(many).delays

    assert "0" not in delays
    assert [delays[name] for name in ("1", "2", "3", "6", "7")] == [15, 15, 30, 30, 45]
    assert max(delays.values()) == 9 * 15

    # So far apart that an end shows which it was, in the order in which they began last.
    twice = [under_way("first", 1, seconds=40), under_way("then", 1), under_way("new", 0)]
    found = judged(twice)
    assert (found.aside, found.delays) == (None, {"then": 300, "first": 300})
