"""Graphs in layers, and bars: where shapes are."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from timestep.operations.queries.agents import Handoff
from timestep.web.drawing import bars, layers
from timestep.web.drawing.layers import layout
from timestep.web.pages.agents import drawing_of

NODES = st.integers(0, 12).map(lambda count: [f"n{number}" for number in range(count)])
GRAPHS = NODES.flatmap(
    lambda names: st.tuples(
        st.just(names),
        st.lists(
            st.tuples(st.sampled_from(names), st.sampled_from(names), st.sampled_from("ab")),
            max_size=30,
        )
        if names
        else st.just([]),
    )
)


def test_who_hands_over_is_above_who_takes_over_where_no_cycle_forbids_it() -> None:
    names = ["billing", "triage", "refunds", "desk"]
    edges = [
        ("desk", "triage", "to_triage"),
        ("triage", "billing", "to_billing"),
        ("billing", "refunds", "to_refunds"),
        ("triage", "refunds", "to_refunds"),
        ("billing", "triage", "back"),
        ("refunds", "refunds", "again"),
    ]
    drawing = layout(names, edges)
    y = {node.name: node.y for node in drawing.nodes}
    assert y["desk"] < y["triage"] < y["billing"] < y["refunds"]
    ends = {(edge.source, edge.target): edge.points for edge in drawing.edges}
    assert len(ends) == len(edges)
    # What leads back leads upwards, and beside what leads down.
    assert ends["billing", "triage"][0][1] > ends["billing", "triage"][-1][1]
    assert ends["billing", "triage"][-1] != ends["triage", "billing"][0]
    # An edge over several layers has a point in each that it passes.
    assert len(ends["triage", "refunds"]) == 3
    passing = ends["triage", "refunds"][1]
    assert passing[1] == y["billing"]
    billing = next(node for node in drawing.nodes if node.name == "billing")
    assert abs(passing[0] - billing.x) > layers.WIDTH / 2
    assert layout(names, edges) == drawing


@given(GRAPHS)
def test_any_graph_is_drawn_whole_and_no_node_covers_another(
    graph: tuple[list[str], list[tuple[str, str, str]]],
) -> None:
    names, edges = graph
    drawing = layout(names, edges)
    assert [node.name for node in drawing.nodes] == names
    assert {(edge.source, edge.target, edge.label) for edge in drawing.edges} == set(edges)
    for one, other in itertools.combinations(drawing.nodes, 2):
        assert abs(one.x - other.x) >= layers.WIDTH or abs(one.y - other.y) >= layers.HEIGHT
    points = [point for edge in drawing.edges for point in edge.points]
    points += [(node.x + side, node.y) for node in drawing.nodes for side in (-80, 80)]
    assert all(0 <= x <= drawing.width and 0 <= y <= drawing.height for x, y in points)
    at = {node.name: node for node in drawing.nodes}
    for edge in drawing.edges:
        for name, point in ((edge.source, edge.points[0]), (edge.target, edge.points[-1])):
            assert math.dist(point, (at[name].x, at[name].y)) <= layers.WIDTH
        assert edge.path.startswith("M")


def test_a_long_chain_of_agents_is_no_deep_recursion() -> None:
    names = [f"n{number}" for number in range(3000)]
    drawing = layout(names, [(one, other, "") for one, other in itertools.pairwise(names)])
    assert drawing.nodes[-1].y > drawing.nodes[0].y


def test_bars_stand_on_each_other_and_reach_to_the_highest() -> None:
    drawn = bars.chart([("mon", (1.0, 3.0)), ("tue", (0.0, 0.0)), ("wed", (2.0, 0.0))])
    assert drawn.highest == 4.0
    (low, high), zero, half = (bar.parts for bar in drawn.bars)
    assert high == (bars.MARGIN, bars.HEIGHT * 3 / 4)
    assert low == (bars.MARGIN + bars.HEIGHT * 3 / 4, bars.HEIGHT / 4)
    assert zero[0][1] == 0
    assert half[0][1] == bars.HEIGHT / 2
    many = bars.chart([(str(day), (1.0,)) for day in range(40)])
    assert max(bar.x + bar.width for bar in many.bars) <= bars.WIDTH
    assert sum(bar.is_labelled for bar in many.bars) == 8
    assert bars.chart([]).bars == []


def test_what_would_take_long_to_be_laid_out_is_not_drawn() -> None:
    def handing_over(count: int) -> list[Handoff]:
        pairs = itertools.permutations(range(count), 2)
        return [Handoff(f"a{one}", f"a{other}", "transfer", False) for one, other in pairs]

    assert drawing_of(handing_over(17)) is not None
    assert drawing_of(handing_over(18)) is None
    assert drawing_of([Handoff("a0", f"a{one}", "t", False) for one in range(1, 101)]) is None
