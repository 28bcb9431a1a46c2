r"""The KAN layer: a learnable function on every edge, summed at every output.

    ``y_j(x) = sum_i phi_ij(x_i)``,  ``phi_ij(x) = mask_ij (scale_base_ij b(x) + scale_sp_ij sum_m coef_ijm B_m(x))``

with ``b`` the base function (SiLU) and ``B_m`` the B-splines on input i's own knots. With the features
``psi_i(x) = [b(x), B_1(x), ..., B_n(x)]`` of an input (shape ``(B, I, n+1)``, no output index) and the scales and the mask folded into
weights ``w_ij`` (shape ``(I, n+1, O)``), ``phi_ij = psi_i . w_ij`` and the layer is one matrix product.

References
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756, section 2.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from kan.bases.bspline import SplineTable, tabulate
from kan.bases.knots import (
    check_knots,
    core,
    extend_knots,
    increasing,
    quantile_grid,
    uniform_knots,
)
from kan.bases.projection import MAX_RELATIVE_ERROR, carried_over, least_squares
from kan.layers.arguments import interval
from kan.layers.checks import check_dense, check_samples, checked_rows
from kan.layers.computed import settled, take_apart_
from kan.layers.features import Features, edge_weight, feature_rows
from kan.layers.ordinary_module import OrdinaryModule
from kan.layers.zero_gradient import with_zero_gradients
from kan.modes import composed
from kan.older_names import understood
from kan.pickling import packed, unpacked

__all__ = ["KANLayer", "sparse_mask"]

MAX_UPDATE_ERROR = 128.0
"""As `MAX_RELATIVE_ERROR`, for grid updates: larger, since outlying samples spread the grid so far that no splines on it are near, and what
counts is where the samples are. Hidden nodes beside a pole led to 101."""


class KANLayer(OrdinaryModule):
    """Layer of ``in_dim * out_dim`` learnable edge functions.

    Args:
        in_dim, out_dim: number of inputs ``I`` and outputs ``O``.
        num: grid intervals ``G`` on `grid_range`.
        k: degree of the B-splines.
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

    Attributes:
        grid: knots ``(I, G + 2k + 1)``, not trained.
        coef: ``(I, O, G + k)``.
        mask, scale_base, scale_sp: ``(I, O)``; the mask is not trained.
    """

    _part: tuple[SplineTable, tuple[int, ...], SplineTable] | None = None
    """The table of some inputs that `features_at` was last asked for: that of all inputs, their numbers, and their own table."""

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
        **older: Any,
    ) -> None:
        understood("KANLayer", KANLayer, older)
        super().__init__()
        if num < 1:
            raise ValueError(f"num, the number of grid intervals, must be at least 1; got {num}.")
        if k < 0:
            raise ValueError(f"k, the degree of the splines, must be at least 0; got {k}.")
        low, high = interval(grid_range)
        self.k = int(k)
        self.base_fun: Callable[[Tensor], Tensor] = nn.SiLU() if base_fun is None else base_fun
        self.grid_eps = grid_eps

        grid = uniform_knots(low, high, num, self.k, in_dim)
        noise = (torch.rand(num + 1, in_dim, out_dim, generator=generator) - 0.5) * noise_scale / num
        coef = torch.zeros(in_dim, out_dim, num + self.k)
        if noise_scale:
            through = _interpolation(low, high, num, self.k, grid.dtype).to(grid.device)
            coef = torch.einsum("bio,bn->ion", noise.double(), through).to(noise.dtype)
        mask = sparse_mask(in_dim, out_dim) if sparse_init else torch.ones(in_dim, out_dim)
        uniform = torch.rand(in_dim, out_dim, generator=generator) * 2 - 1
        base = (scale_base_mu + scale_base_sigma * uniform) / in_dim**0.5

        self.grid = nn.Parameter(grid, requires_grad=False)
        self.coef = nn.Parameter(coef)
        self.mask = nn.Parameter(mask, requires_grad=False)
        self.scale_base = nn.Parameter(base, requires_grad=sb_trainable)
        self.scale_sp = nn.Parameter(scale_sp / in_dim**0.5 * mask, requires_grad=sp_trainable)
        self._table: SplineTable | None = None
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
        """Number of grid intervals ``G``."""
        return self.grid.shape[1] - 1 - 2 * self.k

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.grid.device  # a coefficient that a pre-hook computes may be from before the layer was moved

    @property
    def table(self) -> SplineTable:
        """Polynomial pieces of the splines on the present knots, remade whenever the knots have changed."""
        if composed():  # another tensor, perhaps one that is batched, may stand for the knots
            return tabulate(self.grid, self.k)
        known = self._table
        same_kind = known is not None and known.knots.dtype == self.grid.dtype and known.knots.device == self.grid.device
        if known is None or not same_kind or not torch.equal(known.knots, self.grid):
            check_knots(self.grid, self.k)
            # A copy of the knots, so that a later change of the parameter is noticed.
            known = self._table = tabulate(self.grid.detach().clone(), self.k)
        return known

    def share_table(self, twin: KANLayer) -> None:
        """Spare a copy of this layer from making the table that there is."""
        twin._table = self._table  # nothing ever writes into one

    def __getstate__(self) -> dict[str, object]:
        return {**packed(super().__getstate__(), "base_fun"), "_table": None, "_part": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(unpacked(state))

    def extra_repr(self) -> str:
        """Sizes, as shown by ``print(layer)``."""
        return f"in_dim={self.in_dim}, out_dim={self.out_dim}, num={self.num}, k={self.k}"

    def features(self, x: Tensor) -> Tensor:
        """``psi_i(x_i) = [b(x_i), B_1(x_i), ..., B_n(x_i)]``, shape ``(B, I, n+1)`` from `x` ``(B, I)``; the batch is last in memory."""
        return self.feature_rows(x.t()).permute(2, 0, 1)

    def feature_rows(self, x: Tensor) -> Tensor:
        """`features` with the batch last: `x` ``(I, B)`` to ``(I, n+1, B)``."""
        return feature_rows(x.to(self.coef.dtype), self.table, self.base_fun)  # under autocast sums have fewer digits than positions need

    def features_at(self, x: Tensor, *, slopes: bool, inputs: Sequence[int] | None = None) -> Features:
        """The features of some inputs without a graph, and their derivatives; the base function must be elementwise.

        Args:
            x: ``(I, B)``.
            slopes: whether derivatives are wanted.
            inputs: the layer's inputs that the rows of `x` are; all of them, in order, when not given.
        """
        table = self.table
        if inputs is not None:
            if self._part is None or self._part[0] is not table or self._part[1] != tuple(inputs):
                self._part = table, tuple(inputs), table.taken(list(inputs))
            table = self._part[2]
        return Features.at(x, table, self.base_fun, slopes=slopes)

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
        features = self.features(x)
        postacts = torch.einsum("bin,ino->boi", features, self.edge_weight())
        postspline = torch.einsum("bin,ion->boi", features[..., 1:], self.coef)
        y = with_zero_gradients(postacts.sum(-1), [self.grid])
        return y, x[:, None, :].expand_as(postacts), postacts, postspline

    @torch.no_grad()
    def update_grid_from_samples(self, x: Tensor, mode: Literal["sample", "grid"] = "sample") -> None:
        """Move the knots to where the samples are and refit the splines, in place.

        The new grid points are ``grid_eps * uniform + (1 - grid_eps) * quantiles`` of each column. The coefficients are the least-squares
        fit of the old splines at the samples (``mode='sample'``) or at ``2 G`` intervals of the same recipe (``mode='grid'``). Where that
        would be far from the old function in between, they are its best approximation on the whole interval, see `carried_over`. A
        constant column, or one whose samples cannot make an increasing grid, keeps its knots and coefficients, with a warning.

        Args:
            x: ``(B, I)`` samples.
            mode: where the old splines are sampled.

        Raises:
            ValueError: if `x` has another number of columns, no rows, or is not finite.
        """
        self._check_samples(x)
        kept = self.adapt_grid_(x, mode)
        if kept:
            warnings.warn(
                f"grid update: the samples of input(s) {kept} do not span an increasing grid of {self.num} intervals (constant or "
                f"repeated values); their grid and coefficients are kept.",
                stacklevel=2,
            )

    @torch.no_grad()
    def adapt_grid_(self, x: Tensor, mode: Literal["sample", "grid"] = "sample") -> list[int]:
        """`update_grid_from_samples` without the warning: returns the inputs whose grid was kept."""
        ordered = x.detach().to(self.grid.dtype).sort(dim=0).values
        grid = quantile_grid(ordered, self.num, self.grid_eps)
        usable = increasing(grid)
        knots = torch.where(usable[:, None], extend_knots(grid, self.k), self.grid)
        points = ordered if mode == "sample" else quantile_grid(ordered, 2 * self.num, self.grid_eps).t()
        coef = self._on(knots, core(knots, self.k)[:, [0, -1]], points, MAX_UPDATE_ERROR)
        self.grid.copy_(knots)
        self.coef.copy_(torch.where(usable[:, None, None], coef, self.coef))
        return [int(i) for i in (~usable).nonzero()[:, 0]]

    @torch.no_grad()
    def initialize_grid_from_parent(self, parent: KANLayer, x: Tensor | None, mode: Literal["sample", "grid"] = "sample") -> None:
        """Take over the splines of `parent` on a grid of this layer's own number of intervals.

        New grid point ``m`` is the parent's grid read at the fractional index ``m G_parent / G``. Where the new grid contains the
        parent's, the function is the parent's to round-off; elsewhere it is the closest one at the samples and in between, see
        `carried_over`. Where samples lie outside of the grid, the outer knots are the parent's too, and so is the function there.

        Args:
            parent: a layer with the same inputs, outputs and degree.
            x: ``(B, I)`` samples, or None to go without.
            mode: where the parent is sampled, as in `update_grid_from_samples`.

        Raises:
            ValueError: if the layers do not match or `x` is bad input.
        """
        if (parent.in_dim, parent.out_dim, parent.k) != (self.in_dim, self.out_dim, self.k):
            raise ValueError(
                f"the parent layer must have the same inputs, outputs and degree: expected {(self.in_dim, self.out_dim, self.k)}, "
                f"got {(parent.in_dim, parent.out_dim, parent.k)}."
            )
        if x is not None:
            self._check_samples(x)
            x = x.detach().to(parent.grid.dtype)
        knots, ends = _refined_knots(parent, self.num, x)
        if x is not None and mode == "grid":
            x = quantile_grid(x.sort(dim=0).values, 2 * self.num, self.grid_eps).t()
        coef = parent._on(knots, ends, x)
        self.grid.copy_(knots)
        self.coef.copy_(coef)

    @torch.no_grad()
    def take_over_(self, parent: KANLayer, knots: Mapping[int, Tensor]) -> None:
        """Take `knots` ``(G + 2k + 1,)`` for some inputs, given by their numbers, with the splines of `parent` on all of them."""
        if knots:
            ids, grid = list(knots), torch.stack(list(knots.values()))
            part = parent.get_subset(ids, range(parent.out_dim))
            self.grid[ids], self.coef[ids] = grid, part._on(grid, grid[:, [0, -1]])

    @torch.no_grad()
    def set_knots_(self, knots: Tensor, ends: Tensor | None = None) -> None:
        """Take other knots ``(I, G' + 2k + 1)``, in place.

        Where the new knots contain the present ones between `ends` the function stays the same there to round-off; elsewhere it becomes
        its best approximation. ``grid`` and ``coef`` are new parameters.

        Args:
            knots: the new ones.
            ends: ``(I, 2)``, of the stretch on which the function counts, if it is not the new core; nearly all of that.
        """
        check_knots(knots, self.k)
        lost = take_apart_(self)
        if lost:
            warnings.warn(
                f"other knots: {', '.join(lost)}, which torch computed from other parameters (pruning, weight normalisation, a "
                f"parametrization), becomes an ordinary parameter with the same function. Set up again what computed it.",
                stacklevel=2,
            )
        coef = self._on(knots, core(knots, self.k)[:, [0, -1]] if ends is None else ends)
        self.grid = nn.Parameter(knots, requires_grad=False)
        self.coef = nn.Parameter(coef, self.coef.requires_grad)

    def _on(self, knots: Tensor, ends: Tensor, samples: Tensor | None = None, largest: float = MAX_RELATIVE_ERROR) -> Tensor:
        """Coefficients ``(I, O, n')`` on other `knots`, the splines staying the same between `ends` ``(I, 2)``; see `carried_over`."""
        coef, table = settled(self, "coef"), tabulate(knots.double(), self.k)
        return carried_over(coef, self.table, table, ends, samples, largest).to(coef.dtype)

    def get_subset(self, in_id: Sequence[int], out_id: Sequence[int]) -> KANLayer:
        """A new layer with the inputs `in_id` and the outputs `out_id` of this one, everything else as here.

        A pruning by torch is kept. Other parameters that torch computes from others, such as parametrizations, become ordinary ones.
        """
        subset = copy.deepcopy(self)
        computed = take_apart_(subset)
        for name in ("coef", "mask", "scale_base", "scale_sp"):
            old = getattr(subset, name)
            setattr(subset, name, nn.Parameter(old.detach()[list(in_id)][:, list(out_id)].clone(), old.requires_grad))
        subset.grid = nn.Parameter(subset.grid.detach()[list(in_id)].clone(), requires_grad=False)
        subset._table = None if self._table is None else self._table.taken(list(in_id))
        for name, how in computed.items():
            if isinstance(how, Tensor):
                chosen = how[list(in_id)] if name == "grid" else how[list(in_id)][:, list(out_id)]
                prune.custom_from_mask(subset, name, chosen)
        return subset

    @torch.no_grad()
    def swap(self, i1: int, i2: int, mode: Literal["in", "out"] = "in") -> None:
        """Exchange two inputs (``mode='in'``) or two outputs (``'out'``), in place."""
        parameters = [self.coef, self.mask, self.scale_base, self.scale_sp]
        axis = 0 if mode == "in" else 1
        for parameter in parameters + ([self.grid] if mode == "in" else []):
            order = torch.arange(parameter.shape[axis], device=parameter.device)
            order[[i1, i2]] = order[[i2, i1]]
            parameter.copy_(parameter.index_select(axis, order))

    def _check_samples(self, x: Tensor) -> None:
        if x.dim() != 2 or x.shape[1] != self.in_dim or x.shape[0] < 1:
            raise ValueError(f"samples must have the shape (number of samples, {self.in_dim}); got {tuple(x.shape)}.")
        check_samples(x)


def _refined_knots(parent: KANLayer, intervals: int, x: Tensor | None) -> tuple[Tensor, Tensor]:
    """Knots of `intervals` for the splines of `parent`, and between which ends ``(I, 2)`` they are to be the same functions."""
    k, old = parent.k, core(parent.grid, parent.k)
    index = torch.arange(intervals + 1, dtype=torch.float64) * parent.num / intervals
    below = index.floor().clamp(max=parent.num - 1).long()
    grid = torch.lerp(old[:, below], old[:, below + 1], (index - below).to(old))
    knots = extend_knots(grid, k)
    ends = grid[:, [0, -1]]
    if x is None or k == 0:
        return knots, ends
    # After a grid update the outermost samples are the ends of the grid, but for rounding.
    rounding = 8 * torch.finfo(old.dtype).eps * old.abs().amax(dim=1)
    least, largest = x.aminmax(dim=0)
    outside = (least < old[:, 0] - rounding) | (largest > old[:, -1] + rounding)
    kept = torch.cat([parent.grid[:, :k], grid, parent.grid[:, -k:]], dim=1)
    return torch.where(outside[:, None], kept, knots), torch.where(outside[:, None], kept[:, [0, -1]], ends)


@lru_cache(maxsize=64)
def _interpolation(low: float, high: float, num: int, k: int, dtype: torch.dtype) -> Tensor:
    """``(G+1, n)``: what values at the points of a uniform grid are multiplied with for the least-squares splines through them."""
    with torch.inference_mode(False), torch.no_grad():
        grid = uniform_knots(low, high, num, k, 1, dtype=dtype)
        unit = torch.eye(num + 1, dtype=torch.float64)[:, None]
        return least_squares(core(grid, k).t(), unit, tabulate(grid, k))[0]


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
