"""Nested lists that pass on what is written into them."""

import copy
import pickle
from typing import Any

import pytest

from kan.layers.function_tables import FunctionTable


def table() -> tuple[FunctionTable, list[tuple[int, int, Any]]]:
    """Two rows of three names, and what is written."""
    log: list[tuple[int, int, Any]] = []
    return FunctionTable.nested([["a", "b", "c"], ["d", "e", "f"]], lambda j, i, name: log.append((j, i, name))), log


def test_entries_rows_and_the_whole_are_written() -> None:
    names, log = table()
    names[0][1] = "x"
    names[-1] = ["y", "z", "w"]
    names[0][1:] = ["u", "v"]
    names[:1] = [["r", "s", "t"]]
    assert log == [
        (0, 1, "x"), (1, 0, "y"), (1, 1, "z"), (1, 2, "w"), (0, 1, "u"), (0, 2, "v"), (0, 0, "r"), (0, 1, "s"), (0, 2, "t"),
    ]  # fmt: skip
    assert names == [["r", "s", "t"], ["y", "z", "w"]], "the list shows what was written"


def test_what_is_no_entry_for_every_edge_is_refused() -> None:
    names, log = table()
    for wrong in (lambda: names.append(["x"]), lambda: names[0].pop(), lambda: names[0].extend("x"), lambda: names.clear()):
        with pytest.raises(TypeError, match="one entry for every edge of the layer, neither more nor less: assign to its entries"):
            wrong()
    with pytest.raises(ValueError, match="one entry for every edge of the layer: 3 are expected here; got 2"):
        names[0] = ["x", "y"]
    with pytest.raises(TypeError, match="a list with one entry for every edge is expected here; got 'sin'"):
        names[0] = "sin"
    with pytest.raises(IndexError):
        names[0][3] = "x"
    assert log == [] and names == [["a", "b", "c"], ["d", "e", "f"]]


def test_copies_are_lists_of_their_own() -> None:
    names, log = table()
    for copied in (copy.deepcopy(names), pickle.loads(pickle.dumps(names))):
        assert type(copied) is list and type(copied[0]) is list and copied == names
        copied[0][0] = "x"
    assert log == [] and names[0][0] == "a"
