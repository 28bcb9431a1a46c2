"""Edges one by one: the branches of an edge, symbolic functions on it, and what is gone when it is removed."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import sympy
import torch
from torch import Tensor

from kan import KAN
from tests.data import uniform
from tests.edges import put

pytestmark = pytest.mark.usefixtures("float64")


def seen(width: list[Any] | None = None, **settings: Any) -> KAN:
    model = KAN(width or [2, 3, 1], auto_save=False, **settings)
    model(uniform(300, model.width_in[0]))
    return model


# Modes


@pytest.mark.parametrize(
    ("mode", "mask_n", "numeric", "symbolic"),
    [
        ("s", None, 0.0, 1.0),
        ("n", None, 1.0, 0.0),
        ("sn", None, 1.0, 1.0),
        ("ns", 0.25, 0.25, 1.0),
        ("sn", 0.0, 0.0, 1.0),
        ("none", None, 0.0, 0.0),
        ("anything", 0.5, 0.0, 0.0),
    ],
)
def test_set_mode(mode: str, mask_n: float | None, numeric: float, symbolic: float) -> None:
    model = seen()
    model.set_mode(0, 1, 2, mode, mask_n)
    expected_n, expected_s = torch.ones(2, 3), torch.zeros(3, 2)
    expected_n[1, 2], expected_s[2, 1] = numeric, symbolic
    assert torch.equal(model.act_fun[0].mask, expected_n) and torch.equal(model.symbolic_fun[0].mask, expected_s)
    assert bool((model.act_fun[1].mask == 1).all()) and bool((model.symbolic_fun[1].mask == 0).all())


def test_an_edge_of_both_branches_is_their_sum() -> None:
    model = seen()
    numeric = model.spline_postacts[0][:, 1, 0]
    model.fix_symbolic(0, 0, 1, "sin", fit_params_bool=False)
    model.set_mode(0, 0, 1, "sn", 0.5)
    torch.testing.assert_close(model.spline_postacts[0][:, 1, 0], 0.5 * numeric + torch.sin(uniform(300, 2)[:, 0]))


# Symbolic functions


@pytest.mark.parametrize(
    ("name", "curve", "truth"),
    [
        ("sin", lambda x: 0.7 * torch.sin(2.0 * x + 0.3) - 0.2, (2.0, 0.3, 0.7, -0.2)),
        ("x^2", lambda x: (x - 0.4) ** 2 + 1.0, None),
        ("exp", lambda x: 1.5 * torch.exp(-0.8 * x), None),
        ("x", lambda x: 3.0 * x - 1.0, None),
    ],
)
def test_fix_symbolic_fits_and_returns_r2(
    name: str, curve: Callable[[Tensor], Tensor], truth: tuple[float, ...] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = seen(grid=20)
    put(model, 0, 1, 2, curve)
    r2 = model.fix_symbolic(0, 1, 2, name)
    assert isinstance(r2, Tensor) and r2.dim() == 0 and 1 - float(r2) < 1e-8
    assert capsys.readouterr().out == f"r2 is {float(r2):.6f}\n"
    assert model.symbolic_fun[0].funs_name[2] == ["0", name]
    assert model.act_fun[0].mask[1, 2] == 0 and model.symbolic_fun[0].mask[2, 1] == 1
    torch.testing.assert_close(model.spline_postacts[0][:, 2, 1], curve(uniform(300, 2)[:, 1]), rtol=0, atol=1e-4)
    if truth is not None:
        torch.testing.assert_close(model.symbolic_fun[0].affine[2, 1].detach(), torch.tensor(truth), rtol=0, atol=1e-2)


def test_a_bad_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    model = seen()
    put(model, 0, 0, 0, lambda x: torch.sin(3 * x))
    r2 = model.fix_symbolic(0, 0, 0, "x^2")
    assert r2 is not None and float(r2) < 0.9
    assert capsys.readouterr().out == (
        f"r2 is {float(r2):.6f}\nr2 is not very high, please double check if you are choosing the correct symbolic function.\n"
    )
    model.fix_symbolic(0, 0, 0, "x^2", verbose=False)
    assert capsys.readouterr().out == ""


def test_fixing_a_symbolic_edge_again_fits_what_it_computes_now() -> None:
    model = seen(grid=10)
    put(model, 0, 0, 0, lambda x: torch.sin(3 * x))
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    again = model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    assert again is not None and 1 - float(again) < 1e-12
    cosine = model.fix_symbolic(0, 0, 0, "cos", verbose=False)
    assert cosine is not None and 1 - float(cosine) < 1e-12
    other = model.fix_symbolic(0, 0, 0, "x^2", verbose=False)
    assert other is not None and float(other) < 0.9
    assert model.symbolic_fun[0].funs_name[0][0] == "x^2"


def test_other_edges_are_left_alone() -> None:
    model = seen()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.fix_symbolic(0, 1, 2, "sin", verbose=False)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"act_fun.0.mask", "symbolic_fun.0.mask", "symbolic_fun.0.affine"}
    affine = after["symbolic_fun.0.affine"].clone()
    affine[2, 1] = before["symbolic_fun.0.affine"][2, 1]
    assert torch.equal(affine, before["symbolic_fun.0.affine"])


def test_without_a_fit_the_identity_or_private_random_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    model = seen()
    assert model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False) is None
    assert model.symbolic_fun[0].affine[0, 0].tolist() == [1.0, 0.0, 1.0, 0.0]
    state = torch.get_rng_state()
    assert model.fix_symbolic(0, 0, 1, "sin", fit_params_bool=False, random=True) is None
    assert torch.equal(torch.get_rng_state(), state)
    drawn = model.symbolic_fun[0].affine[1, 0].detach()
    assert bool((drawn.abs() <= 1).all()) and len(set(drawn.tolist())) == 4
    assert capsys.readouterr().out == ""


def test_the_zero_function_leaves_the_mean() -> None:
    model = seen()
    mean = model.spline_postacts[0][:, 2, 1].mean()
    assert abs(mean) > 1e-3
    model.fix_symbolic(0, 1, 2, "0", verbose=False)
    torch.testing.assert_close(model.spline_postacts[0][:, 2, 1], mean.expand(len(uniform(300, 2))))
    torch.testing.assert_close(model.copy()(uniform(300, 2)), model(uniform(300, 2)))


def test_a_callable() -> None:
    model = seen()
    assert model.fix_symbolic(0, 0, 1, torch.sinc) is None
    assert model.symbolic_fun[0].funs_name[1][0] == "anonymous"
    torch.testing.assert_close(model.spline_postacts[0][:, 1, 0], torch.sinc(uniform(300, 2)[:, 0]))
    assert bool(torch.isfinite(model(uniform(300, 2), singularity_avoiding=True)).all())


def test_two_callables_in_one_layer_stay_apart() -> None:
    model = seen([2, 1])
    model.fix_symbolic(0, 0, 0, torch.sinc)
    model.fix_symbolic(0, 1, 0, torch.square)
    x = uniform(300, 2)
    torch.testing.assert_close(model(x).detach()[:, 0], torch.sinc(x[:, 0]) + x[:, 1] ** 2)


def test_negative_indices_count_from_the_end() -> None:
    model = seen()
    model.fix_symbolic(-2, -1, -3, "sin", fit_params_bool=False)
    assert model.symbolic_fun[0].funs_name == [["0", "sin"], ["0", "0"], ["0", "0"]]
    model.unfix_symbolic(-2, -1, -3)
    assert model.symbolic_fun[0].funs_name == [["0", "0"]] * 3


EDGE_CALLS: dict[str, Callable[[KAN, int, int, int], Any]] = {
    "set_mode": lambda model, l, i, j: model.set_mode(l, i, j, "s"),
    "fix_symbolic": lambda model, l, i, j: model.fix_symbolic(l, i, j, "sin", verbose=False),
    "unfix_symbolic": lambda model, l, i, j: model.unfix_symbolic(l, i, j),
    "remove_edge": lambda model, l, i, j: model.remove_edge(l, i, j),
    "suggest_symbolic": lambda model, l, i, j: model.suggest_symbolic(l, i, j, lib=["x"], verbose=False),
}


@pytest.mark.parametrize("call", EDGE_CALLS)
@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ((2, 0, 0), "layer must be between 0 and 1 (or -2 and -1, from the end); got 2"),
        ((-3, 0, 0), "layer must be between 0 and 1 (or -2 and -1, from the end); got -3"),
        ((0, 2, 0), "node of layer 0 must be between 0 and 1 (or -2 and -1, from the end); got 2"),
        ((0, -3, 0), "node of layer 0 must be between 0 and 1 (or -2 and -1, from the end); got -3"),
        ((0, 0, 3), "sub-node of layer 1 must be between 0 and 2 (or -3 and -1, from the end); got 3"),
        ((0, 0, -4), "sub-node of layer 1 must be between 0 and 2 (or -3 and -1, from the end); got -4"),
        ((-1, 3, 0), "node of layer 1 must be between 0 and 2 (or -3 and -1, from the end); got 3"),
    ],
)
def test_edges_that_do_not_exist(call: str, edge: tuple[int, int, int], message: str) -> None:
    model = seen()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(IndexError) as error:
        EDGE_CALLS[call](model, *edge)
    assert message in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("name", "near"), [("sine", "sin"), ("x2", "x^2"), ("Exp", "exp"), ("x**2", "x^2"), ("squareroot", "sqrt")])
def test_unknown_function(name: str, near: str) -> None:
    model = seen()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"unknown symbolic function '{sympy_free(name)}'; did you mean [^?]*'{sympy_free(near)}'"):
        model.fix_symbolic(0, 0, 0, name)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def sympy_free(name: str) -> str:
    """`name` for a regular expression."""
    return name.replace("*", r"\*").replace("^", r"\^")


def test_a_fit_needs_data() -> None:
    model = KAN([2, 1], auto_save=False)
    with pytest.raises(ValueError, match=r"hasn't seen any data yet: call model\(x\) or model.fit\(dataset\) first"):
        model.fix_symbolic(0, 0, 0, "sin")
    assert model.symbolic_fun[0].funs_name == [["0", "0"]]
    model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False)


# Back and away


def symbolic_model() -> KAN:
    model = seen([2, 2, 1])
    for l, i, j, name in [(0, 0, 0, "sin"), (0, 0, 1, "exp"), (0, 1, 0, "x^2"), (0, 1, 1, "tanh"), (1, 0, 0, "x"), (1, 1, 0, "cos")]:
        model.fix_symbolic(l, i, j, name, fit_params_bool=False)
    return model


def functions(model: KAN) -> set[str]:
    return {type(part).__name__ for part in sympy.preorder_traversal(model.symbolic_formula()[0][0]) if isinstance(part, sympy.Function)}


def test_unfix_makes_an_edge_numeric_and_takes_its_function_away() -> None:
    model = symbolic_model()
    assert functions(model) == {"sin", "exp", "tanh", "cos"}
    numeric = seen([2, 2, 1]).spline_postacts[0][:, 0, 0]
    model.unfix_symbolic(0, 0, 0)
    assert model.symbolic_fun[0].funs_name == [["0", "x^2"], ["exp", "tanh"]]
    torch.testing.assert_close(model.spline_postacts[0][:, 0, 0], numeric)
    with pytest.raises(ValueError, match=r"\(0, 0, 0\)"):
        model.symbolic_formula()
    model.remove_edge(0, 0, 0)
    assert functions(model) == {"exp", "tanh", "cos"}


@pytest.mark.parametrize("mode", ["s", "sn", "n"])
def test_a_removed_edge_computes_nothing_and_is_in_no_formula(mode: str) -> None:
    model = symbolic_model()
    model.set_mode(0, 0, 1, mode)
    model.remove_edge(0, 0, 1)
    assert model.act_fun[0].mask[0, 1] == 0 and model.symbolic_fun[0].mask[1, 0] == 0
    assert bool((model.spline_postacts[0][:, 1, 0] == 0).all())
    assert functions(model) == {"sin", "tanh", "cos"}


@pytest.mark.parametrize("mode", ["down", "up", "all"])
def test_remove_node(mode: str) -> None:
    model = symbolic_model()
    model.remove_node(1, 1, mode)
    incoming, outgoing = model.symbolic_fun[0].mask[1], model.symbolic_fun[1].mask[:, 1]
    assert bool((incoming == float(mode == "up")).all()) and bool((outgoing == float(mode == "down")).all())
    assert bool((model.symbolic_fun[0].mask[0] == 1).all()) and model.symbolic_fun[1].mask[0, 0] == 1
    x_1, x_2 = model.symbolic_formula()[1]
    rest = sympy.cos(0) if mode == "down" else 0
    assert sympy.simplify(model.symbolic_formula()[0][0] - (sympy.sin(x_1) + x_2**2 + rest)) == 0


def test_remove_node_of_numeric_edges_at_both_ends_of_the_network() -> None:
    model = seen([2, 3, 2])
    model.remove_node(0, -1)
    assert model.act_fun[0].mask.tolist() == [[1.0] * 3, [0.0] * 3]
    model.remove_node(2, 0)
    assert model.act_fun[1].mask.tolist() == [[0.0, 1.0]] * 3


def test_remove_mult_node_takes_all_its_factors() -> None:
    model = seen([2, [1, 2], 1], mult_arity=[[], [2, 3], []])
    model.remove_node(1, 2)
    assert model.act_fun[0].mask.tolist() == [[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]] * 2
    assert model.act_fun[1].mask.tolist() == [[1.0], [1.0], [0.0]]


@pytest.mark.parametrize(
    ("l", "i", "message"),
    [
        (3, 0, "layer of nodes must be between 0 and 2 (or -3 and -1, from the end); got 3"),
        (-4, 0, "layer of nodes must be between 0 and 2 (or -3 and -1, from the end); got -4"),
        (1, 3, "node of layer 1 must be between 0 and 2 (or -3 and -1, from the end); got 3"),
        (0, -3, "node of layer 0 must be between 0 and 1 (or -2 and -1, from the end); got -3"),
    ],
)
def test_nodes_that_do_not_exist(l: int, i: int, message: str) -> None:
    with pytest.raises(IndexError) as error:
        seen().remove_node(l, i)
    assert message in str(error.value)


def test_unknown_mode_of_remove_node() -> None:
    with pytest.raises(ValueError, match="mode must be 'all', 'up' or 'down'; got 'left'"):
        seen().remove_node(1, 0, "left")


def test_a_fixed_network_trains_its_symbolic_numbers() -> None:
    model, x = KAN([1, 1], auto_save=False), uniform(300, 1)
    y = 2.0 * torch.sin(1.5 * x + 0.2) + 0.5
    model(x)
    model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False)
    results = model.fit({"train_input": x, "train_label": y, "test_input": x, "test_label": y}, steps=10, log=-1)
    assert results["train_loss"][-1] < 1e-8
    a, b, c, d = model.symbolic_fun[0].affine[0, 0].tolist()
    assert all(math.isclose(*pair, abs_tol=1e-6) for pair in [(abs(a), 1.5), (abs(b), 0.2), (abs(c), 2.0), (d, 0.5)])


def test_unfix_leaves_a_spline_that_is_on_as_it_is() -> None:
    # pykan's defect 26: the fraction that perturb set becomes 1, and the spline ten times as large.
    model = symbolic_model()
    model.set_mode(0, 0, 0, "sn", 0.1)
    model.fix_symbolic(0, 0, 0, "x", fit_params_bool=False)
    model.set_mode(0, 0, 0, "sn", 0.1)
    model.unfix_symbolic(0, 0, 0)
    assert float(model.act_fun[0].mask[0, 0]) == pytest.approx(0.1) and float(model.symbolic_fun[0].mask[0, 0]) == 0
    assert model.symbolic_fun[0].funs_name[0][0] == "0"
    model.unfix_symbolic(0, 1, 0)
    assert float(model.act_fun[0].mask[1, 0]) == 1, "a spline that was off is on again"


def test_a_fit_at_the_border_of_its_range_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    model = seen(grid=20)
    put(model, 0, 0, 0, lambda x: torch.sin(11 * x))
    model.fix_symbolic(0, 0, 0, "sin")
    assert capsys.readouterr().out.startswith("Best value at boundary.\nr2 is 0.99")
