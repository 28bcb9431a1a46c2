"""Parameters that an output does not use have the gradient zero instead of none."""

import torch

from kan.layers.zero_gradient import with_zero_gradients


def test_the_output_and_its_gradient_stay_and_the_unused_have_zeros() -> None:
    x, unused, frozen = torch.ones(3, requires_grad=True), torch.ones(2, 2, dtype=torch.float64, requires_grad=True), torch.ones(4)
    y = with_zero_gradients(2 * x, [unused, frozen])
    assert torch.equal(y, 2 * x)
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2, 2, 2]
    assert unused.grad is not None and torch.equal(unused.grad, torch.zeros(2, 2, dtype=torch.float64)) and frozen.grad is None


def test_where_there_is_nothing_to_do_the_output_is_the_same_object() -> None:
    y, parameter = torch.ones(3), torch.ones(2, requires_grad=True)
    assert with_zero_gradients(y, []) is y and with_zero_gradients(y, [torch.ones(2)]) is y
    with torch.no_grad():
        assert with_zero_gradients(y, [parameter]) is y


def test_the_transforms_of_torch_see_through_it() -> None:
    def f(p: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return with_zero_gradients(x * x, [p]).sum()

    p, x = torch.ones(2), torch.tensor([1.0, 3.0])
    assert torch.func.grad(f, argnums=1)(p, x).tolist() == [2, 6]
    assert torch.func.grad(f, argnums=0)(p, x).tolist() == [0, 0]
