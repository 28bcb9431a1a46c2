"""What the tests of symbolic functions share."""

from collections.abc import Iterator

import pytest

from kan.symbolic import SYMBOLIC_LIB, SymbolicFunction


@pytest.fixture
def table() -> Iterator[dict[str, SymbolicFunction]]:
    """The table, put back as it was after the test."""
    before = dict(SYMBOLIC_LIB)
    yield SYMBOLIC_LIB
    SYMBOLIC_LIB.clear()
    SYMBOLIC_LIB.update(before)
