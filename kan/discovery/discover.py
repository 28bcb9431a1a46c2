r"""From data to a formula.

1. *Fewer variables.* `kan.discovery.reduction.views`: power products, differences and sums of variables that the law depends on, other
   labels.
2. *Power products, curves, sums.* What is left of most laws is a constant, a function of one variable, or a sum of such functions.
3. *Parts.* `kan.discovery.laws.separation` sees which variables meet in terms and factors, which are looked for alone; and so is what a
   candidate leaves of the labels.
4. *Networks* of several shapes are trained by Levenberg-Marquardt, products of sums and functions of sums, and so on, the simple ones
   first; where one comes near to the data, `kan.discovery.edges.joint_selection` names its edges.
5. *Constants.* `kan.discovery.formulas.constants` fits them to the original data until round-off and makes exact what these allow.

Whatever the way to a formula, it is judged on the original data, see `kan.discovery.laws.candidates`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import sympy
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from kan.discovery.data.fill_values import rows_that_stand_alone
from kan.discovery.data.observations import Observations, check_options, observations
from kan.discovery.data.outliers import outlying_rows
from kan.discovery.data.rows import searched_rows, split_rows
from kan.discovery.data.scaling import scaled
from kan.discovery.formulas.round_off import spread
from kan.discovery.laws.candidates import ROUND_OFF, Constant, Judge, Law
from kan.discovery.laws.conclusion import conclude
from kan.discovery.laws.search import Hunt
from kan.discovery.laws.verdict import MOST_ROWS, VERDICTS, Rows
from kan.discovery.reduction.dimensional_analysis import Units, known_units, unit_reduction
from kan.discovery.reduction.invariance import Reduction
from kan.discovery.reduction.views import Stage, symbols_of
from kan.modes import threads
from kan.network.network import Network
from kan.output import progress_bar
from kan.symbolic.library import resolve_library

__all__ = ["Constant", "Discovery", "Law", "discover"]

BAR = "{desc}: {n:.0f} of {total:.0f} s{postfix}"
RESERVED, MOST_RESERVED = 0.1, 1.0
"""Share of the time limit, and largest number of seconds, that are kept for the verdicts at the end."""
LONG, FEWER_ROWS = 5.0, 300
"""Time limit in seconds below which the noise is estimated from fewer rows, and how many."""
OFFSET = 100.0
"""Distance of the labels from zero, in units of their spread, from which on the search sees them without it."""


class Discovery(Sequence[Law]):
    """Candidates, at least one, the best first: by verdict, and by length of description among those with the same verdict.

    Attributes:
        variables: the inputs' symbols.
        seconds: how long it took.
        stopped: ``"exact"``, ``"untested"`` or ``"within noise"``, the verdict on the law that ended the search; ``"all shapes"``,
            ``"time limit"`` or ``"interrupted"``.
        noise: noise floor of the labels, estimated from the data; NaN if it was not.
    """

    def __init__(
        self, laws: Sequence[Law], variables: Sequence[sympy.Symbol], seconds: float, stopped: str, noise: float = math.nan
    ) -> None:
        self._laws, self.variables, self.seconds, self.stopped, self.noise = tuple(laws), tuple(variables), seconds, stopped, noise

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
            with a warning. Of more than `kan.discovery.data.rows.MOST_ROWS` rows, so many drawn by the seed are what the search works on.
        y: ``(N,)`` or ``(N, 1)``, likewise.
        variables: names of the inputs; those of a frame's columns, or else ``x_1 ... x_n``, when not given.
        units: from the name of every variable to the exponents of base units in its unit, such as
            ``{"m": {"kg": 1}, "v": {"m": 1, "s": -1}}``; ``{}`` for none. What they leave of the variables is tried first.
        y_units: of `y`, likewise, such as ``{"kg": 1, "m": 2, "s": -2}``.
        library: names of the functions that curves may be, or a dictionary like ``SYMBOLIC_LIB``; all of it when not given. Power products
            in front, and what undoes a change of the labels around all (exp, roots, inverses, asin ...), may occur in any case.
        time_limit: in seconds, from the call on.
        noise: standard deviation of the errors of `y`, if known.
        seed: of the networks, and of the rows that are drawn. The same seed and data give the same candidates, unless the time limit ends
            the search.
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
    begun = time.monotonic()
    resolve_library(library)  # names that are not there are told first
    check_options(time_limit, noise, seed)
    given, scales = scaled(observations(X, y, variables))
    noise = None if noise is None else noise / scales.y
    dimensions = None if units is None and y_units is None else known_units([str(symbol) for symbol in given.symbols], units, y_units)

    def left() -> float:
        return time_limit - (time.monotonic() - begun)

    reserve = min(MOST_RESERVED, RESERVED * time_limit)

    def late() -> bool:
        return left() <= reserve

    chosen = searched_rows(given.x, given.y, seed)
    searched, labels, symbols = given.x[chosen], given.y[chosen], given.symbols
    x = searched[:, given.kept]
    alone = rows_that_stand_alone(x, labels[:, 0], [str(symbols[i]) for i in given.kept])
    apart = alone.clone()  # outliers take no part in the search either, but in verdicts they are rows like any other
    apart[~alone] = torch.from_numpy(outlying_rows(x[~alone].numpy(), labels[~alone, 0].numpy()))
    inner, held, outer = split_rows(x, labels, apart)
    given = given.varying(searched[inner])
    x = searched[:, given.kept]
    inside = symbols_of("x", x[~alone])
    # With the columns that are left out: the networks of laws take them, to no effect.
    columns = iter(inside)
    names = {next(columns) if i in given.kept else symbol: symbol for i, symbol in enumerate(symbols)}
    root = Stage(x[inner], labels[inner], x[held], labels[held], inside, lambda e: e)
    rows = Rows(x, labels[:, 0], inside, [str(names[symbol]) for symbol in inside], inner, ~alone)
    judge = Judge(root, (x[outer], labels[outer]), names, _size(root.y), noise, late, rows=rows)
    offset = _offset(root.y)
    begin = replace(root, y=root.y - offset, held_y=root.held_y - offset, back=lambda e: e + sympy.Float(offset, 17)) if offset else root
    known = None if dimensions is None else _with_units(given, begin, searched[inner], dimensions)
    interrupted = False
    # With few numbers one thread is quicker than several, which wait for each other.
    with progress_bar(time_limit, "discover", progress, BAR) as bar, threads(1), threadpool_limits(1):

        def tell(step: str, best: str) -> None:
            bar.n = min(time_limit - left(), time_limit)
            bar.set_description_str(step, refresh=False)
            bar.set_postfix_str(best)

        hunt = Hunt(begin, judge, library, seed, late, left, tell, known)
        try:
            hunt.run()
        except KeyboardInterrupt:
            interrupted = True
        every = rows if isinstance(chosen, slice) else replace(rows, x=given.x[:, given.kept], y=given.y[:, 0])
        laws, floor = conclude(hunt.laws, judge, every, MOST_ROWS if time_limit >= LONG else FEWER_ROWS)
    settled = hunt.settled and laws[0].verdict in VERDICTS[:3]
    stopped = "interrupted" if interrupted else laws[0].verdict if settled else "time limit" if late() else "all shapes"
    laws = [scales.undone(law) for law in laws if law.formula is not None or scales.plain]
    for law in laws:
        if law.formula is None and law.trained is not None:
            _widen_(law.trained, given.kept, len(symbols))
    return Discovery(laws, symbols, time.monotonic() - begun, stopped, floor * scales.y)


def _size(y: Tensor) -> float:
    """Size of the labels, which errors are compare with: their deviation, or their round-off over `ROUND_OFF` if that is larger."""
    return max(float(y.std(correction=0)), torch.finfo(y.dtype).eps / ROUND_OFF * float(y.abs().max()))


def _offset(y: Tensor) -> float:
    """What labels far from zero have in common: 0, or their median."""
    middle = float(y.median())
    return middle if abs(middle) > OFFSET * spread(y) else 0.0


def _with_units(given: Observations, root: Stage, x: Tensor, dimensions: tuple[sympy.Matrix, sympy.Matrix]) -> Reduction | None:
    """What units say about the law; columns that are left out have units, too, and are constants or multiples in it."""
    inside = dict(zip(given.kept, root.symbols, strict=True))
    bases = [inside[i] if i in inside else given.meaning(i, inside) for i in range(len(given.symbols))]
    return unit_reduction(x.numpy(), root.y.flatten().numpy(), bases, *dimensions)


def _widen_(network: Network, kept: Sequence[int], width: int) -> None:
    """Let a network of the columns `kept` take all."""
    if network.input_width != width:
        network.input_id, network.input_width = torch.tensor(kept)[network.input_id], width
        network.remember_input(None)
