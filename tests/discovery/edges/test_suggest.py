"""Suggestions look at an edge and change nothing."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN, SYMBOLIC_LIB, fit_params
from kan.discovery.edges.suggest import Candidate, DescriptionLength, Scoring, candidates, fitted_candidates, suggest_symbolic, table
from tests.data import uniform
from tests.edges import put

pytestmark = pytest.mark.usefixtures("float64")

LIB = ["x", "x^2", "x^3", "exp", "sin", "tanh"]


def seen(**settings: Any) -> KAN:
    model = KAN([2, 3, 1], grid=20, auto_save=False, **settings)
    model(uniform(300, 2))
    return model


def everything(model: KAN) -> tuple[dict[str, Tensor], Any]:
    return {name: value.clone() for name, value in model.state_dict().items()}, [layer.funs_name for layer in model.symbolic_fun]


def assert_same(model: KAN, before: tuple[dict[str, Tensor], Any]) -> None:
    state, names = everything(model)
    assert names == before[1]
    assert state.keys() == before[0].keys() and all(torch.equal(state[name], value) for name, value in before[0].items())


CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": lambda x: 0.8 * torch.sin(4 * x + 0.5),
    "x^2": lambda x: 2 * (x + 0.1) ** 2 - 1,
    "exp": lambda x: 0.3 * torch.exp(2 * x),
    "x": lambda x: 0.4 - 1.7 * x,
    "tanh": lambda x: torch.tanh(3 * x - 0.5),
}


@pytest.mark.parametrize("name", CURVES)
def test_finds_the_function_and_changes_nothing(name: str) -> None:
    model = seen()
    put(model, 0, 1, 2, CURVES[name])
    model.set_mode(0, 1, 0, "sn", 0.1)
    before = everything(model)
    best, entry, r2, complexity = model.suggest_symbolic(0, 1, 2, lib=LIB, verbose=False)
    assert best == name and entry is SYMBOLIC_LIB[name] and complexity == SYMBOLIC_LIB[name].complexity
    assert 1 - r2 < 1e-6
    assert_same(model, before)


@pytest.mark.parametrize("mode", ["s", "sn", "none"])
def test_symbolic_and_dead_edges_are_left_alone_too(mode: str) -> None:
    model = seen()
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    model.fix_symbolic(1, 1, 0, torch.sinc)
    model.set_mode(0, 0, 0, mode, 0.3)
    before = everything(model)
    best, _, r2, _ = model.suggest_symbolic(0, 0, 0, lib=LIB, verbose=False)
    assert math.isfinite(r2)
    if mode == "s":
        assert best == "sin" and 1 - r2 < 1e-9
    assert_same(model, before)


def test_ranks_by_fit_and_simplicity() -> None:
    model = seen()
    put(model, 0, 0, 0, CURVES["sin"])
    for weight in (0.0, 0.5, 0.8, 1.0):
        ranked = candidates(model.trace(), [(0, 0, 0)], LIB, scoring=Scoring(weight))[0]
        assert sorted(c.name for c in ranked) == sorted(LIB)
        for c in ranked:
            assert c.complexity_loss == c.complexity == SYMBOLIC_LIB[c.name].complexity
            assert c.r2_loss == pytest.approx(math.log2(1 + 1e-5 - c.r2))
            assert c.total == pytest.approx(weight * c.complexity_loss + (1 - weight) * c.r2_loss)
        totals = [c.total for c in ranked]
        assert min(totals) == pytest.approx(totals[0], abs=0.2 * (1 - weight) + 1e-12)
        assert totals[1:] == sorted(totals[1:])
    assert ranked[0].name == "x", "simplicity alone"


def test_fit_alone_decides_with_weight_zero() -> None:
    model = seen()
    put(model, 0, 0, 0, lambda x: x + 0.02 * torch.sin(6 * x))
    assert model.suggest_symbolic(0, 0, 0, lib=["x", "x^3"], verbose=False, weight_simple=0.8)[0] == "x"
    assert model.suggest_symbolic(0, 0, 0, lib=["x", "tanh", "sin"], verbose=False, weight_simple=0.0)[0] != "x"


def test_loss_functions_of_ones_own() -> None:
    model = seen()
    put(model, 0, 0, 0, CURVES["sin"])
    best = model.suggest_symbolic(0, 0, 0, lib=LIB, verbose=False, c_loss_fun=lambda c: -100 * c)
    assert SYMBOLIC_LIB[best[0]].complexity == 3
    assert model.suggest_symbolic(0, 0, 0, lib=LIB, verbose=False, r2_loss_fun=lambda r2: 0.0)[0] == "x"


def test_the_zero_function_wins_when_nothing_fits() -> None:
    model = seen()
    put(model, 0, 0, 0, lambda x: torch.sin(60 * x))
    best, _, r2, complexity = model.suggest_symbolic(0, 0, 0, lib=["0", "x", "x^2"], verbose=False)
    assert (best, complexity) == ("0", 0) and r2 == 0


def test_prints_a_table_of_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    model = seen()
    put(model, 0, 0, 0, CURVES["exp"])
    model.suggest_symbolic(0, 0, 0, lib=LIB, topk=3)
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == "function fitting r2 r2 loss complexity complexity loss total loss"
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[1].split()[:3] == ["0", "exp", "1.000000"] and lines[3].split()[0] == "2"
    model.suggest_symbolic(0, 0, 0, lib=LIB, verbose=False)
    assert capsys.readouterr().out == ""


def test_table_of_one_candidate() -> None:
    model = seen()
    candidate = suggest_symbolic(model, (0, 0, 0), lib=["x"], verbose=False)
    assert table([candidate]).splitlines()[1].split()[:2] == ["0", "x"]


def test_a_library_of_ones_own() -> None:
    model = seen()
    put(model, 0, 0, 0, CURVES["sin"])
    mine = {"mysin": SYMBOLIC_LIB["sin"], "line": SYMBOLIC_LIB["x"]}
    best, entry, _, _ = model.suggest_symbolic(0, 0, 0, lib=mine, verbose=False)
    assert best == "mysin" and entry.torch_fun is torch.sin


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_bad_weight(weight: float) -> None:
    with pytest.raises(ValueError, match=f"weight_simple must be between 0 and 1; got {weight}"):
        seen().suggest_symbolic(0, 0, 0, lib=LIB, weight_simple=weight)


def test_unknown_function_in_the_library() -> None:
    with pytest.raises(ValueError, match="unknown symbolic function 'sine'; did you mean 'sin'"):
        seen().suggest_symbolic(0, 0, 0, lib=["x", "sine"])


def test_needs_data() -> None:
    with pytest.raises(ValueError, match="hasn't seen any data yet"):
        KAN([2, 1], auto_save=False).suggest_symbolic(0, 0, 0)


def test_the_table_is_set_as_pykans() -> None:
    # What pykan 0.2.8 printed of these numbers.
    numbers = [
        ("exp", 0.999984, -15.225964, 2, -1.445193), ("x^2", 0.999963, -14.367419, 2, -1.273484),
        ("sin", 0.999949, -14.008801, 2, -1.201760), ("x", 0.995983, -7.955995, 1, -0.791199),
    ]  # fmt: skip
    rows = [Candidate(name, SYMBOLIC_LIB[name], torch.zeros(4), r2, loss, c, c, total) for name, r2, loss, c, total in numbers]
    assert table(rows) == (
        "  function  fitting r2    r2 loss  complexity  complexity loss  total loss\n"
        "0      exp    0.999984 -15.225964           2                2   -1.445193\n"
        "1      x^2    0.999963 -14.367419           2                2   -1.273484\n"
        "2      sin    0.999949 -14.008801           2                2   -1.201760\n"
        "3        x    0.995983  -7.955995           1                1   -0.791199"
    )


# Description length


def curve(fun: Callable[[Tensor], Tensor], noise: float = 0.0, n: int = 400, low: float = -1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = low + (1 - low) * torch.rand(n, 1, generator=generator)
    y = fun(x)
    return x, y + noise * y.std() * torch.randn(n, 1, generator=generator)


@pytest.mark.parametrize(
    ("fun", "name"),
    [
        (lambda x: torch.sin(31.4 * x), "sin"), (lambda x: 1e-3 * torch.sin(3 * x), "sin"), (lambda x: torch.atan(3 * x), "arctan"),
        (lambda x: torch.asin(0.9 * x), "arcsin"), (lambda x: torch.cosh(2 * x + 0.3), "cosh"), (lambda x: (x + 1.2) ** 0.7, "x^0.7"),
        (lambda x: x**5 - x**2, "poly("), (lambda x: 2 * x - 1, "x"), (lambda x: x * torch.sin(9 * x), "x*sin(x)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_description_length_names_the_function(fun: Callable[[Tensor], Tensor], name: str, noise: float) -> None:
    if noise and name in ("arcsin", "x^0.7"):
        pytest.skip("400 samples with that noise do not tell it")
    best = fitted_candidates(*curve(fun, noise), "extended", scoring=DescriptionLength())[0][0]
    assert best.name.startswith(name)
    assert 1 - best.r2 < max(4 * noise**2, 1e-15)


def test_ties_are_told() -> None:
    x, y = curve(lambda x: torch.exp(0.1 * x), 0.3)
    ranked = fitted_candidates(x, y, scoring=DescriptionLength())[0]
    assert {c.name for c in ranked if c.tied} >= {"x", "exp", "x^2"} and ranked[0].name == "x"
    assert [c.bits for c in ranked] == pytest.approx(sorted(c.bits for c in ranked), abs=0.01)
    x, y = curve(lambda x: torch.sin(9 * x), 0.05)
    assert {c.name for c in fitted_candidates(x, y, scoring=DescriptionLength())[0] if c.tied} == {"sin", "cos"}


def test_noise_that_is_known_makes_good_fits_equal() -> None:
    x, y = curve(lambda x: x + 0.01 * x**3)
    assert fitted_candidates(x, y, "extended", scoring=DescriptionLength())[0][0].name != "x"
    assert fitted_candidates(x, y, "extended", scoring=DescriptionLength(noise=0.02))[0][0].name == "x"
    with pytest.raises(ValueError, match="noise must be a standard deviation, at least 0; got -1"):
        DescriptionLength(noise=-1)


def test_scores_do_not_depend_on_units() -> None:
    x, y = curve(lambda x: torch.tanh(3 * x), 0.02)
    first, second = (fitted_candidates(1e3 * k * x, y / k, scoring=DescriptionLength())[0] for k in (1.0, 1e5))
    assert first[0].name == second[0].name == "tanh"
    assert second[0].rss == pytest.approx(first[0].rss / 1e10, rel=1e-6)
    assert second[0].bits == pytest.approx(first[0].bits, rel=1e-9)


def test_the_extended_library_in_a_network(tmp_path: Any) -> None:
    model = seen()
    put(model, 0, 0, 0, lambda x: torch.exp(-x) * torch.sin(5 * x))
    before = everything(model)
    best = suggest_symbolic(model, (0, 0, 0), lib="extended", verbose=False, scoring=DescriptionLength(noise=1e-3))
    assert float(best.name.removeprefix("damped(").rstrip(")")) == pytest.approx(-0.2, abs=1e-4) and 1 - best.r2 < 1e-5
    assert_same(model, before)
    fit_params(uniform(300, 2)[:, 0], uniform(300, 2)[:, 1], torch.sin, verbose=False)
    assert_same(model, before)
    model.fix_symbolic(0, 0, 0, best.name, fit_params_bool=False)
    twin = KAN.from_state_dict(model.state_dict(), auto_save=False)
    assert twin.symbolic_fun[0].funs_name[0][0] == best.name
    torch.testing.assert_close(twin(uniform(300, 2)), model(uniform(300, 2)))


def test_many_edges_at_once_are_as_one() -> None:
    model = seen()
    model.set_mode(0, 0, 0, "n")
    put(model, 0, 0, 0, CURVES["sin"])
    put(model, 0, 1, 2, CURVES["exp"])
    edges = [(0, 0, 0), (0, 1, 2)]
    together = candidates(model.trace(), edges, LIB)
    assert [r[0].name for r in together] == ["sin", "exp"]
    for edge, found in zip(edges, together, strict=True):
        alone = candidates(model.trace(), [edge], LIB)[0]
        assert [c.name for c in alone] == [c.name for c in found]
        assert [c.r2 for c in alone] == pytest.approx([c.r2 for c in found], abs=1e-9)
