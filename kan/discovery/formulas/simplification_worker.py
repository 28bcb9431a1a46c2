"""Script of a process that reads a pickled list of expressions from stdin and writes each simplified expression to stdout.

It imports sympy but nothing of this package, so that it starts quickly. Unlike a thread, a process can be ended while sympy is at work. A
signal handler is no alternative, since Python runs it only after a long operation on integers is complete.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Simplify the expressions from stdin."""
    # Python puts the folder of a script first in the search path. The files beside this one must not hide modules that sympy imports.
    del sys.path[0]
    import pickle

    import sympy

    sys.setrecursionlimit(10_000)
    for expression in pickle.load(sys.stdin.buffer):
        sys.stdout.buffer.write(pickle.dumps(sympy.simplify(expression)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
