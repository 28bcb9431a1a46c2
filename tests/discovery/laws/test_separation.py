"""Laws that fall apart: which columns meet, and parts that give the labels when they are put together again."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.discovery.laws import separation as parts
from kan.discovery.laws.separation import Parts, _cliques, factors, interactions, summands
from kan.discovery.laws.sums_of_products import Pattern
from kan.discovery.reduction.polynomials import Array
from kan.discovery.reduction.views import CHANGES, Stage, symbols_of

PLAIN = (False,) * 4


def samples(columns: int, count: int = 400) -> Array:
    return np.random.default_rng(0).uniform(1, 2, (count, columns))


def stage(law: Callable[..., Tensor], columns: int, low: float = 1.0, count: int = 400, noise: float = 0.0) -> Stage:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, columns, generator=generator, dtype=torch.float64) * (2 - low) + low
    y = law(*x.unbind(1))[:, None]
    y = y + noise * y.std() * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    held = torch.arange(count) % 5 == 2
    return Stage(x[~held], y[~held], x[held], y[held], symbols_of("x", x), lambda e: e)


def sides(of: Stage, found: Parts) -> list[tuple[Tensor, Tensor]]:
    """The parts' values side by side, and the labels of `of`, for samples that were fitted and for those that were held out."""
    return [
        (torch.cat([part.y for part in found.stages], 1), of.y.flatten()),
        (torch.cat([part.held_y for part in found.stages], 1), of.held_y.flatten()),
    ]


# Which columns meet

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
def test_columns_that_meet_are_seen(pattern: Pattern, noise: float) -> None:
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
def test_columns_of_few_values_may_meet(values: int) -> None:
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


def test_a_basis_has_the_constant_first_and_products_of_columns_that_meet_only() -> None:
    basis = parts._Basis(samples(3), PLAIN[:3], ((0, 1), (2,)), 3, 5)
    assert len(basis) == 1 + 3 * 5 + 3 and not basis.exponents[0].any()
    together = basis.exponents[(basis.exponents > 0).sum(1) > 1]
    assert len(together) == 3 and (together[:, 2] == 0).all() and (together.sum(1) <= 3).all()
    x = samples(3)
    chebyshev = np.polynomial.chebyshev.Chebyshev.basis(5, domain=[x[:, 2].min(), x[:, 2].max()])
    (place,) = np.flatnonzero((basis.exponents == [0, 0, 5]).all(1))
    np.testing.assert_allclose(basis.values(x)[:, place], chebyshev(x[:, 2]), atol=1e-12)


def test_sets_of_columns() -> None:
    assert parts._cliques(3, []) == ((0,), (1,), (2,))
    assert parts._cliques(4, [(0, 1), (1, 2)]) == ((0, 1), (1, 2), (3,))
    assert parts._cliques(4, [(0, 1), (0, 2), (1, 2), (2, 3)]) == ((0, 1, 2), (2, 3))
    assert parts._cliques(4, list(itertools.combinations(range(4), 2))) == ((0, 1, 2, 3),)
    assert parts._largest([(0,), (1,), (0, 1), (2,), (0, 1)]) == ((0, 1), (0, 1), (2,))
    assert parts._joined(((0,), (1,), (2,))) == ((0,), (1,), (2,))
    assert parts._joined(((0, 1), (1, 2), (3,))) == ((0, 1, 2), (3,))
    assert parts._joined(((0, 3), (1, 2), (2, 3))) == ((0, 1, 2, 3),)


@given(st.integers(1, 5), st.data())
@settings(max_examples=40, deadline=None)
def test_sets_of_columns_are_those_of_a_slow_search(n: int, data: st.DataObject) -> None:
    every = list(itertools.combinations(range(n), 2))
    pairs = data.draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    full = [one for k in range(1, n + 1) for one in itertools.combinations(range(n), k) if {*itertools.combinations(one, 2)} <= {*pairs}]
    assert parts._cliques(n, pairs) == tuple(sorted(one for one in full if not any(set(one) < set(other) for other in full)))
    blocks = parts._joined(parts._cliques(n, pairs))
    assert sorted(itertools.chain(*blocks)) == list(range(n))
    block_of = {i: block for block in blocks for i in block}
    assert all(block_of[i] == block_of[j] for i, j in pairs)
    for block in blocks:  # no block falls apart
        for k in range(1, len(block)):
            for one in itertools.combinations(block, k):
                assert any((i in one) != (j in one) for i, j in pairs if i in block)


# Sums

LABELS: dict[str, Callable[[Tensor], Tensor]] = {
    "y": lambda s: s,
    "log y": torch.exp,
    "log -y": lambda s: -torch.exp(s),
    "1/y": torch.reciprocal,
    "y^2": torch.sqrt,
    "sin y": lambda s: torch.asin(s / 5),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_a_function_of_a_sum(name: str) -> None:
    root = stage(lambda a, b, c: LABELS[name](torch.sin(a * b) + c**2 / 2), 3, count=300)
    found = summands(root)
    (meeting,) = [one for one in found if one.form.name.removesuffix("all variables") in (f"{name} of ", "" if name == "y" else name)]
    assert meeting.error == found[0].error < 1e-6 and meeting.pattern == ((0, 1), (2,))
    split = meeting.parts
    assert split is not None and split.form is meeting.form and split.error == meeting.error and not split.product
    assert split.blocks == ((0, 1), (2,)) and [part.symbols for part in split.stages] == [root.symbols[:2], root.symbols[2:]]
    for part, block in zip(split.stages, split.blocks, strict=True):
        assert torch.equal(part.x, root.x[:, list(block)]) and torch.equal(part.held_x, root.held_x[:, list(block)])
    change = next(change for change in CHANGES if change.name == name)
    for (values, labels), y in zip(sides(meeting.form, split), (root.y, root.held_y), strict=True):
        torch.testing.assert_close(labels, change.forward(y).flatten())
        torch.testing.assert_close(values.sum(1) + split.constant, labels, rtol=0, atol=1e-6)


def test_parts_add_up_to_round_off_and_what_they_miss_is_left_in_each() -> None:
    def law(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return a**2 * b + c - 3 * c * d**2 + 7

    root = stage(law, 4)
    split = summands(root)[0].parts
    assert split is not None and split.blocks == ((0, 1), (2, 3))
    for values, labels in sides(root, split):
        torch.testing.assert_close(values.sum(1) + split.constant, labels, rtol=0, atol=1e-12)
    noisy = stage(law, 4, noise=0.01)
    split = summands(noisy)[0].parts
    assert split is not None and split.blocks == ((0, 1), (2, 3)) and 0.008 < split.error < 0.015
    missed = [(values.sum(1) + split.constant - labels) / float(labels.std()) for values, labels in sides(noisy, split)]
    assert all(0.008 < float(one.std()) < 0.015 for one in missed)  # two parts, which are off by the same
    for part in split.stages:
        a, b = part.x.unbind(1)
        clean = a**2 * b if part is split.stages[0] else a - 3 * a * b**2
        assert 0.008 < float((part.y.flatten() - clean).std()) / float(noisy.y.std()) < 0.015


def test_terms_that_meet_are_no_parts() -> None:
    (meeting,) = [one for one in summands(stage(lambda a, b, c: a * torch.sin(3 * b) + a * torch.exp(c), 3)) if one.form.plain]
    assert meeting.pattern == ((0, 1), (0, 2)) and meeting.parts is None


def test_what_does_not_fall_apart_is_told() -> None:
    assert summands(stage(lambda a, b, c: torch.sin(3 * a * b * c), 3)) == []
    assert summands(stage(lambda a, b: torch.sin(3 * a * b) + torch.cos(a - b**2), 2)) == []


def test_sums_that_miss_the_least_are_the_first_and_not_many() -> None:
    root = stage(lambda a, b, c: 3 + a / 99 + b / 77 + c / 88, 3, noise=0.01)  # but for noise a sum for several changes
    errors = [one.error for one in summands(root, 9)]
    assert len(errors) > 4 and errors == sorted(errors)
    assert [one.error for one in summands(root, 2)] == errors[:2]


def test_an_exact_sum_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def watched(x: Array, y: Array, wide: tuple[bool, ...], stop: Callable[[], bool]) -> parts._Sum:
        calls.append(len(y))
        return interactions(x, y, wide, stop)

    monkeypatch.setattr(parts, "interactions", watched)
    assert summands(stage(lambda a, b: a + b**2, 2, low=-1.0))[0].error < 1e-12 and len(calls) == 1


# Products


def check(of: Stage, found: Parts | None, blocks: Pattern, error: float) -> Parts:
    assert found is not None and found.blocks == blocks and found.product and found.form is of and found.error < error
    assert [part.symbols for part in found.stages] == [tuple(of.symbols[i] for i in block) for block in blocks]
    for values, labels in sides(of, found):
        off = values.prod(1) + found.constant - labels
        assert float(off.abs().median()) < 3 * found.error * float(of.y.std())  # at the ends of columns they are off by more
    return found


PRODUCTS: dict[str, tuple[Callable[..., Tensor], float]] = {
    "one sign": (lambda a, b, c, d: torch.sin(a * b / 2) * torch.exp(-c * d / 2), 0.0),
    "two signs": (lambda a, b, c, d: torch.sin(2 * a * b) * torch.exp(-c * d / 2), 0.0),
    "both change theirs": (lambda a, b, c, d: torch.cos(a * b) * (c - d**2 / 2), 0.0),
    "beside a constant": (lambda a, b, c, d: torch.cos(a * b) * torch.exp(-c * d / 2) + 3, 3.0),
}


@pytest.mark.parametrize("law", PRODUCTS)
def test_products_of_functions_of_two_columns_each(law: str) -> None:
    function, constant = PRODUCTS[law]
    root = stage(function, 4, count=500)
    found = check(root, factors(root), ((0, 1), (2, 3)), 1e-4)
    assert found.constant == pytest.approx(constant, abs=1e-3)


def test_factors_of_different_numbers_of_columns_in_any_order() -> None:
    root = stage(lambda a, b, c: torch.sin(2 * a * c) * torch.exp(b) - 0.5, 3)
    check(root, factors(root), ((0, 2), (1,)), 1e-5)
    root = stage(lambda a, b, c, d: torch.sin(a * d) * torch.exp(b) / c, 4)
    check(root, factors(root), ((0, 3), (1,), (2,)), 1e-4)


def test_noise_hides_no_product() -> None:
    root = stage(lambda a, b, c: torch.sin(a * b) * torch.exp(-c), 3, noise=0.01)
    _, second = check(root, factors(root), ((0, 1), (2,)), 0.015).stages
    ratio = second.y * torch.exp(root.x[:, 2:])
    assert 0.003 < float(ratio.std() / ratio.mean().abs()) < 0.03  # what is missed is left in the labels


def test_columns_that_nearly_fall_apart_stay_together() -> None:
    root = stage(lambda a, b, c, d: torch.exp(a) * b * (1 + 0.02 * torch.sin(3 * a * b)) * (c + d), 4)
    check(root, factors(root), ((0, 1), (2, 3)), 1e-3)


def test_factors_have_their_values_where_others_are_not_small() -> None:
    root = stage(lambda a, b, c: torch.exp(a * b) * c, 3)
    first, second = check(root, factors(root), ((0, 1), (2,)), 1e-4).stages
    ratio = second.y / root.x[:, 2:]
    assert float(ratio.std() / ratio.mean().abs()) < 1e-4
    ratio = first.y / torch.exp(root.x[:, :1] * root.x[:, 1:2])
    assert float(ratio.std() / ratio.mean().abs()) < 1e-4


@pytest.mark.parametrize(
    "law",
    [
        lambda a, b, c: torch.sin(2 * a * b + c) + torch.cos(2 * a * c) + b * c,
        lambda a, b, c: torch.exp(a * b) + torch.sin(3 * c),
        lambda a, b, c: torch.sin(9 * a * b * c),
    ],
)
def test_what_is_no_product_is_told(law: Callable[..., Tensor]) -> None:
    assert factors(stage(law, 3)) is None


def test_partitions_are_the_finest_first_and_know_the_constant() -> None:
    x = samples(4)
    y = np.cos(x[:, 0] * x[:, 3]) * np.exp(x[:, 1] * x[:, 2] / 3) - 2
    found = parts._fitted(x, y, PLAIN, ((0, 1, 2, 3),))
    several = parts._partitions(found, x)
    sizes = [len(blocks) for blocks, _ in several]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) == 2 and len({blocks for blocks, _ in several}) == len(several)
    assert all(sorted(itertools.chain(*blocks)) == [0, 1, 2, 3] for blocks, _ in several)
    constants = dict(several)
    assert constants[(0, 3), (1, 2)] == pytest.approx(-2, abs=0.01)


# Many samples


def test_many_samples_are_thinned_and_parts_are_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    begin = parts._Basis.__init__

    def watched(self: parts._Basis, x: Array, *others: object) -> None:
        rows.append(len(x))
        begin(self, x, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(parts._Basis, "__init__", watched)
    root = stage(lambda a, b, c: torch.exp(a * b) * c, 3, count=10_000)
    product, sums = factors(root), summands(root)
    assert product is not None and sums[0].parts is not None and max(rows) == parts.SAMPLES == 2000
    for found in (product, sums[0].parts):
        for part in found.stages:
            assert len(part.y) == len(part.x) == 8_000 and len(part.held_y) == len(part.held_x) == 2_000
        for values, labels in sides(found.form, found):
            off = (values.prod(1) if found.product else values.sum(1)) + found.constant - labels
            assert float(off.abs().max()) < 1e-4


def test_samples_of_a_grid_are_not_thinned_to_one_place() -> None:
    grid = np.stack(np.meshgrid(np.linspace(1, 2, 100), np.linspace(1, 2, 8), np.linspace(1, 2, 20), indexing="ij"), -1).reshape(-1, 3)
    chosen = parts._few(len(grid))
    assert len(chosen) == 2000 == len(set(chosen.tolist())) and chosen.tolist() == sorted(chosen.tolist())
    assert [len(np.unique(column)) for column in grid[chosen].T] == [100, 8, 20]
    assert parts._few(1999).tolist() == list(range(1999))
    x = torch.from_numpy(grid)
    y = (torch.sin(x[:, 0] * x[:, 1]) + x[:, 2] ** 2)[:, None]
    root = Stage(x, y, x[::7], y[::7], symbols_of("x", x), lambda e: e)
    split = summands(root)[0].parts
    assert split is not None and split.blocks == ((0, 1), (2,)) and math.isfinite(float(split.stages[1].held_y.sum()))


@pytest.mark.parametrize("look", [summands, factors])
def test_the_search_for_parts_ends_when_the_time_is_up(look: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stage(lambda a, b, c, d: torch.exp(a * b) * (c + d) + torch.sin(a * c) / d, 4)
    fits: list[object] = []
    for name in ("_fitted", "_multiplied"):
        original = getattr(parts, name)
        monkeypatch.setattr(parts, name, lambda *a, original=original: (fits.append(a), original(*a))[1])
    look(whole)
    assert len(fits) > 3
    fits.clear()
    assert not look(whole, stop=lambda: True) and len(fits) <= 1
    look(whole, stop=lambda: len(fits) > 1)
    assert 1 < len(fits) <= 3


@given(st.integers(1, 7), st.integers(0, 2**21 - 1))
@settings(max_examples=100, deadline=None)
def test_largest_sets_of_columns_that_all_meet(n: int, bits: int) -> None:
    pairs = [pair for place, pair in enumerate(itertools.combinations(range(n), 2)) if bits >> place & 1]
    every = [one for size in range(1, n + 1) for one in itertools.combinations(range(n), size)]
    sets = [one for one in every if set(itertools.combinations(one, 2)) <= set(pairs)]
    assert _cliques(n, pairs) == tuple(sorted(one for one in sets if not any(set(one) < set(other) for other in sets)))


def test_many_columns_that_all_meet_are_one_set() -> None:
    assert _cliques(60, list(itertools.combinations(range(60), 2))) == (tuple(range(60)),)
