"""Rows of the table: pykan's tuples, copies and pickles."""

import copy
import pickle

import pytest
import sympy
import torch

from kan.symbolic import SYMBOLIC_LIB, SymbolicFunction, add_symbolic

pytestmark = pytest.mark.filterwarnings("error")

NAMES = list(SYMBOLIC_LIB)


@pytest.mark.parametrize("name", NAMES)
def test_row_behaves_as_the_four_tuple(name: str) -> None:
    row = SYMBOLIC_LIB[name]
    torch_fun, sympy_fun, complexity, singularity_fun = row
    assert len(row) == 4
    assert (row[0], row[1], row[2], row[-1]) == (torch_fun, sympy_fun, complexity, singularity_fun)


@pytest.mark.parametrize("name", NAMES)
def test_row_survives_pickling(name: str) -> None:
    row = pickle.loads(pickle.dumps(SYMBOLIC_LIB[name]))
    u = torch.tensor([0.3, 0.7], dtype=torch.float64)
    torch.testing.assert_close(row.torch_fun(u), SYMBOLIC_LIB[name].torch_fun(u), rtol=0, atol=0)
    assert row.symmetries == SYMBOLIC_LIB[name].symmetries


def test_rows_of_the_package_are_pickled_by_name(table: dict[str, SymbolicFunction]) -> None:
    rows = [table[name] for name in NAMES]
    text = pickle.dumps(rows)
    assert len(text) < 1000 and b"cloudpickle" not in text
    add_symbolic("sin", torch.cos)
    assert all(one is other for one, other in zip(pickle.loads(text), rows, strict=True))
    assert table["sin"].torch_fun is torch.cos
    replaced = pickle.loads(pickle.dumps(table["sin"]))
    assert replaced.torch_fun is torch.cos and replaced.name == "sin"
    for name in NAMES:
        assert copy.deepcopy(table[name]) is table[name] or name == "sin"


def test_rows_of_the_user_are_pickled_with_their_code(table: dict[str, SymbolicFunction]) -> None:
    factor = 3.0
    add_symbolic("mine", lambda u: factor * u, c=4, fun_singularity=lambda u, y_th: ((), factor - u))
    text = pickle.dumps([table["mine"], table["mine"]])
    del table["mine"]
    row, again = pickle.loads(text)
    u = torch.tensor([0.5])
    assert row is again and row.name == "mine" and row.complexity == 4 and "mine" not in table
    assert row.torch_fun(u).item() == 1.5 and row.singularity_fun(u, 1.0)[1].item() == 2.5
    assert str(row.sympy_fun(sympy.Symbol("s"))) == "mine(s)"


def test_copies_of_rows_share_their_functions(table: dict[str, SymbolicFunction]) -> None:
    add_symbolic("mine", lambda u: u)
    row, again = copy.deepcopy([table["mine"], table["mine"]])
    assert row is again and row.torch_fun is table["mine"].torch_fun and row.symmetries == table["mine"].symmetries
    assert copy.copy(row) is row


def test_a_row_that_this_version_lacks_is_named(table: dict[str, SymbolicFunction]) -> None:
    text = pickle.dumps(table["arctan"]).replace(b"arctan", b"arctam")
    with pytest.raises(ValueError, match="unknown symbolic function 'arctam'; did you mean 'arctan'"):
        pickle.loads(text)


def test_a_row_shows_itself_in_a_line() -> None:
    assert repr(SYMBOLIC_LIB["x^2"]) == "SymbolicFunction('x^2', complexity=2)"


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("library", "_built_in _unpickled _regular _unguarded _sympy_call _sympy_undefined _sympy_power _sympy_gaussian"),
        ("library", "_identity _zero _gaussian Symmetries SymbolicFunction f_inv f_exp"),
        ("families", "_extended from_name power"),
    ],
)
def test_names_in_older_pickles_are_found(module: str, names: str) -> None:
    for name in names.split():
        assert callable(pickle.loads(f"ckan.symbolic.{module}\n{name}\n.".encode()))


def test_older_pickles_of_built_in_rows_are_read() -> None:
    assert pickle.loads(b"ckan.symbolic.library\n_built_in\n(V1/x\ntR.") is SYMBOLIC_LIB["1/x"]
    assert pickle.loads(b"ckan.symbolic.families\n_extended\n(Vcosh\ntR.").torch_fun is torch.cosh
