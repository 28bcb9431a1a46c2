"""Simplification of expressions by sympy in a process of its own, within a time limit."""

from __future__ import annotations

import io
import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sympy

__all__ = ["simplified"]

STOP_INTERVAL = 0.05
"""Time in seconds between two calls of the function that says whether to stop."""
WORKER = Path(__file__).with_name("simplification_worker.py")
"""The script that the other process runs."""


def simplified(
    expressions: Sequence[sympy.Expr], time_limit: float, stop: Callable[[], bool] = lambda: False
) -> tuple[list[sympy.Expr], list[str]]:
    """``sympy.simplify`` of each expression, in another process, which is ended at the time limit.

    Args:
        expressions: the expressions, which are simplified one after the other.
        time_limit: time limit for all of them in seconds; the start of Python takes about half a second of it.
        stop: asked every `STOP_INTERVAL`, from another thread; once it returns True, the process is ended as at the time limit.

    Returns:
        The simplified expressions, with the original ones in the place of those that were not simplified, and notes that name the latter.

    Raises:
        ValueError: if the time limit is not a positive number.

    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> simplified([sympy.sin(x) ** 2 + sympy.cos(x) ** 2], time_limit=60)
    ([1], [])
    """
    if isinstance(time_limit, bool) or not isinstance(time_limit, Real) or not 0 < time_limit < math.inf:
        raise ValueError(f"time_limit must be a positive number of seconds; got {time_limit!r}.")
    try:
        sent = pickle.dumps(list(expressions))
    except (RecursionError, pickle.PicklingError, AttributeError, TypeError) as error:
        return list(expressions), [f"not simplified: the formula cannot be given to another process ({type(error).__name__}: {error})."]
    places = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": places},
    )  # fmt: skip
    reason = ""
    try:
        with _ended_when(stop, process):
            received, complaints = process.communicate(sent, timeout=time_limit)
        if process.returncode:
            last = complaints.decode(errors="replace").strip().splitlines()[-1:]
            failed = f"sympy failed ({last[0] if last else f'exit status {process.returncode}'})"
            reason = "it was to stop" if stop() else failed
    except subprocess.TimeoutExpired:
        process.kill()
        received, _ = process.communicate()
        reason = f"the time limit of {time_limit:g} s was over"
    finally:
        if process.poll() is None:  # an interrupt
            process.kill()
            process.communicate()
    found = _unpickled(received)
    rest = list(expressions[len(found) :])
    notes = [f"not simplified: output(s) {', '.join(map(str, range(len(found), len(expressions))))}; {reason}."] if rest else []
    return found + rest, notes


@contextmanager
def _ended_when(stop: Callable[[], bool], process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process when `stop` returns True, within a ``with`` block."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(STOP_INTERVAL):
            if stop():
                process.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _unpickled(received: bytes) -> list[sympy.Expr]:
    """The objects whose pickles are complete among the received bytes."""
    stream, found = io.BytesIO(received), []
    while True:
        try:
            found.append(pickle.load(stream))
        except (EOFError, pickle.UnpicklingError):  # the end, or the middle of a pickle
            return found
