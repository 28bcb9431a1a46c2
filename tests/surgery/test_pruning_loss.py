"""Pruning keeps what the loss needs, unless thresholds are given, and tells what became of the loss."""

import copy
import inspect
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kan import KAN
from kan.surgery.criterion import SPARSE_SHARE, criterion_of

pytestmark = pytest.mark.usefixtures("float64")

IGNORED = pytest.mark.filterwarnings("ignore:prune:UserWarning")


def samples(inputs: int, number: int = 120, seed: int = 0) -> Tensor:
    return torch.randn(number, inputs, generator=torch.Generator().manual_seed(seed))


def classifier(inputs: int = 16, lamb: float = 0.0, seed: int = 0) -> KAN:
    """Many inputs of which each says a little."""
    x = samples(inputs, seed=seed)
    model = KAN([inputs, 4, 2], seed=seed, auto_save=False)
    y = (x.sum(dim=1) > 0).long()
    model.fit((x, y), opt="Adam", lr=0.02, steps=40, lamb=lamb, loss_fn=nn.CrossEntropyLoss(), progress=False)
    return model


def regression(inputs: int = 16, lamb: float = 0.0, noise: float = 0.1, seed: int = 0) -> KAN:
    x = samples(inputs, seed=seed)
    model = KAN([inputs, 3, 1], seed=seed, auto_save=False)
    y = torch.tanh(x.sum(dim=1, keepdim=True) / 4) + noise * samples(1, seed=seed + 100)
    model.fit((x, y), opt="Adam", lr=0.02, steps=40, lamb=lamb, progress=False)
    return model


def loss_of(model: KAN) -> float:
    assert model.fit_loss is not None
    return model.fit_loss(model)


def shown(model: KAN) -> list[str]:
    assert model.pruning is not None
    return [f"{loss:.4g}" for loss in (model.pruning.loss_before, model.pruning.loss_after)]


# Without thresholds


@pytest.mark.parametrize("make", [classifier, regression])
@pytest.mark.parametrize("seed", [0, 1])
def test_prune_keeps_what_the_loss_needs_and_says_so(make: Any, seed: int) -> None:
    model = make(seed=seed)
    before = loss_of(model)
    with pytest.warns(UserWarning, match=r"prune: edges whose scores are below the thresholds are kept \(\d+ of \d+\)") as caught:
        pruned = model.prune()
    assert pruned.n_edge < model.n_edge and loss_of(pruned) <= 1.05 * before
    assert pruned.pruning.labelled and pruned.pruning.kept > 0
    assert pruned.pruning.loss_before == pytest.approx(model.fit_loss.shown(before))
    assert pruned.pruning.loss_after == pytest.approx(model.fit_loss.shown(loss_of(pruned)))
    assert all(loss in str(caught[0].message) for loss in shown(pruned)) and caught[0].filename == __file__
    with pytest.warns(UserWarning, match="prune: the loss on the samples of the last fit grows from"):
        ruined = model.prune(1e-2, 3e-2)
    assert loss_of(ruined) > 1.05 * before, "thresholds that are given are obeyed"


@pytest.mark.parametrize("method", ["prune_node", "prune_input", "prune_edge"])
def test_so_do_the_others(method: str) -> None:
    model = classifier(24)
    with torch.no_grad():  # nodes and inputs whose scores are low but not their weight together
        for layer in model.act_fun:
            layer.coef.mul_(1.0)
        if method == "prune_node":
            model.act_fun[1].scale_base[1:].mul_(1e-2)
            model.act_fun[1].scale_sp[1:].mul_(1e-2)
        if method == "prune_input":
            model.act_fun[0].scale_base[4:].mul_(0.05)
            model.act_fun[0].scale_sp[4:].mul_(0.05)
    before = loss_of(model)
    copied = model.copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = getattr(copied, method)() or copied
    assert loss_of(found) <= 1.05 * before and found.pruning is not None
    assert bool(caught) == (found.pruning.kept > 0)
    assert all(str(one.message).startswith(f"{method}: ") for one in caught)


def test_nothing_is_said_where_nothing_is_amiss() -> None:
    model = regression(4)
    with torch.no_grad():
        for layer, i in ((model.act_fun[0], 2), (model.act_fun[1], 1)):
            layer.mask[i] = 0.0
        model.fit((model.last_input, samples(1)), steps=3, progress=False)
        for layer in model.act_fun:
            layer.mask.fill_(1.0)
        for layer, i in ((model.act_fun[0], 2), (model.act_fun[1], 1)):
            layer.scale_base[i] = layer.scale_sp[i] = 0.0
    scores = model.edge_scores
    assert all(bool(((score > 3e-2) | (score < 1e-9)).all()) for score in scores), "or the test says nothing"
    pruned = model.prune()
    assert pruned.width_in == [4, 2, 1] and pruned.n_edge == 3 * 2 + 2
    assert pruned.pruning.kept == 0 and pruned.pruning.nodes == [[0, 1, 2, 3], [0, 2], [0]]
    assert pruned.pruning.loss_after == pytest.approx(pruned.pruning.loss_before, rel=1e-9)
    given = model.prune(1e-2, 3e-2)
    assert all(torch.equal(value, given.state_dict()[name]) for name, value in pruned.state_dict().items())


def test_nodes_without_edges_go_and_what_they_add_stays() -> None:
    model = regression(3)
    with torch.no_grad():
        model.act_fun[0].mask[:, 0] = 0.0  # a constant node
        model.act_fun[1].mask[1] = 0.0  # one that leads nowhere
    pruned = model.prune(tolerance=0.0)
    assert pruned.width_in == [3, 1, 1]
    torch.testing.assert_close(pruned(model.last_input), model(model.last_input), rtol=1e-9, atol=1e-9)
    model.prune(tolerance=0.0)
    assert model._pruned == {(1, 0), (1, 1)}


@IGNORED
def test_one_path_is_left_even_of_a_useless_network() -> None:
    model = KAN([3, 4, 2, 1], auto_save=False)
    model.fit((samples(3), torch.ones(120, 1)), steps=0, progress=False)
    with torch.no_grad():
        for layer in model.act_fun:
            layer.mask.mul_(1e-6)
    pruned = model.prune()
    assert pruned.width_in == [3, 1, 1, 1] and pruned.n_edge == 3
    with pytest.raises(ValueError, match="would"):
        model.prune(0.9, 0.9)


def test_the_loss_is_that_of_the_fit_whatever_was_looked_at_since() -> None:
    model = regression(6)
    x = model.last_input
    model(samples(6, number=1, seed=5))  # one sample, on which all scores are zero
    with pytest.warns(UserWarning, match="no path would lead from the inputs to the outputs"):
        pruned = model.prune()
    assert loss_of(pruned) <= 1.05 * loss_of(model)
    assert pruned.fit_loss.x is x or torch.equal(pruned.fit_loss.x, x)


@IGNORED
def test_all_that_keep_the_loss_share_one_growth() -> None:
    model = classifier(24)
    before = loss_of(model)
    pruned = model
    for _ in range(3):
        pruned = pruned.prune().prune_input()
        pruned.prune_edge()
    assert loss_of(model) < loss_of(pruned) <= 1.05 * before
    obeyed = model.prune(1e-3, 1e-2)
    after = loss_of(obeyed)
    again = obeyed.prune()
    assert loss_of(again) <= 1.05 * after and obeyed.fit_loss.reference is None and again.fit_loss.reference == pytest.approx(after)


def test_after_a_penalty_one_percent_of_the_labels_spread_is_nothing() -> None:
    for lamb, share in ((0.0, 0.0), (1e-4, SPARSE_SHARE)):
        model = regression(4, lamb=lamb, noise=0.0)
        criterion = criterion_of(model)
        spread = float(model.fit_loss.y.var(correction=0))  # type: ignore[union-attr]
        assert criterion.limit() == criterion.limit(0.05) == pytest.approx(1.05 * criterion.before)
        assert criterion.limit_of_all() - criterion.before == pytest.approx(max(0.05 * criterion.before, share * spread), rel=0.1)
    assert criterion_of(classifier(lamb=1e-4)).limit_of_all() == pytest.approx(1.05 * loss_of(classifier(lamb=1e-4)))


# By the loss alone


def test_a_tolerance_lets_as_many_go_as_the_loss_allows() -> None:
    model = classifier()
    edges = []
    for tolerance in (0.0, 0.01, 0.3, 2.0):
        pruned = model.prune(tolerance=tolerance)
        assert loss_of(pruned) <= (1 + tolerance) * loss_of(model) * (1 + 1e-9)
        edges.append(pruned.n_edge)
    assert edges == sorted(edges, reverse=True) and edges[0] > edges[-1] > 2


@pytest.mark.parametrize("arguments", [{"tolerance": -0.1}, {"tolerance": float("nan")}, {"tolerance": 0.1, "edge_th": 0.1}])
def test_a_tolerance_that_makes_no_sense_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="tolerance, by what share of it the loss may grow, must not be negative and takes the place of"):
        regression(3).prune(**arguments)


def test_symbolic_edges_stay() -> None:
    model = regression(3)
    model.fix_symbolic(0, 0, 0, "x", verbose=False)
    pruned = model.prune(tolerance=10.0)
    assert pruned.symbolic_fun[0].funs_name[0][0] == "x" and bool(pruned.symbolic_fun[0].mask[0, 0])


# Interface


def test_arguments_are_pykans() -> None:
    names = {
        "prune": ["node_th", "edge_th", "tolerance", "older"], "prune_node": ["threshold", "mode", "active_neurons_id", "log_history"],
        "prune_edge": ["threshold", "log_history", "symbolic"], "prune_input": ["threshold", "active_inputs", "log_history", "verbose"],
    }  # fmt: skip
    for method, expected in names.items():
        assert [*inspect.signature(getattr(KAN, method)).parameters][1:] == expected
        assert "1e-2" in getattr(KAN, method).__doc__ or "3e-2" in getattr(KAN, method).__doc__
    model = regression(3)
    assert model.prune(0.0, 0.0).n_edge == model.n_edge == model.prune(edge_th=0.0, node_th=0.0).n_edge


@pytest.mark.parametrize(
    "prune",
    [
        lambda model: model.prune(0.05, 0.2),
        lambda model: model.prune_node(0.3),
        lambda model: model.prune_input(0.25),
        lambda model: model.prune_edge(0.2) or model,
    ],
)
@pytest.mark.parametrize("make", [classifier, regression])
def test_thresholds_are_obeyed_with_both_losses(make: Any, prune: Any) -> None:
    model = make()
    before = loss_of(model)
    with pytest.warns(UserWarning, match=r"^prune\w*: the loss on the samples of the last fit grows from \S+ to \S+\. ") as caught:
        pruned = prune(model)
    assert loss_of(pruned) > 1.05 * before
    assert all(loss in str(caught[0].message) for loss in shown(pruned)) and caught[0].filename == __file__


def test_nodes_and_inputs_that_are_named_are_kept_without_a_word() -> None:
    model = regression(4)
    for pruned in (model.prune_node(active_neurons_id=[[0]]), model.prune_input(active_inputs=[1])):
        assert pruned.pruning.loss_after > 1.05 * pruned.pruning.loss_before
    assert KAN([2, 3, 1], auto_save=False).prune_node(active_neurons_id=[[0]]).pruning is None


# Without labels


def test_without_labels_the_outputs_are_looked_at() -> None:
    fitted = regression()
    model = KAN([16, 3, 1], auto_save=False)
    model.load_state_dict(fitted.state_dict())
    model(fitted.last_input)
    y = model.trace().output.detach()
    with pytest.warns(UserWarning, match="the outputs on the last input would move by .* of their spread; with them it is"):
        pruned = model.prune()
    moved = float((pruned.trace(model.last_input).output.detach() - y).square().mean().sqrt() / y.std(correction=0))
    assert not pruned.pruning.labelled
    assert pruned.pruning.loss_before == 0 and pruned.pruning.loss_after == pytest.approx(moved) and 0 < moved <= 0.05
    with pytest.warns(UserWarning, match=r"prune: the outputs on the last input move by \S+ of their spread\. "):
        model.prune(1e-2, 3e-2)


def test_samples_of_another_shape_are_no_measure() -> None:
    model = regression(3)
    model.expand_width(0, 1)
    model(samples(4))
    assert not criterion_of(model).labelled
    wider = regression(3)
    wider.expand_width(2, 1)
    assert not criterion_of(wider).labelled


# What a fit leaves behind


def reported(model: KAN, **options: Any) -> float:
    x, y = samples(3), samples(1, seed=1)
    data = options.pop("data", (x, y))
    return float(model.fit(data, opt="Adam", lr=1e-2, steps=3, progress=False, update_grid=False, **options)["train_loss"][-1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lamb": 1e-3},
        {"loss_fn": nn.functional.l1_loss},
        {"sample_weight": torch.arange(1.0, 121.0)},
        {"loss_fn": nn.functional.l1_loss, "sample_weight": torch.arange(1.0, 121.0)},
        {"pred_fn": lambda model, x: model(x) ** 2},
        {"validation": 0.25, "restore_best": False},
        {"grids": [3, 5]},
    ],
)
def test_it_is_the_loss_that_the_fit_reports(options: dict[str, Any]) -> None:
    model = KAN([3, 2, 1], auto_save=False)
    last = reported(model, **options)
    x = model.last_input
    assert model.fit_loss is not None and model.fit_loss.shown(loss_of(model)) == pytest.approx(last, rel=1e-9)
    assert model.last_input is x, "which a prediction of the user's would change"
    assert model.fit_loss.penalised == ("lamb" in options)


def test_of_a_loader_the_first_batches_are_kept() -> None:
    x, y = samples(3), samples(1, seed=1)
    model = KAN([3, 2, 1], auto_save=False)
    model.fit(DataLoader(TensorDataset(x, y), batch_size=30), opt="Adam", lr=1e-2, steps=4, progress=False)
    assert torch.equal(model.fit_loss.x, x)
    assert loss_of(model) == pytest.approx(float((model.trace(x).output.detach() - y).square().mean()))


def test_residuals_are_a_loss() -> None:
    model = KAN([1, 4, 1], auto_save=False)
    t = torch.linspace(0, 1, 40)[:, None]

    def decay(u: Any, t: Tensor) -> Tensor:
        value = u(t)
        return torch.autograd.grad(value.sum(), t, create_graph=True)[0] + value

    history = model.fit_residuals([decay, lambda u, t: u(t) - 1], [t, torch.zeros(1, 1)], steps=5)
    assert model.fit_loss.shown(loss_of(model)) == pytest.approx(history[-1])
    pruned = model.prune(tolerance=0.5)
    assert loss_of(pruned) <= 1.5 * loss_of(model)


def test_classes_stay_numbers_and_everything_follows_the_dtype() -> None:
    model = classifier()
    before = loss_of(model)
    assert loss_of(model.float()) == pytest.approx(before, rel=1e-4)
    with pytest.warns(UserWarning, match="are kept"):
        pruned = model.prune()
    assert pruned.dtype == torch.float32 and loss_of(pruned) <= 1.05 * before * (1 + 1e-4)


def test_samples_are_referred_to_and_in_no_copy() -> None:
    x, y = samples(3, number=5000), samples(1, number=5000, seed=1)
    model = KAN([3, 2, 1], auto_save=False)
    model.fit((x, y), opt="Adam", steps=1, progress=False)
    assert model.fit_loss.x.data_ptr() == x.data_ptr() and model.fit_loss.y.data_ptr() == y.data_ptr()  # type: ignore[attr-defined]
    for child in (model.copy(), copy.copy(model), model.refine(4), model.prune(0.0, 0.0), model.prune_input(active_inputs=[0])):
        assert child.fit_loss.y.data_ptr() == y.data_ptr()
    model(x[:10])
    model.optimizer_state = None
    assert len(pickle.dumps(model)) < y.numel() * 8
    assert pickle.loads(pickle.dumps(model)).fit_loss is None
    assert not any("fit_loss" in name for name in model.state_dict())


def test_a_model_from_a_file_has_no_loss(tmp_path: Any) -> None:
    model = regression(3)
    model.saveckpt(tmp_path / "model")
    model.save(tmp_path / "single")
    for loaded in (KAN.loadckpt(tmp_path / "model"), KAN.load(tmp_path / "single")):
        assert loaded.fit_loss is None
