"""One epoch of mini-batch training with Adam: `KAN.fit`, its layers in a plain loop, and perceptrons of torch and scikit-learn, in one run.

``python benchmarks/minibatch.py`` prints a table for both cases, says which bars hold, and writes everything with the environment to
``benchmarks/results/minibatch.json``. All train on the same samples in float32, with batches of 256 and the same learning rate.

Contenders
    ``KAN.fit``
        with its defaults: training and test data, grid updates, progress bar off, and no version saved.
    ``KAN.fit, fixed grids``
        the same without the ten grid updates, which come in the first fifty steps of a fit and in no later epoch.
    ``KAN, plain loop``
        the network called as a torch module, in a loop of the user's: one permutation per epoch, loss, ``backward()``, Adam, and
        nothing else.
    ``MLP, plain loop``
        in the same loop a perceptron of torch, ReLU, with one hidden layer of the width at which it has about as many parameters.
    ``scikit-learn``
        `MLPRegressor` of the same width, ``partial_fit`` for one epoch, which shuffles and takes batches itself.

Procedure
    In every round each contender trains one epoch from its start; networks, optimisers and data exist beforehand, except what `KAN.fit`
    makes itself. Figures are medians of CPU time on one thread, ratios are those of medians. The first round is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from environments import HERE, surroundings, write
from sklearn.neural_network import MLPRegressor
from torch import Tensor, nn

from kan import KAN

BATCH = 256
RATE = 1e-2
ROUNDS = 7


class Case(NamedTuple):
    """A network, a number of samples, and the largest ratio of ``KAN.fit`` to another contender that is aimed at."""

    width: list[int]
    samples: int
    beside: str
    bar: float


CASES = {
    "small": Case([4, 8, 1], 100_000, "scikit-learn", 2.5),
    "wide": Case([100, 100, 10], 25_600, "MLP, plain loop", 1.5),
}


def samples(case: Case, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs on [-1, 1] and smooth labels that depend on all of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, case.width[0], generator=generator) * 2 - 1
    mix = torch.randn(case.width[0], case.width[-1], generator=torch.Generator().manual_seed(0))
    return x, torch.sin(2 * x @ (mix / case.width[0] ** 0.5))


def hidden_width(case: Case, parameters: int) -> int:
    """The width of the hidden layer at which a perceptron has about `parameters` parameters."""
    inputs, outputs = case.width[0], case.width[-1]
    return round((parameters - outputs) / (inputs + 1 + outputs))


def epoch_in_a_plain_loop(network: nn.Module, x: Tensor, y: Tensor) -> None:
    """Train `network` for one epoch, as a user would write it."""
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=RATE)
    order = torch.randperm(len(x))
    for rows in order.split(BATCH):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x[rows]), y[rows]).backward()
        optimizer.step()


def contenders(case: Case) -> tuple[dict[str, Callable[[], Callable[[], Any]]], dict[str, int]]:
    """Functions that prepare an epoch and return it, and the numbers of trained parameters."""
    (x, y), (test_x, test_y) = samples(case, case.samples, 1), samples(case, 1000, 2)
    data = {"train_input": x, "train_label": y, "test_input": test_x, "test_label": test_y}
    steps = -(-case.samples // BATCH)
    arrays = x.numpy(), y.numpy().ravel() if y.shape[1] == 1 else y.numpy()

    def network() -> KAN:
        return KAN(width=case.width, grid=5, k=3, seed=0, auto_save=False)

    numeric = list(network().act_fun)
    parameters = sum(p.numel() for layer in numeric for p in (layer.coef, layer.scale_base, layer.scale_sp))
    hidden = hidden_width(case, parameters)

    def perceptron() -> nn.Module:
        return nn.Sequential(nn.Linear(case.width[0], hidden), nn.ReLU(), nn.Linear(hidden, case.width[-1]))

    def of_fit(update_grid: bool) -> Callable[[], Any]:
        model = network()
        return lambda: model.fit(data, opt="Adam", steps=steps, batch=BATCH, lr=RATE, update_grid=update_grid, progress=False)

    def of_loop(make: Callable[[], nn.Module]) -> Callable[[], Callable[[], Any]]:
        def prepared() -> Callable[[], Any]:
            model = make()
            return lambda: epoch_in_a_plain_loop(model, x, y)

        return prepared

    def of_sklearn() -> Callable[[], Any]:
        settings = {"hidden_layer_sizes": (hidden,), "batch_size": BATCH, "learning_rate_init": RATE, "alpha": 0.0, "random_state": 0}
        model = MLPRegressor(solver="adam", **settings)
        return lambda: model.partial_fit(*arrays)

    counts = {"KAN": parameters, "MLP": sum(p.numel() for p in perceptron().parameters()), "hidden": hidden}
    found = {
        "KAN.fit": lambda: of_fit(True), "KAN.fit, fixed grids": lambda: of_fit(False), "KAN, plain loop": of_loop(network),
        "MLP, plain loop": of_loop(perceptron), "scikit-learn": of_sklearn,
    }  # fmt: skip
    return found, counts


def measured(case: Case, rounds: int) -> dict[str, Any]:
    """Median times of one epoch in seconds, and the ratios."""
    makers, counts = contenders(case)
    times: dict[str, list[float]] = {name: [] for name in makers}
    for turn in range(1 + rounds):
        for name, make in makers.items():
            epoch = make()
            begun = time.process_time()
            epoch()
            if turn > 0:
                times[name].append(time.process_time() - begun)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["KAN.fit"] / medians[case.beside]
    return {
        "width": case.width, "samples": case.samples, "batch": BATCH, "parameters": counts, "seconds": medians, "all": times,
        "beside": case.beside, "ratio": ratio, "bar": case.bar, "holds": ratio <= case.bar,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "minibatch.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(1))
        results = {name: measured(CASES[name], arguments.rounds) for name in arguments.cases}
    for result in results.values():
        print(f"{result['width']}, {result['samples']} samples, parameters: {result['parameters']}")
        for contender, seconds in result["seconds"].items():
            print(f"  {contender:22} {seconds:8.3f} s   {result['seconds']['KAN.fit'] / seconds:6.2f}")
        print(f"  KAN.fit / {result['beside']}: {result['ratio']:.2f}, bar {result['bar']} {'holds' if result['holds'] else 'FAILS'}")
    environment = surroundings(1) | {"scikit-learn": importlib.metadata.version("scikit-learn")}
    write({"environment": environment, "cases": results}, arguments.output)


if __name__ == "__main__":
    main()
