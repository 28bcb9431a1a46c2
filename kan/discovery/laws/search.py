"""The search for a law: ways to a formula, one after the other; what is simple and fast comes first.

Whatever the way to a formula, it is judged on the original data, see `kan.discovery.laws.candidates`.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice, product, zip_longest
from typing import Any, NamedTuple

import sympy
import torch
from torch import Tensor

from kan.discovery.curves.one_variable import curve_formulas
from kan.discovery.edges.joint_selection import SelectionOptions, refit_, select_jointly, sharpen_
from kan.discovery.formulas.composition import symbolic_formula
from kan.discovery.laws.candidates import ROUND_OFF, Judge, Law, distinct, rmse
from kan.discovery.laws.network_shapes import Shape, shapes
from kan.discovery.laws.separation import Parts, factors, summands
from kan.discovery.laws.sums_of_products import Pattern, Terms, formulas, patterns, split
from kan.discovery.reduction.invariance import Reduction
from kan.discovery.reduction.views import CHANGES, MUCH_NOISE, SEPARATE, Change, Stage, additive, linear, reduced, rewritten
from kan.network.network import Network
from kan.symbolic.evaluation import evaluate_expression
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule
from kan.training.options import FitOptions

__all__ = ["Hunt"]

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
STANDS_OUT = 0.7
"""Share of what polynomials of all columns miss; a sum of products that misses less may have the shape of the law."""
AS_MUCH = 0.75
"""Times what such a sum misses, which has more coefficients: two laws of different kinds that miss as much both miss noise."""
MUCH = 100.0
"""Times the least error of such sums that another may miss."""
AS_NEAR = 1.3
"""Times the noise that polynomials of fewer variables may miss."""
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
MOST_NOISY = 4
"""Formulas of a pattern that are looked at where there is noise."""
SHOWN = 90
"""Letters of the best candidate in the progress bar."""


class _Teacher(NamedTuple):
    """A trained network of some shape, and its error on samples that it has not seen, as a share of the labels' deviation."""

    error: float
    network: Network
    shape: Shape
    stage: Stage


@dataclass
class Hunt:
    """A search.

    Attributes:
        root: the data.
        judge: of candidates for them.
        library: see `kan.discover`.
        seed: of networks and starts.
        late: whether the time is up.
        left: seconds that are left.
        tell: told the step and the best candidate.
        known: a reduction that units say.
        whole: whether networks and what candidates leave are looked at, too, and not only what is fast.
        laws: the candidates.
        explored: those whose residuals were looked at.
        sure, unsure: sums of products that are looked at once more.
        floor: what polynomials miss of the labels, as a share of their deviation.
        noise: as much of it as is taken for noise, where it is.
        seen: whether polynomials see that there is noise.
        presumed: what a law and curves of polynomials both miss, so that it must be noise, though polynomials of all columns miss more.
        presumptions: how often curves were named on the mere presumption that what they miss is noise.
        step: what is under way.
    """

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
    floor: float = 0.0
    noise: float = 0.0
    seen: bool = False
    presumed: float = 0.0
    presumptions: int = 0
    step: str = ""

    def run(self) -> None:
        """Go on until a law settles the search, one explains the data as well as polynomials or curves do, or the time is up."""
        if not self.root.symbols or bool((self.root.y == self.root.y[0]).all()):
            self.add(self.judge.law(self.root.back(sympy.Float(float(self.root.y.mean()), 17)), math.inf), self.root.name)
            return
        formula, missed = linear(self.root)
        if missed < ROUND_OFF * float(self.root.y.std()):  # polynomials of many columns take longer to see this
            self.add(self.judge.law(self.root.back(formula), ROUND_OFF), "straight line")
            if self.settled:
                return
        stages = reduced(self.root, self.known, self.late)
        floors = {stage: stage.floor(self.root, self.late) for stage in (*stages, self.root)}
        floor = min(error for error, _ in floors.values())
        self.seen = any(seen for error, seen in floors.values() if error < AS_GOOD * floor)  # polynomials of fewer variables see it better
        if self.told:
            floor, self.seen = self.told, True
        deviation = float(self.root.y.std())
        share = floor / max(deviation, 1e-300)
        self.floor, self.noise = share, share if self.seen else 0.0
        near = [stage for stage in stages if stage.error < WELL or stage.reduction is self.known]
        near += [stage for stage in stages if self.seen and stage not in near and floors[stage][0] < AS_NEAR * floor]
        near.append(self.root)
        far = [stage for stage in stages if stage not in near]
        small = [stage for stage in near if len(stage.symbols) <= FEW]
        others = [stage for stage in (*near, *far) if stage not in small]
        plan = [(self.powers, near), (self.curves, near), (self.sums, near), (self.sums, far)]
        doubtful = not self.seen and CERTAIN < share < FAR
        if doubtful:
            plan.append((self.noisy_sums, near))
        plan += [(self.parts, near), (self.closely, near), (self.products, small), (self.nearly, near)]
        if doubtful:
            plan.append((self.noisy_products, small))
        if self.whole:
            plan += [(self.closely, near), (self.powers, far), (self.curves, far), (self.products, others), (self.nearly, near)]
            plan += [(self.residuals, [self.root]), (self.networks, near), (self.residuals, [self.root])]
        for step, several in plan:
            explained = AS_GOOD * (self.presumed * deviation or (floor if self.seen and share < FAR else 0.0))
            if not (self.late() or self.settled or any(max(law.rmse, law.held_out) < explained for law in self.laws)):
                self.step = step.__name__
                self.show()
                step(several)

    def show(self, how: str = "") -> None:
        """What is looked for, where the last candidate came from, and the best one so far."""
        best = min(self.laws, key=lambda law: law.bits, default=None)
        self.tell(textwrap.shorten(f"{self.step} {how}", SHOWN // 2), "" if best is None else textwrap.shorten(str(best), SHOWN))

    def done(self) -> bool:
        """Whether there is nothing more to look for, or no time; where noise hides the law, others of the same step may be as good."""
        return self.late() or (not self.told and self.settled)

    @property
    def settled(self) -> bool:
        """Whether there is a law with which the search may end."""
        return any(law.settled for law in self.laws)

    def add(self, law: Law | None, how: str) -> None:
        """Take a candidate in; `how` says where it came from."""
        if law is not None:
            self.laws.append(law)
            self.show(how)

    @property
    def told(self) -> float | None:
        """The noise, if the user knows it; that of a part of a law is a bound."""
        return self.judge.noise if self.whole else None

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
                if self.noise:
                    known = self.noise if self.told else None
                else:
                    known = self.judge.noise if stage.plain else None
                found = curve_formulas(
                    stage.x,
                    stage.y,
                    stage.symbols[0],
                    library=self.library,
                    noise=known,
                    stop=self.late,
                    weights=self.weights(stage),
                )
                deviation = 1.0 if self.noise else float(stage.y.std())
                for curve in found[:3]:
                    if not (self.done() and self.laws):  # what was found when the time was up is not lost
                        self.add(self.judge.law(stage.back(curve.formula), min(stage.error, curve.rmse / deviation)), stage.name)

    def sums(self, stages: Sequence[Stage]) -> None:
        """Laws that are a sum of functions of one variable each when the labels are changed."""
        for stage in stages:
            if len(stage.symbols) > 1 and not (self.done() or self.presumed):
                columns, deviation = range(len(stage.symbols)), float(self.root.y.std())
                noise = (self.noise * deviation, deviation) if self.noise else None
                for form, factors in additive(stage, noise=noise, stop=self.late):
                    if not self.done():
                        found = self.split(form, (tuple(columns),) if factors else tuple((i,) for i in columns))
                        self.terms(form, found, max(SEPARATE, MUCH_NOISE * self.noise))

    def products(self, stages: Sequence[Stage]) -> None:
        """Laws that are a sum of products of such functions."""
        for stage in stages:
            allowed = max(FITS, MUCH_NOISE * self.noise, 1.5 * stage.error if stage.error < FAR else 0.0)
            found: list[tuple[float, int, Stage, Terms]] = []
            for form in rewritten(stage) if 1 < len(stage.symbols) <= MOST_INPUTS else ():
                for pattern in patterns(len(stage.symbols)):
                    if self.done() or self.presumed:
                        return
                    terms = self.split(form, pattern)
                    if terms.error < SURE:
                        self.terms(form, terms, allowed)
                        break
                    if terms.error < allowed:
                        found.append((terms.error, len(found), form, terms))
                    self.presuming(form, terms)
            found.sort(key=lambda one: one[:2])
            for error, _, form, terms in found[:MOST_FORMS]:
                if error < (MUCH_NOISE if self.noise else MUCH) * found[0][0]:
                    self.terms(form, terms, allowed)

    def split(self, form: Stage, pattern: Pattern, starts: int = 2) -> Terms:
        """The curves of a pattern."""
        weights = self.weights(form)
        known = None if weights is None else weights.numpy()
        return split(form.x.numpy(), form.y.flatten().numpy(), pattern, self.seed, starts, known, self.late)

    def weights(self, stage: Stage) -> Tensor | None:
        """With which errors are shares of the deviation of the labels that the search began with; None if there is no noise."""
        if not self.noise:
            return None
        share = 1 / float(self.root.y.std())
        return torch.full((len(stage.y),), share, dtype=stage.y.dtype) if stage.weights is None else share * stage.weights

    def parts(self, stages: Sequence[Stage]) -> None:
        """Laws that fall apart: sums of terms of few columns each, and products."""
        for stage in stages:
            if len(stage.symbols) < 2 or self.done():
                continue
            for meeting in summands(stage, stop=self.late):
                alone = {(i,) for i in range(len(stage.symbols))}
                for pattern in dict.fromkeys((meeting.pattern, tuple(sorted(alone.union(meeting.pattern))))):
                    if not self.done():
                        self.terms(meeting.form, self.split(meeting.form, pattern, STARTS), max(FITS, 1.5 * meeting.error), thorough=True)
                if meeting.parts is not None and not self.done():
                    self.combined(meeting.parts)
            if len(stage.symbols) > 2 and not self.done() and (parts := factors(stage, self.late)) is not None:
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

    def presuming(self, form: Stage, found: Terms) -> None:
        """Name curves as if what they miss were noise, if polynomials of all columns miss far more: then these do not tell."""
        bound = min(STANDS_OUT * self.floor, WELL)
        if self.told or not CERTAIN < found.error < bound or self.presumed or self.presumptions == MOST_FORMS:
            return
        with self.supposing(self.floor):  # errors are shares of the root's labels then
            weighted = self.split(form, found.pattern)
        if CERTAIN < weighted.error < bound:
            self.presumptions += 1
            with self.supposing(weighted.error):
                self.terms(form, weighted, bound)

    @contextmanager
    def supposing(self, noise: float) -> Iterator[None]:
        """Look at the data as if they had so much noise."""
        before, self.noise = self.noise, noise
        try:
            yield
        finally:
            self.noise = before

    def noisy_sums(self, stages: Sequence[Stage]) -> None:
        """Sums again, as if what polynomials miss were noise: those of many columns do not tell."""
        with self.supposing(self.floor):
            self.sums(stages)

    def noisy_products(self, stages: Sequence[Stage]) -> None:
        """Sums of products in the same way."""
        with self.supposing(self.floor):
            self.products(stages)

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
        hunt = Hunt(stage, judge, self.library, self.seed, self.late, self.left, lambda step, best: None, whole=False)
        hunt.run()
        laws = sorted(distinct(hunt.laws), key=lambda law: (not law.settled, law.bits))
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
        weights = self.weights(form)
        before = len(self.laws)
        several = formulas(form.x, form.y.flatten(), found, form.symbols, self.library, self.late, thorough, weights)
        missed = found.error * float(self.root.y.std())
        best = found.error if weights is None else missed / (2 * self.judge.scale)  # noise is missed by all that is near the law
        for _, formula in several[: 2 if weights is None else MOST_NOISY]:
            if not (self.done() and self.laws):
                self.add(self.judge.law(form.back(formula), best), f"{found.pattern} of {form.name}")
        alike = any(AS_MUCH * missed < law.rmse and max(law.rmse, law.held_out) < AS_GOOD * missed for law in self.laws[before:])
        if alike and self.noise and found.error < (STANDS_OUT if self.seen else 1.0) * self.floor:
            self.presumed = found.error

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
                    FitOptions(
                        "LM", steps=20, grid_schedule=GridSchedule(4, 0, 8), progress=False, time_limit=max(self.left(), 1e-3)
                    ),
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
        choices = select_jointly(teacher.network, stage.x, stage.y, SelectionOptions(self.library, stop=self.late))
        for choice in choices[:2]:
            how = f"{teacher.shape.name} of {stage.name}"
            if not choice.splines:
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
