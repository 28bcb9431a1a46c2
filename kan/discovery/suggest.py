r"""Which symbolic function is an edge? Candidates by fit and simplicity.

    ``total = weight_simple * complexity + (1 - weight_simple) * log2(1 + 1e-5 - r2)``,  lower is better.

Functions here look at a network and change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kan.network.network import Network
from kan.network.trace import Trace
from kan.surgery.edges import edge_index
from kan.symbolic.affine_fit import fit_affine
from kan.symbolic.library import SymbolicFunction, resolve_library

__all__ = ["Candidate", "Scoring", "candidates", "suggest_symbolic", "table"]

INDISTINGUISHABLE = 1e-6
"""Difference of r2 that says nothing about which function it is."""


def _r2_loss(r2: float) -> float:
    return math.log2(1 + 1e-5 - min(r2, 1.0))


def _identity(complexity: float) -> float:
    return complexity


@dataclass(frozen=True)
class Scoring:
    """How fit and complexity are weighed.

    Attributes:
        weight_simple: weight of the complexity, between 0 and 1.
        r2_loss_fun: of r2.
        c_loss_fun: of the complexity.
    """

    weight_simple: float = 0.8
    r2_loss_fun: Callable[[Any], Any] = _r2_loss
    c_loss_fun: Callable[[Any], Any] = _identity

    def __post_init__(self) -> None:
        if not 0 <= self.weight_simple <= 1:
            raise ValueError(f"weight_simple must be between 0 and 1; got {self.weight_simple}.")


@dataclass(frozen=True)
class Candidate:
    """A function on an edge: ``c f(a x + b) + d`` with its r2 and its scores."""

    name: str
    function: SymbolicFunction
    affine: Tensor
    r2: float
    r2_loss: float
    complexity: float
    complexity_loss: float
    total: float


def candidates(
    trace: Trace,
    edges: Sequence[tuple[int, int, int]],
    lib: Sequence[str] | Mapping[str, Any] | None = None,
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    scoring: Scoring | None = None,
) -> list[list[Candidate]]:
    """For each of some edges all functions of a library, the best first.

    Args:
        trace: with the activations to fit to.
        edges: ``(l, i, j)`` each.
        lib: names, or a dictionary like ``SYMBOLIC_LIB``, or None for all of it.
        a_range, b_range: where the search for ``a`` and ``b`` starts.
        scoring: how candidates are ranked.
    """
    library, scoring = resolve_library(lib), scoring or Scoring()
    ranked = []
    for l, i, j in edges:
        layer = trace.layers[l]
        fit = fit_affine(
            layer.inputs[:, [i]].detach(), layer.edge(i, j)[:, None].detach(), list(library.values()), a_range=a_range, b_range=b_range
        )
        found = []
        for n, (name, function) in enumerate(library.items()):
            r2 = float(fit.r2[n, 0])
            losses = float(scoring.r2_loss_fun(r2)), float(scoring.c_loss_fun(function.complexity))
            total = scoring.weight_simple * losses[1] + (1 - scoring.weight_simple) * losses[0]
            found.append(Candidate(name, function, fit.affine[n, 0], r2, losses[0], function.complexity, losses[1], total))
        ranked.append(_ranked(found))
    return ranked


def _ranked(found: list[Candidate]) -> list[Candidate]:
    """By total; among equals of the best, the function with the fewest free parameters first.

    Equal are functions of the same complexity that fit the curve equally well. A sine of small slope is a parabola to any accuracy,
    so its r2 may well be the larger one by a hair; the parabola has one number less to tune.
    """
    ranked = sorted(found, key=lambda candidate: candidate.total)
    best = ranked[0]
    equal = [c for c in ranked if c.complexity == best.complexity and abs(c.r2 - best.r2) <= INDISTINGUISHABLE]
    first = min(equal, key=lambda candidate: free_parameters(candidate.function))
    return [first, *(candidate for candidate in ranked if candidate is not first)]


def free_parameters(function: SymbolicFunction) -> int:
    """How many of ``(a, b, c, d)`` matter: symmetries of the function make others redundant."""
    return 4 - (function.symmetries.scaling is not None) - (function.symmetries.translation is not None)


def suggest_symbolic(
    network: Network,
    l: int,
    i: int,
    j: int,
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    lib: Sequence[str] | Mapping[str, Any] | None = None,
    topk: int = 5,
    verbose: bool = True,
    scoring: Scoring | None = None,
) -> Candidate:
    """The best function for one edge, judged on the network's last input; prints the `topk` best if `verbose`."""
    edge = edge_index(network, l, i, j)
    ranked = candidates(network.trace(), [edge], lib, a_range, b_range, scoring)[0]
    if verbose:
        print(table(ranked[:topk]))
    return ranked[0]


def table(ranked: Sequence[Candidate]) -> str:
    """Candidates as a text table, set as pandas sets pykan's: before a column of numbers there is room for a sign."""
    head = ["", "function", " fitting r2", " r2 loss", " complexity", " complexity loss", " total loss"]
    rows = [
        [str(n), c.name, f"{c.r2: .6f}", f"{c.r2_loss: .6f}", f"{c.complexity: g}", f"{c.complexity_loss: g}", f"{c.total: .6f}"]
        for n, c in enumerate(ranked)
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows])
