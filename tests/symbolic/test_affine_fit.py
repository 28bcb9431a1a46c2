"""The affine fit: exact recovery, hard curves, a slow reference, pykan's wrapper."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from torch import Tensor

from kan.symbolic import SYMBOLIC_LIB, SymbolicFunction, fit_affine, fit_params, lookup, resolve_library

pytestmark = pytest.mark.filterwarnings("error")

# canonical (a, b) for x in [-1, 1], away from singularities and from the ends of domains
TRUTH = {
    "x": (1, 0), "x^2": (1, 0.3), "x^3": (1, -0.4), "x^4": (1, 0.2), "x^5": (1, 0.3), "1/x": (1, 1.5), "1/x^2": (1, -2),
    "1/x^3": (1, 1.5), "1/x^4": (1, 1.7), "1/x^5": (1, -1.5), "sqrt": (-1, 1.2), "x^0.5": (1, 1.2), "x^1.5": (-1, 1.3),
    "1/sqrt(x)": (1, 1.2), "1/x^0.5": (-1, 1.4), "exp": (-1.7, 0), "log": (-1, 1.1), "abs": (1, 0.3), "sin": (3, 1),
    "cos": (4, -1), "tan": (1.2, 0.2), "tanh": (2, 0.5), "arcsin": (0.6, 0.3), "arccos": (0.7, -0.2),
    "arctan": (2, -1), "arctanh": (0.6, 0.3), "gaussian": (1.5, 0.4),
}  # fmt: skip
SMOOTH = sorted(TRUTH)
ALL = list(SYMBOLIC_LIB.values())


def sample(n: int = 400, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, generator=generator, dtype=torch.float64) * 2 - 1


def evaluate(row: SymbolicFunction, affine: Tensor, x: Tensor) -> Tensor:
    a, b, c, d = affine.unbind(-1)
    return c * row.torch_fun(a * x + b) + d


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("c", [2.5, -0.3])
def test_recovers_known_parameters(name: str, c: float) -> None:
    row, x = lookup(name), sample()
    truth = torch.tensor([*TRUTH[name], c, -0.7], dtype=torch.float64)
    if name == "x":
        truth[2:] = torch.tensor([c, -0.7])
    fit = fit_affine(x, evaluate(row, truth, x), [row])
    assert 1 - fit.r2.item() < 1e-13
    torch.testing.assert_close(fit.affine[0, 0], truth, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [("sin", 9.9, 3.0), ("cos", -10.0, 10.0), ("tanh", 9.0, -9.5), ("tanh", 0.1, 0.05), ("gaussian", 9.7, 9.9),
     ("gaussian", 0.2, 0.3), ("exp", 9.3, -10.0), ("log", 9.9, 9.95), ("arctan", 10.0, -10.0), ("arctanh", 0.1, 0.8),
     ("x^3", -8.0, 9.0), ("1/x", -8.0, 9.0), ("abs", 7.0, -2.0), ("cos", 0.1, 0.1)],
)  # fmt: skip
def test_whole_range_of_parameters_is_reached(name: str, a: float, b: float) -> None:
    row, x = lookup(name), sample(1000)
    y = evaluate(row, torch.tensor([a, b, 0.3, 1.0], dtype=torch.float64), x)
    fit = fit_affine(x, y, [row])
    assert 1 - fit.r2.item() < 1e-13
    torch.testing.assert_close(evaluate(row, fit.affine[0, 0], x), y, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["arcsin", "arccos", "sqrt", "x^1.5"])
@pytest.mark.parametrize("u_low", [-1.0, 0.4])
def test_curve_that_reaches_the_end_of_the_domain(name: str, u_low: float) -> None:
    x = torch.linspace(3, 5, 500, dtype=torch.float64)[:, None]
    u = torch.lerp(torch.tensor(u_low, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64), (x - 3) / 2)
    y = lookup(name).torch_fun(u if name.startswith("arc") else u - u_low)
    assert 1 - fit_affine(x, y, [lookup(name)]).r2.item() < 1e-12


@pytest.mark.parametrize(("low", "high"), [(0.0, 1e-3), (0.0, 100.0), (1000.0, 1001.0), (-1e4, 1e4)])
@pytest.mark.parametrize("name", ["x", "sin", "tanh", "gaussian", "exp", "arctan", "arctanh", "tan", "x^3"])
def test_units_of_x_do_not_matter(name: str, low: float, high: float) -> None:
    z = torch.linspace(-1, 1, 500, dtype=torch.float64)[:, None]
    y = lookup(name).torch_fun(0.8 * z + 0.1)
    assert 1 - fit_affine((low + high) / 2 + (high - low) / 2 * z, y, [lookup(name)]).r2.item() < 1e-13


@pytest.mark.parametrize("location", [-0.6, 0.001, 0.77])
def test_steps(location: float) -> None:
    x = sample(1000)
    y = 3 * torch.sign(x - location) + 1
    fit = fit_affine(x, y, [lookup("sgn")])
    assert fit.r2.item() > 1 - 1e-13
    torch.testing.assert_close(evaluate(lookup("sgn"), fit.affine[0, 0], x), y)


def test_small_amplitude_is_no_disadvantage() -> None:
    x = sample()
    for amplitude in (1e-3, 1e-9, 1e6):
        fit = fit_affine(x, amplitude * torch.sin(3 * x), [lookup("sin")])
        assert 1 - fit.r2.item() < 1e-13
        assert fit.affine[0, 0, 2].item() == pytest.approx(amplitude, rel=1e-9)


def test_beyond_the_ranges() -> None:
    x = sample(1000)
    for name, a, b in (("sin", 12.0, 0.0), ("exp", -15.0, 0.0), ("tanh", 25.0, -5.0), ("gaussian", 20.0, -4.0)):
        y = lookup(name).torch_fun(a * x + b)
        fit = fit_affine(x, y, [lookup(name)])
        assert 1 - fit.r2.item() < 1e-13
        assert fit.affine[0, 0, :2].tolist() == pytest.approx([a, b], abs=1e-8)
    fit = fit_affine(x, torch.sin(31.4 * x), [lookup("sin")], a_range=(-40, 40))
    assert 1 - fit.r2.item() < 1e-13


def test_constant_curve_and_constant_abscissa() -> None:
    x = sample()
    fit = fit_affine(x, torch.full_like(x, 1.7), ALL)
    torch.testing.assert_close(fit.r2, torch.zeros(len(ALL), 1, dtype=torch.float64))
    for row, affine in zip(ALL, fit.affine[:, 0].tolist(), strict=True):
        a, b = (1.0, 0.0) if row.torch_fun(x).isfinite().all() else (0.0, 0.5)
        assert affine == [a, b, 0.0, pytest.approx(1.7)]
    fit = fit_affine(torch.full_like(x, 2.0), x, ALL)
    assert (fit.r2 == 0).all()
    torch.testing.assert_close(fit.affine[:, 0, 3], x.mean().expand(len(ALL)))


def test_zero_and_identity_in_closed_form() -> None:
    x = sample()
    y = 2 * x + 1 + 0.3 * torch.sin(9 * x)
    fit = fit_affine(x, y, [lookup("0"), lookup("x")])
    slope, intercept = np.polyfit(x[:, 0].numpy(), y[:, 0].numpy(), 1)
    torch.testing.assert_close(fit.affine[0, 0], torch.tensor([1.0, 0, 0, y.mean()], dtype=torch.float64))
    torch.testing.assert_close(fit.affine[1, 0], torch.tensor([1.0, 0, slope, intercept], dtype=torch.float64))
    assert fit.r2[0, 0] == 0


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(2, 40),
    kind=st.sampled_from(["noise", "line", "spike", "two values", "huge", "far"]),
    seed=st.integers(0, 1000),
)
def test_result_is_finite_and_r2_is_true_whatever_the_data(n: int, kind: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    y = {
        "noise": noise, "line": 3 * x - 1, "spike": 1 / (x - 0.1), "two values": (x > 0).double(), "huge": 1e12 * noise,
        "far": noise + 1e6,
    }[kind]  # fmt: skip
    fit = fit_affine(x + (1e5 if kind == "far" else 0), y, ALL)
    assert fit.affine.isfinite().all()
    assert ((fit.r2 >= 0) & (fit.r2 <= 1)).all()
    assert not fit.affine.requires_grad
    for k, row in enumerate(ALL):
        value = evaluate(row, fit.affine[k], x + (1e5 if kind == "far" else 0))
        total = (y - y.mean(0)).square().sum(0)
        r2 = torch.where(total > 0, 1 - (y - value).square().sum(0) / total, 0.0)
        torch.testing.assert_close(r2, fit.r2[k], rtol=0, atol=1e-6)


def test_masked_domain_leaves_finite_candidates_only() -> None:
    x = torch.linspace(-1, 1, 300, dtype=torch.float64)[:, None]
    rows = [lookup(name) for name in ("log", "sqrt", "x^1.5", "1/sqrt(x)", "arcsin", "arccos", "arctanh")]
    fit = fit_affine(x, torch.sin(5 * x) + x**2, rows)
    assert (fit.r2 > 0).all()
    for row, affine in zip(rows, fit.affine[:, 0], strict=True):
        assert evaluate(row, affine, x).isfinite().all()


def test_curves_do_not_see_each_other() -> None:
    x = torch.cat([sample(seed=k) * (k + 1) for k in range(3)], dim=1)
    y = torch.cat([torch.sin(3 * x[:, :1]), torch.exp(x[:, 1:2]), x[:, 2:] ** 2], dim=1)
    rows = [lookup(name) for name in ("sin", "exp", "x^2", "sgn")]
    together = fit_affine(x, y, rows)
    for k in range(3):
        alone = fit_affine(x[:, [k]], y[:, [k]], rows)
        torch.testing.assert_close(together.r2[:, [k]], alone.r2, rtol=0, atol=1e-8)
    assert together.r2.argmax(0).tolist() == [0, 1, 2]


def test_many_samples_agree_with_few() -> None:
    x = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[:, None]
    fit = fit_affine(x, 0.5 * torch.tanh(3 * x - 1) + 2, [lookup("tanh")])
    torch.testing.assert_close(fit.affine[0, 0], torch.tensor([3.0, -1.0, 0.5, 2.0], dtype=torch.float64))


def test_no_side_effects() -> None:
    x = sample().requires_grad_()
    y = torch.sin(3 * x)
    state, copy = torch.random.get_rng_state(), (x.detach().clone(), y.detach().clone())
    first = fit_affine(x, y, ALL)
    with torch.inference_mode():
        second = fit_affine(x, y, ALL)
    torch.testing.assert_close(first.affine, second.affine, rtol=0, atol=0)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(copy[0], x.detach())
    assert torch.equal(copy[1], y.detach())
    assert x.grad is None


@pytest.mark.parametrize("name", ["tanh", "gaussian", "sin"])
def test_agrees_with_a_dense_grid_and_scipy(name: str) -> None:
    x = sample(200)
    generator = torch.Generator().manual_seed(5)
    y = torch.exp(torch.sin(2 * x)) + 0.05 * torch.randn(200, 1, generator=generator, dtype=torch.float64)
    row = lookup(name)
    xs, ys = x[:, 0].numpy(), y[:, 0].numpy()

    def f(u: np.ndarray) -> np.ndarray:
        return row.torch_fun(torch.as_tensor(u)).numpy()

    # keep to 100 starts: the best of a 41 x 41 grid, scored by ordinary least squares
    scored = []
    for a in np.linspace(0.25, 10, 40):
        for b in np.linspace(-10, 10, 41):
            design = np.stack([f(a * xs + b), np.ones_like(xs)], axis=1)
            (c, d), residual, rank, _ = np.linalg.lstsq(design, ys, rcond=None)
            if rank == 2:
                scored.append((residual[0], (a, b, c, d)))
    best = min(
        2 * least_squares(lambda p: p[2] * f(p[0] * xs + p[1]) + p[3] - ys, start, x_scale="jac", xtol=1e-12).cost
        for _, start in sorted(scored)[:100:10]
    )
    expected = 1 - best / ((ys - ys.mean()) ** 2).sum()
    assert fit_affine(x, y, [row]).r2.item() == pytest.approx(expected, abs=1e-9)


def test_fit_params_prints_what_pykan_prints(capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.linspace(-1, 1, 200)
    affine, r2 = fit_params(x, 5 * torch.sin(3 * x + 2) + 0.7, torch.sin)
    assert capsys.readouterr().out == f"r2 is {r2:.6f}\n"
    assert (affine.dtype, r2.dtype, r2.shape) == (torch.float32, torch.float32, torch.Size([]))
    assert affine.tolist() == pytest.approx([3.0, 2 - math.pi, -5.0, 0.7], abs=1e-5)
    fit_params(x, torch.sin(9 * x), torch.tanh)
    assert capsys.readouterr().out.endswith("r2 is not very high, please double check if you are choosing the correct symbolic function.\n")
    fit_params(x, torch.sin(11 * x), torch.sin)
    assert capsys.readouterr().out.startswith("Best value at boundary.\nr2 is 1")
    fit_params(x, torch.sin(3 * x), torch.sin, verbose=False)
    assert capsys.readouterr().out == ""


def test_fit_params_takes_numpy_and_functions_outside_the_table() -> None:
    x = np.linspace(-1, 1, 100)
    affine, r2 = fit_params(x, 2 * np.sinc(2 * x + 1) - 3, torch.sinc, verbose=False)
    assert r2.dtype == torch.float64
    assert 1 - r2.item() < 1e-13
    assert affine.abs().tolist() == pytest.approx([2.0, 1.0, 2.0, 3.0], abs=1e-8)
    assert fit_params(np.arange(5), np.arange(5), lookup("x").torch_fun, verbose=False)[0].dtype == torch.float32


def test_errors_are_sentences() -> None:
    x = sample(10)
    sin = [lookup("sin")]
    with pytest.raises(ValueError, match=r"x and y must both have shape \(samples, curves\), got \(10, 1\) and \(10,\)"):
        fit_affine(x, x[:, 0], sin)
    with pytest.raises(ValueError, match="at least two samples per curve, got 1"):
        fit_affine(x[:1], x[:1], sin)
    with pytest.raises(ValueError, match=r"y must be finite, but has NaN or infinity in column\(s\) \[0\]"):
        fit_affine(x, x / 0, sin)
    with pytest.raises(ValueError, match="a_range must be two finite numbers"):
        fit_affine(x, x, sin, a_range=(1.0, 1.0))
    with pytest.raises(ValueError, match="grid_number must be at least 2, got 1"):
        fit_affine(x, x, sin, grid_number=1)
    with pytest.raises(ValueError, match=r"one-dimensional and of one length, got \(10,\) and \(9,\)"):
        fit_params(x[:, 0], x[:9, 0], torch.sin)
    with pytest.raises(ValueError, match=r"'<lambda>' must return a tensor of the shape of its argument"):
        fit_params(x[:, 0], x[:, 0], lambda u: u.sum())


def test_nothing_warns_on_the_whole_library() -> None:
    x = sample(50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_affine(x, x**2, list(resolve_library().values())).r2.shape == (29, 1)


@pytest.mark.parametrize("options", [{"starts": 1}, {"grid_number": 2}, {"samples": 2}, {"iterations": 1}])
def test_smallest_options(options: dict[str, int]) -> None:
    x = sample(50)
    fit = fit_affine(x, torch.sin(3 * x), ALL, **options)  # type: ignore[arg-type]
    assert fit.affine.isfinite().all()


def test_work_is_bounded_and_nothing_is_fitted_twice() -> None:
    # pykan's defect 60: N x 101 x 101 numbers for every name of the table, '0' and second names included.
    calls: dict[str, list[int]] = {}

    def counted(row: SymbolicFunction, fun: object) -> object:
        def call(u: Tensor) -> Tensor:
            calls.setdefault(row.name, []).append(u.numel())
            return row.torch_fun(u)

        return known.setdefault(id(fun), call)

    known: dict[int, object] = {}
    counting = [SymbolicFunction(r.name, counted(r, r.torch_fun), *tuple(r)[1:], r.symmetries) for r in ALL]  # type: ignore[arg-type]
    x = sample(20_000)
    y = torch.sin(3 * x + 1)
    fit = fit_affine(x, y, counting)
    work = {name: list(sizes) for name, sizes in calls.items()}
    for one, other in (("sqrt", "x^0.5"), ("1/sqrt(x)", "1/x^0.5")):
        i, j = (next(k for k, row in enumerate(ALL) if row.name == name) for name in (one, other))
        assert torch.equal(fit.affine[i], fit.affine[j]) and torch.equal(fit.r2[i], fit.r2[j])
        counts = []
        for rows in ([counting[i]], [counting[i], counting[j]]):
            calls.clear()
            fit_affine(x, y, rows)
            counts.append(list(calls[one]))
        assert counts[0] == counts[1], "the second name costs nothing"
    whole = 20_000 * 101 * 101  # numbers in one of pykan's three rounds, all in one tensor
    assert max(max(sizes) for sizes in work.values()) < whole / 50, "largest temporary"
    assert sum(work["0"]) < 10 * len(x) and sum(work["x"]) < 10 * len(x), "closed forms"
    assert max(sum(sizes) for sizes in work.values()) < 3 * whole / 10
    expected = fit_affine(x, y, ALL)
    # the table knows where arcsin ends and where the best step is; of a function it has never seen it must feel its way
    torch.testing.assert_close(fit.r2, expected.r2, rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("name", "low", "high", "a", "b"),
    [("sin", -1, 1, 31.4, 0.3), ("sin", -1, 1, 100.0, 0), ("cos", 0, 20, 12.0, 1), ("log", 0, 1, 1, 1e-3), ("1/x", -1, 1, 1, -1.01),
     ("exp", -1, 1, -15.0, 0), ("tanh", -1, 1, 25.0, -5), ("gaussian", -1, 1, 40.0, -8)],
)  # fmt: skip
def test_without_limits_and_to_round_off(name: str, low: float, high: float, a: float, b: float) -> None:
    x = low + (high - low) * (sample(1000) + 1) / 2
    row = lookup(name)
    fit = fit_affine(x, 1e-3 * row.torch_fun(a * x + b), [row])
    assert fit.deficit.item() < 1e-18


def test_a_range_of_ones_own_is_a_limit() -> None:
    x = sample(500)
    y = torch.sin(12 * x)
    for low, high in ((0.0, 5.0), (-40.0, 40.0)):
        fit = fit_affine(x, y, [lookup("sin"), lookup("tanh")], a_range=(low, high))
        assert ((fit.affine[..., 0] >= low) & (fit.affine[..., 0] <= high)).all()
        assert (fit.deficit[0].item() < 1e-18) == (high > 12)
    assert 0.1 <= fit_affine(x, torch.exp(-2 * x), [lookup("exp")], a_range=(0.1, 9)).affine[0, 0, 0].item() <= 9
    fit = fit_affine(x, torch.tanh(2 * x + 1), [lookup("tanh")], b_range=(-0.5, 0.5))
    assert abs(fit.affine[0, 0, 1].item()) <= 0.5 and fit.r2.item() > 0.8


def test_function_without_a_derivative_in_torch() -> None:
    x = torch.linspace(-1, 1, 500, dtype=torch.float64)
    y = torch.special.bessel_j0(7 * x + 2) * 2 + 1
    affine, r2 = fit_params(x, y, torch.special.bessel_j0, verbose=False)
    assert 1 - r2.item() < 1e-13
    assert affine.abs().tolist() == pytest.approx([7.0, 2.0, 2.0, 1.0])
