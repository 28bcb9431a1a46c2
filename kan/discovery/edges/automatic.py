"""All edges of a network made symbolic: each by the fit to its own curve, or all of them by the fit of the network to data."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kan.discovery.edges.joint_selection import SelectionOptions, select_jointly
from kan.discovery.edges.suggest import Candidate, Scoring, candidates
from kan.layers.grid_change import match_size_
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

__all__ = ["auto_symbolic_", "auto_symbolic_jointly_"]


def auto_symbolic_(
    network: Network,
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    lib: Sequence[str] | Mapping[str, Any] | None = None,
    weight_simple: float = 0.8,
    r2_threshold: float = 0.0,
) -> None:
    """Replace every numeric edge by the function that fits its curve on the last input best, in place; a line per edge is printed.

    Args:
        network: the network, which is changed in place.
        a_range, b_range: limits of ``a`` and ``b``. The default (-10, 10) means no limits.
        lib: names of the functions to choose from; the whole library when not given.
        weight_simple: weight of the complexity against the accuracy, between 0 and 1.
        r2_threshold: edges whose best function has a smaller r2 stay numeric.
    """
    trace = network.trace()  # before the first edge changes, so that all curves are those of the trained network
    scoring = Scoring(weight_simple)
    edges = [(l, i, j) for l in range(network.depth) for i in range(network.width_in[l]) for j in range(network.width_out[l + 1])]
    numeric = {l: network.numeric_layers[l].mask.tolist() for l in range(network.depth)}
    symbolic = {l: network.symbolic_layers[l].mask.tolist() for l in range(network.depth)}
    live = [(l, i, j) for l, i, j in edges if numeric[l][i][j] != 0]
    best = dict(zip(live, (ranked[0] for ranked in candidates(trace, live, lib, a_range, b_range, scoring)), strict=True))
    names = [found.name for found in best.values() if found.r2 >= r2_threshold]
    for edge in edges:
        l, i, j = edge
        where = _edge_text(edge)
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
        say(_line(edge, found, names))


def auto_symbolic_jointly_(
    network: Network,
    dataset: Any,
    lib: Sequence[str] | Mapping[str, Any] | None = None,
    time_limit: float = math.inf,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> None:
    """Replace numeric edges by functions that are selected jointly, by the fit of the whole network to data, in place.

    See `kan.discovery.edges.joint_selection`. All remaining parameters, which are splines and affine maps, are refitted. Edges that no
    function describes stay splines. Edges of redundant hidden nodes become 0. A line is printed for every edge.

    Args:
        network: a network that was trained on `dataset`; it is changed in place.
        dataset: data in one of the forms that `fit` takes. Its training samples are used, or the first batch of them.
        lib: names of the functions to choose from; the whole library when not given.
        time_limit: time limit in seconds; edges that have not been treated then stay splines.
        loss_fn: a negative log-likelihood as a function of output and label. When not given, it is the cross-entropy for a classifier, a
            network with `class_names`, and the mean squared error for others.

    Raises:
        TypeError, ValueError: for bad data, an unknown function, or user code other than a ``forward`` or pre-hooks that prepare the
            inputs. The network is not changed then.
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
    options = SelectionOptions(lib, stop=lambda: time.monotonic() - begun > time_limit, loss_fn=loss_fn)
    best = select_jointly(layers, x, samples.y, options)[0]
    for ours, theirs in zip(network.numeric_layers, best.network.numeric_layers, strict=True):
        match_size_(ours, theirs)
    network.grid = best.network.grid
    names = [candidate.name for candidate in best.functions.values()]
    for (l, i, j), candidate in sorted(best.functions.items()):
        affine = best.network.symbolic_layers[l].affine[j, i]  # of the zero function too, whose constant counts
        network.symbolic_layers[l].set_function(i, j, candidate.name, candidate.function, affine)
        say(_line((l, i, j), candidate, names))
    before = [layer.mask.nonzero().tolist() for layer in network.numeric_layers]
    round_into_(network, best.network)
    network.forget_pass()
    for edge in sorted(best.splines):
        say(f"{_edge_text(edge)} stays a spline")
    for l, i, j in ((l, i, j) for l, live in enumerate(before) for i, j in live):
        if (l, i, j) not in best.functions and (l, i, j) not in best.splines:
            network.symbolic_layers[l].set_function(i, j, "0")
            set_mode_(network, l, i, j, "s")
            say(f"fixing {_edge_text((l, i, j))} with 0")


def _edge_text(edge: tuple[int, int, int]) -> str:
    return "({},{},{})".format(*edge)


def _line(edge: tuple[int, int, int], found: Candidate, names: Sequence[str]) -> str:
    """The printed line of an edge that has become symbolic; numbers are aligned across edges with functions of these `names`."""
    width = max(map(len, names)) + 1
    return f"fixing {_edge_text(edge)} with {found.name + ',':<{width}} r2={found.r2:.6f}, c={found.complexity:g}"


@torch.no_grad()
def _layers_alone(network: Network, x: Tensor) -> tuple[Network, Tensor]:
    """The network without user code, and the inputs of its layers for `x`.

    Raises:
        ValueError: if the user code does more than prepare the inputs of the layers; the message names it.
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
