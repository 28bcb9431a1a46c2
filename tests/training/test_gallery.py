"""The failure gallery: data that break training loops. A fit must stay finite, or say why it ended, and never raise anything unforeseen."""

import math
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from kan import KAN
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

OPTIMIZERS = {"LBFGS": 1.0, "Adam": 0.05, "LM": 1.0}
"""Methods and their learning rates."""
STEPS = 3
Dataset = tuple[Tensor, Tensor, int, torch.dtype]
"""Inputs, labels, grid intervals, dtype."""


@pytest.fixture(autouse=True)
def _two_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    # `fit` changes their number, after which MKL can hang in a batched solve: see `kan.bases.banded.BLOCK`.
    before = torch.get_num_threads()
    if "grid 200" in request.node.name:
        torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def smooth(x: Tensor) -> Tensor:
    return torch.exp(torch.sin(torch.pi * x[:, [0]])) + x[:, [-1]] ** 2


def of(x: Tensor, y: Tensor | None = None, grid: int = 3, dtype: torch.dtype = torch.float64) -> Callable[[], Dataset]:
    return lambda: (x, smooth(x.clamp(-1, 1)) if y is None else y, grid, dtype)


def with_column(values: Tensor) -> Tensor:
    return torch.stack([uniform(len(values), 2)[:, 0], values], 1)


HALF = torch.float32
GALLERY: dict[str, Callable[[], Dataset]] = {
    **{f"{n} samples": of(uniform(n, 2)) for n in (1, 2, 3, 5)},
    **{f"{n} samples, float32": of(uniform(n, 2), dtype=HALF) for n in (1, 2)},
    **{f"grid {grid} for {n} samples": of(uniform(n, 2), grid=grid) for grid, n in ((20, 10), (50, 5), (100, 30), (200, 40), (200, 1))},
    "grid 200 in float32": of(uniform(40, 2), grid=200, dtype=HALF),
    "constant column": of(with_column(torch.full((30,), 0.3))),
    "constant column of zeros": of(with_column(torch.zeros(30))),
    "constant column, far out": of(with_column(torch.full((30,), 1e6))),
    "all columns constant": of(torch.full((30, 2), 0.7)),
    "all columns constant, float32": of(torch.full((30, 2), 0.7), dtype=HALF),
    "two values": of(with_column((uniform(30, 2)[:, 1] > 0).double())),
    "one row different": of(with_column(torch.tensor([1.0] + [0.0] * 29))),
    "repeated rows": of(uniform(3, 2).repeat(10, 1)),
    "one row repeated": of(uniform(1, 2).repeat(20, 1)),
    "same inputs, other labels": of(uniform(1, 2).repeat(20, 1), uniform(20, 1)),
    "equal columns": of(uniform(30, 2)[:, [0, 0]]),
    "constant labels": of(uniform(30, 2), torch.full((30, 1), 2.0)),
    "labels of zero": of(uniform(30, 2), torch.zeros(30, 1)),
    "huge inputs": of(uniform(30, 2) * 1e6),
    "huge inputs, float32": of(uniform(30, 2) * 1e6, dtype=HALF),
    "huge labels": of(uniform(30, 2), smooth(uniform(30, 2)) * 1e6),
    "huge labels, float32": of(uniform(30, 2), smooth(uniform(30, 2)) * 1e6, dtype=HALF),
    "monstrous labels": of(uniform(30, 2), smooth(uniform(30, 2)) * 1e200),
    "monstrous labels, float32": of(uniform(30, 2), smooth(uniform(30, 2)) * 1e30, dtype=HALF),
    "monstrous inputs": of(uniform(30, 2) * 1e200),
    "tiny inputs": of(uniform(30, 2) * 1e-9),
    "tiny inputs, float32": of(uniform(30, 2) * 1e-20, dtype=HALF),
    "tiny labels": of(uniform(30, 2), smooth(uniform(30, 2)) * 1e-200),
    "offset inputs": of(uniform(30, 2) * 1e-6 + 1e6),
    "offset inputs, float32": of(uniform(30, 2) * 1e-3 + 1e4, dtype=HALF),
    "clusters": of(torch.cat([uniform(15, 2) * 1e-8 - 1, uniform(15, 2) * 1e-8 + 1])),
    "outlier": of(torch.cat([uniform(29, 2), torch.tensor([[1e8, -1e8]])])),
    "sparse columns": of(uniform(30, 2) * (uniform(30, 2, seed=1) > 0.8)),
    "scales apart": of(uniform(30, 2) * torch.tensor([1e-6, 1e6])),
}


def finite(model: KAN, x: Tensor) -> bool:
    with torch.no_grad():
        return all(bool(torch.isfinite(values).all()) for values in (*model.state_dict().values(), model(x)))


@pytest.mark.parametrize("opt", OPTIMIZERS)
@pytest.mark.parametrize("name", GALLERY)
def test_hostile_data_train_or_say_why_not(name: str, opt: str) -> None:
    x, y, grid, dtype = GALLERY[name]()
    x, y = x.to(dtype), y.to(dtype)
    model = KAN([2, 2, 1], grid=grid, seed=0, auto_save=False).to(dtype)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for lamb in (0.01, 0.0):
            history = model.fit((x, y), opt=opt, lr=OPTIMIZERS[opt], steps=STEPS, lamb=lamb, grid_update_num=25, log=0)
            assert finite(model, x)
            assert all(math.isfinite(value) for values in history.values() for value in values)
            assert history.steps == STEPS or any("not finite (" in str(one.message) for one in said)
            model = model.refine(2 * grid) if lamb else model.prune()
            assert finite(model, x)
        history = model.fit((x, y), opt=opt, lr=OPTIMIZERS[opt], steps=STEPS, log=0)
    assert finite(model, x)
    assert all(math.isfinite(value) for values in history.values() for value in values)
    kept = "prune: edges whose scores are below the thresholds are kept"
    foreseen = ("fit: step", "grid update:", "fit: the inputs", "fit: the labels", "fit: x_", "fit: y", "the splines on 3 to 6", kept)
    assert [str(one.message) for one in said if not str(one.message).startswith(foreseen)] == []
