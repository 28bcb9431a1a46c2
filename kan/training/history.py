"""The result of a fit: the numbers of every step, why the fit ended, and how long it took."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

__all__ = ["History", "Restarts"]


@dataclass(frozen=True)
class Restarts:
    """The networks that a fit with `restarts` has trained, or the starts that a stuck penalised fit has tried.

    Attributes:
        seeds: seeds of the networks.
        losses: the last loss of each network on validation, test or training data, the first of these that there is; infinite for a network
            that became not finite or was not trained. For the starts of a penalised fit, the losses on training data before the penalty.
        best: index of the network that was kept.
    """

    seeds: list[int]
    losses: list[float]
    best: int


class History(dict[str, list[float]]):
    """A dictionary of lists with one number per step: ``train_loss``, ``test_loss``, ``reg`` and others.

    The numbers are ``numpy.float64``, which is a ``float`` with ``.item()``, ``.mean()`` and the like: pykan hands out arrays.

    Args:
        names: the keys.

    Attributes:
        stopped: why the fit ended: ``"steps"`` (all were taken), ``"patience"``, ``"time limit"``, ``"callback"``, ``"interrupted"``,
            ``"not finite"``, ``"error"``; ``"running"`` before.
        best_step: the step with the least loss of validation, test or training data, the first of these that there is; None before the
            first step.
        restored: whether the network was brought back to `best_step`.
        seconds: duration of the fit.
        optimizer_state: the state from which another fit can resume, see `kan.training.resume`; None before the end.
        restarts: all networks of a fit of which this network is the best; None for a fit of a single network.

    Example:
        >>> history = History(["train_loss", "reg"])
        >>> history.append({"train_loss": 0.5, "reg": 0.0})
        >>> history["train_loss"][-1].item(), len(history), history.steps
        (0.5, 2, 1)

    Printed and as the last line of a cell it is a summary; ``dict(history)`` shows every number.

        >>> history.append({"train_loss": 0.25, "reg": 1e-9})
        >>> history
        2 steps in 0.0 s (running)
                        first       last
        train_loss   5.00e-01   2.50e-01
        reg          0.00e+00   1.00e-09
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({name: [] for name in names})
        self.stopped = "running"
        self.best_step: int | None = None
        self.restored = False
        self.seconds = 0.0
        self.optimizer_state: dict[str, Any] | None = None
        self.restarts: Restarts | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (tuple(self),), self.__dict__, None, iter(self.items())

    def __repr__(self) -> str:
        rows = self._rows()
        width = max((len(name) for name, _, _ in rows), default=0)
        head = [f"{'':<{width}}  {'first':>9}  {'last':>9}"] if rows else []
        return "\n".join([self._headline(), *head, *(f"{name:<{width}}  {first:>9}  {last:>9}" for name, first, last in rows)])

    def _repr_html_(self) -> str:
        cells = [f"<tr><th>{escape(name)}</th><td>{first}</td><td>{last}</td></tr>" for name, first, last in self._rows()]
        head = ["<tr><th></th><th>first</th><th>last</th></tr>"] if cells else []
        return f"<div>{escape(self._headline())}</div><table>{''.join([*head, *cells])}</table>"

    def _headline(self) -> str:
        """Number of steps, time, why the fit ended, and the best step."""
        end = "" if self.stopped == "steps" else f" ({self.stopped})"
        text = f"{self.steps} step{'s' * (self.steps != 1)} in {self.seconds:.1f} s{end}"
        watched = next((name for name in ("val_loss", "test_loss", "train_loss") if isinstance(self.get(name), list)), None)
        if watched is not None and self.best_step is not None and self.best_step < self.steps:
            lowest = _brief(self[watched][self.best_step])
            text += f"; lowest {watched} {lowest} after step {self.best_step + 1}{', which was restored' if self.restored else ''}"
        return text

    def _rows(self) -> list[tuple[str, str, str]]:
        """Name, first number and last number of every series."""
        return [(str(name), _brief(values[0]), _brief(values[-1])) for name, values in self.items() if isinstance(values, list) and values]

    @property
    def steps(self) -> int:
        """Number of complete steps."""
        return min((len(values) for values in self.values() if isinstance(values, list)), default=0)

    @property
    def left_as_it_was(self) -> bool:
        """Whether an interrupt came before the first step was complete, so that the network is what it was before the fit."""
        return self.stopped == "interrupted" and self.steps == 0

    def append(self, row: Mapping[str, float]) -> None:
        """Add the numbers of one step."""
        for name, values in self.items():
            values.append(np.float64(row[name]))

    def amend(self, row: Mapping[str, float]) -> None:
        """Replace the numbers of the last step."""
        for name, values in self.items():
            values[-1] = np.float64(row[name])

    def trim(self) -> int:
        """Remove the numbers of a step whose `append` was interrupted; returns the number of complete steps."""
        complete = self.steps
        for values in self.values():
            del values[complete:]
        return complete

    def to_dict(self) -> dict[str, Any]:
        """Everything but the optimiser's state, as plain data."""
        restarts = {} if self.restarts is None else {"restarts": asdict(self.restarts)}
        return {
            "stopped": self.stopped, "best_step": self.best_step, "restored": self.restored, "seconds": self.seconds, **restarts,
            "results": {name: [float(value) for value in values] for name, values in self.items()},
        }  # fmt: skip

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` to a file, completely or not at all. Numbers that are not finite become ``null``."""
        plain = self.to_dict()
        plain["results"] = {name: _finite(values) for name, values in plain["results"].items()}
        if self.restarts is not None:
            plain["restarts"]["losses"] = _finite(self.restarts.losses)
        file = Path(path)
        part = file.with_name(f"{file.name}.part")
        part.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, file)


def _brief(value: Any) -> str:
    """A number with three digits; anything else, which a user may have put there, as text."""
    try:
        return f"{float(value):.2e}"
    except (TypeError, ValueError):
        return shorten(str(value), 9, placeholder="...")


def _finite(values: Iterable[float]) -> list[float | None]:
    return [v if math.isfinite(v) else None for v in values]
