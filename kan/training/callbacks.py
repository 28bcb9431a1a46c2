"""Callbacks: what a fit calls at its start, after every step, and at its end.

A callback is given the `FitState`, and can end the fit with ``state.stop = True``. An error that it raises ends the fit too: the network is
left at its best state, or as the last complete step left it, and the error is raised again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from kan.output import progress_bar
from kan.training.history import History
from kan.training.objectives.base import Model

__all__ = ["Callback", "Every", "FitState", "JSONHistory", "ProgressBar", "TensorBoard"]


@dataclass
class FitState:
    """The state of a fit, as callbacks see it.

    Attributes:
        network: the network that is trained.
        history: the numbers of all steps so far.
        steps: largest number of steps of the fit.
        step: index of the last complete step; -1 before the first.
        stop: whether the fit is to end; a callback may set it.
    """

    network: Model
    history: History
    steps: int
    step: int = -1
    stop: bool = False


class Callback:
    """Base class of callbacks. Its methods do nothing, and a subclass overrides some of them."""

    def on_fit_start(self, state: FitState) -> None:
        """Called before the first step, when all input has been checked."""

    def on_step(self, state: FitState) -> None:
        """Called after every step."""

    def on_fit_end(self, state: FitState) -> None:
        """Called after the last step, also if an error or an interrupt ended the fit; the network is in its final state."""


class Every(Callback):
    """A callback that calls `function` with the state after every `number`-th step, beginning with the first.

    Example:
        >>> Every(10, lambda state: state.network.saveckpt(f"run/{state.step}"))
        <kan.training.callbacks.Every object at ...>
    """

    def __init__(self, number: int, function: Callable[[FitState], Any]) -> None:
        if number < 1:
            raise ValueError(f"a callback is called every so many steps, at least 1; got {number}.")
        self.number, self.function = number, function

    def on_step(self, state: FitState) -> None:
        """Call the function, if it is due after this step."""
        if state.step % self.number == 0:
            self.function(state)


class ProgressBar(Callback):
    """A progress bar with the losses and the time, for one fit or for several in a row.

    Args:
        log: the numbers are renewed every `log` steps.
        names: keys of the history that are shown instead of the losses.

    Attributes:
        to_come: number of further fits of as many steps that the bar is shown for when the present fit is over.
        label: name of the present fit, in front of its numbers.
    """

    def __init__(self, log: int = 1, names: Sequence[str] | None = None) -> None:
        self.log, self.names = log, names
        self.to_come, self.label = 0, ""
        self._bar: tqdm[Any] | None = None

    @classmethod
    def of(cls, progress: bool, log: int = 1, names: Sequence[str] | None = None) -> ProgressBar | None:
        """The bar that the options of a fit ask for: none without `progress` or for ``log < 1``."""
        return cls(log, names) if progress and log > 0 else None

    def on_fit_start(self, state: FitState) -> None:
        """Draw the empty bar, or make an existing one longer."""
        steps = state.steps * (1 + self.to_come)
        if self._bar is None:
            self._bar = progress_bar(steps, f"{self.label}| ")
        else:
            self._bar.total = self._bar.n + steps

    def on_step(self, state: FitState) -> None:
        """Advance the bar by one step."""
        assert self._bar is not None
        if state.step % self.log == 0:
            self._bar.set_description_str(self.label + _described(state.history, self.names), refresh=False)
        self._bar.update()

    def on_fit_end(self, state: FitState) -> None:
        """Close the bar, unless further fits are to come."""
        if self.to_come == 0:
            self.close()

    def close(self) -> None:
        """Close the bar, which leaves its last line as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JSONHistory(Callback):
    """A callback that writes the whole history to the file `path` every `every` steps and at the end."""

    def __init__(self, path: str | os.PathLike[str], every: int = 10) -> None:
        self.path = path
        self._every = Every(every, lambda state: state.history.to_json(path))

    def on_step(self, state: FitState) -> None:
        """Write the history, if it is due after this step."""
        self._every.on_step(state)

    def on_fit_end(self, state: FitState) -> None:
        """Write the history."""
        state.history.to_json(self.path)


class TensorBoard(Callback):
    """A callback that writes every number of every step for TensorBoard to `folder`; it needs the package ``tensorboard``."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self._writer: Any = None

    def on_fit_start(self, state: FitState) -> None:
        """Open the files.

        Raises:
            ImportError: if TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("the callback TensorBoard needs the package tensorboard: pip install tensorboard.") from error
        self._writer = SummaryWriter(self.folder)

    def on_step(self, state: FitState) -> None:
        """Write the numbers of the step."""
        for name, values in state.history.items():
            self._writer.add_scalar(name, values[-1], state.step)

    def on_fit_end(self, state: FitState) -> None:
        """Close the files."""
        self._writer.close()


def _described(history: History, names: Sequence[str] | None) -> str:
    if names is not None:
        return "".join(f" {name}: {history[name][-1]:.2e} |" for name in names)
    train, test, reg = (history[key][-1] for key in ("train_loss", "test_loss", "reg"))
    return f"| train_loss: {train:.2e} | test_loss: {test:.2e} | reg: {reg:.2e} | "
