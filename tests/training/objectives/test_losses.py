"""Losses with weights of the samples, and in another precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from kan.training.objectives.losses import in_dtype, weighted_loss

pytestmark = pytest.mark.usefixtures("float64")


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(1, 3), st.sampled_from([F.l1_loss, nn.L1Loss(), nn.SmoothL1Loss(), F.huber_loss]), st.integers(0, 99))
def test_samples_that_count_twice_are_samples_that_come_twice(count: int, outputs: int, loss, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    prediction, label = (torch.randn(count, outputs, generator=generator, dtype=torch.float64) for _ in range(2))
    times = torch.randint(1, 4, (count,), generator=generator)
    found = weighted_loss(loss)(prediction, label, times.double())
    torch.testing.assert_close(found, loss(prediction.repeat_interleave(times, 0), label.repeat_interleave(times, 0)))
    torch.testing.assert_close(weighted_loss(loss)(prediction, label), loss(prediction, label))


def test_the_users_loss_module_is_left_alone() -> None:
    loss = nn.L1Loss()
    weighted_loss(loss)(torch.ones(2, 1), torch.zeros(2, 1), torch.ones(2))
    assert loss.reduction == "mean"


def test_functions_take_the_weights_themselves_or_are_refused() -> None:
    def own(prediction: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        return (weight * (prediction - label).abs()[:, 0]).sum()

    def short(prediction: Tensor, label: Tensor) -> Tensor:
        return prediction.sum()

    assert weighted_loss(own) is own and weighted_loss(F.mse_loss) is F.mse_loss
    with pytest.raises(ValueError, match=r"of prediction, label and weights; short takes \['prediction', 'label'\]"):
        weighted_loss(short)


def test_weights_of_classes_follow_the_precision_and_parameters_do_not() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0], dtype=torch.float32))
    assert in_dtype(loss, torch.float64).weight.dtype == torch.float64 and loss.weight.dtype == torch.float32  # type: ignore[union-attr]
    assert in_dtype(loss, torch.float32) is loss and in_dtype(F.l1_loss, torch.float32) is F.l1_loss

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.register_buffer("offset", torch.zeros(1))

        def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
            return (self.scale * (prediction - label)).square().mean()

    trained = Scaled()
    assert in_dtype(trained, torch.float32) is trained, "its parameters may be in an optimiser"


def test_a_weighted_loss_follows_the_precision_too() -> None:
    loss = weighted_loss(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0], dtype=torch.float32)))
    prediction, label = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    assert in_dtype(loss, torch.float64)(prediction, label, torch.ones(4)).dtype == torch.float64
