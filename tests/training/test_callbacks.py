"""Callbacks: when they are called, that they can end a fit, and what is left when one of them fails."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kan.network.network import Network
from kan.training.callbacks import Callback, Every, FitState, JSONHistory, TensorBoard
from kan.training.fit import fit
from kan.training.options import FitOptions

pytestmark = pytest.mark.usefixtures("float64")

X = torch.rand(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
Y = torch.sin(3 * X[:, [0]]) + X[:, [1]] ** 2


class Diary(Callback):
    def __init__(self) -> None:
        self.pages: list[tuple[str, int, int]] = []

    def on_fit_start(self, state: FitState) -> None:
        self.pages.append(("start", state.step, state.history.steps))

    def on_step(self, state: FitState) -> None:
        self.pages.append(("step", state.step, state.history.steps))

    def on_fit_end(self, state: FitState) -> None:
        self.pages.append(("end", state.step, state.history.steps))


class Failing(Callback):
    def __init__(self, error: BaseException, step: int = 2) -> None:
        self.error, self.at = error, step

    def on_step(self, state: FitState) -> None:
        if state.step == self.at:
            raise self.error


def train(network: Network, *callbacks: Callback, **options: Any) -> Any:
    return fit(network, (X, Y), FitOptions(**{"opt": "Adam", "lr": 0.01, "steps": 4, "log": 0, "callbacks": callbacks, **options}))


def test_order() -> None:
    diary = Diary()
    train(Network([2, 2, 1]), diary, steps=2)
    assert diary.pages == [("start", -1, 0), ("step", 0, 1), ("step", 1, 2), ("end", 1, 2)]
    diary = Diary()
    assert train(Network([2, 2, 1]), diary, steps=0).stopped == "steps"
    assert diary.pages == [("start", -1, 0), ("end", -1, 0)]


def test_a_callback_may_end_the_fit() -> None:
    def enough(state: FitState) -> None:
        state.stop = state.step == 1

    history = train(Network([2, 2, 1]), Every(1, enough))
    assert history.steps == 2 and history.stopped == "callback"


def test_every_so_many_steps() -> None:
    seen: list[int] = []
    train(Network([2, 2, 1]), Every(3, lambda state: seen.append(state.step)), steps=7)
    assert seen == [0, 3, 6]
    with pytest.raises(ValueError, match="a callback is called every so many steps, at least 1; got 0."):
        Every(0, print)


def test_one_that_raises_leaves_the_network_at_its_last_step_and_the_others_end() -> None:
    network, diary, expected = Network([2, 2, 1]), Diary(), Network([2, 2, 1])
    train(expected, steps=3)
    with pytest.raises(RuntimeError, match="^of the user$"):
        train(network, diary, Failing(RuntimeError("of the user")))
    assert diary.pages[-1] == ("end", 2, 3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))
    assert all(p.grad is None for p in network.parameters()) and torch.equal(network.remembered_input(), X)


def test_one_that_raises_leaves_the_network_at_its_best_step() -> None:
    network, expected = Network([2, 2, 1]), Network([2, 2, 1])
    options = {"lr": 1.0, "restore_best": True}  # Adam runs away at once
    assert train(expected, steps=1, **options).best_step == 0
    with pytest.raises(RuntimeError, match="^of the user$"):
        train(network, Failing(RuntimeError("of the user")), **options)
    best = min(train(Network([2, 2, 1]), lr=1.0)["train_loss"][:3])
    with torch.no_grad():
        assert float((network(X) - Y).square().mean().sqrt()) == pytest.approx(best)


def test_history_as_json(tmp_path: Path) -> None:
    file = tmp_path / "history.json"
    seen: list[int] = []
    history = train(
        Network([2, 2, 1]), JSONHistory(file, 2), Every(1, lambda _: seen.append(len(json.loads(file.read_text())["results"]["reg"])))
    )
    assert seen == [1, 1, 3, 3]
    assert json.loads(file.read_text()) == json.loads(json.dumps(history.to_dict()))


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    for options in ({"log": 0}, {"log": -1}, {"log": 1, "progress": False}):
        train(Network([2, 2, 1]), **options)
    assert capsys.readouterr().err == ""
    history = train(Network([2, 2, 1]), log=1)
    printed = capsys.readouterr().err
    assert f"| train_loss: {history['train_loss'][-1]:.2e} | test_loss: " in printed and "4/4" in printed


def test_tensorboard_is_asked_for_only_when_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    network = Network([2, 2, 1])
    with pytest.raises(ImportError, match="the callback TensorBoard needs the package tensorboard: pip install tensorboard."):
        train(network, TensorBoard(tmp_path))


def test_tensorboard_writes_every_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written: list[tuple[Any, ...]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path)

        def add_scalar(self, *what: Any) -> None:
            written.append(what)

        def close(self) -> None:
            written.append(("closed",))

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    history = train(Network([2, 2, 1]), TensorBoard(tmp_path), steps=2)
    assert written[:3] == [(name, history[name][0], 0) for name in ("train_loss", "test_loss", "reg")]
    assert len(written) == 7 and written[-1] == ("closed",)
