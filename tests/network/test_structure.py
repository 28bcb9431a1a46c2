"""Widths and arities, parsed once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.network.structure import Structure, per_layer

WIDTHS = st.lists(st.tuples(st.integers(1, 4), st.lists(st.integers(1, 3), max_size=3)), min_size=2, max_size=4)


@settings(deadline=None, max_examples=40)
@given(WIDTHS)
def test_sub_nodes_are_those_of_exactly_one_node(layers: list[tuple[int, list[int]]]) -> None:
    width, arities = [[n, len(a)] for n, a in layers], [a for _, a in layers]
    structure = Structure.parse(width, arities)
    assert structure.width == width and structure.depth == len(layers) - 1
    for l, (n, a) in enumerate(layers):
        assert (structure.width_in[l], structure.width_out[l]) == (n + len(a), n + sum(a))
        owned = [s for i in range(structure.width_in[l]) for s in structure.subnodes(l, i)]
        assert owned == list(range(structure.width_out[l]))
        assert [len(structure.subnodes(l, i)) for i in range(structure.width_in[l])] == [1] * n + a


@settings(deadline=None, max_examples=40)
@given(WIDTHS, st.data())
def test_what_remains_has_the_nodes_that_are_kept(layers: list[tuple[int, list[int]]], data: st.DataObject) -> None:
    structure = Structure.parse([[n, len(a)] for n, a in layers], [a for _, a in layers])
    keep = [sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1))) for n in structure.width_in]
    left = structure.keep(keep)
    assert left.width_in == [len(kept) for kept in keep]
    for l, kept in enumerate(keep):
        assert [len(left.subnodes(l, place)) for place in range(len(kept))] == [len(structure.subnodes(l, i)) for i in kept]


def test_spellings_of_one_structure() -> None:
    expected = Structure((2, 3, 1), ((), (2, 2), ()))
    pairs = ((2, 0), (3, 2), (1, 0))
    for width, arity in [([2, [3, 2], 1], 2), (pairs, np.int64(2)), (np.array(pairs), [[], [2, 2], []])]:
        assert Structure.parse(width, arity) == expected


@pytest.mark.parametrize(
    ("width", "arity", "message"),
    [
        ("21", 2, "width must be a list with the number of nodes"),
        ([3], 2, "width must be a list with the number of nodes"),
        ({2: 1, 1: 1}, 2, "width must be a list with the number of nodes"),
        ([2, 0, 1], 2, r"entry 1 of \[2, 0, 1\] is 0"),
        ([2, True], 2, "entry 1 .* is True"),
        ([2, [1, 2, 3]], 2, "entry 1"),
        ([2, [1, 2], 1], [[], [2], []], r"has \[0, 2, 0\] of them"),
        ([2, [1, 1], 1], [[], [0], []], "arity of a multiplication node must be at least 1"),
    ],
)
def test_what_is_no_structure_is_named(width, arity, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Structure.parse(width, arity)


def test_one_number_for_all_layers_or_one_for_each() -> None:
    assert per_layer("grid", 5, 3, 1) == [5, 5, 5] and per_layer("grid", np.array([3, 4]), 2, 1) == [3, 4]
    for value in ([3], 0, 2.0, [3, True]):
        with pytest.raises(ValueError, match="grid must be an integer of at least 1, or a list of 2 of them"):
            per_layer("grid", value, 2, 1)  # type: ignore[arg-type]
