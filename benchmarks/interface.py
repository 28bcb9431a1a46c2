"""What one does with a KAN, beside pykan 0.2.8, in one run on one machine.

``python benchmarks/interface.py`` prints a table, says which of our bars hold, and writes everything with the environment to
``benchmarks/results/interface.json``. All networks are as constructed, with default flags but ``auto_save=False``, in float32.

Workloads
    ``forward``, ``attribute``, ``plot``, ``auto_swap``
        the call alone, on a network that has seen its samples. What pykan's forward pass stores for attribution and plots, ours computes
        in those calls.
    ``scores``
        ``get_act`` of the samples and ``attribute``: the same from the data on, wherever the work is done.
    ``step``
        ``fit`` with one step of L-BFGS, ``lamb=0.01``, without grid update; up to 25 evaluations of objective and gradient.
    ``prune``
        with ``auto_save=True``, since pykan's cannot go without a folder; both save the new version.
    ``memory``
        the same step on a large network. The high-water mark of resident memory at its end minus that after the import, in a process that
        does nothing else; 1 MB is 10^6 bytes. The bar is the share of pykan's.

Procedure
    Both libraries are called `kan` and have an environment and processes of their own. In every turn each of them runs in a fresh process
    that repeats the call for some seconds, on a fresh network every time, after one repetition that does not count. Figures are medians
    over all turns, ratios are ratios of medians. Only memory is measured in the first repetition. With ``--only`` the records of the other
    workloads stay in the file as they are; each has its own environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from environments import HERE, PYKAN, ROOT, python_of, surroundings, write, written

Data = dict[str, Any]
OURS, THEIRS = "kanonical", "pykan"


@dataclass(frozen=True)
class Workload:
    """A call on a network, and how many times faster than pykan's ours should be (how many times smaller, for memory)."""

    name: str
    width: list[int]
    samples: int
    at_least: float
    call: str
    auto_save: bool = False

    @property
    def unit(self) -> str:
        return "MB" if self.name == "memory" else "ms"


WORKLOADS = [
    Workload("forward", [4, 10, 10, 1], 1000, 10, "forward"),
    Workload("step", [4, 5, 5, 1], 1000, 15, "step"),
    Workload("attribute", [100, 10, 10, 1], 1000, 10, "attribute"),
    Workload("scores", [100, 10, 10, 1], 1000, 10, "scores"),
    Workload("plot", [4, 10, 10, 1], 1000, 10, "plot"),
    Workload("prune", [4, 10, 10, 1], 1000, 10, "prune", auto_save=True),
    Workload("auto_swap", [9, 10, 10, 1], 1000, 50, "auto_swap"),
    Workload("memory", [8, 16, 32, 16, 8, 1], 10_000, 10, "step"),
]


def plot(model: Any, data: Data) -> None:
    import matplotlib.pyplot as plt

    model.plot()
    plt.close("all")


def step(model: Any, data: Data) -> None:
    model.fit(data, opt="LBFGS", steps=1, lamb=0.01, update_grid=False)


def scores(model: Any, data: Data) -> None:
    model.get_act(data["train_input"])
    model.attribute()


CALLS: dict[str, Callable[[Any, Data], Any]] = {
    "forward": lambda model, data: model(data["train_input"]),
    "step": step,
    "attribute": lambda model, data: model.attribute(),
    "scores": scores,
    "plot": plot,
    "prune": lambda model, data: model.prune(),
    "auto_swap": lambda model, data: model.auto_swap(),
}


# What runs in a process of its own, where `kan` is either library


def prepared(workload: Workload) -> tuple[Any, Data]:
    """A network that has seen its samples, and a data set with them; the same in both libraries."""
    import torch

    from kan import KAN
    from kan.utils import create_dataset

    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)

    data = create_dataset(f, n_var=workload.width[0], train_num=workload.samples, test_num=workload.samples)
    model = KAN(width=list(workload.width), seed=0, auto_save=workload.auto_save)
    if workload.name != "memory":
        model(data["train_input"])
    return model, data


def durations(workload: Workload, seconds: float, least: int) -> list[float]:
    """Milliseconds of every repetition but the first."""
    found: list[float] = []
    begun = time.perf_counter()
    while len(found) <= least or time.perf_counter() - begun < seconds:
        model, data = prepared(workload)
        start = time.perf_counter()
        CALLS[workload.call](model, data)
        found.append(1e3 * (time.perf_counter() - start))
    return found[1:]


def high_water_mark() -> float:
    """Of the resident memory of this process, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # what `resource` says there may be the parent's
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def serve(workload: Workload, seconds: float, least: int, threads: int) -> dict[str, Any]:
    """The figures of one process."""
    import matplotlib

    matplotlib.use("Agg")
    import torch

    import kan

    torch.set_num_threads(threads)
    if workload.call not in ("step", "scores", *dir(kan.KAN)):
        return {"failure": f"there is no KAN.{workload.call}"}
    if workload.name != "memory":
        return {"figures": durations(workload, seconds, least)}
    baseline = high_water_mark()
    model, data = prepared(workload)
    CALLS[workload.call](model, data)
    return {"figures": [high_water_mark() - baseline], "baseline": baseline}


# What runs in the first process


def turn(name: str, python: str, workload: Workload, arguments: argparse.Namespace) -> dict[str, Any]:
    """One process of a library, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {**os.environ, "PYTHONPATH": str(ROOT) if name == OURS else ""}
        command = [python, str(Path(__file__).resolve()), "--serve", workload.name, "--threads", str(arguments.threads)]
        command += ["--seconds", str(arguments.seconds), "--least", str(arguments.least)]
        try:
            done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=arguments.limit)
        except subprocess.TimeoutExpired:
            return {"failure": f"no answer within {arguments.limit:g} s"}
    if done.returncode:
        return {"failure": (done.stderr.splitlines() or ["the process ended without a word"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure(workload: Workload, pythons: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """A workload's record."""
    figures: dict[str, list[float]] = {name: [] for name in pythons}
    stopped: dict[str, str] = {}
    for _ in range(arguments.turns):
        for name, python in pythons.items():
            if name not in stopped:
                answer = turn(name, python, workload, arguments)
                figures[name] += answer.get("figures", [])
                if "failure" in answer:
                    stopped[name] = answer["failure"]
    results = {name: summary(found) for name, found in figures.items() if found}
    record: dict[str, Any] = {"workload": asdict(workload), "unit": workload.unit, "results": results, "stopped": stopped}
    if len(results) == 2:
        ratio = results[THEIRS]["median"] / results[OURS]["median"]
        record |= {"ratio": ratio, "holds": ratio >= workload.at_least}
    return record


def summary(figures: list[float]) -> dict[str, Any]:
    quartiles = statistics.quantiles(figures, n=4) if len(figures) > 1 else figures * 3
    return {"median": statistics.median(figures), "quartiles": [quartiles[0], quartiles[2]], "repetitions": len(figures)}


def show(record: dict[str, Any]) -> None:
    workload, results = record["workload"], record["results"]
    medians = [f"{results[name]['median']:10.2f}" if name in results else f"{'':>10}" for name in (OURS, THEIRS)]
    ratio = f"{record['ratio']:8.1f} {'holds' if record['holds'] else 'MISSED'} ({workload['at_least']:g})" if "ratio" in record else ""
    reasons = "; ".join(f"{name} stopped: {reason}" for name, reason in record["stopped"].items())
    print(f"{workload['name']:10} {workload['width']!s:22} {record['unit']:3} {' '.join(medians)} {ratio} {reasons}", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", choices=[w.name for w in WORKLOADS], help="names of workloads")
    parser.add_argument("--turns", type=int, default=3, help="processes of each library for every workload")
    parser.add_argument("--seconds", type=float, default=5.0, help="of repetitions in every process")
    parser.add_argument("--least", type=int, default=3, help="repetitions in every process, however long they take")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads that torch may use")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds that a process may take")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "pykan-environment", help="where pykan is installed")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "interface.json")
    parser.add_argument("--serve", choices=[w.name for w in WORKLOADS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        workload = next(w for w in WORKLOADS if w.name == arguments.serve)
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
            answer = serve(workload, arguments.seconds, arguments.least, arguments.threads)
        print(json.dumps(answer))
        return

    pythons = {OURS: sys.executable, THEIRS: python_of(PYKAN, arguments.environment)}
    print(f"{'medians':10} {'':22} {'':3} {OURS:>10} {THEIRS:>10} {'ratio':>8}")
    records = []
    for workload in WORKLOADS:
        if arguments.only is None or workload.name in arguments.only:
            records.append(measure(workload, pythons, arguments))
            show(records[-1])
    settings = {name: getattr(arguments, name) for name in ("turns", "seconds", "least", "limit")}
    where = {**surroundings(arguments.threads), "pykan": PYKAN.version}
    records = [{**record, "environment": where, "settings": settings} for record in records]
    done = {record["workload"]["name"]: record for record in (*written(arguments.output), *records)}
    write({"records": [done[w.name] for w in WORKLOADS if w.name in done]}, arguments.output)


if __name__ == "__main__":
    main()
