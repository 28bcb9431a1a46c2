"""Error messages that several rooms need: what was expected, what came, what to do."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Real

__all__ = ["NoDataError", "check_finite", "level_of_caller", "module_of_caller", "some_of", "unknown_name"]


class NoDataError(ValueError, AttributeError):
    """A model has no last input, from which the requested value would be computed.

    It is also an ``AttributeError``, so that ``hasattr`` and ``inspect.getmembers`` work on new models.
    """


def some_of(values: Sequence[object], shown: int = 5) -> str:
    """The first few of many values, and how many others there are.

    >>> some_of(range(8), 3), some_of(["a", "b"])
    ('0, 1, 2 and 5 more', 'a, b')
    """
    more = len(values) - shown
    return ", ".join(map(str, values[:shown])) + (f" and {more} more" if more > 0 else "")


def check_finite(name: str, value: object) -> None:
    """Raise ``TypeError`` if `value`, called `name`, is no real number, ``ValueError`` if it is not finite."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value!r}.")


def unknown_name(what: str, name: object, valid: Iterable[str]) -> ValueError:
    """A ``ValueError`` for a name that is not among the valid ones, with the nearest of them.

    >>> print(unknown_name("optimiser", "LBGFS", ["Adam", "LBFGS"]))
    unknown optimiser 'LBGFS'; did you mean 'LBFGS'? Valid are: 'Adam', 'LBFGS'.
    """
    names = list(valid)
    folded = {candidate.casefold(): candidate for candidate in names}
    close = [folded[match] for match in get_close_matches(str(name).casefold(), folded, n=3, cutoff=0.4)]
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    return ValueError(f"unknown {what} {name!r}{hint} Valid are: {', '.join(map(repr, names))}.")


def level_of_caller() -> int:
    """The `stacklevel` at which a warning of the function that calls this names the first line outside of this package."""
    return _caller()[0]


def module_of_caller() -> str:
    """The name of the module of the first line outside of this package, among the callers of the function that calls this."""
    return _caller()[1]


def _caller() -> tuple[int, str]:
    """How far above the function that called one of the two above the first line outside of this package is, and its module.

    Torch's decorators, such as ``torch.no_grad()``, put a line of their own between a method and the line that calls it.
    """
    package, level, frame = __name__.partition(".")[0], 1, sys._getframe(2)
    while frame.f_back is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] != package and module != "torch.utils._contextlib":
            break
        level, frame = level + 1, frame.f_back
    return level, str(frame.f_globals.get("__name__"))
