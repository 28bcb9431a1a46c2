"""The names of variables and the title around a diagram, and the height that remains for the diagram.

A row of labels keeps two distances from its nodes, in data coordinates: its centre is at least ``distance`` away, and
its nearer edge at least ``near``. The height of its letters, in inches, is needed beyond these. The height of the figure
is fixed, which determines the length of one unit of y in inches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.text import Text

from kan.plotting.diagram import LEVEL, Diagram
from kan.symbolic.latex import latex

__all__ = ["variable_label", "variable_labels", "write_labels"]

IN_DISTANCE, OUT_DISTANCE, TITLE_DISTANCE = 0.1, 0.15, 0.3
"""Smallest distances, in data coordinates, of the centres of input names, output names and title from the nodes."""
MIN_EDGE_DISTANCE = 0.05
"""Smallest distance, in data coordinates, of the nearer edges of names from the nodes."""


def variable_label(variable: Any) -> str:
    r"""Return the text that names a variable: a string as it is, a sympy expression as mathtext.

    Example:
        >>> import sympy
        >>> variable_label("age"), variable_label(sympy.Symbol("alpha_1") ** 2), variable_label(sympy.Symbol("mass"))
        ('age', '$\\alpha_{1}^{2}$', '$\\mathrm{mass}$')
    """
    if isinstance(variable, str):
        return variable
    from sympy import Basic

    return f"${latex(variable)}$" if isinstance(variable, Basic) else str(variable)


def variable_labels(variables: Iterable[Any] | None) -> tuple[str, ...] | None:
    """Return the labels of all variables, or None where none were given."""
    return None if variables is None else tuple(variable_label(variable) for variable in variables)


@dataclass(frozen=True)
class _Row:
    """Labels in a row.

    Args:
        texts: the labels.
        distance: smallest distance of their centres from the nodes, in data coordinates.
        near: smallest distance of their nearer edges from the nodes, in data coordinates.
        thickness: height of the row in inches.
        upright: whether the labels are turned upright, aligned at their nearer edges.
    """

    texts: Sequence[Text]
    distance: float
    near: float
    thickness: float
    upright: bool

    def claims(self) -> list[tuple[float, float]]:
        """Return pairs of a distance from the nodes in data coordinates and the inches that are needed beyond it."""
        edge = (self.near, self.thickness)
        return [edge] if self.upright else [edge, (self.distance, self.thickness / 2)]

    def put(self, base: float, side: int, unit_y: float) -> None:
        """Move the labels above (``side = 1``) or below (``-1``) the nodes at the height `base`."""
        centre = max(self.distance, self.near + self.thickness / 2 / unit_y)
        for text in self.texts:
            if self.upright:
                text.set(y=base + side * self.near, va="bottom" if side > 0 else "top")
            else:
                text.set(y=base + side * centre)


def write_labels(
    axes: Axes,
    diagram: Diagram,
    letters: float,
    varscale: float,
    out_distance: float | None,
    unit_x: float,
    height: float,
) -> float:
    """Write the names and the title, and set the height of the axes to what these leave.

    Args:
        axes: the axes of the diagram, as wide as they will be.
        diagram: what to draw.
        letters: font size of the title.
        varscale: font size of the names relative to it.
        out_distance: distance of the output names from their nodes, 0.15 when not given.
        unit_x: inches of one unit of x.
        height: inches of the figure.

    Returns:
        Inches of one unit of y.
    """
    top = diagram.depth * LEVEL
    # The space that remains free above the last nodes and below the first ones in any case.
    above, below = [(0.1 * LEVEL, 0.0)], [(0.1 * LEVEL, 0.0)]
    inputs = outputs = title = None
    if diagram.in_vars is not None:
        inputs = _row(axes, diagram.in_vars, letters * varscale, IN_DISTANCE, unit_x, height)
        below += inputs.claims()
    if diagram.out_vars is not None:
        distance = OUT_DISTANCE if out_distance is None else out_distance
        outputs = _row(axes, diagram.out_vars, letters * varscale, distance, unit_x, height)
        above += outputs.claims()
    if diagram.title is not None:
        title = axes.text(0.5, top, diagram.title, fontsize=letters, ha="center", va="center")
        title_width, line = _inches(title)
        title.set_fontsize(letters * min(1.0, unit_x / title_width))
        beneath = outputs.claims() if outputs else []
        above += [(TITLE_DISTANCE, line / 2), *((distance, inches + 1.4 * line) for distance, inches in beneath)]

    margin = 0.02 * height
    room = height - 2.0 * margin
    unit_y = min((room - high - low) / (top + up + down) for up, high in above for down, low in below)
    # Labels may extend beyond the figure, but the network keeps a minimum height.
    unit_y = max(unit_y, 0.4 * room / (top + 0.2 * LEVEL))

    if inputs is not None:
        inputs.put(0.0, -1, unit_y)
    if outputs is not None:
        outputs.put(top, 1, unit_y)
    if title is not None:
        clear = (distance + (inches + 0.9 * line) / unit_y for distance, inches in beneath)
        title.set_y(top + max(TITLE_DISTANCE, *clear, 0.0))
    zero = margin + max(down * unit_y + low for down, low in below)
    bottom, end = axes.get_ylim()
    side = axes.get_position()
    axes.set_position((side.x0, (zero + bottom * unit_y) / height, side.width, (end - bottom) * unit_y / height))
    return unit_y


def _row(axes: Axes, labels: Sequence[str], size: float, distance: float, unit_x: float, height: float) -> _Row:
    """Write one label for each node of a row.

    Labels that are too long for their place are reduced in size, down to two fifths. If that is not enough, they are
    turned upright.
    """
    place = unit_x / len(labels)
    texts = [axes.text((i + 0.5) / len(labels), 0.0, label, fontsize=size, ha="center", va="center") for i, label in enumerate(labels)]
    extents = [_inches(text) for text in texts]
    longest, tallest = max(width for width, _ in extents), max(height for _, height in extents)
    near = min(MIN_EDGE_DISTANCE, distance / 2)
    shrink = min(1.0, 0.92 * place / longest)
    if shrink >= 0.4:
        for text in texts:
            text.set_fontsize(shrink * size)
        return _Row(texts, distance, near, shrink * tallest, upright=False)

    shrink = min(0.55, 0.85 * place / tallest, 0.22 * height / longest)
    for text in texts:
        text.set(fontsize=shrink * size, rotation=90)
    return _Row(texts, distance, near, shrink * longest, upright=True)


def _inches(text: Text) -> tuple[float, float]:
    """Return width and height of a text in inches; text that is not valid mathtext is made literal."""
    try:
        extent = text.get_window_extent()
    except ValueError:
        text.set_parse_math(False)
        extent = text.get_window_extent()
    dpi = text.figure.dpi
    return max(extent.width, 1.0) / dpi, max(extent.height, 1.0) / dpi
