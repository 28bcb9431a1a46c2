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
    """Counts by problem and library."""
    found: dict[str, Any] = {}
    for problem, libraries in PROBLEMS.items():
        entry = found[problem] = {}
        for library in libraries:
            rows = [row for row in records if (row["problem"], row["library"]) == (problem, library)]
            if rows:
                good = sum(row["good"] for row in rows)
                medians = {name: statistics.median(row[name] for row in rows) for name in ("loss", "seconds")}
                entry[library] = {"seeds": len(rows), "good": good, "median loss": medians["loss"], "median seconds": medians["seconds"]}
    return found


if __name__ == "__main__":
    count(__doc__, "physics_story.py", PROBLEMS, summary, "physics.json")
