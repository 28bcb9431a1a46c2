r"""Convolutions of learnable functions, with the manners of ``torch.nn.Conv1d``, ``Conv2d`` and ``Conv3d``.

    ``y[o, p] = bias_o + sum_c sum_q phi_ocq(x[c, p * stride + q * dilation])``,

    ``phi_ocq(x) = base_weight_ocq b(x) + spline_scaler_ocq sum_m spline_weight_ocmq f_cm(x)``

where a convolution has the products ``weight_ocq x``. Here ``o`` is an output channel, ``c`` runs over the input channels of its group,
``q`` over the positions of the kernel, ``b`` is the base function and ``f_c1 ... f_cn`` are the basis functions of channel c.

Padding
    It is the *input* that is padded, and the edges are applied to what is padded as to any other pixel: with ``padding_mode="zeros"``
    an edge beyond the border contributes ``phi(0)``, which in general is not zero. (To pad the *activations* would be another layer, in
    which edges beyond the border contribute nothing. For an ordinary convolution the two are the same.)

Method
    The basis functions belong to a channel and not to an edge, so they are evaluated once per pixel, whatever the size of the kernel is:
    ``C`` channels become ``C n`` channels of features. The layer is one convolution of these, with the coefficients as its weight, and one
    of the base function's values.

Memory
    The features ``(N, C n, *padded sizes)`` are what the layer costs: ``n`` times its input during a call, twice that where they must be
    rearranged (``N > 1``). Training keeps them for the backward pass, and the functions' slopes, as many, if it goes on to the input.

References
    A. D. Bodner, A. S. Tepsich, J. N. Spolski, S. Pourteau, "Convolutional Kolmogorov-Arnold Networks", 2024, arXiv:2406.13155.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kan.bases.base import Basis, Extrapolation
from kan.bases.projection import refit
from kan.drop_in.edge_sparsity import edge_sparsity
from kan.drop_in.edge_sum import basis_values
from kan.drop_in.initialisation import Edges, Scales, initial_weights, initialise_, scheme
from kan.errors import unknown_name
from kan.layers.arguments import base_function, interval, make_basis, share_of_equal_spacing
from kan.layers.base_functions import BaseFunction, base_values
from kan.layers.checks import check_dtype, check_margin, check_samples, warn_of_kept_grids
from kan.layers.ordinary_module import OrdinaryModule
from kan.layers.prepared_grid import PreparedGrid

__all__ = ["KANConv1d", "KANConv2d", "KANConv3d"]

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}
"""The padding modes of ``torch.nn``'s convolutions, and what ``torch.nn.functional.pad`` calls them."""

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class _KANConv(OrdinaryModule):
    """The layer in any number of dimensions; `axes` says how many."""

    axes: ClassVar[int]
    grid: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        *,
        bias: bool = False,
        grid_size: int = 5,
        spline_order: int = 3,
        scale_noise: float | None = None,
        scale_base: float | None = None,
        scale_spline: float | None = None,
        enable_standalone_scale_spline: bool = True,
        base_activation: type[nn.Module] | BaseFunction = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        basis: str | Basis = "bspline",
        extrapolation: Extrapolation | None = None,
        init: str | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < 1:
                raise ValueError(f"{name} must be at least 1; got {channels}.")
            if groups < 1 or channels % groups:
                raise ValueError(f"groups must be at least 1 and divide in_channels and out_channels; got {groups} for {name}={channels}.")
        if padding_mode not in PADDING_MODES:
            raise unknown_name("padding mode", padding_mode, PADDING_MODES)
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, padding_mode
        self.kernel_size = _per_axis("kernel_size", kernel_size, self.axes)
        self.stride = _per_axis("stride", stride, self.axes)
        self.dilation = _per_axis("dilation", dilation, self.axes)
        self.padding = padding if isinstance(padding, str) else _per_axis("padding", padding, self.axes, least=0)
        self._borders = self._borders_of(self.padding)
        self.basis = make_basis(basis, grid_size, spline_order, extrapolation)
        self.base_activation = base_function(base_activation)
        self.grid_size, self.grid_range = grid_size, list(interval(grid_range))
        self.grid_eps = share_of_equal_spacing(grid_eps)
        self.scale_noise, self.scale_base, self.scale_spline = scale_noise, scale_base, scale_spline
        self.init = scheme(init, Scales(scale_noise, scale_base, scale_spline))

        made: dict[str, Any] = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        edges = (out_channels, in_channels // groups)
        self.register_buffer("grid", self.basis.initial_grid(in_channels, *self.grid_range).to(**made))
        self.base_weight = nn.Parameter(torch.empty(*edges, *self.kernel_size, **made))
        self.spline_weight = nn.Parameter(torch.empty(out_channels, edges[1] * self.basis.size, *self.kernel_size, **made))
        self.spline_scaler: nn.Parameter | None
        if enable_standalone_scale_spline:
            self.spline_scaler = nn.Parameter(torch.empty(*edges, *self.kernel_size, **made))
        else:
            self.register_parameter("spline_scaler", None)
        self.bias: nn.Parameter | None
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels, **made))
        else:
            self.register_parameter("bias", None)
        self._prepared = PreparedGrid(in_channels)
        initialise_(self, _KANConv, generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew: those of a group as `init` says for a `KANLinear` of all its inputs at once; the bias is zero.

        That layer has ``in_channels / groups * prod(kernel_size)`` inputs and ``out_channels / groups`` outputs. A pixel has a part in as
        many outputs at every position of the kernel.
        """
        if self.grid.is_meta:  # as with torch.nn's layers: there are no numbers yet
            return
        positions, members, ends = math.prod(self.kernel_size), self.out_channels // self.groups, (self.grid_range[0], self.grid_range[1])
        scales, scaled = Scales(self.scale_noise, self.scale_base, self.scale_spline), self.spline_scaler is not None
        for group, grid in enumerate(self.grid.repeat_interleave(positions, 0).chunk(self.groups)):
            edges = Edges(
                self.basis, grid, members, self.base_activation, ends, self.grid_size, scales, scaled, members * positions, self.in_channels
            )
            base, spline, scaler = initial_weights(self.init, edges, generator)
            drawn = [
                (self.base_weight, base),
                (self.spline_weight, spline.unflatten(1, (-1, positions)).mT),
                (self.spline_scaler, scaler),
            ]
            for own, weight in drawn:
                if own is not None and weight is not None:
                    part = own[group * members : (group + 1) * members]
                    part.copy_(weight.reshape(part.shape))
        if self.bias is not None:
            self.bias.zero_()

    def extra_repr(self) -> str:
        """Sizes, and what is not as by default, as shown by ``print(layer)``."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if isinstance(self.padding, str) or any(self.padding):
            parts.append(f"padding={self.padding!r}")
        if any(step != 1 for step in self.dilation):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is not None:
            parts.append("bias=True")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode!r}")
        return ", ".join([*parts, f"basis={self.basis}"])

    def forward(self, x: Tensor) -> Tensor:
        """``y`` ``(N, out_channels, *sizes)`` at `x` ``(N, in_channels, *sizes)``, both also without ``N``.

        Raises:
            ValueError: if `x` has another number of channels or of axes, or is smaller, with its padding, than the kernel.
            TypeError: if the dtype of `x` is not the parameters', unless autocast is on.
        """
        self._check_input(x)
        batch = x if x.dim() == self.axes + 2 else x[None]
        pixels = self._padded(batch)
        channels_first = pixels.transpose(0, 1)
        values = basis_values(channels_first.flatten(1).t(), self.basis, self._prepared.of(self.grid, self.basis))
        features = values.unflatten(2, channels_first.shape[1:]).movedim(2, 0).flatten(1, 2)
        y = self._convolve(features, self.scaled_spline_weight, self.bias)
        y = y + self._convolve(base_values(self.base_activation, pixels), self.base_weight)
        return y if batch is x else y[0]

    def _convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return CONVOLUTIONS[self.axes](values, weight, bias, stride=self.stride, dilation=self.dilation, groups=self.groups)

    @property
    def scaled_spline_weight(self) -> Tensor:
        """``spline_scaler * spline_weight``, ``(out_channels, in_channels / groups * n, *kernel_size)``."""
        return self.spline_weight if self.spline_scaler is None else (self._coef * self.spline_scaler.unsqueeze(2)).flatten(1, 2)

    @property
    def _coef(self) -> Tensor:
        """`spline_weight` as ``(out_channels, in_channels / groups, n, *kernel_size)``, a view."""
        coef: Tensor = self.spline_weight.unflatten(1, (-1, self.basis.size))
        return coef

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.01) -> None:
        """Move the grid to where the pixels are and refit the functions, in place.

        The layer's function is kept to round-off where the basis can represent it on the new grid; elsewhere the new function is its
        fit at the samples or, with few of them, on the whole interval. Samples of a channel are all its pixels. Where zeros are padded,
        a single zero is one more, so that the grid covers the border, too, without a crowd of grid points there. Channels whose pixels do
        not determine a grid (all equal, or fewer than grid points) keep their grid and weights, with a warning that names them.

        Args:
            x: ``(N, in_channels, *sizes)`` or without ``N``, the samples.
            margin: how far the grid reaches beyond the samples.

        Raises:
            ValueError: if `x` has another number of channels or of axes, no pixels, or is not finite, or if `margin` is negative; nothing
                is changed then.
        """
        self._check_input(x)
        check_margin(margin)
        pixels = x.detach().movedim(-self.axes - 1, -1).reshape(-1, self.in_channels).to(self.grid.device)
        check_samples(pixels, "pixels", "channels")
        self._prepared.of(self.grid, self.basis)  # a grid that is none is found before anything is changed
        zeros = pixels.new_zeros(int(self.padding_mode == "zeros" and any(self._borders)), self.in_channels)
        samples = torch.cat([pixels, zeros])
        found, usable = self.basis.adapted_grid(samples, self.grid, margin, self.grid_eps)
        # The margin and the zero spread what is constant, and a grid on that would resolve nothing.
        usable = usable & (pixels.amax(0) > pixels.amin(0))
        grid = torch.where(usable[:, None], found, self.grid)
        edges = self._coef.unflatten(0, (self.groups, -1)).permute(0, 2, 1, *range(4, 4 + self.axes), 3)
        coef = edges.flatten(0, 1).flatten(1, -2)  # (C, edges of a channel, n)
        coef = torch.where(usable[:, None, None], refit(self.basis, coef, self.grid, grid, samples), coef)
        edges.copy_(coef.view(edges.shape))
        self.grid.copy_(grid)
        warn_of_kept_grids(usable, f"{len(pixels)} pixels", "channel", self.basis)

    def regularization_loss(self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0) -> Tensor:
        """``regularize_activation * sum_e a_e - regularize_entropy * sum_e p_e log p_e`` over the edges ``e = (o, c, q)``, 0-dim.

        Here ``a_e = mean_m |spline_weight_ocmq|`` and ``p_e = a_e / sum a``.
        """
        return edge_sparsity(self._coef.abs().mean(2), regularize_activation, regularize_entropy)

    def _borders_of(self, padding: str | tuple[int, ...]) -> list[int]:
        """How much to pad before and after every axis, the last axis first, as ``torch.nn.functional.pad`` has it."""
        if isinstance(padding, tuple):
            return [width for width in reversed(padding) for _ in range(2)]
        if padding == "valid":
            return [0, 0] * self.axes
        if padding != "same":
            raise unknown_name("padding", padding, ("valid", "same"))
        if any(step != 1 for step in self.stride):
            raise ValueError(f"padding='same' needs a stride of 1; got {self.stride}.")
        totals = [step * (size - 1) for step, size in zip(self.dilation, self.kernel_size, strict=True)]
        return [width for total in reversed(totals) for width in (total // 2, total - total // 2)]

    def _padded(self, x: Tensor) -> Tensor:
        if any(self._borders):
            self._check_borders(x)
            x = F.pad(x, self._borders, PADDING_MODES[self.padding_mode])
        reach = [step * (size - 1) + 1 for step, size in zip(self.dilation, self.kernel_size, strict=True)]
        sizes = list(x.shape[2:])
        if any(size < needed for size, needed in zip(sizes, reach, strict=True)):
            raise ValueError(
                f"the kernel reaches over {reach} pixels, its dilation included, and the padded input has only {sizes}; "
                f"use more padding or a smaller kernel."
            )
        return x

    def _check_borders(self, x: Tensor) -> None:
        """Reflection needs more pixels than it adds, a circle as many."""
        spare = {"reflect": 1, "circular": 0}.get(self.padding_mode)
        for axis, size in enumerate(reversed(x.shape[2:])):
            widest = max(self._borders[2 * axis : 2 * axis + 2])
            if spare is not None and size < widest + spare:
                raise ValueError(
                    f"padding_mode={self.padding_mode!r} can add at most {max(size - spare, 0)} pixels to an axis of {size}; got {widest}."
                )

    def _check_input(self, x: Tensor) -> None:
        if x.dim() not in (self.axes + 1, self.axes + 2) or x.shape[-self.axes - 1] != self.in_channels:
            sizes = ", ".join(["depth", "height", "width"][-self.axes :] if self.axes > 1 else ["length"])
            raise ValueError(
                f"expected an input of shape (batch, {self.in_channels}, {sizes}) or ({self.in_channels}, {sizes}); got {tuple(x.shape)}."
            )
        check_dtype(x, self.spline_weight.dtype)


class KANConv1d(_KANConv):
    """Convolution of learnable functions over sequences ``(N, C, length)``; the equation and the rule of padding are the module's.

    Args:
        in_channels, out_channels: numbers of channels of the input and of the output.
        kernel_size, stride, dilation: one number, or one for each axis.
        padding: how many pixels to add before and after every axis: one number, or one for each; ``"valid"`` for none, or ``"same"`` for
            as many as make the output as large as the input.
        groups: of channels that are joined among themselves only; divides both numbers of channels.
        padding_mode: what is added: ``"zeros"``, or the input's own pixels by ``"reflect"``, ``"replicate"`` or ``"circular"``.
        bias: whether a number is added to every output channel. Unlike ``torch.nn``'s convolutions there is none by default, since the
            basis functions can represent constants.
        grid_size, spline_order, scale_noise, scale_base, scale_spline: as in `KANLinear`.
        enable_standalone_scale_spline: whether there is a `spline_scaler`, one factor per edge.
        base_activation: the base function: a module's class, or any function of a tensor that works on each number.
        grid_eps: grid updates mix `grid_eps` of equal spacing with ``1 - grid_eps`` of the samples' quantiles.
        grid_range: ``[low, high]`` of the initial grid.
        basis: a `Basis`, or the name of a registered one, which then has ``grid_size + spline_order`` functions.
        extrapolation: what the basis functions are outside of the grid; as the basis says when not given.
        init: name of the initialisation, as in `KANLinear`.
        generator: source of the initial weights; the global state, as in ``torch.nn``, when not given.
        device, dtype: of the parameters.

    Attributes:
        base_weight: ``(out_channels, in_channels / groups, *kernel_size)``.
        spline_weight: ``(out_channels, in_channels / groups * n, *kernel_size)``, the ``n`` functions of a channel side by side. It is the
            weight of the convolution of the features, with as many axes as other convolutions' weights have, so that
            ``.to(memory_format=torch.channels_last)`` means the same.
        spline_scaler: ``(out_channels, in_channels / groups, *kernel_size)``, or None.
        bias: ``(out_channels,)``, or None.
        grid: buffer with one row per input channel; for splines the knots, ``(in_channels, grid_size + 2 spline_order + 1)``.

    Raises:
        ValueError: for sizes that make no convolution, and for unknown names.

    >>> layer = KANConv1d(4, 6, kernel_size=3, stride=2, groups=2)
    >>> layer(torch.zeros(5, 4, 9)).shape
    torch.Size([5, 6, 4])
    """

    axes = 1


class KANConv2d(_KANConv):
    """Convolution of learnable functions over images ``(N, C, height, width)``; arguments and attributes as in `KANConv1d`.

    >>> layer = KANConv2d(3, 8, kernel_size=3, padding="same")
    >>> layer(torch.zeros(2, 3, 10, 12)).shape
    torch.Size([2, 8, 10, 12])

    At every pixel a kernel of size 1 is a `KANLinear`:

    >>> from kan.drop_in.kan_linear import KANLinear
    >>> layer = KANConv2d(3, 8, kernel_size=1)
    >>> linear = KANLinear(3, 8)
    >>> done = linear.load_state_dict({name: value.reshape(linear.state_dict()[name].shape) for name, value in layer.state_dict().items()})
    >>> x = torch.linspace(-1, 1, 24).view(1, 3, 2, 4)
    >>> torch.allclose(layer(x).movedim(1, -1), linear(x.movedim(1, -1)), atol=1e-6)
    True
    """

    axes = 2


class KANConv3d(_KANConv):
    """Convolution of learnable functions over volumes ``(N, C, depth, height, width)``; arguments and attributes as in `KANConv1d`.

    >>> layer = KANConv3d(1, 2, kernel_size=(1, 3, 3))
    >>> layer(torch.zeros(1, 4, 5, 5)).shape
    torch.Size([2, 4, 3, 3])
    """

    axes = 3


def _per_axis(name: str, value: int | Sequence[int], axes: int, least: int = 1) -> tuple[int, ...]:
    """One number for each axis."""
    found: tuple[Any, ...] = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(found) != axes or not all(isinstance(number, int) and number >= least for number in found):
        raise ValueError(f"{name} must be an integer of at least {least}, or {axes} of them; got {value!r}.")
    return found
