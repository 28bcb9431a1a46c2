"""Misses: 0 but for rounding errors where an equation holds, far from it where it does not, whatever the units, zeros and poles."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan import KAN
from kan.analysis.misses import Miss, Misses, worst
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

Function = Callable[[Tensor], Tensor]


def held(miss: Miss) -> bool:
    """Whether an equation holds clearly or is missed clearly; anything between is an error."""
    assert miss.within(0.0) == (miss.size < 1e-12) and (miss.within(0.0) or miss.size > 1e-4)
    return miss.within(0.0)


def test_sums_and_products() -> None:
    x = uniform(200, 3)
    factors = Misses(lambda x: torch.sin(2 * x[:, 0] + x[:, 1]) * torch.exp(x[:, 2]), x)
    assert [held(factors.product(group)) for group in ([0], [1], [2], [0, 1])] == [False, False, True, True]
    assert not any(held(factors.sum(group)) for group in ([0], [1], [2]))
    terms = Misses(lambda x: 10 + x[:, 0] * x[:, 1] + x[:, 2] ** 2, x)
    assert [held(terms.sum(group)) for group in ([0], [1], [2], [0, 1])] == [False, False, True, True]
    assert not any(held(terms.product(group)) for group in ([0], [1], [2])), "a large constant is no product"


def test_symmetries_and_functions_of_sums() -> None:
    misses = Misses(lambda x: torch.sin((x[:, 0] ** 2 + x[:, 1]) * x[:, 2]) + x[:, 3] * x[:, 2], uniform(200, 4))
    assert held(misses.symmetry([0, 1], [2, 3])) and not held(misses.symmetry([0, 2], [1, 3]))
    assert held(misses.general([0], [1])) and not held(misses.general([0, 1], [2, 3]))
    product = Misses(lambda x: torch.tanh(x[:, 0] * x[:, 1] * x[:, 2]), uniform(200, 3))
    assert held(product.general([0], [1, 2])), "of a product, through the zeros of its factors"
    other = Misses(lambda x: torch.sin(x[:, 0] * x[:, 1] + x[:, 2]) + x[:, 0], uniform(200, 3))
    assert not held(other.general([0, 1], [2]))


def test_no_dependence() -> None:
    misses = Misses(lambda x: x[:, 0] + 1e-6 * x[:, 1] + 0 * x[:, 2], uniform(50, 3))
    assert [misses.effect(k).within(0.0) for k in range(3)] == [False, False, True]
    assert [misses.unused(k) for k in range(3)] == [False, False, True]
    assert misses.effect(1).size == pytest.approx(1e-6, rel=0.5)


@settings(deadline=None, max_examples=20)
@given(st.floats(-6, 6), st.floats(-3, 3), st.integers(0, 3))
def test_units_do_not_matter(unit: float, length: float, seed: int) -> None:
    x = uniform(60, 3, seed=seed)

    def model(x: Tensor) -> Tensor:
        return torch.exp(x[:, 0] * x[:, 1]) + x[:, 1] * x[:, 2] ** 2

    here = Misses(model, x)
    there = Misses(lambda x: 10**unit * model(x / 10**length), x * 10**length)
    for one, other in (
        (here.sum([0]), there.sum([0])), (here.product([0, 1]), there.product([0, 1])), (here.general([0], [1]), there.general([0], [1])),
        (here.symmetry([0, 1], [2]), there.symmetry([0, 1], [2])), (here.effect(2), there.effect(2)),
    ):  # fmt: skip
        # A rounding error instead of 0 takes part in the median.
        assert one.size == pytest.approx(other.size, rel=1e-2)
        assert 0 <= one.size <= 1 + 1e-12


def test_poles_do_not_decide_alone() -> None:
    x = uniform(300, 4)
    x[0, 0] = 1e-9
    misses = Misses(lambda x: 1 / x[:, 0] + x[:, 1] * x[:, 2] + x[:, 3], x)
    assert held(misses.sum([0])) and not held(misses.symmetry([1, 3], [2]))
    assert misses.sum([1]).size > 0.1
    assert Misses(lambda x: 1 / x[:, 0] + x[:, 0] * x[:, 1], x).sum([0]).size > 0.05


def test_the_miss_of_a_weak_interaction_is_its_share() -> None:
    for share in (1e-1, 1e-3, 1e-6):
        misses = Misses(lambda x, share=share: x[:, 0] + x[:, 1] + share * x[:, 0] * x[:, 1] ** 2, uniform(200, 2))
        assert 0.1 * share < misses.sum([0]).size < share and not misses.sum([0]).within(0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_goes_with_the_numbers(dtype: torch.dtype) -> None:
    x = uniform(200, 2).to(dtype)
    misses = Misses(lambda x: x[:, 0] + x[:, 1] ** 2, x)
    eps = torch.finfo(dtype).eps
    assert misses.sum([0]).size < misses.sum([0]).rounding < 1e3 * eps
    # With a constant so large that its rounding errors hide the rest, nothing can be told.
    hidden = Misses(lambda x: 1 / eps + x[:, 0] + x[:, 1] ** 2, x)
    assert not hidden.sum([0]).within(0.0) and not hidden.product([0]).within(0.0)


def test_what_tells_nothing_holds_nothing() -> None:
    x = uniform(50, 3)
    # The slopes of a maximum are never there together, those of steps never.
    larger = Misses(lambda x: torch.maximum(x[:, 0], x[:, 1]) + x[:, 2], x)
    assert math.isnan(larger.general([0], [1]).size) and math.isnan(larger.symmetry([0, 1], [2]).size) and held(larger.sum([2]))
    corner = Misses(lambda x: (x[:, 0] - 0.5).relu() * (x[:, 1] - 0.5).relu() + x[:, 2], uniform(500, 3))
    assert math.isnan(corner.general([0], [1]).size), "slopes on both sides in less than one pair of a hundred"
    steps = Misses(lambda x: (3 * x[:, 0]).floor() * x[:, 2] + x[:, 1], x)
    assert not steps.symmetry([0, 1], [2]).within(0.0) and not steps.symmetry([0, 2], [1]).within(0.0)
    for model in (lambda x: x[:, 0] * torch.nan, lambda x: torch.where(x[:, 0] == x[:, 0].max(), x[:, 0], torch.nan)):
        none = Misses(model, x)
        for miss in (none.sum([0]), none.product([0]), none.general([0], [1]), none.effect(0), none.symmetry([0, 1], [2])):
            assert not miss.within(0.5)


def test_samples_without_a_value_are_left_out() -> None:
    x = uniform(200, 2)
    misses = Misses(lambda x: torch.log(x[:, 0] + x[:, 1]) + x[:, 1], x)
    assert held(misses.general([0], [1])) is False and 0 < misses.sum([0]).size < 1
    rows = x.clone()
    rows[::3, 0] = torch.nan
    assert held(Misses(lambda x: x[:, 0] * x[:, 1], rows).product([0]))


def test_pairs_that_are_alike_say_nothing() -> None:
    """Of a table in order, neighbours are alike; of a column with two values, half of all pairs are."""
    side = torch.linspace(-1, 1, 20)
    table = torch.cartesian_prod(side, side)
    assert held(Misses(lambda x: x[:, 0] * x[:, 1], table).product([0])) and not held(Misses(lambda x: x[:, 0] * x[:, 1], table).sum([0]))
    x = uniform(200, 3)
    x[:, 2] = (x[:, 2] > 0.9).to(x.dtype)
    assert Misses(lambda x: torch.sin(x[:, 0] + x[:, 1] * (1 + x[:, 2])), x).symmetry([0, 1], [2]).size == pytest.approx(1 / 3, rel=0.1)
    x[:, 2] = 0.5
    assert Misses(lambda x: torch.sin(x[:, 0] + x[:, 1] * x[:, 2]), x).unused(2)


def test_sizes_of_samples() -> None:
    for samples, variables in ((2, 2), (3, 6), (2000, 3), (40, 80)):
        misses = Misses(lambda x: x[:, 0] * x[:, 1:].exp().prod(dim=1), uniform(samples, variables))
        assert misses.product([0]).within(0.0)
        assert (misses.symmetries(0)[0].isnan() | (misses.symmetries(0)[0] < 1e-12))[1:, 1:].all()


def test_the_worst() -> None:
    small, large, nothing = Miss(0.1, 0.0), Miss(0.2, 0.0), Miss(math.nan, 0.0)
    assert worst([small, large]) is large and worst([small, nothing, large]) is nothing
    assert large.within(0.2) and not large.within(0.1) and not nothing.within(1.0) and not Miss(0.0, 0.1).within(1.0)


def test_a_network_remembers_the_samples() -> None:
    model, x = KAN([2, 1], auto_save=False), uniform(30, 2)
    with Misses(model, x) as misses:
        misses.sum([0])
    assert torch.equal(model.last_input, x)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("the model must have one output")):
        Misses(lambda x: x, uniform(20, 2))
    with pytest.raises(TypeError, match="x must be a tensor of floating-point numbers"):
        Misses(lambda x: x[:, 0], uniform(20, 2).long())
