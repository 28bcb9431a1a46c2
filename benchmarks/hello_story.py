"""The hello story, timed stage by stage, on whichever package called `kan` is installed.

Run as ``python hello_story.py SEED THREADS`` in an empty folder; prints one line of JSON. `hellokan.py` runs it once with this library and
once with pykan.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

import matplotlib

matplotlib.use("Agg")

import torch

LIB = ["x", "x^2", "x^3", "x^4", "exp", "log", "sqrt", "tanh", "sin", "abs"]


def story(seed: int, steps: int = 50, samples: int = 1000) -> dict[str, Any]:
    """Every stage's seconds, and where the story ends."""
    from kan import KAN
    from kan.utils import create_dataset, ex_round

    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(name: str):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)

    losses = {}
    with stage("create"):
        model = KAN(width=[2, 5, 1], grid=3, k=3, seed=seed)
        dataset = create_dataset(f, n_var=2, train_num=samples, test_num=samples)
    with stage("plot"):
        model(dataset["train_input"])
        model.plot()
    with stage("fit, sparse"):
        losses["fit, sparse"] = model.fit(dataset, opt="LBFGS", steps=steps, lamb=0.001)
    with stage("plot again"):
        model.plot()
    with stage("prune"):
        model = model.prune()
    with stage("plot pruned"):
        model.plot()
    with stage("fit, pruned"):
        losses["fit, pruned"] = model.fit(dataset, opt="LBFGS", steps=steps)
    with stage("refine"):
        model = model.refine(10)
    with stage("fit, refined"):
        losses["fit, refined"] = model.fit(dataset, opt="LBFGS", steps=steps)
    with stage("auto_symbolic"):
        model.auto_symbolic(lib=LIB)
    with stage("fit, symbolic"):
        losses["fit, symbolic"] = model.fit(dataset, opt="LBFGS", steps=steps)
    with stage("formula"):
        law = model.symbolic_formula()[0][0]
        formula = str(ex_round(law, 4))
    with torch.no_grad():
        error = model(dataset["test_input"]) - dataset["test_label"]
    return {
        "seconds": seconds,
        "losses": {name: [float(r["train_loss"][-1]), float(r["test_loss"][-1])] for name, r in losses.items()},
        "formula": formula,
        "formula, 8 digits": str(ex_round(law, 8)),
        "test_rmse": float(error.square().mean().sqrt()),
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    torch.set_default_dtype(torch.float64)
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        story(seed=42, steps=1, samples=100)  # warm-up: imports on first use, threads, allocator
        result = story(int(sys.argv[1]))
    print(json.dumps(result))
