"""The networks of a stack: their parameters and knots, stacked, and the samples that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from kan.bases.bspline import tabulate
from kan.bases.spline_table import SplineTable
from kan.kernels.network import Batch
from kan.layers.features import feature_rows, fold
from kan.layers.kan_layer import KANLayer
from kan.network.network import Network
from kan.training.data.samples import Samples
from kan.training.together.compiled_stack import CompiledStack, is_known
from kan.training.together.stack_pass import Block, Shared, StackLayer

__all__ = ["Mapper", "SharedSamples", "Stack"]

Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""A function like `map`, which may call the function in several threads."""

TOGETHER = 2**17
"""Smallest number of coefficients that a block looks up over all samples, which decides how many networks form a block: a round choice."""


@dataclass
class SharedSamples:
    """Samples as all networks of a stack share them.

    Attributes:
        batch: inputs, labels and the samples' weights.
        table, layer: the splines of the first layer and the layer, whose features all networks share.
    """

    batch: Batch
    table: SplineTable
    layer: KANLayer

    def __len__(self) -> int:
        return len(self.batch.x)

    @cached_property
    def features(self) -> Shared:
        """What the pass in torch needs. The kernels compute the features themselves."""
        x, y, weight = self.batch
        assert y is not None
        share = torch.full((len(y),), 1 / y.numel(), dtype=y.dtype, device=y.device)
        if weight is not None:
            share = weight / (weight.sum() * y.shape[1])
        with torch.no_grad():
            first = feature_rows(x.t(), self.table, self.layer.base_fun, self.layer.basis).flatten(0, 1)
        return Shared(first, y.t().contiguous(), share)


class Stack:
    """Copies of the parameters and knots of several networks, stacked.

    Args:
        networks: plain networks with the same structure, masks and first knots.
        dtype: data type of the copies.

    Attributes:
        parameters: for each layer ``coef`` ``(S, I, O, n)``, ``scale_base``, ``scale_sp`` ``(S, I, O)``, one after another.
        masks: for each layer, the mask of its edges, ``(S, I, O)``.
        knots: for each layer, the knots, ``(S I, P)``; for the first, which all networks share, ``(I, P)``.
        trained: for each of `parameters`, whether it is trained.
    """

    def __init__(self, networks: Sequence[Network], dtype: torch.dtype) -> None:
        self.network, self.count, self.dtype = networks[0], len(networks), dtype
        self.layers = networks[0].numeric_layers
        self.parameters: list[Tensor] = []
        self.masks: list[Tensor] = []
        self.knots: list[Tensor] = []
        self.trained: list[bool] = []
        for l, layer in enumerate(self.layers):
            all_of = [network.numeric_layers[l] for network in networks]
            for name in ("coef", "scale_base", "scale_sp"):
                self.parameters.append(torch.stack([getattr(one, name).detach() for one in all_of]).to(dtype))
                self.trained.append(bool(getattr(layer, name).requires_grad))
            self.masks.append(layer.mask.detach().to(dtype).expand(self.count, -1, -1))
            self.knots.append(layer.grid.detach().to(dtype) if l == 0 else torch.cat([one.grid.detach() for one in all_of]).to(dtype))
        self.compiled: CompiledStack | None = None
        self.tabulate_()
        if is_known(self.network, dtype):
            self.compiled = CompiledStack(self.network, self.tables, self.parameters, self.masks)
        self._batches: dict[int, tuple[Samples, Batch]] = {}

    def tabulate_(self) -> None:
        """Tabulate the splines again after the knots have moved."""
        self.tables = [tabulate(knots, layer.k) for knots, layer in zip(self.knots, self.layers, strict=True)]
        if self.compiled is not None:
            self.compiled.take_tables_(self.tables)

    def shared(self, samples: Samples) -> SharedSamples:
        """The samples as all networks share them, with features on the present first knots."""
        if id(samples) not in self._batches:
            x, y, weight = self.network.checked_input(samples.x), samples.y, samples.weight
            weight = None if weight is None else weight.to(self.dtype).contiguous()
            self._batches[id(samples)] = samples, Batch(x.to(self.dtype).contiguous(), y.to(self.dtype).contiguous(), weight)
        return SharedSamples(self._batches[id(samples)][1], self.tables[0], self.layers[0])

    def weights(self, l: int, ids: Sequence[int] | slice = slice(None)) -> Tensor:
        """The folded weights of layer `l` of all networks, or of some, ``(S, I, n+1, O)``."""
        coef, base, sp, mask = (values[ids] for values in (*self.parameters[3 * l : 3 * l + 3], self.masks[l]))
        folded = fold(coef.flatten(0, 1), base.flatten(0, 1), sp.flatten(0, 1), mask.flatten(0, 1))
        return folded.view(len(coef), -1, *folded.shape[1:])

    def block(self, ids: Sequence[int]) -> Block:
        """A block of some networks."""
        layers = enumerate(self.layers)
        return Block(tuple(StackLayer(self.weights(l, list(ids)), self._table(l, ids), layer.base_fun) for l, layer in layers))

    def blocks(self, ids: Sequence[Sequence[int]]) -> list[Block]:
        """A block for each list of network indices."""
        weights = [self.weights(l) for l in range(len(self.layers))]
        return [
            Block(tuple(StackLayer(weight[list(some)], self._table(l, some), self.layers[l].base_fun) for l, weight in enumerate(weights)))
            for some in ids
        ]

    def _table(self, l: int, ids: Sequence[int]) -> SplineTable | None:
        if l == 0:
            return None
        inputs, first, last = self.layers[l].in_dim, ids[0], ids[-1] + 1
        if len(ids) == last - first:
            return self.tables[l].inputs(first * inputs, last * inputs)
        return self.tables[l].taken([s * inputs + i for s in ids for i in range(inputs)])

    def split(self, ids: Sequence[int], samples: int) -> list[list[int]]:
        """Divide `ids` into the lists that become blocks, see `TOGETHER`."""
        each = max(layer.in_dim * layer.out_dim * (layer.k + 1) for layer in self.layers[-1:]) * samples
        size = max(1, math.ceil(TOGETHER / each))
        return [list(ids[start : start + size]) for start in range(0, len(ids), size)]

    def move_grids_(self, x: Tensor, mapper: Mapper) -> None:
        """Let all grids follow their inputs on the samples `x`, as `Network.update_grid` does."""
        x = self.network.checked_input(x).to(self.dtype)
        first = _layer_like(self.layers[0], self.knots[0], self._units())
        first.update_grid_from_samples(x)
        change = first.coef.detach()  # new coefficients of every old function, (I, n, n)
        self.knots[0] = first.grid.detach()
        self.parameters[0].copy_(torch.einsum("siom,imn->sion", self.parameters[0], change))
        self.tables[0] = tabulate(self.knots[0], self.layers[0].k)
        rows = feature_rows(x.t(), self.tables[0], self.layers[0].base_fun, self.layers[0].basis).flatten(0, 1)
        blocks = self.split(range(self.count), len(x))
        weight = self.weights(0)
        nodes = [weight[ids].flatten(1, 2).mT @ rows for ids in blocks]
        for l in range(1, len(self.layers)):
            found = list(mapper(partial(self._moved, l), list(zip(blocks, nodes, strict=True))))
            self.knots[l] = torch.cat([knots for knots, _, _ in found])
            self.parameters[3 * l].copy_(torch.cat([coef for _, coef, _ in found]))
            nodes = [outputs for _, _, outputs in found]
        self.tabulate_()

    def _units(self) -> Tensor:
        size = self.layers[0].coef.shape[2]
        return torch.eye(size, dtype=self.dtype, device=self.knots[0].device).expand(self.layers[0].in_dim, -1, -1)

    @torch.no_grad()
    def _moved(self, l: int, job: tuple[list[int], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Knots, coefficients and outputs ``(S, O, B)`` of layer `l` of some networks after a grid update at nodes ``(S, I, B)``."""
        ids, nodes = job
        inputs, part = self.layers[l].in_dim, slice(3 * l, 3 * l + 3)
        coef, base, sp = (values[ids].flatten(0, 1) for values in self.parameters[part])
        knots = self.knots[l].unflatten(0, (self.count, inputs))[ids].flatten(0, 1)
        layer = _layer_like(self.layers[l], knots, coef)
        x = nodes.flatten(0, 1)
        layer.adapt_grid_(x.t())
        moved = layer.coef.detach()
        outputs = nodes.new_empty(0)
        if l + 1 < len(self.layers):
            weight = fold(moved, base, sp, self.masks[l][ids].flatten(0, 1)).unflatten(0, (len(ids), inputs))
            outputs = weight.flatten(1, 2).mT @ layer.feature_rows(x).unflatten(0, (len(ids), inputs)).flatten(1, 2)
        return layer.grid.detach(), moved.unflatten(0, (len(ids), inputs)), outputs

    def save(self) -> list[Tensor]:
        """Copies of all tensors that training changes, ``(S, ...)`` each."""
        first, *rest = self.knots
        knots = [first.expand(self.count, -1, -1), *(values.unflatten(0, (self.count, -1)) for values in rest)]
        return [values.clone() for values in (*self.parameters, *knots)]

    @torch.no_grad()
    def undo_(self, saved: Sequence[Tensor], ids: Tensor) -> Tensor:
        """Bring the networks where `ids` ``(S,)`` is true back to what was `saved`, if the first grid, which all share, is as it was.

        Returns:
            Which networks are as they were, ``(S,)``.
        """
        numbers, knots = saved[: len(self.parameters)], saved[len(self.parameters) :]
        if not bool(ids.any()) or not torch.equal(knots[0][0], self.knots[0]):
            return torch.zeros_like(ids)
        for values, before in zip(self.parameters, numbers, strict=True):
            values[ids] = before[ids]
        for values, before in zip(self.knots[1:], knots[1:], strict=True):
            values.unflatten(0, (self.count, -1))[ids] = before[ids]
        self.tabulate_()
        return ids

    def bury_(self, ids: Sequence[int]) -> None:
        """Set the parameters of the networks `ids` to zero, so that their numbers, which are not finite, do not spread."""
        for values in self.parameters:
            values[list(ids)] = 0.0

    @torch.no_grad()
    def into_(self, network: Network, s: int, saved: Sequence[Tensor]) -> None:
        """Copy the parameters and knots of network `s` from `saved` into `network`."""
        for l, layer in enumerate(network.numeric_layers):
            for name, values in zip(("coef", "scale_base", "scale_sp"), saved[3 * l : 3 * l + 3], strict=True):
                getattr(layer, name).copy_(values[s])
            layer.grid.copy_(saved[3 * len(self.layers) + l][s])


def _layer_like(layer: KANLayer, knots: Tensor, coef: Tensor) -> KANLayer:
    """A layer with the settings of `layer`, and with the knots ``(I, P)`` and coefficients ``(I, O, n)`` that are given."""
    inputs, outputs = coef.shape[:2]
    found = KANLayer(
        inputs, outputs, layer.num, layer.k, noise_scale=0.0, base_fun=layer.base_fun, grid_eps=layer.grid_eps, generator=torch.Generator()
    ).to(device=coef.device, dtype=coef.dtype)
    with torch.no_grad():
        found.grid.copy_(knots)
        found.coef.copy_(coef)
    return found
