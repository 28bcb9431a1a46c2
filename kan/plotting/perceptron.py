"""Picture of a perceptron: a line for every weight, blue for positive ones and red for negative ones."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from kan.network.perceptron import Perceptron
from kan.plotting.diagram import Array
from kan.plotting.figure import NetworkFigure

__all__ = ["plot_perceptron"]

LEVEL = 0.5
"""Height of a layer in units of the width of the picture."""


def plot_perceptron(network: Perceptron, values: list[Array], *, beta: float = 3.0, scale: float = 1.0) -> NetworkFigure:
    """Draw a perceptron; the figure becomes pyplot's current one.

    Node ``i`` of ``n`` in layer ``l`` stands at ``x = (i + 0.5)/n``, ``y = l/2``.

    Args:
        network: the perceptron.
        values: what the lines show, ``(n_{l+1}, n_l)`` per layer: the sign as colour, the size ``v`` as opacity ``tanh(beta |v|)``.
        beta: see `values`.
        scale: size of the figure, ``3 scale`` by ``1.5 L scale`` inches.

    Raises:
        ValueError: for a scale that is not positive.
    """
    if not scale > 0:
        raise ValueError(f"scale must be positive; got {scale}.")
    figure = plt.figure(figsize=(3 * scale, 1.5 * network.depth * scale), facecolor="white", FigureClass=NetworkFigure)
    assert isinstance(figure, NetworkFigure)
    axes = figure.add_subplot()
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.1 * LEVEL, (network.depth + 0.1) * LEVEL)
    axes.axis("off")
    places = [np.stack([(np.arange(n) + 0.5) / n, np.full(n, l * LEVEL)], axis=1) for l, n in enumerate(network.width)]
    for l, value in enumerate(values):
        outputs, inputs = value.shape
        segments = np.stack([np.tile(places[l], (outputs, 1)), np.repeat(places[l + 1], inputs, axis=0)], axis=1)
        flat = value.ravel()
        opacity = np.tanh(beta * np.abs(np.nan_to_num(flat)))
        colours = np.where(flat[:, None] > 0, to_rgb("blue"), to_rgb("red"))
        lines = LineCollection(list(segments), colors=np.column_stack([colours, opacity]), linewidths=0.5 * scale)
        lines.set_gid(f"weights_{l}")
        axes.add_collection(lines, autolim=False)
    dot = 70 * scale / max(*network.width, 4)
    for l, nodes in enumerate(places):
        axes.scatter(nodes[:, 0], nodes[:, 1], s=dot**2, color="black", zorder=3, clip_on=False).set_gid(f"nodes_{l}")
    return figure
