"""What a model can be called with, and what is said of the rest."""

import re
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from kan import KAN
from kan.MLP import MLP
from tests.tables import Frame, Series

pytestmark = pytest.mark.usefixtures("float64")

X = np.random.default_rng(0).uniform(-1, 1, (20, 2))
TENSOR = torch.tensor(X)
FRAME = Frame({"mass": X[:, 0], "height": X[:, 1]})


def new(inputs: int = 2) -> KAN:
    return KAN([inputs, 3, 1], auto_save=False, seed=0)


def trained() -> KAN:
    model = new()
    model.fit((FRAME, X[:, [0]] * X[:, [1]]), steps=1, progress=False)
    return model


@pytest.mark.parametrize("x", [X, X.tolist(), FRAME, X.astype(object), np.ma.array(X)], ids=["array", "list", "frame", "objects", "masked"])
def test_what_is_taken(x: Any) -> None:
    model = new()
    expected = model(TENSOR)
    assert torch.equal(model(x), expected) and model.last_input is not None and torch.equal(model.last_input, TENSOR)
    model.get_act(x)
    model.update_grid(x)
    assert torch.equal(MLP([2, 3, 1], seed=0)(x), MLP([2, 3, 1], seed=0)(TENSOR))


def test_integers_and_truth_values_are_numbers() -> None:
    model, ones = new(), torch.ones(3, 2)
    for x in (ones.long(), ones.bool(), ones.int().numpy(), [[1, 1]] * 3, [[True, 1.0]] * 3):
        assert torch.equal(model(x), model(ones)) and model.last_input is not None and model.last_input.is_floating_point()
    model.fit((torch.arange(40).reshape(20, 2), TENSOR[:, [0]]), steps=1, progress=False)


def test_precision_is_the_models() -> None:
    model = new().float()
    for x in (X, TENSOR, X.astype(np.float32), TENSOR.half()):
        assert model(x).dtype == torch.float32
    assert torch.equal(model(X), model(TENSOR.float()))
    sentence = "the input must be finite in torch.float32; it holds numbers beyond 3.4e+38 in column(s) [1] (1 of 20 rows, first in row 7"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        new().float()(holed(1e300))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_samples_of_a_single_input(count: int) -> None:
    model, values = new(1), np.linspace(-1, 1, count)
    expected = model(torch.tensor(values)[:, None])
    for x in (values, values.tolist(), Series(values), torch.tensor(values)):
        assert torch.equal(model(x), expected)
    model.fit((values.tolist() * 9, [[value] for value in values.tolist() * 9]), steps=1, update_grid=False, progress=False)


def test_columns_are_taken_by_their_names() -> None:
    model = trained()
    expected = model(TENSOR)
    other = Frame({"colour": ["red"] * 20, "height": X[:, 1], "mass": X[:, 0]})
    assert model.in_vars == ["mass", "height"] and torch.equal(model(other), expected)
    assert torch.equal(model.copy().prune_input(threshold=0.0)(other), expected)
    model.fit(((other, X[:, [0]]), (FRAME, X[:, [0]])), validation=(other, X[:, [0]]), steps=0, progress=False)
    assert torch.equal(model.last_input, TENSOR) if model.last_input is not None else False
    for columns in ({"mass": X[:, 0]}, {"mass": X[:, 0], "Height": X[:, 1]}):
        with pytest.raises(ValueError, match=re.escape("the input must have the 2 column(s) ['mass', 'height'] that the model takes;")):
            model(Frame(columns))
        with pytest.raises(ValueError, match=re.escape("the test input X must have the 2 column(s) ['mass', 'height']")):
            model.fit(((FRAME, X[:, [0]]), (Frame(columns), X[:, [0]])), steps=1, progress=False)


def test_names_of_the_users_do_not_hide_those_of_the_frame() -> None:
    model = new()
    model.in_vars = ["m", "h"]
    model.fit((FRAME, X[:, [0]]), steps=1, progress=False)
    assert model.in_vars == ["m", "h"] and model.frame_columns == ["mass", "height"]
    assert torch.equal(model(FRAME[["height", "mass"]]), model(TENSOR))
    model.saveckpt("named")
    for other in (model.copy(), model.refine(4), KAN.loadckpt("named")):
        assert other.frame_columns == ["mass", "height"]
    with pytest.raises(ValueError, match=re.escape("missing: ['mass', 'height'], present: ['m', 'h']")):
        model(Frame({"m": X[:, 0], "h": X[:, 1]}))
    tensors = new()
    tensors.in_vars = ["m", "h"]
    assert torch.equal(tensors(Frame({"h": X[:, 1], "m": X[:, 0]})), tensors(TENSOR)), "names that were set by hand are names of columns"


def holed(hole: float) -> np.ndarray:
    x = X.copy()
    x[7, 1] = hole
    return x


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "missing": (Frame({"mass": X[:, 0], "height": holed(np.nan)[:, 1]}), ValueError, "['height'] (1 of 20 rows, first in row 7"),
    "infinite": (holed(np.inf), ValueError, "the input must be finite; it holds NaN or infinity in column(s) [1] (1 of 20 rows"),
    "text": (Frame({"mass": X[:, 0], "height": ["1.5", "tall"] * 10}), TypeError, "'<U4'} do not (height has 'tall' in row 1)"),
    "sparse": (scipy.sparse.csr_matrix(X), TypeError, "the input must be a dense array; got a sparse csr_matrix. Convert it with .toarray"),
    "complex": (X * 1j, TypeError, "the input must hold numbers; got complex ones."),
    "complex tensor": (TENSOR * 1j, TypeError, "the input must be a tensor of floating-point numbers; got torch.complex128."),
    "a string": ("data.csv", TypeError, "an array, a list of numbers or a frame, with one row per sample; got str."),
    "one sample": (X[0], ValueError, "got (2,). For a single sample write x[None], or [x] for a list."),
    "a column too many": (np.zeros((4, 3)), ValueError, "the input must have the shape (number of samples, 2)"),
    "ragged": ([[1.0, 2.0], [3.0]], TypeError, "must hold real numbers, as many in each row"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str) -> None:
    x, error, sentence = REFUSED[what]
    model = new()
    model(TENSOR[:3])
    for call in (model, model.predict, model.get_act, model.update_grid):
        with pytest.raises(error, match=re.escape(sentence)):
            call(x)
    assert model.last_input is not None and len(model.last_input) == 3, "what is refused is not remembered"


def test_nothing_is_no_input() -> None:
    with pytest.raises(TypeError, match="got NoneType"):
        new()(None)


def test_frames_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    model, frame = new(), pandas.DataFrame(X, columns=["mass", "height"])
    model.fit((frame, frame["mass"]), steps=1, progress=False)
    assert torch.equal(model(frame[["height", "mass"]].assign(note="x")), model(TENSOR))
    assert torch.equal(new(1)(frame["mass"]), new(1)(TENSOR[:, [0]]))
    with pytest.raises(ValueError, match=re.escape("['height'] (1 of 20 rows, first in row 3)")):
        model(frame.assign(height=frame["height"].where(frame.index != 3)))
    with pytest.raises(TypeError, match=re.escape("the columns {'height': 'category'} do not")):
        model(frame.assign(height=pandas.Categorical(["a"] * 20)))


def test_frames_of_polars() -> None:
    polars = pytest.importorskip("polars")
    model, frame = new(), polars.DataFrame(X, schema=["mass", "height"])
    model.fit((frame, frame["mass"]), steps=1, progress=False)
    assert model.in_vars == ["mass", "height"] and torch.equal(model(frame.select("height", "mass")), model(TENSOR))
    with pytest.raises(TypeError, match=re.escape("(height has 'tall' in row 0)")):
        model(frame.with_columns(height=polars.lit("tall")))
