"""What comes into the search for a law."""

from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor

from kan import KAN
from kan.discovery.data.observations import check_options, observations
from kan.discovery.discover import discover
from kan.discovery.laws.network_law import discover_law

X = torch.rand(60, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 1
Y = X[:, 0] / X[:, 1]


@pytest.mark.parametrize(
    ("column", "sentence", "multiple"),
    [
        (X[:, 0], "c, column 2 of X, is a; it is left out", (0, 1)),
        (X[:, 1] * -0.3, r"c, column 2 of X, is -0\.3 times b; it is left out", (1, -0.3)),
        (X[:, 0] * 1e200, r"is 1e\+200 times a", (0, 1e200)),
        (torch.full((60,), 6.67e-11).double(), "c, column 2 of X, is constant, 6.67e-11; it is left out", (None, 6.67e-11)),
        (torch.zeros(60).double(), "is constant, 0", (None, 0.0)),
    ],
)
def test_columns_that_tell_nothing_are_left_out(column: Tensor, sentence: str, multiple: tuple[int | None, float]) -> None:
    with pytest.warns(UserWarning, match=sentence):
        given = observations(torch.cat([X, column[:, None]], 1), Y, ["a", "b", "c"])
    assert given.kept == (0, 1) and [str(symbol) for symbol in given.symbols] == ["a", "b", "c"]
    other, factor = given.multiples[2]
    assert other == multiple[0] and factor == pytest.approx(multiple[1], rel=1e-12)


@pytest.mark.parametrize("row", [0, 999, 1000, 4999])
def test_what_holds_in_many_rows_but_one_does_not_hold(row: int) -> None:
    x = torch.rand(5000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:, 1:] = torch.stack([3 * x[:, 0], -x[:, 0], torch.ones(5000)], 1)
    with pytest.warns(UserWarning, match="left out"):
        assert observations(x, x[:, 0]).kept == (0,)
    x[row, 2:] *= 1.001
    with pytest.warns(UserWarning, match="x_2, column 1 of X, is 3 times x_1"):
        assert observations(x, x[:, 0]).kept == (0, 2, 3)


def test_columns_that_are_constant_where_one_looks() -> None:
    x = torch.cat([X, 2 * X[:, 1:], torch.full((60, 1), 5.0)], 1)
    with pytest.warns(UserWarning, match="left out"):
        given = observations(x, Y, ["a", "b", "c", "d"])
    assert given.varying(x) is given
    x[:, 1] = 0.5
    fewer = given.varying(x)
    assert fewer.kept == (0,) and fewer.multiples == {1: (None, 0.5), 2: (None, 1.0), 3: (None, 5.0)}


def test_columns_that_are_nearly_the_same_stay() -> None:
    x = torch.stack([X[:, 0], X[:, 0] * (1 + 1e-9 * X[:, 1]), 5 + 1e-9 * X[:, 1]], 1)
    assert observations(x, Y).kept == (0, 1, 2)
    with pytest.raises(ValueError, match="all columns of X are constant"):
        observations(torch.ones(60, 1), Y)


def test_a_law_without_the_columns_that_are_left_out() -> None:
    x = torch.cat([torch.ones(60, 1).double(), X[:, :1], X[:, :1], X[:, 1:]], 1)
    with pytest.warns(UserWarning) as told:
        found = discover(x, Y, variables=["one", "a", "a again", "b"], time_limit=60)
    assert len(told) == 2
    assert [str(symbol) for symbol in found.variables] == ["one", "a", "a again", "b"] and str(found[0].formula) == "a/b"
    assert torch.allclose(found[0].network(x)[:, 0], Y, rtol=1e-12)


def test_spline_networks_take_all_columns() -> None:
    from kan.discovery.discover import _widen_
    from kan.network.network import Network

    network = Network([2, 1]).double()
    before = network(X)
    _widen_(network, (0, 2), 3)
    assert torch.equal(network(torch.stack([X[:, 0], Y, X[:, 1]], 1)), before)


NAMES = ["I", "E", "S", "N", "pi", "beta", "lambda", "zoo", "Q", "exp", "x y", "O", "gamma"]


@pytest.mark.parametrize("names", list(zip(NAMES[::2], NAMES[1::2], strict=False)))
def test_names_that_sympy_has_for_something_else(names: tuple[str, str]) -> None:
    found = discover(X, 2 * X[:, 0] * torch.exp(-X[:, 1]), variables=names, time_limit=60)
    law = found[0]
    a, b = found.variables
    assert law.verdict == "exact" and law.formula is not None and law.formula.free_symbols == {a, b} and (str(a), str(b)) == names
    assert sympy.simplify(law.formula - 2 * a * sympy.exp(-b)) == 0
    if str(a).isidentifier() and not {"lambda", "exp"} & set(names):
        assert sympy.sympify(str(law.formula), locals=dict(zip(names, (a, b), strict=True))) == law.formula
    assert torch.allclose(law.network(X)[:, 0], 2 * X[:, 0] * torch.exp(-X[:, 1]), rtol=1e-12)
    assert names[0] in str(found) and names[1] in str(law)


class Frame:
    """What of pandas' frames is used."""

    def __init__(self, values: np.ndarray, columns: list[Any]) -> None:
        self.values, self.columns = values, columns

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X.numpy(), Y.numpy()),
        (X.tolist(), Y.tolist()),
        (X.clone().requires_grad_(), Y[:, None]),
        (X.numpy().astype(object), tuple(Y.tolist())),
        (Frame(X.numpy(), [0, 1]), Frame(Y.numpy()[:, None], ["y"])),
        (np.ascontiguousarray(X.numpy()[::-1])[::-1], Y),
    ],
)
def test_forms_of_data(x: Any, y: Any) -> None:
    given = observations(x, y)
    assert torch.equal(given.x, X) and torch.equal(given.y[:, 0], Y) and given.x.dtype == given.y.dtype == torch.float64
    assert [str(symbol) for symbol in given.symbols] == ["x_1", "x_2"] and not given.x.requires_grad


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8, np.uint16, np.uint64, np.int64, bool, np.longdouble])
def test_types_of_numbers(kind: Any) -> None:
    x = (np.arange(40).reshape(20, 2) % 7 % 3 % 2).astype(kind)
    given = observations(x, x[:, 0])
    assert np.array_equal(given.x.numpy(), x.astype(float)) and np.array_equal(given.y[:, 0].numpy(), x[:, 0].astype(float))
    if kind not in (np.longdouble,):
        tensors = observations(torch.as_tensor(x), torch.as_tensor(x)[:, 0])
        assert torch.equal(tensors.x, given.x)


def test_names_of_frames() -> None:
    values = X.numpy()
    assert [str(symbol) for symbol in observations(Frame(values, ["m", "v"]), Y).symbols] == ["m", "v"]
    assert [str(symbol) for symbol in observations(Frame(values, ["m", "v"]), Y, ["p", "q"]).symbols] == ["p", "q"]
    assert [str(symbol) for symbol in observations(Frame(values, ["m", "m"]), Y).symbols] == ["x_1", "x_2"]


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    given = observations(pandas.DataFrame(X.numpy(), columns=["m", "v"]), pandas.Series(Y.numpy()))
    assert [str(symbol) for symbol in given.symbols] == ["m", "v"] and torch.equal(given.x, X)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (torch.rand(50), torch.rand(50), ValueError, r"got \(50,\)\. For one variable write X\[:, None\]"),
        ([1.0] * 50, [2.0] * 50, ValueError, r"For one variable write X\[:, None\]"),
        (torch.rand(50, 0), torch.rand(50), ValueError, r"got \(50, 0\) and \(50,\)"),
        (torch.rand(50, 1), torch.rand(50, 2), ValueError, r"got \(50, 1\) and \(50, 2\)"),
        (torch.rand(50, 1), torch.tensor(1.0), ValueError, r"got \(50, 1\) and \(\)"),
        (torch.rand(50, 1), [1.0, np.inf] * 25, ValueError, r"y must be finite; it holds NaN or infinity in column\(s\) \[0\]"),
        (torch.rand(50, 1), [1j] * 50, TypeError, "y must hold real numbers; got complex ones"),
        (np.ones((50, 1), complex), torch.rand(50), TypeError, "X must hold real numbers; got complex ones"),
        ([["a"]] * 50, torch.rand(50), TypeError, "X must hold real numbers; got <U1"),
        ([[1.0], [1.0, 2.0]], [1.0, 2.0], TypeError, "X must hold real numbers, as many in each row"),
        (None, torch.rand(50), ValueError, r"got \(\) and \(50,\)"),
    ],
)
def test_data_that_cannot_work(x: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        observations(x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_limit": 0}, "time_limit must be a positive number of seconds; got 0"),
        ({"time_limit": float("nan")}, "time_limit must be a positive number"),
        ({"time_limit": "10"}, "time_limit must be a positive number of seconds; got '10'"),
        ({"time_limit": None}, "time_limit must be a positive number"),
        ({"noise": -0.1}, "noise must be the standard deviation of the errors of y, 0 or more, or None .*; got -0.1"),
        ({"noise": float("nan")}, "noise must be"),
        ({"noise": float("inf")}, "noise must be"),
        ({"noise": "0.1"}, "noise must be"),
        ({"seed": 0.5}, "seed must be an integer; got 0.5"),
        ({"seed": None}, "seed must be an integer"),
        ({"variables": "ab"}, "variables must be a list of names, got the string 'ab'"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        discover(X, Y, **options)


def test_options_that_can() -> None:
    check_options(float("inf"), 0, np.int64(3))
    check_options(np.float32(2), np.float64(0.1), -1)


def test_unknown_functions_are_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'sin'"):
        discover(X, Y, library=["sinn"])


def test_classes_have_no_law() -> None:
    x, y = torch.rand(6, 2), ["cat", "dog"] * 3
    for look in (lambda: observations(x, y), lambda: discover_law(KAN([2, 1], auto_save=False), x, y)):
        with pytest.raises(TypeError, match=r"y must hold numbers, which a law is about; it holds the classes \['cat', 'dog'\].*output=0"):
            look()
