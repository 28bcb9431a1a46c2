r"""Best :math:`y \approx c\,f(a x + b) + d` for a batch of curves and a list of functions :math:`f`.

For given :math:`(a, b)` the pair :math:`(c, d)` is a linear least-squares problem, so only :math:`(a, b)` is searched
(variable projection; Golub and Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems
whose variables separate, 1973). With :math:`\bar F` the centred samples of :math:`f(a x + b)` and :math:`\bar y` the
centred data,

.. math:: 1 - R^2(a, b) = \|\bar y - c \bar F\|^2 / \|\bar y\|^2, \qquad
          c = \langle \bar F, \bar y\rangle / \|\bar F\|^2 .

The search itself stands in `kan.symbolic.search`; its winner is brought here to one representative of its symmetry class.
The symmetries of a function (:class:`~kan.symbolic.library.Symmetries`) remove parameters before the search: powers and
logarithms keep the location ``-b/a`` only, ``exp`` keeps ``a`` only, ``x`` and ``0`` keep nothing.
"""

__all__ = ["Curves", "SymbolicFit", "canonicalise", "few_samples", "finish", "fit_affine", "fit_params"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kan.errors import some_of
from kan.output import say

from .library import SYMBOLIC_LIB, SymbolicFunction, Symmetries, TorchFun, _regular, _sympy_undefined
from .search import POLISH_ELEMENTS, search
from .slopes import value_of

DEFAULT_RANGE = (-10.0, 10.0)
"""pykan's range of a and of b, which stands for no limit here."""

POLISH_SAMPLES = 2**15
"""Most samples of a curve that the search looks at."""

FINISH_SAMPLES = 2**20
"""Samples that c, d and R^2 are summed over at a time."""

# exp(a x + b) becomes c exp(a x) while |c| stays within [1e-3, 1e3]; beyond, c is +-1 and b holds its logarithm
_MODERATE_LOG_SCALE = math.log(1e3)


@dataclass(frozen=True, eq=False)
class SymbolicFit:
    """Best affine parameters of F functions on E curves, in float64.

    Args:
        affine: ``(a, b, c, d)``, shape (F, E, 4).
        r2: Coefficient of determination on all samples, in [0, 1], shape (F, E).
        at_boundary: Whether a or b lies on the border of its range or beyond, bool, shape (F, E).
        deficit: 1 - R^2 to full relative accuracy, shape (F, E); 1 for a constant curve.
    """

    affine: Tensor
    r2: Tensor
    at_boundary: Tensor
    deficit: Tensor


def fit_affine(
    x: Tensor,
    y: Tensor,
    functions: Sequence[SymbolicFunction],
    *,
    a_range: tuple[float, float] = DEFAULT_RANGE,
    b_range: tuple[float, float] = DEFAULT_RANGE,
    grid_number: int = 101,
    starts: int = 6,
    iterations: int = 24,
    samples: int = 128,
) -> SymbolicFit:
    r"""Fit ``c f(a x + b) + d`` to every curve with every function.

    .. math:: \min_{a,b,c,d} \sum_n \bigl(y_n - c f(a x_n + b) - d\bigr)^2

    The default ranges are no limits: starts are in units of the data, and the polish goes wherever the fit improves. Any other range
    bounds a, or b, in the units of ``x``, wherever a symmetry of the function does not make them redundant.
    The polish uses at most 32768 samples of a curve, drawn at random but always the same; c, d and R^2 are of all samples.

    A candidate counts only if ``f`` is finite on every sample and varies enough there: a wrong function can imitate a
    line or a tail ever better as ``c`` grows without bound, and is stopped at about ``|c| = 1e4 std(y)``.
    A constant curve, or one for which no candidate counts, gives ``(1, 0, 0, mean(y))`` and ``r2 = 0``, or
    ``(0, 1/2, 0, mean(y))`` where ``f(x)`` is not finite.
    Equally good fits are decided for the smaller ``|a|``.

    Args:
        x: Abscissae, shape (N, E), one column per curve.
        y: Ordinates, shape (N, E).
        functions: F rows of the table.
        a_range: Limits of the slope; (-10, 10) stands for none.
        b_range: Limits of the offset; (-10, 10) stands for none.
        grid_number: Points per range of the lattice that limits are searched by.
        starts: Local maxima that are polished.
        iterations: Most Levenberg-Marquardt steps on all samples; the starts get half as many.
        samples: Samples per curve in the search for starts.

    Returns:
        Parameters in the gauge of :func:`canonicalise`, and R^2 on all samples.

    Raises:
        ValueError: Shapes differ, fewer than two samples, values that are not finite, bad ranges or counts, or a
            function that does not keep the shape of its argument.

    Example:
        >>> from kan.symbolic.library import lookup
        >>> x = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
        >>> fit = fit_affine(x, 5 * torch.exp(2 * x) + 0.5, [lookup("exp"), lookup("x")])
        >>> [round(v, 9) for v in fit.affine[0, 0].tolist()]
        [2.0, 0.0, 5.0, 0.5]
        >>> bool(fit.r2[0, 0] > 1 - 1e-13 > fit.r2[1, 0])
        True
    """
    _check_curves(x, y)
    _check_search(a_range, b_range, grid_number, starts, iterations, samples)
    # the table has functions under two names, or that are others shifted: each is searched once
    place: dict[tuple[int, Symmetries], int] = {}
    rows = [place.setdefault((id(function.torch_fun), function.symmetries), len(place)) for function in functions]
    functions = [functions[rows.index(k)] for k in range(len(place))]
    given = tuple(a_range) != DEFAULT_RANGE or tuple(b_range) != DEFAULT_RANGE
    limits = (_limits(a_range), _limits(b_range)) if given else None
    kin = [
        None if given else next((g for g, f in enumerate(functions) if f.torch_fun is KIN.get(function.torch_fun)), None)
        for function in functions
    ]
    alone = [k for k, relative in enumerate(kin) if relative is None]
    shape = (len(functions), x.shape[1])
    width = max(1, min(POLISH_ELEMENTS // (max(1, len(functions)) * starts * samples), FINISH_SAMPLES // len(x)))

    # slopes come from autograd, which inference mode would forbid
    with torch.inference_mode(False), torch.no_grad():
        affine = torch.empty(*shape, 4, dtype=torch.float64, device=x.device)
        deficit = torch.empty(shape, dtype=torch.float64, device=x.device)
        for first in range(0, x.shape[1], width):
            curves = slice(first, first + width)
            xs = x[:, curves].detach().to(torch.float64).mT.contiguous()
            ys = y[:, curves].detach().to(torch.float64).mT.contiguous()
            few, samples_of = few_samples(xs, ys), Curves.of(xs, ys)
            found = dict(
                zip(
                    alone,
                    zip(*search(*few, [functions[k] for k in alone], limits, grid_number, starts, iterations, samples), strict=True),
                    strict=True,
                )
            )
            for k, function in enumerate(functions):
                relative = kin[k]
                a, b = found[k] if relative is None else _shifted(function, *found[relative])
                affine[k, curves], deficit[k, curves] = finish(function, samples_of, a, b)
    at_boundary = (
        torch.stack([_beyond(f, affine[k], a_range, b_range) for k, f in enumerate(functions)]) if functions else affine[..., 0] > 0
    )
    return SymbolicFit(affine[rows], (1 - deficit[rows]).clamp(0.0, 1.0), at_boundary[rows], deficit[rows])


def fit_params(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    fun: TorchFun,
    a_range: tuple[float, float] = DEFAULT_RANGE,
    b_range: tuple[float, float] = DEFAULT_RANGE,
    grid_number: int = 101,
    iteration: int = 3,
    verbose: bool = True,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Fit one curve with one function, under pykan's name and signature.

    Args:
        x: Abscissae, shape (N,).
        y: Ordinates, shape (N,).
        fun: Elementwise torch function; one of ``SYMBOLIC_LIB`` is recognised and fitted in its gauge.
        a_range: See :func:`fit_affine`.
        b_range: See :func:`fit_affine`.
        grid_number: See :func:`fit_affine`.
        iteration: pykan's number of zoom rounds; the polish has taken their place and the value is not used.
        verbose: Print ``r2`` and warnings about it.
        device: Where to compute.

    Returns:
        ``tensor([a, b, c, d])`` and ``r2`` (0-dim), in the dtype of ``x``.

    Raises:
        ValueError: ``x`` and ``y`` are not one-dimensional of one length; otherwise as :func:`fit_affine`.

    Example:
        >>> x = torch.linspace(-1, 1, 100, dtype=torch.float64)
        >>> affine, r2 = fit_params(x, 5 * torch.sin(3 * x + 2) + 0.7, torch.sin, verbose=False)
        >>> [round(v, 9) for v in affine.tolist()]  # sin(u - pi) = -sin(u)
        [3.0, -1.141592654, -5.0, 0.7]
    """
    x, y = (torch.as_tensor(values, device=device) for values in (x, y))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must be one-dimensional and of one length, got {tuple(x.shape)} and {tuple(y.shape)}.")
    row = next((row for row in SYMBOLIC_LIB.values() if row[0] is fun), None)
    row = row if isinstance(row, SymbolicFunction) else _unnamed(fun)
    fit = fit_affine(x[:, None], y[:, None], [row], a_range=a_range, b_range=b_range, grid_number=grid_number)
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    r2 = fit.r2[0, 0].to(dtype)
    if verbose:
        report(r2, fit.at_boundary[0, 0])
    return fit.affine[0, 0].to(dtype), r2


def report(r2: Tensor, at_boundary: Tensor) -> None:
    """Print what pykan prints of the fit of one curve with one function, given its 0-dim `r2` and whether the search met its boundary."""
    if at_boundary:
        say("Best value at boundary.")
    say(f"r2 is {float(r2):.6f}")
    if r2 < 0.9:
        say("r2 is not very high, please double check if you are choosing the correct symbolic function.")


def canonicalise(affine: Tensor, symmetries: Symmetries) -> Tensor:
    r"""Return the representative of ``c f(a x + b) + d`` in the class of equal functions.

    * reflection: :math:`a \ge 0`
    * scaling: :math:`a = \pm 1`, all scale in :math:`c` (powers) or :math:`d` (logarithm)
    * translation: :math:`b = 0`; for ``exp`` unless :math:`|c|` would leave [1e-3, 1e3], then :math:`c = \pm 1`
    * period :math:`P`: :math:`-P/2 < b \le P/2`

    Args:
        affine: ``(a, b, c, d)``, shape (..., 4).
        symmetries: Those of :math:`f`; with none the result equals ``affine``.

    Returns:
        Parameters of the same function of x, shape (..., 4).

    Example:
        >>> canonicalise(torch.tensor([-2.0, 6.0, 1.0, 0.0]), Symmetries(reflection=(-1, 0), scaling=(3, 0))).tolist()
        [1.0, -3.0, -8.0, 0.0]
    """
    a, b, c, d = affine.unbind(-1)
    if symmetries.reflection is not None:
        factor, shift = symmetries.reflection
        flip = a < 0
        d = torch.where(flip, d + c * shift, d)
        c = torch.where(flip, c * factor, c)
        a, b = a.abs(), torch.where(flip, -b, b)
    if symmetries.scaling is not None:
        degree, log_rate = symmetries.scaling
        s = torch.where(a == 0, 1.0, a.abs())
        a, b = a / s, b / s
        d = d + c * log_rate * s.log()
        c = c * s**degree
    if symmetries.translation is not None:
        exp_rate, shift_rate = symmetries.translation
        d = d + c * shift_rate * b
        if exp_rate == 0:
            b = torch.zeros_like(b)
        else:
            # the scale in logarithms: exp(b) itself may overflow
            log_scale = c.abs().log() + exp_rate * b
            large = log_scale.isfinite() & (log_scale.abs() > _MODERATE_LOG_SCALE)
            b = torch.where(large, log_scale / exp_rate, 0.0)
            c = c.sign() * torch.where(large, 1.0, log_scale.exp())
    if symmetries.period is not None:
        period, factor = symmetries.period
        turns = (b / period - 0.5).ceil()
        b = b - turns * period
        c = torch.where(turns.remainder(2) == 1, c * factor, c)
    return torch.stack([a, b, c, d], dim=-1)


KIN: dict[TorchFun, TorchFun] = {torch.cos: torch.sin, torch.arccos: torch.arcsin}
"""Functions that another one is up to shifts and signs: the search finds both at once."""


def _shifted(function: SymbolicFunction, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The (a, b) of a function that its relative's (a, b) make: sin(u) = cos(u - pi/2), arcsin(u) = pi/2 - arccos(u)."""
    return (a, b - math.pi / 2) if function.torch_fun is torch.cos else (a, b)


def few_samples(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Some of very many samples (E, N): the first and the last abscissa, and others at random but the same at every call."""
    n = x.shape[1]
    if n <= POLISH_SAMPLES:
        return x, y
    chosen = torch.randint(n, (POLISH_SAMPLES,), generator=torch.Generator().manual_seed(0)).to(x.device).expand(x.shape[0], -1)
    chosen = torch.cat([chosen, x.argmin(-1, keepdim=True), x.argmax(-1, keepdim=True)], -1)
    return x.gather(1, chosen), y.gather(1, chosen)


class Curves(NamedTuple):
    """Samples (E, N) and what every function's fit to them needs, (E,)."""

    pieces: list[tuple[Tensor, Tensor]]
    mean: Tensor
    total: Tensor
    constant: Tensor
    largest: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> "Curves":
        """Those of samples x and y, (E, N)."""
        # pieces of bounded size: temporaries must not grow with the samples
        pieces = list(zip(x.split(FINISH_SAMPLES, -1), y.split(FINISH_SAMPLES, -1), strict=True))
        mean = y.mean(-1)
        total = torch.stack([(part - mean[:, None]).square().sum(-1) for _, part in pieces]).sum(0)
        constant = total <= y.shape[-1] * (8 * torch.finfo(x.dtype).eps * y.abs().amax(-1)).square()
        return cls(pieces, mean, total, constant, x.abs().amax(-1))


def finish(function: SymbolicFunction, curves: Curves, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return affine (E, 4) and 1 - R^2 (E,) on all samples, from ``a``, ``b`` of shape (E,)."""
    pieces, mean, total, constant, largest = curves
    affine = canonicalise(torch.stack([a, b, torch.ones_like(a), torch.zeros_like(a)], -1), function.symmetries)
    a, b = affine[:, 0], affine[:, 1]
    n = sum(part.shape[-1] for part, _ in pieces)
    affine = torch.zeros_like(affine)
    deficit = torch.ones_like(mean)
    found_any = torch.zeros_like(constant)
    # round-off may push the outermost sample out of the domain of f: step back by that much
    slack = 4 * torch.finfo(a.dtype).eps * (a.abs() * largest + b.abs())
    for a_try, b_try in ((a, b), (a, b + slack), (a, b - slack), (a * (1 - slack), b * (1 - slack))):

        def value(part: Tensor, a: Tensor = a_try, b: Tensor = b_try) -> Tensor:
            return value_of(function, a[:, None] * part + b[:, None])

        first = value(pieces[0][0]) if len(pieces) == 1 else None
        level = torch.stack([(value(part) if first is None else first).sum(-1) for part, _ in pieces]).sum(0) / n
        products = torch.zeros_like(mean)
        squares = torch.zeros_like(mean)
        for part, target in pieces:
            centred = (value(part) if first is None else first) - level[:, None]
            products += (centred * (target - mean[:, None])).sum(-1)
            squares += centred.square().sum(-1)
        c = products / squares
        found = canonicalise(torch.stack([a_try, b_try, c, mean - c * level], dim=-1), function.symmetries)
        rss = torch.zeros_like(mean)
        for part, target in pieces:
            fitted = found[:, 2:3] * value_of(function, found[:, :1] * part + found[:, 1:2]) + found[:, 3:]
            rss += (target - fitted).square().sum(-1)
        quality = rss / total
        good = quality.isfinite() & (quality < deficit) & ~constant
        affine = torch.where(good[:, None], found, affine)
        deficit = torch.where(good, quality, deficit)
        found_any |= good
        if bool((good | constant).all()):
            break
    if not bool(found_any.all()):
        # with c = 0 the curve is d, provided that f is finite: every function of the table is at 1/2
        plain = torch.stack([value_of(function, part).isfinite().all(-1) for part, _ in pieces]).all(0)
        line = torch.stack([plain.to(mean), torch.where(plain, 0.0, 0.5).to(mean), torch.zeros_like(a), mean], dim=-1)
        affine = torch.where(found_any[:, None], affine, line)
    return affine, deficit


def _beyond(function: SymbolicFunction, affine: Tensor, a_range: tuple[float, float], b_range: tuple[float, float]) -> Tensor:
    """Whether a or b of curves (E, 4) lies on the border of its range or beyond, where it is more than a convention."""
    symmetries = function.symmetries
    out = torch.zeros_like(affine[:, 0], dtype=torch.bool)
    for value, (low, high), matters in (
        (affine[:, 0], a_range, symmetries.scaling is None),
        (affine[:, 1], b_range, symmetries.scaling is None and symmetries.translation is None and symmetries.period is None),
    ):
        if matters:
            edge = 1e-3 * (high - low)
            inside = (value > low + edge) & (value < high - edge)
            mirrored = (-value > low + edge) & (-value < high - edge)
            out |= ~(inside | (mirrored if symmetries.reflection is not None else inside))
    return out & (affine[:, 2] != 0)


def _limits(given: tuple[float, float]) -> tuple[float, float]:
    """A range as limits: pykan's default is none."""
    return (-math.inf, math.inf) if tuple(given) == DEFAULT_RANGE else given


def _unnamed(fun: TorchFun) -> SymbolicFunction:
    name = getattr(fun, "__name__", "anonymous")
    return SymbolicFunction(name, fun, partial(_sympy_undefined, name), 1, partial(_regular, fun))


def _check_curves(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(
            f"x and y must both have shape (samples, curves), got {tuple(x.shape)} and {tuple(y.shape)}; give one column per curve."
        )
    if x.shape[0] < 2:
        raise ValueError(f"A fit needs at least two samples per curve, got {x.shape[0]}.")
    for name, values in (("x", x), ("y", y)):
        bad = (~values.isfinite()).any(0).nonzero()[:, 0].tolist()
        if bad:
            raise ValueError(f"{name} must be finite, but has NaN or infinity in column(s) [{some_of(bad)}]; remove those samples.")


def _check_search(
    a_range: tuple[float, float],
    b_range: tuple[float, float],
    grid_number: int,
    starts: int,
    iterations: int,
    samples: int,
) -> None:
    for name, (low, high) in (("a_range", a_range), ("b_range", b_range)):
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{name} must be two finite numbers (low, high) with low < high, got {(low, high)}.")
    for name, count, least in (
        ("grid_number", grid_number, 2),
        ("starts", starts, 1),
        ("iterations", iterations, 1),
        ("samples", samples, 2),
    ):
        if count < least:
            raise ValueError(f"{name} must be at least {least}, got {count}.")
