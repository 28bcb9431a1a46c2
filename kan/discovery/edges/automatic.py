"""All edges of a network made symbolic."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kan.discovery.edges.joint_selection import Search, in_context
from kan.discovery.edges.suggest import Candidate, Scoring, candidates
from kan.network.network import Network
from kan.network.user_code.inheritance import alone
from kan.network.user_code.observed import observed
from kan.network.user_code.own_code import own_call, own_parts
from kan.output import say
from kan.surgery.edges import set_mode_
from kan.symbolic.library import resolve_library
from kan.training.data.classes import loss_of_link
from kan.training.data.dataset import check_dataset
from kan.training.models.of_network import TrainableNetwork
from kan.training.objectives.losses import in_dtype
from kan.training.objectives.make import check_loss, plain_objective
from kan.training.snapshot import round_into_

__all__ = ["auto_symbolic_", "auto_symbolic_in_context_"]


def auto_symbolic_(
    network: Network,
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    lib: Sequence[str] | Mapping[str, Any] | None = None,
    weight_simple: float = 0.8,
    r2_threshold: float = 0.0,
) -> None:
    """Replace every numeric edge by its best function, in place, judged on the activations of the last input; a line per edge is printed.

    Args:
        network: changed in place.
        a_range, b_range: where the search for ``a`` and ``b`` starts.
        lib: names of the functions to choose from; the whole library when not given.
        weight_simple: weight of simplicity against fit, between 0 and 1.
        r2_threshold: edges whose best function fits worse stay numeric.
    """
    trace = network.trace()  # before the first edge changes: all are judged by the trained network
    scoring = Scoring(weight_simple)
    edges = [(l, i, j) for l in range(network.depth) for i in range(network.width_in[l]) for j in range(network.width_out[l + 1])]
    numeric = {l: network.numeric_layers[l].mask.tolist() for l in range(network.depth)}
    symbolic = {l: network.symbolic_layers[l].mask.tolist() for l in range(network.depth)}
    live = [(l, i, j) for l, i, j in edges if numeric[l][i][j] != 0]
    best = dict(zip(live, (ranked[0] for ranked in candidates(trace, live, lib, a_range, b_range, scoring)), strict=True))
    names = [found.name for found in best.values() if found.r2 >= r2_threshold]
    for edge in edges:
        l, i, j = edge
        where = _written(edge)
        if edge not in best:
            if symbolic[l][j][i] != 0:
                say(f"skipping {where} since already symbolic")
                continue
            network.symbolic_layers[l].set_function(i, j, "0")
            set_mode_(network, l, i, j, "s")
            say(f"fixing {where} with 0")
            continue
        found = best[edge]
        if found.r2 < r2_threshold:
            say(
                f"For {where} the best fit was {found.name}, but r^2 = {found.r2:.6f} and this is lower than {r2_threshold}. "
                f"This edge was omitted, keep training or try a different threshold."
            )
            continue
        network.symbolic_layers[l].set_function(i, j, found.name, found.function, found.affine)
        set_mode_(network, l, i, j, "s")
        say(_fixed(edge, found, names))


def auto_symbolic_in_context_(
    network: Network,
    dataset: Any,
    lib: Sequence[str] | Mapping[str, Any] | None = None,
    time_limit: float = math.inf,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> None:
    """Replace every numeric edge by a function, in place, judged by what the whole network makes of it.

    See `kan.discovery.edges.joint_selection`. All that is left to train, splines and affine maps, is fitted anew. Edges that no
    function describes stay splines, and are named; those of hidden nodes that the others can do without become 0. A line per edge is
    printed.

    Args:
        network: trained on `dataset`.
        dataset: what `fit` takes; its training samples, or the first batch of them, count.
        lib: names of the functions to choose from; the whole library when not given.
        time_limit: in seconds; edges that are left then stay splines.
        loss_fn: of output and label, a negative log-likelihood. When not given, the mean squared error, or of a classifier, a network with
            `class_names`, the cross-entropy.

    Raises:
        TypeError, ValueError: for bad data or an unknown function, or for code of the user's own other than a ``forward`` or pre-hooks
            that prepare the inputs; before anything is changed.
    """
    resolve_library(lib)
    loss_fn = loss_of_link(network.class_link) if loss_fn is None else loss_fn
    samples = check_dataset(TrainableNetwork(network), dataset, loss_fn, same_shape=loss_fn is None).first
    layers, x = _layers_alone(network, samples.x)
    if loss_fn is not None:
        loss_fn = in_dtype(loss_fn, torch.float64)
        twin = copy.deepcopy(layers).double()
        with torch.no_grad():
            output = twin.trace(x.double()).last_nodes
        check_loss(plain_objective(twin, loss_fn), output, samples, trained_on=True)
    begun = time.monotonic()
    search = Search(lib, stop=lambda: time.monotonic() - begun > time_limit, loss_fn=loss_fn)
    best = in_context(layers, x, samples.y, search)[0]
    for ours, theirs in zip(network.numeric_layers, best.network.numeric_layers, strict=True):
        if ours.grid.shape != theirs.grid.shape:
            ours.set_knots_(theirs.grid.to(ours.grid))
    network.grid = best.network.grid
    names = [candidate.name for candidate in best.found.values()]
    for (l, i, j), candidate in sorted(best.found.items()):
        numbers = best.network.symbolic_layers[l].affine[j, i]  # an edge of the zero function is one if it has a constant
        network.symbolic_layers[l].set_function(i, j, candidate.name, candidate.function, numbers)
        say(_fixed((l, i, j), candidate, names))
    before = [layer.mask.nonzero().tolist() for layer in network.numeric_layers]
    round_into_(network, best.network)
    network.forget_pass()
    for l, i, j in sorted(best.kept):
        say(f"({l},{i},{j}) stays a spline")
    settled = {*best.found, *best.kept}
    for l, i, j in ((l, i, j) for l, live in enumerate(before) for i, j in live if (l, i, j) not in settled):
        network.symbolic_layers[l].set_function(i, j, "0")
        set_mode_(network, l, i, j, "s")
        say(f"fixing ({l},{i},{j}) with 0")


def _written(edge: tuple[int, int, int]) -> str:
    return "({},{},{})".format(*edge)


def _fixed(edge: tuple[int, int, int], found: Candidate, names: Sequence[str]) -> str:
    """The line of an edge that has got a function; the numbers of all edges, with functions of these `names`, stand below each other."""
    width = max(map(len, names)) + 1
    return f"fixing {_written(edge)} with {found.name + ',':<{width}} r2={found.r2:.6f}, c={found.complexity:g}"

@torch.no_grad()
def _layers_alone(network: Network, x: Tensor) -> tuple[Network, Tensor]:
    """A network of the layers alone and what these are given of `x`, where that is all that the user's own code does; see there.

    Raises:
        ValueError: if it does more.
    """
    own = own_parts(network)
    if not own:
        return network, x
    if own == [own_call(network)]:
        x = x if network.applied("normalizer") else x.to(network.dtype)
        output, _, seen = observed(network, x)
        if seen is not None and torch.equal(output, network.layer_trace(seen).output):
            return alone(network), seen
    raise ValueError(
        f"auto_symbolic(data=...) fits the library's own layers to the labels, and cannot do so through {'; '.join(own)}. Without data= "
        f"every edge is judged by itself; call fit afterwards."
    )
