r"""Training on residuals: differential equations, conservation laws, anything that should vanish at points.

The objective is ``F = sum_t weight_t mean_bc r_t(x_b)_c^2`` for one or several terms, each a function of the network and its points. A term
may differentiate the network any number of times. Since it is no function of the outputs alone, its Jacobian is not the product of
sensitivities and features that the Jacobian of a loss is. But residual b depends on point b only, so that, with a copy of the parameters
for every point,

    ``d r_bc / d theta = d (sum_b r_bc) / d theta_b``.

One backward pass per component of the residual gives the exact Jacobian, with which `kan.solvers.levenberg_marquardt` minimises ``F``.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kan.datasets.real_numbers import is_array, real_numbers
from kan.devices import at_hand, constant
from kan.errors import level_of_caller
from kan.layers.grid_change import match_size_
from kan.network.autograd_pass import multiplied
from kan.network.fit_loss import FitLoss
from kan.network.insertion import insert_knots_
from kan.network.network import Network
from kan.network.user_code.own_code import own_parts
from kan.solvers.levenberg_marquardt import Chunk, Damping, Linearisation, improve_
from kan.training.data.dataset import Data
from kan.training.data.normalisation import Labels, adopt_units_
from kan.training.data.samples import Samples
from kan.training.grid_schedule import LARGEST_RISE
from kan.training.least_squares.coordinates import Columns, Entries
from kan.training.least_squares.network_problem import Anchor
from kan.training.models.of_network import TrainableNetwork, trainable_parameters
from kan.training.processes import warn_of_other_processes
from kan.training.snapshot import restore_, round_into_, snapshot, undone_on_error, way_back

__all__ = ["Function", "ResidualFunction", "fit_residuals"]

Function = Callable[[Tensor], Tensor]
"""The network as a function of points ``(B, inputs)``, with values ``(B, outputs)``."""
ResidualFunction = Callable[[Function, Tensor], Tensor]
"""From the network and the points ``(B, inputs)``, which require gradients, to residuals ``(B,)`` or ``(B, C)``."""
VARIANCE_OF_CORRECTIONS = 1.0
"""Variance of the corrections that a finer grid brings, relative to the mean squared residual on the coarser grid. It is the prior of the
anchor of every level but the first. Derivatives make residuals large where corrections are small, so that a residual says little about the
size of a correction: with a larger variance, the Poisson equation of ``benchmarks/training.py`` is fitted better and solved worse on fine
grids."""
JACOBIAN_ENTRIES = 2**21
"""Largest number of entries of the Jacobian that are computed at a time. It bounds the memory that a step takes."""


@dataclass(frozen=True)
class Term:
    """A term of the objective: a function of residuals, its points ``(B, inputs)``, and its weight."""

    function: ResidualFunction
    points: Tensor
    weight: float

    def residuals(self, u: Function, points: Tensor) -> Tensor:
        """The residuals of the network `u` at `points`, ``(B, C)``."""
        with torch.enable_grad():
            found = self.function(u, points.clone().requires_grad_())
        if not isinstance(found, Tensor) or found.dim() not in (1, 2) or len(found) != len(points):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"a residual function must return one row of residuals per point, a tensor of the shape ({len(points)},) or "
                f"({len(points)}, number of residuals); got {what}."
            )
        return found if found.dim() == 2 else found[:, None]

    def value(self, u: Function) -> float:
        """What the term adds to the objective."""
        return self.weight * float(self.residuals(u, self.points).detach().square().mean())


@dataclass(frozen=True, eq=False, kw_only=True)
class ResidualLoss(FitLoss):
    """The objective of `fit_residuals`; its root is what is reported.

    Attributes:
        x, inputs, outputs, squares, penalised, reference: see `FitLoss`; `x` are the points of all terms.
        terms: the functions of residuals with their points, in float64.
    """

    terms: Sequence[Term]

    def __call__(self, network: Network) -> float:
        """The objective of `network`."""
        terms = [replace(term, points=term.points.to(network.device, network.dtype)) for term in self.terms]
        return sum(term.value(lambda z: network.trace(z).output) for term in terms)

    def of_output(self, network: Network, output: Tensor, rows: slice) -> None:
        """None, since the objective is no function of the outputs at the points alone."""
        return None


def fit_residuals(
    network: Network,
    residual_fn: ResidualFunction | Sequence[ResidualFunction],
    points: Tensor | Sequence[Tensor],
    steps: int = 50,
    *,
    weights: Sequence[float] | None = None,
    grids: Sequence[int] = (),
    grid_updates: int = 5,
    tolerance: float = 1e-12,
    time_limit: float | None = None,
    callback: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Make residuals small, in place, by Levenberg-Marquardt in float64.

    Args:
        network: is trained. A new one gets maps of inputs that are out of proportion with it, see `kan.training.data.normalisation`; `u`
            and its derivatives are those of the points as they are.
        residual_fn: function ``residual_fn(u, x)`` of the network as a function `u` and of points `x` that require gradients, which returns
            residuals ``(B,)`` or ``(B, C)``; or several such functions. The residuals of a point depend on that point alone, and `u` is
            called with as many points as `x` has.
        points: points ``(B, inputs)``, a tensor, array or frame; or as many of them as there are functions.
        steps: number of Levenberg-Marquardt steps, with every number of grid intervals in `grids`.
        weights: weight of each term; 1 each when not given.
        grids: numbers of grid intervals that the network is trained with one after another, by knot insertion (`kan.network.insertion`);
            the present number when not given.
        grid_updates: number of the first steps before which the knots are adapted to the points of all terms. An update that raises the
            objective by too much is undone.
        tolerance: the fit ends when a step lowers the objective by less than this share.
        time_limit: in seconds, after which no further step begins.
        callback: called after every step with its number and the objective.

    Returns:
        The root of the objective before the first step and after every step. Ctrl-C ends it with the last complete one, and a warning;
        before the first step is complete, nothing is returned and the network is what it was.

    Raises:
        TypeError, ValueError: for terms that do not match, points of the wrong shape, or residuals that are not finite at the start, before
            anything is changed.

    Example:
        >>> from kan import KAN
        >>> model = KAN([1, 1], grid=5, auto_save=False)
        >>> x = torch.linspace(0, 1, 50)[:, None]
        >>> def decay(u, t):  # u' = -u
        ...     value = u(t)
        ...     return torch.autograd.grad(value.sum(), t, create_graph=True)[0] + value
        >>> history = fit_residuals(model, [decay, lambda u, t: u(t) - 1], [x, torch.zeros(1, 1)], steps=20)
        >>> bool((model(x) - torch.exp(-x)).abs().max() < 1e-3)
        True
    """
    if own := own_parts(network):
        raise ValueError(
            f"fit_residuals differentiates the library's own layers, and cannot honour {'; '.join(own)}. Put what it does into "
            f"residual_fn, or train with fit(..., loss_fn=...) or an optimiser of torch, which call the model."
        )
    terms = _terms(network, residual_fn, points, weights)
    back = way_back(network)
    with undone_on_error(back):
        descent = _Descent(network, terms, grid_updates, tolerance, time_limit, callback)
    warn_of_other_processes("fit_residuals")
    history, interrupted = descent.history, False
    try:
        for level, intervals in enumerate(grids or [None]):
            descent.refine_(level, intervals)
            descent.descend_(level, steps)
    except KeyboardInterrupt:
        interrupted = True
        left = "as it was before the first step" if len(history) == 1 else f"as step {len(history) - 2} left it"
        warnings.warn(f"fit_residuals: interrupted; the network is {left}.", stacklevel=level_of_caller())
    finally:  # an interrupt or a callback that raises costs nothing
        descent.leave_()
    if interrupted and len(history) == 1:
        back()
        return []
    return history


class _Descent:
    """The steps of a fit of residuals, in a copy of the network in float64 if the network has another type.

    Args:
        network: the network, which `leave_` gives the result.
        terms: what is to become small, with points as the user gave them.
        grid_updates, tolerance, time_limit, callback: see `fit_residuals`.

    Attributes:
        history: the root of the objective before the first step and after every step.

    Raises:
        ValueError: if the residuals are not finite at the network's present parameters.
    """

    def __init__(
        self, network: Network, terms: Sequence[Term], grid_updates: int, tolerance: float, time_limit: float | None,
        callback: Callable[[int, float], None] | None,
    ) -> None:  # fmt: skip
        self.network, self.grid_updates, self.tolerance = network, grid_updates, tolerance
        self.time_limit, self.callback = time_limit, callback
        self.given = torch.cat([term.points for term in terms])
        no_labels = Data(Samples(self.given, network.input_id[:0]))
        adopt_units_(TrainableNetwork(network), no_labels, Labels.of(None, terms[0].function), follows=grid_updates > 0)
        self.exact = network if network.dtype == torch.float64 else copy.deepcopy(network).double()
        self.terms = [Term(term.function, term.points.double(), term.weight) for term in terms]
        self.points = self.given.double()
        self.value = self._problem().value()
        if not math.isfinite(self.value):
            raise ValueError("the residuals are not finite at the network's present parameters: nothing can be improved on them.")
        self.history: list[float] = [np.float64(math.sqrt(self.value))]
        self.begun = time.monotonic()
        self.saved: list[Tensor] | None = None  # how the network was before a step that is not complete

    def refine_(self, level: int, intervals: int | None) -> None:
        """Insert knots up to this number of grid intervals; on the first level only if there are not as many already."""
        if intervals is not None and (level > 0 or self.exact.grid != intervals):
            insert_knots_(self.exact, intervals, self.points)

    def descend_(self, level: int, steps: int) -> None:
        """Take steps of Levenberg-Marquardt, until one gains too little or the time is over."""
        damping = Damping()
        anchor = None
        if level > 0:
            anchor = Anchor(self._problem().columns.coordinates(), self.value, VARIANCE_OF_CORRECTIONS)
        for step in range(steps):
            if self.time_limit is not None and time.monotonic() - self.begun > self.time_limit:
                return
            before, adapted = self.value, level == 0 and step < self.grid_updates
            self.saved = snapshot(self.exact)
            if adapted:
                self._adapt_grids_()
            found = improve_(self._problem(anchor), damping)
            if found is None and not adapted:
                return
            if found is None or adapted or anchor is not None:
                found = self._problem().value()
            self.value, self.saved = found, None
            self.history.append(np.float64(math.sqrt(found)))
            if self.callback is not None:
                _rounded_into(self.network, self.exact)
                self.callback(len(self.history) - 2, found)
            if not adapted and before - found <= self.tolerance * found:
                return

    def leave_(self) -> None:
        """Give the network the parameters after the last complete step, its last input, and its loss."""
        network, seen = self.network, self.given
        if self.saved is not None:
            restore_(self.exact, self.saved)
        _rounded_into(network, self.exact)
        seen = seen if network.applied("normalizer") else seen.to(network.dtype)
        network.remember_input(seen)
        network.fit_loss = ResidualLoss(
            x=seen, inputs=network.input_width, outputs=network.width_in[-1], squares=True, penalised=False, terms=self.terms
        )  # fmt: skip

    def _adapt_grids_(self) -> None:
        """Let the grids follow the points, unless that raises the objective by too much."""
        assert self.saved is not None
        self.exact.update_grid(self.points)
        if not self._problem().value() <= (1 + LARGEST_RISE) * self.value:
            restore_(self.exact, self.saved)

    def _problem(self, anchor: Anchor | None = None) -> _Residuals:
        return _Residuals(self.exact, self.terms, Columns(self.exact, trainable_parameters(self.exact)), anchor)


def _terms(
    network: Network,
    functions: ResidualFunction | Sequence[ResidualFunction],
    points: Tensor | Sequence[Tensor],
    weights: Sequence[float] | None,
) -> list[Term]:
    """The terms of the objective, after checking functions, points and weights."""
    several = [functions] if callable(functions) else list(functions)
    places = [_points(network, place) for place in ([points] if is_array(points) else points)]
    shares = [1.0] * len(several) if weights is None else [float(weight) for weight in weights]
    if not several or not len(several) == len(places) == len(shares):
        raise ValueError(
            f"there must be one set of points and one weight for every residual function; got {len(several)} function(s), {len(places)} "
            f"set(s) of points and {len(shares)} weight(s)."
        )
    for share in shares:
        if not (math.isfinite(share) and share > 0):
            raise ValueError(f"weights must be positive numbers; got {shares}.")
    for place in places:
        network.checked_input(place)
        if not len(place) or not bool(torch.isfinite(place).all()):
            raise ValueError("points must be finite, and at least one per residual function.")
    return [Term(*parts) for parts in zip(several, (place.detach() for place in places), shares, strict=True)]


def _points(network: Network, points: Any) -> Tensor:
    """Points as a tensor: tensors as they are, arrays and frames in the network's dtype and on its device."""
    found = real_numbers("points", points)
    return found if isinstance(points, Tensor) else found.to(network.device, network.dtype)


class _Residuals:
    """The terms of the objective as a problem of least squares."""

    def __init__(self, network: Network, terms: Sequence[Term], columns: Columns, anchor: Anchor | None = None) -> None:
        self.network, self.terms, self.columns, self._anchor = network, terms, columns, anchor
        self.move_, self.save, self.restore_ = columns.move_, columns.save, columns.restore_
        self._share = 0.0
        if anchor is not None:
            self._share = anchor.share(self.value(), sum(len(term.points) for term in terms))

    def value(self) -> float:
        """The objective ``F``, and the penalty of the anchor if there is one."""
        total = self._share * float(self._away().square().sum()) if self._share else 0.0
        for term in self.terms:
            total += term.value(lambda z: self.network.trace(z).output)
        return total

    def linearise(self) -> Linearisation:
        """The Gauss-Newton model of the objective around the present parameters."""
        anchor = (self._share, self._away()) if self._share else None
        return Linearisation(self._chunks, self.columns.count, sum(len(term.points) for term in self.terms), anchor=anchor)

    def _away(self) -> Tensor:
        assert self._anchor is not None
        return self.columns.coordinates() - self._anchor.origin

    def _chunks(self) -> Iterator[Chunk]:
        size = max(1, JACOBIAN_ENTRIES // self.columns.count)
        for term in self.terms:
            for start in range(0, len(term.points), size):
                part = term.points[start : start + size]
                own = _PerPoint(self.network, self.columns.blocks, len(part))
                residuals = term.residuals(own, part)
                rows = []
                for c, component in enumerate(residuals.unbind(1)):
                    found = torch.autograd.grad(
                        component.sum(), own.changes, retain_graph=c + 1 < residuals.shape[1], allow_unused=True, materialize_grads=True
                    )
                    rows.append(torch.cat(found, dim=1))
                scale = math.sqrt(term.weight / (len(term.points) * residuals.shape[1]))
                yield torch.cat(rows).t() * scale, residuals.detach().t().flatten() * scale


class _PerPoint:
    """A network with parameters of its own for every point.

    Args:
        network: the network.
        blocks: the parameters that are trained.
        count: number of points ``B``.

    Attributes:
        changes: changes of the coordinates of every block, which are zeros ``(B, n)`` that require gradients.
    """

    def __init__(self, network: Network, blocks: Sequence[Entries], count: int) -> None:
        self.network, self.count = network, count
        self.changes = [block.scale.new_zeros(count, len(block.index)).requires_grad_() for block in blocks]
        with torch.enable_grad():
            self._own = {block.parameter: self._changed(block, change) for block, change in zip(blocks, self.changes, strict=True)}

    def _changed(self, block: Entries, change: Tensor) -> Tensor:
        """The parameter for every point, ``(B, ...)``."""
        size = block.parameter.numel()
        spread = change.new_zeros(self.count, size).index_add(1, block.index, change / block.scale)
        changed: Tensor = block.parameter.detach() + spread.view(self.count, *block.parameter.shape)
        return changed

    def _parameter(self, parameter: nn.Parameter) -> Tensor:
        """The parameter for every point, ``(B, ...)`` if it is trained and ``(1, ...)`` if it is not."""
        own = self._own.get(parameter)
        return parameter.detach()[None] if own is None else own

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs ``(B, outputs)`` at `x` ``(B, inputs)``, each with the parameters of its own point."""
        network = self.network
        x = network.checked_input(x)
        if len(x) != self.count:
            raise ValueError(
                f"a residual function must call the network with as many points as it is given, row by row; got {len(x)} points for "
                f"{self.count}. Give other points as a term of their own."
            )
        for l, (numeric, symbolic) in enumerate(zip(network.numeric_layers, network.symbolic_layers, strict=True)):
            sums = x.new_zeros(())
            if not at_hand(numeric.mask) or bool(numeric.mask.any()):
                coef, base, spline = (self._parameter(p) for p in (numeric.coef, numeric.scale_base, numeric.scale_sp))
                weight = torch.cat([(numeric.mask * base)[..., None], (numeric.mask * spline)[..., None] * coef], dim=-1)
                sums = torch.einsum("inb,bion->bo", numeric.feature_rows(x.t()), weight.expand(self.count, -1, -1, -1))
            if network.symbolic_enabled and (evaluated := symbolic.evaluated()):
                outputs, inputs = constant(tuple(evaluated), torch.long, x.device).unbind(1)
                edges = symbolic.edges(x, affine=self._parameter(symbolic.affine)[:, outputs, inputs].expand(self.count, -1, -1))
                assert edges is not None
                sums = sums + edges.summed(network.width_out[l + 1])
            sums = sums.expand(self.count, network.width_out[l + 1])
            premult = self._parameter(network.subnode_scale[l]) * sums + self._parameter(network.subnode_bias[l])
            nodes = multiplied(network.structure, l + 1, premult)
            x = self._parameter(network.node_scale[l]) * nodes + self._parameter(network.node_bias[l])
        return network.in_user_units(x)


@torch.no_grad()
def _rounded_into(network: Network, exact: Network) -> None:
    """Give `network` the knots and parameters of its copy in float64."""
    if exact is network:
        return
    for old, new in zip(network.numeric_layers, exact.numeric_layers, strict=True):
        match_size_(old, new)
    network.grid = exact.grid
    round_into_(network, exact)
