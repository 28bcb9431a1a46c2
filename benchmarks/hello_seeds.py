"""Does the hello story find the law? Seeds 0 to 9, one after the other, from data to formula.

A seed counts if the formula has the structure ``A exp(B x_2^2 + C sin(D x_1 + E)) + F`` with every constant within 1e-6 of ``exp(x_2^2 +
sin(pi x_1))`` and the test RMSE is below 1e-8.
Prints a table and writes ``benchmarks/results/hello_seeds.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import sympy
import torch
from environments import HERE, surroundings, write
from hello_story import story

TRUTH = "exp(x_2**2 + sin(pi*x_1))"


def deviation_from_law(formula: str) -> float:
    """Largest deviation of a constant from the truth's; infinite if the formula has another structure."""
    x_1, x_2 = sympy.symbols("x_1 x_2")
    names = ["factor", "square", "shift", "amplitude", "frequency", "phase", "offset"]
    wild = {name: sympy.Wild(name, exclude=[x_1, x_2]) for name in names}
    w = [wild[name] for name in names]
    pattern = w[0] * sympy.exp(w[1] * (x_2 + w[2]) ** 2 + w[3] * sympy.sin(w[4] * x_1 + w[5])) + w[6]
    expression = sympy.sympify(formula)
    found = expression.match(pattern)
    if found is None:
        return float("inf")
    true = {"factor": 1, "square": 1, "shift": 0, "amplitude": 1, "frequency": sympy.pi, "phase": 0, "offset": 0}
    return max(abs(float(found.get(wild[name], 0)) - float(value)) for name, value in true.items())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "hello_seeds.json")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)

    rows: list[dict[str, Any]] = []
    print(f"{'seed':>4} {'test RMSE':>10} {'constants':>10} {'seconds':>8}  formula")
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), open(os.devnull, "w") as null:
            with contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
                result = story(seed)
        deviation = deviation_from_law(str(result["formula, 8 digits"]))
        solved = deviation < 1e-6 and result["test_rmse"] < 1e-8
        seconds = sum(result["seconds"].values())
        rows.append({"seed": seed, "solved": solved, "deviation": deviation, **result, "seconds": seconds})
        print(f"{seed:4d} {result['test_rmse']:10.1e} {deviation:10.1e} {seconds:8.2f}  {result['formula']}", flush=True)
    print(f"{sum(row['solved'] for row in rows)} of {len(rows)} seeds end in {TRUTH}")
    write({"environment": surroundings(torch.get_num_threads()), "rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
