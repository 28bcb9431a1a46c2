"""The schedule by which grids follow the activations during a fit, and the condition under which an update is kept."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

__all__ = ["LARGEST_RISE", "GridSchedule"]

LARGEST_RISE = 0.1
"""Largest relative rise of the objective with which a grid update is kept. A larger rise costs more than the remaining training makes good:
where the splines themselves limit the error, every move of the knots projects away a part of what they have learned."""


@dataclass(frozen=True)
class GridSchedule:
    """A schedule with updates every ``stop // number`` steps (at least every step), from the step `start` on and before the step `stop`.

    >>> [step for step in range(100) if GridSchedule(number=10, start=-1, stop=50).due(step)]
    [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]
    """

    number: int = 10
    start: int = -1
    stop: int = 50

    def __post_init__(self) -> None:
        names = {"grid_update_num": self.number, "start_grid_update_step": self.start, "stop_grid_update_step": self.stop}
        for name, value in names.items():
            if not isinstance(value, Integral):
                raise TypeError(f"{name} must be an integer; got {value!r}.")
        if self.number < 1:
            raise ValueError(f"grid_update_num must be at least 1; got {self.number}. Use update_grid=False for no updates.")

    def due(self, step: int) -> bool:
        """Whether the grids are updated before this step."""
        return self.start <= step < self.stop and step % max(1, self.stop // self.number) == 0
