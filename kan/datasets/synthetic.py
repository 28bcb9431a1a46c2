"""Data sets sampled from a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["create_dataset"]


def create_dataset(
    f: Callable[[Tensor], Tensor],
    n_var: int = 2,
    f_mode: str = "col",
    ranges: Any = (-1, 1),
    train_num: int = 1000,
    test_num: int = 1000,
    normalize_input: bool = False,
    normalize_label: bool = False,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Draw the variables uniformly and evaluate `f` there.

    Args:
        f: function from a tensor, ``(N, n_var)`` for ``f_mode='col'`` or ``(n_var, N)`` for ``'row'``, to ``(N,)`` or ``(N, outputs)``.
        n_var: number of variables.
        f_mode: ``'col'`` or ``'row'``.
        ranges: ``[low, high]`` for all variables, or one such pair for each.
        train_num, test_num: numbers of samples.
        normalize_input, normalize_label: whether to subtract the mean and divide by the standard deviation of the training set.
        device: device of the tensors.
        seed: seed of a private generator; the global random state is neither read nor changed.

    Returns:
        ``train_input``, ``test_input`` ``(N, n_var)`` and ``train_label``, ``test_label`` ``(N, outputs)``, in the default dtype.

    Raises:
        ValueError: if the mode is unknown, or the ranges or the values of the function have the wrong shape.

    >>> create_dataset(lambda x: x[:, [0]] * x[:, [1]], train_num=3)["train_label"].shape
    torch.Size([3, 1])
    """
    if f_mode not in ("col", "row"):
        raise ValueError(f"f_mode must be 'col' or 'row'; got {f_mode!r}.")
    bounds = _bounds(ranges, n_var)
    generator = torch.Generator().manual_seed(seed)
    inputs = {"train_input": torch.zeros(train_num, n_var), "test_input": torch.zeros(test_num, n_var)}
    for i, (low, high) in enumerate(bounds):
        for x in inputs.values():
            x[:, i] = torch.rand(len(x), generator=generator) * (high - low) + low
    data = {name: x.to(device) for name, x in inputs.items()}
    for part in ("train", "test"):
        x = data[f"{part}_input"]
        y = f(x if f_mode == "col" else x.T).detach()  # f may be a model, whose graph must not be kept in the data
        y = y[:, None] if y.dim() == 1 else y
        if y.dim() != 2 or len(y) != len(x):
            raise ValueError(f"f must return one row per sample, ({len(x)},) or ({len(x)}, outputs); got {tuple(y.shape)}. See f_mode.")
        data[f"{part}_label"] = y.to(device)
    for kind, wanted in (("input", normalize_input), ("label", normalize_label)):
        if wanted:
            mean, std = data[f"train_{kind}"].mean(dim=0, keepdim=True), data[f"train_{kind}"].std(dim=0, keepdim=True)
            for part in ("train", "test"):
                data[f"{part}_{kind}"] = (data[f"{part}_{kind}"] - mean) / std
    return data


def _bounds(ranges: Any, n_var: int) -> Sequence[tuple[float, float]]:
    """Return one pair ``(low, high)`` per variable."""
    entries = list(ranges) if hasattr(ranges, "__len__") else []
    # 0-dimensional tensors have a __len__ as well.
    pairs = entries if entries and all(hasattr(e, "__len__") and getattr(e, "ndim", 1) == 1 for e in entries) else [entries] * n_var
    if len(pairs) != n_var or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"ranges must be [low, high], or one such pair for each of the {n_var} variables; got {ranges!r}.")
    return [(float(low), float(high)) for low, high in pairs]
