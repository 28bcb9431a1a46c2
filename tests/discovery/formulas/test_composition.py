"""The formula is the network: same numbers, readable names, rounded constants."""

import time
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan import KAN, SYMBOLIC_LIB, add_symbolic, ex_round
from kan.discovery.formulas.composition import symbolic_formula
from kan.surgery.select import select_nodes
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

SMOOTH = ["x", "x^2", "x^3", "sin", "cos", "tanh", "gaussian", "arctan", "abs", "exp", "0"]
POSITIVE = ["log", "sqrt", "1/x", "1/x^2", "1/sqrt(x)", "x^1.5", "x^0.5", "1/x^3"]
"""Functions for arguments above zero."""


def symbolic_network(width: list[Any], seed: int = 0, **arguments: Any) -> KAN:
    """A network with random functions on all edges, some masked, and random affines everywhere."""
    model = KAN(width, seed=seed, auto_save=False, affine_trainable=True, **arguments)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for l, layer in enumerate(model.symbolic_fun):
            for j in range(layer.out_dim):
                for i in range(layer.in_dim):
                    # The first layer's inputs are within [-1, 1]: there the argument can be kept positive.
                    positive = l == 0 and rng.random() < 0.4
                    name = str(rng.choice(POSITIVE if positive else SMOOTH))
                    a, c, d = rng.uniform(-0.9, 0.9, 3)
                    b = rng.uniform(1.2, 2.0) if positive else rng.uniform(-0.9, 0.9)
                    model.fix_symbolic(l, i, j, name, fit_params_bool=False)
                    layer.affine[j, i] = torch.tensor([a, b, c, d])
                    layer.mask[j, i] = float(rng.choice([0.0, 1.0, 1.0, 1.0, 0.5]))
        for name, parameter in model.named_parameters():
            if name.startswith(("node_", "subnode_")):
                parameter.copy_(torch.tensor(rng.uniform(-1.0, 1.0, len(parameter))))
    return model


def evaluated(outputs: list[Any], inputs: list[Any], x: Tensor) -> Tensor:
    """The formulas on the columns of `x`."""
    columns = []
    for formula in outputs:
        values = sympy.lambdify(inputs, formula, "numpy")(*x.numpy().T)
        columns.append(np.broadcast_to(np.asarray(values, dtype=np.float64), (len(x),)))
    return torch.tensor(np.stack(columns, axis=1))


def assert_same_numbers(model: KAN, x: Tensor) -> None:
    with torch.no_grad():
        y = model.trace(x).output
    assert bool(torch.isfinite(y).all())
    torch.testing.assert_close(evaluated(*model.symbolic_formula(), x), y, rtol=1e-9, atol=1e-9)


@given(
    hidden=st.lists(st.one_of(st.integers(1, 3), st.tuples(st.integers(0, 2), st.integers(1, 2))), max_size=2),
    n_inputs=st.integers(1, 3),
    n_outputs=st.integers(1, 2),
    arity=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=40)
def test_formula_computes_what_the_network_computes(hidden: list[Any], n_inputs: int, n_outputs: int, arity: int, seed: int) -> None:
    model = symbolic_network([n_inputs, *hidden, n_outputs], seed, mult_arity=arity)
    assert_same_numbers(model, uniform(60, n_inputs, seed=seed))


@pytest.mark.parametrize("seed", range(3))
def test_several_mult_nodes_of_mixed_arities(seed: int) -> None:
    model = symbolic_network([2, [1, 3], [0, 2], 1], seed, mult_arity=[[], [3, 1, 2], [2, 3], []])
    assert_same_numbers(model, uniform(60, 2, seed=seed))


@pytest.mark.parametrize(
    "name", [*SMOOTH, *POSITIVE, "x^4", "x^5", "1/x^4", "1/x^5", "1/x^0.5", "tan", "sgn", "arcsin", "arccos", "arctanh"]
)
def test_every_function_of_the_library(name: str) -> None:
    model = KAN([1, 1], auto_save=False)
    model.fix_symbolic(0, 0, 0, name, fit_params_bool=False)
    with torch.no_grad():
        model.symbolic_fun[0].affine[0, 0] = torch.tensor([0.2, 0.7, -1.5, 0.1])
    assert_same_numbers(model, uniform(60, 1))


def test_switched_off_symbolic_part_is_in_no_formula() -> None:
    model = symbolic_network([2, 1])
    model.symbolic_enabled = False
    assert_same_numbers(model, uniform(60, 2))


def test_is_trained_numbers_in_a_readable_order() -> None:
    model = KAN([2, 1, 1], auto_save=False)
    for edge, name, affine in [((0, 0, 0), "sin", [np.pi, 0, 2, 0]), ((0, 1, 0), "x^2", [3, 0, 1, 0]), ((1, 0, 0), "exp", [0.5, 1, 1, 0])]:
        model.fix_symbolic(*edge, name, fit_params_bool=False)
        l, i, j = edge
        with torch.no_grad():
            model.symbolic_fun[l].affine[j, i] = torch.tensor(affine)
    formula = ex_round(model.symbolic_formula()[0][0], 4)
    x_1, x_2 = sympy.symbols("x_1 x_2")
    assert sympy.simplify(formula - 2.7183 * sympy.exp(4.5 * x_2**2 + sympy.sin(3.1416 * x_1))) == 0
    assert str(formula) == "2.7183*exp(4.5*x_2**2 + sin(3.1416*x_1))"


# Names


def test_default_names_are_pykans() -> None:
    _, inputs = symbolic_network([3, 2]).symbolic_formula()
    assert inputs == list(sympy.symbols("x_1 x_2 x_3"))


def test_names_and_expressions() -> None:
    model, x = symbolic_network([2, 2, 1]), uniform(60, 2)
    plain, _ = model.symbolic_formula()
    named, inputs = model.symbolic_formula(var=["alpha", "y"])
    assert inputs == [sympy.Symbol("alpha"), sympy.Symbol("y")]
    assert sympy.simplify(named[0] - plain[0].subs({"x_1": "alpha", "x_2": "y"}, simultaneous=True)) == 0
    t = sympy.Symbol("t")
    of_t, expressions = model.symbolic_formula(var=[sympy.sin(t), t**2 - 1])
    assert expressions == [sympy.sin(t), t**2 - 1]
    times = x[:, :1]
    torch.testing.assert_close(
        evaluated(of_t, [t], times), model(torch.cat([times.sin(), times**2 - 1], dim=1)).detach(), rtol=1e-9, atol=1e-9
    )


def test_columns_keep_their_names_when_inputs_are_dropped() -> None:
    model, x = symbolic_network([3, 2, 1]), uniform(60, 3)
    with torch.no_grad():
        model.symbolic_fun[0].mask[:, 1] = 0.0
    for layer in model.act_fun:
        layer.mask.data.zero_()
    y = model(x).detach()
    assert "x_2" not in {str(symbol) for symbol in model.symbolic_formula()[0][0].free_symbols}
    smaller = select_nodes(model, [[0, 2], [0, 1], [0]])
    outputs, inputs = smaller.symbolic_formula()
    assert [str(symbol) for symbol in inputs] == ["x_1", "x_3"]
    torch.testing.assert_close(smaller(x).detach(), y)
    torch.testing.assert_close(evaluated(outputs, inputs, x[:, [0, 2]]), y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("var", [["a"], ["a", "b", "c"], []])
def test_wrong_number_of_names(var: list[str]) -> None:
    with pytest.raises(ValueError, match=f"var must have 2 entries; got {len(var)}"):
        symbolic_network([2, 1]).symbolic_formula(var=var)


# Normalizers


@pytest.mark.parametrize("as_tensors", [True, False])
def test_normalizers(as_tensors: bool) -> None:
    model, raw = symbolic_network([2, 2, 2], seed=4), 3 * uniform(60, 2) + 5
    mean, std = raw.mean(dim=0), raw.std(dim=0) * 2
    out_mean, out_std = torch.tensor([10.0, -3.0]), torch.tensor([2.0, 0.5])
    y = model((raw - mean) / std).detach() * out_std + out_mean
    pairs = [[mean, std], [out_mean, out_std]]
    given = pairs if as_tensors else [[part.tolist() for part in pair] for pair in pairs]
    outputs, inputs = model.symbolic_formula(normalizer=given[0], output_normalizer=given[1])
    assert inputs == list(sympy.symbols("x_1 x_2"))
    torch.testing.assert_close(evaluated(outputs, inputs, raw), y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("which", ["normalizer", "output_normalizer"])
def test_normalizers_of_the_wrong_length(which: str) -> None:
    with pytest.raises(ValueError, match=f"^{which} must have 2 entries; got 3"):
        symbolic_network([2, 2]).symbolic_formula(**{which: [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]})


def test_names_and_normalisation_of_the_network_are_the_defaults() -> None:
    model, raw = symbolic_network([3, 2, 2], seed=4), 3 * uniform(60, 3) + 5
    with torch.no_grad():
        model.symbolic_fun[0].mask[:, 1] = 0.0
    mean, std, out_mean, out_std = raw.mean(dim=0), raw.std(dim=0) * 2, torch.tensor([10.0, -3.0]), torch.tensor([2.0, 0.5])
    model.in_vars, model.normalizer, model.output_normalizer = ["beta", "I", "x y"], (mean, std), (out_mean, out_std)
    y = model((raw - mean) / std).detach() * out_std + out_mean
    outputs, inputs = model.symbolic_formula()
    assert inputs == [sympy.Symbol(name) for name in model.in_vars]
    torch.testing.assert_close(evaluated(outputs, inputs, raw), y, rtol=1e-9, atol=1e-9)

    smaller = select_nodes(model, [[0, 2], [0, 1], [0, 1]])
    outputs, inputs = smaller.symbolic_formula()
    assert inputs == [sympy.Symbol("beta"), sympy.Symbol("x y")]
    torch.testing.assert_close(evaluated(outputs, inputs, raw[:, [0, 2]]), y, rtol=1e-9, atol=1e-9)

    # What is given wins.
    outputs, inputs = smaller.symbolic_formula(["u", "v"], normalizer=[[0, 0], [1, 1]], output_normalizer=[[0, 0], [1, 1]])
    assert inputs == list(sympy.symbols("u v"))
    normalised = (raw - mean) / std
    torch.testing.assert_close(evaluated(outputs, inputs, normalised[:, [0, 2]]), model(normalised).detach(), rtol=1e-9, atol=1e-9)


# What it refuses, and what it leaves behind


def test_numeric_edges_are_named() -> None:
    model = symbolic_network([2, 2, 1])
    model.unfix_symbolic(0, 1, 0)
    model.set_mode(1, 1, 0, "sn", 0.2)
    expected = (
        r"make sure all activations need to be converted to symbolic formulas first! 2 edge\(s\) .* are still splines: \(0, 1, 0\), "
        r"\(1, 1, 0\). Use auto_symbolic\(\)"
    )
    with pytest.raises(ValueError, match=expected):
        model.symbolic_formula()
    model.set_mode(1, 1, 0, "s")
    model.remove_edge(0, 1, 0)
    assert_same_numbers(model, uniform(60, 2))


def test_a_fresh_network_has_no_formula() -> None:
    with pytest.raises(ValueError, match=r"are still splines: \(0, 0, 0\), \(0, 1, 0\). Use auto_symbolic\(\)"):
        KAN([2, 1], auto_save=False).symbolic_formula()


def test_the_first_few_of_many_edges_are_named() -> None:
    with pytest.raises(ValueError, match=r"64 edge\(s\) .*: \(0, 0, 0\), .*, \(0, 0, 4\) and 59 more. Use auto_symbolic") as error:
        KAN([4, 8, 4], auto_save=False).symbolic_formula()
    assert len(str(error.value)) < 400


def test_functions_that_sympy_cannot_take() -> None:
    model = KAN([2, 1], auto_save=False)
    model.fix_symbolic(0, 0, 0, lambda u: u**3 + 1)
    model.fix_symbolic(0, 1, 0, torch.sinc)
    with pytest.raises(
        ValueError, match=r"the function 'anonymous' of the edge \(0, 1, 0\) takes no sympy expression .*Register it with add_symbolic"
    ):
        model.symbolic_formula()
    model.remove_edge(0, 1, 0)
    assert str(model.symbolic_formula()[0][0]) == "x_1**3 + 1"


def test_registered_functions_keep_their_names() -> None:
    add_symbolic("bump", torch.sinc)
    try:
        model = KAN([1, 1], auto_save=False)
        model.fix_symbolic(0, 0, 0, "bump", fit_params_bool=False)
        formula, inputs = model.symbolic_formula()
    finally:
        del SYMBOLIC_LIB["bump"]
    assert formula == [sympy.Function("bump")(inputs[0])]


def test_dead_network() -> None:
    model = KAN([2, 1], auto_save=False)
    model.remove_node(1, 0)
    assert model.symbolic_formula()[0] == [0]


def test_expressions_of_the_nodes_are_kept() -> None:
    model, x = symbolic_network([2, [1, 1], 1], mult_arity=3), uniform(60, 2)
    outputs, inputs = model.symbolic_formula()
    model(x)
    nodes, subnodes = model.symbolic_acts, model.symbolic_acts_premult
    assert nodes[0] == inputs and nodes[-1] == outputs
    assert [len(layer) for layer in nodes] == [2, 2, 1] and [len(layer) for layer in subnodes] == [4, 1]
    acts = model.acts
    assert acts is not None
    for expressions, values in zip([*nodes[1:], *subnodes], [*acts[1:], *model.acts_premult], strict=True):
        torch.testing.assert_close(evaluated(expressions, inputs, x), values, rtol=1e-9, atol=1e-9)


def test_formula_changes_nothing() -> None:
    model = symbolic_network([2, 2, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    symbolic_formula(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_float32_network() -> None:
    model, x = symbolic_network([2, 2, 1]).float(), uniform(60, 2)
    torch.testing.assert_close(evaluated(*model.symbolic_formula(), x), model(x.float()).double().detach(), rtol=1e-4, atol=1e-4)


# Rounding

x, y = sympy.symbols("x y")


@pytest.mark.parametrize(
    ("expression", "digits", "expected"),
    [
        (3.14534242 * sympy.exp(sympy.sin(sympy.pi * x) + y**2) - 2.32345402, 2, "3.15*exp(y**2 + sin(pi*x)) - 2.32"),
        (1e-9 * sympy.sin(x) + 2 * y, 4, "2*y"),
        (0.99999999 * x + 1e-17, 4, "x"),
        (sympy.exp(1.00001 * (x + 1e-12) ** 2), 4, "exp(x**2)"),
        ((1.26 * x + 1e-9) ** 2, 1, "1.7*x**2"),
        (sympy.Float(-2.34567), 3, "-2.34600000000000"),
        (-0.00001 * x, 3, "0"),
        (sympy.Rational(1, 3) * x + sympy.sqrt(2), 1, "x/3 + sqrt(2)"),
        (sympy.Integer(123456), 0, "123456"),
        (1234.5678 * x, 0, "1235.0*x"),
        (1234.5678 * x, -2, "1200.0*x"),
        (x**1.99999999, 3, "x**2.0"),
        (sympy.exp(sympy.sin(1.23456 * x) ** (1.23456 * y)), 1, "exp(sin(1.2*x)**(1.2*y))"),
        (sympy.log(1.234567e-9 * x) + 1e-9 * y, 2, "1.0e-9*y + log(1.2e-9*x)"),
        (x / (1.2e-9 * y + 3e-10 * x), 0, "x/(3.0e-10*x + 1.0e-9*y)"),
        (sympy.sin(1e-9 * x), 2, "0"),
        (3.14159, 2, "3.14000000000000"),
        (sympy.Symbol("z"), 2, "z"),
    ],
)
def test_rounding(expression: sympy.Expr, digits: int, expected: str) -> None:
    assert str(ex_round(expression, digits)) == expected


numbers = st.floats(-100, 100).filter(lambda value: abs(value) > 1e-12)
expressions = st.recursive(
    st.one_of(st.sampled_from([x, y]), numbers.map(sympy.Float), st.integers(-5, 5).map(sympy.Integer)),
    lambda part: st.one_of(
        st.tuples(part, part).map(lambda pair: pair[0] + pair[1]),
        st.tuples(part, part).map(lambda pair: pair[0] * pair[1]),
        part.map(sympy.sin),
        part.map(sympy.tanh),
        st.tuples(part, st.integers(2, 3)).map(lambda pair: pair[0] ** pair[1]),
    ),
    max_leaves=8,
)


@given(expression=expressions, digits=st.integers(0, 6))
@settings(deadline=None, max_examples=150)
def test_no_number_keeps_more_digits(expression: sympy.Expr, digits: int) -> None:
    for number in ex_round(expression, digits).atoms(sympy.Float):
        assert float(number) == round(float(number), digits) != 0


@pytest.mark.parametrize("seed", range(5))
def test_rounding_moves_the_value_little(seed: int) -> None:
    model = symbolic_network([2, 2, 1], seed)
    (formula,), inputs = model.symbolic_formula()
    points = uniform(60, 2)
    exact = evaluated([formula], inputs, points)
    for digits in (3, 6, 9):
        assert float((evaluated([ex_round(formula, digits)], inputs, points) - exact).abs().max()) < 30 * 10.0**-digits


@pytest.mark.parametrize(
    ("name", "affine", "expected"),
    [
        ("x^2", [2.0, 1.0, 3.0, 0.0], "12.0*(x_1 + 0.5)**2"),
        ("x^2", [0.01, 0.0, 1e4, 0.0], "1.0*x_1**2"),
        ("x^3", [0.001, 1.0, 1.0, 0.0], "(0.001*x_1 + 1)**3"),
        ("exp", [1.0, 2.0, 1.0, 0.0], "7.3891*exp(x_1)"),
        ("exp", [1.0, -30.0, 1e13, 0.0], "0.9358*exp(x_1)"),
    ],
)
def test_constants_move_where_they_read_well(name: str, affine: list[float], expected: str) -> None:
    model = KAN([1, 1], auto_save=False)
    model.fix_symbolic(0, 0, 0, name, fit_params_bool=False)
    with torch.no_grad():
        model.symbolic_fun[0].affine[0, 0] = torch.tensor(affine)
    difference = ex_round(model.symbolic_formula()[0][0], 4) - sympy.sympify(expected)
    assert sympy.nsimplify(difference) == 0, ex_round(model.symbolic_formula()[0][0], 4)
    assert_same_numbers(model, uniform(60, 1))


def test_functions_of_hyperbolic_functions_take_no_minutes() -> None:
    # Two minutes, if sympy is let to find out whether tanh of a polynomial is real.
    model = KAN([3, [2, 1], [1, 1], 2], mult_arity=3, grid=4, seed=11, auto_save=False)
    generator = torch.Generator().manual_seed(11)
    for l, layer in enumerate(model.symbolic_fun):
        for j in range(layer.out_dim):
            for i in range(layer.in_dim):
                draw = torch.rand(2, generator=generator).tolist()
                if draw[0] < 0.5:
                    model.fix_symbolic(l, i, j, ["sin", "x^2", "tanh", "gaussian"][int(4 * draw[1])], fit_params_bool=False)
                    model.set_mode(l, i, j, "sn" if draw[0] < 0.2 else "s", 0.7)
    start = time.process_time()
    formula = model.symbolic_formula(numeric="function", data=uniform(60, 3))
    rounded = [ex_round(output, 3) for output in formula.outputs]
    assert time.process_time() - start < 10
    assert (formula.deviation or 0) < 1e-12
    assert all(number == round(number, 3) for output in rounded for number in map(float, output.atoms(sympy.Float)))
