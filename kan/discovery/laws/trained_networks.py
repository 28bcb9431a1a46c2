"""The step of the search that trains networks of several shapes and reads formulas from those that come close to the labels.

Every network is trained by Levenberg-Marquardt from two initialisations. The functions of its edges are then named one after another, see
`kan.discovery.edges.joint_selection`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from kan.discovery.edges.joint_selection import SelectionOptions, refit_, select_jointly, sharpen_
from kan.discovery.formulas.composition import symbolic_formula
from kan.discovery.laws.candidates import rmse
from kan.discovery.laws.network_shapes import Shape, shapes
from kan.discovery.laws.noise import MAX_INFORMATIVE_ERROR
from kan.discovery.laws.search_state import Proposal, SearchState
from kan.discovery.reduction.views import LABEL_TRANSFORMS, LabelTransform, View
from kan.network.network import Network
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule
from kan.training.options import FitOptions

__all__ = ["trained_networks"]

MAX_NETWORK_INPUTS = 4
"""Largest number of columns of a view on which networks are trained: a round choice. The number of shapes grows fast with it."""
MAX_NETWORK_VIEWS = 3
"""Largest number of views on which networks are trained: a round choice."""
INITIALISATIONS = 2
"""Number of networks of each shape that are trained, from different initialisations: a round choice."""
LM_STEPS = 20
"""Number of Levenberg-Marquardt steps before redundant edges are cut: a round choice. For the steps afterwards, see
`kan.discovery.edges.joint_selection`."""
REFIT_STEPS = 12
"""Number of steps with which a network is fitted again after redundant edges were cut: a round choice."""
MAX_ERROR_NAMED_AT_ONCE = 3e-4
"""Relative error on held-out rows below which the edges of a network are named before other networks are trained: a round choice."""
MAX_NETWORK_ERROR_RATIO = 30.0
"""Largest error of a network, divided by that of the best one, with which it may have the shape of the law: a round choice."""
CANDIDATES_PER_NETWORK = 2
"""Largest number of choices of functions for the edges of one network that become candidates: a round choice."""


class _TrainedNetwork(NamedTuple):
    """A trained network of some shape, its relative error on the held-out rows, and the view that it was trained on."""

    error: float
    network: Network
    shape: Shape
    view: View


def trained_networks(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
    """Candidates that are networks of several shapes, or formulas read from them."""
    several = [view for view in views if 1 <= len(view.symbols) <= MAX_NETWORK_INPUTS][:MAX_NETWORK_VIEWS]
    waiting: list[_TrainedNetwork] = []
    for view, transform, shape in _interleaved(several):
        if state.done:
            break
        form = view.transformed(transform)
        trained = None if form is None else _trained(state, form, shape)
        if trained is None:
            continue
        if trained.error < MAX_ERROR_NAMED_AT_ONCE:
            yield from _named(state, trained, trained.error)
        else:
            waiting.append(trained)
    least = min((trained.error for trained in waiting), default=0.0)
    for trained in waiting:
        if state.done:
            break
        if trained.error <= MAX_NETWORK_ERROR_RATIO * least:
            yield from _named(state, trained, least)


def _interleaved(views: Sequence[View]) -> Iterator[tuple[View, LabelTransform, Shape]]:
    """The views, transforms of their labels and shapes that are tried, the views in turns; trees come before other networks."""
    several = []
    for view in views:
        every = [(view, transform, shape) for transform in LABEL_TRANSFORMS for shape in shapes(len(view.symbols))]
        several.append(sorted(every, key=lambda one: not one[2].tree))
    for row in zip_longest(*several):
        yield from (one for one in row if one is not None)


def _trained(state: SearchState, view: View, shape: Shape) -> _TrainedNetwork | None:
    """The best of some networks of one shape; None if all of them have errors above `MAX_INFORMATIVE_ERROR`."""
    task = state.task
    best: _TrainedNetwork | None = None
    deviation = float(view.y.std())
    for attempt in range(INITIALISATIONS):
        if task.late():
            break
        network = shape.network(task.seed + attempt)
        network.update_grid(view.x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the grids of dead nodes stay where they are
            schedule, left = GridSchedule(4, 0, 8), max(task.left(), 1e-3)
            fit(network, (view.x, view.y), FitOptions("LM", steps=LM_STEPS, grid_schedule=schedule, progress=False, time_limit=left))
        sharpen_(network, view.x, view.y, stop=task.late)
        shape.cut_(network, view.x, view.y)
        refit_(network, view.x, view.y, REFIT_STEPS, task.late)
        error = rmse(network, view.held_x, view.held_y) / deviation
        if math.isfinite(error) and (best is None or error < best.error):
            best = _TrainedNetwork(error, network, shape, view)
        if error < MAX_ERROR_NAMED_AT_ONCE:
            break
    return best if best is not None and best.error < MAX_INFORMATIVE_ERROR else None


def _named(state: SearchState, trained: _TrainedNetwork, least: float) -> Iterator[Proposal]:
    """Candidates that are read from a trained network; `least` is the smallest relative error of any network."""
    view, task = trained.view, state.task
    for choice in select_jointly(trained.network, view.x, view.y, SelectionOptions(task.library, stop=task.late))[:CANDIDATES_PER_NETWORK]:
        origin = f"{trained.shape.name} of {view.name}"
        if not choice.splines:
            formula = symbolic_formula(choice.network, var=list(view.symbols))[0][0]
            yield Proposal(task.evaluator.candidate(view.back(formula), least, choice.network), origin)
        elif view.original:
            yield Proposal(task.evaluator.spline(choice.network, choice.bits), origin)
