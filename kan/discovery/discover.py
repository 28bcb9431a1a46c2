r"""From data to a formula: networks of several shapes are trained, their edges named in context, and the constants made exact.

1. *Shapes.* A sum of functions of single variables ``[n, 1]``, a function of such a sum ``[n, 1, 1]`` (products of powers are one of
   them), a product of two sums, and so on, the simple ones first.
2. *Teacher.* Each is trained by Levenberg-Marquardt on two levels of grids. Where it does not come near the data, the shape is left.
3. *Edges.* `kan.discovery.context` names the edges of those that do.
4. *Constants.* `kan.discovery.constants` fits them until round-off and makes exact what the data allow.

A candidate is ``"exact"`` if it is a formula whose error on samples that no fit has seen is round-off, or, where there is noise, no larger than
on the others and than that of any spline network, with all its constants exact or determined; otherwise it is ``"approximate"``, and
``"spline"`` if not all its edges could be named.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np
import sympy
import torch
from torch import Tensor

from kan.discovery.constants import Fitted, fit_constants, snap_constants
from kan.discovery.context import Choice, Search, in_context
from kan.discovery.formula import symbolic_formula
from kan.network.network import Network
from kan.symbolic.evaluation import evaluate_expression
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule

__all__ = ["Constant", "Discovery", "Law", "discover"]

ROUND_OFF = 1e-10
"""Share of the labels' root mean square below which an error is round-off."""
FAR = 0.2
"""A network that misses the labels by a larger share of their deviation says nothing about the law."""
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
        extrapolated: against the network's own formula... see `Discovery`; None where it is not known.
        complexity: operations, variables and constants of the formula.
        constants: those that are not exact.
        bits: length of the description of formula and labels.
        network: behind it.
    """

    formula: sympy.Expr | None
    verdict: str
    rmse: float
    held_out: float
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
    x, labels = _data(X, y)
    symbols = _symbols(variables, x.shape[1])
    begun = time.monotonic()

    def late() -> bool:
        return time.monotonic() - begun > time_limit

    held = torch.arange(len(x)) % 5 == 2
    known = _Known(x[~held], labels[~held], x[held], labels[held], float(labels.square().mean().sqrt()), noise, symbols, library, late)
    laws: list[Law] = []
    stopped = "all shapes"
    try:
        for width, arity in shapes(x.shape[1]):
            if late():
                stopped = "time limit"
                break
            found = _of_shape(width, arity, known, seed)
            laws += found
            if progress:
                print(f"{width}: " + (str(min(found, key=lambda law: law.bits)) if found else "far from the data"))
            if any(law.verdict == "exact" for law in found):
                stopped = "exact"
                break
    except KeyboardInterrupt:
        stopped = "interrupted"
    return Discovery(sorted(_distinct(laws), key=lambda law: law.bits), symbols, time.monotonic() - begun, stopped)


def shapes(inputs: int) -> Iterator[tuple[list[Any], int]]:
    """Widths and arities of the networks that are tried, the simple ones first."""
    yield [inputs, 1], 2
    yield [inputs, 1, 1], 2
    if inputs > 1:
        yield [inputs, [0, 1], 1], 2
        yield [inputs, [1, 1], 1], 2
        yield [inputs, 2, 1], 2
        yield [inputs, 2, 1, 1], 2
        yield [inputs, [0, 2], 1], 2
        yield [inputs, [1, 1], 1, 1], 2
    if inputs > 2:
        yield [inputs, [0, 1], 1], 3
        yield [inputs, 3, 1], 2
    else:
        yield [inputs, 2, 1], 2
    yield [inputs, 5, 1], 2


# One shape


class _Known(NamedTuple):
    """What the search goes by."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    scale: float
    noise: float | None
    symbols: list[sympy.Symbol]
    library: Any
    late: Callable[[], bool]


def _of_shape(width: list[Any], arity: int, known: _Known, seed: int) -> list[Law]:
    """The candidates of one shape."""
    best: tuple[float, Network] | None = None
    deviation = float(known.y.std())
    for attempt in range(2):
        if known.late():
            break
        network = Network(width, grid=3, k=3, mult_arity=arity, seed=seed + attempt).double()
        network.update_grid(known.x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(network, (known.x, known.y), opt="LM", steps=30, grid_schedule=GridSchedule(5, 0, 10), progress=False)
        error = float((network.trace(known.held_x).output - known.held_y).square().mean().sqrt())
        if best is None or error < best[0]:
            best = error, network
        if error < 1e-3 * deviation:
            break
    if best is None or not best[0] < FAR * deviation:
        return []
    choices = in_context(best[1], known.x, known.y, Search(known.library, stop=known.late))
    return [law for choice in choices[:2] if (law := _law(choice, known)) is not None]


def _law(choice: Choice, known: _Known) -> Law | None:
    network = choice.network
    if choice.kept:
        with torch.no_grad():
            errors = [
                float((network.trace(a).output - b).square().mean().sqrt()) for a, b in ((known.x, known.y), (known.held_x, known.held_y))
            ]
        return Law(None, "spline", *errors, sum(p.numel() for p in network.parameters()), (), choice.bits, network)
    formula = symbolic_formula(network, var=known.symbols)[0][0]
    if formula.has(sympy.zoo, sympy.nan, sympy.oo, sympy.I):  # constants beyond what floating-point numbers hold
        return None
    fitted = fit_constants(formula, known.symbols, known.x, known.y)
    fitted = snap_constants(fitted, known.symbols, known.x, known.y, stop=known.late)
    held = _error(fitted.formula, known)
    if not math.isfinite(held):
        return None
    bits = fitted.bits + 3 * complexity(fitted.formula)
    constants = tuple(Constant(value, fitted.errors[symbol]) for symbol, value in fitted.constants.items())
    return Law(fitted.formula, _verdict(fitted, held, known), fitted.rmse, held, complexity(fitted.formula), constants, bits, network)


def _error(formula: sympy.Expr, known: _Known) -> float:
    columns = dict(zip(known.symbols, known.held_x.unbind(1), strict=True))
    values = evaluate_expression(formula, columns, known.held_y)
    return float((values - known.held_y.flatten()).square().mean().sqrt())


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
        raise ValueError(f"{len(x)} samples are too few for {x.shape[1]} input(s): at least {max(LEAST_SAMPLES, 5 * x.shape[1])} are needed.")
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
