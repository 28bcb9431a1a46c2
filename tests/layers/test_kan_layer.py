"""The KAN layer against its definition; gradients; grids that move; golden initial weights."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan.bases import spline_rows
from kan.bases.knots import core
from kan.layers import kan_layer
from kan.layers.deviation import covariance, deviation, edge_deviation
from kan.layers.features import edge_weight
from kan.layers.kan_layer import KANLayer, sparse_mask
from kan.network.network import Network
from tests.data import uniform
from tests.reference import splines

pytestmark = pytest.mark.usefixtures("float64")


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def wild(inputs: int = 2, outputs: int = 3, num: int = 4, k: int = 3, seed: int = 0, **settings: object) -> KANLayer:
    """A layer with random everything, a few edges masked."""
    layer = KANLayer(inputs, outputs, num, k, generator=source(seed), **settings).double()
    for p in (layer.coef, layer.scale_base, layer.scale_sp):
        p.copy_(torch.randn(p.shape, generator=source(seed + 1), dtype=torch.float64))
    layer.mask.copy_((torch.rand(inputs, outputs, generator=source(seed + 2)) > 0.2).double())
    return layer


def by_definition(layer: KANLayer, x: Tensor) -> Tensor:
    parts = (layer.grid, layer.coef, layer.scale_base, layer.scale_sp, layer.mask)
    grid, coef, scale_base, scale_sp, mask = (p.detach().numpy() for p in parts)
    return torch.from_numpy(splines.edges(x.detach().numpy(), grid, layer.k, coef, scale_base, scale_sp, mask))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 8), st.integers(0, 4), st.integers(1, 6), st.integers(0, 10**6))
def test_it_is_its_definition(inputs: int, outputs: int, num: int, k: int, batch: int, seed: int) -> None:
    layer, x = wild(inputs, outputs, num, k, seed), uniform(batch, inputs, low=-1.2, high=1.2, seed=seed)
    expected = by_definition(layer, x)
    with torch.no_grad():
        y, preacts, postacts, postspline = layer(x)
        torch.testing.assert_close(postacts, expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(y, expected.sum(-1), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(preacts, x[:, None, :].expand(batch, outputs, inputs))
        torch.testing.assert_close(layer.features(x).flatten(1) @ layer.edge_weight().flatten(0, 1), y, rtol=1e-11, atol=1e-11)
    bare = splines.edges(x, layer.grid, k, layer.coef.detach(), np.zeros((inputs, outputs)), *2 * (np.ones((inputs, outputs)),))
    np.testing.assert_allclose(postspline.numpy(), bare, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("base", [None, torch.tanh, nn.Softplus(), lambda x: x * 0.0], ids=["silu", "tanh", "module", "zero"])
def test_any_base_function(base: object) -> None:
    layer, x = wild(base_fun=base), uniform(7, 2, low=-1.2, high=1.2, seed=5)
    function = nn.functional.silu if base is None else base
    torch.testing.assert_close(layer.features(x)[..., 0], function(x))
    x.requires_grad_()
    assert torch.autograd.gradcheck(layer.features, x)
    assert torch.autograd.gradgradcheck(layer.features, x)


@pytest.mark.parametrize("little", [-1, 10**9], ids=["window", "product"])
def test_gradients_of_everything(little: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spline_rows, "LITTLE", little)
    layer, x = wild(), uniform(6, 2, low=-1.2, high=1.2, seed=5).requires_grad_()
    arguments = [p.detach().clone().requires_grad_() for p in (layer.coef, layer.scale_base, layer.scale_sp, layer.mask)]

    def everything(x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, weight = layer.features(x), edge_weight(*parameters)
        std = edge_deviation(features.permute(1, 2, 0), weight, None, 1e-3)
        return features.flatten(1) @ weight.flatten(0, 1), std, deviation(x)

    assert torch.autograd.gradcheck(everything, (x, *arguments))
    assert torch.autograd.gradgradcheck(everything, (x, *arguments))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 20), st.sampled_from([0.0, 1e-3, 0.5]), st.integers(0, 10**6))
def test_deviations_of_edges_are_those_of_their_values(inputs: int, outputs: int, batch: int, corner: float, seed: int) -> None:
    layer, x = wild(inputs, outputs, seed=seed), uniform(batch, inputs, low=-1.2, high=1.2, seed=seed)
    with torch.no_grad():
        features = layer.features(x)
        postacts = layer(x)[2]
        std = torch.zeros(outputs, inputs) if batch == 1 else postacts.std(dim=0)
        expected = (std**2 + corner**2).sqrt() - corner
        rows = features.permute(1, 2, 0)
        torch.testing.assert_close(edge_deviation(rows, layer.edge_weight(), None, corner), expected, rtol=1e-9, atol=1e-9)
        known = covariance(features)
        torch.testing.assert_close(edge_deviation(rows, layer.edge_weight(), known, corner), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(deviation(x, corner), (deviation(x) ** 2 + corner**2).sqrt() - corner)


def test_statistics_of_what_is_dead_are_zero_with_zero_gradient() -> None:
    layer = wild()
    layer.mask.data[0] = 0.0
    x = torch.cat([torch.full((8, 1), 0.3), uniform(8, 1, low=-1.2, high=1.2, seed=5)], dim=1).requires_grad_()
    for graph in (False, True):
        std = edge_deviation(layer.features(x).permute(1, 2, 0), layer.edge_weight(), None)
        assert not bool(std[:, 0].any()) and bool(std[:, 1].any())
        grads = torch.autograd.grad(std.sum() + deviation(x).sum(), [x, layer.coef, layer.scale_base], create_graph=graph)
        assert all(bool(torch.isfinite(g).all()) for g in grads)
        assert not bool(grads[1][0].any()) and not bool(grads[0][:, 0].any())


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 8), st.integers(1, 3), st.integers(0, 10**6))
def test_updated_grid_follows_the_quantiles(num: int, k: int, seed: int) -> None:
    layer, x = wild(2, 2, num, k, seed, grid_eps=0.1), uniform(60, 2, low=-1.2, high=1.2, seed=seed)
    layer.update_grid_from_samples(x)
    ordered = np.sort(x.numpy(), axis=0)
    grid = core(layer.grid, k).detach().numpy()
    for i in range(2):
        index = [int(60 / num * g) for g in range(num)] + [59]
        expected = 0.1 * np.linspace(ordered[0, i], ordered[-1, i], num + 1) + 0.9 * ordered[index, i]
        np.testing.assert_allclose(grid[i], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["sample", "grid"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_updated_grid_keeps_the_function_that_it_can_represent(k: int, mode: str) -> None:
    # Polynomials of degree k on the samples' range are splines on any knots.
    layer, x = wild(2, 3, 6, k), uniform(300, 2, low=-0.7, high=0.9, seed=5)
    sites = torch.linspace(-1, 1, 200)[:, None].expand(-1, 2)
    polynomial = torch.randn(k + 1, generator=source(3), dtype=torch.float64)
    design = layer.features(sites)[:, 0, 1:].detach().numpy()
    target = sum(c * sites[:, 0].numpy() ** p for p, c in enumerate(polynomial.tolist()))
    layer.coef.data.copy_(torch.from_numpy(np.linalg.lstsq(design, target, rcond=None)[0]))
    before = layer(x)[2].detach()
    layer.update_grid_from_samples(x, mode)
    torch.testing.assert_close(layer(x)[2].detach(), before, rtol=1e-9, atol=1e-9)


def test_updating_twice_on_the_same_samples_is_idempotent() -> None:
    layer, x = wild(2, 3, 5, 3), uniform(200, 2, low=-1.2, high=1.2, seed=5)
    layer.update_grid_from_samples(x)
    before, grid = layer(x)[0].detach(), layer.grid.detach().clone()
    layer.update_grid_from_samples(x)
    torch.testing.assert_close(layer.grid.detach(), grid, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x)[0].detach(), before, rtol=1e-10, atol=1e-10)


def test_constant_column_keeps_its_grid_with_a_warning() -> None:
    layer = wild()
    x = torch.cat([torch.full((30, 1), 0.3), uniform(30, 1, low=-1.2, high=1.2, seed=5)], dim=1)
    grid, coef = layer.grid.detach().clone(), layer.coef.detach().clone()
    with pytest.warns(
        UserWarning, match=re.escape("grid update: the samples of input(s) [0] do not span an increasing grid of 4 intervals")
    ) as caught:
        layer.update_grid_from_samples(x)
    assert [warning.filename for warning in caught] == [__file__]  # not torch's wrapper of the method
    assert torch.equal(layer.grid[0], grid[0]) and torch.equal(layer.coef[0], coef[0])
    assert not torch.equal(layer.grid[1], grid[1])
    assert bool(torch.isfinite(layer.coef).all())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert layer.adapt_grid_(x) == [0]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 5), "samples must have the shape (number of samples, 2); got (3, 5)."),
        (torch.zeros(0, 2), "got (0, 2)."),
        (torch.zeros(4), "got (4,)."),
        (torch.tensor([[0.0, torch.nan], [1.0, 0.0]]), "samples must be finite; the columns [1] hold NaN or infinity."),
    ],
)
def test_bad_samples(x: Tensor, message: str) -> None:
    layer = wild()
    state = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.update_grid_from_samples(x)
    with pytest.raises(ValueError, match=re.escape(message)):
        KANLayer(2, 3, 8, 3).initialize_grid_from_parent(layer, x)
    assert all(torch.equal(state[name], value) for name, value in layer.state_dict().items())


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_nested_grid_from_parent_is_exact(num: int, factor: int, k: int, with_data: bool, moved: bool, seed: int) -> None:
    parent = wild(2, 3, num, k, seed)
    if moved:
        parent.update_grid_from_samples(uniform(80, 2, low=-0.8, high=0.7, seed=seed))
    x = uniform(70, 2, low=-1.7, high=1.5, seed=seed + 1)  # in part outside of the core
    child = KANLayer(2, 3, num * factor, k, generator=source()).double()
    child.initialize_grid_from_parent(parent, x if with_data else None)
    for p in ("mask", "scale_base", "scale_sp"):
        getattr(child, p).data.copy_(getattr(parent, p))
    if not with_data:
        grid = core(parent.grid, k).detach()
        x = torch.minimum(torch.maximum(x, grid[:, 0]), grid[:, -1])
    before, after = parent(x)[2].detach(), child(x)[2].detach()
    assert float((after - before).abs().max() / before.abs().max()) < 1e-10


def test_grid_that_is_not_nested_is_fitted_at_the_samples() -> None:
    parent, child = wild(2, 3, 4, 3), KANLayer(2, 3, 9, 3, generator=source()).double()
    x = uniform(400, 2, low=-1, high=1, seed=5)
    child.initialize_grid_from_parent(parent, x)
    for i in range(2):
        design = child.features(x)[:, i, 1:].detach().numpy()
        target = torch.einsum("bn,on->bo", parent.features(x)[:, i, 1:], parent.coef[i]).detach().numpy()
        expected = np.linalg.lstsq(design, target, rcond=None)[0]
        np.testing.assert_allclose(design @ child.coef[i].detach().numpy().T, design @ expected, rtol=0, atol=1e-9)


def test_parent_must_fit() -> None:
    with pytest.raises(
        ValueError, match=re.escape("the parent layer must have the same inputs, outputs and degree: expected (2, 3, 3), got (2, 2, 3).")
    ):
        KANLayer(2, 3, 8, 3).initialize_grid_from_parent(wild(2, 2), None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num": 0}, "num, the number of grid intervals, must be at least 1; got 0."),
        ({"k": -1}, "k, the degree of the splines, must be at least 0; got -1."),
        ({"grid_range": [1, -1]}, "grid_range must be [low, high] with low < high; got [1, -1]."),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        KANLayer(2, 3, **arguments)


def test_table_follows_the_grid_and_the_dtype() -> None:
    layer, x = wild(), uniform(5, 2, low=-1.2, high=1.2, seed=5)
    layer(x)
    layer.grid.data[0] += 0.25
    torch.testing.assert_close(layer(x)[2].detach(), by_definition(layer, x), rtol=1e-11, atol=1e-11)
    layer.float()
    assert layer(x.float())[0].dtype == torch.float32
    layer.double()
    assert layer(x)[0].dtype == torch.float64


def test_subset_and_swap() -> None:
    layer, x = wild(3, 4), uniform(6, 3, low=-1.2, high=1.2, seed=5)
    postacts = layer(x)[2].detach()
    subset = layer.get_subset([2, 0], [1, 3, 0])
    torch.testing.assert_close(subset(x[:, [2, 0]])[2].detach(), postacts[:, [1, 3, 0]][:, :, [2, 0]])
    subset.coef.data.zero_()
    torch.testing.assert_close(layer(x)[2].detach(), postacts)
    layer.swap(0, 2, "in")
    layer.swap(1, 3, "out")
    torch.testing.assert_close(layer(x[:, [2, 1, 0]])[2].detach(), postacts[:, [0, 3, 2, 1]][:, :, [2, 1, 0]])


def test_it_pickles_copies_and_prints() -> None:
    layer, x = wild(), uniform(5, 2, low=-1.2, high=1.2, seed=5)
    y = layer(x)[0].detach()
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        torch.testing.assert_close(twin(x)[0].detach(), y, rtol=0, atol=0)
        twin.coef.data.zero_()
    torch.testing.assert_close(layer(x)[0].detach(), y, rtol=0, atol=0)
    assert "in_dim=2, out_dim=3, num=4, k=3" in repr(layer)


def test_the_global_generator_is_used_only_when_none_is_given() -> None:
    state = torch.get_rng_state()
    KANLayer(2, 3, generator=source())
    assert torch.equal(state, torch.get_rng_state())


def test_initial_weights_are_those_of_pykan() -> None:
    # Section 24 of the interface's description: KAN([2, 3, 1], grid=3, k=3, seed=0) in float32.
    torch.set_default_dtype(torch.float32)
    try:
        first, second = Network([2, 3, 1], grid=3, k=3, seed=0).numeric_layers
    finally:
        torch.set_default_dtype(torch.float64)
    close = {"rtol": 0.0, "atol": 5.1e-5}  # four decimals are given
    torch.testing.assert_close(
        first.scale_base.detach(), torch.tensor([[-0.1140, 0.0748, 0.6403], [-0.6560, -0.4452, -0.1790]]).float(), **close
    )
    torch.testing.assert_close(second.scale_base.detach()[:, 0], torch.tensor([0.0977, -0.5391, -0.4172]).float(), **close)
    torch.testing.assert_close(
        first.coef[0, 0].detach(), torch.tensor([-0.0033, -0.0038, 0.0163, -0.0675, -0.0331, -0.0037]).float(), **close
    )
    torch.testing.assert_close(first.grid[0].detach(), torch.linspace(-3, 3, 10).float())
    torch.testing.assert_close(first.scale_sp.detach(), torch.full((2, 3), 0.7071).float(), **close)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (2, 5), (5, 2), (3, 3)])
def test_sparse_mask_joins_every_node(inputs: int, outputs: int) -> None:
    mask = sparse_mask(inputs, outputs)
    assert bool(mask.any(0).all()) and bool(mask.any(1).all())
    assert float(mask.sum()) < inputs * outputs or min(inputs, outputs) == 1
    assert torch.equal(KANLayer(inputs, outputs, sparse_init=True, generator=source()).mask.detach(), mask)


def test_a_part_keeps_the_settings() -> None:
    # pykan's defect 25: grid_eps, trainability and the device are those of a new layer.
    layer = KANLayer(3, 4, 6, 2, grid_eps=0.4, sp_trainable=False, sb_trainable=False, base_fun=torch.tanh)
    part = layer.get_subset([0, 2], [1])
    assert (part.in_dim, part.out_dim, part.num, part.k, part.grid_eps) == (2, 1, 6, 2, 0.4)
    assert part.base_fun is torch.tanh and part.coef.requires_grad
    assert not part.scale_sp.requires_grad and not part.scale_base.requires_grad and not part.mask.requires_grad
    assert layer.to("meta").get_subset([0], [0]).device.type == "meta"


def test_initial_splines_are_the_least_squares_fit_of_their_noise_and_are_prepared_once() -> None:
    for in_dim, out_dim in ((2, 3), (4, 1)):
        generator = torch.Generator().manual_seed(3)
        layer = KANLayer(in_dim, out_dim, 7, 2, noise_scale=0.4, grid_range=(-0.5, 2.0), generator=generator)
        noise = (torch.rand(8, in_dim, out_dim, generator=torch.Generator().manual_seed(3)) - 0.5) * 0.4 / 7
        points = torch.linspace(-0.5, 2.0, 8)[:, None].expand(-1, in_dim)
        torch.testing.assert_close(layer(points)[3].detach().mT, noise)  # more coefficients than points: they are met
    before = kan_layer._interpolation.cache_info()
    KANLayer(5, 5, 7, 2, grid_range=(-0.5, 2.0))
    after = kan_layer._interpolation.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)


@pytest.mark.parametrize("k", [3, 4, 5])
def test_a_grid_update_with_few_samples_stays_near_the_function_between_them(k: int) -> None:
    for seed in range(4):
        layer, x = wild(2, 2, 20, k, seed), uniform(25, 2, low=-1, high=1, seed=seed)
        between = uniform(1000, 2, low=-1, high=1, seed=seed + 50).clamp(x.amin(0), x.amax(0))
        before = layer(between)[3].detach()
        layer.update_grid_from_samples(x)
        assert float((layer(between)[3] - before).detach().abs().max()) < 50 * float(before.abs().max())


def test_what_a_layer_takes() -> None:
    layer = KANLayer(3, 2, num=4, k=3).float()
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    half = layer(x.half())[0]
    assert half.dtype == torch.float32
    assert torch.equal(half, layer(x.half().float())[0])
    for other in (x.double(), x.long()):
        with pytest.raises(TypeError, match=rf"parameters are torch.float32 and the input is {other.dtype}; convert one of them"):
            layer(other)
    for other in (x[0], x[:, :2], x[None]):
        with pytest.raises(ValueError, match=r"the shape \(number of samples, 3\).*got \(.*x.flatten\(0, -2\)"):
            layer(other)
    assert layer(x[:0])[0].shape == (0, 2)


def test_a_copy_of_a_parametrized_layer_leaves_the_layer_alone() -> None:
    class Twice(torch.nn.Module):
        def forward(self, coef: torch.Tensor) -> torch.Tensor:
            return 2 * coef

    layer = KANLayer(3, 2, num=4, k=3)
    torch.nn.utils.parametrize.register_parametrization(layer, "coef", Twice())
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)).to(layer.grid)
    y = layer(x)[0]
    assert torch.equal(copy.deepcopy(layer)(x)[0], y)
    part = layer.get_subset([0, 1, 2], [1])
    assert type(part) is KANLayer and isinstance(part.coef, torch.nn.Parameter)
    assert torch.allclose(part(x)[0], y[:, [1]])
    assert torch.equal(layer(x)[0], y)
