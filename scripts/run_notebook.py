"""Run a notebook headless, keep what it drew, and say what came out.

The notebook runs in a scratch folder of its own, so that the files it writes (the `./model` of a
`KAN`) stay out of the repository. Afterwards the output folder holds

* the executed notebook, under its own name,
* `figures/`, every picture of the notebook as a PNG named after its cell,
* `work/`, the scratch folder.

From the command line::

    python scripts/run_notebook.py hellokan.ipynb build/hello

prints the losses at the end of each fit and the notebook's last result; the exit status is 1 if a cell
fails, with that cell's traceback on stderr.
"""

from __future__ import annotations

import argparse
import ast
import base64
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

__all__ = ["NotebookFailure", "NotebookRun", "Stage", "main", "run_notebook"]

ROOT = Path(__file__).resolve().parent.parent

ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PROGRESS = re.compile(r"\|\s*train_loss:\s*(\S+)\s*\|\s*test_loss:\s*(\S+)\s*\|\s*reg:\s*(\S+)\s*\|")
FIT_METHODS = ("fit", "train")


class NotebookFailure(RuntimeError):
    """A cell failed, ran out of time or took its kernel with it; the message holds the traceback."""


@dataclass(frozen=True)
class Stage:
    """The last progress line of one fit: the call as written, and the losses as printed."""

    call: str
    train_loss: str
    test_loss: str
    reg: str


@dataclass(frozen=True)
class NotebookRun:
    """What a notebook left: `stages` in order, every `printed` line, the last cell's `result` and the `figures`."""

    notebook: Path
    stages: list[Stage]
    printed: list[str]
    result: str | None
    figures: list[Path]


def run_notebook(notebook: str | os.PathLike[str], out: str | os.PathLike[str], *, timeout: int = 900) -> NotebookRun:
    """Execute a notebook and collect what it printed, returned and drew.

    Args:
        notebook: The notebook to run; it is not changed.
        out: The folder for the executed notebook, its figures and its scratch folder; made if missing. The
            figures and the scratch folder of an earlier run are removed first.
        timeout: Seconds that one cell may take.

    Returns:
        The stages, printed lines, last result and figures.

    Raises:
        FileNotFoundError: If there is no such notebook.
        NotebookFailure: If a cell fails. The cells up to it are saved all the same.
    """
    source, out = Path(notebook).resolve(), Path(out).resolve()
    if not source.is_file():
        raise FileNotFoundError(f"there is no notebook {source}")
    figures, work = out / "figures", out / "work"
    for folder in (figures, work):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    book = nbformat.read(source, as_version=4)
    executed = out / source.name
    client = NotebookClient(
        book,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(work)}},
        # No history database: two runs at a time must not wait for each other.
        extra_arguments=["--HistoryManager.enabled=False"],
    )
    try:
        client.execute(env=_kernel_environment(work))
    except CellExecutionError as error:
        raise NotebookFailure(f"{source.name}: a cell failed\n{ANSI_COLOUR.sub('', str(error))}") from error
    except CellTimeoutError as error:
        raise NotebookFailure(f"{source.name}: a cell took more than {timeout} s\n{error}") from error
    except DeadKernelError as error:
        raise NotebookFailure(f"{source.name}: the kernel died while a cell ran\n{error}") from error
    finally:
        nbformat.write(book, executed)

    code = [cell for cell in book.cells if cell.cell_type == "code"]
    return NotebookRun(
        notebook=executed,
        stages=[stage for cell in code for stage in _stages(cell)],
        printed=[line for cell in code for line in _text(cell, "stdout").splitlines()],
        result=_result(code[-1]) if code else None,
        figures=[path for index, cell in enumerate(code, 1) for path in _save_figures(cell, index, figures)],
    )


def _kernel_environment(work: Path) -> dict[str, str]:
    """The environment for the kernel: ours, with the checkout's own package first and figures inline."""
    environment = dict(os.environ)
    environment.pop("MPLBACKEND", None)
    environment["IPYTHONDIR"] = str(work / ".ipython")
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _text(cell: Any, stream: str) -> str:
    """Everything a cell wrote to `stdout` or `stderr`, joined: the kernel cuts it anywhere."""
    return "".join(o.text for o in cell.get("outputs", ()) if o.output_type == "stream" and o.name == stream)


def _stages(cell: Any) -> list[Stage]:
    """One stage for each progress bar of a cell, labelled with its fit call where that can be told."""
    last_states = []
    displays = [o.data.get("text/plain", "") for o in cell.get("outputs", ()) if o.output_type == "display_data"]
    for line in [*_text(cell, "stderr").split("\n"), *displays]:
        # A bar is a display that is rewritten, or a line rewritten after each carriage return: the last state that shows losses counts.
        if states := PROGRESS.findall(line):
            last_states.append(states[-1])
    calls = _fit_calls(cell.source)
    if len(calls) != len(last_states):
        calls = ["fit"] * len(last_states)
    return [Stage(call, *losses) for call, losses in zip(calls, last_states, strict=True)]


def _fit_calls(source: str) -> list[str]:
    """The calls `model.fit(...)` and `model.train(...)` of a cell, in the order in which they are written."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a cell with magics
        return []
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FIT_METHODS and node.args
    ]
    return [ast.unparse(n) for n in sorted(calls, key=lambda n: (n.lineno, n.col_offset))]


def _result(cell: Any) -> str | None:
    results = [o.data.get("text/plain") for o in cell.get("outputs", ()) if o.output_type == "execute_result"]
    return results[-1] if results else None


def _save_figures(cell: Any, index: int, folder: Path) -> list[Path]:
    """Write the pictures among the outputs of code cell number `index` as `cell-03-1.png`, `cell-03-2.png` ..."""
    pictures = [o.data["image/png"] for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})]
    paths = [folder / f"cell-{index:02d}-{number}.png" for number in range(1, len(pictures) + 1)]
    for path, picture in zip(paths, pictures, strict=True):
        path.write_bytes(base64.b64decode(picture))
    return paths


def _report(run: NotebookRun) -> str:
    lines = []
    if run.stages:
        width = max(len(stage.call) for stage in run.stages)
        lines.append(f"{'stage':<{width}}  {'train':>10}  {'test':>10}  {'reg':>10}")
        lines += [f"{s.call:<{width}}  {s.train_loss:>10}  {s.test_loss:>10}  {s.reg:>10}" for s in run.stages]
    fixed = [line for line in run.printed if line.startswith("fixing ")]
    lines += ["", *fixed] if fixed else []
    lines += ["", f"formula: {run.result}"] if run.result else []
    lines += ["", f"notebook: {_shown(run.notebook)}"]
    if run.figures:
        lines.append(f"figures:  {_shown(run.figures[0].parent)} ({len(run.figures)})")
    return "\n".join(lines).lstrip("\n")


def _shown(path: Path) -> str:
    """A path as a user wants to see it: relative where it lies below the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebook named on the command line and print its stages and result; return the exit status."""
    parser = argparse.ArgumentParser(description="Run a notebook headless and print its losses and its last result.")
    parser.add_argument("notebook", help="the notebook to run")
    parser.add_argument("out", help="the folder for the executed notebook and its figures")
    parser.add_argument("--timeout", type=int, default=900, help="seconds that one cell may take (default: 900)")
    options = parser.parse_args(arguments)
    print(f"running {options.notebook} ...", flush=True)
    try:
        run = run_notebook(options.notebook, options.out, timeout=options.timeout)
    except (NotebookFailure, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    print(_report(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
