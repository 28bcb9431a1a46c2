"""Where the samples of a step come from."""

import copy

import pytest
import torch

from kan.network.network import Network
from kan.training.data.batches import Everything, Some
from kan.training.data.samples import Samples
from kan.training.models.kinds import trainable

pytestmark = pytest.mark.usefixtures("float64")


def samples(count: int = 20, weight: torch.Tensor | None = None) -> Samples:
    x = torch.arange(2.0 * count, dtype=torch.float64).reshape(count, 2) / count
    return Samples(x, x[:, [0]], weight)


def test_everything_comes_in_every_step_and_its_features_are_kept_until_the_grid_moves() -> None:
    network, whole = Network([2, 2, 1]).double(), samples()
    batches = Everything(trainable(network), whole)
    assert batches.whole and batches.draw() is batches.fitted() is whole and batches.size() == 20
    first = batches.first_layer(whole.x)
    assert first is not None and batches.first_layer(whole.x) is first
    batches.forget()
    assert batches.first_layer(whole.x) is not first


def test_drawn_samples_are_different_ones_of_those_that_count() -> None:
    weight = (torch.arange(20) % 2).double()
    batches = Some(trainable(Network([2, 1], seed=3).double()), samples(weight=weight), 6)
    for _ in range(20):
        batch = batches.draw()
        assert len(batch) == batches.size() == 6 and len(batch.x.unique(dim=0)) == 6
        assert batch.weight is not None and bool((batch.weight == 1).all())
    assert len(batches.fitted()) == 20 and torch.equal(batches.seen(), samples().x)


def test_draws_depend_on_the_seed_alone_and_go_on_from_a_state() -> None:
    one, other = (Some(trainable(Network([2, 1], seed=5).double()), samples(), 4) for _ in range(2))
    before = torch.get_rng_state()
    assert all(torch.equal(one.draw().x, other.draw().x) for _ in range(3))
    state, after = one.state_dict(), [one.draw().x for _ in range(3)]
    assert not all(torch.equal(x, after[0]) for x in after[1:])
    fresh = Some(trainable(Network([2, 1], seed=6).double()), samples(), 4)
    fresh.load_state_dict(copy.deepcopy(state))
    assert torch.equal(torch.get_rng_state(), before) and len(fresh.draw()) == 4


def test_every_sample_is_drawn_once_before_one_is_drawn_again() -> None:
    batches = Some(trainable(Network([2, 1], seed=4).double()), samples(23), 5)
    assert batches.steps_per_pass() == 4
    orders = []
    for _ in range(3):
        drawn = torch.cat([batches.draw().x for _ in range(4)])
        assert len(drawn.unique(dim=0)) == 20
        orders.append(drawn)
    assert not torch.equal(orders[0], orders[1]) and not torch.equal(orders[1], orders[2])


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 6, 9, 10])
def test_a_state_goes_on_anywhere_in_a_pass(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kan.training.data.batches.SAMPLES_AT_ONCE", 9)  # two batches at once
    one, other = (Some(trainable(Network([2, 1], seed=seed).double()), samples(), 4) for seed in (5, 6))
    for _ in range(steps):
        one.draw()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for _ in range(12):
        assert torch.equal(one.draw().x, other.draw().x)


def test_a_state_without_a_position_begins_a_pass() -> None:
    one, other = (Some(trainable(Network([2, 1], seed=seed).double()), samples(), 4) for seed in (5, 6))
    other.load_state_dict({"random": one.state_dict()["random"]})
    assert torch.equal(one.draw().x, other.draw().x)


def test_more_samples_per_step_than_count_are_all_of_them() -> None:
    weight = (torch.arange(20) == 7).double()
    batches = Some(trainable(Network([2, 1]).double()), samples(weight=weight), 6)
    assert [len(batches.draw()) for _ in range(3)] == [1, 1, 1]
