"""The lease of a process, and how one process sees that another is gone."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess

import pytest

from timestep.runtime import lease, process_identity, process_state
from timestep.runtime.lease import Lease


def test_nothing_begins_once_a_lease_has_run_out_until_it_is_prolonged() -> None:
    async def main() -> None:
        await lease.held()  # A process without a claim.
        found = process_state.of(Lease)
        found.hold(lease.now() - 1)
        assert not found.is_valid
        assert found.overdue >= 1
        waiting = asyncio.create_task(lease.held())
        await asyncio.sleep(0)
        assert not waiting.done()
        found.hold(lease.now() + 60)
        await waiting
        assert (found.is_valid, found.overdue) == (True, 0)

    asyncio.run(main())


def test_what_waits_when_a_lease_is_ended_is_for_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "_LOOK", 0.0)

    async def main() -> None:
        found = process_state.of(Lease)
        found.hold(math.inf)
        found.end()
        early = asyncio.create_task(lease.held())
        await asyncio.sleep(0)
        found.hold(math.inf)
        await lease.held()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not early.done()
        early.cancel()

    asyncio.run(main())


def test_a_process_is_gone_only_if_that_is_certain() -> None:
    own = process_identity.own()
    assert own is not None, "these tests run on Linux"
    assert not process_identity.is_gone(own)
    assert not process_identity.is_gone(None)
    machine, pid, _ = json.loads(own)
    assert process_identity.is_gone(json.dumps([machine, pid, "1"])), "another has its number"
    elsewhere = [*machine[:2], "of another container"]
    assert not process_identity.is_gone(json.dumps([elsewhere, pid, "1"]))
    assert not process_identity.is_gone(json.dumps([machine, 1, _began(1)])), "of another user"

    with subprocess.Popen(["sleep", "60"]) as ended:
        identity = json.dumps([machine, ended.pid, _began(ended.pid)])
        assert not process_identity.is_gone(identity)
        ended.kill()
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert process_identity.is_gone(identity), "nobody has waited for it yet"
    assert process_identity.is_gone(identity)


def _began(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]
