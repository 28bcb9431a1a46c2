"""Predictions in the terms of the data: numbers, classes by name, and their probabilities."""

from typing import Any

import numpy as np
import pytest
import torch

from kan import KAN
from kan.analysis import predictions
from tests.tables import Frame

pytestmark = pytest.mark.usefixtures("float64")

X = np.random.default_rng(0).uniform(-1, 1, (30, 2))
TENSOR = torch.tensor(X)


def new(outputs: int, link: str | None = None, names: Any = None) -> KAN:
    model = KAN([2, outputs], auto_save=False, seed=0)
    if link is not None:
        model.set_labels(classes=(link, names))
    return model


def test_numbers() -> None:
    model = new(2)
    for x in (X, X.tolist(), Frame({"a": X[:, 0], "b": X[:, 1]})):
        found = model.predict(x)
        assert isinstance(found, np.ndarray) and np.array_equal(found, model(TENSOR).detach().numpy())
    tensor = model.predict(TENSOR)
    assert isinstance(tensor, torch.Tensor) and torch.equal(tensor, model(TENSOR)) and not tensor.requires_grad


@pytest.mark.parametrize("names", [["a", "b", "c"], [3, 5, 9], [0.5, 1.5, 2.5]])
def test_one_output_per_class(names: list[Any]) -> None:
    model = new(3, "softmax", names)
    codes = model(TENSOR).argmax(1)
    found = model.predict(X)
    assert found.tolist() == [names[code] for code in codes.tolist()] and found.shape == (30,)
    other = model.predict(TENSOR)
    assert other.tolist() == found.tolist() and isinstance(other, np.ndarray) == isinstance(names[0], str)
    shares = model.predict_proba(X)
    assert isinstance(shares, np.ndarray) and shares.shape == (30, 3) and np.allclose(shares.sum(1), 1)
    assert np.array_equal(shares.argmax(1), codes.numpy()) and isinstance(model.predict_proba(TENSOR), torch.Tensor)


def test_one_output_for_two_classes() -> None:
    model = new(1)
    model.class_names = ["no", "yes"]
    assert model.class_link == "sigmoid"
    positive = model(TENSOR)[:, 0] > 0
    assert model.predict(X).tolist() == np.where(positive, "yes", "no").tolist()
    shares = model.predict_proba(X)
    assert np.allclose(shares.sum(1), 1) and np.array_equal(shares[:, 1] > 0.5, positive.numpy())


def test_several_choices() -> None:
    model = new(2, "sigmoid", [False, True])
    assert np.array_equal(model.predict(X), (model(TENSOR) > 0).numpy()) and model.predict(X).dtype == bool
    assert torch.equal(model.predict(TENSOR), model(TENSOR) > 0)
    assert np.allclose(model.predict_proba(X), torch.sigmoid(model(TENSOR)).detach())


def test_the_model_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = new(3, "softmax", ["a", "b", "c"])
    model(TENSOR[:5])
    expected = model.predict(X)
    monkeypatch.setattr(predictions, "ROWS", 7)
    assert np.array_equal(model.predict(X), expected), "however many rows are evaluated at a time"
    assert model.last_input is not None and len(model.last_input) == 5
    assert model.predict(X[:0]).shape == (0,)


def test_probabilities_are_those_of_classes() -> None:
    with pytest.raises(ValueError, match="the model has no classes. Fit it with a loss of classes"):
        new(2).predict_proba(X)


@pytest.mark.parametrize(
    ("outputs", "classes", "error", "sentence"),
    [
        (3, ("softmax", ["a", "b"]), ValueError, r"3 of them for 3 output\(s\) and the link 'softmax'; got \['a', 'b'\]"),
        (3, ("softmax", ["a", "b", "a"]), ValueError, "3 of them"),
        (1, ("sigmoid", ["a", "b", "c"]), ValueError, r"2 of them for 1 output\(s\)"),
        (2, ("logit", ["a", "b"]), ValueError, "unknown link 'logit'.*Valid are: 'softmax', 'sigmoid'"),
        (2, ("softmax", [None, "b"]), TypeError, "strings or numbers; got None of type NoneType"),
        (2, "ab", TypeError, "classes must be a pair of a link"),
        (2, ("softmax", "ab"), TypeError, "must be different strings or numbers, in a list; got 'ab'"),
    ],
)
def test_classes_that_the_outputs_cannot_stand_for(outputs: int, classes: Any, error: type[Exception], sentence: str) -> None:
    model = new(outputs)
    with pytest.raises(error, match=sentence):
        model.set_labels(classes=classes)
    assert model.class_names is None and model.class_link is None


def test_outputs_that_are_added_stand_for_no_class() -> None:
    model = new(2, "softmax", ["a", "b"])
    model.expand_width(1, 1)
    assert model.class_names is None and model.predict(X).shape == (30, 3)
