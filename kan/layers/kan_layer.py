r"""The KAN layer: a learnable function on every edge, summed at every output.

    ``y_j(x) = sum_i phi_ij(x_i)``,  ``phi_ij(x) = mask_ij (scale_base_ij b(x) + scale_sp_ij sum_m coef_ijm B_m(x))``

with ``b`` the base function (SiLU) and ``B_m`` the B-splines on input i's own knots, or the functions of another basis. With the features
``psi_i(x) = [b(x), B_1(x), ..., B_n(x)]`` of an input (shape ``(B, I, n+1)``, no output index) and the scales and the mask folded into
weights ``w_ij`` (shape ``(I, n+1, O)``), ``phi_ij = psi_i . w_ij`` and the layer is one matrix product.

References
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756, section 2.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from kan.bases.base import Basis
from kan.bases.bspline import BSpline
from kan.bases.knots import uniform_knots
from kan.bases.projection import fitted
from kan.errors import level_of_caller
from kan.layers.arguments import interval, make_basis
from kan.layers.base_functions import COMPILED_ZERO, compiled_number
from kan.layers.checks import check_dense, check_samples, checked_rows
from kan.layers.computed import settled, take_apart_
from kan.layers.edge_functions import EdgeFunctions, SampledAt, has_knots
from kan.layers.edge_values import edge_values
from kan.layers.features import Features, edge_weight, feature_rows
from kan.layers.ordinary_module import OrdinaryModule
from kan.layers.prepared_grid import PreparedGrid
from kan.layers.zero_gradient import with_zero_gradients
from kan.older_names import understood
from kan.pickling import packed, unpacked

__all__ = ["KANLayer", "sparse_mask", "with_degree"]

class KANLayer(OrdinaryModule):
    """Layer of ``in_dim * out_dim`` learnable edge functions.

    Args:
        in_dim, out_dim: number of inputs ``I`` and outputs ``O``.
        num: grid intervals ``G`` on `grid_range`.
        k: degree of the B-splines. Other bases have ``G + k`` functions, too.
        noise_scale: amplitude of the initial splines; they interpolate uniform noise of ``+-noise_scale/(2 G)`` at the grid points.
        scale_base_mu, scale_base_sigma: initial ``scale_base`` is ``(mu + sigma U(-1, 1)) / sqrt(I)``.
        scale_sp: initial ``scale_sp`` is ``scale_sp / sqrt(I)``.
        base_fun: the base function ``b``.
        grid_eps: grid updates mix ``grid_eps`` of a uniform grid with ``1 - grid_eps`` of the samples' quantiles.
        grid_range: ``[low, high]`` of the initial grid.
        sp_trainable, sb_trainable: whether ``scale_sp`` and ``scale_base`` are trained.
        save_plot_data: accepted for compatibility, without effect.
        device: where the parameters live.
        sparse_init: start with the mask of `sparse_mask` instead of ones.
        generator: source of the initial noise; the global state, as in ``torch.nn``, when not given.
        basis: the name of a registered basis, which then has ``G + k`` functions; or a `Basis`, whose own number of functions counts.

    Attributes:
        grid: knots ``(I, G + 2k + 1)``, not trained; of other bases the ``P`` numbers that these need, ``(I, P)``.
        coef: ``(I, O, G + k)``.
        mask, scale_base, scale_sp: ``(I, O)``; the mask is not trained.
    """

    _basis: Basis = BSpline()  # of layers in older pickles

    def __init__(
        self,
        in_dim: int = 3,
        out_dim: int = 2,
        num: int = 5,
        k: int = 3,
        noise_scale: float = 0.5,
        scale_base_mu: float = 0.0,
        scale_base_sigma: float = 1.0,
        scale_sp: float = 1.0,
        base_fun: Callable[[Tensor], Tensor] | None = None,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1.0, 1.0),
        sp_trainable: bool = True,
        sb_trainable: bool = True,
        save_plot_data: bool = True,
        device: torch.device | str = "cpu",
        sparse_init: bool = False,
        generator: torch.Generator | None = None,
        basis: str | Basis = "bspline",
        **older: Any,
    ) -> None:
        understood("KANLayer", KANLayer, older)
        super().__init__()
        _check_sizes(num, k)
        low, high = interval(grid_range)
        self._basis, self.k = with_degree(make_basis(basis, int(num), int(k), None), int(k))
        num = self._basis.size - self.k
        self.base_fun: Callable[[Tensor], Tensor] = nn.SiLU() if base_fun is None else base_fun
        self.grid_eps = grid_eps

        grid = _initial_grid(self._basis, in_dim, low, high, torch.get_default_dtype())
        coef = _initial_coef(self._basis, num, (low, high), (in_dim, out_dim), noise_scale, generator)
        mask = sparse_mask(in_dim, out_dim) if sparse_init else torch.ones(in_dim, out_dim)
        uniform = torch.rand(in_dim, out_dim, generator=generator) * 2 - 1
        base = (scale_base_mu + scale_base_sigma * uniform) / in_dim**0.5

        self.grid = nn.Parameter(grid, requires_grad=False)
        self.coef = nn.Parameter(coef)
        self.mask = nn.Parameter(mask, requires_grad=False)
        self.scale_base = nn.Parameter(base, requires_grad=sb_trainable)
        self.scale_sp = nn.Parameter(scale_sp / in_dim**0.5 * mask, requires_grad=sp_trainable)
        self._prepared = PreparedGrid(widened=False)
        self.to(device)

    @property
    def in_dim(self) -> int:
        """Number of inputs ``I``."""
        return self.coef.shape[0]

    @property
    def out_dim(self) -> int:
        """Number of outputs ``O``."""
        return self.coef.shape[1]

    @property
    def num(self) -> int:
        """Number of grid intervals ``G``: that of the functions less `k`."""
        return self.coef.shape[2] - self.k

    @property
    def basis(self) -> Basis:
        """The basis of the edges' functions."""
        return self._basis.resized(self.num, self.k)

    @property
    def has_knots(self) -> bool:
        """Whether the functions are splines into which knots can be inserted, see `kan.layers.edge_functions.has_knots`."""
        return has_knots(self._basis)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.grid.device  # a coefficient that a pre-hook computes may be from before the layer was moved

    @property
    def prepared_grid(self) -> Any:
        """What the basis has worked out about the present grid, made anew whenever that has changed."""
        return self._prepared.of(self.grid, self.basis)

    def share_table(self, twin: KANLayer) -> None:
        """Spare a copy of this layer from preparing the grid anew."""
        twin._prepared = self._prepared.shared()

    def __getstate__(self) -> dict[str, object]:
        return packed(super().__getstate__(), "base_fun")

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__({"_prepared": PreparedGrid(widened=False), **unpacked(state)})

    def extra_repr(self) -> str:
        """Sizes, as shown by ``print(layer)``."""
        other = "" if self.basis == BSpline(self.num, self.k) else f", basis={self.basis}"
        return f"in_dim={self.in_dim}, out_dim={self.out_dim}, num={self.num}, k={self.k}{other}"

    def features(self, x: Tensor) -> Tensor:
        """``psi_i(x_i) = [b(x_i), B_1(x_i), ..., B_n(x_i)]``, shape ``(B, I, n+1)`` from `x` ``(B, I)``; the batch is last in memory."""
        return self.feature_rows(x.t()).permute(2, 0, 1)

    def feature_rows(self, x: Tensor) -> Tensor:
        """`features` with the batch last: `x` ``(I, B)`` to ``(I, n+1, B)``."""
        x = x.to(self.coef.dtype)  # under autocast sums have fewer digits than positions need
        return feature_rows(x, self.prepared_grid, self.base_fun, self.basis)

    def features_at(self, x: Tensor, *, slopes: bool, inputs: Sequence[int] | None = None) -> Features:
        """The features of some inputs without a graph, and their derivatives; the base function must be elementwise.

        Args:
            x: ``(I, B)``.
            slopes: whether derivatives are wanted.
            inputs: the layer's inputs that the rows of `x` are; all of them, in order, when not given.
        """
        prepared = self.prepared_grid if inputs is None else self._prepared.of_some(self.grid, self.basis, tuple(inputs))
        return Features.at(x, prepared, self.base_fun, self.basis, slopes=slopes)

    def edge_weight(self) -> Tensor:
        """Edge weights ``w_ij`` of the features, scales and mask folded in, ``(I, n+1, O)``."""
        return edge_weight(self.coef, self.scale_base, self.scale_sp, self.mask)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The layer's output with all edge activations.

        Args:
            x: ``(B, I)``; numbers of two bytes are taken in the layer's own type.

        Raises:
            TypeError: if `x` holds no numbers of the layer's type.
            ValueError: if it has another shape.

        Returns:
            ``(y, preacts, postacts, postspline)``: `y` ``(B, O)``; the others ``(B, O, I)``: the edge's input ``x_i``, its output
            ``phi_ij(x_i)`` and its bare spline before scale and mask.
        """
        check_dense(x)
        x = checked_rows(x, self.in_dim, self.grid.dtype)
        postacts, postspline = _edges(self, x)
        y = with_zero_gradients(postacts.sum(-1), [self.grid])
        return y, x[:, None, :].expand_as(postacts), postacts, postspline

    def edge_functions(self) -> EdgeFunctions:
        """The bare functions of the edges, before scales and mask."""
        return EdgeFunctions(self.basis, self.grid.detach(), settled(self, "coef"), self.prepared_grid)

    @torch.no_grad()
    def update_grid_from_samples(self, x: Tensor, mode: SampledAt = "sample") -> None:
        """Move the grid to where the samples are and refit the functions, in place.

        The new grid points of splines are ``grid_eps * uniform + (1 - grid_eps) * quantiles`` of each column; other bases follow the
        samples as their `Basis.adapted_grid` says. The coefficients are the least-squares fit of the old functions at the samples
        (``mode='sample'``) or at ``2 G`` intervals of the same recipe (``mode='grid'``). Where that would be far from the old function in
        between, they are its best approximation on the whole interval, see `kan.bases.projection`. A constant column, or one whose samples
        do not determine a grid, keeps its grid and coefficients, with a warning.

        Args:
            x: ``(B, I)`` samples.
            mode: where the old functions are sampled.

        Raises:
            ValueError: if `x` has another number of columns, no rows, or is not finite.
        """
        _check_samples(self, x)
        kept = self.adapt_grid_(x, mode)
        if kept:
            what = f"span an increasing grid of {self.num} intervals" if self.has_knots else f"determine a grid of {self.basis}"
            warnings.warn(
                f"grid update: the samples of input(s) {kept} do not {what} (constant or repeated values); their grid and coefficients "
                f"are kept.",
                stacklevel=level_of_caller(),
            )

    @torch.no_grad()
    def adapt_grid_(self, x: Tensor, mode: SampledAt = "sample") -> list[int]:
        """`update_grid_from_samples` without the warning: returns the inputs whose grid was kept."""
        new = self.edge_functions().adapted(x, self.num, self.grid_eps, mode)
        self.grid.copy_(new.grid)
        self.coef.copy_(new.coef)
        if new.prepared is not None and not torch.is_inference_mode_enabled():
            self._prepared.keep(self.grid, self.basis, new.prepared)
        return [int(i) for i in (~new.usable).nonzero()[:, 0]]

    @torch.no_grad()
    def initialize_grid_from_parent(self, parent: KANLayer, x: Tensor | None, mode: SampledAt = "sample") -> None:
        """Take over the functions of `parent` on a grid of this layer's own number of intervals.

        New grid point ``m`` of splines is the parent's grid read at the fractional index ``m G_parent / G``; other bases keep their
        intervals. Where the new space contains the parent's function, that is kept to round-off; elsewhere it is the closest one at the
        samples and in between, see `kan.bases.projection`. Where samples lie outside of the grid of splines, the outer knots are the
        parent's too, and so is the function there.

        Args:
            parent: a layer with the same inputs, outputs, degree and kind of basis.
            x: ``(B, I)`` samples, or None to go without.
            mode: where the parent is sampled, as in `update_grid_from_samples`.

        Raises:
            ValueError: if the layers do not match or `x` is bad input.
        """
        _check_parent(self, parent)
        if x is not None:
            _check_samples(self, x)
        grid, coef = parent.edge_functions().refined(self.basis, self.num, x, self.grid_eps, mode)
        self.grid.copy_(grid)
        self.coef.copy_(coef)

    def get_subset(self, in_id: Sequence[int], out_id: Sequence[int]) -> KANLayer:
        """A new layer with the inputs `in_id` and the outputs `out_id` of this one, everything else as here.

        A pruning by torch is kept. Other parameters that torch computes from others, such as parametrizations, become ordinary ones.
        """
        return _subset(self, list(in_id), list(out_id))

    @torch.no_grad()
    def swap(self, i1: int, i2: int, mode: Literal["in", "out"] = "in") -> None:
        """Exchange two inputs (``mode='in'``) or two outputs (``'out'``), in place."""
        parameters = [self.coef, self.mask, self.scale_base, self.scale_sp]
        axis = 0 if mode == "in" else 1
        for parameter in parameters + ([self.grid] if mode == "in" else []):
            order = torch.arange(parameter.shape[axis], device=parameter.device)
            order[[i1, i2]] = order[[i2, i1]]
            parameter.copy_(parameter.index_select(axis, order))


def _edges(layer: KANLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``(B, O, I)`` of all edges, and of their bare splines."""
    prepared, number = layer.prepared_grid, compiled_number(layer.base_fun)
    splines = edge_values(x, layer.coef, None, None, prepared, layer.base_fun, COMPILED_ZERO)
    if splines is not None and number is not None:
        scales = layer.mask * layer.scale_sp, layer.mask * layer.scale_base
        values = edge_values(x, layer.coef, *scales, prepared, layer.base_fun, number)
        if values is not None:
            return values.permute(1, 2, 0), splines.permute(1, 2, 0)
    features = layer.features(x)
    values = torch.einsum("bin,ino->boi", features, layer.edge_weight())
    return values, torch.einsum("bin,ion->boi", features[..., 1:], layer.coef)


def _check_sizes(num: int, k: int) -> None:
    if num < 1:
        raise ValueError(f"num, the number of grid intervals, must be at least 1; got {num}.")
    if k < 0:
        raise ValueError(f"k, the degree of the splines, must be at least 0; got {k}.")


def _check_samples(layer: KANLayer, x: Tensor) -> None:
    if x.dim() != 2 or x.shape[1] != layer.in_dim or x.shape[0] < 1:
        raise ValueError(f"samples must have the shape (number of samples, {layer.in_dim}); got {tuple(x.shape)}.")
    check_samples(x)


def _check_parent(layer: KANLayer, parent: KANLayer) -> None:
    """Raise ``ValueError`` unless `layer` can take over the functions of `parent`."""
    ours, theirs = ((one.in_dim, one.out_dim, one.k) for one in (layer, parent))
    if ours != theirs:
        raise ValueError(f"the parent layer must have the same inputs, outputs and degree: expected {ours}, got {theirs}.")
    if parent.basis.resized(layer.num, layer.k) != layer.basis:
        raise ValueError(f"the parent layer must have a basis of the same kind: expected one like {layer.basis}, got {parent.basis}.")


def _subset(layer: KANLayer, inputs: list[int], outputs: list[int]) -> KANLayer:
    """See `KANLayer.get_subset`."""
    subset = copy.deepcopy(layer)
    computed = take_apart_(subset)
    for name in ("coef", "mask", "scale_base", "scale_sp"):
        old = getattr(subset, name)
        setattr(subset, name, nn.Parameter(old.detach()[inputs][:, outputs].clone(), old.requires_grad))
    subset.grid = nn.Parameter(subset.grid.detach()[inputs].clone(), requires_grad=False)
    subset._prepared = layer._prepared.of_inputs(inputs)
    for name, how in computed.items():
        if isinstance(how, Tensor):
            prune.custom_from_mask(subset, name, how[inputs] if name == "grid" else how[inputs][:, outputs])
    return subset


def with_degree(basis: Basis, k: int) -> tuple[Basis, int]:
    """A basis with the number ``k`` by which its functions are more than the grid intervals: the degree of splines, else `k` or less."""
    return basis, basis.degree if isinstance(basis, BSpline) else min(k, basis.size - 1)


def _initial_grid(basis: Basis, inputs: int, low: float, high: float, dtype: torch.dtype) -> Tensor:
    """The grid ``(I, P)`` on ``[low, high]``; knots are computed in `dtype`, as they always have been."""
    if isinstance(basis, BSpline):
        return uniform_knots(low, high, basis.intervals, basis.degree, inputs, dtype)
    return basis.initial_grid(inputs, low, high).to(dtype)


def _initial_coef(
    basis: Basis, num: int, ends: tuple[float, float], size: tuple[int, int], noise_scale: float, generator: torch.Generator | None
) -> Tensor:
    """Coefficients ``(I, O, n)`` of functions near uniform noise of ``+-noise_scale/(2 G)`` at ``G + 1`` equidistant points."""
    noise = (torch.rand(num + 1, *size, generator=generator) - 0.5) * noise_scale / num
    if not noise_scale:
        return torch.zeros(*size, basis.size)
    interpolation = _interpolation if isinstance(basis, Hashable) else _interpolation.__wrapped__
    through = interpolation(basis, *ends, num, noise.dtype).to(noise.device)
    return torch.einsum("bio,bn->ion", noise.double(), through).to(noise.dtype)


@lru_cache(maxsize=64)
def _interpolation(basis: Basis, low: float, high: float, num: int, dtype: torch.dtype) -> Tensor:
    """``(G+1, n)``: what values at ``G + 1`` equidistant points are multiplied with to give the coefficients of functions near them."""
    with torch.inference_mode(False), torch.no_grad():
        grid = _initial_grid(basis, 1, low, high, dtype)
        if isinstance(basis, BSpline):
            points = torch.linspace(low, high, num + 1, dtype=dtype)[:, None]
            return fitted(basis, grid, points, torch.eye(num + 1, dtype=torch.float64)[:, None])[0]
        # A polynomial through equidistant points runs away between them (Runge): other bases take straight lines through these, at
        # points of their own.
        points = basis.sites(grid).t()
        places = (points.double() - low) / (high - low) * num
        hats = (1 - (places - torch.arange(num + 1, dtype=torch.float64)).abs()).clamp(min=0)
        return fitted(basis, grid, points, hats[:, None])[0]


def sparse_mask(in_dim: int, out_dim: int) -> Tensor:
    """Mask ``(in_dim, out_dim)`` that joins every input to its nearest output and every output to its nearest input.

    Nodes of a layer of ``n`` sit at ``(i + 0.5)/n``; the first of equally near ones is taken.

    >>> sparse_mask(2, 5)
    tensor([[1., 1., 1., 0., 0.],
            [0., 0., 0., 1., 1.]])
    """
    inputs = (torch.arange(in_dim, dtype=torch.float64) + 0.5) / in_dim
    outputs = (torch.arange(out_dim, dtype=torch.float64) + 0.5) / out_dim
    distance = (inputs[:, None] - outputs[None, :]).abs().numpy().round(12)
    mask = torch.zeros(in_dim, out_dim)
    mask[torch.arange(in_dim), torch.from_numpy(distance.argmin(axis=1))] = 1.0
    mask[torch.from_numpy(distance.argmin(axis=0)), torch.arange(out_dim)] = 1.0
    return mask
