r"""The search for a law: from data to a formula.

1. *Fewer variables.* Power products, differences and sums of the variables on which the law depends, and transforms of the labels
   (`kan.discovery.reduction.views`).
2. *Power products, curves, sums.* What remains of most laws is a constant, a function of one variable, or a sum or product of such
   functions (`kan.discovery.laws.curve_steps`).
3. *Parts.* Laws that separate into terms or factors of few variables are searched part by part (`kan.discovery.laws.separation`). The
   residuals of a candidate are searched, too.
4. *Networks* of several shapes are trained by Levenberg-Marquardt, the simple ones first. If one comes close to the labels, its edges are
   replaced by functions (`kan.discovery.laws.trained_networks`).
5. *Constants.* They are fitted to the original data down to round-off, and made exact where the data allow it
   (`kan.discovery.formulas.constants`).

`kan.discovery.laws.search` has the table of the steps. Whatever step proposes a candidate, it is evaluated on the original data, see
`kan.discovery.laws.candidates`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import sympy
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from kan.discovery.data.fill_values import rows_with_fill_values
from kan.discovery.data.observations import Observations, check_options, observations
from kan.discovery.data.outliers import outlying_rows
from kan.discovery.data.rows import searched_rows, split_rows
from kan.discovery.data.scaling import UnitScales, scaled
from kan.discovery.formulas.round_off import spread
from kan.discovery.laws.candidates import ROUND_OFF_ERROR, Constant, Evaluator, Law
from kan.discovery.laws.conclusion import conclude
from kan.discovery.laws.search import search
from kan.discovery.laws.search_state import SearchState, SearchTask
from kan.discovery.laws.verdict import NOISE_ROWS, VERDICTS, VerdictRows
from kan.discovery.reduction.dimensional_analysis import Units, known_units, unit_reduction
from kan.discovery.reduction.invariance import Reduction
from kan.discovery.reduction.views import View, symbols_of
from kan.modes import threads
from kan.network.network import Network
from kan.output import progress_bar
from kan.symbolic.library import resolve_library

__all__ = ["Constant", "Discovery", "Law", "discover"]

BAR = "{desc}: {n:.0f} of {total:.0f} s{postfix}"
"""Format of the progress bar."""
RESERVED_SHARE = 0.1
"""Share of the time limit that is kept for the verdicts at the end."""
MAX_RESERVED_SECONDS = 1.0
"""Largest number of seconds that are kept for the verdicts at the end."""
SHORT_LIMIT_SECONDS = 5.0
"""Time limit in seconds below which the noise is estimated from `FEW_NOISE_ROWS` rows."""
FEW_NOISE_ROWS = 300
"""Number of rows from which the noise is estimated if the time limit is short."""
MAX_MEDIAN_TO_SPREAD = 100.0
"""Ratio of the median of the labels to their spread above which the search works on the labels without their median."""


class Discovery(Sequence[Law]):
    """The candidates of a search, at least one, the best first: by verdict, and by length of description within a verdict.

    Attributes:
        variables: symbols of the variables.
        seconds: duration of the search.
        stopped: why the search ended: ``"exact"``, ``"untested"`` or ``"within noise"``, which is the verdict on the law that ended it,
            ``"all shapes"``, ``"time limit"`` or ``"interrupted"``.
        noise: noise floor of the labels, estimated from the data; NaN if it was not estimated.
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
        """The candidates that have a smaller held-out error than all simpler ones, the simplest first."""
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
    """Search for the law that `y` follows.

    Args:
        X: the variables, ``(N, n)``: tensors, arrays, lists or frames of real numbers. Columns that are constant or multiples of others are
            left out, with a warning. If there are more than `kan.discovery.data.rows.MAX_SEARCHED_ROWS` rows, the search works on that
            many, drawn at random.
        y: the labels, ``(N,)`` or ``(N, 1)``, likewise.
        variables: names of the variables; those of a frame's columns, or else ``x_1 ... x_n``, when not given.
        units: the unit of every variable, by its name, as exponents of base units, such as
            ``{"m": {"kg": 1}, "v": {"m": 1, "s": -1}}``; ``{}`` means dimensionless. Dimensionless variables are tried first.
        y_units: the unit of `y`, likewise, such as ``{"kg": 1, "m": 2, "s": -2}``.
        library: names of the functions that curves may be, or a dictionary like ``SYMBOLIC_LIB``; all of it when not given. Factors that
            are power products, and inverses of transforms of the labels around the formula (exp, roots, inverses, asin ...), may occur in
            any case.
        time_limit: duration in seconds, from the call on.
        noise: standard deviation of the errors of `y`, if known.
        seed: seed of the networks, and of the rows that are drawn. The same seed and data give the same candidates, unless the time limit
            ends the search.
        progress: whether there is a progress bar, with the seconds that passed, the present step, and the best candidate.

    Returns:
        The candidates. Ctrl-C ends the search and keeps what was found.

    Raises:
        TypeError, ValueError: for data that do not match or are not finite, constant labels, too few rows, unusable names, impossible
            units, or options out of their range.

    >>> points = torch.rand(200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> discover(points, torch.exp(2 * points), seed=0)[0].formula
    exp(2*x_1)
    """
    begun = time.monotonic()
    resolve_library(library)  # unknown names are reported before data are prepared
    check_options(time_limit, noise, seed)
    given, scales = scaled(observations(X, y, variables))
    dimensions = None if units is None and y_units is None else known_units([str(symbol) for symbol in given.symbols], units, y_units)

    def left() -> float:
        return time_limit - (time.monotonic() - begun)

    reserve = min(MAX_RESERVED_SECONDS, RESERVED_SHARE * time_limit)

    def late() -> bool:
        return left() <= reserve

    data = _prepared(given, scales, noise, seed, late)
    known = None if dimensions is None else _reduction_by_units(data, dimensions)
    interrupted = False
    # With few numbers one thread is faster than several, which wait for each other.
    with progress_bar(time_limit, "discover", progress, BAR) as bar, threads(1), threadpool_limits(1):

        def notify(step: str, best: str) -> None:
            bar.n = min(time_limit - left(), time_limit)
            bar.set_description_str(step, refresh=False)
            bar.set_postfix_str(best)

        state = SearchState(SearchTask(data.view, data.evaluator, library, seed, late, left, notify, known))
        try:
            search(state)
        except KeyboardInterrupt:
            interrupted = True
        noise_rows = NOISE_ROWS if time_limit >= SHORT_LIMIT_SECONDS else FEW_NOISE_ROWS
        laws, floor = conclude(state.laws, data.evaluator, data.every_row, noise_rows)
    settled = state.settled and laws[0].verdict in VERDICTS[:3]
    stopped = "interrupted" if interrupted else laws[0].verdict if settled else "time limit" if late() else "all shapes"
    laws = [scales.undone(law) for law in laws if law.formula is not None or scales.plain]
    for law in laws:
        if law.formula is None and law.trained is not None:
            _widen_(law.trained, data.given.kept, len(given.symbols))
    return Discovery(laws, given.symbols, time.monotonic() - begun, stopped, floor * scales.y)


@dataclass(frozen=True)
class _PreparedData:
    """The data of a search.

    Attributes:
        given: all data, without the columns that are constant in the fitted rows.
        view: the fitted and the held-out rows, with labels from which an offset may have been subtracted.
        fitted_x: all columns of the fitted rows, those included that are left out of the search, ``(M, n)``.
        evaluator: makes candidates for these data.
        every_row: all rows, on which exact laws are tested at the end; there may be more than the search works on.
    """

    given: Observations
    view: View
    fitted_x: Tensor
    evaluator: Evaluator
    every_row: VerdictRows


def _prepared(given: Observations, scales: UnitScales, noise: float | None, seed: int, late: Callable[[], bool]) -> _PreparedData:
    """Choose the rows of a search, leave out fill values and outliers, and divide the others into fitted, held-out and outermost rows."""
    chosen = searched_rows(given.x, given.y, seed)
    searched, labels = given.x[chosen], given.y[chosen]
    x = searched[:, given.kept]
    filled = rows_with_fill_values(x, labels[:, 0], [str(given.symbols[i]) for i in given.kept])
    excluded = filled.clone()  # outliers take no part in the search either, but verdicts treat them like all other rows
    excluded[~filled] = torch.from_numpy(outlying_rows(x[~filled].numpy(), labels[~filled, 0].numpy()))
    fitted, held, outermost = split_rows(x, labels, excluded)
    given = given.varying(searched[fitted])
    x = searched[:, given.kept]
    inside = symbols_of("x", x[~filled])
    # The columns that are left out have names, too: networks of laws take them as inputs, without any effect.
    columns = iter(inside)
    names = {next(columns) if i in given.kept else symbol: symbol for i, symbol in enumerate(given.symbols)}
    root = View(x[fitted], labels[fitted], x[held], labels[held], inside, lambda e: e)
    rows = VerdictRows(x, labels[:, 0], inside, [str(names[symbol]) for symbol in inside], fitted, ~filled)
    given_noise = None if noise is None else noise / scales.y
    evaluator = Evaluator(root, (x[outermost], labels[outermost]), names, _size(root.y), given_noise, late, rows=rows)
    offset = _offset(root.y)
    view = replace(root, y=root.y - offset, held_y=root.held_y - offset, back=lambda e: e + sympy.Float(offset, 17)) if offset else root
    every = rows if isinstance(chosen, slice) else replace(rows, x=given.x[:, given.kept], y=given.y[:, 0])
    return _PreparedData(given, view, searched[fitted], evaluator, every)


def _size(y: Tensor) -> float:
    """Size of the labels, with which errors are compared: their deviation, or their round-off over `ROUND_OFF_ERROR` if that is larger."""
    return max(float(y.std(correction=0)), torch.finfo(y.dtype).eps / ROUND_OFF_ERROR * float(y.abs().max()))


def _offset(y: Tensor) -> float:
    """The median of labels that are far from zero, and 0 for all others; see `MAX_MEDIAN_TO_SPREAD`."""
    middle = float(y.median())
    return middle if abs(middle) > MAX_MEDIAN_TO_SPREAD * spread(y) else 0.0


def _reduction_by_units(data: _PreparedData, dimensions: tuple[sympy.Matrix, sympy.Matrix]) -> Reduction | None:
    """The reduction that follows from units. Columns that are left out have units, too; they are constants or multiples of others."""
    given = data.given
    inside = dict(zip(given.kept, data.view.symbols, strict=True))
    bases = [inside[i] if i in inside else given.meaning(i, inside) for i in range(len(given.symbols))]
    return unit_reduction(data.fitted_x.numpy(), data.view.y.flatten().numpy(), bases, *dimensions)


def _widen_(network: Network, kept: Sequence[int], width: int) -> None:
    """Let a network of the columns `kept` take all columns as inputs, in place."""
    if network.input_width != width:
        network.input_id, network.input_width = torch.tensor(kept)[network.input_id], width
        network.remember_input(None)
