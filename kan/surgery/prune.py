"""Pruning: edges and nodes that contribute little are removed, judged by attribution scores and by the growth of the loss.

A score measures how much the values of an edge or node vary. The mean of a removed edge is kept, since without it the function would
shift: it is added to the biases of the sub-nodes.

Scores are shares of the variation of the outputs. Among many weak edges each has a small share, although together they may be the whole
network. Thresholds given by the user are therefore obeyed, but with a warning if the loss grows. Without such thresholds, the scores only
propose edges and nodes, and as many of these are removed as the loss allows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from kan.analysis.attribution import attribute
from kan.network.network import Network
from kan.network.trace import Trace
from kan.surgery.criterion import TOLERANCE, Criterion, criterion_of
from kan.surgery.select import select_nodes
from kan.surgery.switches import Units, connected_nodes, drop_, switches
from kan.surgery.trial import Trial

__all__ = ["EDGE_THRESHOLD", "NODE_THRESHOLD", "Pruning", "active_nodes", "prune", "prune_edges_", "prune_inputs", "prune_nodes"]

N = TypeVar("N", bound=Network)

NODE_THRESHOLD = 1e-2
"""Attribution score above which nodes and inputs are kept; pykan's default."""
EDGE_THRESHOLD = 3e-2
"""Attribution score above which edges are kept; pykan's default."""
REMEDY = "Choose a threshold below that, or give none, so that what the loss needs is kept."
"""Advice in error messages for a threshold that would remove everything."""


@dataclass(frozen=True)
class Pruning:
    """The result of a pruning: the loss before and after, and the nodes that are left.

    Attributes:
        loss_before, loss_after: the loss of the last fit on the samples of that fit, as `fit` reports it. If the network has no such fit,
            or one with other inputs and outputs, these are 0 and the change of the outputs on the last input, as a share of their spread.
        labelled: whether the two numbers are losses.
        nodes: for every layer of nodes, inputs first, the indices of the nodes of the original network that are left.
        kept: number of edges, nodes or inputs with low scores that are kept because the loss would grow too much without them.
    """

    loss_before: float
    loss_after: float
    labelled: bool
    nodes: list[list[int]]
    kept: int = 0


class NothingLeftError(ValueError):
    """Pruning would leave no path from the inputs to the outputs."""


def prune(
    network: N, node_th: float | None = None, edge_th: float | None = None, tolerance: float | None = None
) -> tuple[N, Pruning]:
    """A new network without the hidden nodes and edges that contribute little, and the loss before and after.

    Without thresholds, nodes that are left without edges on one side are removed as well. Their contribution is a constant, which is added
    to the biases.

    Args:
        network: the network, which is not changed. It must have been fitted or have seen data. Scores are those on the last input.
        node_th, edge_th: thresholds of the scores of nodes and of edges. They are obeyed whatever the loss. Scores of edges are computed
            again after the nodes are removed, unless a program has set them. If only one threshold is given, the other one is
            `NODE_THRESHOLD` or `EDGE_THRESHOLD`. If neither is given, both are used, but edges without which the loss would grow by more
            than `TOLERANCE` are kept.
        tolerance: largest growth of the loss, as a share of it, instead of thresholds. As many edges as can be found are removed, whatever
            their scores.

    Raises:
        ValueError: if the given thresholds would leave no path between inputs and outputs; the message names a threshold that leaves one.
            Also if the tolerance is negative or given together with thresholds.

    Warns:
        UserWarning: if the loss grows by more than `TOLERANCE` with the given thresholds, or if edges with low scores are kept.
    """
    given = node_th is not None or edge_th is not None
    if tolerance is not None and (given or not 0 <= tolerance < math.inf):
        raise ValueError(
            f"tolerance, by what share of it the loss may grow, must not be negative and takes the place of thresholds; got "
            f"tolerance={tolerance!r}, node_th={node_th!r}, edge_th={edge_th!r}."
        )
    criterion = criterion_of(network)
    if given:
        new, nodes = _by_scores(network, NODE_THRESHOLD if node_th is None else node_th, EDGE_THRESHOLD if edge_th is None else edge_th)
        return new, _report("prune", criterion, new, nodes, given=True)
    if tolerance is not None:
        new, nodes, _ = _by_loss(network, criterion, *_numeric_edges(network), criterion.limit(tolerance))
        return new, _report("prune", criterion, new, nodes)
    would = math.inf
    with suppress(NothingLeftError):
        new, nodes = _by_scores(network, NODE_THRESHOLD, EDGE_THRESHOLD)
        would = criterion(new)
    if math.isfinite(would) and would <= criterion.limit_of_all():
        new, left = _without_idle_nodes(new)
        nodes = [[ids[i] for i in places] for ids, places in zip(nodes, left, strict=True)]
        return new, _report("prune", criterion, new, nodes)
    new, nodes, kept = _by_loss(network, criterion, *_weak_edges(network, NODE_THRESHOLD, EDGE_THRESHOLD), criterion.limit())
    return new, _report("prune", criterion, new, nodes, kept._replace(would=would))


def prune_nodes(network: N, threshold: float | None = None, active: Sequence[Sequence[int]] | None = None) -> tuple[N, Pruning | None]:
    """A new network with the hidden nodes whose score is above `threshold`, or with those in `active`, and the loss before and after.

    Args:
        network: the network, which is not changed.
        threshold: threshold of the node scores. When not given, it is `NODE_THRESHOLD`, but nodes are kept without which the loss would
            grow by more than `TOLERANCE`.
        active: for every hidden layer, the indices of the nodes to keep, instead of a threshold. The network need not have seen data; if it
            has not, no losses are returned.

    Raises:
        ValueError: if a hidden layer would lose all its nodes by the given threshold, or if `active` does not match the network.

    Warns:
        UserWarning: as for `prune`; never if `active` is given.
    """
    if active is not None:
        return _named(network, _all_but_hidden(network, _checked(network, active)))
    criterion = criterion_of(network)
    if threshold is None:
        new, nodes, kept = _without_weak_nodes(network, criterion, range(1, network.depth))
        return new, _report("prune_node", criterion, new, nodes, kept)
    nodes = _all_but_hidden(network, active_nodes(network, threshold))
    new = _selected(network, nodes)
    return new, _report("prune_node", criterion, new, nodes, given=True)


def prune_inputs(network: N, threshold: float | None = None, active: Sequence[int] | None = None) -> tuple[N, Pruning | None]:
    """A new network with the inputs whose score is above `threshold`, or with those in `active`, and the loss before and after.

    The new network is called with the same columns as before and selects those that it uses.

    Args:
        network: the network, which is not changed.
        threshold: threshold of the scores of the inputs. When not given, it is `NODE_THRESHOLD`, but inputs are kept without which the loss
            would grow by more than `TOLERANCE`.
        active: the indices of the inputs to keep, instead of a threshold; see `prune_nodes`.

    Raises:
        ValueError: if no input would be left by the given threshold, or if `active` does not match the network.

    Warns:
        UserWarning: as for `prune`; never if `active` is given.
    """
    others = [[*range(n)] for n in network.width_in[1:]]
    if active is not None:
        return _named(network, [_resolved("inputs", active, network.width_in[0]), *others])
    criterion = criterion_of(network)
    if threshold is None:
        new, nodes, kept = _without_weak_nodes(network, criterion, range(1))
        return new, _report("prune_input", criterion, new, nodes, kept)
    nodes = [_active_inputs(network, threshold), *others]
    new = _selected(network, nodes)
    return new, _report("prune_input", criterion, new, nodes, given=True)


def prune_edges_(network: Network, threshold: float | None = None, symbolic: bool = False) -> Pruning:
    """Mask the edges whose attribution score is not above `threshold`, in place, and return the loss before and after.

    Args:
        network: the network, which is changed in place.
        threshold: threshold of the edge scores. When not given, it is `EDGE_THRESHOLD`, but edges are kept without which the loss would
            grow by more than `TOLERANCE`.
        symbolic: whether symbolic edges are masked, too; otherwise they are kept.

    Raises:
        ValueError: if by the given threshold a layer would lose all its edges, or no path would lead from an input to an output; the
            network is not changed then.

    Warns:
        UserWarning: as for `prune`.
    """
    network.forget_pass()
    criterion, nodes = criterion_of(network), [[*range(n)] for n in network.width_in]
    if threshold is not None:
        _drop_edges_(network, threshold, symbolic)
        return _report("prune_edge", criterion, network, nodes, given=True)
    numeric, named = _weak_edges(network, -math.inf, EDGE_THRESHOLD, symbolic)
    trial = Trial(network, Units.of_edges(numeric, named), criterion)
    dropped, would = trial.drop_affordable_(criterion.limit(), criterion.limit_of_all())
    with torch.no_grad():
        for tensor, new in zip(switches(network), switches(trial.network), strict=True):
            tensor.copy_(new)
    kept = _Kept(int((~dropped).sum()), len(dropped), "edges", would)
    return _report("prune_edge", criterion, network, nodes, kept)


class _Kept(NamedTuple):
    """Edges, nodes or inputs that are kept although their scores are low.

    Attributes:
        number: how many are kept.
        weak: how many have low scores.
        what: "edges", "nodes" or "inputs".
        would: value of the criterion if all of them were removed.
    """

    number: int
    weak: int
    what: str
    would: float


def _report(
    method: str, criterion: Criterion, new: Network, nodes: list[list[int]], kept: _Kept | None = None, *, given: bool = False
) -> Pruning:
    """The result of `method`. It warns if something is kept, or if the value has grown with thresholds that were `given`."""
    after, message = criterion(new), ""
    criterion.mark_(new, kept=not given)
    if kept is not None and kept.number:
        message = (
            f"{method}: {kept.what} whose scores are below the thresholds are kept ({kept.number} of {kept.weak}), since without them "
            f"{criterion.spared(kept.would, after)}. Thresholds that are given are obeyed."
        )
    elif given and not after <= criterion.limit(TOLERANCE):
        message = f"{method}: {criterion.growth(after)}. Lower thresholds keep more, and none keep what the loss needs."
    if message:
        warnings.warn(message, stacklevel=4)
    before = criterion.shown(criterion.before)
    return Pruning(before, criterion.shown(after), criterion.labelled, nodes, 0 if kept is None else kept.number)


def _named(network: N, nodes: list[list[int]]) -> tuple[N, Pruning | None]:
    """A network with `nodes` only, and the losses before and after, or None if `network` has neither been fitted nor seen data."""
    criterion = criterion_of(network) if network.last_input is not None else None
    new = _selected(network, nodes)
    if criterion is None:
        return new, None
    criterion.mark_(new, kept=False)
    return new, Pruning(criterion.shown(criterion.before), criterion.shown(criterion(new)), criterion.labelled, nodes)


def _by_scores(network: N, node_th: float, edge_th: float) -> tuple[N, list[list[int]]]:
    """A network without all nodes and edges whose scores are not above the thresholds, whatever the loss; and the nodes that are left."""
    with torch.no_grad():
        trace = network.trace()
    keep = _all_but_hidden(network, active_nodes(network, node_th, trace))
    new = _selected(network, keep, trace)
    _drop_edges_(new, edge_th, scores=_kept_scores(trace, keep))
    return new, keep


def _kept_scores(trace: Trace, keep: Sequence[Sequence[int]]) -> list[Tensor] | None:
    """Scores of the edges between the nodes `keep`, if a program has set scores; None otherwise."""
    if not {"edge_scores", "edge_scores_all"} & set(trace.given):
        return None
    structure, scores = trace.structure, attribute(trace).edge_scores
    subnodes = [[s for i in ids for s in structure.subnodes(l, i)] for l, ids in enumerate(keep)]
    return [score[subnodes[l + 1]][:, list(keep[l])] for l, score in enumerate(scores)]


def _by_loss(
    network: N, criterion: Criterion, numeric: list[Tensor], symbolic: list[Tensor], limit: float
) -> tuple[N, list[list[int]], _Kept]:
    """A network without as many of the marked edges as the loss allows, the nodes that are left, and the marked edges that are kept."""
    units = Units.of_edges(numeric, symbolic)
    trial = Trial(network, units, criterion)
    dropped, would = trial.drop_affordable_(limit, limit)
    new, nodes = _without_idle_nodes(trial.network)
    rows = [[s for i in ids for s in network.structure.subnodes(l, i)] for l, ids in enumerate(nodes) if l > 0]
    marks = zip(*units.gone(~dropped), strict=True)
    count = sum(int((left | right)[rows[l]][:, nodes[l]].sum()) for l, (left, right) in enumerate(marks))
    return new, nodes, _Kept(count, units.count, "edges", would)


@torch.no_grad()
def _without_weak_nodes(network: N, criterion: Criterion, layers: range) -> tuple[N, list[list[int]], _Kept]:
    """A network without as many nodes of low scores in `layers` as the loss allows, the nodes left, and the weak nodes that are kept."""
    scores = attribute(network.trace()).node_scores
    weak = [(l, i) for l in layers for i, score in enumerate(scores[l].tolist()) if not score > NODE_THRESHOLD]
    trial = Trial(network, Units.of_nodes(network, weak), criterion)
    dropped, would = trial.drop_affordable_(criterion.limit(), criterion.limit_of_all())
    gone = {node for node, drops in zip(weak, dropped.tolist(), strict=True) if drops}
    keep = [[i for i in range(n) if (l, i) not in gone] for l, n in enumerate(network.width_in)]
    new = select_nodes(trial.network, keep)
    return new, keep, _Kept(len(weak) - len(gone), len(weak), "inputs" if layers == range(1) else "nodes", would)


def _without_idle_nodes(network: N) -> tuple[N, list[list[int]]]:
    """A network of the same function without hidden nodes on no path from an input to an output, and the nodes that are left."""
    connected = connected_nodes(network)
    keep = _all_but_hidden(network, connected[1:-1] if connected[0] else [range(n) for n in network.width_in[1:-1]])
    return network if list(map(len, keep)) == network.width_in else _selected(network, keep), keep


def _numeric_edges(network: Network) -> tuple[list[Tensor], list[Tensor]]:
    """Marks of numeric and of symbolic edges, ``(m_{l+1}, n_l)`` per layer each: all numeric edges, and no symbolic ones."""
    numeric = [layer.mask.t() != 0 for layer in network.numeric_layers]
    return numeric, [torch.zeros_like(on) for on in numeric]


@torch.no_grad()
def _weak_edges(network: Network, node_th: float, edge_th: float, symbolic_too: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Marks of numeric edges with low scores, and of symbolic edges that lead away from hidden nodes with low scores.

    With `symbolic_too`, symbolic edges that have low scores themselves are marked as well.
    """
    scores = attribute(network.trace())
    numeric, symbolic = _numeric_edges(network)
    for l, (score, layer) in enumerate(zip(scores.edge_scores, network.symbolic_layers, strict=True)):
        weak, weak_nodes = ~(score > edge_th), ~(scores.node_scores[l] > node_th)
        numeric[l] &= weak
        symbolic[l] = (layer.mask != 0) & (weak * symbolic_too | weak_nodes * (l > 0))
    return numeric, symbolic


def _all_but_hidden(network: Network, hidden: Sequence[Sequence[int]]) -> list[list[int]]:
    """For every layer of nodes, the indices to keep: those in `hidden`, and all inputs and outputs."""
    return [[*range(network.width_in[0])], *map(list, hidden), [*range(network.width_in[-1])]]


@torch.no_grad()
def _selected(network: N, keep: Sequence[Sequence[int]], trace: Trace | None = None) -> N:
    """`select_nodes`, with the mean contribution of the dropped nodes added to the biases; `trace` is computed if it is not given."""
    new = select_nodes(network, keep)
    if network.last_input is not None:
        for l, layer in enumerate((trace or network.trace()).layers):
            dropped = [i for i in range(network.width_in[l]) if i not in set(keep[l])]
            if not dropped:
                continue
            subnodes = [s for i in keep[l + 1] for s in network.structure.subnodes(l + 1, i)]
            new.subnode_bias[l].add_(new.subnode_scale[l] * layer.edge_mean()[subnodes][:, dropped].sum(dim=1))
    return new


@torch.no_grad()
def active_nodes(network: Network, threshold: float = NODE_THRESHOLD, trace: Trace | None = None) -> list[list[int]]:
    """For every hidden layer, the indices of the nodes whose attribution score is above `threshold`; `trace` is computed if not given.

    Raises:
        ValueError: if a layer has none.
    """
    hidden = []
    for l, score in enumerate(attribute(trace or network.trace()).node_scores[1:-1], start=1):
        kept = [int(i) for i in (score > threshold).nonzero()[:, 0]]
        if not kept:
            raise NothingLeftError(
                f"pruning with the node threshold {threshold:g} would drop every node of layer {l}; its largest score is "
                f"{float(score.max()):.3g}. {REMEDY}"
            )
        hidden.append(kept)
    return hidden


@torch.no_grad()
def _active_inputs(network: Network, threshold: float) -> list[int]:
    """The inputs whose score is above `threshold`.

    Raises:
        ValueError: if there is none.
    """
    score = attribute(network.trace()).node_scores[0]
    inputs = [int(i) for i in (score > threshold).nonzero()[:, 0]]
    if not inputs:
        raise NothingLeftError(
            f"pruning with the threshold {threshold:g} would drop every input; the largest score is {float(score.max()):.3g}. {REMEDY}"
        )
    return inputs


@torch.no_grad()
def _drop_edges_(network: Network, threshold: float, symbolic: bool = False, scores: list[Tensor] | None = None) -> None:
    """Mask the edges whose attribution score, if it is not given, is not above `threshold`, in place, whatever the loss."""
    trace = network.trace()
    scores = attribute(trace).edge_scores if scores is None else scores
    weak = [~(score > threshold) for score in scores]
    named = [weak[l] if symbolic else torch.zeros_like(weak[l]) for l in range(network.depth)]
    for l, score in enumerate(scores):
        numeric, layer = network.numeric_layers[l].mask, network.symbolic_layers[l]
        empty = not bool((numeric.t()[~weak[l]] != 0).any()) and not bool((layer.mask[~named[l]] != 0).any())
        if empty and (bool(numeric.any()) or layer.active()):
            raise NothingLeftError(
                f"pruning with the edge threshold {threshold:g} would drop every edge of layer {l}; its largest score is "
                f"{float(score.max()):.3g}. {REMEDY}"
            )
    widest = _widest_path(network, scores, symbolic)
    if widest is not None and not widest > threshold:
        raise NothingLeftError(
            f"pruning with the edge threshold {threshold:g} would cut every path from the inputs to the outputs; the least score on the "
            f"best of them is {widest:.3g}. {REMEDY}"
        )
    drop_(network, trace, weak, named)


def _widest_path(network: Network, scores: Sequence[Tensor], symbolic: bool) -> float | None:
    """The smallest score on the best path from an input to an output; None if there is no path.

    The best path is the one on which this score is largest. Masked edges belong to no path, and symbolic edges count by their scores only
    if `symbolic` is True. A multiplication node is reached through any of its factors.
    """
    reached = scores[0].new_full((network.width_in[0],), math.inf)
    for l, score in enumerate(scores):
        named = network.symbolic_layers[l].mask != 0
        edges = torch.where(network.numeric_layers[l].mask.t() != 0, score, -math.inf)
        edges = torch.where(named, score if symbolic else math.inf, edges)
        subnodes = torch.minimum(edges, reached).amax(dim=1)
        structure = network.structure
        reached = torch.stack([subnodes[list(structure.subnodes(l + 1, i))].amax() for i in range(network.width_in[l + 1])])
    widest = float(reached.amax())
    return None if widest == -math.inf else widest


def _checked(network: Network, active: Sequence[Sequence[int]]) -> list[list[int]]:
    """`active` with negative indices resolved; an error if it does not match the hidden layers."""
    sizes = network.width_in[1:-1]
    if len(active) != len(sizes):
        raise ValueError(
            f"active_neurons_id must have one list of node indices for each of the {len(sizes)} hidden layers; got {len(active)}."
        )
    return [_resolved(f"nodes of layer {l}", ids, size) for l, (ids, size) in enumerate(zip(active, sizes, strict=True), start=1)]


def _resolved(what: str, ids: Sequence[int], size: int) -> list[int]:
    """The indices sorted, without repetitions, and with negative ones resolved; an error if one is out of range or none is given."""
    if not len(ids) or any(not -size <= i < size for i in ids):
        raise ValueError(f"at least one of the {what} must be kept, and they are numbered 0 to {size - 1}; got {list(ids)}.")
    return sorted({int(i) % size for i in ids})
