"""Networks of many kinds for tests: drawn parameters, masks, symbolic edges, maps of nodes and base functions."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from kan.network.network import Network
from kan.surgery.edges import set_mode_
from kan.symbolic.library import lookup

BASE_FUNCTIONS: dict[str, Any] = {
    "silu": "silu",
    "identity": "identity",
    "zero": "zero",
    "tanh": torch.tanh,
    "Tanh": nn.Tanh(),
    "sin": torch.sin,
    "gelu": nn.functional.gelu,
    "GELU": nn.GELU(approximate="tanh"),
    "Softplus": nn.Softplus(beta=2.0),
    "relu": torch.relu,
    "sinc": torch.sinc,
    "softsign": nn.functional.softsign,
}
SYMBOLIC = ["sin", "sin", "exp", "x", "0", "gaussian", "x^2", "tanh", "1/x", "abs"]


@torch.no_grad()
def put_symbolic(network: Network, seed: int, every: int = 3) -> None:
    """Put functions on every third edge; on some of them beside the spline."""
    generator = torch.Generator().manual_seed(seed)
    for l, layer in enumerate(network.symbolic_layers):
        for i in range(layer.in_dim):
            for j in range(layer.out_dim):
                n = i + 2 * j + l
                if n % every == 0:
                    name = SYMBOLIC[n % len(SYMBOLIC)]
                    numbers = torch.randn(4, generator=generator, dtype=torch.float64)
                    layer.set_function(i, j, name, lookup(name), numbers)
                    set_mode_(network, l, i, j, "sn" if n % 2 else "s")


@torch.no_grad()
def drawn(width: list, seed: int = 0, symbolic: bool = False, **settings: Any) -> Network:
    """A network with all parameters and masks drawn from `seed`, some edges masked, and maps of the nodes."""
    network, generator = Network(width, seed=seed, **settings), torch.Generator().manual_seed(seed)
    for name, p in network.named_parameters():
        if not name.endswith(("grid", "mask")):
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    for layer in network.numeric_layers:
        layer.mask.copy_(torch.randn(layer.mask.shape, generator=generator) * (torch.rand(layer.mask.shape, generator=generator) > 0.2))
        layer.mask[0, 0] = 0.7
    if symbolic:
        put_symbolic(network, seed)
    return network


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Networks of all kinds that closed forms serve."""
    width = draw(st.sampled_from([[2, 3, 1], [3, 1], [1, 1], [2, [1, 2], 2], [2, 2, [1, 1], 1], [2, 2, 2]]))
    network = drawn(
        width, draw(st.integers(0, 10**6)), draw(st.booleans()), grid=draw(st.integers(1, 8)), k=draw(st.integers(1, 3)),
        base_fun=BASE_FUNCTIONS[draw(st.sampled_from(sorted(BASE_FUNCTIONS)))], affine_trainable=draw(st.booleans()),
        mult_arity=draw(st.sampled_from([2, 3])),
    )  # fmt: skip
    if draw(st.booleans()):
        network.numeric_layers[-1].coef.requires_grad_(False)
    if draw(st.booleans()):
        network.numeric_layers[0].scale_base.requires_grad_(False)
    if draw(st.integers(0, 5)) == 0:
        network.numeric_layers[-1].mask.data.zero_()
    return network


def points(inputs: int, count: int = 7, seed: int = 0) -> Tensor:
    """Points in ``[-1.1, 1.1]``, ``(count, inputs)``."""
    return torch.rand(count, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2.2 - 1.1
