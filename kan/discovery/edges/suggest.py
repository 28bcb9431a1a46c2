r"""Which symbolic function is an edge? Candidates by fit and simplicity.

    ``total = weight_simple * complexity + (1 - weight_simple) * log2(1 + 1e-5 - r2)``,  lower is better,

as pykan has it (`Scoring`), or by the bits that the data take when the function is told first (`DescriptionLength`).

Functions here look at a network and change nothing.
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

INDISTINGUISHABLE = 1e-6
"""Difference of r2 that says nothing about which function it is."""

TIED_BITS = 7.0
"""Bits that the fits of two functions must differ by before the data can tell them apart: odds of about 100 to 1."""

LITTLE = 2**19
"""Samples of all curves times functions up to which one thread is quicker than several."""

EDGE_ELEMENTS = 2**24
"""Most samples of all edges that are fitted at a time."""


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
class DescriptionLength:
    r"""Bits to tell a curve by telling a function, its constants and the residuals.

    .. math:: \tfrac N2 \log_2 \frac{\mathrm{RSS}/N + \sigma^2}{s^2} + \kappa\,C + \tfrac k2 \log_2 N

    with s the standard deviation of the curve, C the complexity and k the number of constants that matter.

    Attributes:
        noise: :math:`\sigma`, what the curve may be off by, in its own units: fits that are better than that are equally good. Without it,
            round-off; the noise in the data need not be known.
        complexity_bits: :math:`\kappa`.
    """

    noise: float | None = None
    complexity_bits: float = 2.0

    def __post_init__(self) -> None:
        if self.noise is not None and not (self.noise >= 0 and math.isfinite(self.noise)):
            raise ValueError(f"noise must be a standard deviation, at least 0; got {self.noise}.")

    def data_bits(self, deficit: float, y: Tensor) -> float:
        """The first term, for ``deficit = RSS / (N s^2)`` and the samples ``y``."""
        spread = float(y.std(correction=0))
        round_off = max(1e-11, 16 * torch.finfo(y.dtype).eps) * float(y.abs().max())
        floor = max(self.noise or 0.0, round_off) / (spread or 1.0)
        return len(y) / 2 * math.log2(deficit + max(floor, 1e-150) ** 2)

    def bits(self, data_bits: float, n: int, complexity: float, constants: int) -> float:
        """All terms."""
        return data_bits + self.complexity_bits * complexity + constants / 2 * math.log2(n)


@dataclass(frozen=True)
class Candidate:
    """A function on an edge: ``c f(a x + b) + d`` with its r2 and its scores.

    ``rss`` is the sum of squared residuals, ``bits`` the description length, and ``tied`` tells that the data do not tell the function
    from the best one, which then is the best for its simplicity only.
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
    """For each of some edges all functions of a library, the best first.

    Args:
        trace: with the activations to fit to.
        edges: ``(l, i, j)`` each.
        lib: names, or a dictionary like ``SYMBOLIC_LIB``, or ``"extended"``, or None for all of ``SYMBOLIC_LIB``.
        a_range, b_range: limits of ``a`` and ``b``; (-10, 10) stands for none.
        scoring: how candidates are ranked.
    """
    ranked: list[list[Candidate]] = []
    several = max(1, EDGE_ELEMENTS // max(1, len(trace.layers[0].inputs)))
    for first in range(0, len(edges), several):
        some = edges[first : first + several]
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
    """For each of some curves, x and y of shape (N, E), all functions of a library, the best first; see `candidates`.

    Example:
        >>> x = torch.linspace(0.5, 2, 100, dtype=torch.float64)[:, None]
        >>> best = fitted_candidates(x, 2 * x**0.7, lib="extended", scoring=DescriptionLength())[0][0]
        >>> round(float(best.function.name[2:]), 6), best.tied
        (0.7, True)
    """
    library, scoring = resolve_library(lib), scoring or Scoring()
    length = scoring if isinstance(scoring, DescriptionLength) else DescriptionLength()
    plain = {name: entry for name, entry in library.items() if isinstance(entry, SymbolicFunction)}
    place = {name: k for k, name in enumerate(plain)}
    with threads(1 if x.numel() * len(library) <= LITTLE else torch.get_num_threads()):
        fit = fit_affine(x, y, list(plain.values()), a_range=a_range, b_range=b_range)
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
        found = _shortest(found) if isinstance(scoring, DescriptionLength) else _ranked(found)
        ranked.append([replace(c, tied=data_bits[c.name] - data_bits[found[0].name] < TIED_BITS) for c in found])
    return ranked


def _shortest(found: list[Candidate]) -> list[Candidate]:
    """By bits; of a sine and a cosine, which are the same to round-off, the one that the library has first."""
    ranked = sorted(found, key=lambda candidate: candidate.bits)
    first = next(candidate for candidate in found if candidate.bits < ranked[0].bits + 1e-2)
    return [first, *(candidate for candidate in ranked if candidate is not first)]


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
    if function.name == "0":
        return 1
    return 4 - (function.symmetries.scaling is not None) - (function.symmetries.translation is not None)


def suggest_symbolic(
    network: Network,
    l: int,
    i: int,
    j: int,
    a_range: tuple[float, float] = (-10, 10),
    b_range: tuple[float, float] = (-10, 10),
    lib: str | Sequence[str] | Mapping[str, Any] | None = None,
    topk: int = 5,
    verbose: bool = True,
    scoring: Scoring | DescriptionLength | None = None,
) -> Candidate:
    """The best function for one edge, judged on the network's last input; prints the `topk` best if `verbose`."""
    edge = edge_index(network, l, i, j)
    ranked = candidates(network.trace(), [edge], lib, a_range, b_range, scoring)[0]
    if verbose:
        say(table(ranked[:topk]))
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
