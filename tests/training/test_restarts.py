"""Restarts: networks that are trained together end as they do one after another, and the best is kept."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.bases.bspline import tabulate
from kan.kernels.library import library
from kan.layers.features import unfold
from kan.network.network import Network
from kan.training import restarts
from kan.training.callbacks import Every
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule
from kan.training.history import History, Restarts
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.network_problem import NetworkProblem
from kan.training.objectives.make import plain_objective
from kan.training.options import FitOptions
from kan.training.together import fit_stack, stack
from kan.training.together.stack_pass import Block, Shared, StackLayer, jacobian, losses, normal_equations, value_and_gradients

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.filterwarnings("error")]

SCHEDULE = GridSchedule(number=2, stop=6)
STEPS = {"LBFGS": 4}
"""Number of steps of a method where it is not that of the test: 80 iterations of L-BFGS magnify differences by round-off a millionfold."""
METHODS = [("LM", 1.0), ("Adam", 0.02), *([("LBFGS", 1.0)] if library(torch.float64) is not None else [])]


def samples(count: int = 90, outputs: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(count, 2, generator=generator) * 2 - 1
    y = torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)
    return x, torch.cat([y, x.prod(1, keepdim=True)], 1)[:, :outputs]


def network(width: list[int] | None = None, **arguments: Any) -> Network:
    return Network(width or [2, 3, 1], **{"grid": 4, "seed": 2, **arguments}).double()


def separately(make: Callable[..., Network], count: int, data: Any, **options: Any) -> list[History]:
    return [fit(make(seed=2 + s), data, FitOptions(progress=False, **options)) for s in range(count)]


def never(*_: Any) -> History:
    raise AssertionError("this fit goes the other way")


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "_one_after_another", never)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_stack.StackFit, "run", never)


@pytest.mark.parametrize("base_fun", ["silu", torch.tanh])
@pytest.mark.parametrize("updates", [False, True])
def test_a_network_of_a_stack_is_the_network_alone(updates: bool, base_fun: Any) -> None:
    x, y = samples(outputs=2)
    networks = [network([2, 4, 3, 2], seed=seed, base_fun=base_fun) for seed in range(3)]
    for one in networks:
        if updates:
            one.update_grid(x)
        else:
            one.act_fun[0].grid.data = networks[0].act_fun[0].grid.data
    layers = []
    for l in range(3):
        all_of = [one.numeric_layers[l] for one in networks]
        table = None if l == 0 else tabulate(torch.cat([layer.grid for layer in all_of]), 3)
        layers.append(StackLayer(torch.stack([layer.edge_weight().detach() for layer in all_of]), table, all_of[0].base_fun))
    block = Block(tuple(layers))
    first = networks[0].first_layer(x).features.permute(1, 2, 0).flatten(0, 1)
    shared = Shared(first, y.t(), torch.full((len(x),), 1 / y.numel()))
    wanted = [torch.nn.functional.mse_loss(one(x), y) for one in networks]
    with torch.no_grad():
        assert torch.allclose(losses(block, shared), torch.stack(wanted), rtol=1e-13)
        values, found = value_and_gradients(block, shared)
        matrix, slope = normal_equations(block, shared)
        rows, residuals = jacobian(block, shared)
    assert torch.allclose(values, torch.stack(wanted), rtol=1e-13)
    for s, one in enumerate(networks):
        wanted[s].backward()
        for grad, layer in zip(found, one.numeric_layers, strict=True):
            with torch.no_grad():
                own = unfold(grad[s], (layer.coef, layer.scale_base, layer.scale_sp, layer.mask), (True, True, True, False))
            for have, p in zip(own, (layer.coef, layer.scale_base, layer.scale_sp), strict=False):
                assert have is not None and p.grad is not None and torch.allclose(have, p.grad, rtol=1e-10, atol=1e-14)
        # The Jacobian of the single back end, whose coordinates are the weights too.
        columns = Columns(one, [p for layer in one.numeric_layers for p in (layer.coef, layer.scale_base)])
        problem = NetworkProblem(plain_objective(one, None), columns, x, y)
        ((single, single_residuals),) = problem._chunks()
        parts = rows[s].split([layer.weight[0].numel() for layer in layers])
        of_weights = [part.unflatten(0, layer.weight.shape[1:]) for part, layer in zip(parts, layers, strict=True)]
        ordered = [part for own in of_weights for part in (own[:, 0].flatten(0, 1), own[:, 1:].transpose(1, 2).flatten(0, 2))]
        torch.testing.assert_close(torch.cat(ordered), single, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(residuals[s], single_residuals, rtol=1e-12, atol=1e-12)
    assert torch.allclose(2 * slope, torch.cat([grad.flatten(1) for grad in found], 1), rtol=1e-10, atol=1e-14)
    assert torch.allclose(matrix, rows @ rows.mT, rtol=1e-11, atol=1e-15)
    assert torch.allclose(slope, (rows @ residuals[..., None])[..., 0], rtol=1e-11, atol=1e-15)


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(("opt", "lr"), METHODS)
@pytest.mark.parametrize("schedule", [None, SCHEDULE])
@pytest.mark.parametrize("width", [[2, 3, 1], [2, 3, 2, 2]])
def test_losses_are_those_of_one_after_another(opt: str, lr: float, schedule: GridSchedule | None, width: list[int]) -> None:
    data = samples(outputs=width[-1])
    options = {"opt": opt, "lr": lr, "steps": STEPS.get(opt, 5), "grid_schedule": schedule}
    model = network(width)
    found = fit(model, data, FitOptions(restarts=3, progress=False, **options))
    wanted = separately(lambda seed: network(width, seed=seed), 3, data, **options)
    assert found.restarts is not None and found.restarts.seeds == [2, 3, 4] and found.stopped == "steps"
    last = [history["test_loss"][-1] for history in wanted]
    assert found.restarts.losses == pytest.approx(last, rel=1e-6)
    assert found.restarts.best == last.index(min(last))
    best = wanted[found.restarts.best]
    assert found["train_loss"] == pytest.approx(best["train_loss"], rel=1e-6) and found.keys() == best.keys()
    with torch.no_grad():
        assert float((model(data[0]) - data[1]).square().mean().sqrt()) == pytest.approx(found["train_loss"][-1], rel=1e-9)
    assert found.optimizer_state is not None and best.optimizer_state is not None
    assert found.optimizer_state["shapes"] == best.optimizer_state["shapes"]


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(("opt", "lr"), METHODS)
def test_masks_weights_and_other_data_count(opt: str, lr: float) -> None:
    x, y = samples(120)
    data = ((x[:60], y[:60]), (x[60:80], y[60:80]))
    options = {
        "opt": opt, "lr": lr, "steps": STEPS.get(opt, 6), "validation": (x[80:], y[80:]), "patience": 2,
        "sample_weight": torch.linspace(0, 1, 60), "grid_schedule": SCHEDULE,
    }  # fmt: skip

    def masked(seed: int = 2) -> Network:
        found = network(seed=seed)
        found.act_fun[0].mask.data[1, 2] = 0.0
        found.act_fun[0].mask.data[0, 1] = -0.5
        return found

    model = masked()
    found = fit(model, data, FitOptions(restarts=2, progress=False, **{**options, "patience": 6}))
    wanted = separately(masked, 2, data, **{**options, "patience": 6})
    assert found.restarts is not None
    assert found.restarts.losses == pytest.approx([min(one["val_loss"]) for one in wanted], rel=1e-6)
    best = wanted[found.restarts.best]
    assert {key: values[-1] for key, values in found.items()} == pytest.approx({k: v[-1] for k, v in best.items()}, rel=1e-6)
    with torch.no_grad():
        loss = float((model(x[80:]) - y[80:]).square().mean().sqrt())
    assert loss == pytest.approx(min(found.restarts.losses), rel=1e-9) and float(model.act_fun[0].mask[1, 2]) == 0.0


@pytest.mark.usefixtures("together")
def test_few_samples_and_float32() -> None:
    x, y = samples(12)
    found = fit(network(), (x, y), FitOptions(restarts=2, opt="LM", steps=3, progress=False))
    wanted = separately(network, 2, (x, y), opt="LM", steps=3)
    assert found.restarts is not None
    assert found.restarts.losses == pytest.approx([one["test_loss"][-1] for one in wanted], rel=1e-5)
    x, y = samples()
    model = network().float()
    assert fit(model, (x.float(), y.float()), FitOptions(restarts=2, opt="LM", steps=3, progress=False)).stopped == "steps"
    assert model.dtype == torch.float32


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(("opt", "lr"), METHODS)
def test_bits_are_the_same_whatever_the_threads(opt: str, lr: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "TOGETHER", 2**9)
    state, threads, found = torch.get_rng_state(), torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        model = network()
        history = fit(model, samples(), FitOptions(restarts=5, opt=opt, lr=lr, steps=4, progress=False, grid_schedule=SCHEDULE))
        found.append((history, history.restarts, [p.tolist() for p in model.parameters()]))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert found[0] == found[1] and torch.equal(state, torch.get_rng_state())


OTHERS: list[dict[str, Any]] = [
    {"opt": "LBFGS", "loss_fn": torch.nn.functional.l1_loss},
    {"opt": "LBFGS", "lamb": 1e-3},
    {"opt": "LM", "lamb": 1e-3},
    {"opt": "LM", "on_step": [].append},
    {"opt": "Adam", "batch": 20},
    {"opt": "Adam", "loss_fn": torch.nn.functional.l1_loss},
]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("options", OTHERS)
def test_everything_else_is_trained_one_after_another(options: dict[str, Any]) -> None:
    options = {"lr": 0.1, "steps": 3, **options}
    told = fit(network(), samples(), FitOptions(restarts=3, progress=False, **options))
    # batches are drawn with the model's seed
    wanted = [fit(model_of(seed), samples(), FitOptions(progress=False, **options))["test_loss"][-1] for seed in (2, 3, 4)]
    assert told.restarts == Restarts([2, 3, 4], wanted, wanted.index(min(wanted)))
    assert told["test_loss"][-1] == min(wanted)


def model_of(seed: int) -> Network:
    found = network(seed=seed)
    found.seed = 2
    return found


@pytest.mark.usefixtures("alone")
def test_symbolic_edges_stay() -> None:
    model = KAN([2, 3, 1], grid=4, seed=2, auto_save=False).double()
    model.fix_symbolic(0, 0, 1, "sin", fit_params_bool=False, verbose=False)
    model.update_grid(samples()[0])
    model.act_fun[1].coef.data *= 1e9
    grid = model.act_fun[0].grid.clone()
    found = model.fit(samples(), opt="Adam", lr=1e-3, steps=2, progress=False, update_grid=False, restarts=2)
    assert found.restarts is not None and found.restarts.best == 1 and torch.equal(grid, model.act_fun[0].grid)
    assert model.symbolic_fun[0].active() == [(1, 0)] and model.seed == 2


def test_levels_go_on_with_the_best() -> None:
    model = KAN([2, 3, 1], grid=3, seed=2, auto_save=False).double()
    found = model.fit(samples(), opt="LM", steps=3, grids=[3, 6], restarts=3, progress=False)
    assert found.restarts is not None and found.steps == 6 and model.grid == 6
    assert found["train_loss"][2] == found.restarts.losses[found.restarts.best] == min(found.restarts.losses)
    assert found["train_loss"][3] <= found["train_loss"][2]


@pytest.mark.usefixtures("together")
def test_networks_that_are_not_finite_drop_out(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = fit_stack.drawn

    def bad(model: Network, seed: int) -> Network:
        found = begun(model, seed)
        if seed == 3:
            found.act_fun[1].coef.data[0, 0, 0] = math.nan
        return found

    monkeypatch.setattr(fit_stack, "drawn", bad)
    for opt, lr in METHODS:
        model = network()
        found = fit(model, samples(), FitOptions(restarts=3, opt=opt, lr=lr, steps=4, progress=False, grid_schedule=SCHEDULE))
        assert found.restarts is not None and found.restarts.losses[1] == math.inf and math.isfinite(found.restarts.losses[2])
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    huge = network()
    huge.output_normalizer = [0.0], [1.0]  # the user says that they are as they should be: there is no map
    before = [p.clone() for p in huge.parameters()]
    with pytest.warns(UserWarning, match="you have normalised them"), pytest.warns(UserWarning, match="none of the 2 networks has"):
        found = fit(huge, (samples()[0], samples()[1] * 1e200), FitOptions(restarts=2, opt="Adam", steps=2, progress=False))
    assert found.stopped == "not finite" and all(map(torch.equal, before, huge.parameters())) and found.steps == 0


@pytest.mark.usefixtures("together")
def test_an_interrupt_keeps_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    look, model = fit_stack.BestStates.look, network()

    def interrupted(self: Any, step: int, *rest: Any) -> None:
        if step == 2:
            raise KeyboardInterrupt
        look(self, step, *rest)

    monkeypatch.setattr(fit_stack.BestStates, "look", interrupted)
    with pytest.warns(UserWarning, match="interrupted in step 2; the network is the best of 3 as step 1 left it"):
        found = fit(model, samples(), FitOptions(restarts=3, opt="LM", steps=5, progress=False))
    assert found.stopped == "interrupted" and found.steps == 2
    with torch.no_grad():
        loss = float((model(samples()[0]) - samples()[1]).square().mean().sqrt())
    assert loss == pytest.approx(found["train_loss"][-1], rel=1e-9)


@pytest.mark.usefixtures("together")
def test_patience_time_and_the_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    found = fit(network(), samples(), FitOptions(restarts=2, opt="Adam", lr=1e-12, steps=50, patience=3, restore_best=False))
    assert found.stopped in ("patience", "steps") and "train_loss" in capsys.readouterr().err
    assert fit(network(), samples(), FitOptions(restarts=2, opt="Adam", steps=500, time_limit=1e-9, progress=False)).steps == 1


def test_a_time_limit_is_for_all_of_them() -> None:
    found = fit(network(), samples(), FitOptions(restarts=4, opt="SGD", lr=1e-3, steps=50, time_limit=1e-9, progress=False))
    assert found.restarts is not None and found.restarts.losses[1:] == [math.inf] * 3 and found.steps == 1


def test_nothing_is_trained_in_no_steps() -> None:
    found = fit(network(), samples(), FitOptions(restarts=2, opt="LM", steps=0, progress=False))
    assert found.steps == 0 and found.restarts == Restarts([2, 3], [math.inf, math.inf], 0)


def test_bad_input_changes_nothing() -> None:
    model = network()
    before = [p.clone() for p in model.parameters()]
    bad: list[tuple[Any, dict[str, Any], str]] = [
        (0, {}, "restarts, the number of networks that are trained, must be a positive integer; got 0"),
        (2.0, {}, "must be a positive integer; got 2.0"),
        (True, {}, "must be a positive integer; got True"),
        (2, {"resume": {"opt": "LM"}}, "resume goes on with one network"),
        (2, {"opt": torch.optim.Adam(model.parameters())}, "an optimiser that exists holds one"),
        (2, {"lr": -1.0}, "lr must be positive"),
        (2, {"steps": -1}, "steps must be an integer"),
        (2, {"opt": "Adm"}, "Adm"),
    ]
    for count, options, message in bad:
        with pytest.raises(ValueError, match=message):
            fit(model, samples(), FitOptions(restarts=count, **{"opt": "LM", "steps": 2, "progress": False, **options}))
    with pytest.raises(ValueError, match="shape"):
        fit(model, (samples()[0], samples()[1][:5]), FitOptions(restarts=2, opt="LM"))
    with pytest.raises(TypeError, match="callbacks"):
        fit(model, samples(), FitOptions(restarts=2, opt="LM", callbacks=[Every], progress=False))
    assert all(map(torch.equal, before, model.parameters()))


def test_the_history_tells_of_them(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        found = fit(network(), samples(), FitOptions(restarts=2, opt="Adam", steps=1, progress=False))
    found.restarts = Restarts([2, 3], [0.5, math.inf], 0)
    assert found.to_dict()["restarts"] == {"seeds": [2, 3], "losses": [0.5, math.inf], "best": 0}
    found.to_json(tmp_path / "history.json")
    assert json.loads((tmp_path / "history.json").read_text())["restarts"]["losses"] == [0.5, None]
    assert "restarts" not in History(["train_loss"]).to_dict()
