"""Does `kan.discover` say "exact" of what is not? Data that no formula explains, or none that was seen, and what is said of them.

``python benchmarks/verdict_traps.py`` runs every trap in a process of its own and writes ``benchmarks/results/verdict_traps.json``. A trap
is a data set with, where there is one, the function that made it. "exact" has no ground where there is no such function, and where the
formula misses it by more than a millionth of its spread on more than one in a hundred fresh points of the same box. A formula that is
called "within noise" is compared with the function likewise: it may miss it by the noise.

Kinds: labels far from zero, over decades, in extreme units; few different rows; outermost rows that disagree; fill values; outliers; noise
that is told; narrow inputs; pure noise; tables, steps and rounded labels; special functions; chaotic series; small terms; kinks; columns
that depend on each other.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.special as special
import sympy
from environments import HERE, surroundings

RESULT = HERE / "results" / "verdict_traps.json"
FRESH = 2000
MISSED = 1e-6
"""Share of the truth's spread that an exact formula may miss on fresh points: far above round-off, far below any real difference."""

Array = Any


class Trap(NamedTuple):
    """Data, the function behind them if there is one, and options of `kan.discover`."""

    kind: str
    name: str
    x: Array
    y: Array
    truth: Callable[[Array], Array] | None = None
    fresh: Array = None
    noise: float = 0.0
    options: dict[str, Any] = {}


def box(rows: int, ranges: list[tuple[float, float]], seed: int) -> Array:
    """Rows ``(rows, columns)`` that are uniform in the ranges of the columns."""
    low, high = np.array(ranges).T
    return np.random.default_rng(seed).uniform(low, high, (rows, len(ranges)))


def seen(
    kind: str,
    name: str,
    f: Callable[[Array], Array],
    ranges: list[tuple[float, float]],
    rows: int = 300,
    noise: float = 0.0,
    change: Callable[[Array, Array, Any], Array] | None = None,
    **options: Any,
) -> Trap:
    """A function of a box, with noise as a share of its spread, or with labels that something has changed."""
    x, random = box(rows, ranges, 1), np.random.default_rng(2)
    y = f(x)
    sigma = noise * float(np.std(y))
    y = y + sigma * random.normal(size=rows)
    if change is not None:
        y = change(x, y, random)
    return Trap(kind, name, x, y, f, box(FRESH, ranges, 3), sigma, options)


def unseen(kind: str, name: str, x: Array, y: Array, **options: Any) -> Trap:
    """Labels without a function that could be found."""
    return Trap(kind, name, np.asarray(x, float).reshape(len(y), -1), np.asarray(y, float), options=options)


def outlying(share: float, size: float) -> Callable[[Array, Array, Any], Array]:
    """Single labels far from the others."""

    def change(x: Array, y: Array, random: Any) -> Array:
        rows = random.choice(len(y), max(1, round(share * len(y))), replace=False)
        return np.concatenate([y])[:] + np.isin(np.arange(len(y)), rows) * size * random.normal(size=len(y))

    return change


def filled(share: float, value: float) -> Callable[[Array, Array, Any], Array]:
    """Labels with a fill value."""
    return lambda x, y, random: np.where(random.random(len(y)) < share, value, y)


def logistic(count: int, r: float = 3.99) -> Array:
    """The logistic map."""
    values = [0.3]
    for _ in range(count - 1):
        values.append(r * values[-1] * (1 - values[-1]))
    return np.array(values)


def collatz(n: int) -> int:
    """Steps of the Collatz sequence."""
    steps = 0
    while n > 1:
        n, steps = n // 2 if n % 2 == 0 else 3 * n + 1, steps + 1
    return steps


def all_traps() -> list[Trap]:
    """All data sets of the gallery."""
    random = np.random.default_rng(0)
    one, two, unit, square = [(1.0, 2.0)], [(1.0, 2.0)] * 2, [(0.0, 1.0)], [(0.0, 1.0)] * 2
    primes = list(sympy.primerange(2, 200))
    found: list[Trap] = []

    for offset, width in ((1e5, 1.0), (1.7e9, 0.1), (1e12, 10.0), (-3e7, 1e-3), (2e15, 4.0)):
        found.append(unseen("offset", f"{offset:g} and noise of {width:g}", box(300, unit, 4), offset + width * random.normal(size=300)))
    for offset, width in ((1e4, 1e-3), (1e7, 1e-4), (1e9, 1.0), (1e10, 1e-5)):
        found.append(
            seen("offset", f"{offset:g} + {width:g} sin(6 a) b", lambda x, o=offset, w=width: o + w * np.sin(6 * x[:, 0]) * x[:, 1], square)
        )
    found.append(seen("offset", "1e6 + erf", lambda x: 1e6 + special.erf(x[:, 0]), [(-2.0, 2.0)]))

    def lennard_jones(x: Array) -> Array:
        return 4 * (np.exp(x[:, 0]) ** -12 - np.exp(x[:, 0]) ** -6)

    radii = box(400, [(np.log(0.02), np.log(3))], 5)
    found.append(Trap("decades", "Lennard-Jones", np.exp(radii), lennard_jones(radii), lambda x: lennard_jones(np.log(x)),
                      np.exp(box(FRESH, [(np.log(0.02), np.log(3))], 6))))  # fmt: skip
    for name, f, ranges in (
        ("exp(60 a) + 5 a^3", lambda x: np.exp(60 * x[:, 0]) + 5 * x[:, 0] ** 3, unit),
        ("exp(40 a) + sin(9 b)", lambda x: np.exp(40 * x[:, 0]) + np.sin(9 * x[:, 1]), square),
        ("1/a^8 + cos(5 a)", lambda x: x[:, 0] ** -8.0 + np.cos(5 * x[:, 0]), [(0.02, 2.0)]),
        ("a^12 + b", lambda x: x[:, 0] ** 12 + x[:, 1], [(0.1, 10.0)] * 2),
        ("10^(8 a) erf(b)", lambda x: 10 ** (8 * x[:, 0]) * special.erf(x[:, 1]), square),
        ("exp(exp(3 a)) + a", lambda x: np.exp(np.exp(3 * x[:, 0])) + x[:, 0], unit),
    ):
        found.append(seen("decades", name, f, ranges))

    for power in (-300, -170, 170, 300):
        found.append(unseen("extreme units", f"noise times 1e{power}", box(300, two, 7), 10.0**power * random.uniform(0.1, 1, 300)))

    for levels, repeats, seed in ((4, 75, 1), (5, 40, 2), (6, 30, 3), (7, 30, 4), (8, 10, 5), (8, 40, 6), (10, 30, 7), (12, 10, 8)):
        x = np.repeat(np.linspace(1, 2, levels), repeats)
        found.append(unseen("few different rows", f"{levels} values of noise, each {repeats} times", x,
                            np.repeat(np.random.default_rng(seed).normal(size=levels), repeats)))  # fmt: skip
    for count in (5, 6, 8, 10, 12, 20):
        found.append(unseen("few different rows", f"the first {count} primes", np.arange(1.0, count + 1), primes[:count]))
    for rows, columns in ((3, 1), (4, 2), (6, 1), (8, 2), (12, 2), (15, 3), (20, 4)):
        found.append(unseen("few different rows", f"noise, {rows} rows, {columns} column(s)", random.uniform(size=(rows, columns)),
                            random.normal(size=rows)))  # fmt: skip
    found.append(unseen("few different rows", "8 planets, random periods", np.array([0.39, 0.72, 1, 1.52, 5.2, 9.58, 19.2, 30.1]),
                        random.uniform(0.2, 160, 8)))  # fmt: skip
    found.append(unseen("few different rows", "nearly all rows in one point", np.r_[random.uniform(1, 2, 8), np.ones(992)],
                        np.r_[random.normal(size=8), np.ones(992)]))  # fmt: skip
    found.append(unseen("few different rows", "a lattice of 3 by 3", np.array([[a, b] for a in range(3) for b in range(3)] * 20),
                        np.tile(random.normal(size=9), 20)))  # fmt: skip

    for name, f, ranges in (
        ("x^2, clipped at 2.5", lambda x: np.minimum(x[:, 0] ** 2, 2.5), [(-1.7, 1.7)]),
        ("x, clipped at the ends", lambda x: np.clip(x[:, 0], -0.97, 0.97), [(-1.0, 1.0)]),
        ("a b, saturated at the border", lambda x: np.where(np.abs(2 * x - 1).max(1) > 0.985, 5.0, x[:, 0] * x[:, 1]), square),
        ("sin, 0 beyond 2.9", lambda x: np.where(np.abs(x[:, 0]) > 2.9, 0.0, np.sin(x[:, 0])), [(-3.0, 3.0)]),
        ("exp, then a line", lambda x: np.where(x[:, 0] > 1.95, 8 * x[:, 0], np.exp(x[:, 0])), [(0.0, 2.0)]),
        ("a/b, limited", lambda x: np.minimum(x[:, 0] / x[:, 1], 1.8), two),
    ):
        found.append(seen("outermost rows", name, f, ranges, rows=600))

    for share, value in ((0.1, -999.0), (0.02, -9999.0), (0.1, 9.96921e36), (0.003, 1e20), (0.2, -1e34), (0.05, 1e6)):
        name = f"a b with {value:g} in {share:.1%}"
        found.append(seen("fill value", name, lambda x: x[:, 0] * x[:, 1], two, change=filled(share, value)))
    found.append(seen("fill value", "noise with one 1e12", lambda x: 0 * x[:, 0], two,
                      change=lambda x, y, r: np.where(np.arange(len(y)) == 7, 1e12, r.normal(size=len(y)))))  # fmt: skip
    for share, size in ((0.0025, 1.0), (0.02, 3.0), (0.02, 100.0), (0.05, 10.0), (0.1, 3.0)):
        found.append(seen("outliers", f"a sin(3 b), {share:.1%} of size {size:g}", lambda x: x[:, 0] * np.sin(3 * x[:, 1]), two, rows=400,
                          change=outlying(share, size)))  # fmt: skip

    for noise in (0.5, 1.0, 10.0):
        found.append(seen("noise that is told", f"0.3 sin(3 a) b, noise {noise:g}", lambda x: 0.3 * np.sin(3 * x[:, 0]) * x[:, 1],
                          square, change=lambda x, y, r, s=noise: y + s * r.normal(size=len(y)))._replace(
                              noise=noise, options={"noise": noise}))  # fmt: skip

    for name, f, ranges in (
        ("Planck", lambda x: 1 / (np.exp(1000 / x[:, 0]) - 1), [(300.0, 300.05)]),
        ("sin at 1000", lambda x: np.sin(x[:, 0] / 100), [(1000.0, 1000.1)]),
        ("Gamma at 5", lambda x: special.gamma(x[:, 0]), [(5.0, 5.001)]),
        ("J0 at 20", lambda x: special.j0(x[:, 0]), [(20.0, 20.002)]),
        ("erf at 1", lambda x: special.erf(x[:, 0]), [(1.0, 1.0003)]),
        ("vapour pressure", lambda x: 10 ** (8.07 - 1730 / (233 + x[:, 0])), [(20.0, 20.01)]),
        ("zeta times b", lambda x: special.zeta(x[:, 0]) * x[:, 1], [(3.0, 3.0005), (1.0, 2.0)]),
    ):
        found.append(seen("narrow inputs", name, f, ranges))

    for rows, columns, seed in ((30, 1, 1), (100, 2, 2), (300, 3, 3), (1000, 4, 4), (300, 6, 5)):
        found.append(unseen("noise", f"normal, {rows} rows, {columns} column(s)", box(rows, [(1.0, 2.0)] * columns, seed),
                            np.random.default_rng(seed).normal(size=rows)))  # fmt: skip
    for name, y in (
        ("uniform", random.random(300)), ("Cauchy", random.standard_cauchy(300)), ("exponential", random.exponential(size=300)),
        ("log-normal, wide", random.lognormal(0, 4, 300)), ("signs", random.choice([-1.0, 1.0], 300)),
        ("counts", random.poisson(3, 300)), ("a random walk", np.cumsum(random.normal(size=300))),
    ):  # fmt: skip
        found.append(unseen("noise", name, np.arange(300.0) if "walk" in name else box(300, two, 8), y))

    for name, f, ranges in (
        ("floor", lambda x: np.floor(x[:, 0]), [(0.0, 5.0)]), ("sign", lambda x: np.sign(x[:, 0]), [(-1.0, 1.0)]),
        ("one step", lambda x: (x[:, 0] > 0.3) * 1.0, [(-1.0, 1.0)]), ("a modulo 1", lambda x: x[:, 0] % 1, [(0.0, 4.0)]),
        ("round(a) b", lambda x: np.round(x[:, 0]) * x[:, 1], [(0.0, 3.0), (1.0, 2.0)]),
        ("a step times b", lambda x: np.where(x[:, 0] > 1.5, x[:, 1], 2 * x[:, 1]), two),
        ("a stair in two columns", lambda x: np.floor(3 * x[:, 0]) + np.floor(3 * x[:, 1]), square),
    ):  # fmt: skip
        found.append(seen("tables and steps", name, f, ranges))
    for levels in (4, 10, 30):
        x = random.integers(0, levels, 300)
        found.append(unseen("tables and steps", f"a table of {levels} values", x, random.normal(size=levels)[x]))
    for digits in (1, 2, 4, 6, 8):
        found.append(seen("tables and steps", f"a b^2/2, rounded to {digits} digits", lambda x: x[:, 0] * x[:, 1] ** 2 / 2, two,
                          change=lambda x, y, r, d=digits: np.round(y, d))._replace(noise=10.0**-digits))  # fmt: skip
    found.append(seen("tables and steps", "exp(a), in 256 steps", lambda x: np.exp(x[:, 0]), one,
                      change=lambda x, y, r: np.floor(y * 32) / 32)._replace(noise=1 / 32))  # fmt: skip
    found.append(seen("tables and steps", "a b in single precision", lambda x: x[:, 0] * x[:, 1] + np.sin(x[:, 0]), two,
                      change=lambda x, y, r: y.astype(np.float32).astype(float))._replace(noise=1e-7))  # fmt: skip

    for name, f, ranges in (
        ("erf", lambda x: special.erf(x[:, 0]), [(-2.0, 2.0)]), ("J0", lambda x: special.j0(x[:, 0]), [(0.0, 8.0)]),
        ("Gamma times b", lambda x: special.gamma(x[:, 0]) * x[:, 1], [(0.5, 3.0), (1.0, 2.0)]),
        ("Airy", lambda x: special.airy(x[:, 0])[0], [(-5.0, 2.0)]), ("Lambert W", lambda x: special.lambertw(x[:, 0]).real, [(0.0, 5.0)]),
        ("elliptic K", lambda x: special.ellipk(x[:, 0]), [(0.0, 0.9)]), ("digamma", lambda x: special.digamma(x[:, 0]), [(1.0, 5.0)]),
        ("sine integral", lambda x: special.sici(x[:, 0])[0], [(0.1, 9.0)]), ("Dawson", lambda x: special.dawsn(x[:, 0]), [(0.0, 3.0)]),
        ("zeta", lambda x: special.zeta(x[:, 0]), [(1.5, 5.0)]),
        ("J1(a) b", lambda x: special.j1(x[:, 0]) * x[:, 1], [(0.0, 9.0), (1.0, 2.0)]),
        ("dilogarithm", lambda x: special.spence(x[:, 0]), [(0.1, 2.0)]),
    ):  # fmt: skip
        found.append(seen("special functions", name, f, ranges))

    found.append(unseen("chaos", "logistic map", np.arange(300.0), logistic(300)))
    found.append(unseen("chaos", "logistic map, from 12 values before", logistic(312)[:300], logistic(312)[12:]))
    found.append(unseen("chaos", "digits of pi", np.arange(200.0), [int(d) for d in str(sympy.N(sympy.pi, 201)).replace(".", "")[:200]]))
    found.append(unseen("chaos", "gaps of primes", np.arange(1.0, 41.0), np.diff(primes[:41])))
    found.append(unseen("chaos", "Collatz steps", np.arange(1.0, 201.0), [collatz(n) for n in range(1, 201)]))
    found.append(unseen("chaos", "pseudo-random numbers", np.arange(300.0), [(1103515245 * n * n + 12345) % 2**31 for n in range(300)]))
    found.append(unseen("chaos", "divisors", np.arange(1.0, 201.0), [sympy.divisor_count(n) for n in range(1, 201)]))

    for share in (1e-4, 1e-7, 1e-10, 1e-12):
        found.append(
            seen(
                "small terms", f"a b^2/2 + {share:g} sin(7 a)", lambda x, s=share: x[:, 0] * x[:, 1] ** 2 / 2 + s * np.sin(7 * x[:, 0]), two
            )._replace(noise=share)
        )
        found.append(seen("small terms", f"exp(a) and noise of {share:g}", lambda x: np.exp(x[:, 0]), one, noise=share))
    for name, f, ranges in (
        ("max(a, 0)", lambda x: np.maximum(x[:, 0], 0), [(-1.0, 1.0)]), ("max(a, b)", lambda x: np.maximum(x[:, 0], x[:, 1]), two),
        ("a hinge", lambda x: np.maximum(x[:, 0] - 0.3, 0) + x[:, 0], [(-1.0, 1.0)]),
        ("a^2 below 0, a^3 above", lambda x: np.where(x[:, 0] < 0, x[:, 0] ** 2, x[:, 0] ** 3), [(-1.0, 1.0)]),
        ("a triangle wave", lambda x: np.abs(x[:, 0] % 2 - 1), [(0.0, 6.0)]),
    ):  # fmt: skip
        found.append(seen("kinks", name, f, ranges))
    third = box(300, one, 9)[:, 0]
    found.append(Trap("dependent columns", "b = a^2, a b", np.stack([third, third**2], 1), third**3, lambda x: x[:, 0] * x[:, 1],
                      box(FRESH, two, 10)))  # fmt: skip
    found.append(unseen("dependent columns", "b = a + noise, noise", np.stack([third, third + 1e-9 * random.normal(size=300)], 1),
                        random.normal(size=300)))  # fmt: skip
    return found


def judged(trap: Trap, seconds: float) -> dict[str, Any]:
    """What is said, and whether it has ground."""
    import kan

    record: dict[str, Any] = {"kind": trap.kind, "trap": trap.name, "rows": len(trap.y), "columns": trap.x.shape[1]}
    begun = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kan.discover(trap.x, trap.y, time_limit=seconds, progress=False, **trap.options)
    except Exception as error:
        return {**record, "verdict": "crash", "says": f"{type(error).__name__}: {error}"[:200], "without_ground": False}
    record |= {"seconds": time.perf_counter() - begun, "verdict": found[0].verdict, "says": str(found[0])[:200]}
    claims = [law for law in found if law.verdict == "exact"]
    record["claims"] = len(claims)
    record["without_ground"] = any(not grounded(trap, law.formula, found.variables, MISSED, 0.01) for law in claims)
    if found[0].verdict == "within noise":
        record["noise_without_ground"] = not grounded(trap, found[0].formula, found.variables, MISSED, 0.05, trap.noise)
    return record


def grounded(trap: Trap, formula: Any, symbols: Any, share: float, most: float, noise: float = 0.0) -> bool:
    """Whether a formula is the function behind the data on fresh points, but for a share of the spread, the noise, and few points."""
    if trap.truth is None:
        return False
    with np.errstate(all="ignore"):
        truth = trap.truth(trap.fresh)
        values = np.broadcast_to(sympy.lambdify(symbols, formula, "numpy")(*trap.fresh.T), truth.shape)
        allowed = share * np.minimum(np.abs(truth - np.median(truth)) + np.median(np.abs(truth - np.median(truth))), np.std(truth)) + noise
        allowed = allowed + 8 * np.finfo(float).eps * np.abs(truth)
        return bool(np.mean(~(np.abs(values - truth) <= allowed)) <= most)


def _run(task: tuple[int, float]) -> dict[str, Any]:
    return judged(all_traps()[task[0]], task[1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="time limit of a search")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="kinds")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    traps = all_traps()
    chosen = [i for i, trap in enumerate(traps) if trap.kind in (arguments.only or [trap.kind])]
    records = []
    with multiprocessing.get_context("spawn").Pool(arguments.jobs, maxtasksperchild=1) as pool:
        for record in pool.imap(_run, [(i, arguments.seconds) for i in chosen]):
            records.append(record)
            mark = "WITHOUT GROUND" if record["without_ground"] else "wrong in noise" if record.get("noise_without_ground") else ""
            print(f"{record['kind']:20} {record['trap']:42} {record['verdict']:14} {mark:15} {record['says'][:110]}", flush=True)
    counts = {
        "traps": len(records),
        "verdicts": dict(Counter(record["verdict"] for record in records)),
        "exact": sum(record.get("claims", 0) > 0 for record in records),
        "exact_without_ground": sum(record["without_ground"] for record in records),
        "within_noise_without_ground": sum(bool(record.get("noise_without_ground")) for record in records),
        "crashes": sum(record["verdict"] == "crash" for record in records),
    }
    print(json.dumps(counts, indent=1))
    head = {"seconds": arguments.seconds, "environment": surroundings(1), **counts}
    arguments.out.write_text(json.dumps({**head, "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
