"""The numbers in what users have: every entrance takes the same ones, and refuses the same things in a sentence."""

import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kan import KAN, create_dataset_from_data
from kan.datasets.real_numbers import columns_of, is_array, is_frame, is_table, real_numbers, select
from kan.discovery.data.observations import observations
from kan.discovery.laws.network_law import discover_law
from tests.tables import Frame, Series

pytestmark = pytest.mark.usefixtures("float64")

ROWS = 40
X = np.random.default_rng(0).uniform(1, 2, (ROWS, 2))
Y = X[:, 0] * X[:, 1]
SECOND = np.ma.array(X, mask=np.zeros(X.shape, bool))
SECOND[3:5, 1] = np.ma.masked
SECOND[4, 0] = np.ma.masked


def _model() -> KAN:
    return KAN([2, 1], grid=3, seed=0, auto_save=False)


def _column(y: Any) -> Any:
    return y[:, None] if isinstance(y, (np.ndarray, torch.Tensor)) and y.ndim == 1 else y


def _fitted(x: Any, y: Any) -> Any:
    _model().fit((x, _column(y)), steps=1, progress=False)


def _law(x: Any, y: Any) -> Any:
    discover_law(_model(), x, y, time_limit=0.01, progress=False)


ENTRANCES: dict[str, Callable[[Any, Any], Any]] = {
    "fit": _fitted,
    "fit, dictionary": lambda x, y: _model().fit({"train_input": x, "train_label": _column(y)}, steps=1, progress=False),
    "fit, batches": lambda x, y: _model().fit([(x, _column(y))], steps=1, opt="Adam", progress=False),
    "fit, validation": lambda x, y: _model().fit((X, Y[:, None]), validation=(x, _column(y)), steps=1, progress=False),
    "discover": observations,
    "a network's law": _law,
    "create_dataset_from_data": lambda x, y: create_dataset_from_data(x, y, seed=0),
}
entrances = pytest.mark.parametrize("entrance", ENTRANCES.values(), ids=ENTRANCES)

REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "masked": (SECOND, ValueError, "must have no masked entries: 3 of 80 are masked, in 2 of 40 rows. Drop these rows from inputs and"),
    "text of numbers": (X.astype(str), TypeError, r"must hold (real )?numbers; got (an array of )?<U"),
    "objects, text of numbers": (X.astype(str).astype(object), TypeError, r"must hold (real )?numbers; got (an array of )?str, '1\."),
    "dates": (np.arange(2 * ROWS).reshape(ROWS, 2).astype("datetime64[D]"), TypeError, "must hold (real )?numbers; got .*datetime64"),
    "objects, dates": (np.array([[np.datetime64("2020")] * 2] * ROWS, object), TypeError, "must hold (real )?numbers; got .*datetime64"),
    "complex": (X * 1j, TypeError, "must hold (real )?numbers; got .*complex"),
    "objects, complex": ((X * 1j).astype(object), TypeError, "must hold (real )?numbers; got .*complex"),
    "scipy, sparse": (scipy.sparse.csr_matrix(X), TypeError, r"must be a dense array; got a sparse csr_matrix. Convert it with .toarray"),
    "torch, sparse": (torch.tensor(X).to_sparse(), ValueError, r"must be a dense tensor; got torch.sparse_coo. Convert it with .to_dense"),
    "torch, meta": (torch.ones(ROWS, 2, device="meta"), ValueError, "is on the meta device, which has shapes but no numbers"),
}  # fmt: skip


@entrances
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(entrance: Callable[[Any, Any], Any], what: str) -> None:
    values, error, sentence = REFUSED[what]
    assert is_array(values)
    with pytest.raises(error, match=sentence):
        entrance(values, Y)
    with pytest.raises(error):
        entrance(X, values[:, 0] if isinstance(values, np.ndarray) else values)


@entrances
def test_masks_that_hide_nothing_and_masked_weights(entrance: Callable[[Any, Any], Any]) -> None:
    entrance(np.ma.array(X), np.ma.array(Y, mask=False))
    with pytest.raises(ValueError, match="sample_weight must have no masked entries: 1 of 40 are masked, in 1 of 40 rows"):
        _model().fit((X, Y[:, None]), sample_weight=np.ma.array(Y, mask=np.arange(ROWS) == 7), steps=1, progress=False)


@pytest.mark.filterwarnings("ignore:.*MaskedTensors is in prototype")
def test_masked_tensors() -> None:
    tensor = torch.tensor(X)
    with pytest.raises(ValueError, match="x must have no masked entries: "):
        real_numbers("x", torch.masked.masked_tensor(tensor, tensor > 1.1))


def test_masks_inside_of_lists() -> None:
    with pytest.raises(ValueError, match="x must have no masked entries: 3 of 80 are masked, in 2 of 40 rows"):
        real_numbers("x", list(SECOND))
    assert torch.equal(real_numbers("x", [np.ma.array(row) for row in X]), torch.tensor(X))


KINDS = st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<i2", ">i4", "<i8", ">i8", "|u1", "|b1"])


@given(arrays.arrays(KINDS, arrays.array_shapes()))
def test_numbers_of_arrays_stay(values: np.ndarray) -> None:
    found = real_numbers("x", values)
    assert found.shape == values.shape and np.array_equal(found.numpy(), values, equal_nan=values.dtype.kind == "f")
    assert found.numpy().dtype == values.dtype.newbyteorder("=") and not np.shares_memory(found.numpy(), values)


@given(st.lists(st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.fractions(), st.booleans(), st.none()), min_size=1))
def test_objects_that_are_numbers(values: list[Any]) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    with np.errstate(over="ignore"):
        expected = [np.nan if value is None else value if abs(value) < 1e308 else float("inf") for value in values]
    found = real_numbers("x", array)
    large = torch.tensor([value is not None and not abs(value) < 1e308 for value in values])
    assert torch.equal(found[~large].nan_to_num(7.5), torch.tensor([float(e) for e in expected])[~large].nan_to_num(7.5))


def test_kinds_of_objects() -> None:
    values = np.array([[Decimal("1.5"), Fraction(1, 4), np.float32(2), 3, True, torch.tensor(0.5)]], object)
    assert real_numbers("x", values).tolist() == [[1.5, 0.25, 2.0, 3.0, 1.0, 0.5]]
    with pytest.raises(TypeError, match=r"x must hold real numbers; got list, \[1\]"):
        real_numbers("x", np.array([[1], None], object))


def test_tensors_stay_what_they_are() -> None:
    x = torch.rand(3, 2, requires_grad=True)
    found = real_numbers("x", x)
    assert found.data_ptr() == x.data_ptr() and not found.requires_grad
    with torch.inference_mode():
        x = torch.rand(3, 2)
    assert not real_numbers("x", x).is_inference() and torch.equal(real_numbers("x", x), x)


def test_points_of_residuals_may_be_arrays() -> None:
    model = _model()
    history = model.fit_residuals(lambda u, x: u(x)[:, 0] - x[:, 0], X, steps=2)
    assert history[-1] < history[0]
    for points, error in ((SECOND, ValueError), (X.astype(str), TypeError), (torch.tensor(X).to_sparse(), ValueError)):
        with pytest.raises(error, match="points"):
            model.fit_residuals(lambda u, x: u(x)[:, 0], points, steps=1)
        with pytest.raises(error, match="points"):
            model.fit_residuals([lambda u, x: u(x)[:, 0]], [points], steps=1)


# Frames


def _pandas_frames(pandas: Any) -> dict[str, tuple[Any, str | None]]:
    """Frames with an odd second column, and what is said of it; None for those that are taken."""
    frame, numbers = pandas.DataFrame(X, columns=["a", "b"]), "columns {'b': "
    return {
        "categories": (frame.assign(b=pandas.Categorical(X[:, 1].round(1))), numbers + r"'category'} do not.*\.astype\(float\)"),
        "dates": (frame.assign(b=pandas.date_range("2020", periods=ROWS)), numbers + r"'datetime.*dates become numbers as"),
        "durations": (frame.assign(b=pandas.to_timedelta(np.arange(ROWS), "D")), numbers + r"'timedelta.*dates become numbers as"),
        "text": (frame.assign(b=frame["b"].astype(str)), numbers),
        "objects, text": (frame.assign(b=frame["b"].astype(str).astype(object)), numbers + "'object'"),
        "missing integers": (frame.assign(b=pandas.array([None, *range(ROWS - 1)], dtype="Int64")), "must be finite"),
        "missing objects": (frame.assign(b=np.array([pandas.NA, *X[1:, 1]], object)), "must be finite"),
        "integers": (frame.assign(b=pandas.array(range(ROWS), dtype="Int64")), None),
        "booleans": (frame.assign(b=pandas.array([True, False] * (ROWS // 2), dtype="boolean")), None),
        "decimals": (frame.assign(b=[Decimal(str(value)) for value in X[:, 1]]), None),
        "sparse": (frame.astype("Sparse[float64]"), None),
    }


@entrances
def test_columns_of_pandas(entrance: Callable[[Any, Any], Any]) -> None:
    pandas = pytest.importorskip("pandas")
    for name, (frame, sentence) in _pandas_frames(pandas).items():
        if sentence is None:
            entrance(frame, pandas.Series(Y))
            assert torch.equal(real_numbers("x", frame).double(), torch.tensor(frame.astype(float).to_numpy())), name
        elif not (sentence == "must be finite" and entrance is ENTRANCES["create_dataset_from_data"]):
            with pytest.raises((TypeError, ValueError), match=sentence.replace("{", r"\{")):
                entrance(frame, pandas.Series(Y))


def test_categories_by_themselves() -> None:
    pandas = pytest.importorskip("pandas")
    for values in (pandas.Categorical([30, 10, 20]), pandas.CategoricalIndex([30, 10, 20]), pandas.Series([30, 10, 20], dtype="category")):
        with pytest.raises(TypeError, match="'category'} do not"):
            real_numbers("y", values)
    assert real_numbers("y", pandas.array([1, 2], dtype="Int64")).tolist() == [1, 2]


@entrances
def test_rows_that_are_paired_by_position(entrance: Callable[[Any, Any], Any]) -> None:
    pandas = pytest.importorskip("pandas")
    frame, series = pandas.DataFrame(X, columns=["a", "b"]), pandas.Series(Y)
    for x, y, what in (
        (frame, series.iloc[::-1], "the same labels in different orders"),
        (frame.iloc[::-1], series, "the same labels in different orders"),
        (frame.drop(index=3).reindex([*range(3), *range(4, 40)]), series.drop(index=7), "labels in common, in different places"),
    ):
        with pytest.warns(UserWarning, match=f"the indices of .* and .* have {what}. Rows are paired by their position"):
            entrance(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index in (range(ROWS), range(100, 100 + ROWS), np.random.default_rng(1).permutation(200)[:ROWS]):
            entrance(frame.set_axis(index), series)
            entrance(frame.set_axis(index), series.set_axis(index))
            entrance(frame.set_axis(index), Y)


@entrances
def test_frames_of_polars(entrance: Callable[[Any, Any], Any]) -> None:
    polars = pytest.importorskip("polars")
    frame, series = polars.DataFrame(X, schema=["a", "b"]), polars.Series("y", Y)
    entrance(frame, series)
    assert torch.equal(real_numbers("x", frame), torch.tensor(X)) and torch.equal(real_numbers("y", series), torch.tensor(Y))
    text = frame["b"].round(1).cast(polars.String)
    for column in (text, text.cast(polars.Categorical)):
        with pytest.raises(TypeError, match=r"the columns \{'b': '\w+'\} do not"):
            entrance(frame.with_columns(column), series)


def test_names_of_frames_of_polars() -> None:
    polars = pytest.importorskip("polars")
    model = _model()
    model.fit((polars.DataFrame(X, schema=["a", "b"]), polars.Series("product", Y)), steps=1, progress=False)
    assert model.in_vars == ["a", "b"] and model.out_vars == ["product"]


# Other libraries


class Variable:
    """What a file has, as netCDF4 gives it: an array with a mask when it is read."""

    name = "height"

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


@entrances
def test_frames_and_arrays_of_other_libraries(entrance: Callable[[Any, Any], Any]) -> None:
    frame, series = Frame({"a": X[:, 0], "b": X[:, 1]}), Series(Y)
    assert is_frame(frame) and is_frame(series) and columns_of(frame) == ["a", "b"] and columns_of(series) is None
    entrance(frame, series)
    entrance(Variable(X), Variable(Y[:, None]))
    with pytest.raises(ValueError, match="must have no masked entries: 3 of 80 are masked"):
        entrance(Variable(SECOND), Y)
    with pytest.raises(TypeError, match=r"the columns \{'b': '<U3'\} do not \(b has 'n/a' in row 1\)"):
        entrance(Frame({"a": X[:, 0], "b": ["1.5", "n/a"] * (ROWS // 2)}), series)


def test_what_is_no_table() -> None:
    for value in (3.0, np.float64(3.0), "text", None, {1.0}, [], [(X, Y)], [X, Y], np.ndarray, [[[1.0]]]):
        assert not is_table(value)
    for table in ([1, 2], [[1.0, 2.0], [3.0, None]], range(3), ["a"], X, Variable(X)):
        assert is_table(table)


def test_columns_are_selected_by_name() -> None:
    frame = Frame({"a": X[:, 0], "b": X[:, 1]})
    assert select("x", frame, ["a", "b"]) is frame and select("x", X, ["a", "b"]) is X
    assert np.array_equal(np.asarray(select("x", frame, ["b"])), X[:, [1]])
    sentence = r"must have the 2 column\(s\) \['c', 'a'\] that the model takes; missing: \['c'\], present: \['a', 'b'\]"
    with pytest.raises(ValueError, match=sentence):
        select("x", frame, ["c", "a"])
    wide = Frame({f"c{i}": X[:, 0] for i in range(40)})
    for call in (lambda: select("x", frame, wide.columns), lambda: select("x", wide, ["a"])):
        with pytest.raises(ValueError, match="'c4' and 35 more") as error:
            call()
        assert len(str(error.value)) < 500


def test_of_many_columns_without_numbers_the_first_are_named() -> None:
    texts = Frame({f"c{i}": np.array(["1.5", "two"]) for i in range(40)})
    sentence = r"the columns \{'c0': '<U3', .* and 35 more\} do not \(c0 has 'two' in row 1, .* and 35 more\)"
    with pytest.raises(TypeError, match=sentence) as error:
        real_numbers("x", texts)
    assert len(str(error.value)) < 500
