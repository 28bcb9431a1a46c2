"""Refinement computes the same function on more grid intervals, in a network that shares nothing with the old one."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan import KAN

pytestmark = pytest.mark.usefixtures("float64")

PROMISED = 1e-10


def data(samples: int = 200, inputs: int = 2, seed: int = 0, dtype: torch.dtype | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(samples, inputs, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype or torch.get_default_dtype())


@torch.no_grad()
def wild(model: KAN, seed: int = 0, size: float = 2.0) -> KAN:
    """`model` with random weights, so large that hidden nodes leave the grid."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.act_fun:
        for parameter in (layer.coef, layer.scale_base, layer.scale_sp):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return model


def relative_change(old: KAN, new: KAN, x: Tensor) -> float:
    with torch.no_grad():
        before, after = old.trace(x).output, new.trace(x).output
    assert bool(torch.isfinite(after).all())
    return float((after - before).abs().max() / before.abs().max())


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["fresh", "wild", "adapted"])
def test_nested_refinement_keeps_the_function(k: int, factor: int, kind: str) -> None:
    for grid in (1, 3, 5):
        model, x = KAN([2, 4, 3, 1], grid=grid, k=k, seed=3, auto_save=False), data()
        if kind != "fresh":
            wild(model)
        if kind == "adapted":
            model.update_grid(x)
            wild(model, seed=1)
        model(x)
        assert relative_change(model, model.refine(grid * factor), x) <= PROMISED


@given(
    hidden=st.lists(st.integers(1, 4), min_size=0, max_size=2),
    grids=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    factors=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    k=st.integers(1, 4),
    samples=st.integers(1, 60),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=30)
def test_nested_refinement_of_any_sizes(hidden: list[int], grids: list[int], factors: list[int], k: int, samples: int, seed: int) -> None:
    width = [2, *hidden, 2]
    depth = len(width) - 1
    model, x = wild(KAN(width, grid=grids[:depth], k=k, seed=seed, auto_save=False), seed), data(samples, seed=seed)
    model(x)
    finer = [g * f for g, f in zip(grids[:depth], factors[:depth], strict=True)]
    refined = model.refine(finer)
    assert refined.grid == finer
    assert [layer.num for layer in refined.act_fun] == finer
    assert relative_change(model, refined, x) <= PROMISED


def test_after_a_fit_with_activations_outside_of_the_grid() -> None:
    x = data(300)
    y = torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)
    model = KAN([2, 3, 1], grid=3, seed=0, auto_save=False)
    model.fit({"train_input": x, "train_label": y, "test_input": x, "test_label": y}, steps=4, log=-1)
    hidden = model.acts[1]  # type: ignore[index]
    grid = model.act_fun[1].grid[:, 3:-3]
    assert bool(((hidden < grid[:, 0]) | (hidden > grid[:, -1])).any()), "the test is about such activations"
    assert relative_change(model, model.refine(6), x) <= PROMISED
    assert relative_change(model, model.refine(12), x) <= PROMISED


def test_grids_of_different_layers_and_the_older_argument_name() -> None:
    model, x = wild(KAN([2, 3, 1], grid=[2, 3], k=[2, 3], auto_save=False)), data()
    model(x)
    for refined in (model.refine([4, 9]), model.refine(grid=[4, 9]), model.refine((4, 9))):
        assert refined.grid == [4, 9] and refined.k == [2, 3]
        assert relative_change(model, refined, x) <= PROMISED


def test_mult_nodes_affines_symbolic_edges_and_masks_come_along() -> None:
    model, x = wild(KAN([2, [2, 2], [1, 1], 1], mult_arity=[[], [2, 3], [3], []], affine_trainable=True, auto_save=False), size=0.5), data()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("node_", "subnode_")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model(x)
    model.fix_symbolic(0, 0, 1, "sin", verbose=False)
    model.fix_symbolic(1, 1, 2, torch.cos)
    model.set_mode(0, 1, 4, "sn", mask_n=0.25)
    model.remove_edge(1, 2, 0)
    model.act_fun[0].scale_sp.requires_grad_(False)
    refined = model.refine(9)
    assert relative_change(model, refined, x) <= PROMISED
    for old, new in zip(model.act_fun, refined.act_fun, strict=True):
        assert torch.equal(old.mask, new.mask)
    for old, new in zip(model.symbolic_fun, refined.symbolic_fun, strict=True):
        assert torch.equal(old.mask, new.mask) and torch.equal(old.affine, new.affine) and old.funs_name == new.funs_name
    assert {n: p.requires_grad for n, p in refined.named_parameters()} == {n: p.requires_grad for n, p in model.named_parameters()}


def test_shares_no_storage_with_the_parent_and_leaves_it_alone() -> None:
    model, x = wild(KAN([2, 3, 1], auto_save=False)), data()
    model(x)
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    refined = model.refine(6)
    assert {value.data_ptr() for value in model.state_dict().values()}.isdisjoint(
        value.data_ptr() for value in refined.state_dict().values()
    )
    with torch.no_grad():
        for parameter in refined.parameters():
            parameter.add_(1.0)
    refined.fix_symbolic(0, 1, 1, "exp", verbose=False)
    refined.remove_edge(1, 0, 0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.symbolic_fun[0].funs_name == [["sin", "0"], ["0", "0"], ["0", "0"]]
    assert model.grid == 3


def test_all_settings_come_along() -> None:
    model = KAN(
        [2, 3, 1], base_fun=torch.tanh, grid_eps=0.3, sp_trainable=False, sb_trainable=False, seed=5, grid_range=[-2, 3],
        symbolic_enabled=False, auto_save=False, affine_trainable=True,
    )  # fmt: skip
    refined = model.refine(7)
    expected = {**model.settings(), "grid": 7}
    assert refined.settings() == expected
    assert refined.base_fun is torch.tanh and all(layer.grid_eps == 0.3 for layer in refined.act_fun)


class Shifted(KAN):
    def forward(self, x: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        return super().forward(x - 0.1, *rest, **more)  # type: ignore[arg-type]


def self_built() -> KAN:
    model = KAN([2, 3, 1], base_fun=nn.PReLU(), auto_save=False)
    own = KAN.__new__(KAN)
    nn.Module.__init__(own)
    own.width, own.grid, own.k, own.base_fun, own.base_fun_name = [2, 3, 1], 3, 3, model.base_fun, "prelu"
    own.act_fun, own.symbolic_fun = model.act_fun, model.symbolic_fun
    for name, parameter in model.named_parameters(recurse=False):
        setattr(own, name, parameter)
    own.auto_save = False
    return own


def deeper(model: KAN) -> KAN:
    model.expand_depth()
    return model


def wider(model: KAN) -> KAN:
    model.expand_width(1, 1)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: KAN([2, 3, 1], base_fun=nn.PReLU(), auto_save=False),
        lambda: KAN([2, 3, 1], base_fun=nn.Softmax(dim=1), auto_save=False),
        lambda: Shifted([2, 3, 1], base_fun=nn.PReLU(), auto_save=False),
        self_built,
    ],
)
@pytest.mark.parametrize(
    "change", [lambda m: m.refine(6), lambda m: m.prune(0.0, 0.0), lambda m: m.copy(), copy.deepcopy, deeper, wider]
)
def test_modules_as_base_functions_come_along(make: Callable[[], KAN], change: Callable[[KAN], KAN]) -> None:
    model, x = make(), torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for parameter in model.base_fun.parameters():  # type: ignore[union-attr]
            parameter.fill_(0.7)
    before = model(x).detach()
    new = change(model)
    assert type(new.base_fun) is type(model.base_fun) and type(new.settings()["base_fun"]) is type(model.base_fun)
    if change is not wider or not isinstance(model.base_fun, nn.Softmax):  # of a row with one more entry it is another one
        assert torch.allclose(new(x), before, atol=1e-10)
    assert sum("base_fun" in name for name, _ in new.named_parameters()) == len([*model.base_fun.parameters()])  # type: ignore[union-attr]
    new(x).sum().backward()
    assert all(p.grad is not None for p in new.base_fun.parameters())  # type: ignore[union-attr]


def smooth_model(size: float) -> KAN:
    """A network of smooth edges; its hidden nodes reach about ``1.3 size``."""
    model = KAN([2, 3, 1], grid=5, seed=0, noise_scale=0.0, auto_save=False)
    with torch.no_grad():
        for layer in model.act_fun:
            layer.coef.copy_(size * torch.sin(torch.linspace(-2, 2, 8)).expand_as(layer.coef))
    return model


@pytest.mark.parametrize(
    "size",
    [0.3, 3.0],
    ids=["inside of the grid", "outside of the grid"],
)
def test_a_grid_that_is_not_nested_changes_little_and_less_the_finer_it_is(size: float) -> None:
    model, x = smooth_model(size), data(500)
    model(x)
    changes = [relative_change(model, model.refine(grid), x) for grid in (7, 14, 28, 56)]
    assert changes[0] < 1e-3
    assert all(finer < 0.5 * coarser for coarser, finer in itertools.pairwise(changes)), changes


def test_a_coarser_grid_is_allowed() -> None:
    model, x = smooth_model(0.3), data()
    model(x)
    message = "from 5 to 3 grid intervals is no refinement: .* at the last input by [0-9.e-]+ of the outputs'"
    with pytest.warns(UserWarning, match=message) as told:
        refined = model.refine(3)
    assert relative_change(model, refined, x) < 0.3
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=r"from 5 to \[9, 4\] grid intervals is no refinement"):
        model.refine([9, 4])


def trained(k: int, width: list[int], grid: int = 5, seed: int = 0, samples: int = 300) -> tuple[KAN, Tensor]:
    """A network after a fit, and other points than those of the fit."""
    x, between = data(samples, seed=seed), data(500, seed=seed + 100) * 0.98
    model = KAN(width, grid=grid, k=k, seed=seed, auto_save=False)
    model.fit((x, torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)), opt="LM", steps=8, progress=False)
    return model, between


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_a_trained_network_is_the_same_on_any_finer_grid(k: int) -> None:
    model, between = trained(k, [2, 2, 1])
    seen = model.remembered_input()
    for grid in (5 + 2 * k + 2, 20, 33):
        refined = model.refine(grid)
        assert refined.refinement_change is not None and refined.refinement_change < PROMISED
        assert relative_change(model, refined, seen) <= PROMISED and relative_change(model, refined, between) <= PROMISED
        for old, new in zip(model.act_fun, refined.act_fun, strict=True):
            assert all(bool((new.grid[i] - knot).abs().min() < 1e-12) for i, row in enumerate(old.grid) for knot in row)


@pytest.mark.parametrize("k", [3, 4, 5])
@pytest.mark.parametrize(("old", "new"), [(10, 25), (5, 12), (3, 10)])
def test_between_few_samples_a_grid_that_is_not_nested_stays_near(k: int, old: int, new: int) -> None:
    x, between = data(30, seed=1), data(500, seed=2)
    for moved in (False, True):
        model = wild(KAN([2, 1], grid=old, k=k, auto_save=False), size=1.0)
        if moved:
            model.update_grid(x)
        model(x)
        refined = model.refine(new)
        inside = between[((between >= x.amin(0)) & (between <= x.amax(0))).all(1)]
        assert relative_change(model, refined, inside) < 0.2


def test_a_large_change_of_a_trained_network_is_told() -> None:
    model, _ = trained(3, [2, 2, 1])
    wild(model)(2 * data())  # leaves the grids on both sides, and six intervals are too few for the old ones and what is outside
    message = "the splines on 5 to 6 grid intervals cannot be the same: the function changes, at the last input"
    with pytest.warns(UserWarning, match=message) as told:
        refined = model.refine(6)
    assert told[0].filename == __file__ and refined.refinement_change is not None and refined.refinement_change > 0.01
    fresh = KAN([2, 2, 1], auto_save=False)
    assert fresh.refinement_change is None and fresh.refine(6).refinement_change is None  # there is nothing to measure it at


def test_many_intervals_take_memory_for_each_only() -> None:
    model = wild(KAN([1, 1], grid=3, auto_save=False))
    x = data(20, 1)
    model(x)
    assert relative_change(model, model.refine(60_000), x) <= PROMISED  # a full matrix has 29 GB


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("grid", [3, 5, 6, 20])
@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(50, 2),
        torch.cat([torch.ones(50, 1), torch.linspace(-1, 1, 50)[:, None]], dim=1),
        torch.tensor([[0.3, -0.2]]),
        torch.tensor([[0.1, 0.2], [-0.4, 0.9]]),
        torch.tensor([[0.1, 0.2]]).repeat(100, 1),
        torch.tensor([[5.0, -7.0], [5.0, -7.0], [6.0, 100.0]]),
        torch.linspace(-1e-9, 1e-9, 30)[:, None].expand(-1, 2),
    ],
    ids=["zeros", "constant column", "one sample", "two samples", "duplicates", "far outside", "nearly constant"],
)
def test_never_nan(x: Tensor, grid: int, dtype: torch.dtype) -> None:
    model = wild(KAN([2, 3, 1], grid=3, seed=1, auto_save=False)).to(dtype)
    model(x.to(dtype))
    refined = model.refine(grid)
    assert refined.dtype == dtype
    assert all(bool(torch.isfinite(value).all()) for value in refined.state_dict().values())
    change = relative_change(model, refined, x.to(dtype))
    assert math.isfinite(change)
    if grid % 3 == 0:
        assert change <= (PROMISED if dtype == torch.float64 else 1e-4)


def test_float32_network_under_any_default_dtype() -> None:
    model, x = KAN([2, 3, 1], auto_save=False).float(), data(dtype=torch.float32)
    model(x)
    refined = model.refine(6)
    assert refined.dtype == torch.float32 and {p.dtype for p in refined.parameters()} == {torch.float32}
    assert relative_change(model, refined, x) <= 1e-5


def test_works_without_data() -> None:
    model = wild(KAN([2, 3, 1], auto_save=False), size=0.3)
    refined = model.refine(6)
    assert refined.last_input is None
    inside = model.act_fun[0].grid.new_tensor([[-0.9, 0.9], [0.0, 0.1], [0.5, -0.5]])
    for old, new in zip(model.act_fun, refined.act_fun, strict=True):
        x = inside[:, :1].expand(-1, old.in_dim)
        torch.testing.assert_close(new(x)[0], old(x)[0], rtol=1e-12, atol=1e-12)


def test_remembers_the_data_and_can_go_on() -> None:
    model, x = KAN([2, 3, 1], auto_save=False), data()
    model(x)
    refined = model.refine(6).refine(12)
    assert refined.last_input is not None and torch.equal(refined.last_input, x)
    assert refined.grid == 12
    assert relative_change(model, refined, x) <= PROMISED


@pytest.mark.parametrize("grid", [0, -1, 2.5, "10", [3], [3, 0], [3, 4, 5], True])
def test_bad_grids(grid: object) -> None:
    model = KAN([2, 3, 1], auto_save=False)
    with pytest.raises(ValueError, match=r"grid must be an integer of at least 1, or a list of 2 of them, one per layer; got "):
        model.refine(grid)  # type: ignore[arg-type]


def test_no_grid() -> None:
    with pytest.raises(ValueError, match=r"refine needs the new number of grid intervals: refine\(10\)"):
        KAN([2, 1], auto_save=False).refine()


# From another network


@torch.no_grad()
def stirred(width: list[Any], seed: int = 0, **settings: Any) -> KAN:
    """A model whose every parameter differs, with a symbolic edge, one of both kinds and one that is off."""
    model, generator = KAN(width, seed=seed, auto_save=False, **settings), torch.Generator().manual_seed(seed)
    model(data(inputs=model.width_in[0]))
    for name, parameter in model.named_parameters():
        if name.startswith(("node_", "subnode_")) or name.endswith(("scale_sp", "scale_base")):
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    model.update_grid(data(inputs=model.width_in[0]))
    model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False, random=True)
    model.fix_symbolic(0, 1, 1, "x^2", fit_params_bool=False)
    model.set_mode(0, 1, 1, "sn", 0.3)
    model.remove_edge(0, 1, 0)
    return model


@pytest.mark.parametrize(("grid", "exact"), [(5, True), (10, True), (20, True), (13, False)])
@pytest.mark.parametrize(("width", "arity"), [([2, 3, 1], 2), ([2, [1, 2], 2], [[], [2, 3], []])])
def test_initialised_from_another_model(width: list[Any], arity: Any, grid: int, exact: bool) -> None:
    parent, x = stirred(width, grid=5, mult_arity=arity), data(seed=4)
    before = {name: value.clone() for name, value in parent.state_dict().items()}
    child = KAN(width, grid=grid, mult_arity=arity, seed=7, auto_save=False)
    seen = parent.last_input
    assert child.initialize_from_another_model(parent, x) is child
    assert parent.last_input is seen
    torch.testing.assert_close(child(x), parent(x), rtol=0, atol=1e-12 if exact else 5e-3)
    assert [layer.funs_name for layer in child.symbolic_fun] == [layer.funs_name for layer in parent.symbolic_fun]
    # pykan's defect 1: the two share their scales, masks, affines and symbolic edges.
    with torch.no_grad():
        for parameter in child.parameters():
            parameter.add_(1.0)
    child.fix_symbolic(0, 0, 0, "exp", fit_params_bool=False)
    assert all(torch.equal(before[name], value) for name, value in parent.state_dict().items())
    assert parent.symbolic_fun[0].funs_name[0][0] == "sin"


def test_grids_alone_from_another_model() -> None:
    parent, x = stirred([2, 3, 1], grid=5), data(seed=4)
    child = KAN([2, 3, 1], grid=10, seed=7, auto_save=False)
    scales = child.act_fun[0].scale_base.clone()
    child.initialize_grid_from_another_model(parent, x)
    for new, old in zip(child.act_fun, parent.act_fun, strict=True):
        k = old.k
        torch.testing.assert_close(new.grid[:, k:-k][:, ::2], old.grid[:, k:-k])
    torch.testing.assert_close(child.act_fun[0](x)[3], parent.act_fun[0](x)[3], rtol=0, atol=1e-12)
    assert torch.equal(child.act_fun[0].scale_base, scales) and bool((child.act_fun[0].mask == 1).all())
    assert child.symbolic_fun[0].funs_name == [["0", "0"]] * 3


def test_the_last_input_of_the_other_model_serves() -> None:
    parent = stirred([2, 3, 1], grid=5)
    child = KAN([2, 3, 1], grid=10, auto_save=False).initialize_from_another_model(parent)
    torch.testing.assert_close(child(data()), parent(data()), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"hasn't seen any data yet: call model\(x\)"):
        child.initialize_from_another_model(KAN([2, 3, 1], auto_save=False))


def test_models_that_do_not_match() -> None:
    child = KAN([2, 3, 1], auto_save=False)
    before = {name: value.clone() for name, value in child.state_dict().items()}
    for other in ([2, 4, 1], [2, [3, 1], 1], [2, 3, 1, 1]):
        for call in (child.initialize_from_another_model, child.initialize_grid_from_another_model):
            with pytest.raises(ValueError, match="a network can be initialised from one of the same width and arities; this one has width"):
                call(KAN(other, auto_save=False), data())
    with pytest.raises(ValueError, match=r"splines of the same degrees; k is \[3, 3\] here and \[3, 2\] there"):
        child.initialize_from_another_model(KAN([2, 3, 1], k=[3, 2], auto_save=False), data())
    assert all(torch.equal(before[name], value) for name, value in child.state_dict().items())
