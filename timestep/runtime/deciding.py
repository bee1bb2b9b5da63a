"""Says how a person decides a question at a shell, and what to know of a call in doubt."""

from __future__ import annotations

from timestep.runtime.terminal import command

MAY_BE_DONE = "this call may have been made already; to approve it makes it once more"
"""What is told of a call whose outcome a crash left unknown."""


def is_in_doubt(reason: str) -> bool:
    """Whether a question is about a call that may have been made already, by its reason."""
    return reason == "in_doubt"


def ways(workflow_id: str, question_id: str, reason: str) -> list[str]:
    """The lines for a shell that decide a question; more than one where much depends on which.

    Args:
        workflow_id: The workflow that asks.
        question_id: The question.
        reason: Why it is asked.
    """
    approve = command("resume", workflow_id, "--approve", question_id)
    if not is_in_doubt(reason):
        return [approve]
    supply = command("resume", workflow_id, "--supply", question_id, "RESULT")
    reject = command("resume", workflow_id, "--reject", question_id)
    return [
        f"{approve}   makes it once more",
        f"{supply}   gives its result, as JSON: it is not made",
        f"{reject}   tells the model that what came of it is not known",
    ]
