"""Registers the workflow of a tool call with DBOS, when `runner.installation` imports it.

DBOS makes the application's version of the source of the function, from its decorator to its last
line: changed by one letter, no workflow of before would be recovered.
"""

from __future__ import annotations

from dbos import DBOS

from timestep.steps.tool_workflow import made as _made


@DBOS.workflow(name="timestep.tool_call")
async def _workflow(call_id: str, caller: str) -> str:
    # DBOS makes the application's version of this source, too: what may change is elsewhere.
    return await _made(call_id, caller)
