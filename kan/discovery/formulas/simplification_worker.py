"""Simplifies expressions in a process of its own: pickles come in by stdin and go out by stdout, one after the other.

It imports sympy and nothing of this package, so that it starts quickly. A process can be ended while sympy is at work; a thread cannot, and
an alarm would not be heard within one long operation on integers.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Simplify what comes in."""
    # A script's folder comes first among the places of imports; what lies beside this one must not hide modules that sympy needs.
    del sys.path[0]
    import pickle

    import sympy

    sys.setrecursionlimit(10_000)
    for expression in pickle.load(sys.stdin.buffer):
        sys.stdout.buffer.write(pickle.dumps(sympy.simplify(expression)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
