"""Data sets from arrays: pykan's splits, types, and errors."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan import create_dataset_from_data


def test_pykans_split() -> None:
    x = torch.arange(1000.0)[:, None]
    data = create_dataset_from_data(x, 2 * x, seed=3)
    assert data["train_input"][:6, 0].tolist() == [642, 762, 909, 199, 586, 797]
    assert data["test_input"][:12, 0].tolist() == [0, 1, 2, 519, 520, 9, 531, 20, 22, 26, 538, 540]
    assert all(torch.equal(data[f"{part}_label"], 2 * data[f"{part}_input"]) for part in ("train", "test"))


def test_without_a_seed_the_global_generator_of_numpy_draws() -> None:
    x = torch.arange(50.0)[:, None]
    state = np.random.get_state()
    try:
        np.random.seed(7)
        first, second = create_dataset_from_data(x, x), create_dataset_from_data(x, x)
    finally:
        np.random.set_state(state)
    seeded = create_dataset_from_data(x, x, seed=7)
    assert all(torch.equal(first[name], seeded[name]) for name in seeded)
    assert not torch.equal(first["train_input"], second["train_input"])


def test_with_a_seed_no_global_generator_is_touched() -> None:
    x = torch.zeros(10, 1)
    numpy_state, torch_state = np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index,union-attr]
    create_dataset_from_data(x, x, seed=0)
    assert np.random.get_state()[1].tolist() == numpy_state and torch.equal(torch.get_rng_state(), torch_state)  # type: ignore[index,union-attr]


@given(count=st.integers(2, 60), ratio=st.floats(0.05, 0.95), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_every_sample_is_in_one_part(count: int, ratio: float, seed: int) -> None:
    x = np.arange(2.0 * count).reshape(count, 2)
    if not 0 < int(count * ratio) < count:
        return
    data = create_dataset_from_data(x, x[:, :1], train_ratio=ratio, seed=seed)
    assert len(data["train_input"]) == int(count * ratio)
    assert sorted(torch.cat([data["train_input"], data["test_input"]])[:, 0].tolist()) == x[:, 0].tolist()
    assert all(torch.equal(data[f"{part}_label"], data[f"{part}_input"][:, :1]) for part in ("train", "test"))


def test_types() -> None:
    x = torch.rand(10, 2, dtype=torch.float64, requires_grad=True)
    data = create_dataset_from_data(x * 1, torch.arange(10), seed=0)
    assert data["train_input"].dtype == torch.float64 and not data["train_input"].requires_grad
    assert data["train_label"].dtype == torch.int64 and data["train_label"].shape == (8,)
    data = create_dataset_from_data(np.zeros((10, 2)), np.arange(10), seed=0)
    assert data["train_input"].dtype == torch.get_default_dtype() and data["train_label"].dtype == torch.int64
    assert create_dataset_from_data([[0.0], [1.0]], [[0.0], [1.0]], 0.5, seed=0)["test_input"].shape == (1, 1)


def test_the_data_are_copies() -> None:
    x = np.zeros((4, 1))
    data = create_dataset_from_data(x, x, seed=0)
    x[:] = 1
    assert not bool(data["train_input"].any())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 1)), np.zeros((4, 1))), "inputs and labels must have one row per sample each; got the shapes (3, 1) and (4, 1)."),
        ((np.float64(1), np.float64(1)), "one row per sample each; got the shapes () and ()."),
        ((np.zeros((4, 1)), np.zeros((4, 1)), 1.0), "train_ratio must leave samples for training and for testing; 1.0 of 4 samples"),
        ((np.zeros((4, 1)), np.zeros((4, 1)), 0.2), "0.2 of 4 samples makes 0 and 4."),
    ],
)
def test_bad_input(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        create_dataset_from_data(*arguments)
