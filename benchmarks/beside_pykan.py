"""Programs that run with this library and with pykan, seed by seed, and a file that keeps their rows."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from environments import HERE, PYKAN, ROOT, python_of, surroundings, write, written

LIBRARIES = ("ours", "pykan")


def rows(python: str, story: str, problem: str, seeds: Sequence[int], path: str) -> Iterator[dict[str, Any]]:
    """The rows of a program as they come, with the packages of `path` in front."""
    command = [python, "-W", "ignore", str(HERE / story), problem, *map(str, seeds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tempfile.gettempdir()) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{problem} ended with {process.returncode} in {python}")


def count(
    description: str | None,
    story: str,
    problems: Mapping[str, Sequence[str]],
    summary: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
    name: str,
) -> None:
    """A command line that runs `story` and writes what it gives.

    Args:
        description: of the command.
        story: file of a program that is called with a problem and seeds and prints a line of JSON per seed.
        problems: which libraries run a problem.
        summary: of all rows, each with its ``library``.
        name: of the file of results.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=list(problems), default=list(problems))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(40)))
    parser.add_argument("--pykan", default="", help="interpreter of an environment with pykan, or none")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "pykan-environment", help="where pykan is installed")
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--output", type=Path, default=HERE / "results" / name)
    arguments = parser.parse_args()

    sides = {"ours": (sys.executable, str(ROOT))}
    if arguments.pykan != "none":
        sides["pykan"] = (arguments.pykan or python_of(PYKAN, arguments.environment), "")
    records = [] if arguments.anew else written(arguments.output)

    def found() -> dict[str, Any]:
        return {"pykan": PYKAN.version, "environment": surroundings(1), "summary": summary(records), "records": records}

    for problem in arguments.problems:
        for library in [side for side in sides if side in problems[problem]]:
            python, path = sides[library]
            done = {record["seed"] for record in records if (record["problem"], record["library"]) == (problem, library)}
            left = [seed for seed in arguments.seeds if seed not in done]
            for row in rows(python, story, problem, left, path) if left else ():
                print(library, json.dumps(row), flush=True)
                records.append({"library": library, **row})
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                arguments.output.write_text(json.dumps(found(), indent=1) + "\n")
    for problem, entry in found()["summary"].items():
        print(problem, json.dumps(entry))
    write(found(), arguments.output)
