"""What entrypoints, steps and errors give is the same in a host that recovers them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psycopg

from tests.support import forked_processes
from tests.support.conditions import until
from tests.support.host_process import Host, lines, own_host

__all__ = ["own_host"]

ORDERS = '''\
import asyncio, dataclasses, datetime, enum, uuid
from decimal import Decimal
from pathlib import Path

from dbos import DBOS
from pydantic import BaseModel

class Size(enum.Enum):
    SMALL = "s"

@dataclasses.dataclass(frozen=True)
class Line:
    item: str
    price: Decimal
    size: Size = Size.SMALL

class Order(BaseModel):
    number: uuid.UUID
    at: datetime.datetime
    lines: tuple[Line, ...]
    tags: set[str] = set()

class SoldOutError(Exception):
    def __init__(self, line: str, left: int) -> None:
        super().__init__(line, left)
        self.left = left

@DBOS.step()
async def priced(order: Order) -> tuple[Line, Decimal]:
    return order.lines[0], sum((line.price for line in order.lines), Decimal())

@DBOS.step()
async def reserve(line: Line) -> None:
    raise SoldOutError(line.item, 3)

@DBOS.step()
async def hold(folder: str) -> None:
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.01)

@DBOS.workflow()
async def buy(order: Order, line: Line, photo: bytes, folder: str) -> Order:
    """Buy, slowly."""
    seen = [order, line, photo, await priced(order)]
    try:
        await reserve(line)
    except SoldOutError as error:
        seen += [type(error).__name__, error.args, error.left]
    with Path(folder, "seen").open("a") as file:
        file.write(repr(seen) + "\\n")
    await hold(folder)
    return order

@DBOS.workflow()
async def secretive() -> object:
    """Return what cannot be recorded."""
    return Path.cwd
'''


def test_values_are_equal_after_a_crash(own_host: Host, tmp_path: Path) -> None:
    (own_host.folder / "workflows" / "orders.py").write_text(ORDERS)
    own_host.start()
    line = {"item": "tea", "price": "1.50", "size": "s"}
    order = {
        "number": "00000000-0000-0000-0000-000000000007",
        "at": "2026-01-02T03:04:05Z",
        "lines": [line],
        "tags": ["a"],
    }
    given = {"order": order, "line": line, "photo": "f\u00fcr", "folder": str(tmp_path)}
    over_http = own_host.begin("buy", **given)
    command = ("-m", "timestep", "start", "buy", "--input", json.dumps(given))
    started = forked_processes.run(*command, cwd=own_host.folder, env=own_host.environment)
    assert started.returncode == 0, started.stderr
    by_command = started.stdout.strip()
    until(lambda: len(lines(tmp_path, "seen")) == 2)
    failing = own_host.run_when(own_host.begin("secretive"), "failed")
    assert failing["error"]["type"] == "UnrecordableError"
    assert "cannot be recorded as JSON and come back" in failing["error"]["message"]
    again = own_host.post("/api/workflows/buy/runs", {"input": given, "workflow_id": over_http})
    assert again.status_code == 202
    other = {**given, "line": {**line, "price": "1.51"}}
    again = own_host.post("/api/workflows/buy/runs", {"input": other, "workflow_id": over_http})
    assert again.status_code == 409
    own_host.signal(signal.SIGKILL)
    own_host.ended()

    own_host.start()
    until(lambda: len(lines(tmp_path, "seen")) == 4)
    (tmp_path / "go").touch()
    for workflow_id in (over_http, by_command):
        assert own_host.output(workflow_id) == order | {"at": "2026-01-02T03:04:05Z"}
        shown = own_host.run(workflow_id)["input"]
        assert shown == {**given, "photo": "ZsO8cg=="}
    (seen,) = set(lines(tmp_path, "seen"))
    assert "'SoldOutError', ('tea', 3), 3]" in seen
    with psycopg.connect(own_host.database) as connection:
        found = connection.execute(
            "SELECT DISTINCT serialization FROM dbos.workflow_status UNION "
            "SELECT DISTINCT serialization FROM dbos.operation_outputs"
        ).fetchall()
    assert found == [("timestep_json",)]
