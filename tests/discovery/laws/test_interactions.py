"""Which columns interact, found by polynomials."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.discovery.laws.interactions import TermBasis, _cliques, _largest, interactions, joined_columns
from kan.discovery.laws.sums_of_products import Pattern
from kan.discovery.reduction.polynomials import Array

PLAIN = (False,) * 4


def samples(columns: int, count: int = 400) -> Array:
    return np.random.default_rng(0).uniform(1, 2, (count, columns))


SUMS: dict[Pattern, Callable[..., Array]] = {
    ((0,), (1,), (2,)): lambda a, b, c: np.exp(a) + np.sin(3 * b) + 1 / c,
    ((0, 1), (2,)): lambda a, b, c: np.exp(a * b) / 5 + c**3,
    ((0,), (1, 2)): lambda a, b, c: np.log(a) + np.sin(b * c),
    ((0, 1), (0, 2)): lambda a, b, c: a * np.sin(3 * b) + a * np.exp(c),
    ((0, 1), (0, 2), (1, 2)): lambda a, b, c: np.sin(3 * a * b) + np.exp(b * c) / 4 + np.cos(2 * a * c),
    ((0, 1, 2),): lambda a, b, c: np.sin(a * b * c / 2),
    ((0, 1), (2, 3)): lambda a, b, c, d: np.sin(a * b) + c / d,
}


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("pattern", SUMS, ids=str)
def test_columns_that_interact_are_seen(pattern: Pattern, noise: float) -> None:
    x = samples(len(set(itertools.chain(*pattern))))
    y = SUMS[pattern](*x.T)
    found = interactions(x, y + noise * np.std(y) * np.random.default_rng(1).normal(size=len(y)), PLAIN[: x.shape[1]])
    assert found.pattern == pattern and found.error < max(1e-2, 1.5 * noise)
    assert np.std(found.basis.values(x) @ found.c - y) < (noise or 1e-3) * np.std(y)


@given(st.permutations(range(4)))
@settings(max_examples=6, deadline=None)
def test_the_order_of_columns_does_not_matter(order: list[int]) -> None:
    x = samples(4, 250)
    y = x[:, 0] * np.sin(2 * x[:, 1]) + x[:, 0] ** 2 * x[:, 2] + np.exp(x[:, 3])
    moved = {old: new for new, old in enumerate(order)}
    expected = sorted(tuple(sorted(moved[i] for i in columns)) for columns in ((0, 1), (0, 2), (3,)))
    assert interactions(x[:, order], y, PLAIN).pattern == tuple(expected)


def test_a_column_without_a_part_is_alone() -> None:
    x = samples(3)
    assert interactions(x, np.exp(x[:, 0] * x[:, 1]), PLAIN[:3]).pattern == ((0, 1), (2,))
    assert interactions(x, np.exp(x[:, 1]), PLAIN[:3]).pattern == ((0,), (1,), (2,))


@pytest.mark.parametrize("values", [1, 2, 4])
def test_columns_of_few_values_may_interact(values: int) -> None:
    x = samples(3)
    x[:, 1] = np.floor((x[:, 1] - 1) * values)
    found = interactions(x, np.exp(x[:, 0] * x[:, 1] / 2) * x[:, 0] + x[:, 2] ** 2, PLAIN[:3])
    assert found.pattern == (((0, 1), (2,)) if values > 1 else ((0,), (1,), (2,))) and found.error < 1e-6


def test_few_samples_are_no_error() -> None:
    for count in (1, 3, 8, 20):
        x = samples(3, count)
        assert {*itertools.chain(*interactions(x, x.sum(1), PLAIN[:3]).pattern)} == {0, 1, 2}


def test_logarithms_of_wide_columns() -> None:
    x = np.exp(3 * samples(2))
    y = np.log(x[:, 0]) ** 2 + np.sqrt(x[:, 1])
    assert interactions(x, y, (True, True)).error < 1e-9 < interactions(x, y, PLAIN[:2]).error


def test_a_basis_has_the_constant_first_and_products_of_columns_that_interact_only() -> None:
    basis = TermBasis(samples(3), PLAIN[:3], ((0, 1), (2,)), 3, 5)
    assert len(basis) == 1 + 3 * 5 + 3 and not basis.exponents[0].any()
    together = basis.exponents[(basis.exponents > 0).sum(1) > 1]
    assert len(together) == 3 and (together[:, 2] == 0).all() and (together.sum(1) <= 3).all()
    x = samples(3)
    chebyshev = np.polynomial.chebyshev.Chebyshev.basis(5, domain=[x[:, 2].min(), x[:, 2].max()])
    (place,) = np.flatnonzero((basis.exponents == [0, 0, 5]).all(1))
    np.testing.assert_allclose(basis.values(x)[:, place], chebyshev(x[:, 2]), atol=1e-12)


def test_sets_of_columns() -> None:
    assert _cliques(3, []) == ((0,), (1,), (2,))
    assert _cliques(4, [(0, 1), (1, 2)]) == ((0, 1), (1, 2), (3,))
    assert _cliques(4, [(0, 1), (0, 2), (1, 2), (2, 3)]) == ((0, 1, 2), (2, 3))
    assert _cliques(4, list(itertools.combinations(range(4), 2))) == ((0, 1, 2, 3),)
    assert _largest([(0,), (1,), (0, 1), (2,), (0, 1)]) == ((0, 1), (0, 1), (2,))
    assert joined_columns(((0,), (1,), (2,))) == ((0,), (1,), (2,))
    assert joined_columns(((0, 1), (1, 2), (3,))) == ((0, 1, 2), (3,))
    assert joined_columns(((0, 3), (1, 2), (2, 3))) == ((0, 1, 2, 3),)


@given(st.integers(1, 5), st.data())
@settings(max_examples=40, deadline=None)
def test_sets_of_columns_are_those_of_a_slow_search(n: int, data: st.DataObject) -> None:
    every = list(itertools.combinations(range(n), 2))
    pairs = data.draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    full = [one for k in range(1, n + 1) for one in itertools.combinations(range(n), k) if {*itertools.combinations(one, 2)} <= {*pairs}]
    assert _cliques(n, pairs) == tuple(sorted(one for one in full if not any(set(one) < set(other) for other in full)))
    blocks = joined_columns(_cliques(n, pairs))
    assert sorted(itertools.chain(*blocks)) == list(range(n))
    block_of = {i: block for block in blocks for i in block}
    assert all(block_of[i] == block_of[j] for i, j in pairs)
    for block in blocks:  # no block falls apart
        for k in range(1, len(block)):
            for one in itertools.combinations(block, k):
                assert any((i in one) != (j in one) for i, j in pairs if i in block)


@given(st.integers(1, 7), st.integers(0, 2**21 - 1))
@settings(max_examples=100, deadline=None)
def test_largest_sets_of_columns_that_all_interact(n: int, bits: int) -> None:
    pairs = [pair for place, pair in enumerate(itertools.combinations(range(n), 2)) if bits >> place & 1]
    every = [one for size in range(1, n + 1) for one in itertools.combinations(range(n), size)]
    sets = [one for one in every if set(itertools.combinations(one, 2)) <= set(pairs)]
    assert _cliques(n, pairs) == tuple(sorted(one for one in sets if not any(set(one) < set(other) for other in sets)))


def test_many_columns_that_all_interact_are_one_set() -> None:
    assert _cliques(60, list(itertools.combinations(range(60), 2))) == (tuple(range(60)),)
