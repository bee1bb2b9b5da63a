"""Registers with DBOS, when `runner.installation` imports it, the workflow that tells people.

DBOS makes the application's version of the source of the function, from its decorator to its last
line: changed by one letter, no workflow of before would be recovered.
"""

from __future__ import annotations

from dbos import DBOS

from timestep.approvals.notifications import NAME as _NAME
from timestep.approvals.notifications import told as _told


@DBOS.workflow(name=_NAME)
async def _workflow(workflow_id: str, run_id: str, message: str, questions: list[str]) -> str:
    # DBOS makes the application's version of this source, too: what may change is elsewhere.
    return await _told(workflow_id, run_id, message, questions)
