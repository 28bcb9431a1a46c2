"""What the tests run in other processes, which import it by name."""

import os
import warnings
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from kan import KAN, KANLinear
from kan.symbolic.library import SYMBOLIC_LIB


def outcome(model: Any, x: Tensor) -> dict[str, Tensor]:
    """The output, and the gradients of its sum with respect to input and parameters."""
    x = x.detach().clone().requires_grad_()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    y = model(x)
    found = torch.autograd.grad(y.square().sum() + 0 * x.sum(), [x, *parameters.values()], allow_unused=True)
    gradients = {name: g for name, g in zip(["x", *parameters], found, strict=True) if g is not None}
    return {"output": y.detach(), **gradients}


def answer(model: Any, x: Tensor) -> tuple[dict[str, Any], list[str], Any]:
    """`outcome` as arrays, which no process must keep alive for another; the user's rows of this process's table; the model."""
    return {name: value.numpy() for name, value in outcome(model, x).items()}, [name for name in SYMBOLIC_LIB if "own" in name], model


def train_together(rank: int, folder: str) -> None:
    """One of two processes that train the same models by ``DistributedDataParallel``; writes their parameters to `folder`."""
    warnings.simplefilter("error")
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    symbolic = KAN([3, 4, 1], seed=0, auto_save=False)
    for i in range(4):
        symbolic.fix_symbolic(1, i, 0, "sin", fit_params_bool=False)
    models = {
        "KAN": KAN([3, 4, 1], seed=0, auto_save=False),
        "products and trained affine maps": KAN([3, [2, 1], 1], seed=0, auto_save=False, affine_trainable=True),
        "symbolic edges": symbolic,
        "speed": KAN([3, 4, 1], seed=0, auto_save=False).speed(),
        "KANLinear": nn.Sequential(KANLinear(3, 8, bias=True), KANLinear(8, 1)),
    }
    source, found = torch.Generator().manual_seed(rank), {}
    for name, model in models.items():
        before = nn.utils.parameters_to_vector(model.parameters()).detach()
        together = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.Adam(together.parameters(), lr=0.01)
        for _ in range(3):
            x = torch.rand(32, 3, generator=source)
            optimizer.zero_grad()
            (together(x) - x[:, :1]).square().mean().backward()
            optimizer.step()
        after = nn.utils.parameters_to_vector(model.parameters()).detach()
        found[name] = {"parameters": after, "moved": bool((after != before).any())}
    torch.save(found, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()
