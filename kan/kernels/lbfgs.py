"""The iterations of L-BFGS on the objective of a network, compiled; see ``csrc/lbfgs.h`` and `kan.solvers.lbfgs`."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from kan.kernels.network import NUMBER_OF_PARAMETERS, KernelNetwork
from kan.solvers.lbfgs import Iterations, Memory

__all__ = ["Descent"]


class _Block(ctypes.Structure):
    _fields_ = [("layer", ctypes.c_int32), ("parameter", ctypes.c_int32), ("offset", ctypes.c_int64)]


class _State(ctypes.Structure):
    _fields_ = (
        [("length", ctypes.c_int64)]
        + [(name, ctypes.c_int32) for name in ("blocks", "size", "count", "spare", "max_iter", "max_eval", "line_search", "known")]
        + [(name, ctypes.c_double) for name in ("lr", "tolerance_grad", "tolerance_change", "tolerance_ys", "stalled")]
        + [(name, ctypes.c_void_p) for name in ("block", "x", "grad", "pairs", "r_inverse", "yy", "d", "order")]
        + [("loss", ctypes.c_double), ("first", ctypes.c_double), ("evaluations", ctypes.c_int32), ("iterations", ctypes.c_int32)]
    )


class Descent:
    """The iterations of one step on a network, for `kan.solvers.lbfgs.LBFGS.iterate`.

    Args:
        network: the network on its samples.
        parameters: those of all layers, as for `KernelNetwork.nodes`.
        places: for each parameter of the optimiser its place among them; None for one that the objective does not depend on.
    """

    def __init__(self, network: KernelNetwork, parameters: Sequence[Tensor | None], places: Sequence[int | None]) -> None:
        self.network, self.parameters, self.places = network, list(parameters), list(places)

    def __call__(
        self, x: Tensor, sizes: Sequence[int], memory: Memory, group: Mapping[str, Any], known: tuple[float, Tensor] | None,
        stalled: float | None,
    ) -> Iterations:  # fmt: skip
        """See `kan.solvers.lbfgs.Program`."""
        offsets = np.cumsum([0, *sizes])
        held = [(place, int(offset)) for place, offset in zip(self.places, offsets[:-1], strict=True) if place is not None]
        blocks = (_Block * len(held))(*(_Block(*divmod(place, NUMBER_OF_PARAMETERS), offset) for place, offset in held))
        grad = x.new_zeros(len(x)) if known is None else known[1].clone()
        order = np.zeros(memory.size, dtype=np.int64)
        order[: memory.count] = memory.order
        state = _State(
            len(x), len(blocks), memory.size, memory.count, memory.spare, group["max_iter"], group["max_eval"],
            group["line_search_fn"] is not None, known is not None, group["lr"], group["tolerance_grad"], group["tolerance_change"],
            group["tolerance_ys"], math.nan if stalled is None else stalled, ctypes.addressof(blocks), x.data_ptr(), grad.data_ptr(),
            memory.pairs.data_ptr(), *(array.ctypes.data for array in (memory.r_inverse, memory.yy, memory.d, order)),
            0.0 if known is None else known[0],
        )  # fmt: skip
        self.network.descend(self.parameters, state)
        memory.order, memory.spare = order[: state.count], state.spare
        end = None if math.isnan(state.stalled) else state.stalled
        return Iterations(state.first, state.loss, grad, state.evaluations, state.iterations, end)
