"""How often fits with a strong entropy penalty end in a good minimum, beside pykan.

``python benchmarks/entropy.py`` runs `entropy_story.py` for every problem and seed with this library and with pykan 0.2.8, on the same data
from the same initial weights, one process at a time with one thread. What counts as good is fixed in `entropy_story.py`. Prints the counts
and writes ``benchmarks/results/entropy.json``. Runs that the file holds already are kept, so that an interrupted run can go on; ``--anew``
forgets them. ``--pykan`` names the interpreter of an environment with pykan; without it one is made. ``--pykan none`` leaves pykan out.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from beside_pykan import LIBRARIES, count
from entropy_story import PROBLEMS

MARGIN = 0.2
"""Bar: this library's rate of good minima is at least pykan's and so much."""


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


if __name__ == "__main__":
    count(__doc__, "entropy_story.py", dict.fromkeys(PROBLEMS, LIBRARIES), summary, "entropy.json")
