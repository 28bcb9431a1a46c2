"""What is left of values and gradients behind many KAN layers, and where a short training ends, for every scheme of initial weights.

``python benchmarks/initialisation.py`` prints the tables and writes everything with the environment to
``benchmarks/results/initialisation.json``. All layers have cubic splines on [-1, 1] and are float32.

Contenders
    The schemes of `kan.drop_in.initialisation` as they are by default, and ``glorot, equal parts``: the same rule with as much for the
    splines as for the base function (``SPLINE_SHARE = 1/2``).

Depth
    Inputs are uniform on the grid. Reported is the standard deviation, over points and units, of every layer's output and of the gradient
    there for a normal gradient behind the last layer; medians over seeds. ``values`` is the last layer's over the first's, ``gradients``
    the first's over the last's: 1 if both are kept.

Training
    Adam on new random points at every step; the targets have mean 0 and variance 1. Reported is the median over seeds of the mean squared
    error at 1000 other points.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from environments import HERE, surroundings, write
from torch import Tensor

from kan.drop_in import initialisation
from kan.drop_in.kan_linear import KANStack

EQUAL_PARTS = "glorot, equal parts"
CONTENDERS = [*initialisation.INITIALISATIONS, EQUAL_PARTS]


def of_two(x: Tensor) -> Tensor:
    return torch.exp(torch.sin(math.pi * x[:, [0]]) + x[:, [1]].square())


def of_many(x: Tensor) -> Tensor:
    """A wave along a direction, a bowl and a product, of 18 among 32 variables."""
    wave = torch.sin(2 * math.pi * x[:, :8].mean(1, keepdim=True))
    return wave + 3 * x[:, 8:16].square().mean(1, keepdim=True) + x[:, [20]] * x[:, [21]]


TARGETS: dict[str, Callable[[Tensor], Tensor]] = {"2-D": of_two, "32-D": of_many}


@dataclass(frozen=True)
class Stack:
    """Sizes of all layers, and grid intervals."""

    sizes: list[int]
    intervals: int

    def __str__(self) -> str:
        inner = self.sizes[1:-1]
        middle = f"{inner[0]} x {len(inner)}" if len(set(inner)) == 1 else ", ".join(map(str, inner))
        return f"{self.sizes[0]} -> {middle} -> {self.sizes[-1]}, G={self.intervals}"


@dataclass(frozen=True)
class Task:
    """A network, its target and its training."""

    target: str
    stack: Stack
    steps: int
    rate: float
    batch: int = 128


DEPTHS = [Stack([32] * 5, 20), Stack([64] * 9, 5), Stack([64] * 9, 20), Stack([256] * 5, 20)]
TASKS = [
    Task("2-D", Stack([2, 8, 1], 20), 300, 1e-2),
    Task("2-D", Stack([2, 16, 16, 1], 5), 300, 1e-2),
    Task("32-D", Stack([32, 32, 32, 32, 1], 5), 300, 3e-3),
    Task("32-D", Stack([32, *[32] * 9, 1], 5), 150, 3e-3),
]


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@contextmanager
def spline_share(share: float) -> Iterator[None]:
    before = initialisation.SPLINE_SHARE
    initialisation.SPLINE_SHARE = share
    try:
        yield
    finally:
        initialisation.SPLINE_SHARE = before


def made(contender: str, stack: Stack, seed: int) -> KANStack:
    equal = contender == EQUAL_PARTS
    with spline_share(0.5 if equal else initialisation.SPLINE_SHARE):
        return KANStack(stack.sizes, stack.intervals, init="glorot" if equal else contender, generator=source(seed))


def uniform(points: int, variables: int, generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(points, variables, generator=generator) - 1


def through_depth(contender: str, stack: Stack, seed: int) -> tuple[list[float], list[float]]:
    """Standard deviations of every layer's output and of the gradient there."""
    generator, values = source(1000 + seed), []
    x = uniform(256, stack.sizes[0], generator).requires_grad_()
    for layer in made(contender, stack, seed).layers:
        x = layer(x)
        values.append(x)
    gradients = torch.autograd.grad(x, values, torch.randn(x.shape, generator=generator))
    return [float(v.detach().std()) for v in values], [float(g.std()) for g in gradients]


def trained(contender: str, task: Task, seed: int) -> float:
    """Mean squared error at the end."""
    generator, target, variables = source(1000 + seed), TARGETS[task.target], task.stack.sizes[0]
    x = uniform(1000, variables, generator)
    mean, std = target(x).mean(), target(x).std()
    network = made(contender, task.stack, seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=task.rate)
    for _ in range(task.steps):
        batch = uniform(task.batch, variables, generator)
        loss = (network(batch) - (target(batch) - mean) / std).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float((network(x) - (target(x) - mean) / std).square().mean())


def measure_depth(stack: Stack, seeds: int) -> dict[str, Any]:
    print(f"\n{stack}: standard deviation after every layer\n{'':20} {'values':>9} {'gradients':>9}  after every layer: values | gradients")
    results: dict[str, Any] = {}
    for contender in CONTENDERS:
        runs = [through_depth(contender, stack, seed) for seed in range(seeds)]
        values, gradients = ([statistics.median(layer) for layer in zip(*found, strict=True)] for found in zip(*runs, strict=True))
        left = {"values": values[-1] / values[0], "gradients": gradients[0] / gradients[-1]}
        results[contender] = {"left": left, "values": values, "gradients": gradients}
        rows = " | ".join(" ".join(f"{figure:7.1e}" for figure in row) for row in (values, gradients))
        print(f"{contender:20} {left['values']:9.3g} {left['gradients']:9.3g}  {rows}", flush=True)
    return {"stack": asdict(stack), "results": results}


def measure_training(task: Task, seeds: int) -> dict[str, Any]:
    print(f"\n{task.target}, {task.stack}, {task.steps} steps of {task.batch} at {task.rate:g}: mean squared error")
    print(f"{'':20} {'median':>9} {'least':>9} {'largest':>9}")
    results: dict[str, Any] = {}
    for contender in CONTENDERS:
        errors = [trained(contender, task, seed) for seed in range(seeds)]
        results[contender] = {"median": statistics.median(errors), "errors": errors}
        print(f"{contender:20} {results[contender]['median']:9.2e} {min(errors):9.2e} {max(errors):9.2e}", flush=True)
    return {"task": asdict(task), "results": results}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs of everything")
    parser.add_argument("--threads", type=int, default=1, help="threads that torch may use")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "initialisation.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.seeds < 1:
        sys.exit(f"--seeds must be at least 1; got {arguments.seeds}.")

    depth = [measure_depth(stack, arguments.seeds) for stack in DEPTHS]
    training = [measure_training(task, arguments.seeds) for task in TASKS]
    record = {"environment": surroundings(arguments.threads), "seeds": arguments.seeds, "depth": depth, "training": training}
    write(record, arguments.output)


if __name__ == "__main__":
    main()
