"""Many networks from many seeds: `fit(restarts=64)` beside 64 fits one after another.

``python benchmarks/restarts.py`` trains 64 networks [2, 5, 1] with 5 intervals on 1000 samples of ``exp(sin(pi x) + y^2)`` by
Levenberg-Marquardt, L-BFGS and Adam, in float64 and float32, everything else as it is by default. It prints wall and processor seconds of
both ways, making the networks included, says which bars hold, and writes ``benchmarks/results/restarts.json``. The two ways take turns;
figures are medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from environments import HERE, surroundings, write

from kan import KAN
from kan.utils import create_dataset

NETWORKS = 64
LARGEST_SHARE = 0.4
"""Bar for the wall time of the restarts, as a share of that of single fits on two cores, for Levenberg-Marquardt and L-BFGS."""


def model(seed: int, dtype: torch.dtype) -> KAN:
    """The network of a seed."""
    return KAN([2, 5, 1], grid=5, seed=seed, auto_save=False).to(dtype)


def together(data: Any, opt: str, steps: int, dtype: torch.dtype) -> float:
    """The lowest training loss of all networks."""
    found = model(0, dtype).fit(data, opt=opt, steps=steps, restarts=NETWORKS, progress=False).restarts
    assert found is not None
    return min(found.losses)


def alone(data: Any, opt: str, steps: int, dtype: torch.dtype) -> float:
    """Train every network in a fit of its own."""
    return min(float(model(s, dtype).fit(data, opt=opt, steps=steps, progress=False)["train_loss"][-1]) for s in range(NETWORKS))


def timed(run: Callable[[], float]) -> dict[str, float]:
    """Wall and processor seconds of a run, and what it returns."""
    wall, processor = time.perf_counter(), time.process_time()
    loss = run()
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor, "lowest loss": loss}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads that torch may use")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "restarts.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    rows: list[dict[str, Any]] = []
    for dtype in (torch.float64, torch.float32):
        made = create_dataset(lambda x: torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2), n_var=2, train_num=1000, seed=0)
        data = made["train_input"].to(dtype), made["train_label"].to(dtype)
        for opt in ("LM", "LBFGS", "Adam"):
            together(data, opt, 1, dtype)
            runs: dict[str, list[dict[str, float]]] = {"together": [], "alone": []}
            for _ in range(arguments.repeats):
                for name, run in (("together", together), ("alone", alone)):
                    runs[name].append(timed(partial(run, data, opt, arguments.steps, dtype)))
            row: dict[str, Any] = {"opt": opt, "dtype": str(dtype).removeprefix("torch.")}
            for name, found in runs.items():
                row[name] = {key: statistics.median(one[key] for one in found) for key in found[0]}
            row["share"] = row["together"]["wall"] / row["alone"]["wall"]
            rows.append(row)
            print(
                f"{row['dtype']} {opt:5} together {row['together']['wall']:6.2f} s (processor {row['together']['processor']:6.2f}), "
                f"alone {row['alone']['wall']:6.2f} s ({row['alone']['processor']:6.2f}): {row['share']:.2f}", flush=True,
            )  # fmt: skip
    bar = f"LM and L-BFGS: at most {LARGEST_SHARE:g} of {NETWORKS} single fits"
    holds = [row["share"] <= LARGEST_SHARE for row in rows if row["opt"] != "Adam"]
    print(f"{'holds ' if all(holds) else 'MISSED'} {bar}: {sum(holds)} of {len(holds)}", flush=True)
    settings = {"networks": NETWORKS, "steps": arguments.steps, "repeats": arguments.repeats}
    record = {"environment": surroundings(arguments.threads), **settings, "rows": rows, "bars": {bar: f"{sum(holds)} of {len(holds)}"}}
    write(record, arguments.output)


if __name__ == "__main__":
    main()
