"""Lays out a directed graph in layers, from top to bottom (after Sugiyama, Tagawa and Toda, 1981).

Cycles are allowed: the edges that close one are laid out as if they led the other way, and lead
upwards. An edge over several layers has a place of its own in each, so that it passes by what
stands there. The same graph is laid out in the same way each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 160.0, 36.0
"""Of a node."""
GAP, STEP = 32.0, 96.0
"""Between nodes of a layer; from one layer to the next."""
MARGIN = 24.0
_PASSING = 12.0
"""The width of the place of an edge in a layer that it passes."""
_SWEEPS = 8
_ASIDE = 14.0
"""How far from a node's middle edges that lead upwards end, so that they meet none that go down."""

Name = str


@dataclass(frozen=True)
class Node:
    """Where a node is: its middle."""

    name: Name
    x: float
    y: float


@dataclass(frozen=True)
class Edge:
    """An edge as the points that it goes through, from its source to its target."""

    source: Name
    target: Name
    label: str
    points: tuple[tuple[float, float], ...]

    @property
    def path(self) -> str:
        """The same as SVG's commands of a path, with a curve between each two points."""
        (x, y), *others = self.points
        commands = [f"M{x:g} {y:g}"]
        for to_x, to_y in others:
            middle = (y + to_y) / 2
            commands.append(f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}")
            x, y = to_x, to_y
        return " ".join(commands)

    @property
    def middle(self) -> tuple[float, float]:
        """Where its label stands."""
        at = len(self.points) // 2
        (x1, y1), (x2, y2) = self.points[at - 1], self.points[at]
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True)
class Drawing:
    """A graph that is laid out."""

    nodes: list[Node]
    edges: list[Edge]
    width: float
    height: float


def layout(names: Sequence[Name], edges: Iterable[tuple[Name, Name, str]]) -> Drawing:
    """Lay out a graph.

    Args:
        names: Its nodes, each once; those that come first stand higher, where edges allow it.
        edges: Source, target and label of each. Edges that are there twice are drawn once; both
            ends are among the nodes.
    """
    unique = list(dict.fromkeys(edges))
    down = _without_cycles(names, unique)
    layer_of = _layers(names, down)
    chains = {
        edge: _chain(edge, layer_of, is_up=(edge[1], edge[0]) in down and edge[:2] not in down)
        for edge in unique
        if edge[0] != edge[1]
    }
    rows = _ordered(_rows(names, layer_of, chains.values()), chains.values())
    return _placed(names, unique, rows, chains)


Place = Hashable
"""A node's name; or an edge and a layer that it passes."""


def _without_cycles(
    names: Sequence[Name], edges: Iterable[tuple[Name, Name, str]]
) -> set[tuple[Name, Name]]:
    """The edges, those that close a cycle turned round; without edges from a node to itself."""
    out: dict[Name, list[Name]] = {name: [] for name in names}
    for source, target, _ in edges:
        if source != target and target not in out[source]:
            out[source].append(target)
    entered = {target for targets in out.values() for target in targets}
    found: set[tuple[Name, Name]] = set()
    seen: set[Name] = set()
    under_way: set[Name] = set()
    for first in sorted(names, key=lambda name: name in entered):
        if first in seen:
            continue
        # Without recursion: a chain of agents may be long.
        seen.add(first)
        under_way.add(first)
        way = [(first, iter(out[first]))]
        while way:
            name, targets = way[-1]
            following = next(targets, None)
            if following is None:
                under_way.remove(name)
                way.pop()
            elif following in under_way:
                found.add((following, name))
            else:
                found.add((name, following))
                if following not in seen:
                    seen.add(following)
                    under_way.add(following)
                    way.append((following, iter(out[following])))
    return found


def _layers(names: Sequence[Name], down: set[tuple[Name, Name]]) -> dict[Name, int]:
    """The layer of each node: below all that lead to it."""
    sources: dict[Name, int] = dict.fromkeys(names, 0)
    targets: dict[Name, list[Name]] = {name: [] for name in names}
    for source, target in down:
        sources[target] += 1
        targets[source].append(target)
    layer_of = dict.fromkeys(names, 0)
    ready = [name for name in names if sources[name] == 0]
    while ready:
        name = ready.pop()
        for target in targets[name]:
            layer_of[target] = max(layer_of[target], layer_of[name] + 1)
            sources[target] -= 1
            if sources[target] == 0:
                ready.append(target)
    return layer_of


def _chain(
    edge: tuple[Name, Name, str], layer_of: dict[Name, int], *, is_up: bool
) -> list[tuple[int, Place]]:
    """The places of an edge from top to bottom, each with its layer."""
    top, bottom = (edge[1], edge[0]) if is_up else (edge[0], edge[1])
    passed = range(layer_of[top] + 1, layer_of[bottom])
    ends = ((layer_of[top], top), (layer_of[bottom], bottom))
    return [ends[0], *((layer, (edge, layer)) for layer in passed), ends[1]]


def _rows(
    names: Sequence[Name], layer_of: dict[Name, int], chains: Iterable[list[tuple[int, Place]]]
) -> list[list[Place]]:
    rows: list[list[Place]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for name in names:
        rows[layer_of[name]].append(name)
    for chain in chains:
        for layer, place in chain[1:-1]:
            rows[layer].append(place)
    return rows


def _ordered(
    rows: list[list[Place]], chains: Iterable[list[tuple[int, Place]]]
) -> list[list[Place]]:
    """The rows so that few edges cross: each place near the middle of what it is connected to."""
    above: dict[Place, list[Place]] = {}
    below: dict[Place, list[Place]] = {}
    for chain in chains:
        for (_, upper), (_, lower) in itertools.pairwise(chain):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    for sweep in range(_SWEEPS):
        is_downwards = sweep % 2 == 0
        neighbours, order = (above, rows[1:]) if is_downwards else (below, rows[-2::-1])
        at = {place: position for row in rows for position, place in enumerate(row)}
        for row in order:
            middles = {
                place: sum(at[one] for one in found) / len(found)
                if (found := neighbours.get(place))
                else at[place]
                for place in row
            }
            row.sort(key=middles.__getitem__)
            at.update({place: position for position, place in enumerate(row)})
    return rows


def _placed(
    names: Sequence[Name],
    edges: Iterable[tuple[Name, Name, str]],
    rows: list[list[Place]],
    chains: dict[tuple[Name, Name, str], list[tuple[int, Place]]],
) -> Drawing:
    known = set(names)

    def width_of(place: Place) -> float:
        return WIDTH if place in known else _PASSING

    widths = [sum(map(width_of, row)) + GAP * (len(row) - 1) for row in rows]
    width = max(widths, default=0.0)
    at: dict[Any, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        x = MARGIN + (width - widths[number]) / 2
        y = MARGIN + HEIGHT / 2 + number * STEP
        for place in row:
            at[place] = (x + width_of(place) / 2, y)
            x += width_of(place) + GAP
    drawn = []
    for edge in edges:
        source, target, label = edge
        if source == target:
            x, y = at[source]
            right, low = x + WIDTH / 2, y + HEIGHT / 4
            turn = (right + MARGIN / 2, y)
            points = [(right, low), turn, (right, y - HEIGHT / 4)]
        else:
            chain = chains[edge]
            is_up = chain[0][1] == target
            aside = _ASIDE if is_up else 0.0
            inner = [at[place] for _, place in chain[1:-1]]
            (top_x, top_y), (low_x, low_y) = at[chain[0][1]], at[chain[-1][1]]
            down = [
                (top_x + aside, top_y + HEIGHT / 2),
                *inner,
                (low_x + aside, low_y - HEIGHT / 2),
            ]
            points = down[::-1] if is_up else down
        drawn.append(Edge(source, target, label, tuple(points)))
    height = 2 * MARGIN + (len(rows) - 1) * STEP + HEIGHT if rows else 0.0
    nodes = [Node(name, *at[name]) for name in names]
    return Drawing(nodes, drawn, width + 2 * MARGIN, height)
