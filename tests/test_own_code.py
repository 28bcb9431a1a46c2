"""Code of the user's own in a model is honoured by everything that one does with the model.

A table: kinds of own code, and for each of them a model of the library's own parts that computes the same. What is done to the one must
have the outcome of what is done to the other.
"""

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


def test_the_penalty_is_that_of_what_the_layers_see(kind: Kind) -> None:
    model, twin = kind.make(), settled_twin(kind)
    history = model.fit(DATA, opt="Adam", steps=1, lr=1e-12, lamb=0.01, update_grid=False, **QUIET)
    twin(Z)
    assert history["reg"][-1] == pytest.approx(float(twin.get_reg()), rel=1e-6)
    model.get_act(X)
    assert float(model.get_reg()) == pytest.approx(float(twin.get_reg()), rel=1e-9)


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
    monkeypatch.setattr("kan.discovery.network_law.discover", lambda x, y, **options: asked.append((x, y)))
    model = kind.make()
    model.discover(X)
    model.fit(DATA, steps=1, **QUIET)
    model.discover()
    (x, y), (seen, values) = asked
    assert torch.equal(x, X) and close(y, kind.make()(X))
    assert torch.equal(seen, X) and close(values, model(X))
