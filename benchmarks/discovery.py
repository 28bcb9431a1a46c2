"""How often the law is found: problems x noise x seeds x methods, each run in a process of its own with the same data, core and seconds.

``python benchmarks/discovery.py --problems kan27 --noise 0 --methods operon gplearn --seconds 20`` prints a line for every run and keeps
all of them in ``benchmarks/results/discovery/``, one file for every set, method, noise and number of seconds. What is there already is not
run again. ``--table`` writes ``docs/discovery.md`` from everything that is there; ``--judge`` scores it anew.

Procedure
    1000 training points, uniform in the ranges; noise as SRBench defines it, on the training values only. No method is told the formula's
    functions, the noise or units; each has one configuration for all problems, Operon one for exact data and one for others
    (``discovery_methods.py``). A run has one thread; as many run at once as ``--jobs`` says. pykan cannot be given a time: a run that does
    not end by itself is ended after ``--patience`` times the seconds and a minute, and counts as not solved. Rules for a solution:
    ``scoring.py``.
    Development sets, on which methods may be tuned, are ``rulekan``, ``random`` and ``random-again``; the others are for reports only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discovery_page import page
from environments import GPLEARN, HERE, OPERON, PYKAN, ROOT, Library, python_of, surroundings
from scoring import judged

import kan
from kan.datasets.problem import Problem
from kan.datasets.problem_sets import PROBLEM_SETS, problems

LIBRARIES: dict[str, Library | None] = {"ours": None, "operon": OPERON, "gplearn": GPLEARN, "pykan": PYKAN}
RESULTS = HERE / "results" / "discovery"
TRAINING_POINTS = 1000


@dataclass(frozen=True)
class Run:
    """One problem, given to one method."""

    collection: str
    problem: Problem
    method: str
    noise: float
    seed: int
    seconds: float

    def path(self, folder: Path) -> Path:
        return folder / f"{self.collection}_{self.method}_noise{self.noise:g}_{self.seconds:g}s.json"

    @property
    def key(self) -> tuple[str, int]:
        return self.problem.name, self.seed


def found_by(run: Run, python: str, patience: float) -> dict[str, Any]:
    """What the method says: candidates, seconds, and how it ended."""
    sample = run.problem.sample(TRAINING_POINTS, seed=run.seed, noise=run.noise)
    task = {"x": sample.x.tolist(), "y": sample.y[:, 0].tolist(), "seconds": run.seconds, "seed": run.seed}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    path = str(ROOT) if LIBRARIES[run.method] is None else ""
    method = "operon_in_noise" if run.method == "operon" and run.noise else run.method
    command = [python, str(HERE / "discovery_methods.py"), method]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:  # some libraries write where they run
        try:
            done = subprocess.run(
                command, input=json.dumps(task), capture_output=True, text=True, cwd=folder, timeout=patience * run.seconds + 60,
                env={**os.environ, **threads, "PYTHONPATH": path},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"candidates": [], "seconds": time.perf_counter() - begun, "ended": "time-out"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"candidates": [], "seconds": time.perf_counter() - begun, "ended": last[:300]}
    return {**json.loads(done.stdout.splitlines()[-1]), "ended": "done"}


def record_of(run: Run, said: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    """A run as it is kept."""
    return {"problem": run.problem.name, "seed": run.seed, **said, "scores": scores_of(run, said), "environment": environment}


def scores_of(run: Run, said: dict[str, Any]) -> dict[str, Any]:
    """Of the best candidate."""
    if not said["candidates"]:
        return {"judging": "no formula", **dict.fromkeys(("solved_srbench", "solved_structure", "solved_exact", "solved_loose"), False)}
    best = said["candidates"][0]
    scores = judged(run.problem, best["formula"], TRAINING_POINTS, run.seed)
    # Only our own method says what a formula is worth. A formula in noise may be the law with constants that are a little off.
    exact = scores["solved_exact"] or scores["solved_srbench"]
    return {
        **scores,
        "claimed_exact_but_wrong": best.get("verdict") == "exact" and not exact,
        "claimed_within_noise_but_wrong": best.get("verdict") == "within noise"
        and not (exact or scores["solved_structure"] or scores["solved_loose"]),
    }


class Kept:
    """The files of results; one thread writes at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder, threading.Lock()

    def records(self, path: Path) -> list[dict[str, Any]]:
        return list(json.loads(path.read_text())["records"]) if path.exists() else []

    def has(self, run: Run) -> bool:
        return any((record["problem"], record["seed"]) == run.key for record in self.records(run.path(self.folder)))

    def add(self, run: Run, record: dict[str, Any]) -> None:
        path = run.path(self.folder)
        with self.lock:
            others = [other for other in self.records(path) if (other["problem"], other["seed"]) != run.key]
            head = {"set": run.collection, "method": run.method, "noise": run.noise, "seconds": run.seconds}
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(".part")
            scratch.write_text(json.dumps({**head, "records": [*others, record]}, indent=1) + "\n")
            scratch.replace(path)  # a run that is broken off leaves the file whole


def interpreters(methods: list[str], folder: Path) -> dict[str, str]:
    """The interpreter of each method; those that cannot be had are told and left out."""
    pythons = {}
    for method in methods:
        library = LIBRARIES[method]
        if library is not None:
            pythons[method] = python_of(library, folder / f"{library.packages[0].partition('==')[0]}-environment")
        elif not hasattr(kan, "discover"):
            print("ours is left out: this version of the package has no kan.discover")
        else:
            pythons[method] = sys.executable
    return pythons


def judge_anew(kept: Kept) -> None:
    """Score every record again, after a change of the rules."""
    for path in sorted(kept.folder.glob("*.json")):
        head = json.loads(path.read_text())
        table = {problem.name: problem for problem in problems(head["set"], count=max(100, len(head["records"])))}
        for record in head["records"]:
            run = Run(head["set"], table[record["problem"]], head["method"], head["noise"], record["seed"], head["seconds"])
            kept.add(run, {**record, "scores": scores_of(run, record)})
            print(f"{path.stem} {record['problem']}", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", metavar="SET", choices=PROBLEM_SETS, default=["kan27"], help=", ".join(PROBLEM_SETS))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of problems")
    parser.add_argument("--count", type=int, default=30, help="number of random problems")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--methods", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES))
    parser.add_argument("--seconds", type=float, default=60.0, help="what a method may use for a problem")
    parser.add_argument("--patience", type=float, default=1.5, help="times the seconds, and a minute, after which a run is ended")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once")
    parser.add_argument("--until", type=float, default=float("inf"), help="seconds after which no run is begun any more")
    parser.add_argument("--environments", type=Path, default=ROOT / "build", help="where other libraries are installed")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--judge", action="store_true", help="score again what is there, and run nothing")
    parser.add_argument("--table", action="store_true", help="write docs/discovery.md, and run nothing")
    arguments = parser.parse_args()
    kept, begun = Kept(arguments.results), time.monotonic()
    if arguments.judge:
        judge_anew(kept)
    if arguments.table:
        (ROOT / "docs" / "discovery.md").write_text(page(arguments.results))
    if arguments.judge or arguments.table:
        return

    pythons = interpreters(arguments.methods, arguments.environments)
    runs = []
    for collection, noise, seed in itertools.product(arguments.problems, arguments.noise, arguments.seeds):
        posed = [p for p in problems(collection, count=arguments.count) if p.closed_form and p.name in (arguments.only or [p.name])]
        runs += [Run(collection, problem, method, noise, seed, arguments.seconds) for problem in posed for method in pythons]
    waiting = [run for run in runs if not kept.has(run)]
    print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them there already", flush=True)
    environment = {**surroundings(1), "jobs": arguments.jobs}

    def go(run: Run) -> None:
        if time.monotonic() - begun > arguments.until:
            return
        library = LIBRARIES[run.method]
        where = {**environment, **({library.packages[0].partition("==")[0]: library.version} if library else {})}
        record = record_of(run, found_by(run, pythons[run.method], arguments.patience), where)
        kept.add(run, record)
        scores = record["scores"]
        marks = " ".join(rule for rule in ("srbench", "structure", "exact", "loose") if scores[f"solved_{rule}"]) or "-"
        formula = record["candidates"][0]["formula"] if record["candidates"] else record["ended"]
        print(f"{run.collection} {run.problem.name:28} {run.method:8} {record['seconds']:6.1f} s  {marks:30} {formula[:80]}", flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(go, waiting))


if __name__ == "__main__":
    main()
