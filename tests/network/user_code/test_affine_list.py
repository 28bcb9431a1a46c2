"""Lists of a network's affine parameters: what is assigned takes the place of the parameter."""

import copy
import pickle

import pytest
import torch
from torch import nn

from kan import KAN


@pytest.fixture
def model() -> KAN:
    return KAN([2, 3, 1], seed=0, auto_save=False).double()


def test_entries_are_the_parameters(model: KAN) -> None:
    assert [p is getattr(model, f"node_bias_{l}") for l, p in enumerate(model.node_bias)] == [True, True]
    assert [tuple(p.shape) for p in model.subnode_scale] == [(3,), (1,)]


def test_a_tensor_becomes_a_parameter_of_the_networks_type_that_is_trained_as_before(model: KAN) -> None:
    model.node_bias_0.requires_grad_(False)
    model.node_bias[0] = torch.tensor([1.0, 2.0, 3.0])
    assert isinstance(model.node_bias_0, nn.Parameter) and model.node_bias_0.dtype == torch.float64
    assert model.node_bias_0.tolist() == [1, 2, 3] and not model.node_bias_0.requires_grad
    own = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    model.node_bias[1] = own
    assert model.node_bias_1 is own and any(p is own for p in model.parameters())


def test_what_is_refused_changes_nothing(model: KAN) -> None:
    before = [p.detach().clone() for p in model.node_bias]
    with pytest.raises(ValueError, match=r"node_bias\[0\] must be .* shape \(3,\), one number for each of the 3 nodes; got \(2,\)"):
        model.node_bias[0] = torch.zeros(2)
    with pytest.raises(ValueError, match="got torch.float32"):
        model.node_bias[0] = nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match="pass value.detach"):
        model.node_bias[0] = torch.zeros(3, requires_grad=True) * 2
    with pytest.raises(ValueError, match=r"node_bias\[1\]"):
        model.node_bias[:] = [torch.zeros(3), torch.zeros(4)]
    with pytest.raises(ValueError, match="one entry for each of the 2 layers; got 3"):
        model.node_bias.write([torch.zeros(3)] * 3)
    assert all(torch.equal(one, other) for one, other in zip(model.node_bias, before, strict=True))


CHANGES = [lambda p: p.pop(), lambda p: p.clear(), lambda p: p.insert(0, p[0]), lambda p: p.append(torch.zeros(1))]


@pytest.mark.parametrize("change", CHANGES)
def test_the_number_of_layers_is_fixed(model: KAN, change) -> None:
    with pytest.raises(TypeError, match="one entry for each of the 2 layers"):
        change(model.node_bias)


def test_copies_and_pickles_are_plain_lists(model: KAN) -> None:
    for found in (copy.deepcopy(model.node_bias), pickle.loads(pickle.dumps(model.node_bias))):
        assert type(found) is list and all(torch.equal(one, other) for one, other in zip(found, model.node_bias, strict=True))
