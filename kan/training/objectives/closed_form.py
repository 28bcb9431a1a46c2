r"""The objective of a plain network and its gradient, in closed form.

A network is plain when it is nothing but numeric layers with SiLU as base function: no symbolic edges, no multiplication nodes, no affine
maps of the nodes that are trained, no code of the user's (`kan.network.user_code.own_code`). That is how most fits start, and there are
thousands of evaluations in one; with small networks most of their time goes into recording and replaying some two hundred small operations.
Here they are half as many, and nothing is recorded.
`Objective.composed` is the same for any network and penalty.

Per layer, with features ``Psi``, folded weights ``w``, covariances ``C``, ``std_ij = sqrt(w_ij' C_i w_ij)`` (see `kan.layers.deviation`)
and scores ``V_ij = std_ij/(std_i + 0.1)``: from the gradients ``g_j`` of the sub-node sums and ``G_ij`` of the scores follow, with
``q_ij = G_ij / ((std_i + 0.1) std_ij)``,

    ``dw_ij = Psi_i g_j + q_ij C_i w_ij``,
    ``dPsi_i = sum_j w_ij g_j + 1/(B-1) sum_j q_ij w_ij w_ij' (Psi_i - mean Psi_i)``,
    ``dx_i = dPsi_i . psi_i'(x_i) - 1/(B-1) (x_i - mean x_i)/std_i sum_j G_ij V_ij/(std_i + 0.1)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from kan.layers.base_functions import is_silu
from kan.layers.deviation import over_deviation, safe_sqrt
from kan.layers.features import SiLUFeatures, fold, unfold
from kan.layers.kan_layer import KANLayer
from kan.network.network import Network
from kan.network.trace import INPUT_OFFSET, FirstLayer
from kan.network.user_code.own_code import own_parts
from kan.training.objectives.sparsity import sparsity_with_slopes

if TYPE_CHECKING:
    from kan.training.objectives.of_network import Objective

__all__ = ["PlainNetwork", "evaluate_plain", "evaluate_plain_with_gradient"]

KEPT = 2**21
"""Most features of a layer that are kept from the forward to the backward pass."""
PART = 2**19
"""Features of a layer that are computed at a time where they are not."""


@dataclass(frozen=True)
class PlainNetwork:
    """The parts of a plain network, looked up once.

    Attributes:
        network: the network.
        layers: its numeric layers.
        parameters: for each, ``coef, scale_base, scale_sp, mask``, one after another.
        affine: the scales and biases of all nodes and sub-nodes.
        versions: of `affine`, when `maps` was made of them.
        maps: for each layer what they do together, ``x' = scale s + shift`` with both ``(O, 1)``; None where that is the identity.
    """

    network: Network
    layers: list[KANLayer]
    parameters: list[nn.Parameter]
    affine: list[nn.Parameter]
    versions: list[int]
    maps: list[tuple[Tensor, Tensor] | None]

    @classmethod
    def of(cls, network: Network) -> PlainNetwork | None:
        """The parts of `network`, or None if it is not plain."""
        if own_parts(network):
            return None
        layers = network.numeric_layers
        affine = [*network.node_scale, *network.node_bias, *network.subnode_scale, *network.subnode_bias]
        if (
            any(network.structure.arities[1:])
            or any(not (layer.has_knots and is_silu(layer.base_fun)) for layer in layers)
            or any(p.requires_grad for p in affine)
        ):
            return None
        parameters = [p for layer in layers for p in (layer.coef, layer.scale_base, layer.scale_sp, layer.mask)]
        each = zip(network.node_scale, network.node_bias, network.subnode_scale, network.subnode_bias, strict=True)
        maps = [_joined(*parts) for parts in each]
        return cls(network, layers, parameters, affine, [p._version for p in affine], maps)

    def holds(self) -> bool:
        """Whether the network still is plain."""
        network = self.network
        symbolic = network.symbolic_enabled and any(layer.active() for layer in network.symbolic_layers)
        return not symbolic and self.versions == [p._version for p in self.affine]


def _joined(node_scale: Tensor, node_bias: Tensor, subnode_scale: Tensor, subnode_bias: Tensor) -> tuple[Tensor, Tensor] | None:
    """``node_scale (subnode_scale s + subnode_bias) + node_bias`` as one scale and shift; None for the identity."""
    scale, shift = node_scale * subnode_scale, node_scale * subnode_bias + node_bias
    if bool((scale == 1).all()) and not bool(shift.any()):
        return None
    return scale.detach()[:, None], shift.detach()[:, None]


def evaluate_plain(
    objective: Objective, plain: PlainNetwork, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Objective, loss and penalty, 0-dim each; the first is differentiable with respect to the parameters."""
    total, loss, penalty = _PlainObjective.apply(
        _Problem(objective, plain, x, y, first, weight), torch.is_grad_enabled(), *plain.parameters
    )
    return total, loss, penalty


def evaluate_plain_with_gradient(
    objective: Objective, plain: PlainNetwork, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None = None
) -> Tensor:
    """The objective, 0-dim; its gradient replaces the ``.grad`` of the parameters."""
    problem = _Problem(objective, plain, x, y, first, weight)
    value, gradients = _value_and_gradients(problem, [p.requires_grad for p in plain.parameters])
    for p, grad in zip(plain.parameters, gradients, strict=True):
        p.grad = None if grad is None else grad.clone()  # the clone is an ordinary tensor again
    return value.total.clone()


class _Problem(NamedTuple):
    objective: Objective
    plain: PlainNetwork
    x: Tensor
    y: Tensor
    first: FirstLayer | None
    weight: Tensor | None


class _Value(NamedTuple):
    total: Tensor
    loss: Tensor
    penalty: Tensor


class _PlainObjective(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: _Problem, backward: bool, *parameters: Tensor) -> tuple[Tensor, ...]:
        wanted = [backward and need for need in ctx.needs_input_grad[2:]]
        value, ctx.gradients = _value_and_gradients(problem, wanted)
        ctx.problem, ctx.parameters = problem, parameters
        total, loss, penalty = (number.clone() for number in value)
        ctx.mark_non_differentiable(loss, penalty)
        return total, loss, penalty

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            objective, _, x, y, first, weight = ctx.problem
            total = objective.composed(x, y, first, weight)[0]
            wanted = [p for p in ctx.parameters if p.requires_grad]
            found = iter(torch.autograd.grad(total, wanted, grads[0], create_graph=True, allow_unused=True))
            return None, None, *(next(found) if p.requires_grad else None for p in ctx.parameters)
        return None, None, *(None if g is None else g * grads[0] for g in ctx.gradients)


class _Layer:
    """One layer in one evaluation: its features, part by part of the batch.

    A batch of a single part keeps them for the backward pass; of several, each part's are computed anew there, so that memory is bounded
    by the inputs of the layers and the features of one part.

    Args:
        layer: the layer.
        h: its inputs, ``(I, B)``.
        weight: ``(I, n+1, O)``.
        known: what is known of the first layer.
        parts: of the batch.
        slopes: whether derivatives of the features will be wanted.
    """

    def __init__(self, layer: KANLayer, h: Tensor, weight: Tensor, known: FirstLayer | None, parts: Sequence[slice], slopes: bool) -> None:
        self.h, self.weight, self.known, self.parts = h, weight, known, parts
        self._table = None if known is not None else layer.table
        self._slopes = slopes
        self._kept: SiLUFeatures | None = None
        self.statistics: _Statistics | None = None

    def features(self, part: slice, slopes: bool = False) -> SiLUFeatures:
        """Of the samples `part`."""
        if self.known is not None:
            return SiLUFeatures(self.known.features[part].permute(1, 2, 0), None, None)
        if self._kept is not None:
            return self._kept
        assert self._table is not None
        single = len(self.parts) == 1
        found = SiLUFeatures.at(self.h[:, part], self._table, slopes=slopes or (single and self._slopes))
        if single:
            self._kept = found
        return found

    def sums(self, corner: float | None) -> Tensor:
        """The layer's sums ``(O, B)``; with a `corner` its statistics are found on the way."""
        flat = self.weight.flatten(0, 1).t()
        moments = None if corner is None or self.known is not None else _Moments()
        if len(self.parts) == 1:
            rows = self.features(self.parts[0]).rows
            found = flat @ rows.flatten(0, 1)
            if moments is not None:
                moments.add(rows)
        else:
            found = self.h.new_empty(len(flat), self.h.shape[1])
            for part in self.parts:
                rows = self.features(part).rows
                found[:, part] = flat @ rows.flatten(0, 1)
                if moments is not None:
                    moments.add(rows)
        if corner is not None:
            self.statistics = self._statistics(moments, corner)
        return found

    def _statistics(self, moments: _Moments | None, corner: float) -> _Statistics:
        degrees = max(self.h.shape[1] - 1, 1)
        if moments is None:
            assert self.known is not None
            mean, inputs, input_deviation = None, None, self.known.deviation[:, None]
            half = torch.bmm(self.known.covariance, self.weight)
        else:
            mean, scatter = moments.found()
            inputs = self.h - self.h.mean(1, keepdim=True)
            half = torch.bmm(scatter.div_(degrees), self.weight)
            input_deviation = torch.linalg.vecdot(inputs, inputs)[:, None].div_(degrees).sqrt_()
        deviation = safe_sqrt((half * self.weight).sum(1), corner)
        per_input = 1 / (input_deviation + INPUT_OFFSET)
        return _Statistics(half, deviation, input_deviation, per_input, deviation * per_input, mean, inputs)


class _Moments:
    """Means and scatter matrices of rows that come part by part, about the mean of the first part."""

    def __init__(self) -> None:
        self._shift: Tensor | None = None
        self._total: Tensor | None = None
        self._count = 0

    def add(self, rows: Tensor) -> None:
        """Take up `rows` ``(I, F, B)``."""
        if self._shift is None:
            self._shift = rows.mean(2, keepdim=True)
            centred = rows - self._shift
            self._scatter, self._count = torch.bmm(centred, centred.mT), rows.shape[2]
            return
        centred = rows - self._shift
        self._scatter.baddbmm_(centred, centred.mT)
        total = centred.sum(2, keepdim=True)
        self._total = total if self._total is None else self._total.add_(total)
        self._count += rows.shape[2]

    def found(self) -> tuple[Tensor, Tensor]:
        """The means ``(I, F, 1)`` and the scatter matrices about them, ``(I, F, F)``."""
        assert self._shift is not None
        if self._total is None:
            return self._shift, self._scatter
        away = self._total / self._count
        return self._shift + away, self._scatter.baddbmm_(self._total, away.mT, alpha=-1)


class _Statistics(NamedTuple):
    """Statistics of a layer's edges.

    Attributes:
        half: ``C w``, ``(I, n+1, O)``.
        deviation: of the edges, ``(I, O)``.
        input_deviation: of the inputs, ``(I, 1)``.
        per_input: ``1/(input_deviation + 0.1)``.
        scores: ``(I, O)``.
        mean: of the features, ``(I, n+1, 1)``; None for the first layer.
        inputs: the inputs less their means, ``(I, B)``; None for the first layer.
    """

    half: Tensor
    deviation: Tensor
    input_deviation: Tensor
    per_input: Tensor
    scores: Tensor
    mean: Tensor | None
    inputs: Tensor | None


@torch.inference_mode()
def _value_and_gradients(problem: _Problem, wanted: Sequence[bool]) -> tuple[_Value, list[Tensor | None]]:
    """The objective and those gradients of the parameters that are wanted."""
    objective, plain, x, y, first, sample_weight = problem
    backward, penalised = any(wanted), objective.lamb != 0
    h = plain.network.checked_input(x).t()
    parts = _parts(plain, h.shape[1])
    layers: list[_Layer] = []
    for l, layer in enumerate(plain.layers):
        weight = fold(*plain.parameters[4 * l : 4 * l + 4])
        layers.append(_Layer(layer, h, weight, first if l == 0 else None, parts, slopes=backward and l > 0))
        h = layers[l].sums(objective.corner if penalised else None)
        if (affine := plain.maps[l]) is not None:
            h = torch.addcmul(affine[1], affine[0], h)

    loss, grad = _loss(objective, h, y, sample_weight, backward)
    total, penalty, slopes = loss, loss.new_zeros(()), None
    if penalised:
        scores = [layer.statistics.scores.t() for layer in layers if layer.statistics is not None]
        number, slopes = sparsity_with_slopes(scores, objective.penalty.lamb_l1, objective.penalty.lamb_entropy)
        penalty = penalty + number
        total = torch.add(loss, penalty, alpha=objective.lamb)
    return _Value(total, loss, penalty), _gradients(problem, layers, grad, slopes, wanted) if backward else []


def _parts(plain: PlainNetwork, batch: int) -> list[slice]:
    """The whole batch, or if that has many features parts of it that have few enough for the cache."""
    widest = max(layer.in_dim * (layer.num + layer.k + 1) for layer in plain.layers)
    if batch * widest <= KEPT:
        return [slice(0, batch)]
    size = max(1, PART // widest)
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def _loss(objective: Objective, h: Tensor, y: Tensor, weight: Tensor | None, backward: bool) -> tuple[Tensor, Tensor]:
    """The loss and, if wanted, its gradient with respect to the outputs `h` ``(O, B)``."""
    if objective.squares and weight is None and y.shape == h.t().shape:
        difference = h - y.t()
        return torch.vdot(difference.view(-1), difference.view(-1)) / difference.numel(), difference.mul_(2 / difference.numel())
    with torch.inference_mode(False), torch.set_grad_enabled(backward):
        output = h.t().clone().requires_grad_(backward)
        loss = objective.loss(output, y, weight)
        return loss.detach(), torch.autograd.grad(loss, output)[0].t() if backward else h


def _gradients(
    problem: _Problem, layers: list[_Layer], grad: Tensor, slopes: list[Tensor] | None, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of all parameters from `grad` ``(O, B)`` of the outputs and `slopes` ``(O_l, I_l)`` of the scores."""
    objective, plain = problem.objective, problem.plain
    degrees = max(grad.shape[1] - 1, 1)
    gradients: list[Tensor | None] = []
    for l in reversed(range(len(layers))):
        layer, own = layers[l], slice(4 * l, 4 * l + 4)
        weight, known = layer.weight, layer.statistics
        if (affine := plain.maps[l]) is not None:
            grad = grad * affine[0]
        to_scores = quadratic = None
        if known is not None and slopes is not None:
            to_scores = slopes[l].t() * objective.lamb
            to_variance = over_deviation(to_scores * known.per_input, known.deviation, objective.corner)[:, None]
            if l > 0:
                quadratic = torch.bmm(weight * to_variance, weight.mT).div_(degrees)
        to_weight, below = None, []
        for part in layer.parts:
            found, here = layer.features(part, slopes=l > 0), grad[:, part]
            piece = found.rows.flatten(0, 1) @ here.t()
            to_weight = piece if to_weight is None else to_weight.add_(piece)
            if l > 0:
                below.append(_pulled_back(found, weight, here, quadratic, known))
        assert to_weight is not None
        to_weight = to_weight.view_as(weight)
        if known is not None and to_scores is not None:
            to_weight.addcmul_(known.half, to_variance)
        gradients[:0] = unfold(to_weight, plain.parameters[own], wanted[own])
        if l == 0:
            break
        grad = below[0] if len(below) == 1 else torch.cat(below, 1)
        if known is not None and to_scores is not None:
            assert known.inputs is not None
            to_deviation = (to_scores * known.scores).sum(1, keepdim=True) * known.per_input
            grad.addcmul_(known.inputs, over_deviation(to_deviation, known.input_deviation), value=-1 / degrees)
    return gradients


def _pulled_back(found: SiLUFeatures, weight: Tensor, grad: Tensor, quadratic: Tensor | None, known: _Statistics | None) -> Tensor:
    """Gradient with respect to some samples' inputs, but for the part by way of the inputs' deviation, from `grad` of the sums."""
    to_rows = (weight.flatten(0, 1) @ grad).view_as(found.rows)
    if quadratic is not None:
        assert known is not None and known.mean is not None
        to_rows.baddbmm_(quadratic, found.rows).sub_(torch.bmm(quadratic, known.mean))
    return found.pull_back(to_rows)
