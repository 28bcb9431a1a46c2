"""The hello story here and in pykan 0.2.8, side by side in one run on one machine.

``python benchmarks/hellokan.py`` installs pykan into an environment of its own (it also calls itself `kan`), runs the story alternately in
both, prints the median time
of every stage with the ratio, and writes everything with the environment to ``benchmarks/results/hellokan.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from environments import HERE, PYKAN, ROOT, python_of, surroundings, write


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each library")
    parser.add_argument("--seed", type=int, default=42, help="seed of the networks")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads that torch may use")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "pykan-environment", help="where pykan is installed")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "hellokan.json")
    arguments = parser.parse_args()

    pythons = {"kanonical": sys.executable, "pykan": python_of(PYKAN, arguments.environment)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    for repeat in range(arguments.repeats):
        for name, python in pythons.items():
            runs[name].append(run(name, python, arguments.seed, arguments.threads))
            print(f"run {repeat + 1} of {arguments.repeats}: {name} {sum(runs[name][-1]['seconds'].values()):.2f} s", flush=True)

    stages = list(runs["kanonical"][0]["seconds"])
    medians = {name: {stage: statistics.median(r["seconds"][stage] for r in results) for stage in stages} for name, results in runs.items()}
    for name, results in runs.items():
        medians[name]["total"] = statistics.median(sum(r["seconds"].values()) for r in results)
    ratios = {stage: medians["pykan"][stage] / medians["kanonical"][stage] for stage in [*stages, "total"]}
    print(f"\n{'seconds (medians)':18} {'kanonical':>10} {'pykan':>10} {'ratio':>8}")
    for stage in [*stages, "total"]:
        print(f"{stage:18} {medians['kanonical'][stage]:10.3f} {medians['pykan'][stage]:10.3f} {ratios[stage]:8.1f}")
    for name, results in runs.items():
        print(f"{name}: test RMSE {results[-1]['test_rmse']:.1e}, {results[-1]['formula']}")

    where = {**surroundings(arguments.threads), "pykan": PYKAN.version}
    record = {"environment": where, "seed": arguments.seed, "medians": medians, "ratios": ratios, "runs": runs}
    write(record, arguments.output)


def run(name: str, python: str, seed: int, threads: int) -> dict[str, Any]:
    """One run of the story in a process and an empty folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {**os.environ, "PYTHONPATH": str(ROOT) if name == "kanonical" else ""}
        command = [python, str(HERE / "hello_story.py"), str(seed), str(threads)]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the story failed with {name}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
