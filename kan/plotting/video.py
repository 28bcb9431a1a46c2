"""Pictures of a network during its training, for a video."""

from __future__ import annotations

import os
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from kan.network.network import Network
from kan.plotting.network import plot

__all__ = ["frame_saver"]


def frame_saver(network: Network, folder: str | os.PathLike[str], every: int = 1, **appearance: Any) -> Callable[[int], None]:
    """A function of the step that saves ``folder/<step>.jpg`` every `every` steps; `appearance` goes to `plot`.

    Raises:
        ValueError: for `every` that is no positive integer, or names of variables that are not as many as there are.
    """
    if isinstance(every, bool) or not isinstance(every, Integral) or every < 1:
        raise ValueError(f"save_fig_freq must be a number of steps, at least 1; got {every!r}.")
    if appearance.get("in_vars") is not None:
        appearance["in_vars"] = network.of_inputs(appearance["in_vars"])
    for argument, count, ends in (("in_vars", network.width_in[0], "inputs"), ("out_vars", network.width_in[-1], "outputs")):
        if appearance.get(argument) is not None:
            names = appearance[argument] = list(appearance[argument])
            if len(names) != count:
                raise ValueError(f"{argument} has {len(names)} names, but the network has {count} {ends}; give one name for each.")
    Path(folder).mkdir(parents=True, exist_ok=True)

    def save(step: int) -> None:
        if step % every == 0:
            figure = plot(network, title=f"Step {step}", **appearance)
            figure.savefig(Path(folder) / f"{step}.jpg", bbox_inches="tight", dpi=200)
            plt.close(figure)

    return save
