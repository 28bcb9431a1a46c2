r"""Forward and backward pass of one layer of a network, in closed form and without an autograd graph; the batch is the last axis.

From the nodes ``x`` ``(I, B)`` to the next nodes, with the features ``psi_i`` of the inputs (`kan.layers.features`) and the folded weights
``w_ij`` of the numeric edges,

    ``s_j = sum_i psi_i(x_i) . w_ij + sum_i m_ij (c_ij f_ij(a_ij x_i + b_ij) + d_ij)``     (sums of the sub-nodes),
    ``p_j = subnode_scale_j s_j + subnode_bias_j``                                        (sub-nodes),
    ``q_n = p_n`` or the product of the sub-nodes of a multiplication node ``n``           (products),
    ``y_n = node_scale_n q_n + node_bias_n``                                              (nodes).

The backward pass takes the derivatives of one or several quantities with respect to ``y`` to those with respect to ``p``, ``s`` and ``x``.
The derivative with respect to ``w_ijm`` is ``psi_im`` times the one with respect to ``s_j``.

A network is evaluated in three ways: recorded by autograd (`kan.network.network`), by this pass, and with separate parameters for every
point, for residuals that contain derivatives (`kan.training.residuals`). This pass has two back ends: the one here for a single network,
and `kan.training.together.stack_pass` for many networks of one structure. It needs elementwise base functions
(`kan.layers.base_functions`).

Symbols: ``B`` samples, ``E`` symbolic edges, ``I`` nodes below, ``O`` sub-nodes, ``K`` quantities that are differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kan.devices import constant, fingerprint, number_like
from kan.layers.features import Features
from kan.layers.kan_layer import KANLayer
from kan.layers.symbolic_layer import SymbolicLayer, incidence
from kan.network.layered import LayeredNetwork
from kan.symbolic.library import ANONYMOUS, SymbolicFunction
from kan.symbolic.slopes import value_and_slope
from kan.symbolic.user_function import WrittenFunction

__all__ = ["ARITHMETIC", "Guard", "LayerArithmetic", "LayerParts", "LayerPass", "Quadratic", "Sensitivity", "SymbolicPass"]


class Quadratic(NamedTuple):
    """A quadratic form of every input's features, ``(psi_i - mean_i)' A_i (psi_i - mean_i) / 2``, summed over the samples.

    Attributes:
        matrices: ``A``, ``(I, n+1, n+1)``, symmetric.
        mean: ``(I, n+1, 1)``.
    """

    matrices: Tensor
    mean: Tensor


class LayerArithmetic(Protocol):
    """The arithmetic of a layer's numeric edges: features, products with the weights, and derivatives. `ARITHMETIC` is the one in use."""

    def features_at(self, layer: KANLayer, x: Tensor, *, slopes: bool, inputs: list[int] | None) -> Features:
        """The features of some inputs at `x` ``(I, B)``, see `KANLayer.features_at`."""

    def product(self, rows: Tensor, weight: Tensor) -> Tensor:
        """The sums ``(O, B)`` of features `rows` ``(I, n+1, B)`` with the weights ``(I, n+1, O)``."""

    def pull_back(self, features: Features, weight: Tensor, grad: Tensor, quadratic: Quadratic | None = None) -> Tensor:
        """Derivatives with respect to the inputs, ``(I, B)``, from those of the sums, `grad` ``(O, B)``; those of `quadratic` are added."""


class _TorchArithmetic:
    def features_at(self, layer: KANLayer, x: Tensor, *, slopes: bool, inputs: list[int] | None) -> Features:
        return layer.features_at(x, slopes=slopes, inputs=inputs)

    def product(self, rows: Tensor, weight: Tensor) -> Tensor:
        return weight.flatten(0, 1).t() @ rows.flatten(0, 1)

    def pull_back(self, features: Features, weight: Tensor, grad: Tensor, quadratic: Quadratic | None = None) -> Tensor:
        to_rows = (weight.flatten(0, 1) @ grad).view_as(features.rows)
        if quadratic is not None:
            to_rows.baddbmm_(quadratic.matrices, features.rows).sub_(torch.bmm(quadratic.matrices, quadratic.mean))
        return features.pull_back(to_rows)


ARITHMETIC: LayerArithmetic = _TorchArithmetic()
"""The arithmetic that every pass in closed form uses: operations of torch."""


class Guard(NamedTuple):
    """How symbolic functions are evaluated near their singularities, see `Network.forward`."""

    singularity_avoiding: bool = False
    y_th: float = 10.0


class Map(NamedTuple):
    """The affine map ``scale x + shift`` of nodes or sub-nodes; both tensors are ``(units, 1)``."""

    scale: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, self.scale, x)


class Sensitivity(NamedTuple):
    """Derivatives with respect to a layer's sums, sub-nodes and nodes, ``(units, B)`` each, or ``(K, units, B)`` of ``K`` quantities."""

    sums: Tensor
    premult: Tensor
    nodes: Tensor


class SymbolicPass(NamedTuple):
    """Values and slopes of the symbolic edges of a layer on a batch.

    Attributes:
        values: ``f(a x + b)``, ``(E, B)``.
        slopes: ``f'(a x + b)``, ``(E, B)``; None if they were not asked for.
        x: the input of each edge, ``(E, B)``.
        affine: ``(a, b, c, d)``, ``(E, 4)``.
    """

    values: Tensor
    slopes: Tensor | None
    x: Tensor
    affine: Tensor


@dataclass(frozen=True)
class SymbolicParts:
    """The symbolic edges of a layer that are not masked.

    Attributes:
        layer: the layer.
        functions: the function of each edge.
        outputs, inputs: sub-node ``j`` and node ``i`` of the edges, ``(E,)``.
        mask: ``(E, 1)``.
        incidence: ``m_ij`` where an edge leads to a sub-node, else 0, ``(O, E)``.
        groups: each run of neighbouring edges with the same function, and its slice of the edges.
    """

    layer: SymbolicLayer
    functions: list[SymbolicFunction]
    outputs: Tensor
    inputs: Tensor
    mask: Tensor
    incidence: Tensor
    groups: list[tuple[SymbolicFunction, slice]]

    @property
    def has_user_functions(self) -> bool:
        """Whether an edge has a function of the user's own. Such a function need not be elementwise."""
        return any(map(_is_users, self.functions))

    @classmethod
    def of(cls, layer: SymbolicLayer) -> SymbolicParts | None:
        """The active edges of `layer`; None if there are none."""
        active = layer.active()
        if not active:
            return None
        outputs, inputs = constant(tuple(active), torch.long, layer.device).unbind(1)
        mask = layer.mask.detach()[outputs, inputs, None]
        leads_to = incidence(outputs, layer.out_dim, mask.dtype).t() * mask[:, 0]
        functions = [layer.function(i, j)[1] for j, i in active]
        groups, start = [], 0
        for _, run in groupby(functions, key=id):
            members = list(run)
            groups.append((members[0], slice(start, start + len(members))))
            start += len(members)
        return cls(layer, functions, outputs, inputs, mask, leads_to, groups)

    def evaluated(self, x: Tensor, guard: Guard, *, slopes: bool) -> SymbolicPass:
        """The functions at the nodes `x` ``(I, B)``."""
        affine = self.layer.affine.detach()[self.outputs, self.inputs]
        inputs = x[self.inputs]
        u = torch.addcmul(affine[:, 1, None], affine[:, 0, None], inputs)
        values, steep = torch.empty_like(u), torch.empty_like(u) if slopes else None
        for function, part in self.groups:
            value, slope = _evaluated(function, u[part], guard, slopes)
            values[part] = value
            if steep is not None and slope is not None:
                steep[part] = slope
        return SymbolicPass(values, steep, inputs, affine)

    def sums(self, passed: SymbolicPass) -> Tensor:
        """The contribution of the symbolic edges to the sums of the sub-nodes, ``(O, B)``."""
        return self.incidence @ torch.addcmul(passed.affine[:, 3, None], passed.affine[:, 2, None], passed.values)

    def columns(self, passed: SymbolicPass) -> Tensor:
        """Derivatives of the edges with respect to their ``(a, b, c, d)``, ``(E, 4, B)``."""
        assert passed.slopes is not None
        found = passed.x.new_empty(len(passed.x), 4, passed.x.shape[1])
        torch.mul(passed.slopes, self.mask * passed.affine[:, 2, None], out=found[:, 1])
        torch.mul(found[:, 1], passed.x, out=found[:, 0])
        torch.mul(passed.values, self.mask, out=found[:, 2])
        found[:, 3] = self.mask
        return found

    def add_to_inputs_(self, passed: SymbolicPass, grad: Tensor, below: Tensor) -> None:
        """Add the derivatives through the symbolic edges to `below` ``([K,] I, B)``; `grad` ``([K,] O, B)`` are those of the sums."""
        assert passed.slopes is not None
        steep = passed.slopes * (self.mask * passed.affine[:, 2, None] * passed.affine[:, 0, None])
        below.index_add_(-2, self.inputs, grad[..., self.outputs, :] * steep)


def _is_users(function: SymbolicFunction) -> bool:
    return isinstance(function, WrittenFunction) or function.name == ANONYMOUS


def _evaluated(function: SymbolicFunction, u: Tensor, guard: Guard, slopes: bool) -> tuple[Tensor, Tensor | None]:
    """Value and, if wanted, slope of `function` at `u` ``(E, B)``. A user's own function is called with the batch first, as in any pass."""
    if _is_users(function):
        value, slope = _of_any_layout(function, u.t(), guard, slopes)
        return value.t(), None if slope is None else slope.t()
    return _of_any_layout(function, u, guard, slopes)


def _of_any_layout(function: SymbolicFunction, u: Tensor, guard: Guard, slopes: bool) -> tuple[Tensor, Tensor | None]:
    bound = number_like(guard.y_th, u)
    if not slopes:
        return function.singularity_fun(u, bound)[1] if guard.singularity_avoiding else function.torch_fun(u), None
    with torch.inference_mode(False), torch.no_grad():  # autograd of a single function needs a tensor from outside of that mode
        own = u.clone()
        if not guard.singularity_avoiding:
            return value_and_slope(function, own)
        with torch.enable_grad():
            value = function.singularity_fun(own.requires_grad_(), bound.clone())[1]
            if not value.requires_grad:
                return value, torch.zeros_like(value)
            (slope,) = torch.autograd.grad(value, own, torch.ones_like(value))
    return value.detach(), slope


class LayerPass(NamedTuple):
    """The intermediate values of one layer in a forward pass, which the backward pass reads.

    Attributes:
        x: nodes below, ``(I, B)``.
        features: features of the numeric edges' inputs; None when all numeric edges are masked, or the caller has not kept them.
        weight: folded weights of the numeric edges, ``(I, n+1, O)``.
        symbolic: the symbolic edges; None when there are none.
        sums, premult: ``s`` and ``p``, ``(O, B)``.
        products, nodes: ``q`` and ``y``, ``(N, B)``.
    """

    x: Tensor
    features: Features | None
    weight: Tensor | None
    symbolic: SymbolicPass | None
    sums: Tensor
    premult: Tensor
    products: Tensor
    nodes: Tensor


@dataclass(frozen=True)
class LayerParts:
    """What a pass reads of one layer besides its weights. It is collected once and reused as long as `is_current` holds.

    Attributes:
        numeric, functions: the numeric and the symbolic layer.
        live: whether a numeric edge is not masked.
        inputs: the inputs with such an edge, when features are computed for these alone; None when they are computed for all inputs.
        symbolic: the symbolic edges; None if there are none.
        n_sum, arities: sum nodes, and the arities of the multiplication nodes behind them.
        affine: scale and bias of the sub-nodes, then scale and bias of the nodes.
        trains_maps: whether scales or biases of the sub-nodes or nodes are trained, so that every pass reads them anew.
        below, above: the maps of the sub-nodes and of the nodes, if these are not trained; None for the identity.
        versions: torch's version counters of `affine`, from which `is_current` sees in-place changes.
        named: the functions and the mask from which the symbolic edges were made; None if the layer has none, or they are switched off.
    """

    numeric: KANLayer
    functions: SymbolicLayer
    live: bool
    inputs: list[int] | None
    symbolic: SymbolicParts | None
    n_sum: int
    arities: tuple[int, ...]
    affine: tuple[nn.Parameter, ...]
    trains_maps: bool
    below: Map | None
    above: Map | None
    versions: list[int]
    named: object

    @classmethod
    def of(cls, network: LayeredNetwork, l: int, live_inputs_only: bool = False) -> LayerParts:
        """The parts of layer `l`; with `live_inputs_only` inputs whose numeric edges are all masked get no features."""
        numeric, functions = network.numeric_layers[l], network.symbolic_layers[l]
        affine = (network.subnode_scale[l], network.subnode_bias[l], network.node_scale[l], network.node_bias[l])
        live, inputs = (numeric.mask != 0).any(1), None
        if live_inputs_only and bool(live.any()) and not bool(live.all()):
            inputs = live.nonzero()[:, 0].tolist()
        arities = tuple(network.structure.arities[l + 1])
        below = above = None
        trained = any(p.requires_grad for p in affine)
        if not trained:
            below, above = _map(*affine[:2]), _map(*affine[2:])
            if below is not None and above is not None and not arities:
                below, above = Map(above.scale * below.scale, torch.addcmul(above.shift, above.scale, below.shift)), None
        symbolic = SymbolicParts.of(functions) if network.symbolic_enabled else None
        return cls(
            numeric, functions, bool(live.any()), inputs, symbolic, network.structure.n_sum[l + 1], arities, affine, trained, below, above,
            [p._version for p in affine], _named(network, functions),
        )  # fmt: skip

    def is_current(self, network: LayeredNetwork) -> bool:
        """Whether functions and maps are those that the parts were made of, and no edge has come to a layer that had none."""
        for p, version in zip(self.affine, self.versions, strict=True):
            if not self.trains_maps and (p.requires_grad or p._version != version):
                return False
        return self.named == _named(network, self.functions) and (self.live or not bool(self.numeric.mask.any()))

    def taken(self, x: Tensor) -> Tensor:
        """The rows of `x` that are those of inputs with features, see `inputs`."""
        return x if self.inputs is None else x[constant(tuple(self.inputs), torch.long, x.device)]

    def maps(self) -> tuple[Map | None, Map | None]:
        """The maps of the sub-nodes and of the nodes at the present parameters."""
        if not self.trains_maps:
            return self.below, self.above
        columns = [p.detach()[:, None] for p in self.affine]
        return Map(*columns[:2]), Map(*columns[2:])

    def forward(
        self, x: Tensor, weight: Tensor | None, features: Features | None = None, *, slopes: bool, guard: Guard
    ) -> LayerPass:
        """The forward pass of the layer at the nodes `x` ``(I, B)``.

        Args:
            x: the nodes below.
            weight: folded weights of the numeric edges, ``(I, n+1, O)``; those of `self.inputs` alone, if it is not None.
            features: features of the numeric edges, if they are known.
            slopes: whether derivatives with respect to `x` are wanted.
            guard: how symbolic functions are evaluated.
        """
        sums = None
        if weight is not None:
            if features is None:
                features = ARITHMETIC.features_at(self.numeric, self.taken(x), slopes=slopes, inputs=self.inputs)
            sums = ARITHMETIC.product(features.rows, weight)
        return self.completed(x, sums, features, weight, slopes=slopes, guard=guard)

    def completed(
        self, x: Tensor, sums: Tensor | None, features: Features | None, weight: Tensor | None, *, slopes: bool, guard: Guard
    ) -> LayerPass:
        """The forward pass from the `sums` of the numeric edges, ``(O, B)``, onwards; they are None when all numeric edges are masked."""
        symbolic = None
        if self.symbolic is not None:
            symbolic = self.symbolic.evaluated(x, guard, slopes=slopes)
            added = self.symbolic.sums(symbolic)
            sums = added if sums is None else sums + added
        if sums is None:
            sums = x.new_zeros(self.numeric.out_dim, x.shape[1])
        below, above = self.maps()
        premult = sums if below is None else below(sums)
        products = premult
        if self.arities:
            alone, *factors = premult.split([self.n_sum, *self.arities])
            products = torch.cat([alone, *(factor.prod(0, keepdim=True) for factor in factors)])
        return LayerPass(x, features, weight, symbolic, sums, premult, products, products if above is None else above(products))

    def to_sums(self, passed: LayerPass, nodes: Tensor) -> Sensitivity:
        """Derivatives with respect to sub-nodes and sums from those with respect to the nodes above, `nodes` ``([K,] N, B)``."""
        below, above = self.maps()
        premult = nodes if above is None else nodes * above.scale
        if self.arities:
            _, *factors = passed.premult.split([self.n_sum, *self.arities])
            parts = [premult[..., : self.n_sum, :]]
            for n, factor in enumerate(factors, start=self.n_sum):
                others = [torch.cat([factor[:k], factor[k + 1 :]]).prod(0) for k in range(len(factor))]
                parts += [premult[..., n : n + 1, :] * other for other in others]
            premult = torch.cat(parts, -2)
        return Sensitivity(premult if below is None else premult * below.scale, premult, nodes)

    def to_inputs(self, passed: LayerPass, sums: Tensor) -> Tensor:
        """Derivatives with respect to the nodes below, ``(K, I, B)``, from those with respect to the sums ``(K, O, B)``."""
        if passed.features is None or passed.weight is None:
            found = sums.new_zeros(len(sums), *passed.x.shape)
        else:
            each = [ARITHMETIC.pull_back(passed.features, passed.weight, grad) for grad in sums]
            pulled = each[0][None] if len(each) == 1 else torch.stack(each)
            found = pulled if self.inputs is None else pulled.new_zeros(len(sums), *passed.x.shape).index_copy_(
                1, constant(tuple(self.inputs), torch.long, pulled.device), pulled
            )  # fmt: skip
        if self.symbolic is not None and passed.symbolic is not None:
            self.symbolic.add_to_inputs_(passed.symbolic, sums, found)
        return found


def _map(scale: Tensor, bias: Tensor) -> Map | None:
    if bool((scale == 1).all()) and not bool(bias.any()):
        return None
    return Map(scale.detach()[:, None], bias.detach()[:, None])


def _named(network: LayeredNetwork, functions: SymbolicLayer) -> object:
    if not functions._named or not network.symbolic_enabled:
        return None
    return functions.functions, fingerprint(functions.mask)
