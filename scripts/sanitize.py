"""Run tests of the compiled kernels under the address and undefined-behaviour sanitizers.

The kernels are compiled anew with the sanitizers into a copy of the checkout, and Python runs there with the sanitizers' run-time library
loaded first. Reads and writes beyond an array, use of freed memory, overflow of integers and the like end the process with a report.
Leaks are not looked for, since Python itself is not free of them.

    python scripts/sanitize.py                           # the tests of what calls the kernels
    python scripts/sanitize.py -m pytest -x tests/kernels  # or any other arguments for python

GCC on Linux is needed: clang takes very long to compile these sources with the sanitizers.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TESTS = ["tests/kernels", "tests/layers", "tests/drop_in", "tests/training/objectives", "tests/training/methods",
    "tests/training/least_squares", "tests/training/test_fit.py", "tests/training/test_restarts.py"]  # fmt: skip
"""Tests of what calls the kernels."""
OPTIONS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1", "-fno-omit-frame-pointer"]
"""Options of compiler and linker."""


def run_time_libraries(compiler: Sequence[str]) -> list[str]:
    """Paths of the sanitizers' libraries that have to be loaded before everything else; the compiler knows where they are."""
    names = ["libasan.so", "libubsan.so"]
    return [subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip() for name in names]


def run_sanitized(arguments: Sequence[str], folder: Path, options: Sequence[str] = ()) -> int:
    """Run Python on a copy of the checkout, made in an empty folder, whose kernels are compiled with the sanitizers.

    Args:
        arguments: of Python.
        folder: where the copy is made.
        options: more options of compiler and linker.

    Returns:
        Its exit status.

    Raises:
        OSError: if the compiler does not know the sanitizers.
    """
    setup = runpy.run_path(str(ROOT / "setup.py"))
    compiler = setup["compiler"]()
    ignored = shutil.ignore_patterns("__pycache__", "_kernels.*")
    for name in ("kan", "tests", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    setup["build_library"](folder / "kan" / "kernels" / "_kernels.so", folder / "objects", [*OPTIONS, *options], setup["BASE"])
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(run_time_libraries(compiler)),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": str(folder),
        "KAN_KERNELS": "1",
    }
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment).returncode


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        return run_sanitized(sys.argv[1:] or ["-m", "pytest", "-q", "-p", "no:xdist", *TESTS], Path(folder))


if __name__ == "__main__":
    sys.exit(main())
