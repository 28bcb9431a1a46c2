"""What the library prints, and the one switch that silences it.

Every printed line goes through `say`, and every progress bar is made by `progress_bar`, so that `set_verbosity` reaches all of them. A line
is printed only if both allow it: the switch, which holds for the whole process, and the argument of the call (``verbose``, ``progress``,
``log``). Warnings are not affected: Python's `warnings` controls them.

A progress bar is one output, wherever it is shown: a line that is rewritten in a terminal; a display that is rewritten in a notebook, with
or without ipywidgets; and elsewhere, as in a log file, a few lines, which are the last state and at most one line in ten seconds before.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any

from tqdm import tqdm

__all__ = ["Verbosity", "is_on", "progress_bar", "say", "set_verbosity", "silent_unless", "verbosity"]

LEVELS = (0, 1)
"""The levels of `set_verbosity`: at 0 nothing is printed, at 1 what pykan prints."""
WIDTH = 100
"""Columns of a progress bar, in a terminal that is at least so wide."""
SECONDS_BETWEEN_LINES = 10.0
"""Least time between two lines of a progress bar that can only print one line after another."""
SHARE_BETWEEN_LINES = 0.1
"""Least progress between two such lines, as a share of the whole, so that there are never more than eleven."""
BAR_FORMAT = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
"""A progress bar: description, share, bar, steps, and the elapsed and the remaining time."""
NARROW_FORMAT = "{desc}{percentage:3.0f}% {n_fmt}/{total_fmt} {elapsed}"
"""A progress bar in a terminal with fewer columns than `WIDTH`, without the bar itself."""
LINE_FORMAT = "{desc}{n_fmt}/{total_fmt} [{elapsed}]"
"""A progress bar as a line that is printed once and stays, for files and pipes."""


class _Frame:
    """A level in force: that of the process, or of a ``with`` block."""

    def __init__(self, level: int) -> None:
        self.level = level


_LOCK = threading.Lock()
_FRAMES = [_Frame(1)]
"""The level of the process, and those of the blocks that are open; the last one counts."""
_SILENT: ContextVar[bool] = ContextVar("silent", default=False)
"""Whether the call under way has been asked not to print, in this thread."""


class Verbosity:
    """The level that `set_verbosity` has set; in a ``with`` statement it holds for the block only."""

    def __init__(self, level: int) -> None:
        self.level = level
        self._entered: list[_Frame] = []
        with _LOCK:
            self._frame = _FRAMES[-1]
            self._before, self._frame.level = self._frame.level, level

    def __enter__(self) -> Verbosity:
        with _LOCK:
            self._frame.level = self._before  # the call has set it beyond the block
            self._entered.append(_Frame(self.level))
            _FRAMES.append(self._entered[-1])
        return self

    def __exit__(self, *error: Any) -> None:
        with _LOCK:  # blocks of several threads may end in any order: each takes away its own level
            _FRAMES.remove(self._entered.pop())

    def __repr__(self) -> str:
        return f"<verbosity {self.level}>"

    def _ipython_display_(self) -> None:
        """A cell that ends with ``set_verbosity(0)`` shows nothing."""


def set_verbosity(level: int) -> Verbosity:
    """Choose what the library prints: nothing with 0, what pykan prints with 1, which is the default.

    The level holds for the whole process, all threads included. With 0 nothing is printed, on standard output or standard error, whatever
    the arguments of a call say; only `KAN.history` and `kan.show_versions`, which do nothing but print, still do. With 1 the arguments
    ``verbose``, ``progress`` and ``log`` decide for their call. Warnings are not affected.

    Args:
        level: 0 or 1; False and True mean the same.

    Returns:
        A context manager: ``with set_verbosity(0): ...`` brings the former level back at the end of the block, and what is set within the
        block ends with it.

    Raises:
        ValueError: for another level.

    >>> with set_verbosity(0):
    ...     say("not printed")
    >>> say("printed")
    printed
    """
    if level not in LEVELS:
        raise ValueError(f"the verbosity must be 0 (nothing is printed) or 1 (what pykan prints); got {level!r}.")
    return Verbosity(int(level))


def verbosity() -> int:
    """The level in force, see `set_verbosity`."""
    return _FRAMES[-1].level


def is_on() -> bool:
    """Whether anything may be printed now, in this thread."""
    return verbosity() > 0 and not _SILENT.get()


def say(line: object) -> None:
    """Print a line, unless that is switched off."""
    if is_on():
        print(line)


@contextmanager
def silent_unless(verbose: bool | int) -> Iterator[None]:
    """Print nothing in the block unless `verbose`, the argument of a call; other threads are not affected."""
    token = _SILENT.set(_SILENT.get() or not verbose > 0)
    try:
        yield
    finally:
        _SILENT.reset(token)


def progress_bar(total: float, description: str, wanted: bool = True, bar_format: str | None = None) -> tqdm[Any]:
    """A progress bar on standard error or in the notebook; it shows nothing if that is switched off.

    Args:
        total: steps, or seconds.
        description: in front of the bar.
        wanted: what the argument of the call says.
        bar_format: of tqdm, in place of the usual one.
    """
    if not (wanted and is_on()) or sys.stderr is None:  # there is none under pythonw
        return tqdm(total=total, disable=True)
    if _in_notebook():
        return _NotebookBar(total=total, desc=description, ncols=WIDTH, miniters=1, bar_format=bar_format or BAR_FORMAT)
    columns = _terminal_columns()
    if columns is None:
        return _LineBar(total=total, desc=description, miniters=1, bar_format=bar_format or LINE_FORMAT)
    usual = BAR_FORMAT if columns >= WIDTH else NARROW_FORMAT
    return tqdm(total=total, desc=description, ncols=min(columns, WIDTH), miniters=1, bar_format=bar_format or usual)


def _in_notebook() -> bool:
    """Whether the output of a cell is where standard error goes."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is None or type(shell).__module__.startswith("spyder"):  # whose console rewrites no display
        return False
    return type(sys.stderr).__module__.startswith("ipykernel")  # it may have been redirected


def _terminal_columns() -> int | None:
    """Columns of the terminal that standard error is; None if it is none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH if sys.stderr.isatty() else None
    except (AttributeError, OSError, ValueError):  # no standard error, or one that is no file
        return None


class _OwnBar(tqdm):
    """A bar that shows itself by `show`: at first, at most every so many seconds, and at the end."""

    seconds = 0.1

    def __init__(self, **options: Any) -> None:
        self._shown_at, self._shown_text = -float("inf"), ""
        super().__init__(gui=True, **options)  # `gui`: tqdm itself writes nothing
        if not self.disable:
            self.begin()

    def begin(self) -> None:
        """At the start."""

    def show(self, text: str) -> None:
        """Put `text` before the user."""
        raise NotImplementedError

    def is_due(self) -> bool:
        """Whether enough time has passed, and enough progress been made, since it was last shown."""
        return monotonic() - self._shown_at >= self.seconds

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the present state, if it is due."""
        if self.is_due():
            self._now()

    def close(self) -> None:
        """Show the last state, and end."""
        if not self.disable:
            self._now()
        super().close()

    def _now(self) -> None:
        text = str(self)
        self._shown_at = monotonic()
        if text != self._shown_text:
            self._shown_text = text
            self.show(text)


class _NotebookBar(_OwnBar):
    """A text in the output of a cell that is rewritten. Unlike a widget, it is what a saved notebook shows."""

    _handle: Any = None

    def begin(self) -> None:
        self._now()

    def show(self, text: str) -> None:
        from IPython.display import display

        content = {"text/plain": text}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


class _LineBar(_OwnBar):
    """Lines one after another, for what is no terminal: few of them, and the last state."""

    seconds = SECONDS_BETWEEN_LINES

    def begin(self) -> None:
        self._shown_at, self._shown_n = monotonic(), 0.0

    def is_due(self) -> bool:
        return super().is_due() and self.n - self._shown_n >= SHARE_BETWEEN_LINES * (self.total or 0)

    def show(self, text: str) -> None:
        self._shown_n = self.n
        self.fp.write(f"{text}\n")
        self.fp.flush()
