"""Units are switched off on a copy, as many as a limit allows."""

import math

import pytest
import torch

from kan import KAN
from kan.surgery.criterion import criterion_of
from kan.surgery.switches import Units
from kan.surgery.trial import Trial

pytestmark = pytest.mark.usefixtures("float64")


def trial_of() -> tuple[KAN, Trial[KAN]]:
    """A fit of a function of the first of three inputs, and its edges as units."""
    x = torch.rand(100, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = KAN([3, 2, 1], grid=3, seed=0, auto_save=False)
    model.fit((x, torch.sin(3 * x[:, [0]]) + 0.05 * x[:, [1]]), steps=8, progress=False)
    on = [torch.ones_like(layer.mask, dtype=torch.bool) for layer in model.symbolic_fun]
    return model, Trial(model, Units.of_edges(on, [torch.zeros_like(layer) for layer in on]), criterion_of(model))


def test_what_is_switched_off_is_switched_on_again_by_the_next_call() -> None:
    model, trial = trial_of()
    none = torch.zeros(trial.units.count, dtype=torch.bool)
    first = torch.arange(trial.units.count) < 2
    value = trial.drop_(first)
    assert value == pytest.approx(trial.criterion(trial.network)) and value > trial.criterion.before
    assert trial.drop_(none) == pytest.approx(trial.criterion.before, rel=1e-12)
    assert trial.drop_(first) == pytest.approx(value, rel=1e-12)
    assert bool((model.act_fun[0].mask == 1).all()), "the network itself is left alone"


def test_a_network_without_a_path_is_worse_than_any_limit() -> None:
    _, trial = trial_of()
    assert trial.drop_(torch.ones(trial.units.count, dtype=torch.bool)) == math.inf


@pytest.mark.parametrize("share", [0.02, 0.5, 5.0])
def test_as_many_go_as_the_limit_allows(share: float) -> None:
    _, trial = trial_of()
    limit = trial.criterion.before * (1 + share)
    dropped, would = trial.drop_affordable_(limit, limit)
    assert would == math.inf and trial.value <= limit
    assert trial.drop_(dropped) <= limit * (1 + 1e-9)
    if share == 5.0:
        assert int(dropped.sum()) >= 2


def test_everything_goes_where_all_of_it_is_affordable() -> None:
    _, trial = trial_of()
    of_third_input = [torch.where(torch.arange(labels.shape[1]) == 2, labels, -1) for labels in trial.units.numeric[:1]]
    numbers = [torch.where(of_third_input[0] >= 0, torch.tensor([[0], [1]]), -1), torch.full_like(trial.units.numeric[1], -1)]
    trial.units = Units(numbers, [torch.full_like(labels, -1) for labels in numbers], 2)
    dropped, would = trial.drop_affordable_(0.0, trial.criterion.before * 10)
    assert bool(dropped.all()) and trial.criterion.before < would <= trial.criterion.before * 10
