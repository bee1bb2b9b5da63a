"""Serves /metrics: what Prometheus asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from timestep.operations.queries.metrics import METRICS, Metric, Values, read_metrics
from timestep.web.auth import require
from timestep.web.dependencies import ERRORS

router = APIRouter(dependencies=[Depends(require("viewer"))], responses=ERRORS)

_EXAMPLE = '# TYPE timestep_runs gauge\ntimestep_runs{status="running"} 3.0\n'

KEPT = 3.0
"""Seconds for which what the database told is told again."""

HOST_METRICS: tuple[Metric, ...] = (
    Metric("timestep_host_readers", "gauge", (), "Clients that follow runs at this host."),
    Metric("timestep_host_connections", "gauge", (), "Connections of HTTP that this host holds."),
    Metric("timestep_host_query_seconds", "gauge", (),
           "How long this host took to read the metrics that the database tells."),
)  # fmt: skip
"""What is of the host alone that is asked."""


class Metrics:
    """Reads what the database tells once for all who ask at the same time, and keeps it a little.

    An application has one.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        """How long it took the last time."""
        self._until = 0.0
        self._reading: asyncio.Task[Values] | None = None

    async def values(self) -> Values:
        """The values of `METRICS`, at most `KEPT` seconds old.

        Raises:
            DatabaseError: The database refused, or is away.
        """
        reading = self._reading
        if reading is None or (reading.done() and time.monotonic() >= self._until):
            reading = self._reading = asyncio.create_task(self._read())
        # Who does not wait any longer leaves it to the next one.
        return await asyncio.shield(reading)

    async def _read(self) -> Values:
        began = time.monotonic()
        self._until = began  # Nothing is kept of what fails.
        values = await asyncio.to_thread(read_metrics)
        ended = time.monotonic()
        self.seconds, self._until = ended - began, ended + KEPT
        return values


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text, or OpenMetrics: docs/metrics.md.",
            "content": {
                kind: {"schema": {"type": "string"}, "example": _EXAMPLE}
                for kind in ("text/plain", "application/openmetrics-text")
            },
        }
    },
)
async def metrics(request: Request) -> Response:
    """How runs, questions, queues and hosts stand, and what was done, for Prometheus."""
    state = request.app.state
    values = await state.metrics.values()
    own: Values = {
        "timestep_host_readers": {(): float(len(state.event_streams.readers))},
        "timestep_host_connections": {(): float(state.connections())},
        "timestep_host_query_seconds": {(): state.metrics.seconds},
    }
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told({**values, **own}))
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(
        encode(registry), media_type=content_type, headers={"Cache-Control": "no-store"}
    )


class _Told(Collector):
    """Values, as the library takes them."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        for metric in (*METRICS, *HOST_METRICS):
            family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
                metric.name, metric.meaning, labels=metric.labels
            )
            for labels, value in sorted(self._values[metric.name].items()):
                family.add_metric(labels, value)
            yield family
