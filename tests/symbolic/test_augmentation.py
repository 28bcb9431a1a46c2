"""Auxiliary variables in front of the inputs."""

import re

import pytest
import sympy
import torch

from kan import augment_input, create_dataset

pytestmark = pytest.mark.usefixtures("float64")

A, B = sympy.symbols("a b")


def test_pykans_numbers() -> None:
    x = torch.tensor([[-0.00748682, 0.53644359], [-0.82304513, -0.73593903]])
    expected = torch.tensor([[-0.00401626, 1.00002801], [0.60571104, 1.29514599]])
    found = augment_input([A, B], [A * B, sympy.sqrt(A**2 + 1)], x)
    torch.testing.assert_close(found, torch.cat([expected, x], 1), rtol=0, atol=1e-7)
    assert torch.equal(augment_input(["a", "b"], ["a*b", "sqrt(a**2 + 1)"], x), found)


def test_data_sets_are_changed_in_place() -> None:
    data = create_dataset(lambda x: x[:, [0]] * x[:, [1]], n_var=2, train_num=6, test_num=4)
    raw = dict(data)
    assert augment_input((A, B), (A * B, 1), data) is data
    for part in ("train", "test"):
        x = raw[f"{part}_input"]
        torch.testing.assert_close(data[f"{part}_input"], torch.cat([x[:, [0]] * x[:, [1]], torch.ones(len(x), 1), x], 1))
        assert data[f"{part}_label"] is raw[f"{part}_label"]


def test_it_is_differentiable_and_keeps_the_dtype() -> None:
    x = torch.tensor([[2.0, 3.0]], dtype=torch.float32, requires_grad=True)
    found = augment_input([A, B], [A**2 * B], x)
    assert found.dtype == torch.float32
    found[:, 0].sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[12.0, 4.0]], dtype=torch.float32))


def test_errors_leave_the_data_as_they_were() -> None:
    data = create_dataset(lambda x: x[:, [0]], n_var=2, train_num=6, test_num=4)
    raw = dict(data)
    with pytest.raises(ValueError, match=re.escape("orig_vars must name the columns of x, (samples, 3); got (6, 2).")):
        augment_input(sympy.symbols("a b c"), [A], data)
    with pytest.raises(ValueError, match="has the symbol c, which is none of the variables"):
        augment_input([A, B], [A, sympy.Symbol("c")], data)
    assert all(data[name] is raw[name] for name in raw)
