"""Checkpoints that pykan 0.2.8 wrote opened here, and ours opened there.

``python benchmarks/checkpoints.py`` prints a line for every network, says which of our bars hold, and writes everything with the
environment to ``benchmarks/results/checkpoints.json``.

Networks
    Both libraries make every network of ``checkpoint_networks.py`` by the same lines, save it with ``saveckpt`` and record its outputs at
    fixed inputs, its settings, functions and data. Most of them save themselves on the way, too, so that there is a folder of versions for
    each.

Procedure
    Each library writes, in a process and folders of its own; then each opens what both wrote, again in processes of their own. A network
    that is opened is compared with the record of who wrote it. Of a version in a folder there is no record: who opens it is compared with
    who wrote and opened it. In the end each library goes on in a folder of the other's: it opens the newest version, fits and rewinds,
    and the other one opens what it saved.

    A deviation is the largest difference of outputs as a share of the largest output (or of 1, if that is more). Since pykan makes networks
    in torch's default dtype whatever was saved, that is set for it before it opens one; ours find it in the file.

Outcomes
    ``same``: outputs within the bar, the same settings and functions. ``refused``: opening or passing raises an error, which is told.
    ``other``: the outputs are not the same. Of networks of the kind ``beyond`` pykan's files cannot hold all; for these the bars are that
    ours come back here, and that neither library takes one for another network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from checkpoint_networks import CASES, Case, constructed, fitted, samples, tell
from environments import HERE, PYKAN, ROOT, python_of, surroundings, write

OURS, THEIRS = "kanonical", "pykan"
BARS = {"float64": 1e-12, "float32": 1e-6}
SETTINGS = (
    "width", "grid", "k", "mult_arity", "base_fun_name", "symbolic_enabled", "affine_trainable", "grid_eps", "grid_range", "sp_trainable",
    "sb_trainable",
)  # fmt: skip
SHARED = next(case for case in CASES if case.name == "fitted")
"""Its data are those of the folders that both libraries save in."""
POINTS = 50
"""Inputs that outputs are recorded at."""


# What runs in processes of its own, where `kan` is either library


@contextlib.contextmanager
def inside(folder: Path, dtype: str | None = None) -> Iterator[None]:
    """With the folder as the current one, and torch's default dtype."""
    import torch

    before, default = Path.cwd(), torch.get_default_dtype()
    os.chdir(folder)
    torch.set_default_dtype(default if dtype is None else getattr(torch, dtype))
    try:
        yield
    finally:
        os.chdir(before)
        torch.set_default_dtype(default)


def outputs(model: Any, x: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.as_tensor(x)).numpy()


def described(model: Any) -> dict[str, Any]:
    """Settings, functions and version of a model, as plain data."""
    settings = {name: getattr(model, name) for name in SETTINGS}
    if callable(settings["base_fun_name"]):
        settings["base_fun_name"] = "a function"
    return {
        "settings": {name: np.asarray(value, dtype=object).tolist() for name, value in settings.items()},
        "functions": [layer.funs_name for layer in model.symbolic_fun],
        "trained": sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad),
        "version": [int(model.round), int(model.state_id)],
    }


def reason(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def write_all(folder: Path) -> None:
    """Every network, in a folder of its own with what is to be found in it."""
    for case in CASES:
        here = folder / case.name
        here.mkdir()
        with inside(here, case.dtype):
            try:
                model = constructed(case)
                model = case.change(model, samples(case))
                x = np.random.default_rng(6).uniform(*case.span, (POINTS, case.width[0])).astype(case.dtype)
                data = model.cache_data
                data = None if data is None else data.detach().clone().numpy()
                model.saveckpt("v")
                record = {**described(model), "data": data is not None}
                np.savez("record.npz", x=x, y=outputs(model, x), data=np.zeros(0) if data is None else data)
            except Exception as error:
                record = {"failure": reason(error)}
            Path("record.json").write_text(json.dumps(record, default=int))


def opened(path: str, x: np.ndarray) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is found in a checkpoint: plain data, and arrays."""
    from kan import KAN

    try:
        before = {name: os.stat(name).st_mtime_ns for name in everything()}
        model = KAN.loadckpt(path)
        written = sorted(name for name in everything() if before.get(name) != os.stat(name).st_mtime_ns)
        record = {**described(model), "data": model.cache_data is not None, "written": written}
        arrays = {} if model.cache_data is None else {"data": model.cache_data.detach().numpy()}
        return record, {**arrays, "y": outputs(model, x)}
    except Exception as error:
        return {"failure": reason(error)}, {}


def everything() -> list[str]:
    return [str(path) for path in Path().rglob("*") if path.is_file()]


def read_all(folder: Path, into: Path, dtypes: bool) -> None:
    """Every network that another process wrote, with all versions that it saved on the way."""
    for case in CASES:
        here = folder / case.name
        if not (here / "v_config.yml").exists() or not (here / "record.npz").exists():
            continue
        found: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {}
        if case.told:
            tell(case.told)
        with inside(here, case.dtype if dtypes else None):
            x = np.load("record.npz")["x"]
            versions = sorted(path.name.removesuffix("_config.yml") for path in Path("model").glob("*_config.yml"))
            for path in ["v", *(f"model/{version}" for version in versions)]:
                found[path], more = opened(path, x)
                arrays |= {f"{path} {name}": value for name, value in more.items()}
        np.savez(into / f"{case.name}.npz", **arrays)
        (into / f"{case.name}.json").write_text(json.dumps(found, default=int))


def start(folder: Path) -> None:
    """A folder of versions for the other library to go on in."""
    from kan import KAN

    with inside(folder, "float64"):
        model, data = KAN(width=[2, 3, 1], seed=3), samples(SHARED)
        fitted(model, data, steps=1)
        model.fix_symbolic(0, 0, 0, "sin", verbose=False)


def go_on(folder: Path) -> None:
    """Opens the newest version of the other library's, and adds to them."""
    from kan import KAN

    with inside(folder, "float64"):
        data = samples(SHARED)
        model = KAN.loadckpt("model/0.2")
        fitted(model, data, steps=1)
        model = model.rewind("0.1")
        fitted(model, data, steps=1)
        versions = sorted(path.name.removesuffix("_config.yml") for path in Path("model").glob("*_config.yml"))
        x = data["test_input"].numpy()
        found = {version: outputs(KAN.loadckpt(f"model/{version}"), x) for version in versions}
        np.savez("found.npz", **{"version " + version: y for version, y in found.items()})


def look_back(folder: Path) -> None:
    """Opens every version of a folder in which both libraries have saved."""
    from kan import KAN

    with inside(folder, "float64"):
        x = samples(SHARED)["test_input"].numpy()
        versions = sorted(path.name.removesuffix("_config.yml") for path in Path("model").glob("*_config.yml"))
        deviations = {}
        for version in versions:
            deviations[version] = deviation(outputs(KAN.loadckpt(f"model/{version}"), x), np.load("found.npz")["version " + version])
        history = Path("model/history.txt").read_text().splitlines()
        Path("seen.json").write_text(json.dumps({"deviations": deviations, "history": history}))


STAGES: dict[str, Callable[..., None]] = {"write": write_all, "start": start, "go_on": go_on, "look_back": look_back, "read": read_all}


# What runs in the first process


def stage(name: str, library: str, python: str, folder: Path, *more: str, limit: float) -> None:
    """One of `STAGES` in a process of a library."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT) if library == OURS else ""}
    command = [python, str(Path(__file__).resolve()), "--serve", name, "--library", library, str(folder), *more]
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(command, cwd=elsewhere, env=variables, capture_output=True, text=True, timeout=limit)
    if done.returncode:
        raise RuntimeError(f"{library} failed to {name}: {done.stderr[-2000:]}")


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference as a share of the largest number; infinite if shapes or missing numbers differ."""
    if found.shape != expected.shape or (np.isnan(found) != np.isnan(expected)).any():
        return float("inf")
    if not np.isfinite(expected).any():
        return 0.0
    return float(np.nanmax(np.abs(found - expected)) / max(1.0, np.nanmax(np.abs(expected))))


def judged(case: Case, written: dict[str, Any], found: dict[str, Any], record: Any, arrays: Any, path: str = "v") -> dict[str, Any]:
    """The outcome for one network and reader, from what the writer recorded and what the reader found."""
    entry = found[path]
    if "failure" in entry:
        return {"outcome": "refused", "reason": entry["failure"]}
    result: dict[str, Any] = {"deviation": deviation(arrays[f"{path} y"], record["y"])}
    differences = [name for name in ("functions", "trained", "data") if entry[name] != written[name]]
    differences += [name for name in SETTINGS if entry["settings"][name] != written["settings"][name]]
    if all(name == "0" for layer in entry["functions"] for row in layer for name in row):
        # pykan's fit turns symbolic edges off where there are none, and fix_symbolic has no effect then; read here they are on.
        differences = [name for name in differences if name != "symbolic_enabled"]
    if entry["version"] != [written["version"][0] + 1, written["version"][1]]:
        differences.append("version")
    if entry["data"] and written["data"] and not np.array_equal(arrays[f"{path} data"], record["data"]):
        differences.append("data")
    if entry["written"]:
        differences.append(f"wrote {', '.join(entry['written'])}")
    same = result["deviation"] <= BARS[case.dtype]
    result |= {"outcome": ("same" if not differences else "other settings") if same else "other", "differences": differences}
    return result


def compared(case: Case, base: Path, writer: str) -> dict[str, Any]:
    """The record of one network by one writer."""
    here = base / f"by {writer}" / case.name
    written = json.loads((here / "record.json").read_text())
    if "failure" in written:
        return {"written": f"no: {written['failure']}"}
    record = np.load(here / "record.npz")
    found = {reader: json.loads((base / f"{writer} by {reader}" / f"{case.name}.json").read_text()) for reader in (OURS, THEIRS)}
    arrays = {reader: np.load(base / f"{writer} by {reader}" / f"{case.name}.npz") for reader in (OURS, THEIRS)}
    results: dict[str, Any] = {"written": "yes", "size": sum(path.stat().st_size for path in here.glob("v_*"))}
    for reader in (OURS, THEIRS):
        results[f"read by {reader}"] = judged(case, written, found[reader], record, arrays[reader])
    versions = [path for path in found[writer] if path != "v"]
    other = THEIRS if writer == OURS else OURS
    good, bad = 0, []
    for path in versions:
        entries = [found[reader][path] for reader in (writer, other)]
        if "failure" in entries[0]:
            continue  # the writer itself cannot open it
        if "failure" in entries[1]:
            bad.append(f"{path}: {entries[1]['failure']}")
        elif deviation(arrays[other][f"{path} y"], arrays[writer][f"{path} y"]) > BARS[case.dtype]:
            bad.append(f"{path}: other outputs")
        else:
            good += 1
    results["versions"] = {"same": good, "not": bad}
    return results


def show(case: Case, record: dict[str, Any]) -> None:
    cells = []
    for writer, reader in ((THEIRS, OURS), (OURS, THEIRS), (OURS, OURS), (THEIRS, THEIRS)):
        result = record[writer].get(f"read by {reader}")
        size = "" if result is None or "deviation" not in result else f" {result['deviation']:.0e}"
        cells.append("not written" if result is None else result["outcome"] + size)
    print(f"{case.name:32} " + " ".join(f"{cell:20}" for cell in cells), flush=True)
    for writer in (THEIRS, OURS):
        for reader in (OURS, THEIRS):
            result = record[writer].get(f"read by {reader}", {})
            notes = result.get("reason") or ", ".join(result.get("differences", []))
            if notes:
                print(f"{'':32} {writer} by {reader}: {notes}")
        if not record[writer].get("size"):
            print(f"{'':32} {writer} does not write it: {record[writer]['written']}")
        for note in record[writer].get("versions", {}).get("not", []):
            print(f"{'':32} {writer} by the other: {note}")


def bars(records: list[dict[str, Any]], stories: dict[str, Any]) -> dict[str, dict[str, Any]]:
    common = [record for record in records if not record["beyond"]]
    beyond = [record for record in records if record["beyond"]]

    def share(holds: list[bool]) -> dict[str, Any]:
        return {"measured": f"{sum(holds)} of {len(holds)}", "holds": all(holds)}

    def outcomes(among: list[dict[str, Any]], writer: str, reader: str, right: str = "same") -> list[bool]:
        return [record[writer].get(f"read by {reader}", {}).get("outcome") == right for record in among]

    def versions(writer: str) -> list[bool]:
        found = [record[writer]["versions"] for record in common if "versions" in record[writer]]
        return [True] * sum(entry["same"] for entry in found) + [False] * sum(len(entry["not"]) for entry in found)

    worst = {
        f"largest deviation, {writer} read by {reader}, {dtype}": max(
            record[writer][f"read by {reader}"].get("deviation", 0.0) for record in common if record["dtype"] == dtype
        )
        for writer, reader in ((THEIRS, OURS), (OURS, THEIRS))
        for dtype in BARS
    }
    untold = {case.name for case in CASES if case.untold}
    helpless = [record for record in beyond if record["name"] in untold]
    others = [record for record in beyond if record["name"] not in untold]
    return {
        "pykan's networks are the same here": share(outcomes(common, THEIRS, OURS)),
        "ours are the same in pykan": share(outcomes(common, OURS, THEIRS)),
        "versions in pykan's folders are the same here": share(versions(THEIRS)),
        "versions in our folders are the same in pykan": share(versions(OURS)),
        "ours with more than pykan has are the same here": share(outcomes(others, OURS, OURS)),
        "what needs a function to be registered is refused here": share(outcomes(helpless, OURS, OURS, "refused")),
        "nothing of pykan's is taken for another network here": share([not wrong for wrong in outcomes(beyond, THEIRS, OURS, "other")]),
        "nothing of ours is taken for another network in pykan": share([not wrong for wrong in outcomes(beyond, OURS, THEIRS, "other")]),
        "each goes on in the other's folder": share([story["holds"] for story in stories.values()]),
        **{name: {"measured": value, "holds": value <= BARS[name.rsplit(" ", 1)[-1]]} for name, value in worst.items()},
    }


def shared(base: Path, pythons: dict[str, str], limit: float) -> dict[str, Any]:
    """A folder that one library begins, the other goes on in, and the first looks back at."""
    stories = {}
    for first, second in ((THEIRS, OURS), (OURS, THEIRS)):
        folder = base / f"{first} then {second}"
        folder.mkdir()
        try:
            for name, library in (("start", first), ("go_on", second), ("look_back", first)):
                stage(name, library, pythons[library], folder, limit=limit)
            seen = json.loads((folder / "seen.json").read_text())
            stories[f"{first} then {second}"] = {**seen, "holds": max(seen["deviations"].values()) <= BARS["float64"]}
        except RuntimeError as error:
            stories[f"{first} then {second}"] = {"failure": str(error), "holds": False}
    return stories


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds that a process may take")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "pykan-environment", help="where pykan is installed")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "checkpoints.json")
    parser.add_argument("--serve", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--library", choices=[OURS, THEIRS], help=argparse.SUPPRESS)
    parser.add_argument("folders", nargs="*", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        import torch

        torch.set_num_threads(1)
        more = {"dtypes": arguments.library == THEIRS} if arguments.serve == "read" else {}
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            STAGES[arguments.serve](*arguments.folders, **more)
        return

    pythons = {OURS: sys.executable, THEIRS: python_of(PYKAN, arguments.environment)}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for library, python in pythons.items():
            (base / f"by {library}").mkdir()
            stage("write", library, python, base / f"by {library}", limit=arguments.limit)
        for writer in pythons:
            for reader, python in pythons.items():
                into = base / f"{writer} by {reader}"
                into.mkdir()
                stage("read", reader, python, base / f"by {writer}", into, limit=arguments.limit)
        records = []
        print(f"{'':32} {'pykan -> here':20} {'here -> pykan':20} {'here -> here':20} {'pykan -> pykan':20}")
        for case in CASES:
            record = {"name": case.name, "width": case.width, "dtype": case.dtype, "beyond": case.beyond}
            records.append({**record, **{writer: compared(case, base, writer) for writer in pythons}})
            show(case, records[-1])
        stories = shared(base, pythons, arguments.limit)
    judgement = bars(records, stories)
    for bar, entry in judgement.items():
        print(f"{'holds ' if entry['holds'] else 'MISSED'} {bar}: {entry['measured']}", flush=True)
    where = {**surroundings(1), "pykan": PYKAN.version}
    write({"environment": where, "bars": judgement, "folders": stories, "records": records}, arguments.output)


if __name__ == "__main__":
    main()
