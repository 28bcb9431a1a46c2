"""What `symbolic_formula` returns: pykan's pair, checked, and written in several ways."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import sympy
import torch

from kan import KAN, SYMBOLIC_LIB, add_symbolic
from kan.compiler import kanpiler
from kan.discovery.formulas import network_formula as module
from kan.discovery.formulas.network_formula import NetworkFormula
from kan.symbolic.library import SymbolicFunction
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

x_1, x_2, x_3 = sympy.symbols("x_1 x_2 x_3")


def half_symbolic(seed: int = 0) -> KAN:
    """Numeric, symbolic and double edges, multiplication nodes of arity 3, and affine maps everywhere."""
    model = KAN([3, [2, 1], [1, 1], 2], mult_arity=3, grid=4, seed=seed, auto_save=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("node_", "subnode_")):
                parameter.copy_(torch.randn(len(parameter), generator=generator))
    for l, i, j, name in [(0, 0, 0, "sin"), (0, 1, 3, "x^2"), (1, 0, 1, "tanh"), (1, 2, 2, "gaussian"), (2, 1, 0, "x^3")]:
        model.fix_symbolic(l, i, j, name, fit_params_bool=False)
        model.set_mode(l, i, j, "s", -0.6)
    model.set_mode(0, 1, 3, "sn", 0.4)
    model.set_mode(2, 1, 0, "sn")
    model.remove_edge(0, 2, 1)
    return model


# The pair


def test_is_pykans_pair() -> None:
    model = kanpiler([x_1, x_2], x_1 * sympy.sin(x_2) + 2)
    found = model.symbolic_formula()
    assert isinstance(found, tuple) and len(found) == 2 and isinstance(found, NetworkFormula)
    formulas, inputs = found
    assert formulas == found.outputs == found[0] == [1.0 * x_1 * sympy.sin(x_2) + 2.0] or sympy.simplify(
        formulas[0] - x_1 * sympy.sin(x_2) - 2
    ) == 0  # fmt: skip
    assert inputs == found.inputs == [x_1, x_2]
    assert found == (formulas, inputs) and repr(found) == str(found) == found.text()


def test_copies_and_pickles() -> None:
    model = half_symbolic()
    formula = model.symbolic_formula(numeric="function", data=uniform(200, 3))
    for other in (copy.deepcopy(formula), pickle.loads(pickle.dumps(formula))):
        assert other == formula and other.agreement == formula.agreement and other.text() == formula.text()
        columns = uniform(200, 3).unbind(1)
        for a, b in zip(other.to_torch()(*columns), formula.to_torch()(*columns), strict=True):
            assert torch.equal(a, b)


# The check


def test_is_compared_with_the_network_on_its_last_input() -> None:
    model = kanpiler([x_1, x_2], sympy.exp(x_1) / (x_2 + 3))
    assert model.symbolic_formula().agreement is None and model.symbolic_formula().deviation is None
    model(uniform(200, 2))
    found = model.symbolic_formula()
    assert found.agreement is not None and found.agreement.samples == 200 and found.deviation is not None and found.deviation < 1e-14
    assert found.notes == []
    given = model.symbolic_formula(data=uniform(7, 2))
    assert given.agreement is not None and given.agreement.samples == 7
    with pytest.raises(ValueError, match="the input must have the shape"):
        model.symbolic_formula(data=uniform(200, 3))


def test_a_wrong_formula_is_warned_of() -> None:
    wrong = SymbolicFunction("wrong", torch.sin, lambda u: sympy.sin(u) * (1 + sympy.Float(1e-6)), 1, lambda u, t: ((), torch.sin(u)))
    SYMBOLIC_LIB["wrong"] = wrong
    try:
        model = KAN([1, 1], auto_save=False)
        model.fix_symbolic(0, 0, 0, "wrong", fit_params_bool=False)
    finally:
        del SYMBOLIC_LIB["wrong"]
    with pytest.warns(UserWarning, match=r"formula and network differ by at most 1e-06 \(relative\) on 50 samples; expected at most 1e-09"):
        found = model.symbolic_formula(data=uniform(50, 1))
    assert found.deviation == pytest.approx(1e-6)


def test_points_where_the_formula_is_not_finite_are_told() -> None:
    torn = SymbolicFunction("torn", torch.sin, lambda u: sympy.sin(u) * u / sympy.Abs(u) * sympy.sign(u), 1, lambda u, t: ((), u))
    model = KAN([1, 1], auto_save=False)
    SYMBOLIC_LIB["torn"] = torn
    try:
        model.fix_symbolic(0, 0, 0, "torn", fit_params_bool=False)
    finally:
        del SYMBOLIC_LIB["torn"]
    with pytest.warns(UserWarning, match=r"the formula is not finite at 1 of them, where the network is \(rows 1\)"):
        found = model.symbolic_formula(data=torch.tensor([[0.5], [0.0], [-0.5]]))
    assert found.agreement is not None and found.agreement.formula_undefined == (1,)


def test_singular_points_are_singular_in_both() -> None:
    model = KAN([1, 1], auto_save=False)
    model.fix_symbolic(0, 0, 0, "1/x", fit_params_bool=False)
    found = model.symbolic_formula(data=torch.tensor([[0.5], [0.0], [-0.5]]))
    assert found.agreement is not None and found.agreement.holds and found.agreement.network_undefined == ()
    model.fix_symbolic(0, 0, 0, "log", fit_params_bool=False)
    assert model.symbolic_formula(data=torch.tensor([[0.5], [0.0], [-0.5]])).deviation == 0


def test_functions_that_only_sympy_has_are_not_compared() -> None:
    SYMBOLIC_LIB["J0"] = SymbolicFunction("J0", torch.special.bessel_j0, lambda u: sympy.besselj(0, u), 1, lambda u, t: ((), u))
    try:
        model = KAN([1, 1], auto_save=False)
        model.fix_symbolic(0, 0, 0, "J0", fit_params_bool=False)
    finally:
        del SYMBOLIC_LIB["J0"]
    found = model.symbolic_formula(data=uniform(200, 1))
    assert found[0] == [sympy.besselj(0, x_1)] and found.agreement is None
    assert found.notes[0].startswith("not compared with the network: unknown function in the formula: 'besselj'")
    with pytest.raises(ValueError, match="'besselj'"):
        found.python()


def test_names_normalisation_and_dropped_inputs() -> None:
    model, raw = half_symbolic(), 3 * uniform(200, 3) + 5
    mean, std = raw.mean(dim=0), raw.std(dim=0) * 2
    model.in_vars, model.out_vars = ["beta", "I", "x y"], ["E", "S"]
    model.normalizer, model.output_normalizer = (mean, std), ([10.0, -3.0], [2.0, 0.5])
    model.remove_edge(0, 1, 0), model.remove_edge(0, 1, 1), model.remove_edge(0, 1, 2), model.remove_edge(0, 1, 3)
    x = (raw - mean) / std
    model(x)
    smaller = model.prune_input(active_inputs=[0, 2])
    y = smaller(x).detach() * torch.tensor([2.0, 0.5]) + torch.tensor([10.0, -3.0])
    found = smaller.symbolic_formula(numeric="function")
    assert found.deviation is not None and found.deviation < 1e-12
    assert found.variables == [sympy.Symbol("beta"), sympy.Symbol("x y")]
    for a, b in zip(found.to_torch()(raw[:, 0], raw[:, 2]), y.unbind(1), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert [line.split(" = ")[0] for line in found.text().splitlines()] == ["E", "S"]
    # What is given for all columns is taken of those that are kept.
    for names, pair in ((["a", "b", "c"], (mean, std)), (("a", "c"), (mean[[0, 2]], std[[0, 2]].tolist()))):
        same = smaller.symbolic_formula(names, pair, numeric="function")
        assert same.variables == list(sympy.symbols("a c"))
        assert same[0] == [formula.subs(dict(zip(found.variables, same.variables, strict=True))) for formula in found[0]]
    with pytest.raises(ValueError, match="var must have 2 entries; got 4"):
        smaller.symbolic_formula(["a", "b", "c", "d"], numeric="function")


def test_expressions_as_inputs() -> None:
    model, t = kanpiler([x_1, x_2], x_1 * x_2 + x_1), sympy.Symbol("t")
    model(uniform(200, 2))
    found = model.symbolic_formula(var=[sympy.sin(t), t + x_3])
    assert found.variables == [t, x_3] and found.deviation is not None and found.deviation < 1e-14
    assert found.to_numpy()(0.3, 0.1) == pytest.approx(np.sin(0.3) * 1.4)
    twice = model.symbolic_formula(var=["a", "a"])
    assert twice.deviation is not None and twice.deviation < 1e-14 and twice.to_numpy()(2.0) == pytest.approx(6.0)


def test_the_check_leaves_the_model_alone() -> None:
    model = half_symbolic().float()
    model(uniform(200, 3).float())
    before, last = {name: value.clone() for name, value in model.state_dict().items()}, model.last_input
    found = model.symbolic_formula(numeric="function")
    assert found.deviation is not None and found.deviation < 1e-12
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.last_input is last and model.dtype == torch.float32


# Numeric edges


@pytest.mark.parametrize("seed", range(5))
def test_numeric_edges_as_functions(seed: int) -> None:
    model, x = half_symbolic(seed), uniform(200, 3) * 1.3
    y = model(x).detach()
    with pytest.raises(ValueError, match=r"still splines: .* With numeric='function' they appear in the formula as functions phi_l_i_j"):
        model.symbolic_formula()
    found = model.symbolic_formula(numeric="function")
    assert found.deviation is not None and found.deviation < 1e-12
    assert "phi_0_1_3(x_2)" in found.text() and "phi_0_0_0" not in found.text()
    edges = [(l, i, j) for l, layer in enumerate(model.act_fun) for i, j in layer.mask.nonzero().tolist()]
    assert set(found.functions) == {f"phi_{l}_{i}_{j}" for l, i, j in edges}
    for by_numpy, by_torch, column in zip(found.to_numpy()(*x.numpy().T), found.to_torch()(*x.unbind(1)), y.unbind(1), strict=True):
        torch.testing.assert_close(torch.tensor(by_numpy), column, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(by_torch.detach(), column, rtol=1e-10, atol=1e-12)


def test_other_values_of_numeric() -> None:
    with pytest.raises(ValueError, match="unknown value of numeric: 'functions'; did you mean 'function'"):
        KAN([1, 1], auto_save=False).symbolic_formula(numeric="functions")  # type: ignore[arg-type]


# Written down


def test_text_and_latex() -> None:
    model = kanpiler([x_1, x_2], sympy.Float(3.14159) * x_1 * sympy.sin(x_2))
    found = model.symbolic_formula(var=["alpha", "x_2"])
    assert found.text(2) == "y = 3.14*alpha*sin(x_2)"
    assert found.latex(2) == r"y = 3.14 \alpha \sin{\left(x_{2} \right)}"
    two = KAN([1, 2], auto_save=False)
    for j, name in enumerate(("sin", "x^2")):
        two.fix_symbolic(0, 0, j, name, fit_params_bool=False)
    assert two.symbolic_formula().text().splitlines() == ["y_1 = sin(x_1)", "y_2 = x_1**2"]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_python(backend: str) -> None:
    model, x = half_symbolic(), uniform(200, 3)
    names: dict[str, Any] = {}
    exec(model.symbolic_formula(numeric="function").python(backend, name="law"), names)
    outputs = names["law"](*(x.numpy().T if backend == "numpy" else x.unbind(1)))
    for found, expected in zip(outputs, model(x).detach().unbind(1), strict=True):
        torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-10, atol=1e-12)


def test_registered_functions_are_called_even_when_they_are_registered_no_more() -> None:
    add_symbolic("bump", torch.sinc)
    try:
        model = KAN([1, 1], auto_save=False)
        model.fix_symbolic(0, 0, 0, "bump", fit_params_bool=False)
    finally:
        del SYMBOLIC_LIB["bump"]
    found = model.symbolic_formula(data=uniform(200, 1))
    assert found.deviation == 0 and set(found.functions) == {"bump"} and found.to_numpy()(0.25) == pytest.approx(np.sinc(0.25))


# Simplified


def test_simplified() -> None:
    model = kanpiler([x_1], sympy.sin(x_1) ** 2 + sympy.cos(x_1) ** 2 + x_1)
    model(uniform(200, 1))
    found = model.symbolic_formula(simplify=True, time_limit=60)
    assert str(sympy.nsimplify(found[0][0])) == "x_1 + 1" and found.notes == []
    assert found.deviation is not None and found.deviation < 1e-14
    assert model.symbolic_acts is not None and model.symbolic_acts[-1] == found[0]


def test_out_of_time() -> None:
    model = kanpiler([x_1], sympy.sin(x_1) ** 2 + sympy.cos(x_1) ** 2 + x_1)
    with pytest.warns(UserWarning, match=r"not simplified: output\(s\) 0; the time limit of 0.01 s was over"):
        found = model.symbolic_formula(simplify=True, time_limit=0.01)
    assert found[0] == model.symbolic_formula()[0] and "time limit" in found.notes[0]


def test_simpler_forms_that_are_not_the_network_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model = kanpiler([x_1], sympy.sin(x_1))
    monkeypatch.setattr(module, "simplified", lambda formulas, limit: ([x_1], []))
    with pytest.warns(UserWarning, match="not simplified: sympy's simpler form is not the network"):
        found = model.symbolic_formula(simplify=True, data=uniform(200, 1))
    assert found[0] == [sympy.sin(x_1)] and found.deviation == 0
