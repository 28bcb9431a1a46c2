"""The contract of a model that can be trained.

Everything in which the kinds of models differ during a fit is a method of `Trainable`. Its own methods answer for a model without grids,
without names and units of columns, without restarts, and without the user's own code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kan.datasets.classes import ClassNames
from kan.network.fit_loss import FitLoss
from kan.network.labels import Normalizer
from kan.network.network import Network
from kan.network.trace import FirstLayer
from kan.training.objectives.base import Model, TrainingObjective
from kan.training.options import FitOptions

__all__ = ["Trainable"]


class Trainable(ABC):
    """What a fit asks of a model.

    Args:
        network: the model.
    """

    def __init__(self, network: Model) -> None:
        self.network = network

    def check_parts(self) -> None:  # noqa: B027 (most models cannot be put together wrongly)
        """Raise ``TypeError`` for modules that a program has put in the place of layers and that are none."""

    # The objective and what it depends on

    @abstractmethod
    def objective(self, loss: Callable[..., Tensor], options: FitOptions) -> TrainingObjective:
        """The objective of the model's own outputs with the loss `loss` and the penalty of `options`."""

    @abstractmethod
    def layer_sums(self, x: Tensor, options: FitOptions) -> list[Tensor]:
        """The sums of all layers for the inputs `x` ``(B, n)``, one row per sample; empty if they cannot be seen."""

    @abstractmethod
    def width(self, layers: int | None = None) -> int:
        """Number of features per sample in the widest layer, or in the widest of the first `layers`."""

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters that a fit can change.

        Raises:
            ValueError: if there are none.
        """
        idle = self.idle_parameters()
        found = [p for p in self.network.parameters() if p.requires_grad and p not in idle]
        if not found:
            raise ValueError("the network has nothing to train: every edge is masked or every parameter is frozen.")
        return found

    def idle_parameters(self) -> set[nn.Parameter]:
        """The parameters on which the outputs do not depend."""
        return set()

    def first_layer(self, x: Tensor) -> FirstLayer | None:
        """The features of the first layer for `x`, if they stay the same from step to step; None if they may not."""
        return None

    # Columns of inputs and labels

    @property
    def inputs(self) -> int | None:
        """Number of columns of the inputs; None if any number may be right."""
        return self.network.input_width

    @property
    def columns(self) -> tuple[list[str] | None, list[str] | None]:
        """The names of the columns of frames that inputs and labels are read from; None where there are none."""
        return None, None

    @property
    def class_names(self) -> ClassNames | None:
        """The names of the classes that the outputs stand for, if they stand for classes."""
        return None

    def take_column_names_(self, names: Mapping[str, list[Any]]) -> None:  # noqa: B027 (most models have no names)
        """Call inputs and outputs by the columns of the training data, where they have no names yet.

        Args:
            names: of the inputs as ``"in_vars"`` and of the outputs as ``"out_vars"``, where the data have names.
        """

    def take_classes_(self, link: str, names: ClassNames) -> None:  # noqa: B027 (most models have no names)
        """Keep the names of the classes that the outputs stand for; `link` leads from outputs to probabilities."""

    # Units

    @property
    def interval(self) -> tuple[float, float]:
        """The interval that the inputs of a new model are to lie on."""
        return -1.0, 1.0

    @property
    def is_new(self) -> bool:
        """Whether the model can be given maps of its columns without a change of a function that it has learned."""
        return False

    def column_names(self, label: str) -> list[str] | None:
        """The names of the inputs, for the `label` ``"normalizer"``, or of the outputs, for ``"output_normalizer"``."""
        return None

    def map_of(self, label: str) -> Normalizer | None:
        """The map of inputs or outputs that the model applies itself."""
        return None

    def in_own_units(self, label: str, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Inputs or labels in `dtype`, mapped by the map `label` if the model applies one."""
        return values.to(dtype)

    def why_unmapped(self, label: str, labels: str, new: bool) -> str:
        """Why the columns of inputs or labels cannot be mapped; an empty text if they can.

        Args:
            label: name of the map.
            labels: why labels cannot be mapped by any model; empty for inputs, and if they can.
            new: whether the model is new.
        """
        return f"{type(self.network).__name__} has no maps of units"

    def take_maps_(self, maps: Mapping[str, Normalizer]) -> None:
        """Apply these maps from now on; asked only of models that can be mapped."""
        raise TypeError(self.why_unmapped("", "", False))

    def explains(self, x: Tensor, y: Tensor) -> bool:
        """Whether the model explains some variance of every label, which shows that it was made for these units."""
        return False

    # Grids

    @property
    def has_splines(self) -> bool:
        """Whether there is a spline whose grid can matter."""
        return False

    @property
    def updates_own_grids(self) -> bool:
        """Whether the update of the grids is the user's own."""
        return False

    def covers(self, x: Tensor) -> bool:
        """Whether all grids reach as far as their inputs for `x` do."""
        return True

    def update_grid_(self, x: Tensor) -> None:
        """Let the grids follow their inputs for `x`; asked only of models with splines."""
        raise TypeError(self._without_grids())

    def check_intervals(self, intervals: int) -> None:
        """Raise an error if the splines cannot have this number of grid intervals."""
        raise TypeError(self._without_grids())

    def insert_knots_(self, intervals: int) -> None:
        """Give every spline this number of grid intervals without a change of the function on the last input."""
        raise TypeError(self._without_grids())

    def _without_grids(self) -> str:
        return f"grids are those of a KAN; {type(self.network).__name__} has none."

    # Other starts

    @property
    def redrawable(self) -> Network | None:
        """The network, if other starts of it can be drawn from other seeds; None for models of which they cannot."""
        return None

    # The user's own code

    @property
    def own_call(self) -> str:
        """What stands between a call of the model and its layers, as a noun phrase; empty if nothing does."""
        return ""

    @property
    def has_own_code(self) -> bool:
        """Whether any code of the user's takes part in the objective, so that nothing is known of it beforehand."""
        return False

    def seen(self, x: Tensor) -> Tensor | None:
        """The inputs of the first layer when the model is called with `x`; None if they are not known."""
        return x

    # What the model remembers

    def take_input_(self, x: Tensor) -> None:
        """Make `x`, or what the layers see of it, the model's last input."""
        self.network.remember_input(self.seen(x))

    def keep_loss_(self, loss: FitLoss) -> None:  # noqa: B027 (only models whose structure changes judge by it)
        """Keep the loss of the fit, by which later changes of the model are judged."""
