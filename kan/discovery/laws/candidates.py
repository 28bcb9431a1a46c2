r"""Candidates for a law, judged on the data that the search began with.

The constants of a formula are fitted to these data and made exact where the data allow it (`kan.discovery.formulas.constants`). Single
outliers are left out of the fit, and where labels differ by orders of magnitude the last fit minimises relative errors. The rows that a
candidate explains to round-off are determined at once (`kan.discovery.laws.verdict`). Residuals are compare with the noise once all
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
from kan.discovery.laws.verdict import MIN_EXPLAINED, Explained, Rows
from kan.discovery.reduction.views import Stage
from kan.network.network import Network
from kan.symbolic.evaluation import evaluate_expression
from kan.symbolic.latex import latex

__all__ = ["ROUND_OFF", "Constant", "Judge", "Law", "complexity", "distinct", "rmse"]

ROUND_OFF = 1e-10
"""Share of the labels' size (`Judge.scale`) below which an error may be round-off, and a candidate is worth sympy's slower methods."""
MAX_OUTLIERS = 0.05
"""Largest share of the fitted rows that a fit may leave out as outliers."""
MAX_SCALE_RATIO = 0.2
"""Ratio of the robust to the plain standard deviation of the residuals below which the error of a candidate is due to outliers."""
MAX_ERROR_BEFORE_RELATIVE_FIT = 1e-6
"""Error, as a share of the labels' size (`Judge.scale`), below which a fit to labels that differ by orders of magnitude is repeated with
relative errors."""

UNSURE = 120
"""Trials to make constants exact of a formula that misses the labels by more than round-off."""
SIMPLIFIED = 5.0
"""Seconds for sympy to find a shorter form of an exact law."""
LARGEST = 80
"""Nodes of formulas that are worth the time to look for a shorter form."""
FUNCTION = 3
"""Nodes that a function counts more when forms of a formula are compare."""
FORMS: tuple[Callable[[sympy.Expr], sympy.Expr], ...] = (
    sympy.expand, sympy.factor_terms, sympy.powsimp, sympy.together, sympy.expand_trig,
    lambda e: sympy.expand_log(sympy.expand(e), force=True),
)  # fmt: skip
ALGEBRA: tuple[Callable[[sympy.Expr], sympy.Expr], ...] = (sympy.factor, sympy.cancel)
"""Of polynomials: with numbers of many digits that may take minutes."""
JOINED: tuple[Callable[[sympy.Expr], sympy.Expr], ...] = (
    lambda e: sympy.powsimp(e, combine="base", force=True),
    lambda e: sympy.logcombine(e, force=True),
    lambda e: _turned(sympy.powsimp(e, combine="base", force=True)),
)


@dataclass(frozen=True, repr=False)
class Law:
    """One candidate. Printed, its formula has six significant digits; `formula` has them all.

    Attributes:
        formula: in the variables' names; None if edges stayed splines.
        verdict: ``"exact"``, ``"within noise"``, ``"untested"``, ``"approximate"``, ``"none"`` or ``"spline"``, see
            `kan.discovery.laws.verdict`.
        rmse: root mean squared error on the samples that were fitted.
        held_out: on samples that no fit has seen.
        extrapolated: on the outermost samples, which no fit has seen either.
        complexity: operations, variables and constants of the formula.
        constants: those that are not exact.
        bits: length of the description of formula and labels.
        variables: of the formula.
        trained: the network that edges stayed splines in, or that the formula was read from; its inputs may be functions of the variables.
        excess: error as a multiple of the noise floor that is estimated from the data, 1 or more; NaN if it was not compare.
        explained: share of all rows, or of all different rows if that is less, that it explains to round-off.
        relative: median relative error if labels differ by orders of magnitude, None otherwise.
        remarks: why the verdict is no better, in words.
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
        """The network of the formula, compiled from it; the trained one where there is no formula."""
        if self.formula is None:
            assert self.trained is not None
            return self.trained
        return compiled(lambda width, arity: Network(width, grid=1, mult_arity=arity).double(), self.variables, self.formula)

    def latex(self, digits: int = DIGITS) -> str:
        """The formula in LaTeX with so many significant digits, see `kan.symbolic.latex`; a network without a formula in words."""
        return rf"\text{{{self._what()}}}" if self.formula is None else latex(shown(self.formula, digits))

    def _what(self) -> str:
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
class Judge:
    """What candidates are judged by.

    Attributes:
        root: the data, but for the outermost.
        far: the outermost samples, which no fit sees.
        names: the user's symbols.
        scale: size of the labels, which errors of the fit are compare with.
        noise: standard deviation of the labels' errors, if known.
        late: whether the time is up.
        rows: all rows, which the verdict is about; None for a part of a law.
        known: what became of formulas with errors, by the error, the size and whether they were worth the time.
        exactly: whether constants are made exact, and the shortest form looked for: not of parts of a law, whose labels are not exact.
    """

    root: Stage
    far: tuple[Tensor, Tensor]
    names: Mapping[sympy.Symbol, sympy.Symbol]
    scale: float
    noise: float | None
    late: Callable[[], bool]
    exactly: bool = True
    rows: Rows | None = None
    known: dict[tuple[str, int, bool], Law | None] = field(default_factory=dict)

    def law(self, formula: sympy.Expr, best: float, network: Network | None = None) -> Law | None:
        """A candidate; `best` is the least error known, as a share of the labels' size. None for what has no finite real values."""
        if not is_finite(formula):  # constants beyond what floating-point numbers hold
            return None
        root, formula = self.root, _unfolded(formula)
        try:
            fitted, weights, dropped = self.refitted(fit_constants(formula, root.symbols, root.x, root.y, evaluations=30))
        except (ValueError, OverflowError):  # numbers that are real only as long as nobody asks for their value
            return None
        worth = fitted.rmse <= max(3 * best, ROUND_OFF) * self.scale  # else it is not the law, and exact numbers say nothing
        if fitted.rmse <= ROUND_OFF * self.scale or network is not None:
            return self.judged(fitted, worth, network, weights, dropped)
        key = f"{fitted.rss:.6e}", complexity(formula), worth  # several ways lead to the same formula
        if key not in self.known:
            self.known[key] = self.judged(fitted, worth, None, weights, dropped)
        return self.known[key]

    def judged(self, fitted: Fitted, worth: bool, network: Network | None, weights: Tensor | None, dropped: float) -> Law | None:
        """The candidate that a fitted formula leads to; None if it has no finite error.

        Args:
            fitted: the fit.
            worth: whether the error is small enough to drop terms and to make numbers exact.
            network: the network that the formula was read from, if any.
            weights: weights of the fitted rows, see `refitted`.
            dropped: cost of the outliers in bits, see `refitted`.
        """
        root = self.root
        if worth:
            trials = count() if fitted.rmse > ROUND_OFF * self.scale else repeat(0)

            def stop() -> bool:
                return next(trials) > UNSURE or self.late()

            fitted = drop_terms(fitted, root.symbols, root.x, root.y, stop=stop, weights=weights)
            if self.exactly:
                fitted = snap_constants(fitted, root.symbols, root.x, root.y, stop=stop, weights=weights)
        seen, held = self.error(fitted.formula, root.x, root.y), self.error(fitted.formula, root.held_x, root.held_y)
        if not math.isfinite(seen) or (len(root.held_y) and not math.isfinite(held)):
            return None
        constants = tuple(Constant(value, fitted.errors[symbol]) for symbol, value in fitted.constants.items())
        explained = None if self.rows is None else self.rows.explained(fitted.formula, constants)
        exact = explained is not None and explained.share >= MIN_EXPLAINED
        final = exact and explained is not None and explained.determined
        formula = self.simplest(fitted.formula, held, exact or self.round_off(seen, held)) if self.exactly else fitted.formula
        return Law(
            formula, self.verdict(explained), seen, held, self.error(fitted.formula, *self.far), complexity(formula), constants,
            fitted.bits + dropped + 3 * _written(formula), tuple(self.names.values()), network,
            explained=math.nan if explained is None else explained.share,
            relative=explained.relative if explained is not None and self.rows is not None and self.rows.labels_span_decades else None,
            settled=final or (self.rows is None and self.round_off(seen, held)) or self.within_given_noise(fitted, held),
        )  # fmt: skip

    def refitted(self, fitted: Fitted) -> tuple[Fitted, Tensor | None, float]:
        """The fit, repeated without single outliers or with relative errors where that is called for.

        If labels differ by orders of magnitude, the fit is repeated with relative errors, provided that its error is below
        `MAX_ERROR_BEFORE_RELATIVE_FIT`. For all other labels it is repeated without outliers, up to three times, as long as at
        most `MAX_OUTLIERS` of the rows cause most of the error.

        Returns:
            The fit, the weights of the rows in it, ``(N,)`` or None, and the cost of the outliers in bits.
        """
        root, labels = self.root, self.root.y.flatten()
        weights: Tensor | None = None
        cost = 0.0
        decades = self.rows is not None and self.rows.labels_span_decades
        for _ in range(0 if decades else 3):
            residuals = labels - self.values(fitted.formula, root.x, root.y)
            scale = robust_scale(residuals.numpy())
            outliers = ~(residuals.abs() <= CLIP * scale)
            count_, error = int(outliers.sum()), float(residuals.square().mean().sqrt())
            if error <= ROUND_OFF * self.scale or not 0 < count_ <= MAX_OUTLIERS * len(labels) or not scale < MAX_SCALE_RATIO * error:
                break
            weights = (~outliers).double()
            fitted = fit_constants(
                fitted.template, root.symbols, root.x, root.y, start=fitted.constants, exact_bits=fitted.exact_bits, evaluations=30,
                weights=weights,
            )  # fmt: skip
            cost = count_ * (math.log2(len(labels)) + math.log2(self.scale / max(fitted.rmse, 1e-13 * self.scale)))
        if decades and fitted.rmse < MAX_ERROR_BEFORE_RELATIVE_FIT * self.scale:
            # In units of the median label, so that lengths of descriptions stay comparable.
            middle = float(labels[labels != 0].abs().median())
            weights = middle / labels.abs().clamp_min(1e-3 * middle)
            fitted = fit_constants(
                fitted.template, root.symbols, root.x, root.y, start=fitted.constants, exact_bits=fitted.exact_bits, weights=weights
            )
        return fitted, weights, cost

    def spline(self, network: Network, bits: float) -> Law:
        """A network whose edges are not all named, of the variables themselves."""
        root = self.root
        seen, held, far = (rmse(network, *data) for data in ((root.x, root.y), (root.held_x, root.held_y), self.far))
        return Law(
            None, "spline", seen, held, far, sum(p.numel() for p in network.parameters()), (), bits, tuple(self.names.values()), network
        )

    def values(self, formula: sympy.Expr, x: Tensor, like: Tensor) -> Tensor:
        """Of a formula, ``(N,)``."""
        found = evaluate_expression(formula, dict(zip(self.root.symbols, x.unbind(1), strict=True)), like)
        return found.expand(len(x))

    def error(self, formula: sympy.Expr, x: Tensor, y: Tensor) -> float:
        """Root mean squared; NaN without samples."""
        return float((self.values(formula, x, y) - y.flatten()).square().mean().sqrt())

    def verdict(self, explained: Explained | None) -> str:
        """What can be said before candidates are compare."""
        if explained is None or explained.share < MIN_EXPLAINED:
            return "approximate"
        return "untested" if explained.doubts else "exact"

    def round_off(self, seen: float, held: float) -> bool:
        """Whether errors on fitted samples and on others are as small as round-off may be."""
        return max(seen, 0.0 if math.isnan(held) else held) <= ROUND_OFF * self.scale

    def within_given_noise(self, fitted: Fitted, held: float) -> bool:
        """Whether the noise is given and explains what a formula misses, and all its constants are determined."""
        return self.noise is not None and held <= 1.15 * self.noise and all(math.isfinite(error) for error in fitted.errors.values())

    def simplest(self, formula: sympy.Expr, held: float, exact: bool) -> sympy.Expr:
        """The shortest of some forms of the formula that have the same values, in the user's symbols."""
        forms = [formula]
        for change in (*FORMS, *ALGEBRA) if exact else FORMS:
            if self.late() or complexity(formula) > LARGEST:
                break
            with suppress(Exception):  # sympy's own failures cost nothing: the form that there is stays
                forms.append(change(formula))
                forms.append(sympy.factor_terms(sympy.powsimp(forms[-1])))
        if exact and not self.late():
            forms += simplified([min(forms, key=_size)], SIMPLIFIED, self.late)[0]
        best = self.shortest([form.xreplace(dict(self.names)) for form in forms], held)
        # The user's symbols may have any sign, so that roots and logarithms are not taken apart when they are joined.
        joined = [best]
        for change in JOINED:
            with suppress(Exception):
                joined.append(change(best))
        return self.shortest(joined, held)

    def shortest(self, forms: Sequence[sympy.Expr], held: float) -> sympy.Expr:
        """The shortest of those that miss the samples that were held out by as little as the first one."""
        values = {self.names[symbol]: column for symbol, column in zip(self.root.symbols, self.root.held_x.unbind(1), strict=True)}
        good = [forms[0]]
        for form in forms[1:]:
            with suppress(Exception):
                off = (evaluate_expression(form, values, self.root.held_y) - self.root.held_y.flatten()).square().mean().sqrt()
                if float(off) <= 2 * held + ROUND_OFF * self.scale:
                    good.append(form)
        return min(good, key=_size)


def _written(formula: sympy.Expr) -> int:
    """Nodes, of which numbers that meet are one: `Fitted.bits` tells what each of them takes."""
    several = [part for part in formula.args if part.free_symbols]
    return 1 + (len(several) < len(formula.args) and bool(several)) + sum(map(_written, several))


def _size(formula: sympy.Expr) -> int:
    """Functions have domains: a form without them says the same of more points."""
    return complexity(formula) + FUNCTION * len(formula.atoms(sympy.Function))


def _turned(formula: sympy.Expr) -> sympy.Expr:
    """With ``log(b/a)`` in the place of ``-log(a/b)``."""

    def turned(node: sympy.Mul) -> sympy.Expr:
        logarithm = next(factor for factor in node.args if isinstance(factor, sympy.log))
        return -node / logarithm * sympy.log(1 / logarithm.args[0])

    def wanted(node: sympy.Expr) -> bool:
        return node.is_Mul and node.could_extract_minus_sign() and any(isinstance(factor, sympy.log) for factor in node.args)

    return formula.replace(wanted, turned)


def _unfolded(formula: sympy.Expr) -> sympy.Expr:
    """With ``c exp(u)`` in the place of ``exp(u + b)``: it is c that may be a simple number."""

    def parted(node: sympy.Expr) -> sympy.Expr:
        constant, rest = node.args[0].as_independent(*node.free_symbols, as_Add=True)
        return sympy.Float(math.exp(float(constant)), 17) * sympy.exp(rest) if abs(float(constant)) < 300 else node

    return formula.replace(lambda node: isinstance(node, sympy.exp) and node.args[0].is_Add, parted)


def rmse(network: Network, x: Tensor, y: Tensor) -> float:
    """Root mean squared error of a network."""
    with torch.no_grad():
        return float((network.trace(x).output - y).square().mean().sqrt())


def distinct(laws: Sequence[Law]) -> list[Law]:
    """Without those that say the same, to five digits."""
    seen: set[str] = set()
    different = []
    for law in sorted(laws, key=lambda law: law.bits):
        key = str(law.network.width) if law.formula is None else str(_shortened(law.formula))
        if key not in seen:
            seen.add(key)
            different.append(law)
    return different


def _shortened(formula: sympy.Expr) -> sympy.Expr:
    return formula.xreplace({number: sympy.Float(number, 5) for number in formula.atoms(sympy.Float)})
