"""How long does `auto_symbolic` take, and does it find the law by itself?

1. Seconds of `auto_symbolic` where the hello story calls it, with the story's ten functions and with the whole library: the first call,
   which makes tables that are kept, and the median of those that follow.
2. ``exp(sin(pi x_1) + x_2^2)`` with the whole library, seeds 0 to 9, by `auto_symbolic(data=...)` right after training and pruning, for
   two ways of training. A seed counts if the formula has the structure of the law, every constant within 1e-10 of the true one, and the
   test RMSE is below 1e-10.

Prints two tables and writes ``benchmarks/results/auto_symbolic.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from environments import HERE, surroundings, write
from hello_seeds import deviation_from_law
from hello_story import LIB

from kan import KAN
from kan.utils import create_dataset

CLOSE = 1e-10
REPEATS = 5


def law(x: torch.Tensor) -> torch.Tensor:
    """The labels."""
    return torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)


def by_lbfgs(model: KAN, dataset: Any) -> KAN:
    """As in the hello story, up to its second fit."""
    model.fit(dataset, opt="LBFGS", steps=50, lamb=0.001)
    model = model.prune()
    model.fit(dataset, opt="LBFGS", steps=50)
    return model


def by_levenberg_marquardt(model: KAN, dataset: Any) -> KAN:
    """The same with the method of second order, and no second fit."""
    model.fit(dataset, opt="LM", steps=30, lamb=0.001)
    return model.prune()


WAYS: dict[str, Callable[[KAN, Any], KAN]] = {"L-BFGS": by_lbfgs, "Levenberg-Marquardt": by_levenberg_marquardt}


@contextlib.contextmanager
def silent():  # type: ignore[no-untyped-def]
    """Neither lines nor progress bars."""
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        yield


def seconds_of(task: Callable[[], Any]) -> float:
    """Wall time."""
    start = time.perf_counter()
    with silent():
        task()
    return time.perf_counter() - start


def timed() -> dict[str, dict[str, float]]:
    """Seconds in the hello story, by library."""
    dataset = create_dataset(law, n_var=2)
    with silent():
        model = by_lbfgs(KAN([2, 5, 1], grid=3, k=3, seed=42, auto_save=False), dataset).refine(10)
        model.fit(dataset, opt="LBFGS", steps=50)
    found = {}
    for name, lib in (("ten functions", LIB), ("whole library", None)):
        calls = [seconds_of(lambda lib=lib: copy.deepcopy(model).auto_symbolic(lib=lib)) for _ in range(1 + REPEATS)]  # type: ignore[misc]
        found[name] = {"first": calls[0], "median": statistics.median(calls[1:])}
    return found


def solved(seed: int, way: str) -> dict[str, Any]:
    """One network, from data to formula."""
    dataset = create_dataset(law, n_var=2)
    model = KAN([2, 5, 1], grid=3, k=3, seed=seed, auto_save=False)
    with silent():
        model = WAYS[way](model, dataset)
    seconds = seconds_of(lambda: model.auto_symbolic(data=dataset))
    with torch.no_grad():
        error = float((model(dataset["test_input"]) - dataset["test_label"]).square().mean().sqrt())
    formula = str(model.symbolic_formula(numeric="function")[0][0])
    deviation = deviation_from_law(formula)
    return {
        "way": way, "seed": seed, "solved": deviation < CLOSE and error < CLOSE, "deviation": deviation, "test_rmse": error,
        "width": model.width, "seconds": seconds, "formula": formula,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "auto_symbolic.json")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)

    seconds = timed()
    for name, taken in seconds.items():
        print(f"{name}: first call {taken['first']:.3f} s, then {taken['median']:.3f} s")
    rows = []
    print(f"{'training':>20} {'seed':>4} {'test RMSE':>10} {'constants':>10} {'seconds':>8}")
    for way in WAYS:
        for seed in arguments.seeds:
            rows.append(row := solved(seed, way))
            print(f"{way:>20} {seed:4d} {row['test_rmse']:10.1e} {row['deviation']:10.1e} {row['seconds']:8.2f}", flush=True)
    for way in WAYS:
        mine = [row for row in rows if row["way"] == way]
        print(f"{way}: {sum(row['solved'] for row in mine)} of {len(mine)} seeds end in the law")
    write({"environment": surroundings(torch.get_num_threads()), "hello story": seconds, "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
