"""What `KANLinear`, `KANConv1d` to `KANConv3d` and `KANLayer` say about the tensors that they are given."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from kan.bases.base import Basis
from kan.errors import some_of

__all__ = ["check_dense", "check_dtype", "check_margin", "check_samples", "checked_rows", "warn_of_kept_grids"]


def check_dense(x: Tensor, name: str = "the input") -> None:
    """Raise ``ValueError`` unless `x` is a dense tensor that holds numbers."""
    if x.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor; got {x.layout}. Convert it with .to_dense().")
    if x.is_meta:
        raise ValueError(f"{name} is on the meta device, which has shapes but no numbers: move it, and the model, to another device.")


def check_dtype(x: Tensor, own: torch.dtype) -> None:
    """Raise ``TypeError`` unless `x` has the dtype `own` of a layer's parameters, or autocast makes one of the two the other.

    It must be dense, too, as `check_dense` says.
    """
    check_dense(x)
    # Autocast converts between the floating-point formats of up to four bytes a number.
    casts = torch.is_autocast_enabled(x.device.type) and x.is_floating_point() and torch.float64 not in (x.dtype, own)
    if x.dtype != own and not casts:
        raise TypeError(
            f"the layer's parameters are {own} and the input is {x.dtype}; convert one of them, "
            f"for example x.to(layer.spline_weight.dtype)."
        )


def checked_rows(x: Tensor, columns: int, own: torch.dtype) -> Tensor:
    """`x` ``(B, I)`` for a layer of `columns` inputs with parameters of the dtype `own`; numbers of two bytes are widened to it.

    Raises:
        TypeError: if it has another dtype.
        ValueError: if it has another shape.
    """
    if x.dim() != 2 or x.shape[1] != columns:
        raise ValueError(
            f"the input must have the shape (number of samples, {columns}), one column per input of the layer; got {tuple(x.shape)}. "
            f"Leading axes can be joined with x.flatten(0, -2), and one sample is x[None]."
        )
    if x.dtype in (torch.float16, torch.bfloat16):
        return x.to(own)
    if x.dtype != own:
        raise TypeError(f"the layer's parameters are {own} and the input is {x.dtype}; convert one of them, for example x.to({own}).")
    return x


def check_margin(margin: float) -> None:
    """Raise ``ValueError`` unless a grid may reach so far beyond its samples."""
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin, how far the grid reaches beyond the samples, must be finite and at least 0; got {margin}.")


def check_samples(samples: Tensor, things: str = "samples", places: str = "columns") -> None:
    """Raise ``ValueError`` unless `samples` ``(B, I)`` has rows, all of them finite.

    Args:
        samples: what a grid is to be made from.
        things, places: what the user calls the rows and the columns.
    """
    if len(samples) == 0:
        raise ValueError(f"a grid update needs {things}; got none.")
    bad = (~torch.isfinite(samples)).any(dim=0)
    if bool(bad.any()):
        raise ValueError(f"{things} must be finite; the {places} [{some_of(bad.nonzero()[:, 0].tolist())}] hold NaN or infinity.")


def warn_of_kept_grids(usable: Tensor, samples: str, place: str, basis: Basis) -> None:
    """Warn, at the call of the layer's ``update_grid``, of the inputs that are not `usable` ``(I,)``, if there are any.

    Args:
        usable: which inputs' samples determine a grid.
        samples: how many there are of what, such as ``"50 pixels"``.
        place: what the user calls an input.
        basis: of the layer.
    """
    if not bool(usable.all()):
        warnings.warn(
            f"grid update: the {samples} of {place}(s) {(~usable).nonzero()[:, 0].tolist()} do not determine a grid "
            f"(constant or repeated values, or too few for {basis}); their grid and weights are kept.",
            stacklevel=4,  # beyond this function, the method and its decorator
        )
