"""Whether a fit is as good in any units: the same data in units of order one, and in others.

``python benchmarks/units.py`` prints a table and writes everything with the environment to ``benchmarks/results/units.json``.

Data
    300 points, uniform on [-1, 1] in one or two variables, and a law of them. Each of 20 cases has units of its inputs and of its label,
    ``10^e`` with e uniform on [-9, 9], and offsets of both. An offset is zero or ``10^e`` spreads with e uniform on [0, 6]. Some units are
    in proportion with a new network, so that it gets no map of them, and most are not.

Methods
    L-BFGS, 100 steps, and Levenberg-Marquardt, 50 steps, in float64, each from the same seed in both units.

Reported
    The share of the label's variance that is explained, ``R2``, on the training samples, and its difference. The bar is 1e-3.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from environments import HERE, surroundings, write
from torch import Tensor

from kan import KAN

CASES = 20
SAMPLES = 300
STEPS = {"LBFGS": 100, "LM": 50}
BAR = 1e-3
"""Largest difference of ``R2`` that counts as none."""


@dataclass(frozen=True)
class Law:
    """A function of columns on [-1, 1], and the shape of a network for it."""

    width: list[int]
    of: Callable[[Tensor], Tensor]


LAWS = {
    "sin(3 x)": Law([1, 3, 1], lambda x: torch.sin(3 * x)),
    "exp(sin(pi x) + y^2)": Law([2, 5, 1], lambda x: torch.exp(torch.sin(math.pi * x[:, [0]]) + x[:, [1]].square())),
}


@dataclass(frozen=True)
class Case:
    """Units and offsets; an offset is in spreads of its column."""

    law: str
    seed: int
    units: list[float]
    offsets: list[float]
    label_unit: float
    label_offset: float


def cases() -> list[Case]:
    """The same ones every time."""
    draw = random.Random(2026)

    def unit() -> float:
        return float(f"{10 ** draw.uniform(-9, 9):.2g}")

    def offset() -> float:
        return draw.choice([0.0, float(f"{10 ** draw.uniform(0, 6):.2g}")])

    found = []
    for seed in range(CASES):
        law = list(LAWS)[seed % len(LAWS)]
        inputs = LAWS[law].width[0]
        found.append(Case(law, seed, [unit() for _ in range(inputs)], [offset() for _ in range(inputs)], unit(), offset()))
    return found


def data_of(case: Case) -> tuple[Tensor, Tensor]:
    """In units of order one."""
    law = LAWS[case.law]
    x = torch.rand(SAMPLES, law.width[0], generator=torch.Generator().manual_seed(case.seed)) * 2 - 1
    return x, law.of(x)


def in_units(case: Case, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """In those of the case."""
    units, offsets = x.new_tensor(case.units), x.new_tensor(case.offsets)
    return (x + offsets * x.std(0)) * units, (y + case.label_offset * y.std()) * case.label_unit


def fitted(case: Case, x: Tensor, y: Tensor, method: str) -> dict[str, Any]:
    """``R2`` of a new network, and which maps it got."""
    model = KAN(LAWS[case.law].width, grid=5, seed=case.seed, auto_save=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = model.fit((x, y), opt=method, steps=STEPS[method], progress=False)
    with torch.no_grad():
        error = (model(x) - y).square().mean()
    return {"r2": 1 - float(error / y.var(correction=0)), "loss": history["train_loss"][-1], "maps": sorted(model.labels())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four cases only, and nothing is written")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "units.json")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)

    rows = []
    for case in cases()[: 4 if arguments.quick else None]:
        x, y = data_of(case)
        there = in_units(case, x, y)
        for method in STEPS:
            plain, other = fitted(case, x, y, method), fitted(case, *there, method)
            difference = other["r2"] - plain["r2"]
            rows.append({**asdict(case), "method": method, "order one": plain, "units": other, "difference": difference})
            print(
                f"{case.law:22} x * {case.units} + {case.offsets} spreads, y * {case.label_unit:g} + {case.label_offset:g} spreads, "
                f"{method}: R2 {plain['r2']:.6f} and {other['r2']:.6f} {'' if abs(difference) <= BAR else '<<<'}",
                flush=True,
            )
    for method in STEPS:
        own = [row for row in rows if row["method"] == method]
        same = sum(abs(row["difference"]) <= BAR for row in own)
        worst = min(row["difference"] for row in own)
        print(f"{method}: the same R2 to {BAR:g} in {same} of {len(own)} cases; the largest loss of R2 is {max(0.0, -worst):.2g}")
    if not arguments.quick:
        write({"environment": surroundings(1), "bar": BAR, "steps": STEPS, "rows": rows}, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
