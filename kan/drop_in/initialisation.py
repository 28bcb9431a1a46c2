r"""Initial weights of `KANLinear` and, with the edges of a group as one such layer, of `KANConv1d` to `KANConv3d`.

    ``y_j = sum_i (u_ji b(x_i) + s_ji sum_m c_jim f_m(x_i))``,  ``i = 1 ... I``, ``j = 1 ... O``, ``m = 1 ... n``

Schemes
    ``"glorot"``
        ``u ~ N(0, sigma_u^2)``, ``c ~ N(0, sigma_c^2)``, ``s = 1``, with variances that keep those of the values and of the gradients;
        derived below.
    ``"power-law"``
        ``u ~ N(0, h^(2 alpha))``, ``c ~ N(0, h^(2 beta))``, ``s = 1`` with ``h = 1/(I (n + 1))``, ``alpha = 0.25``, ``beta = 1.75``: the
        exponents that did best in the search of Rigas et al. It preserves variances for some sizes only: ``I sigma_u^2`` is
        ``sqrt(I/(n + 1))``.
    ``"efficient-kan"``
        Splines that interpolate noise of ``+-noise/(2 G)`` at the grid points, and uniform ``u`` and ``s``: Kaiming's rule for leaky units,
        with the slopes ``sqrt(5) base`` and ``sqrt(5) spline``. Values and gradients shrink to 0.6 times their size with every layer.
    ``"pykan"``
        Such splines, ``u = base U(-1, 1)/sqrt(I)`` and ``s = spline/sqrt(I)``. These are its ``KANLayer(noise_scale=noise,
        scale_base_mu=0, scale_base_sigma=base, scale_sp=spline)``. Values and gradients shrink to 0.3 times their size with every layer.

    `noise`, `base` and `spline` are the layers' arguments `scale_noise`, `scale_base` and `scale_spline`, or the entries of `SCALES`
    where those are not given. The first two schemes make no use of them. Without a `spline_scaler` the last two have ``c`` times
    `spline`, or times ``spline/sqrt(I)``, instead of ``s``.

Variances that are kept
    Let the weights be independent with mean zero, and let an input be distributed as ``x``. With the moments

    ``R0 = E b(x)^2``, ``R1 = E b'(x)^2``, ``S0 = sum_m E f_m(x)^2``, ``S1 = sum_m E f_m'(x)^2``

    the second moment of an output is ``I (sigma_u^2 R0 + sigma_c^2 S0)``, since all mixed terms vanish, and the gradient of an input is
    ``O (sigma_u^2 R1 + sigma_c^2 S1)`` times that of an output. Layers may follow one another if outputs are distributed as inputs are, so
    the second moment is to be ``v = Var x``. Both are kept if the gains

    ``F = I (sigma_u^2 R0 + sigma_c^2 S0)/v``  and  ``B = O (sigma_u^2 R1 + sigma_c^2 S1)``

    are 1. As in Glorot's rule for linear layers, which has two equations for one variance, their mean is what becomes 1:

    ``sigma_u^2 = 2 (1 - q)/(I R0/v + O R1)``,  ``sigma_c^2 = 2 q/(I S0/v + O S1)``  have  ``F + B = 2 (1 - q) + 2 q``,

    where the splines have the share ``q`` of the sum. How the sum is divided is up to the functions. For SiLU ``R0/v = 0.30`` and
    ``R1 = 0.31`` on ``[-1, 1]``, so that the base function keeps both moments. Independent coefficients, however, make rough curves: for
    20 intervals of cubic splines ``S0/v = 1.4`` and ``S1 = 63``, and what such splines get goes into the gradients alone. With equal
    parts, ``q = 1/2``, as in the paper, a layer has ``F = 0.5`` and ``B = 1.5``. Whatever the functions are, the splines change a gain by
    no more than ``2 q``; hence the small `SPLINE_SHARE`. If the base function is zero, its share goes to the splines.

    What arrives at a layer inside a network is a sum over many edges, hence ``x ~ N((low + high)/2, (high - low)^2/12)``: normal, with the
    mean and variance of the uniform distribution on `grid_range`, and with 8 % beyond its ends, where the functions are what the basis'
    extrapolation makes of them. The moments are integrals over the initial grid, wherever the grid is when weights are drawn anew.

    In a convolution an input is seen by ``O`` outputs at every position of the kernel, and ``O`` in the gain ``B`` becomes `fan_out`.

References
    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    S. Rigas, D. Verma, G. Alexandridis, Y. Wang, "Initialization Schemes for Kolmogorov-Arnold Networks: An Empirical Study", 2025,
    arXiv:2509.03417.

    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kan.bases.base import Basis
from kan.bases.projection import fitted
from kan.errors import unknown_name
from kan.layers.base_functions import BaseFunction

__all__ = [
    "INITIALISATIONS",
    "SCALES",
    "SPLINE_SHARE",
    "Edges",
    "InitialWeights",
    "Moments",
    "Scales",
    "initial_weights",
    "initialise_",
    "moments",
    "scheme",
]

SPLINE_SHARE = 0.001
"""``q`` of the scheme ``"glorot"``: over 8 layers the splines change the size of values and of gradients by 1 % at most. Training that
begins with equal parts ends worse, see ``benchmarks/initialisation.py``."""

ALPHA, BETA = 0.25, 1.75
"""Exponents of the scheme ``"power-law"``."""


class Scales(NamedTuple):
    """Sizes of initial weights, None for those of the scheme."""

    noise: float | None = None
    base: float | None = None
    spline: float | None = None


SCALES = {"efficient-kan": (0.01, 0.3, 0.1), "pykan": (0.5, 1.0, 1.0)}
"""What `Scales` are when not given, by scheme."""


@dataclass(frozen=True)
class Edges:
    """What the schemes need to know of a layer; see the module for the symbols.

    Args:
        basis: of the ``n`` functions.
        grid: its grid, ``(I, P)``. The weights get its dtype and its device.
        out_features: ``O``.
        base_function: ``b``.
        grid_range: ``(low, high)`` of the initial grid.
        grid_size: grid intervals ``G``.
        scales: sizes for the schemes that have them.
        scaled: whether there is an ``s``.
        fan_out: how many outputs an input contributes to, ``O`` when not given.
        channels: how many numbers the base function is given side by side, ``I`` when not given.
    """

    basis: Basis
    grid: Tensor
    out_features: int
    base_function: BaseFunction
    grid_range: tuple[float, float] = (-1.0, 1.0)
    grid_size: int = 5
    scales: Scales = Scales()
    scaled: bool = True
    fan_out: int | None = None
    channels: int | None = None

    @property
    def in_features(self) -> int:
        """``I``."""
        return len(self.grid)

    def scales_of(self, scheme: str) -> Iterator[float]:
        """`scales`, with the scheme's own where there are none."""
        return (own if given is None else given for given, own in zip(self.scales, SCALES[scheme], strict=True))


class InitialWeights(NamedTuple):
    """``u`` ``(O, I)``, ``c`` ``(O, I, n)`` and ``s`` ``(O, I)``, None if the layer has none."""

    base: Tensor
    spline: Tensor
    scaler: Tensor | None


class Moments(NamedTuple):
    """``R0``, ``R1``, ``S0``, ``S1`` of the module."""

    base: float
    base_slope: float
    spline: float
    spline_slope: float


def scheme(name: str | None, scales: Scales) -> str:
    """The scheme's name, where none is given: whoever gives scales means the scheme that they are from."""
    return name or ("glorot" if all(scale is None for scale in scales) else "efficient-kan")


def initial_weights(name: str, edges: Edges, generator: torch.Generator | None = None) -> InitialWeights:
    """Draw the weights of a layer by the scheme `name`.

    Args:
        name: one of `INITIALISATIONS`.
        edges: what the layer is.
        generator: source of the numbers; the global state when not given.

    Raises:
        ValueError: for an unknown name, with the known ones.

    >>> from kan.bases import BSpline
    >>> basis = BSpline(20, 3)
    >>> edges = Edges(basis, basis.initial_grid(32, -1.0, 1.0), 32, torch.nn.functional.silu)
    >>> [round(float(weight.std()), 1) for weight in initial_weights("glorot", edges, torch.Generator().manual_seed(0))[:1]]
    [0.3]
    """
    if name not in INITIALISATIONS:
        raise unknown_name("initialisation", name, INITIALISATIONS)
    with torch.no_grad():
        return INITIALISATIONS[name](edges, generator)


def initialise_(layer: Any, own: type[Any], generator: torch.Generator | None) -> None:
    """Give a new layer its first weights: those of its class `own`, and then what a subclass's ``reset_parameters`` makes of them.

    A method of a subclass is called as torch calls it, without arguments, unless there is a `generator`. It may leave weights alone.
    """
    own.reset_parameters(layer, generator)
    if type(layer).reset_parameters is not own.reset_parameters:
        layer.reset_parameters(*(() if generator is None else (generator,)))


def moments(edges: Edges, x: Tensor, density: Tensor) -> Moments:
    """The moments of `edges` on the initial grid, for inputs that are distributed over the points `x`.

    Args:
        edges: what the layer is.
        x: ``(Q,)`` in float64.
        density: ``(Q,)``, the probability of every point.
    """
    # Inside, gradients are needed, and tensors of inference mode have none.
    with torch.inference_mode(False), torch.enable_grad():
        x, density = x.clone().requires_grad_(), density.clone()
        probe = x[:, None].repeat(1, edges.channels or edges.in_features).requires_grad_()
        base = _exact(edges.base_function, probe)(probe)
        base_slope = _gradient(base.sum(), probe)
        splines, spline_slopes = _functions(edges, x)
    means = [values.detach().square() @ density for values in (base.mT, base_slope.mT, splines, spline_slopes)]
    return Moments(float(means[0].mean()), float(means[1].mean()), float(means[2].sum()), float(means[3].sum()))


def _functions(edges: Edges, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and slopes ``(n, Q)`` of the basis functions on the initial grid."""
    low, high = edges.grid_range
    grid = edges.basis.initial_grid(1, low, high).to(x)
    values = edges.basis.rows(x[None], edges.basis.prepare(grid))[0]
    # The gradient is linear in the cotangent, with all slopes as its factors: two passes, however many functions there are.
    cotangent = torch.zeros_like(values, requires_grad=True)
    return values, _gradient(_gradient(values, x, cotangent).sum(), cotangent)


def _gradient(y: Tensor, x: Tensor, cotangent: Tensor | None = None) -> Tensor:
    """Zero where `y` does not depend on `x`."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    (found,) = torch.autograd.grad(y, x, cotangent, create_graph=cotangent is not None, materialize_grads=True)
    return found


def _exact(function: BaseFunction, like: Tensor) -> BaseFunction:
    """`function` with the dtype and device of `like`, and without what it does in training only, such as to draw numbers."""
    return copy.deepcopy(function).to(like).eval() if isinstance(function, nn.Module) else function


def _normal_inputs(edges: Edges) -> tuple[Tensor, Tensor]:
    """Points and probabilities of the inputs that the module assumes; the trapezoidal rule out to six standard deviations."""
    low, high = edges.grid_range
    z = torch.linspace(-6, 6, 512 + 8 * edges.basis.size, dtype=torch.float64, device=edges.grid.device)
    density = torch.exp(-z.square() / 2)
    return (low + high) / 2 + (high - low) / math.sqrt(12) * z, density / density.sum()


def _glorot(edges: Edges, generator: torch.Generator | None) -> InitialWeights:
    of = moments(edges, *_normal_inputs(edges))
    low, high = edges.grid_range
    ins, outs = edges.in_features * 12 / (high - low) ** 2, edges.fan_out or edges.out_features
    base, spline = ins * of.base + outs * of.base_slope, ins * of.spline + outs * of.spline_slope
    share = SPLINE_SHARE if base > 0 else 1.0
    return _normal(edges, _root(2 * (1 - share), base), _root(2 * share, spline), generator)


def _power_law(edges: Edges, generator: torch.Generator | None) -> InitialWeights:
    step = 1 / (edges.in_features * (edges.basis.size + 1))
    return _normal(edges, step**ALPHA, step**BETA, generator)


def _efficient_kan(edges: Edges, generator: torch.Generator | None) -> InitialWeights:
    noise, base_scale, spline_scale = edges.scales_of("efficient-kan")
    like, shape = edges.grid, (edges.out_features, edges.in_features)
    base = nn.init.kaiming_uniform_(like.new_empty(shape), a=math.sqrt(5) * base_scale, generator=generator)
    spline = _interpolated_noise(edges, noise, generator)
    if not edges.scaled:
        return InitialWeights(base, spline * spline_scale, None)
    return InitialWeights(base, spline, nn.init.kaiming_uniform_(like.new_empty(shape), a=math.sqrt(5) * spline_scale, generator=generator))


def _pykan(edges: Edges, generator: torch.Generator | None) -> InitialWeights:
    noise, base_scale, spline_scale = edges.scales_of("pykan")
    spline = _interpolated_noise(edges, noise, generator)
    # pykan's tensors have the inputs first. In this order, the same generator gives the same edges.
    uniform = torch.rand(edges.in_features, edges.out_features, generator=generator, dtype=torch.float64, device=edges.grid.device).t()
    root = math.sqrt(edges.in_features)
    base = (base_scale / root * (2 * uniform - 1)).to(edges.grid)
    if not edges.scaled:
        return InitialWeights(base, spline * (spline_scale / root), None)
    return InitialWeights(base, spline, torch.full_like(base, spline_scale / root))


INITIALISATIONS: dict[str, Callable[[Edges, torch.Generator | None], InitialWeights]] = {
    "glorot": _glorot,
    "power-law": _power_law,
    "efficient-kan": _efficient_kan,
    "pykan": _pykan,
}
"""Every initialisation by name."""


def _normal(edges: Edges, base_std: float, spline_std: float, generator: torch.Generator | None) -> InitialWeights:
    """Independent normal numbers, drawn in float64 so that they are the same for every dtype."""
    shape = (edges.out_features, edges.in_features)

    def drawn(std: float, *sizes: int) -> Tensor:
        return (std * torch.randn(sizes, generator=generator, dtype=torch.float64, device=edges.grid.device)).to(edges.grid)

    base, spline = drawn(base_std, *shape), drawn(spline_std, *shape, edges.basis.size)
    return InitialWeights(base, spline, torch.ones_like(base) if edges.scaled else None)


def _interpolated_noise(edges: Edges, size: float, generator: torch.Generator | None) -> Tensor:
    """The smallest coefficients ``(O, I, n)`` of curves through uniform noise of ``+-size/(2 G)`` at ``G + 1`` equidistant points."""
    points = torch.linspace(*edges.grid_range, edges.grid_size + 1, dtype=torch.float64, device=edges.grid.device)
    sites = points[:, None].expand(-1, edges.in_features)
    noise = torch.rand(*sites.shape, edges.out_features, generator=generator, dtype=torch.float64, device=edges.grid.device) - 0.5
    values = (noise * size / edges.grid_size).to(edges.grid)
    return fitted(edges.basis, edges.grid, sites.to(edges.grid), values).transpose(0, 1).contiguous()


def _root(share: float, weight: float) -> float:
    """``sqrt(share/weight)``; zero for what has no effect."""
    return math.sqrt(share / weight) if weight > 0 else 0.0
