"""The curve of a single edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kan.plotting.diagram import Array

__all__ = ["edge_curve"]


def edge_curve(x: Array, y: Array) -> Figure:
    """The outputs `y` of an edge over its inputs `x`, ``(B,)`` each and in the order of `x`, in a new pyplot figure."""
    figure, axes = plt.subplots(figsize=(3, 3))
    axes.plot(x, y, marker="o")
    return figure
