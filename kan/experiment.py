"""pykan's import path of experiments: accuracy against size over rounds of pruning and refinement."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from kan.model import KAN, MultKAN

__all__ = ["KAN", "MultKAN", "pareto_frontier", "runner1"]


def runner1(
    width: Sequence[Any],
    dataset: Mapping[str, Tensor],
    grids: Sequence[int] = (5, 10, 20),
    steps: int = 20,
    lamb: float = 0.001,
    prune_round: int = 3,
    refine_round: int = 3,
    edge_th: float = 1e-2,
    node_th: float = 1e-2,
    metrics: Sequence[Callable[[KAN, Mapping[str, Tensor]], Any]] | None = None,
    seed: int = 1,
    ckpt_path: str | os.PathLike[str] = "./model",
) -> dict[str, np.ndarray]:
    """Train, prune and refine in rounds, and note test error and size after every change.

    Each of `prune_round` rounds fits with the penalty and prunes; then `refine_round` times it refines to the next of `grids` and fits
    without penalty. The next round starts from the pruned model of this one, not from the refined ones.

    Args:
        width: see `KAN`.
        dataset: dictionary with ``train_input``, ``train_label``, ``test_input``, ``test_label``.
        grids: numbers of grid intervals; the first is also that of the unrefined models.
        steps: steps per fit.
        lamb: weight of the penalty where there is one.
        prune_round, refine_round: see above.
        edge_th, node_th: see `KAN.prune`.
        metrics: functions ``metric(model, dataset)``, noted under their names.
        seed: of the first model.
        ckpt_path: folder that the models are saved in, which the rounds go back to.

    Returns:
        ``test_loss``, ``c`` (number of edges), ``G`` (grid intervals), ``id`` (version of the model, ``'round.state'``) and the metrics,
        arrays with ``prune_round * (1 + refine_round)`` entries.

    Raises:
        ValueError: for fewer grids than refinements, before anything starts.
    """
    if not 0 < len(grids) >= refine_round:
        raise ValueError(f"grids must have at least one entry, and one for each of the {refine_round} refinements; got {list(grids)}.")
    names = [str(getattr(metric, "__name__", type(metric).__name__)) for metric in metrics or ()]
    results: dict[str, list[Any]] = {key: [] for key in ("test_loss", "c", "G", "id", *names)}

    def note(model: KAN) -> None:
        found = model.evaluate(dataset)
        for key, value in zip(("test_loss", "c", "G"), found.values(), strict=True):
            results[key].append(value)
        results["id"].append(f"{model.round}.{model.state_id}")
        for name, metric in zip(names, metrics or (), strict=True):
            value = metric(model, dataset)
            results[name].append(float(value.detach() if isinstance(value, Tensor) else value))

    pruned: KAN | None = None
    for _ in range(prune_round):
        if pruned is None:
            model = KAN(width=width, grid=grids[0], k=3, seed=seed, ckpt_path=ckpt_path)
        else:
            model = pruned.rewind(f"{pruned.round}.{pruned.state_id}")
        model.fit(dataset, steps=steps, lamb=lamb)
        model = pruned = model.prune(edge_th=edge_th, node_th=node_th)
        note(model)
        for intervals in grids[:refine_round]:
            model = model.refine(intervals)
            model.fit(dataset, steps=steps)
            note(model)
    return {key: np.array(values) for key, values in results.items()}


def pareto_frontier(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points that no other point equals or beats in both coordinates, where less is better.

    Of points that coincide none is better than the others, and all drop out, as in pykan.

    Args:
        x, y: ``(N,)``.

    Returns:
        Their coordinates and their indices, in the order given.

    Raises:
        ValueError: if `x` and `y` are not of one length.

    >>> [part.tolist() for part in pareto_frontier([1, 2, 3, 3], [3, 1, 2, 0])]
    [[1, 2, 3], [3, 1, 0], [0, 1, 3]]
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must be one-dimensional and of one length; got the shapes {x.shape} and {y.shape}.")
    # By x, then y: a point is beaten by an earlier one with no larger y, or by its double right behind it.
    order = np.lexsort((y, x))
    sx, sy = x[order], y[order]
    least = np.minimum.accumulate(sy)
    beaten = np.zeros(len(x), dtype=bool)
    beaten[1:] = sy[1:] >= least[:-1]
    beaten[:-1] |= (sx[:-1] == sx[1:]) & (sy[:-1] == sy[1:])
    ids = np.sort(order[~beaten])
    return x[ids], y[ids], ids
