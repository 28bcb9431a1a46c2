"""Arguments that the layers share: bases, base functions, intervals."""

import math

import pytest
import torch
from torch import nn

from kan.bases import BASES, BSpline, Chebyshev
from kan.layers.arguments import base_function, interval, make_basis, share_of_equal_spacing


@pytest.mark.parametrize("name", sorted(BASES))
def test_every_name_gives_as_many_functions_as_splines_have(name: str) -> None:
    assert make_basis(name, 4, 3, None).size == 7


def test_a_basis_is_taken_as_it_is_but_for_its_extrapolation() -> None:
    basis = Chebyshev(5)
    assert make_basis(basis, 9, 9, None) is basis
    assert make_basis(basis, 9, 9, "constant") == Chebyshev(5, extrapolation="constant")
    assert make_basis("bspline", 4, 2, "linear") == BSpline(4, 2, extrapolation="linear")
    with pytest.raises(ValueError, match="unknown basis 'chebychev'; did you mean 'chebyshev'"):
        make_basis("chebychev", 4, 3, None)


def test_a_class_is_made_and_can_be_trained_also_in_inference_mode() -> None:
    assert base_function(torch.tanh) is torch.tanh
    with torch.inference_mode():
        made = base_function(nn.PReLU)
    assert isinstance(made, nn.PReLU) and not made.weight.is_inference()


def test_an_interval_has_two_finite_ends_in_order() -> None:
    assert interval((-1, 2)) == (-1.0, 2.0)
    for bad in ([1, 1], [2, 1], [0, 1, 2], [0, math.nan]):
        with pytest.raises(ValueError, match=r"grid_range must be \[low, high\] with low < high"):
            interval(bad)
    with pytest.raises(ValueError, match="grid_range must be finite"):
        interval([0, math.inf])


def test_a_share_lies_between_none_and_all() -> None:
    assert share_of_equal_spacing(0.02) == 0.02
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            share_of_equal_spacing(bad)
