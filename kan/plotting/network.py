"""The diagram of a network: its nodes, and the curves and scores of its edges.

An edge with score ``s`` is drawn with the opacity ``tanh(beta s)``. It is black if its numeric branch is on, red if its
symbolic branch is on, and purple if both are. An edge whose branches are off is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor

from kan.analysis.attribution import attribute
from kan.errors import unknown_name
from kan.plotting.diagram import Array, Diagram, EdgeCurve, EdgeKind
from kan.plotting.labels import variable_labels

if TYPE_CHECKING:
    from kan.network.network import Network
    from kan.network.trace import Trace

__all__ = ["METRICS", "diagram_of"]


def _attribution(trace: Trace) -> Sequence[Tensor]:
    return attribute(trace).edge_scores


METRICS: dict[str, Callable[[Trace], Sequence[Tensor]]] = {
    "backward": _attribution,
    "forward_n": lambda trace: trace.acts_scale,
    "forward_u": lambda trace: trace.edge_actscale,
}
"""Scores of the edges by their names: attribution, and the spread of the output of an edge, relative to that of its input or absolute."""


def diagram_of(
    network: Network,
    *,
    beta: float = 3.0,
    metric: str = "backward",
    in_vars: Iterable[Any] | None = None,
    out_vars: Iterable[Any] | None = None,
    title: str | None = None,
    hidden: Iterable[tuple[int, int]] | None = None,
) -> Diagram:
    """The diagram of a network with the activations of its last input.

    Args:
        network: the network, which must have seen data.
        beta: an edge with score ``s`` has the opacity ``tanh(beta s)``.
        metric: the score, a name in `METRICS`.
        in_vars: names of the inputs, strings or sympy expressions; those of the network when not given. After `prune_input` the names of
            all columns of the data may be given instead.
        out_vars: names of the outputs. When not given, they are those of the network, or else the names of its classes.
        title: a line above the diagram.
        hidden: nodes ``(l, i)`` of hidden levels that are left out.

    Returns:
        The diagram, with one curve for every edge.

    Raises:
        ValueError: for an unknown metric, a wrong number of names, or a network that has not seen data.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if in_vars is not None:
        in_vars = network.of_inputs(in_vars)
    elif network.in_vars is not None:
        in_vars = network.used(network.in_vars)
    if out_vars is None:
        out_vars = network.out_vars
    if out_vars is None and network.class_link == "softmax":
        out_vars = map(str, network.class_names or ())
    levels = range(network.depth + 1)
    diagram = Diagram(
        widths_in=tuple(int(network.width_in[level]) for level in levels),
        widths_out=tuple(int(network.width_out[level]) for level in levels),
        arities=((), *(tuple(network.structure.arities[level]) for level in levels[1:])),
        edges={},
        in_vars=variable_labels(in_vars),
        out_vars=variable_labels(out_vars),
        title=title,
        hidden=frozenset((int(level), int(i)) for level, i in hidden or ()),
    )

    trace = network.trace()
    scores = METRICS[metric](trace)
    for level in range(network.depth):
        numeric = _to_numpy(cast(Tensor, network.act_fun[level].mask)) > 0
        symbolic = _to_numpy(cast(Tensor, network.symbolic_fun[level].mask)).T > 0
        opacity = np.clip(np.tanh(beta * np.nan_to_num(_to_numpy(scores[level]).T)), 0.0, 1.0)
        x, y = map(_to_numpy, network.curves_in_user_units(level, trace.acts[level], trace.postacts(level)))
        order = np.argsort(x, axis=0)
        for i in range(diagram.widths_in[level]):
            sorted_x, sorted_y = x[order[:, i], i], y[order[:, i], :, i]
            for j in range(diagram.widths_out[level + 1]):
                kind = _kind(numeric[i, j], symbolic[i, j])
                visible = 0.0 if kind == "none" else float(opacity[i, j])
                diagram.edges[level, i, j] = EdgeCurve(sorted_x, sorted_y[:, j], visible, kind)
    return diagram


def _to_numpy(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().double().cpu().numpy(), dtype=np.float64)


def _kind(numeric: bool, symbolic: bool) -> EdgeKind:
    if numeric:
        return "both" if symbolic else "numeric"
    return "symbolic" if symbolic else "none"
