"""Forks processes that have everything imported: each runs or recovers one workflow.

    python -m tests.crash.zygote <address of a unix socket to listen on>

A request is one JSON object: `workflow`, `id`, `url`, `log`, `kill_at`, `decisions`, `fork`,
`way`, `result`. The answer is the exit status of the process that was forked for it, as `os.wait`
tells it. One request at a time: forking needs a process of one thread.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

import dbos
from agents import set_tracing_disabled
from dbos import DBOS, SetWorkflowID
from dbos._utils import INTERNAL_QUEUE_NAME

import timestep
from tests.crash import nested_scenarios, retried_scenarios, scenarios, tool_scenarios
from tests.crash.boundaries import Boundaries
from timestep.dbos_internals import workflow_scope


def perform(request: dict[str, Any]) -> None:
    """Start the workflow, or recover it, and write how it ended."""
    os.environ["TIMESTEP_DB_URL"] = request["url"]
    os.environ["TIMESTEP_ORDINARY_STEPS"] = str(request["way"] == "ordinary").lower()
    scenarios.boundaries = Boundaries(Path(request["log"]), request["kill_at"])
    scenarios.boundaries.install()
    config: dbos.DBOSConfig = {
        "name": "crash-matrix",
        "system_database_url": request["url"],
        "application_version": "1",
        "log_level": "CRITICAL",
        "notification_listener_polling_interval_sec": 0.05,
    }
    instance = DBOS(config=config)
    # Where recovered workflows wait; DBOS looks into it once a second.
    instance._registry._register_internal_queue(INTERNAL_QUEUE_NAME, polling_interval_sec=0.02)
    DBOS.launch()
    result = asyncio.run(_run(request))
    # No farewell to DBOS, which takes its time: the process ends here.
    Path(request["result"]).write_text(json.dumps(result))


async def _run(request: dict[str, Any]) -> Any:
    known = await DBOS.get_workflow_status_async(request["id"])
    if known is None and request["fork"] is not None:
        workflow_id, turn = request["fork"]
        await timestep.fork_run(workflow_id, turn=turn, new_workflow_id=request["id"])
    elif known is None:
        with SetWorkflowID(request["id"]):
            name = request["workflow"]
            modules = (scenarios, tool_scenarios, nested_scenarios, retried_scenarios)
            module = next(module for module in modules if hasattr(module, name))
            workflow = getattr(module, name)
            started = await DBOS.start_workflow_async(workflow, "from Oslo to Rome")
            workflow_scope.leave_unattended(started)
    handle: Any = await DBOS.retrieve_workflow_async(request["id"])
    operator = asyncio.create_task(_decide(request["id"], request["decisions"]))
    try:
        return await handle.get_result(polling_interval_sec=0.02)
    finally:
        operator.cancel()


async def _decide(workflow_id: str, decisions: dict[str, dict[str, Any]]) -> None:
    """A person at the approvals: decides each question as `decisions` says for its call.

    But not before the workflow is parked: every life comes to the same boundaries.
    """
    while True:
        status = await DBOS.get_workflow_status_async(workflow_id)
        if status is None or status.status != "DELAYED":
            await asyncio.sleep(0.005)
            continue
        for waiting in await timestep.list_interruptions(workflow_id=workflow_id):
            if (decision := decisions.get(str(waiting.call_id))) is not None:
                await timestep.resume_workflow(workflow_id, by="tester", **decision)


def main(address: str) -> None:
    # As an application does before it launches DBOS; each child is installed as this process is.
    timestep.install()
    set_tracing_disabled(True)
    # Nobody's garbage: to look through it would copy every page of it.
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as stream:
                _serve(stream)


def _serve(stream: TextIO) -> None:
    request = json.loads(stream.readline())
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            perform(request)
            code = 0
        except Exception:  # noqa: BLE001  # the process ends here; its parent is told by the status
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    stream.write(f"{status}\n")
    stream.flush()


if __name__ == "__main__":
    main(sys.argv[1])
