"""An edge's function as programs write it, one of its parts at a time."""

import copy
import pickle
from typing import Any

import pytest
import sympy
import torch
from torch import Tensor

from kan.symbolic.library import SYMBOLIC_LIB, SymbolicFunction, lookup
from kan.symbolic.user_function import name_to_save, written


def square(u: Tensor) -> Tensor:
    return u * u


def written_parts(*entries: tuple[str, Any], start: str = "0") -> tuple[str, SymbolicFunction]:
    name, function = start, lookup(start)
    for table, entry in entries:
        name, function = written(name, function, table, entry)
    return name, function


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_all_parts_are_as_written_in_any_order(order: tuple[int, ...]) -> None:
    entries = [("funs", square), ("funs_name", "mine"), ("funs_sympy", sympy.cos), ("funs_avoid_singularity", lambda u, y_th: ((), u))]
    name, function = written_parts(*(entries[place] for place in order))
    assert (name, function.torch_fun, function.sympy_fun) == ("mine", square, sympy.cos)
    assert function.singularity_fun(torch.ones(()), 1.0)[1] == 1
    assert name_to_save(name, function) == "mine"


def test_what_is_not_written_follows_the_function_of_a_tensor() -> None:
    name, function = written_parts(("funs", square), start="0")
    u = torch.tensor(3.0)
    assert (name, function.torch_fun(u), function.singularity_fun(u, 10.0)[1]) == ("anonymous", 9, 9)
    assert function.sympy_fun(sympy.Symbol("u")) == sympy.Symbol("u") ** 2
    _, function = written_parts(("funs", square), ("funs", torch.cos))
    assert function.singularity_fun(u, 10.0)[1] == torch.cos(u)


def test_parts_of_their_own_stay() -> None:
    # A variant of sqrt that is safe in numerics is the same function in formulas, and near zero.
    name, function = written_parts(("funs", lambda u: u.clamp(min=1e-9).sqrt()), start="sqrt")
    assert (name, function.sympy_fun(sympy.Symbol("u"))) == ("sqrt", sympy.sqrt(sympy.Symbol("u")))
    assert function.singularity_fun is lookup("sqrt").singularity_fun
    assert name_to_save(name, function) == "anonymous", "the library's sqrt is another function"


@pytest.mark.parametrize("formula", [SYMBOLIC_LIB["sin"].sympy_fun, sympy.sin, lambda u: sympy.sin(u)])
def test_a_row_of_the_library_that_is_written_out_is_that_row(formula: Any) -> None:
    name, function = written_parts(("funs_name", "sin"), ("funs", torch.sin), ("funs_sympy", formula))
    assert function is SYMBOLIC_LIB["sin"] and name_to_save(name, function) == "sin"


def test_a_name_of_another_function_is_not_saved() -> None:
    name, function = written_parts(("funs_name", "cos"), start="sin")
    assert (name, function.torch_fun, name_to_save(name, function)) == ("cos", torch.sin, "anonymous")


def test_copies_and_pickles_are_written_functions_too() -> None:
    name, function = written_parts(("funs_name", "cos"), start="sin")
    for copied in (copy.deepcopy(function), pickle.loads(pickle.dumps(function))):
        assert copied.torch_fun is torch.sin and name_to_save(name, copied) == "anonymous"


def test_what_is_no_part_of_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match="an entry of funs must be a function; got 3"):
        written_parts(("funs", 3))
    with pytest.raises(TypeError, match="an entry of funs_name must be a string; got <built-in"):
        written_parts(("funs_name", torch.sin))
