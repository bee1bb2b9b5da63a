"""`dbos start` hears how the host ended, and not how a shell around it did."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from dbos._dbos_config import load_config

from tests.support.host_process import ROOT

# Says that it is there, and ends well when it is interrupted, as the host does.
_HOST = """#!/bin/sh
trap 'exit 0' INT
echo there
while :; do sleep 0.01; done
"""


def test_an_interrupted_host_ends_the_start_command_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timestep").write_text(_HOST)
    (tmp_path / "timestep").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    runtime = load_config(str(ROOT / "dbos-config.yaml"))["runtimeConfig"]
    (command,) = runtime["start"]
    # As DBOS starts it, and hands on Ctrl-C.
    with subprocess.Popen(
        command, shell=True, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 0
