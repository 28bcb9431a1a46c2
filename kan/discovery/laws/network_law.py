"""The law that the outputs of a network follow, or the data that it was trained on.

A network is a function that can be evaluated anywhere, so that its law is searched like that of any other data, by `kan.discover`. Its
edges may be symbolic or numeric. Its values are computed in double precision.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from kan.datasets.real_numbers import check_pairing, select
from kan.discovery.data.observations import column_names, label_numbers, real_numbers
from kan.discovery.discover import Discovery, discover
from kan.network.network import Network
from kan.network.precision import in_double
from kan.network.user_code.observed import given_last, observed
from kan.network.user_code.own_code import own_call, own_parts

__all__ = ["discover_law"]


def discover_law(network: Network, X: Any = None, y: Any = None, output: int | None = None, **options: Any) -> Discovery:
    """Search for the law of an output.

    Variables are named by the network's `in_vars`. Variables and output are those from before the network's `normalizer` and
    `output_normalizer`, as in its formulas.

    Args:
        network: the network, which is not changed.
        X: inputs ``(N, inputs)`` as the network takes them: tensors, arrays or frames; its last input when not given.
        y: labels ``(N, outputs)`` or ``(N,)``; the network's own values when not given.
        output: number of the output, if there are several.
        options: options of `kan.discover`.

    Raises:
        ValueError: without data, for a wrong shape, or if there are several outputs and none, or one that does not exist, is chosen.
    """
    outputs = network.width_in[-1]
    if output is None and outputs > 1:
        raise ValueError(f"the model has {outputs} outputs, and a law is for one: choose with output=0 ... output={outputs - 1}.")
    if output is not None and (not isinstance(output, Integral) or isinstance(output, bool) or not 0 <= output < outputs):
        raise ValueError(f"output must be an integer from 0 to {outputs - 1}; got {output!r}.")
    check_pairing("X", X, "y", y)
    columns = network.frame_columns
    x = real_numbers("X", given_last(network) if X is None else X if columns is None else select("X", X, columns))
    if x.dim() == 1 and network.input_width == 1:
        x = x[:, None]
    if not own_call(network):
        network.checked_input(x)
    labels = _values(network, x) if y is None else label_numbers(y)
    column = int(output or 0)
    if labels.dim() == 2 and labels.shape[1] == outputs:
        labels = labels[:, [column]]
    stated = network.stated_labels()  # a map that the network applies itself takes and gives these units already
    if "normalizer" in stated:
        x = _original(x, stated["normalizer"])
    if "output_normalizer" in stated:
        labels = _original(labels, [[part[column]] for part in stated["output_normalizer"]])
    names = network.in_vars if network.in_vars is not None else column_names(X)
    return discover(x, labels, **{"variables": names, **options})


@torch.no_grad()
def _values(network: Network, x: Tensor) -> Tensor:
    """The outputs of a network in double precision, ``(N, outputs)``."""
    if own_parts(network):
        with in_double(network):
            return observed(network, x.to(network.device).double()).output.cpu()
    if network.dtype != torch.float64:
        network = copy.deepcopy(network, {id(network.last_input): None}).double()
    return network.trace(x.to(network.device)).output.cpu()


def _original(values: Tensor, normalizer: Sequence[Any]) -> Tensor:
    """Values before they were normalised by a mean and a standard deviation."""
    mean, std = (torch.as_tensor(part, dtype=torch.float64) for part in normalizer)
    return values * std + mean
