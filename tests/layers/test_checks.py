"""What a layer asks of its input, in sentences."""

import math

import pytest
import torch

from kan.bases import BSpline
from kan.layers.checks import check_dense, check_dtype, check_margin, check_samples, checked_rows, warn_of_kept_grids


def test_sparse_and_meta_tensors_are_named() -> None:
    check_dense(torch.ones(2, 2))
    with pytest.raises(ValueError, match="the input must be a dense tensor; got torch.sparse_coo"):
        check_dense(torch.ones(2, 2).to_sparse())
    with pytest.raises(ValueError, match="x is on the meta device"):
        check_dense(torch.ones(2, device="meta"), "x")


def test_other_precisions_are_refused_unless_autocast_converts_them() -> None:
    with pytest.raises(TypeError, match="parameters are torch.float32 and the input is torch.float64"):
        check_dtype(torch.ones(2, dtype=torch.float64), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        check_dtype(torch.ones(2, dtype=torch.bfloat16), torch.float32)
        for bad in (torch.float64, torch.int64):
            with pytest.raises(TypeError, match="convert one of them"):
                check_dtype(torch.ones(2, dtype=bad), torch.float32)


def test_rows_have_the_columns_of_the_layer_and_short_numbers_are_widened() -> None:
    x = torch.ones(3, 2, dtype=torch.float64)
    assert checked_rows(x, 2, torch.float64) is x
    assert checked_rows(x.bfloat16(), 2, torch.float64).dtype == torch.float64
    for bad in (x[0], x[:, :1], x[None]):
        with pytest.raises(ValueError, match=r"\(number of samples, 2\), one column per input"):
            checked_rows(bad, 2, torch.float64)
    with pytest.raises(TypeError, match="the input is torch.float32"):
        checked_rows(x.float(), 2, torch.float64)


def test_samples_of_a_grid_update() -> None:
    x = torch.ones(4, 3)
    check_samples(x)
    with pytest.raises(ValueError, match="a grid update needs pixels; got none"):
        check_samples(x[:0], "pixels")
    x[1, 2] = math.inf
    with pytest.raises(ValueError, match=r"pixels must be finite; the channels \[2\] hold NaN or infinity"):
        check_samples(x, "pixels", "channels")
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="margin"):
            check_margin(bad)
    check_margin(0.0)


def test_grids_that_stay_are_named_and_others_are_not_spoken_of() -> None:
    warn_of_kept_grids(torch.tensor([True, True]), "5 samples", "input", BSpline(3, 3))
    with pytest.warns(UserWarning, match=r"the 5 samples of input\(s\) \[1\] do not determine a grid .*their grid and weights are kept"):
        warn_of_kept_grids(torch.tensor([True, False]), "5 samples", "input", BSpline(3, 3))
