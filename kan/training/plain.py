r"""The objective of a plain network and its gradient, in closed form.

A network is plain when it is nothing but numeric layers with SiLU as base function: no symbolic edges, no multiplication nodes, no affine
maps of the nodes that are trained. That is how every fit starts, and there are thousands of evaluations in one; with small networks most
of their time goes into recording and replaying some two hundred small operations. Here they are half as many, and nothing is recorded.
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

from kan.layers.deviation import over_deviation, safe_sqrt
from kan.layers.features import SiLUFeatures, fold, unfold
from kan.layers.kan_layer import KANLayer
from kan.network.network import Network
from kan.network.trace import INPUT_OFFSET, FirstLayer
from kan.training.sparsity import sparsity_with_slopes

if TYPE_CHECKING:
    from kan.training.objective import Objective

__all__ = ["PlainNetwork", "evaluate_plain", "evaluate_plain_with_gradient"]


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
        layers = network.numeric_layers
        affine = [*network.node_scale, *network.node_bias, *network.subnode_scale, *network.subnode_bias]
        if (
            any(network.structure.arities[1:])
            or any(type(layer.base_fun) is not nn.SiLU for layer in layers)
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
    total, loss, penalty = _PlainObjective.apply(_Problem(objective, plain, x, y, first, weight), torch.is_grad_enabled(), *plain.parameters)
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


class _Statistics(NamedTuple):
    """Statistics of a layer's edges.

    Attributes:
        half: ``C w``, ``(I, n+1, O)``.
        deviation: of the edges, ``(I, O)``.
        input_deviation: of the inputs, ``(I, 1)``.
        per_input: ``1/(input_deviation + 0.1)``.
        scores: ``(I, O)``.
        rows, inputs: features and inputs less their means, ``(I, n+1, B)`` and ``(I, B)``; None for the first layer.
    """

    half: Tensor
    deviation: Tensor
    input_deviation: Tensor
    per_input: Tensor
    scores: Tensor
    rows: Tensor | None
    inputs: Tensor | None


class _Layer(NamedTuple):
    found: SiLUFeatures
    weight: Tensor
    statistics: _Statistics | None


@torch.inference_mode()
def _value_and_gradients(problem: _Problem, wanted: Sequence[bool]) -> tuple[_Value, list[Tensor | None]]:
    """The objective and those gradients of the parameters that are wanted."""
    objective, plain, x, y, first, sample_weight = problem
    backward, penalised = any(wanted), objective.lamb != 0
    h = plain.network.checked_input(x).t()
    layers: list[_Layer] = []
    for l, layer in enumerate(plain.layers):
        known = first if l == 0 else None
        if known is None:
            found = SiLUFeatures.at(h, layer.table, slopes=backward and l > 0)
        else:
            found = SiLUFeatures(known.features.permute(1, 2, 0), None, None)
        weight = fold(*plain.parameters[4 * l : 4 * l + 4])
        layers.append(_Layer(found, weight, _statistics(found.rows, weight, h, known, objective.corner) if penalised else None))
        h = weight.flatten(0, 1).t() @ found.rows.flatten(0, 1)
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


def _statistics(rows: Tensor, weight: Tensor, h: Tensor, known: FirstLayer | None, corner: float) -> _Statistics:
    """Statistics of the edges of a layer with inputs `h` ``(I, B)``."""
    if known is not None:
        centred, inputs, input_deviation = None, None, known.deviation[:, None]
        half = torch.bmm(known.covariance, weight)
    else:
        degrees = max(h.shape[1] - 1, 1)
        centred, inputs = rows - rows.mean(2, keepdim=True), h - h.mean(1, keepdim=True)
        half = torch.bmm(torch.bmm(centred, centred.mT).div_(degrees), weight)
        input_deviation = torch.linalg.vecdot(inputs, inputs)[:, None].div_(degrees).sqrt_()
    deviation = safe_sqrt((half * weight).sum(1), corner)
    per_input = 1 / (input_deviation + INPUT_OFFSET)
    return _Statistics(half, deviation, input_deviation, per_input, deviation * per_input, centred, inputs)


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
        (found, weight, known), own = layers[l], slice(4 * l, 4 * l + 4)
        if (affine := plain.maps[l]) is not None:
            grad = grad * affine[0]
        to_weight = (found.rows.flatten(0, 1) @ grad.t()).view_as(weight)
        if known is not None and slopes is not None:
            to_scores = slopes[l].t() * objective.lamb
            to_variance = over_deviation(to_scores * known.per_input, known.deviation, objective.corner)[:, None]
            to_weight.addcmul_(known.half, to_variance)
        gradients[:0] = unfold(to_weight, plain.parameters[own], wanted[own])
        if l == 0:
            break
        to_rows = (weight.flatten(0, 1) @ grad).view_as(found.rows)
        if known is None:
            grad = found.pull_back(to_rows)
        else:
            assert known.rows is not None and known.inputs is not None
            to_rows.baddbmm_(torch.bmm(weight * to_variance, weight.mT), known.rows, alpha=1 / degrees)
            to_deviation = (to_scores * known.scores).sum(1, keepdim=True) * known.per_input
            grad = found.pull_back(to_rows).addcmul_(known.inputs, over_deviation(to_deviation, known.input_deviation), value=-1 / degrees)
    return gradients
