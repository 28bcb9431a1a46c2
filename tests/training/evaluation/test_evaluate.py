"""Loss and metrics on test data."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kan import KAN
from tests.tables import Frame, Series

pytestmark = pytest.mark.usefixtures("float64")

X = np.random.default_rng(0).uniform(-1, 1, (40, 2))
Y = X[:, [0]] * X[:, [1]]
PET = np.where(X[:, 0] > 0, "cat", "dog")


def classifier() -> KAN:
    model = KAN([2, 2], auto_save=False, seed=0)
    model.fit((X, PET), steps=5, opt="LM", loss_fn=nn.CrossEntropyLoss(), progress=False)
    return model


def test_the_root_of_the_squares() -> None:
    model = KAN([2, 1], grid=4, auto_save=False, seed=0)
    expected = float((model(X).detach() - torch.tensor(Y)).square().mean().sqrt())
    dictionary = {"test_input": torch.tensor(X), "test_label": torch.tensor(Y)}
    for data in (dictionary, (X, Y), (X.tolist(), Y.tolist()), (X, Series(Y[:, 0])), [(X[:10], Y[:10]), (X[10:], Y[10:])]):
        found = model.evaluate(data)
        assert found == {"test_loss": pytest.approx(expected), "n_edge": 2, "n_grid": 4}
    assert model.evaluate((X, Y), metrics=["r2"])["test_r2"] < 1


def test_units_that_the_model_maps_are_those_of_the_labels() -> None:
    model = KAN([2, 1], auto_save=False, seed=0)
    with pytest.warns(UserWarning, match="out of proportion"):
        history = model.fit((1e6 * X, 1e5 * Y), steps=3, progress=False)
    assert model.evaluate((1e6 * X, 1e5 * Y))["test_loss"] == pytest.approx(history["train_loss"][-1], rel=1e-6)


def test_classes() -> None:
    model = classifier()
    found = model.evaluate({"test_input": Frame({"a": X[:, 0], "b": X[:, 1]}), "test_label": PET})
    assert list(found) == ["test_loss", "test_accuracy", "n_edge", "n_grid"] and found["test_accuracy"] == 1.0
    codes = torch.tensor((PET == "dog").astype(int))
    assert found["test_loss"] == pytest.approx(float(nn.functional.cross_entropy(model(X).detach(), codes)))
    margin = model.evaluate((X, PET), nn.MultiMarginLoss())
    assert "test_accuracy" not in margin and margin["test_loss"] == pytest.approx(float(nn.MultiMarginLoss()(model(X).detach(), codes)))


def test_the_model_stays_as_it_is() -> None:
    model = classifier()
    seen, names = model.last_input, model.labels()
    model.evaluate((X[:3], PET[:3]))
    assert model.last_input is seen and model.labels() == names


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"train_input": X, "train_label": PET}, "the dataset must have the entries ['test_input', 'test_label']; missing: ['test_input',"),
        ((X, ["cow"] * 40), "the test label y must hold the classes ['cat', 'dog']; row 0 has 'cow'."),
        ((X[:, :1], PET), "the test input X must have the shape (number of samples, 2)"),
    ],
)
def test_what_is_refused(data: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        classifier().evaluate(data)
