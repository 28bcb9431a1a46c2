"""What networks say about their input, and the last one, which calls without data refer to."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from kan.layers.checks import check_dense
from kan.layers.ordinary_module import OrdinaryModule, ordinary

__all__ = ["LastInput"]


class LastInput(OrdinaryModule):
    """A module that checks its input and keeps a reference to the last one.

    Attributes:
        input_width: columns of the input.
        last_input: as the user gave it, or None.
    """

    input_width: int

    def __init__(self) -> None:
        super().__init__()
        self.last_input: Tensor | None = None

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the parameters live."""

    def check_numbers(self) -> None:
        """Raise ``ValueError`` for a model on the meta device."""
        if self.device.type == "meta":
            raise ValueError("the model is on the meta device, which has shapes but no numbers: load or make it on another device.")

    def checked_input(self, x: Tensor) -> Tensor:
        """`x` in the parameters' dtype; errors as in `check_input`."""
        return self.trainable_input(x).to(self.dtype)

    def trainable_input(self, x: Tensor) -> Tensor:
        """`x`, or a copy of it that gradients can be taken of if it was made in inference mode; errors as in `check_input`."""
        self.check_input(x)
        recorded = torch.compiler.is_compiling() or torch.is_inference_mode_enabled()
        return x if recorded else ordinary(x)

    def check_input(self, x: Tensor) -> None:
        """Raise an error for what is no input.

        Raises:
            TypeError: if `x` is no tensor of floating-point numbers.
            ValueError: if its shape is not ``(number of samples, number of inputs)``, it is sparse, or it or the model has no numbers.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            what = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(
                f"the input must be a tensor of floating-point numbers; got {what}. Convert it with torch.as_tensor(x).to(model.dtype)."
            )
        if x.dim() != 2 or x.shape[1] != self.input_width:
            raise ValueError(
                f"the input must have the shape (number of samples, {self.input_width}), one column per input of the network; "
                f"got {tuple(x.shape)}."
            )
        check_dense(x, "the input")
        self.check_numbers()

    def remember_input(self, x: Tensor | None) -> None:
        """Keep a reference to `x` as the input that later calls without data refer to, not to stand-ins in ``torch.func`` and export."""
        if not (torch._C._are_functorch_transforms_active() or torch.compiler.is_exporting()):
            self.last_input = None if x is None else x.detach()

    def remembered_input(self) -> Tensor:
        """The last input, for calls without data.

        Raises:
            ValueError: if there is none.
        """
        if self.last_input is None:
            raise ValueError("the model hasn't seen any data yet: call model(x) or model.fit(dataset) first.")
        self.last_input = ordinary(self.last_input)  # scores differentiate with respect to what depends on it
        return self.last_input

    def __getstate__(self) -> dict[str, Any]:
        x = self.last_input
        if x is None or x.untyped_storage().nbytes() <= x.numel() * x.element_size():
            return super().__getstate__()
        return {**super().__getstate__(), "last_input": x.clone()}  # of a view, copies and pickles would hold the whole tensor behind it
