"""The law of what a network computes."""

from typing import Any

import pytest
import sympy
import torch

from kan import KAN
from kan.compiler import kanpiler
from tests.data import uniform


def compiled() -> KAN:
    a, b = sympy.symbols("a b")
    model = kanpiler([a, b], a * sympy.exp(-b)).double()
    model.auto_save = False
    return model


def test_a_compiled_network_has_its_law() -> None:
    model, x = compiled(), uniform(200, 2, low=1.0, high=2.0)
    model.in_vars = ["a", "b"]
    model(x)
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.random.get_rng_state()
    found = model.discover(time_limit=100)
    assert str(found[0].formula) == "a*exp(-b)" and found[0].verdict == "exact"
    assert model.last_input is not None and torch.equal(model.last_input, x) and torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_data_names_and_single_precision() -> None:
    model = compiled().float()
    x = uniform(200, 2, low=1.0, high=2.0)
    found = model.discover(x.numpy(), variables=["p", "q"], time_limit=100)
    assert [str(symbol) for symbol in found.variables] == ["p", "q"] and str(found[0].formula) == "p*exp(-q)"
    assert model.last_input is None and model.dtype == torch.float32
    assert str(model.discover(x, x[:, 0] / x[:, 1], time_limit=100)[0].formula) == "x_1/x_2"


def test_a_trained_network_has_the_law_of_its_data() -> None:
    x = uniform(200, 1, low=1.0, high=2.0)
    model = KAN([1, 1], grid=3, seed=0, auto_save=False).double()
    model.fit((x, x**2), opt="LM", steps=60, progress=False)
    law = model.discover(time_limit=60)[0]
    assert law.verdict == "exact" and str(law.formula) == "x_1**2"


def test_variables_are_those_before_the_normalisation() -> None:
    model, x = compiled(), uniform(200, 2, low=1.0, high=2.0)
    model.set_labels(normalizer=([1.0, 0.0], [2.0, 1.0]), output_normalizer=([0.0], [4.0]))
    formula = model.discover(x, time_limit=100)[0].formula
    a, b = sorted(formula.free_symbols, key=str)
    assert sympy.simplify(formula - 2 * (a - 1) * sympy.exp(-b)) == 0


def test_one_of_several_outputs() -> None:
    model, x = KAN([1, 2], auto_save=False, seed=0).double(), uniform(200, 1, low=1.0, high=2.0)
    y = torch.cat([x**2, 1 / x], 1)
    assert [str(model.discover(x, y, output=i, time_limit=60)[0].formula) for i in (0, 1)] == ["x_1**2", "1/x_1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "the model has 2 outputs, and a law is for one: choose with output=0 ... output=1"),
        ({"output": 2}, "output must be an integer from 0 to 1; got 2"),
        ({"output": True}, "output must be an integer from 0 to 1; got True"),
        ({"output": 0}, "the model hasn't seen any data yet"),
        ({"output": 0, "X": torch.rand(50, 3)}, r"the input must have the shape \(number of samples, 1\)"),
    ],
)
def test_what_cannot_work(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KAN([1, 2], auto_save=False).discover(**arguments)
