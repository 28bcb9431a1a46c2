r"""Joint selection of the symbolic functions of all edges, by the description length of the whole network.

1. Hidden nodes are removed as long as the error hardly grows.
2. The functions of a library are fitted to each edge alone. Edges are then treated in the order of the r2 of their best functions.
3. Each of the best functions of an edge is put on it. All remaining parameters, which are splines and affine maps of symbolic edges, are
   refitted by Levenberg-Marquardt steps.
4. The resulting networks, and the one in which the edge stays a spline, are compared by their description lengths in bits,

       ``n/2 log2(MSE + floor^2) + sum over edges of their bits``,

   and the best ones are kept (beam search). If some are exact, only these are kept.

The mean squared error is that of held-out samples, and ``n`` is the number of samples, but at most `MAX_EVIDENCE_SAMPLES`. For other
losses, such as the cross-entropy, the first term is the number of bits that the labels take, ``N loss / log 2`` with the number ``N`` of
all samples. A spline takes ``log2(N)/2`` bits for each of its coefficients. A symbolic function takes as many for each of its constants
that is not redundant, and two for each unit of its complexity.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kan.discovery.edges.suggest import Candidate, Scoring, candidates, free_parameters
from kan.layers.grid_change import match_size_
from kan.modes import threads
from kan.network.insertion import insert_knots_
from kan.network.network import Network
from kan.solvers.levenberg_marquardt import minimise_
from kan.surgery.edges import remove_node_, set_mode_
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.network_problem import NetworkProblem
from kan.training.models.of_network import trainable_parameters
from kan.training.objectives.make import plain_objective

__all__ = ["SelectionOptions", "SymbolicNetwork", "refit_", "select_jointly", "sharpen_"]

Edge = tuple[int, int, int]
Loss = Callable[[Tensor, Tensor], Tensor]

RESIDUAL_FLOOR = 1e-13
"""Root mean squared error, as a share of the root mean square of the labels, below which errors are round-off and count as equal."""
MAX_EVIDENCE_SAMPLES = 64
"""Largest number of samples that count in the description length. Splines, and functions in the place of similar ones, have systematic
errors. With all samples, a slightly smaller error would outweigh any difference in complexity."""
RANKING_SAMPLES = 256
"""Number of evenly spaced samples on which the functions of an edge are ranked; up to twice as many are used, or all if there are fewer."""
MAX_DEFICIT_RATIO = 1e4
"""Largest ratio of the deficit ``1 - r2`` of a function to that of the best one with which it is tried on the edge."""
EQUIVALENT_FUNCTIONS = {"cos": "sin", "arccos": "arcsin", "x^0.5": "sqrt", "1/x^0.5": "1/sqrt(x)"}
"""Functions that equal another one with other affine constants, and this other one."""
MAX_SINGLE_THREAD_JACOBIAN = 2**18
"""Number of entries of a Jacobian up to which one thread is faster than several."""
MAX_ERROR_GROWTH_PER_NODE = 10.0
"""Largest factor by which the mean squared error may grow when a hidden node is removed and the others are refitted."""
MIN_REFIT_GAIN = 1e-4
"""Relative decrease of the objective in a step below which the fit of all parameters ends."""
MIN_INTERVALS = 10
"""Smallest number of grid intervals of the splines to which functions are fitted, if there are enough samples."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class SelectionOptions:
    """Options of the joint selection.

    Attributes:
        lib: names of functions, or a dictionary like ``SYMBOLIC_LIB``; all of it when not given.
        beam: largest number of networks that are kept after each edge.
        top: largest number of functions that are tried on an edge.
        steps: number of Levenberg-Marquardt steps after each change.
        last_steps: number of these steps at the end.
        stop: asked between trials; once it returns True, the remaining edges stay splines.
        loss_fn: a function of output and label; the mean squared error when not given.
    """

    lib: Sequence[str] | Mapping[str, Any] | None = None
    beam: int = 3
    top: int = 4
    steps: int = 12
    last_steps: int = 60
    stop: Callable[[], bool] = _never
    loss_fn: Loss | None = None


@dataclass
class SymbolicNetwork:
    """A network some of whose edges have been made symbolic.

    Attributes:
        network: the network, in double precision.
        bits: its description length.
        error: mean squared error, or loss, on the held-out samples.
        functions: the function of each edge that was made symbolic.
        splines: the edges that stay splines.
    """

    network: Network
    bits: float
    error: float
    functions: dict[Edge, Candidate]
    splines: list[Edge]


@dataclass(frozen=True)
class _Samples:
    """Samples to fit, samples that are held out, and the root mean square `scale` of all labels."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    scale: float
    loss_fn: Loss | None

    @classmethod
    def of(cls, network: Network, x: Tensor, y: Tensor, loss_fn: Loss | None = None) -> _Samples:
        """The samples with every fifth one held out, and labels in the units of the network's last nodes, or as `loss_fn` takes them."""
        x = x.double()
        if loss_fn is None:
            y = network.in_own_units("output_normalizer", y, torch.float64)
        elif y.is_floating_point():
            y = y.double()
        scale = float(y.double().square().mean().sqrt())
        held = torch.arange(len(x), device=x.device) % 5 == 4
        if len(x) < 50:
            return cls(x, y, x, y, scale, loss_fn)  # too few to hold any out
        return cls(x[~held], y[~held], x[held], y[held], scale, loss_fn)

    def exact(self, error: float) -> bool:
        """Whether a mean squared `error` is round-off."""
        return self.loss_fn is None and error <= (1e3 * RESIDUAL_FLOOR * self.scale) ** 2

    @torch.no_grad()
    def error(self, network: Network) -> float:
        """Mean squared error, or loss, of a network on the held-out samples."""
        trace = network.trace(self.held_x)
        if self.loss_fn is None:
            return float((trace.last_nodes - self.held_y).square().mean())
        return float(self.loss_fn(trace.output, self.held_y))

    def bits(self, error: float) -> float:
        """Description length of the labels, given an error on the held-out samples."""
        if not math.isfinite(error):
            return math.inf
        if self.loss_fn is not None:
            return (len(self.x) + len(self.held_x)) * error / math.log(2)
        return 0.5 * min(MAX_EVIDENCE_SAMPLES, len(self.x)) * math.log2(error + (RESIDUAL_FLOOR * self.scale) ** 2 + 1e-300)


@torch.no_grad()
def select_jointly(network: Network, x: Tensor, y: Tensor, options: SelectionOptions | None = None) -> list[SymbolicNetwork]:
    """Make the edges of a trained network symbolic: the best networks that were found, the one with the shortest description first.

    Args:
        network: a trained network, which is not changed.
        x, y: the samples on which it was trained, ``(N, inputs)`` and ``(N, outputs)``.
        options: options of the selection.
    """
    options = options or SelectionOptions()
    samples = _Samples.of(network, x, y, options.loss_fn)
    start = copy.deepcopy(network).double()
    sharpen_(start, x, y, options.steps, options.stop, options.loss_fn)
    start = _without_redundant_nodes(start, samples, options)
    edges = [
        (l, i, j)
        for l, layer in enumerate(start.numeric_layers)
        for i, row in enumerate(layer.mask.tolist())
        for j, mask in enumerate(row)
        if mask != 0
    ]
    ranked = dict(zip(edges, _ranked(start, edges, samples, options), strict=True))
    states = [_measured(start, samples, {}, [])]
    for edge in sorted(edges, key=lambda edge: 1 - ranked[edge][0].r2):
        if options.stop():
            for state in states:
                state.splines.append(edge)
            continue
        following = [replace(state, splines=[*state.splines, edge]) for state in states]
        for state in states:
            following += _with_functions(state, edge, ranked[edge], samples, options)
        exact = [state for state in following if samples.exact(state.error)]
        states = _distinct(sorted(exact or following, key=lambda state: state.bits))[: options.beam]
    results = []
    for n, state in enumerate(states):
        if n == 0 or not options.stop():
            _fit_(state.network, samples, options.last_steps, options.stop)
        results.append(_measured(state.network, samples, state.functions, state.splines))
    return sorted(results, key=lambda state: state.bits)


@torch.no_grad()
def sharpen_(
    network: Network, x: Tensor, y: Tensor, steps: int = 12, stop: Callable[[], bool] = _never, loss_fn: Loss | None = None
) -> None:
    """Refit the splines of a trained network, and refine them to `MIN_INTERVALS` if held-out samples confirm that, in place.

    Similar functions differ little, so that an accurate curve is needed to distinguish them.

    Args:
        network: the network.
        x, y: the samples on which it was trained, ``(N, inputs)`` and ``(N, outputs)``.
        steps: number of Levenberg-Marquardt steps; twice as many are taken after refinement.
        stop: asked before each step; once it returns True, no more are taken.
        loss_fn: a function of output and label; the mean squared error when not given.
    """
    samples = _Samples.of(network, x, y, loss_fn)
    _fit_(network, samples, steps, stop)
    if min(network.per_layer("grid", network.grid)) >= MIN_INTERVALS:
        return
    finer = copy.deepcopy(network)
    insert_knots_(finer, MIN_INTERVALS, samples.x)
    size = sum(int((layer.mask != 0).sum()) * (layer.num + layer.k + 1) for layer in finer.numeric_layers)
    if 3 * size > len(samples.x):
        return
    _fit_(finer, samples, 2 * steps, stop)
    if samples.error(finer) < samples.error(network):
        for ours, theirs in zip(network.numeric_layers, finer.numeric_layers, strict=True):
            match_size_(ours, theirs)
        network.grid = finer.grid
        network.load_state_dict(finer.state_dict())


def refit_(network: Network, x: Tensor, y: Tensor, steps: int, stop: Callable[[], bool] = _never) -> float:
    """Refit all parameters that have an effect by Levenberg-Marquardt steps, in place; returns the mean squared error.

    Args:
        network: the network; frozen parameters are fitted as well.
        x, y: samples, ``(N, inputs)`` and ``(N, outputs)``, with labels in the units of the network's last nodes.
        steps: largest number of steps.
        stop: asked before each step; once it returns True, no more are taken.
    """
    with _all_trained(network), torch.enable_grad():
        columns = Columns(network, trainable_parameters(network))
        problem = NetworkProblem(plain_objective(network, None), columns, x, y)
        with threads(1 if columns.count * y.numel() <= MAX_SINGLE_THREAD_JACOBIAN else torch.get_num_threads()):
            return minimise_(problem, steps, MIN_REFIT_GAIN, stop)


def _fit_(network: Network, samples: _Samples, steps: int, stop: Callable[[], bool]) -> None:
    """Refit all parameters that have an effect to the samples, with their loss, in place.

    If the network can separate the classes, the cross-entropy is smallest at infinite parameters, while the loss of other samples grows on
    the way there. With a loss other than the mean squared error, steps are therefore taken only as long as the held-out loss decreases.
    """
    if samples.loss_fn is None:
        refit_(network, samples.x, samples.y, steps, stop)
        return
    with _all_trained(network), torch.enable_grad():
        columns = Columns(network, trainable_parameters(network))
        problem = NetworkProblem(plain_objective(network, samples.loss_fn), columns, samples.x, samples.y)
        errors = [samples.error(network)]

        def accept() -> bool:
            errors.append(samples.error(network))
            return errors[-1] <= errors[-2]

        minimise_(problem, steps, MIN_REFIT_GAIN, stop, accept)


@contextmanager
def _all_trained(network: Network) -> Iterator[None]:
    """Make all parameters that have an effect trainable within a ``with`` block."""
    before = [p.requires_grad for p in network.parameters()]
    for layer in network.symbolic_layers:
        layer.affine.requires_grad_(True)
    for numeric in network.numeric_layers:
        for parameter in (numeric.coef, numeric.scale_base):
            parameter.requires_grad_(True)
        numeric.scale_sp.requires_grad_(False)  # redundant beside the coefficients
    try:
        yield
    finally:
        for parameter, wanted in zip(network.parameters(), before, strict=True):
            parameter.requires_grad_(wanted)


def _copied(network: Network) -> Network:
    """A copy of the network that shares its tables of splines."""
    twin = copy.deepcopy(network)
    for ours, theirs in zip(network.numeric_layers, twin.numeric_layers, strict=True):
        ours.share_table(theirs)
    return twin


def _without_redundant_nodes(network: Network, samples: _Samples, options: SelectionOptions) -> Network:
    """The network without the hidden nodes that the others can replace.

    If several nodes share one function of the inputs, their curves are arbitrary up to the sum, and no symbolic function fits them.
    """
    growth = MAX_ERROR_GROWTH_PER_NODE if samples.loss_fn is None else 1.0
    while True:
        limit, best = growth * _removal_cost(network, samples), None
        for l in range(1, network.depth):
            nodes = _numeric_nodes(network, l)
            for i in nodes if len(nodes) > 1 else ():
                if options.stop():
                    return network
                fewer = _copied(network)
                remove_node_(fewer, l, i)
                _fit_(fewer, samples, 2 * options.steps, options.stop)
                cost = _removal_cost(fewer, samples)
                if cost <= limit:
                    limit, best = cost, fewer
        if best is None:
            return network
        network = best


def _numeric_nodes(network: Network, l: int) -> list[int]:
    """Hidden nodes of layer `l` all of whose edges are splines, and from which an edge leads on."""
    below, above = network.symbolic_layers[l - 1].mask, network.symbolic_layers[l].mask
    live = network.numeric_layers[l].mask.any(1).tolist()
    return [i for i, lives in enumerate(live) if lives and not above[:, i].any() and not below[network.structure.subnodes(l, i)].any()]


def _removal_cost(network: Network, samples: _Samples) -> float:
    """Mean squared error of a network with fewer hidden nodes, or its description length if the loss is another one."""
    return samples.error(network) if samples.loss_fn is None else _measured(network, samples, {}, []).bits


def _measured(network: Network, samples: _Samples, functions: dict[Edge, Candidate], splines: list[Edge]) -> SymbolicNetwork:
    """A network with its error and its description length."""
    error = samples.error(network)
    unit = 0.5 * math.log2(len(samples.x) + len(samples.held_x))
    bits = 0.0
    for layer in network.numeric_layers:
        bits += unit * (layer.num + layer.k + 1) * int((layer.mask != 0).sum())
    for candidate in functions.values():
        bits += unit * free_parameters(candidate.function) + 2 * candidate.complexity
    return SymbolicNetwork(network, samples.bits(error) + bits, error, functions, splines)


def _ranked(network: Network, edges: Sequence[Edge], samples: _Samples, options: SelectionOptions) -> list[list[Candidate]]:
    """For each edge, the functions that fit its curve well, the best first, without those that equal a better one."""
    rows = samples.x[:: max(1, len(samples.x) // RANKING_SAMPLES)]
    results = []
    for found in candidates(network.trace(rows), list(edges), options.lib, scoring=Scoring(0.0)):
        # One unit of complexity is worth a factor of ten in the deficit 1 - r2.
        ranked = sorted(found, key=lambda c: math.log10(1 - min(c.r2, 1.0) + 1e-15) + c.complexity)
        smallest_deficit = min(1 - min(c.r2, 1.0) for c in ranked) + 1e-12
        kept: dict[str, Candidate] = {}
        for candidate in ranked:
            if 1 - candidate.r2 <= MAX_DEFICIT_RATIO * smallest_deficit:
                kept.setdefault(EQUIVALENT_FUNCTIONS.get(candidate.name, candidate.name), candidate)
        results.append(list(kept.values()))
    return results


def _with_functions(
    state: SymbolicNetwork, edge: Edge, ranked: Sequence[Candidate], samples: _Samples, options: SelectionOptions
) -> list[SymbolicNetwork]:
    """Copies of a network with each of the best functions on an edge, refitted; the first exact one is the last that is tried."""
    l, i, j = edge
    results: list[SymbolicNetwork] = []
    for candidate in ranked[: options.top]:
        if options.stop():
            break
        network = _copied(state.network)
        network.symbolic_layers[l].set_function(i, j, candidate.name, candidate.function, candidate.affine)
        set_mode_(network, l, i, j, "s")
        _fit_(network, samples, options.steps, options.stop)
        results.append(_measured(network, samples, {**state.functions, edge: candidate}, list(state.splines)))
        if samples.exact(results[-1].error):
            break
    return results


def _distinct(states: Sequence[SymbolicNetwork]) -> list[SymbolicNetwork]:
    """The networks without those that have the same functions on the same edges as a better one."""
    distinct: dict[tuple[tuple[Edge, str], ...], SymbolicNetwork] = {}
    for state in states:
        distinct.setdefault(tuple(sorted((edge, candidate.name) for edge, candidate in state.functions.items())), state)
    return list(distinct.values())
