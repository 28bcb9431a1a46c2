"""The KAN class: what it delegates, what it accepts and refuses, what it leaves alone."""

import contextlib
import copy
import json
import math
import pickle
import random
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import kan
from kan import KAN
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

Dataset = dict[str, Tensor]


def dataset(samples: int = 60) -> Dataset:
    x, z = uniform(samples, 2), uniform(samples, 2, seed=1)
    f = lambda u: torch.sin(torch.pi * u[:, [0]]) + u[:, [1]] ** 2  # noqa: E731
    return {"train_input": x, "train_label": f(x), "test_input": z, "test_label": f(z)}


def new(width: Any = (2, 3, 1), **settings: Any) -> KAN:
    return KAN(**{"width": width, "auto_save": False, **settings})


# train and eval


def test_train_and_eval_are_those_of_a_module() -> None:
    model = new()
    assert model.training and all(module.training for module in model.modules())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    for call in (model.train, lambda: model.train(True), lambda: model.train(mode=True)):
        model.eval()
        assert call() is model and all(module.training for module in model.modules())
    for off in (lambda: model.train(False), lambda: model.train(mode=False)):
        model.train()
        assert off() is model and not any(module.training for module in model.modules())
    parent = nn.Sequential(new())
    parent.eval()
    assert not parent[0].training
    parent.train()
    assert parent[0].training


def test_train_with_a_dataset_is_fit() -> None:
    arguments = {"opt": "LBFGS", "steps": 3, "lamb": 0.01, "lamb_entropy": 10.0, "log": -1}
    results, models = [], []
    for call in (
        lambda model: model.fit(dataset(), **arguments),
        lambda model: model.train(dataset(), **arguments),
        lambda model: model.train(dataset=dataset(), **arguments),
    ):
        model = new().eval()
        results.append(call(model))
        models.append(model)
    assert results[0] == results[1] == results[2]
    assert set(results[0]) == {"train_loss", "test_loss", "reg"} and all(len(values) == 3 for values in results[0].values())
    for model in models[1:]:
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), models[0].parameters(), strict=True))
    assert not any(model.training for model in models)


def test_older_argument_names() -> None:
    model = new(noise_scale_base=0.5)
    assert model.scale_base_sigma == 0.5
    model(uniform(100, 2))
    assert model.refine(grid=5).grid == model.refine(5).grid == model.refine(new_grid=5).grid == 5
    assert torch.equal(new([2, 1], noise_scale_base=0.1).act_fun[0].scale_base, new([2, 1], scale_base_sigma=0.1).act_fun[0].scale_base)


@pytest.fixture
def figures() -> Iterator[Any]:
    from matplotlib import pyplot as plt

    plt.switch_backend("Agg")
    plt.close("all")
    yield plt
    plt.close("all")


def test_plot_returns_the_figure_and_writes_nothing(figures: Any, tmp_path: Path) -> None:
    model = new([2, 3, 1])
    model(uniform(100, 2))
    figure = model.plot(beta=100)
    assert figure is figures.gcf()
    model.plot(title="a title", in_vars=["a", "b"], out_vars=["c"], metric="forward_u", tick=True, sample=True)
    assert list(tmp_path.iterdir()) == []
    model.plot(folder="figures")
    assert [path.name for path in Path("figures").iterdir()] == ["network.png"]


def test_plot_mask_leaves_out_what_prune_dropped(figures: Any) -> None:
    model = new([2, 3, 1])
    with torch.no_grad():
        model.act_fun[1].mask[1] = 0.0
    model(uniform(100, 2))

    def artists(**arguments: Any) -> int:
        axes = model.plot(**arguments).axes[0]
        return sum(len(collection.get_paths()) for collection in axes.collections) + len(axes.lines) + len(axes.patches) + len(axes.texts)

    whole = artists()
    assert artists(mask=True) == whole, "nothing has been pruned"
    model.prune(edge_th=0.0)
    assert artists(mask=True) < whole
    assert artists(mask=False) == artists() == whole


def test_plot_needs_data() -> None:
    with pytest.raises(ValueError, match="hasn't seen any data yet"):
        new().plot()


# Names


def star_import() -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec("from kan import *", namespace)
    del namespace["__builtins__"]
    return namespace


def test_star_import_gives_all_and_nothing_else() -> None:
    namespace = star_import()
    assert set(namespace) == set(kan.__all__)
    assert kan.__all__ == sorted(kan.__all__) and len(set(kan.__all__)) == len(kan.__all__)


@pytest.mark.parametrize(
    "name",
    ["KAN", "MultKAN", "KANLayer", "Symbolic_KANLayer", "LBFGS", "SYMBOLIC_LIB", "add_symbolic", "create_dataset", "ex_round", "fit_params",
     "sparse_mask", "torch", "nn", "np", "plt", "tqdm", "os", "copy", "random", "sympy", "symbols", "Symbol", "nsimplify", "expand",
     "simplify", "sin", "cos", "exp", "log", "sqrt", "pi", "latex", "lambdify", "utils"],
)  # fmt: skip
def test_names_that_notebooks_take_for_granted(name: str) -> None:
    assert name in star_import()


def test_names_are_what_they_say() -> None:
    import matplotlib.pyplot
    import sympy
    import tqdm

    namespace = star_import()
    assert namespace["torch"] is torch and namespace["np"] is np and namespace["nn"] is nn
    assert namespace["plt"] is matplotlib.pyplot and namespace["sympy"] is sympy and namespace["tqdm"] is tqdm.tqdm
    assert namespace["symbols"] is sympy.symbols and namespace["pi"] is sympy.pi and namespace["exp"] is sympy.exp
    assert namespace["KAN"] is namespace["MultKAN"] is KAN
    assert all(isinstance(namespace[name], type) for name in ("KAN", "KANLayer", "Symbolic_KANLayer", "LBFGS"))
    assert isinstance(namespace["utils"], types.ModuleType)


@pytest.mark.parametrize("name", ["test", "E", "I", "N", "S", "Q", "O", "beta", "gamma", "plot", "field", "version_of", "annotations"])
def test_accidental_names_are_gone(name: str) -> None:
    assert name not in star_import()


def test_no_builtin_is_shadowed() -> None:
    import builtins

    assert set(kan.__all__).isdisjoint(dir(builtins))


def test_unknown_attribute_of_the_package() -> None:
    with pytest.raises(AttributeError, match="module 'kan' has no attribute 'nonsense'"):
        kan.nonsense  # noqa: B018
    assert {"KAN", "plt", "symbols"} <= set(dir(kan))


def test_pykans_import_paths() -> None:
    from kan.KANLayer import KANLayer
    from kan.LBFGS import LBFGS
    from kan.MultKAN import KAN as K
    from kan.MultKAN import MultKAN
    from kan.Symbolic_KANLayer import Symbolic_KANLayer
    from kan.utils import SYMBOLIC_LIB, add_symbolic, create_dataset, ex_round, fit_params, sparse_mask

    assert K is MultKAN is KAN and KANLayer is kan.KANLayer and LBFGS is kan.LBFGS and Symbolic_KANLayer is kan.Symbolic_KANLayer
    here = [SYMBOLIC_LIB, add_symbolic, create_dataset, ex_round, fit_params, sparse_mask]
    there = [kan.SYMBOLIC_LIB, kan.add_symbolic, kan.create_dataset, kan.ex_round, kan.fit_params, kan.sparse_mask]
    assert all(one is other for one, other in zip(here, there, strict=True))


# Random numbers


def random_states() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


@pytest.mark.parametrize(
    "call",
    [
        lambda model: new([3, 4, 1], seed=5, sparse_init=True),
        lambda model: model.fit(dataset(), steps=1, log=-1),
        lambda model: model.fit(dataset(), opt="Adam", steps=2, batch=10, log=-1),
        lambda model: model.prune(0.0, 0.0),
        lambda model: model.refine(6),
        lambda model: model.auto_symbolic(lib=["x", "sin"], verbose=0),
        lambda model: model.fix_symbolic(0, 0, 0, "sin", verbose=False),
        lambda model: model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False, random=True),
        lambda model: model.suggest_symbolic(0, 0, 0, lib=["x", "sin"], verbose=False),
        lambda model: model.copy(),
        lambda model: kan.create_dataset(lambda x: x[:, [0]]),
        lambda model: model.attribute(),
    ],
)
def test_global_random_states_are_left_alone(call: Callable[[KAN], Any]) -> None:
    model = new()
    model(uniform(100, 2))
    torch.manual_seed(11)
    before = random_states()
    call(model)
    assert random_states() == before


def test_saving_and_loading_leave_the_global_random_states_alone() -> None:
    torch.manual_seed(11)
    before = random_states()
    model = KAN([2, 2, 1])
    model.fit(dataset(), steps=1, log=-1)
    model.rewind("0.1").checkout("0.0")
    KAN.loadckpt("model/0.0")
    assert random_states() == before


def test_the_seed_alone_decides() -> None:
    def trained(seed: int) -> list[Tensor]:
        model = new(seed=seed)
        model.fit(dataset(), opt="Adam", steps=3, batch=20, log=-1)
        return list(model.parameters())

    torch.manual_seed(0)
    one = trained(4)
    torch.rand(7)
    np.random.rand(3)
    again, other = trained(4), trained(5)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# The constructor's arguments


@pytest.mark.parametrize("width", [[2, 5, 1], [2, [3, 2], 1], [[2, 0], [5, 0], [1, 0]], [np.int64(2), 1]])
def test_the_callers_lists_are_not_changed(width: list[Any]) -> None:
    arity: Any = [[], [2] * (width[1][1] if isinstance(width[1], list) else 0), []] if len(width) == 3 else 2
    before = copy.deepcopy((width, arity))
    grid_range = [-1, 1]
    model = new(width, mult_arity=arity, grid_range=grid_range)
    model(uniform(100, 2))
    model.prune(0.0, 0.0).refine(6)
    assert (width, arity) == before and [type(entry) for entry in width] == [type(entry) for entry in before[0]] and grid_range == [-1, 1]
    model.width.append([9, 9])
    assert model.width == new(width, mult_arity=arity).width


@given(
    entries=st.lists(
        st.one_of(st.integers(1, 4), st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda pair: sum(pair) > 0)),
        min_size=2,
        max_size=4,
    ),
    as_list=st.booleans(),
    grid=st.integers(1, 5),
    k=st.integers(0, 4),
    arity=st.integers(1, 3),
)
@settings(deadline=None, max_examples=30)
def test_any_width_works(entries: list[Any], as_list: bool, grid: int, k: int, arity: int) -> None:
    width = [list(entry) if isinstance(entry, tuple) and as_list else entry for entry in entries]
    model = new(width if as_list else tuple(width), grid=grid, k=k, mult_arity=arity)
    pairs = [(entry, 0) if isinstance(entry, int) else entry for entry in entries]
    assert model.width == [list(pair) for pair in pairs] and model.width_in == [sum(pair) for pair in pairs]
    assert model.width_out == [n + arity * m for n, m in pairs]
    y = model(uniform(5, model.width_in[0]))
    assert y.shape == (5, model.width_in[-1]) and bool(torch.isfinite(y).all())


WIDTH_LIST = "width must be a list with the number of nodes of each layer, inputs first, such as [2, 5, 1]; got "
WIDTH_ENTRY = "width must be a list of positive integers or pairs [sum nodes, multiplication nodes]; entry "


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (None, WIDTH_LIST + "None"),
        (5, WIDTH_LIST + "5"),
        ("251", WIDTH_LIST + "'251'"),
        (b"251", WIDTH_LIST),
        ([], WIDTH_LIST + "[]"),
        ([2], WIDTH_LIST + "[2]"),
        (iter([2, 1]), WIDTH_LIST),
        ([2, 0, 1], WIDTH_ENTRY + "1 of [2, 0, 1] is 0"),
        ([0, 1], WIDTH_ENTRY + "0 of [0, 1] is 0"),
        ([2, -5, 1], WIDTH_ENTRY + "1 of [2, -5, 1] is -5"),
        ([2, 5, 1.0], WIDTH_ENTRY + "2 of [2, 5, 1.0] is 1.0"),
        ([2, 2.5, 1], WIDTH_ENTRY + "1 of [2, 2.5, 1] is 2.5"),
        ([2, "5", 1], WIDTH_ENTRY + "1 of [2, '5', 1] is '5'"),
        ([2, "50", 1], WIDTH_ENTRY + "1 of [2, '50', 1] is '50'"),
        ([2, None, 1], WIDTH_ENTRY + "1 of [2, None, 1] is None"),
        ([2, True, 1], WIDTH_ENTRY + "1 of [2, True, 1] is True"),
        ([2, math.nan, 1], WIDTH_ENTRY + "1 of [2, nan, 1] is nan"),
        ([2, [3, 2, 1], 1], WIDTH_ENTRY + "1 of [2, [3, 2, 1], 1] is [3, 2, 1]"),
        ([2, [3], 1], WIDTH_ENTRY + "1 of [2, [3], 1] is [3]"),
        ([2, [], 1], WIDTH_ENTRY + "1 of [2, [], 1] is []"),
        ([2, [0, 0], 1], WIDTH_ENTRY + "1 of [2, [0, 0], 1] is [0, 0]"),
        ([2, [-1, 3], 1], WIDTH_ENTRY + "1 of [2, [-1, 3], 1] is [-1, 3]"),
        ([2, [1.5, 3], 1], WIDTH_ENTRY + "1 of [2, [1.5, 3], 1] is [1.5, 3]"),
        ([2, [True, 1], 1], WIDTH_ENTRY + "1 of [2, [True, 1], 1] is [True, 1]"),
        ([[2, [1]], 1], WIDTH_ENTRY + "0 of [[2, [1]], 1] is [2, [1]]"),
        ({2: 1, 5: 2}, WIDTH_LIST),
        ({2, 5}, WIDTH_LIST),
    ],
)
def test_widths_that_are_none(width: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        new(width)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": 0}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got 0."),
        ({"grid": -3}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got -3."),
        ({"grid": 2.5}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got 2.5."),
        ({"grid": "3"}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got '3'."),
        ({"grid": None}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got None."),
        ({"grid": [3]}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got [3]."),
        ({"grid": [3, 0]}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got [3, 0]."),
        ({"grid": True}, "grid must be an integer of at least 1, or a list of 2 of them, one per layer; got True."),
        ({"k": -1}, "k must be an integer of at least 0, or a list of 2 of them, one per layer; got -1."),
        ({"k": 1.5}, "k must be an integer of at least 0, or a list of 2 of them, one per layer; got 1.5."),
        ({"k": [3, -1]}, "k must be an integer of at least 0, or a list of 2 of them, one per layer; got [3, -1]."),
        ({"base_fun": "silou"}, "unknown base function 'silou'; did you mean 'silu'? Valid are: 'silu', 'identity', 'zero'."),
        ({"base_fun": "Identity"}, "unknown base function 'Identity'; did you mean 'identity'?"),
        ({"grid_range": [1, -1]}, "grid_range must be [low, high] with low < high; got [1.0, -1.0]"),
        ({"grid_range": [1, 1]}, "grid_range must be [low, high] with low < high; got [1.0, 1.0]"),
        ({"width": [2, [1, 2], 1], "mult_arity": 0}, "the arity of a multiplication node must be at least 1; got 0."),
        ({"width": [2, [1, 2], 1], "mult_arity": [[], [2], []]}, "mult_arity must be an integer, or one list per layer of nodes"),
        ({"width": [2, [1, 2], 1], "mult_arity": [[2, 2]]}, "mult_arity must be an integer, or one list per layer of nodes"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        KAN(**{"width": [2, 3, 1], **arguments})
    assert list(tmp_path.iterdir()) == [], "nothing is saved of a model that is refused"


def test_degree_0_and_callable_base_function() -> None:
    assert bool(torch.isfinite(new(k=0)(uniform(100, 2))).all())
    model = new([2, 1], base_fun=torch.tanh)
    with torch.no_grad():
        model.act_fun[0].coef.zero_()
    x = uniform(100, 2)
    torch.testing.assert_close(model(x), torch.tanh(x) @ model.act_fun[0].scale_base)


def test_degree_0_trains_adapts_and_refines() -> None:
    model = new([2, 3, 1], k=0, grid=5)
    results = model.fit(dataset(), steps=3, log=-1)
    assert results["train_loss"][-1] < results["train_loss"][0]
    x = dataset()["train_input"]
    for grid in (5, 10, 20):
        torch.testing.assert_close(model.refine(grid)(x), model(x), rtol=1e-12, atol=1e-12)
    model.update_grid(x * torch.tensor([1.0, 3.0]))
    first, second = model.act_fun[0].grid
    assert float(second[-1]) > 2 > 1 >= float(first[-1]), "each input has its own grid"


# Bad input to the model


def test_bad_inputs_name_both_shapes() -> None:
    model = new([3, 1])
    for x, shape in [(uniform(5, 2), "(5, 2)"), (uniform(5, 4), "(5, 4)"), (torch.zeros(3), "(3,)"), (torch.zeros(2, 3, 3), "(2, 3, 3)")]:
        expected = f"the input must have the shape (number of samples, 3), one column per input of the network; got {shape}."
        with pytest.raises(ValueError, match=re.escape(expected)):
            model(x)
        with pytest.raises(ValueError, match=re.escape(expected)):
            model.get_act(x)
    assert model.last_input is None, "a refused input is not remembered"
    for x, what in [("text", "str"), (torch.zeros(2, 3, dtype=torch.complex64), "torch.complex64"), (np.full((2, 3), "a"), "<U1")]:
        with pytest.raises(TypeError, match=f"the input must .*; got {what}"):
            model(x)


def test_refused_data_leave_the_model_as_it_was() -> None:
    good = dataset()
    x = good["train_input"]
    bad: list[tuple[dict[str, Any], str]] = [
        ({"train_label": None}, "missing: ['train_label']"),
        ({"train_label": good["train_label"][:, 0]}, "must have the shape of the network's output, (60, 1); got (60,). Use label[:, None]"),
        ({"test_label": good["test_label"][:, 0]}, "dataset['test_label'] must have the shape"),
        ({"train_input": x[:, :1]}, "dataset['train_input'] must have the shape (number of samples, 2)"),
        ({"train_input": torch.cat([x, x], dim=1)}, "one column per input of the network; got (60, 4)"),
        (
            {"train_input": x.clone().index_fill_(0, torch.tensor([3]), math.nan)},
            "holds NaN or infinity in column(s) [0, 1] (1 of 60 rows, first in row 3)",
        ),
        ({"test_label": good["test_label"] / 0.0}, "dataset['test_label'] must be finite"),
    ]
    model = KAN([2, 3, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for changes, message in bad:
        broken = {name: value for name, value in {**good, **changes}.items() if value is not None}
        with pytest.raises(ValueError, match=re.escape(message)):
            model.fit(broken, steps=1)
    with pytest.raises(ValueError, match="unknown optimiser 'LBGFS'; did you mean 'LBFGS'"):
        model.fit(good, opt="LBGFS", steps=1)
    with pytest.raises(ValueError, match="unknown reg_metric 'edge_backwards'; did you mean 'edge_backward'"):
        model.fit(good, reg_metric="edge_backwards", steps=1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.last_input is None and model.state_id == 0


# What a pass leaves behind, on demand


def test_activations_have_the_shapes_of_the_specification() -> None:
    model = new([2, [3, 2], 2], mult_arity=3)
    x = uniform(50, 2)
    assert model.acts is None and model.cache_data is None
    model(x)
    n, m, batch = model.width_in, model.width_out, 50
    assert (n, m) == ([2, 5, 2], [2, 9, 2])
    acts = model.acts
    assert acts is not None and [tuple(a.shape) for a in acts] == [(batch, size) for size in n]
    assert [tuple(a.shape) for a in model.acts_premult] == [(batch, size) for size in m[1:]]
    for edges in (model.spline_preacts, model.spline_postacts, model.spline_postsplines):
        assert [tuple(e.shape) for e in edges] == [(batch, m[l + 1], n[l]) for l in range(2)]
    assert [tuple(s.shape) for s in model.subnode_actscale] == [(size,) for size in m[1:]]
    for scales in (model.edge_actscale, model.acts_scale, model.acts_scale_spline):
        assert [tuple(s.shape) for s in scales] == [(m[l + 1], n[l]) for l in range(2)]
    assert model.cache_data is not None and torch.equal(model.cache_data, x)
    assert [tuple(s.shape) for s in model.node_scores] == [(size,) for size in n]
    assert [tuple(s.shape) for s in model.edge_scores] == [(m[l + 1], n[l]) for l in range(2)]
    assert [tuple(s.shape) for s in model.subnode_scores] == [(size,) for size in m[1:]]
    assert model.feature_score.shape == (2,)


def test_activations_are_those_of_the_network() -> None:
    model = new([2, [1, 1], 1])
    x = uniform(100, 2)
    model(x)
    model.fix_symbolic(0, 1, 0, "sin", verbose=False)
    model.set_mode(0, 1, 0, "sn", 0.5)
    y = model(x).detach()
    acts = model.acts
    assert acts is not None
    assert torch.equal(acts[0], x)
    torch.testing.assert_close(acts[-1], y)
    for l in range(2):
        torch.testing.assert_close(model.spline_postacts[l].sum(dim=2), model.acts_premult[l])
        torch.testing.assert_close(model.spline_preacts[l][:, 0], acts[l])
        torch.testing.assert_close(model.edge_actscale[l].detach(), model.spline_postacts[l].std(dim=0))
        torch.testing.assert_close(model.acts_scale[l].detach(), model.spline_postacts[l].std(dim=0) / (acts[l].std(dim=0) + 0.1))
        torch.testing.assert_close(model.subnode_actscale[l], model.acts_premult[l].std(dim=0))
    premult = model.acts_premult[0]
    torch.testing.assert_close(acts[1], torch.stack([premult[:, 0], premult[:, 1] * premult[:, 2]], dim=1))
    layer = model.act_fun[0]
    splines = (
        layer.mask * (layer.scale_base * nn.functional.silu(x)[..., None]) + layer.mask * layer.scale_sp * model.spline_postsplines[0].mT
    )
    symbolic = model.symbolic_fun[0](x)[1]
    torch.testing.assert_close(model.spline_postacts[0], splines.mT.detach() + symbolic.detach())


def test_activations_are_detached_and_the_scales_differentiable() -> None:
    model = new()
    model(uniform(100, 2))
    acts = model.acts
    assert acts is not None
    detached = [
        *acts,
        *model.acts_premult,
        *model.spline_preacts,
        *model.spline_postacts,
        *model.spline_postsplines,
        *model.subnode_actscale,
    ]
    assert not any(value.requires_grad for value in detached)
    for scales in (model.edge_actscale, model.acts_scale, model.acts_scale_spline):
        gradient = torch.autograd.grad(sum(scale.sum() for scale in scales), model.act_fun[0].coef)[0]
        assert bool((gradient != 0).any()) and bool(torch.isfinite(gradient).all())


def test_activations_follow_the_last_input() -> None:
    model = new()
    model(uniform(100, 2))
    for x in (uniform(100, 2, seed=3), uniform(7, 2, seed=4)):
        model(x)
        assert model.acts is not None and torch.equal(model.acts[0], x)
    model.get_act(uniform(9, 2, seed=5))
    assert model.acts[0].shape == (9, 2)
    model.get_act(dataset(11))
    assert torch.equal(model.acts[0], dataset(11)["train_input"])
    model.fit(dataset(13), steps=1, log=-1)
    assert torch.equal(model.acts[0], dataset(13)["train_input"]), "after a fit, the training data"
    assert torch.equal(model.acts[-1], model(dataset(13)["train_input"]).detach())


def test_a_pass_is_differentiable_and_keeps_no_graph() -> None:
    model, x = new(), uniform(100, 2).requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None and model.last_input is not None and not model.last_input.requires_grad


def test_what_needs_data_says_so() -> None:
    model = new()
    for call in (
        lambda: model.spline_postacts, lambda: model.edge_actscale, lambda: model.node_scores, lambda: model.feature_score, model.attribute,
        model.get_act, model.reg,
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"the model hasn't seen any data yet: call model\(x\) or model.fit\(dataset\) first"):
            call()


def test_attribution_of_inputs_for_inner_nodes(figures: Any) -> None:
    model = new([2, 3, 1])
    model(uniform(100, 2))
    scores = model.attribute(1, plot=False)
    assert scores is not None and scores.shape == (3, 2)
    row = model.attribute(1, 2, plot=False)
    assert row is not None
    torch.testing.assert_close(row, scores[2])
    torch.testing.assert_close(scores.sum(dim=0), model.feature_score)
    assert model.attribute() is None and [len(s) for s in model.node_scores] == [2, 3, 1]
    figures.close("all")
    model.attribute(1, 0)
    assert figures.get_fignums()


def test_accessors() -> None:
    model = new([2, 3, 1])
    model(uniform(100, 2))
    assert model.n_edge == 9
    model.remove_edge(0, 0, 0)
    model.fix_symbolic(1, 0, 0, "sin", verbose=False)
    assert model.n_edge == 7
    test = dataset()
    result = model.evaluate(test)
    with torch.no_grad():
        expected = (model.trace(test["test_input"]).output - test["test_label"]).square().mean().sqrt()
    assert result == {"test_loss": pytest.approx(float(expected)), "n_edge": 7, "n_grid": 3}
    assert list(model.get_params()) == list(model.parameters())
    assert float(model.get_reg().detach()) == float(model.reg("edge_forward_spline_n", 1.0, 2.0, 0.0, 0.0).detach()) > 0


def test_state_dict_has_pykans_keys() -> None:
    model = new([2, [1, 2], 1], mult_arity=3)
    sizes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert list(sizes)[:8] == [f"{name}_{l}" for l in range(2) for name in ("node_bias", "node_scale", "subnode_bias", "subnode_scale")]
    assert {name.split(".", 2)[2] for name in sizes if name.startswith("act_fun")} == {"grid", "coef", "mask", "scale_base", "scale_sp"}
    assert {name.split(".", 2)[2] for name in sizes if name.startswith("symbolic_fun")} == {"mask", "affine"}
    assert sizes["node_bias_0"] == (3,) and sizes["subnode_scale_0"] == (7,)
    assert sizes["act_fun.0.coef"] == (2, 7, 6) and sizes["act_fun.1.coef"] == (3, 1, 6)
    assert sizes["symbolic_fun.0.mask"] == (7, 2) and sizes["symbolic_fun.0.affine"] == (7, 2, 4)
    assert list(sizes) == [name for name, _ in model.named_parameters()]


# Copies


def lively() -> KAN:
    """A model in the middle of a story, with everything that a copy can trip over."""
    model = new([2, [2, 1], 1], seed=3, mult_arity=3, grid_eps=0.1)
    model.fit(dataset(), steps=1, lamb=0.01, log=-1)
    model.fix_symbolic(0, 0, 1, "sin", verbose=False)
    model.set_mode(0, 1, 1, "sn", 0.25)
    model.remove_edge(1, 0, 0)
    model.attribute()
    _ = model.node_scores, model.feature_score, model.acts
    model(uniform(100, 2))
    model.act_fun[0].scale_sp.requires_grad_(False)
    return model


COPIES: dict[str, Callable[[KAN], KAN]] = {
    "deepcopy": copy.deepcopy,
    "copy": lambda model: model.copy(),
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_equal_and_independent(how: str) -> None:
    model = lively()
    copied = COPIES[how](model)
    assert type(copied) is KAN and copied.settings() == model.settings() and copied.structure == model.structure
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(before[name], value) for name, value in copied.state_dict().items())
    assert [p.requires_grad for p in copied.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [layer.funs_name for layer in copied.symbolic_fun] == [layer.funs_name for layer in model.symbolic_fun]
    x = uniform(100, 2, seed=9)
    assert torch.equal(copied(x), model(x))
    model.attribute()
    torch.testing.assert_close(copied.node_scores[1], model.node_scores[1])
    copied.fit(dataset(), steps=1, log=-1)
    copied.fix_symbolic(0, 1, 0, "exp", verbose=False)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.symbolic_fun[0].funs_name[0][1] == "0"


def test_copying_writes_no_file(tmp_path: Path) -> None:
    for how in COPIES.values():
        how(lively())
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_was_plotted_and_read_can_be_copied(figures: Any) -> None:
    model = lively()
    model.plot()
    model.auto_symbolic(lib=["x"], verbose=0)
    model.symbolic_formula()
    for how in COPIES.values():
        assert how(model).symbolic_formula()[0] == model.symbolic_formula()[0]


def test_a_torch_state_round_trip() -> None:
    model, other = new(seed=1), new(seed=2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(uniform(100, 2)), model(uniform(100, 2)))


# dtype


def test_dtype_follows_the_parameters() -> None:
    model = new()
    assert model.dtype == torch.float64 and model(uniform(100, 2).float()).dtype == torch.float64
    model.float()
    assert model.dtype == torch.float32 and model(uniform(100, 2)).dtype == torch.float32
    results = model.fit({name: value.double() for name, value in dataset().items()}, steps=1, log=-1)
    assert model.dtype == torch.float32 and math.isfinite(results["train_loss"][0])
    assert model.to(torch.float64) is model and model.refine(6).dtype == torch.float64


def test_results_are_what_pykans_users_do_with_them() -> None:
    model = new()
    results = model.fit(dataset(), steps=2, log=-1, metrics=(lambda: torch.tensor(3.0),))
    _, _, r2, c = model.suggest_symbolic(0, 0, 0, verbose=False)
    last = [values[-1] for values in results.values()]
    for value in [*last, r2, c, model.evaluate(dataset())["test_loss"], model.fit_residuals(lambda u, x: u(x), uniform(100, 2), 1)[0]]:
        assert type(value) is np.float64 and value.item() == value.tolist() == value.mean() == float(value) == float(np.array(value))
        assert json.loads(json.dumps(value)) == value and f"{value:.3f}" == f"{float(value):.3f}"
    both = results["train_loss"] + model.fit(dataset(), steps=1, log=-1)["train_loss"]
    assert type(both) is list and len(both) == 3 and np.stack(both).shape == np.array(both).shape == (3,)
    assert set(json.loads(json.dumps(results))) == set(results)
    assert pickle.loads(pickle.dumps(results)) == results


# Scores, curves and grids, and the numbers of pykan 0.2.8


def test_scores_per_output() -> None:
    model = new([2, [2, 1], 3])
    model(uniform(100, 2))
    assert [tuple(s.shape) for s in model.node_scores_all] == [(3, 2), (3, 3), (3, 3)]
    assert [tuple(s.shape) for s in model.edge_scores_all] == [(3, 4, 2), (3, 3, 3)]
    assert [tuple(s.shape) for s in model.subnode_scores_all] == [(3, 4), (3, 3)]
    for name in ("node_scores", "edge_scores", "subnode_scores"):
        for mean, each in zip(getattr(model, name), getattr(model, f"{name}_all"), strict=True):
            torch.testing.assert_close(mean, each.mean(dim=0))


def test_attribution_of_a_layer_leaves_the_scores_of_the_network_alone() -> None:
    # pykan's defect 12: they are cut off at the layer, and prune and reg take them.
    model = new([2, 3, 2, 1])
    model(uniform(100, 2))
    model.attribute()
    scores = [s.clone() for s in (*model.node_scores, *model.edge_scores, *model.subnode_scores)]
    model.attribute(1)
    model.attribute(2, 1, plot=False)
    after = [*model.node_scores, *model.edge_scores, *model.subnode_scores]
    assert len(after) == len(scores) and all(torch.equal(a, b) for a, b in zip(after, scores, strict=True))


def test_initial_scores_are_the_callers() -> None:
    model = new([2, 3, 2])
    model(uniform(100, 2))
    ones = model.attribute(1, out_score=torch.ones(3), plot=False)
    thrice = model.attribute(-2, out_score=torch.tensor([1.0, 3.0, 0.0]), plot=False)
    assert ones is not None and thrice is not None
    torch.testing.assert_close(thrice, ones * torch.tensor([[1.0], [3.0], [0.0]]))
    own = model.attribute(1)
    assert own is not None
    torch.testing.assert_close(own, ones * model.node_scores[1][:, None])
    model.attribute(out_score=torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(model.node_scores[-1], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(model.node_scores[0], model.node_scores_all[0][0] / 2)


def test_attribution_with_indices_that_do_not_fit() -> None:
    model = new([2, 3, 1])
    model(uniform(100, 2))
    torch.testing.assert_close(model.attribute(-2, -1, plot=False), model.attribute(1, 2, plot=False))
    for call in (lambda: model.attribute(3), lambda: model.feature_interaction(-4)):
        with pytest.raises(IndexError, match=re.escape("layer of nodes must be between 0 and 2 (or -3 and -1, from the end)")):
            call()
    with pytest.raises(IndexError, match=re.escape("node of layer 1 must be between 0 and 2 (or -3 and -1, from the end); got 3.")):
        model.attribute(1, 3)
    with pytest.raises(ValueError, match=re.escape("attribute needs the layer of the node as well: attribute(l, 0).")):
        model.attribute(i=0)


def test_node_attribution_and_interactions() -> None:
    model = new([3, 4, 3, 2], seed=0)
    model(uniform(60, 3))
    assert model.node_attribute() is None  # type: ignore[func-returns-value]
    assert [tuple(s.shape) for s in model.node_attribute_scores] == [(4, 3), (3, 3), (2, 3)]
    for l, scores in enumerate(model.node_attribute_scores, start=1):
        torch.testing.assert_close(scores, model.attribute(l))
    assert model.feature_interaction(1) == {(0, 1, 2): 4}
    assert model.feature_interaction(-2, 0.3, 0.5) == {(0, 1): 1, (0, 1, 2): 2}
    assert model.feature_interaction(1, 0.02, 0.6) == {(0,): 2, (0, 1, 2): 1, (2,): 1}
    assert float(model.connection_cost.detach()) == pytest.approx(3.514943423660928, rel=1e-9)
    copy.deepcopy(model)


GOLDEN_PENALTIES = {
    "edge_forward_spline_n": 6.357, "edge_forward_sum": 6.357, "edge_forward_spline_u": 4.2465, "edge_backward": 11.331,
    "node_backward": 11.597,
}  # fmt: skip


@pytest.mark.parametrize("metric", GOLDEN_PENALTIES)
def test_every_metric_penalises_and_trains(metric: str) -> None:
    torch.set_default_dtype(torch.float32)
    try:
        model = new([2, 3, 1])
        f = lambda x: torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)  # noqa: E731
        model(kan.create_dataset(f)["train_input"])
        assert float(model.reg(metric, 1.0, 2.0, 0.0, 0.0).detach()) == pytest.approx(GOLDEN_PENALTIES[metric], abs=6e-4)
        assert float(model.connection_cost.detach()) == pytest.approx(1.4109, abs=1e-4)
    finally:
        torch.set_default_dtype(torch.float64)
    # pykan's defect 8: edge_forward_sum has no gradient.
    ends = {}
    for lamb in (0.0, 0.1):
        model = new([2, 3, 1])
        results = model.fit(dataset(), steps=20, lamb=lamb, reg_metric=metric, log=-1)
        assert all(math.isfinite(value) for values in results.values() for value in values)
        ends[lamb] = float(model.reg(metric).detach())
    assert ends[0.1] < 0.5 * ends[0.0]


def test_penalties_may_be_overridden() -> None:
    class Own(KAN):
        def reg(self, *args: Any, **arguments: Any) -> Tensor:
            return torch.tensor(7.0)

    assert float(Own([2, 1], auto_save=False).get_reg()) == 7.0


def test_curves_of_edges(figures: Any) -> None:
    model = new([3, 4, 3, 2], seed=0)
    model(uniform(60, 3))
    x, y = model.get_fun(0, 1, 2)
    assert isinstance(x, np.ndarray) and x.shape == y.shape == (60,)
    assert x[:3] == pytest.approx([-0.99107411, -0.91249306, -0.90342934], abs=1e-8) and list(x) == sorted(x)
    assert y[:3] == pytest.approx([-0.10499217, -0.1007028, -0.10011583], abs=1e-8)
    (number,) = figures.get_fignums()
    figure = figures.figure(number)
    (line,) = figure.axes[0].lines
    assert list(figure.get_size_inches()) == [3, 3] and line.get_marker() == "o" and list(line.get_ydata()) == list(y)
    figures.close("all")
    for one, other in zip(model.get_fun(-3, -2, -2, plot=False), (x, y), strict=True):
        assert list(one) == list(other)
    assert not figures.get_fignums()
    with pytest.raises(IndexError, match=re.escape("sub-node of layer 1 must be between 0 and 3 (or -4 and -1, from the end); got 4.")):
        model.get_fun(0, 0, 4)


def test_ranges_of_edges(capsys: pytest.CaptureFixture[str]) -> None:
    model = new([3, 4, 3, 2], seed=0)
    model(uniform(60, 3))
    ends = model.get_range(0, 1, 2)
    assert capsys.readouterr().out == "x range: [-0.99 , 0.98 ]\ny range: [-0.10 , 0.24 ]\n"
    assert all(isinstance(end, np.ndarray) and end.shape == () for end in ends)
    assert [float(end) for end in ends] == pytest.approx([-0.99107411, 0.98087861, -0.10499217, 0.24488855], abs=1e-8)
    assert model.get_range(0, -2, 2, verbose=False) == ends and capsys.readouterr().out == ""
    with pytest.raises(IndexError, match=re.escape("layer must be between 0 and 2 (or -3 and -1, from the end); got 3.")):
        model.get_range(3, 0, 0)


def test_grids_follow_samples() -> None:
    model = new([1, 1], grid=5)
    for end in (10.0, 0.5):
        x = torch.linspace(-end, end, 1001)[:, None]
        model.update_grid_from_samples(x)
        torch.testing.assert_close(model.act_fun[0].grid[0], torch.linspace(-2.2 * end, 2.2 * end, 12), rtol=0, atol=5e-3 * end)
    model = new([2, 3, 1], seed=0)
    x = uniform(50, 2) * torch.tensor([1.0, 3.0])
    model.update_grid_from_samples(x)
    first = [-8.53486661, -6.61370788, -4.69254915, -2.77139042, -1.44824363, 0.78928958, 2.99208578, 4.91324451, 6.83440324, 8.75556197]
    then = [-1.34548363, -0.98452938, -0.62357512, -0.26262087, -0.05298524, 0.15590357, 0.82024190, 1.18119616, 1.54215041, 1.90310467]
    torch.testing.assert_close(model.act_fun[0].grid[1], torch.tensor(first), rtol=0, atol=1e-7)
    torch.testing.assert_close(model.act_fun[1].grid[0], torch.tensor(then), rtol=0, atol=1e-7)
    torch.testing.assert_close(
        model(x)[:4, 0].detach(), torch.tensor([-0.03639863, -0.02060709, -0.00710126, 0.03358804]), rtol=0, atol=1e-7
    )


def test_fit_updates_grids_by_the_methods_that_a_subclass_may_override() -> None:
    calls = []

    class Own(KAN):
        def update_grid_from_samples(self, x: Tensor) -> None:
            calls.append(tuple(x.shape))
            super().update_grid_from_samples(x)

    model = Own([2, 2, 1], auto_save=False)
    model.fit(dataset(), steps=6, log=-1)
    assert calls == [(60, 2)] * 2
    model.update_grid(uniform(100, 2))
    assert len(calls) == 3


def test_speed_and_what_a_fit_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model = KAN([2, 3, 1])
    x = uniform(100, 2)
    before = model(x)
    assert model.speed() is model
    assert (model.symbolic_enabled, model.save_act, model.auto_save) == (False, False, False)
    assert torch.equal(model(x), before)
    symbolic = new()
    symbolic(x)
    symbolic.fix_symbolic(0, 0, 0, "sin", verbose=False)
    before = symbolic(x)
    assert torch.equal(symbolic.speed()(x), before) and symbolic.symbolic_enabled, "turning it off would change the function"
    monkeypatch.setattr(torch, "compile", lambda module: ("compiled", module))
    assert symbolic.speed(compile=True) == ("compiled", symbolic)

    for symbolic_edge, lamb, after in ((False, 0.0, (False, False)), (False, 0.1, (True, False)), (True, 0.0, (False, True))):
        model = new()
        if symbolic_edge:
            model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False)
        assert model.disable_symbolic_in_fit(lamb) == (True, True)
        assert (model.save_act, model.symbolic_enabled) == after


def test_all_symbolic_edges_become_numeric_again(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 3, 1])
    before = model(uniform(100, 2))
    model.fix_symbolic(0, 0, 1, "sin", verbose=False, log_history=False)
    model.fix_symbolic(1, 2, 0, "exp", verbose=False, log_history=False)
    capsys.readouterr()
    model.unfix_symbolic_all()
    assert capsys.readouterr().out == "saving model version 0.1\n", "one version, not one per edge (pykan's defect 48)"
    torch.testing.assert_close(model(uniform(100, 2)), before, rtol=0, atol=0)
    assert model.n_edge == 9 and {name for layer in model.symbolic_fun for row in layer.funs_name for name in row} == {"0"}
    model.remove_edge(0, 0, 0, log_history=False)
    model.fix_symbolic(0, 0, 1, "sin", verbose=False, log_history=False)
    model.unfix_symbolic_all(log_history=False)
    assert model.n_edge == 8 and float(model.act_fun[0].mask[0, 0]) == 0, "an edge that is off is not symbolic"
    assert capsys.readouterr().out == ""


def test_get_act_in_all_forms() -> None:
    model = new()
    x, rows = uniform(9, 2), dataset(11)
    model.get_act(x)
    assert model.cache_data is not None and torch.equal(model.cache_data, x)
    model.get_act()
    assert torch.equal(model.cache_data, x)
    model.get_act(rows)
    assert torch.equal(model.cache_data, rows["train_input"])
    with pytest.raises(ValueError, match=r"the dataset must have the key 'train_input', as create_dataset gives it; it has \['x'\]"):
        model.get_act({"x": x})
    assert torch.equal(model.cache_data, rows["train_input"])


def test_more_that_needs_data_says_so() -> None:
    model = new()
    for call in (
        model.node_attribute, lambda: model.feature_interaction(1), lambda: model.connection_cost, lambda: model.get_fun(0, 0, 0),
        lambda: model.get_range(0, 0, 0), model.auto_swap, lambda: model.auto_swap_l(1), model.tree,
        lambda: model.initialize_from_another_model(new()), lambda: model.edge_scores_all,
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"the model hasn't seen any data yet: call model\(x\) or model.fit\(dataset\) first"):
            call()


# Fits, as far as pykan's go wrong


def test_after_a_fit_the_activations_are_those_of_the_training_inputs() -> None:
    # pykan's defect 13: they are those of the test inputs, or of whatever a metric has looked at.
    model, rows = new(), dataset()
    model.fit(rows, steps=2, log=-1, metrics=[lambda: model(uniform(7, 2, seed=5)).sum()])
    assert model.cache_data is not None and torch.equal(model.cache_data, rows["train_input"])
    assert model.acts is not None and [len(acts) for acts in model.acts] == [60] * 3
    scores = [score.clone() for score in model.node_scores]
    model(rows["train_input"])
    model.attribute()
    assert all(torch.equal(a, b) for a, b in zip(scores, model.node_scores, strict=True))


def test_the_test_loss_is_taken_as_the_training_loss_is_but_without_a_graph() -> None:
    # pykan's defect 14: without singularity avoidance, so that it is NaN here, and with a graph.
    model, x, z = new([1, 1]), torch.linspace(0.1, 1, 20)[:, None], torch.linspace(-1, 1, 20)[:, None]
    model.fix_symbolic(0, 0, 0, "sqrt", fit_params_bool=False)
    graphs = []

    def loss(output: Tensor, label: Tensor) -> Tensor:
        if torch.equal(label, z):
            graphs.append(output.requires_grad)
        return (output - label).square().mean()

    rows = {"train_input": x, "train_label": x.sqrt() + 0.1, "test_input": z, "test_label": z}
    results = model.fit(rows, opt="Adam", lr=0.01, steps=3, log=-1, loss_fn=loss, singularity_avoiding=True)
    assert graphs and not any(graphs)
    with torch.no_grad():
        expected = (model(z, singularity_avoiding=True, y_th=1000.0) - z).square().mean()
    assert results["test_loss"][-1] == pytest.approx(float(expected))
    assert bool(torch.isnan(model(z)).any())


def test_batches_and_grid_updates_of_any_number() -> None:
    # pykan's defect 34: a batch that is larger than the test set, and fewer steps with grid updates than updates.
    rows = {**dataset(), **{f"test_{name}": dataset()[f"test_{name}"][:5] for name in ("input", "label")}}
    assert len(new().fit(rows, steps=4, log=-1, batch=30, stop_grid_update_step=3)["test_loss"]) == 4
    assert len(new().fit(rows, steps=4, log=-1, batch=1000, stop_grid_update_step=0)["test_loss"]) == 4
    model = new()
    assert model.fit(rows, steps=0, log=-1) == {"train_loss": [], "test_loss": [], "reg": []} and model.save_act
    with pytest.raises(ValueError, match="unknown optimiser 'SGDM'"):
        model.fit(rows, opt="SGDM")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"save_fig_freq": 0}, ValueError, "save_fig_freq must be a number of steps, at least 1; got 0."),
        ({"in_vars": ["a"]}, ValueError, "in_vars has 1 names, but the network has 2 inputs; give one name for each."),
        ({"out_vars": ["a", "b"]}, ValueError, "out_vars has 2 names, but the network has 1 outputs; give one name for each."),
        ({"grid_update_num": 2.5}, TypeError, "grid_update_num must be an integer; got 2.5."),
        ({"stop_grid_update_step": "a"}, TypeError, "stop_grid_update_step must be an integer; got 'a'."),
        ({"lamb_entropy": math.nan}, ValueError, "lamb_entropy must be finite; got nan."),
    ],
)
def test_bad_options_of_fit_are_told_before_the_first_step(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    model = new()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=re.escape(message)):
        model.fit(dataset(), steps=2, log=-1, **{"save_fig": True, "img_folder": tmp_path / "video", **options})
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not (tmp_path / "video").exists()


@pytest.mark.filterwarnings("ignore:fit. interrupted:UserWarning")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_fit_leaves_the_model_as_usable_as_before(kind: type[BaseException]) -> None:
    # pykan's defect 35: save_act and symbolic_enabled stay off.
    model, calls = new(), []

    def interrupt() -> float:
        calls.append(1)
        if len(calls) == 2:
            raise kind
        return 0.0

    with contextlib.suppress(kind):
        model.fit(dataset(), steps=5, log=-1, metrics=[interrupt])
    assert model.save_act and model.symbolic_enabled and len(calls) == 2
    assert len(model.spline_postacts) == 2
    assert len(model.fit(dataset(), steps=2, log=-1)["reg"]) == 2


def test_a_fit_within_a_fit_disturbs_nothing() -> None:
    # pykan's defect 49: both write their losses into the same global variables.
    alone = new().fit(dataset(), steps=3, lamb=1e-3, log=-1)

    def inner() -> float:
        return new([2, 2, 1]).fit(dataset(20), steps=2, log=-1)["train_loss"][-1]

    within = new().fit(dataset(), steps=3, lamb=1e-3, log=-1, metrics=[inner])
    assert within.pop("inner")[0] > 0 and within == alone


def test_a_full_batch_is_not_shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    # pykan's defect 58: the data are permuted and copied at every step.
    model, rows = new(), dataset()
    seen = set()

    def loss(output: Tensor, label: Tensor) -> Tensor:
        seen.add(label.data_ptr())
        return (output - label).square().mean()

    for owner, name in ((torch, "randperm"), (np.random, "choice"), (np.random, "permutation")):
        monkeypatch.setattr(owner, name, lambda *args, **arguments: pytest.fail("an order was drawn"))
    model.fit(rows, steps=3, log=-1, loss_fn=loss)
    assert seen == {rows["train_label"].data_ptr(), rows["test_label"].data_ptr()}


@pytest.mark.parametrize("metric", ["edge_forward_sum", "edge_backward", "node_backward"])
def test_loss_and_penalty_are_read_from_the_same_pass(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # pykan's defect 59: attributions in the closure make passes of their own, one per layer of nodes.
    passes, losses, trace = [], [], KAN.trace

    def loss(output: Tensor, label: Tensor) -> Tensor:
        losses.append(1)
        return (output - label).square().mean()

    monkeypatch.setattr(KAN, "trace", lambda self, *args, **arguments: passes.append(1) or trace(self, *args, **arguments))
    new([2, 3, 3, 1]).fit(dataset(), steps=3, log=-1, lamb=1e-2, reg_metric=metric, loss_fn=loss, update_grid=False)
    assert 0 < len(passes) <= len(losses)


def test_the_metric_without_normalisation_is_of_whole_edges() -> None:
    # pykan's defect 9: its page says that the metric of this name is of splines alone.
    model = new([2, 3, 1])
    x = uniform(100, 2)
    model(x)
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    model.set_mode(0, 0, 0, "sn", 0.5)
    whole = [acts.std(dim=0) for acts in model.spline_postacts]
    splines = [layer(acts)[2].std(dim=0) for layer, acts in zip(model.act_fun, model.acts or [], strict=False)]
    assert not torch.allclose(whole[0], splines[0])
    for found, expected in zip(model.edge_actscale, whole, strict=True):
        torch.testing.assert_close(found, expected)
    l1 = model.reg("edge_forward_spline_u", 1.0, 0.0, 0.0, 0.0)
    torch.testing.assert_close(l1, torch.stack([scale.sum() for scale in whole]).sum())
    assert "symbolic part included" in " ".join((KAN.reg.__doc__ or "").split())


def test_older_arguments_of_the_penalty() -> None:
    model = new()
    model(uniform(100, 2))
    found = model.reg(lamb_l1=2.0, entropy_offset=0.1, lamb_coef=0.5)
    torch.testing.assert_close(found, model.reg("edge_forward_spline_n", 2.0, 2.0, 0.5, 0.0))


def test_kinds_of_hidden_nodes() -> None:
    model = new([2, [3, 1], [0, 2], 2])
    assert model.n_sum == [3, 0] and model.n_mult == [1, 2] and model.mult_homo and new([2, [1, 1], 1], mult_arity=np.int64(3)).mult_homo
    assert not new([2, [1, 2], 1], mult_arity=[[], [2, 3], []]).mult_homo


def test_a_penalty_needs_no_saved_activations(capsys: pytest.CaptureFixture[str]) -> None:
    # pykan leaves the penalty out, and says so.
    results = [new(save_act=save_act).fit(dataset(), steps=2, lamb=1e-2, log=-1) for save_act in (True, False)]
    assert results[0] == results[1] and results[0]["reg"][-1] > 0 and capsys.readouterr().out == ""
