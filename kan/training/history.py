"""What a fit returns: the numbers of every step, why it ended, and how long it took."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["History", "Restarts"]


@dataclass(frozen=True)
class Restarts:
    """How the networks ended that a fit with `restarts` has trained, or the starts that a penalised fit has tried when it was stuck.

    Attributes:
        seeds: of the networks.
        losses: the last loss of each on validation, test or training data, the first of these that there is; infinite for a network that
            became not finite or was not trained. Of the starts of a penalised fit, the losses on training data before the penalty.
        best: index of the one that was kept.
    """

    seeds: list[int]
    losses: list[float]
    best: int


class History(dict[str, list[float]]):
    """A dictionary of lists with one number per step: ``train_loss``, ``test_loss``, ``reg`` and others.

    Args:
        names: the keys.

    Attributes:
        stopped: why the fit ended: ``"steps"`` (all were taken), ``"patience"``, ``"time limit"``, ``"callback"``, ``"interrupted"``,
            ``"not finite"``, ``"error"``; ``"running"`` before.
        best_step: the step with the least loss of validation, test or training data, the first of these that there is; None before one.
        restored: whether the network was brought back to `best_step`.
        seconds: how long the fit took.
        optimizer_state: what another fit can go on from, see `kan.training.resume`; None before the end.
        restarts: how all networks ended, where this one is one of several; else None.

    Example:
        >>> history = History(["train_loss", "reg"])
        >>> history.append({"train_loss": 0.5, "reg": 0.0})
        >>> history["train_loss"], len(history), history.steps
        ([0.5], 2, 1)
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

    @property
    def steps(self) -> int:
        """Number of complete steps."""
        return min(map(len, self.values()), default=0)

    def append(self, row: Mapping[str, float]) -> None:
        """Add the numbers of one step."""
        for name, values in self.items():
            values.append(row[name])

    def trim(self) -> int:
        """Drop what an interrupted `append` left; returns the number of complete steps."""
        complete = self.steps
        for values in self.values():
            del values[complete:]
        return complete

    def to_dict(self) -> dict[str, Any]:
        """Everything but the optimiser's state, as plain data."""
        restarts = {} if self.restarts is None else {"restarts": asdict(self.restarts)}
        return {
            "stopped": self.stopped, "best_step": self.best_step, "restored": self.restored, "seconds": self.seconds, **restarts,
            "results": {name: list(values) for name, values in self.items()},
        }  # fmt: skip

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` to a file, whole or not at all. Numbers that are not finite become ``null``."""
        plain = self.to_dict()
        plain["results"] = {name: _finite(values) for name, values in plain["results"].items()}
        if self.restarts is not None:
            plain["restarts"]["losses"] = _finite(self.restarts.losses)
        file = Path(path)
        part = file.with_name(f"{file.name}.part")
        part.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, file)


def _finite(values: Iterable[float]) -> list[float | None]:
    return [v if math.isfinite(v) else None for v in values]
