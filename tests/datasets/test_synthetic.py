"""Data sets drawn from a function: pykan's numbers, ranges, shapes, normalisation, and no touch on the global random state."""

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan import create_dataset
from kan.utils import create_dataset as from_utils

PARTS = ("train", "test")


def product(x: Tensor) -> Tensor:
    return x[:, [0]] * x[:, [-1]]


def test_pykans_numbers() -> None:
    data = create_dataset(lambda x: torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2), n_var=2)
    assert {name: tuple(value.shape) for name, value in data.items()} == {
        "train_input": (1000, 2), "test_input": (1000, 2), "train_label": (1000, 1), "test_label": (1000, 1)
    }  # fmt: skip
    torch.testing.assert_close(data["train_input"][0], torch.tensor([-0.0075, 0.5547]), rtol=0, atol=1e-4)
    torch.testing.assert_close(data["test_input"][0], torch.tensor([-0.0850, -0.2418]), rtol=0, atol=1e-4)
    torch.testing.assert_close(data["train_label"][0], torch.tensor([1.3287]), rtol=0, atol=1e-4)
    assert from_utils is create_dataset


@given(n_var=st.integers(1, 5), train_num=st.integers(1, 40), test_num=st.integers(1, 40), seed=st.integers(0, 100), chosen=st.data())
@settings(deadline=None, max_examples=30)
def test_ranges_and_shapes(n_var: int, train_num: int, test_num: int, seed: int, chosen: st.DataObject) -> None:
    pairs = [sorted(chosen.draw(st.tuples(st.floats(-5, 5), st.floats(-5, 5)))) for _ in range(n_var)]
    data = create_dataset(product, n_var, ranges=pairs, train_num=train_num, test_num=test_num, seed=seed)
    for part, count in zip(PARTS, (train_num, test_num), strict=True):
        x = data[f"{part}_input"]
        assert x.shape == (count, n_var) and x.dtype == torch.get_default_dtype()
        low, high = torch.tensor(pairs).unbind(1)
        assert bool((x >= low - 1e-5).all()) and bool((x <= high + 1e-5).all())
        assert torch.equal(data[f"{part}_label"], product(x))


@pytest.mark.parametrize(
    "ranges",
    [
        [2, 4], (2.0, 4.0), np.array([2.0, 4.0]), [[2, 4], [2, 4]], np.array([[2, 4], [2, 4]]), [torch.tensor(2.0), 4],
        torch.tensor([2.0, 4.0]), [torch.tensor(2.0), torch.tensor(4.0)], [(2, 4), torch.tensor([2.0, 4.0])],
    ],
)  # fmt: skip
def test_one_range_for_all_in_many_spellings(ranges: Any) -> None:
    data = create_dataset(product, 2, ranges=ranges)
    assert torch.equal(data["train_input"], create_dataset(product, 2, ranges=[2, 4])["train_input"])
    assert 2 <= float(data["train_input"].min()) < 2.01 and 3.99 < float(data["train_input"].max()) <= 4


def test_ranges_with_tensors_inside() -> None:
    data = create_dataset(product, 2, ranges=[[0, 2 * torch.tensor(torch.pi)], torch.tensor([-1.0, 0.0])])
    assert 6 < float(data["train_input"][:, 0].max()) <= 2 * torch.pi and float(data["train_input"][:, 1].max()) <= 0


def test_columns_or_rows_and_one_dimensional_values() -> None:
    col = create_dataset(lambda x: x[:, [0]] - x[:, [1]], f_mode="col")
    for f, mode in [(lambda x: x[:, 0] - x[:, 1], "col"), (lambda x: x[0] - x[1], "row"), (lambda x: (x[0] - x[1])[:, None], "row")]:
        data = create_dataset(f, f_mode=mode)
        assert all(torch.equal(data[name], col[name]) for name in col)
    several = create_dataset(lambda x: torch.cat([x, x**2], dim=1))
    assert several["test_label"].shape == (1000, 4)


def test_pykans_numbers_of_other_ranges_and_seeds() -> None:
    ranges = [[0, 1], [-2, 3], [5, 6]]
    data = create_dataset(lambda x: x[:, [0]], 3, ranges=ranges, train_num=3, test_num=2, seed=7, normalize_input=True)
    expected = [[0.29644731, 0.02097593, 1.02257788], [-1.11470652, -1.01032293, -0.04679714], [0.81825930, 0.98934698, -0.97577900]]
    torch.testing.assert_close(data["train_input"], torch.tensor(expected), rtol=0, atol=1e-5)
    expected = [[0.80851310, -0.26169464, -1.25901413], [-0.97213662, 2.03747320, -0.41911617]]
    torch.testing.assert_close(data["test_input"], torch.tensor(expected), rtol=0, atol=1e-5)
    # The labels are those of the inputs before they were normalised.
    torch.testing.assert_close(data["train_label"], torch.tensor([[0.53492254], [0.19880319], [0.65921170]]), rtol=0, atol=1e-6)


def test_labels_of_a_model_hold_no_graph() -> None:
    data = create_dataset(torch.nn.Linear(2, 1))
    assert not data["train_label"].requires_grad and not data["test_label"].requires_grad


def test_seeds() -> None:
    one, again, other = (create_dataset(product, seed=seed)["train_input"] for seed in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)
    data = create_dataset(product)
    assert not torch.equal(data["train_input"], data["test_input"])


def test_normalisation_by_the_training_part() -> None:
    raw = create_dataset(product, ranges=[2, 6], test_num=50)
    data = create_dataset(product, ranges=[2, 6], test_num=50, normalize_input=True, normalize_label=True)
    for kind in ("input", "label"):
        mean, std = raw[f"train_{kind}"].mean(0, keepdim=True), raw[f"train_{kind}"].std(0, keepdim=True)
        for part in PARTS:
            torch.testing.assert_close(data[f"{part}_{kind}"], (raw[f"{part}_{kind}"] - mean) / std)
    only = create_dataset(product, ranges=[2, 6], test_num=50, normalize_label=True)
    assert torch.equal(only["train_input"], raw["train_input"]) and not torch.equal(only["train_label"], raw["train_label"])


def test_default_dtype() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert {value.dtype for value in create_dataset(product).values()} == {torch.float64}
    finally:
        torch.set_default_dtype(before)
    assert {value.dtype for value in create_dataset(product).values()} == {before}


def test_global_random_states_are_neither_read_nor_changed() -> None:
    torch.manual_seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index,union-attr]
    first = create_dataset(product)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]  # type: ignore[index,union-attr]
    torch.rand(3)
    assert torch.equal(create_dataset(product)["train_input"], first["train_input"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"f_mode": "column"}, "f_mode must be 'col' or 'row'; got 'column'."),
        (
            {"n_var": 3, "ranges": [[0, 1], [0, 1]]},
            "ranges must be [low, high], or one such pair for each of the 3 variables; got [[0, 1], ",
        ),
        ({"ranges": [0, 1, 2]}, "ranges must be [low, high], or one such pair for each of the 2 variables; got [0, 1, 2]."),
        ({"ranges": [[0, 1], [0, 1, 2]]}, "ranges must be [low, high], or one such pair"),
        ({"ranges": []}, "ranges must be [low, high], or one such pair for each of the 2 variables; got []."),
        ({"ranges": 3}, "ranges must be [low, high], or one such pair for each of the 2 variables; got 3."),
        ({"f": lambda x: x.sum()}, "f must return one row per sample, (1000,) or (1000, outputs); got (). See f_mode."),
        ({"f": lambda x: x[0]}, "f must return one row per sample, (1000,) or (1000, outputs); got (2,"),
        ({"f": lambda x: x.T}, "f must return one row per sample, (1000,) or (1000, outputs); got (2, 1000). See f_mode."),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        create_dataset(**{"f": product, **arguments})
