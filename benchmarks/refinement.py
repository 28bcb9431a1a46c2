"""Training, refining and training again, beside `fit(grids=...)`, which does the same in one call.

``python benchmarks/refinement.py`` fits ``exp(sin(pi x) + y^2)`` by [2, 1, 1] on 3000 points with 5, 10, 20, 50 and 100 intervals, 40 steps
each, everything else as it is by default: by ``model.fit``, ``model = model.refine(G)`` and ``model.fit`` again, and by
``model.fit(grids=[5, 10, 20, 50, 100])``. Five seeds, of the network and of the data, with Levenberg-Marquardt and with L-BFGS, in float64.
It prints the test errors after every number of intervals, says which bars hold, and writes ``benchmarks/results/refinement.json``.

L-BFGS leaves some of these networks in a poor minimum with 5 intervals, whichever way they are refined; these seeds are counted, too.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
from environments import HERE, surroundings, write

from kan import KAN
from kan.utils import create_dataset

LEVELS = [5, 10, 20, 50, 100]
STEPS = 40
LARGEST_ERROR = 6e-8
"""Bar for the test error of Levenberg-Marquardt at the end."""
LARGEST_RATIO = 3.0
"""Bar for the test error of the recipe at the end, as a multiple of that of ``grids=``."""


def dataset(seed: int) -> dict[str, torch.Tensor]:
    return create_dataset(lambda x: torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2), n_var=2, train_num=3000, seed=seed)


def by_hand(opt: str, seed: int) -> list[float]:
    """Test errors of the recipe."""
    model, data, errors = KAN([2, 1, 1], grid=LEVELS[0], seed=seed, auto_save=False), dataset(seed), []
    for level, intervals in enumerate(LEVELS):
        if level > 0:
            model = model.refine(intervals)
        errors.append(float(model.fit(data, opt=opt, steps=STEPS, progress=False)["test_loss"][-1]))
    return errors


def by_grids(opt: str, seed: int) -> list[float]:
    """Test errors of ``fit(grids=...)``."""
    model = KAN([2, 1, 1], grid=LEVELS[0], seed=seed, auto_save=False)
    found = model.fit(dataset(seed), opt=opt, steps=STEPS, grids=LEVELS, progress=False)["test_loss"]
    return [float(found[(level + 1) * STEPS - 1]) for level in range(len(LEVELS))]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads that torch may use")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "refinement.json")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(arguments.threads)

    rows: list[dict[str, Any]] = []
    for opt in ("LM", "LBFGS"):
        for seed in arguments.seeds:
            row: dict[str, Any] = {"opt": opt, "seed": seed}
            for name, run in (("refine", by_hand), ("grids", by_grids)):
                begun = time.perf_counter()
                row[name] = run(opt, seed)
                row[f"{name}, seconds"] = time.perf_counter() - begun
                print(f"{opt:5} seed {seed} {name:6} {' '.join(f'{error:.1e}' for error in row[name])}", flush=True)
            rows.append(row)

    bars = {}
    for opt in ("LM", "LBFGS"):
        ratios = [row["refine"][-1] / row["grids"][-1] for row in rows if row["opt"] == opt]
        bars[f"{opt}: within a factor of {LARGEST_RATIO:g} of grids="] = [ratio <= LARGEST_RATIO for ratio in ratios]
    bars[f"LM: test error at most {LARGEST_ERROR:.0e}"] = [row["refine"][-1] <= LARGEST_ERROR for row in rows if row["opt"] == "LM"]
    for bar, holds in bars.items():
        print(f"{'holds ' if all(holds) else 'MISSED'} {bar}: {sum(holds)} of {len(holds)} seeds", flush=True)
    counts = {bar: f"{sum(holds)} of {len(holds)} seeds" for bar, holds in bars.items()}
    record = {"environment": surroundings(arguments.threads), "rows": rows, "bars": counts}
    write(record, arguments.output)


if __name__ == "__main__":
    main()
