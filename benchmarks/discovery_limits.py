"""Whether kan.discover keeps its time limit and stays small, on many rows and columns: each call in a process of its own.

``python benchmarks/discovery_limits.py`` prints a line for every call and writes ``benchmarks/results/discovery_limits.json``: seconds,
peak memory beyond that of the process with the data, and the laws that were found. ``over`` is what a call takes beyond its limit plus
10 % plus 1 s; it should be 0. Linux and macOS, which say what the peak memory was.

The law is that of the first four of twenty columns, with noise of a tenth of the labels' deviation.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from environments import HERE, ROOT, surroundings, write

import kan

LIMITS = (2.0, 10.0, 20.0)
ROWS = (10**4, 10**5, 10**6)
COLUMNS = 20
NOISE = 0.1


def data(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.uniform(1, 2, (rows, columns))
    y = x[:, 0] * np.exp(-x[:, 1]) + x[:, 2] * np.sin(3 * x[:, 3])
    return x, y + NOISE * y.std() * random.normal(size=rows)


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def called(rows: int, columns: int, limit: float) -> dict[str, Any]:
    """One call, in this process."""
    warnings.simplefilter("ignore")
    kan.discover(*data(50, 4), time_limit=1.0, progress=False)  # what is imported on first use is no part of the call
    x, y = data(rows, columns)
    before, begun = peak(), time.perf_counter()
    found = kan.discover(x, y, time_limit=limit, progress=False)
    seconds = time.perf_counter() - begun
    return {
        "rows": rows, "columns": columns, "time_limit": limit, "seconds": seconds, "over": max(0.0, seconds - 1.1 * limit - 1),
        "data_mb": (x.nbytes + y.nbytes) / 2**20, "peak_beyond_data_mb": peak() - before, "laws": len(found), "stopped": found.stopped,
        "best": str(found[0]) if len(found) else None,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--columns", type=int, default=COLUMNS)
    parser.add_argument("--limits", type=float, nargs="+", default=list(LIMITS))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "discovery_limits.json")
    parser.add_argument("--call", action="store_true", help="one call in this process, which is printed as JSON")
    arguments = parser.parse_args()
    if arguments.call:
        print(json.dumps(called(arguments.rows[0], arguments.columns, arguments.limits[0])))
        return
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    results = []
    for rows in arguments.rows:
        for limit in arguments.limits:
            command = [sys.executable, __file__, "--call", "--rows", str(rows), "--columns", str(arguments.columns), "--limits", str(limit)]
            environment = {**os.environ, **threads, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            results.append(row := json.loads(done.stdout.splitlines()[-1]))
            print(
                f"{rows:8d} x {arguments.columns}, limit {limit:4.0f} s: {row['seconds']:6.2f} s, over by {row['over']:.2f} s, "
                f"{row['peak_beyond_data_mb']:5.0f} MB beyond the data, {row['laws']} laws, {row['best']}", flush=True,
            )  # fmt: skip
    write({"environment": surroundings(1), "calls": results}, arguments.output)


if __name__ == "__main__":
    main()
