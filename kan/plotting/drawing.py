"""Drawing of a diagram: a small framed curve on every edge, and signs where edges meet.

The curves of a layer are one collection of lines, and its boxes are one collection of polygons. A thousand edges are
drawn in a fraction of a second; with an axes for each edge this would take a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb

from kan.plotting.diagram import (
    EDGE_ROOM,
    LEVEL,
    NODE_ROOM,
    Array,
    Diagram,
    EdgeCurve,
    EdgeKey,
    EdgeKind,
    unit_interval,
)
from kan.plotting.figure import NetworkFigure
from kan.plotting.labels import write_labels

__all__ = ["COLOURS", "draw"]

SIDE_MARGIN = 0.02
"""Width of the margins on the left and on the right, as a share of the width of the figure."""
COLOURS: dict[EdgeKind, str] = {"numeric": "black", "symbolic": "red", "both": "purple"}


@dataclass(frozen=True)
class _Measures:
    """Sizes on paper: inches of one unit of x and of y, points of a dot and of a sign, and the scale of the figure."""

    unit_x: float
    unit_y: float
    dot: float
    sign: float
    scale: float


def draw(
    diagram: Diagram,
    *,
    scale: float = 0.5,
    tick: bool = False,
    sample: bool = False,
    varscale: float = 1.0,
    out_vars_offset: float | None = None,
) -> NetworkFigure:
    """Draw a diagram into a new figure, which becomes pyplot's current one.

    Args:
        diagram: what to draw.
        scale: size of the figure.
        tick: write the smallest and largest input and output at each box.
        sample: mark samples on the curves.
        varscale: size of the names; they shrink or turn upright where they would touch each other.
        out_vars_offset: distance of the output names from the output nodes, 0.15 when not given.

    Returns:
        The figure, of ``10 scale`` by ``4 scale L`` inches.

    Raises:
        ValueError: if a scale is not positive.
    """
    if not (scale > 0.0 and varscale > 0.0):
        raise ValueError(f"scale and varscale must be positive; got {scale} and {varscale}.")
    width = 10.0 * scale
    height = width * diagram.depth * LEVEL
    figure = plt.figure(figsize=(width, height), facecolor="white", layout="none", FigureClass=NetworkFigure)
    assert isinstance(figure, NetworkFigure)
    axes = figure.add_axes((SIDE_MARGIN, 0.0, 1.0 - 2.0 * SIDE_MARGIN, 1.0))
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(-0.1 * LEVEL, (diagram.depth + 0.1) * LEVEL)
    axes.axis("off")

    # Round signs and square boxes need the length of one unit of x and of y in inches; the latter depends on the labels.
    unit_x = width * (1.0 - 2.0 * SIDE_MARGIN)
    # A single layer is only 4 scale inches high; full-sized letters would take most of it.
    letters = 40.0 * scale * min(1.0, 0.7 * diagram.depth)
    unit_y = write_labels(axes, diagram, letters, varscale, out_vars_offset, unit_x, height)

    widest = max(*diagram.widths_out[1:], 5)
    dot, sign = 100.0 * scale / widest, 0.3 / widest * 72.0 * unit_x
    # A sign and the dot above it share the room between sub-node and node.
    fit = min(1.0, 0.8 * 72.0 * NODE_ROOM * unit_y / (0.5 * dot + 0.5 * sign))
    measures = _Measures(unit_x, unit_y, fit * dot, fit * sign, scale)
    _draw_edges(axes, diagram, measures, tick, sample)
    _draw_nodes(axes, diagram, measures)
    return figure


def _draw_edges(axes: Axes, diagram: Diagram, measures: _Measures, tick: bool, sample: bool) -> None:
    """Draw for every visible edge its lines, its box and its curve, one layer after the other."""
    counts = [diagram.widths_in[level] * diagram.widths_out[level + 1] for level in range(diagram.depth)]
    # Up to 16 edges all boxes have the same size. In larger networks, the boxes of narrow layers remain readable.
    largest = 0.4 / max(min(max(counts), 16), 5)
    unit = np.array([measures.unit_x, measures.unit_y])
    clearance = 0.5 * EDGE_ROOM * measures.unit_y - 0.5 * max(measures.dot, measures.sign) / 72.0
    scale = measures.scale
    visible = diagram.visible_edges()
    for level in range(diagram.depth):
        keys = [key for key in visible if key[0] == level]
        if not keys:
            continue
        curves = [visible[key] for key in keys]
        centres = _box_centres(diagram, keys)
        gap = np.diff(np.sort(centres[:, 0])).min(initial=1.0)
        # The numbers at the left of a box are written in the gap to its neighbour.
        half = min(unit[0] * min((0.34 if tick else 0.4) * gap, largest), 0.8 * clearance)
        reach = half / unit
        points = 144.0 * half
        rgba = np.array([(*to_rgb(COLOURS[curve.kind]), curve.opacity) for curve in curves])

        # Dense lines are thinner; otherwise a wide layer would be a black area.
        spacing = 72.0 * unit[0] / len(keys)
        segments = list(_stems(diagram, keys, centres, reach[1]))
        stems = LineCollection(segments, colors=np.repeat(rgba, 2, axis=0), zorder=1)
        stems.set(linewidths=2.0 * scale * min(1.0, max(0.12, spacing / 10.0)), gid=f"stems_{level}", clip_on=False)
        axes.add_collection(stems, autolim=False)

        corners = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
        boxes = PolyCollection(list(centres[:, None] + corners * reach), facecolors="none", edgecolors=rgba, zorder=2)
        boxes.set(linewidths=min(1.2 * scale, 0.1 + points / 30.0), gid=f"boxes_{level}", clip_on=False)
        axes.add_collection(boxes, autolim=False)

        # A tiny box cannot show more points than it has pixels.
        bins = int(np.clip(6.0 * points, 24, 150))
        places = list(zip(centres, curves, strict=True))
        paths = [centre + reach * _in_box(*curve.outline(bins)) for centre, curve in places]
        lines = LineCollection(paths, colors=rgba, capstyle="round", joinstyle="round", zorder=3)
        lines.set(linewidths=min(2.4 * scale, 0.1 + points / 24.0), gid=f"curves_{level}", clip_on=False)
        axes.add_collection(lines, autolim=False)

        if sample:
            marks = [centre + reach * _in_box(*curve.subset(200)) for centre, curve in places]
            # Marks are faint, since they add up where samples are dense.
            faint = np.repeat(rgba * (1.0, 1.0, 1.0, 0.25), [len(mark) for mark in marks], axis=0)
            x, y = np.concatenate(marks).T
            dots = axes.scatter(x, y, s=(0.1 * points) ** 2, c=faint, linewidths=0, zorder=4)
            dots.set(gid=f"samples_{level}", clip_on=False)
        if tick:
            _write_ticks(axes, curves, centres, reach, points)


def _box_centres(diagram: Diagram, keys: Sequence[EdgeKey]) -> Array:
    """Return the centres of the boxes of edges, ``(E, 2)``."""
    level, i, j = np.array(keys).T
    n, m = np.array(diagram.widths_in)[level], np.array(diagram.widths_out)[level + 1]
    return np.stack([(i * m + j + 0.5) / (n * m), level * LEVEL + EDGE_ROOM / 2], axis=1)


def _stems(diagram: Diagram, keys: Sequence[EdgeKey], centres: Array, reach: float) -> Array:
    """Return for each edge the lines from node to box and from box to sub-node, ``(2 E, 2, 2)``."""
    level, i, j = np.array(keys).T
    nodes = np.stack([(i + 0.5) / np.array(diagram.widths_in)[level], level * LEVEL], axis=1)
    subnodes = np.stack([(j + 0.5) / np.array(diagram.widths_out)[level + 1], level * LEVEL + EDGE_ROOM], axis=1)
    up = np.array([0.0, reach])
    return np.stack([nodes, centres - up, centres + up, subnodes], axis=1).reshape(-1, 2, 2)


def _in_box(x: Array, y: Array) -> Array:
    """Return samples of a curve in the coordinates of its box, ``[-1, 1]`` each, ``(P, 2)``."""
    if len(x) == 0:
        return np.empty((0, 2))
    margin = 0.82
    if x[0] == x[-1]:
        # The curve of a constant input is a point, which would be invisible.
        return np.array([(-margin, 0.0), (margin, 0.0)])
    return margin * (2.0 * np.stack([unit_interval(x), unit_interval(y)], axis=1) - 1.0)


def _write_ticks(axes: Axes, curves: Sequence[EdgeCurve], centres: Array, reach: Array, points: float) -> None:
    """Write the ends of the inputs below and those of the outputs left of each box."""
    texts = []
    for curve in curves:
        x, y = curve.subset(len(curve.x))
        texts.append([_number(end) for end in (x[0], x[-1], y.min(), y.max())] if len(x) else [""] * 4)
    # Two numbers share a side of the box; a digit is about 0.6 times as wide as the font size.
    longest = max(len(text) for row in texts for text in row)
    size = min(0.16 * points, 0.42 * points / (0.6 * max(longest, 1)))
    gap = 0.06 * reach
    for row, (x, y) in zip(texts, centres, strict=True):
        left, right, low, high = x - reach[0], x + reach[0], y - reach[1], y + reach[1]
        axes.text(left, low - gap[1], row[0], fontsize=size, ha="left", va="top")
        axes.text(right, low - gap[1], row[1], fontsize=size, ha="right", va="top")
        axes.text(left - gap[0], low, row[2], fontsize=size, ha="right", va="bottom", rotation=90)
        axes.text(left - gap[0], high, row[3], fontsize=size, ha="right", va="top", rotation=90)


def _number(value: float) -> str:
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}")


def _draw_nodes(axes: Axes, diagram: Diagram, measures: _Measures) -> None:
    """Draw nodes as dots, sub-nodes as sum signs and multiplication nodes as signs, with the lines between them."""
    for level, width in enumerate(diagram.widths_in):
        shown = [i for i in range(width) if (level, i) not in diagram.hidden]
        nodes = np.array([((i + 0.5) / width, level * LEVEL) for i in shown]).reshape(-1, 2)
        dot = min(measures.dot, 0.6 * 72.0 * measures.unit_x / width)
        dots = axes.scatter(nodes[:, 0], nodes[:, 1], s=dot**2, color="black", linewidths=0, zorder=5)
        dots.set(gid=f"nodes_{level}", clip_on=False)
        if level == 0:
            continue

        m = diagram.widths_out[level]
        owned = [(j, i) for j, i in enumerate(diagram.owners(level)) if (level, i) not in diagram.hidden]
        ends = [[((j + 0.5) / m, level * LEVEL - NODE_ROOM), ((i + 0.5) / width, level * LEVEL)] for j, i in owned]
        joins = LineCollection(ends, colors="black", linewidths=2.0 * measures.scale, zorder=1)
        joins.set(gid=f"joins_{level}", clip_on=False)
        axes.add_collection(joins, autolim=False)
        _draw_signs(axes, np.array([low for low, _ in ends]), "+", measures, f"sums_{level}")
        products = [k for k, i in enumerate(shown) if i >= diagram.n_sum(level)]
        _draw_signs(axes, nodes[products], "x", measures, f"products_{level}")


def _draw_signs(axes: Axes, places: Array, marker: str, measures: _Measures, gid: str) -> None:
    """Draw encircled signs."""
    x, y = places.reshape(-1, 2).T
    width = min(2.0 * measures.scale, measures.sign / 10.0)
    circles = axes.scatter(x, y, s=measures.sign**2, facecolor="white", edgecolor="black", linewidths=width, zorder=6)
    circles.set(gid=gid, clip_on=False)
    # The arms of a slanted cross are longer by sqrt(2) than those of an upright one of the same nominal size.
    arms = 0.55 * measures.sign / (2.0**0.5 if marker == "x" else 1.0)
    axes.scatter(x, y, s=arms**2, marker=marker, color="black", linewidths=width, zorder=7, clip_on=False)
