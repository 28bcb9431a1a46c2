"""Separable laws: parts that give the labels when they are put together again."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kan.discovery.laws import interactions as analysis
from kan.discovery.laws import separation as module
from kan.discovery.laws.interactions import PolynomialSum, TermBasis, fitted_sum, interactions
from kan.discovery.laws.separation import Separation, factors, summands
from kan.discovery.laws.sums_of_products import Pattern
from kan.discovery.reduction.polynomials import Array
from kan.discovery.reduction.views import LABEL_TRANSFORMS, View, symbols_of

PLAIN = (False,) * 4


def samples(columns: int, count: int = 400) -> Array:
    return np.random.default_rng(0).uniform(1, 2, (count, columns))


def view(law: Callable[..., Tensor], columns: int, low: float = 1.0, count: int = 400, noise: float = 0.0) -> View:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, columns, generator=generator, dtype=torch.float64) * (2 - low) + low
    y = law(*x.unbind(1))[:, None]
    y = y + noise * y.std() * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    held = torch.arange(count) % 5 == 2
    return View(x[~held], y[~held], x[held], y[held], symbols_of("x", x), lambda e: e)


def sides(of: View, found: Separation) -> list[tuple[Tensor, Tensor]]:
    """The parts' values side by side, and the labels of `of`, for samples that were fitted and for those that were held out."""
    return [
        (torch.cat([part.y for part in found.parts], 1), of.y.flatten()),
        (torch.cat([part.held_y for part in found.parts], 1), of.held_y.flatten()),
    ]


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
    root = view(lambda a, b, c: LABELS[name](torch.sin(a * b) + c**2 / 2), 3, count=300)
    found = summands(root)
    (structure,) = [one for one in found if one.form.name.removesuffix("all variables") in (f"{name} of ", "" if name == "y" else name)]
    assert structure.error == found[0].error < 1e-6 and structure.pattern == ((0, 1), (2,))
    split = structure.separation
    assert split is not None and split.form is structure.form and split.error == structure.error and not split.is_product
    assert split.blocks == ((0, 1), (2,)) and [part.symbols for part in split.parts] == [root.symbols[:2], root.symbols[2:]]
    for part, block in zip(split.parts, split.blocks, strict=True):
        assert torch.equal(part.x, root.x[:, list(block)]) and torch.equal(part.held_x, root.held_x[:, list(block)])
    transform = next(transform for transform in LABEL_TRANSFORMS if transform.name == name)
    for (values, labels), y in zip(sides(structure.form, split), (root.y, root.held_y), strict=True):
        torch.testing.assert_close(labels, transform.forward(y).flatten())
        torch.testing.assert_close(values.sum(1) + split.constant, labels, rtol=0, atol=1e-6)


def test_parts_add_up_to_round_off_and_what_they_miss_is_left_in_each() -> None:
    def law(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return a**2 * b + c - 3 * c * d**2 + 7

    root = view(law, 4)
    split = summands(root)[0].separation
    assert split is not None and split.blocks == ((0, 1), (2, 3))
    for values, labels in sides(root, split):
        torch.testing.assert_close(values.sum(1) + split.constant, labels, rtol=0, atol=1e-12)
    noisy = view(law, 4, noise=0.01)
    split = summands(noisy)[0].separation
    assert split is not None and split.blocks == ((0, 1), (2, 3)) and 0.008 < split.error < 0.015
    missed = [(values.sum(1) + split.constant - labels) / float(labels.std()) for values, labels in sides(noisy, split)]
    assert all(0.008 < float(one.std()) < 0.015 for one in missed)  # two parts, which are off by the same
    for part in split.parts:
        a, b = part.x.unbind(1)
        clean = a**2 * b if part is split.parts[0] else a - 3 * a * b**2
        assert 0.008 < float((part.y.flatten() - clean).std()) / float(noisy.y.std()) < 0.015


def test_terms_that_meet_are_no_parts() -> None:
    (structure,) = [one for one in summands(view(lambda a, b, c: a * torch.sin(3 * b) + a * torch.exp(c), 3)) if one.form.original]
    assert structure.pattern == ((0, 1), (0, 2)) and structure.separation is None


def test_what_does_not_fall_apart_is_told() -> None:
    assert summands(view(lambda a, b, c: torch.sin(3 * a * b * c), 3)) == []
    assert summands(view(lambda a, b: torch.sin(3 * a * b) + torch.cos(a - b**2), 2)) == []


def test_sums_that_miss_the_least_are_the_first_and_not_many() -> None:
    root = view(lambda a, b, c: 3 + a / 99 + b / 77 + c / 88, 3, noise=0.01)  # but for noise a sum for several changes
    errors = [one.error for one in summands(root, 9)]
    assert len(errors) > 4 and errors == sorted(errors)
    assert [one.error for one in summands(root, 2)] == errors[:2]


def test_an_exact_sum_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def watched(x: Array, y: Array, wide: tuple[bool, ...], stop: Callable[[], bool]) -> PolynomialSum:
        calls.append(len(y))
        return interactions(x, y, wide, stop)

    monkeypatch.setattr(module, "interactions", watched)
    assert summands(view(lambda a, b: a + b**2, 2, low=-1.0))[0].error < 1e-12 and len(calls) == 1


# Products


def check(of: View, found: Separation | None, blocks: Pattern, error: float) -> Separation:
    assert found is not None and found.blocks == blocks and found.is_product and found.form is of and found.error < error
    assert [part.symbols for part in found.parts] == [tuple(of.symbols[i] for i in block) for block in blocks]
    for values, labels in sides(of, found):
        off = values.prod(1) + found.constant - labels
        assert float(off.abs().median()) < 3 * found.error * float(of.y.std())  # at the ends of columns they are off by more
    return found


PRODUCTS: dict[str, tuple[Callable[..., Tensor], float]] = {
    "one sign": (lambda a, b, c, d: torch.sin(a * b / 2) * torch.exp(-c * d / 2), 0.0),
    "two signs": (lambda a, b, c, d: torch.sin(2 * a * b) * torch.exp(-c * d / 2), 0.0),
    "both transform theirs": (lambda a, b, c, d: torch.cos(a * b) * (c - d**2 / 2), 0.0),
    "beside a constant": (lambda a, b, c, d: torch.cos(a * b) * torch.exp(-c * d / 2) + 3, 3.0),
}


@pytest.mark.parametrize("law", PRODUCTS)
def test_products_of_functions_of_two_columns_each(law: str) -> None:
    function, constant = PRODUCTS[law]
    root = view(function, 4, count=500)
    found = check(root, factors(root), ((0, 1), (2, 3)), 1e-4)
    assert found.constant == pytest.approx(constant, abs=1e-3)


def test_factors_of_different_numbers_of_columns_in_any_order() -> None:
    root = view(lambda a, b, c: torch.sin(2 * a * c) * torch.exp(b) - 0.5, 3)
    check(root, factors(root), ((0, 2), (1,)), 1e-5)
    root = view(lambda a, b, c, d: torch.sin(a * d) * torch.exp(b) / c, 4)
    check(root, factors(root), ((0, 3), (1,), (2,)), 1e-4)


def test_noise_hides_no_product() -> None:
    root = view(lambda a, b, c: torch.sin(a * b) * torch.exp(-c), 3, noise=0.01)
    _, second = check(root, factors(root), ((0, 1), (2,)), 0.015).parts
    ratio = second.y * torch.exp(root.x[:, 2:])
    assert 0.003 < float(ratio.std() / ratio.mean().abs()) < 0.03  # what is missed is left in the labels


def test_columns_that_nearly_fall_apart_stay_together() -> None:
    root = view(lambda a, b, c, d: torch.exp(a) * b * (1 + 0.02 * torch.sin(3 * a * b)) * (c + d), 4)
    check(root, factors(root), ((0, 1), (2, 3)), 1e-3)


def test_factors_have_their_values_where_others_are_not_small() -> None:
    root = view(lambda a, b, c: torch.exp(a * b) * c, 3)
    first, second = check(root, factors(root), ((0, 1), (2,)), 1e-4).parts
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
    assert factors(view(law, 3)) is None


def test_partitions_are_the_finest_first_and_know_the_constant() -> None:
    x = samples(4)
    y = np.cos(x[:, 0] * x[:, 3]) * np.exp(x[:, 1] * x[:, 2] / 3) - 2
    found = fitted_sum(x, y, PLAIN, ((0, 1, 2, 3),))
    several = module._partitions(found, x)
    sizes = [len(blocks) for blocks, _ in several]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) == 2 and len({blocks for blocks, _ in several}) == len(several)
    assert all(sorted(itertools.chain(*blocks)) == [0, 1, 2, 3] for blocks, _ in several)
    constants = dict(several)
    assert constants[(0, 3), (1, 2)] == pytest.approx(-2, abs=0.01)


# Many samples


def test_many_samples_are_thinned_and_parts_are_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    begin = TermBasis.__init__

    def watched(self: TermBasis, x: Array, *others: object) -> None:
        rows.append(len(x))
        begin(self, x, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(TermBasis, "__init__", watched)
    root = view(lambda a, b, c: torch.exp(a * b) * c, 3, count=10_000)
    product, sums = factors(root), summands(root)
    assert product is not None and sums[0].separation is not None and max(rows) == module.MAX_ROWS == 2000
    for found in (product, sums[0].separation):
        for part in found.parts:
            assert len(part.y) == len(part.x) == 8_000 and len(part.held_y) == len(part.held_x) == 2_000
        for values, labels in sides(found.form, found):
            off = (values.prod(1) if found.is_product else values.sum(1)) + found.constant - labels
            assert float(off.abs().max()) < 1e-4


def test_samples_of_a_grid_are_not_thinned_to_one_place() -> None:
    grid = np.stack(np.meshgrid(np.linspace(1, 2, 100), np.linspace(1, 2, 8), np.linspace(1, 2, 20), indexing="ij"), -1).reshape(-1, 3)
    chosen = module._few_rows(len(grid))
    assert len(chosen) == 2000 == len(set(chosen.tolist())) and chosen.tolist() == sorted(chosen.tolist())
    assert [len(np.unique(column)) for column in grid[chosen].T] == [100, 8, 20]
    assert module._few_rows(1999).tolist() == list(range(1999))
    x = torch.from_numpy(grid)
    y = (torch.sin(x[:, 0] * x[:, 1]) + x[:, 2] ** 2)[:, None]
    root = View(x, y, x[::7], y[::7], symbols_of("x", x), lambda e: e)
    split = summands(root)[0].separation
    assert split is not None and split.blocks == ((0, 1), (2,)) and math.isfinite(float(split.parts[1].held_y.sum()))


@pytest.mark.parametrize("look", [summands, factors])
def test_the_search_for_parts_ends_when_the_time_is_up(look: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = view(lambda a, b, c, d: torch.exp(a * b) * (c + d) + torch.sin(a * c) / d, 4)
    fits: list[object] = []
    for name in ("fitted_sum", "_separated_product"):
        original = getattr(module, name)
        for place in (module, analysis):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, lambda *a, original=original: (fits.append(a), original(*a))[1])
    look(whole)
    assert len(fits) > 3
    fits.clear()
    assert not look(whole, stop=lambda: True) and len(fits) <= 1
    look(whole, stop=lambda: len(fits) > 1)
    assert 1 < len(fits) <= 3
