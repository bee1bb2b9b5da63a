"""What DBOS warns of is in a host's log, though it says nothing while it is launched."""

from __future__ import annotations

import logging
import threading

import pytest

from timestep.host import launch


def test_warnings_of_dbos_are_heard_from_its_launch_on(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # What earlier tests left may say something, too.
            if record.thread == threading.get_ident():
                heard.append(record.getMessage())

    log = logging.getLogger("dbos")
    handler = Heard(logging.CRITICAL)
    monkeypatch.setattr(log, "handlers", [handler])
    level = log.level
    try:
        log.setLevel(logging.CRITICAL)
        log.warning("while it is launched")
        launch._hear_of_dbos()
        log.warning("afterwards")
        log.info("not this")
    finally:
        log.setLevel(level)
    assert heard == ["afterwards"]
