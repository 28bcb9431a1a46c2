"""How often fits with a strong entropy penalty end in a good minimum, beside pykan.

``python benchmarks/entropy.py`` runs `entropy_story.py` for every problem and seed with this library and with pykan 0.2.8, on the same data
from the same initial weights, one process at a time with one thread. What counts as good is fixed in `entropy_story.py`. Prints the counts
and writes ``benchmarks/results/entropy.json``. Runs that the file holds already are kept, so that an interrupted run can go on; ``--anew``
forgets them. ``--pykan`` names the interpreter of an environment with pykan; without it one is made. ``--pykan none`` leaves pykan out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from entropy_story import PROBLEMS
from environments import HERE, PYKAN, ROOT, python_of, surroundings, write, written

MARGIN = 0.2
"""Bar: this library's rate of good minima is at least pykan's and so much."""


def rows(python: str, problem: str, seeds: Sequence[int], path: str) -> Iterator[dict[str, Any]]:
    """The rows of `entropy_story.py` as they come, with the packages of `path` in front."""
    command = [python, "-W", "ignore", str(HERE / "entropy_story.py"), problem, *map(str, seeds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tempfile.gettempdir()) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{problem} ended with {process.returncode} in {python}")


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts by problem and library, and the bars on the seeds that both have run."""
    found: dict[str, Any] = {}
    for problem in PROBLEMS:
        sides: dict[str, dict[int, dict[str, Any]]] = {"ours": {}, "pykan": {}}
        for record in records:
            if record["problem"] == problem:
                sides[record["library"]][record["seed"]] = record
        shared = sides["ours"].keys() & sides["pykan"].keys()
        entry: dict[str, Any] = {}
        for library, side in sides.items():
            used = [row for seed, row in side.items() if not shared or seed in shared]
            if used:
                seconds = statistics.median(row["seconds"] for row in used)
                entry[library] = {"seeds": len(used), "good": sum(row["good"] for row in used), "median seconds of the fit": seconds}
        if shared:
            rates = {library: entry[library]["good"] / entry[library]["seeds"] for library in sides}
            entry["holds"] = rates["ours"] >= rates["pykan"] + MARGIN
        found[problem] = entry
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(40)))
    parser.add_argument("--pykan", default="", help="interpreter of an environment with pykan, or none")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "pykan-environment", help="where pykan is installed")
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "entropy.json")
    arguments = parser.parse_args()

    sides = {"ours": (sys.executable, str(ROOT))}
    if arguments.pykan != "none":
        sides["pykan"] = (arguments.pykan or python_of(PYKAN, arguments.environment), "")
    records = [] if arguments.anew else written(arguments.output)
    for problem in arguments.problems:
        for library, (python, path) in sides.items():
            done = {record["seed"] for record in records if (record["problem"], record["library"]) == (problem, library)}
            left = [seed for seed in arguments.seeds if seed not in done]
            for row in rows(python, problem, left, path) if left else ():
                print(library, json.dumps(row), flush=True)
                records.append({"library": library, **row})
                found = {"pykan": PYKAN.version, "environment": surroundings(1), "summary": summary(records), "records": records}
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    found = {"pykan": PYKAN.version, "environment": surroundings(1), "summary": summary(records), "records": records}
    for problem, entry in found["summary"].items():
        print(problem, json.dumps(entry))
    write(found, arguments.output)


if __name__ == "__main__":
    main()
