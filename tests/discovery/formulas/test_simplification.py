"""Simplification ends when its time is over."""

import time
from pathlib import Path
from typing import Any

import pytest
import sympy

from kan.discovery.formulas import simplification
from kan.discovery.formulas.simplification import simplified

x, y = sympy.symbols("x y")
ONE = sympy.sin(x) ** 2 + sympy.cos(x) ** 2


def test_simpler_forms() -> None:
    phi = sympy.Function("phi_0_0_0")
    assert simplified([ONE, phi(x) * y / y + phi(x)], 60) == ([1, 2 * phi(x)], [])


def worker(tmp_path: Path, monkeypatch: Any, source: str) -> None:
    path = tmp_path / "worker.py"
    path.write_text(source)
    monkeypatch.setattr(simplification, "WORKER", path)


def test_what_takes_too_long_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One result, half of the next, and then nothing for an hour.
    worker(
        tmp_path, monkeypatch,
        "import pickle, sys, time\nexpressions = pickle.load(sys.stdin.buffer)\n"
        "sys.stdout.buffer.write(pickle.dumps(expressions[0] + 5) + pickle.dumps(expressions[1])[:9])\n"
        "sys.stdout.buffer.flush()\ntime.sleep(3600)\n",
    )  # fmt: skip
    start = time.monotonic()
    found, notes = simplified([x, y, ONE], 3)
    assert time.monotonic() - start < 20
    assert found == [x + 5, y, ONE] and notes == ["not simplified: output(s) 1, 2; the time limit of 3 s was over."]


def test_it_ends_when_it_is_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [sympy.Symbol("z" * 10**6), y]  # more than a pipe takes at once
    assert simplified([ONE], 60, lambda: False) == ([1], [])
    worker(tmp_path, monkeypatch, "import sys, time\ntime.sleep(0.3)\nsys.stdin.buffer.read()\ntime.sleep(3600)\n")
    looks = iter([False] * 3)
    found, notes = simplified(large, 3600, lambda: next(looks, True))
    assert found == large and notes == ["not simplified: output(s) 0, 1; it was to stop."]


def test_the_limit_holds_for_sympy_itself() -> None:
    start = time.monotonic()
    found, notes = simplified([ONE], 0.01)
    assert time.monotonic() - start < 10 and found == [ONE] and "the time limit of 0.01 s was over" in notes[0]


def test_failures_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(tmp_path, monkeypatch, "raise RuntimeError('no idea')\n")
    assert simplified([ONE], 60) == ([ONE], ["not simplified: output(s) 0; sympy failed (RuntimeError: no idea)."])
    depth = x
    for _ in range(5000):
        depth = sympy.sin(depth, evaluate=False)
    found, notes = simplified([depth], 60)
    assert found[0] is depth and notes[0].startswith("not simplified: the formula cannot be given to another process (RecursionError")


@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan"), None, True, "10"])
def test_time_limits(limit: Any) -> None:
    with pytest.raises(ValueError, match="time_limit must be a positive number of seconds; got"):
        simplified([x], limit)
