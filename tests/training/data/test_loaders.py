"""Loaders: one pass after another, with randomness of their own."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from kan.network.network import Network
from kan.training.data.classes import ClassLabels, Target
from kan.training.data.loaders import Loader
from kan.training.data.samples import Wanted
from kan.training.models.kinds import trainable

pytestmark = pytest.mark.usefixtures("float64")
X = torch.arange(14.0).reshape(7, 2)
Y = X.sum(dim=1, keepdim=True)


def loader(source: Any, seed: int = 0) -> Loader:
    model = trainable(Network([2, 1], seed=seed).double())
    return Loader(source, "training loader", Wanted(model, True, True, ClassLabels(Target.NUMBERS, 1)))


def drawn(of: Loader, count: int) -> list[list[float]]:
    return [of.draw().y[:, 0].tolist() for _ in range(count)]


def test_passes_follow_one_another_and_the_first_batch_is_not_lost() -> None:
    found = loader([(X[:3], Y[:3]), (X[3:], Y[3:])])
    assert torch.equal(found.first.x, X[:3].double())
    assert drawn(found, 4) == 2 * [Y[:3, 0].tolist(), Y[3:, 0].tolist()]


def test_shuffling_draws_from_a_generator_of_its_own() -> None:
    source = DataLoader(TensorDataset(X, Y), batch_size=2, shuffle=True)
    before = torch.get_rng_state()
    one, other, third = loader(source), loader(source), loader(source, seed=1)
    orders = [drawn(of, 12) for of in (one, other, third)]
    assert torch.equal(torch.get_rng_state(), before)
    assert orders[0] == orders[1] != orders[2]
    passes = [sorted(sum(orders[0][start : start + 4], [])) for start in (0, 4, 8)]
    assert passes == 3 * [sorted(Y[:, 0].tolist())]


def test_a_pass_can_be_begun_again_from_a_known_state() -> None:
    source = DataLoader(TensorDataset(X, Y), batch_size=2, shuffle=True)
    found = loader(source)
    drawn(found, 4)
    state = found.random_state.clone()
    after = drawn(found, 4)
    found.restart(state)
    assert drawn(found, 4) == after


def test_one_pass_as_one_batch_and_a_look_at_the_first_rows() -> None:
    found = loader([(X[:3], Y[:3]), (X[3:5], Y[3:5]), (X[5:], Y[5:])])
    assert len(found.look(4)) == 5, "whole batches"
    assert torch.equal(found.everything().x, X.double())
    assert len(loader([(X, Y)]).look(100)) == 7


def test_batches_are_prepared_by_a_function() -> None:
    found = loader([(X, Y), (X, Y)]).prepared_by(lambda batch: type(batch)(2 * batch.x, batch.y))
    assert [torch.equal(found.draw().x, 2 * X.double()) for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (iter([(X, Y)]), TypeError, "must be an iterable of batches .* can be iterated only once"),
        ([], ValueError, "the training loader yields no batches"),
        ([X], TypeError, r"batch 0 of the training loader must be a pair \(x, y\) of tensors or arrays; got Tensor"),
        ([(X, Y, Y)], TypeError, "got tuple of Tensor, Tensor, Tensor"),
        ([(X, Y[:3])], ValueError, "batch 0"),
        ([(np.full((2, 2), np.nan), np.ones((2, 1)))], ValueError, "batch 0"),
    ],
)
def test_what_is_no_loader_is_named(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        loader(source)
