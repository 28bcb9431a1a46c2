"""Code of the user's own in a model is honoured by everything that one does with the model.

A table: kinds of own code, and for each of them a model of the library's own parts that computes the same. What is done to the one must
have the outcome of what is done to the other.
"""

import copy
import threading
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize, prune

from kan import KAN
from kan.KANLayer import KANLayer
from kan.network.user_code.observed import Pass
from kan.network.user_code.own_code import own_call, own_parts
from kan.plotting.network import diagram_of
from kan.Symbolic_KANLayer import Symbolic_KANLayer

MIDDLE, HALF = 100.0, 50.0
X = torch.rand(60, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 100 + 50
Z = (X - MIDDLE) / HALF
Y = torch.sin(2 * Z[:, [0]]) + Z[:, [1]] ** 2
DATA = {"train_input": X, "train_label": Y, "test_input": X, "test_label": Y}
QUIET: dict[str, Any] = {"progress": False}


def plain(seed: int = 1) -> KAN:
    return KAN([2, 3, 1], grid=4, k=3, seed=seed, auto_save=False).double()


class Standardising(KAN):
    def forward(self, x: Tensor, *rest: Any, **more: Any) -> Tensor:
        return super().forward((x - MIDDLE) / HALF, *rest, **more)


class Doubled(KANLayer):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return doubled(self, (x,), super().forward(x))


class Bounded(nn.Module):
    def forward(self, coef: Tensor) -> Tensor:
        return coef.clamp(-0.02, 0.02)


def doubled(layer: nn.Module, given: Any, found: tuple[Tensor, ...]) -> Any:
    return 2 * found[0], found[1], 2 * found[2], found[3]


def subclass() -> KAN:
    return Standardising([2, 3, 1], grid=4, k=3, seed=1, auto_save=False).double()


def patched() -> KAN:
    model = plain()
    before = model.forward
    model.forward = lambda x, *rest, **more: before((x - MIDDLE) / HALF, *rest, **more)
    return model


def bound() -> KAN:
    model = plain()
    model.forward = types.MethodType(lambda self, x, **more: KAN.forward(self, (x - MIDDLE) / HALF, **more), model)
    return model


def pre_hooked() -> KAN:
    model = plain()
    model.register_forward_pre_hook(lambda module, given: ((given[0] - MIDDLE) / HALF, *given[1:]))
    return model


def hooked() -> KAN:
    model = pre_hooked()
    model.register_forward_hook(lambda module, given, output: 2 * output + 1)
    return model


def layer_of_a_subclass() -> KAN:
    model = pre_hooked()
    own = Doubled(2, 3, num=4, k=3).double()
    own.load_state_dict(model.act_fun[0].state_dict())
    model.act_fun[0] = own
    return model


def hooked_layer() -> KAN:
    model = pre_hooked()
    model.act_fun[0].register_forward_hook(doubled)
    return model


def twice_the_sums() -> KAN:
    model = plain()
    with torch.no_grad():
        model.act_fun[0].mask.fill_(2.0)
    return model


MASK = (torch.rand(2, 3, 7, generator=torch.Generator().manual_seed(3)) > 0.5).double()


def pruned() -> KAN:
    model = pre_hooked()
    prune.custom_from_mask(model.act_fun[0], "coef", MASK)
    return model


def with_masked(model: KAN, x: Tensor) -> Tensor:
    return functional_call(model, {"act_fun.0.coef": model.act_fun[0].coef * MASK}, (x,))


def bounded() -> KAN:
    model = pre_hooked()
    parametrize.register_parametrization(model.act_fun[0], "coef", Bounded())
    return model


def with_bounded(model: KAN, x: Tensor) -> Tensor:
    return functional_call(model, {"act_fun.0.coef": model.act_fun[0].coef.clamp(-0.02, 0.02)}, (x,))


def normed() -> KAN:
    model = pre_hooked()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model.act_fun[0], "coef")
    return model


def with_lengths() -> KAN:
    model = plain()
    coef = model.act_fun[0].coef.detach()
    model.length = nn.Parameter(torch.linalg.vector_norm(coef, dim=(1, 2), keepdim=True))
    model.direction = nn.Parameter(coef.clone())
    model.act_fun[0].coef.requires_grad_(False)
    return model


def with_normed(model: KAN, x: Tensor) -> Tensor:
    coef = model.direction * (model.length / torch.linalg.vector_norm(model.direction, dim=(1, 2), keepdim=True))
    return functional_call(model, {"act_fun.0.coef": coef}, (x,))


@dataclass(frozen=True)
class Kind:
    """Own code, and what it comes to.

    Attributes:
        make: a model with the code.
        twin: a model without, of the same parameters, for the inputs `Z`.
        value: what of the twin the model computes.
        computed: whether the coefficients of the first layer are computed from other parameters.
        stays: whether the code cannot be moved to another model.
    """

    make: Callable[[], KAN]
    twin: Callable[[], KAN] = plain
    value: Callable[[KAN, Tensor], Tensor] = lambda model, x: model(x)
    computed: bool = False
    stays: bool = False


KINDS = {
    "forward of a subclass": Kind(subclass),
    "function set on the model": Kind(patched, stays=True),
    "method set on the model": Kind(bound),
    "pre-hook": Kind(pre_hooked),
    "hook": Kind(hooked, value=lambda model, x: 2 * model(x) + 1),
    "layer of a subclass": Kind(layer_of_a_subclass, twice_the_sums),
    "hooked layer": Kind(hooked_layer, twice_the_sums),
    "pruned by torch": Kind(pruned, value=with_masked, computed=True),
    "parametrized": Kind(bounded, value=with_bounded, computed=True),
    "weight norm": Kind(normed, with_lengths, with_normed, computed=True),
}


@pytest.fixture(params=KINDS, ids=lambda name: name.replace(" ", "-"))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def settled_twin(kind: Kind) -> KAN:
    """The twin with the coefficients that the model has, however they are computed."""
    twin, model = kind.twin(), kind.make()
    model(X)
    with torch.no_grad():
        twin.act_fun[0].coef.copy_(model.act_fun[0].coef)
    return twin


def error(model: Callable[[Tensor], Tensor], x: Tensor = X) -> float:
    with torch.no_grad():
        return float((model(x) - Y).square().mean().sqrt())


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-9) -> bool:
    return torch.allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_the_model_computes_what_the_twin_does(kind: Kind) -> None:
    assert close(kind.make()(X), kind.value(kind.twin(), Z))


@pytest.mark.parametrize(("opt", "steps", "batch"), [("LBFGS", 1, -1), ("Adam", 3, -1), ("Adam", 3, 20)])
def test_fit_takes_the_steps_of_the_twin(kind: Kind, opt: str, steps: int, batch: int) -> None:
    model, twin = kind.make(), kind.twin()
    options = {"opt": opt, "steps": steps, "lr": 0.02, "update_grid": False, "batch": batch, **QUIET}
    history = model.fit(DATA, **options)
    wanted = twin.fit({**DATA, "train_input": Z, "test_input": Z}, pred_fn=kind.value, **options)
    assert history["test_loss"] == pytest.approx(wanted["test_loss"], rel=1e-6)
    assert history["test_loss"][-1] == pytest.approx(error(model), rel=1e-9)
    assert history["test_loss"][-1] < error(kind.make())


def test_levenberg_marquardt_reports_the_loss_of_the_model(kind: Kind) -> None:
    model = kind.make()
    history = model.fit(DATA, opt="LM", steps=6, update_grid=False, **QUIET)
    assert history["train_loss"][-1] == pytest.approx(error(model), rel=1e-9)
    assert history["train_loss"][-1] < (0.5 if kind.computed or kind.make is hooked else 0.1) * error(kind.make())


@pytest.mark.parametrize("metric", ["edge_forward_spline_n", "edge_forward_sum", "edge_backward"])
def test_levenberg_marquardt_makes_the_objective_with_a_penalty_small(kind: Kind, metric: str) -> None:
    model, lamb = kind.make(), 0.01
    history = model.fit(DATA, opt="LM", steps=4, lamb=lamb, reg_metric=metric, update_grid=False, **QUIET)
    objective = [loss**2 + lamb * reg for loss, reg in zip(history["train_loss"], history["reg"], strict=True)]
    assert history["train_loss"][-1] == pytest.approx(error(model), rel=1e-9)
    assert objective == sorted(objective, reverse=True) and objective[-1] < 0.9 * objective[0]


def test_the_penalty_is_that_of_what_the_layers_see(kind: Kind) -> None:
    model, twin = kind.make(), settled_twin(kind)
    history = model.fit(DATA, opt="Adam", steps=1, lr=1e-12, lamb=0.01, update_grid=False, **QUIET)
    twin(Z)
    assert history["reg"][-1] == pytest.approx(twin.get_reg().item(), rel=1e-6)
    model.get_act(X)
    assert model.get_reg().item() == pytest.approx(twin.get_reg().item(), rel=1e-9)


@pytest.mark.parametrize("take", [lambda model: model(X), lambda model: model.get_act(X), lambda model: model.get_act(DATA)])
def test_activations_and_scores_are_those_of_what_the_layers_see(kind: Kind, take: Callable[[KAN], Any]) -> None:
    model, twin = kind.make(), settled_twin(kind)
    take(model)
    twin(Z)
    for name in ("acts", "acts_premult", "spline_postacts", "edge_actscale", "acts_scale_spline", "edge_scores", "node_scores"):
        for found, wanted in zip(getattr(model, name), getattr(twin, name), strict=True):
            assert close(found, wanted), name
    assert close(model.feature_score, twin.feature_score)


def test_evaluate_is_of_the_model(kind: Kind) -> None:
    assert kind.make().evaluate(DATA)["test_loss"] == pytest.approx(error(kind.make()))


def test_update_grid_follows_what_the_layers_see(kind: Kind) -> None:
    model, twin = kind.make(), settled_twin(kind)
    before = [layer.grid.clone() for layer in model.act_fun]
    if kind.computed:
        twin.act_fun[0].coef.requires_grad_(False)
    model.update_grid(X)
    twin.update_grid(Z)
    for found, wanted in zip(model.act_fun, twin.act_fun, strict=True):
        assert close(found.grid, wanted.grid)
    assert torch.equal(model.act_fun[0].grid, before[0]) == kind.computed
    assert not torch.equal(model.act_fun[1].grid, before[1])
    if kind.make is not hooked:
        assert close(model(X), twin(Z))


def fitted(kind: Kind) -> KAN:
    model = kind.make()
    model.fit(DATA, steps=3, lamb=1e-3, **QUIET)
    return model


def made_by(kind: Kind, change: Callable[[], KAN]) -> KAN:
    """What `change` returns; it must say so if something stays behind."""
    if kind.stays:
        with pytest.warns(UserWarning, match="the function that is set as model.forward stays with the old model"):
            return change()
    if kind.make in (bounded, normed):
        with pytest.warns(UserWarning, match=r"act_fun\[0\].coef \(.*\) has become an ordinary parameter"):
            return change()
    return change()


def test_pruning_is_judged_by_the_loss_of_the_model(kind: Kind) -> None:
    model = fitted(kind)
    before = model(X).detach()
    new = made_by(kind, lambda: model.prune_node(active_neurons_id=[[0, 1, 2]]))
    assert close(new(Z if kind.stays else X), before)
    new = made_by(kind, lambda: model.prune(tolerance=0.2))
    assert isinstance(new, type(model)) and new.pruning is not None
    if kind.stays:  # its copies cannot be called as it is
        assert not new.pruning.labelled
        return
    assert new.pruning.loss_before == pytest.approx(error(model))
    assert new.pruning.loss_after == pytest.approx(error(new))
    assert error(new) <= 1.2 * error(model)
    assert close(model(X), before)
    history = new.fit(DATA, steps=2, **QUIET)
    assert history["train_loss"][-1] == pytest.approx(error(new), rel=1e-9)


def test_pruning_by_torch_goes_on_in_a_pruned_model() -> None:
    model = pruned()
    model.get_act(X)
    new = model.prune_node(active_neurons_id=[[0, 2]])
    new.fit(DATA, steps=2, **QUIET)
    assert torch.equal(new.act_fun[0].coef_mask, MASK[:, [0, 2]])
    assert bool((new.act_fun[0].coef[MASK[:, [0, 2]] == 0] == 0).all())


def test_refinement_keeps_what_the_model_computes(kind: Kind) -> None:
    model = fitted(kind)
    if kind.make is pruned:
        with pytest.warns(UserWarning, match="has become an ordinary parameter"):
            new = model.refine(8)
    else:
        new = made_by(kind, lambda: model.refine(8))
    assert new.act_fun[0].num == 8 and type(new) is type(model)
    assert type(new.act_fun[0]) is (KANLayer if kind.computed else type(model.act_fun[0]))
    assert close(new(Z if kind.stays else X), model(X), 1e-7)


def test_a_plot_shows_what_the_layers_see(kind: Kind) -> None:
    model, twin = kind.make(), settled_twin(kind)
    model(X)
    twin(Z)
    found, wanted = diagram_of(model).edges, diagram_of(twin).edges
    assert found.keys() == wanted.keys()
    for edge, curve in found.items():
        for name in ("x", "y"):
            assert close(torch.tensor(getattr(curve, name)), torch.tensor(getattr(wanted[edge], name))), edge
        assert curve.opacity == pytest.approx(wanted[edge].opacity)


def test_functions_are_found_for_what_edges_do(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    model, twin = kind.make(), settled_twin(kind)
    model(X)
    twin(Z)
    for one in (model, twin):
        one.auto_symbolic(lib=["x", "x^2", "sin"], verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 18
    for found, wanted in zip(lines[:9], lines[9:], strict=True):
        assert found.split(", r2=")[0] == wanted.split(", r2=")[0]
    assert [layer.funs_name for layer in model.symbolic_fun] == [layer.funs_name for layer in twin.symbolic_fun]


def test_the_law_is_that_of_what_the_model_computes(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr("kan.discovery.laws.network_law.discover", lambda x, y, **options: asked.append((x, y)))
    model = kind.make()
    model.discover(X)
    model.fit(DATA, steps=1, **QUIET)
    model.discover()
    (x, y), (seen, values) = asked
    assert torch.equal(x, X) and close(y, kind.make()(X))
    assert torch.equal(seen, X) and close(values, model(X))


@pytest.mark.parametrize("options", [{"opt": "LBFGS"}, {"opt": "LM"}, {"opt": "LM", "restarts": 2}, {"opt": "LBFGS", "restarts": 2}])
def test_hooks_of_the_base_function_are_called(options: dict[str, Any]) -> None:
    model = plain()
    before = model(Z).detach()
    model.base_fun.register_forward_hook(lambda module, given, output: output + given[0] ** 2)  # type: ignore[union-attr]
    assert not close(model(Z), before)
    history = model.fit((Z, Y), steps=3, update_grid=False, **options, **QUIET)
    assert history["train_loss"][-1] == pytest.approx(error(model, Z), rel=1e-9)
    assert history["train_loss"][-1] < 0.3 * float((before - Y).square().mean().sqrt())


def test_frozen_layers_stay_as_they_are_in_a_fit() -> None:
    model = plain()
    model.requires_grad_(False)
    model.act_fun[1].coef.requires_grad_(True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.fit({**DATA, "train_input": Z, "test_input": Z}, steps=3, **QUIET)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"act_fun.1.coef", "act_fun.1.grid"}


@pytest.mark.parametrize("options", [{"grids": [4, 8]}, {"restarts": 2}, {"opt": "Adam", "restarts": 2, "lr": 0.02}])
def test_levels_and_restarts_report_the_loss_of_the_model(kind: Kind, options: dict[str, Any]) -> None:
    model = kind.make()
    if "grids" in options and kind.computed:
        with pytest.warns(UserWarning, match="becomes an ordinary parameter with the same function"):
            history = model.fit(DATA, steps=1, **options, **QUIET)
    else:
        history = model.fit(DATA, steps=1, **options, **QUIET)
    assert history["train_loss"][-1] == pytest.approx(error(model), rel=1e-9)
    assert model.act_fun[0].num == (8 if "grids" in options else 4)


class Penalised(KAN):
    def get_reg(self, *settings: Any) -> Tensor:
        self.seen = settings
        return 3 * super().get_reg(*settings) + self.edge_scores[0].sum()


@pytest.mark.parametrize("opt", ["LBFGS", "Adam", "LM"])
@pytest.mark.parametrize("metric", ["edge_forward_spline_n", "edge_backward"])
def test_a_penalty_of_ones_own_is_the_one_of_the_fit(opt: str, metric: str) -> None:
    model = Penalised([2, 3, 1], grid=4, seed=1, auto_save=False).double()
    data = {**DATA, "train_input": Z, "test_input": Z}
    history = model.fit(data, opt=opt, steps=2, lr=0.02, lamb=0.05, lamb_l1=0.5, reg_metric=metric, update_grid=False, **QUIET)
    assert model.seen == (metric, 0.5, 2.0, 0.0, 0.0)
    model.attribution = None
    assert history["reg"][-1] == pytest.approx(model.get_reg(*model.seen).item(), rel=1e-9)
    start = Penalised([2, 3, 1], grid=4, seed=1, auto_save=False).double()
    start(Z)
    before = error(start, Z) ** 2 + 0.05 * start.get_reg(*model.seen).item()
    assert history["train_loss"][-1] ** 2 + 0.05 * history["reg"][-1] < before


def test_a_penalty_must_be_a_number() -> None:
    model = plain()
    model.get_reg = lambda *settings: 0.0
    with pytest.raises(TypeError, match="get_reg and reg of KAN must return a tensor with one number; got float"):
        model.fit({**DATA, "train_input": Z, "test_input": Z}, steps=1, lamb=0.1, **QUIET)


class CountingGrids(KAN):
    calls = 0

    def update_grid_from_samples(self, x: Tensor) -> None:
        self.calls += 1


@pytest.mark.parametrize("options", [{}, {"opt": "Adam", "restarts": 2}])
def test_grid_updates_of_ones_own_are_those_of_a_fit(options: dict[str, Any]) -> None:
    model = CountingGrids([2, 3, 1], grid=4, seed=1, auto_save=False).double()
    grid = model.act_fun[0].grid.clone()
    model.fit({**DATA, "train_input": Z, "test_input": Z}, steps=6, lr=0.02, **options, **QUIET)
    assert model.calls == 2 * options.get("restarts", 1)
    assert torch.equal(model.act_fun[0].grid, grid)


def test_a_layer_of_a_subclass_updates_its_own_grid() -> None:
    class Still(KANLayer):
        def update_grid_from_samples(self, x: Tensor, mode: str = "sample") -> None:
            self.samples = x

    model = plain()
    own = Still(3, 1, num=4, k=3).double()
    own.load_state_dict(model.act_fun[1].state_dict())
    model.act_fun[1] = own
    model.update_grid(Z)
    assert close(own.samples, model.acts[1])


class Widening(KAN):
    """Takes one column, and gives the layers two."""

    def forward(self, x: Tensor, **more: Any) -> Tensor:
        return super().forward(torch.cat([x, x * x], 1), **more)


def test_a_forward_may_take_other_columns_than_the_layers() -> None:
    model = Widening([2, 1], grid=4, seed=1, auto_save=False).double()
    x, y = Z[:, [0]], Z[:, [0]] ** 2
    history = model.fit((x, y), opt="LM", steps=8, **QUIET)
    assert history["train_loss"][-1] < 1e-3
    assert close(model.acts[0], torch.cat([x, x * x], 1))
    assert error(lambda x: model(x) - y + Y, x) == pytest.approx(history["train_loss"][-1], rel=1e-9)
    with pytest.raises(ValueError, match=r"the forward of Widening must return predictions of the labels' shape, \(60,\); it returned"):
        model.fit((x, y[:, 0]), **QUIET)


class Scattered(KAN):
    """Goes through the layers itself."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.act_fun:
            x = layer((x - x.mean()) / x.std())[0]
        return x


def test_a_forward_that_hides_its_layers_is_trained_on_the_grids_that_there_are() -> None:
    model = Scattered([2, 3, 1], grid=4, seed=1, auto_save=False).double()
    with pytest.warns(UserWarning, match="the grids stay as they are, since the forward of Scattered does not call KAN.forward"):
        history = model.fit(DATA, steps=2, **QUIET)
    assert history["train_loss"][-1] == pytest.approx(error(model), rel=1e-9)
    history = model.fit(DATA, opt="LM", steps=2, update_grid=False, **QUIET)
    assert history["train_loss"][-1] == pytest.approx(error(model), rel=1e-9)
    for needing in (model.get_act, model.update_grid):
        with pytest.raises(ValueError, match="the forward of Scattered does not call KAN.forward, so that what the layers see"):
            needing(X)
    with pytest.raises(ValueError, match="the forward of Scattered does not call KAN.forward"):
        model.fit(DATA, steps=1, lamb=0.1, update_grid=False, **QUIET)


def test_columns_are_out_of_proportion_where_the_layers_see_them_so() -> None:
    model = subclass()
    model.fit(DATA, opt="LM", steps=1, **QUIET)  # columns of 50 to 150 would be mapped
    assert model.normalizer is None
    raw = KAN([2, 3, 1], grid=4, seed=1, auto_save=False).double()
    raw.register_forward_pre_hook(lambda module, given: (1000 * given[0],))
    with pytest.warns(UserWarning, match=r"x_1 \([\d.]+ \+- 520\)"):
        history = raw.fit((Z, Y), opt="LM", steps=1, **QUIET)
    assert raw.normalizer is not None and raw.output_normalizer is None
    assert history["train_loss"][-1] == pytest.approx(error(raw, Z), rel=1e-9)
    assert raw.acts[0].abs().max() < 4


@pytest.mark.parametrize("own", [subclass, patched, pre_hooked])
def test_jointly_selected_functions_are_those_of_the_prepared_inputs(own: Callable[[], KAN], capsys: pytest.CaptureFixture[str]) -> None:
    formulas = []
    for model, x in ((own(), X), (plain(), Z)):
        model.fit((x, Z[:, [0]] ** 2), steps=2, **QUIET)
        model.auto_symbolic(lib=["x", "x^2"], data=(x, Z[:, [0]] ** 2))
        formulas.append([layer.funs_name for layer in model.symbolic_fun])
        assert (model(x) - Z[:, [0]] ** 2).abs().max().item() < 1e-6
    assert formulas[0] == formulas[1]
    capsys.readouterr()


@pytest.mark.parametrize("name", ["hook", "layer of a subclass", "hooked layer", "pruned by torch", "parametrized"])
def test_joint_selection_is_refused_where_the_code_does_more(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot do so through .*(the model|act_fun\[0\])"):
        KINDS[name].make().auto_symbolic(data=(X, Y))


def test_residuals_are_refused() -> None:
    with pytest.raises(ValueError, match="fit_residuals .* cannot honour the pre-hooks of the model"):
        pre_hooked().fit_residuals(lambda u, x: u(x), X)


def test_a_formula_says_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    def formula(model: KAN, **options: Any) -> Any:
        model(X)
        model.auto_symbolic(lib=["x"])
        return model.symbolic_formula(**options)

    with pytest.warns(UserWarning, match="the formula is that of the layers .* the forward of Standardising"):
        formula(subclass())
    found = formula(subclass(), normalizer=[[MIDDLE] * 2, [HALF] * 2])
    assert found.to_torch()(*X.unbind(1)).shape == (60,)
    with pytest.warns(UserWarning, match=r"differ by .* knows nothing of your own code: .*act_fun\[1\] \(the forward hooks\)"):
        model = plain()
        model.act_fun[1].register_forward_hook(lambda module, given, output: (output[0] + 1, *output[1:]))
        formula(model)
    watched = plain()
    watched.register_forward_hook(lambda *given: None)
    formula(watched)
    capsys.readouterr()


def test_copies(kind: Kind) -> None:
    model = kind.make()
    before = model(X)
    if kind.stays:
        return
    copied = model.copy()
    assert close(copied(X), before)
    assert copied.float().dtype == torch.float32
    assert copied(X.float()).dtype == torch.float32


def test_computed_parameters_are_saved_as_ordinary_ones(kind: Kind) -> None:
    model = kind.make()
    model.fit(DATA, opt="Adam", steps=1, lr=0.02, **QUIET)
    model.save("model.kan")
    loaded = KAN.load("model.kan")
    for found, wanted in zip(loaded.act_fun, model.act_fun, strict=True):
        for name in ("grid", "coef", "mask", "scale_base", "scale_sp"):
            assert torch.equal(getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize("l", [0, 1])
@pytest.mark.parametrize(
    "use",
    [
        lambda model: model(Z), lambda model: model.fit((Z, Y), steps=1, **QUIET), lambda model: model.update_grid(Z),
        lambda model: model.prune(), lambda model: model.refine(8), lambda model: model.plot(),
        lambda model: model.fit((Z, Y), opt="LM", restarts=2, **QUIET),
    ],
)  # fmt: skip
def test_modules_that_are_no_layers_are_named(use: Callable[[KAN], Any], l: int) -> None:
    model = plain()
    model(Z)
    model.act_fun[l] = nn.Linear(*((2, 3), (3, 1))[l])
    with pytest.raises(TypeError, match=rf"act_fun\[{l}\] is of the class Linear and lacks grid, .*: make it a subclass of KANLayer"):
        use(model)


def test_layers_of_other_grids_are_saved_and_copied(tmp_path: Any) -> None:
    model = plain()
    model.act_fun[0] = KANLayer(2, 3, num=7, k=2).double()
    before, file = model(Z).detach(), str(tmp_path / "model.kan")
    model.save(file)
    for new in (KAN.load(file), model.prune(0.0, 0.0), model.refine([14, 8]), KAN.from_state_dict(model.state_dict())):
        assert close(new(Z), before) and new.settings()["k"] == [2, 3]


def test_copies_made_in_a_pass_keep_no_passes() -> None:
    class Copying(Standardising):
        def forward(self, x: Tensor, *rest: Any, **more: Any) -> Tensor:
            copies.append(copy.deepcopy(self))
            return super().forward(x, *rest, **more)

    copies: list[KAN] = []
    model = Copying([2, 3, 1], grid=4, seed=1, auto_save=False).double()
    model.get_act(X)
    found = copies[0]
    found(X)
    assert not any(isinstance(part, Pass) for value in vars(found).values() if isinstance(value, list) for part in value)


def test_calls_in_several_threads() -> None:
    model, failures = subclass(), []
    wanted = model(X).detach()

    def work() -> None:
        try:
            for _ in range(20):
                model.get_act(X)
                assert torch.equal(model(X), wanted)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_every_part_is_named() -> None:
    model = pruned()
    parametrize.register_parametrization(model.act_fun[1], "scale_base", Bounded())
    model.symbolic_fun[0].register_forward_pre_hook(lambda *given: None)
    model.forward = model.forward
    assert own_parts(model) == [
        "the forward that is set on the model", "act_fun[0] (the pre-hooks)", "act_fun[0].coef (pruned by torch)",
        "act_fun[1].scale_base (parametrized)", "symbolic_fun[0] (the pre-hooks)",
    ]  # fmt: skip
    assert own_call(subclass()) == "the forward of Standardising"
    assert own_call(hooked()) == "the pre-hooks and forward hooks of the model"
    assert own_parts(layer_of_a_subclass()) == ["the pre-hooks of the model", "act_fun[0] (Doubled)"]
    assert own_parts(plain()) == []


@pytest.mark.parametrize("opt", ["LBFGS", "Adam", "LM"])
@pytest.mark.parametrize("lamb", [0.0, 0.01])
def test_plain_models_take_the_closed_forms(opt: str, lamb: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: Any, **more: Any) -> None:
        raise AssertionError("a plain model was called as a module")

    class Subclass(KAN):
        """One that leaves the way of the data alone."""

        def summary(self) -> str:
            return "mine"

    monkeypatch.setattr(KANLayer, "forward", never)
    monkeypatch.setattr(Symbolic_KANLayer, "forward", never)
    monkeypatch.setattr("kan.training.methods.lm.CalledProblem", never)
    if opt != "LM":
        monkeypatch.setattr("kan.training.objectives.of_network.Objective.composed", never)
    for kind in (KAN, Subclass):
        model = kind([2, 3, 1], grid=4, seed=1, auto_save=False).double()
        model.fit({**DATA, "train_input": Z, "test_input": Z}, opt=opt, steps=2, lamb=lamb, lr=0.02, **QUIET)
        model.prune(tolerance=0.5).refine(8)(Z)


def test_plain_restarts_are_trained_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kan.training.restarts._one_after_another", None)
    plain().fit((Z, Y), opt="Adam", steps=2, restarts=2, lr=0.02, **QUIET)
    with pytest.raises(TypeError, match="NoneType"):
        pre_hooked().fit((X, Y), opt="Adam", steps=2, restarts=2, lr=0.02, **QUIET)


def test_hooks_of_all_parts_are_called_in_the_order_of_the_pass() -> None:
    model, seen = plain(), list[tuple[str, int]]()
    for l, (numeric, symbolic) in enumerate(zip(model.act_fun, model.symbolic_fun, strict=True)):
        numeric.register_forward_pre_hook(lambda *given, l=l: seen.append(("pre", l)))
        numeric.register_forward_hook(lambda *given, l=l: seen.append(("after", l)))
        numeric.register_full_backward_hook(lambda *given, l=l: seen.append(("back", l)))
        symbolic.register_forward_hook(lambda *given, l=l: seen.append(("symbolic", l)))
    model(Z.clone().requires_grad_()).sum().backward()
    forth = [(what, l) for l in (0, 1) for what in ("pre", "after", "symbolic")]
    assert seen == [*forth, ("back", 1), ("back", 0)]
    seen.clear()
    model.symbolic_enabled = False
    model(Z)
    assert [what for what, _ in seen] == ["pre", "after"] * 2


def test_a_loop_of_ones_own_trains_any_model(kind: Kind) -> None:
    model = kind.make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = error(model)
    for _ in range(5):
        optimizer.zero_grad()
        (model(X) - Y).square().mean().backward()
        optimizer.step()
    assert error(model) < before
