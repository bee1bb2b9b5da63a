"""Live events of runs over HTTP, from hosts that are killed and started again meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.conditions import until
from tests.support.event_reader import EventReader, type_of
from tests.support.host_process import Host, lines, own_host

__all__ = ["own_host"]


@pytest.fixture
def other_host(own_host: Host) -> Iterator[Host]:
    """A host that executes nothing, on the same database; not started yet."""
    served = Host(own_host.folder, own_host.database, DBOS__VMID="other")
    served.log = own_host.folder / "other.log"
    yield served
    served.close()


def test_a_reader_goes_on_where_the_host_that_executes_was_killed(
    own_host: Host, other_host: Host, tmp_path: Path
) -> None:
    host = own_host.start()
    workflow_id = host.begin("work", folder=str(tmp_path), stream=True)
    path = f"/api/runs/{workflow_id}/events"
    first = EventReader(host.url + path)
    until(lambda: bool(lines(tmp_path, "held")))
    other_host.start()
    whole = EventReader(other_host.url + path)
    first.until("run.started", "tool_call_output_item")
    whole.until("run.started", "tool_call_output_item")
    host.signal(signal.SIGKILL)
    first.ended()
    host.ended()
    host.start()
    second = EventReader(host.url + path, first.last)
    until(lambda: len(lines(tmp_path, "held")) == 2)
    (tmp_path / "go").touch()
    uninterrupted = whole.ended()
    assert first.events + second.ended() == uninterrupted
    types = [type_of(one) for one in uninterrupted]
    assert types[0] == "run.started"
    assert types[-2:] == ["run.completed", "end"]
    assert "response.output_text.delta" in types
    assert types.count("message_output_item") == 1
    assert len({one.id for one in uninterrupted}) == len(uninterrupted)
    assert uninterrupted[-1].data == {"reason": "over", "status": "completed"}
    # Who was told the end is not told again; a browser does not come back then.
    assert EventReader(host.url + path, uninterrupted[-1].id).begun().status == 204
    again = EventReader(host.url + path, uninterrupted[-2].id).ended()
    assert again == uninterrupted[-1:]
