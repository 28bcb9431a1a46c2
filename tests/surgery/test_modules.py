"""A module is cut off from the rest: edges inside and outside stay, those between go."""

from typing import Any

import pytest
import torch

from kan import KAN
from kan.surgery.modules import parse_chain

pytestmark = pytest.mark.usefixtures("float64")


def model_of(width: list[Any], **arguments: Any) -> KAN:
    model = KAN(width, **{"auto_save": False, **arguments})
    with torch.no_grad():
        for layer in model.symbolic_fun:
            layer.mask.fill_(1.0)
    return model


def kept(model: KAN) -> list[list[list[float]]]:
    """Numeric masks; the symbolic ones agree."""
    for numeric, symbolic in zip(model.act_fun, model.symbolic_fun, strict=True):
        assert torch.equal(numeric.mask.t(), symbolic.mask)
    return [layer.mask.tolist() for layer in model.act_fun]


CUT = [[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]]


@pytest.mark.parametrize(
    ("start", "chain"),
    [
        (0, "[0,1]->[0]->[0]->[1]"),
        (0, " [ 0, 1 ] -> [0] -> [0] -> [ 1 ] "),
        (0, "[-3,-2]->[-3]->[-3]->[-1]"),
        (-2, "[1,0,0]->[0]->[0,-3]->[1]"),
    ],
)
def test_edges_between_the_module_and_the_rest_go(start: int, chain: str) -> None:
    model = model_of([3, 3, 2])
    model.module(start, chain)
    assert kept(model) == CUT


def test_a_module_of_one_layer_further_on() -> None:
    model = model_of([3, 3, 2])
    model.module(-1, "[2]->[0]")
    assert kept(model) == [[[1.0] * 3] * 3, [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]]


def test_the_module_depends_on_its_inputs_only() -> None:
    model = model_of([3, 3, 2])
    model.module(0, "[0,1]->[0]->[0]->[1]")
    points = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    model(points)[:, 1].sum().backward()
    assert points.grad is not None and points.grad.ne(0).any(dim=0).tolist() == [True, True, False]


def test_outputs_of_a_layer_are_sub_nodes() -> None:
    model = model_of([2, [1, 1], 1], mult_arity=3)
    model.module(0, "[0]->[0,3]")
    assert kept(model)[0] == [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]


def test_empty_groups_cut_off_everything_listed_on_the_other_side() -> None:
    model = model_of([2, 2])
    model.module(0, "[]->[1]")
    assert kept(model) == [[[1.0, 0.0]] * 2]


def test_fractions_in_masks_stay() -> None:
    model = model_of([2, 2])
    model.set_mode(0, 0, 0, "sn", 0.25)
    model.module(0, "[0]->[0]")
    assert model.act_fun[0].mask.tolist() == [[0.25, 0.0], [0.0, 1.0]]


def test_it_is_logged(tmp_path: Any) -> None:
    model = model_of([2, 2], auto_save=True)
    model.module(0, "[0]->[0]")
    assert "0.0 => module => 0.1" in (tmp_path / "model" / "history.txt").read_text()


@pytest.mark.parametrize("chain", ["", "[0]", "[0]->[0]->[0]", "0->1", "[0]->[a]", "[0]->[1.5]", "[0,]->[1]", "[[0]]->[1]", "[0]->[1];"])
def test_chains_that_cannot_be_read(chain: str) -> None:
    with pytest.raises(ValueError, match="chain must be lists of integers joined by '->', in pairs"):
        parse_chain(chain)


@pytest.mark.parametrize(
    ("start", "chain", "message"),
    [
        (2, "[0]->[0]", r"start_layer must be between 0 and 1 \(or -2 and -1, from the end\); got 2"),
        (-3, "[0]->[0]", r"start_layer must be between 0 and 1 \(or -2 and -1, from the end\); got -3"),
        (1, "[0]->[0]->[0]->[0]", "the chain has 2 layers, but from layer 1 on the network has 1"),
        (0, "[3]->[0]", r"node of layer 0 must be between 0 and 2 \(or -3 and -1, from the end\); got 3"),
        (0, "[0]->[0]->[0]->[-3]", r"sub-node of layer 2 must be between 0 and 1 \(or -2 and -1, from the end\); got -3"),
    ],
)
def test_what_does_not_exist(start: int, chain: str, message: str) -> None:
    model = model_of([3, 3, 2])
    with pytest.raises(IndexError, match=message):
        model.module(start, chain)
    assert kept(model) == [[[1.0] * 3] * 3, [[1.0] * 2] * 3]
