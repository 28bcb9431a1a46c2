"""Ways in which torch runs a program other than one operation after another."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

__all__ = ["composed"]


def composed() -> bool:
    """Whether a computation must be made of torch's own differentiable operations, without branches that depend on data.

    That is so under the transforms of ``torch.func``, under forward-mode differentiation and in ``torch.compile`` and ``torch.export``:
    they look inside a computation, where our closed forms write into buffers.
    """
    return (
        torch.compiler.is_compiling()
        # No public function tells these two; torch's own autograd.Function asks the first of them.
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )
