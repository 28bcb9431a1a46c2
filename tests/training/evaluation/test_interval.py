"""How often held-out data are evaluated, and what the numbers of the other steps are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kan.network.network import Network
from kan.training.callbacks import Every
from kan.training.evaluation.interval import LARGEST_SHARE, PASSES_OF_A_STEP, steps_between
from kan.training.evaluation.measure import Measure
from kan.training.fit import fit
from kan.training.history import History
from kan.training.options import FitOptions
from kan.training.stopping import Stopping

pytestmark = pytest.mark.usefixtures("float64")

EVALUATED = ("test_loss", "val_loss", "train_l1", "test_l1", "val_l1", "counted")


def samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    return x, torch.sin(3 * x[:, [0]]) * x[:, [1]]


def l1(output: Tensor, y: Tensor) -> Tensor:
    return (output - y).abs().mean()


def trained(steps: int = 20, **options: Any) -> tuple[History, Network, list[int]]:
    """A fit with 60 samples, 30 for tests and 20 for validation, and the steps after which the metrics were evaluated."""
    calls: list[int] = []

    def counted() -> float:
        calls.append(1)
        return float(len(calls))

    network = Network([2, 3, 1], seed=2)
    given = {"opt": "Adam", "lr": 0.02, "batch": 10, "validation": samples(20, 2), "metrics": [l1, counted], "progress": False}
    history = fit(network, (samples(60, 0), samples(30, 1)), FitOptions(steps=steps, **{**given, **options}))
    numbers = history.get("counted", [])
    return history, network, [step for step, number in enumerate(numbers) if step == 0 or number != numbers[step - 1]]


def test_lists_have_one_number_per_step_and_repeat_what_was_not_evaluated() -> None:
    every, some = trained(eval_every=1)[0], trained(eval_every=7)
    history, _, evaluated = some
    assert evaluated == [0, 7, 14, 19]
    for name, values in history.items():
        assert len(values) == 20
        if name not in EVALUATED:
            assert values == every[name]
    for step in range(20):
        last = max(found for found in evaluated if found <= step)
        for name in EVALUATED[:-1]:
            assert history[name][step] == every[name][last]


def test_the_losses_of_the_samples_of_each_step_are_new_ones() -> None:
    history = fit(
        Network([2, 1], seed=1), samples(50, 3), FitOptions("Adam", steps=9, lr=0.01, batch=10, eval_every=5, lamb=1e-3, progress=False)
    )
    assert len(set(history["train_loss"])) == len(set(history["reg"])) == 9
    assert history["test_loss"] == history["train_loss"]


def test_full_batches_are_evaluated_at_every_step() -> None:
    for options in ({"batch": -1}, {"batch": -1, "opt": "LBFGS", "lr": 1.0}, {"batch": 100}):
        assert trained(steps=6, **options)[2] == list(range(6))
    assert trained(steps=6, batch=-1, eval_every=4)[2] == [0, 4, 5]


def test_the_interval_is_counted_in_samples() -> None:
    first, second = trained(steps=30), trained(steps=30)
    # 110 samples beside the ten of a step, at a tenth of the cost: more than the six steps of a pass.
    assert first[2] == second[2] == [0, 6, 12, 18, 24, 29]
    assert first[0]["val_loss"] == second[0]["val_loss"]


@given(st.integers(1, 10**4), st.integers(0, 10**6), st.none() | st.integers(1, 10**4))
def test_evaluations_cost_a_share_of_the_training_and_come_once_a_pass(batch: int, held_out: int, steps_per_pass: int | None) -> None:
    steps = steps_between(batch, held_out, steps_per_pass)
    assert steps >= 1
    if steps_per_pass is not None:
        assert steps <= steps_per_pass
    if steps_per_pass is None or steps < steps_per_pass:
        assert max(held_out, batch) <= LARGEST_SHARE * PASSES_OF_A_STEP * batch * steps * (1 + 1e-12)
        assert steps == 1 or max(held_out, batch) > LARGEST_SHARE * PASSES_OF_A_STEP * batch * (steps - 1) * (1 - 1e-12)


def test_a_schedule_that_waits_for_the_loss_to_fall_gets_one_of_every_step() -> None:
    assert trained(steps=5, lr_scheduler=lambda optimiser: ReduceLROnPlateau(optimiser, patience=2))[2] == list(range(5))


def test_patience_ends_a_fit_at_an_evaluated_step_only() -> None:
    network, history = Network([1, 1]), History(["test_loss"])
    stopping = Stopping(patience=3)
    losses = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.7]
    found = [stopping.look(step, loss, network, history, step % 5 == 0) for step, loss in enumerate(losses)]
    assert found == [None] * 10 + ["patience"] and history.best_step == 5
    history, _, evaluated = trained(steps=40, lr=1e-9, patience=2, eval_every=8)
    assert history.stopped in ("steps", "patience") and history.steps - 1 in evaluated


def test_the_best_state_is_that_of_an_evaluated_step() -> None:
    history, network, evaluated = trained(steps=30, lr=0.3, eval_every=4, restore_best=True)
    assert history.best_step in evaluated
    x, y = samples(20, 2)
    with torch.no_grad():
        loss = float((network(x) - y).square().mean().sqrt())
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-12)


@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_fit_that_a_callback_ends_has_evaluated_its_last_step(at: int) -> None:
    def stop(state: Any) -> None:
        state.stop = state.step == at

    options = {"callbacks": [Every(1, stop)]}
    some, every = trained(eval_every=5, **options)[0], trained(eval_every=1, **options)[0]
    assert some.stopped == "callback" and some.steps == at + 1
    assert [some[name][-1] for name in EVALUATED[:-1]] == [every[name][-1] for name in EVALUATED[:-1]]


def test_held_out_data_are_passed_through_the_network_at_evaluated_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    plain: Callable[..., float] = Measure._loss

    def counted(self: Measure, of: Any) -> float:
        passes.append(len(of))
        return plain(self, of)

    monkeypatch.setattr(Measure, "_loss", counted)
    trained(steps=20, eval_every=7, metrics=None)
    assert passes == [20, 30] * 4


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "often"])
def test_other_intervals_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="eval_every must be a number of steps"):
        FitOptions(eval_every=value)
