"""A compiled network computes its formula, has pykan's shape, and gives the formula back."""

import copy
import math
from typing import Any

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan import KAN, SYMBOLIC_LIB, add_symbolic
from kan.compiler import expr2kan, kanpiler, next_nontrivial_operation, sf2kan
from kan.discovery.formulas.compiler import LIBRARY, REWRITTEN, rewrites
from kan.feynman import get_feynman_dataset

pytestmark = pytest.mark.usefixtures("float64")

x, y, z = VARIABLES = sympy.symbols("x y z")
R = sympy.Rational

PYKAN_WIDTHS = """
1: 1 1 1 / 2: 2 1+1 0+1 / 3: 3 3 1+1 0+1 / 4: 4 2 1 1 / 5: 9 6 4 0+1 / 6: 3 1+1 0+1 / 7: 6 0+3 1 / 8: 2 0+1 / 9: 4 0+1 / 10: 3 0+1
/ 11: 2 0+1 / 12: 5 2+1 0+1 / 13: 4 0+1 / 14: 5 0+1 / 15: 3 0+1 / 16: 2 0+1 / 17: 4 1+2 0+1 / 18: 4 1+2 0+1 / 19: 3 2+1 0+1 / 20:
3 2+1 0+1 / 21: 4 1+2 0+1 / 22: 3 0+1 / 23: 4 0+1 / 24: 4 0+1 / 25: 2 0+1 / 26: 2 0+1 1 / 27: 3 1+1 1 1 / 28: 2 0+1 / 29: 4 5 2+1
1 1 / 30: 3 2+1 3 0+1 / 31: 3 0+1 1 / 32: 4 0+1 / 33: 6 6 0+1 / 34: 4 0+1 / 35: 3 1+1 0+1 / 36: 3 1+2 0+1 / 37: 2 0+1 / 38: 3 3+1
2+1 1 / 39: 4 0+1 / 40: 2 0+1 / 41: 3 0+1 / 42: 4 0+1 / 43: 6 1+1 0+1 / 44: 5 3+1 4 0+1 / 45: 4 0+1 / 46: 3 0+1 / 47: 4 0+1 / 48:
5 3+1 0+1 / 49: 3 0+1 1 / 50: 3 2+1 0+1 / 51: 4 4+1 5 1+2 0+1 / 52: 5 0+1 / 53: 2 0+1 / 54: 3 0+1 / 55: 4 0+1 / 56: 6 5 0+1 / 57:
4 0+1 / 58: 3 0+1 / 59: 2 0+1 / 60: 3 0+1 / 61: 5 4 0+1 / 62: 6 1+1 0+1 / 63: 5 0+1 / 64: 4 4+1 0+1 / 65: 2 2+1 0+1 / 66: 4 0+1 /
67: 3 1+1 0+1 / 68: 3 2+1 0+1 / 69: 3 0+1 / 70: 3 0+1 / 71: 5 3+1 0+1 / 72: 3 1+1 1 1 / 73: 3 0+1 / 74: 2 0+1 / 75: 3 0+1 / 76: 3
0+1 / 77: 4 0+1 / 78: 3 0+1 / 79: 5 0+1 / 80: 5 1+2 2 0+1 / 81: 5 2+1 0+1 / 82: 8 0+2 1 / 83: 3 0+1 / 84: 4 0+1 / 85: 2 0+1 / 86:
4 0+1 1 1 / 87: 4 2+1 3 0+1 / 88: 3 0+1 / 89: 3 0+1 1 1 / 90: 6 6+1 6 0+1 / 91: 4 2 0+1 / 92: 2 0+1 / 93: 4 0+1 / 94: 5 1+1 0+1 /
95: 3 1+1 0+1 / 96: 3 0+1 / 97: 3 0+1 / 98: 3 1+1 0+1 / 99: 5 0+1 / 100: 4 0+1 / 101: 7 7 0+1 / 102: 5 0+2 1 1 / 103: 4 1+1 0+1 /
104: 5 0+1 / 105: 3 1+2 0+1 1 / 106: 4 4+1 5 0+1 / 107: 5 3+1 0+1 1 / 108: 6 4+1 3+1 0+1 / 109: 4 4 2+1 0+1 / 110: 4 1+1 0+1 /
111: 7 0+1 1 / 112: 6 6+1 6 2+2 1+1 1 / 113: 6 5+1 2+1 0+1 / 114: 5 10 3+2 0+1 / 115: 4 3+1 2 0+1 / 116: 5 3+1 0+1 / 117: 4 1+2
0+1 / 118: 5 2+1 0+1 / 119: 6 1+2 0+1 / 120: 7 7+2 0+1
"""
"""Widths of pykan 0.2.8 for the Feynman equations, sum + multiplication nodes; 110 it compiles to another function of that shape."""


def samples(low: float = 0.1, high: float = 0.9, size: int = 20, inputs: int = 3) -> Tensor:
    return low + torch.rand(size, inputs, generator=torch.Generator().manual_seed(0)) * (high - low)


def exact(expr: sympy.Expr, points: Tensor) -> Tensor:
    """Values of an expression to thirty digits, rounded."""
    rows = [dict(zip(VARIABLES, map(sympy.Float, row), strict=True)) for row in points.tolist()]
    return torch.tensor([float(sympy.N(expr.subs(row), 30)) for row in rows])


def relative(value: Tensor, truth: Tensor) -> float:
    return float(((value - truth).abs() / truth.abs().clamp(min=1e-3)).max())


def assert_compiled(expr: sympy.Expr, points: Tensor | None = None, error: float = 1e-13) -> KAN:
    """The network and its formula compute `expr`; its splines are off, and only functions of the library are used."""
    points = samples(size=6) if points is None else points
    model = kanpiler(VARIABLES, expr)
    truth = exact(expr, points)
    with torch.no_grad():
        assert relative(model(points)[:, 0], truth) < error
    outputs, _ = model.symbolic_formula(var=VARIABLES)
    assert relative(exact(outputs[0], points), truth) < 1e-9
    assert all(bool((layer.mask == 0).all()) for layer in model.act_fun)
    assert {name for layer in model.symbolic_fun for row in layer.funs_name for name in row} <= set(SYMBOLIC_LIB)
    return model


# Shapes


@pytest.mark.parametrize(
    ("expr", "width", "arity"),
    [
        (sympy.exp(sympy.sin(sympy.pi * x) + y**2), [[2, 0], [1, 0], [1, 0]], [[], [], []]),
        (x * y, [[2, 0], [0, 1]], [[], [2]]),
        (3 * x * y + 2 * x + 1, [[2, 0], [1, 1], [1, 0]], [[], [2], []]),
        (x * y * (x + 2 * y + 3) * sympy.exp(x), [[2, 0], [0, 1]], [[], [4]]),
    ],
)
def test_shapes(expr: sympy.Expr, width: list[list[int]], arity: list[list[int]]) -> None:
    model = kanpiler([x, y], expr)
    assert model.width == width and model.mult_arity == arity


def test_numbers_stand_where_pykan_has_them() -> None:
    model = kanpiler([x, y, z], sympy.exp(2 * sympy.sin(3 * x + 1) * (y + 1) + z))
    assert [layer.funs_name for layer in model.symbolic_fun] == [
        [["0", "0", "x"], ["0", "x", "0"], ["sin", "0", "0"]], [["x", "x"]], [["exp"]],
    ]  # fmt: skip
    assert model.symbolic_fun[0].affine[2, 0].tolist() == [3.0, 1.0, 1.0, 0.0]
    assert model.symbolic_fun[1].affine[0, 1].tolist() == [1.0, 0.0, 2.0, 0.0]
    assert model.subnode_bias[0].tolist() == [0.0, 1.0, 0.0]
    model = kanpiler([x, y], sympy.sin(3 * x * y + 1))
    assert model.node_scale[0].tolist() == [3.0] and model.node_bias[0].tolist() == [1.0]
    model = kanpiler([x, y], 3 * sympy.exp(2 * x) + 1)
    assert model.node_scale[0].tolist() == [3.0] and model.node_bias[0].tolist() == [1.0]
    assert all(bool((layer.mask == 1).all()) for layer in model.symbolic_fun)


def test_the_feynman_equations_have_pykans_shapes() -> None:
    known = dict(entry.split(":") for entry in PYKAN_WIDTHS.replace("\n", " ").split("/"))
    assert len(known) == 120
    for number, text in known.items():
        width = [[int(part) for part in (*pair.split("+"), "0")[:2]] for pair in text.split()]
        symbols, expr, _, _ = get_feynman_dataset(int(number))
        assert kanpiler(symbols, expr).width == width, f"equation {number}"


# The Feynman equations


@pytest.mark.parametrize("number", ["test", *range(1, 121)])
def test_feynman_round_trip(number: int | str) -> None:
    symbols, expr, f, ranges = get_feynman_dataset(number)
    model = kanpiler(symbols, expr)
    pairs = torch.tensor(ranges if isinstance(ranges[0], list) else [ranges] * len(symbols))
    points = pairs[:, 0] + samples(0.0, 1.0, 100, len(symbols)) * (pairs[:, 1] - pairs[:, 0])
    truth = f(points)
    with torch.no_grad():
        torch.testing.assert_close(model(points), truth, rtol=1e-12, atol=0)
    formula = model.symbolic_formula(var=symbols)[0][0]
    values = sympy.lambdify(symbols, formula, "numpy")(*points.numpy().T)
    torch.testing.assert_close(torch.tensor(values), truth[:, 0], rtol=1e-9, atol=0)
    if all(float(constant) * 64 == int(float(constant) * 64) for constant in formula.atoms(sympy.Float)):
        difference = sympy.expand(sympy.nsimplify(formula, rational=True) - sympy.nsimplify(expr, rational=True))
        assert difference == 0 or sympy.simplify(difference) == 0


# What pykan gets wrong or refuses


@pytest.mark.parametrize(
    ("expr", "width"),
    [
        (x + sympy.sin(x), [[3, 0], [2, 0], [1, 0]]),
        (x**2 + x, [[3, 0], [2, 0], [1, 0]]),
        (sympy.exp(x + sympy.log(x)) + y, None),
        (x * (x + sympy.sin(x)) * y, None),
        (x**3 + 2 * x**2 - x + sympy.cos(x) + sympy.cos(2 * x) + x * y, None),
        (sympy.sin(x) + sympy.exp(sympy.exp(sympy.cos(x) + sympy.sin(x))), None),
        (sympy.pi * (x + 1) + 2 * x + y, None),
    ],
)
def test_edges_do_not_collide(expr: sympy.Expr, width: list[list[int]] | None) -> None:
    model = assert_compiled(expr)
    assert width is None or model.width == width


@pytest.mark.parametrize(
    "expr",
    [
        sympy.sin(sympy.pi * (x + 1)),
        sympy.exp(sympy.pi * (x + 1) + 3),
        sympy.pi * (sympy.pi * (sympy.pi * (x + 1) + 1) + y),
        sympy.exp(sympy.sqrt(2) * (sympy.pi * (x * y + 1) + 2) - 3),
        sympy.pi * (sympy.sin(sympy.E * (x + 2)) + 1) * (sympy.sqrt(3) * (y + 5) + z),
        sympy.Mul(2, sympy.Add(x, 1, evaluate=False), evaluate=False) ** 2,
    ],
)
def test_nested_affine_maps_are_composed(expr: sympy.Expr) -> None:
    assert_compiled(expr)


@pytest.mark.parametrize("exponent", [*range(-14, 0), *range(1, 33), 49, 121])
def test_integer_powers_of_numbers_of_both_signs(exponent: int) -> None:
    assert_compiled(x**exponent + y, samples(-1.3, -0.4, 6))
    assert_compiled((x + 2) ** exponent)


@pytest.mark.parametrize(
    "exponent",
    [
        R(1, 2), R(-1, 2), R(3, 2), R(-3, 2), R(5, 2), R(-5, 2), R(7, 2), R(-7, 2), R(9, 2), R(11, 2), R(13, 2), R(1, 4), R(-1, 4), R(3, 4),
        R(-7, 4), R(1, 8), R(-5, 8), R(1, 3), R(-2, 3), R(5, 7), sympy.pi, -sympy.sqrt(2), 1.5, -1.5, 0.3, 2.0, 1.0, -2.5,
    ],
)  # fmt: skip
def test_rational_and_real_powers(exponent: Any) -> None:
    assert_compiled(x**exponent)
    assert_compiled(y * (x + 2 * y) ** exponent + 1)


def test_fifth_powers_of_roots_are_chains_of_roots() -> None:
    assert [layer.funs_name for layer in kanpiler([x], x ** R(5, 2)).symbolic_fun] == [[["x^0.5"]], [["x^5"]]]
    assert [layer.funs_name for layer in kanpiler([x], x**6).symbolic_fun] == [[["x^2"]], [["x^3"]]]
    assert [layer.funs_name for layer in kanpiler([x], x**1.5).symbolic_fun] == [[["x^1.5"]]]


@pytest.mark.parametrize("expr", [2**x, R(1, 3) ** (x * y), x**y, x**x, (x * y) ** (x + z), (x**y) ** z, sympy.pi**x, x ** sympy.sin(y)])
def test_variable_exponents(expr: sympy.Expr) -> None:
    assert_compiled(expr)


@pytest.mark.parametrize("expr", [x, 3 * x + 1, -x, sympy.sqrt(2) * x, z, x + y, sympy.pi * (x + 1)])
def test_affine_formulas(expr: sympy.Expr) -> None:
    assert assert_compiled(expr).width == [[3, 0], [1, 0]]


@pytest.mark.parametrize("expr", [sympy.Integer(5), sympy.S.Zero, sympy.pi + sympy.sqrt(2), sympy.sin(1) / 7, 2.5, 3])
def test_constants(expr: Any) -> None:
    model = kanpiler([x, y], expr)
    assert model.width == [[2, 0], [1, 0]]
    assert model(samples(inputs=2)).flatten().tolist() == [float(expr)] * 20
    assert float(model.symbolic_formula()[0][0]) == float(expr)


def test_unused_variables_are_inputs_without_effect() -> None:
    model = assert_compiled(sympy.sin(y))
    assert model.width == [[3, 0], [1, 0]]
    assert model.symbolic_fun[0].funs_name == [["0", "sin", "0"]]
    assert model.symbolic_formula()[0][0] == sympy.sin(sympy.Symbol("x_2"))


INTERVALS = {"acosh": (1.1, 3.0), "acoth": (1.1, 3.0), "asec": (1.1, 3.0), "acsc": (1.1, 3.0), "acsch": (0.1, 2.0)}
POSITIVE = {"log", "asech", "acsch", "acosh", "acoth", "asec", "acsc"}


@pytest.mark.parametrize("name", sorted({*LIBRARY, *REWRITTEN} - {"Max", "Min"}))
def test_functions(name: str) -> None:
    function = getattr(sympy, name)
    points = samples(*INTERVALS.get(name, (0.1, 0.9)), size=6)
    assert_compiled(function(x), points)
    assert_compiled(2 * function(x) + function(x) * y, points)
    if name not in POSITIVE:
        assert_compiled(function(-x / 2 + y / 3), points)


def test_the_table_of_rewritten_functions_is_complete() -> None:
    assert set(REWRITTEN) == set(rewrites()) and not set(REWRITTEN) & set(LIBRARY)


@pytest.mark.parametrize("expr", [sympy.Max(x, y), sympy.Min(x, y, z - 1), sympy.Max(x, sympy.Min(y, z)) ** 2, sympy.Heaviside(x - y, 1)])
def test_extremes(expr: sympy.Expr) -> None:
    assert_compiled(expr)


def test_functions_of_ones_own() -> None:
    add_symbolic("sinc", torch.sinc)
    try:
        model = kanpiler([x, y], 2 * sympy.Function("sinc")(3 * x) + y)
        points = samples(inputs=2)
        torch.testing.assert_close(model(points).detach()[:, 0], 2 * torch.sinc(3 * points[:, 0]) + points[:, 1])
        assert model.symbolic_formula(var=[x, y])[0][0].has(sympy.Function("sinc"))
    finally:
        SYMBOLIC_LIB.pop("sinc")


# Anything that grows from the pieces

leaves = st.sampled_from([x, y, z, sympy.Integer(2), R(1, 3), sympy.pi, sympy.Float(0.7)])
UNARY = [
    sympy.sin, sympy.cos, sympy.tanh, sympy.Abs, sympy.atan, sympy.sinh, sympy.cosh, lambda e: sympy.exp(e / 4),
    lambda e: sympy.log(e**2 + 2), lambda e: e**2, lambda e: e**3 / 4, lambda e: 1 / (e**2 + 1), lambda e: sympy.sqrt(e**2 + 1),
    lambda e: sympy.pi * (e + 1),
]  # fmt: skip


def larger(parts: st.SearchStrategy[sympy.Expr]) -> st.SearchStrategy[sympy.Expr]:
    return st.one_of(
        st.tuples(parts, parts).map(lambda pair: pair[0] + pair[1]),
        st.tuples(parts, parts).map(lambda pair: pair[0] * pair[1]),
        st.tuples(st.sampled_from(UNARY), parts).map(lambda pair: pair[0](pair[1])),
    )


@given(expr=st.recursive(leaves, larger, max_leaves=7))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_formulas_of_all_kinds(expr: sympy.Expr) -> None:
    points = samples(-0.9, 0.9, 3)
    truth = exact(expr, points)
    if bool((truth.abs() < 1e6).all()):
        model = kanpiler(VARIABLES, expr)
        with torch.no_grad():
            torch.testing.assert_close(model(points)[:, 0], truth, rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(exact(model.symbolic_formula(var=VARIABLES)[0][0], points), truth, rtol=1e-9, atol=1e-10)


# Names, constants and signs that formulas stumble over

AWKWARD = ["I", "E", "S", "N", "beta", "pi", "gamma", "lambda", "Q", "x y", "θ"]


@pytest.mark.parametrize("name", AWKWARD)
def test_names_that_mean_something_else(name: str) -> None:
    other = next(candidate for candidate in AWKWARD if candidate != name)
    u, v = sympy.Symbol(name), sympy.Symbol(other)
    expr = sympy.exp(u / 3) * v - sympy.pi * u**2 + sympy.E * sympy.Abs(v - u)
    model, points = kanpiler([name, other], expr), samples(-0.9, 0.9, inputs=2)
    formula = model.symbolic_formula(var=[name, other], data=points)
    truth = torch.tensor([float(sympy.N(expr.subs({u: sympy.Float(a), v: sympy.Float(b)}), 30)) for a, b in points.tolist()])
    assert formula.variables == [u, v] and (formula.deviation or 0) < 1e-12
    torch.testing.assert_close(formula.to_torch()(*points.unbind(1)), truth, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(model(points).detach()[:, 0], truth, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "expr",
    [
        (-x) ** 3 + (x - 2) ** -5, sympy.Abs(x - y) ** R(1, 3) * sympy.sign(y - z), x * y * z * (x + 1) * (y - 2) * (z + x) * (x - 7),
        sympy.Float(1e-9) * x + sympy.Float(3e8) * y, (x + y) ** 2 + sympy.sin(x + y) * (x + y) - 1 / (x + y), sympy.sqrt(x**2) * y,
        sympy.exp(-((x - y) ** 2) / 2) / sympy.sqrt(2 * sympy.pi), sympy.Max(x, 0) - sympy.Min(y, z, -x), sympy.re(x) * y,
        sympy.GoldenRatio * x + sympy.EulerGamma, ((2 * x + 1) * 3 - 4) * 5, x**R(22, 7), (x + 1) ** 1.5 * y**-0.5 + x**2.0,
    ],
)  # fmt: skip
def test_awkward_formulas(expr: sympy.Expr) -> None:
    points = samples(0.1, 0.9, 8)
    model = assert_compiled(expr, points)
    assert (model.symbolic_formula(data=points).deviation or 0) < 1e-12


# Affine maps


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (x, (x, 1, 0)),
        (2 * x + 1, (x, 2, 1)),
        (sympy.pi * (x + 1), (x, sympy.pi, sympy.pi)),
        (3 * x * y, (x * y, 3, 0)),
        (x + y + 2, (x + y, 1, 2)),
        (sympy.Integer(7), (0, 1, 7)),
        (sympy.sqrt(2) * (sympy.pi * (x + 1) + 2), (x, sympy.sqrt(2) * sympy.pi, sympy.sqrt(2) * (sympy.pi + 2))),
    ],
)
def test_next_nontrivial_operation(expr: sympy.Expr, expected: tuple[Any, Any, Any]) -> None:
    core, scale, bias = next_nontrivial_operation(expr)
    assert core == expected[0] and scale == expected[1] and sympy.simplify(bias - expected[2]) == 0
    core, scale, bias = next_nontrivial_operation(expr, 5, 7)
    assert sympy.expand(scale * core + bias - (5 * expr + 7)) == 0


# The call


def test_names_and_defaults() -> None:
    assert kanpiler is expr2kan and sf2kan is expr2kan
    model = kanpiler([x], sympy.sin(x))
    assert (model.grid, model.k, model.auto_save) == (5, 3, False)


def test_settings_reach_the_model() -> None:
    model = kanpiler(["x", "y"], x * y, grid=20, k=2, base_fun="identity", seed=3, affine_trainable=True)
    assert (model.grid, model.k, model.base_fun_name, model.seed) == (20, 2, "identity", 3)
    assert model.node_scale[0].requires_grad


def test_dtype() -> None:
    assert kanpiler([x], sympy.sin(x)).dtype == torch.float64
    assert kanpiler([x], sympy.sin(x), dtype=torch.float32).dtype == torch.float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        model = kanpiler([x], sympy.exp(sympy.pi * x), dtype=torch.float64)
    finally:
        torch.set_default_dtype(before)
    assert model.symbolic_fun[0].affine[0, 0, 0].item() == math.pi


def test_nothing_is_printed_or_written_unless_asked(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kanpiler([x], sympy.sin(x))
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
    model = kanpiler([x, y], sympy.sin(x) + x, auto_save=True, ckpt_path=str(tmp_path / "versions"))
    assert (tmp_path / "versions" / "0.1_state").exists()
    points = samples(inputs=2)
    torch.testing.assert_close(model.checkout("0.1")(points), model(points), rtol=0, atol=0)


@pytest.mark.parametrize("expr", [x**7 + sympy.sinh(x * y), x**y + R(1, 3) * x ** R(1, 3), 3 * x + 1])
def test_checkpoints_and_copies(expr: sympy.Expr) -> None:
    model, points = kanpiler(VARIABLES, expr), samples()
    model.saveckpt("saved")
    for other in (KAN.loadckpt("saved"), copy.deepcopy(model), model.copy()):
        torch.testing.assert_close(other(points), model(points), rtol=0, atol=0)
        assert other.mult_arity == model.mult_arity


def test_the_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    kanpiler([x], sympy.sin(x))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_compiled_model_can_be_trained() -> None:
    points = samples(-1.0, 1.0, 100, 2)
    model = kanpiler([x, y], sympy.exp(sympy.sin(3 * x) + y**2))
    label = torch.exp(torch.sin(math.pi * points[:, [0]]) + points[:, [1]] ** 2)
    results = model.fit({"train_input": points, "train_label": label, "test_input": points, "test_label": label}, steps=20, log=-1)
    assert results["train_loss"][-1] < 1e-6
    assert abs(abs(model.symbolic_fun[0].affine[0, 0, 0].item()) - math.pi) < 1e-4


# Errors


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (sympy.exp(sympy.erf(x) + y), r"'erf\(x\)' cannot be computed by a network: erf is not among the functions .*add_symbolic"),
        (x + sympy.besselj(0, x * y), r"'besselj\(0, x\*y\)' cannot be computed by a network"),
        (sympy.atan2(y, x), r"'atan2\(y, x\)' cannot be computed"),
        (sympy.Function("unheard")(x), r"'unheard\(x\)' cannot be computed"),
        (sympy.Piecewise((x, x > 0), (0, True)), r"'Piecewise\(\(x, x > 0\), \(0, True\)\)' cannot be computed"),
        (sympy.I * x, "the constant 'I' cannot be computed by a network: it is no finite real number"),
        (x + sympy.sqrt(-3) * y, r"the constant 'sqrt\(3\)\*I'"),
        (sympy.exp(x) + sympy.oo * y, "the constant 'oo'"),
        (sympy.Integer(-2) ** x, r"'\(-2\)\*\*x' cannot be computed by a network: it is not real"),
        (x**sympy.I, r"'x\*\*I' cannot be computed by a network: it is not real"),
        (x + sympy.Symbol("q") * sympy.Symbol("p"), r"contains p, q, but the input variables are x, y, z\. Add what is missing"),
    ],
)
def test_what_cannot_be_compiled(expr: sympy.Expr, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kanpiler(VARIABLES, expr)


@pytest.mark.parametrize("expr", ["x + y", [x], None, sympy.Eq(x, y), sympy.Matrix([x])])
def test_what_is_no_formula(expr: Any) -> None:
    with pytest.raises(TypeError, match="expr must be one sympy expression"):
        kanpiler(VARIABLES, expr)


@pytest.mark.parametrize("variables", [[], [x, x], [x, 2 * y], [x, 3]])
def test_what_are_no_variables(variables: list[Any]) -> None:
    with pytest.raises(ValueError, match="input_variables must be a list of different sympy symbols, at least one"):
        kanpiler(variables, x)


def test_errors_come_before_files(tmp_path: Any) -> None:
    for expr in (sympy.erf(x), sympy.I * x):
        with pytest.raises(ValueError, match="cannot be computed"):
            kanpiler([x], expr, auto_save=True)
    assert not list(tmp_path.iterdir())
