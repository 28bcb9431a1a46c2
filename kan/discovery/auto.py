"""All edges of a network made symbolic."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kan.discovery.context import Search, in_context
from kan.discovery.suggest import Scoring, candidates
from kan.network.network import Network
from kan.surgery.edges import set_mode_
from kan.symbolic.library import resolve_library
from kan.training.data import check_dataset
from kan.training.snapshot import round_into_

__all__ = ["auto_symbolic_", "auto_symbolic_in_context_"]


def auto_symbolic_(
    network: Network,
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    lib: Sequence[str] | Mapping[str, Any] | None = None,
    verbose: int = 1,
    weight_simple: float = 0.8,
    r2_threshold: float = 0.0,
) -> None:
    """Replace every numeric edge by its best function, in place, judged on the activations of the last input.

    Args:
        network: changed in place.
        a_range, b_range: where the search for ``a`` and ``b`` starts.
        lib: names of the functions to choose from; the whole library when not given.
        verbose: 1 prints a line per edge, 0 only what is left out or dead.
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
    for edge in edges:
        l, i, j = edge
        where = f"({l},{i},{j})"
        if edge not in best:
            if symbolic[l][j][i] != 0:
                print(f"skipping {where} since already symbolic")
                continue
            network.symbolic_layers[l].set_function(i, j, "0")
            set_mode_(network, l, i, j, "s")
            print(f"fixing {where} with 0")
            continue
        found = best[edge]
        if found.r2 < r2_threshold:
            print(
                f"For {where} the best fit was {found.name}, but r^2 = {found.r2} and this is lower than {r2_threshold}. "
                f"This edge was omitted, keep training or try a different threshold."
            )
            continue
        network.symbolic_layers[l].set_function(i, j, found.name, found.function, found.affine)
        set_mode_(network, l, i, j, "s")
        if verbose >= 1:
            print(f"fixing {where} with {found.name}, r2={found.r2}, c={found.complexity}")


def auto_symbolic_in_context_(
    network: Network, dataset: Any, lib: Sequence[str] | Mapping[str, Any] | None = None, verbose: int = 1, time_limit: float = math.inf
) -> None:
    """Replace every numeric edge by a function, in place, judged by what the whole network makes of it; see `kan.discovery.context`.

    All that is left to train, splines and affine maps, is fitted anew. Edges that no function describes stay splines, and are named;
    those of hidden nodes that the others can do without become 0.

    Args:
        network: trained on `dataset`.
        dataset: what `fit` takes; its training samples, or the first batch of them, count.
        lib: names of the functions to choose from; the whole library when not given.
        verbose: 1 prints a line per edge, 0 none.
        time_limit: in seconds; edges that are left then stay splines.

    Raises:
        TypeError, ValueError: for bad data or an unknown function, before anything is changed.
    """
    resolve_library(lib)
    samples = check_dataset(network, dataset, same_shape=True, exact=True).first
    begun = time.monotonic()
    best = in_context(network, samples.x, samples.y, Search(lib, stop=lambda: time.monotonic() - begun > time_limit))[0]
    for ours, theirs in zip(network.numeric_layers, best.network.numeric_layers, strict=True):
        if ours.grid.shape != theirs.grid.shape:
            ours.set_knots_(theirs.grid.to(ours.grid))
    network.grid = best.network.grid
    for (l, i, j), candidate in sorted(best.found.items()):
        numbers = best.network.symbolic_layers[l].affine[j, i]  # an edge of the zero function is one if it has a constant
        network.symbolic_layers[l].set_function(i, j, candidate.name, candidate.function, numbers)
        if verbose >= 1:
            print(f"fixing ({l},{i},{j}) with {candidate.name}, r2={candidate.r2}, c={candidate.complexity}")
    before = [layer.mask.nonzero().tolist() for layer in network.numeric_layers]
    round_into_(network, best.network)
    network.forget_pass()
    for l, i, j in sorted(best.kept):
        if verbose >= 1:
            print(f"({l},{i},{j}) stays a spline")
    settled = {*best.found, *best.kept}
    for l, i, j in ((l, i, j) for l, live in enumerate(before) for i, j in live if (l, i, j) not in settled):
        network.symbolic_layers[l].set_function(i, j, "0")
        set_mode_(network, l, i, j, "s")
        if verbose >= 1:
            print(f"fixing ({l},{i},{j}) with 0")
