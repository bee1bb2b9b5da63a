"""Names this process so that another one on the same machine can see that it is gone."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

_PROC = Path("/proc")

_STATE, _BEGAN = 0, 19
"""Where the fields of a `stat` file are, counted from behind the program's name."""
_ENDED = ("Z", "X")


def own() -> str | None:
    """The identity of this process; None where the machine does not tell enough to be sure."""
    machine, fields = _machine(), _stat(os.getpid())
    if machine is None or fields is None:
        return None
    return json.dumps([machine, os.getpid(), fields[_BEGAN]])


def is_gone(identity: str | None) -> bool:
    """Whether a process has ended for certain. Of another machine's, or container's, none has."""
    if identity is None:
        return False
    machine, pid, began = json.loads(identity)
    if machine != _machine():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # Counted in ticks since the machine began: a clock that is set does not change it.
    fields = _stat(pid)
    return fields is not None and (fields[_STATE] in _ENDED or fields[_BEGAN] != began)


def _machine() -> list[str] | None:
    """What only processes that see each other's ids have in common."""
    try:
        boot_id = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return [platform.node(), boot_id, str((_PROC / "self/ns/pid").stat().st_ino)]
    except OSError:
        return None


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
