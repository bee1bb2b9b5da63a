"""Records what tools change in a run's context, and makes the same changes in a replay.

The context is the user's own object. Of a dict, a dataclass or a pydantic model each key or
field that can be brought back is recorded: as a difference where a call had the context to
itself, as whole keys where calls overlapped, numbered in the order in which calls committed.
What hooks change is not part of it: they run again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic import BaseModel

from timestep.errors import ReplayError
from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess
from timestep.serialization.json_delta import difference, patched
from timestep.serialization.values import (
    Json,
    decode_fields,
    encode_fields,
    encoded_before,
    has_text,
    is_typed,
    kept_exactly,
    restored,
)

_log = logs.logger()

Fields = dict[str, Json]

_LOOKS = 10
"""How often a context is read that another thread changes meanwhile."""


class Use:
    """A call that is made while it can change a context."""

    def __init__(self, target: object, parent: Use | None) -> None:
        self.target = target
        self.parent = parent
        self.is_shared = False
        """Whether another call was made meanwhile that could change the same context."""
        self.since: Fields | None = None
        """What the context held when the call first began, where it paused since."""

    def is_inside(self, other: Use) -> bool:
        return self is other or (self.parent is not None and self.parent.is_inside(other))


_current: ContextVar[Use | None] = ContextVar("timestep_context_use", default=None)


class CallsGoingOn(PerProcess):
    """Keeps the calls that this process is making, of every run: runs may share a context."""

    def __init__(self) -> None:
        self.uses: list[Use] = []


class ContextChanges:
    """What the calls of one run changed in its context, and what of that is brought back."""

    def __init__(self) -> None:
        self._warned_of: object = None
        """The context whose losses were said in the log."""
        self._told: set[str] = set()
        """What of it was named there."""
        self._base: Fields = {}
        self._last = 0
        self._restored: set[int] = set()
        self._uses: set[Use] = set()
        self._paused: dict[object, Fields] = {}

    def warn_once(self, context: object, around: ContextChanges | None) -> None:
        """Say in the log what of a run's context will be lost, unless the run around said so.

        Args:
            context: The run's context.
            around: Those of the run that this one is inside of.
        """
        self._warned_of = context
        if around is not None and around._warned_of is context:
            self._told = around._told
        else:
            warn_of_losses(context, self._told)

    @contextmanager
    def used(self, target: object, call: object) -> Iterator[Use | None]:
        """While a call is made. None where there is nothing whose changes could be recorded."""
        if not is_supported(target):
            yield None
            return
        use = Use(target, _current.get())
        going_on = process_state.of(CallsGoingOn).uses
        for other in going_on:
            if other.target is target and not use.is_inside(other):
                other.is_shared = use.is_shared = True
        use.since = self._paused.get(call)
        if not self._uses:
            self._base = fields_of(target, {})
        going_on.append(use)
        self._uses.add(use)
        token = _current.set(use)
        try:
            yield use
        finally:
            _current.reset(token)
            going_on.remove(use)
            self._uses.discard(use)

    def pause(self, use: Use | None, call: object) -> None:
        """A call stops for a person: what it changed until now is its change, too."""
        if use is not None:
            self._paused.setdefault(call, self._base)

    def taken(self, use: Use | None, recorded: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """The columns of a call's row that hold what it changed.

        Args:
            use: The call, while it is made.
            recorded: The rows of the run's calls.
        """
        if use is None:
            return {}
        now, lost = _read(use.target, self._base)
        warn_of_losses(use.target, self._told, lost)
        if use.is_shared or use.since is not None:
            delta = whole_keys(self._base if use.since is None else use.since, now)
        else:
            delta = _marked(difference(self._base, now), self._base, now)
        self._base = now
        if not delta:
            return {}
        positions = [row["context_position"] or 0 for row in recorded]
        self._last = max([self._last, *positions]) + 1
        self._restored.add(self._last)
        return {"context_change": kept_exactly(delta), "context_position": self._last}

    def restore(
        self, target: object, row: dict[str, Any], recorded: Iterable[dict[str, Any]]
    ) -> None:
        """Change the context as a recorded call did, after every change recorded before it.

        Raises:
            ReplayError: The context is not what the call changed.
        """
        upto = row.get("context_position")
        if upto is None or not is_supported(target):
            return
        rows = {other["context_position"]: other for other in recorded}
        for position in sorted(p for p in rows if p is not None and p <= upto):
            if position not in self._restored:
                self._restored.add(position)
                self._change(target, restored(rows[position]["context_change"]))

    def _change(self, target: object, delta: dict[str, Any]) -> None:
        change(target, delta)
        if self._uses:
            is_alike = _FORM in delta or not is_typed(self._base)
            base = self._base
            self._base = patched(base, delta) if is_alike else fields_of(target, base)


_KINDS = ("set", "extend", "alike", "cut", "change", "repeat")


def is_supported(context: object) -> bool:
    """Whether changes of this context can be recorded at all."""
    if isinstance(context, dict | BaseModel):
        return True
    return dataclasses.is_dataclass(context) and not isinstance(context, type)


def fields_of(context: object, instead: Fields) -> Fields:
    """The parts of a supported context that can be brought back, as JSON.

    Args:
        context: The context.
        instead: What stands for a part that cannot: it counts as unchanged.
    """
    return _read(context, instead)[0]


def _read(context: object, instead: Fields) -> tuple[Fields, set[str]]:
    """What `fields_of` gives, and the names of the parts that cannot be brought back."""
    for _ in range(_LOOKS):
        try:
            values = dict(_Values(context).items())
        except RuntimeError:  # A tool in a thread added a key while this looked.
            continue
        fields, lost = encode_fields(values, context)
        return fields | {name: instead[name] for name in lost & instead.keys()}, lost
    raise RuntimeError("the run's context changes all the time while it is read")


def change(context: object, delta: dict[str, Any]) -> None:
    """Change a context in place.

    Raises:
        ReplayError: The context is not what the change was made in.
        UnreadableValueError: A class is not known here.
    """
    before = fields_of(context, {}) if _FORM in delta else _fields_before(context)
    try:
        after = patched(before, delta)
    except (LookupError, TypeError) as error:
        raise ReplayError(
            f"the run's context ({type(context).__name__}) is not what it was when a tool "
            f"changed it, so the change cannot be made again ({error!r}): start the run with "
            "the same context in every execution of its workflow"
        ) from error
    values = _Values(context)
    for name in delta.get("unset", ()):
        values.remove(name)
    changed = [name for name in after if any(name in delta.get(kind, ()) for kind in _KINDS)]
    for name, value in decode_fields(after, context, changed).items():
        values.set(name, value)


_FORM = "form"
"""In a change of what is not JSON alone: which form it has, as earlier versions had another."""


def _marked(delta: dict[str, Any], *fields: Fields) -> dict[str, Any]:
    return {**delta, _FORM: 2} if delta and any(map(is_typed, fields)) else delta


def _fields_before(context: object) -> Fields:
    """What an earlier version made of a context; of JSON alone the same as this one."""
    encoded = {name: encoded_before(value) for name, value in _Values(context).items()}
    return {name: value for name, value in encoded.items() if not has_text(value)}


def warn_of_losses(context: object, told: set[str], lost: set[str] | None = None) -> None:
    """Say in the log what changes of a run's context will not survive a recovery.

    Args:
        context: The context.
        told: What was said of it before, and gets what is said now.
        lost: The names of its parts that cannot be brought back; None: they are looked for.
    """
    kind = f"{type(context).__module__}.{type(context).__qualname__}"
    if context is None:
        return
    if not is_supported(context):
        _log.warning(
            "what tools change in the run's context, a %s, is lost if the run is recovered in "
            "another process: use a dict, a dataclass or a pydantic model as the context",
            kind,
        )
        return
    if lost is None:
        lost = _read(context, {})[1]
    named = {
        f"{name!r} (a {type(value).__name__})": None
        for name, value in _Values(context, also_unnamed=True).items()
        if not isinstance(name, str) or name in lost
    }
    if new := [one for one in named if one not in told]:
        told.update(new)
        _log.warning(
            "what tools change in %s of the run's context, a %s, is lost if the run is recovered "
            "in another process: keep there only what JSON, dataclasses and pydantic models can "
            "hold, name their classes in annotations or to timestep.register_type, or keep it out "
            "of what tools change",
            ", ".join(new),
            kind,
        )


def whole_keys(old: Fields, new: Fields) -> dict[str, Any]:
    """What changed, as whole keys: where calls overlap, no part of a key is one call's alone."""
    delta = difference(old, new)
    changed = [name for name in new if any(name in delta.get(kind, ()) for kind in _KINDS)]
    whole: dict[str, Any] = {"set": {name: new[name] for name in changed}} if changed else {}
    return _marked(whole | ({"unset": delta["unset"]} if "unset" in delta else {}), old, new)


class _Values:
    """The keys of a dict, or the fields of an object, to read and to change in place."""

    def __init__(self, context: Any, *, also_unnamed: bool = False) -> None:
        self._context = context
        self._also_unnamed = also_unnamed

    def items(self) -> list[tuple[Any, Any]]:
        context = self._context
        if isinstance(context, dict):
            # At once: `list` is not interrupted by another thread.
            return [
                (key, value)
                for key, value in list(context.items())
                if isinstance(key, str) or self._also_unnamed
            ]
        found = [item for store in self._stores() for item in list(store.items())]
        if dataclasses.is_dataclass(context):
            held = {name for name, _ in found}
            slots = [f.name for f in dataclasses.fields(context) if f.name not in held]
            found += [(name, getattr(context, name)) for name in slots if hasattr(context, name)]
        return found

    def _stores(self) -> list[MutableMapping[str, Any]]:
        """Where an object keeps its fields; past `__setattr__`, which may be frozen or check."""
        context = self._context
        if isinstance(context, BaseModel):
            stores = (vars(context), context.__pydantic_extra__, context.__pydantic_private__)
            return [store for store in stores if store is not None]
        return [vars(context)] if hasattr(context, "__dict__") else []

    def set(self, name: str, value: Any) -> None:
        if isinstance(self._context, dict):
            self._context[name] = value
        elif isinstance(self._context, BaseModel):
            self._store_for(name)[name] = value
            self._context.__pydantic_fields_set__.add(name)
        else:
            object.__setattr__(self._context, name, value)

    def _store_for(self, name: str) -> MutableMapping[str, Any]:
        model: BaseModel = self._context
        if name in type(model).model_fields:
            return vars(model)
        others = (model.__pydantic_private__, model.__pydantic_extra__)
        found: MutableMapping[str, Any] | None = others[0 if name.startswith("_") else 1]
        return vars(model) if found is None else found

    def remove(self, name: str) -> None:
        if isinstance(self._context, dict):
            self._context.pop(name, None)
        elif isinstance(self._context, BaseModel):
            self._store_for(name).pop(name, None)
        elif hasattr(self._context, name):
            object.__delattr__(self._context, name)
