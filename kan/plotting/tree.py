"""Picture of a tree of variables: which groups act together, from the single variables at the bottom to the function at the top.

A level is a row of height 0.5 that shows its groups as functions of the groups below. In the style ``'tree'``, a separable group is a fork,
a single child is a line, and any other group is a box. In the style ``'box'``, every group is a box with its property. The miss of each
property is written beside it, and a box without a confirmed property says so.
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

from kan.analysis.symmetry_tree import Finding, Tree, symmetry_tree
from kan.errors import unknown_name
from kan.network.network import Network
from kan.plotting.labels import variable_label

__all__ = ["draw_tree", "plot_tree"]

LEVEL, CONNECTOR, BODY = 0.5, 0.1, 0.3
"""Heights, in data coordinates, of a level, of the connectors below and above its bodies, and of the bodies."""
BOX_OVERHANG = 0.3
"""Distance, in data coordinates, by which a box extends beyond its outer variables, which are 1 apart."""
MAX_REMARK_SIZE = 8.0
"""Largest font size of the remarks on evidence, in points."""
SIGNS = {"Add": "+", "Mul": (6, 2, 0)}
"""Markers of matplotlib for the sum and the product at the top: a plus, and a star of six rays."""

Point = tuple[float, float]


def plot_tree(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    in_var: Sequence[Any] | None = None,
    style: str = "tree",
    sym_th: float | None = None,
    sep_th: float | None = None,
    skip_sep_test: bool = False,
    verbose: bool = False,
    error: float | None = None,
) -> Axes:
    """Draw the tree of symmetries that a model has at samples into pyplot's current axes.

    A notebook shows them at the end of the cell, a script with ``plt.show()``.

    Args:
        model: ``(B, n)`` to ``(B, 1)`` or ``(B,)``; see `kan.analysis.hypothesis`.
        x: samples, ``(B, n)``.
        in_var: names of the variables, strings or sympy expressions; the `in_vars` of a network when not given, else ``x_1 ... x_n``.
        style: ``'tree'`` or ``'box'``.
        sym_th, sep_th: tolerances for the misses of symmetries and of separabilities. By default, the misses of a function must be rounding
            errors, and the tolerances for a trained model follow from its `error`.
        skip_sep_test: omit the tests of separability.
        verbose: print how the groups are found, and all misses.
        error: root mean squared error of a trained model, in the units of its values; that of a `KAN` is known from its fit. See
            `kan.analysis.symmetry_tree.symmetry_tree`.

    Returns:
        The axes.

    Raises:
        TypeError, ValueError: for an unknown style, a wrong number of names, or bad samples, before anything is drawn.
    """
    if in_var is None and isinstance(model, Network):
        in_var = model.in_vars
    _check(style, in_var, x.shape[-1])
    return draw_tree(symmetry_tree(model, x, sym_th, sep_th, skip_sep_test, verbose, error), in_var, style)


def draw_tree(tree: Tree, in_var: Sequence[Any] | None = None, style: str = "tree") -> Axes:
    """Draw a tree into pyplot's current axes, which are returned; the arguments are those of `plot_tree`."""
    order = [i for group in tree.levels[0] for i in group]
    _check(style, in_var, len(order))
    place = {variable: float(p) for p, variable in enumerate(order)}
    unused = set(tree.unused)
    findings = tree.findings or [[Finding(kind, {}, {}) for kind in level] for level in tree.properties]
    axes = plt.gca()
    lines: list[list[Point]] = []
    branches: list[list[Point]] = []
    boxes: list[tuple[float, float, float]] = []
    remarks = [(place[i], CONNECTOR + BODY / 2, "no\neffect", "center") for i in tree.unused]

    def centre(group: Sequence[int]) -> float:
        seen = [place[i] for i in group if i not in unused]
        return sum(seen) / len(seen)

    for l, level in enumerate(tree.levels[1:], start=1):
        low = (l - 1) * LEVEL + CONNECTOR
        high = low + BODY
        top = l == len(tree.levels) - 1
        for group, finding in zip(level, findings[l - 1], strict=True):
            ends = [place[i] for i in group if i not in unused]
            if not ends:
                continue
            middle, kind = centre(group), finding.kind
            below = [centre(child) for child in tree.levels[l - 1] if set(child) <= set(group) and not unused.issuperset(child)]
            lines += [[(c, low - CONNECTOR), (c, low)] for c in below]
            lines.append([(middle, high), (middle, high + (2 if top else 1) * CONNECTOR)])
            missed = "" if finding.miss is None else f"misses {finding.miss:.1g}"
            if style == "box" or kind == "":
                boxes.append((min(ends) - BOX_OVERHANG, max(ends) + BOX_OVERHANG, low))
                middle = (min(ends) + max(ends)) / 2
                words = "not seen" if kind == "" and "GS" in finding.misses else kind
                axes.text(middle, low + BODY * (0.6 if missed else 0.5), words, ha="center", va="center")
                remarks.append((middle, low + BODY * 0.25, missed, "center"))
            elif kind == "Id":
                lines += [[(c, low), (middle, high)] for c in below]
            else:
                branches += [[(c, low), (middle, high)] for c in below]
                remarks.append((middle + 0.1, high + CONNECTOR, missed, "left"))
                if kind in SIGNS:
                    axes.scatter(middle, high, s=150, marker=MarkerStyle(SIGNS[kind]), color="red", linewidths=2, zorder=3)

    axes.add_collection(LineCollection(lines, colors="black", linewidths=1, gid="connectors", zorder=1))
    axes.add_collection(LineCollection(branches, colors="blue", linewidths=1, gid="branches", zorder=2))
    for left, right, low in boxes:
        axes.add_patch(Rectangle((left, low), right - left, BODY, fill=False, edgecolor="black"))
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_ylim(-0.3, max(len(tree.levels) - 1, 1) * LEVEL + 0.15)
    axes.axis("off")
    names = [f"$x_{{{i + 1}}}$" for i in range(len(order))] if in_var is None else [variable_label(variable) for variable in in_var]
    _write(axes, [names[i] for i in order])
    (left, _), (right, _) = axes.transData.transform([(0, 0), (1, 0)])
    size = min(MAX_REMARK_SIZE, (right - left) / axes.figure.dpi * 10)
    for at, height, remark, side in remarks:
        axes.text(at, height, remark, ha=side, va="center", color="dimgray", fontsize=size, gid="remark")
    return axes


def _check(style: str, in_var: Sequence[Any] | None, size: int) -> None:
    if style not in ("tree", "box"):
        raise unknown_name("style", style, ("tree", "box"))
    if in_var is not None and len(in_var) != size:
        raise ValueError(f"in_var must have one name for each of the {size} variables; got {len(in_var)}.")


def _write(axes: Axes, names: list[str]) -> None:
    """Write the names below the variables; if one is wider than its place, all are reduced in size or turned upright."""
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
        except ValueError:  # the text is not valid mathtext, and is made literal
            text.set_parse_math(False)
            yield text.get_window_extent().width
