"""Converts the items of a conversation that `@openai/agents` saved to the Responses API's.

Python keeps the API's own items; JavaScript has names of its own, and keeps what it has no name
for under `providerData`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeAlias

from timestep.errors import ForeignStateError

Document: TypeAlias = dict[str, Any]

FIELDS: Document = json.loads(
    (Path(__file__).parents[1] / "js" / "state_fields.json").read_text(encoding="utf-8")
)
"""What the fields are called in Python and in JavaScript; see `state_conversion`."""

_NO_ID = "__fake_id__"
"""What the SDK has for an id that the model did not give."""


def renamed(kind: str, document: Document) -> Document:
    """The fields that are only called otherwise.

    Raises:
        ForeignStateError: There is a field that nothing is known of, or that cannot be kept.
    """
    table = FIELDS[kind]
    names = {ours: python for python, ours in table["renamed"].items()}
    known = {*names, *table["converted"].values(), *table["lost"]["javascript"]}
    for name, value in document.items():
        if name not in known and (name not in table["refused"]["javascript"] or value):
            raise ForeignStateError(
                f"the state has {name!r} in its {kind.replace('_', ' ')}, which has no place in "
                "the state of the Python SDK: finish the run with @openai/agents"
            )
    return {
        names[name]: value
        for name, value in document.items()
        if name in names and value is not None
    }


def no_null(document: Document) -> Document:
    return {name: value for name, value in document.items() if value is not None}


def item(found: Document) -> Document:
    """An item of an input, or of a model's answer."""
    kind = found.get("type") or "message"
    if kind == "message":
        return _message(found)
    if kind == "function_call":
        _check_call(found)
        return _filled(found, "function_call", {"type": kind})
    if kind == "function_call_result":
        _check_call(found)
        output = {"type": "function_call_output", "output": _output(found["output"])}
        return _filled(found, "function_call_output", output)
    if kind == "reasoning":
        summary = [{"type": "summary_text", "text": part["text"]} for part in found["content"]]
        reasoning: Document = {"id": _NO_ID, "type": kind, "summary": summary}
        if "rawContent" in found:
            reasoning["content"] = [
                {"type": part["type"], "text": part["text"]} for part in found["rawContent"]
            ]
        return _filled(found, kind, reasoning)
    if kind == "compaction":
        return _filled(found, kind, {"type": kind})
    if kind == "hosted_tool_call":
        return _hosted(found)
    raise _unknown(f"an item of type {kind!r}")


def _filled(found: Document, kind: str, converted: Document) -> Document:
    """What is converted already, what is called otherwise, and what the provider added."""
    for python, name in FIELDS["items"][kind].items():
        if found.get(name) is not None:
            converted[python] = found[name]
    for name, value in (found.get("providerData") or {}).items():
        if value is not None:
            converted.setdefault(_snake(name), value)
    return converted


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


def _check_call(call: Document) -> None:
    if (call.get("caller") or {}).get("type", "direct") != "direct":
        raise _unknown("a call that a program made")
    if call.get("namespace"):
        raise _unknown("a call of a tool in a namespace")


def _message(found: Document) -> Document:
    content = found["content"]
    if not isinstance(content, str):
        content = [_part(part) for part in content]
    message: Document = {"type": "message", "content": content}
    if found["role"] == "assistant":
        message |= {"id": _NO_ID, "status": "completed"}
    return _filled(found, "message", message)


def _part(part: Document) -> Document:
    converted: Document = {"type": part["type"]}
    if part["type"] in ("input_text", "output_text"):
        converted["text"] = part["text"]
    elif part["type"] == "refusal":
        converted["refusal"] = part["refusal"]
    elif part["type"] == "input_image":
        converted |= _referred(part.get("image"), "image_url") | {
            "detail": part.get("detail", "auto")
        }
    elif part["type"] == "input_file":
        converted |= _file(part.get("file"))
        if part.get("filename"):
            converted["filename"] = part["filename"]
    elif part["type"] == "audio" and isinstance(part["audio"], str):
        audio = {"data": part["audio"], "format": part.get("format")}
        converted = {"type": "input_audio", "input_audio": audio}
    else:
        raise _unknown(f"a part of a message of type {part['type']!r}")
    if part.get("promptCacheBreakpoint"):
        converted["prompt_cache_breakpoint"] = part["promptCacheBreakpoint"]
    for name, value in (part.get("providerData") or {}).items():
        converted.setdefault(_snake(name), value)
    if part["type"] == "output_text":
        converted.setdefault("annotations", [])
    return converted


def _referred(value: Any, otherwise: str) -> Document:
    """A text that is the thing or its address, or an object that names it."""
    if isinstance(value, dict):
        identity = value.get("id") or value.get("fileId")
        return {"file_id": identity} if identity else {otherwise: value["url"]}
    return {} if value is None else {otherwise: value}


def _file(value: Any) -> Document:
    is_address = isinstance(value, str) and value.startswith(("http://", "https://"))
    return _referred(value, "file_url" if is_address or isinstance(value, dict) else "file_data")


def _output(output: Any) -> Any:
    """What a function gave: text, or parts as those of a message."""
    if isinstance(output, str):
        return output
    if isinstance(output, list):
        return [_part(part) for part in output]
    if output["type"] == "text":
        return output["text"]
    value = output[output["type"]]
    if isinstance(value, dict) and "data" in value:
        value = {"url": f"data:{value.get('mediaType', '')};base64,{value['data']}", **value}
    if output["type"] == "image":
        image = _referred(value, "image_url")
        return [{"type": "input_image", **image, "detail": output.get("detail", "auto")}]
    return [{"type": "input_file", **_file(value)}]


def _hosted(call: Document) -> Document:
    """A call that the provider made by itself. Its item is what the provider sent."""
    kind = (call.get("providerData") or {}).get("type") or call["name"]
    if kind not in FIELDS["hosted_calls"]:
        raise _unknown(f"a call of type {kind!r}")
    _check_call(call)
    converted = _filled(call, "hosted", {"type": kind})
    if kind == "mcp_list_tools":
        converted.pop("status", None)
    if call.get("output") is not None:
        converted["result" if kind == "image_generation_call" else "output"] = call["output"]
    return converted


def _unknown(what: str) -> ForeignStateError:
    return ForeignStateError(
        f"the state holds {what}, which is not converted: finish the run with @openai/agents"
    )
