"""Writes tests/slow.txt, the list of tests that ``make test-fast`` leaves out.

``python scripts/slow_tests.py`` runs all tests of ``tests/`` one after another, on one thread, and lists every test function that took
longer than `LONGEST` seconds, all of its cases together. ``python scripts/slow_tests.py LOG ...`` reads the times from outputs of
``pytest --durations=0`` instead.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 1.0
"""Longest time of a test function that ``make test-fast`` runs, in seconds: that of all of its cases with their fixtures."""


def slow_functions(log: str) -> list[str]:
    r"""The test functions, as ``folder/test_file.py::test_name``, that took longer than `LONGEST`.

    >>> slow_functions("0.80s call     tests/a/test_b.py::test_c[d]\n0.30s call     tests/a/test_b.py::test_c[e]\n")
    ['a/test_b.py::test_c']
    """
    seconds: dict[str, float] = {}
    for time, name in re.findall(r"^(\d+\.\d+)s (?:setup|call|teardown) +tests/(\S+::test_\w+)", log, re.MULTILINE):
        seconds[name] = seconds.get(name, 0.0) + float(time)
    return sorted(name for name, total in seconds.items() if total > LONGEST)


def main() -> None:
    """Command line."""
    if len(sys.argv) > 1:
        log = "\n".join(Path(path).read_text(encoding="utf-8") for path in sys.argv[1:])
    else:
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "--durations=0", "--durations-min=0.05", "tests"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        log = run.stdout
        print(log.splitlines()[-1])
        if run.returncode != 0:
            sys.exit("the tests must pass before they are timed")
    names = slow_functions(log)
    (ROOT / "tests" / "slow.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    print(f"{len(names)} test functions take longer than {LONGEST:g} s")


if __name__ == "__main__":
    main()
