"""A warning for fits in several processes of torch.distributed."""

from __future__ import annotations

import warnings

import torch

from kan.errors import level_of_caller

__all__ = ["warn_of_other_processes"]


def warn_of_other_processes(what: str) -> None:
    """Warn that the function called `what` knows nothing of the other processes of a group, if there are any."""
    group = torch.distributed
    if group.is_available() and group.is_initialized() and group.get_world_size() > 1:
        warnings.warn(
            f"this is one of {group.get_world_size()} processes of torch.distributed, and {what} trains a model of its own in each, which "
            f"become different ones where the data are: nothing is averaged. Call it in one process with all data, or write the training "
            f"loop with torch.nn.parallel.DistributedDataParallel.",
            stacklevel=level_of_caller(),
        )
