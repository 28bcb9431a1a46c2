"""When a fit ends, and the state that it ends in."""

import math

import pytest
import torch

from kan.network.network import Network
from kan.training.history import History
from kan.training.options import FitOptions
from kan.training.stopping import Stopping

pytestmark = pytest.mark.usefixtures("float64")


def followed(stopping: Stopping, losses: list[float]) -> tuple[Network, History, list[str | None]]:
    """A network whose first coefficient is the number of the step, and what each step was answered."""
    network, history, answers = Network([1, 1]), History(["train_loss"]), []
    for step, loss in enumerate(losses):
        with torch.no_grad():
            network.act_fun[0].coef[0, 0, 0] = step
        history.append({"train_loss": loss})
        answers.append(stopping.look(step, loss, network, history))
    return network, history, answers


def test_patience_counts_the_steps_since_the_lowest_loss() -> None:
    _, history, answers = followed(Stopping(patience=2), [3.0, 1.0, 1.0, 2.0, 0.5, 0.6, 0.7])
    assert answers == [None, None, None, "patience", None, None, "patience"] and history.best_step == 4


def test_losses_that_are_no_numbers_are_never_the_best() -> None:
    _, history, answers = followed(Stopping(patience=3), [math.nan, math.nan, math.nan])
    assert history.best_step is None and answers[-1] == "patience"


def test_the_time_limit_counts_from_the_start() -> None:
    stopping = Stopping(time_limit=100.0)
    assert followed(stopping, [1.0])[2] == [None]
    stopping.started -= 101
    assert followed(stopping, [1.0])[2] == ["time limit"]


@pytest.mark.parametrize(("keeps", "stopped", "restored"), [(True, "steps", True), (False, "steps", False), (False, "interrupted", True)])
def test_the_best_state_is_kept_or_rescued(keeps: bool, stopped: str, restored: bool) -> None:
    stopping = Stopping(keeps_best=keeps, rescues_best=True)
    network, history, _ = followed(stopping, [3.0, 1.0, 2.0])
    history.stopped = stopped
    assert stopping.finish_(network, history) == history.restored == restored
    assert network.act_fun[0].coef[0, 0, 0].item() == (1 if restored else 2) and history.seconds >= 0


def test_nothing_is_restored_if_the_last_step_was_the_best() -> None:
    stopping = Stopping(keeps_best=True)
    network, history, _ = followed(stopping, [3.0, 2.0, 1.0])
    assert not stopping.finish_(network, history)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"patience": 0}, "patience"), ({"patience": True}, "patience"), ({"patience": 1.5}, "patience"), ({"time_limit": 0}, "time_limit"),
     ({"time_limit": "1"}, "time_limit"), ({"time_limit": math.nan}, "time_limit")],
)  # fmt: skip
def test_settings_that_cannot_be(settings, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message} must be"):
        FitOptions(**settings)
