"""Functions that programs write into the tables of a symbolic layer: used wherever an edge's function is."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import sympy
import torch
from torch import Tensor, nn

from kan import KAN

pytestmark = pytest.mark.usefixtures("float64")

X = torch.rand(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
Y = 3 * (X[:, :1] ** 2) * torch.exp(-(X[:, :1] ** 2)) + X[:, 1:]


def bump(u: Tensor) -> Tensor:
    return u * u * torch.exp(-u * u)


def bump_formula(u: Any) -> Any:
    return u**2 * sympy.exp(-(u**2))


def model(**arguments: Any) -> KAN:
    """Input 0 has the written function, input 1 the identity; nothing else."""
    net = KAN([2, 1], seed=0, auto_save=False, **arguments)
    net.fix_symbolic(0, 1, 0, "x", fit_params_bool=False)
    net.act_fun[0].mask.data[0, 0] = 0.0
    layer = net.symbolic_layers[0]
    layer.mask.data[0, 0] = 1.0
    layer.funs_name[0][0] = "mine"
    layer.funs[0][0] = bump
    layer.funs_avoid_singularity[0][0] = lambda u, y_th: ((), bump(u))
    layer.funs_sympy[0][0] = bump_formula
    layer.affine.data[0, 0] = torch.tensor([1.0, 0.0, 3.0, 0.0])
    return net


@pytest.mark.parametrize("avoiding", [False, True])
def test_a_pass_uses_it(avoiding: bool) -> None:
    torch.testing.assert_close(model()(X, singularity_avoiding=avoiding), Y)
    assert model().symbolic_layers[0].funs_name == [["mine", "x"]]


def test_the_last_write_counts_in_the_next_pass() -> None:
    net = model()
    for function in (torch.sin, torch.cos, bump):
        net.symbolic_layers[0].funs[0][0] = function
        torch.testing.assert_close(net(X), 3 * function(X[:, :1]) + X[:, 1:])


def test_whole_tables_are_written() -> None:
    net = model()
    layer = net.symbolic_layers[0]
    layer.funs = [[torch.sin, torch.cos]]
    layer.funs_name = [["first", "second"]]
    layer.funs_sympy = [[sympy.sin, sympy.cos]]
    torch.testing.assert_close(net(X), 3 * X[:, :1].sin() + X[:, 1:].cos())
    assert layer.funs_name == [["first", "second"]] and layer.funs_sympy == [[sympy.sin, sympy.cos]]
    with pytest.raises(TypeError, match="an entry of funs must be a function; got 'cos'"):
        layer.funs = [[torch.tanh, "cos"]]
    assert layer.funs[0][0] is torch.sin, "all or nothing"


@pytest.mark.parametrize(
    "options", [{"opt": "LBFGS"}, {"opt": "Adam", "lr": 0.05, "steps": 300}, {"opt": "LM"}, {"opt": "LBFGS", "lamb": 1e-6}]
)
def test_fit_trains_its_numbers(options: dict[str, Any]) -> None:
    net = model()
    with torch.no_grad():
        net.symbolic_layers[0].affine[0, 0] = torch.tensor([1.1, 0.05, 2.5, 0.1])
    results = net.fit((X, Y), **{"steps": 30, **options}, progress=False)
    assert results["train_loss"][-1] < 1e-3
    torch.testing.assert_close(net(X), Y, atol=1e-2, rtol=0.0)


@pytest.mark.parametrize("options", [{"opt": "LBFGS"}, {"opt": "Adam", "lr": 0.01}, {"opt": "LM"}, {"opt": "LM", "lamb": 1e-4}])
def test_it_may_be_a_network(options: dict[str, Any]) -> None:
    # It takes a column, and has numbers of its own, in the network's type wherever that goes.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        function = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).float().requires_grad_(False)
    net = model().float()
    net.symbolic_layers[0].funs[0][0] = function
    x = X.float()
    torch.testing.assert_close(net(x), 3 * function(x[:, :1]) + x[:, 1:])
    before = net.evaluate({"test_input": x, "test_label": Y.float()})["test_loss"]
    assert net.fit((x, Y.float()), steps=5, progress=False, **options)["train_loss"][-1] < before
    assert net.double()(X).dtype == torch.float64


def test_the_formula_has_what_is_written_for_expressions() -> None:
    formula = model().symbolic_formula()[0][0]
    x_1, x_2 = sympy.symbols("x_1 x_2")
    assert sympy.simplify(formula - (3 * bump_formula(x_1) + x_2)) == 0
    net = model()
    net.symbolic_layers[0].funs_name[0][0] = "sin"
    net.symbolic_layers[0].funs_sympy[0][0] = sympy.cos
    torch.testing.assert_close(net(X), Y)  # the function of a tensor in the pass
    with pytest.warns(UserWarning):  # the formula is compared with the network
        assert net.symbolic_formula(data=X)[0][0].has(sympy.cos), "that of an expression in the formula"


def test_a_function_that_takes_no_expression_says_so() -> None:
    net = model()
    net.symbolic_layers[0].funs_sympy[0][0] = torch.sin
    with pytest.raises(ValueError, match=r"'mine' of the edge \(0, 0, 0\) takes no sympy .* into symbolic_fun\[0\].funs_sympy\[0\]\[0\]"):
        net.symbolic_formula()


@pytest.mark.parametrize(
    "other",
    [copy.deepcopy, KAN.copy, lambda net: pickle.loads(pickle.dumps(net)), lambda net: net.refine(7), lambda net: net.prune(0, 0)],
    ids=["deepcopy", "copy", "pickle", "refine", "prune"],
)
def test_models_made_of_it_have_it(other: Callable[[KAN], KAN]) -> None:
    net = model()
    net(X)
    new = other(net)
    torch.testing.assert_close(new(X), Y)
    assert new.symbolic_layers[0].funs_name == [["mine", "x"]]
    net.symbolic_layers[0].funs[0][0] = torch.sin
    torch.testing.assert_close(new(X), Y)


def test_it_moves_along() -> None:
    net = KAN([1, 2, 1], seed=0, auto_save=False)
    net.symbolic_layers[0].mask.data[:] = 1.0
    net.symbolic_layers[0].affine.data[..., 2] = 1.0
    net.symbolic_layers[0].funs = [[bump], [torch.sin]]
    y = net(X[:, :1])
    net.swap(1, 0, 1)
    torch.testing.assert_close(net(X[:, :1]), y)
    assert net.symbolic_layers[0].funs == [[torch.sin], [bump]]
    net.expand_width(1, 1)
    torch.testing.assert_close(net(X[:, :1]), y)


def test_a_plot_draws_it() -> None:
    net = model()
    net(X)
    x, y = net.get_fun(0, 0, 0, plot=False)
    torch.testing.assert_close(torch.as_tensor(y), 3 * bump(torch.as_tensor(x)))
    assert net.plot() is not None


def test_saving_says_what_loading_needs() -> None:
    net = model()
    own = r"the function of the edge\(s\) \(0, 0, 0\) is one of your own, .* Load it with functions={'\(0, 0, 0\)': f}"
    with pytest.warns(UserWarning, match=own):
        net.saveckpt("there")
    with pytest.raises(ValueError, match=r"the edge \(0, 0, 0\) carries the function 'mine'"):
        KAN.loadckpt("there")
    torch.testing.assert_close(KAN.loadckpt("there", functions={"mine": bump})(X), Y)


def test_a_name_that_stands_for_another_function_does_not_bring_that_back() -> None:
    net = model()
    net.symbolic_layers[0].funs_name[0][0] = "sin"
    with pytest.warns(UserWarning, match="one of your own"):
        net.save("there")
    with pytest.raises(ValueError, match=r"the edge \(0, 0, 0\) carries the function 'anonymous'"):
        KAN.load("there")
    with pytest.raises(ValueError, match="symbolic function 'anonymous'"):
        KAN.from_state_dict(net.state_dict())
    net.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(X), Y)  # its own state leaves it alone


def test_rows_of_the_library_that_are_written_are_saved_by_name() -> None:
    net = model()
    layer = net.symbolic_layers[0]
    layer.funs_name[0][0], layer.funs[0][0], layer.funs_sympy[0][0] = "sin", torch.sin, sympy.sin
    net.saveckpt("there")
    torch.testing.assert_close(KAN.loadckpt("there")(X), net(X))
    torch.testing.assert_close(KAN.from_state_dict(net.state_dict())(X), net(X))


def test_versions_keep_it_within_the_process() -> None:
    net = KAN([1, 1], seed=0, ckpt_path="versions")
    net.symbolic_layers[0].funs_name[0][0], net.symbolic_layers[0].funs[0][0] = "mine", bump
    net.fix_symbolic(0, 0, 0, "x", fit_params_bool=False)
    net.symbolic_layers[0].funs_name[0][0], net.symbolic_layers[0].funs[0][0] = "mine", bump
    net.log_history("written")
    y = net(X[:, :1])
    torch.testing.assert_close(net.rewind(f"{net.round}.{net.state_id}")(X[:, :1]), y)
