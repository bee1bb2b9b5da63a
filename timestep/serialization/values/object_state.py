"""Takes the state of dataclasses and pydantic models, and gives it back without their own code.

Neither a constructor nor a validator, `__post_init__` or `__setattr__` is called: what they made
of what they were given is what is recorded, and once is enough.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from types import MemberDescriptorType
from typing import Any

from pydantic import BaseModel, RootModel

from timestep.errors import UnreadableValueError
from timestep.serialization.documents.forms import (
    ATTRIBUTES,
    EXTRA,
    FIELDS,
    FIELDS_SET,
    PRIVATE,
    UNSET,
)
from timestep.serialization.registered_types import type_path

_OF_TYPING = "__orig_class__"
"""What an alias such as `Box[int]` leaves in what it makes: no part of the value."""

Section = dict[str, Any] | list[str]


def taken(value: Any, kind: type) -> dict[str, Section]:
    """The state of a dataclass or model, in sections: names and values, or names alone.

    Raises:
        TypeError: It has an attribute in the place of something of its class, which could not be
            given back.
    """
    names = _fields(kind)
    held = _held(value, kind)
    state: dict[str, Section] = {FIELDS: {name: held[name] for name in names if name in held}}
    attributes = {
        name: found
        for name, found in held.items()
        if name not in names and not _is_computed(kind, name)
    }
    for name in attributes:
        if not _may_have(kind, name):
            raise TypeError(f"{type_path(kind)} has {name!r} of its own, and so has a value")
    if attributes:
        state[ATTRIBUTES] = attributes
    if unset := [name for name, has_default in names.items() if not has_default]:
        missing = [name for name in unset if name not in held]
        if missing:
            state[UNSET] = missing
    if issubclass(kind, BaseModel):
        state.update(_taken_of_model(value, state[FIELDS]))
    return state


def _taken_of_model(model: BaseModel, fields: Collection[str]) -> dict[str, Section]:
    state: dict[str, Section] = {}
    if model.__pydantic_fields_set__ != set(fields):
        state[FIELDS_SET] = sorted(model.__pydantic_fields_set__)
    if model.__pydantic_extra__ is not None:
        state[EXTRA] = model.__pydantic_extra__
    if model.__pydantic_private__ is not None:
        state[PRIVATE] = model.__pydantic_private__
    return state


def bare(kind: Any) -> Any:
    """A value of a class that has nothing yet.

    Raises:
        UnreadableValueError: Its values are more than what Python keeps of their attributes.
    """
    try:
        return object.__new__(kind)
    except TypeError as error:
        raise UnreadableValueError(f"no {type_path(kind)} can be made again: {error}") from error


def check(kind: type, state: Mapping[str, Any]) -> None:
    """See that a recorded state is one of the class.

    Raises:
        UnreadableValueError: It has fields that the class has not, or lacks some.
    """
    names = _fields(kind)
    fields, attributes, private = (
        state[name] if isinstance(state.get(name), dict) else {}
        for name in (FIELDS, ATTRIBUTES, PRIVATE)
    )
    unknown = fields.keys() - names
    unknown |= {name for name in attributes if name in names or not _may_have(kind, name)}
    if private:
        known = kind.__private_attributes__ if issubclass(kind, BaseModel) else {}
        unknown |= private.keys() - known
    if unknown:
        raise UnreadableValueError(
            f"a recorded {type_path(kind)!r} has the fields {sorted(unknown)}, which the class "
            "does not have: give it fields of these names again"
        )
    unset = state.get(UNSET, ())
    missing = [
        name
        for name, has_default in names.items()
        if not has_default and name not in fields and name not in unset
    ]
    if missing:
        raise UnreadableValueError(
            f"a recorded {type_path(kind)!r} has no fields {missing}, which the class has by now: "
            "give them defaults"
        )


def give(value: Any, kind: Any, state: Mapping[str, Any]) -> None:
    """Give a bare value the state that `taken` took; fields that are new get their defaults."""
    fields = state[FIELDS]
    found = {name: fields[name] for name in _fields(kind) if name in fields}
    is_model = issubclass(kind, BaseModel)
    for name in _fields(kind).keys() - fields.keys() - set(state.get(UNSET, ())):
        default = _model_default(kind, name) if is_model else _default(kind, name)
        if default is not dataclasses.MISSING:
            found[name] = default
    found |= state.get(ATTRIBUTES, {})
    slots = _slots(kind)
    for name in [name for name in found if name in slots]:
        slots[name].__set__(value, found.pop(name))
    if found:
        object.__getattribute__(value, "__dict__").update(found)
    if is_model:
        given = set(state[FIELDS_SET]) if FIELDS_SET in state else set(fields)
        object.__setattr__(value, "__pydantic_fields_set__", given)
        if not issubclass(kind, RootModel):  # Its class has these two, as None.
            object.__setattr__(value, "__pydantic_extra__", state.get(EXTRA))
            object.__setattr__(value, "__pydantic_private__", state.get(PRIVATE))


def _fields(kind: Any) -> dict[str, bool]:
    """The names of a class's fields, in its order, and whether each has a default."""
    if issubclass(kind, BaseModel):
        return {name: not field.is_required() for name, field in kind.model_fields.items()}
    return {
        field.name: field.default is not dataclasses.MISSING
        or field.default_factory is not dataclasses.MISSING
        for field in dataclasses.fields(kind)
    }


def _default(kind: Any, name: str) -> Any:
    field = kind.__dataclass_fields__[name]
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    # Without slots the class itself has it.
    return field.default if name in _slots(kind) else dataclasses.MISSING


def _model_default(kind: type[BaseModel], name: str) -> Any:
    field = kind.model_fields[name]
    return field.get_default(call_default_factory=True, validated_data={})


def _held(value: Any, kind: type) -> dict[str, Any]:
    """What Python keeps of a value's attributes; none of its own code is asked for them."""
    try:
        held = dict(object.__getattribute__(value, "__dict__"))
    except AttributeError:
        held = {}
    for name, slot in _slots(kind).items():
        try:
            held[name] = slot.__get__(value)
        except AttributeError:  # It is not set.
            continue
    held.pop(_OF_TYPING, None)
    return held


def _slots(kind: type) -> dict[str, Any]:
    return {
        name: member
        for base in kind.__mro__
        if base is not BaseModel
        for name, member in vars(base).items()
        if type(member) is MemberDescriptorType
    }


def _is_computed(kind: type, name: str) -> bool:
    """Whether an attribute is what a property keeps, and computes anew where it is missing."""
    return isinstance(_of_class(kind, name), functools.cached_property)


def _may_have(kind: type, name: str) -> bool:
    """Whether a value may have an attribute that is no field; none hides code of its class."""
    if name.startswith("__") and name.endswith("__"):
        return False
    found = _of_class(kind, name)
    return type(found) is MemberDescriptorType or not (
        callable(found) or hasattr(type(found), "__get__")
    )


def _of_class(kind: type, name: str) -> Any:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
