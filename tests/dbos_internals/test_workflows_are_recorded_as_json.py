"""With `JSONSerializer`, DBOS keeps all of a workflow as JSON, and gives all of it back."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from dbos import DBOS, DBOSClient
from dbos._serialization import DBOSDefaultSerializer
from pydantic import BaseModel

import timestep
from tests.support.dbos_app import App, launch
from timestep import JSONSerializer
from timestep.dbos_internals import serializer
from timestep.errors import AlreadyStartedError
from timestep.journal import executors
from timestep.serialization.workflow_documents import NAME, NOT_SHOWN

pytestmark = pytest.mark.own_database


@dataclasses.dataclass
class Line:
    item: str
    price: Decimal


class Order(BaseModel):
    number: uuid.UUID
    lines: list[Line]


class SoldOutError(Exception):
    def __init__(self, item: str, *, left: int) -> None:
        super().__init__(f"no {item}")
        self.left = left


@DBOS.step()
async def priced(order: Order) -> tuple[Order, Decimal]:
    return order, sum((line.price for line in order.lines), Decimal())


@DBOS.step()
async def taken(line: Line) -> Line:
    raise SoldOutError(line.item, left=0)


@DBOS.workflow()
async def pack(order: Order, *, line: Line) -> Line:
    raise SoldOutError(line.item, left=len(order.lines))


SEEN: list[Any] = []


@DBOS.workflow()
async def sell(order: Order, line: Line) -> dict[str, Any]:
    """Comes by everything that DBOS records."""
    seen: list[Any] = [order, line, await priced(order)]
    for failing in (
        taken(line),
        (await DBOS.start_workflow_async(pack, order, line=line)).get_result(
            polling_interval_sec=0.02
        ),
    ):
        try:
            await failing
        except SoldOutError as error:
            seen.append((type(error), str(error), error.left))
    me = str(DBOS.workflow_id)
    await DBOS.send_async(me, {"line": line}, "told")
    seen.append(await DBOS.recv_async("told"))
    seen.append(await DBOS.recv_async("outside"))
    await DBOS.set_event_async("order", order)
    seen.append(await DBOS.get_event_async(me, "order"))
    await DBOS.write_stream_async("lines", line)
    await DBOS.close_stream_async("lines")
    seen.append([one async for one in DBOS.read_stream_async(me, "lines")])
    (child,) = await DBOS.list_workflows_async(parent_workflow_id=me)
    seen.append((child.status, child.input, type(child.error), child.workflow_id))
    seen.append(
        [(s["output"], type(s["error"])) for s in await DBOS.list_workflow_steps_async(me, limit=3)]
    )
    SEEN.append(seen)
    return {"order": order, "lines": (line,)}


def serializations(app: App) -> set[str | None]:
    """What wrote the records of workflows."""
    found: set[str | None] = set()
    with psycopg.connect(app.url) as connection:
        for table, column in (
            ("workflow_status", "name"),
            ("operation_outputs", "coalesce(output, error)"),
            ("notifications", "message"),
            ("workflow_events", "value"),
            ("streams", "value"),
        ):
            found.update(
                name
                for (name,) in connection.execute(
                    f"SELECT serialization FROM dbos.{table} WHERE {column} IS NOT NULL".encode()
                )
            )
    return found


def test_all_of_a_workflow_comes_back_when_it_is_executed_again(app: App) -> None:
    SEEN.clear()
    order = Order(number=uuid.UUID(int=7), lines=[Line("tea", Decimal("1.50"))])
    line = Line("pot", Decimal("20"))
    client = DBOSClient(
        system_database_url=app.url,
        serializer=JSONSerializer(),
        application_name="timestep-tests",
    )

    async def run() -> Any:
        handle = await DBOS.start_workflow_async(sell, order, line=line)
        await client.send_async(handle.workflow_id, line, "outside")
        return handle.workflow_id, await handle.get_result(polling_interval_sec=0.02)

    workflow_id, sold = asyncio.run(run())
    expected = {"order": order, "lines": (line,)}
    assert sold == expected
    found = client.list_workflows(workflow_ids=[workflow_id])[0]
    assert (found.input, found.output) == ({"args": (order,), "kwargs": {"line": line}}, expected)
    client.destroy()
    assert app.recover(workflow_id) == str(expected)
    first, second = SEEN
    assert first == second
    assert first[:5] == [
        order,
        line,
        (order, Decimal("1.50")),
        (SoldOutError, "no pot", 0),
        (SoldOutError, "no pot", 1),
    ]
    assert first[5:9] == [{"line": line}, line, order, [line]]
    assert serializations(app) == {"timestep_json", "portable_json"}


@DBOS.workflow()
async def double(number: int) -> int:
    return 2 * number


def test_an_application_keeps_its_own_serializer(app: App) -> None:
    DBOS.destroy()
    launch(app.url, serializer=DBOSDefaultSerializer)
    for _ in range(2):
        assert asyncio.run(timestep.start_run(double, {"number": 2}, workflow_id="w")) == "w"
    assert DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02) == 4
    with pytest.raises(AlreadyStartedError, match="with another input"):
        asyncio.run(timestep.start_run(double, {"number": 3}, workflow_id="w"))
    run = asyncio.run(timestep.get_run("w"))
    assert (run.input, run.final_output) == (NOT_SHOWN, NOT_SHOWN)
    assert serializer.in_use() is DBOSDefaultSerializer
    DBOS.destroy()
    DBOS(config={"name": "timestep-tests", "system_database_url": app.url})
    assert not executors.are_pickles_refused(), "it is not launched, but says what is read"
    DBOS.destroy()
    # Once the server has seen that its connections are gone, which tell of an application.
    app.until(executors.are_pickles_refused)

    # A process without a DBOS of its own writes what hosts read, and does not unpickle.
    assert serializer.in_use().name() == NAME
    with pytest.raises(AlreadyStartedError, match="cannot be told"):
        asyncio.run(timestep.start_run(double, {"number": 2}, workflow_id="w"))
    asyncio.run(timestep.start_run(double, {"number": 2}, workflow_id="apart"))
    assert serializations(app) == {"py_pickle", NAME}
