"""Writes lists, dicts and tuples that refer to themselves as a list of nodes, and reads it back.

A node holds what it refers to: the number of another node, or a list of one encoded value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_KINDS: dict[type, str] = {list: "list", tuple: "tuple", dict: "dict"}


def nodes_of(value: object, encode: Callable[[object], Any]) -> list[Any] | None:
    """The nodes of a value, the value's own first; None where another object is in a circle.

    Args:
        value: Any value.
        encode: JSON for what is no list, dict or tuple.
    """
    try:
        return _nodes(value, encode) if type(value) in _KINDS else None
    except RecursionError:
        return None


def _nodes(value: object, encode: Callable[[object], Any]) -> list[Any]:
    parts: list[Any] = [value]
    numbers = {id(value): 0}

    def reference(part: object) -> Any:
        if type(part) not in _KINDS:
            return [encode(part)]
        if id(part) not in numbers:
            numbers[id(part)] = len(parts)
            parts.append(part)
        return numbers[id(part)]

    nodes: list[Any] = []
    for part in parts:  # it grows meanwhile
        if type(part) is dict:
            held = [[reference(key), reference(item)] for key, item in part.items()]
        else:
            held = [reference(item) for item in part]
        nodes.append({_KINDS[type(part)]: held})
    return nodes


def value_of(nodes: list[Any], decode: Callable[[Any], Any]) -> Any:
    """The value whose nodes these are.

    Raises:
        ValueError: They are those of none.
    """
    try:
        return _Graph(nodes, decode).value()
    except (LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError("these are no nodes") from error


class _Graph:
    def __init__(self, nodes: list[Any], decode: Callable[[Any], Any]) -> None:
        self._held: list[tuple[str, list[Any]]] = []
        for node in nodes:
            ((kind, held),) = node.items()
            self._held.append((kind, held))
        self._decode = decode
        empty: dict[str, Callable[[], Any]] = {"list": list, "dict": dict, "tuple": lambda: None}
        self._made = [empty[kind]() for kind, _ in self._held]

    def value(self) -> Any:
        # A tuple cannot be filled later, but what it refers to can.
        for number in range(len(self._held)):
            self._at(number)
        for made, (kind, held) in zip(self._made, self._held, strict=True):
            if kind == "list":
                made.extend(map(self._referred, held))
            elif kind == "dict":
                made.update((self._referred(key), self._referred(item)) for key, item in held)
        return self._made[0]

    def _referred(self, reference: Any) -> Any:
        if isinstance(reference, list):
            (encoded,) = reference
            return self._decode(encoded)
        return self._at(reference)

    def _at(self, number: int) -> Any:
        if self._made[number] is None:
            _, held = self._held[number]
            self._made[number] = tuple(map(self._referred, held))
        return self._made[number]
