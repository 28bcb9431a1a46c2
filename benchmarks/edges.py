"""Which function is a curve? How often the edge engine names the right family, how exactly it fits, and how long it takes.

``python benchmarks/edges.py`` prints the tables and writes everything with the environment to ``benchmarks/results/edges.json``.

Curves
    20 families ``c f(a x + b) + d`` (and products and quotients of x with functions) with several draws of their parameters each, on N
    uniform points of an interval; noise is Gaussian, in units of the curve's standard deviation.

Right
    The first candidate by description length is of the curve's family, or of one that is the same curve by an exact identity: sine and
    cosine, arcsine and arccosine, second degree polynomial and shifted square.

Identifiable
    A family can be told only if all simpler rivals fail to imitate it. The rivals are fitted to the curve without noise; a draw counts
    where the best rival of another family that needs no more constants leaves residuals that noise cannot explain:
    RSS / sigma^2 > 30 with noise, 1 - R^2 > 1e-12 without.

Lists
    Also 31 single curves after those on which pykan's search is known to fail.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from environments import HERE, surroundings, write
from torch import Tensor

from kan.discovery.edges.suggest import Candidate, DescriptionLength, fitted_candidates

BAR = {0.0: 0.97, 0.01: 0.90}
SECONDS_BAR = 0.1

Draw = Callable[[float, float], float]


@dataclass(frozen=True)
class Family:
    """Curves of a family: ``curve(x, draw)`` on an interval, and the names that are right."""

    names: tuple[str, ...]
    curve: Callable[[Tensor, Draw], Tensor]
    low: float = -1.0
    high: float = 1.0


FAMILIES: dict[str, Family] = {
    "x": Family(("x",), lambda x, r: x),
    "x^2": Family(("x^2", "poly2"), lambda x, r: (x + r(-0.8, 0.8)) ** 2),
    "x^3": Family(("x^3",), lambda x, r: (x + r(-0.8, 0.8)) ** 3),
    "1/x": Family(("1/x",), lambda x, r: 1 / (x + 1 + 10 ** r(-2, 0.5))),
    "1/x^2": Family(("1/x^2",), lambda x, r: 1 / (x + 1 + 10 ** r(-1.5, 0.5)) ** 2),
    "sqrt": Family(("sqrt", "x^0.5"), lambda x, r: (x + 1 + 10 ** r(-4, 0)).sqrt()),
    "1/sqrt": Family(("1/sqrt(x)", "1/x^0.5"), lambda x, r: (x + 1 + 10 ** r(-2, 0)).rsqrt()),
    "exp": Family(("exp",), lambda x, r: (10 ** r(-0.7, 1.2) * x).exp()),
    "log": Family(("log",), lambda x, r: (x + 1 + 10 ** r(-3, 0.3)).log()),
    "sin": Family(("sin", "cos", "sin^2"), lambda x, r: (10 ** r(-0.2, 2) * x + r(-2, 2)).sin()),
    "tan": Family(("tan",), lambda x, r: (r(0.5, 1.3) * x + r(-0.2, 0.2)).tan()),
    "tanh": Family(("tanh",), lambda x, r: (10 ** r(-0.2, 1.4) * x + r(-1, 1)).tanh()),
    "abs": Family(("abs",), lambda x, r: (x + r(-0.7, 0.7)).abs()),
    "gaussian": Family(("gaussian",), lambda x, r: (-((10 ** r(-0.2, 1.4) * (x + r(-0.7, 0.7))) ** 2)).exp()),
    "arctan": Family(("arctan",), lambda x, r: (10 ** r(-0.2, 1.4) * x + r(-1, 1)).atan()),
    "arcsin": Family(("arcsin", "arccos"), lambda x, r: (r(0.6, 1.0) * x).asin()),
    "cosh": Family(("cosh",), lambda x, r: (r(0.7, 4) * x + r(-0.8, 0.8)).cosh()),
    "e^(ax) sin(bx)": Family(("damped",), lambda x, r: (r(-3, 3) * x).exp() * (r(4, 20) * x + r(-2, 2)).sin()),
    "x sin": Family(("x*sin(x)", "x*cos(x)", "x_sin"), lambda x, r: x * (r(1, 30) * x + math.pi / 2 * round(r(0, 1))).sin()),
    "1/(1+x^2)": Family(("1/(1+x^2)",), lambda x, r: 1 / (1 + (10 ** r(-0.2, 1.2) * (x + r(-0.7, 0.7))) ** 2)),
}

PROBE: dict[str, tuple[tuple[str, ...], Callable[[Tensor], Tensor], float, float]] = {
    "sin(12x)": (("sin", "cos", "sin^2"), lambda x: (12 * x).sin(), -1, 1),
    "sin(31.4x)": (("sin", "cos", "sin^2"), lambda x: (31.4 * x).sin(), -1, 1),
    "sin(100x)": (("sin", "cos", "sin^2"), lambda x: (100 * x).sin(), -1, 1),
    "1e-3 sin(3x)": (("sin", "cos", "sin^2"), lambda x: 1e-3 * (3 * x).sin(), -1, 1),
    "cos on [0, .5]": (("sin", "cos", "sin^2"), lambda x: x.cos(), 0, 0.5),
    "sin(3x + 1)": (("sin", "cos", "sin^2"), lambda x: (3 * x + 1).sin(), -1, 1),
    "sin^2(4x)": (("sin", "cos", "sin^2"), lambda x: (4 * x).sin() ** 2, -1, 1),
    "2 exp(-15x)": (("exp",), lambda x: 2 * (-15 * x).exp(), -1, 1),
    "exp(0.1x)": (("exp",), lambda x: (0.1 * x).exp(), -1, 1),
    "exp(3x)": (("exp",), lambda x: (3 * x).exp(), -1, 1),
    "tanh(25x - 5)": (("tanh",), lambda x: (25 * x - 5).tanh(), -1, 1),
    "tanh(2x)": (("tanh",), lambda x: (2 * x).tanh(), -1, 1),
    "narrow gaussian": (("gaussian",), lambda x: (-((20 * x - 4) ** 2)).exp(), -1, 1),
    "gaussian(2x)": (("gaussian",), lambda x: (-4 * x * x).exp(), -1, 1),
    "log(x + 1e-3)": (("log",), lambda x: (x + 1e-3).log(), 0, 1),
    "log(x)": (("log",), lambda x: x.log(), 0.2, 3),
    "1/(x - 1.01)": (("1/x",), lambda x: 1 / (x - 1.01), -1, 1),
    "1/(x + 2)": (("1/x",), lambda x: 1 / (x + 2), -1, 1),
    "1/x^2": (("1/x^2",), lambda x: x**-2, 0.5, 2),
    "1/x^5": (("1/x^5",), lambda x: x**-5, 0.5, 2),
    "sqrt(x)": (("sqrt", "x^0.5"), lambda x: x.sqrt(), 0, 2),
    "x^1.5": (("x^1.5",), lambda x: x**1.5, 0, 2),
    "x^0.7": (("x^p",), lambda x: x**0.7, 0.1, 2),
    "(x - 0.3)^2": (("x^2", "poly2"), lambda x: (x - 0.3) ** 2, -1, 1),
    "x^4": (("x^4",), lambda x: x**4, -1, 1),
    "arcsin(.9x)": (("arcsin", "arccos"), lambda x: (0.9 * x).asin(), -1, 1),
    "arctan(3x)": (("arctan",), lambda x: (3 * x).atan(), -1, 1),
    "arctanh(.8x)": (("arctanh",), lambda x: (0.8 * x).atanh(), -1, 1),
    "|x - 0.2|": (("abs",), lambda x: (x - 0.2).abs(), -1, 1),
    "e^(-.7x) sin(2.4x)": (("damped",), lambda x: (-0.7 * x).exp() * (2.4 * x).sin(), -2, 2),
    "cosh(2x)": (("cosh",), lambda x: (2 * x).cosh(), -1, 1),
}

CONTAINED = {"x^p", "rational", "damped", "x_sin", "poly2", "poly3", "poly4", "poly5"}


def family_of(candidate: Candidate) -> str:
    """The name of the table, or of the family that a row with constants belongs to."""
    name = candidate.name
    if "(" in name and name.split("(")[0] in {"poly", "rational", "damped", "x_sin"}:
        word = name.split("(")[0]
        return f"poly{name.count(',') + 1}" if word == "poly" else word
    return "x^p" if name.startswith("x^") and name not in {"x^2", "x^3", "x^4", "x^5", "x^0.5", "x^1.5"} else name


def identifiable(names: tuple[str, ...], clean: list[Candidate], noise: float, n: int) -> bool:
    """Whether the best rival of another family that has no more constants cannot imitate the curve without noise."""
    own = [c for c in clean if family_of(c) in names]
    price = min(c.bits - _data(c, clean) for c in own)
    rivals = [c for c in clean if family_of(c) not in names and c.bits - _data(c, clean) <= price]
    total = clean[0].rss / max(1 - clean[0].r2, 1e-300) if clean[0].r2 < 1 else None
    least = min((c.rss for c in rivals), default=math.inf)
    scale = max(c.rss for c in clean) if total is None else total
    if noise == 0:
        return least / scale > 1e-12
    return n * (least / scale) / noise**2 > 30


def _data(candidate: Candidate, _: list[Candidate]) -> float:
    """Bits of the data: by `DescriptionLength` they are the first loss."""
    return candidate.r2_loss


def fitted(curves: list[tuple[Tensor, Tensor]]) -> list[list[Candidate]]:
    x, y = (torch.stack([pair[k] for pair in curves], 1) for k in (0, 1))
    return fitted_candidates(x, y, "extended", scoring=DescriptionLength())


def recognition(draws: int, n: int, noise: float, seed: int) -> dict[str, Any]:
    """The table of one N and one noise."""
    print(f"\nN={n}, noise {noise}: right of identifiable (of all draws)", flush=True)
    results: dict[str, Any] = {}
    for name, family in FAMILIES.items():
        generator = torch.Generator().manual_seed(seed * 1000 + list(FAMILIES).index(name))

        def draw(low: float, high: float, source: torch.Generator = generator) -> float:
            return low + (high - low) * float(torch.rand((), generator=source, dtype=torch.float64))

        clean, noisy = [], []
        for _ in range(draws):
            x = family.low + (family.high - family.low) * torch.rand(n, generator=generator, dtype=torch.float64)
            y = math.copysign(draw(0.5, 3), draw(-1, 1)) * family.curve(x, draw) + draw(-2, 2)
            clean.append((x, y))
            noisy.append((x, y + noise * y.std() * torch.randn(n, generator=generator, dtype=torch.float64)))
        truth = fitted(clean)
        answers = fitted(noisy) if noise else truth
        can = [identifiable(family.names, found, noise, n) for found in truth]
        right = [family_of(found[0]) in family.names for found in answers]
        wrong = [family_of(found[0]) for found, ok, able in zip(answers, right, can, strict=True) if able and not ok]
        results[name] = {"draws": draws, "identifiable": sum(can), "right": sum(r and c for r, c in zip(right, can, strict=True)),
                         "right_of_all": sum(right), "instead": wrong}  # fmt: skip
        found = results[name]
        print(
            f"{name:16} {found['right']:4} of {found['identifiable']:3} ({found['right_of_all']:3} of {draws})  {' '.join(wrong)}",
            flush=True,
        )
    able = sum(r["identifiable"] for r in results.values())
    rate = sum(r["right"] for r in results.values()) / max(able, 1)
    print(f"{'together':16} {rate:.1%} of {able} identifiable; the bar is {BAR[noise]:.0%}", flush=True)
    return {"n": n, "noise": noise, "rate": rate, "identifiable": able, "bar": BAR[noise], "families": results}


def probe(n: int, noise: float, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    missed, tied = {}, []
    for name, (names, curve, low, high) in PROBE.items():
        x = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
        y = curve(x)
        y = y + noise * y.std() * torch.randn(n, generator=generator, dtype=torch.float64)
        found = fitted([(x, y)])[0]
        if family_of(found[0]) not in names:
            own = next(c for c in found if family_of(c) in names)
            missed[name] = family_of(found[0])
            tied += [name] if own.tied else []
    print(f"\nlist of {len(PROBE)}, N={n}, noise {noise}: {len(PROBE) - len(missed)} right")
    print(f"missed, with what was said: {missed}; of these tied: {tied}", flush=True)
    return {"n": n, "noise": noise, "right": len(PROBE) - len(missed), "of": len(PROBE), "missed": missed, "tied": tied}


def timing(repeats: int, seed: int) -> dict[str, Any]:
    """Seconds for the whole library on one edge of 1000 samples, after a first call."""
    generator = torch.Generator().manual_seed(seed)
    results = {}
    for lib in (None, "extended"):
        seconds = []
        for curve in (torch.sin, torch.exp, lambda u: 1 / (u + 4), lambda u: u.tanh() + 0.01 * torch.randn(u.shape, generator=generator)):
            x = 2 * torch.rand(1000, 1, generator=generator, dtype=torch.float64) - 1
            y = curve(3 * x)
            for k in range(repeats + 1):
                start = time.perf_counter()
                fitted_candidates(x, y, lib)
                seconds += [time.perf_counter() - start] if k else []
        results[lib or "pykan's"] = {"median": statistics.median(seconds), "largest": max(seconds)}
        median, largest = results[lib or "pykan's"].values()
        print(
            f"{lib or 'pykan names':12} {median:.4f} s per edge (median), {largest:.4f} s at most; the bar is {SECONDS_BAR} s", flush=True
        )
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20, help="curves of every family")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10, help="timed calls per curve")
    parser.add_argument("--samples", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--threads", type=int, default=1, help="threads that torch may use")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "edges.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    seconds = timing(arguments.repeats, arguments.seed)
    tables = [recognition(arguments.draws, n, noise, arguments.seed) for n in arguments.samples for noise in BAR]
    lists = [probe(n, noise, arguments.seed) for n in arguments.samples for noise in BAR]
    record = {
        "environment": surroundings(arguments.threads),
        "seed": arguments.seed,
        "seconds": seconds,
        "families": tables,
        "probe": lists,
    }
    write(record, arguments.output)


if __name__ == "__main__":
    main()
