"""Labels that are classes: their names in a definite order, and a number for each."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kan import create_dataset_from_data
from kan.datasets.arrays import Dataset
from kan.datasets.classes import codes_of, named_classes, shown
from tests.tables import Frame, Series

PETS = ["dog", "cat", "dog", "emu"]
SORTED = ["cat", "dog", "emu"]


@pytest.mark.parametrize(
    "labels",
    [
        PETS, np.array(PETS), np.array(PETS, object), np.array(PETS)[:, None], Series(PETS), Series(np.array(PETS, object)),
        Frame({"y": PETS}),
    ],  # fmt: skip
    ids=["list", "array", "objects", "column", "series", "series of objects", "frame"],
)
def test_text(labels: Any) -> None:
    assert named_classes("y", labels) == (PETS, SORTED)


@pytest.mark.parametrize(
    "labels", [[True, False, True], np.array([True, False, True]), torch.tensor([[True], [False], [True]]), Series([True, False, True])]
)
def test_truth_values(labels: Any) -> None:
    assert named_classes("y", labels) == ([True, False, True], [False, True])


@pytest.mark.parametrize(
    "numbers",
    [
        [1, 2], np.array([1, 2]), np.ones((3, 2), bool), torch.ones(3), [1.5, None], Frame({"a": ["x"], "b": ["y"]}), np.array([], str),
        3, None,
    ],
)  # fmt: skip
def test_what_is_left_to_others(numbers: Any) -> None:
    assert named_classes("y", numbers) is None


@pytest.mark.parametrize(
    ("labels", "error", "sentence"),
    [
        (["a", None, "b", float("nan")], ValueError, "must have a class for every sample; 2 of 4 are missing, first in row 1"),
        (["a", 1], TypeError, r"classes of one type; got entries of the types \['int', 'str'\]"),
        (["1.5", "2.25"], TypeError, r"holds text of numbers, such as '1.5'; .astype\(float\) converts it to numbers"),
    ],
)
def test_what_is_refused(labels: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"y {sentence}" if not sentence.startswith("class") else sentence):
        named_classes("y", labels)


def test_digits_as_text_are_classes() -> None:
    assert named_classes("y", ["7", "1"]) == (["7", "1"], ["1", "7"])


@given(st.lists(st.sampled_from(["a", "b", "c d", "é"]), min_size=1))
def test_codes_lead_back_to_the_entries(labels: list[str]) -> None:
    named = named_classes("y", labels)
    assert named is not None
    entries, names = named
    assert [names[code] for code in codes_of("y", entries, names).tolist()] == labels and names == sorted(set(labels))


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ValueError, match=r"y must hold the classes \['cat', 'dog'\]; row 3 has 'emu'"):
        codes_of("y", PETS, SORTED[:2])
    assert shown(list(range(10))) == "[0, 1, 2, 3, 4, 5, 6, 7 and 2 more]"


def test_categories_of_pandas_are_in_their_own_order() -> None:
    pandas = pytest.importorskip("pandas")
    for labels in (pandas.Series(PETS, dtype=pandas.CategoricalDtype(["emu", "dog", "cat"])),):
        assert named_classes("y", labels) == (PETS, ["emu", "dog", "cat"])
    assert named_classes("y", pandas.Series([30, 10], dtype="category")) == ([30, 10], [10, 30])
    for labels in (pandas.Series(PETS), pandas.Series(PETS, dtype="category"), pandas.DataFrame({"y": PETS}), pandas.Index(PETS)):
        assert named_classes("y", labels) == (PETS, SORTED)
    assert named_classes("y", pandas.array([True, False], dtype="boolean")) == ([True, False], [False, True])
    for labels in (pandas.Series(["a", None]), pandas.Series(["a", None], dtype="category"), pandas.array([True, None], dtype="boolean")):
        with pytest.raises(ValueError, match="1 of 2 are missing, first in row 1"):
            named_classes("y", labels)


def test_categories_of_polars() -> None:
    polars = pytest.importorskip("polars")
    for labels in (polars.Series(PETS), polars.Series(PETS, dtype=polars.Categorical), polars.DataFrame({"y": PETS})):
        assert named_classes("y", labels) == (PETS, SORTED)
    assert named_classes("y", polars.Series(PETS, dtype=polars.Enum(["emu", "dog", "cat"]))) == (PETS, ["emu", "dog", "cat"])


# Data sets


X = np.random.default_rng(0).uniform(size=(20, 2))
FRAME = Frame({"mass": X[:, 0], "height": X[:, 1]})
NAMES = np.array(SORTED)[np.arange(20) % 3]


def test_a_data_set_knows_its_names() -> None:
    data = create_dataset_from_data(FRAME, Series(NAMES, "pet"), seed=0)
    assert isinstance(data, Dataset) and (data.in_vars, data.class_names) == (["mass", "height"], SORTED)
    assert data["train_label"].dtype == torch.int64 and data["train_label"].shape == (16,) and data["train_input"].shape == (16, 2)
    rows = [X.tolist().index(row) for row in data["train_input"].double().tolist()] if data["train_input"].dtype == torch.float64 else None
    assert rows is None or [SORTED[code] for code in data["train_label"].tolist()] == NAMES[rows].tolist()
    for other in (data.copy(), pickle.loads(pickle.dumps(data))):
        assert isinstance(other, Dataset) and (other.in_vars, other.class_names) == (data.in_vars, SORTED)
    numbers = create_dataset_from_data(FRAME, Series(X[:, 0], "speed"), seed=0)
    assert isinstance(numbers, Dataset) and (numbers.out_vars, numbers.class_names) == (["speed"], None)


def test_codes_belong_to_their_rows() -> None:
    x = np.arange(20.0)[:, None]
    data = create_dataset_from_data(x, NAMES, seed=0)
    for part in ("train", "test"):
        assert [SORTED[code] for code in data[f"{part}_label"].tolist()] == NAMES[data[f"{part}_input"][:, 0].int()].tolist()


def test_a_plain_dictionary_where_there_are_no_names() -> None:
    for labels in (X[:, 0], np.arange(20), torch.arange(20)):
        assert type(create_dataset_from_data(X, labels, seed=0)) is dict
    assert create_dataset_from_data(X, np.arange(20), seed=0)["train_label"].dtype == torch.int64, "counts stay counts"
