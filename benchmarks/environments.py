"""Where benchmarks run, what other libraries need, and where results go."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Library:
    """What is installed into a library's own environment, itself first, and a program that runs there if that is complete."""

    packages: Sequence[str]
    probe: str

    @property
    def version(self) -> str:
        return self.packages[0].partition("==")[2]


# pykan declares none of the packages that it needs.
PYKAN = Library(
    ["pykan==0.2.8", "torch", "numpy", "sympy", "matplotlib", "scikit-learn", "tqdm", "pyyaml", "pandas", "setuptools"],
    "import kan, pandas",
)
OPERON = Library(["pyoperon==0.6.2", "numpy", "pandas", "scikit-learn"], "import pyoperon.sklearn")
GPLEARN = Library(["gplearn==0.4.3", "numpy", "scikit-learn"], "import gplearn.genetic")
TORCHCURVES = Library(["torchcurves==0.3.3", "torch", "numpy"], "import torchcurves")


def python_of(library: Library, folder: Path) -> str:
    """The interpreter of a virtual environment with the library, made if needed."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    probe = [str(python), "-c", library.probe]
    if not python.exists() or subprocess.run(probe, capture_output=True, cwd=tempfile.gettempdir()).returncode:
        print(f"installing {library.packages[0]} into {folder} (some minutes)", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, *library.packages], check=True)
    return str(python)


def surroundings(threads: int) -> dict[str, Any]:
    """What all figures depend on."""
    cpu = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu or platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "torch": importlib.metadata.version("torch"),
    }


def written(path: Path) -> list[dict[str, Any]]:
    """The records of an earlier run, none if there was none."""
    return list(json.loads(path.read_text())["records"]) if path.exists() else []


def write(record: dict[str, Any], path: Path) -> None:
    """Write a benchmark's result as JSON, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {path}")
