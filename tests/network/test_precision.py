"""A network that holds its numbers in float64 for a while."""

import pytest
import torch
from torch import nn

from kan.network.precision import in_double


def test_numbers_are_doubled_within_and_rounded_after_the_block() -> None:
    module = nn.BatchNorm1d(3)
    module.weight.grad = torch.ones(3)
    parameter, value = module.weight, 1 + 2**-40
    with in_double(module):
        assert module.weight is parameter and parameter.dtype == torch.float64 and parameter.grad is None
        assert module.running_mean is not None and module.running_mean.dtype == torch.float64
        assert module.num_batches_tracked is not None and module.num_batches_tracked.dtype == torch.int64
        parameter.data.fill_(value)
    assert parameter.dtype == torch.float32 and parameter.tolist() == [1, 1, 1]


def test_doubles_stay_as_they_are_and_errors_round_too() -> None:
    module = nn.Linear(2, 2).double()
    module.bias.data = module.bias.data.float()
    weight = module.weight.detach().clone()
    with pytest.raises(KeyError), in_double(module):
        assert module.bias.dtype == torch.float64
        raise KeyError
    assert module.bias.dtype == torch.float32 and torch.equal(module.weight, weight)
