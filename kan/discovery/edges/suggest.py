r"""Symbolic functions for single edges, ranked by accuracy and simplicity.

Each function of a library is fitted to the curve of the edge. The candidates are ranked by pykan's total loss (`Scoring`),

    ``weight_simple * complexity + (1 - weight_simple) * log2(1 + 1e-5 - r2)``,

or by the length of the description of the curve (`DescriptionLength`). The network is not changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kan.modes import threads
from kan.network.network import Network
from kan.network.trace import Trace
from kan.output import say
from kan.surgery.edges import edge_index
from kan.symbolic.affine_fit import fit_affine
from kan.symbolic.families import Family
from kan.symbolic.family_fit import fit_family
from kan.symbolic.library import SymbolicFunction, resolve_library

__all__ = ["Candidate", "DescriptionLength", "Scoring", "candidates", "fitted_candidates", "suggest_symbolic", "table"]

MAX_TIED_R2_DIFFERENCE = 1e-6
"""Largest difference of r2 between two functions of equal complexity that counts as none."""

MIN_DISTINGUISHING_BITS = 7.0
"""Difference of the data terms of two functions, in bits, above which the data distinguish them; it means odds of about 100 to 1."""

MAX_SINGLE_THREAD_WORK = 2**19
"""Number of samples of all curves, times the number of functions, up to which a fit with one thread is faster than with several."""

MAX_SAMPLES_PER_FIT = 2**24
"""Largest number of samples of all edges that are fitted in one call, which bounds the memory."""


def _r2_loss(r2: float) -> float:
    return math.log2(1 + 1e-5 - min(r2, 1.0))


def _identity(complexity: float) -> float:
    return complexity


@dataclass(frozen=True)
class Scoring:
    """The total loss of a candidate, a weighted sum of a loss of its r2 and a loss of its complexity.

    Attributes:
        weight_simple: weight of the loss of the complexity, between 0 and 1; the other loss has the rest.
        r2_loss_fun: loss as a function of r2.
        c_loss_fun: loss as a function of the complexity.
    """

    weight_simple: float = 0.8
    r2_loss_fun: Callable[[Any], Any] = _r2_loss
    c_loss_fun: Callable[[Any], Any] = _identity

    def __post_init__(self) -> None:
        if not 0 <= self.weight_simple <= 1:
            raise ValueError(f"weight_simple must be between 0 and 1; got {self.weight_simple}.")


@dataclass(frozen=True)
class DescriptionLength:
    r"""The description length of a curve: bits for the residuals, for the function, and for its constants.

    .. math:: \tfrac N2 \log_2 \frac{\mathrm{RSS}/N + \sigma^2}{s^2} + \kappa\,C + \tfrac k2 \log_2 N

    Here N is the number of samples, s the standard deviation of the curve, C the complexity of the function and k the number of its
    constants that are not redundant.

    Attributes:
        noise: :math:`\sigma`, the error of the curve itself, in its units. Fits with smaller residuals count as equally good. When not
            given, it is the round-off of the values. It need not cover the noise in the data.
        complexity_bits: :math:`\kappa`, the bits for one unit of complexity.
    """

    noise: float | None = None
    complexity_bits: float = 2.0

    def __post_init__(self) -> None:
        if self.noise is not None and not (self.noise >= 0 and math.isfinite(self.noise)):
            raise ValueError(f"noise must be a standard deviation, at least 0; got {self.noise}.")

    def data_bits(self, deficit: float, y: Tensor) -> float:
        """Bits for the residuals, which is the first term, for ``deficit = RSS / (N s^2)`` and the samples ``y``."""
        spread = float(y.std(correction=0))
        round_off = max(1e-11, 16 * torch.finfo(y.dtype).eps) * float(y.abs().max())
        floor = max(self.noise or 0.0, round_off) / (spread or 1.0)
        return len(y) / 2 * math.log2(deficit + max(floor, 1e-150) ** 2)

    def bits(self, data_bits: float, n: int, complexity: float, constants: int) -> float:
        """The description length for given `data_bits`, `n` samples, and a function with so many `constants`."""
        return data_bits + self.complexity_bits * complexity + constants / 2 * math.log2(n)


@dataclass(frozen=True)
class Candidate:
    """A function ``c f(a x + b) + d`` that has been fitted to the curve of an edge.

    Attributes:
        name, function: the function ``f``.
        affine: the constants ``(a, b, c, d)``.
        r2: coefficient of determination.
        r2_loss, complexity_loss, total: the losses by which candidates are ranked, see `Scoring` and `DescriptionLength`.
        complexity: complexity of the function.
        rss: sum of the squared residuals.
        bits: description length.
        tied: whether the data do not distinguish the function from the best candidate, which precedes it for its simplicity only.
    """

    name: str
    function: SymbolicFunction
    affine: Tensor
    r2: float
    r2_loss: float
    complexity: float
    complexity_loss: float
    total: float
    rss: float = math.nan
    bits: float = math.nan
    tied: bool = False


def candidates(
    trace: Trace,
    edges: Sequence[tuple[int, int, int]],
    lib: str | Sequence[str] | Mapping[str, Any] | None = None,
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    scoring: Scoring | DescriptionLength | None = None,
) -> list[list[Candidate]]:
    """The functions of a library fitted to some edges: for each edge the list of candidates, the best first.

    Args:
        trace: the record of a pass, with the curves of the edges.
        edges: the edges ``(l, i, j)``.
        lib: names of functions, or a dictionary like ``SYMBOLIC_LIB``, or ``"extended"``; all of ``SYMBOLIC_LIB`` when not given.
        a_range, b_range: limits of ``a`` and ``b``. The default (-10, 10) means no limits.
        scoring: how candidates are ranked; `Scoring()` when not given.
    """
    ranked: list[list[Candidate]] = []
    at_once = max(1, MAX_SAMPLES_PER_FIT // max(1, len(trace.layers[0].inputs)))
    for first in range(0, len(edges), at_once):
        some = edges[first : first + at_once]
        x = torch.stack([trace.layers[l].inputs[:, i].detach() for l, i, _ in some], 1)
        y = torch.stack([trace.layers[l].edge(i, j).detach() for l, i, j in some], 1)
        ranked += fitted_candidates(x, y, lib, a_range, b_range, scoring)
    return ranked


def fitted_candidates(
    x: Tensor,
    y: Tensor,
    lib: str | Sequence[str] | Mapping[str, Any] | None = None,
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    scoring: Scoring | DescriptionLength | None = None,
) -> list[list[Candidate]]:
    """The functions of a library fitted to E curves: for each curve the list of candidates, the best first.

    Args:
        x, y: samples of the curves, ``(N, E)`` each.
        lib, a_range, b_range, scoring: as for `candidates`.

    Example:
        >>> x = torch.linspace(0.5, 2, 100, dtype=torch.float64)[:, None]
        >>> best = fitted_candidates(x, 2 * x**0.7, lib="extended", scoring=DescriptionLength())[0][0]
        >>> round(float(best.function.name[2:]), 6), best.tied
        (0.7, True)
    """
    library, scoring = resolve_library(lib), scoring or Scoring()
    length = scoring if isinstance(scoring, DescriptionLength) else DescriptionLength()
    single = {name: entry for name, entry in library.items() if isinstance(entry, SymbolicFunction)}
    place = {name: k for k, name in enumerate(single)}
    with threads(1 if x.numel() * len(library) <= MAX_SINGLE_THREAD_WORK else torch.get_num_threads()):
        fit = fit_affine(x, y, list(single.values()), a_range=a_range, b_range=b_range)
        families = {name: fit_family(entry, x, y) for name, entry in library.items() if isinstance(entry, Family)}

    ranked = []
    for e in range(x.shape[1]):
        curve = y[:, e].detach()
        total = float((curve.double() - curve.double().mean()).square().sum())
        data_bits, found = {}, []
        for name, entry in library.items():
            if isinstance(entry, Family):
                rows, affines, deficits = families[name]
                function: SymbolicFunction = rows[e]
                affine, deficit, constants = affines[e], float(deficits[e]), entry.free
                name = function.name
            else:
                k = place[name]
                function, affine, deficit, constants = entry, fit.affine[k, e], float(fit.deficit[k, e]), free_parameters(entry)
            complexity = entry.complexity
            r2 = min(max(1 - deficit, 0.0), 1.0)
            data_bits[name] = length.data_bits(deficit, curve)
            bits = length.bits(data_bits[name], len(curve), complexity, constants)
            if isinstance(scoring, DescriptionLength):
                losses, score = (data_bits[name], bits - data_bits[name]), bits
            else:
                losses = float(scoring.r2_loss_fun(r2)), float(scoring.c_loss_fun(complexity))
                score = scoring.weight_simple * losses[1] + (1 - scoring.weight_simple) * losses[0]
            found.append(Candidate(name, function, affine, r2, losses[0], complexity, losses[1], score, deficit * total, bits))
        found = _ranked_by_bits(found) if isinstance(scoring, DescriptionLength) else _ranked_by_total(found)
        ranked.append([replace(c, tied=data_bits[c.name] - data_bits[found[0].name] < MIN_DISTINGUISHING_BITS) for c in found])
    return ranked


def _ranked_by_bits(found: list[Candidate]) -> list[Candidate]:
    """Candidates in the order of their description lengths.

    Sine and cosine fit equally well to round-off. Among candidates as good as the best one, the first of the library therefore leads.
    """
    ranked = sorted(found, key=lambda candidate: candidate.bits)
    first = next(candidate for candidate in found if candidate.bits < ranked[0].bits + 1e-2)
    return [first, *(candidate for candidate in ranked if candidate is not first)]


def _ranked_by_total(found: list[Candidate]) -> list[Candidate]:
    """Candidates in the order of their total losses.

    Among candidates of the complexity of the best one and practically the same r2, the one with the fewest free parameters leads. For
    example, a sine of small slope approximates a parabola to any accuracy, and may have the larger r2 by a negligible amount.
    """
    ranked = sorted(found, key=lambda candidate: candidate.total)
    best = ranked[0]
    equal = [c for c in ranked if c.complexity == best.complexity and abs(c.r2 - best.r2) <= MAX_TIED_R2_DIFFERENCE]
    first = min(equal, key=lambda candidate: free_parameters(candidate.function))
    return [first, *(candidate for candidate in ranked if candidate is not first)]


def free_parameters(function: SymbolicFunction) -> int:
    """Number of the constants ``(a, b, c, d)`` that are not made redundant by symmetries of the function."""
    if function.name == "0":
        return 1
    return 4 - (function.symmetries.scaling is not None) - (function.symmetries.translation is not None)


def suggest_symbolic(
    network: Network,
    edge: tuple[int, int, int],
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    lib: str | Sequence[str] | Mapping[str, Any] | None = None,
    topk: int = 5,
    verbose: bool = True,
    scoring: Scoring | DescriptionLength | None = None,
) -> Candidate:
    """The best function for one edge on the network's last input.

    Args:
        network: a network that has seen data.
        edge: the edge ``(l, i, j)``.
        a_range, b_range, lib, scoring: as for `candidates`.
        topk: number of candidates in the table.
        verbose: print a table of the best candidates.
    """
    edge = edge_index(network, *edge)
    ranked = candidates(network.trace(), [edge], lib, a_range, b_range, scoring)[0]
    if verbose:
        say(table(ranked[:topk]))
    return ranked[0]


def table(ranked: Sequence[Candidate]) -> str:
    """Candidates as a text table in the layout that pandas gives pykan's: columns of numbers leave room for a sign."""
    head = ["", "function", " fitting r2", " r2 loss", " complexity", " complexity loss", " total loss"]
    rows = [
        [str(n), c.name, f"{c.r2: .6f}", f"{c.r2_loss: .6f}", f"{c.complexity: g}", f"{c.complexity_loss: g}", f"{c.total: .6f}"]
        for n, c in enumerate(ranked)
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows])
