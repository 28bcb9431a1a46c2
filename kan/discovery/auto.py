"""All edges of a network made symbolic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kan.discovery.suggest import Scoring, candidates
from kan.network.network import Network
from kan.surgery.edges import set_mode_

__all__ = ["auto_symbolic_"]


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
