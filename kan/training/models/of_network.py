"""A KAN as a fit sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from kan.datasets.classes import ClassNames
from kan.network.fit_loss import FitLoss
from kan.network.insertion import beyond_grids, check_sizes, insert_knots_
from kan.network.labels import NORMALIZERS, Normalizer
from kan.network.network import Network
from kan.network.trace import FirstLayer
from kan.network.user_code.observed import observed
from kan.network.user_code.own_code import PENALTY, own_call, own_methods, own_parts
from kan.training.models.trainable import Trainable
from kan.training.objectives.of_network import Objective, features_per_sample
from kan.training.objectives.penalty import Penalty
from kan.training.options import FitOptions

__all__ = ["RELATIVE_DISTANCE_FROM_NEW", "TrainableNetwork", "trainable_parameters"]

RELATIVE_DISTANCE_FROM_NEW = 1e-3
"""Largest relative distance of parameters from those that the constructor draws for which a network counts as new; processors round
differently."""


class TrainableNetwork(Trainable):
    """A KAN as a fit sees it. What is asked of the user's own code is found once, when it is first needed."""

    network: Network

    def check_parts(self) -> None:
        """Raise ``TypeError`` for modules that a program has put in the place of layers and that are none."""
        assert self._own_parts is not None

    def objective(self, loss: Callable[..., Tensor], options: FitOptions) -> Objective:
        """The objective of the last nodes, with the penalty of `options`."""
        penalty = options.penalty or Penalty()
        assert isinstance(penalty, Penalty)
        return Objective(self.network, loss, options.lamb, penalty, options.singularity_avoiding, options.y_th)

    def layer_sums(self, x: Tensor, options: FitOptions) -> list[Tensor]:
        """The sums of all layers for the inputs `x` ``(B, n)``, ``(B, sub-nodes)`` each; empty if the user's own code hides them."""
        evaluation: dict[str, Any] = {"singularity_avoiding": options.singularity_avoiding, "y_th": options.y_th}
        trace = observed(self.network, x, **evaluation).trace if self.own_call else self.network.trace(x, **evaluation)
        return [] if trace is None else [layer.sums for layer in trace.layers]

    def width(self, layers: int | None = None) -> int:
        """Number of features per sample in the widest layer, or in the widest of the first `layers`."""
        return features_per_sample(self.network, layers)

    def idle_parameters(self) -> set[nn.Parameter]:
        """The parameters of layers without any numeric or any symbolic edge."""
        idle: set[nn.Parameter] = set()
        for numeric, symbolic in zip(self.network.numeric_layers, self.network.symbolic_layers, strict=True):
            if not symbolic.active():
                idle.add(symbolic.affine)
            if not bool(numeric.mask.any()):
                idle.update((numeric.coef, numeric.scale_base, numeric.scale_sp))
        return idle

    def first_layer(self, x: Tensor) -> FirstLayer | None:
        """The features of the first layer for `x`; None if the user's own code may give it something else in every step."""
        return None if self._own_parts else self.network.first_layer(x)

    @property
    def inputs(self) -> int | None:
        """Number of columns of the inputs; None if a ``forward`` of the user's own may take other columns."""
        return None if self.own_call else self.network.input_width

    @property
    def columns(self) -> tuple[list[str] | None, list[str] | None]:
        """The names of the columns of frames that inputs and labels are read from."""
        return self.network.frame_columns, self.network.out_vars

    @property
    def class_names(self) -> ClassNames | None:
        """The names of the classes that the outputs stand for, if they stand for classes."""
        return self.network.class_names

    def take_column_names_(self, names: Mapping[str, list[Any]]) -> None:
        """Call inputs and outputs by the columns of the training data, where they have no names yet.

        An input may have another name in the network than its column has in the frame; both are kept.
        """
        network = self.network
        for label, columns in names.items():
            if label == "in_vars" and not {*columns} & {*(network.frame_columns or columns)}:
                label = "frame_columns"  # the user has other names for the inputs
            elif getattr(network, label) is not None:
                continue
            with suppress(TypeError, ValueError):  # of names that make no labels, as the numbers of a frame without names
                network.set_labels(**{label: columns})

    def take_classes_(self, link: str, names: ClassNames) -> None:
        """Keep the names of the classes that the outputs stand for."""
        self.network.set_labels(classes=(link, names))

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the first grids."""
        low, high = self.network.grid_range
        return low, high

    @property
    @torch.no_grad()
    def is_new(self) -> bool:
        """Whether the network has the grids, splines and scales of its constructor and no symbolic edge; masks may differ."""
        network = self.network
        if any(layer.active() for layer in network.symbolic_layers) or any(network.applied(label) for label in NORMALIZERS):
            return False
        fresh = Network(**Network.settings(network)).to(network.dtype).state_dict()  # a subclass may want other arguments
        ours = network.state_dict()
        names = [name for name in ours if not name.endswith((".mask", ".affine"))]
        return ours.keys() == fresh.keys() and all(
            ours[name].shape == fresh[name].shape
            and bool((ours[name] - fresh[name]).abs().max() <= RELATIVE_DISTANCE_FROM_NEW * fresh[name].abs().max())
            for name in names
        )

    def column_names(self, label: str) -> list[str] | None:
        """The names of the inputs, for the `label` ``"normalizer"``, or of the outputs, for ``"output_normalizer"``."""
        return self.network.in_vars if label == "normalizer" else self.network.out_vars

    def map_of(self, label: str) -> Normalizer | None:
        """The map of inputs or outputs that the network applies itself."""
        return self.network.applied(label)

    def in_own_units(self, label: str, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Inputs or labels in `dtype`, mapped by the map `label` if the network applies one."""
        return self.network.in_own_units(label, values, dtype)

    def why_unmapped(self, label: str, labels: str, new: bool) -> str:
        """Why the columns of inputs or labels cannot be mapped; an empty text if they can."""
        if labels:
            return labels
        if getattr(self.network, label) is not None and self.network.applied(label) is None:
            return f"model.{label} says that you have normalised them"
        return "" if new else "the model is not new: a map would change what its trained or symbolic edges compute"

    def take_maps_(self, maps: Mapping[str, Normalizer]) -> None:
        """Apply these maps of inputs and outputs from now on."""
        self.network.apply_normalizers_(**maps)

    @torch.no_grad()
    def explains(self, x: Tensor, y: Tensor) -> bool:
        """Whether the network explains some variance of every label, which shows that it was made for these units."""
        if tuple(y.shape[1:]) != (self.network.width_in[-1],) or not y.is_floating_point():
            return False
        missed = (self.network.trace(x).output.double() - y.double()).square().mean(0)
        return bool((missed < y.double().var(0, correction=0)).all())

    @property
    def has_splines(self) -> bool:
        """Whether there is a spline whose grid can matter."""
        return any(bool(layer.mask.any()) for layer in self.network.numeric_layers)

    @property
    def updates_own_grids(self) -> bool:
        """Whether the update of the grids is the user's own."""
        return bool(own_methods(self.network, "get_act", "update_grid", "update_grid_from_samples"))

    def covers(self, x: Tensor) -> bool:
        """Whether all grids reach as far as their inputs for `x` do."""
        return not any(beyond_grids(self.network, x))

    def update_grid_(self, x: Tensor) -> None:
        """Let the grids follow their inputs for `x`."""
        self.network.update_grid(x)

    def check_intervals(self, intervals: int) -> None:
        """Raise ``ValueError`` if the splines cannot have this number of grid intervals."""
        check_sizes(self.network, self.network.per_layer("each of grids", intervals))

    def insert_knots_(self, intervals: int) -> None:
        """Give every spline this number of grid intervals; the function on the last input stays."""
        if self.network.grid != intervals:
            insert_knots_(self.network, intervals, self.network.remembered_input())

    @property
    def redrawable(self) -> Network | None:
        """The network."""
        return self.network

    @cached_property
    def own_call(self) -> str:
        """What stands between a call of the network and its layers, as a noun phrase; empty if nothing does."""
        return own_call(self.network)

    @cached_property
    def _own_parts(self) -> list[str]:
        return own_parts(self.network)

    @property
    def has_own_code(self) -> bool:
        """Whether any code of the user's takes part in the objective."""
        return bool(self._own_parts or own_methods(self.network, *PENALTY))

    @torch.no_grad()
    def seen(self, x: Tensor) -> Tensor | None:
        """What the layers are given when the network is called with `x`; None if the user's own code hides it."""
        return observed(self.network, x).seen if self.own_call else x

    def keep_loss_(self, loss: FitLoss) -> None:
        """Keep the loss of the fit as the network's `fit_loss`."""
        self.network.fit_loss = loss


def trainable_parameters(network: Network) -> list[nn.Parameter]:
    """The parameters that a fit can change: those that require gradients, but for layers without any numeric or any symbolic edge.

    Raises:
        ValueError: if there are none.
    """
    return TrainableNetwork(network).trainable_parameters()
