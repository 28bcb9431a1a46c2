"""Metrics of a fit: without arguments, or of prediction and label."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kan import KAN
from kan.training.evaluation.metrics import accuracy, named_metrics, r2

pytestmark = pytest.mark.usefixtures("float64")

X = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
Y = X[:, [0]] * 2 + 20
CLASS = (X[:, 0] > 0).long()


def error(prediction: Tensor, label: Tensor) -> Tensor:
    return (prediction - label).square().mean().sqrt()


def one() -> float:
    return 1.0


def test_kinds_are_told_by_what_they_take() -> None:
    class Module(nn.Module):
        def forward(self, *args: Any) -> float:
            return 0.5

    found = named_metrics([one, error, partial(nn.functional.l1_loss, reduction="sum"), Module(), "accuracy", lambda *a: 2.0])
    assert list(found.plain) == ["one", "<lambda>"] and list(found.paired) == ["error", "l1_loss", "Module", "accuracy"]


@pytest.mark.parametrize(
    ("metrics", "kind", "sentence"),
    [
        (["acuracy"], ValueError, "unknown metric 'acuracy'; did you mean 'accuracy'?"),
        ([lambda a: 1.0], TypeError, "metrics must be functions without arguments, or of prediction and label; <lambda> takes ['a']."),
        ([error, error], ValueError, "'error' is taken"),
        ("accuracy", TypeError, "a list of functions without arguments, or of prediction and label; got str. Write metrics=['accuracy']."),
    ],
)
def test_what_is_refused(metrics: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=re.escape(sentence)):
        named_metrics(metrics)


def test_numbers_have_no_accuracy_and_classes_no_r2() -> None:
    model = KAN([2, 1], auto_save=False, seed=0)
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="'accuracy' is for classes, and the loss is one of numbers"):
            call((X, Y), metrics=["accuracy"])
    model = KAN([2, 2], auto_save=False, seed=0)
    with pytest.raises(ValueError, match=r"'r2' is for labels that are numbers.* got labels of the shape \(40,\) for .* \(40, 2\)"):
        model.fit((X, CLASS), loss_fn=nn.CrossEntropyLoss(), steps=1, metrics=["r2"], progress=False)


def test_they_are_of_training_test_and_validation_data() -> None:
    model = KAN([2, 1], auto_save=False, seed=0)
    history = model.fit(((X[:30], Y[:30]), (X[30:], Y[30:])), steps=3, validation=0.2, metrics=[error, one, "r2"], progress=False)
    assert list(history) == [
        "train_loss", "test_loss", "reg", "val_loss", "one", "train_error", "test_error", "val_error", "train_r2", "test_r2", "val_r2",
    ]  # fmt: skip
    for part in ("train", "test", "val"):
        assert history[f"{part}_error"] == pytest.approx(history[f"{part}_loss"], rel=1e-9), "in the units of the labels"
    assert history["one"] == [1.0] * 3 and history["test_r2"][-1] == pytest.approx(r2(model(X[30:]), Y[30:]))
    assert "test_error" not in KAN([2, 1], auto_save=False).fit((X, Y), steps=1, metrics=[error], progress=False)


def test_labels_that_are_mapped_are_shown_in_their_units() -> None:
    model, y = KAN([2, 1], auto_save=False, seed=0), 1e5 * Y
    with pytest.warns(UserWarning, match="out of proportion"):
        history = model.fit((X, y), steps=3, metrics=[error], progress=False)
    assert model.output_normalizer is not None and history["train_error"] == pytest.approx(history["train_loss"], rel=1e-6)


def test_accuracy_of_one_output_per_class_and_of_signs() -> None:
    history = KAN([2, 2], auto_save=False, seed=0).fit(
        (X, CLASS), steps=8, opt="LM", loss_fn=nn.CrossEntropyLoss(), metrics=["accuracy"], progress=False
    )
    assert history["train_accuracy"][-1] == 1.0
    assert accuracy(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [1.0]])) == 0.5
    assert accuracy(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([-100, 1])) == 1.0
    assert accuracy(torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 1.0]])) == 0.5


def test_functions_of_numpy_take_them() -> None:
    def share(prediction: Any, label: Any) -> np.floating[Any]:
        return np.mean(np.asarray(prediction).argmax(1) == np.asarray(label))

    loss_fn = nn.CrossEntropyLoss()
    history = KAN([2, 2], auto_save=False).fit((X, CLASS), steps=2, loss_fn=loss_fn, metrics=[share, "accuracy"], progress=False)
    assert history["train_share"] == history["train_accuracy"]
    with pytest.raises(TypeError, match="the metric 'pair' must return a number; it returned tuple"):
        KAN([2, 1], auto_save=False).fit((X, Y), steps=1, metrics=[pair], progress=False)


def pair(prediction: Tensor, label: Tensor) -> Any:
    return 1.0, 2.0
