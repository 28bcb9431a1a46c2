r"""Candidates for a law, judged on the data that the search began with.

The constants of a formula are fitted to these and made exact where they allow it (`kan.discovery.constants`). A candidate is ``"exact"`` if
it is a formula whose error on samples that no fit has seen is round-off, or, where the noise is given, no larger than that; otherwise it is
``"approximate"``, and ``"spline"`` if not all edges of its network could be named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, repeat
from typing import NamedTuple

import sympy
import torch
from torch import Tensor

from kan.discovery.compiler import compiled
from kan.discovery.constants import Fitted, complexity, fit_constants, is_finite, snap_constants
from kan.discovery.shortening import drop_terms
from kan.discovery.simplification import simplified
from kan.discovery.stages import Stage
from kan.network.network import Network
from kan.symbolic.evaluation import evaluate_expression

__all__ = ["ROUND_OFF", "Constant", "Judge", "Law", "complexity", "distinct", "rmse"]

ROUND_OFF = 1e-10
"""Share of the labels' root mean square below which an error is round-off."""


UNSURE = 120
"""Trials to make constants exact of a formula that misses the labels by more than round-off."""
SIMPLIFIED = 5.0
"""Seconds for sympy to find a shorter form of an exact law."""
LARGEST = 80
"""Nodes of formulas that are worth the time to look for a shorter form."""
FUNCTION = 3
"""Nodes that a function counts more when forms of a formula are compared."""
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


class Constant(NamedTuple):
    """A number in a formula that could not be made exact, with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Law:
    """One candidate.

    Attributes:
        formula: in the variables' names; None if edges stayed splines.
        verdict: ``"exact"``, ``"approximate"`` or ``"spline"``.
        rmse: root mean squared error on the samples that were fitted.
        held_out: on samples that no fit has seen.
        extrapolated: on the outermost samples, which no fit has seen either.
        complexity: operations, variables and constants of the formula.
        constants: those that are not exact.
        bits: length of the description of formula and labels.
        variables: of the formula.
        trained: the network that edges stayed splines in, or that the formula was read from; its inputs may be functions of the variables.
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

    @cached_property
    def network(self) -> Network:
        """The network of the formula, compiled from it; the trained one where there is no formula."""
        if self.formula is None:
            assert self.trained is not None
            return self.trained
        return compiled(lambda width, arity: Network(width, grid=1, mult_arity=arity).double(), self.variables, self.formula)

    def __str__(self) -> str:
        what = f"a spline network {self.network.width}" if self.formula is None else str(_shortened(self.formula))
        return f"{what}   ({self.verdict}, rmse {self.held_out:.2g}, complexity {self.complexity})"


@dataclass(frozen=True)
class Judge:
    """What candidates are judged by.

    Attributes:
        root: the data, but for the outermost.
        far: the outermost samples, which no fit sees.
        names: the user's symbols.
        scale: root mean square of the labels.
        noise: standard deviation of the labels' errors, if known.
        late: whether the time is up.
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
    known: dict[tuple[str, int, bool], Law | None] = field(default_factory=dict)

    def law(self, formula: sympy.Expr, best: float, network: Network | None = None) -> Law | None:
        """A candidate; `best` is the least error known, as a share of the labels' size. None for what has no finite real values."""
        if not is_finite(formula):  # constants beyond what floating-point numbers hold
            return None
        root, formula = self.root, _unfolded(formula)
        try:
            fitted = fit_constants(formula, root.symbols, root.x, root.y, evaluations=30)
        except (ValueError, OverflowError):  # numbers that are real only as long as nobody asks for their value
            return None
        worth = fitted.rmse <= max(3 * best, ROUND_OFF) * self.scale  # else it is not the law, and exact numbers say nothing
        if fitted.rmse <= ROUND_OFF * self.scale or network is not None:
            return self.judged(fitted, worth, network)
        key = f"{fitted.rss:.6e}", complexity(formula), worth  # several ways lead to the same formula
        if key not in self.known:
            self.known[key] = self.judged(fitted, worth, None)
        return self.known[key]

    def judged(self, fitted: Fitted, worth: bool, network: Network | None) -> Law | None:
        """What becomes of a formula that has been fitted; numbers are made exact if it is `worth` that."""
        root = self.root
        if worth:
            trials = count() if fitted.rmse > ROUND_OFF * self.scale else repeat(0)

            def stop() -> bool:
                return next(trials) > UNSURE or self.late()

            fitted = drop_terms(fitted, root.symbols, root.x, root.y, stop=stop)
            if self.exactly:
                fitted = snap_constants(fitted, root.symbols, root.x, root.y, stop=stop)
        held = self.error(fitted.formula, root.held_x, root.held_y)
        if not math.isfinite(held):
            return None
        verdict = self.verdict(fitted, held)
        formula = self.simplest(fitted.formula, held, verdict == "exact") if self.exactly else fitted.formula
        size = complexity(formula)
        constants = tuple(Constant(value, fitted.errors[symbol]) for symbol, value in fitted.constants.items())
        far = self.error(fitted.formula, *self.far)
        bits = fitted.bits + 3 * _written(formula)
        return Law(formula, verdict, fitted.rmse, held, far, size, constants, bits, tuple(self.names.values()), network)

    def spline(self, network: Network, bits: float) -> Law:
        """A network whose edges are not all named, of the variables themselves."""
        root = self.root
        seen, held, far = (rmse(network, *data) for data in ((root.x, root.y), (root.held_x, root.held_y), self.far))
        return Law(
            None, "spline", seen, held, far, sum(p.numel() for p in network.parameters()), (), bits, tuple(self.names.values()), network
        )

    def error(self, formula: sympy.Expr, x: Tensor, y: Tensor) -> float:
        """Root mean squared."""
        values = evaluate_expression(formula, dict(zip(self.root.symbols, x.unbind(1), strict=True)), y)
        return float((values - y.flatten()).square().mean().sqrt())

    def verdict(self, fitted: Fitted, held: float) -> str:
        """How sure it is, see above."""
        if held <= ROUND_OFF * self.scale and fitted.rmse <= ROUND_OFF * self.scale:
            return "exact"
        if self.noise is not None and held <= 1.15 * self.noise and all(math.isfinite(error) for error in fitted.errors.values()):
            return "exact"
        return "approximate"

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
