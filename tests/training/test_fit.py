"""The training loop: what it refuses, what it promises, that it is the same every time and learns."""

import copy
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kan import KAN
from kan.MLP import MLP
from kan.network.insertion import insert_knots_
from kan.network.network import Network
from kan.solvers.lbfgs import LBFGS
from kan.training import one_network
from kan.training.callbacks import Callback
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule
from kan.training.history import History
from kan.training.methods.by_name import make_optimizer
from kan.training.models.of_network import trainable_parameters
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty, regularization
from kan.training.options import FitOptions

pytestmark = pytest.mark.usefixtures("float64")


def dataset(count: int = 60, inputs: int = 2, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    data = {}
    for part in ("train", "test"):
        x = torch.rand(count, inputs, generator=generator, dtype=torch.float64) * 2 - 1
        data[f"{part}_input"] = x
        data[f"{part}_label"] = torch.sin(3 * x[:, [0]]) + x[:, [-1]] ** 2
    return data


def changed(name: str, value: object) -> dict[str, object]:
    return {**dataset(), name: value}


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in dataset().items() if key != name}


def holed(name: str, row: int, column: int, value: float) -> dict[str, object]:
    hole = dataset()[name].clone()
    hole[row, column] = value
    return changed(name, hole)


def state(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


BAD = {
    "no dataset": (lambda: {"dataset": 3}, TypeError, "the dataset must be a dictionary with the entries ['train_input', "),
    "entry missing": (
        lambda: {"dataset": without("test_label")},
        ValueError,
        "missing: ['test_label'], present: ['test_input', 'train_input', 'train_label'].",
    ),
    "no tensor": (
        lambda: {"dataset": changed("train_label", {1.0})},
        TypeError,
        "dataset['train_label'] must be a torch tensor, numpy array, list of numbers or frame; got set. Convert it with torch.as_tensor.",
    ),
    "flat labels": (
        lambda: {"dataset": changed("train_label", torch.zeros(60))},
        ValueError,
        "must have the shape of the network's output, (60, 1); got (60,). Use label[:, None] to make a column of it.",
    ),
    "flat test labels": (
        lambda: {"dataset": changed("test_label", torch.zeros(60))},
        ValueError,
        "dataset['test_label'] must have the shape",
    ),
    "too many label columns": (lambda: {"dataset": changed("train_label", torch.zeros(60, 2))}, ValueError, "(60, 1); got (60, 2)."),
    "too few labels": (lambda: {"dataset": changed("train_label", torch.zeros(59, 1))}, ValueError, "(60, 1); got (59, 1)."),
    "too few columns": (
        lambda: {"dataset": changed("train_input", torch.zeros(60, 1))},
        ValueError,
        "dataset['train_input'] must have the shape (number of samples, 2), one column per input of the network; got (60, 1).",
    ),
    "too many columns": (
        lambda: {"dataset": changed("test_input", torch.zeros(60, 3))},
        ValueError,
        "dataset['test_input'] must have the shape",
    ),
    "no samples": (lambda: {"dataset": changed("train_input", torch.zeros(0, 2))}, ValueError, "dataset['train_input'] has no samples."),
    "complex inputs": (
        lambda: {"dataset": changed("train_input", torch.zeros(60, 2, dtype=torch.complex128))},
        ValueError,
        "dataset['train_input'] must hold floating-point numbers; got torch.complex128.",
    ),
    "nan in inputs": (
        lambda: {"dataset": holed("train_input", 3, 1, torch.nan)},
        ValueError,
        "dataset['train_input'] must be finite; it holds NaN or infinity in column(s) [1] (1 of 60 rows, first in row 3).",
    ),
    "infinity in labels": (
        lambda: {"dataset": holed("test_label", 3, 0, torch.inf)},
        ValueError,
        "dataset['test_label'] must be finite; it holds NaN or infinity in column(s) [0] (1 of 60 rows, first in row 3).",
    ),
    "optimiser": (lambda: {"dataset": dataset(), "opt": "LBGFS"}, ValueError, "LBFGS"),
    "steps": (lambda: {"dataset": dataset(), "steps": -1}, ValueError, "steps must be an integer of at least 0; got -1."),
    "steps that are no number": (
        lambda: {"dataset": dataset(), "steps": 2.5},
        ValueError,
        "steps must be an integer of at least 0; got 2.5.",
    ),
    "batch": (
        lambda: {"dataset": dataset(), "batch": 0},
        ValueError,
        "batch must be a positive number of samples, or -1 for all of them; got 0.",
    ),
    "lamb": (lambda: {"dataset": dataset(), "lamb": -1.0}, ValueError, "lamb must not be negative; got -1.0."),
    "batch of a loader": (
        lambda: {"dataset": [(torch.zeros(3, 2), torch.zeros(3, 1))], "batch": 2},
        ValueError,
        "batch=2 is for data in arrays; a loader has batches of its own size, 3.",
    ),
    "patience": (lambda: {"dataset": dataset(), "patience": 0}, ValueError, "patience must be a number of steps, at least 1; got 0."),
    "time limit": (lambda: {"dataset": dataset(), "time_limit": 0}, ValueError, "time_limit must be a positive number of seconds; got 0."),
    "clip": (lambda: {"dataset": dataset(), "clip": 0.0}, ValueError, "clip, the largest norm of the gradient, must be positive; got 0.0."),
    "clip with a line search": (lambda: {"dataset": dataset(), "clip": 1.0}, ValueError, "clip is for first-order optimisers"),
    "metric of two": (
        lambda: {"dataset": dataset(), "metrics": [lambda: 1.0, lambda: 2.0]},
        ValueError,
        "metrics must have names of their own, which become keys of the result; '<lambda>' is taken. Use def to name one.",
    ),
    "metric that is none": (
        lambda: {"dataset": dataset(), "metrics": [3.0]},
        TypeError,
        "metrics must be functions without arguments, or of prediction and label; got float",
    ),
    "callback": (
        lambda: {"dataset": dataset(), "callbacks": [print]},
        TypeError,
        "callbacks must be a list of objects of kan.training.callbacks.Callback; got builtin_function_or_method.",
    ),
    "prediction": (
        lambda: {"dataset": dataset(), "pred_fn": lambda model, x: model(x)[:, 0]},
        ValueError,
        "pred_fn must return predictions of the labels' shape, (60, 1); it returned (60,).",
    ),
    "batch that is no integer": (
        lambda: {"dataset": dataset(), "batch": 2.5},
        ValueError,
        "batch must be a positive number of samples, or -1 for all of them; got 2.5.",
    ),
    "lamb that is not finite": (lambda: {"dataset": dataset(), "lamb": torch.inf}, ValueError, "lamb must be finite; got inf."),
    "lamb that is no number": (lambda: {"dataset": dataset(), "lamb": "a"}, TypeError, "lamb must be a number; got 'a'."),
    "lr that is no number": (lambda: {"dataset": dataset(), "lr": None}, TypeError, "lr must be a number; got None."),
    "y_th": (lambda: {"dataset": dataset(), "y_th": -1.0}, ValueError, "y_th, the bound of symbolic functions at their singularities"),
    "one metric": (
        lambda: {"dataset": dataset(), "metrics": lambda: 1.0},
        TypeError,
        "metrics must be a list of functions without arguments, or of prediction and label; got function.",
    ),
    "display_metrics that are no list": (
        lambda: {"dataset": dataset(), "display_metrics": "reg"},
        TypeError,
        "display_metrics must be a list of names of results; got str.",
    ),
    "one callback": (
        lambda: {"dataset": dataset(), "callbacks": Callback()},
        TypeError,
        "callbacks must be a list of objects of kan.training.callbacks.Callback; got Callback.",
    ),
    "time limit that is no number": (lambda: {"dataset": dataset(), "time_limit": "1"}, ValueError, "time_limit must be a positive"),
    "complex labels": (
        lambda: {"dataset": changed("train_label", torch.zeros(60, 1, dtype=torch.complex128))},
        ValueError,
        "dataset['train_label'] must hold real numbers; got torch.complex128.",
    ),
    "sparse inputs": (
        lambda: {"dataset": changed("train_input", torch.ones(60, 2).to_sparse())},
        ValueError,
        "dataset['train_input'] must be a dense tensor; got torch.sparse_coo.",
    ),
    "loss that is no function": (lambda: {"dataset": dataset(), "loss_fn": "mse"}, TypeError, "loss_fn must be a function; got str."),
    "loss of every sample": (
        lambda: {"dataset": dataset(), "loss_fn": nn.MSELoss(reduction="none")},
        ValueError,
        "loss_fn must return one number; it returned a tensor of the shape (60, 1).",
    ),
    "loss that is no tensor": (
        lambda: {"dataset": dataset(), "loss_fn": lambda output, y: 1.0},
        TypeError,
        "loss_fn must return a tensor with one number; it returned float.",
    ),
    "loss without a graph": (
        lambda: {"dataset": dataset(), "loss_fn": lambda output, y: (output - y).detach().sum()},
        ValueError,
        "loss_fn must return a number that torch can differentiate",
    ),
    "labels that the loss cannot take": (
        lambda: {"dataset": changed("train_label", torch.ones(60).long()), "loss_fn": nn.CrossEntropyLoss()},
        ValueError,
        "dataset['train_label'] holds the 1 classes [1], and the network has 1 output(s). Take torch.nn.CrossEntropyLoss() and one output",
    ),
    "test labels that the loss cannot take": (
        lambda: {"dataset": changed("test_label", torch.zeros(60, 3)), "loss_fn": nn.BCEWithLogitsLoss()},
        ValueError,
        "loss_fn fails for predictions (60, 1) of torch.float64 and labels (60, 3) of torch.float64",
    ),
    "prediction that is no tensor": (
        lambda: {"dataset": dataset(), "pred_fn": lambda model, x: None},
        TypeError,
        "pred_fn must return a tensor of predictions; it returned NoneType.",
    ),
    "learning rate": (lambda: {"dataset": dataset(), "lr": 0.0}, ValueError, "lr must be positive; got 0.0."),
    "display_metrics": (lambda: {"dataset": dataset(), "display_metrics": ["train_los"]}, ValueError, "train_loss"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_anything_changes(name: str) -> None:
    make, error, message = BAD[name]
    network = Network([2, 2, 1])
    before = state(network)
    with pytest.raises(error, match=re.escape(message)):
        arguments = make()
        fit(network, arguments.pop("dataset"), FitOptions(**{"steps": 2, "grid_schedule": GridSchedule(), **arguments}))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    with pytest.raises(ValueError, match="seen any data"):
        network.remembered_input()


def test_nothing_to_train_is_said() -> None:
    network = Network([2, 1])
    for p in network.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match=re.escape("the network has nothing to train: every edge is masked or every parameter is frozen.")):
        fit(network, dataset(), FitOptions(steps=1))


@pytest.mark.parametrize("opt", ["LBFGS", "Adam"])
@pytest.mark.parametrize("batch", [-1, 20])
def test_same_seed_same_bits_and_the_global_state_is_left_alone(opt: str, batch: int) -> None:
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        network = Network([2, 2, 1], seed=3)
        lr = 1.0 if opt == "LBFGS" else 0.01
        results = fit(network, dataset(), FitOptions(opt, steps=4, lamb=1e-3, lr=lr, batch=batch, grid_schedule=GridSchedule()))
        assert torch.equal(before, torch.get_rng_state())
        runs.append((results, state(network)))
    (one, weights), (other, again) = runs
    assert one == other
    assert all(torch.equal(weights[key], again[key]) for key in weights)


def test_arguments_are_not_changed() -> None:
    data = dataset()
    kept = {name: value.clone() for name, value in data.items()}
    fit(Network([2, 2, 1]), data, FitOptions(steps=3, lamb=1e-3, grid_schedule=GridSchedule()))
    assert list(data) == list(kept) and all(torch.equal(data[name], kept[name]) for name in kept)


def test_results_are_those_of_the_parameters_at_the_end_of_each_step() -> None:
    data, network, seen = dataset(), Network([2, 2, 1]), []

    def look(step: int) -> None:
        with torch.no_grad():
            trace = network.trace(data["train_input"])
            train = ((trace.output - data["train_label"]) ** 2).mean().sqrt().item()
            test = ((network.trace(data["test_input"]).output - data["test_label"]) ** 2).mean().sqrt().item()
            seen.append((step, train, test, regularization(network, trace, Penalty()).item()))

    def half() -> float:
        return 0.5

    results = fit(network, data, FitOptions(steps=4, lamb=1e-3, metrics=[half], on_step=look, grid_schedule=GridSchedule()))
    assert list(results) == ["train_loss", "test_loss", "reg", "half"] and results["half"] == [0.5] * 4
    for step, train, test, reg in seen:
        found = [results[key][step] for key in ("train_loss", "test_loss", "reg")]
        assert found == pytest.approx([train, test, reg], rel=1e-10)
    assert torch.equal(network.remembered_input(), data["train_input"])
    assert all(p.grad is None for p in network.parameters())


def test_zero_steps() -> None:
    network = Network([2, 2, 1])
    before = state(network)
    assert fit(network, dataset(), FitOptions(steps=0)) == {"train_loss": [], "test_loss": [], "reg": []}
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_it_learns_what_splines_can_represent_to_round_off() -> None:
    data = dataset(200, 1)
    for part in ("train", "test"):
        data[f"{part}_label"] = data[f"{part}_input"] ** 3 - data[f"{part}_input"]
    results = fit(Network([1, 1], grid=5), data, FitOptions(steps=60))
    assert results["train_loss"][-1] < 1e-14


def test_every_kind_of_parameter_is_trained() -> None:
    network = Network([2, [1, 1], 1], affine_trainable=True)
    network.symbolic_layers[0].set_function(0, 0, "sin")
    network.symbolic_layers[0].mask.data[0, 0] = 1.0
    before = state(network)
    results = fit(network, dataset(), FitOptions(steps=5, lamb=1e-4))
    assert results["train_loss"][-1] < 0.3 * results["train_loss"][0] or results["train_loss"][-1] < 0.05
    still = {key for key, value in network.state_dict().items() if torch.equal(before[key], value)}
    assert {key.split(".")[-1] for key in still if "symbolic_fun.1" not in key} <= {"grid", "mask"}


def test_penalty_with_every_metric_trains() -> None:
    for metric in ("edge_forward_spline_n", "edge_forward_spline_u", "edge_forward_sum", "edge_backward", "node_backward"):
        penalty = Penalty(metric, lamb_coef=0.1, lamb_coefdiff=0.1)
        results = fit(Network([2, 2, 1]), dataset(), FitOptions(steps=3, lamb=1e-2, penalty=penalty))
        assert results["reg"][-1] < results["reg"][0] or results["train_loss"][-1] < results["train_loss"][0]


def test_other_losses_are_reported_as_they_are() -> None:
    data, network = dataset(), Network([2, 2])
    for part in ("train", "test"):
        data[f"{part}_label"] = (data[f"{part}_input"][:, 0] > 0).long()
    results = fit(network, data, FitOptions(steps=3, loss_fn=nn.functional.cross_entropy))
    with torch.no_grad():
        expected = nn.functional.cross_entropy(network.trace(data["train_input"]).output, data["train_label"]).item()
    assert results["train_loss"][-1] == pytest.approx(expected, rel=1e-10)


def test_a_step_that_is_not_finite_is_undone() -> None:
    network, calls = Network([2, 2, 1]), [0]

    def loss(output: Tensor, y: Tensor) -> Tensor:
        calls[0] += 1
        return ((output - y) ** 2).mean() * (1.0 if calls[0] < 60 else torch.nan)

    with pytest.warns(UserWarning, match="the gradient of act_fun.0.coef is not.; the step is undone, and smaller ones"):
        results = fit(network, dataset(), FitOptions(steps=20, loss_fn=loss))
    assert 0 < len(results["train_loss"]) < 20
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    with torch.no_grad():
        found = ((network.trace(dataset()["train_input"]).output - dataset()["train_label"]) ** 2).mean().item()
    assert found == pytest.approx(results["train_loss"][-1], rel=1e-10)


def test_a_converged_fit_costs_next_to_nothing() -> None:
    # A noiseless problem that three symbolic edges solve: exp(sin(pi x) + y^2).
    data = dataset(200)
    for part in ("train", "test"):
        x = data[f"{part}_input"]
        data[f"{part}_label"] = torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)
    network = Network([2, 1, 1])
    for l, i, name, affine in (
        (0, 0, "sin", (3.1, 0.02, 0.95, 0.01)),
        (0, 1, "x^2", (1.02, 0.03, 0.97, 0.0)),
        (1, 0, "exp", (0.98, 0.02, 1.05, 0.03)),
    ):
        network.numeric_layers[l].mask.data.zero_()
        network.symbolic_layers[l].set_function(i, 0, name, affine=torch.tensor(affine))
        network.symbolic_layers[l].mask.data[0, i] = 1.0
    calls = [0]

    def loss(output: Tensor, y: Tensor) -> Tensor:
        calls[0] += torch.is_grad_enabled()
        return ((output - y) ** 2).mean()

    results = fit(network, data, FitOptions(steps=50, loss_fn=loss))
    assert results["train_loss"][-1] < 1e-30
    assert calls[0] < 400  # 50 steps of 20 iterations may take more than a thousand


def test_grids_follow_when_they_are_due() -> None:
    moved, network, data = [], Network([2, 2, 1], seed=1), dataset()
    grids = [network.numeric_layers[1].grid.detach().clone()]

    def look(step: int) -> None:
        now = network.numeric_layers[1].grid.detach().clone()
        moved.append(not torch.equal(now, grids[-1]))
        grids.append(now)

    fit(network, data, FitOptions("Adam", steps=8, lr=0.01, grid_schedule=GridSchedule(number=2, start=1, stop=6), on_step=look))
    assert [step for step, did in enumerate(moved) if did] == [3]


def test_dead_layers_and_missing_functions_are_not_optimised() -> None:
    network = Network([2, 2, 1])
    everything = {id(p) for p in trainable_parameters(network)}
    assert id(network.symbolic_layers[0].affine) not in everything
    network.numeric_layers[0].mask.data.zero_()
    fewer = {id(p) for p in trainable_parameters(network)}
    assert everything - fewer == {id(p) for p in network.numeric_layers[0].parameters() if p.requires_grad}


def test_default_lbfgs_remembers_fifty_pairs() -> None:
    optimizer = make_optimizer("LBFGS", [torch.zeros(2, requires_grad=True)], 1.0)
    assert isinstance(optimizer, LBFGS) and optimizer.param_groups[0]["history_size"] == 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_sparsification_leaves_one_hidden_node(seed: int) -> None:
    data = dataset(1000)
    for part in ("train", "test"):
        x = data[f"{part}_input"]
        data[f"{part}_label"] = torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)
    network = Network([2, 5, 1], grid=3, k=3, seed=seed)
    fit(network, data, FitOptions(steps=50, lamb=1e-3, grid_schedule=GridSchedule()))
    from kan.analysis.attribution import attribute

    assert int((attribute(network.trace()).node_scores[1] > 1e-2).sum()) == 1


def test_float32_and_a_network_that_is_copied() -> None:
    network = Network([2, 2, 1]).float()
    results = fit(network, dataset(), FitOptions(steps=3, lamb=1e-3))
    assert results["train_loss"][-1] < results["train_loss"][0]
    assert all(p.dtype == torch.float32 for p in network.parameters())
    copy.deepcopy(network)


def test_objective_of_a_fit_can_be_any_callable() -> None:
    loss: Callable[[Tensor, Tensor], Tensor] = nn.MSELoss()
    network, data = Network([2, 2, 1]), dataset()
    total, _, _ = Objective(network, loss, 0.0, Penalty())(data["train_input"], data["train_label"])
    assert fit(network, data, FitOptions(steps=2, loss_fn=loss))["train_loss"][0] < total.item()


# Ends


def runaway(**options: Any) -> tuple[Network, History]:
    """A fit that gets worse from its second step on."""
    network = Network([2, 2, 1])
    return network, fit(network, dataset(), FitOptions(**{"opt": "Adam", "lr": 1.0, "steps": 12, "log": 0, **options}))


def rmse(network: Network, part: str) -> float:
    with torch.no_grad():
        return float((network(dataset()[f"{part}_input"]) - dataset()[f"{part}_label"]).square().mean().sqrt())


def test_patience_ends_a_fit_at_its_best_state() -> None:
    _, whole = runaway()
    best = min(range(12), key=whole["test_loss"].__getitem__)
    network, history = runaway(patience=2, steps=100)
    first = next(step for step in range(2, 100) if min(history["test_loss"][: step - 1]) <= min(history["test_loss"][step - 1 : step + 1]))
    assert history.stopped == "patience" and history.steps == first + 1 and history.restored and history.best_step == first - 2
    assert rmse(network, "test") == pytest.approx(history["test_loss"][first - 2], rel=1e-10)
    network, history = runaway(restore_best=True)
    assert history.best_step == best and rmse(network, "test") == pytest.approx(history["test_loss"][best], rel=1e-10)
    network, history = runaway(patience=2, restore_best=False)
    assert not history.restored and rmse(network, "test") == pytest.approx(history["test_loss"][-1], rel=1e-10)


def test_the_best_state_has_its_grids() -> None:
    network, grids = Network([2, 2, 1]), []

    def look(step: int) -> None:
        grids.append(network.numeric_layers[1].grid.detach().clone())

    options = FitOptions("Adam", 6, 0, lr=1.0, restore_best=True, on_step=look, grid_schedule=GridSchedule(10, 1, 10))
    history = fit(network, dataset(), options)
    assert history.restored and history.best_step is not None
    assert torch.equal(network.numeric_layers[1].grid, grids[history.best_step]) and not torch.equal(grids[-1], grids[history.best_step])


def test_time_limit_ends_a_fit() -> None:
    _, history = runaway(time_limit=1e-9)
    assert history.stopped == "time limit" and history.steps == 1 and history.seconds > 0


class Interrupting:
    """The mean squared error, and Ctrl-C at evaluation number `at` after those that check it on training and test data."""

    def __init__(self, at: int) -> None:
        self.left = at + 2

    def __call__(self, output: Tensor, y: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return (output - y).square().mean()


@pytest.mark.parametrize("opt", ["LBFGS", "Adam", "Rprop"])
@pytest.mark.parametrize("at", [1, 2, 7, 30])
def test_an_interrupt_anywhere_leaves_the_last_complete_step(opt: str, at: int) -> None:
    network, states = Network([2, 2, 1]), []
    states.append(state(network))
    with pytest.warns(UserWarning, match="^fit: interrupted in step"):
        options = FitOptions(
            opt, 20, 0, lr=0.01, loss_fn=Interrupting(at), on_step=lambda _: states.append(state(network)), grid_schedule=GridSchedule(),
            restore_best=False,
        )  # fmt: skip
        history = fit(network, dataset(), options)
    assert history.stopped == "interrupted" and history.steps == len(states) - 1
    assert all(len(values) == history.steps for values in history.values())
    assert all(torch.equal(states[-1][name], value) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(network.remembered_input(), dataset()["train_input"]) if history.steps else network.last_input is None
    again = fit(network, dataset(), FitOptions(opt, 2, 0, lr=0.01, resume=history.optimizer_state))
    assert again.steps == 2


class Raising(Callback):
    """Raises `error` after a step that has made the loss `name` worse, from step 5 on."""

    def __init__(self, error: BaseException, name: str = "train_loss") -> None:
        self.error, self.name = error, name

    def on_step(self, state: Any) -> None:
        if state.step >= 5 and state.history[self.name][-1] > min(state.history[self.name]):
            raise self.error


@pytest.mark.parametrize("part", ["test", "train"])
def test_an_end_that_was_not_planned_leaves_the_best_state(part: str) -> None:
    network = Network([2, 2, 1])
    data = dataset() if part == "test" else {key: value for key, value in dataset().items() if "train" in key}
    with pytest.warns(UserWarning, match="^fit: interrupted in step [0-9]*; the network is as step [0-9]* left it, its best state"):
        history = fit(network, data, FitOptions("Adam", 40, 0, lr=1.0, callbacks=[Raising(KeyboardInterrupt(), f"{part}_loss")]))
    assert history.restored and history.best_step is not None and history.best_step < history.steps - 1
    assert rmse(network, part) == pytest.approx(min(history[f"{part}_loss"]), rel=1e-10)
    kept = state(network)
    failed = Network([2, 2, 1])
    with pytest.raises(RuntimeError, match="no disk"):
        fit(failed, data, FitOptions("Adam", 40, 0, lr=1.0, callbacks=[Raising(RuntimeError("no disk"), f"{part}_loss")]))
    assert all(torch.equal(kept[name], value) for name, value in failed.state_dict().items())


@pytest.mark.parametrize("options", [{"restore_best": False}, {"lamb": 1e-3}, {"batch": 7}])
def test_the_last_step_stays_where_the_least_loss_does_not_say_what_is_best(options: dict[str, Any]) -> None:
    network, last = Network([2, 2, 1]), []
    data = {key: value for key, value in dataset().items() if "train" in key}
    with pytest.warns(UserWarning, match="^fit: interrupted in step [0-9]*; the network is as step [0-9]* left it[.]"):
        look: dict[str, Any] = {"on_step": lambda _: last.append(state(network)), "callbacks": [Raising(KeyboardInterrupt())]}
        fit(network, data, FitOptions("Adam", 60, 0, lr=1.0, **look, **options))
    assert all(torch.equal(last[-1][name], value) for name, value in network.state_dict().items())


def test_an_interrupted_model_is_saved() -> None:
    model = KAN([2, 2, 1], ckpt_path="kept")
    with pytest.warns(UserWarning, match="^fit: interrupted in step 2; the network is as step 1 left it"):
        model.fit(dataset(), opt="Adam", lr=0.01, steps=20, log=0, loss_fn=Interrupting(10))
    assert model.state_id == 1 and all(
        torch.equal(value, model.state_dict()[name]) for name, value in KAN.loadckpt("kept/0.1").state_dict().items()
    )


@pytest.mark.filterwarnings("ignore:fit. interrupted:UserWarning", "ignore:fit. the :UserWarning")
@pytest.mark.parametrize("options", [{}, {"grids": [5, 8]}, {"restarts": 2}, {"opt": "Adam", "lr": 0.01, "lamb": 1e-3}], ids=str)
@pytest.mark.parametrize("trained", [False, True])
def test_an_interrupt_before_the_first_step_is_complete_leaves_everything_as_it_was(options: dict[str, Any], trained: bool) -> None:
    def interrupt() -> float:
        raise KeyboardInterrupt

    model, data = KAN([2, 2, 1], ckpt_path="kept"), dataset()
    if trained:
        model.fit(data, steps=2, log=0)
    seen, before, files = model.last_input, state(model), {path: path.read_bytes() for path in Path("kept").iterdir()}
    settings, loss, optimizer = model.settings(), model.fit_loss, model.optimizer_state
    far = {key: value * 1e6 for key, value in data.items()}  # in units that a fit of a new model normalises
    history = model.fit(far, steps=5, log=0, metrics=[interrupt], **options)
    assert history.stopped == "interrupted" and history.steps == 0
    assert model.settings() == settings and model.last_input is seen and model.fit_loss is loss and model.optimizer_state is optimizer
    assert model.applied("normalizer") is None and model.state_dict().keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert {path: path.read_bytes() for path in Path("kept").iterdir()} == files
    assert model.fit(data, steps=1, log=0).steps == 1


@pytest.mark.parametrize("place", ["make_batches", "make_stepper", "_keep_freed_memory"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_what_fails_while_a_fit_is_prepared_changes_nothing(place: str, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> None:
        raise kind

    model, other = KAN([2, 2, 1], auto_save=False), {key: value * 1e6 for key, value in dataset().items()}
    before = state(model)
    monkeypatch.setattr(one_network, place, failing)
    with pytest.raises(kind), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fit: the ")
        model.fit(other, steps=5, log=0)
    assert model.last_input is None and model.applied("normalizer") is None and model.labels() == {}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_an_interrupt_of_the_knots_that_precede_the_first_step_leaves_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(network: Network, *rest: Any) -> None:
        insert_knots_(network, *rest)
        raise KeyboardInterrupt

    model = KAN([2, 2, 1], auto_save=False)
    before = state(model)
    monkeypatch.setattr("kan.training.models.of_network.insert_knots_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(dataset(), steps=2, log=0, grids=[5])
    assert model.grid == 3 and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# Never NaN


@pytest.mark.parametrize(("opt", "size", "seeds"), [("LBFGS", 1e18, (3, 6)), ("LM", 1e25, (4, 5))])
def test_labels_whose_squares_overflow_are_no_reason_for_warnings_of_numpy(opt: str, size: float, seeds: tuple[int, ...]) -> None:
    for seed in seeds:
        network = Network([2, 3, 1], seed=seed).float()
        data = {key: (value * size if "label" in key else value).float() for key, value in dataset().items()}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "fit: step|fit: the labels")
            fit(network, data, FitOptions(opt, steps=6, log=0, lamb=1e-3))
        assert all(bool(torch.isfinite(p).all()) for p in network.parameters())


@pytest.mark.parametrize("opt", ["LBFGS", "Adam", "LM"])
def test_inputs_too_small_for_a_grid_are_told_and_trained_on(opt: str) -> None:
    network = Network([2, 3, 1]).float()
    network.normalizer = [0.0, 0.0], [1.0, 1.0]  # the user's word that they are as they should be
    data = {key: (value * 1e-42 if "input" in key else value).float() for key, value in dataset().items()}
    with pytest.warns(UserWarning, match="you have normalised them"), pytest.warns(UserWarning, match="do not span an increasing grid"):
        history = fit(network, data, FitOptions(opt, 3, 0, lr=0.1, grid_schedule=GridSchedule()))
    assert history.steps == 3 and all(bool(torch.isfinite(p).all()) for p in network.parameters())


def test_classes_of_any_integers() -> None:
    data = dataset()
    found = []
    for kind in (torch.int64, torch.int32, torch.int8):
        labels = {key: (value[:, 0] > 0.3).to(kind) if "label" in key else value for key, value in data.items()}
        found.append(fit(Network([2, 2, 2]), labels, FitOptions(steps=3, log=0, loss_fn=nn.CrossEntropyLoss()))["train_loss"])
    assert found[0] == found[1] == found[2]


def test_a_gradient_that_is_not_finite_is_told() -> None:
    def loss(output: Tensor, y: Tensor) -> Tensor:
        return (output - y).square().mean() + (output * 0).sum().sqrt()  # finite, with a gradient of 0/0

    for opt in ("LBFGS", "Adam"):
        network = Network([2, 2, 1])
        before = state(network)
        with pytest.warns(UserWarning, match="the gradient of act_fun.0.coef is not.; .*the network is as it was before the first step"):
            history = fit(network, dataset(), FitOptions(opt, 5, 0, loss_fn=loss))
        assert history.steps == 0 and history.stopped == "not finite"
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_layer_is_named() -> None:
    network = Network([2, 2, 1])
    network.numeric_layers[1].coef.data[0, 0, 0] = torch.inf
    with pytest.warns(UserWarning, match=re.escape("(layer 1 is the first whose sums are not finite, at its outputs [0])")):
        assert fit(network, dataset(), FitOptions("Adam", 5, 0)).stopped == "not finite"


def test_a_step_too_long_is_shortened() -> None:
    def loss(output: Tensor, y: Tensor) -> Tensor:
        error = (output - y).square().mean()
        return error + torch.where(error > 10, torch.nan, 0.0)

    network = Network([2, 2, 1])
    history = fit(network, dataset(), FitOptions("SGD", 5, 0, lr=5.0, loss_fn=loss))
    assert history.steps == 5 and history["train_loss"][-1] < 10


# Weights, predictions, metrics


def test_weights_count_samples() -> None:
    x, y = dataset()["train_input"], dataset()["train_label"]
    weight = torch.arange(60) % 3
    rows = torch.arange(60).repeat_interleave(weight)
    for loss_fn in (None, nn.functional.l1_loss, nn.L1Loss()):
        found = fit(Network([2, 2, 1]), (x, y), FitOptions("Adam", 4, 0, lr=0.01, loss_fn=loss_fn, sample_weight=weight))
        expected = fit(Network([2, 2, 1]), (x[rows], y[rows]), FitOptions("Adam", 4, 0, lr=0.01, loss_fn=loss_fn))
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-8)
    with pytest.raises(
        ValueError, match=re.escape("sample_weight needs a loss_fn of prediction, label and weights; <lambda> takes ['a', 'b']")
    ):
        fit(Network([2, 2, 1]), (x, y), FitOptions(steps=1, loss_fn=lambda a, b: a.sum(), sample_weight=weight))


def test_a_prediction_may_be_a_derivative() -> None:
    x = dataset()["train_input"]

    def flow(model: Any, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return slope.flip(1) * torch.tensor([1.0, -1.0])

    y = torch.stack([x[:, 1], -x[:, 0]], 1)
    for model in (KAN([2, 1], auto_save=False), MLP([2, 5, 1])):
        history = model.fit((x, y), steps=10, log=0, lamb=1e-6, pred_fn=flow)
        assert history["train_loss"][-1] < 0.5 * history["train_loss"][0] and history["reg"][-1] > 0
        assert torch.equal(model.cache_data, x)


def test_the_penalty_is_there_although_activations_are_not_kept() -> None:
    runs = [KAN([2, 2, 1], save_act=save_act, auto_save=False).fit(dataset(), steps=2, lamb=0.01, log=0) for save_act in (True, False)]
    assert runs[0] == runs[1] and runs[0]["reg"][0] > 0


def test_a_metric_that_is_no_number_is_named() -> None:
    network, calls = Network([2, 2, 1]), []

    def accuracy() -> Any:
        calls.append(state(network))
        return 1.0 if len(calls) < 3 else torch.zeros(2)

    with pytest.raises(TypeError, match=re.escape("the metric 'accuracy' must return a number; it returned a tensor of shape (2,).")):
        fit(network, dataset(), FitOptions("Adam", 5, 0, lr=0.01, metrics=[accuracy]))
    assert all(torch.equal(calls[1][name], value) for name, value in network.state_dict().items())


def test_large_test_sets_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(Network([2, 2, 1]), dataset(), FitOptions(steps=2, log=0))
    monkeypatch.setattr("kan.training.objectives.base.FEATURES_PER_PASS", 100)
    assert fit(Network([2, 2, 1]), dataset(), FitOptions(steps=2, log=0))["test_loss"] == pytest.approx(whole["test_loss"], rel=1e-12)


def test_a_parameter_that_is_not_finite_is_undone_although_the_loss_does_not_show_it() -> None:
    network = Network([2, 2, 1])
    network.symbolic_layers[0].set_function(0, 0, "tanh")
    network.symbolic_layers[0].mask.data[0, 0] = 1.0

    class Wild(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            network.symbolic_layers[0].affine.data[0, 0, 0] = torch.inf  # tanh(inf x) is finite
            return loss

    before = state(network)
    with pytest.warns(UserWarning, match="^fit: step 0 led to"):
        assert fit(network, dataset(), FitOptions(Wild, 3, 0, lr=0.01)).stopped == "not finite"
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
