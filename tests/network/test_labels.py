"""Names and normalisation: what they may be, that networks made of one another carry them, and that nothing else changes."""

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch

from kan import KAN
from kan.network.network import Network
from kan.surgery.select import select_nodes
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

NAMES = ["age", "height", "weight"]
LABELS: dict[str, Any] = {
    "in_vars": NAMES,
    "out_vars": ["risk", "cost"],
    "normalizer": ([40.0, 1.7, 70.0], [12.0, 0.25, 15.0]),
    "output_normalizer": ([0.5, 1e3], [0.25, 100.0]),
}


def labelled(width: tuple[int, ...] = (3, 4, 2), **arguments: Any) -> KAN:
    model = KAN([*width], auto_save=False, seed=1, **arguments)
    model.set_labels(**LABELS)
    model(uniform(50, 3))
    return model


# Setting them


def test_there_are_none_at_first_and_none_is_a_parameter_or_buffer() -> None:
    plain, model = KAN([3, 4, 2], auto_save=False, seed=1), labelled()
    assert plain.labels() == {} and [getattr(plain, label) for label in LABELS] == [None] * 4
    assert model.labels() == LABELS == {label: getattr(model, label) for label in LABELS}
    assert list(plain.state_dict()) == list(model.state_dict())
    assert dict(plain.named_buffers()).keys() == dict(model.named_buffers()).keys()
    assert plain.settings() == model.settings()
    assert torch.equal(plain(uniform(50, 3)), model(uniform(50, 3)))


def test_they_are_kept_as_plain_data() -> None:
    model = labelled()
    model.in_vars = np.array(["a", "b", "c"])
    model.out_vars = ("y", "z")
    model.normalizer = [torch.tensor([1.0, 2.0, 3.0]), np.float32([1, 1, 2])]
    model.output_normalizer = (range(2), [torch.tensor(2.0), 3])
    expected = {
        "in_vars": ["a", "b", "c"],
        "out_vars": ["y", "z"],
        "normalizer": ([1.0, 2.0, 3.0], [1.0, 1.0, 2.0]),
        "output_normalizer": ([0.0, 1.0], [2.0, 3.0]),
    }
    assert model.labels() == expected
    assert {type(name) for name in model.in_vars or ()} == {str}
    assert {type(number) for part in model.normalizer or () for number in part} == {float}
    model.in_vars = None
    model.set_labels(normalizer=None)
    assert model.labels().keys() == {"out_vars", "output_normalizer"}


def test_what_labels_returns_is_a_copy() -> None:
    model = labelled()
    model.labels()["in_vars"][0] = model.labels()["normalizer"][1][0] = 0
    assert model.labels() == LABELS


@pytest.mark.parametrize(
    ("label", "value", "error", "message"),
    [
        ("in_vars", "abc", TypeError, "in_vars must be a list of 3 names, one per column of the input; got 'abc'."),
        ("in_vars", 3, TypeError, "got 3."),
        ("in_vars", ["a", 2, "c"], TypeError, "one per column of the input, as strings; got 2 of type int. Convert it with str."),
        ("in_vars", ["a", "b"], ValueError, "in_vars must be a list of 3 names, one per column of the input; got 2."),
        ("out_vars", ["a"], ValueError, "out_vars must be a list of 2 names, one per column of the output; got 1."),
        ("in_vars", ["a", "", " "], ValueError, "those at [1, 2] are empty."),
        ("in_vars", ["b", "a", "b"], ValueError, "all different; 'b' occurs more than once."),
        (
            "normalizer",
            2.0,
            TypeError,
            "normalizer must be a pair (mean, std) of lists with 3 numbers each, one per column of the input; got 2.",
        ),
        ("normalizer", [0.0, 1.0], TypeError, "got [0.0, 1.0]."),
        ("normalizer", [[0.0] * 3], TypeError, "got [[0.0, 0.0, 0.0]]."),
        ("normalizer", torch.zeros(2, 3, 2), TypeError, "got tensor("),
        ("output_normalizer", [[0.0], [1.0, 1.0]], ValueError, "one per column of the output; got 1 and 2."),
        ("normalizer", [[0.0] * 2, [1.0] * 2], ValueError, "got 2 and 2."),
        ("normalizer", [[0.0, np.nan, 0.0], [1.0] * 3], ValueError, "the means must be finite, got [0.0, nan, 0.0]."),
        ("normalizer", [[0.0] * 3, [1.0, 0.0, 1.0]], ValueError, "the deviations must be finite and positive, got [1.0, 0.0, 1.0]."),
        ("output_normalizer", [[0.0] * 2, [1.0, np.inf]], ValueError, "finite and positive, got [1.0, inf]."),
        ("invars", ["a", "b", "c"], ValueError, "unknown label 'invars'; did you mean 'in_vars'"),
    ],
)
def test_what_is_refused_changes_nothing(label: str, value: Any, error: type[Exception], message: str) -> None:
    model = labelled()
    with pytest.raises(error, match=re.escape(message)):
        model.set_labels(**{"out_vars": ["p", "q"], label: value} if label != "out_vars" else {"in_vars": ["a", "b", "c"], label: value})
    assert model.labels() == LABELS
    if label in LABELS:
        with pytest.raises(error, match=re.escape(message)):
            setattr(model, label, value)
        assert model.labels() == LABELS


# Networks made of others


@pytest.mark.parametrize(
    "derived",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: model.copy(),
        lambda model: model.replace(seed=5),
        lambda model: model.blank(grid=5),
        lambda model: model.refine(6),
        lambda model: model.prune(node_th=0.0, edge_th=0.0),
        lambda model: model.prune_node(active_neurons_id=[[0, 2]]),
        lambda model: model.prune_input(active_inputs=[0, 2]),
        lambda model: model.prune_input(active_inputs=[0, 2]).prune_input(active_inputs=[1]).refine(6).copy().replace(k=2),
    ],
)
def test_networks_made_of_one_carry_its_labels(derived: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = labelled()
    new = derived(model)
    assert new.labels() == model.labels() == LABELS
    new.in_vars = ["a", "b", "c"]
    assert model.labels() == LABELS, "they share nothing"
    assert new(uniform(50, 3)).shape == (50, 2)


def test_a_network_of_the_same_settings_reads_the_same_columns() -> None:
    model = select_nodes(labelled(), [[0, 2], range(4), range(2)])
    new = model.replace(seed=3)
    assert new.input_width == 3 and new.input_id.tolist() == [0, 2] and new.input_id is not model.input_id
    assert new.trace().output.shape == (50, 2), "on the input that the other one remembers"
    assert new.used(NAMES) == ["age", "weight"]


def test_of_other_widths_only_the_labels_that_fit_are_carried() -> None:
    model = labelled()
    assert model.replace(width=[2, 2]).labels() == {label: LABELS[label] for label in ("out_vars", "output_normalizer")}
    assert model.replace(width=[3, 5, 1]).labels() == {label: LABELS[label] for label in ("in_vars", "normalizer")}
    assert Network([3, 2]).replace().labels() == {}


def test_dropped_outputs_take_their_labels_along() -> None:
    new = select_nodes(labelled(), [range(3), range(4), [1]])
    assert new.labels() == {**LABELS, "out_vars": ["cost"], "output_normalizer": ([1e3], [100.0])}


def test_expanded_networks() -> None:
    model = labelled()
    model.expand_depth()
    model.expand_width(1, 2)
    assert model.labels() == LABELS
    model.in_vars = ["x_1", "height", "weight"]
    model.expand_width(0, 2)
    assert model.in_vars == ["x_2", "x_3", "x_1", "height", "weight"]
    assert model.normalizer == ([0.0, 0.0, 40.0, 1.7, 70.0], [1.0, 1.0, 12.0, 0.25, 15.0])
    model.expand_width(-1, 1)
    assert model.out_vars == ["y_1", "risk", "cost"] and model.output_normalizer == ([0.0, 0.5, 1e3], [1.0, 0.25, 100.0])
    model.expand_width(-1, 1, sum_bool=False)
    assert model.out_vars == ["y_1", "risk", "cost", "y_2"]
    assert model(uniform(50, 5)).shape == (50, 4)


def test_new_columns_of_a_network_that_drops_some(capsys: pytest.CaptureFixture[str]) -> None:
    model = labelled().prune_input(active_inputs=[0, 2])
    model.expand_width(0, 1)
    assert model.in_vars == ["x_1", *NAMES] and model.used(model.in_vars) == ["x_1", "age", "weight"]
