"""A tree of variables: who acts together with whom, from the single variables at the bottom to the function at the top.

A level is a row of the height 0.5: connectors, then what its groups are as functions of the groups below. In the style ``'tree'`` a
separable group is a fork, a single child a line, anything else a box; in the style ``'box'`` every group is a box with its property.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Rectangle
from torch import Tensor

from kan.analysis.symmetry_tree import Tree, symmetry_tree
from kan.errors import unknown_name
from kan.network.network import Network
from kan.plotting.labels import variable_label

__all__ = ["draw_tree", "plot_tree"]

LEVEL, CONNECTOR, BODY = 0.5, 0.1, 0.3
"""Heights of a level, of the connectors below and above its bodies, and of the bodies."""
REACH = 0.3
"""How far a box reaches beyond its outer variables, which are 1 apart."""
SIGNS = {"Add": "+", "Mul": (6, 2, 0)}
"""Markers of matplotlib for the sum and the product at the top: a plus, and a star of six rays."""

Point = tuple[float, float]


def plot_tree(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    in_var: Sequence[Any] | None = None,
    style: str = "tree",
    sym_th: float = 1e-3,
    sep_th: float = 1e-1,
    skip_sep_test: bool = False,
    verbose: bool = False,
) -> Axes:
    """Draw the tree of symmetries that a model has at samples into pyplot's current axes.

    A notebook shows them at the end of the cell, a script with ``plt.show()``.

    Args:
        model: ``(B, n)`` to ``(B, 1)`` or ``(B,)``; see `kan.analysis.hypothesis`.
        x: samples, ``(B, n)``.
        in_var: names of the variables, strings or sympy expressions; the `in_vars` of a network when not given, else ``x_1 ... x_n``.
        style: ``'tree'`` or ``'box'``.
        sym_th, sep_th: thresholds of the symmetries and separabilities.
        skip_sep_test: test no separability.
        verbose: print how the groups are found.

    Returns:
        The axes.

    Raises:
        TypeError, ValueError: for an unknown style, a wrong number of names, or bad samples, before anything is drawn.
    """
    if in_var is None and isinstance(model, Network):
        in_var = model.in_vars
    _check(style, in_var, x.shape[-1])
    return draw_tree(symmetry_tree(model, x, sym_th, sep_th, skip_sep_test, verbose), in_var, style)


def draw_tree(tree: Tree, in_var: Sequence[Any] | None = None, style: str = "tree") -> Axes:
    """Draw a tree into pyplot's current axes, which are returned; the arguments are those of `plot_tree`."""
    order = [i for group in tree.levels[0] for i in group]
    _check(style, in_var, len(order))
    place = {variable: float(p) for p, variable in enumerate(order)}
    centres = [[sum(place[i] for i in group) / len(group) for group in level] for level in tree.levels]
    axes = plt.gca()
    lines: list[list[Point]] = []
    branches: list[list[Point]] = []
    boxes: list[tuple[float, float, float, str]] = []

    for l, level in enumerate(tree.levels[1:], start=1):
        low = (l - 1) * LEVEL + CONNECTOR
        high = low + BODY
        top = l == len(tree.levels) - 1
        for group, centre, kind in zip(level, centres[l], tree.properties[l - 1], strict=True):
            below = [c for child, c in zip(tree.levels[l - 1], centres[l - 1], strict=True) if set(child) <= set(group)]
            lines += [[(c, low - CONNECTOR), (c, low)] for c in below]
            lines.append([(centre, high), (centre, high + (2 if top else 1) * CONNECTOR)])
            if style == "box" or kind == "":
                ends = [place[i] for i in group]
                boxes.append((min(ends) - REACH, max(ends) + REACH, low, kind if style == "box" else ""))
            elif kind == "Id":
                lines += [[(c, low), (centre, high)] for c in below]
            else:
                branches += [[(c, low), (centre, high)] for c in below]
                if kind in SIGNS:
                    axes.scatter(centre, high, s=150, marker=MarkerStyle(SIGNS[kind]), color="red", linewidths=2, zorder=3)

    axes.add_collection(LineCollection(lines, colors="black", linewidths=1, gid="connectors", zorder=1))
    axes.add_collection(LineCollection(branches, colors="blue", linewidths=1, gid="branches", zorder=2))
    for left, right, low, text in boxes:
        axes.add_patch(Rectangle((left, low), right - left, BODY, fill=False, edgecolor="black"))
        axes.text((left + right) / 2, low + BODY / 2, text, ha="center", va="center")
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_ylim(-0.3, max(len(tree.levels) - 1, 1) * LEVEL + 0.15)
    axes.axis("off")
    names = [f"$x_{{{i + 1}}}$" for i in range(len(order))] if in_var is None else [variable_label(variable) for variable in in_var]
    _write(axes, [names[i] for i in order])
    return axes


def _check(style: str, in_var: Sequence[Any] | None, size: int) -> None:
    if style not in ("tree", "box"):
        raise unknown_name("style", style, ("tree", "box"))
    if in_var is not None and len(in_var) != size:
        raise ValueError(f"in_var must have one name for each of the {size} variables; got {len(in_var)}.")


def _write(axes: Axes, names: list[str]) -> None:
    """Write the names below the variables; where one is wider than its place, all are turned upright or become smaller."""
    texts = [axes.text(p, -0.04, name, fontsize=13, ha="center", va="top") for p, name in enumerate(names)]
    (left, _), (right, _) = axes.transData.transform([(0, 0), (1, 0)])
    place, longest = right - left, max(_widths(texts))
    if longest > 1.8 * place:
        size = min(1.0, place / 25, 0.25 * axes.bbox.height / longest)
        for text in texts:
            text.set(rotation=90, fontsize=13 * max(size, 0.4))
    elif longest > 0.9 * place:
        for text in texts:
            text.set_fontsize(13 * 0.9 * place / longest)


def _widths(texts: Sequence[Any]) -> Iterator[float]:
    for text in texts:
        try:
            yield text.get_window_extent().width
        except ValueError:  # no valid mathtext: it is taken literally
            text.set_parse_math(False)
            yield text.get_window_extent().width
