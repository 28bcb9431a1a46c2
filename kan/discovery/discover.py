r"""From data to a formula: networks of several shapes are trained, their edges named in context, and the constants made exact.

1. *Shapes.* A sum of functions of single variables ``[n, 1]``, a function of such a sum ``[n, 1, 1]`` (products of powers are one of
   them), a product of two sums, and so on, the simple ones first.
2. *Teacher.* Each is trained by Levenberg-Marquardt on two levels of grids. Where it does not come near the data, the shape is left.
3. *Edges.* `kan.discovery.context` names the edges of those that do.
4. *Constants.* `kan.discovery.constants` fits them until round-off and makes exact what the data allow.

A candidate is ``"exact"`` if it is a formula whose error on samples that no fit has seen is round-off, or, where the noise is given, no
larger than that; otherwise it is ``"approximate"``, and ``"spline"`` if not all its edges could be named.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np
import sympy
import torch
from torch import Tensor

from kan.discovery.constants import Fitted, fit_constants, snap_constants
from kan.discovery.context import Choice, Search, in_context, refit_, sharpen_
from kan.discovery.formula import symbolic_formula
from kan.discovery.shapes import Shape, shapes
from kan.network.network import Network
from kan.symbolic.evaluation import evaluate_expression
from kan.symbolic.library import resolve_library
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule

__all__ = ["Constant", "Discovery", "Law", "discover"]

ROUND_OFF = 1e-10
"""Share of the labels' root mean square below which an error is round-off."""
FAR = 0.2
"""A network that misses the labels by a larger share of their deviation says nothing about the law."""
CLOSE = 3e-4
"""One that misses them by less is looked at at once."""
NEAR = 30.0
"""Networks that miss by so many times the least error of any may have the shape of the law."""
LEAST_SAMPLES = 10


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
        network: behind it.
    """

    formula: sympy.Expr | None
    verdict: str
    rmse: float
    held_out: float
    extrapolated: float
    complexity: int
    constants: tuple[Constant, ...]
    bits: float
    network: Network = field(repr=False)

    def __str__(self) -> str:
        what = f"a spline network {self.network.width}" if self.formula is None else str(_shortened(self.formula))
        return f"{what}   ({self.verdict}, rmse {self.held_out:.2g}, complexity {self.complexity})"


class Discovery(Sequence[Law]):
    """Candidates, the best first.

    Attributes:
        variables: the inputs' symbols.
        seconds: how long it took.
        stopped: ``"exact"``, ``"all shapes"``, ``"time limit"`` or ``"interrupted"``.
    """

    def __init__(self, laws: Sequence[Law], variables: Sequence[sympy.Symbol], seconds: float, stopped: str) -> None:
        self._laws, self.variables, self.seconds, self.stopped = tuple(laws), tuple(variables), seconds, stopped

    @overload
    def __getitem__(self, index: int) -> Law: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Law]: ...
    def __getitem__(self, index: int | slice) -> Law | Sequence[Law]:
        return self._laws[index]

    def __len__(self) -> int:
        return len(self._laws)

    @property
    def front(self) -> list[Law]:
        """The candidates that no simpler one is as good as, the simplest first."""
        front: list[Law] = []
        for law in sorted(self._laws, key=lambda law: (law.complexity, law.held_out)):
            if not front or law.held_out < front[-1].held_out:
                front.append(law)
        return front

    def __str__(self) -> str:
        lines = [f"{len(self)} candidate(s) in {self.seconds:.1f} s ({self.stopped})"]
        return "\n".join(lines + [f"{n}. {law}" for n, law in enumerate(self, start=1)])

    __repr__ = __str__


def discover(
    X: Any,
    y: Any,
    *,
    variables: Sequence[str] | None = None,
    library: Sequence[str] | Mapping[str, Any] | None = None,
    time_limit: float = 60.0,
    noise: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Discovery:
    """Look for the law that `y` follows.

    Args:
        X: ``(N, n)``, arrays or tensors.
        y: ``(N,)`` or ``(N, 1)``.
        variables: names of the inputs; ``x_1 ... x_n`` when not given.
        library: names of the functions that may occur, or a dictionary like ``SYMBOLIC_LIB``; all of it when not given.
        time_limit: in seconds.
        noise: standard deviation of the errors of `y`, if known.
        seed: of the networks. The same seed and data give the same candidates, unless the time limit ends the search.
        progress: print a line per shape.

    Returns:
        The candidates. Ctrl-C ends the search with what was found.

    Raises:
        TypeError, ValueError: for data that do not match or are not finite, constant labels, too few samples, or unusable names.

    >>> points = torch.rand(200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> discover(points, torch.exp(2 * points), seed=0)[0].formula
    exp(2*x_1)
    """
    resolve_library(library)  # names that are not there are told first
    x, labels = _data(X, y)
    symbols = _symbols(variables, x.shape[1])
    begun = time.monotonic()

    def left() -> float:
        return time_limit - (time.monotonic() - begun)

    def late() -> bool:
        return left() <= 0

    outer = _outermost(x)
    held = (torch.arange(len(x)) % 5 == 2) & ~outer
    inner = ~held & ~outer
    known = _Known(
        x[inner], labels[inner], x[held], labels[held], x[outer], labels[outer], float(labels.square().mean().sqrt()), noise, symbols,
        library, late, left,
    )  # fmt: skip
    laws: list[Law] = []

    def done() -> bool:
        return late() or any(law.verdict == "exact" for law in laws)

    def name(teacher: _Teacher, best: float) -> None:
        found = _named(teacher, best, known)
        laws.extend(found)
        if progress:
            text = str(min(found, key=lambda law: law.bits, default="nothing"))
            print(f"{teacher.change.name}: {teacher.shape.name}, spline error {teacher.error:.2g}: {text}")

    interrupted = False
    try:
        waiting: list[_Teacher] = []
        every = [(change, shape) for change in CHANGES for shape in shapes(x.shape[1])]
        # Trees, of which every variable has its place, come before networks that are anything.
        for change, shape in sorted(every, key=lambda pair: not pair[1].tree):
            if done():
                break
            seen = known.changed(change)
            teacher = None if seen is None else _teacher(shape, change, seen, seed)
            if teacher is None:
                continue
            if teacher.error < CLOSE:
                name(teacher, teacher.error)
            else:
                waiting.append(teacher)
        best = min((teacher.error for teacher in waiting), default=0.0)
        for teacher in waiting:
            if done():
                break
            if teacher.error <= NEAR * best:
                name(teacher, best)
    except KeyboardInterrupt:
        interrupted = True
    exact = any(law.verdict == "exact" for law in laws)
    stopped = "interrupted" if interrupted else "exact" if exact else "time limit" if late() else "all shapes"
    return Discovery(sorted(_distinct(laws), key=lambda law: law.bits), symbols, time.monotonic() - begun, stopped)


# One shape


class _Known(NamedTuple):
    """What the search goes by."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    far_x: Tensor
    far_y: Tensor
    scale: float
    noise: float | None
    symbols: list[sympy.Symbol]
    library: Any
    late: Callable[[], bool]
    left: Callable[[], float]

    def changed(self, change: Change) -> _Known | None:
        """With a function of the labels in their place; None where that is not defined or says nothing new."""
        y, held_y = change.forward(self.y), change.forward(self.held_y)
        if change.inverse is None:
            return self
        both = torch.cat([self.y, self.held_y])
        if not bool(change.allowed(both).all()) or not bool(torch.cat([y, held_y]).isfinite().all()):
            return None
        return self._replace(y=y, held_y=held_y, scale=float(torch.cat([y, held_y]).square().mean().sqrt()), noise=None)


class Change(NamedTuple):
    """A function of the labels, for which the law may be simpler.

    Attributes:
        name: for messages.
        forward: of the labels.
        inverse: of expressions; None for no change.
        allowed: for which labels it goes both ways.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[sympy.Expr], sympy.Expr] | None
    allowed: Callable[[Tensor], Tensor]


CHANGES = (
    Change("y", lambda y: y, None, torch.isfinite),
    Change("log y", torch.log, sympy.exp, lambda y: y > 0),
    Change("1/y", torch.reciprocal, lambda e: 1 / e, lambda y: y != 0),
    Change("y^2", torch.square, sympy.sqrt, lambda y: y >= 0),
    Change("sqrt y", torch.sqrt, lambda e: e**2, lambda y: y >= 0),
    Change("sin y", torch.sin, sympy.asin, lambda y: y.abs() < 1.55),
    Change("tan y", torch.tan, sympy.atan, lambda y: y.abs() < 1.5),
)


class _Teacher(NamedTuple):
    """A trained network of some shape, and its error on samples that it has not seen, as a share of the labels' deviation."""

    error: float
    network: Network
    shape: Shape
    change: Change
    seen: _Known


def _teacher(shape: Shape, change: Change, seen: _Known, seed: int) -> _Teacher | None:
    """The better of two networks of one shape, trained on changed labels; None if both are far from these."""
    best: _Teacher | None = None
    deviation = float(seen.y.std())
    for attempt in range(2):
        if seen.late():
            break
        network = shape.network(seed + attempt)
        network.update_grid(seen.x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of grids that stay where nodes are dead
            fit(
                network,
                (seen.x, seen.y),
                opt="LM",
                steps=20,
                grid_schedule=GridSchedule(4, 0, 8),
                progress=False,
                time_limit=max(seen.left(), 1e-3),
            )
        sharpen_(network, seen.x, seen.y, stop=seen.late)
        shape.cut_(network, seen.x, seen.y)
        refit_(network, seen.x, seen.y, 12, seen.late)
        error = _rmse(network, seen.held_x, seen.held_y) / deviation
        if math.isfinite(error) and (best is None or error < best.error):
            best = _Teacher(error, network, shape, change, seen)
        if error < CLOSE:
            break
    return best if best is not None and best.error < FAR else None


def _named(teacher: _Teacher, best: float, known: _Known) -> list[Law]:
    """The candidates that come of one network; `best` is the least error of any."""
    choices = in_context(teacher.network, teacher.seen.x, teacher.seen.y, Search(known.library, stop=known.late))
    return [law for choice in choices[:2] if (law := _law(choice, best, known, teacher.change)) is not None]


def _law(choice: Choice, best: float, known: _Known, change: Change) -> Law | None:
    """A candidate; `best` is the least error of any network, as a share of the labels' size."""
    network = choice.network
    if choice.kept:
        if change.inverse is not None:
            return None
        seen = _rmse(network, known.x, known.y)
        held, far = _rmse(network, known.held_x, known.held_y), _rmse(network, known.far_x, known.far_y)
        return Law(None, "spline", seen, held, far, sum(p.numel() for p in network.parameters()), (), choice.bits, network)
    formula = symbolic_formula(network, var=known.symbols)[0][0]
    formula = formula if change.inverse is None else change.inverse(formula)
    if formula.has(sympy.zoo, sympy.nan, sympy.oo, sympy.I):  # constants beyond what floating-point numbers hold
        return None
    fitted = fit_constants(formula, known.symbols, known.x, known.y, evaluations=30)
    if fitted.rmse <= max(3 * best, ROUND_OFF) * known.scale:  # else it is not the law, and exact numbers say nothing
        fitted = snap_constants(fitted, known.symbols, known.x, known.y, stop=known.late)
    held = _error(fitted.formula, known)
    if not math.isfinite(held):
        return None
    formula = _simplest(fitted.formula, held, known)
    size = complexity(formula)
    constants = tuple(Constant(value, fitted.errors[symbol]) for symbol, value in fitted.constants.items())
    far = _error_on(fitted.formula, known.symbols, known.far_x, known.far_y)
    return Law(formula, _verdict(fitted, held, known), fitted.rmse, held, far, size, constants, fitted.bits + 3 * size, network)


def _simplest(formula: sympy.Expr, held: float, known: _Known) -> sympy.Expr:
    """The shortest of some forms of the formula that have the same values."""
    forms = [formula]
    for change in (sympy.expand, sympy.factor_terms, lambda e: sympy.expand_log(sympy.expand(e), force=True), sympy.powsimp):
        with suppress(Exception):  # sympy's own failures cost nothing: the form that there is stays
            forms.append(change(formula))
            forms.append(sympy.factor_terms(sympy.powsimp(forms[-1])))
    good = [formula]
    for form in forms[1:]:
        with suppress(Exception):
            if _error(form, known) <= 2 * held + ROUND_OFF * known.scale:
                good.append(form)
    return min(good, key=complexity)


def _rmse(network: Network, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((network.trace(x).output - y).square().mean().sqrt())


def _error(formula: sympy.Expr, known: _Known) -> float:
    """On the samples that were held out."""
    return _error_on(formula, known.symbols, known.held_x, known.held_y)


def _error_on(formula: sympy.Expr, symbols: Sequence[sympy.Symbol], x: Tensor, y: Tensor) -> float:
    values = evaluate_expression(formula, dict(zip(symbols, x.unbind(1), strict=True)), y)
    return float((values - y.flatten()).square().mean().sqrt())


def _verdict(fitted: Fitted, held: float, known: _Known) -> str:
    if held <= ROUND_OFF * known.scale and fitted.rmse <= ROUND_OFF * known.scale:
        return "exact"
    if known.noise is not None and held <= 1.15 * known.noise and all(math.isfinite(error) for error in fitted.errors.values()):
        return "exact"
    return "approximate"


def complexity(formula: sympy.Expr) -> int:
    """Nodes of the expression."""
    return sum(1 for _ in sympy.preorder_traversal(formula))


def _distinct(laws: Sequence[Law]) -> list[Law]:
    seen: set[str] = set()
    different = []
    for law in sorted(laws, key=lambda law: law.bits):
        key = str(law.network.width) if law.formula is None else str(_shortened(law.formula))
        if key not in seen:
            seen.add(key)
            different.append(law)
    return different


def _shortened(formula: sympy.Expr) -> sympy.Expr:
    return formula.xreplace({number: sympy.Float(float(number), 5) for number in formula.atoms(sympy.Float)})


# Data


def _outermost(x: Tensor) -> Tensor:
    """The samples at the border of the box that they fill, one in twenty."""
    low, high = x.amin(0), x.amax(0)
    far = ((2 * x - low - high).abs() / (high - low).clamp_min(1e-300)).amax(1)
    return far > torch.quantile(far, 0.95)


def _data(X: Any, y: Any) -> tuple[Tensor, Tensor]:
    x, labels = (torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value.detach().cpu()) for value in (X, y))
    if x.is_complex() or labels.is_complex():
        raise TypeError("X and y must hold real numbers; got complex ones.")
    x, labels = x.double(), labels.double()
    if x.dim() != 2 or labels.dim() not in (1, 2) or (labels.dim() == 2 and labels.shape[1] != 1) or len(x) != len(labels):
        raise ValueError(
            f"X must have the shape (N, n) and y (N,) or (N, 1), with as many rows; got {tuple(x.shape)} and {tuple(labels.shape)}."
        )
    labels = labels.reshape(-1, 1)
    if len(x) < max(LEAST_SAMPLES, 5 * x.shape[1]):
        raise ValueError(
            f"{len(x)} samples are too few for {x.shape[1]} input(s): at least {max(LEAST_SAMPLES, 5 * x.shape[1])} are needed."
        )
    for name, values in (("X", x), ("y", labels)):
        bad = (~values.isfinite()).any(0).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"{name} must be finite; the column(s) {bad} hold NaN or infinity.")
    if bool((labels == labels[0]).all()):
        raise ValueError(f"y is constant, {float(labels[0])}: there is no law to find.")
    return x, labels


def _symbols(variables: Sequence[str] | None, count: int) -> list[sympy.Symbol]:
    names = [f"x_{i + 1}" for i in range(count)] if variables is None else [str(name) for name in variables]
    if len(names) != count or len(set(names)) != count or not all(name.strip() for name in names):
        raise ValueError(f"variables must be {count} different names, one per column of X; got {names}.")
    return [sympy.Symbol(name, real=True) for name in names]
