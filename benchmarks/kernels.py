"""Training with the compiled kernels, beside the same training by torch, in one process.

``python benchmarks/kernels.py`` times, with the kernels and with ``KAN_KERNELS=0``, in turns: one objective with its gradient and one step
of L-BFGS of [2, 5, 1] on 1000 points with lamb=1e-3 and 3, 5, 20 and 100 intervals; the normal equations; ten steps of Levenberg-Marquardt;
``fit(grids=...)`` of [2, 1, 1] up to 100 intervals on 3000 points. It measures a full-batch step of L-BFGS on 10^5 and 10^6 rows with
four columns, and the memory that the latter takes beyond the data, and size and loading time of the library. All in float64 and on one
thread; processor time, medians. It prints the ratios, says which bars hold, and writes ``benchmarks/results/kernels.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from environments import HERE, surroundings, write
from torch.nn.functional import mse_loss

import kan.kernels.library as kernels
from kan import KAN
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.network_problem import NetworkProblem
from kan.training.objectives.back_end import BACK_END
from kan.training.objectives.make import plain_objective
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty

BARS = {
    "gradient, G = 3": 0.11, "gradient, G = 5": 0.12, "gradient, G = 20": 0.05, "gradient, G = 100": 0.02,
    "LM, [2, 1, 1] to G = 100": 1 / 3,
}  # fmt: skip
"""Largest ratio of the time with the kernels to the time without them."""
GROWTH = 2.0
"""Largest ratio of the time of an L-BFGS step with 100 intervals to that with 3."""
MEMORY, SIZE, LOADING = 300.0, 1.0, 5.0
"""Bars for megabytes beyond the data at 10^6 rows, megabytes of the library and milliseconds for loading it."""
LEVELS = [5, 10, 20, 50, 100]


def data(rows: int, columns: int = 2) -> dict[str, torch.Tensor]:
    x = torch.rand(rows, columns, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)
    return {"train_input": x, "train_label": y, "test_input": x[:1000], "test_label": y[:1000]}


def network(width: list[int], grid: int, x: torch.Tensor) -> KAN:
    model = KAN(width, grid=grid, seed=0, auto_save=False)
    model(x)
    model.update_grid_from_samples(x)
    return model


def gradient(grid: int) -> Callable[[], Any]:
    samples = data(1000)
    x, y = samples["train_input"], samples["train_label"]
    model = network([2, 5, 1], grid, x)
    objective, first = Objective(model, mse_loss, 1e-3, penalty=Penalty(), corner=1e-2), model.first_layer(x)
    return lambda: [objective.with_gradient(x, y, first) for _ in range(20)]


def steps(opt: str, width: list[int], grid: int, count: int, rows: int = 1000, **options: Any) -> Callable[[], Any]:
    samples = data(rows)
    return lambda: KAN(width, grid=grid, seed=0, auto_save=False).fit(samples, opt=opt, steps=count, progress=False, **options)


def normal_equations(width: list[int], grid: int, rows: int) -> Callable[[], Any]:
    samples = data(rows)
    x, y = samples["train_input"], samples["train_label"]
    model = network(width, grid, x)
    trained = [p for layer in model.act_fun for p in (layer.coef, layer.scale_base)]
    problem = NetworkProblem(plain_objective(model, None), Columns(model, trained), x, y)

    def by_torch_or_kernels() -> Any:
        if problem._sum is not None and (found := problem._sum.normal_equations()) is not None:
            return found
        problem._passed = None
        return BACK_END.normal_equations(problem._chunks(), problem.columns.count)

    return by_torch_or_kernels


WORKLOADS: dict[str, Callable[[], Callable[[], Any]]] = {
    **{f"gradient, G = {grid}": lambda grid=grid: gradient(grid) for grid in (3, 5, 20, 100)},
    **{
        f"L-BFGS, ten steps, G = {grid}": lambda grid=grid: steps("LBFGS", [2, 5, 1], grid, 10, lamb=1e-3, update_grid=False)
        for grid in (3, 5, 20, 100)
    },
    "normal equations, [2, 5, 1], G = 20": lambda: normal_equations([2, 5, 1], 20, 3000),
    "normal equations, [2, 1, 1], G = 100": lambda: normal_equations([2, 1, 1], 100, 3000),
    "LM, ten steps, [2, 5, 1], G = 5": lambda: steps("LM", [2, 5, 1], 5, 10),
    "LM, ten steps, [2, 5, 1], G = 20": lambda: steps("LM", [2, 5, 1], 20, 10),
    "LM, [2, 1, 1] to G = 100": lambda: steps("LM", [2, 1, 1], LEVELS[0], 50, rows=3000, grids=LEVELS),
}


def compared(make: Callable[[], Callable[[], Any]], turns: int) -> dict[str, float]:
    """Median seconds with the kernels and without them, in turns, after one turn to warm up."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    runs = {}
    for on in (True, False):
        with kernels.switched(on):
            runs[on] = make()
    for turn in range(turns + 1):
        for on in (True, False) if turn % 2 else (False, True):
            with kernels.switched(on):
                begun = time.process_time()
                runs[on]()
                if turn:
                    seconds[on].append(time.process_time() - begun)
    fast, slow = (statistics.median(seconds[on]) for on in (True, False))
    return {"seconds": fast, "by torch": slow, "ratio": fast / slow}


def many_rows(rows: int) -> dict[str, float]:
    """Seconds of a step of L-BFGS, and megabytes beyond the data, in this process."""
    samples = data(rows, 4)
    model = KAN([4, 5, 1], grid=5, seed=0, auto_save=False)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the data
    before, begun = memory("VmRSS"), time.process_time()
    model.fit(samples, opt="LBFGS", steps=1, progress=False, update_grid=False)
    return {"seconds": time.process_time() - begun, "megabytes": memory("VmHWM") - before}


def memory(name: str) -> float:
    """A line of Linux' description of this process, in megabytes; NaN elsewhere."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), math.nan)


def loading() -> dict[str, float]:
    """Megabytes of the library, and the median of the milliseconds that a new process takes to load it."""
    path = Path(kernels.__file__).with_name(kernels.FILE_NAME)
    program = "import ctypes, sys, time; t = time.perf_counter(); ctypes.CDLL(sys.argv[1]); print((time.perf_counter() - t) * 1e3)"
    times = [float(subprocess.run([sys.executable, "-c", program, path], capture_output=True, check=True).stdout) for _ in range(9)]
    return {"megabytes": path.stat().st_size / 1e6, "milliseconds": statistics.median(times)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "kernels.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.rows:
        print(*many_rows(arguments.rows).values())
        return
    if kernels.library(torch.float64) is None:
        sys.exit("the kernels have not been compiled, or are switched off.")
    torch.set_default_dtype(torch.float64)

    def bar(name: str, value: float, largest: float) -> None:
        bars[name] = {"value": value, "bar": largest, "holds": value <= largest}
        print(f"{'holds ' if value <= largest else 'MISSED'}  {name}: {value:.3g} (at most {largest:.3g})", flush=True)

    found: dict[str, Any] = {}
    bars: dict[str, Any] = {}
    for name in arguments.only:
        found[name] = compared(WORKLOADS[name], arguments.turns)
        print(f"{name:38} {found[name]['by torch'] * 1e3:10.2f} ms -> {found[name]['seconds'] * 1e3:9.2f} ms  {found[name]['ratio']:.3f}")
        if name in BARS:
            bar(name, found[name]["ratio"], BARS[name])
    if list(arguments.only) == list(WORKLOADS):
        ten = [found[f"L-BFGS, ten steps, G = {grid}"]["seconds"] for grid in (3, 100)]
        bar("L-BFGS, G = 100 over G = 3", ten[1] / ten[0], GROWTH)
        for rows in (100_000, 1_000_000):
            output = subprocess.run([sys.executable, __file__, "--rows", str(rows)], capture_output=True, text=True, check=True).stdout
            found[f"{rows} rows"] = dict(zip(("seconds", "megabytes"), map(float, output.split()), strict=True))
            print(f"{rows} rows: {found[f'{rows} rows']}")
        bar("seconds per row, 10^6 rows over 10^5", found["1000000 rows"]["seconds"] / found["100000 rows"]["seconds"] / 10, 1.2)
        bar("megabytes beyond the data, 10^6 rows", found["1000000 rows"]["megabytes"], MEMORY)
        found["library"] = loading()
        bar("megabytes of the library", found["library"]["megabytes"], SIZE)
        bar("milliseconds for loading it", found["library"]["milliseconds"], LOADING)
        write({"environment": surroundings(1), "rows": found, "bars": bars}, arguments.output)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        main()
