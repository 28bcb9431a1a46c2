r"""Training on residuals: differential equations, conservation laws, anything that should vanish at points.

The objective is ``F = sum_t weight_t mean_bc r_t(x_b)_c^2`` for one or several terms, each a function of the network and its points. The
network may be differentiated in it, any number of times. What is minimised is not a loss of outputs, so that its Jacobian is no product
of sensitivities and features; but residual b depends on nothing but point b, and with a copy of the parameters for every point,

    ``d r_bc / d theta = d (sum_b r_bc) / d theta_b``:

one backward pass per component of the residual gives the exact Jacobian. `kan.solvers.levenberg_marquardt` does the rest.
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
from kan.network.autograd_pass import multiplied
from kan.network.fit_loss import FitLoss
from kan.network.insertion import insert_knots_
from kan.network.network import Network
from kan.network.user_code.own_code import own_parts
from kan.solvers.levenberg_marquardt import Chunk, Damping, Linearisation, improve_
from kan.training.data.dataset import Data
from kan.training.data.normalisation import Labels, adopt_units_
from kan.training.data.samples import Samples
from kan.training.fit import trainable_parameters
from kan.training.grid_schedule import LARGEST_RISE
from kan.training.least_squares.coordinates import Block, Columns
from kan.training.least_squares.network_problem import Anchor
from kan.training.processes import warn_of_other_processes
from kan.training.snapshot import restore_, round_into_, snapshot, unchanged_on_error

__all__ = ["Function", "ResidualFunction", "fit_residuals"]

Function = Callable[[Tensor], Tensor]
"""The network as a function of points ``(B, inputs)``, with values ``(B, outputs)``."""
ResidualFunction = Callable[[Function, Tensor], Tensor]
"""From the network and the points ``(B, inputs)``, which require gradients, to residuals ``(B,)`` or ``(B, C)``."""
LOOSE = 1.0
"""Variance of the corrections that a finer grid brings, over the mean squared residual before. Derivatives make residuals large where
corrections are small. With more, the Poisson equation of ``benchmarks/training.py`` is fitted better and solved worse on fine grids."""
CHUNK = 2**21
"""Largest number of entries of the Jacobian that are computed at a time."""


@dataclass(frozen=True)
class Term:
    """One function of residuals, its points and how much it counts."""

    function: ResidualFunction
    points: Tensor
    weight: float

    def residuals(self, u: Function, points: Tensor) -> Tensor:
        """Residuals at some points, ``(B, C)``."""
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
    """The objective of `fit_residuals`, of which the root is reported.

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
        """None, for it is no function of the outputs at the points alone."""
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
        residual_fn: ``residual_fn(u, x)`` with the network as a function `u` and points `x` that require gradients returns residuals
            ``(B,)`` or ``(B, C)``; the residuals of a point depend on that point alone, and `u` is called with as many points as `x` has.
            Or several such functions.
        points: ``(B, inputs)``, a tensor, array or frame, or as many of them as there are functions.
        steps: Levenberg-Marquardt steps, for every one of `grids`.
        weights: how much each term counts; 1 each when not given.
        grids: numbers of grid intervals, one after another, by knot insertion (`kan.surgery.insertion`); as many as there are, when not
            given.
        grid_updates: before how many of the first steps the knots are adapted to the points of all terms; an update that raises the
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
    points = torch.cat([term.points for term in terms])
    with unchanged_on_error(network) as back:
        adopt_units_(network, Data(Samples(points, network.input_id[:0])), Labels.of(None, residual_fn), follows=grid_updates > 0)
        exact = network if network.dtype == torch.float64 else copy.deepcopy(network).double()
        terms = [Term(term.function, term.points.double(), term.weight) for term in terms]
        value = _Residuals(exact, terms, Columns(exact, trainable_parameters(exact))).value()
        if not math.isfinite(value):
            raise ValueError("the residuals are not finite at the network's present parameters: nothing can be improved on them.")
    everything = points.double()
    warn_of_other_processes("fit_residuals", stacklevel=3)
    history: list[float] = [np.float64(math.sqrt(value))]
    begun, number = time.monotonic(), 0
    saved: list[Tensor] | None = None  # how the network was before a step that is not complete
    interrupted = False
    try:
        for stage, intervals in enumerate(grids or [None]):
            if intervals is not None and (stage > 0 or exact.grid != intervals):
                insert_knots_(exact, intervals, everything)
            parameters, damping = trainable_parameters(exact), Damping()
            anchor = Anchor(Columns(exact, parameters).coordinates(), value, LOOSE) if stage > 0 else None
            for step in range(steps):
                if time_limit is not None and time.monotonic() - begun > time_limit:
                    break
                adapted = stage == 0 and step < grid_updates
                before, saved = value, snapshot(exact)
                if adapted:
                    exact.update_grid(everything)
                    if not _Residuals(exact, terms, Columns(exact, parameters)).value() <= (1 + LARGEST_RISE) * value:
                        restore_(exact, saved)
                new = improve_(_Residuals(exact, terms, Columns(exact, parameters), anchor), damping)
                if new is None and not adapted:
                    break
                if new is None or adapted or anchor is not None:
                    new = _Residuals(exact, terms, Columns(exact, parameters)).value()
                value, saved = new, None
                history.append(np.float64(math.sqrt(value)))
                if callback is not None:
                    _rounded_into(network, exact)
                    callback(number, value)
                number += 1
                if not adapted and before - value <= tolerance * value:
                    break
    except KeyboardInterrupt:
        interrupted = True
        left = "as it was before the first step" if len(history) == 1 else f"as step {len(history) - 2} left it"
        warnings.warn(f"fit_residuals: interrupted; the network is {left}.", stacklevel=2)
    finally:  # an interrupt or a callback that raises costs nothing
        if saved is not None:
            restore_(exact, saved)
        _rounded_into(network, exact)
        seen = points if network.applied("normalizer") else points.to(network.dtype)
        network.remember_input(seen)
        network.fit_loss = ResidualLoss(
            x=seen, inputs=network.input_width, outputs=network.width_in[-1], squares=True, penalised=False, terms=terms
        )  # fmt: skip
    if interrupted and len(history) == 1:
        back()
        return []
    return history


def _terms(
    network: Network,
    functions: ResidualFunction | Sequence[ResidualFunction],
    points: Tensor | Sequence[Tensor],
    weights: Sequence[float] | None,
) -> list[Term]:
    """The terms, checked."""
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
    """Tensors as they are; the numbers of arrays and frames in the network's dtype, where it is."""
    found = real_numbers("points", points)
    return found if isinstance(points, Tensor) else found.to(network.device, network.dtype)


class _Residuals:
    """The terms as a problem of least squares."""

    def __init__(self, network: Network, terms: Sequence[Term], columns: Columns, anchor: Anchor | None = None) -> None:
        self.network, self.terms, self.columns, self._anchor = network, terms, columns, anchor
        self.move_, self.save, self.restore_ = columns.move_, columns.save, columns.restore_
        self._share = 0.0
        if anchor is not None:
            self._share = anchor.share(self.value(), sum(len(term.points) for term in terms))

    def value(self) -> float:
        """``F`` with what the anchor adds."""
        total = self._share * float(self._away().square().sum()) if self._share else 0.0
        for term in self.terms:
            total += term.value(lambda z: self.network.trace(z).output)
        return total

    def linearise(self) -> Linearisation:
        """Its model around the present parameters."""
        anchor = (self._share, self._away()) if self._share else None
        return Linearisation(self._chunks, self.columns.count, sum(len(term.points) for term in self.terms), anchor=anchor)

    def _away(self) -> Tensor:
        assert self._anchor is not None
        return self.columns.coordinates() - self._anchor.origin

    def _chunks(self) -> Iterator[Chunk]:
        size = max(1, CHUNK // self.columns.count)
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
        blocks: what of it is trained.
        count: number of points ``B``.

    Attributes:
        changes: of the coordinates of every block, zeros ``(B, n)`` that require gradients.
    """

    def __init__(self, network: Network, blocks: Sequence[Block], count: int) -> None:
        self.network, self.count = network, count
        self.changes = [block.scale.new_zeros(count, len(block.index)).requires_grad_() for block in blocks]
        with torch.enable_grad():
            self._own = {block.parameter: self._changed(block, change) for block, change in zip(blocks, self.changes, strict=True)}

    def _changed(self, block: Block, change: Tensor) -> Tensor:
        """The parameter for every point, ``(B, ...)``."""
        size = block.parameter.numel()
        spread = change.new_zeros(self.count, size).index_add(1, block.index, change / block.scale)
        changed: Tensor = block.parameter.detach() + spread.view(self.count, *block.parameter.shape)
        return changed

    def _parameter(self, parameter: nn.Parameter) -> Tensor:
        """``(B, ...)`` or ``(1, ...)``."""
        own = self._own.get(parameter)
        return parameter.detach()[None] if own is None else own

    def __call__(self, x: Tensor) -> Tensor:
        """Values ``(B, outputs)`` at `x` ``(B, inputs)``, each with its own parameters."""
        network = self.network
        x = network.checked_input(x)
        if len(x) != self.count:
            raise ValueError(
                f"a residual function must call the network with as many points as it is given, row by row; got {len(x)} points for "
                f"{self.count}. Give other points as a term of their own."
            )
        for l, (numeric, symbolic) in enumerate(zip(network.numeric_layers, network.symbolic_layers, strict=True)):
            sums = x.new_zeros(())
            if bool(numeric.mask.any()):
                coef, base, spline = (self._parameter(p) for p in (numeric.coef, numeric.scale_base, numeric.scale_sp))
                weight = torch.cat([(numeric.mask * base)[..., None], (numeric.mask * spline)[..., None] * coef], dim=-1)
                sums = torch.einsum("inb,bion->bo", numeric.feature_rows(x.t()), weight.expand(self.count, -1, -1, -1))
            if network.symbolic_enabled and (active := symbolic.active()):
                outputs, inputs = torch.tensor(active, device=x.device).unbind(1)
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
    """Bring `network` to what its copy in float64 is."""
    if exact is network:
        return
    for old, new in zip(network.numeric_layers, exact.numeric_layers, strict=True):
        if old.grid.shape != new.grid.shape:
            old.set_knots_(new.grid.to(old.grid))
    network.grid = exact.grid
    round_into_(network, exact)
