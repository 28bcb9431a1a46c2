"""What becomes of checkpoints when things go wrong, and what saving costs when they go well.

``python benchmarks/durability.py`` prints a line for every run, says which of our bars hold, and writes everything with the environment to
``benchmarks/results/durability.json``. The runs are those of ``tests/checkpoint/durability.py`` and ``tests/checkpoint/hostile.py``, which
the tests make in small; it needs Linux, and for the full disks the right to mount file systems of its own.

Tasks
    ``kills``
        200 processes that save all the time, killed by SIGKILL at random moments: versions of one model, with changes and rewinds; with
        ``keep=3``; with new models in the same folder; one checkpoint over the other; one single file over the other. After each,
        everything that is listed is loaded and compared, and the next process goes on.
    ``writers``
        two processes that save 100 versions each in one folder, of new models or of one version that both have loaded.
    ``outages``
        a file system that fills up to different levels, with and without ``keep``; a limit on the size of files; a folder that becomes
        read-only. Training goes on, with one warning; nothing is lost; saving goes on when there is room.
    ``hostile``
        damaged and hostile files: executed, taken for what they are not, refused by name.
    ``cost``
        saving's share of the time of a fit. ``fsync`` is what the system took to make files survive a loss of power, out of the seconds of
        saving.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from environments import HERE, ROOT, surroundings, write, written

sys.path.insert(0, str(ROOT))

Figures = dict[str, Any]
Bars = dict[str, tuple[str, bool]]
SEED = 20261121


def kills(folder: Path) -> Figures:
    from tests.checkpoint.durability import run

    return run("kills", folder / "kills", count=200, seed=SEED)


def judge_kills(found: Figures) -> Bars:
    return {
        "200 kills, nothing lost or unreadable": (f"{len(found['trouble'])} of {found['kills']} with trouble", not found["trouble"]),
        "a quarter or more hit a save": (f"{found['in the middle of a save']}", found["in the middle of a save"] >= 50),
    }


def writers(folder: Path) -> Figures:
    from tests.checkpoint.durability import run

    stories = {"of new models": True, "of one version": False}
    return {name: run("writers", folder / name, count=100, begin=begin) for name, begin in stories.items()}


def judge_writers(found: Figures) -> Bars:
    return {
        f"nothing lost by two writers {name}": (
            f"{run['listed']} listed, {len(run['told'])} told",
            not run["trouble"] and bool(run["told"]),
        )
        for name, run in found.items()
    }


def outages(folder: Path) -> Figures:
    from tests.checkpoint.durability import can_mount, run

    levels = [level for start in range(2) for level in range(start, 12, 2)] * 2
    found = {"sizes limited": run("outages", folder / "sizes", levels=[0, 100, 1500, 5000, 6000, 10000], limit=True, keep=None)}
    if can_mount():
        found["full disks"] = run("outages", folder / "full", tmpfs="16m", levels=levels, limit=False, keep=None)
        found["full disks, keep=3"] = run("outages", folder / "keep", tmpfs="16m", levels=levels, limit=False, keep=3)
        found["read-only"] = run("read_only", folder / "read-only", tmpfs="2m", mounted=True)
    return found


def judge_outages(found: Figures) -> Bars:
    count = sum(run["outages"] for run in found.values())
    trouble = sum(len(run["trouble"]) for run in found.values())
    return {
        "20 full disks and a read-only one, one warning each, nothing lost": (
            f"{trouble} of {count} with trouble",
            not trouble and count > 20,
        )
    }


def hostile(folder: Path) -> Figures:
    command = [sys.executable, "-m", "tests.checkpoint.hostile", str(SEED), "20", "1"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=1200)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    cases = [line for line in lines if "outcome" in line]
    groups: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for case in cases:
        groups[case["group"]][case["outcome"]] += 1
    crashed = [] if done.returncode == 0 else [f"crashed in {lines[-1:]}: {done.stderr[-1000:]}"]
    return {
        "cases": len(cases),
        "groups": {name: dict(counts) for name, counts in groups.items()},
        "unknowable": [case["name"] for case in cases if case["outcome"] == "unknowable"],
        "slowest": max(case["seconds"] for case in cases),
        "trouble": crashed + [f"{case['name']}: {case['message']}" for case in cases if case["outcome"] in ("executed", "wrong")],
    }


def judge_hostile(found: Figures) -> Bars:
    trouble = f"{len(found['trouble'])} of {found['cases']} with trouble"
    return {"100 hostile files, none executed or taken, all named": (trouble, not found["trouble"] and found["cases"] >= 100)}


@contextlib.contextmanager
def timed(owner: Any, name: str, calls: list[float]) -> Iterator[None]:
    """Seconds of every call of a function."""
    function: Callable[..., Any] = getattr(owner, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            calls.append(time.perf_counter() - begun)

    setattr(owner, name, counted)
    try:
        yield
    finally:
        setattr(owner, name, function)


def cost(folder: Path) -> Figures:
    import torch

    from kan import KAN
    from kan.checkpoint.store import Store
    from kan.utils import create_dataset

    def one(rows: int, number: int, **options: Any) -> Figures:
        def f(x: torch.Tensor) -> torch.Tensor:
            return torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)

        data = create_dataset(f, n_var=2, train_num=rows)
        births: list[float] = []
        with timed(Store, "begin", births):
            model = KAN([2, 5, 1], grid=3, k=3, seed=42, ckpt_path=folder / f"cost {rows} {number}")
        saves: list[float] = []
        syncs: list[float] = []
        with timed(Store, "record", saves), timed(os, "fsync", syncs):
            begun = time.perf_counter()
            model.fit(data, progress=False, **options)
            seconds = time.perf_counter() - begun
        return {
            "fit": seconds, "saving": sum(saves), "share": sum(saves) / (seconds - sum(saves)), "fsyncs": len(syncs), "fsync": sum(syncs),
            "birth": births[0],
        }  # fmt: skip

    one(1000, -1, steps=2)  # imports what it needs
    fits: dict[str, tuple[int, dict[str, Any]]] = {
        "the story's fit: L-BFGS, 20 steps, 1000 rows": (1000, {"opt": "LBFGS", "steps": 20}),
        "50 steps with a penalty": (1000, {"opt": "LBFGS", "steps": 50, "lamb": 0.001}),
        "Levenberg-Marquardt, 20 steps": (1000, {"opt": "LM", "steps": 20}),
        "Adam, 100 steps": (1000, {"opt": "Adam", "lr": 0.01, "steps": 100}),
        "L-BFGS, 3 steps, 10^6 rows": (10**6, {"opt": "LBFGS", "steps": 3}),
        "Levenberg-Marquardt, 5 steps, 10^6 rows": (10**6, {"opt": "LM", "steps": 5}),
    }
    found = {}
    for name, (rows, options) in fits.items():
        runs = [one(rows, number, **options) for number in range(5 if rows < 10**6 else 3)]
        found[name] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(f"cost      {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def judge_cost(found: Figures) -> Bars:
    return {f"at most 2 %: {name}": (f"{100 * run['share']:.2f} %", run["share"] <= 0.02) for name, run in found.items()}


TASKS: dict[str, tuple[Callable[[Path], Figures], Callable[[Figures], Bars]]] = {
    "kills": (kills, judge_kills),
    "writers": (writers, judge_writers),
    "outages": (outages, judge_outages),
    "hostile": (hostile, judge_hostile),
    "cost": (cost, judge_cost),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="TASK", choices=list(TASKS), help="names of tasks")
    parser.add_argument("--folder", type=Path, help="where checkpoints are written; a temporary folder when not given")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "durability.json")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    records = []
    for name, (run, judge) in TASKS.items():
        if arguments.only is not None and name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            begun = time.perf_counter()
            with open(os.devnull, "w") if name == "cost" else contextlib.nullcontext(sys.stdout) as out:
                with contextlib.redirect_stdout(out):
                    figures = run(Path(folder))
            seconds = time.perf_counter() - begun
        print(f"{name:9} {json.dumps(figures)[:2000]}", flush=True)
        bars = {bar: {"measured": found, "holds": holds} for bar, (found, holds) in judge(figures).items()}
        for bar, entry in bars.items():
            print(f"{name:9} {'holds ' if entry['holds'] else 'MISSED'} {bar}: {entry['measured']}", flush=True)
        threads = os.cpu_count() or 1
        records.append({"task": name, "environment": surroundings(threads), "seconds": seconds, "figures": figures, "bars": bars})
    done = {record["task"]: record for record in (*written(arguments.output), *records)}
    write({"records": [done[name] for name in TASKS if name in done]}, arguments.output)


if __name__ == "__main__":
    main()
