"""The curvature that L-BFGS remembers, as tensors and plain data, which can be kept in a file and read without executing anything.

The last evaluation is left out: it belongs to the data of its fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kan.solvers.lbfgs import LBFGS, _Memory

__all__ = ["load_plain_state", "plain_state"]

ARRAYS = ("r_inverse", "yy", "d", "order")
"""The parts of the memory that numpy holds."""


def plain_state(optimizer: LBFGS) -> dict[str, Any]:
    """The curvature pairs, not copied; nothing before the first step."""
    (state,) = optimizer.state.values()
    memory: _Memory | None = state["memory"]
    if memory is None:
        return {}
    arrays = {name: torch.from_numpy(getattr(memory, name)) for name in ARRAYS}
    return {"pairs": memory.pairs, "spare": memory.spare, "size": memory.size, **arrays}


def load_plain_state(optimizer: LBFGS, plain: Mapping[str, Any]) -> None:
    """Go on from a state that `plain_state` returned, and that nobody else holds."""
    optimizer.reset()
    if not plain:
        return
    memory = _Memory(plain["pairs"][0, 0], plain["size"])
    memory.pairs = plain["pairs"].contiguous()
    memory.rows = memory.pairs.view(2 * (memory.size + 1), -1)
    memory.spare = plain["spare"]
    for name in ARRAYS:
        setattr(memory, name, plain[name].numpy())
    (state,) = optimizer.state.values()
    state["memory"] = memory
