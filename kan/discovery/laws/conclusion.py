"""The end of a search: simple candidates are added, and all candidates get their verdicts and are sorted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import sympy
import torch

from kan.discovery.laws.candidates import Evaluator, Law, distinct
from kan.discovery.laws.verdict import MIN_EXPLAINED, NOISE_ROWS, VERDICTS, VerdictRows, compare
from kan.discovery.reduction.views import linear_fit
from kan.network.network import Network
from kan.training.fit import fit
from kan.training.options import FitOptions

__all__ = ["conclude"]

UNEXPLAINED_REST = "the rows that the search did not work on are not explained"
"""Remark on a law that is exact on the rows that the search worked on, but not on all rows."""
ADDITIVE_STEPS = 5
"""Number of Levenberg-Marquardt steps of an additive network."""
GRIDS = (3, 10)
"""Numbers of grid intervals of the additive networks that are tried."""
ROWS_PER_COEFFICIENT = 3
"""Number of fitted rows that an additive network needs for each of its coefficients; with fewer it is not tried."""


def conclude(found: Sequence[Law], evaluator: Evaluator, every: VerdictRows, most: int = NOISE_ROWS) -> tuple[list[Law], float]:
    """The candidates with their verdicts, the best first, and the noise floor.

    The mean is always added as a candidate. If no law settled the search, a linear law is added, and so is an additive network of splines
    unless the search found a network.

    Args:
        found: the candidates of the search.
        evaluator: the evaluator of the search, with the rows that the search works on.
        every: all rows; an exact law must explain these, too.
        most: largest number of rows from which the noise is estimated.
    """
    laws = [*found, *_default_candidates(evaluator, any(law.settled for law in found), any(law.formula is None for law in found))]
    laws = distinct(laws)
    rows = evaluator.rows
    assert rows is not None, "verdicts are about the rows that a law is looked for in"
    inside = {symbol: inner for inner, symbol in evaluator.names.items()}
    formulas = [(law.formula.xreplace(inside), law.constants) for law in laws if law.formula is not None]
    explained = [(formula, rows.explained(formula, constants)) for formula, constants in formulas]
    findings, floor = compare(rows, explained, evaluator.given_noise, most)
    known = iter(findings)
    judged = []
    for law in laws:
        if law.formula is None:
            judged.append(replace(law, excess=max(1.0, law.held_out / floor) if floor > 0 else math.nan))
        else:
            finding = next(known)
            if every is not rows and finding.verdict in ("exact", "untested") and every.share(law.formula.xreplace(inside)) < MIN_EXPLAINED:
                finding = finding._replace(verdict="approximate", remarks=(UNEXPLAINED_REST,))
            judged.append(replace(law, verdict=finding.verdict, excess=finding.excess, remarks=finding.remarks))
    return sorted(judged, key=lambda law: (VERDICTS.index(law.verdict), law.bits)), floor


def _default_candidates(evaluator: Evaluator, settled: bool, splines: bool) -> list[Law]:
    """The candidates that are added to those of the search.

    These are the mean and, unless a law `settled` the search, a linear law and, unless there are `splines` already, an additive network.
    """
    root = evaluator.root
    mean = sympy.Float(float(root.y.mean()), 17)
    candidates: list[Law | None] = [evaluator.candidate(mean, math.inf)]
    if not settled and root.symbols:
        candidates.append(evaluator.candidate(linear_fit(root)[0], math.inf))
        candidates += [] if splines else [_additive(evaluator)]
    return [law for law in candidates if law is not None]


def _additive(evaluator: Evaluator) -> Law | None:
    """The additive network with the smallest held-out error, among those with `GRIDS` intervals; None if there are too few rows."""
    root = evaluator.root
    best: Law | None = None
    for grid in GRIDS:
        network = Network([root.x.shape[1], 1], grid=grid, seed=0).double()
        coefficients = root.x.shape[1] * (grid + 3)
        if len(root.y) < ROWS_PER_COEFFICIENT * coefficients or not len(root.held_y):
            break
        network.update_grid(root.x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(network, (root.x, root.y), FitOptions("LM", steps=ADDITIVE_STEPS, progress=False))
        with torch.no_grad():
            mean_square = float((network.trace(root.x).output - root.y).square().mean())
        data_bits = 0.5 * len(root.y) * math.log2(mean_square + (1e-13 * evaluator.scale) ** 2 + 1e-300)
        bits = data_bits + 0.5 * coefficients * math.log2(len(root.y))
        law = evaluator.spline(network, bits)
        if math.isfinite(law.held_out) and (best is None or law.held_out < best.held_out):
            best = law
    return best
