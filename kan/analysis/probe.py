"""The values and derivatives of a model at samples, and the resolution of groups of its variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from torch import Tensor

from kan.analysis.derivatives import batch_hessian, batch_jacobian
from kan.analysis.indices import checked_index

__all__ = ["Group", "Model", "Probe"]

Model = Callable[[Tensor], Tensor]
Group = Sequence[int]


class Probe:
    """The derivatives of a model at samples, each computed once.

    Args:
        model: a function from ``(B, n)`` to ``(B, 1)`` or ``(B,)``.
        x: at least two samples, ``(B, n)``.

    Raises:
        TypeError: if `x` is not a tensor of floating-point numbers.
        ValueError: if `x` or the model's values have another shape.
    """

    def __init__(self, model: Model, x: Tensor) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            what = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x must be a tensor of floating-point numbers; got {what}. Convert it with torch.as_tensor(x).")
        if x.dim() != 2 or len(x) < 2:
            raise ValueError(f"x must have the shape (number of samples, variables) with at least two samples; got {tuple(x.shape)}.")
        self.model, self.x = model, x
        self.size = x.shape[1]
        self.spread = x.detach().std(dim=0)

    def values(self, x: Tensor) -> Tensor:
        """``f``, ``(B,)``."""
        y = self.model(x)
        if y.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(
                f"the model must have one output, the shape ({len(x)}, 1) or ({len(x)},); got {tuple(y.shape)}. Choose one of several "
                f"with lambda x: model(x)[:, [0]]."
            )
        return y.reshape(-1)

    @cached_property
    def gradient(self) -> Tensor:
        """``(B, n)``."""
        return batch_jacobian(self.values, self.x).detach()

    @cached_property
    def hessian(self) -> Tensor:
        """``(B, n, n)``."""
        return batch_hessian(self.values, self.x).detach()

    def groups(self, groups: Sequence[Group]) -> list[list[int]]:
        """`groups` without negative indices.

        Raises:
            IndexError: for a variable that does not exist.
            ValueError: if one is named twice.
        """
        found = [[checked_index("variable", i, self.size) for i in group] for group in groups]
        named = [i for group in found for i in group]
        if len(set(named)) < len(named):
            raise ValueError(f"a variable may be named once only; got {[list(group) for group in groups]}.")
        return found
