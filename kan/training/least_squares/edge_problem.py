r"""The mean squared error of a network as a problem of least squares, edge by edge and in closed form.

What `kan.training.least_squares.network_problem` does for any network and any objective is done here with neither a graph nor a network:
the weights of the live edges are one vector ``q``, and one pass from the inputs to the outputs and back gives the residuals and their
Jacobian. With a few hundred samples and a few dozen weights nearly all of the time goes into the number of operations, and here they are a
third of those.

With the features ``psi`` of the inputs, the sub-node sums are ``s_j = sum_i psi_i . q_ij + sum_i mask_ij (c f(a x_i + b) + d)``; with
``delta_j`` the derivative of an output with respect to ``s_j``, the columns of the Jacobian are ``delta_j psi_i`` and
``delta_j mask_ij (c f' x_i, c f', f, 1)``.

Layout. The batch is the last axis. Symbols: B samples, K outputs, E edges, I nodes, O sub-nodes, P numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kan.layers.base_functions import is_silu
from kan.layers.features import SiLUFeatures
from kan.layers.kan_layer import KANLayer
from kan.layers.symbolic_layer import SymbolicLayer
from kan.network.network import Network
from kan.solvers.levenberg_marquardt import Linearisation
from kan.symbolic.library import ANONYMOUS, SymbolicFunction
from kan.symbolic.slopes import value_and_slope
from kan.symbolic.user_function import WrittenFunction

__all__ = ["EdgeProblem"]

LARGEST = 2**22
"""Entries of the largest Jacobian."""


class EdgeProblem:
    """The mean squared error of a network on some samples, see `kan.solvers.levenberg_marquardt.Problem`.

    The coefficients of all numeric edges are trained, in units of the weight, and ``(a, b, c, d)`` of all symbolic ones. The network is
    read when the problem is made and changed by `write_` only.

    Args:
        network: in float64, one for which `fits` holds.
        x, y: ``(B, inputs)`` and ``(B, K)``.
    """

    def __init__(self, network: Network, x: Tensor, y: Tensor) -> None:
        self._x, self._y = network.checked_input(x).t().contiguous(), y.t()
        self._layers: list[_Layer] = []
        start = 0
        for l in range(network.depth):
            self._layers.append(_Layer(network, l, start, self._x if l == 0 else None))
            start = self._layers[-1].stop
        self._root = self._y.numel() ** -0.5
        self._q = torch.cat([self._x.new_zeros(0), *(part.numbers() for layer in self._layers for part in layer.parts)])
        self._jacobian = self._x.new_empty(start, *self._y.shape)
        self._passed: tuple[list[_Pass], Tensor] | None = None
        self._moved = False

    @staticmethod
    def fits(network: Network, samples: int) -> bool:
        """Whether a network is of the kind that is treated here, and small enough for `samples`."""
        if network.device.type != "cpu" or any(not (layer.has_knots and is_silu(layer.base_fun)) for layer in network.numeric_layers):
            return False
        if any(p.requires_grad for name in ("node_scale", "node_bias", "subnode_scale", "subnode_bias") for p in getattr(network, name)):
            return False
        count = 0
        for numeric, symbolic in zip(network.numeric_layers, network.symbolic_layers, strict=True):
            live = numeric.mask != 0
            if bool((live & (numeric.scale_sp == 0)).any()):
                return False  # coefficients that do not matter
            count += int(live.sum()) * (numeric.num + numeric.k + 1) + 4 * len(symbolic.active())
        return 0 < count * samples * network.width_in[-1] <= LARGEST

    @property
    def size(self) -> int:
        """Entries of the Jacobian."""
        return self._jacobian.numel()

    def value(self) -> float:
        """The mean squared error."""
        return float(self._pass()[1].square().sum())

    def linearise(self) -> Linearisation:
        """Its model around the present numbers."""
        passes, residual = self._pass()
        outputs = len(residual)
        delta = torch.eye(outputs, dtype=residual.dtype)[:, :, None].mul(self._root).expand(-1, -1, residual.shape[1])
        for layer, passed in zip(reversed(self._layers), reversed(passes), strict=True):
            delta = layer.back(passed, delta, self._jacobian, self._q)
        rows = self._jacobian.flatten(1), residual.flatten()
        return Linearisation(lambda: [rows], len(self._q), residual.numel())

    def move_(self, step: Tensor) -> None:
        """Add `step` ``(P,)``."""
        self._q = self._q + step
        self._passed, self._moved = None, True

    def save(self) -> list[Tensor]:
        """The numbers as they are."""
        return [self._q]

    def restore_(self, saved: list[Tensor]) -> None:
        """Back to what `save` returned."""
        (self._q,) = saved
        self._passed = None

    @torch.no_grad()
    def write_(self) -> None:
        """Give the numbers to the network."""
        if self._moved:
            for layer in self._layers:
                for part in layer.parts:
                    part.write_(self._q)

    def _pass(self) -> tuple[list[_Pass], Tensor]:
        """Every layer's values and the residuals ``(K, B)``, in units that make their squares sum to the mean squared error."""
        if self._passed is None:
            x, passes = self._x, []
            for layer in self._layers:
                passes.append(layer.forward(x, self._q))
                x = passes[-1].nodes
            self._passed = passes, (x - self._y) * self._root
        return self._passed


class _Pass(NamedTuple):
    """What a layer's way back needs of its way there; all ``(., B)``."""

    features: SiLUFeatures | None
    named: _NamedPass | None
    premult: Tensor
    nodes: Tensor


class _NamedPass(NamedTuple):
    inputs: Tensor
    values: Tensor
    slopes: Tensor


class _Layer:
    """One layer; `fixed` are its inputs ``(I, B)`` if they never change."""

    def __init__(self, network: Network, l: int, start: int, fixed: Tensor | None) -> None:
        numeric, symbolic = network.numeric_layers[l], network.symbolic_layers[l]
        self.in_dim, self.out_dim = numeric.in_dim, numeric.out_dim
        self.numeric = self.named = None
        if bool(numeric.mask.any()):
            self.numeric = _Numeric(numeric, start, fixed)
            start = self.numeric.part.stop
        if network.symbolic_enabled and symbolic.active():
            self.named = _Named(symbolic, start)
            start = self.named.part.stop
        self.stop = start
        self.first = fixed is not None
        self.sums, self.arities = network.structure.n_sum[l + 1], network.structure.arities[l + 1]
        self.below = _map(network.subnode_scale[l], network.subnode_bias[l])
        self.above = _map(network.node_scale[l], network.node_bias[l])

    @property
    def parts(self) -> list[_Numeric | _Named]:
        return [part for part in (self.numeric, self.named) if part is not None]

    def forward(self, x: Tensor, q: Tensor) -> _Pass:
        sums = x.new_zeros(self.out_dim, x.shape[1])
        features = named = None
        if self.numeric is not None:
            features = self.numeric.features(x)
            sums = self.numeric.weight(q) @ features.rows.flatten(0, 1)
        if self.named is not None:
            named = self.named.forward(x, q)
            _, _, c, d = self.named.numbers_in(q)
            sums = torch.addmm(sums, self.named.into, c * named.values + d)
        premult = sums if self.below is None else torch.addcmul(self.below[1], self.below[0], sums)
        nodes = premult
        if self.arities:
            alone, *factors = premult.split([self.sums, *self.arities])
            nodes = torch.cat([alone, *(factor.prod(0, keepdim=True) for factor in factors)])
        return _Pass(features, named, premult, nodes if self.above is None else torch.addcmul(self.above[1], self.above[0], nodes))

    def back(self, passed: _Pass, delta: Tensor, jacobian: Tensor, q: Tensor) -> Tensor:
        """From derivatives with respect to the nodes above, ``(K, ., B)``, those with respect to the nodes below; writes the columns."""
        if self.above is not None:
            delta = delta * self.above[0]
        if self.arities:
            alone, *factors = passed.premult.split([self.sums, *self.arities])
            parts = [delta[:, : self.sums]]
            for n, factor in enumerate(factors, start=self.sums):
                parts += [delta[:, n : n + 1] * factor[[m for m in range(len(factor)) if m != k]].prod(0) for k in range(len(factor))]
            delta = torch.cat(parts, 1)
        if self.below is not None:
            delta = delta * self.below[0]
        below = delta.new_zeros(0 if self.first else len(delta), self.in_dim, delta.shape[2])
        if self.numeric is not None:
            assert passed.features is not None
            self.numeric.back(passed.features, delta, jacobian, below)
        if self.named is not None:
            assert passed.named is not None
            self.named.back(passed.named, delta, jacobian, below, q)
        return below


class _Numeric:
    """The numeric edges of a layer."""

    def __init__(self, layer: KANLayer, start: int, fixed: Tensor | None) -> None:
        self.layer = layer
        self.i, self.j = layer.mask.nonzero().unbind(1)
        self.inputs, self.place = self.i.unique(return_inverse=True)
        self.table = layer.table if len(self.inputs) == layer.in_dim else layer.table.taken(self.inputs.tolist())
        self.size = layer.num + layer.k + 1
        self.part = slice(start, start + len(self.i) * self.size)
        base, spline = layer.mask[self.i, self.j, None], (layer.mask * layer.scale_sp)[self.i, self.j, None]
        self.scale = torch.cat([base, spline.expand(-1, self.size - 1)], 1).detach()
        self.fixed = None
        if fixed is not None:
            self.fixed = SiLUFeatures.at(fixed[self.inputs], self.table, slopes=False)
        self._weight = layer.coef.new_zeros(layer.out_dim, len(self.inputs), self.size)

    def numbers(self) -> Tensor:
        layer, i, j = self.layer, self.i, self.j
        return (torch.cat([layer.scale_base[i, j, None], layer.coef[i, j]], 1).detach() * self.scale).flatten()

    def write_(self, q: Tensor) -> None:
        found = q[self.part].view(-1, self.size) / self.scale
        self.layer.scale_base[self.i, self.j], self.layer.coef[self.i, self.j] = found[:, 0], found[:, 1:]

    def weight(self, q: Tensor) -> Tensor:
        """``(O, I (n+1))``."""
        self._weight[self.j, self.place] = q[self.part].view(-1, self.size)
        return self._weight.flatten(1)

    def features(self, x: Tensor) -> SiLUFeatures:
        return SiLUFeatures.at(x[self.inputs], self.table, slopes=True) if self.fixed is None else self.fixed

    def back(self, features: SiLUFeatures, delta: Tensor, jacobian: Tensor, below: Tensor) -> None:
        out = jacobian[self.part].view(len(self.i), self.size, *delta.shape[::2])
        torch.mul(features.rows[self.place][:, :, None], delta[:, self.j].transpose(0, 1)[:, None], out=out)
        for one, target in zip(delta, below, strict=False):  # there are none below the first layer
            pulled = (self._weight.flatten(1).t() @ one).unflatten(0, (len(self.inputs), self.size))
            target[self.inputs] = features.pull_back(pulled)


class _Named:
    """The symbolic edges of a layer."""

    def __init__(self, layer: SymbolicLayer, start: int) -> None:
        self.layer, active = layer, layer.active()
        self.j, self.i = torch.tensor(active).unbind(1)
        self.part = slice(start, start + 4 * len(active))
        self.mask = layer.mask[self.j, self.i, None].detach()
        self.into = nn.functional.one_hot(self.j, layer.out_dim).t() * self.mask[:, 0]
        self.functions = [layer.function(i, j)[1] for j, i in active]
        self.groups = [list(group) for _, group in groupby(range(len(active)), key=lambda e: id(self.functions[e]))]

    def numbers(self) -> Tensor:
        return self.layer.affine[self.j, self.i].detach().flatten()

    def numbers_in(self, q: Tensor) -> Sequence[Tensor]:
        """``a, b, c, d``, ``(E, 1)`` each."""
        return q[self.part].view(-1, 4, 1).unbind(1)

    def write_(self, q: Tensor) -> None:
        self.layer.affine[self.j, self.i] = q[self.part].view(-1, 4)

    def forward(self, x: Tensor, q: Tensor) -> _NamedPass:
        a, b, _, _ = self.numbers_in(q)
        inputs = x[self.i]
        u = torch.addcmul(b, a, inputs)
        found = [_value_and_slope(self.functions[group[0]], u[group[0] : group[-1] + 1]) for group in self.groups]
        values, slopes = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*found, strict=True))
        return _NamedPass(inputs, values, slopes)

    def back(self, passed: _NamedPass, delta: Tensor, jacobian: Tensor, below: Tensor, q: Tensor) -> None:
        a, _, c, _ = self.numbers_in(q)
        out = jacobian[self.part].view(len(self.i), 4, *delta.shape[::2])
        torch.mul(delta[:, self.j].transpose(0, 1), self.mask[:, None], out=out[:, 3])
        torch.mul(out[:, 3], passed.values[:, None], out=out[:, 2])
        torch.mul(out[:, 3], (c * passed.slopes)[:, None], out=out[:, 1])
        torch.mul(out[:, 1], passed.inputs[:, None], out=out[:, 0])
        if len(below):
            below.index_add_(1, self.i, (out[:, 1] * a[:, None]).transpose(0, 1))


def _value_and_slope(function: SymbolicFunction, u: Tensor) -> tuple[Tensor, Tensor]:
    """Of a function of the user's own, which may be a network, with the batch first as passes call it."""
    if not isinstance(function, WrittenFunction) and function.name != ANONYMOUS:
        return value_and_slope(function, u)
    value, slope = value_and_slope(function, u.t())
    return value.t(), slope.t()


def _map(scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor] | None:
    """Scale and bias as columns; None for the identity."""
    if bool((scale == 1).all()) and not bool(bias.any()):
        return None
    return scale.detach()[:, None], bias.detach()[:, None]
