"""Turns exceptions into JSON, and back into the class they were.

Pickling loses many of them (openai's status errors, the SDK's tripwires), and replays them
as something else. An envelope keeps the class, its arguments and its plain attributes. An
HTTP response is kept as its status, body and the headers that say when to try again; no
request is kept, so no key is.

An envelope is data, as every recorded document: its class is one of those that are imported
already, and neither that class's own code nor that of its attributes is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailResult,
    OutputGuardrail,
    OutputGuardrailResult,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolOutputGuardrail,
)
from agents.exceptions import (
    AgentsException,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)
from pydantic import BaseModel

from timestep import config
from timestep.errors import (
    ConfigurationError,
    RecordedError,
    ReplayError,
    TimestepError,
    UnreadableValueError,
)
from timestep.serialization.registered_types import imported, type_path
from timestep.serialization.values import Json, decode, encode, plain_text, survives

_HTTP = ("httpx", "httpx2")
"""The libraries whose responses errors hold; openai has used more than one."""
_TOOL_TRIPWIRES: dict[type[Any], type[Any]] = {
    ToolInputGuardrailTripwireTriggered: ToolInputGuardrail,
    ToolOutputGuardrailTripwireTriggered: ToolOutputGuardrail,
}
_KEPT_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry", "x-request-id", "content-type")


def seal(error: BaseException) -> dict[str, Json]:
    """The envelope of an error: `type`, `message`, `args`, `attributes` and what belongs to it.

    Whatever the error's own code raises when it is asked is left out, and replaces nothing.
    """
    given = _arguments(error)
    args: list[Json] = [encode(arg) for arg in given] if _is_plain(given) else [said_by(error)]
    return {
        "type": type_path(type(error)),
        "message": one_line(error),
        "args": args,
        "attributes": {
            name: encode(value)
            for name, value in vars(error).items()
            if not name.startswith("__") and (_is_plain(value) or _is_model(value))
        },
        "response": _seal_response(_response_of(error)),
        "tripwire": _seal_tripwire(error),
    }


def _arguments(error: BaseException) -> tuple[Any, ...]:
    # An OSError's own arguments do not tell the file.
    if isinstance(error, OSError) and error.filename is not None:
        with contextlib.suppress(Exception):
            return tuple(error.__reduce__()[1])
    return error.args


def _response_of(error: BaseException) -> object:
    try:
        return getattr(error, "response", None)
    except Exception:  # noqa: BLE001  # a property's, which may need what is gone
        return None


def opened(envelope: Any) -> BaseException:
    """The error an envelope holds; a `RecordedError` where its class is not here, or it is none."""
    try:
        return _opened(envelope)
    except Exception:  # noqa: BLE001  # whatever is wrong with an envelope is no error of its own
        return RecordedError(summary(envelope), type_name=_told(envelope, "type"))


def _opened(envelope: dict[str, Any]) -> BaseException:
    kind = imported(envelope["type"])
    if kind is None or not issubclass(kind, (Exception, asyncio.CancelledError)):
        raise LookupError(envelope["type"])
    args = tuple(_known(arg) for arg in envelope["args"])
    # Errors of the system read their arguments when they are made. The class's own code is not run.
    base = OSError if issubclass(kind, OSError) else BaseException
    error = base.__new__(kind, *args)
    if not isinstance(error, OSError) or error.filename is None:
        error.args = args
    if isinstance(error, AgentsException):
        error.run_data = None
    for name, value in envelope["attributes"].items():
        if not name.startswith("__"):
            vars(error)[name] = _known(value)
    if (sealed := envelope["response"]) is not None:
        _restore_response(error, sealed)
    if (told := envelope.get("tripwire")) is not None:
        _restore_tripwire(error, told)
    return error


def summary(envelope: Any) -> str:
    """`RateLimitError: too many requests`."""
    return f"{short_type(_told(envelope, 'type')) or 'Error'}: {_told(envelope, 'message')}"


def _told(envelope: Any, name: str) -> str:
    """A text of an envelope; of something else, none."""
    found = envelope.get(name) if isinstance(envelope, dict) else None
    return found if isinstance(found, str) else ""


def short_type(path: str) -> str:
    """The class's own name, of a path such as `openai:RateLimitError`."""
    return path.rpartition(":")[2].rpartition(".")[2]


def said_by(error: BaseException) -> str:
    """What the error says; nothing where its own code cannot tell."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # it must not take the error's place
        return ""


def shown(error: BaseException) -> str:
    """The error as Python shows it, such as `SystemExit(3)`; its class where its own code fails."""
    try:
        return repr(error)
    except Exception:  # noqa: BLE001  # it must not take the error's place
        return type(error).__name__


def one_line(error: BaseException) -> str:
    """What the error says, in one line that a text column can hold."""
    return " ".join((plain_text(said_by(error)) or type(error).__name__).split())


def in_log(error: BaseException) -> str:
    """`RateLimitError: too many requests`, as a line of the log tells of an error.

    Where the settings say that models' or tools' data are not logged: its class alone, since what
    it says may hold them. Timestep's own errors say no such thing, but for those of a replay.
    """
    name = type(error).__name__
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


def _is_plain(value: object) -> bool:
    """Whether a value comes back from JSON as it was."""
    try:
        return _has_plain_parts(value)
    except RecursionError:  # It refers to itself.
        return False


def _has_plain_parts(value: object) -> bool:
    if isinstance(value, dict):
        return all(_has_plain_parts(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return all(_has_plain_parts(item) for item in value)
    return value is None or type(value) in (str, int, float, bool)


def _is_model(value: object) -> bool:
    """Whether a value is a pydantic model that comes back as it was."""
    return isinstance(value, BaseModel) and survives(value) is value


def _seal_response(response: Any) -> dict[str, Json] | None:
    """An httpx response, or one of that shape."""
    status = getattr(response, "status_code", None)
    if not isinstance(status, int):
        return None
    return {
        "module": type(response).__module__.partition(".")[0],
        "status": status,
        "headers": {
            name: value for name, value in response.headers.items() if name in _KEPT_HEADERS
        },
        "body": plain_text(response.text) if hasattr(response, "_content") else "",
    }


def _restore_response(error: Any, sealed: dict[str, Any]) -> None:
    if sealed["module"] not in _HTTP:
        raise LookupError(sealed["module"])
    names = (sealed["module"], *_HTTP)
    http: Any = next(sys.modules[name] for name in names if name in sys.modules)
    request = http.Request("POST", "https://recorded.invalid")
    headers = {name: sealed["headers"][name] for name in _KEPT_HEADERS if name in sealed["headers"]}
    response = http.Response(
        int(sealed["status"]), headers=headers, text=str(sealed["body"]), request=request
    )
    if type(error).__module__.partition(".")[0] in _HTTP:
        # The library's own errors keep their request behind a property.
        error.request, error.response = request, response
    else:
        vars(error).update(request=request, response=response)


def _seal_tripwire(error: BaseException) -> dict[str, Json] | None:
    """What a tripped guardrail said. Its name stands for the guardrail, an agent's for it."""
    if isinstance(error, InputGuardrailTripwireTriggered | OutputGuardrailTripwireTriggered):
        result = error.guardrail_result
        told = {
            "guardrail": result.guardrail.get_name(),
            "info": encode(result.output.output_info),
        }
        if isinstance(result, OutputGuardrailResult):
            told |= {"agent": result.agent.name, "output": encode(result.agent_output)}
        return told
    if isinstance(error, tuple(_TOOL_TRIPWIRES)):
        tripped: Any = error
        return {
            "guardrail": tripped.guardrail.get_name(),
            "info": encode(tripped.output.output_info),
            "behavior": dict(tripped.output.behavior),
        }
    return None


def _restore_tripwire(error: Any, told: dict[str, Any]) -> None:
    name = told["guardrail"]
    if "behavior" in told:
        kind = _TOOL_TRIPWIRES[type(error)]
        error.guardrail = kind(guardrail_function=_recorded_guardrail, name=name)
        error.output = ToolGuardrailFunctionOutput(_known(told["info"]), told["behavior"])
        return
    output = GuardrailFunctionOutput(_known(told["info"]), tripwire_triggered=True)
    if not isinstance(error, InputGuardrailTripwireTriggered | OutputGuardrailTripwireTriggered):
        raise TypeError(f"{type(error).__name__} is no tripwire")
    if "agent" in told:
        error.guardrail_result = OutputGuardrailResult(
            guardrail=OutputGuardrail(guardrail_function=_recorded_guardrail, name=name),
            agent_output=_known(told["output"]),
            agent=Agent(told["agent"]),
            output=output,
        )
    else:
        guardrail: InputGuardrail[Any] = InputGuardrail(_recorded_guardrail, name=name)
        error.guardrail_result = InputGuardrailResult(guardrail=guardrail, output=output)


def _known(value: Any) -> Any:
    """What was encoded; where its class is not known here, as JSON."""
    try:
        return decode(value)
    except UnreadableValueError:
        return value


def _recorded_guardrail(*_: Any) -> Any:
    raise RecordedError("the guardrail that tripped is known by its name only, and cannot run")
