r"""Symbolic edges chosen in context: an edge's function is judged by what the whole network makes of it.

Hidden nodes that the others can do without go first. Then edges are taken in the order of how clear they are. Each of an edge's best
functions is put on it, all parameters that remain (splines and affine maps of symbolic edges) are fitted anew by Levenberg-Marquardt, and
the network's description is compared, in bits,

    ``n/2 log2(MSE + floor^2) + sum over edges of their bits``,

with the mean squared error on samples that were held out, and no more than 64 of them as evidence. Other losses, such as the cross-entropy
of classes, count as the bits that the labels take, ``n loss / log 2``, with all samples. A spline costs ``log2(N)/2`` for each of
its numbers, a function as much for each of ``a, b, c, d`` that matters and its complexity. Several networks are kept at a time, as many as
the beam is wide, or only those that are exact once there is one; an edge stays a spline where no function makes the description shorter.
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
from kan.modes import threads
from kan.network.insertion import insert_knots_
from kan.network.network import Network
from kan.solvers.levenberg_marquardt import Damping, Problem, improve_
from kan.surgery.edges import remove_node_, set_mode_
from kan.training.fit import trainable_parameters
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.network_problem import NetworkProblem
from kan.training.objectives.make import plain_objective

__all__ = ["Choice", "Search", "in_context", "refit_", "sharpen_"]

Edge = tuple[int, int, int]
Loss = Callable[[Tensor, Tensor], Tensor]

FLOOR = 1e-13
"""Share of the labels' root mean square below which errors are round-off."""
EVIDENCE = 64
"""Samples that count."""
RANKED = 256
"""Samples of an edge that its functions are ranked by."""
FARTHEST = 1e4
"""Functions whose deficit of r2 is larger than that of the best one by this factor are not tried."""
EQUAL = {"cos": "sin", "arccos": "arcsin", "x^0.5": "sqrt", "1/x^0.5": "1/sqrt(x)"}
"""Functions that are another one with other constants."""
LITTLE = 2**18
"""Entries of a Jacobian up to which one thread is quicker than several."""
SPARED = 10.0
"""Growth of the mean squared error that a hidden node less may cost."""
GRID = 10
"""Intervals that splines have at least when functions are looked for, if there are samples enough."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Search:
    """How functions are looked for.

    Attributes:
        lib: names, or a dictionary like ``SYMBOLIC_LIB``, or None for all of it.
        beam: networks that are kept at a time.
        top: functions that are tried on an edge.
        steps: of Levenberg-Marquardt after each change.
        last_steps: at the end.
        stop: asked between trials; edges that are left then stay splines.
        loss_fn: of output and label; the mean squared error when not given.
    """

    lib: Sequence[str] | Mapping[str, Any] | None = None
    beam: int = 3
    top: int = 4
    steps: int = 12
    last_steps: int = 60
    stop: Callable[[], bool] = _never
    loss_fn: Loss | None = None


@dataclass
class Choice:
    """A network with some edges symbolic.

    Attributes:
        network: in float64.
        bits: of its description.
        error: mean squared, or the loss, on the samples that were held out.
        found: the functions that were put on edges.
        kept: edges that stay splines.
    """

    network: Network
    bits: float
    error: float
    found: dict[Edge, Candidate]
    kept: list[Edge]


@dataclass(frozen=True)
class _Samples:
    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    scale: float
    loss_fn: Loss | None

    @classmethod
    def of(cls, network: Network, x: Tensor, y: Tensor, loss_fn: Loss | None = None) -> _Samples:
        """With labels in the units of the network's last nodes, or as `loss_fn` takes them."""
        x = x.double()
        if loss_fn is None:
            y = network.in_own_units("output_normalizer", y, torch.float64)
        elif y.is_floating_point():
            y = y.double()
        scale = float(y.double().square().mean().sqrt())
        held = torch.arange(len(x), device=x.device) % 5 == 4
        if len(x) < 50:
            held = torch.ones_like(held)  # too few to do without
            return cls(x, y, x, y, scale, loss_fn)
        return cls(x[~held], y[~held], x[held], y[held], scale, loss_fn)

    def exact(self, error: float) -> bool:
        """Whether a mean squared `error` is round-off."""
        return self.loss_fn is None and error <= (1e3 * FLOOR * self.scale) ** 2

    @torch.no_grad()
    def error(self, network: Network) -> float:
        """Mean squared, or the loss, on the samples that were held out."""
        trace = network.trace(self.held_x)
        if self.loss_fn is None:
            return float((trace.last_nodes - self.held_y).square().mean())
        return float(self.loss_fn(trace.output, self.held_y))

    def bits(self, error: float) -> float:
        """Length of the description of the labels, where the error is `error`."""
        if not math.isfinite(error):
            return math.inf
        if self.loss_fn is not None:
            return (len(self.x) + len(self.held_x)) * error / math.log(2)
        # Splines, and functions in the place of others, miss the data by what they are and not by chance: a little less is no evidence.
        return 0.5 * min(EVIDENCE, len(self.x)) * math.log2(error + (FLOOR * self.scale) ** 2 + 1e-300)


@torch.no_grad()
def in_context(network: Network, x: Tensor, y: Tensor, search: Search | None = None) -> list[Choice]:
    """The networks that the search ends with, the one with the shortest description first.

    Args:
        network: a trained one; it is left alone.
        x, y: the samples that it was trained on, ``(N, inputs)`` and ``(N, outputs)``.
        search: how to look.
    """
    search = search or Search()
    samples = _Samples.of(network, x, y, search.loss_fn)
    start = copy.deepcopy(network).double()
    sharpen_(start, x, y, search.steps, search.stop, search.loss_fn)
    start = _thinned(start, samples, search)
    edges = [
        (l, i, j)
        for l, layer in enumerate(start.numeric_layers)
        for i, row in enumerate(layer.mask.tolist())
        for j, mask in enumerate(row)
        if mask != 0
    ]
    ranked = dict(zip(edges, _ranked(start, edges, samples, search), strict=True))
    states = [_judged(start, samples, {}, [])]
    for edge in sorted(edges, key=lambda edge: 1 - ranked[edge][0].r2):
        if search.stop():
            for state in states:
                state.kept.append(edge)
            continue
        following = [replace(state, kept=[*state.kept, edge]) for state in states]
        for state in states:
            _try(state, edge, ranked[edge], samples, search, following)
        exact = [state for state in following if samples.exact(state.error)]
        states = _distinct(sorted(exact or following, key=lambda state: state.bits))[: search.beam]
    found = []
    for n, state in enumerate(states):
        if n == 0 or not search.stop():
            _fit_(state.network, samples, search.last_steps, search.stop)
        found.append(_judged(state.network, samples, state.found, state.kept))
    return sorted(found, key=lambda state: state.bits)


@torch.no_grad()
def sharpen_(
    network: Network, x: Tensor, y: Tensor, steps: int = 12, stop: Callable[[], bool] = _never, loss_fn: Loss | None = None
) -> None:
    """Bring splines as near to the data as these allow, in place: which function a curve is shows in its last digits."""
    samples = _Samples.of(network, x, y, loss_fn)
    _fit_(network, samples, steps, stop)
    if min(network.per_layer("grid", network.grid)) >= GRID:
        return
    finer = copy.deepcopy(network)
    insert_knots_(finer, GRID, samples.x)
    size = sum(int((layer.mask != 0).sum()) * (layer.num + layer.k + 1) for layer in finer.numeric_layers)
    if 3 * size > len(samples.x):
        return
    _fit_(finer, samples, 2 * steps, stop)
    held = [samples.error(one) for one in (network, finer)]
    if held[1] < held[0]:
        for ours, theirs in zip(network.numeric_layers, finer.numeric_layers, strict=True):
            ours.set_knots_(theirs.grid)
        network.grid = finer.grid
        network.load_state_dict(finer.state_dict())


def refit_(network: Network, x: Tensor, y: Tensor, steps: int, stop: Callable[[], bool] = _never) -> float:
    """Levenberg-Marquardt on all parameters that matter, in place; returns the mean squared error, of labels in the network's units."""
    with _all_trained(network), torch.enable_grad():
        columns = Columns(network, trainable_parameters(network))
        problem = NetworkProblem(plain_objective(network, None), columns, x, y)
        with threads(1 if columns.count * y.numel() <= LITTLE else torch.get_num_threads()):
            return _descended(problem, steps, stop)


def _fit_(network: Network, samples: _Samples, steps: int, stop: Callable[[], bool]) -> None:
    """`refit_` by the loss of the samples, in place.

    Classes that the network can tell apart have the loss zero at infinite parameters only: on the way there, the loss of other samples
    grows. A loss other than the mean squared error therefore goes on as long as it falls on the samples that were held out.
    """
    if samples.loss_fn is None:
        refit_(network, samples.x, samples.y, steps, stop)
        return
    with _all_trained(network), torch.enable_grad():
        columns = Columns(network, trainable_parameters(network))
        problem = NetworkProblem(plain_objective(network, samples.loss_fn), columns, samples.x, samples.y)
        _descended(problem, steps, stop, lambda: samples.error(network))


@contextmanager
def _all_trained(network: Network) -> Iterator[None]:
    """Let all parameters that matter be trained; they are frozen again afterwards, if they were."""
    before = [p.requires_grad for p in network.parameters()]
    for layer in network.symbolic_layers:
        layer.affine.requires_grad_(True)
    for numeric in network.numeric_layers:
        for parameter in (numeric.coef, numeric.scale_base):
            parameter.requires_grad_(True)
        numeric.scale_sp.requires_grad_(False)  # the coefficients say it all
    try:
        yield
    finally:
        for parameter, wanted in zip(network.parameters(), before, strict=True):
            parameter.requires_grad_(wanted)


def _descended(problem: Problem, steps: int, stop: Callable[[], bool], held_out: Callable[[], float] | None = None) -> float:
    """The objective after at most so many steps, when they gain next to nothing, or before the first that raises the error `held_out`."""
    value, damping = problem.value(), Damping()
    error = math.inf if held_out is None else held_out()
    for _ in range(steps):
        if stop():
            break
        before = problem.save()
        new = improve_(problem, damping, value)
        if new is None:
            break
        if held_out is not None:
            now = held_out()
            if not now <= error:
                problem.restore_(before)
                break
            error = now
        last, value = value, new
        if new > last * (1 - 1e-4):
            break
    return value


def _copied(network: Network) -> Network:
    twin = copy.deepcopy(network)
    for ours, theirs in zip(network.numeric_layers, twin.numeric_layers, strict=True):
        ours.share_table(theirs)
    return twin


def _thinned(network: Network, samples: _Samples, search: Search) -> Network:
    """Without the hidden nodes that the others can do without: where several share one task, their curves are nothing in particular."""
    while True:
        most, best = _most(network, samples), None
        for l in range(1, network.depth):
            spare = _numeric_nodes(network, l)
            for i in spare if len(spare) > 1 else ():
                if search.stop():
                    return network
                fewer = _copied(network)
                remove_node_(fewer, l, i)
                _fit_(fewer, samples, 2 * search.steps, search.stop)
                value = _value(fewer, samples)
                if value <= most:
                    most, best = value, fewer
        if best is None:
            return network
        network = best


def _numeric_nodes(network: Network, l: int) -> list[int]:
    """Nodes of layer `l` that lead on, by splines and by nothing else; so do the edges that lead to them."""
    below, above = network.symbolic_layers[l - 1].mask, network.symbolic_layers[l].mask
    live = network.numeric_layers[l].mask.any(1).tolist()
    return [i for i, lives in enumerate(live) if lives and not above[:, i].any() and not below[network.structure.subnodes(l, i)].any()]


def _value(network: Network, samples: _Samples) -> float:
    """What a network with fewer hidden nodes is judged by: its mean squared error, or its description where the loss is another one."""
    return samples.error(network) if samples.loss_fn is None else _judged(network, samples, {}, []).bits


def _most(network: Network, samples: _Samples) -> float:
    """The largest such value with a hidden node less."""
    return (SPARED if samples.loss_fn is None else 1.0) * _value(network, samples)


def _judged(network: Network, samples: _Samples, found: dict[Edge, Candidate], kept: list[Edge]) -> Choice:
    error = samples.error(network)
    unit = 0.5 * math.log2(len(samples.x) + len(samples.held_x))
    bits = 0.0
    for layer in network.numeric_layers:
        bits += unit * (layer.num + layer.k + 1) * int((layer.mask != 0).sum())
    for candidate in found.values():
        bits += unit * free_parameters(candidate.function) + 2 * candidate.complexity
    return Choice(network, samples.bits(error) + bits, error, found, kept)


def _ranked(network: Network, edges: Sequence[Edge], samples: _Samples, search: Search) -> list[list[Candidate]]:
    few = samples.x[:: max(1, len(samples.x) // RANKED)]
    results = []
    for found in candidates(network.trace(few), list(edges), search.lib, scoring=Scoring(0.0)):
        # A step of complexity weighs as much as a tenth of the deficit of r2.
        ranked = sorted(found, key=lambda c: math.log10(1 - min(c.r2, 1.0) + 1e-15) + c.complexity)
        least = min(1 - min(c.r2, 1.0) for c in ranked) + 1e-12
        kept: list[Candidate] = []
        for candidate in ranked:
            known = {EQUAL.get(c.name, c.name) for c in kept}
            if 1 - candidate.r2 <= FARTHEST * least and EQUAL.get(candidate.name, candidate.name) not in known:
                kept.append(candidate)
        results.append(kept)
    return results


def _try(state: Choice, edge: Edge, ranked: Sequence[Candidate], samples: _Samples, search: Search, following: list[Choice]) -> None:
    """Make the edge symbolic in several ways, and add what becomes of `state` to `following`."""
    l, i, j = edge
    for candidate in ranked[: search.top]:
        if search.stop():
            break
        network, found = _copied(state.network), {**state.found, edge: candidate}
        network.symbolic_layers[l].set_function(i, j, candidate.name, candidate.function, candidate.affine)
        set_mode_(network, l, i, j, "s")
        _fit_(network, samples, search.steps, search.stop)
        following.append(_judged(network, samples, found, list(state.kept)))
        if samples.exact(following[-1].error):
            break


def _distinct(states: Sequence[Choice]) -> list[Choice]:
    """Without those that have the same functions on the same edges."""
    seen, different = set(), []
    for state in states:
        key = tuple(sorted((edge, candidate.name) for edge, candidate in state.found.items()))
        if key not in seen:
            seen.add(key)
            different.append(state)
    return different
