"""The entrypoint answers, and comes to the same after a crash."""

from workflows.answer import answer

from timestep.testing import assert_replays_sync


def test_a_crash_changes_no_answer() -> None:
    """The workflow runs once, and then five times from its record, with random delays."""
    told = assert_replays_sync(answer, "What is a turn?", times=5, delay=0.01)
    assert told == "[offline model] It is one answer of a model, and what it calls."
