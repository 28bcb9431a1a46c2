"""Labels that are classes, as the losses of torch take them."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kan import KAN, create_dataset_from_data
from kan.datasets.arrays import Dataset
from kan.training.data.classes import ClassLabels, Target, target_of
from kan.training.data.dataset import Data, check_dataset
from kan.training.models.of_network import TrainableNetwork
from tests.tables import Frame, Series

pytestmark = pytest.mark.usefixtures("float64")

X = np.random.default_rng(0).uniform(-1, 1, (60, 2))
CHOICE = X[:, 0] > 0
PET = np.where(X[:, 0] > 0.3, "cat", np.where(X[:, 1] > 0, "dog", "emu"))
CODES = np.unique(PET, return_inverse=True)[1]
PETS = ["cat", "dog", "emu"]
CE, BCE = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()


def new(outputs: int) -> KAN:
    return KAN([2, outputs], auto_save=False, seed=0)


def checked(outputs: int, y: Any, loss_fn: Any, x: Any = X) -> Data:
    return check_dataset(TrainableNetwork(new(outputs)), (x, y), loss_fn)


def fitted(outputs: int, y: Any, loss_fn: Any, **options: Any) -> KAN:
    model = new(outputs)
    model.fit((X, y), steps=2, opt="Adam", lr=0.01, loss_fn=loss_fn, progress=False, **options)
    return model


def test_what_losses_take() -> None:
    for loss in (CE, nn.functional.cross_entropy, partial(nn.functional.cross_entropy, label_smoothing=0.1), nn.NLLLoss()):
        assert target_of(loss) is Target.INDEX
    for loss in (BCE, nn.functional.binary_cross_entropy_with_logits):
        assert target_of(loss) is Target.INDICATOR
    for loss in (None, nn.L1Loss(), nn.MSELoss(), nn.functional.huber_loss):
        assert target_of(loss) is Target.NUMBERS
    assert target_of(lambda p, y: p.sum()) is Target.OTHER


@pytest.mark.parametrize("outputs", [1, 3])
def test_losses_of_numbers_refuse_classes(outputs: int) -> None:
    with pytest.raises(TypeError, match="y holds the classes .* and MSELoss is a loss of numbers. Pass loss_fn=torch.nn.CrossEntropyLoss"):
        fitted(outputs, PET, nn.MSELoss())
    dataset = create_dataset_from_data(X, PET)
    with pytest.raises(TypeError, match="holds the classes .* and L1Loss is a loss of numbers"):
        new(outputs).fit(dataset, loss_fn=nn.L1Loss(), progress=False)
    fitted(outputs, CODES[:, None].repeat(outputs, 1), nn.MSELoss())  # numbers


def test_a_class_of_losses_is_no_loss() -> None:
    sentence = re.escape("loss_fn must be a function; got the class CrossEntropyLoss. Pass an object of it, CrossEntropyLoss().")
    model = fitted(3, PET, CE)
    for call in (model.fit, model.evaluate, lambda data, loss_fn: model.auto_symbolic(data=data, loss_fn=loss_fn)):
        with pytest.raises(TypeError, match=sentence):
            call((X, PET), loss_fn=nn.CrossEntropyLoss)


def test_two_classes_need_one_output_for_the_binary_cross_entropy() -> None:
    with pytest.raises(ValueError, match=r"has 2 output\(s\).* as in KAN\(\[..., 2\]\), or torch.nn.BCEWithLogitsLoss\(\) and one output"):
        fitted(2, CHOICE, BCE)


INDEX: dict[str, tuple[Any, Any, list[Any]]] = {
    "text": (PET, CODES, PETS),
    "a list": (PET.tolist(), CODES, PETS),
    "a column of text": (PET[:, None], CODES, PETS),
    "a frame": (Frame({"pet": PET}), CODES, PETS),
    "a series": (Series(PET), CODES, PETS),
    "indices": (CODES, CODES, [0, 1, 2]),
    "a column of indices": (CODES[:, None], CODES, [0, 1, 2]),
    "a tensor of bytes": (torch.tensor(CODES, dtype=torch.uint8), CODES, [0, 1, 2]),
    "whole numbers": (CODES.astype(float), CODES, [0, 1, 2]),
    "other integers": (np.array([3, 5, 9])[CODES], CODES, [3, 5, 9]),
    "negative integers": (torch.tensor([-1, 0, 1])[torch.tensor(CODES)], CODES, [-1, 0, 1]),
}


@pytest.mark.parametrize("what", INDEX)
def test_indices_of_classes(what: str) -> None:
    y, codes, names = INDEX[what]
    data = checked(3, y, CE)
    assert data.first.y.dtype == torch.int64 and data.first.y.tolist() == codes.tolist()
    assert data.classes is not None and (data.classes.names, data.classes.link) == (names, "softmax")
    model = fitted(3, y, CE)
    assert model.class_names == names and model.class_link == "softmax" and model.labels()["classes"] == ("softmax", names)


INDICATOR: dict[str, tuple[int, Any, Any, list[Any]]] = {
    "text": (1, np.where(CHOICE, "yes", "no"), CHOICE[:, None], ["no", "yes"]),
    "truth values": (1, CHOICE, CHOICE[:, None], [False, True]),
    "a column of them": (1, torch.tensor(CHOICE)[:, None], CHOICE[:, None], [False, True]),
    "0 and 1": (1, CHOICE.astype(int), CHOICE[:, None], [0, 1]),
    "-1 and 1": (1, 2 * CHOICE.astype(int) - 1, CHOICE[:, None], [-1, 1]),
    "probabilities": (1, np.abs(X[:, [0]]), np.abs(X[:, [0]]), [0, 1]),
    "several labels": (2, X > 0, X > 0, [False, True]),
    "a frame of labels": (2, Frame({"p": (X > 0)[:, 0], "q": (X > 0)[:, 1]}), X > 0, [False, True]),
}


@pytest.mark.parametrize("what", INDICATOR)
def test_indicators_of_classes(what: str) -> None:
    outputs, y, values, names = INDICATOR[what]
    data = checked(outputs, y, BCE)
    assert data.first.y.dtype == torch.float64 and torch.equal(data.first.y, torch.tensor(values).double())
    model = fitted(outputs, y, BCE)
    assert model.class_names == names and model.class_link == "sigmoid"


def test_one_output_and_truth_values_of_the_cross_entropy() -> None:
    assert fitted(2, CHOICE, CE).class_names == [False, True]
    assert fitted(2, torch.tensor(CHOICE), CE).class_names == [False, True]


def test_probabilities_of_classes_and_samples_that_do_not_count() -> None:
    probabilities = np.random.default_rng(1).dirichlet([1, 1, 1], 60)
    data = checked(3, probabilities, CE)
    assert torch.equal(data.first.y, torch.tensor(probabilities)) and data.classes is not None and data.classes.link is None
    some = np.where(X[:, 1] > 0.5, -100, np.array([4, 6, 8])[CODES])
    assert checked(3, some, CE).first.y.tolist() == np.where(some == -100, -100, CODES).tolist()
    other = np.where(some == -100, -1, some)
    assert checked(3, other, nn.CrossEntropyLoss(ignore_index=-1)).first.y.tolist() == np.where(some == -100, -1, CODES).tolist()


def test_a_loss_of_the_users_own_gets_codes_of_text_and_the_rest_as_it_is() -> None:
    seen: list[Tensor] = []

    def loss(prediction: Tensor, label: Tensor) -> Tensor:
        seen.append(label)
        return nn.functional.cross_entropy(prediction, label.long())

    assert fitted(3, PET, loss).class_names == PETS and seen[-1].tolist() == CODES.tolist()
    assert fitted(3, np.array([0, 1, 2])[CODES] * 1.0, loss).class_names is None and seen[-1].dtype == torch.float64


REFUSED: dict[str, tuple[int, Any, Any, type[Exception], str]] = {
    "too many outputs": (4, PET, CE, ValueError, "holds the 3 classes ['cat', 'dog', 'emu'], and the network has 4 output(s). Take torch."),
    "one output": (1, PET, BCE, ValueError, "and one output per class, as in KAN([..., 3])."),
    "two classes": (3, CHOICE, CE, ValueError, "as in KAN([..., 2]), or torch.nn.BCEWithLogitsLoss() and one output."),
    "integers": (2, 5 * CODES, CE, ValueError, "holds the 3 classes [0, 5, 10], and the network has 2 output(s)"),
    "text without loss": (3, PET, None, TypeError, "holds the classes ['cat', 'dog', 'emu'], and without a loss_fn the mean squared error"),
    "flat integers": (3, CODES, None, ValueError, "got integers of the shape (60,). If they are classes, pass loss_fn=torch.nn.CrossEnt"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str) -> None:
    outputs, y, loss_fn, error, sentence = REFUSED[what]
    with pytest.raises(error, match=re.escape(sentence)):
        fitted(outputs, y, loss_fn)


def test_integers_without_a_loss_are_remarked_upon() -> None:
    for y, what in ((CHOICE[:, None].astype(int), "2 different integers, [0, 1]"), (CHOICE[:, None], "2 different truth values")):
        with pytest.warns(UserWarning, match=re.escape(f"fit: the training label y holds {what}") + ".*BCEWithLogitsLoss.*floating-point"):
            fitted(1, y, None)
    with pytest.warns(UserWarning, match="CrossEntropyLoss"):
        fitted(1, CODES[:, None], None)
    for numbers in (CHOICE[:, None].astype(float), np.arange(60)[:, None], 10 * CODES[:, None] + 30):
        fitted(1, numbers, None)


def test_the_test_data_have_the_same_classes() -> None:
    few = np.array(["emu", "cat"])
    model = new(3)
    model.fit(((X, PET), (X[:2], few)), steps=1, loss_fn=CE, progress=False)
    with pytest.raises(ValueError, match=re.escape("the test label y must hold the classes ['cat', 'dog', 'emu']; row 1 has 'cow'")):
        model.fit(((X, PET), (X[:2], ["emu", "cow"])), steps=1, loss_fn=CE, progress=False)


def test_a_second_fit_has_the_classes_of_the_first() -> None:
    model = fitted(3, np.array(["dog", "emu", "cow"])[CODES], CE)
    assert model.class_names == ["cow", "dog", "emu"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="row .* has 'cat'"):
        model.fit((X, PET), steps=1, loss_fn=CE, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.fit((X, CODES), steps=1, loss_fn=CE, progress=False)
    assert model.class_names == ["cow", "dog", "emu"], "integers are indices of classes that are called by text"
    model.class_names = None
    model.fit((X, PET), steps=1, loss_fn=CE, progress=False)
    assert model.class_names == PETS
    named = fitted(3, np.array([3, 5, 9])[CODES], CE)
    assert ClassLabels.of(CE, named.width_in[-1], named.class_names).read("y", np.array([9, 3])).tolist() == [2, 0]
    with pytest.raises(ValueError, match=re.escape("must hold the classes [3, 5, 9]; it holds [4] as well")):
        named.fit((X, np.array([3, 5, 4])[CODES]), steps=1, loss_fn=CE, progress=False)


def test_data_sets_bring_names_along() -> None:
    data = create_dataset_from_data(Frame({"p": X[:, 0], "q": X[:, 1]}), PET, seed=0)
    model = new(3)
    model.fit(data, steps=1, loss_fn=CE, progress=False)
    assert model.class_names == PETS and model.in_vars == ["p", "q"]
    with pytest.raises(TypeError, match="holds the classes .* and without a loss_fn the mean squared error of numbers is minimised"):
        new(1).fit(data, steps=1, progress=False)
    other = create_dataset_from_data(X, np.char.upper(PET), seed=0)
    with pytest.raises(ValueError, match=r"the model has the classes \['cat', .* the dataset has \['CAT', .*class_names = None"):
        model.fit(other, steps=1, loss_fn=CE, progress=False)


def test_codes_of_a_data_set_are_indices_whatever_the_classes_are_called() -> None:
    data = Dataset(zip(("train_input", "train_label", "test_input", "test_label"), [torch.tensor(X), torch.tensor(CODES)] * 2, strict=True))
    data.class_names = [2, 0, 1]
    model = new(3)
    model.fit(data, steps=1, loss_fn=CE, progress=False)
    assert model.class_names == [2, 0, 1]
    called = np.array(data.class_names)[CODES]
    assert model.evaluate(data)["test_accuracy"] == np.mean(model.predict(X) == called) == model.evaluate((X, called))["test_accuracy"]


def test_batches_hold_indices() -> None:
    batches = [(X[:20], CODES[:20]), (X[20:], CODES[20:])]
    model = new(3)
    model.fit(batches, steps=2, opt="Adam", lr=0.01, loss_fn=CE, progress=False)
    assert model.class_names == [0, 1, 2]
    with pytest.raises(ValueError, match=re.escape("must hold the classes [0, 1, 2]; it holds [3] as well")):
        new(3).fit([(X[:20], CODES[:20] + 1), (X, CODES)], steps=2, opt="Adam", loss_fn=CE, progress=False)


def test_labels_of_something_else_than_the_output() -> None:
    model = new(3)
    model.fit((X, PET), steps=2, opt="Adam", loss_fn=CE, progress=False, pred_fn=lambda network, x: 2 * network(x))
    assert model.class_names is None, "the model's own outputs may mean anything"


def test_weights_of_classes_and_samples_in_another_precision() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float32)
    for opt in ("LBFGS", "LM"):
        model = new(3)
        history = model.fit((X, PET), steps=3, opt=opt, loss_fn=nn.CrossEntropyLoss(weight=weight), progress=False)
        assert history["train_loss"][-1] < history["train_loss"][0]
        single = new(3).float()
        single.fit((X, PET), steps=1, opt=opt, loss_fn=nn.CrossEntropyLoss(weight=weight.double()), progress=False)
    assert weight.dtype == torch.float32
    new(3).fit((X, PET), steps=1, loss_fn=nn.CrossEntropyLoss(weight=weight), sample_weight=np.linspace(0, 1, 60), progress=False)


def test_names_survive_what_is_made_of_the_model() -> None:
    model = fitted(3, PET, CE)
    model.saveckpt("pets")
    model.save("pets.kan")
    for other in (
        model.copy(), model.refine(5), model.prune(node_th=0.0, edge_th=0.0), model.prune_input(threshold=0.0), KAN.loadckpt("pets"),
        KAN.load("pets.kan"), KAN.from_state_dict(model.state_dict()),
    ):  # fmt: skip
        assert other.class_names == PETS and other.class_link == "softmax"
        assert np.array_equal(other.predict(X), model.predict(X))


def test_restarts_and_levels() -> None:
    model = new(3)
    history = model.fit((X, PET), steps=2, loss_fn=CE, restarts=2, grids=[3, 5], metrics=["accuracy"], progress=False)
    assert model.class_names == PETS and len(history["train_accuracy"]) == 4


def test_pruning_with_a_tolerance() -> None:
    model = KAN([2, 4, 3], auto_save=False, seed=0)
    model.fit((X, PET), steps=15, opt="LM", loss_fn=CE, lamb=1e-2, progress=False)
    pruned = model.prune(tolerance=0.05)
    before, after = (one.evaluate((X, PET))["test_loss"] for one in (model, pruned))
    assert after <= 1.05 * before + 1e-9 and pruned.class_names == PETS and pruned.n_edge < model.n_edge
