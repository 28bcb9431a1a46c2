"""Optimisers for mini-batches, whose steps are short: the fused implementation of torch."""

import pytest
import torch

from kan.training.methods.by_name import FUSED, _fused_optimizer, make_optimizer


@pytest.mark.parametrize("name", FUSED)
def test_the_fused_implementation_takes_the_same_steps(name: str) -> None:
    start = torch.linspace(-1, 1, 12, dtype=torch.float64)
    one, other = (torch.nn.Parameter(start.clone()) for _ in range(2))
    plain, fused = make_optimizer(name, [one], 0.1), _fused_optimizer(name, [other], 0.1)
    assert fused.param_groups[0]["fused"] and not plain.param_groups[0]["fused"]
    for _ in range(5):
        for p, optimizer in ((one, plain), (other, fused)):
            p.grad = p.detach() ** 3 - 0.1
            optimizer.step()
    assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_parameters_that_are_not_contiguous_are_left_to_the_plain_implementation() -> None:
    p = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.float64).t())
    assert not _fused_optimizer("Adam", [p], 0.1).param_groups[0]["fused"]
