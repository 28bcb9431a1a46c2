r"""From data to a formula.

1. *Fewer variables.* `kan.discovery.stages`: power products, differences and sums of variables that the law depends on, other labels.
2. *Power products, curves, sums.* What is left of most laws is a constant, a function of one variable, or a sum of such functions.
3. *Networks* of several shapes are trained by Levenberg-Marquardt, products of sums and functions of sums, and so on, the simple ones
   first; where one comes near to the data, `kan.discovery.context` names its edges.
4. *Constants.* `kan.discovery.constants` fits them to the original data until round-off and makes exact what these allow.

Whatever the way to a formula, it is judged on the original data, see `kan.discovery.judge`.
"""

from __future__ import annotations

import math
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product, zip_longest
from typing import Any, NamedTuple, overload

import sympy
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from kan.discovery.context import Search, in_context, refit_, sharpen_
from kan.discovery.curves import curves
from kan.discovery.formula import symbolic_formula
from kan.discovery.invariance import Reduction
from kan.discovery.judge import ROUND_OFF, Constant, Judge, Law, distinct, rmse
from kan.discovery.observations import Observations, check_options, observations
from kan.discovery.parts import Parts, factors, summands
from kan.discovery.shapes import Shape, shapes
from kan.discovery.stages import CHANGES, SEPARATE, Change, Stage, additive, reduced, rewritten, symbols_of
from kan.discovery.terms import Pattern, Terms, formulas, patterns, split
from kan.discovery.units import Units, known_units, unit_reduction
from kan.modes import threads
from kan.network.network import Network
from kan.symbolic.evaluation import evaluate_expression
from kan.symbolic.library import resolve_library
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule

__all__ = ["Constant", "Discovery", "Law", "discover"]

FAR = 0.2
"""A network that misses the labels by a larger share of their deviation says nothing about the law."""
CLOSE = 3e-4
"""One that misses them by less is looked at at once."""
NEAR = 30.0
"""Networks that miss by so many times the least error of any may have the shape of the law."""
WELL = 0.05
"""Share of the labels' deviation that a reduction of the variables may miss; others are looked at last."""
FITS = 1e-3
"""As much for sums of products, which fit more."""
CERTAIN = 1e-5
"""Share below which curves are worth a longer look."""
SURE = 1e-7
"""Share below which it is hardly chance."""
MOST_FORMS = 4
"""Forms of a stage whose curves are named."""
AS_GOOD = 1.08
"""A law that misses by so many times the noise, as polynomials see it, explains the data; the search ends with the step that found it."""
FEW = 3
"""Columns whose products are looked at before those of more."""
MOST_INPUTS = 4
"""Of stages that networks are tried on: the number of shapes grows fast."""
MOST_STAGES = 3
STARTS = 8
"""Of the curves of a pattern that a polynomial says the law has."""
MOST_ROUNDS = 3
"""Candidates whose residuals are looked at."""
MOST_COMBINED = 4
"""Choices of formulas for the parts of a law."""
BAR = "{desc}: {n:.0f} of {total:.0f} s{postfix}"
SHOWN = 90
"""Letters of the best candidate in the progress bar."""


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
    units: Mapping[str, Units] | None = None,
    y_units: Units | None = None,
    library: Sequence[str] | Mapping[str, Any] | None = None,
    time_limit: float = 60.0,
    noise: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Discovery:
    """Look for the law that `y` follows.

    Args:
        X: ``(N, n)``: tensors, arrays, lists or frames of real numbers. Columns that are constant or multiples of others are left out,
            with a warning.
        y: ``(N,)`` or ``(N, 1)``, likewise.
        variables: names of the inputs; those of a frame's columns, or else ``x_1 ... x_n``, when not given.
        units: from the name of every variable to the exponents of base units in its unit, such as
            ``{"m": {"kg": 1}, "v": {"m": 1, "s": -1}}``; ``{}`` for none. What they leave of the variables is tried first.
        y_units: of `y`, likewise, such as ``{"kg": 1, "m": 2, "s": -2}``.
        library: names of the functions that curves may be, or a dictionary like ``SYMBOLIC_LIB``; all of it when not given. Power products
            in front, and what undoes a change of the labels around all (exp, roots, inverses, asin ...), may occur in any case.
        time_limit: in seconds.
        noise: standard deviation of the errors of `y`, if known.
        seed: of the networks. The same seed and data give the same candidates, unless the time limit ends the search.
        progress: whether there is a progress bar, with the seconds that passed, what is looked for, and the best candidate.

    Returns:
        The candidates. Ctrl-C ends the search with what was found.

    Raises:
        TypeError, ValueError: for data that do not match or are not finite, constant labels, too few samples, unusable names, units
            that cannot be, or options out of their range.

    >>> points = torch.rand(200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> discover(points, torch.exp(2 * points), seed=0)[0].formula
    exp(2*x_1)
    """
    resolve_library(library)  # names that are not there are told first
    check_options(time_limit, noise, seed)
    given = observations(X, y, variables)
    dimensions = None if units is None and y_units is None else known_units([str(symbol) for symbol in given.symbols], units, y_units)
    x, labels, symbols = given.x[:, given.kept], given.y, given.symbols
    begun = time.monotonic()

    def left() -> float:
        return time_limit - (time.monotonic() - begun)

    def late() -> bool:
        return left() <= 0

    outer = _outermost(x)
    held = (torch.arange(len(x)) % 5 == 2) & ~outer
    inner = ~held & ~outer
    inside = symbols_of("x", x)
    root = Stage(x[inner], labels[inner], x[held], labels[held], inside, lambda e: e)
    # With the columns that are left out: the networks of laws take them, to no effect.
    columns = iter(inside)
    names = {next(columns) if i in given.kept else symbol: symbol for i, symbol in enumerate(symbols)}
    judge = Judge(root, (x[outer], labels[outer]), names, float(labels.square().mean().sqrt()), noise, late)
    known = None if dimensions is None else _with_units(given, root, inner, dimensions)
    interrupted = False
    # With few numbers one thread is quicker than several, which wait for each other.
    with tqdm(total=time_limit, disable=not progress, bar_format=BAR) as bar, threads(1), threadpool_limits(1):

        def tell(step: str, best: str) -> None:
            bar.n = min(time_limit - left(), time_limit)
            bar.set_description_str(step, refresh=False)
            bar.set_postfix_str(best)

        hunt = _Hunt(root, judge, library, seed, late, left, tell, known)
        try:
            hunt.run()
        except KeyboardInterrupt:
            interrupted = True
    laws = hunt.laws
    for law in laws:
        if law.formula is None and law.trained is not None:
            _widen_(law.trained, given.kept, len(symbols))
    exact = any(law.verdict == "exact" for law in laws)
    stopped = "interrupted" if interrupted else "exact" if exact else "time limit" if late() else "all shapes"
    return Discovery(sorted(distinct(laws), key=lambda law: law.bits), symbols, time.monotonic() - begun, stopped)


class _Teacher(NamedTuple):
    """A trained network of some shape, and its error on samples that it has not seen, as a share of the labels' deviation."""

    error: float
    network: Network
    shape: Shape
    stage: Stage


@dataclass
class _Hunt:
    """The search: what is simple and fast comes first."""

    root: Stage
    judge: Judge
    library: Any
    seed: int
    late: Callable[[], bool]
    left: Callable[[], float]
    tell: Callable[[str, str], None]
    known: Reduction | None = None
    whole: bool = True
    laws: list[Law] = field(default_factory=list)
    explored: list[Law] = field(default_factory=list)
    sure: list[tuple[Stage, Terms]] = field(default_factory=list)
    unsure: list[tuple[Stage, Terms, float]] = field(default_factory=list)
    noise: float = 0.0
    step: str = ""

    def run(self) -> None:
        stages = reduced(self.root, self.known)
        near = [*(stage for stage in stages if stage.error < WELL or stage.reduction is self.known), self.root]
        far = [stage for stage in stages if stage not in near]
        small = [stage for stage in near if len(stage.symbols) <= FEW]
        others = [stage for stage in (*near, *far) if stage not in small]
        plan = [(self.powers, near), (self.curves, near), (self.sums, near), (self.sums, far), (self.parts, near), (self.closely, near)]
        plan += [(self.products, small), (self.nearly, near)]
        if self.whole:
            plan += [(self.closely, near), (self.powers, far), (self.curves, far), (self.products, others), (self.nearly, near)]
            plan += [(self.residuals, [self.root]), (self.networks, near), (self.residuals, [self.root])]
        error, noisy = min((stage.floor(self.root) for stage in near), key=lambda one: one[0])
        floor = error if noisy else 0.0
        self.noise = floor / max(float(self.root.y.std()), 1e-300)
        for step, several in plan:
            if not self.done() and not any(max(law.rmse, law.held_out) < AS_GOOD * floor for law in self.laws):
                self.step = step.__name__
                self.show()
                step(several)

    def show(self, how: str = "") -> None:
        """What is looked for, where the last candidate came from, and the best one so far."""
        best = min(self.laws, key=lambda law: law.bits, default=None)
        self.tell(textwrap.shorten(f"{self.step} {how}", SHOWN // 2), "" if best is None else textwrap.shorten(str(best), SHOWN))

    def done(self) -> bool:
        return self.late() or any(law.verdict == "exact" for law in self.laws)

    def add(self, law: Law | None, how: str) -> None:
        if law is not None:
            self.laws.append(law)
            self.show(how)

    def powers(self, stages: Sequence[Stage]) -> None:
        """Laws that are a power product."""
        for stage in stages:
            if not stage.symbols:
                formula = stage.back(sympy.Float(float(stage.y.mean()), 17))
                self.add(self.judge.law(formula, stage.error), stage.name)

    def curves(self, stages: Sequence[Stage]) -> None:
        """Laws of one variable."""
        for stage in stages:
            if len(stage.symbols) == 1 and not self.done():
                found = curves(
                    stage.x,
                    stage.y,
                    stage.symbols[0],
                    library=self.library,
                    noise=self.judge.noise if stage.plain else None,
                    stop=self.late,
                )
                for curve in found[:3]:
                    if not self.done():
                        self.add(self.judge.law(stage.back(curve.formula), min(stage.error, curve.rmse / float(stage.y.std()))), stage.name)

    def sums(self, stages: Sequence[Stage]) -> None:
        """Laws that are a sum of functions of one variable each when the labels are changed."""
        for stage in stages:
            if len(stage.symbols) > 1 and not self.done():
                columns = range(len(stage.symbols))
                for form, factors in additive(stage):
                    if not self.done():
                        self.terms(form, self.split(form, (tuple(columns),) if factors else tuple((i,) for i in columns)), SEPARATE)

    def products(self, stages: Sequence[Stage]) -> None:
        """Laws that are a sum of products of such functions."""
        for stage in stages:
            allowed = max(FITS, 1.5 * stage.error if stage.error < FAR else 0.0)
            found: list[tuple[float, int, Stage, Terms]] = []
            for form in rewritten(stage) if 1 < len(stage.symbols) <= MOST_INPUTS else ():
                for pattern in patterns(len(stage.symbols)):
                    if self.done():
                        return
                    terms = self.split(form, pattern)
                    if terms.error < SURE:
                        self.terms(form, terms, allowed)
                        break
                    if terms.error < allowed:
                        found.append((terms.error, len(found), form, terms))
            found.sort(key=lambda one: one[:2])
            for error, _, form, terms in found[:MOST_FORMS]:
                if error < 100 * found[0][0]:
                    self.terms(form, terms, allowed)

    def split(self, form: Stage, pattern: Pattern, starts: int = 2) -> Terms:
        return split(form.x.numpy(), form.y.flatten().numpy(), pattern, self.seed, starts)

    def parts(self, stages: Sequence[Stage]) -> None:
        """Laws that fall apart: sums of terms of few columns each, and products."""
        for stage in stages:
            if len(stage.symbols) < 2 or self.done():
                continue
            for meeting in summands(stage):
                alone = {(i,) for i in range(len(stage.symbols))}
                for pattern in dict.fromkeys((meeting.pattern, tuple(sorted(alone.union(meeting.pattern))))):
                    if not self.done():
                        self.terms(meeting.form, self.split(meeting.form, pattern, STARTS), max(FITS, 1.5 * meeting.error), thorough=True)
                if meeting.parts is not None and not self.done():
                    self.combined(meeting.parts)
            if len(stage.symbols) > 2 and not self.done() and (parts := factors(stage)) is not None:
                self.combined(parts)

    def closely(self, stages: Sequence[Stage]) -> None:
        """Laws that are such sums for sure, and have curves of two functions."""
        certain = sorted(self.sure, key=lambda one: (len(one[0].symbols), len(one[1].curves)))
        self.sure.clear()
        for form, terms in certain[:MOST_FORMS]:
            self.terms(form, terms, CERTAIN, thorough=True)

    def nearly(self, stages: Sequence[Stage]) -> None:
        """Such sums that miss more than noise: curves that polynomials are far from, or laws that are none."""
        several = sorted(self.unsure, key=lambda one: one[1].error)
        self.unsure.clear()
        for form, terms, allowed in several[:MOST_FORMS]:
            self.terms(form, terms, allowed, now=True)

    def residuals(self, stages: Sequence[Stage]) -> None:
        """What the best candidates leave, looked for as a law of its own that is added or multiplied; as often as that helps."""
        for stage in stages:
            deviation = float(stage.y.std())
            for _ in range(MOST_ROUNDS):
                near = [law for law in self.laws if law.formula is not None and law.held_out < FAR * deviation and law not in self.explored]
                if self.done() or not near:
                    return
                law = min(near, key=lambda law: law.bits)
                self.explored.append(law)
                formula = law.formula
                if formula is not None:
                    self.beside(law, formula, stage, False)
                    self.beside(law, formula, stage, True)

    def beside(self, law: Law, formula: sympy.Expr, stage: Stage, divided: bool) -> None:
        """The law and another one, added or in front."""
        formula = formula.xreplace({symbol: inner for inner, symbol in self.judge.names.items()})
        left = []
        for x, y in ((stage.x, stage.y), (stage.held_x, stage.held_y)):
            value = evaluate_expression(formula, dict(zip(stage.symbols, x.unbind(1), strict=True)), y).reshape(-1, 1)
            left.append(y / value if divided else y - value)
        if self.done() or not all(bool(values.isfinite().all()) for values in left):
            return
        if float(left[0].std()) <= ROUND_OFF * float(left[0].abs().mean()):
            return
        rest = replace(stage, y=left[0], held_y=left[1], name=f"what {'divides' if divided else 'is left of'} {stage.name}")
        meet = sympy.Mul if divided else sympy.Add
        for other in self.law_of(rest, None):
            if not self.done():
                self.add(self.judge.law(stage.back(meet(formula, other)), law.held_out / self.judge.scale), rest.name)

    def combined(self, parts: Parts) -> None:
        """Laws of parts, each looked for alone."""
        form = parts.form
        if parts.error > max(FITS, 3 * self.noise):
            return
        noise = 2 * max(parts.error, 1e-9) * float(form.y.std())
        found = [self.law_of(stage, noise) for stage in parts.stages]
        for several in islice(product(*found), MOST_COMBINED):
            if not self.done():
                meet = sympy.Mul if parts.product else sympy.Add
                self.add(self.judge.law(form.back(sympy.Float(parts.constant, 17) + meet(*several)), parts.error), f"parts of {form.name}")

    def law_of(self, stage: Stage, noise: float | None) -> list[sympy.Expr]:
        """Formulas for a part, whose labels have errors."""
        names = dict(zip(stage.symbols, stage.symbols, strict=True))
        judge = Judge(stage, (stage.held_x, stage.held_y), names, float(stage.y.square().mean().sqrt()), noise, self.late, exactly=False)
        hunt = _Hunt(stage, judge, self.library, self.seed, self.late, self.left, lambda step, best: None, whole=False)
        hunt.run()
        laws = sorted(distinct(hunt.laws), key=lambda law: (law.verdict != "exact", law.bits))
        return [law.formula for law in laws if law.formula is not None][:2]

    def terms(self, form: Stage, found: Terms, allowed: float, thorough: bool = False, now: bool = False) -> None:
        """Name the curves that were found."""
        if self.done() or found.error > allowed:
            return
        if not thorough and found.error < CERTAIN:
            self.sure.append((form, found))
        elif not thorough and not now and found.error > 3 * self.noise:
            self.unsure.append((form, found, allowed))
            return
        for _, formula in formulas(form.x, form.y.flatten(), found, form.symbols, self.library, self.late, thorough)[:2]:
            if not self.done():
                self.add(self.judge.law(form.back(formula), found.error), f"{found.pattern} of {form.name}")

    def networks(self, stages: Sequence[Stage]) -> None:
        """Laws that are networks of other shapes."""
        several = [stage for stage in stages if 1 <= len(stage.symbols) <= MOST_INPUTS][:MOST_STAGES]
        waiting: list[_Teacher] = []
        for stage, change, shape in _interleaved(several):
            if self.done():
                break
            form = stage.changed(change)
            teacher = None if form is None else self.teacher(form, shape)
            if teacher is None:
                continue
            if teacher.error < CLOSE:
                self.name(teacher, teacher.error)
            else:
                waiting.append(teacher)
        best = min((teacher.error for teacher in waiting), default=0.0)
        for teacher in waiting:
            if self.done():
                break
            if teacher.error <= NEAR * best:
                self.name(teacher, best)

    def teacher(self, form: Stage, shape: Shape) -> _Teacher | None:
        """The better of two networks of one shape; None if both are far from the labels."""
        best: _Teacher | None = None
        deviation = float(form.y.std())
        for attempt in range(2):
            if self.late():
                break
            network = shape.network(self.seed + attempt)
            network.update_grid(form.x)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of grids that stay where nodes are dead
                fit(
                    network,
                    (form.x, form.y),
                    opt="LM",
                    steps=20,
                    grid_schedule=GridSchedule(4, 0, 8),
                    progress=False,
                    time_limit=max(self.left(), 1e-3),
                )
            sharpen_(network, form.x, form.y, stop=self.late)
            shape.cut_(network, form.x, form.y)
            refit_(network, form.x, form.y, 12, self.late)
            error = rmse(network, form.held_x, form.held_y) / deviation
            if math.isfinite(error) and (best is None or error < best.error):
                best = _Teacher(error, network, shape, form)
            if error < CLOSE:
                break
        return best if best is not None and best.error < FAR else None

    def name(self, teacher: _Teacher, best: float) -> None:
        """The candidates that come of one network; `best` is the least error of any."""
        stage = teacher.stage
        choices = in_context(teacher.network, stage.x, stage.y, Search(self.library, stop=self.late))
        for choice in choices[:2]:
            how = f"{teacher.shape.name} of {stage.name}"
            if not choice.kept:
                formula = symbolic_formula(choice.network, var=list(stage.symbols))[0][0]
                self.add(self.judge.law(stage.back(formula), best, choice.network), how)
            elif stage.plain:
                self.add(self.judge.spline(choice.network, choice.bits), how)


def _interleaved(stages: Sequence[Stage]) -> Iterator[tuple[Stage, Change, Shape]]:
    """What networks are tried on; trees, of which every variable has its place, come before networks that are anything."""
    several = []
    for stage in stages:
        every = [(stage, change, shape) for change in CHANGES for shape in shapes(len(stage.symbols))]
        several.append(sorted(every, key=lambda one: not one[2].tree))
    for row in zip_longest(*several):
        yield from (one for one in row if one is not None)


def _outermost(x: Tensor) -> Tensor:
    """The samples at the border of the box that they fill, one in twenty."""
    low, high = x.amin(0), x.amax(0)
    far = ((2 * x - low - high).abs() / (high - low).clamp_min(1e-300)).amax(1)
    return far > torch.quantile(far, 0.95)


def _with_units(given: Observations, root: Stage, rows: Tensor, dimensions: tuple[sympy.Matrix, sympy.Matrix]) -> Reduction | None:
    """What units say about the law; columns that are left out have units, too, and are constants or multiples in it."""
    inside = dict(zip(given.kept, root.symbols, strict=True))
    bases = [inside[i] if i in inside else given.meaning(i, inside) for i in range(len(given.symbols))]
    return unit_reduction(given.x[rows].numpy(), root.y.flatten().numpy(), bases, *dimensions)


def _widen_(network: Network, kept: Sequence[int], width: int) -> None:
    """Let a network of the columns `kept` take all."""
    if network.input_width != width:
        network.input_id, network.input_width = torch.tensor(kept)[network.input_id], width
        network.remember_input(None)
