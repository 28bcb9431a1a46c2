"""The options of a fit: made once and checked once, and so are its data."""

import dataclasses
import inspect
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.MLP import MLP
from kan.training.callbacks import Callback, FitState
from kan.training.data import dataset as datasets
from kan.training.options import FitOptions
from kan.training.prepare import prepare

pytestmark = pytest.mark.usefixtures("float64")

NAMES = {"grid_schedule", "on_step", "penalty"}
"""Options that `KAN.fit` makes of several arguments of its own."""


def samples(count: int = 60) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return x, torch.sin(3 * x[:, [0]]) + x[:, [1]] ** 2


def counted(monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> list[str]:
    """Lets a function note each of its calls."""
    calls: list[str] = []
    function = getattr(place, name)
    monkeypatch.setattr(place, name, lambda *args, **arguments: calls.append(name) or function(*args, **arguments))
    return calls


@pytest.mark.parametrize(
    "options",
    [
        {"opt": "LM", "grids": [3, 6, 9], "restarts": 3},
        {"opt": "LBFGS", "grids": [3, 6], "restarts": 2},
        {"opt": "Adam", "lr": 0.01, "restarts": 3},
        {"opt": "LBFGS", "lamb": 0.1, "steps": 4},
        {},
    ],
)
def test_data_and_options_are_checked_once(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    reads = counted(monkeypatch, datasets, "checked_samples")
    seen: list[FitOptions] = []
    monkeypatch.setattr("kan.training.fit.prepare", lambda *args: seen.append(args[2]) or prepare(*args))
    history = KAN([2, 2, 1], auto_save=False).fit(samples(), **{"steps": 2, "progress": False, **options})
    assert history.steps > 0 and len(reads) == 1 and len(seen) == 1
    assert (history.restarts is not None) == ("restarts" in options or "lamb" in options)


def test_levels_with_a_loader_see_its_batches_from_the_first_on() -> None:
    x, y = samples()
    batches = [(x[:20], y[:20]), (x[20:40], y[20:40]), (x[40:], y[40:])]
    model = KAN([2, 2, 1], auto_save=False)
    assert model.fit(batches, opt="Adam", lr=0.01, steps=2, grids=[3, 5], progress=False).steps == 4
    assert torch.equal(model.remembered_input(), x[:40])


def test_options_are_those_of_the_public_methods() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(FitOptions)}
    for method in (KAN.fit, MLP.fit):
        own = {name: p.default for name, p in inspect.signature(method).parameters.items() if name in fields}
        own.pop("resume")  # a method goes on from the last fit of its model
        assert own == {name: fields[name] for name in own}
    assert {*fields} - NAMES <= {*inspect.signature(KAN.fit).parameters}


def test_options_are_frozen_and_hold_no_data_for_the_loss() -> None:
    options = FitOptions(sample_weight=torch.ones(3), validation=samples(), callbacks=[Callback()], patience=2, grids=[3, 5])
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.steps = 3  # type: ignore[misc]
    assert options.grids == (3, 5) and options.watches_best and not dataclasses.replace(options, restore_best=False).watches_best
    bare = options.of_the_loss()
    assert bare.sample_weight is None and bare.validation is None and bare.callbacks == () and bare.grids == ()


@pytest.mark.parametrize(
    ("changes", "alone"),
    [
        ({}, False), ({"patience": 3}, False), ({"lamb": 1e-3}, True), ({"loss_fn": torch.nn.L1Loss()}, True), ({"batch": 10}, True),
        ({"metrics": ["r2"]}, True), ({"steps": 0}, True), ({"clip": 1.0}, True), ({"on_step": print}, True),
    ],
)  # fmt: skip
def test_what_keeps_networks_from_being_trained_together(changes: dict[str, Any], alone: bool) -> None:
    assert FitOptions(**changes).only_squares_of_all_samples is not alone


class Interrupt(Callback):
    def on_step(self, state: FitState) -> None:
        raise KeyboardInterrupt


WARNED: dict[str, tuple[dict[str, Any], float, str]] = {
    "units": ({}, 1e5, "out of proportion with a new network"),
    "units on levels": ({"grids": [3, 5]}, 1e5, "out of proportion with a new network"),
    "units of restarts": ({"restarts": 2, "opt": "LM"}, 1e5, "out of proportion with a new network"),
    "interrupt": ({"callbacks": [Interrupt()]}, 1.0, "interrupted in step"),
    "interrupt on a level": ({"callbacks": [Interrupt()], "grids": [5]}, 1.0, "interrupted in step"),
    "interrupt of restarts": ({"callbacks": [Interrupt()], "restarts": 2}, 1.0, "interrupted in step"),
    "not finite": ({"opt": "Adam", "restarts": 2}, 1e200, "none of the 2 networks has an objective that is finite"),
}


@pytest.mark.parametrize("name", WARNED)
def test_warnings_point_at_the_line_of_the_user(name: str) -> None:
    options, size, message = WARNED[name]
    model, (x, y) = KAN([2, 2, 1], auto_save=False), samples()
    if size > 1e100:
        model.output_normalizer = [0.0], [1.0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit((x, y * size), **{"steps": 2, "progress": False, **options})
    assert any(message in str(one.message) for one in caught) and {one.filename for one in caught} == {__file__}


def test_warnings_of_a_perceptron_point_at_the_line_of_the_user() -> None:
    x, y = samples()
    with pytest.warns(UserWarning, match="MLP has no maps of units") as caught:
        MLP([2, 3, 1]).fit((x * 1e5, y), steps=1, progress=False)
    assert {one.filename for one in caught} == {__file__}


def test_an_error_on_the_first_level_leaves_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, y) = KAN([2, 2, 1], auto_save=False), samples()
    model.fit((x, y), steps=2, progress=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="resume needs parameters of the shapes"):
        model.fit((x, y), steps=2, progress=False, resume=True, grids=[7])
    assert model.grid == 3 and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
