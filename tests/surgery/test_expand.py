"""More layers and nodes: the function stays, old edges are where they were, and the larger network is a network like any other."""

import copy
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan import KAN
from kan.compiler import kanpiler
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


def mixed(width: list[Any], seed: int = 0, **arguments: Any) -> KAN:
    """A network of splines on grids that have moved, with some symbolic edges and random affines."""
    model = KAN(width, seed=seed, auto_save=False, noise_scale=1.0, **arguments)
    model.update_grid(0.7 * uniform(300, model.width_in[0], seed=seed + 1))
    model(uniform(300, model.width_in[0]))
    model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False)
    model.fix_symbolic(model.depth - 1, 0, 0, "tanh", fit_params_bool=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("node_", "subnode_")):
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.3)
    return model


def compiled() -> KAN:
    x, y = sympy.symbols("x y")
    return kanpiler([x, y], x * y * sympy.exp(-y) + sympy.sin(3 * x) + 1)


def output(model: KAN, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.trace(x).output


def assert_whole(model: KAN, x: Tensor) -> None:
    """Shapes and settings fit each other, and copies, checkpoints and a network of the same settings have the same parameters."""
    assert model(x).shape == (len(x), model.width_in[-1])
    fresh = KAN(**model.settings())
    state = model.state_dict()
    assert {name: p.shape for name, p in fresh.state_dict().items()} == {name: p.shape for name, p in state.items()}
    trained = {name: p.requires_grad for name, p in fresh.named_parameters()}
    trained |= {f"symbolic_fun.{l}.affine": bool(layer.functions) for l, layer in enumerate(model.symbolic_layers)}
    assert trained == {name: p.requires_grad for name, p in model.named_parameters()}
    model.saveckpt("saved")
    for other in (KAN.loadckpt("saved"), copy.deepcopy(model)):
        assert torch.equal(output(other, x), output(model, x))
        assert list(other.state_dict()) == list(state)
    half = copy.deepcopy(model).to(torch.float32)
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    y = output(model, x)
    model.fit({"train_input": x, "train_label": y + x[:, [0]], "test_input": x, "test_label": y}, steps=2, log=-1)


# Depth


@pytest.mark.parametrize(
    ("width", "arguments"),
    [
        ([2, 3, 1], {}),
        ([2, 2], {}),
        ([2, [2, 1], [1, 1]], {}),
        ([2, [2, 2], 1], {"mult_arity": [[], [2, 3], []]}),
        ([2, 3, 2], {"grid": [3, 5], "k": [2, 3]}),
        ([2, 3, 1], {"affine_trainable": True, "sb_trainable": False}),
    ],
)
def test_expand_depth_leaves_the_function(width: list[Any], arguments: dict[str, Any]) -> None:
    model, x = mixed(width, **arguments), uniform(300, 2)
    before, arity, sizes = output(model, x), model.mult_arity, model.width
    model.expand_depth()
    model.expand_depth()
    assert torch.equal(output(model, x), before)
    assert model.width == [*sizes, [model.width_in[-1], 0], [model.width_in[-1], 0]]
    assert model.mult_arity == (arity if isinstance(arity, int) else [*arity, [], []])
    last = model.symbolic_fun[-1]
    assert last.funs_name == [["x" if i == j else "0" for i in range(last.in_dim)] for j in range(last.out_dim)]
    assert bool((last.mask == 1).all()) and bool((model.act_fun[-1].mask == 0).all())
    assert_whole(model, x)


def test_expand_depth_of_a_compiled_model_and_of_the_formula() -> None:
    model, x = compiled(), uniform(300, 2)
    formula, before = model.symbolic_formula()[0][0], output(model, x)
    model.expand_depth()
    assert torch.equal(output(model, x), before) and model.symbolic_formula()[0][0] == formula
    assert_whole(model, x)


def test_new_affine_numbers_are_parameters() -> None:
    model = mixed([2, 3, 1], affine_trainable=True)
    model.expand_depth()
    names = {"node_bias_2", "node_scale_2", "subnode_bias_2", "subnode_scale_2"}
    assert names <= set(dict(model.named_parameters()))
    assert model.node_bias[2].requires_grad


def test_identities_need_symbolic_edges() -> None:
    model = mixed([2, 1])
    model.symbolic_enabled = False
    with pytest.raises(ValueError, match="expand_depth adds symbolic edges, but symbolic_enabled is False"):
        model.expand_depth()
    assert model.depth == 1


# Width


@given(
    hidden=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)).filter(any), min_size=1, max_size=2),
    arity=st.one_of(st.integers(1, 3), st.just("mixed")),
    layer=st.integers(1, 2),
    n=st.integers(1, 2),
    sum_bool=st.booleans(),
    new_arity=st.integers(1, 3),
    perturb=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=20, derandomize=True)
def test_expand_width_leaves_the_function(
    hidden: list[tuple[int, int]], arity: Any, layer: int, n: int, sum_bool: bool, new_arity: int, perturb: bool, seed: int
) -> None:
    width = [2, *hidden, 2]
    arities = [[], *([1 + (seed + i) % 3 for i in range(mult)] for _, mult in hidden), []] if arity == "mixed" else arity
    model, x = mixed(width, seed, mult_arity=arities), uniform(50, 2)
    l = min(layer, len(hidden))
    before, sizes = output(model, x), model.width
    model.expand_width(l, n, sum_bool, new_arity, perturb)
    sizes[l][0 if sum_bool else 1] += n
    assert model.width == sizes
    torch.testing.assert_close(output(model, x), before, rtol=1e-12, atol=1e-14)
    assert model(x).shape == before.shape


def test_sum_nodes_come_in_front_and_edges_keep_their_functions() -> None:
    model = mixed([2, [2, 1], 1])
    old = copy.deepcopy(model)
    model.expand_width(1, 2)
    assert model.width == [[2, 0], [4, 1], [1, 0]] and model.mult_arity == 2
    for name in ("coef", "mask", "scale_base", "scale_sp"):
        assert torch.equal(getattr(model.act_fun[0], name)[:, 2:], getattr(old.act_fun[0], name))
        assert torch.equal(getattr(model.act_fun[1], name)[2:], getattr(old.act_fun[1], name))
    assert bool((model.act_fun[0].mask[:, :2] == 0).all()) and bool((model.act_fun[1].mask[:2] == 0).all())
    assert torch.equal(model.act_fun[1].grid[2:], old.act_fun[1].grid)
    assert model.symbolic_fun[0].funs_name == [["0", "0"]] * 2 + old.symbolic_fun[0].funs_name
    assert model.symbolic_fun[1].funs_name == [["0", "0", *old.symbolic_fun[1].funs_name[0]]]
    assert torch.equal(model.subnode_scale[0][2:], old.subnode_scale[0]) and torch.equal(model.node_bias[0][2:], old.node_bias[0])
    assert model.node_scale[0][:2].tolist() == [1.0, 1.0]


def test_mult_nodes_come_last_with_their_factors() -> None:
    model = mixed([2, [1, 1], 1], mult_arity=2)
    old = copy.deepcopy(model)
    model.expand_width(1, 2, sum_bool=False, mult_arity=[3, 2])
    assert model.width == [[2, 0], [1, 3], [1, 0]] and model.mult_arity == [[], [2, 3, 2], []]
    assert torch.equal(model.act_fun[0].coef[:, :3], old.act_fun[0].coef)
    assert torch.equal(model.act_fun[1].coef[:2], old.act_fun[1].coef)
    assert bool((model.act_fun[0].mask[:, 3:] == 0).all()) and bool((model.act_fun[1].mask[2:] == 0).all())


@pytest.mark.parametrize(("arity", "added", "result"), [(2, 2, 2), (2, [2, 2], 2), (2, 3, [[], [2, 3, 3], []]), (3, 3, 3)])
def test_one_arity_for_all_nodes_is_kept_where_it_still_is(arity: int, added: Any, result: Any) -> None:
    model, x = mixed([2, [1, 1], 1], mult_arity=arity), uniform(300, 2)
    before = output(model, x)
    model.expand_width(1, 2, sum_bool=False, mult_arity=added)
    assert model.mult_arity == result
    torch.testing.assert_close(output(model, x), before)


@pytest.mark.parametrize("perturb", [False, True])
@pytest.mark.parametrize("layer", [1, -2])
def test_a_wider_network_is_whole(layer: int, perturb: bool) -> None:
    model, x = mixed([2, [2, 1], 1]), uniform(300, 2)
    model.expand_width(layer, 2, perturb=perturb)
    model.expand_width(layer, 1, sum_bool=False, mult_arity=3, perturb=perturb)
    assert_whole(model, x)


def test_new_inputs_are_columns_in_front() -> None:
    model, x = mixed([2, 3, 1]), uniform(300, 2)
    old, before = copy.deepcopy(model), output(model, x)
    model.expand_width(0, 2)
    assert model.width == [[4, 0], [3, 0], [1, 0]] and model.last_input is None
    wider = torch.cat([uniform(300, 2, seed=7), x], dim=1)
    torch.testing.assert_close(output(model, wider), before, rtol=1e-12, atol=1e-14)
    assert torch.equal(model.act_fun[0].coef[2:], old.act_fun[0].coef)
    with pytest.raises(ValueError, match=r"\(number of samples, 4\)"):
        model(x)
    with pytest.raises(ValueError, match="hasn't seen any data yet"):
        model.plot()
    assert_whole(model, wider)


def test_new_inputs_of_a_network_that_leaves_columns_out() -> None:
    model, x = mixed([3, 2, 1]), uniform(300, 3)
    model = model.prune_input(active_inputs=[0, 2])
    before = output(model, x)
    model.expand_width(0, 1)
    assert model.input_id.tolist() == [0, 1, 3] and model.input_width == 4
    wider = torch.cat([uniform(300, 1, seed=3), x], dim=1)
    torch.testing.assert_close(output(model, wider), before)
    model.saveckpt("saved")
    assert torch.equal(output(KAN.loadckpt("saved"), wider), output(model, wider))


def test_a_perturbed_new_input_changes_nothing_until_it_is_trained() -> None:
    first, second = sympy.symbols("x y")
    model, x = kanpiler([first, second], sympy.sin(3 * first) + second), uniform(300, 3)
    before = output(model, x[:, 1:])
    model.expand_width(0, 1, perturb=True)
    torch.testing.assert_close(output(model, x), before)
    label = before + 0.3 * x[:, [0]] ** 2
    dataset = {"train_input": x, "train_label": label, "test_input": x, "test_label": label}
    losses = model.fit(dataset, steps=20, log=-1, update_grid=False)["train_loss"]
    assert losses[0] > 0.01 and losses[-1] < 1e-3


def test_new_outputs_are_zero_and_in_front() -> None:
    model, x = mixed([2, 3, 1]), uniform(300, 2)
    before = output(model, x)
    model.expand_width(-1, 2)
    torch.testing.assert_close(output(model, x), torch.cat([torch.zeros(len(x), 2), before], dim=1))
    assert_whole(model, x)


def test_old_scores_are_forgotten() -> None:
    model = mixed([2, 3, 1])
    model.attribute()
    model.expand_width(1, 1)
    assert [len(score) for score in model.node_scores] == [2, 4, 1]
    model.expand_depth()
    assert [len(score) for score in model.node_scores] == [2, 4, 1, 1]


def test_nothing_is_saved_or_drawn_from_the_global_generator(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model, state = mixed([2, 3, 1]), torch.get_rng_state()
    model.expand_width(1, 1)
    model.expand_depth()
    model.perturb()
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, 1), IndexError, r"layer of nodes must be between 0 and 2 \(or -3 and -1, from the end\); got 3"),
        ((-4, 1), IndexError, r"layer of nodes must be between 0 and 2 \(or -3 and -1, from the end\); got -4"),
        ((1, 0), ValueError, "n_added_nodes must be a positive integer; got 0"),
        ((1, 1.5), ValueError, "n_added_nodes must be a positive integer; got 1.5"),
        ((0, 1, False), ValueError, "inputs are no multiplication nodes: leave sum_bool=True"),
        ((1, 2, False, 0), ValueError, "mult_arity must be a positive integer, or a list of 2 of them, one per added node; got 0"),
        ((1, 2, False, [2]), ValueError, r"mult_arity must be a positive integer, or a list of 2 of them, one per added node; got \[2\]"),
    ],
)
def test_bad_input_changes_nothing(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    model = mixed([2, 3, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(error, match=message):
        model.expand_width(*arguments)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items()) and len(before) == len(model.state_dict())
    assert model.width == [[2, 0], [3, 0], [1, 0]]
