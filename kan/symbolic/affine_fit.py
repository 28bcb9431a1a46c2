r"""The best :math:`y \approx c\,f(a x + b) + d` for a batch of curves and a list of functions :math:`f`.

For given :math:`(a, b)` the pair :math:`(c, d)` is a linear least-squares problem (`kan.symbolic.linear_parameters`), so only
:math:`(a, b)` is searched (`kan.symbolic.search`). This is variable projection. The symmetries of a function remove parameters before the
search: powers and logarithms keep the location ``-b/a`` only, ``exp`` keeps ``a`` only, ``x`` and ``0`` keep nothing. The result is one
representative of its symmetry class (`canonicalise`).

References
    G. H. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables separate",
    1973, doi:10.1137/0710036.
"""

__all__ = ["SymbolicFit", "canonicalise", "fit_affine", "fit_params", "report"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from kan.errors import some_of
from kan.output import say

from .function import SymbolicFunction, TorchFun, regular, sympy_undefined
from .library import SYMBOLIC_LIB
from .linear_parameters import SUM_SAMPLES, SampledCurves, fit_linear_parameters, subsample
from .search import POLISH_ELEMENTS, SearchOptions, search
from .symmetries import Symmetries, canonicalise

DEFAULT_RANGE = (-10.0, 10.0)
"""pykan's default range of a and of b, which means no limit here."""

SHIFTED: dict[TorchFun, TorchFun] = {torch.cos: torch.sin, torch.arccos: torch.arcsin}
"""Functions that equal another one up to a shift and a sign, by that other function. One search serves both."""

MIN_R2_WITHOUT_REMARK = 0.9
"""Value of R^2 below which `report` advises to check the choice of the function; pykan's."""


@dataclass(frozen=True, eq=False)
class SymbolicFit:
    """Best affine parameters of F functions on E curves, in float64.

    Args:
        affine: ``(a, b, c, d)``, shape (F, E, 4).
        r2: Coefficient of determination on all samples, in [0, 1], shape (F, E).
        at_boundary: Whether a or b lies on the boundary of its range or outside, bool, shape (F, E).
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

    The default ranges impose no limit: starting points are in units of the data, and the refinement of (a, b) goes wherever the fit
    improves. Any other range bounds a, or b, in the units of ``x``, unless a symmetry of the function makes it redundant.
    The refinement uses at most 32768 samples of a curve, drawn at random but the same at every call; c, d and R^2 use all samples.

    A candidate is admissible only if ``f`` is finite on every sample and varies sufficiently there. Otherwise a wrong function could
    imitate a line or a tail ever better as ``c`` grows without bound; ``|c|`` is limited to about ``1e4 std(y)``.
    A constant curve, or one without an admissible candidate, gives ``(1, 0, 0, mean(y))`` and ``r2 = 0``, or
    ``(0, 1/2, 0, mean(y))`` where ``f(x)`` is not finite.
    Of equally good fits, the one with the smaller ``|a|`` is returned.

    Args:
        x: Abscissae, shape (N, E), one column per curve.
        y: Ordinates, shape (N, E).
        functions: F symbolic functions.
        a_range: Limits of a; (-10, 10) means none.
        b_range: Limits of b; (-10, 10) means none.
        grid_number: Points per range of the grid of starting points within given limits.
        starts: Number of starting points that are refined.
        iterations: Largest number of Levenberg-Marquardt steps on all samples; each starting point gets half as many on a subsample.
        samples: Samples per curve in the refinement of the starting points.

    Returns:
        Parameters, each the representative chosen by `canonicalise`, and R^2 on all samples.

    Raises:
        ValueError: Shapes differ, there are fewer than two samples, values are not finite, ranges or counts are invalid, or a function
            does not keep the shape of its argument.

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
    options = _search_options(a_range, b_range, SearchOptions(None, grid_number, starts, iterations, samples))
    # The library has some functions under two names; each is fitted once.
    place: dict[tuple[int, Symmetries], int] = {}
    rows = [place.setdefault((id(function.torch_fun), function.symmetries), len(place)) for function in functions]
    distinct = [functions[rows.index(k)] for k in range(len(place))]
    # Derivatives come from autograd, which inference mode would forbid.
    with torch.inference_mode(False), torch.no_grad():
        affine, deficit = _fit_distinct(x, y, distinct, options)
    at_boundary = torch.zeros_like(deficit, dtype=torch.bool)
    for k, function in enumerate(distinct):
        at_boundary[k] = _at_boundary(function, affine[k], a_range, b_range)
    return SymbolicFit(affine[rows], (1 - deficit[rows]).clamp(0.0, 1.0), at_boundary[rows], deficit[rows])


def _fit_distinct(x: Tensor, y: Tensor, functions: Sequence[SymbolicFunction], options: SearchOptions) -> tuple[Tensor, Tensor]:
    """Return ``(a, b, c, d)``, (F, E, 4), and 1 - R^2, (F, E), of curves (N, E); as many curves at a time as memory allows."""
    shape = (len(functions), x.shape[1])
    affine = torch.empty(*shape, 4, dtype=torch.float64, device=x.device)
    deficit = torch.empty(shape, dtype=torch.float64, device=x.device)
    # Limits of b differ for two functions that are shifted against each other.
    others = [SHIFTED.get(f.torch_fun) if options.limits is None else None for f in functions]
    sources = [next((g for g, f in enumerate(functions) if f.torch_fun is other), k) for k, other in enumerate(others)]
    searched = [k for k, source in enumerate(sources) if source == k]
    width = max(1, min(POLISH_ELEMENTS // (max(1, len(functions)) * options.starts * options.samples), SUM_SAMPLES // len(x)))
    for first in range(0, x.shape[1], width):
        some = slice(first, first + width)
        xs, ys = (values[:, some].detach().to(torch.float64).mT.contiguous() for values in (x, y))
        curves = SampledCurves.of(xs, ys)
        slopes, offsets = search(*subsample(xs, ys), [functions[k] for k in searched], options)
        for k, function in enumerate(functions):
            i = searched.index(sources[k])
            a, b = slopes[i], offsets[i]
            if function.torch_fun is torch.cos and sources[k] != k:
                b = b - math.pi / 2  # sin(u) = cos(u - pi/2), while arccos(u) = pi/2 - arcsin(u) needs no shift of u
            affine[k, some], deficit[k, some] = fit_linear_parameters(function, curves, a, b)
    return affine, deficit


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
    """Fit one curve with one function, with pykan's signature.

    Args:
        x: Abscissae, shape (N,).
        y: Ordinates, shape (N,).
        fun: Elementwise torch function. The symmetries of a function of ``SYMBOLIC_LIB`` are known and used.
        a_range: See `fit_affine`.
        b_range: See `fit_affine`.
        grid_number: See `fit_affine`.
        iteration: Not used. In pykan it is the number of rounds of a grid search, which Levenberg-Marquardt steps replace here.
        verbose: Print R^2 and remarks on the fit.
        device: Device of the computation.

    Returns:
        ``tensor([a, b, c, d])`` and ``r2`` (0-dim), in the dtype of ``x``.

    Raises:
        ValueError: ``x`` and ``y`` are not one-dimensional and of one length; otherwise as for `fit_affine`.

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
    """Print pykan's remarks on the fit of one curve with one function.

    Args:
        r2: Its coefficient of determination, 0-dim.
        at_boundary: Whether the search ended on the boundary of a range.
    """
    if at_boundary:
        say("Best value at boundary.")
    say(f"r2 is {float(r2):.6f}")
    if r2 < MIN_R2_WITHOUT_REMARK:
        say("r2 is not very high, please double check if you are choosing the correct symbolic function.")


def _at_boundary(function: SymbolicFunction, affine: Tensor, a_range: tuple[float, float], b_range: tuple[float, float]) -> Tensor:
    """Whether a or b of curves (E, 4) lies on the boundary of its range or outside, unless a symmetry makes it a mere convention."""
    symmetries = function.symmetries
    out = torch.zeros_like(affine[:, 0], dtype=torch.bool)
    for value, (low, high), is_determined in (
        (affine[:, 0], a_range, symmetries.scaling is None),
        (affine[:, 1], b_range, symmetries.scaling is None and symmetries.translation is None and symmetries.period is None),
    ):
        if is_determined:
            edge = 1e-3 * (high - low)
            inside = (value > low + edge) & (value < high - edge)
            mirrored = (-value > low + edge) & (-value < high - edge)
            out |= ~(inside | (mirrored if symmetries.reflection is not None else inside))
    return out & (affine[:, 2] != 0)


def _unnamed(fun: TorchFun) -> SymbolicFunction:
    name = getattr(fun, "__name__", "anonymous")
    return SymbolicFunction(name, fun, partial(sympy_undefined, name), 1, partial(regular, fun))


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


def _search_options(a_range: tuple[float, float], b_range: tuple[float, float], options: SearchOptions) -> SearchOptions:
    """Check the options of a search and add the limits of a and b, if there are any."""
    for name, (low, high) in (("a_range", a_range), ("b_range", b_range)):
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{name} must be two finite numbers (low, high) with low < high, got {(low, high)}.")
    for name, least in (("grid_number", 2), ("starts", 1), ("iterations", 1), ("samples", 2)):
        if (count := getattr(options, name)) < least:
            raise ValueError(f"{name} must be at least {least}, got {count}.")
    bounded = [tuple(limits) != DEFAULT_RANGE for limits in (a_range, b_range)]
    if not any(bounded):
        return options
    unlimited = (-math.inf, math.inf)
    return options._replace(limits=(a_range if bounded[0] else unlimited, b_range if bounded[1] else unlimited))
