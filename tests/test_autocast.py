"""Under autocast a fit is the same as without, and passes lose no more digits than their sums."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kan import KAN
from kan.MLP import MLP

MODELS: dict[str, Callable[[], Any]] = {
    "KAN": lambda: KAN([2, 3, 1], seed=0, auto_save=False),
    "KAN, trained affine maps": lambda: KAN([2, [2, 1], 1], seed=0, auto_save=False, affine_trainable=True),
    "MLP": lambda: MLP([2, 3, 1], seed=0),
}


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(60, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return x, x[:, :1] ** 2 + x[:, 1:]


@pytest.mark.parametrize("lamb", [0.0, 1e-3])
@pytest.mark.parametrize("opt", ["LBFGS", "Adam", "LM"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_fit_is_the_same(make: Callable[[], Any], opt: str, lamb: float) -> None:
    if opt == "LM" and isinstance(make(), MLP):
        pytest.skip("Levenberg-Marquardt is for KANs")
    plain, under = make(), make()
    plain.fit(data(), opt=opt, lr=0.01 if opt == "Adam" else 1.0, lamb=lamb, steps=3, progress=False)
    with torch.autocast("cpu", torch.bfloat16):
        under.fit(data(), opt=opt, lr=0.01 if opt == "Adam" else 1.0, lamb=lamb, steps=3, progress=False)
    for one, other in zip(under.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_passes_and_changes_on_grids_that_have_moved() -> None:
    model, (x, _) = KAN([2, 3, 1], seed=0, auto_save=False), data()
    model.update_grid(x)
    y = model(x).detach()
    for kind in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", kind):
            found = model(x)
            model.refine(6)(x)
            model.attribute()
            model.copy().update_grid(x)
        assert found.dtype == kind
        torch.testing.assert_close(found.float(), y, atol=0.02 * y.abs().max().item(), rtol=0)
