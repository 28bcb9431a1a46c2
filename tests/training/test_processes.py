"""A fit in one of several processes says that the others are not looked at."""

import warnings

import pytest
import torch

from kan import KAN


@pytest.mark.parametrize("size", [1, 2])
def test_a_fit_in_one_of_several_processes(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: size)
    model, x = KAN([1, 1], grid=3, seed=0, auto_save=False), torch.linspace(-1, 1, 20)[:, None]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit((x, x), steps=1, progress=False)
        model.fit_residuals(lambda u, t: u(t) - t, x, steps=1)
    assert [str(warning.message).split(" trains")[0] for warning in told] == [
        f"this is one of {size} processes of torch.distributed, and {name}" for name in ("fit", "fit_residuals") if size > 1
    ]


def test_a_fit_that_is_refused_says_nothing_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="must have the shape"):
        KAN([1, 1], auto_save=False).fit((torch.rand(5, 1), torch.rand(5)), steps=1, progress=False)
