"""Tells people of an error, or of what was recorded of one."""

from __future__ import annotations

from timestep import config
from timestep.errors import ConfigurationError, RecordedError, ReplayError, TimestepError
from timestep.serialization.documents.envelopes import short_type
from timestep.serialization.documents.json_text import plain_text

LONGEST = 1_000_000
"""Characters that are kept of what an error says."""


def text_of(error: BaseException) -> str | None:
    """What the error says; None: it cannot say it, or says too much to be kept."""
    text, failure = _said(error)
    return text if failure is None and len(text) <= LONGEST else None


def told_by(error: BaseException) -> str:
    """What the error says, as far as it can and as can be kept."""
    text, failure = _said(error)
    if failure is not None:
        return f"it cannot be told: its __str__ raised {failure}"
    return text if len(text) <= LONGEST else shortened(text, LONGEST)


def _said(error: BaseException) -> tuple[str, str | None]:
    """What the error's own code says; and the class of what that raised, if it did."""
    try:
        # Joined, as it may be of a class of its own, whose methods do anything.
        return "".join([str(error)]), None
    except BaseException as failure:  # noqa: BLE001  # it may end the process, or cancel, too
        return "", type(failure).__name__


def shortened(text: str, longest: int) -> str:
    """The beginning of a text, and how much is left out; the text itself where it is short."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]} … {len(text) - longest} more characters"


def line_of(text: str, kind: str) -> str:
    """One line that a text column can hold; of an error that says nothing, its class's name."""
    return " ".join((plain_text(text) or "").split()) or kind


def one_line(error: BaseException) -> str:
    """What the error says, in one line that a text column can hold."""
    return line_of(told_by(error), name_of(error))


def name_of(error: BaseException) -> str:
    """The name of the error's class; of one that was recorded, what that was."""
    recorded = error.type_name if isinstance(error, RecordedError) else ""
    return short_type(recorded) or type(error).__name__


def shown(error: BaseException) -> str:
    """The error as Python shows it, such as `SystemExit(3)`; its class where its own code fails."""
    try:
        return "".join([repr(error)])
    except BaseException:  # noqa: BLE001  # of whatever an error's own code raises
        return type(error).__name__


def in_log(error: BaseException) -> str:
    """`RateLimitError: too many requests`, as a line of the log tells of an error.

    Where the settings say that models' or tools' data are not logged: its class alone, since what
    it says may hold them. Timestep's own errors say no such thing, but for those of a replay.
    """
    name = name_of(error)
    is_own = isinstance(error, TimestepError) and not isinstance(error, ReplayError | RecordedError)
    if is_own or not logs_leave_data_out():
        return f"{name}: {one_line(error)}"
    return f"{name} (OPENAI_AGENTS_DONT_LOG_… leaves out what it says: `timestep show` has it)"


def logs_leave_data_out() -> bool:
    """Whether what models or tools were given and gave is to be in no log."""
    try:
        settings = config.read()
    except ConfigurationError:  # a setting was changed meanwhile
        return True
    return settings.dont_log_model_data or settings.dont_log_tool_data
