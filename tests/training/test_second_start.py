"""A penalised fit that is stuck goes on from another start; all others are as they were."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.network.network import Network
from kan.training import loop, second_start
from kan.training.data.samples import Samples
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule
from kan.training.history import History, Restarts
from kan.training.objectives.of_network import CORNER, SMALLEST_SHARE, corner_of
from kan.training.options import FitOptions
from kan.training.second_start import SecondStart, unexplained
from kan.training.snapshot import snapshot

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.filterwarnings("error")]

STRONG: dict[str, Any] = {"lamb": 2e-3, "lamb_entropy": 10.0, "lamb_coef": 1.0}
QUIET: dict[str, Any] = {"steps": 8, "progress": False}


@pytest.fixture(autouse=True)
def few_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_start, "MAX_STARTS", 3)


def samples(count: int = 100) -> tuple[Tensor, Tensor]:
    """Rows with ``x_2 = x_1^3``, labelled 1, and with shuffled columns, labelled 0."""
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(count, 3, generator=generator) * 2 - 1
    x[:, 1] = x[:, 0] ** 3
    shuffled = torch.stack([column[torch.randperm(count, generator=generator)] for column in x.T], dim=1)
    return torch.cat([x, shuffled]), torch.cat([torch.ones(count, 1), torch.zeros(count, 1)])


def model(**arguments: Any) -> KAN:
    """A model that the penalty switches off."""
    made = KAN([3, 1, 1], **{"grid": 3, "seed": 2, "auto_save": False, **arguments})
    made.fix_symbolic(1, 0, 0, "gaussian", fit_params_bool=False, verbose=False)
    return made


def trained(again: bool, **options: Any) -> tuple[KAN, History]:
    made = model()
    found = made.fit(samples(), **{**STRONG, **QUIET, **({} if again else {"restarts": 1}), **options})
    return made, found


def test_a_stuck_fit_goes_on_from_another_start() -> None:
    _, off = trained(False)
    made, on = trained(True)
    assert off.restarts is None and off["train_loss"][-1] > 0.45
    assert on.restarts is not None and on.restarts.seeds[0] == 2 and on["train_loss"][-1] < 0.25
    assert on["train_loss"][:2] == off["train_loss"][:2] and len(on["train_loss"]) == len(on["reg"]) == len(off["train_loss"]) == 8
    assert made.seed == 2 and made.last_input is not None and len(made.last_input) == 200


def test_it_is_the_same_every_time_and_leaves_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    (first, one), (second, two) = trained(True), trained(True)
    assert dict(one) == dict(two) and one.restarts == two.restarts
    assert all(torch.equal(a, b) for a, b in zip(snapshot(first), snapshot(second), strict=True))
    assert torch.equal(before, torch.random.get_rng_state())


def never(*_: Any) -> None:
    raise AssertionError("no other start is to be tried")


@pytest.mark.parametrize(
    "options",
    [{"restarts": 1}, {"lamb": 0.0}, {"opt": "Adam", "lr": 1e-3}, {"batch": 50}, {"time_limit": 60.0}, {"loss_fn": torch.nn.MSELoss()}],
)
def test_where_it_is_off(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecondStart, "find_", never)
    trained(True, **options)


def test_a_fit_that_is_not_stuck_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecondStart, "find_", never)
    x = samples()[0]
    data = x, x[:, [0]] ** 2 + x[:, [2]]
    made, plain = (KAN([3, 2, 1], seed=1, auto_save=False) for _ in range(2))
    assert dict(made.fit(data, lamb=1e-3, **QUIET)) == dict(plain.fit(data, lamb=1e-3, restarts=1, **QUIET))


def test_a_trained_network_keeps_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    x, y = samples()
    made.fit((x, y), steps=1, progress=False)
    monkeypatch.setattr(SecondStart, "_starts", never)
    monkeypatch.setattr(loop, "STUCK", 0.0)
    assert made.fit((x, y), **STRONG, **QUIET).restarts is None


def test_starts_that_are_no_better_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    off, _ = trained(False)
    monkeypatch.setattr(second_start, "MIN_GAIN", 1.0)
    made, found = trained(True)
    assert found.restarts is None
    assert all(torch.equal(a, b) for a, b in zip(snapshot(off), snapshot(made), strict=True))


def test_an_interrupt_leaves_the_network_of_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    off, _ = trained(False, steps=2)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SecondStart, "_starts", interrupted)
    made = model()
    with pytest.warns(UserWarning, match="interrupted in step 2"):
        found = made.fit(samples(), **STRONG, **QUIET)
    assert found.stopped == "interrupted" and found.steps == 2
    assert all(torch.equal(a, b) for a, b in zip(snapshot(off), snapshot(made), strict=True))


def test_masks_and_frozen_parameters_stay() -> None:
    made = model()
    made.remove_edge(0, 2, 0)
    made.act_fun[0].scale_sp.requires_grad_(False)
    frozen = made.act_fun[0].scale_sp.clone()
    assert made.fit(samples(), **STRONG, **QUIET).restarts is not None
    assert float(made.act_fun[0].mask[2, 0]) == 0.0 and torch.equal(frozen, made.act_fun[0].scale_sp)


def test_units_stay_as_the_fit_has_chosen_them() -> None:
    x, y = samples()
    made = model()
    assert made.fit((x * 0.1, y), **STRONG, **QUIET) and made.normalizer is None, "Levenberg-Marquardt alone would map these"


def test_unexplained_share() -> None:
    y = torch.tensor([[0.0], [1.0], [5.0]])
    assert unexplained(2.0, Samples(y, y)) == pytest.approx(2 / float(y.var(correction=0)))
    assert unexplained(0.1, Samples(y, y, torch.tensor([1.0, 1.0, 0.0]))) == pytest.approx(0.1 / 0.25)
    assert unexplained(2.0, Samples(y, torch.ones(3, 1))) == 0.0


@pytest.mark.parametrize(("size", "share"), [(1.0, 1.0), (0.02, None), (0.0, SMALLEST_SHARE)])
def test_the_corner_shrinks_with_a_layer(size: float, share: float | None) -> None:
    network = Network([2, 2, 1], grid=3, seed=1).double()
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for layer, wanted in zip(network.numeric_layers, (size, 1.0), strict=True):
            largest = float(network.trace(x).layers[0 if layer is network.numeric_layers[0] else 1].numeric_deviation().max())
            layer.scale_base *= wanted / largest
            layer.scale_sp *= wanted / largest
    found = corner_of(network, x) / CORNER
    assert found == pytest.approx(0.2 if share is None else share)


def test_a_corner_that_has_shrunk_is_optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def corner(network: Network, x: Tensor) -> float:
        asked.append(len(x))
        return CORNER

    monkeypatch.setattr("kan.training.objectives.of_network.corner_of", corner)
    x = samples()[0]
    data = x, x[:, [0]] ** 2 + x[:, [2]]
    fit(Network([3, 2, 1], seed=1).double(), data, FitOptions(steps=4, lamb=1e-3, grid_schedule=GridSchedule(4, 0, 4), progress=False))
    assert 1 <= len(asked) <= 3 and set(asked) == {200}, "after every update that is kept, but for the first"


def test_history_tells_of_the_starts() -> None:
    _, found = trained(True)
    assert isinstance(found.restarts, Restarts) and found.to_dict()["restarts"]["best"] == found.restarts.best
