"""What a diagram shows, as data: thinned curves, owners of sub-nodes, which edges are drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.plotting.diagram import Diagram, EdgeCurve, unit_interval


def curve(samples: int, seed: int = 0, kind: str = "numeric", opacity: float = 1.0) -> EdgeCurve:
    random = np.random.default_rng(seed)
    return EdgeCurve(np.sort(random.normal(size=samples)), random.normal(size=samples), opacity, kind)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 400), st.integers(1, 30), st.integers(0, 99))
def test_an_outline_keeps_ends_and_extrema_and_is_short(samples: int, bins: int, seed: int) -> None:
    whole = curve(samples, seed)
    x, y = whole.outline(bins)
    assert len(x) <= 2 * bins + 2 and bool((np.diff(x) >= 0).all())
    assert (x[0], x[-1], y.min(), y.max()) == (whole.x[0], whole.x[-1], whole.y.min(), whole.y.max())
    assert set(zip(x, y, strict=True)) <= set(zip(whole.x, whole.y, strict=True))


def test_samples_that_are_no_numbers_are_not_drawn() -> None:
    x, y = np.arange(6.0), np.array([0.0, np.nan, 2.0, np.inf, 4.0, 5.0])
    broken = EdgeCurve(x, y, 1.0, "numeric")
    for found in (broken.outline(10), broken.subset(10)):
        assert found[0].tolist() == found[1].tolist() == [0, 2, 4, 5]
    assert broken.subset(2)[0].tolist() == [0, 5]


def test_sub_nodes_belong_to_their_nodes() -> None:
    diagram = Diagram((2, 4, 1), (0, 7, 1), ((), (2, 3), ()), {})
    assert (diagram.depth, diagram.n_sum(1), diagram.owners(1)) == (2, 2, [0, 1, 2, 2, 3, 3, 3])


def test_only_live_edges_at_visible_nodes_are_drawn_the_faintest_first() -> None:
    edges = {
        (0, 0, 0): curve(3, opacity=0.9), (0, 0, 1): curve(3, opacity=0.2), (0, 0, 2): curve(3, kind="none"),
        (0, 0, 3): curve(3, opacity=0.5), (1, 0, 0): curve(3, opacity=0.7), (1, 2, 0): curve(3, opacity=0.1),
    }  # fmt: skip
    diagram = Diagram((1, 3, 1), (0, 4, 1), ((), (2,), ()), edges, hidden=frozenset({(1, 2)}))
    assert list(diagram.visible_edges()) == [(0, 0, 1), (1, 0, 0), (0, 0, 0)], "sub-nodes 2 and 3 are those of node 2"


@pytest.mark.parametrize(
    ("widths", "names", "message"),
    [
        (((2,), (0,), ((),)), {}, "there are at least two levels; got 1, 1 and 1"),
        (((2, 3), (0, 3), ((), (2,))), {}, "Level 1 has 3 sub-nodes, but 3 nodes .* need 4"),
        (((2, 1), (0, 1), ((), ())), {"in_vars": ("x",)}, "in_vars has 1 names, but the network has 2 inputs"),
        (((2, 1), (0, 1), ((), ())), {"out_vars": ("a", "b")}, "out_vars has 2 names, but the network has 1 outputs"),
    ],
)
def test_what_contradicts_itself_is_refused(widths, names, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Diagram(*widths, {}, **names)


def test_values_are_mapped_onto_the_unit_interval() -> None:
    assert unit_interval(np.array([2.0, 6.0, 3.0])).tolist() == [0, 1, 0.25]
    assert unit_interval(np.array([5.0, 5.0 + 1e-9])).tolist() == [0.5, 0.5]
    largest = np.finfo(float).max
    assert unit_interval(np.array([-largest / 2, 0.0, largest / 2])).tolist() == [0, 0.5, 1]
