r"""Candidates for a law, evaluated on the data that the search began with.

The constants of a formula are fitted to these data and made exact where the data allow it (`kan.discovery.formulas.constants`). Single
outliers are left out of the fit, and where labels differ by orders of magnitude the last fit minimises relative errors. The rows that a
candidate explains to round-off are determined at once (`kan.discovery.laws.verdict`). Residuals are compared with the noise once all
candidates are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, repeat

import sympy
import torch
from torch import Tensor

from kan.discovery.formulas.compiler import compiled
from kan.discovery.formulas.constants import Constant, Fitted, complexity, fit_constants, is_finite, snap_constants
from kan.discovery.formulas.rounding import DIGITS, as_text, shown
from kan.discovery.formulas.shortening import drop_terms
from kan.discovery.formulas.simplification import simplified
from kan.discovery.laws.residual_test import CLIP, robust_scale
from kan.discovery.laws.verdict import MIN_EXPLAINED, Explained, VerdictRows
from kan.discovery.reduction.views import View
from kan.network.network import Network
from kan.symbolic.evaluation import evaluate_expression
from kan.symbolic.latex import latex

__all__ = ["BITS_PER_NODE", "ROUND_OFF_ERROR", "Constant", "Evaluator", "Law", "complexity", "distinct", "rmse"]

ROUND_OFF_ERROR = 1e-10
"""Error, as a share of the labels' size (`Evaluator.scale`), below which it may be round-off, and sympy's slower methods are tried."""
MAX_OUTLIER_SHARE = 0.05
"""Largest share of the fitted rows that a fit may leave out as outliers."""
MAX_OUTLIER_FITS = 3
"""Largest number of times that a fit is repeated without the outliers of the previous one."""
MAX_SCALE_RATIO = 0.2
"""Ratio of the robust to the plain standard deviation of the residuals below which the error of a candidate is due to outliers."""
MAX_ERROR_BEFORE_RELATIVE_FIT = 1e-6
"""Error, as a share of the labels' size (`Evaluator.scale`), below which a fit to labels that differ by orders of magnitude is repeated
with relative errors."""
FIT_EVALUATIONS = 30
"""Largest number of evaluations in a fit of the constants of a candidate."""
MAX_RATIO_TO_LEAST_ERROR = 3
"""Ratio of the error of a candidate to the least error known, above which it is not the law, and its constants are not made exact."""
MAX_GIVEN_NOISE_RATIO = 1.15
"""Ratio of the held-out error to a noise that the user gave, up to which a candidate settles the search."""
MAX_TRIALS = 120
"""Largest number of trials to make the constants of a formula exact whose error is larger than round-off."""
SIMPLIFY_SECONDS = 5.0
"""Time in seconds that ``sympy.simplify`` may take for an exact law."""
MAX_NODES = 80
"""Complexity of a formula above which no shorter form of it is looked for."""
NODES_PER_FUNCTION = 3
"""Number of nodes that a function counts in addition to its own when forms of a formula are compared. A function has a domain, and a form
without it has the same values at more points."""
BITS_PER_NODE = 3
"""Length of the description of a node of a formula, in bits."""
FORMS: tuple[Callable[[sympy.Expr], sympy.Expr], ...] = (
    sympy.expand, sympy.factor_terms, sympy.powsimp, sympy.together, sympy.expand_trig,
    lambda e: sympy.expand_log(sympy.expand(e), force=True),
)  # fmt: skip
"""Changes of the form of a formula; the shortest form is kept."""
ALGEBRA: tuple[Callable[[sympy.Expr], sympy.Expr], ...] = (sympy.factor, sympy.cancel)
"""Changes of form by polynomial algebra, for exact laws only: with numbers of many digits they may take minutes."""
JOINED_FORMS: tuple[Callable[[sympy.Expr], sympy.Expr], ...] = (
    lambda e: sympy.powsimp(e, combine="base", force=True),
    lambda e: sympy.logcombine(e, force=True),
    lambda e: _inverted_logarithms(sympy.powsimp(e, combine="base", force=True)),
)
"""Changes of form that join roots and logarithms."""


@dataclass(frozen=True, repr=False)
class Law:
    """One candidate. Printed, its formula has six significant digits; `formula` has them all.

    Attributes:
        formula: the formula in the symbols of the variables; None if edges stayed splines.
        verdict: ``"exact"``, ``"within noise"``, ``"untested"``, ``"approximate"``, ``"none"`` or ``"spline"``, see
            `kan.discovery.laws.verdict`.
        rmse: root mean squared error on the fitted rows.
        held_out: root mean squared error on the held-out rows, which no fit uses.
        extrapolated: root mean squared error on the outermost rows, which no fit uses either.
        complexity: number of operations, variables and constants of the formula.
        constants: the constants that are not exact.
        bits: length of the description of formula and errors, in bits.
        variables: symbols of the variables.
        trained: the network whose edges stayed splines, or from which the formula was read; its inputs may be functions of the variables.
        excess: error as a multiple of the noise floor that is estimated from the data, 1 or more; NaN if it was not compared.
        explained: share of all rows, or of all different rows if that is less, that it explains to round-off.
        relative: median relative error if labels differ by orders of magnitude, None otherwise.
        remarks: sentences that say why the verdict is no better.
        settled: whether the search for a law of these data may end with it.
    """

    formula: sympy.Expr | None
    verdict: str
    rmse: float
    held_out: float
    extrapolated: float
    complexity: int
    constants: tuple[Constant, ...]
    bits: float
    variables: tuple[sympy.Symbol, ...] = field(default=(), repr=False)
    trained: Network | None = field(default=None, repr=False)
    excess: float = math.nan
    explained: float = math.nan
    relative: float | None = None
    remarks: tuple[str, ...] = ()
    settled: bool = field(default=False, repr=False)

    @cached_property
    def network(self) -> Network:
        """The network that is compiled from the formula, or the trained network if there is no formula."""
        if self.formula is None:
            assert self.trained is not None
            return self.trained
        return compiled(lambda width, arity: Network(width, grid=1, mult_arity=arity).double(), self.variables, self.formula)

    def latex(self, digits: int = DIGITS) -> str:
        """The formula in LaTeX with `digits` significant digits, see `kan.symbolic.latex`; a network without a formula in words."""
        return rf"\text{{{self._what()}}}" if self.formula is None else latex(shown(self.formula, digits))

    def _what(self) -> str:
        """The formula, or the width of the network, as text."""
        return f"a spline network {self.network.width}" if self.formula is None else as_text(shown(self.formula))

    def __repr__(self) -> str:
        verdict = self.verdict
        if verdict == "approximate" and self.excess >= 1:
            times = "a little more than" if self.excess < 1.1 else f"{self.excess:.2g} x" if self.excess < 1e6 else "far more than"
            verdict += f", {times} the noise"
        if 0.5 < self.explained < 1:
            verdict += f", {math.floor(1000 * self.explained) / 10:g} % of the rows to round-off"
        error = f"rmse {self.held_out:.2g}" if self.relative is None else f"median relative error {self.relative:.2g}"
        if self.extrapolated > 3 * max(self.held_out, self.rmse):
            error += f", {self.extrapolated:.2g} on the outermost rows"
        return f"{self._what()}   ({'; '.join((verdict, *self.remarks))}, {error}, complexity {self.complexity})"


@dataclass(frozen=True)
class Evaluator:
    """Makes candidates from formulas and networks, and measures their errors on the data.

    Attributes:
        root: the data without the outermost rows.
        outermost: variables and labels of the outermost rows, which no fit uses.
        names: the user's symbols, by those of the search.
        scale: size of the labels, with which the errors of fits are compared.
        given_noise: standard deviation of the errors of the labels, if it is known.
        late: whether the time is up.
        make_exact: whether constants are made exact and the shortest form is looked for. They are not for parts of a law, whose labels
            have errors.
        rows: all rows, on which the verdict is based; None for a part of a law.
        known: candidates with errors that were made before, by error, complexity, and whether their constants were made exact.
    """

    root: View
    outermost: tuple[Tensor, Tensor]
    names: Mapping[sympy.Symbol, sympy.Symbol]
    scale: float
    given_noise: float | None
    late: Callable[[], bool]
    make_exact: bool = True
    rows: VerdictRows | None = None
    known: dict[tuple[str, int, bool], Law | None] = field(default_factory=dict)

    def candidate(self, formula: sympy.Expr, least: float, network: Network | None = None) -> Law | None:
        """The candidate that a formula leads to, or None if the formula has no finite real values.

        Args:
            formula: in the symbols of the search, with constants to start from.
            least: the smallest error known of such formulas, as a share of the labels' size; see `MAX_RATIO_TO_LEAST_ERROR`.
            network: the network that the formula was read from, if any.
        """
        if not is_finite(formula):  # constants beyond the range of floating-point numbers
            return None
        root, formula = self.root, _with_exponentials_factored(formula)
        try:
            fitted, weights, dropped = self._refitted(fit_constants(formula, root.symbols, root.x, root.y, evaluations=FIT_EVALUATIONS))
        except (ValueError, OverflowError):  # numbers that turn out not to be real when they are evaluated
            return None
        close = fitted.rmse <= max(MAX_RATIO_TO_LEAST_ERROR * least, ROUND_OFF_ERROR) * self.scale
        if fitted.rmse <= ROUND_OFF_ERROR * self.scale or network is not None:
            return self._of_fit(fitted, close, network, weights, dropped)
        key = f"{fitted.rss:.6e}", complexity(formula), close  # several steps lead to the same formula
        if key not in self.known:
            self.known[key] = self._of_fit(fitted, close, None, weights, dropped)
        return self.known[key]

    def _of_fit(self, fitted: Fitted, close: bool, network: Network | None, weights: Tensor | None, dropped: float) -> Law | None:
        """The candidate that a fitted formula leads to; None if it has no finite error.

        Args:
            fitted: the fit.
            close: whether the error is small enough to drop terms and to make constants exact.
            network: the network that the formula was read from, if any.
            weights: weights of the fitted rows, see `_refitted`.
            dropped: cost of the outliers in bits, see `_refitted`.
        """
        root = self.root
        if close:
            trials = count() if fitted.rmse > ROUND_OFF_ERROR * self.scale else repeat(0)

            def stop() -> bool:
                return next(trials) > MAX_TRIALS or self.late()

            fitted = drop_terms(fitted, root.symbols, root.x, root.y, stop=stop, weights=weights)
            if self.make_exact:
                fitted = snap_constants(fitted, root.symbols, root.x, root.y, stop=stop, weights=weights)
        error, held_out = self._error(fitted.formula, root.x, root.y), self._error(fitted.formula, root.held_x, root.held_y)
        if not math.isfinite(error) or (len(root.held_y) and not math.isfinite(held_out)):
            return None
        constants = tuple(Constant(value, fitted.errors[symbol]) for symbol, value in fitted.constants.items())
        explained = None if self.rows is None else self.rows.explained(fitted.formula, constants)
        exact = explained is not None and explained.share >= MIN_EXPLAINED
        determined = exact and explained is not None and explained.determined
        formula = fitted.formula
        if self.make_exact:
            formula = self.simplest(formula, held_out, exact or self._is_round_off(error, held_out))
        outside = self._error(fitted.formula, *self.outermost)
        return Law(
            formula, _first_verdict(explained), error, held_out, outside, complexity(formula), constants,
            fitted.bits + dropped + BITS_PER_NODE * _written(formula), tuple(self.names.values()), network,
            explained=math.nan if explained is None else explained.share,
            relative=explained.relative if explained is not None and self.rows is not None and self.rows.labels_span_decades else None,
            settled=determined or (self.rows is None and self._is_round_off(error, held_out)) or self._within_given_noise(fitted, held_out),
        )  # fmt: skip

    def _refitted(self, fitted: Fitted) -> tuple[Fitted, Tensor | None, float]:
        """The fit, repeated without single outliers or with relative errors where that is called for.

        If labels differ by orders of magnitude, the fit is repeated with relative errors, provided that its error is below
        `MAX_ERROR_BEFORE_RELATIVE_FIT`. For all other labels it is repeated without outliers, up to three times, as long as at
        most `MAX_OUTLIER_SHARE` of the rows cause most of the error.

        Returns:
            The fit, the weights of the rows in it, ``(N,)`` or None, and the cost of the outliers in bits.
        """
        root, labels = self.root, self.root.y.flatten()
        weights: Tensor | None = None
        cost = 0.0
        decades = self.rows is not None and self.rows.labels_span_decades
        for _ in range(0 if decades else MAX_OUTLIER_FITS):
            residuals = labels - self._values(fitted.formula, root.x, root.y)
            scale = robust_scale(residuals.numpy())
            outliers = ~(residuals.abs() <= CLIP * scale)
            number, error = int(outliers.sum()), float(residuals.square().mean().sqrt())
            due_to_outliers = 0 < number <= MAX_OUTLIER_SHARE * len(labels) and scale < MAX_SCALE_RATIO * error
            if error <= ROUND_OFF_ERROR * self.scale or not due_to_outliers:
                break
            weights = (~outliers).double()
            fitted = fit_constants(
                fitted.template, root.symbols, root.x, root.y, start=fitted.constants, exact_bits=fitted.exact_bits,
                evaluations=FIT_EVALUATIONS, weights=weights,
            )  # fmt: skip
            cost = number * (math.log2(len(labels)) + math.log2(self.scale / max(fitted.rmse, 1e-13 * self.scale)))
        if decades and fitted.rmse < MAX_ERROR_BEFORE_RELATIVE_FIT * self.scale:
            # In units of the median label, so that lengths of descriptions stay comparable.
            middle = float(labels[labels != 0].abs().median())
            weights = middle / labels.abs().clamp_min(1e-3 * middle)
            fitted = fit_constants(
                fitted.template, root.symbols, root.x, root.y, start=fitted.constants, exact_bits=fitted.exact_bits, weights=weights
            )
        return fitted, weights, cost

    def spline(self, network: Network, bits: float) -> Law:
        """The candidate that is a network of the variables themselves, whose edges are not all symbolic."""
        root = self.root
        error, held_out, outside = (rmse(network, *data) for data in ((root.x, root.y), (root.held_x, root.held_y), self.outermost))
        parameters = sum(p.numel() for p in network.parameters())
        return Law(None, "spline", error, held_out, outside, parameters, (), bits, tuple(self.names.values()), network)

    def _values(self, formula: sympy.Expr, x: Tensor, like: Tensor) -> Tensor:
        """The values of a formula, ``(N,)``."""
        found = evaluate_expression(formula, dict(zip(self.root.symbols, x.unbind(1), strict=True)), like)
        return found.expand(len(x))

    def _error(self, formula: sympy.Expr, x: Tensor, y: Tensor) -> float:
        """Root mean squared error of a formula; NaN without rows."""
        return float((self._values(formula, x, y) - y.flatten()).square().mean().sqrt())

    def _is_round_off(self, error: float, held_out: float) -> bool:
        """Whether the errors on fitted and on held-out rows are as small as round-off may be."""
        return max(error, 0.0 if math.isnan(held_out) else held_out) <= ROUND_OFF_ERROR * self.scale

    def _within_given_noise(self, fitted: Fitted, held_out: float) -> bool:
        """Whether the noise is given and explains the error of a formula, and the data determine all of its constants."""
        within = self.given_noise is not None and held_out <= MAX_GIVEN_NOISE_RATIO * self.given_noise
        return within and all(math.isfinite(error) for error in fitted.errors.values())

    def simplest(self, formula: sympy.Expr, held_out: float, exact: bool) -> sympy.Expr:
        """The shortest of some forms of a formula that have the same values, in the user's symbols.

        Args:
            formula: the formula in the symbols of the search.
            held_out: its held-out error, by which those of other forms are measured.
            exact: whether the formula is exact, so that slower methods are worth their time.
        """
        forms = [formula]
        for change in (*FORMS, *ALGEBRA) if exact else FORMS:
            if self.late() or complexity(formula) > MAX_NODES:
                break
            with suppress(Exception):  # if sympy fails, the other forms remain
                forms.append(change(formula))
                forms.append(sympy.factor_terms(sympy.powsimp(forms[-1])))
        if exact and not self.late():
            forms += simplified([min(forms, key=_size)], SIMPLIFY_SECONDS, self.late)[0]
        best = self._shortest([form.xreplace(dict(self.names)) for form in forms], held_out)
        # The user's symbols may have either sign, so that sympy does not separate roots and logarithms again after they are joined.
        joined = [best]
        for change in JOINED_FORMS:
            with suppress(Exception):
                joined.append(change(best))
        return self._shortest(joined, held_out)

    def _shortest(self, forms: Sequence[sympy.Expr], held_out: float) -> sympy.Expr:
        """The shortest of the forms that have the same values as the first one at the held-out rows, up to its error there."""
        values = {self.names[symbol]: column for symbol, column in zip(self.root.symbols, self.root.held_x.unbind(1), strict=True)}
        good = [forms[0]]
        for form in forms[1:]:
            with suppress(Exception):
                error = (evaluate_expression(form, values, self.root.held_y) - self.root.held_y.flatten()).square().mean().sqrt()
                if float(error) <= 2 * held_out + ROUND_OFF_ERROR * self.scale:
                    good.append(form)
        return min(good, key=_size)


def _first_verdict(explained: Explained | None) -> str:
    """The verdict on a candidate before it is compared with the others."""
    if explained is None or explained.share < MIN_EXPLAINED:
        return "approximate"
    return "untested" if explained.doubts else "exact"


def _written(formula: sympy.Expr) -> int:
    """Number of nodes of a formula, where numbers that are combined count as one; `Fitted.bits` counts the bits of each number."""
    several = [part for part in formula.args if part.free_symbols]
    return 1 + (len(several) < len(formula.args) and bool(several)) + sum(map(_written, several))


def _size(formula: sympy.Expr) -> int:
    """Length of a form of a formula, see `NODES_PER_FUNCTION`."""
    return complexity(formula) + NODES_PER_FUNCTION * len(formula.atoms(sympy.Function))


def _inverted_logarithms(formula: sympy.Expr) -> sympy.Expr:
    """The formula with ``log(b/a)`` in place of ``-log(a/b)``."""

    def inverted(node: sympy.Mul) -> sympy.Expr:
        logarithm = next(factor for factor in node.args if isinstance(factor, sympy.log))
        return -node / logarithm * sympy.log(1 / logarithm.args[0])

    def is_negative_logarithm(node: sympy.Expr) -> bool:
        return node.is_Mul and node.could_extract_minus_sign() and any(isinstance(factor, sympy.log) for factor in node.args)

    return formula.replace(is_negative_logarithm, inverted)


def _with_exponentials_factored(formula: sympy.Expr) -> sympy.Expr:
    """The formula with ``c exp(u)`` in place of ``exp(u + b)``, since it is ``c`` that may be a simple number."""

    def factored(node: sympy.Expr) -> sympy.Expr:
        constant, rest = node.args[0].as_independent(*node.free_symbols, as_Add=True)
        return sympy.Float(math.exp(float(constant)), 17) * sympy.exp(rest) if abs(float(constant)) < 300 else node

    return formula.replace(lambda node: isinstance(node, sympy.exp) and node.args[0].is_Add, factored)


def rmse(network: Network, x: Tensor, y: Tensor) -> float:
    """Root mean squared error of a network."""
    with torch.no_grad():
        return float((network.trace(x).output - y).square().mean().sqrt())


def distinct(laws: Sequence[Law]) -> list[Law]:
    """The laws without repetitions, the shortest description first; formulas are compared with constants of five digits."""
    seen: set[str] = set()
    different = []
    for law in sorted(laws, key=lambda law: law.bits):
        key = str(law.network.width) if law.formula is None else str(_with_short_constants(law.formula))
        if key not in seen:
            seen.add(key)
            different.append(law)
    return different


def _with_short_constants(formula: sympy.Expr) -> sympy.Expr:
    """The formula with constants rounded to five digits."""
    return formula.xreplace({number: sympy.Float(number, 5) for number in formula.atoms(sympy.Float)})
