r"""The objective of a network and its gradient, in closed form.

This evaluation serves networks of the library's own layers (`kan.network.user_code.own_code`) whose base functions are elementwise
(`kan.layers.base_functions`), with symbolic edges, multiplication nodes and trained maps of the nodes, and penalties of the standard metric
``edge_forward_spline_n``. It needs about half as many operations as recording and replaying the pass by autograd; small networks spend
their time on these. `Objective.composed` is the same quantity for any network and penalty.

Per layer, with features ``psi``, folded weights ``w``, covariances ``C``, ``std_ij = sqrt(w_ij' C_i w_ij)`` (see `kan.layers.deviation`)
and scores ``V_ij = std_ij/(std_i + 0.1)``: from the gradients ``g_j`` of the sub-node sums and ``G_ij`` of the scores follow, with
``q_ij = G_ij / ((std_i + 0.1) std_ij)``,

    ``dw_ij = psi_i g_j + q_ij C_i w_ij``,
    ``dpsi_i = sum_j w_ij g_j + 1/(B-1) sum_j q_ij w_ij w_ij' (psi_i - mean psi_i)``,
    ``dx_i = dpsi_i . psi_i'(x_i) - 1/(B-1) (x_i - mean x_i)/std_i sum_j G_ij V_ij/(std_i + 0.1)``,

with what symbolic edges add to ``dx_i`` (`kan.network.layer_pass`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kan.devices import at_hand
from kan.layers.base_functions import is_elementwise
from kan.layers.deviation import over_deviation, safe_sqrt
from kan.layers.features import Features, fold, unfold
from kan.network.layer_pass import ARITHMETIC, Guard, LayerParts, LayerPass, Quadratic, Sensitivity
from kan.network.network import Network
from kan.network.trace import INPUT_OFFSET, FirstLayer
from kan.network.user_code.own_code import own_parts
from kan.training.objectives.penalty import Penalty, coefficients, coefficients_gradient
from kan.training.objectives.sparsity import sparsity_with_slopes

__all__ = ["ClosedForm", "Problem", "Term", "Value", "value_and_gradients"]

MAX_KEPT_FEATURES = 2**21
"""Largest number of features of one layer, over all samples, that are kept from the forward to the backward pass: a round choice."""
FEATURES_PER_PART = 2**19
"""Number of features of one layer that are computed at a time in batches that exceed `MAX_KEPT_FEATURES`. It is a round choice for which
they fit into the processor's cache."""

PER_LAYER = 9
"""Number of parameters of one layer in `ClosedForm.parameters`."""


class Term(Protocol):
    """The loss and penalty to be evaluated: the part of `kan.training.objectives.of_network.Objective` that a closed form reads."""

    @property
    def lamb(self) -> float:
        """Weight of the penalty."""

    @property
    def penalty(self) -> Penalty:
        """The penalty."""

    @property
    def corner(self) -> float:
        """Constant that makes the deviations of the edges differentiable at zero, see `kan.layers.deviation.safe_sqrt`."""

    @property
    def guard(self) -> Guard:
        """How symbolic functions are evaluated."""

    @property
    def squares(self) -> bool:
        """Whether the loss is the mean squared error."""

    def loss(self, output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of the outputs ``(B, K)`` against the labels `y`."""

    def composed(
        self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objective, loss and penalty, recorded by autograd."""


@dataclass
class ClosedForm:
    """The parts of a network that a closed form reads.

    Attributes:
        network: the network.
        layers: its layers.
        parameters: the parameters of all layers in one list. Each layer has nine: ``coef, scale_base, scale_sp, mask``, the affine maps of
            the symbolic edges, and scale and bias of the sub-nodes and of the nodes.
        live_inputs_only: whether features are computed only for inputs with an edge that is not masked.
        workspaces, known, checked: what a back end keeps from call to call: arrays by their size, what it has found out about the network,
            and the last inputs that were checked.
    """

    network: Network
    layers: list[LayerParts] = field(default_factory=list)
    parameters: list[nn.Parameter] = field(default_factory=list)
    live_inputs_only: bool = False
    workspaces: dict[object, Any] = field(default_factory=dict)
    known: Any = None
    checked: Any = None
    _kept: tuple[object, Tensor, Features] | None = None

    @classmethod
    def of(cls, network: Network, live_inputs_only: bool = False) -> ClosedForm | None:
        """The closed form of `network`; None if the user has added code to it, or a base function is not known to be elementwise."""
        if own_parts(network) or not all(is_elementwise(layer.base_fun) for layer in network.numeric_layers):
            return None
        found = cls(network, live_inputs_only=live_inputs_only)
        for l, (numeric, symbolic) in enumerate(zip(network.numeric_layers, network.symbolic_layers, strict=True)):
            parts = LayerParts.of(network, l, live_inputs_only)
            found.layers.append(parts)
            found.parameters += [numeric.coef, numeric.scale_base, numeric.scale_sp, numeric.mask, symbolic.affine, *parts.affine]
        return found

    def refresh_(self) -> ClosedForm | None:
        """Follow changes of masks, symbolic edges and maps; returns None if a symbolic edge has a function of the user's own."""
        for l, parts in enumerate(self.layers):
            if not parts.is_current(self.network):
                parts = self.layers[l] = LayerParts.of(self.network, l, self.live_inputs_only)
            if parts.symbolic is not None and parts.symbolic.has_user_functions:
                return None
        return self

    def nodes(self, x: Tensor, guard: Guard) -> Tensor:
        """The network's last nodes ``(B, K)`` at inputs ``(B, inputs)``."""
        h = self.network.checked_input(x).t()
        for l, parts in enumerate(self.layers):
            features = self._first_features(h) if l == 0 and parts.live else None
            h = parts.forward(h, self.weight(l), features, slopes=False, guard=guard).nodes
        return h.t()

    def _first_features(self, h: Tensor) -> Features | None:
        """The first layer's features at its inputs `h` ``(I, B)``, kept for a next call with the same inputs.

        None if they are too many, or on a device, where comparing the inputs takes longer than evaluating the features again.
        """
        parts = self.layers[0]
        at = parts.taken(h)
        if not at_hand(at) or at.numel() * (parts.numeric.coef.shape[2] + 1) > MAX_KEPT_FEATURES:
            return None
        prepared, kept = parts.numeric.prepared_grid, self._kept
        if kept is None or kept[0] is not prepared or kept[1].dtype != at.dtype or not torch.equal(kept[1], at):
            found = ARITHMETIC.features_at(parts.numeric, at, slopes=False, inputs=parts.inputs)
            self._kept = kept = prepared, at.clone(), found
        return kept[2]

    def weight(self, l: int) -> Tensor | None:
        """The folded weights ``(I, n+1, O)`` of layer `l`, of the inputs that get features; None if all numeric edges are masked."""
        parts, (coef, base, sp, mask) = self.layers[l], self.parameters[PER_LAYER * l : PER_LAYER * l + 4]
        if not parts.live:
            return None
        return fold(parts.taken(coef), parts.taken(base), parts.taken(sp), parts.taken(mask))


class Problem(NamedTuple):
    """An objective to be evaluated in closed form on some samples.

    Attributes:
        term: the loss and the penalty.
        form: the network.
        x, y: the samples.
        first: the first layer's features for this `x`, if they are known.
        weight: how much each sample counts, ``(B,)``.
    """

    term: Term
    form: ClosedForm
    x: Tensor
    y: Tensor
    first: FirstLayer | None
    weight: Tensor | None


class Value(NamedTuple):
    """The value of an objective, and of the loss and the penalty in it; each is a tensor without dimensions."""

    total: Tensor
    loss: Tensor
    penalty: Tensor


class _Layer:
    """One layer in one evaluation of the objective, which goes through the batch in parts.

    If the batch is a single part, its features are kept for the backward pass. Otherwise they are computed again there, part by part, so
    that memory is bounded by the inputs of the layers and the features of one part.

    Args:
        parts: what the pass reads of the layer besides its weights.
        weight: the folded weights ``(I, n+1, O)``; None when all numeric edges are masked.
        known: the features of the first layer and their statistics, if the layer is the first and they are known.
        batch: the slices of the batch.
        slopes: whether the backward pass will need derivatives of the features.
    """

    def __init__(self, parts: LayerParts, weight: Tensor | None, known: FirstLayer | None, batch: Sequence[slice], slopes: bool) -> None:
        self.parts, self.weight, self.known, self.batch = parts, weight, known, batch
        self._slopes = slopes
        self._kept: Features | None = None
        self.statistics: _Statistics | None = None
        self.passed: LayerPass

    def features(self, h: Tensor, part: slice, slopes: bool = False) -> Features:
        """The features of the layer's inputs `h` ``(I, B)`` at the samples in the slice `part`."""
        if self.known is not None:
            return Features(self.known.features[part].permute(1, 2, 0))
        if self._kept is not None:
            return self._kept
        single = len(self.batch) == 1
        found = ARITHMETIC.features_at(self.parts.numeric, h[:, part], slopes=slopes or (single and self._slopes), inputs=None)
        if single:
            self._kept = found
        return found

    def forward(self, h: Tensor, corner: float | None, guard: Guard, backward: bool) -> Tensor:
        """The nodes above, from the inputs `h`. With a `corner`, the statistics for the penalty are computed in the same pass."""
        sums = None if self.weight is None else self._sums(h, self.weight, corner)
        self.passed = self.parts.completed(h, sums, None, None, slopes=backward, guard=guard)
        return self.passed.nodes

    def _sums(self, h: Tensor, weight: Tensor, corner: float | None) -> Tensor:
        moments = None if corner is None or self.known is not None else _Moments()
        pieces = []
        for part in self.batch:
            rows = self.features(h, part).rows
            pieces.append(ARITHMETIC.product(rows, weight))
            if moments is not None:
                moments.add(rows)
        if corner is not None:
            self.statistics = self._found_statistics(h, weight, moments, corner)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)

    def _found_statistics(self, h: Tensor, weight: Tensor, moments: _Moments | None, corner: float) -> _Statistics:
        degrees = max(h.shape[1] - 1, 1)
        if moments is None:
            assert self.known is not None
            mean, inputs, input_deviation = None, None, self.known.deviation[:, None]
            half = torch.bmm(self.known.covariance, weight)
        else:
            mean, scatter = moments.found()
            inputs = h - h.mean(1, keepdim=True)
            half = torch.bmm(scatter.div_(degrees), weight)
            input_deviation = torch.linalg.vecdot(inputs, inputs)[:, None].div_(degrees).sqrt_()
        deviation = safe_sqrt((half * weight).sum(1), corner)
        per_input = 1 / (input_deviation + INPUT_OFFSET)
        return _Statistics(half, deviation, input_deviation, per_input, deviation * per_input, mean, inputs)

    def scores(self) -> Tensor:
        """The scores ``V`` of the edges, ``(O, I)``; zeros when all numeric edges are masked."""
        if self.statistics is None:
            return self.passed.x.new_zeros(self.parts.numeric.out_dim, self.parts.numeric.in_dim)
        return self.statistics.scores.t()

    def pull_back(self, grad: Tensor, to_scores: Tensor | None, corner: float, below: bool) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the weights ``(I, n+1, O)`` and, with `below`, of the inputs ``(I, B)``.

        Args:
            grad: gradient of the sums, ``(O, B)``.
            to_scores: gradient of the scores, ``(I, O)``; None without a penalty.
            corner: makes the deviations of the edges differentiable at zero, see `Term.corner`.
            below: whether the inputs' gradient is wanted.
        """
        to_weight, to_inputs, passed, known = None, None, self.passed, self.statistics
        if self.weight is not None:
            quadratic, to_variance = None, None
            if known is not None and to_scores is not None:
                to_variance = over_deviation(to_scores * known.per_input, known.deviation, corner)[:, None]
                if below:
                    degrees = max(grad.shape[1] - 1, 1)
                    assert known.mean is not None
                    quadratic = Quadratic(torch.bmm(self.weight * to_variance, self.weight.mT).div_(degrees), known.mean)
            pieces = []
            for part in self.batch:
                found, here = self.features(passed.x, part, slopes=below), grad[:, part]
                piece = found.rows.flatten(0, 1) @ here.t()
                to_weight = piece if to_weight is None else to_weight.add_(piece)
                if below:
                    pieces.append(ARITHMETIC.pull_back(found, self.weight, here, quadratic))
            assert to_weight is not None
            to_weight = to_weight.view_as(self.weight)
            if known is not None and to_variance is not None:
                to_weight.addcmul_(known.half, to_variance)
            to_inputs = (pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)) if below else None
        if below:
            to_inputs = torch.zeros_like(passed.x) if to_inputs is None else to_inputs
            if self.parts.symbolic is not None and passed.symbolic is not None:
                self.parts.symbolic.add_to_inputs_(passed.symbolic, grad, to_inputs)
            if known is not None and to_scores is not None:
                assert known.inputs is not None
                to_deviation = (to_scores * known.scores).sum(1, keepdim=True) * known.per_input
                step = over_deviation(to_deviation, known.input_deviation)
                to_inputs.addcmul_(known.inputs, step, value=-1 / max(grad.shape[1] - 1, 1))
        return to_weight, to_inputs


class _Moments:
    """Means and scatter matrices of rows that arrive in parts. Sums are taken about the mean of the first part, against cancellation."""

    def __init__(self) -> None:
        self._shift: Tensor | None = None
        self._total: Tensor | None = None
        self._count = 0

    def add(self, rows: Tensor) -> None:
        """Add the samples of `rows` ``(I, F, B)``."""
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
    """Statistics of a layer's edges and inputs over the samples, from which the penalty is computed.

    Attributes:
        half: ``C w``, ``(I, n+1, O)``.
        deviation: standard deviations of the edges, ``(I, O)``.
        input_deviation: standard deviations of the inputs, ``(I, 1)``.
        per_input: ``1/(input_deviation + 0.1)``, ``(I, 1)``.
        scores: ``V``, ``(I, O)``.
        mean: means of the features, ``(I, n+1, 1)``; None for the first layer.
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
def value_and_gradients(problem: Problem, wanted: Sequence[bool]) -> tuple[Value, list[Tensor | None]]:
    """The objective, and the gradients of those of `ClosedForm.parameters` that are wanted; None for the others."""
    term, form, x, y, first, sample_weight = problem
    backward, penalised, guard = any(wanted), term.lamb != 0, term.guard
    h = form.network.checked_input(x).t()
    batch = _parts_of_batch(form, h.shape[1])
    layers: list[_Layer] = []
    for l, parts in enumerate(form.layers):
        layers.append(_Layer(parts, form.weight(l), first if l == 0 else None, batch, slopes=backward and l > 0))
        h = layers[l].forward(h, term.corner if penalised else None, guard, backward)

    loss, grad = _loss(term, h, y, sample_weight, backward)
    total, penalty, slopes_of_scores = loss, loss.new_zeros(()), None
    if penalised:
        p = term.penalty
        number, slopes_of_scores = sparsity_with_slopes([layer.scores() for layer in layers], p.lamb_l1, p.lamb_entropy)
        penalty = penalty + number
        if p.of_coefficients:
            penalty = penalty + coefficients([layer.parts.numeric.coef for layer in layers], p)
        total = torch.add(loss, penalty, alpha=term.lamb)
    return Value(total, loss, penalty), _gradients(problem, layers, grad, slopes_of_scores, wanted) if backward else []


def _parts_of_batch(form: ClosedForm, batch: int) -> list[slice]:
    """Slices of the batch: a single one, or, if it has more than `MAX_KEPT_FEATURES` features, several with `FEATURES_PER_PART` each."""
    widest = max(parts.numeric.in_dim * (parts.numeric.coef.shape[2] + 1) for parts in form.layers)
    if batch * widest <= MAX_KEPT_FEATURES:
        return [slice(0, batch)]
    size = max(1, FEATURES_PER_PART // widest)
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def _loss(term: Term, h: Tensor, y: Tensor, weight: Tensor | None, backward: bool) -> tuple[Tensor, Tensor]:
    """The loss and, if wanted, its gradient with respect to the outputs `h` ``(K, B)``."""
    if term.squares and weight is None and y.shape == h.t().shape:
        difference = h - y.t()
        return torch.vdot(difference.view(-1), difference.view(-1)) / difference.numel(), difference.mul_(2 / difference.numel())
    with torch.inference_mode(False), torch.set_grad_enabled(backward):
        output = h.t().clone().requires_grad_(backward)
        loss = term.loss(output, y, weight)
        return loss.detach(), torch.autograd.grad(loss, output)[0].t() if backward else h


def _gradients(
    problem: Problem, layers: list[_Layer], grad: Tensor, slopes: list[Tensor] | None, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of all parameters from `grad` ``(K, B)`` of the outputs and `slopes` ``(O_l, I_l)`` of the scores."""
    term, form = problem.term, problem.form
    gradients: list[Tensor | None] = []
    for l in reversed(range(len(layers))):
        layer, parts, first = layers[l], layers[l].parts, PER_LAYER * l
        of_numeric, of_symbolic, of_maps = wanted[first : first + 4], wanted[first + 4], wanted[first + 5 : first + PER_LAYER]
        back = parts.to_sums(layer.passed, grad)
        to_scores = None if slopes is None else slopes[l].t() * term.lamb
        to_weight, below = layer.pull_back(back.sums, to_scores, term.corner, below=l > 0)
        arguments = form.parameters[first : first + 4]
        if to_weight is None:
            numeric = [torch.zeros_like(p) if w else None for p, w in zip(arguments, of_numeric, strict=True)]
        else:
            numeric = list(unfold(to_weight, arguments, of_numeric))
        if slopes is not None and term.penalty.of_coefficients and numeric[0] is not None:
            numeric[0] = numeric[0] + term.lamb * coefficients_gradient(parts.numeric.coef, term.penalty)
        of_rest: list[Tensor | None] = [None] * (PER_LAYER - 4)
        if of_symbolic or any(of_maps):
            of_rest = [_symbolic_gradient(layer, back.sums) if of_symbolic else None, *_map_gradients(layer, back, of_maps)]
        gradients[:0] = [*numeric, *of_rest]
        if below is not None:
            grad = below
    return gradients


def _symbolic_gradient(layer: _Layer, grad: Tensor) -> Tensor:
    """Gradient of the affine parameters ``(a, b, c, d)`` of all edges, ``(O, I, 4)``, from that of the sums, `grad` ``(O, B)``."""
    numeric, symbolic, passed = layer.parts.numeric, layer.parts.symbolic, layer.passed.symbolic
    found = grad.new_zeros(numeric.out_dim, numeric.in_dim, 4)
    if symbolic is not None and passed is not None:
        found[symbolic.outputs, symbolic.inputs] = (symbolic.columns(passed) @ grad[symbolic.outputs, :, None])[..., 0]
    return found


def _map_gradients(layer: _Layer, back: Sensitivity, wanted: Sequence[bool]) -> list[Tensor | None]:
    """Gradients of scale and bias of the sub-nodes and of the nodes."""
    passed = layer.passed
    of_maps: tuple[Callable[[], Tensor], ...] = (
        lambda: torch.linalg.vecdot(back.premult, passed.sums),
        lambda: back.premult.sum(1),
        lambda: torch.linalg.vecdot(back.nodes, passed.products),
        lambda: back.nodes.sum(1),
    )
    return [gradient() if needed else None for gradient, needed in zip(of_maps, wanted, strict=True)]
