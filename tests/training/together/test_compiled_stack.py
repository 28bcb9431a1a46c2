"""Restarts by the compiled kernels end as those by torch, and call the kernels."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kan.kernels.library import library, switched
from kan.kernels.network import KernelNetwork
from kan.network.network import Network
from kan.training import restarts
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule
from kan.training.options import FitOptions
from kan.training.together import fit_stack

pytestmark = [
    pytest.mark.usefixtures("float64"), pytest.mark.filterwarnings("error"),
    pytest.mark.skipif(library(torch.float64) is None, reason="there are no kernels"),
]  # fmt: skip

SCHEDULE = GridSchedule(number=2, stop=4)


def samples(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x = torch.rand(150, 2, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return x.to(dtype), torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2).to(dtype)


def network(dtype: torch.dtype = torch.float64) -> Network:
    return Network([2, 3, 1], grid=4, seed=2).to(dtype)


@pytest.mark.parametrize(("opt", "lr", "call"), [("LM", 1.0, "normal"), ("Adam", 0.02, "objective"), ("LBFGS", 1.0, "descend")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_kernels_are_called_and_agree_with_torch(
    opt: str, lr: float, call: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, own = [], getattr(KernelNetwork, call)
    monkeypatch.setattr(KernelNetwork, call, lambda *arguments, **named: calls.append(call) or own(*arguments, **named))
    options: Any = {"opt": opt, "lr": lr, "steps": 3, "restarts": 5, "progress": False, "grid_schedule": SCHEDULE}
    found = fit(network(dtype), samples(dtype), FitOptions(**options)).restarts
    assert len(calls) >= 15
    calls.clear()
    with switched(False):
        wanted = fit(network(dtype), samples(dtype), FitOptions(**options)).restarts
    assert not calls and found is not None and wanted is not None
    assert found.losses == pytest.approx(wanted.losses, rel=1e-6 if dtype == torch.float64 or opt == "LM" else 5e-2)


def test_lbfgs_without_kernels_or_with_many_samples_goes_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_stack.StackFit, "run", lambda _: pytest.fail("this fit goes one after another"))
    options = FitOptions(restarts=2, steps=1, progress=False)
    with switched(False):
        assert fit(network(), samples(), options).restarts is not None
    monkeypatch.setattr("kan.training.together.compiled_stack.MAX_VALUES_OF_EDGES", 150 * 9 - 1)
    assert fit(network(), samples(), options).restarts is not None


def test_an_interrupt_in_a_step_leaves_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "_one_after_another", lambda *_: pytest.fail("this fit goes together"))
    descend, calls = KernelNetwork.descend, []

    def interrupted(self: KernelNetwork, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        descend(self, *arguments)

    monkeypatch.setattr(KernelNetwork, "descend", interrupted)
    model = network()
    with pytest.warns(UserWarning, match="interrupted in step 2; the network is the best of 3 as step 1 left it"):
        found = fit(model, samples(), FitOptions(restarts=3, steps=5, progress=False))
    assert found.stopped == "interrupted" and found.steps == 2 and found.restarts is not None
    with torch.no_grad():
        loss = float((model(samples()[0]) - samples()[1]).square().mean().sqrt())
    assert loss == pytest.approx(found["train_loss"][-1], rel=1e-9) and loss == pytest.approx(min(found.restarts.losses), rel=1e-9)
    assert found.optimizer_state is not None and not found.optimizer_state["method"] and math.isfinite(loss)


def test_a_fit_goes_on_from_the_best_one() -> None:
    model = network()
    found = fit(model, samples(), FitOptions(restarts=3, steps=2, progress=False))
    assert found.optimizer_state is not None
    on = fit(model, samples(), FitOptions(steps=1, progress=False, resume=found.optimizer_state))
    assert on["train_loss"][-1] < found["train_loss"][-1]
