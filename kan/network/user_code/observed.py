"""Calls of a network and of its layers as modules, and what the library learns of them by looking on.

A network whose ``forward`` is its user's own gives its layers what that makes of the input, and makes what it likes of their outputs. What
the layers saw is known from the pass that the network's own `Network.forward` enters while it is observed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kan.network.layered import LayeredNetwork
from kan.network.trace import Trace
from kan.network.user_code.own_code import check_layer, own_call

__all__ = ["OBSERVED", "Observed", "Pass", "called", "given_last", "observed", "seen_by_layers", "shown", "unseen"]

SCORES = ("attribution", "_node_attribution", "_given", "_records")
"""Attributes in which a KAN keeps scores of its last input, and what a program has set; None makes it compute them anew."""


class Pass(NamedTuple):
    """What `Network.forward` was called with, ``(B, inputs)``, and the record of that pass."""

    x: Tensor
    trace: Trace


class _ObservedPasses(threading.local):
    """Where `Network.forward` enters the passes of networks that are being observed, by the ``id`` of the network.

    A network may be called in several threads, and be copied by a hook while it is observed: the passes are those of this thread, and of
    this network.
    """

    def __init__(self) -> None:
        self.passes: dict[int, list[Pass]] = {}


OBSERVED = _ObservedPasses()


class Observed(NamedTuple):
    """A call of a network.

    Attributes:
        output: what it returned.
        trace: the record of the last pass through the layers, with `output` in place of theirs; None if there was no pass.
        seen: what `Network.forward` was called with in this pass.
    """

    output: Tensor
    trace: Trace | None
    seen: Tensor | None


def observed(
    network: LayeredNetwork, x: Tensor, *, singularity_avoiding: bool = False, y_th: float = 10.0, corner: float = 0.0
) -> Observed:
    """Call `network` with `x`, as a module; it remembers the same last input afterwards as before. Arguments as of `Network.trace`.

    `singularity_avoiding` and `y_th` are handed on only if the first is True: a ``forward`` of the user's need not know them.
    """
    passes, outer = list[Pass](), OBSERVED.passes.get(id(network))
    OBSERVED.passes[id(network)] = passes
    try:
        with network.same_last_input():
            output = network(x, singularity_avoiding=True, y_th=y_th) if singularity_avoiding else network(x)
    finally:
        if outer is None:
            del OBSERVED.passes[id(network)]
        else:
            OBSERVED.passes[id(network)] = outer
    if not passes:
        return Observed(output, None, None)
    seen, trace = passes[-1]
    for layer in trace.layers:
        layer.corner = corner
    return Observed(output, replace(trace, output=output), seen)


@torch.no_grad()
def seen_by_layers(network: LayeredNetwork, x: Tensor) -> Tensor:
    """What `Network.forward` is called with when `network` is called with `x`.

    Raises:
        ValueError: if it is not called.
    """
    between = own_call(network)
    if not between:
        return x
    seen = observed(network, x).seen
    if seen is None:
        raise unseen(between)
    return seen


def given_last(network: LayeredNetwork) -> Tensor:
    """What `network` was called with last: its last input, or with code of the user's in between the samples of its last fit.

    Raises:
        ValueError: if neither is known.
    """
    between = own_call(network)
    if not between:
        return network.remembered_input()
    if network.fit_loss is None:
        raise ValueError(
            f"the model remembers what its layers saw, and not what it was called with, of which {between} made that: give the data as an "
            f"argument."
        )
    return network.fit_loss.x


@contextmanager
def shown(network: LayeredNetwork, trace: Trace | None) -> Iterator[None]:
    """Let what `network` says of its last input, scores included, be read from `trace` if there is one, for the time of the block."""
    own = network.__dict__
    kept = {name: own[name] for name in SCORES if name in own}
    before, network._shown = network._shown, trace
    own.update(dict.fromkeys(kept))
    try:
        yield
    finally:
        network._shown = before
        own.update(kept)


def unseen(between: str) -> ValueError:
    """The error where what the layers saw is needed, and `between`, which calls no `Network.forward`, hides it."""
    return ValueError(
        f"{between} does not call KAN.forward, so that what the layers see of the data is not known: activations, scores, grids and the "
        f"penalty of a fit depend on it. Let it call super().forward(x) (or KAN.forward(model, x)) with what the layers are to see."
    )


def called(layer: nn.Module, name: str, count: int, x: Tensor, **evaluation: Any) -> tuple[Tensor, ...]:
    """The `count` tensors that `layer`, which is called `name` in messages, gives for `x` as a module.

    Raises:
        TypeError: if it gives something else, or is no layer of this library.
    """
    check_layer(layer, name)
    found = layer(x, **evaluation)
    if not isinstance(found, tuple) or len(found) != count:
        what = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
        wanted = "(y, preacts, postacts, postspline)" if count == 4 else "(y, postacts)"
        raise TypeError(f"the forward of {name}, a {type(layer).__name__}, must return {wanted}; it returned {what}.")
    return found
