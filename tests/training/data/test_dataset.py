"""What a dataset may be, and what is said about one that may not."""

import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kan.network.network import Network
from kan.training.data.batches import Everything, FromLoader, Some, make_batches
from kan.training.data.dataset import Data, check_dataset, names_of_columns
from kan.training.data.loaders import Loader
from kan.training.data.samples import Samples
from kan.training.fit import fit
from kan.training.models.of_network import TrainableNetwork
from kan.training.options import FitOptions

pytestmark = pytest.mark.usefixtures("float64")


def pair(count: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return x, torch.sin(3 * x[:, [0]]) + x[:, [1]] ** 2


def loader(count: int = 40, size: int = 10, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*pair(count)), batch_size=size, **options)


def checked(dataset: Any, **options: Any) -> Data:
    return check_dataset(TrainableNetwork(Network([2, 2, 1])), dataset, **options)


X, Y = pair()
FULL = {"train_input": X, "train_label": Y, "test_input": X[:9], "test_label": Y[:9]}


def test_dictionaries() -> None:
    data = checked(FULL)
    assert isinstance(data.train, Samples) and torch.equal(data.train.x, X) and data.test is not None and len(data.test) == 9
    assert checked({name: FULL[name] for name in ("train_input", "train_label")}).test is None


def test_arrays_and_pairs_of_them_train_the_same_network() -> None:
    states = []
    for dataset in (FULL, (X, Y), (X.numpy(), Y.numpy()), ((X, Y), (X[:9], Y[:9])), ((X, Y), [(X[:5], Y[:5]), (X[5:9], Y[5:9])])):
        network = Network([2, 2, 1])
        results = fit(network, dataset, FitOptions(steps=2, log=0))
        states.append(torch.cat([p.reshape(-1) for p in network.parameters()]))
        tested = results["test_loss"] != results["train_loss"]
        assert tested == (dataset is FULL or isinstance(dataset[0], tuple))
    assert all(torch.equal(states[0], other) for other in states)


def test_integers_of_arrays_become_numbers_and_classes_stay() -> None:
    x = np.arange(12).reshape(6, 2)
    data = checked((x, x[:, :1]))
    assert data.first.x.dtype == data.first.y.dtype == torch.float64
    classes = checked((x, x[:, 0]), loss_fn=lambda output, y: output.sum()).first.y
    assert classes.dtype == torch.int64 and classes.shape == (6,)
    options = FitOptions(steps=2, log=0, loss_fn=nn.functional.cross_entropy)
    results = fit(Network([2, 3]), (X.numpy(), (X[:, 0] > 0).numpy().astype(int)), options)
    assert results["train_loss"][1] < results["train_loss"][0]


def test_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": X[:, 0].numpy(), "b": np.arange(40)})
    data = checked((frame, pandas.Series(Y[:, 0].numpy(), name="y")))
    assert torch.equal(data.first.x, torch.stack([X[:, 0], torch.arange(40.0)], 1)) and torch.equal(data.first.y, Y)
    assert checked((frame, frame["b"]), loss_fn=lambda output, y: output.sum()).first.y.dtype == torch.int64
    with pytest.raises(TypeError, match=re.escape("the training input X must hold numbers; the columns {'b': ")):
        checked((frame.assign(b="text"), frame[["a"]]))
    with pytest.raises(ValueError, match=re.escape("holds NaN or infinity in column(s) ['b'] (1 of 40 rows, first in row 0)")):
        checked((frame.assign(b=[None] + [1.0] * 39), frame[["a"]]))


def test_columns_of_frames_give_their_names() -> None:
    pandas = pytest.importorskip("pandas")

    def named(x: Any, y: Any, form: int = 0, names: Any = None, **options: Any) -> tuple[Any, Any]:
        network = Network([2, 1])
        network.in_vars = names
        dataset = [(x, y), {"train_input": x, "train_label": y}, ((x, y), (X, Y)), [x, y]][form]
        fit(network, dataset, FitOptions(steps=1, log=0, **options))
        return network.in_vars, network.out_vars

    def frames(columns: Any, labels: Any = ("y",)) -> tuple[Any, Any]:
        return pandas.DataFrame(X.numpy(), columns=columns), pandas.DataFrame(Y.numpy(), columns=labels)

    x, y = frames(["a", "b"])
    for form in range(4):
        assert named(x, y, form) == (["a", "b"], ["y"])
    assert named(x, y["y"]) == (["a", "b"], ["y"]), "a series"
    assert named(X, y) == (None, ["y"]) and named(x, Y.numpy()) == (["a", "b"], None)
    assert named(x, y, names=["p", "q"]) == (["p", "q"], ["y"]), "names that are there stay"
    assert named(*frames(range(2), range(1))) == (None, None)
    for unusable in (["a", "a"], ["a", ""], ["a", 1], [("a", "b"), ("a", "c")]):
        assert named(*frames(unusable)) == (None, ["y"])
    assert named(x, y["y"].rename(None)) == (["a", "b"], None)
    assert named(x, pandas.DataFrame({"p": X[:, 0], "q": X[:, 1]}), loss_fn=lambda p, t: (p - t).square().mean()) == (["a", "b"], None)
    assert named(x, y, pred_fn=lambda network, inputs: 2 * network(inputs)) == (["a", "b"], None), "labels of something else"


def test_names_are_read_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = type("DataFrame", (SimpleNamespace,), {"ndim": 2})
    series = type("Series", (SimpleNamespace,), {"ndim": 1})
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=frame, Series=series))  # type: ignore[arg-type]
    for x, y, expected in (
        (frame(columns=["a", "b"]), series(name="y"), {"in_vars": ["a", "b"], "out_vars": ["y"]}),
        (frame(columns=["a", "b"]), Y, {"in_vars": ["a", "b"]}),
        (frame(columns=range(2)), frame(columns=["y"]), {"out_vars": ["y"]}),
        (X.numpy(), series(name=None), {}),
    ):
        for dataset in ((x, y), [x, y], ((x, y), (X, Y)), {"train_input": x, "train_label": y}):
            network = Network([2, 1])
            TrainableNetwork(network).take_column_names_(names_of_columns(dataset))
            assert network.labels() == expected
    for dataset in ([(x, y)], [(x, y)] * 2, ([(x, y)] * 2, (X, Y))):
        assert names_of_columns(dataset) == {}, "batches have no names"


def test_a_fit_that_is_refused_names_nothing() -> None:
    pandas = pytest.importorskip("pandas")
    network, frame = Network([2, 1]), pandas.DataFrame(X.numpy(), columns=["a", "b"])
    with pytest.raises(ValueError, match="display_metrics"):
        fit(network, (frame, Y), FitOptions(steps=1, log=0, display_metrics=["none such"]))
    assert network.labels() == {}


def test_pandas_is_not_imported_for_the_user() -> None:
    if "pandas" not in sys.modules:
        checked((X, Y))
        assert "pandas" not in sys.modules


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ((X, Y[:30]), ValueError, "the training label y must have the shape of the network's output, (40, 1); got (30, 1)."),
        ((X.numpy(), Y[:, 0].numpy()), ValueError, "(40, 1); got (40,). Use label[:, None] to make a column of it."),
        (((X, Y), (X[:, :1], Y)), ValueError, "the test input X must have the shape (number of samples, 2)"),
        ((X, {1.0}), TypeError, "the training label y must be a torch tensor, numpy array, list of numbers or frame; got set."),
        ((np.array([["a", "b"]]), Y[:1]), TypeError, "the training input X must hold numbers; got an array of <U1."),
        ((X * 1j, Y), ValueError, "the training input X must hold floating-point numbers; got torch.complex"),
        ({"train_input": X}, ValueError, "missing: ['train_label'], present: ['train_input']."),
        ({**FULL, "test_label": Y[:8]}, ValueError, "dataset['test_label'] must have the shape of the network's output, (9, 1)"),
        ("data.csv", TypeError, "or a DataLoader; got str for the training data."),
        (TensorDataset(X, Y), TypeError, "or a DataLoader; got TensorDataset for the training data."),
        ([], ValueError, "the training loader yields no batches: its data are empty, or drop_last drops the only batch."),
        (loader(5, drop_last=True), ValueError, "the training loader yields no batches"),
        ([1, 2], TypeError, "a pair (X, y) of arrays, or a DataLoader; got list for the training data."),
        ([{1}, {2}], TypeError, "batch 0 of the training loader must be a pair (x, y) of tensors or arrays; got set."),
        ([(X, Y, Y)], TypeError, "must be a pair (x, y) of tensors or arrays; got tuple of Tensor, Tensor, Tensor."),
        ([(X, Y[:, 0])], ValueError, "y in batch 0 of the training loader must have the shape of the network's output"),
        (iter([(X, Y)]), TypeError, "must be an iterable of batches (x, y) that starts anew for every pass"),
        (([(X, Y)], [(X, Y), (X[:, :1], Y)]), ValueError, "x in batch 1 of the test loader must have the shape"),
    ],
)  # fmt: skip
def test_bad_datasets(dataset: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        checked(dataset)


def test_labels_that_would_be_broadcast_are_refused_with_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"output, \(40, 1\); got \(40,\)[.] Use label\[:, None\] to make a column of it"):
        fit(Network([2, 1]), (X, Y[:, 0]), FitOptions(steps=1, progress=False))
    with pytest.raises(ValueError, match=r"output, \(40, 3\); got \(40, 1\)[.] Use label.expand\(-1, 3\) if every output is to learn it"):
        fit(Network([2, 3]), (X, Y), FitOptions(steps=1, progress=False))
    assert fit(Network([2, 1]), (X, Y[:, 0][:, None]), FitOptions(steps=1, progress=False)).steps == 1
    assert fit(Network([2, 3]), (X, Y.expand(-1, 3)), FitOptions(steps=1, progress=False)).steps == 1
    options = FitOptions(steps=1, progress=False, loss_fn=lambda output, y: (output.mean(1) - y).square().mean())
    own = fit(Network([2, 3]), (X, Y[:, 0]), options)
    assert own.steps == 1


def test_numbers_too_large_for_the_networks_dtype_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("must be finite in torch.float32; it holds numbers beyond 3.4e+38 in column(s) [0, 1]")):
        check_dataset(TrainableNetwork(Network([2, 1]).float()), (X.double() * 1e200, Y))


def test_a_later_batch_that_is_bad_ends_the_fit_with_the_network_as_it_was() -> None:
    network, seen = Network([2, 2, 1]), []
    with pytest.raises(ValueError, match=re.escape("y in batch 1 of the training loader must be finite")):
        options = FitOptions(steps=4, log=0, on_step=lambda _: seen.append(network.numeric_layers[0].coef.clone()))
        fit(network, [(X[:5], Y[:5]), (X[5:], Y[5:] * torch.nan)], options)
    assert len(seen) == 1 and torch.equal(seen[0], network.numeric_layers[0].coef)
    assert all(p.grad is None for p in network.parameters())


def test_loaders_give_one_batch_after_another_and_the_global_state_is_left_alone() -> None:
    orders = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        batches = make_batches(TrainableNetwork(Network([2, 2, 1], seed=3)), checked(loader(shuffle=True)), -1)
        assert isinstance(batches, FromLoader) and batches.size() == 10
        orders.append(torch.cat([batches.draw().x for _ in range(8)]))
        assert torch.equal(before, torch.get_rng_state())
        assert torch.equal(batches.seen(), orders[-1])
    assert torch.equal(*orders)
    first, second = orders[0].split(40)
    assert not torch.equal(first, second) and torch.equal(first.sort(0).values, second.sort(0).values)
    runs = [fit(Network([2, 2, 1], seed=3), (loader(shuffle=True), (X, Y)), FitOptions("Adam", 5, 0, lr=0.01)) for _ in range(2)]
    assert runs[0] == runs[1] and runs[0]["test_loss"][-1] < runs[0]["test_loss"][0]


def test_validation() -> None:
    data = checked((X, Y), validation=0.2, sample_weight=torch.arange(40))
    assert isinstance(data.train, Samples) and data.validation is not None and (len(data.train), len(data.validation)) == (32, 8)
    both = torch.cat([data.train.x, data.validation.x])
    assert torch.equal(both.sort(0).values, X.sort(0).values)
    assert data.train.weight is not None and torch.equal(X[data.train.weight.long()], data.train.x)
    other = check_dataset(TrainableNetwork(Network([2, 2, 1], seed=7)), (X, Y), validation=0.2).validation
    assert other is not None and not torch.equal(other.x, data.validation.x)
    results = fit(Network([2, 2, 1]), (X, Y), FitOptions(steps=2, log=0, validation=(X[:9], Y[:9])))
    assert list(results) == ["train_loss", "test_loss", "reg", "val_loss"] and results["test_loss"] == results["val_loss"]


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ((X, Y), {"validation": 1.0}, "validation must be a fraction between 0 and 1, or samples (X, y); got 1.0."),
        ((X, Y), {"validation": True}, "validation must be a fraction between 0 and 1"),
        ((X[:1], Y[:1]), {"validation": 0.5}, "validation=0.5 needs two samples at least"),
        (loader(), {"validation": 0.5}, "validation can be a fraction of arrays only; for a loader give the samples"),
        ((X, Y), {"validation": (X, Y[:, 0])}, "the validation label y must have the shape of the network's output"),
        ((X, Y), {"sample_weight": torch.ones(39)}, "sample_weight must have the shape (40,), one number per training sample; got (39,)."),
        ((X, Y), {"sample_weight": -torch.ones(40)}, "sample_weight must be finite and not negative; it lies in [-1.0, -1.0]."),
        ((X, Y), {"sample_weight": torch.zeros(40)}, "sample_weight must be positive for one training sample at least"),
        (loader(), {"sample_weight": torch.ones(40)}, "sample_weight needs training data in arrays"),
    ],
)  # fmt: skip
def test_bad_validation_and_weights(dataset: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        checked(dataset, **options)


def test_first_layer_is_kept_and_forgotten_when_its_grid_moves() -> None:
    network = Network([2, 2, 1])
    batches = make_batches(TrainableNetwork(network), checked((X, Y)), -1)
    assert isinstance(batches, Everything) and batches.whole
    first = batches.first_layer(X)
    assert first is not None and batches.first_layer(X) is first
    network.update_grid(X)
    batches.forget()
    again = batches.first_layer(X)
    assert again is not None and not torch.equal(first.features, again.features)


def test_some_are_drawn_without_replacement_and_without_those_that_do_not_count() -> None:
    network = Network([2, 2, 1])
    few = make_batches(TrainableNetwork(network), checked((X, Y)), 10)
    drawn = few.draw()
    assert (
        isinstance(few, Some) and drawn.x.shape == (10, 2) and len(torch.unique(drawn.x[:, 0])) == 10 and few.first_layer(drawn.x) is None
    )
    other = make_batches(TrainableNetwork(Network([2, 2, 1], seed=network.seed + 1)), checked((X, Y)), 10)
    assert not torch.equal(drawn.x, other.draw().x)
    rare = make_batches(TrainableNetwork(network), checked((X, Y), sample_weight=(torch.arange(40) == 7).double()), 10).draw()
    assert torch.equal(rare.x, X[[7]]) and rare.weight is not None and rare.weight.tolist() == [1.0]


def test_a_loader_that_dries_up_is_told() -> None:
    class Once:
        def __init__(self) -> None:
            self.left = [(X, Y)]

        def __iter__(self) -> Any:
            left, self.left = self.left, []
            return iter(left)

    batches = checked(Once()).train
    assert isinstance(batches, Loader)
    batches.draw()
    with pytest.raises(ValueError, match="the training loader yields no batches"):
        batches.draw()
