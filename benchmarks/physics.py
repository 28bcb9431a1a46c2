"""How often two laws of physics are learned from derivatives of a network, beside pykan.

``python benchmarks/physics.py`` runs `physics_story.py` for every problem and seed with this library and with pykan 0.2.8, on the same data
from the same initial weights, one process at a time with one thread. What counts as good is fixed in `physics_story.py`. Prints the counts
and writes ``benchmarks/results/physics.json``. Runs that the file holds already are kept, so that an interrupted run can go on; ``--anew``
forgets them. ``--pykan`` names the interpreter of an environment with pykan; without it one is made. ``--pykan none`` leaves pykan out.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from beside_pykan import LIBRARIES, count

PROBLEMS = {
    "lagrangian": LIBRARIES,
    "conservation": LIBRARIES,
    "conservation, restarts=4": ("ours",),
    "conservation, fit_residuals": ("ours",),
}
"""Which libraries have what it takes."""


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts by problem and library, on the seeds that all of a problem's libraries have run."""
    found: dict[str, Any] = {}
    for problem, libraries in PROBLEMS.items():
        sides: dict[str, dict[int, dict[str, Any]]] = {library: {} for library in libraries}
        for row in records:
            if row["problem"] == problem:
                sides[row["library"]][row["seed"]] = row
        shared = set.intersection(*(set(side) for side in sides.values()))
        entry = found[problem] = {}
        for library, side in sides.items():
            rows = [row for seed, row in side.items() if seed in shared or not shared]
            if rows:
                medians = {f"median {name}": statistics.median(row[name] for row in rows) for name in ("loss", "seconds")}
                entry[library] = {"seeds": len(rows), "good": sum(row["good"] for row in rows), **medians}
    return found


if __name__ == "__main__":
    count(__doc__, "physics_story.py", PROBLEMS, summary, "physics.json")
