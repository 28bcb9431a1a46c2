"""A network on a batch, evaluated by the compiled kernels: outputs, objective and gradients; see ``csrc/network.h``."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kan.kernels.library import Library
from kan.kernels.splines import Table

__all__ = ["NUMBER_OF_PARAMETERS", "Batch", "KernelNetwork", "LayerOfKernel", "SplitNetwork", "Weights"]

NUMBER_OF_PARAMETERS = 8
"""Number of tensors of one layer: coefficients, two scales and mask of the edges, scale and bias of the sub-nodes and of the nodes."""


class _Grid(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("inputs", "functions", "degree", "base", "uniform")] + [
        (name, ctypes.c_void_p) for name in ("knots", "piece")
    ]


class _Layer(ctypes.Structure):
    _fields_ = [
        ("grid", _Grid), ("sums", ctypes.c_int32), ("products", ctypes.c_int32), ("arities", ctypes.c_void_p),
        ("parameters", ctypes.c_void_p * NUMBER_OF_PARAMETERS), ("gradients", ctypes.c_void_p * NUMBER_OF_PARAMETERS),
    ]  # fmt: skip


class _Problem(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_int32) for name in ("depth", "batch")]
        + [(name, ctypes.c_void_p) for name in ("x", "y", "weight")]
        + [(name, ctypes.c_double) for name in ("lamb", "l1", "entropy", "coef", "coefdiff", "corner")]
    )


class Weights(NamedTuple):
    """The weights in an objective: that of the penalty, those of its terms, and the rounding of the edges' deviations."""

    lamb: float = 0.0
    l1: float = 0.0
    entropy: float = 0.0
    coef: float = 0.0
    coefdiff: float = 0.0
    corner: float = 0.0


class Batch(NamedTuple):
    """Samples: inputs ``(B, I)``, labels ``(B, N)`` if the loss is the mean squared error, and the samples' weights ``(B,)``, if any."""

    x: Tensor
    y: Tensor | None = None
    weight: Tensor | None = None


@dataclass(frozen=True)
class LayerOfKernel:
    """What the kernels read of a layer besides its parameters.

    Attributes:
        table: of the splines of its inputs, see `kan.bases.spline_table.SplineTable`.
        base: number of the base function in `kan.kernels.base_functions`.
        sums: number of sub-nodes ``O``.
        arities: of the multiplication nodes above.
        mapped: whether the sub-nodes and nodes have affine maps.
    """

    table: Table
    base: int
    sums: int
    arities: tuple[int, ...]
    mapped: bool

    @property
    def nodes(self) -> int:
        """Number of nodes above."""
        return self.sums - sum(self.arities) + len(self.arities)

    @property
    def sizes(self) -> tuple[Any, ...]:
        """What the size of the workspaces depends on."""
        return len(self.table.knots), self.table.size, self.table.degree, self.sums, self.arities, self.mapped


class KernelNetwork:
    """A network on a batch. It holds workspaces, and is used by one thread at a time.

    Args:
        library: the kernels for the number type of all tensors.
        layers: the layers.
        batch: the samples, contiguous.
        weights: those of the objective.
        beside: a network with layers of the same sizes, on the same batch and with the same weights and first grid, whose workspaces are
            used too; see `take_over`.

    Raises:
        MemoryError: if there is no memory for the workspaces.
    """

    def __init__(
        self, library: Library, layers: Sequence[LayerOfKernel], batch: Batch, weights: Weights, beside: KernelNetwork | None = None
    ) -> None:
        self._library, self._structures = library, (_Layer * len(layers))()
        self._layers: Sequence[LayerOfKernel] = ()
        self._problem = self._described(layers, batch, weights)
        self._beside = beside  # the owner of the workspaces lives as long
        if beside is not None:
            self._handle: ctypes.c_void_p = beside._handle
            return
        handle = library.network_new(ctypes.byref(self._problem), self._structures)
        if not handle:
            raise MemoryError("no memory for the workspaces of the compiled kernels.")
        self._handle = ctypes.c_void_p(handle)
        weakref.finalize(self, library.network_free, self._handle)

    def bind(self, layers: Sequence[LayerOfKernel], batch: Batch, weights: Weights) -> None:
        """Go on with other samples, as many; with other grids of the layers, and other weights."""
        self._problem = self._described(layers, batch, weights)
        self._library.network_bind(self._handle, ctypes.byref(self._problem), self._structures)

    def take_over(self) -> None:
        """Use the workspaces from now on that other networks on the same batch have used; the first layer's features stay known."""
        self._library.network_rebind(self._handle, ctypes.byref(self._problem), self._structures)

    def _described(self, layers: Sequence[LayerOfKernel], batch: Batch, weights: Weights) -> _Problem:
        self._batch = batch
        if layers is not self._layers:
            self._describe(layers)
        return _Problem(len(layers), len(batch.x), batch.x.data_ptr(), _address(batch.y), _address(batch.weight), *weights)

    def _describe(self, layers: Sequence[LayerOfKernel]) -> None:
        self._layers, self._outputs = layers, layers[-1].nodes
        self._held: list[object] = []  # what the structures point at
        for structure, layer in zip(self._structures, layers, strict=True):
            table = layer.table
            piece, arities = table.columns.t().contiguous(), (ctypes.c_int32 * len(layer.arities))(*layer.arities)
            self._held += [piece, arities, table]
            structure.grid = _Grid(
                len(table.knots), table.size, table.degree, layer.base, table.uniform is not None, table.knots.data_ptr(), piece.data_ptr()
            )
            structure.sums, structure.products, structure.arities = layer.sums, len(arities), ctypes.addressof(arities)
            structure.parameters[4:] = [piece.data_ptr() if layer.mapped else None] * 4  # whether there are maps, until `_set` says which

    def nodes(self, parameters: Sequence[Tensor | None]) -> Tensor:
        """The outputs ``(B, N)``, from the parameters of all layers: `NUMBER_OF_PARAMETERS` for each, None for maps that there are not."""
        self._set(parameters, [None] * len(parameters))
        found = self._batch.x.new_empty(len(self._batch.x), self._outputs)
        self._library.network_nodes(self._handle, self._structures, ctypes.c_void_p(found.data_ptr()))
        return found

    def objective(
        self, parameters: Sequence[Tensor | None], gradients: Sequence[Tensor | None], slope: Tensor | None = None, loss: float = 0.0
    ) -> Tensor:
        """Objective, loss and penalty, ``(3,)``, in float64.

        Args:
            parameters: as for `nodes`.
            gradients: tensors that the gradients are written into, in the same order; None for those that are not wanted.
            slope: gradient of the loss with respect to the outputs ``(B, N)``, where it is not the mean squared error; and
            loss: its value.
        """
        self._set(parameters, gradients)
        value = torch.empty(3, dtype=torch.float64)
        if slope is not None:
            value[1] = loss
        wanted = any(gradient is not None for gradient in gradients)
        self._library.network_objective(
            self._handle, self._structures, wanted, ctypes.c_void_p(_address(slope)), ctypes.c_void_p(value.data_ptr())
        )
        return value

    def normal(
        self, parameters: Sequence[Tensor | None], bases: Sequence[Tensor], functions: Sequence[Tensor], size: int
    ) -> tuple[Tensor, Tensor, float]:
        """``J'J`` ``(size, size)``, ``J'r`` ``(size,)`` and the mean squared error; the Jacobian is that of the folded weights.

        Args:
            parameters: as for `nodes`.
            bases, functions: for each layer the columns of the weights of its edges ``(I, O)``, int32: those of the base functions, and the
                first ones of the functions; -1 for weights that are not trained.
            size: number of columns.
        """
        self._set(parameters, [None] * len(parameters))
        gram, total, value = self._batch.x.new_empty(size, size), self._batch.x.new_empty(size), torch.empty(3, dtype=torch.float64)
        addresses = ctypes.c_void_p * len(bases)
        of_bases, of_functions = (addresses(*(columns.data_ptr() for columns in of_all)) for of_all in (bases, functions))
        if self._library.network_normal(
            self._handle, self._structures, of_bases, of_functions, ctypes.c_int64(size), ctypes.c_void_p(gram.data_ptr()),
            ctypes.c_void_p(total.data_ptr()), ctypes.c_void_p(value.data_ptr()),
        ):  # fmt: skip
            raise MemoryError("no memory for the normal equations.")
        return gram, total, float(value[1])

    def descend(self, parameters: Sequence[Tensor | None], state: ctypes.Structure) -> None:
        """Take the iterations of `kan.kernels.lbfgs`; the vector of `state` stands for the parameters that it names."""
        self._set(parameters, [None] * len(parameters))
        if self._library.lbfgs_step(self._handle, self._structures, ctypes.byref(state)):
            raise MemoryError("no memory for the vectors of L-BFGS.")

    def _set(self, parameters: Sequence[Tensor | None], gradients: Sequence[Tensor | None]) -> None:
        n = NUMBER_OF_PARAMETERS
        for l, structure in enumerate(self._structures):
            structure.parameters[:] = [_address(p) for p in parameters[n * l : n * l + n]]
            structure.gradients[:] = [_address(g) for g in gradients[n * l : n * l + n]]


class SplitNetwork:
    """A network on a large batch that is divided among threads, for objectives without a penalty; else as `KernelNetwork`.

    Args:
        count: number of parts.
        library, layers, batch: as for `KernelNetwork`.
    """

    def __init__(self, count: int, library: Library, layers: Sequence[LayerOfKernel], batch: Batch) -> None:
        self._pool = ThreadPoolExecutor(count)
        self._sizes = [len(part) for part in batch.x.tensor_split(count)]
        self._networks = [KernelNetwork(library, layers, part, Weights()) for part in self._parts(batch)]
        self._divide(batch)

    def bind(self, layers: Sequence[LayerOfKernel], batch: Batch, weights: Weights) -> None:
        """Go on with other samples, as many, and other grids."""
        for network, part in zip(self._networks, self._parts(batch), strict=True):
            network.bind(layers, part, weights)
        self._divide(batch)

    def _parts(self, batch: Batch) -> list[Batch]:
        columns = ([None] * len(self._sizes) if t is None else t.split(self._sizes) for t in batch)
        return [Batch(*part) for part in zip(*columns, strict=True)]

    def _divide(self, batch: Batch) -> None:
        """Find the share of every part in the loss."""
        sizes = self._sizes if batch.weight is None else [float(part.sum()) for part in batch.weight.split(self._sizes)]
        self._shares = [size / sum(sizes) for size in sizes]

    def nodes(self, parameters: Sequence[Tensor | None]) -> Tensor:
        """See `KernelNetwork.nodes`."""
        return torch.cat(list(self._pool.map(lambda network: network.nodes(parameters), self._networks)))

    def objective(
        self, parameters: Sequence[Tensor | None], gradients: Sequence[Tensor | None], slope: Tensor | None = None, loss: float = 0.0
    ) -> Tensor:
        """See `KernelNetwork.objective`."""
        slopes = [None] * len(self._sizes) if slope is None else slope.split(self._sizes)
        own = [[None if g is None else torch.empty_like(g) for g in gradients] for _ in self._networks]
        values = list(
            self._pool.map(lambda job: job[0].objective(parameters, job[1], job[2], loss), zip(self._networks, own, slopes, strict=True))
        )
        shares = self._shares if slope is None else [1.0] * len(own)  # a given slope is of the whole loss
        for gradient, *of_parts in zip(gradients, *own, strict=True):
            if gradient is not None:
                gradient.copy_(_weighted([part for part in of_parts if part is not None], shares))
        return _weighted(values, shares) if slope is None else values[0]

    def normal(
        self, parameters: Sequence[Tensor | None], bases: Sequence[Tensor], functions: Sequence[Tensor], size: int
    ) -> tuple[Tensor, Tensor, float]:
        """See `KernelNetwork.normal`."""
        found = list(self._pool.map(lambda network: network.normal(parameters, bases, functions, size), self._networks))
        grams, totals, values = zip(*found, strict=True)
        mean = sum(value * share for value, share in zip(values, self._shares, strict=True))
        return _weighted(grams, self._shares), _weighted(totals, self._shares), mean


def _weighted(parts: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The sum of tensors times their shares."""
    total: Tensor = parts[0] * shares[0]
    for part, share in zip(parts[1:], shares[1:], strict=True):
        total.add_(part, alpha=share)
    return total


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
