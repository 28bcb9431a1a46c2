"""Pictures of a network during its training, as frames of a video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from kan.network.network import Network
from kan.plotting.drawing import draw
from kan.plotting.network import diagram_of

__all__ = ["frame_saver"]


def frame_saver(
    network: Network,
    folder: str | os.PathLike[str],
    every: int = 1,
    in_vars: Iterable[Any] | None = None,
    out_vars: Iterable[Any] | None = None,
    beta: float = 3.0,
) -> Callable[[int], None]:
    """A function of the step that saves a picture of the network as ``folder/<step>.jpg`` at every `every`-th step.

    Args:
        network: the network.
        folder: the folder, which is created if needed.
        every: number of steps from one picture to the next.
        in_vars, out_vars, beta: see `kan.plotting.network.diagram_of`.

    Raises:
        ValueError: if `every` is not a positive integer, or the number of names is wrong.
    """
    if isinstance(every, bool) or not isinstance(every, Integral) or every < 1:
        raise ValueError(f"save_fig_freq must be a number of steps, at least 1; got {every!r}.")
    inputs = None if in_vars is None else list(network.of_inputs(in_vars))
    outputs = None if out_vars is None else list(out_vars)
    for argument, names, count, ends in (
        ("in_vars", inputs, network.width_in[0], "inputs"), ("out_vars", outputs, network.width_in[-1], "outputs"),
    ):  # fmt: skip
        if names is not None and len(names) != count:
            raise ValueError(f"{argument} has {len(names)} names, but the network has {count} {ends}; give one name for each.")
    Path(folder).mkdir(parents=True, exist_ok=True)

    def save(step: int) -> None:
        if step % every == 0:
            figure = draw(diagram_of(network, beta=beta, in_vars=inputs, out_vars=outputs, title=f"Step {step}"))
            figure.savefig(Path(folder) / f"{step}.jpg", bbox_inches="tight", dpi=200)
            plt.close(figure)

    return save
