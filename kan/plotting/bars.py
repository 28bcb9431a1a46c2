"""Scores of the inputs as a bar chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bar_chart"]


def bar_chart(scores: np.ndarray) -> Figure:
    """One bar per input, numbered from 0, in a new pyplot figure."""
    figure, axes = plt.subplots(figsize=(max(len(scores), 2), 3))
    axes.bar(np.arange(len(scores)), scores)
    axes.set_xticks(np.arange(len(scores)))
    return figure
