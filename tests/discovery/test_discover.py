"""From data to the law."""

import tracemalloc
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kan
from kan.discovery import discover as module
from kan.discovery.discover import Discovery, Law, discover
from kan.discovery.laws.candidates import Evaluator, complexity
from kan.discovery.laws.network_shapes import shapes
from kan.discovery.laws.search import corrected
from kan.discovery.laws.search_state import SearchState, SearchTask
from kan.discovery.reduction.views import View, symbols_of
from kan.symbolic.evaluation import evaluate_expression
from tests.data import uniform


@pytest.mark.parametrize(
    ("inputs", "law", "expected"),
    [
        (1, lambda x: torch.exp(2 * x[:, 0]), "exp(2*x_1)"),
        (2, lambda x: x[:, 0] / x[:, 1], "x_1/x_2"),
        (2, lambda x: 1 + x[:, 0] * torch.sin(x[:, 1]), "x_1*sin(x_2) + 1"),
        (2, lambda x: torch.sqrt(1 + x[:, 0] ** 2 + x[:, 1] ** 2), "sqrt(x_1**2 + x_2**2 + 1)"),
        (3, lambda x: x[:, 0] * torch.exp(-x[:, 1] / x[:, 2]), "x_1*exp(-x_2/x_3)"),
        (4, lambda x: x[:, 0] / ((x[:, 1] - x[:, 2]) ** 2 + x[:, 3] ** 2), "x_1/((x_2 - x_3)**2 + x_4**2)"),
    ],
)
def test_laws_are_found_exactly(inputs: int, law: Any, expected: str) -> None:
    x = uniform(300, inputs, low=1.0, high=3.0)
    before = torch.random.get_rng_state()
    found = kan.discover(x, law(x), time_limit=120)
    assert found.stopped == "exact" and found[0].verdict == "exact" and not found[0].constants
    symbols = {f"x_{i + 1}": symbol for i, symbol in enumerate(found.variables)}
    assert sympy.simplify(found[0].formula - sympy.sympify(expected, locals=symbols)) == 0
    assert max(found[0].held_out, found[0].extrapolated) < 1e-12 and torch.equal(torch.random.get_rng_state(), before)
    assert found[0] in found.front and str(found[0].verdict) in str(found)


@pytest.mark.parametrize(
    ("inputs", "law"),
    [
        (5, lambda x: torch.exp(-x[:, 0]) * torch.sin(2 * x[:, 1]) + x[:, 2] * torch.cos(x[:, 3]) + torch.tanh(x[:, 4])),
        (3, lambda x: (2 - x[:, 0]) * torch.sin(2 * x[:, 1]) + x[:, 0] * torch.exp(-x[:, 2])),
        (3, lambda x: 1 / ((x[:, 1] ** 2 - x[:, 0] ** 2) ** 2 + (x[:, 2] * x[:, 0]) ** 2 + 1)),
    ],
)
def test_laws_that_fall_apart_are_found(inputs: int, law: Any) -> None:
    x = uniform(900, inputs, low=1.0, high=3.0)
    found = discover(x, law(x), time_limit=120)
    assert found[0].verdict == "exact" and found[0].extrapolated < 1e-11


@pytest.mark.parametrize(("first", "second"), [("x_1/x_2", "x_1/x_2 + sin(x_1*x_2/x_3)/8"), ("x_1*x_2*x_3", "x_1*x_2*x_3*exp(x_3)")])
def test_what_a_candidate_leaves_is_looked_for(first: str, second: str) -> None:
    x = uniform(600, 3, low=1.0, high=3.0)
    symbols = symbols_of("x", x)
    wanted, start = (
        sympy.sympify(text, locals={f"x_{i}": symbol for i, symbol in enumerate(symbols, start=1)}) for text in (second, first)
    )
    y = evaluate_expression(wanted, dict(zip(symbols, x.unbind(1), strict=True)), x).reshape(-1, 1)
    held = torch.arange(600) % 5 == 2
    root = View(x[~held], y[~held], x[held], y[held], symbols, lambda e: e)
    evaluator = Evaluator(root, (root.held_x, root.held_y), {s: s for s in symbols}, float(y.square().mean().sqrt()), None, lambda: False)
    state = SearchState(SearchTask(root, evaluator, None, 0, lambda: False, lambda: 1e3, lambda step, best: None))
    law = evaluator.candidate(start, 1.0)
    assert law is not None and not law.settled
    for proposal in corrected(state, law, root, divided="exp" in second):
        state.add(proposal)
    exact = [law for law in state.laws if law.settled]
    assert exact and sympy.simplify(exact[0].formula - wanted) == 0


def test_the_progress_bar_is_on_standard_error_and_may_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    x = uniform(300, 1, low=1.0, high=3.0)
    discover(x, torch.exp(2 * x), time_limit=50, progress=False)
    assert capsys.readouterr() == ("", "")
    discover(x, torch.exp(2 * x), time_limit=50)
    out, err = capsys.readouterr()
    assert out == "" and "of 50 s" in err and "exp(2*x_1)" in err and "curves" in err


def test_numpy_names_and_constants_that_are_not_simple() -> None:
    x = uniform(300, 1, low=1.0, high=3.0).numpy()
    found = discover(x, 1.2345 * np.log(x[:, 0]), variables=["I"], library=["x", "log"])[0]
    assert found.verdict == "exact" and str(found.formula.free_symbols) == "{I}"
    (constant,) = found.constants
    assert abs(constant.value - 1.2345) < 1e-9 and constant.error < 1e-9


def test_the_same_seed_finds_the_same() -> None:
    x = uniform(300, 1, low=1.0, high=3.0)
    one, two = (discover(x, torch.sin(3 * x), seed=3) for _ in range(2))
    assert [str(law) for law in one] == [str(law) for law in two]


def test_no_time_and_interrupts_give_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    x = uniform(300, 1, low=1.0, high=3.0)
    none = discover(x, torch.exp(x), time_limit=1e-9)
    assert none[0].verdict == "approximate" and none.stopped == "time limit"
    assert {len(law.formula.free_symbols) for law in none if law.formula is not None} == {0, 1}  # the mean and a straight line

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "search", interrupted)
    assert discover(x, torch.exp(x)).stopped == "interrupted"


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (torch.rand(50, 2), torch.rand(49), {}, r"X must have the shape \(N, n\) and y .*; got \(50, 2\) and \(49,\)"),
        (torch.rand(50), torch.rand(50), {}, r"got \(50,\). For one variable write X\[:, None\]"),
        (torch.rand(2, 1), torch.rand(2), {}, r"in 3 different rows of X and y at least; got 2 row\(s\), 2 of them different"),
        (torch.arange(2.0).repeat(50)[:, None], torch.arange(2.0).repeat(50), {}, r"got 100 row\(s\), 2 of them different"),
        (torch.arange(2.0).repeat(900)[:, None], torch.arange(2.0).repeat(900), {}, r"got 1800 row\(s\), 2 of them different"),
        (torch.rand(50, 2), torch.ones(50), {}, "y is constant, 1.0: there is no law to find"),
        (torch.tensor([[float("nan")]] * 50), torch.rand(50), {}, r"X must be finite; it holds NaN or infinity in column\(s\) \[0\]"),
        (torch.rand(50, 2), torch.rand(50), {"variables": ["a"]}, "variables must be 2 different names"),
        (torch.rand(50, 2), torch.rand(50), {"variables": ["a", "a"]}, "variables must be 2 different names"),
        (torch.rand(50, 1), torch.rand(50), {"library": ["sine"]}, "sine"),
        (torch.rand(50, 1), torch.rand(50), {"library": []}, "lib is empty"),
    ],
)
def test_bad_input(x: Tensor, y: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        discover(x, y, **options)


def test_complex_numbers() -> None:
    with pytest.raises(TypeError, match="real numbers"):
        discover(torch.rand(50, 1), torch.rand(50, dtype=torch.complex64))


def test_the_front_has_no_law_that_a_simpler_one_is_as_good_as() -> None:
    x = sympy.Symbol("x")
    laws = [Law(x**n, "approximate", error, error, error, complexity(x**n) + n, (), error) for n, error in ((1, 0.5), (2, 0.7), (3, 0.1))]
    front = Discovery(laws, [x], 0.0, "all shapes").front
    assert [law.formula for law in front] == [x, x**3]


@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
def test_every_shape_can_be_made_and_uses_all_inputs(inputs: int) -> None:
    x = uniform(40, inputs, low=1.0, high=3.0).requires_grad_()
    names = []
    for shape in shapes(inputs):
        network = shape.network(0)
        network.update_grid(x.detach())
        for layer in network.numeric_layers:
            layer.coef.data.normal_(generator=torch.Generator().manual_seed(1))
        (gradient,) = torch.autograd.grad(network.trace(x).output.sum(), x)
        assert bool((gradient != 0).any(0).all()), shape.name
        names.append(shape.name)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("inputs", "law", "expected"),
    [
        (2, lambda x: 1 + x[:, 0] * torch.sin(3 * x[:, 1]), "x_1*sin(3*x_2) + 1"),  # no reduction says so
        (2, lambda x: (3.5 - x[:, 0]) / torch.sqrt(10 - x[:, 1] ** 2), "(7/2 - x_1)/sqrt(10 - x_2**2)"),
        (3, lambda x: x[:, 2] * torch.sqrt(x[:, 0] ** 2 + x[:, 1] ** 2), "x_3*sqrt(x_1**2 + x_2**2)"),  # errors of z = x_1/x_2 differ
        (3, lambda x: x[:, 0] * (1 + x[:, 1] * torch.cos(4 * x[:, 2])), "x_1*(x_2*cos(4*x_3) + 1)"),  # polynomials do not see noise
    ],
)
def test_laws_are_found_in_noise(inputs: int, law: Any, expected: str) -> None:
    x = uniform(1000, inputs, low=1.0, high=3.0)
    y = law(x)
    errors = torch.randn(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = discover(x, y + 0.01 * y.square().mean().sqrt() * errors, time_limit=120)[0]
    assert found.verdict == "within noise" and found.formula is not None
    truth = sympy.sympify(expected)
    # The numbers are those of the law, or so near that they cannot be told from them.
    beyond = 0.5 + 3 * torch.rand(200, inputs, generator=torch.Generator().manual_seed(2), dtype=torch.float64).clamp(max=0.85)
    columns = {f"x_{i + 1}": column for i, column in enumerate(beyond.unbind(1))}
    one, other = (evaluate_expression(f, {s: columns[str(s)] for s in f.free_symbols}, beyond[:, 0]) for f in (truth, found.formula))
    assert float((one - other).square().mean().sqrt()) < 0.004 * float(one.square().mean().sqrt())
    assert complexity(found.formula) <= 1.5 * complexity(truth)


def test_noise_that_is_told_is_believed() -> None:
    x = uniform(400, 3, low=1.0, high=3.0)
    y = x[:, 0] * (1 + x[:, 1] * torch.cos(4 * x[:, 2]))  # too few samples for polynomials to see the noise
    noise = 0.02 * float(y.square().mean().sqrt())
    errors = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = discover(x, y + noise * errors, noise=noise, time_limit=120)
    assert found.stopped == "within noise" and str(found[0].formula) == "x_1*x_2*cos(4*x_3) + x_1"
    assert found.seconds < 60


def test_the_law_of_kepler_is_found_in_eight_planets() -> None:
    distances = [[0.387098], [0.723332], [1.0], [1.523679], [5.2044], [9.5826], [19.2184], [30.07]]  # as multiples of the earth's
    years = [0.240846, 0.615198, 1.0, 1.880816, 11.862, 29.4571, 84.0205, 164.8]
    found = discover(distances, years, variables=["a"], noise=0.1, library=["x", "x^2", "x^1.5"], time_limit=120)
    assert str(found[0].formula) == "a**(3/2)"


LABELS = {
    "noise": lambda x, other: other,
    "line": lambda x, other: 2 * x[:, 0] + 1,
    "square": lambda x, other: x[:, 0] ** 2,
    "product": lambda x, other: x.prod(1),
    "integers": lambda x, other: (4 * other).floor(),
    "two values": lambda x, other: torch.arange(len(x)) % 2.0,
    "one that differs": lambda x, other: (torch.arange(len(x)) == 1).double(),
}
COLUMNS = {
    "any": lambda x: x,
    "of both signs": lambda x: x - 0.5,
    "integers": lambda x: (3 * x).floor(),
    "nearly the same": lambda x: x[:, :1] * (1 + 1e-9 * x),
    "duplicates": lambda x: x[:, :1].expand_as(x),
    "nearly constant": lambda x: torch.where((torch.arange(len(x)) == 0)[:, None], x, 1.0),
}


@pytest.mark.filterwarnings("ignore:.*left out of the search")
@given(
    st.one_of(st.tuples(st.integers(3, 20), st.integers(1, 20)), st.sampled_from([(50, 10), (100, 20), (300, 50)])),
    st.sampled_from(list(LABELS)), st.sampled_from(list(COLUMNS)), st.integers(10, 200), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_few_rows_of_anything_end_in_no_error(shape: tuple[int, int], labels: str, columns: str, looks: int, seed: int) -> None:
    x = COLUMNS[columns](torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    y = LABELS[labels](x, torch.rand(len(x), generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64))
    clock = count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))  # a second passes with every look
        try:
            found = discover(x, y, time_limit=looks, progress=False)
        except ValueError as error:
            assert any(said in str(error) for said in ("different rows", "y is constant", "all columns of X are constant"))
            return
    assert found.stopped in ("exact", "untested", "time limit", "all shapes")
    assert next(clock) < looks + 500  # it ends soon when the time is up


@pytest.mark.parametrize("looks", [1, 10, 60])
@pytest.mark.parametrize("low", [1.0, -1.0])
def test_many_rows_and_columns_end_soon_when_the_time_is_up(looks: int, low: float) -> None:
    x = low + 2 * torch.rand(9000, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x[:, 0] * torch.exp(-x[:, 1]) + x[:, 2] * torch.sin(3 * x[:, 3])
    clock = count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
        tracemalloc.start()
        found = discover(x, y, time_limit=looks, progress=False)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert found.stopped == "time limit" and next(clock) < looks + 300
    assert peak < 300e6


def test_labels_of_which_many_are_zero() -> None:
    x = uniform(500, 2, low=1.0, high=3.0)
    errors = 0.02 * torch.randn(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = discover(x, torch.relu(x[:, 0] - x[:, 1] / 2 - 0.5 + errors), time_limit=10)
    assert len(found) > 0 and found[0].held_out < 0.1
