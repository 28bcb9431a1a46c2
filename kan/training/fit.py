"""The training loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from kan.errors import unknown_name
from kan.network.mlp import Perceptron
from kan.network.network import Network
from kan.network.trace import FirstLayer
from kan.training.data import Data, check_dataset
from kan.training.grid_schedule import GridSchedule
from kan.training.lbfgs import LBFGS
from kan.training.mlp import PerceptronObjective, PerceptronPenalty
from kan.training.objective import Objective, Penalty
from kan.training.optimizers import make_optimizer

__all__ = ["fit", "trainable_parameters"]

CORNER = 1e-2
"""Deviations ``d`` of edges enter the optimised penalty as ``sqrt(d^2 + CORNER^2) - CORNER``.

The corner of the deviation at a dead edge stalls quasi-Newton steps: on exp(sin(pi x) + y^2) with [2,5,1], lamb=1e-3 and 50 steps, 8 of 10
seeds end with one hidden node without this rounding and 10 of 10 with it. In float32 a corner of 1e-3 still stalls. The reported ``reg``
is exact."""
LITTLE = 2**16
"""Number of features up to which one thread is quicker than several, which would spend the time waiting for each other (and on a busy
machine ten times as much)."""
CACHE_LIMIT = 2**26
"""Largest number of first-layer features that are kept between steps instead of being computed anew."""


def fit(
    network: Network | Perceptron,
    dataset: Any,
    opt: str = "LBFGS",
    steps: int = 100,
    log: int = 1,
    lamb: float = 0.0,
    penalty: Penalty | PerceptronPenalty | None = None,
    grid_schedule: GridSchedule | None = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    lr: float = 1.0,
    batch: int = -1,
    metrics: Sequence[Callable[[], Any]] | None = None,
    singularity_avoiding: bool = False,
    y_th: float = 1000.0,
    display_metrics: Sequence[str] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, list[float]]:
    """Train `network` in place.

    Args:
        network: to be trained.
        dataset: dictionary with ``train_input``, ``train_label``, ``test_input``, ``test_label``.
        opt: name of the optimiser.
        steps: number of optimiser steps; a step of L-BFGS is up to 20 iterations.
        log: the progress bar's numbers are renewed every `log` steps.
        lamb: weight of the penalty.
        penalty: what the penalty is, of the network's kind; pykan's default when not given.
        grid_schedule: when the grids are updated; never when not given.
        loss_fn: of prediction and label; the mean squared error when not given.
        lr: learning rate.
        batch: number of samples per step, drawn without replacement; -1 for all.
        metrics: functions without arguments, evaluated after every step; their names become keys of the result.
        singularity_avoiding, y_th: how symbolic edges are evaluated, see `Network.forward`.
        display_metrics: keys of the result that the progress bar shows instead of the losses.
        on_step: called after every step with its number.

    Returns:
        ``train_loss``, ``test_loss``, ``reg`` and the metrics, one number per step, at the parameters that the step ended with. Losses
        are roots of the mean squared error, or the values of `loss_fn` as they are.

    Raises:
        TypeError, ValueError: for bad input, before anything is changed.
    """
    data = check_dataset(network, dataset, same_shape=loss_fn is None)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps must be an integer of at least 0; got {steps!r}.")
    if batch != -1 and batch < 1:
        raise ValueError(f"batch must be a positive number of samples, or -1 for all of them; got {batch}.")
    if lamb < 0:
        raise ValueError(f"lamb must not be negative; got {lamb}.")
    names = [_name(metric) for metric in metrics or ()]
    results: dict[str, list[float]] = {key: [] for key in ("train_loss", "test_loss", "reg", *names)}
    for key in display_metrics or ():
        if key not in results:
            raise unknown_name("metric in display_metrics", key, results)

    objective = _objective(network, loss_fn or nn.functional.mse_loss, lamb, penalty, singularity_avoiding, y_th)
    smooth = replace(objective, corner=CORNER) if isinstance(objective, Objective) else objective
    optimizer = make_optimizer(opt, trainable_parameters(network), lr)
    batches = _Batches(network, data, batch)
    if isinstance(optimizer, LBFGS):
        optimizer.deterministic = batches.size is None and loss_fn is None  # a loss of the user's may do as it likes
    if not isinstance(network, Network) or not any(bool(layer.mask.any()) for layer in network.numeric_layers):
        grid_schedule = None  # no spline is left whose grid could matter
    network.remember_input(data.train_input)
    _keep_freed_memory()
    shown = math.sqrt if loss_fn is None else float
    progress = tqdm(range(steps), desc="description", ncols=100)
    # Below this the residuals are the labels' own round-off, and steps would shuffle it at full cost.
    exact = loss_fn is None and lamb == 0 and batches.size is None
    round_off = torch.finfo(network.dtype).eps ** 2 * float(data.train_label.square().mean()) if exact else -math.inf
    converged = False
    with _threads(1 if batches.features() <= LITTLE else torch.get_num_threads()):
        for step in progress:
            if grid_schedule is not None and grid_schedule.due(step):
                assert isinstance(network, Network)
                network.update_grid(batches.draw()[0])
                batches.forget()
                if isinstance(optimizer, LBFGS):
                    optimizer.reset()  # the parameters now mean another function
                converged = False
            x, y, first = batches.draw()
            before = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]

            def closure() -> Tensor:
                return smooth.with_gradient(x, y, first)  # noqa: B023 (used before the next step rebinds them)

            if not converged:
                optimizer.step(closure)  # type: ignore[arg-type]

            with torch.no_grad():
                known = optimizer.known_loss if lamb == 0 and isinstance(optimizer, LBFGS) else None
                total, loss, reg = (float(value) for value in objective(x, y, first)) if known is None else (known, known, 0.0)
                test = float(objective.loss_fn(objective.predict(data.test_input), data.test_label))
            if not math.isfinite(total):
                _restore(optimizer, before)
                warnings.warn(
                    f"fit: step {step} led to an objective that is not finite; the step is undone and the fit ends here. Try a smaller lr, "
                    f"singularity_avoiding=True, or scale the data.",
                    stacklevel=2,
                )
                break
            converged = loss <= round_off
            results["train_loss"].append(shown(loss))
            results["test_loss"].append(shown(test))
            results["reg"].append(reg)
            for name, metric in zip(names, metrics or (), strict=True):
                value = metric()
                results[name].append(float(value.detach() if isinstance(value, Tensor) else value))
            if log > 0 and step % log == 0:
                progress.set_description(_describe(results, display_metrics))
            if on_step is not None:
                on_step(step)
    network.zero_grad()
    network.remember_input(data.train_input)
    return results


def _objective(
    network: Network | Perceptron,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    lamb: float,
    penalty: Penalty | PerceptronPenalty | None,
    singularity_avoiding: bool,
    y_th: float,
) -> Objective | PerceptronObjective:
    if isinstance(network, Network):
        assert not isinstance(penalty, PerceptronPenalty)
        return Objective(network, loss_fn, lamb, penalty or Penalty(), singularity_avoiding, y_th)
    assert not isinstance(penalty, Penalty)
    return PerceptronObjective(network, loss_fn, lamb, penalty or PerceptronPenalty())


def trainable_parameters(network: Network | Perceptron) -> list[nn.Parameter]:
    """The parameters that a fit can change: those that require gradients, but for layers without any numeric or any symbolic edge."""
    useless = set()
    layers = zip(network.numeric_layers, network.symbolic_layers, strict=True) if isinstance(network, Network) else ()
    for numeric, symbolic in layers:
        if not symbolic.active():
            useless.add(symbolic.affine)
        if not bool(numeric.mask.any()):
            useless.update((numeric.coef, numeric.scale_base, numeric.scale_sp))
    found = [p for p in network.parameters() if p.requires_grad and p not in useless]
    if not found:
        raise ValueError("the network has nothing to train: every edge is masked or every parameter is frozen.")
    return found


class _Batches:
    """The samples of each step, with the first layer's features when all samples are used."""

    def __init__(self, network: Network | Perceptron, data: Data, size: int) -> None:
        self.network, self.data = network, data
        count = len(data.train_input)
        self.size = None if size == -1 or size >= count else size
        self.generator = torch.Generator().manual_seed(network.seed)
        self.first: FirstLayer | None = None

    def features(self) -> int:
        """Number of features of the widest layer in one evaluation."""
        samples = len(self.data.train_input) if self.size is None else self.size
        if isinstance(self.network, Perceptron):
            return samples * max(self.network.width)
        return samples * max(layer.in_dim * (layer.num + layer.k + 1) for layer in self.network.numeric_layers)

    def forget(self) -> None:
        """The first layer's grid has moved."""
        self.first = None

    def draw(self) -> tuple[Tensor, Tensor, FirstLayer | None]:
        x, y = self.data.train_input, self.data.train_label
        if self.size is not None:
            chosen = torch.randperm(len(x), generator=self.generator)[: self.size].to(x.device)
            return x[chosen], y[chosen], None
        if isinstance(self.network, Perceptron):
            return x, y, None
        layer = self.network.numeric_layers[0]
        if self.first is None and len(x) * layer.in_dim * (layer.num + layer.k + 1) <= CACHE_LIMIT:
            self.first = self.network.first_layer(x)
        return x, y, self.first


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let this thread's tensor operations use `count` threads, for the time of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB, where it hands them back to the system at every evaluation only to fault them in anew.

    It learns the limit from the largest block that it has mapped and unmapped; this one is never touched. Other allocators ignore it. A
    fit of [2, 5, 1] with 20 intervals has 300 page faults per evaluation without this, and takes a fifth longer.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


@torch.no_grad()
def _restore(optimizer: torch.optim.Optimizer, values: Sequence[Tensor]) -> None:
    for p, value in zip((p for group in optimizer.param_groups for p in group["params"]), values, strict=True):
        p.copy_(value)


def _name(metric: Callable[[], Any]) -> str:
    return str(getattr(metric, "__name__", type(metric).__name__))


def _describe(results: dict[str, list[float]], display_metrics: Sequence[str] | None) -> str:
    if display_metrics is not None:
        return "".join(f" {name}: {results[name][-1]:.2e} |" for name in display_metrics)
    train, test, reg = (results[key][-1] for key in ("train_loss", "test_loss", "reg"))
    return f"| train_loss: {train:.2e} | test_loss: {test:.2e} | reg: {reg:.2e} | "
