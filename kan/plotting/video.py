"""Pictures of a network during its training, for a video."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from kan.network.network import Network
from kan.plotting.network import plot

__all__ = ["frame_saver"]


def frame_saver(network: Network, folder: str | os.PathLike[str], every: int = 1, **appearance: Any) -> Callable[[int], None]:
    """A function of the step that saves ``folder/<step>.jpg`` every `every` steps; `appearance` goes to `plot`."""
    Path(folder).mkdir(parents=True, exist_ok=True)

    def save(step: int) -> None:
        if step % every == 0:
            figure = plot(network, title=f"Step {step}", **appearance)
            figure.savefig(Path(folder) / f"{step}.jpg", bbox_inches="tight", dpi=200)
            plt.close(figure)

    return save
