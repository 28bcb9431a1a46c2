"""The objective of a network by the compiled kernels, where these know all of its parts; see `kan.kernels.network`.

The kernels take networks of B-splines on a CPU whose base functions they know, and which have no symbolic edges. Wide layers are left to
torch, whose matrix products are faster there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kan.bases.bspline import BSpline
from kan.kernels.lbfgs import Descent
from kan.kernels.library import library
from kan.kernels.network import Batch, KernelNetwork, LayerOfKernel, SplitNetwork, Weights
from kan.kernels.splines import MAX_DEGREE
from kan.layers.base_functions import compiled_number
from kan.layers.kan_layer import KANLayer
from kan.training.least_squares.coordinates import Columns
from kan.training.objectives.closed_form import PER_LAYER, ClosedForm, Problem, Value

__all__ = [
    "MAX_VALUES_OF_EDGES", "LeastSquares", "base_number", "compiled", "descent", "knows", "least_squares", "nodes", "value_and_gradients",
]  # fmt: skip

SYMBOLIC = 4
"""Place of the affine maps of the symbolic edges among the parameters of a layer, which the kernels do not know."""
MAX_EDGES_OF_LAYER = 2**14
"""Largest number of edges of a layer that the kernels evaluate in a network. With 100 x 100 edges and 256 samples, an objective with its
gradient takes 0.5 to 0.6 of torch's time; with 300 x 300, 0.8 (one thread, where matrix products do not share the work)."""
MAX_PENALISED_EDGES = 2**10
"""Largest number of edges of a layer that the kernels evaluate if there is a penalty on the edges, for which their values are written to
memory: with 100 x 100 edges this takes 1.2 of torch's time."""
MAX_VALUES_OF_EDGES = 2**20
"""Largest product of samples and edges for which the iterations of a step of L-BFGS are compiled as a whole. They cannot be interrupted,
and take a tenth of a second then; with more samples the calls in between do not matter."""
VALUES_OF_EDGES_PER_THREAD = 2**19
"""Product of samples and edges for each thread among which a batch is divided: some ten milliseconds of work."""
MAX_COLUMNS = 2000
"""Largest number of columns of the Jacobian whose normal equations the kernels add up."""
MAX_KEPT = 4
"""Number of batch sizes whose workspaces are kept for the next call: those of training, of the last batch, and of test data."""


class _Kept(NamedTuple):
    """A network of the kernels, and what it has been bound to."""

    network: KernelNetwork | SplitNetwork
    bound: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class _Known:
    """What the kernels read of a network besides its parameters.

    Attributes:
        sources: the objects that this was made of; others are made anew when something has changed.
        layers: the layers; None where the kernels do not know a part of one.
        sizes: what the size of workspaces depends on.
        edges, widest: number of edges, and of those in the widest layer.
        places: places among `ClosedForm.parameters` of what the kernels call the parameters; -1 for maps that there are not.
    """

    sources: list[tuple[object, ...]]
    layers: list[LayerOfKernel] | None
    sizes: tuple[object, ...] = ()
    edges: int = 0
    widest: int = 0
    places: tuple[int, ...] = ()


def knows(form: ClosedForm, x: Tensor, penalised: bool) -> bool:
    """Whether the kernels know all parts of a network with the inputs `x`; what they read of it is in ``form.known`` then.

    Args:
        form: the network.
        x: ``(B, I)``.
        penalised: whether the objective has a penalty.
    """
    if library(x.dtype) is None or not len(x) or x.device.type != "cpu":
        return False
    sources = [(parts, parts.numeric.prepared_grid, parts.numeric.base_fun, x.dtype) for parts in form.layers]
    known: _Known | None = form.known
    if known is None or not all(a is b for old, new in zip(known.sources, sources, strict=True) for a, b in zip(old, new, strict=True)):
        known = form.known = _known(sources)
    return known.layers is not None and (not penalised or known.widest <= MAX_PENALISED_EDGES)


def compiled(form: ClosedForm, batch: Batch, weights: Weights) -> tuple[KernelNetwork | SplitNetwork, list[Tensor | None]] | None:
    """A network of the kernels for the batch, and its parameters; None where the kernels do not know a part of it.

    Args:
        form: the network.
        batch: the samples.
        weights: those of the objective.
    """
    x, functions = batch.x, library(batch.x.dtype)
    if functions is None or not knows(form, x, weights.lamb != 0):
        return None
    known: _Known = form.known
    assert known.layers is not None
    parameters: list[Tensor | None] = [None if place < 0 else form.parameters[place] for place in known.places]
    for tensor in (*parameters, *batch):
        if tensor is not None and not (tensor.is_contiguous() and tensor.dtype is x.dtype and tensor.device == x.device):
            return None

    bound = (*map(_identity, batch), weights, known)
    parts = 1 if weights.lamb else min(torch.get_num_threads(), len(x) * known.edges // VALUES_OF_EDGES_PER_THREAD) or 1
    key = (len(x), parts, known.sizes)
    kept: _Kept | None = form.workspaces.pop(key, None)
    if kept is None:
        one = parts == 1
        network = KernelNetwork(functions, known.layers, batch, weights) if one else SplitNetwork(parts, functions, known.layers, batch)
    else:
        network = kept.network
        if kept.bound != bound:
            network.bind(known.layers, batch, weights)
    form.workspaces[key] = _Kept(network, bound)
    if len(form.workspaces) > MAX_KEPT:
        form.workspaces.pop(next(iter(form.workspaces)))
    return network, parameters


def _checked(form: ClosedForm, x: Tensor) -> Tensor:
    """`Network.checked_input` of `x`, of which the last result is kept as long as `x` is the same."""
    version = object() if x.is_inference() else x._version
    if form.checked is None or form.checked[0] is not x or form.checked[1] != version:
        form.checked = x, version, form.network.checked_input(x)
    found: Tensor = form.checked[2]
    return found


def _identity(tensor: Tensor | None) -> object:
    """What is equal in two calls only if the tensor, which is held in between, has the same values."""
    if tensor is None:
        return None
    return object() if tensor.is_inference() else (tensor.data_ptr(), tensor._version, tensor.shape)


def _known(sources: list[tuple[Any, ...]]) -> _Known:
    layers: list[LayerOfKernel] = []
    places: list[int] = []
    for l, (parts, table, _, dtype) in enumerate(sources):
        numeric, base = parts.numeric, base_number(parts.numeric)
        if parts.symbolic is not None or base is None or table.knots.dtype != dtype or table.columns.dtype != dtype:
            return _Known(sources, None)
        mapped = parts.trains_maps or parts.below is not None or parts.above is not None
        layers.append(LayerOfKernel(table, base, numeric.out_dim, parts.arities, mapped))
        first = PER_LAYER * l
        places += [*range(first, first + SYMBOLIC), *(range(first + SYMBOLIC + 1, first + PER_LAYER) if mapped else [-1] * 4)]
    sizes = (layers[0].table.knots.dtype, *(layer.sizes for layer in layers))
    edges = [parts.numeric.mask.numel() for parts, *_ in sources]
    return _Known(sources, layers, sizes, sum(edges), max(edges), tuple(places))


def _on(problem: Problem, y: Tensor | None, penalised: bool = True) -> tuple[KernelNetwork | SplitNetwork, list[Tensor | None]] | None:
    """`compiled` for a problem, with the labels if the loss is the mean squared error."""
    term, form, p = problem.term, problem.form, problem.term.penalty
    of_scores = p.lamb_l1, p.lamb_entropy, p.lamb_coef, p.lamb_coefdiff
    batch = Batch(_checked(form, problem.x), y, None if y is None else problem.weight)
    return compiled(form, batch, Weights(term.lamb, *of_scores, term.corner) if penalised and term.lamb else Weights())


def base_number(numeric: KANLayer) -> int | None:
    """The number of the base function in the kernels; None if they do not know the layer."""
    basis, edges = numeric._basis, numeric.in_dim * numeric.out_dim
    known = type(basis) is BSpline and basis.degree <= MAX_DEGREE and edges <= MAX_EDGES_OF_LAYER
    return compiled_number(numeric.base_fun) if known else None


def nodes(form: ClosedForm, x: Tensor) -> Tensor | None:
    """The network's last nodes; None where the kernels do not know them."""
    found = compiled(form, Batch(_checked(form, x)), Weights())
    return None if found is None else found[0].nodes(found[1])


def descent(problem: Problem, trained: Sequence[Tensor]) -> Descent | None:
    """The iterations of L-BFGS on the `trained` parameters; None where the kernels cannot do them, or would not return soon."""
    term, form, x, y, _, sample_weight = problem
    edges = sum(parts.numeric.mask.numel() for parts in form.layers)
    if not term.squares or y.shape != (len(x), form.network.width_in[-1]) or len(x) * edges > MAX_VALUES_OF_EDGES:
        return None
    found = _on(problem, y)
    if found is None:
        return None
    network, parameters = found
    if not isinstance(network, KernelNetwork):
        return None
    ours = {id(p): place for place, p in enumerate(parameters) if p is not None}
    others = {id(p) for p in form.parameters} - ours.keys()  # the objective does not depend on these
    if any(id(p) not in ours and id(p) not in others for p in trained):
        return None
    return Descent(network, parameters, [ours.get(id(p)) for p in trained])


class LeastSquares(NamedTuple):
    """The residuals of a network on samples, for Levenberg-Marquardt.

    Attributes:
        problem: the objective and the samples.
        bases, functions: columns of the weights, see `KernelNetwork.normal`.
        size: number of columns.
    """

    problem: Problem
    bases: list[Tensor]
    functions: list[Tensor]
    size: int

    def value(self) -> float | None:
        """The mean squared error; None where the kernels do not know a part of the network."""
        found = _on(self.problem, self.problem.y, penalised=False)
        return None if found is None else float(found[0].objective(found[1], [None] * len(found[1]))[1])

    def normal_equations(self) -> tuple[Tensor, Tensor] | None:
        """``J'J`` and ``J'r``; None likewise."""
        found = _on(self.problem, self.problem.y, penalised=False)
        return None if found is None else found[0].normal(found[1], self.bases, self.functions, self.size)[:2]


def least_squares(problem: Problem, columns: Columns) -> LeastSquares | None:
    """The residuals of a problem with a mean squared error; None where the kernels are of no use."""
    term, form, x, y, _, _ = problem
    layers = [parts.numeric for parts in form.layers]
    weights = {id(p) for layer in layers for p in (layer.coef, layer.scale_base)}
    if (
        not term.squares
        or y.shape != (len(x), form.network.width_in[-1])
        or len({layer.k for layer in layers}) > 1
        or any(id(block.parameter) not in weights for block in columns.blocks)
        or columns.count > MAX_COLUMNS
        or compiled(form, Batch(form.network.checked_input(x)), Weights()) is None
    ):
        return None
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for layer, own in zip(layers, columns.edges, strict=True):
        for place, of_all in enumerate(found):
            where = torch.full(layer.mask.shape, -1, dtype=torch.int32)
            if own is not None:
                where[own.inputs, own.outputs] = own.where[:, place].int()
            of_all.append(where)
    return LeastSquares(problem, *found, columns.count)


def value_and_gradients(problem: Problem, wanted: Sequence[bool]) -> tuple[Value, list[Tensor | None]] | None:
    """See `kan.training.objectives.closed_form.value_and_gradients`; None where the kernels cannot do it."""
    term, form, x, y, _, sample_weight = problem
    squares = term.squares and y.shape == (len(x), form.network.width_in[-1])
    found = _on(problem, y if squares else None)
    if found is None:
        return None
    network, parameters = found
    slope, loss, backward = None, 0.0, any(wanted)
    if not squares:
        with torch.inference_mode(False), torch.set_grad_enabled(backward):
            output = network.nodes(parameters).requires_grad_(backward)
            of_loss = term.loss(output, y, sample_weight)
            loss = float(of_loss.detach())
            slope = torch.autograd.grad(of_loss, output)[0].contiguous() if backward else output.detach()
    with torch.inference_mode(False), torch.no_grad():
        gradients = [torch.empty_like(p) if want else None for p, want in zip(form.parameters, wanted, strict=backward)]
        gradients += [None] * (len(form.parameters) - len(gradients))
        asked = [None if place < 0 else gradients[place] for place in form.known.places]
        value = network.objective(parameters, asked, slope, loss).to(x.dtype)
        for l in range(len(form.layers)):
            if (symbolic := gradients[PER_LAYER * l + SYMBOLIC]) is not None:
                symbolic.zero_()
        return Value(*value.unbind()), gradients if backward else []
