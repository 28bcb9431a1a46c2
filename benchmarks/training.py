"""How training converges, beside pykan 0.2.8 where that has a counterpart, in one run on one machine.

``python benchmarks/training.py`` prints a line for every run, says which of our bars hold, and writes everything with the environment to
``benchmarks/results/training.json``. Everything is in float64.

Tasks
    ``order``
        ``exp(sin(pi x) + y^2)`` by [2, 1, 1], 3000 points, 5, 10, 20, 50 and 100 intervals, Levenberg-Marquardt. The test error after each
        number of intervals, and the slope of its logarithm over that of the intervals from 5 to 50.
    ``reach``
        the same function by [2, 5, 1] with 10 intervals, 1000 points: seconds until the test error is 1e-3, and the least one; here
        30 steps of Levenberg-Marquardt with 3 intervals and 30 with 10, in pykan 200 of L-BFGS with 10 (the least error is that of the
        first 100).
    ``shape``
        ``exp((sin(pi (x1^2 + x2^2)) + sin(pi (x3^2 + x4^2)))/2)`` from [4, 5, 2, 1], 3000 points: four sparse fits with pruning in between,
        then up to 50 intervals. The shape and the test error in the end.
    ``steps``
        50 steps of L-BFGS with ``lamb=0.001`` on the network of ``hellokan.ipynb``: steps per second, loss in the end.
    ``poisson``
        ``u_xx + u_yy = -2 pi^2 sin(pi x) sin(pi y)`` on [-1, 1]^2 with zeros around it, [2, 5, 1], 31^2 points: relative error in L2 on
        101^2 points, seconds until it is 1e-3.
    ``restarts``
        64 networks [2, 5, 1] on 1000 points, 20 steps of Levenberg-Marquardt: all at once, made and trained, and one after another (8 of
        them, which are made before).
    ``gallery``
        hostile data sets by L-BFGS, Adam and Levenberg-Marquardt (``tests/training/test_gallery.py``): failures.

Procedure
    Every run is a process of its own, on one seed; libraries take turns. Seconds are those of the calls, without imports. With ``--only``
    the records of the other tasks stay in the file as they are; each has its own environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import HERE, PYKAN, ROOT, python_of, surroundings, write, written

OURS, THEIRS = "kanonical", "pykan"
Figures = dict[str, Any]
LEVELS = [5, 10, 20, 50, 100]


# What runs in a process of its own, where `kan` is either library


def two_variables(count: int) -> Any:
    import torch

    from kan.utils import create_dataset

    return create_dataset(lambda x: torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2), n_var=2, train_num=count)


def order(seed: int) -> Figures:
    from kan import KAN

    model, data = KAN([2, 1, 1], grid=5, seed=seed, auto_save=False), two_variables(3000)
    begun = time.perf_counter()
    history = model.fit(data, opt="LM", steps=50, grids=LEVELS, progress=False)
    seconds = time.perf_counter() - begun
    errors = [history["test_loss"][(level + 1) * 50 - 1] for level in range(len(LEVELS))]
    return {"seconds": seconds, "errors": errors, "slope": slope(LEVELS[:4], errors[:4])}


def slope(grids: list[int], errors: list[float]) -> float:
    x, y = [math.log(g) for g in grids], [math.log(e) for e in errors]
    return statistics.linear_regression(x, y).slope


def reach(seed: int) -> Figures:
    import torch

    import kan

    theirs = "KANLinear" not in vars(kan)
    data, seen = two_variables(1000), []
    model = kan.KAN(width=[2, 5, 1], grid=10 if theirs else 3, k=3, seed=seed, auto_save=False)

    def error() -> torch.Tensor:
        with torch.no_grad():
            found = (model(data["test_input"]) - data["test_label"]).square().mean().sqrt()
        seen.append((time.perf_counter() - begun, float(found)))
        return found

    begun = time.perf_counter()
    method = {"opt": "LBFGS", "steps": 200} if theirs else {"opt": "LM", "steps": 30, "grids": [3, 10]}
    model.fit(data, metrics=(error,), **method)
    reached = [seconds for seconds, found in seen if found <= 1e-3]
    return {"seconds to 1e-3": reached[0] if reached else None, "seconds": seen[-1][0], "least": min(found for _, found in seen[:100])}


def shape(seed: int) -> Figures:
    import torch

    from kan import KAN
    from kan.utils import create_dataset

    def f(x: torch.Tensor) -> torch.Tensor:
        one, other = (torch.sin(torch.pi * (x[:, [i]] ** 2 + x[:, [i + 1]] ** 2)) for i in (0, 2))
        return torch.exp((one + other) / 2)

    data = create_dataset(f, n_var=4, train_num=3000)
    model = KAN([4, 5, 2, 1], grid=3, seed=seed, auto_save=False)
    begun = time.perf_counter()
    for lamb in (3e-4, 1e-3, 3e-3, 1e-3):
        model.fit(data, opt="LM", steps=40, lamb=lamb, stop_grid_update_step=25, progress=False)
        with contextlib.suppress(ValueError):  # nothing would be left
            model = model.prune(node_th=3e-2, edge_th=3e-2)
    history = model.fit(data, opt="LM", steps=80, grids=[5, 10, 20, 50], progress=False)
    return {"seconds": time.perf_counter() - begun, "width": model.width_in, "edges": model.n_edge, "error": history["test_loss"][-1]}


def steps(seed: int) -> Figures:
    from kan import KAN

    data = two_variables(1000)
    model = KAN(width=[2, 5, 1], grid=3, k=3, seed=seed, auto_save=False)
    model.fit(data, opt="LBFGS", steps=1, lamb=0.001)  # imports what it needs
    model = KAN(width=[2, 5, 1], grid=3, k=3, seed=seed, auto_save=False)
    begun = time.perf_counter()
    results = model.fit(data, opt="LBFGS", steps=50, lamb=0.001)
    seconds = time.perf_counter() - begun
    return {"steps per second": 50 / seconds, "loss": float(results["train_loss"][-1]), "reg": float(results["reg"][-1])}


def poisson(seed: int) -> Figures:
    import torch

    from kan import KAN, fit_residuals

    def grid(count: int) -> torch.Tensor:
        axis = torch.linspace(-1, 1, count)
        return torch.cartesian_prod(axis, axis)

    def truth(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(torch.pi * x[:, 0]) * torch.sin(torch.pi * x[:, 1])

    def equation(u: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        (slopes,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
        second = [torch.autograd.grad(slopes[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2)]
        return second[0] + second[1] + 2 * torch.pi**2 * truth(x)

    points, others = grid(31), grid(101)
    around = (points.abs() == 1).any(1)
    model, seen = KAN([2, 5, 1], grid=5, seed=seed, auto_save=False), []

    def look(step: int, value: float) -> None:
        with torch.no_grad():
            error = (model(others)[:, 0] - truth(others)).norm() / truth(others).norm()
        seen.append((time.perf_counter() - begun, float(error)))

    begun = time.perf_counter()
    fit_residuals(
        model, [equation, lambda u, x: u(x)], [points[~around], points[around]], steps=30, weights=[1, 1e3], grids=[5, 10, 20],
        callback=look,
    )  # fmt: skip
    reached = [seconds for seconds, found in seen if found <= 1e-3]
    return {"seconds to 1e-3": reached[0] if reached else None, "seconds": seen[-1][0], "error": seen[-1][1]}


def restarts(seed: int) -> Figures:
    from kan.network.network import Network
    from kan.training.fit import fit
    from kan.training.options import FitOptions

    data, count, alone = two_variables(1000), 64, 8
    single, several = (FitOptions("LM", steps=20, progress=False, restarts=number) for number in (1, count))

    def network(number: int) -> Network:
        return Network([2, 5, 1], grid=5, seed=number)

    fit(network(0), data, single)  # imports what it needs
    begun = time.perf_counter()
    history = fit(network(seed), data, several)
    together = time.perf_counter() - begun
    networks = [network(seed + number) for number in range(alone)]
    begun = time.perf_counter()
    losses = [fit(one, data, single)["train_loss"][-1] for one in networks]
    one_by_one = (time.perf_counter() - begun) / alone
    return {
        "networks per second": count / together,
        "one after another": 1 / one_by_one,
        "best": history["train_loss"][-1],
        "first": losses,
    }


def gallery(seed: int) -> Figures:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/training/test_gallery.py"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    return {"summary": done.stdout.splitlines()[-1], "failures": done.returncode}


# Bars, from the runs by library


def at_least(count: int, holds: list[bool]) -> tuple[str, bool]:
    return f"{sum(holds)} of {len(holds)}", sum(holds) >= count


def judge_order(runs: dict[str, list[Figures]]) -> dict[str, tuple[str, bool]]:
    ours = runs[OURS]
    return {
        "test error at most 2e-8 on 4 of 5 seeds": at_least(4, [run["errors"][-1] <= 2e-8 for run in ours]),
        "at most 5 s": at_least(len(ours), [run["seconds"] <= 5 for run in ours]),
        "slope at least 3.5 in magnitude": at_least(len(ours), [run["slope"] <= -3.5 for run in ours]),
    }


def judge_reach(runs: dict[str, list[Figures]]) -> dict[str, tuple[str, bool]]:
    ours = statistics.median(run["seconds to 1e-3"] or math.inf for run in runs[OURS])
    # Where pykan does not get there, its time is a lower bound.
    theirs = statistics.median(run["seconds to 1e-3"] or run["seconds"] for run in runs[THEIRS])
    return {
        "30 times as fast to 1e-3": (f"{theirs / ours:.1f}", theirs / ours >= 30),
        "error at most 1.5e-4": at_least(len(runs[OURS]), [run["least"] <= 1.5e-4 for run in runs[OURS]]),
    }


def judge_shape(runs: dict[str, list[Figures]]) -> dict[str, tuple[str, bool]]:
    minimal = [run["width"] == [4, 2, 1, 1] for run in runs[OURS]]
    return {
        "minimal shape on 3 of 5 seeds": at_least(3, minimal),
        "and error at most 5e-7": at_least(3, [m and run["error"] <= 5e-7 for m, run in zip(minimal, runs[OURS], strict=True)]),
    }


def judge_steps(runs: dict[str, list[Figures]]) -> dict[str, tuple[str, bool]]:
    ratio = statistics.median(r["steps per second"] for r in runs[OURS]) / statistics.median(r["steps per second"] for r in runs[THEIRS])
    losses = [statistics.median(run["loss"] for run in found) for found in (runs[OURS], runs[THEIRS])]
    return {
        "20 times as many steps per second": (f"{ratio:.1f}", ratio >= 20),
        "loss no worse": (f"{losses[0]:.2e} and {losses[1]:.2e}", losses[0] <= losses[1]),
    }


def judge_poisson(runs: dict[str, list[Figures]]) -> dict[str, tuple[str, bool]]:
    good = [run["error"] <= 1e-3 and run["seconds"] <= 10 for run in runs[OURS]]
    return {"error at most 1e-3 in 10 s": at_least(len(good), good)}


def judge_restarts(runs: dict[str, list[Figures]]) -> dict[str, tuple[str, bool]]:
    ratio = statistics.median(run["networks per second"] / run["one after another"] for run in runs[OURS])
    return {"10 times the throughput": (f"{ratio:.1f}", ratio >= 10)}


def judge_gallery(runs: dict[str, list[Figures]]) -> dict[str, tuple[str, bool]]:
    return {"no failure": (runs[OURS][0]["summary"], runs[OURS][0]["failures"] == 0)}


@dataclass(frozen=True)
class Task:
    """What is run on which seeds, whether pykan does it too, and what is expected."""

    run: Callable[[int], Figures]
    judge: Callable[[dict[str, list[Figures]]], dict[str, tuple[str, bool]]]
    seeds: int = 5
    both: bool = False


TASKS = {
    "order": Task(order, judge_order),
    "reach": Task(reach, judge_reach, seeds=3, both=True),
    "shape": Task(shape, judge_shape),
    "steps": Task(steps, judge_steps, seeds=3, both=True),
    "poisson": Task(poisson, judge_poisson),
    "restarts": Task(restarts, judge_restarts, seeds=3),
    "gallery": Task(gallery, judge_gallery, seeds=1),
}


# What runs in the first process


def turn(name: str, python: str, task: str, seed: int, arguments: argparse.Namespace) -> Figures:
    """One run of a library, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {**os.environ, "PYTHONPATH": str(ROOT) if name == OURS else ""}
        command = [python, str(Path(__file__).resolve()), "--serve", task, "--seed", str(seed), "--threads", str(arguments.threads)]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=arguments.limit)
    if done.returncode:
        raise RuntimeError(f"{name} failed in {task}, seed {seed}: {done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def serve(task: str, seed: int, threads: int) -> Figures:
    """The figures of this process."""
    import matplotlib

    matplotlib.use("Agg")
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(threads)
    return TASKS[task].run(seed)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="TASK", choices=list(TASKS), help="names of tasks")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads that torch may use")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds that a run may take")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "pykan-environment", help="where pykan is installed")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "training.json")
    parser.add_argument("--serve", choices=list(TASKS), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
            figures = serve(arguments.serve, arguments.seed, arguments.threads)
        print(json.dumps(figures))
        return

    pythons = {OURS: sys.executable, THEIRS: python_of(PYKAN, arguments.environment)}
    records = []
    for name, task in TASKS.items():
        if arguments.only is not None and name not in arguments.only:
            continue
        libraries = [OURS, THEIRS] if task.both else [OURS]
        runs: dict[str, list[Figures]] = {library: [] for library in libraries}
        for seed in range(task.seeds):
            for library in libraries:
                runs[library].append(turn(library, pythons[library], name, seed, arguments))
                print(f"{name:9} {library:10} seed {seed}: {runs[library][-1]}", flush=True)
        bars = {bar: {"measured": found, "holds": holds} for bar, (found, holds) in task.judge(runs).items()}
        for bar, entry in bars.items():
            print(f"{name:9} {'holds ' if entry['holds'] else 'MISSED'} {bar}: {entry['measured']}", flush=True)
        where = {**surroundings(arguments.threads), "pykan": PYKAN.version}
        records.append({"task": name, "environment": where, "runs": runs, "bars": bars})
    done = {record["task"]: record for record in (*written(arguments.output), *records)}
    write({"records": [done[name] for name in TASKS if name in done]}, arguments.output)


if __name__ == "__main__":
    main()
