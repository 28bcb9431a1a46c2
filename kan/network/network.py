r"""The network: layers of learnable edge functions between layers of sum and multiplication nodes.

One layer, from nodes ``x`` ``(B, n_l)`` to the next nodes ``(B, n_{l+1})``:

    ``s_j    = sum_i phi_ij(x_i) + sum_i symbolic_ij(x_i)``      sub-node sums, ``(B, m_{l+1})``
    ``p_j    = subnode_scale_j s_j + subnode_bias_j``
    ``node_r = p_r`` for a sum node, the product of its factors' ``p`` for a multiplication node
    ``x'_r   = node_scale_r node_r + node_bias_r``

References
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756; Z. Liu et al., "KAN 2.0: Kolmogorov-Arnold Networks Meet
    Science", 2024, arXiv:2408.10205 (multiplication nodes).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kan.layers.base_functions import is_elementwise
from kan.network.autograd_pass import advance
from kan.network.bases import resized
from kan.network.state_dict import StatefulNetwork
from kan.network.structure import Structure, per_layer
from kan.network.summary import one_line
from kan.network.trace import FirstLayer, Trace
from kan.network.user_code.inheritance import built
from kan.network.user_code.observed import OBSERVED, Pass, observed, seen_by_layers, unseen
from kan.network.user_code.own_code import own_call, own_methods
from kan.network.user_code.recorded_trace import with_records

__all__ = ["Network"]

Self = TypeVar("Self", bound="Network")


class Network(StatefulNetwork):
    """What a KAN is: structure, parameters, forward pass.

    The arguments of the constructor and most attributes are those of `LayeredNetwork`, the state dictionary is that of `StatefulNetwork`.
    """

    def __repr__(self) -> str:
        """Width, grid, degree, basis, and the numbers of parameters that are trained and of edges, on one line.

        >>> Network([2, [4, 1], 1], grid=5)
        Network(width=[2, [4, 1], 1], mult_arity=2, grid=5, k=3, basis='bspline', 170 parameters, 17 numeric edges, 0 symbolic edges)
        """
        if "act_fun" not in self._modules or "symbolic_fun" not in self._modules:  # of a subclass that is still being built
            return super().__repr__()
        return one_line(self)

    def replace(self: Self, **changes: Any) -> Self:
        """A new network of the same class and settings with some of them changed, freshly initialised, in the same dtype.

        What a subclass has beside the layers, hooks and methods of the user's are taken over, see `kan.network.user_code.inheritance`.
        With as many inputs it reads the same columns of the data. Labels of inputs and outputs are taken over where their number stays.
        """
        settings = {**self.settings(), **changes}
        if isinstance(settings["base_fun"], nn.Module):  # it may have parameters, which are not to be shared
            settings["base_fun"] = copy.deepcopy(settings["base_fun"])
        if "basis" not in changes:
            depth = Structure.parse(settings["width"], settings["mult_arity"]).depth
            settings["basis"] = resized(settings["basis"], settings["grid"], settings["k"], depth)
        new = built(self, settings).to(self.dtype)
        if new.width_in[0] == self.width_in[0]:
            new.input_id, new.input_width = self.input_id.to(new.device, copy=True), self.input_width
        new.inherit_labels(self)
        new.remember_input(self.last_input)
        new.fit_loss = self.fit_loss
        return new

    def blank(self: Self, **changes: Any) -> Self:
        """As `replace`, with splines that are zero: quicker, for callers that overwrite them."""
        new = self.replace(**changes, noise_scale=0.0)
        new.noise_scale = self.noise_scale
        return new

    def per_layer(self, name: str, value: int | Sequence[int]) -> list[int]:
        """One positive integer per KAN layer from `value`, one for all or a list of them; errors speak of `name`."""
        return per_layer(name, value, self.depth, least=1)

    def with_all_columns(self, x: Tensor) -> Tensor:
        """`x`, with zeros for the columns that are not used if it lacks these, as what pykan remembers of an input does."""
        used = len(self.input_id)
        if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[1] != used or used == self.input_width:
            return x
        return x.new_zeros(len(x), self.input_width).index_copy(1, self.input_id.to(x.device), x)

    def checked_input(self, x: Tensor) -> Tensor:
        """`x` as the first layer takes it: normalised, if the network does that, in its dtype, without the unused columns.

        Errors are those of `check_input`.
        """
        x = self.in_own_units("normalizer", self.trainable_input(x), self.dtype)
        return x if len(self.input_id) == self.input_width else x[:, self.input_id]

    def forward(self, x: Any, singularity_avoiding: bool = False, y_th: float = 10.0) -> Tensor:
        """The network's output, ``(B, outputs)``.

        Args:
            x: ``(B, inputs)``: a tensor, or what `as_input` makes one of.
            singularity_avoiding: evaluate symbolic functions in the version that stays finite at singular points.
            y_th: bound of ``|f|`` in that version.
        """
        if not (isinstance(x, Tensor) and x.is_floating_point() and x.dim() == 2):
            x = self.as_input(x)
        trace = self.layer_trace(x, singularity_avoiding=singularity_avoiding, y_th=y_th)
        self.remember_input(x, passed=True)  # after the pass: an input that is refused is not remembered
        if OBSERVED.passes and id(self) in OBSERVED.passes and not torch._C._are_functorch_transforms_active():
            OBSERVED.passes[id(self)].append(Pass(x, trace))  # stand-ins of torch.func are of no use afterwards
        return trace.output

    def trace(
        self,
        x: Tensor | None = None,
        *,
        first: FirstLayer | None = None,
        singularity_avoiding: bool = False,
        y_th: float = 10.0,
        corner: float = 0.0,
    ) -> Trace:
        """The record of a call of the network with `x`, or of a pass of its last input through the layers.

        A call has the user's own ``forward`` and hooks in it, if there are any: the layers see what these give them, and the output is what
        these make of it. The input that is remembered, and stands for `x` when that is not given, is the one that the layers saw.

        Args:
            x: ``(B, inputs)``, what the network is called with. When not given, the record is that of the last input, with what has
                been put in the place of what its pass left.
            first: the first layer's features for this `x`, when they are known already and the call is the library's own.
            singularity_avoiding, y_th: as in `forward`.
            corner: rounds the corner that the deviations of the edges have at zero, as ``sqrt(variance + corner^2) - corner``.

        Raises:
            ValueError: if there is no last input, or the user's own ``forward`` does not use the one of this class.
        """
        evaluation: dict[str, Any] = {"singularity_avoiding": singularity_avoiding, "y_th": y_th, "corner": corner}
        if x is None:
            return self._shown or self._with_what_was_set(self.layer_trace(self.remembered_input(), first=first, **evaluation))
        if between := own_call(self):
            trace = observed(self, x, **evaluation).trace
            if trace is None:
                raise unseen(between)
            return trace
        return self.layer_trace(x, first=first, **evaluation)

    def layer_trace(
        self,
        x: Tensor,
        *,
        first: FirstLayer | None = None,
        singularity_avoiding: bool = False,
        y_th: float = 10.0,
        corner: float = 0.0,
    ) -> Trace:
        """The record of a pass through the layers, with nothing of the user's in front of and behind them; arguments as of `trace`."""
        x = self.checked_input(x)
        layers = []
        for l in range(self.depth):
            record = advance(self, l, x, first if l == 0 else None, singularity_avoiding, y_th)
            record.corner = corner
            layers.append(record)
            x = record.outputs
        return Trace(self.structure, layers, self.in_user_units(x).contiguous())  # users view it in other shapes

    def _with_what_was_set(self, trace: Trace) -> Trace:
        """`trace` with records and scores that a program has put in the place of its own."""
        if not (self._records or self._given):
            return trace
        self._records = {name: values for name, values in (self._records or {}).items() if values is not None} or None
        return with_records(trace, {**(self._records or {}), **self._given})

    def curves_in_user_units(
        self, l: int, x: Tensor, y: Tensor, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Curves of edges of layer `l` as they are to be read, where the network maps units itself; as they are where it does not.

        Inputs of the first layer are the user's columns then. Outputs of the last one are shares of an output, whose mean they lack.

        Args:
            l: the layer.
            x: ``(B, I)`` inputs of the edges.
            y: ``(B, O, I)`` their outputs.
            inputs, outputs: indices of the ``I`` nodes and ``O`` sub-nodes; all of them when not given.
        """
        into, out = self.applied("normalizer"), self.applied("output_normalizer")
        if l == 0 and into is not None:
            mean, std = (torch.tensor(self.used(part), dtype=torch.float64, device=x.device) for part in into)
            chosen = slice(None) if inputs is None else list(inputs)
            x = x.double() * std[chosen] + mean[chosen]
        if l == self.depth - 1 and out is not None:
            scale = y.new_ones(self.width_out[-1], dtype=torch.float64)
            sums = self.structure.n_sum[-1]  # a factor of a product has no part in the output's unit
            scale[:sums] = torch.tensor(out[1][:sums], dtype=torch.float64)
            y = y.double() * scale[slice(None) if outputs is None else list(outputs), None]
        return x, y

    @torch.no_grad()
    def take_input(self, x: Any) -> None:
        """Make `x` the last input, as a call of the network with it does.

        Raises:
            ValueError: if it is no input, or the user's own ``forward`` does not use the one of this class.
        """
        if not own_call(self):
            x = self.as_input(x)
            self.checked_input(x)
        self.remember_input(seen_by_layers(self, x))

    @torch.no_grad()
    def update_grid(self, x: Any) -> None:
        """Let every layer's grid follow its inputs, from the first layer on; see `KANLayer.update_grid_from_samples`.

        Layers whose coefficients are frozen (``requires_grad_(False)``) or computed from other parameters, as ``torch.nn.utils.prune``
        does, keep their grids.

        Raises:
            ValueError: if `x` is not finite.
        """
        self.take_input(x)
        self._adapt_grids_()

    def _adapt_grids_(self) -> None:
        """`update_grid` at the last input."""
        x = self.checked_input(self.remembered_input())
        for l, layer in enumerate(self.numeric_layers):
            coef = layer._parameters.get("coef")
            if coef is not None and coef.requires_grad:
                # Hidden nodes may be dead, which is no news; a constant column of the data is.
                if l == 0 or own_methods(layer, "update_grid_from_samples"):
                    layer.update_grid_from_samples(x)
                else:
                    layer.adapt_grid_(x)
            x = advance(self, l, x, None, False, 0.0).outputs

    def first_layer(self, x: Tensor) -> FirstLayer | None:
        """What a pass over `x` needs of the first layer and what stays the same while only weights change.

        None if the base function may change, too: it may have parameters, or draw random numbers.
        """
        if not is_elementwise(self.numeric_layers[0].base_fun):
            return None
        x = self.checked_input(x)
        with torch.no_grad():
            return FirstLayer(self.numeric_layers[0].features(x), x)
