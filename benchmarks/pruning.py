"""What pruning costs: fits with 2 to 30 inputs, pruned without thresholds, with them, and by the loss alone.

For every fit of a regression or a classification, on the samples it was fitted to and on held-out ones:

- ``default``: ``prune()``, and ``prune().prune_input()`` beside it;
- ``thresholds``: ``prune(1e-2, 3e-2)``, pykan's thresholds, which are obeyed;
- ``tolerance``: ``prune(tolerance=0.01)``.

The loss is the mean squared error, or the cross-entropy. Growth is a share of it. A warning counts as one that says it if both losses, as
`fit` reports them, stand in it.

Prints a table and writes ``benchmarks/results/pruning.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from environments import HERE, surroundings, write
from sklearn import datasets
from torch import Tensor, nn

from kan import KAN

SEEDS = (0, 1)
PENALTIES = (0.0, 1e-3, 1e-2)
GROWTH = 0.05
"""The share by which the loss may grow without a warning."""


def law(x: Tensor) -> Tensor:
    """The law of the hello story."""
    return torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)


def uniform(inputs: int, f: Callable[[Tensor], Tensor], noise: float) -> tuple[Tensor, Tensor]:
    """600 samples of a law with noise of the standard deviation `noise`."""
    generator = torch.Generator().manual_seed(inputs)
    x = torch.rand(600, inputs, generator=generator) * 2 - 1
    return x, f(x) + noise * torch.randn(600, 1, generator=generator)


def bundled(loaded: Any, regression: bool) -> tuple[Tensor, Tensor]:
    """Data of scikit-learn, columns and labels of regressions standardised."""
    x, y = (torch.tensor(part, dtype=torch.float64) for part in (loaded if isinstance(loaded, tuple) else (loaded.data, loaded.target)))
    x = (x - x.mean(dim=0)) / x.std(dim=0)
    if not regression:
        return x, y.long()
    y = y.reshape(len(y), -1)
    return x, (y - y.mean(dim=0)) / y.std(dim=0)


CASES: dict[str, tuple[list[int], Callable[[], tuple[Tensor, Tensor]]]] = {
    "breast cancer": ([30, 5, 2], lambda: bundled(datasets.load_breast_cancer(), regression=False)),
    "wine": ([13, 5, 3], lambda: bundled(datasets.load_wine(), regression=False)),
    "iris": ([4, 5, 3], lambda: bundled(datasets.load_iris(), regression=False)),
    "moons": ([2, 5, 2], lambda: bundled(datasets.make_moons(400, noise=0.2, random_state=0), regression=False)),
    "20 inputs, 6 of use": (
        [20, 5, 2],
        lambda: bundled(datasets.make_classification(600, 20, n_informative=6, flip_y=0.05, random_state=0), regression=False),
    ),
    "diabetes": ([10, 5, 1], lambda: bundled(datasets.load_diabetes(), regression=True)),
    "Friedman 1": ([10, 5, 1], lambda: bundled(datasets.make_friedman1(600, noise=1.0, random_state=0), regression=True)),
    "Friedman 2": ([4, 5, 1], lambda: bundled(datasets.make_friedman2(600, noise=50.0, random_state=0), regression=True)),
    "hello, noise": ([2, 5, 1], lambda: uniform(2, law, 0.1)),
    "hello": ([2, 5, 1], lambda: uniform(2, law, 0.0)),
    "product and sine of 8": (
        [8, 6, 3, 1], lambda: uniform(8, lambda x: x[:, [0]] * x[:, [1]] + torch.sin(3 * x[:, [2]]), 0.05)
    ),
}  # fmt: skip


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """The texts of all warnings, once it is over; printed lines are dropped."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught, open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        warnings.simplefilter("always")
        yield texts
    texts += [str(one.message) for one in caught]


class Case:
    """A fitted model with its samples."""

    def __init__(self, name: str, lamb: float, seed: int) -> None:
        width, load = CASES[name]
        x, y = load()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        train, test = order[len(x) // 4 :], order[: len(x) // 4]
        self.train, self.test = (x[train], y[train]), (x[test], y[test])
        self.model = KAN(width, seed=seed, auto_save=False)
        self.loss_fn = nn.functional.mse_loss if y.is_floating_point() else nn.functional.cross_entropy
        if y.is_floating_point():
            self.model.fit(self.train, opt="LBFGS", steps=30, lamb=lamb, progress=False)
        else:
            self.model.fit(self.train, opt="Adam", lr=0.02, steps=100, lamb=lamb, loss_fn=self.loss_fn, progress=False)

    @torch.no_grad()
    def loss(self, model: KAN) -> float:
        """On the samples of the fit."""
        return float(self.loss_fn(model.trace(self.train[0]).output, self.train[1]))

    @torch.no_grad()
    def score(self, model: KAN) -> float:
        """Accuracy or R2 on held-out samples."""
        output, y = model.trace(self.test[0]).output, self.test[1]
        if not y.is_floating_point():
            return float((output.argmax(dim=1) == y).double().mean())
        return float(1 - (output - y).square().sum() / (y - y.mean(dim=0)).square().sum())

    def pruned(self, prune: Callable[[KAN], KAN]) -> dict[str, Any]:
        """What comes of it."""
        begun = time.perf_counter()
        with heard() as texts:
            try:
                model = prune(self.model)
            except ValueError as error:
                return {"refused": str(error)}
        report = model.pruning
        assert report is not None
        losses = [f"{value:.4g}" for value in (report.loss_before, report.loss_after)]
        return {
            "seconds": time.perf_counter() - begun, "loss": self.loss(model), "growth": self.loss(model) / self.loss(self.model) - 1,
            "held_out": self.score(model), "edges": model.n_edge, "width": model.width_in, "warnings": texts,
            "said": any(all(loss in text for loss in losses) for text in texts),
        }  # fmt: skip


WAYS: dict[str, Callable[[KAN], KAN]] = {
    "default": lambda model: model.prune(),
    "inputs too": lambda model: model.prune().prune_input(),
    "thresholds": lambda model: model.prune(1e-2, 3e-2),
    "tolerance": lambda model: model.prune(tolerance=0.01),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "pruning.json")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)

    rows: list[dict[str, Any]] = []
    print(f"{'':22} {'lamb':>5} {'seed':>4} {'loss':>8} {'edges':>5}   growth of the loss, edges left (* said so)")
    print(f"{'':22} {'':5} {'':4} {'':8} {'':5}   " + "".join(f"{way:>20}" for way in WAYS))
    for name in arguments.cases:
        for lamb in PENALTIES:
            for seed in SEEDS:
                case = Case(name, lamb, seed)
                found = {way: case.pruned(prune) for way, prune in WAYS.items()}
                row = {
                    "case": name, "lamb": lamb, "seed": seed, "width": case.model.width_in, "edges": case.model.n_edge,
                    "loss": case.loss(case.model), "held_out": case.score(case.model), **found,
                }  # fmt: skip
                rows.append(row)
                shown = [
                    "refused" if "refused" in one else f"{100 * one['growth']:9.1f} %{'*' if one['warnings'] else ' '} {one['edges']:4d}"
                    for one in found.values()
                ]
                print(
                    f"{name:22} {lamb:5g} {seed:4d} {row['loss']:8.2g} {row['edges']:5d}   " + "".join(f"{text:>20}" for text in shown),
                    flush=True,
                )
    summary = {
        "fits": len(rows),
        **{
            way: {
                "grown by more than 5 %": sum(row[way].get("growth", 0) > GROWTH for row in rows),
                "grown by more than 5 % in silence": sum(row[way].get("growth", 0) > GROWTH and not row[way]["said"] for row in rows),
                "refused": sum("refused" in row[way] for row in rows),
            }
            for way in WAYS
        },
    }
    print(summary)
    write({"environment": surroundings(torch.get_num_threads()), "summary": summary, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
