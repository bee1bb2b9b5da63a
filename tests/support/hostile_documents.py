"""Documents as an attacker writes them: keys and paths that some decoder may take for code."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, model_validator

from timestep import register_type
from timestep.serialization.registered_types import type_path

executed: list[str] = []
"""What a document made happen; nothing may."""


@dataclass
class Unregistered:
    """A class of the application's that nothing declares, and that acts when it is made."""

    x: Any = None

    def __post_init__(self) -> None:
        executed.append("a dataclass")


class UnregisteredModel(BaseModel):
    """A model of that kind."""

    x: Any = None

    @model_validator(mode="before")
    @classmethod
    def act(cls, value: Any) -> Any:
        executed.append("a model")
        return value


class HostileError(Exception):
    """An error of the application's, whose own code acts."""

    def __new__(cls, *args: Any) -> HostileError:
        executed.append("an error's __new__")
        return super().__new__(cls, *args)

    def __init__(self, *args: Any) -> None:
        executed.append("an error's __init__")

    @property
    def x(self) -> Any:
        return None

    @x.setter
    def x(self, value: Any) -> None:
        executed.append("an error's property")


@register_type
@dataclass
class Registered:
    """A class that may be made again, of what `encode` made of it."""

    x: Any = None


@register_type
class Colour(enum.Enum):
    RED = "red"


KEYS = [
    *("$type", "$text", "$ref", "$id", "$values", "value", "type", "x", "set", "unset", "id"),
    *("__class__", "__reduce__", "__dict__", "__module__", "__init__", "__proto__"),
    *("py/object", "py/reduce", "py/type", "!!python/object/apply", "args", "attributes"),
    *("response", "message", "tripwire", "module", "status", "", "\x00", "\ud800"),
]
PATHS = [
    *("subprocess:Popen", "os:system", "builtins:eval", "builtins:dict", "builtins:set"),
    *("builtins:tuple", "builtins:bytes", "builtins:object", "datetime:datetime", "uuid:UUID"),
    *("decimal:Decimal", "text", "data", "x:y", ":", "antigravity:geohash", "this:d"),
    *("System.Text.Json.JsonElement, System.Text.Json", "subprocess.Popen", "openai:OpenAI"),
    *("agents.tool:FunctionTool", "timestep.queries:Run", "httpx", "builtins:SystemExit"),
    *map(type_path, (Unregistered, UnregisteredModel, HostileError, Registered, Colour)),
]

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(max_size=4)
    | st.sampled_from([*PATHS, "null", '{"a": 1}', "5", '["touch", "x"]', "[", "red"])
)


def _typed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda path, value: {"$type": path, "value": value}, st.sampled_from(PATHS), inner
    )


JSON: st.SearchStrategy[Any] = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
        | _typed(inner)
        | st.builds(lambda text: {"$text": text}, inner)
    ),
    max_leaves=8,
)
"""Documents with such keys at every depth."""

OBJECTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(KEYS), JSON, max_size=4
) | _typed(JSON)


def from_jsonb(value: Any) -> Any:
    """What a JSONB column gives of a value: keys by their length, no NUL and no half of a pair."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _ordered(json.loads(text.encode()))


def _ordered(value: Any) -> Any:
    if isinstance(value, str):
        assert "\x00" not in value, "JSONB refuses NUL"
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if isinstance(value, dict):
        assert not any("\x00" in key for key in value), "JSONB refuses NUL"
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _ordered(value[key]) for key in keys}
    return value


def same(left: Any, right: Any) -> bool:
    """Whether two documents are equal, and of the same types at every depth."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
