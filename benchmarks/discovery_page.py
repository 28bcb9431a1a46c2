"""The page on discovery: every problem, solved or not, from the files that ``discovery.py`` keeps."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from kan.datasets.problem_sets import TABLES

HEAD = """# Discovery: how often the law is found

<!-- Written by benchmarks/discovery.py --table from the files in benchmarks/results/discovery. -->

Every method gets the same 1000 training points, uniform in the ranges, the same time, and one thread per run. Each method has one
configuration for all problems, Operon one for exact data and one for noise. No method is given the functions, the noise or units. `make
bench-discovery` runs the benchmark, and `benchmarks/discovery.py` describes it. The JSON files in `benchmarks/results/discovery` have every
formula that was returned, with the environment of the run.

| mark | rule (`benchmarks/scoring.py`) |
| --- | --- |
| **E** | *exact*: the formula as returned has a normalised error below 1e-6 on new points and below 1e-4 on a box 1.5 times as wide, \
and is not bloated |
| **S** | *structure*: the same after its numbers are fitted again to data without noise, and after an affine map |
| **B** | SRBench's symbolic rule: with numbers and fractions rounded to three decimals, \
the difference from the true formula, or the ratio to it, is constant |
| **·** | none of these; a number after it is the normalised error, if that is below 0.03 (R2 above 0.999) |

pykan takes no time limit. It follows the recipe of its README, and a run that has not ended after 1.5 times the seconds plus one minute
counts as not solved.

The machines of the summary differ in speed: our searches took about 1.7 times as long on the AMD as on the Intel processor.

"Wrong" counts formulas that a method called exact and that neither *exact* nor SRBench's rule accepts. "Wrong in noise" counts those that
it called within noise ([Verdicts](verdicts.md)) and that no rule accepts. Other libraries make no such claims. Of our runs on Feynman with
1 % noise, 55 of 120 are of an earlier version, which made no claims in noise. So are those on KAN-27 with noise other than 1 %.
"""

NAMES = {"ours": "kanonical", "operon": "Operon", "gplearn": "gplearn", "pykan": "pykan"}
LONGEST = 60


def loaded(folder: Path) -> list[dict[str, Any]]:
    """All runs, each with what its file says of all."""
    found = []
    for path in sorted(folder.glob("*.json")):
        entry = json.loads(path.read_text())
        head = {"set": entry["set"], "method": entry["method"], "noise": entry["noise"], "budget": entry["seconds"]}
        found += [{**head, **record} for record in entry["records"]]
    return found


def mark(record: dict[str, Any]) -> str:
    """A cell of the table of problems."""
    scores = record["scores"]
    rules = "".join(letter for letter, rule in (("E", "exact"), ("S", "structure"), ("B", "srbench")) if scores[f"solved_{rule}"])
    if scores.get("claimed_exact_but_wrong") or scores.get("claimed_within_noise_but_wrong"):
        return f"{rules or '·'} wrong"
    if rules:
        return f"**{rules}**"
    error = scores.get("nrmse")
    return f"· {error:.0e}" if error is not None and error < 0.03 else "·"


def summary(records: list[dict[str, Any]]) -> list[str]:
    """Rates of each method on each set."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record["set"], record["noise"], record["budget"], record["method"]].append(record)
    lines = [
        "| set | noise | seconds | method | runs | E exact | S structure | B SRBench | loose | R2 > 0.999 | wrong | wrong in noise | "
        "median s | machine |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (collection, noise, seconds, method), runs in sorted(groups.items()):
        counts = [sum(bool(run["scores"].get(f"solved_{rule}")) for run in runs) for rule in ("exact", "structure", "srbench", "loose")]
        accurate = sum(bool(run["scores"].get("accurate")) for run in runs)
        wrong = sum(bool(run["scores"].get("claimed_exact_but_wrong")) for run in runs)
        in_noise = sum(bool(run["scores"].get("claimed_within_noise_but_wrong")) for run in runs)
        claims = any("verdict" in candidate for run in runs for candidate in run["candidates"])
        median = statistics.median(run["seconds"] for run in runs)
        machines = ", ".join(sorted({run["environment"].get("cpu", "").partition(" Processor")[0] for run in runs}))
        lines.append(
            f"| {collection} | {noise:g} | {seconds:g} | {NAMES[method]} | {len(runs)} | {' | '.join(map(str, counts))} | {accurate} | "
            f"{f'{wrong} | {in_noise}' if claims else '- | -'} | {median:.0f} | {machines} |"
        )
    return lines


def table(collection: str, records: list[dict[str, Any]]) -> list[str]:
    """Every problem of a set."""
    columns = sorted({(record["budget"], record["noise"], record["method"]) for record in records})
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        cells[record["problem"], record["budget"], record["noise"], record["method"]].append(record)
    formulas = {problem.name: problem.formula for problem in TABLES.get(collection, ())}
    names = [name for name in formulas if any(record["problem"] == name for record in records)]
    names += sorted({record["problem"] for record in records} - set(names))
    titles = [f"{NAMES[method]}, {seconds:g} s, noise {noise:g}" for seconds, noise, method in columns]
    lines = [f"| problem | formula | {' | '.join(titles)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    for name in names:
        formula = formulas.get(name, "")
        shown = formula if len(formula) <= LONGEST else formula[: LONGEST - 3] + "..."
        marks = [
            ", ".join(mark(record) for record in sorted(cells[(name, *column)], key=lambda one: int(one["seed"]))) for column in columns
        ]
        lines.append(f"| {name} | {f'`{shown}`' if shown else ''} | {' | '.join(marks)} |")
    return lines


def environments(records: list[dict[str, Any]]) -> list[str]:
    """Where the runs were made."""
    fields = ("date", "cpu", "cores", "jobs", "python", "torch", "pyoperon", "gplearn", "pykan")
    known = {tuple((name, record["environment"][name]) for name in fields if name in record["environment"]) for record in records}
    return [f"- {', '.join(f'{name} {value}' for name, value in environment)}" for environment in sorted(known, key=str)]


def page(folder: Path) -> str:
    """The whole page."""
    records = loaded(folder)
    parts = [HEAD, "## Summary\n", "\n".join(summary(records))]
    for collection in sorted({record["set"] for record in records}):
        chosen = [record for record in records if record["set"] == collection]
        parts += [f"\n## {collection}\n", "\n".join(table(collection, chosen))]
    parts += ["\n## Where it ran\n", "\n".join(environments(records))]
    return "\n".join(parts) + "\n"
