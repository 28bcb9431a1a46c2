"""Networks with other bases than splines, through everything that one does with a network."""

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan import KAN, KANLinear
from kan.bases import BASES, Basis, BSpline, Chebyshev, Fourier, GaussianRBF, IntervalBasis, Ricker
from kan.network.autograd_pass import multiplied

matplotlib.use("agg")

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]

OTHERS = sorted(set(BASES) - {"bspline"})
NESTED = ["chebyshev", "fourier", "ricker"]
"""Bases whose functions are among those of every larger one of their kind."""


@dataclass(frozen=True)
class Legendre(IntervalBasis):
    """A basis of a user's, which is not registered."""

    def functions(self, u: Tensor) -> Tensor:
        rows = [torch.ones_like(u), u]
        for m in range(1, self.size - 1):
            rows.append(((2 * m + 1) * u * rows[-1] - m * rows[-2]) / (m + 1))
        return torch.stack(rows, dim=1)[:, : self.size]


class Hats(Basis):
    """A basis of a user's that is no dataclass and comes in one size."""

    size = 4

    def __repr__(self) -> str:
        return "Hats()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hats)

    def __hash__(self) -> int:
        return 4

    def initial_grid(self, in_features: int, low: float, high: float) -> Tensor:
        return torch.linspace(low, high, 4, dtype=torch.float64).repeat(in_features, 1)

    def adapted_grid(self, samples: Tensor, grid: Tensor, margin: float = 0.0, grid_eps: float = 0.02) -> tuple[Tensor, Tensor]:
        low, high = samples.aminmax(dim=0)
        share = torch.linspace(0, 1, 4, dtype=grid.dtype)
        usable = high > low
        return torch.where(usable[:, None], torch.lerp(low[:, None], high[:, None], share), grid), usable

    def prepare(self, grid: Tensor) -> Tensor:
        return grid.clone()

    def rows(self, x: Tensor, prepared: Tensor) -> Tensor:
        step = (prepared[:, 1:2] - prepared[:, :1])[:, None]
        return (1 - ((x[:, None] - prepared[:, :, None]) / step).square()).exp()

    def sites(self, grid: Tensor) -> Tensor:
        return grid


OBJECTS: list[Any] = [
    Chebyshev(5, extrapolation="constant"), GaussianRBF(6, width=1.5), Fourier(5, periodic=True), Ricker(4), Legendre(5), Hats(),
    BSpline(4, 2, extrapolation="linear"), Chebyshev(1),
]  # fmt: skip
every_other = pytest.mark.parametrize("basis", [*OTHERS, *OBJECTS], ids=str)
bases = st.sampled_from([*OTHERS, *OBJECTS])
quick = settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])


def points(count: int = 60, seed: int = 0, spread: float = 1.0) -> Tensor:
    return spread * (2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 1)


def network(basis: Any, seed: int = 0, **options: Any) -> KAN:
    """A network with curves of order one."""
    model = KAN([2, [2, 1], 1], basis=basis, seed=seed, auto_save=False, **options)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.act_fun:
            layer.coef.copy_(torch.rand(layer.coef.shape, generator=source) - 0.5)
    return model


def dataset(seed: int = 0) -> dict[str, Tensor]:
    x = points(80, seed)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:].square()
    return {"train_input": x, "train_label": y, "test_input": x[:20], "test_label": y[:20]}


def slow(model: KAN, x: Tensor) -> Tensor:
    """The output of a network of numeric edges, one edge and one function after the other."""
    for l, layer in enumerate(model.act_fun):
        rows = layer.basis.rows(x.t(), layer.basis.prepare(layer.grid.detach()))
        sums = torch.zeros(len(x), layer.out_dim)
        for i in range(layer.in_dim):
            for j in range(layer.out_dim):
                curve = sum(layer.coef[i, j, m] * rows[i, m] for m in range(layer.basis.size))
                sums[:, j] += layer.mask[i, j] * (layer.scale_base[i, j] * x[:, i] * torch.sigmoid(x[:, i]) + layer.scale_sp[i, j] * curve)
        x = multiplied(model.structure, l + 1, sums)
    return x.detach()


def same(model: KAN, x: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(model(x).detach(), expected, rtol=tolerance, atol=tolerance)


# What a network is


@every_other
def test_the_output_is_the_sum_of_the_functions(basis: Any) -> None:
    model, x = network(basis), points(spread=1.5)
    same(model, x, slow(model, x))
    features = model.act_fun[0].features(x)
    assert features.shape == (60, 2, model.act_fun[0].basis.size + 1)
    if isinstance(basis, Basis):
        assert all(layer.basis == basis for layer in model.act_fun)
    assert all(layer.basis.size == layer.num + layer.k for layer in model.act_fun)


@pytest.mark.parametrize("name", OTHERS)
def test_a_name_has_as_many_functions_as_splines(name: str) -> None:
    model = KAN([2, 3, 1], grid=[4, 2], k=[2, 3], basis=name, auto_save=False)
    assert [layer.basis.size for layer in model.act_fun] == [6, 5]
    assert (model.grid, model.k) == ([4, 2], [2, 3])
    assert f"basis={name!r}" in repr(model)
    splines = KAN([2, 3, 1], grid=[4, 2], k=[2, 3], auto_save=False)
    shapes = {key: value.shape for key, value in splines.state_dict().items() if not key.endswith(".grid")}
    assert {key: value.shape for key, value in model.state_dict().items() if not key.endswith(".grid")} == shapes


def test_numbers_follow_from_a_basis() -> None:
    assert (KAN([2, 1], basis=Chebyshev(9), auto_save=False).grid, KAN([2, 1], basis=Chebyshev(9), auto_save=False).k) == (6, 3)
    model = KAN([2, 2, 1], basis=[Chebyshev(9), BSpline(4, 2)], auto_save=False)
    assert (model.grid, model.k) == ([6, 4], [3, 2])
    assert [layer.basis for layer in model.act_fun] == [Chebyshev(9), BSpline(4, 2)]
    same(model, points(), slow(model, points()))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"basis": "chebishev"}, ValueError, "unknown basis 'chebishev'; did you mean 'chebyshev'?"),
        ({"basis": Chebyshev}, TypeError, "basis must be the name of a basis, or a Basis such as Chebyshev\\(8\\); got <class"),
        ({"basis": ["rbf"]}, ValueError, "basis must be one for all layers, or a list of 2, one per layer; got 1 entries."),
        ({"basis": Chebyshev(9), "grid": 5}, ValueError, "has 9 functions, and grid=5 with k=3 asks for 8: write grid=6 and k=3, leave"),
    ],
)
def test_what_is_no_basis_is_an_error(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        KAN([2, 3, 1], auto_save=False, **options)


@every_other
def test_a_new_network_starts_small_and_draws_as_splines_do(basis: Any) -> None:
    model = KAN([2, 3, 1], basis=basis, seed=3, auto_save=False)
    splines = KAN([2, 3, 1], grid=model.grid, k=model.k, seed=3, auto_save=False)
    for ours, theirs in zip(model.act_fun, splines.act_fun, strict=True):
        x = torch.linspace(-1, 1, ours.num + 1, dtype=torch.float64)
        curves = ours.coef.detach() @ ours.basis.rows(x.expand(ours.in_dim, -1), ours.prepared_grid)
        assert float(curves.abs().max()) < 0.3 / ours.num
        torch.testing.assert_close(ours.scale_base, theirs.scale_base, rtol=0, atol=0)


# Derivatives and transforms


@every_other
def test_derivatives_and_transforms(basis: Any) -> None:
    model, x = network(basis), points(6)
    first = torch.func.vmap(torch.func.grad(lambda v: model(v[None])[0, 0]))(x)
    inputs = x.clone().requires_grad_()
    (reverse,) = torch.autograd.grad(model(inputs).sum(), inputs, create_graph=True)
    torch.testing.assert_close(reverse.detach(), first, rtol=1e-10, atol=1e-10)
    second = torch.func.hessian(lambda v: model(v[None])[0, 0])(x[0])
    row = torch.autograd.grad(reverse[0, 0], inputs)[0][0]
    torch.testing.assert_close(row, second[0].detach(), rtol=1e-9, atol=1e-9)


@every_other
def test_gradients_of_the_parameters_are_those_of_the_slow_network(basis: Any) -> None:
    model, x = network(basis), points(9)
    parameters = [p for layer in model.act_fun for p in (layer.coef, layer.scale_base, layer.scale_sp)]
    found = torch.autograd.grad(model(x).square().sum(), parameters)
    for parameter, gradient in zip(parameters, found, strict=True):
        place = tuple(int(n) // 2 for n in parameter.shape)
        before, step, values = float(parameter.detach()[place]), 1e-6, []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[place] = before + sign * step
                values.append(float(slow(model, x).square().sum()))
                parameter[place] = before
        assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_it_compiles(name: str) -> None:
    model, x = network(name), points()
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x), rtol=1e-12, atol=1e-12)


# Training


@pytest.mark.parametrize("opt", ["LBFGS", "LM", "Adam"])
@pytest.mark.parametrize("basis", [*OTHERS, Legendre(5), Hats()], ids=str)
def test_training_lowers_the_loss(basis: Any, opt: str) -> None:
    model, data = KAN([2, 3, 1], basis=basis, seed=1, auto_save=False), dataset()
    before = float((model(data["train_input"]).detach() - data["train_label"]).square().mean().sqrt())
    options = {"lr": 0.02} if opt == "Adam" else {}
    history = model.fit(data, opt=opt, steps=4 if opt != "Adam" else 20, lamb=1e-4 * (opt == "LBFGS"), progress=False, **options)
    assert float(history["train_loss"][-1]) < 0.9 * before
    x = data["train_input"]
    torch.testing.assert_close(model(x).detach(), slow(model, x), rtol=1e-9, atol=1e-9)


@every_other
def test_grids_follow_the_samples(basis: Any) -> None:
    model, x = network(basis), 3 * points(200) + 1
    model.update_grid(x)
    first = model.act_fun[0]
    ends = first.basis.ends(first.grid)
    torch.testing.assert_close(ends, torch.stack([x.amin(0), x.amax(0)], dim=1), rtol=1e-9, atol=1e-9)
    with pytest.warns(UserWarning, match=r"the samples of input\(s\) \[0\] do not (determine|span)"):
        model.act_fun[0].update_grid_from_samples(torch.cat([torch.ones(20, 1), points(20)[:, 1:]], dim=1))


@pytest.mark.parametrize("name", NESTED[:1])
@pytest.mark.parametrize("mode", ["sample", "grid"])
def test_polynomials_stay_the_same_on_another_grid(name: str, mode: Any) -> None:
    layer = KAN([2, 3], basis=Chebyshev(6, extrapolation="own"), auto_save=False).act_fun[0]
    x = 2 * points(50)
    before = layer(x)[3].detach()
    layer.update_grid_from_samples(x, mode)
    torch.testing.assert_close(layer(x)[3].detach(), before, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", OTHERS)
def test_levels_and_restarts(name: str) -> None:
    data = dataset()
    model = KAN([2, 2, 1], basis=name, seed=2, auto_save=False)
    history = model.fit(data, grids=[3, 6], steps=8, progress=False)
    assert model.grid == 6
    assert [layer.basis.size for layer in model.act_fun] == [9, 9]
    assert float(history["train_loss"][-1]) < 0.1
    again = KAN([2, 2, 1], basis=name, seed=2, auto_save=False)
    again.fit(data, restarts=2, steps=4, progress=False)


# Refinement


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("basis", [*NESTED, Legendre(5, extrapolation="linear"), OBJECTS[2], OBJECTS[6]], ids=str)
@quick
@given(more=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_refinement_keeps_the_function_where_the_larger_space_contains_it(basis: Any, seen: bool, more: int, seed: int) -> None:
    model = network(basis, seed)
    x = points(40, seed, spread=1.4)
    if seen:
        model(x)
    intervals = 4 * more if isinstance(basis, BSpline) else model.grid + more
    finer = model.refine(intervals)
    assert finer.grid == intervals
    assert all(layer.basis.size == intervals + layer.k for layer in finer.act_fun)
    assert type(finer.act_fun[0].basis) is type(model.act_fun[0].basis)
    same(finer, x, slow(model, x), 1e-8)


def test_refinement_of_gaussians_is_the_closest_function_there_is() -> None:
    model, x = network("rbf"), points(400)
    model(x)
    finer = model.refine(9)
    layer, old = finer.act_fun[0], model.act_fun[0]
    z = torch.linspace(-1, 1, 400, dtype=torch.float64).expand(2, -1)
    design, target = layer.basis.rows(z, layer.prepared_grid)[0].t(), (old.coef @ old.basis.rows(z, old.prepared_grid))[0].t()
    best = (design @ torch.linalg.lstsq(design, target).solution - target).detach()
    found = (design @ layer.coef[0].t() - target).detach()
    assert float(found.square().mean()) < 4 * float(best.square().mean())
    assert float(found.abs().max()) < 0.05


def test_a_warning_tells_when_a_larger_basis_does_not_contain_a_smaller_one() -> None:
    model, x = network(GaussianRBF(4, width=0.3)), points(200)
    model.fit({"train_input": x, "train_label": x[:, :1], "test_input": x, "test_label": x[:, :1]}, steps=1, progress=False)
    with pytest.warns(UserWarning, match="the larger bases do not contain the functions of the smaller ones, so that the network changes"):
        model.refine(4)


def test_a_basis_of_one_size_says_that_it_cannot_be_refined() -> None:
    model = network(Hats())
    message = "has 4 functions, and 9 are asked for: give the class a field size, or a method resized"
    with pytest.raises(ValueError, match=message):
        model.refine(6)
    before, x = slow(model, points()), points()
    with pytest.raises(ValueError, match=message):
        model.fit(dataset(), grids=[1, 6], steps=1, progress=False)
    same(model, x, before)


# Copies and files


def by_deepcopy(model: KAN, folder: Path) -> KAN:
    return copy.deepcopy(model)


def by_pickle(model: KAN, folder: Path) -> KAN:
    found: KAN = pickle.loads(pickle.dumps(model))
    return found


def own(model: KAN) -> dict[str, Any]:
    """The bases that files hold by name only."""
    return {type(layer.basis).__name__: layer.basis for layer in model.act_fun}


def by_state(model: KAN, folder: Path) -> KAN:
    torch.save(model.state_dict(), folder / "state.pt")
    state = torch.load(folder / "state.pt", weights_only=True)
    return KAN.from_state_dict(state, **({} if registered(model) else {"basis": [layer.basis for layer in model.act_fun]}))


def by_tensors(model: KAN, folder: Path) -> KAN:
    return KAN.from_state_dict(dict(model.state_dict()), basis=[layer.basis for layer in model.act_fun], mult_arity=2)


def by_checkpoint(model: KAN, folder: Path) -> KAN:
    model.saveckpt(folder / "model")
    return KAN.loadckpt(folder / "model", functions=own(model))


def by_file(model: KAN, folder: Path) -> KAN:
    model.save(folder / "model.kan")
    return KAN.load(folder / "model.kan", functions=own(model))


def by_loading(model: KAN, folder: Path) -> KAN:
    twin = model.replace(seed=99)
    twin.load_state_dict(model.state_dict())
    return twin


def registered(model: KAN) -> bool:
    return all(type(layer.basis) in BASES.values() for layer in model.act_fun)


@pytest.mark.parametrize("way", [by_deepcopy, by_pickle, by_state, by_tensors, by_checkpoint, by_file, by_loading])
@quick
@given(basis=bases, more=st.integers(0, 4), seed=st.integers(0, 10**6))
def test_a_copy_is_the_same_network(way: Callable[[KAN, Path], KAN], basis: Any, more: int, seed: int, tmp_path: Path) -> None:
    model = network(basis, seed)
    if more and not isinstance(basis, Hats):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = model.refine([model.grid + more, model.grid])
    model.act_fun[0].update_grid_from_samples(2 * points(50, seed))
    twin, x = way(model, tmp_path), points(20, seed)
    assert [layer.basis for layer in twin.act_fun] == [layer.basis for layer in model.act_fun]
    if way is not by_tensors:  # which do not tell the degree of other bases than splines
        assert [(layer.num, layer.k) for layer in twin.act_fun] == [(layer.num, layer.k) for layer in model.act_fun]
    torch.testing.assert_close(twin(x), model(x), rtol=0, atol=0)


def test_files_of_splines_do_not_speak_of_bases(tmp_path: Path) -> None:
    model = KAN([2, 2, 1], auto_save=False)
    assert "basis" not in model.state_dict()._metadata[""]["architecture"]  # type: ignore[attr-defined]
    model.saveckpt(tmp_path / "model")
    assert "basis" not in (tmp_path / "model_config.yml").read_text()


def test_a_basis_that_is_not_known_is_asked_for(tmp_path: Path) -> None:
    model = network(Legendre(5))
    model.saveckpt(tmp_path / "model")
    model.save(tmp_path / "model.kan")
    message = "the basis 'Legendre' is not known here: a file holds only its name. Import the module that registers it with"
    for load in (lambda: KAN.loadckpt(tmp_path / "model"), lambda: KAN.load(tmp_path / "model.kan")):
        with pytest.raises(ValueError, match=message):
            load()
    with pytest.raises(ValueError, match=message):
        KAN.from_state_dict(model.state_dict())
    assert KAN.loadckpt(tmp_path / "model", functions={"Legendre": Legendre}).act_fun[0].basis == Legendre(5)
    hats = network(Hats())
    hats.saveckpt(tmp_path / "hats")
    with pytest.raises(ValueError, match="the basis 'Hats' cannot be made from the file: its fields are not in the file. Hand over"):
        KAN.loadckpt(tmp_path / "hats", functions={"Hats": Hats})


def test_a_state_of_another_basis_is_refused() -> None:
    model, other = network("chebyshev"), network("fourier")
    before, x = model(points()).detach(), points()
    for one in (other, KAN([2, [2, 1], 1], auto_save=False)):
        with pytest.raises(RuntimeError, match="basis"):
            model.load_state_dict(one.state_dict())
        same(model, x, before, 0)


@pytest.mark.parametrize(
    "plain", [3, [], {}, {"name": 3}, {"name": "chebyshev", "fields": {"size": -1}}, {"name": "rbf", "fields": 1}, "x"], ids=str
)
def test_a_damaged_description_is_an_error(plain: Any, tmp_path: Path) -> None:
    state = network("chebyshev").state_dict()
    state._metadata[""]["architecture"]["basis"] = plain  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="basis"):
        KAN.from_state_dict(state)


# Structure


@every_other
def test_structure_may_change(basis: Any) -> None:
    model, x = network(basis), points()
    model.update_grid(2 * x)
    expected = slow(model, x)

    wider = copy.deepcopy(model)
    wider.expand_width(1, 2)
    wider.expand_depth()
    same(wider, x, expected)
    wider.perturb(0.1)

    swapped = copy.deepcopy(model)
    swapped.swap(1, 0, 1)
    same(swapped, x, expected)

    model.remove_edge(0, 1, 0)
    model(x)
    pruned = model.prune(node_th=0.0, edge_th=0.0)
    same(pruned, x, slow(model, x))
    part = model.act_fun[0].get_subset([1], [0, 2])
    assert part.basis == model.act_fun[0].basis
    torch.testing.assert_close(part(x[:, 1:])[3], model.act_fun[0](x)[3][:, [0, 2]][..., 1:], rtol=1e-12, atol=1e-12)


@every_other
def test_symbolic_functions_and_formulas(basis: Any) -> None:
    model, x = network(basis), points()
    model(x)
    formula = model.symbolic_formula(numeric="function")[0][0]
    assert "phi_0_0_0" in str(formula)
    torch.testing.assert_close(model.symbolic_formula(numeric="function").to_torch()(*x.unbind(1)), model(x)[:, 0], rtol=1e-9, atol=1e-9)
    assert isinstance(model.suggest_symbolic(0, 0, 0, verbose=False)[0], str)
    layer = model.act_fun[0]
    with torch.no_grad():  # an edge that is a sine
        z, base = layer.basis.sites(layer.grid)[:1], torch.nn.functional.silu
        curve = torch.sin(z[0]) - layer.scale_base[0, 0] * base(z[0])
        rows = layer.basis.rows(z, layer.basis.prepare(layer.grid[:1]))[0]
        layer.coef[0, 0] = torch.linalg.lstsq(rows.t(), curve[:, None] / layer.scale_sp[0, 0]).solution[:, 0]
    model(x)
    model.fix_symbolic(0, 0, 0, "sin")
    assert layer.mask[0, 0] == 0
    assert model.symbolic_fun[0].funs_name[0][0] == "sin"


@pytest.mark.parametrize("name", OTHERS)
def test_a_curve_is_found_again(name: str) -> None:
    model = KAN([1, 1], grid=8, basis=name, auto_save=False, seed=0)
    x = 2 * torch.rand(200, 1, generator=torch.Generator().manual_seed(0)) - 1
    y = torch.exp(x)
    model.fit({"train_input": x, "train_label": y, "test_input": x, "test_label": y}, opt="LM", steps=20, progress=False)
    model.auto_symbolic(verbose=0)
    assert model.symbolic_fun[0].funs_name[0][0] == "exp"


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_drawn(name: str, tmp_path: Path) -> None:
    model = network(name)
    model(points())
    model.plot(folder=str(tmp_path))
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("basis", ["chebyshev", "fourier", "rbf", "ricker"])
def test_many_functions_start_as_small_as_few(basis: str) -> None:
    x = points(200, 0)
    few, many = (KAN([2, 3, 1], grid=grid, seed=0, auto_save=False, basis=basis).double() for grid in (5, 40))
    assert float(many(x).detach().std()) < 3 * float(few(x).detach().std())
    assert all(bool((layer.coef.abs() < 1).all()) for layer in many.act_fun)


@pytest.mark.parametrize(
    "make",
    [lambda basis: KAN([2, 3, 1], basis=basis, auto_save=False), lambda basis: KANLinear(2, 3, basis=basis)],
    ids=["KAN", "KANLinear"],
)
def test_a_basis_that_miscounts_its_functions_is_refused(make: Callable[[Basis], object]) -> None:
    class Three(IntervalBasis):
        def functions(self, u: torch.Tensor) -> torch.Tensor:
            return torch.stack([u, u**2, u**3], dim=1)

    with pytest.raises(ValueError, match="has a size of 5 functions, and it returns the values of 3: make them agree"):
        make(Three(5))
