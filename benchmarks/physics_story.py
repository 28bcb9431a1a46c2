"""Two laws of physics learned from derivatives of a network, with whichever library is called `kan`.

Run as ``python benchmarks/physics_story.py PROBLEM SEED ...``; writes a line of JSON per seed. `benchmarks/physics.py` runs it with this
library and with pykan.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import sys
import tempfile
import time
from typing import Any

import torch
from torch import Tensor

STEPS = 20
BOUND = 1e-3
"""Bar for the mean squared error of the accelerations, and for the root mean square of the rate of change of the conserved quantity.

On pykan's pages they end at 5.0e-5 and 1.2e-4."""


def accelerations(lagrangian: Any, state: Tensor) -> Tensor:
    """Solved for ``q''``, the equation of Euler and Lagrange, ``(L_q - L_q'q q') / L_q'q'``, at ``(q, q')`` of shape ``(B, 2)``."""
    from kan.utils import batch_hessian, batch_jacobian

    slope, bend = (derivative(lagrangian, state, create_graph=True) for derivative in (batch_jacobian, batch_hessian))
    return (slope[:, 0] - bend[:, 1, 0] * state[:, 1]) / bend[:, 1, 1]


def lagrangian(seed: int, steps: int = STEPS) -> dict[str, Any]:
    """A body under a constant force at relativistic speed: compiled as ``q'^2``, freed, and trained on its accelerations."""
    import sympy

    from kan import KAN
    from kan.compiler import kanpiler
    from kan.LBFGS import LBFGS

    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    state = torch.rand(1000, 2, generator=generator) * torch.tensor([4.0, 2.0]) - torch.tensor([2.0, 1.0])
    labels = (1 - state[:, 1] ** 2) ** 1.5
    inputs = sympy.symbols("q v")
    model = kanpiler(inputs, inputs[1] ** 2, grid=20)
    drawn = KAN([2, 1], grid=20, seed=seed, auto_save=False).act_fun[0]
    with torch.no_grad():
        for name in ("coef", "scale_base"):
            getattr(model.act_fun[0], name).copy_(getattr(drawn, name))
    model.get_act(state)
    try:
        model.perturb(mode="best", mag=0.1)  # as on pykan's page
    except Exception:  # pykan 0.2.8 has no such mode
        model.perturb(mode="all", mag=0.1)
    model.update_grid(state)
    tolerances = dict.fromkeys(["tolerance_grad", "tolerance_change", "tolerance_ys"], 1e-32)
    optimizer = LBFGS(model.parameters(), lr=1, history_size=10, line_search_fn="strong_wolfe", **tolerances)

    def error() -> Tensor:
        return (labels - accelerations(model, state)).square().mean()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = error()
        loss.backward()
        return loss

    first = float(error())
    for _ in range(steps):
        optimizer.step(closure)
    return {"first": first, "loss": float(error())}


def unit_gradients(model: Any, x: Tensor) -> Tensor:
    from kan.utils import batch_jacobian

    gradients = batch_jacobian(model, x, create_graph=True)
    return gradients / torch.linalg.norm(gradients, dim=1, keepdim=True)


def rate_of_change(gradients: Tensor, flow: Tensor) -> Tensor:
    return (flow * gradients).sum(dim=1).square().mean()


def oscillator(seed: int) -> dict[str, Tensor]:
    """States and their flow."""
    x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    flow = torch.stack([x[:, 1], -x[:, 0]], dim=1)
    return {"train_input": x[:800], "train_label": flow[:800], "test_input": x[800:], "test_label": flow[800:]}


def tested(model: Any, data: dict[str, Tensor]) -> dict[str, Any]:
    return {"loss": math.sqrt(float(rate_of_change(unit_gradients(model, data["test_input"]), data["test_label"])))}


def conservation(seed: int, **options: Any) -> dict[str, Any]:
    """The conserved quantity of an oscillator, of which the flow is known: its gradient is at right angles to it."""
    from kan import KAN

    class Directions(KAN):
        """For a library whose `fit` has no `pred_fn`: while it trains, the network's output are the unit gradients."""

        fitted = False

        def forward(self, x: Tensor, *more: Any, **others: Any) -> Tensor:
            if not self.fitted:
                return super().forward(x, *more, **others)
            self.fitted = False
            try:
                return unit_gradients(self, x)
            finally:
                self.fitted = True

        def update_grid(self, x: Tensor) -> None:
            self.fitted = False
            super().update_grid(x)
            self.fitted = True

    torch.set_default_dtype(torch.float32)
    data = oscillator(seed)
    if "pred_fn" in inspect.signature(KAN.fit).parameters:
        model = KAN(width=[2, 1], seed=seed)
        model.fit(data, steps=STEPS, pred_fn=unit_gradients, loss_fn=rate_of_change, **options)
    else:
        model = Directions(width=[2, 1], seed=seed)
        model.fitted = True
        model.fit(data, steps=STEPS, loss_fn=rate_of_change, **options)
        model.fitted = False
    return tested(model, data)


def conservation_of_four(seed: int) -> dict[str, Any]:
    """The best of four seeds."""
    return conservation(4 * seed, restarts=4)


def conservation_by_residuals(seed: int) -> dict[str, Any]:
    """The conserved quantity by Levenberg-Marquardt."""
    from kan import KAN, fit_residuals

    def residual(quantity: Any, x: Tensor) -> Tensor:
        (gradients,) = torch.autograd.grad(quantity(x).sum(), x, create_graph=True)
        return (gradients[:, 0] * x[:, 1] - gradients[:, 1] * x[:, 0]) / gradients.norm(dim=1)

    torch.set_default_dtype(torch.float32)
    data = oscillator(seed)
    model = KAN(width=[2, 1], seed=seed)
    fit_residuals(model, residual, data["train_input"])
    return tested(model, data)


PROBLEMS = {
    "lagrangian": lagrangian,
    "conservation": conservation,
    "conservation, restarts=4": conservation_of_four,
    "conservation, fit_residuals": conservation_by_residuals,
}


def main() -> None:
    problem, seeds = sys.argv[1], [int(seed) for seed in sys.argv[2:]]
    torch.set_num_threads(1)
    for seed in seeds:
        out, begun = sys.stdout, time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), open(os.devnull, "w") as null:
            with contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
                row = PROBLEMS[problem](seed)
        row = {"problem": problem, "seed": seed, **row, "good": row["loss"] < BOUND, "seconds": round(time.perf_counter() - begun, 3)}
        print(json.dumps(row), file=out, flush=True)


if __name__ == "__main__":
    main()
