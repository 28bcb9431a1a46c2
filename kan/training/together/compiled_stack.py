"""The passes of many networks of one structure by the compiled kernels, one network at a time; the threads share out the networks.

Every thread has workspaces of its own for each batch, which it keeps from call to call. All networks share the samples and the first grid,
so that a thread computes the first layer's features once. `kan.training.together.stack_pass` does the same by torch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kan.bases.spline_table import SplineTable
from kan.kernels.lbfgs import Descent
from kan.kernels.library import library
from kan.kernels.network import NUMBER_OF_PARAMETERS, Batch, KernelNetwork, LayerOfKernel, Weights
from kan.network.network import Network
from kan.training.objectives.compiled import MAX_VALUES_OF_EDGES, base_number

__all__ = ["CompiledStack", "descends", "is_known", "solves"]

MAX_WEIGHTS = 1300
"""Largest number of weights of a network whose normal equations the kernels add up. There a step of Levenberg-Marquardt takes as long as by
torch: [8, 16, 1] with 5 intervals, 1000 samples. It takes 0.4 of the time for [2, 5, 1] with 20 and 50 intervals, 0.6 for [4, 8, 1]."""


def is_known(network: Network, dtype: torch.dtype) -> bool:
    """Whether the kernels know all layers of a plain network, with numbers of the type `dtype`."""
    on_cpu = all(layer.coef.device.type == "cpu" for layer in network.numeric_layers)
    return on_cpu and library(dtype) is not None and all(base_number(layer) is not None for layer in network.numeric_layers)


def descends(network: Network, samples: int) -> bool:
    """Whether the kernels take the steps of L-BFGS of a plain network as a whole, and return soon."""
    return is_known(network, network.dtype) and samples * sum(layer.mask.numel() for layer in network.numeric_layers) <= MAX_VALUES_OF_EDGES


def solves(network: Network) -> bool:
    """Whether the kernels add up the normal equations of a plain network, in float64."""
    weights = sum(layer.mask.numel() * (layer.coef.shape[2] + 1) for layer in network.numeric_layers)
    return is_known(network, torch.float64) and len({layer.k for layer in network.numeric_layers}) == 1 and weights <= MAX_WEIGHTS


@dataclass
class _Held:
    """What a thread keeps for one batch: the owner of the workspaces, and the networks that have used them, by their indices."""

    batch: Batch
    owner: KernelNetwork
    tables: list[SplineTable]
    of: dict[int, KernelNetwork] = field(default_factory=dict)
    last: KernelNetwork | None = None


class CompiledStack:
    """The kernels for all networks of a stack.

    Args:
        network: one of the networks.
        tables: of each layer, for the inputs of all networks; those of the first layer are shared.
        parameters: ``coef`` ``(S, I, O, n)``, ``scale_base``, ``scale_sp`` ``(S, I, O)`` of all layers, one after another.
        masks: of all layers, ``(S, I, O)``.
    """

    def __init__(self, network: Network, tables: Sequence[SplineTable], parameters: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
        functions = library(parameters[0].dtype)
        assert functions is not None
        self._functions = functions
        self._bases = [number for layer in network.numeric_layers if (number := base_number(layer)) is not None]
        self._tables, self._parameters, self._masks = list(tables), list(parameters), [mask[0].contiguous() for mask in masks]
        self._threads = threading.local()
        self._own = [self._parameters_of(s) for s in range(len(parameters[0]))]

    def take_tables_(self, tables: Sequence[SplineTable]) -> None:
        """Go on with other tables, after the knots have moved."""
        self._tables = list(tables)

    def parameters(self, s: int) -> list[Tensor | None]:
        """The parameters of network `s`, as views, in the order of `KernelNetwork.nodes`."""
        return self._own[s]

    def _parameters_of(self, s: int) -> list[Tensor | None]:
        found: list[Tensor | None] = []
        for l, mask in enumerate(self._masks):
            found += [*(p[s] for p in self._parameters[3 * l : 3 * l + 3]), mask, *[None] * (NUMBER_OF_PARAMETERS - 4)]
        return found

    def network(self, s: int, batch: Batch) -> KernelNetwork:
        """Network `s` on a batch, for the calling thread to use until it asks for another one."""
        kept: dict[int, _Held] = self._threads.__dict__.setdefault("kept", {})
        held = kept.get(id(batch))
        if held is None:
            first = KernelNetwork(self._functions, self._layers(s), batch, Weights())
            held = kept[id(batch)] = _Held(batch, first, self._tables, {s: first}, first)
        if held.tables is not self._tables:
            held.owner.bind(self._layers(s), batch, Weights())  # the first layer's features are forgotten
            held.tables, held.of, held.last = self._tables, {s: held.owner}, held.owner
        found = held.of.get(s)
        if found is None:
            found = held.of[s] = KernelNetwork(self._functions, self._layers(s), batch, Weights(), held.owner)
        if found is not held.last:
            found.take_over()
            held.last = found
        return found

    def _layers(self, s: int) -> list[LayerOfKernel]:
        layers = []
        for l, (base, table, mask) in enumerate(zip(self._bases, self._tables, self._masks, strict=True)):
            inputs, outputs = mask.shape
            own = table if l == 0 else table.inputs(s * inputs, (s + 1) * inputs)
            layers.append(LayerOfKernel(own, base, outputs, (), False))
        return layers

    def loss(self, s: int, batch: Batch) -> float:
        """The loss of network `s`."""
        return self.trial(s, batch, self.parameters(s))

    def value_and_gradients(self, s: int, batch: Batch, gradients: Sequence[Tensor | None]) -> float:
        """The loss of network `s`; gradients are written into those stacked like the parameters, None where they are not wanted."""
        asked: list[Tensor | None] = []
        for l in range(len(self._masks)):
            asked += [None if g is None else g[s] for g in gradients[3 * l : 3 * l + 3]]
            asked += [None] * (NUMBER_OF_PARAMETERS - 3)
        return float(self.network(s, batch).objective(self.parameters(s), asked)[1])

    def trial(self, s: int, batch: Batch, parameters: Sequence[Tensor | None]) -> float:
        """The loss of network `s` with other `parameters`."""
        return float(self.network(s, batch).objective(parameters, [None] * len(parameters))[1])

    def descent(self, s: int, batch: Batch, trained: Sequence[bool]) -> Descent:
        """The iterations of L-BFGS on the parameters of network `s` that are `trained`."""
        places = [NUMBER_OF_PARAMETERS * (i // 3) + i % 3 for i, yes in enumerate(trained) if yes]
        return Descent(self.network(s, batch), self.parameters(s), list(places))
