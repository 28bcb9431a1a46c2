r"""The objective of a network as a least-squares problem; other losses are approximated by one, see `kan.solvers.levenberg_marquardt`.

One pass from the inputs to the outputs and back (`kan.network.layer_pass`) gives the residuals and the sensitivities that make up the
Jacobian (`kan.training.least_squares.coordinates`). Where a base function is not known to be elementwise, autograd gives the sensitivities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kan.devices import Remembered
from kan.layers.features import Features
from kan.network.autograd_pass import multiplied
from kan.network.layer_pass import ARITHMETIC, LayerParts, LayerPass, Sensitivity
from kan.network.trace import FirstLayer, slopes_of
from kan.solvers.levenberg_marquardt import Chunk, Linearisation, Model
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.penalty_curvature import penalty_curvature
from kan.training.least_squares.residual_side import ResidualSide
from kan.training.objectives.back_end import BACK_END
from kan.training.objectives.closed_form import ClosedForm, Problem
from kan.training.objectives.of_network import Objective

__all__ = ["Anchor", "NetworkProblem"]

MAX_JACOBIAN_ENTRIES = 2**22
"""Largest number of entries of the Jacobian that are held at a time: a round choice. More samples are taken in chunks."""
CORRECTION_VARIANCE = 1e4
"""Variance of the corrections of coefficients after a refinement, divided by the mean squared error that they correct. On
exp(sin(pi x) + y^2) with up to 100 intervals the test error is the same for 1e3 to 1e5. Without an anchor, coefficients at the ends of
the samples follow the last few of them, and test errors are up to ten times the training error."""


@dataclass(frozen=True)
class Anchor:
    """A prior for a network that has been refined: the corrections of its coefficients have variances in proportion to its error.

    Attributes:
        origin: the coordinates before the first step, ``(P,)``.
        error: the mean squared error there.
        loose: variance of the corrections, divided by `error`.
    """

    origin: Tensor
    error: float
    loose: float = CORRECTION_VARIANCE

    def share(self, error: float, samples: int) -> float:
        """The weight of the prior where the mean squared error is `error`: variance of residuals over that of corrections, per sample."""
        return error / (samples * self.loose * self.error) if self.error > 0 else 0.0


class NetworkProblem:
    """The objective ``loss(network(x), y) + lamb R`` on some samples.

    Args:
        objective: the objective of a network in float64.
        columns: the coordinates that are trained.
        x, y, weight: the samples, and how much each counts.
        first: the first layer's features, if they are known.
        anchor: prior that keeps coordinates which the samples hardly determine near their first values.
    """

    def __init__(
        self,
        objective: Objective,
        columns: Columns,
        x: Tensor,
        y: Tensor,
        first: FirstLayer | None = None,
        weight: Tensor | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        self.objective, self.columns = objective, columns
        self.x, self.y, self.first, self.weight = x, y, first, weight
        self.save = columns.save
        self._form = self._closed_form()
        self._passed: tuple[list[LayerPass], Tensor, Tensor] | None = None  # at the present parameters, of all samples, with residuals
        self._at: list[Remembered] = []  # the parameters at the last `remember_`
        self._sum = None
        if self._form is not None:
            self._sum = BACK_END.least_squares(Problem(objective, self._form, x, y, None, weight), columns)
        self._anchor = anchor if objective.squares and not objective.lamb else None
        self._share = 0.0 if self._anchor is None else self._anchor.share(self.value_alone(), len(x))
        self._roots: Tensor | None = None  # of the second derivatives of a loss that is no sum of squares, (B, K, K)

    def _closed_form(self) -> ClosedForm | None:
        form = ClosedForm.of(self.objective.network, live_inputs_only=True)
        if form is not None:
            self._inputs = self.objective.network.checked_input(self.x).t().contiguous()
        return form

    def move_(self, step: Tensor) -> None:
        """Add `step` ``(P,)`` to the coordinates."""
        self.columns.move_(step)
        self._passed = None

    def restore_(self, saved: list[Tensor]) -> None:
        """Back to what `save` returned."""
        self.columns.restore_(saved)
        self._passed = None

    @torch.no_grad()
    def value_alone(self) -> float:
        """The objective."""
        if self._sum is not None and not self.objective.lamb and (value := self._sum.value()) is not None:
            return value
        if self._form is None or self._samples < len(self.x) or not self.objective.squares or self.objective.lamb:
            return float(self.objective(self.x, self.y, self.first, self.weight)[0])
        residual = self._pass()[2].flatten()
        return float(residual @ residual)

    def value(self) -> float:
        """The objective plus the term of the anchor."""
        value = self.value_alone()
        return value if self._anchor is None else value + self._share * float(self._away(self._anchor).square().sum())

    def _away(self, anchor: Anchor) -> Tensor:
        return self.columns.coordinates() - anchor.origin

    def remember_(self) -> None:
        """Keep the present parameters for the comparison in `refresh_`."""
        self._at = [Remembered(block.parameter) for block in self.columns.blocks]

    def refresh_(self) -> None:
        """Follow parameters that something else than `move_` and `restore_` has changed since `remember_`."""
        now = [block.parameter for block in self.columns.blocks]
        if len(self._at) != len(now) or not all(then.is_current(p) for then, p in zip(self._at, now, strict=True)):
            self._passed = None
        if self._anchor is not None:
            self._share = self._anchor.share(self.value_alone(), len(self.x))

    def linearise(self) -> Model:
        """The quadratic model of the objective around the present parameters."""
        squares = self.objective.squares and not self.objective.lamb and self._anchor is None
        if self._form is None or not squares or not self.columns.dense or self.y.numel() >= self.columns.count:
            return self._linearised()
        with torch.no_grad():
            passes, _, residual = self._pass()
            back = self._back(passes, self._quantities(slice(0, len(self.x))))
            return ResidualSide(self.columns, self._form.layers, passes, back, residual, self._linearised)

    def _linearised(self) -> Linearisation:
        """The model with the Jacobian itself."""
        gradient, penalty = self._slopes()
        anchor = None if self._anchor is None else (self._share, self._away(self._anchor))
        rows = len(self.x) * self._outputs
        return Linearisation(self._kept_chunks(), self.columns.count, rows, gradient, penalty, anchor, self._normal_equations)

    def _normal_equations(self, chunks: Iterable[Chunk], size: int) -> tuple[Tensor, Tensor]:
        found = None if self._sum is None else self._sum.normal_equations()
        return BACK_END.normal_equations(chunks, size) if found is None else found

    def _kept_chunks(self) -> Callable[[], Iterable[Chunk]]:
        """The chunks of the Jacobian, which are kept if there is only one."""
        kept: list[Chunk] = []

        def chunks() -> Iterator[Chunk]:
            if not kept and self._samples >= len(self.x):
                kept.extend(self._chunks())
            yield from kept or self._chunks()

        return chunks

    @cached_property
    def _outputs(self) -> int:
        return self.objective.network.width_in[-1]

    @cached_property
    def _samples(self) -> int:
        """Number of samples in a chunk."""
        return max(1, MAX_JACOBIAN_ENTRIES // (self.columns.count * self._outputs))

    def _slopes(self) -> tuple[Tensor | None, Tensor | None]:
        """The gradient, if the objective is more than squares (else None), and the curvature of the penalty, if there is one."""
        objective, gradient = self.objective, None
        if objective.lamb or not objective.squares:
            objective.with_gradient(self.x, self.y, self.first, self.weight)
            gradient = self.columns.gradient()
        if not objective.squares:
            self._roots = self._curvature()
        return gradient, self._penalty() if objective.lamb else None

    def _chunks(self) -> Iterator[Chunk]:
        for start in range(0, len(self.x), self._samples):
            yield self._chunk(slice(start, start + self._samples))

    @torch.no_grad()
    def _chunk(self, part: slice) -> Chunk:
        quantities = self._quantities(part)
        if self._form is None:
            layers, passes, back, output = self._traced(part, quantities)
            residual = self._residual(output, part)
        else:
            passes, _, residual = self._pass() if self._samples >= len(self.x) else self._forward(part)
            layers, back = self._form.layers, self._back(passes, quantities)
        rows = BACK_END.jacobian(self.columns, layers, passes, back)
        return rows.flatten(1), residual.flatten()

    def _pass(self) -> tuple[list[LayerPass], Tensor, Tensor]:
        if self._passed is None:
            self._passed = self._forward(slice(0, len(self.x)))
        return self._passed

    def _forward(self, part: slice) -> tuple[list[LayerPass], Tensor, Tensor]:
        """The pass of some samples, the outputs and the residuals, ``(K, B)`` each."""
        assert self._form is not None
        x, passes = self._inputs[:, part], []
        for l, layer in enumerate(self._form.layers):
            features = Features(self._first_rows[..., part]) if l == 0 and layer.live else None
            passes.append(layer.forward(x, self._form.weight(l), features, slopes=True, guard=self.objective.guard))
            x = passes[-1].nodes
        return passes, x, self._residual(x, part)

    @cached_property
    def _first_rows(self) -> Tensor:
        """The first layer's features, which stay the same while the problem exists, ``(I, n+1, B)``."""
        assert self._form is not None
        layer = self._form.layers[0]
        if self.first is not None:
            return layer.taken(self.first.features.permute(1, 2, 0))
        return ARITHMETIC.features_at(layer.numeric, layer.taken(self._inputs), slopes=False, inputs=layer.inputs).rows

    def _back(self, passes: list[LayerPass], quantities: Tensor) -> list[Sensitivity]:
        """The sensitivities of all layers, the first one first."""
        assert self._form is not None
        found: list[Sensitivity] = []
        nodes = quantities
        for l, (layer, passed) in reversed(list(enumerate(zip(self._form.layers, passes, strict=True)))):
            found.insert(0, layer.to_sums(passed, nodes))
            if l > 0:
                nodes = layer.to_inputs(passed, found[0].sums)
        return found

    def _traced(self, part: slice, quantities: Tensor) -> tuple[list[LayerParts], list[LayerPass], list[Sensitivity], Tensor]:
        """Parts, pass, sensitivities and outputs ``(K, B)`` of some samples, by autograd."""
        network, guard = self.objective.network, self.objective.guard
        first = None if self.first is None else self.first.part(part)
        with torch.enable_grad():
            trace = network.trace(self.x[part], first=first, **guard._asdict())
            outputs = trace.last_nodes.t()
            leaves = [leaf for record in trace.layers for leaf in (record.sums, record.premult, record.outputs)]
            slopes = [slopes_of(outputs * quantity, leaves, retain=True) for quantity in quantities]
        each = [torch.stack([own.t() for own in of_leaf]) for of_leaf in zip(*slopes, strict=True)]
        back = [Sensitivity(*each[3 * l : 3 * l + 3]) for l in range(network.depth)]
        layers, passes = [LayerParts.of(network, l) for l in range(network.depth)], []
        for l, (layer, record) in enumerate(zip(layers, trace.layers, strict=True)):
            x, premult = record.inputs.detach().t(), record.premult.detach()
            features = None if record.features is None else Features(record.features.detach().permute(1, 2, 0))
            symbolic = None if layer.symbolic is None else layer.symbolic.evaluated(x, guard, slopes=True)
            products = multiplied(network.structure, l + 1, premult).t()
            sums, nodes = record.sums.detach().t(), record.outputs.detach().t()
            passes.append(LayerPass(x, features, None, symbolic, sums, premult.t(), products, nodes))
        return layers, passes, back, outputs.detach()

    @cached_property
    def _roots_of_shares(self) -> Tensor:
        """Square roots of the weights of all samples' squared errors in the loss, ``(B,)``."""
        if self.weight is None:
            return self.x.new_full((len(self.x),), self.y.numel() ** -0.5)
        return (self.weight / (self.weight.sum() * self._outputs)).sqrt()

    def _residual(self, output: Tensor, part: slice) -> Tensor:
        """Residuals ``(K, B)``, whose squares add up to the mean squared error, from the outputs ``(K, B)``; else zeros."""
        if not self.objective.squares:
            return torch.zeros_like(output)
        return (output - self.y[part].t()) * self._roots_of_shares[part]

    def _quantities(self, part: slice) -> Tensor:
        """Quantities to be differentiated, ``(R, K, B)``: quantity r is the sum of ``quantities[r, k] output[k]`` over the outputs k."""
        if self._roots is not None:
            return self._roots[part].permute(2, 1, 0)
        roots = self._roots_of_shares[part]
        return roots[None, None] if self._outputs == 1 else torch.diag_embed(roots.expand(self._outputs, -1).t()).permute(1, 2, 0)

    def _curvature(self) -> Tensor:
        """``S`` with ``S S'`` half the positive part of the loss' second derivatives with respect to the outputs, ``(B, K, K)``.

        The outputs of one sample must not enter the loss of another.
        """
        with torch.no_grad():
            output = self.objective.predict(self.x)
        with torch.enable_grad():
            output.requires_grad_()
            loss = self.objective.loss(output, self.y, self.weight)
            (slope,) = torch.autograd.grad(loss, output, create_graph=True)
            columns = []
            for k in range(output.shape[1]):
                found = (None,) if not slope.requires_grad else torch.autograd.grad(
                    slope[:, k].sum(), output, retain_graph=True, allow_unused=True
                )  # fmt: skip
                columns.append(torch.zeros_like(output) if found[0] is None else found[0])
        values, vectors = torch.linalg.eigh(torch.stack(columns, 2).detach())
        roots: Tensor = vectors * (values.clamp(min=0) / 2).sqrt()[:, None]
        return roots

    def _penalty(self) -> Tensor:
        """``lamb P`` ``(P, P)``."""
        return penalty_curvature(self.objective, self.columns, self.x, self.first)
