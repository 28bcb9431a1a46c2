"""What networks say about their input, and the last one, which calls without data refer to."""

from __future__ import annotations

import sys
import warnings
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
        self._input_version: int | None = None  # of the last input, when it was remembered
        self._pass_versions: list[int] | None = None  # of the parameters, at the pass over the last input

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

    def remember_input(self, x: Tensor | None, *, passed: bool = False) -> None:
        """Keep a reference to `x` as the input that later calls without data refer to, not to stand-ins in ``torch.func`` and export.

        Args:
            x: the input.
            passed: whether the model has just been called with it, so that users may want to read activations of that pass.
        """
        if torch._C._are_functorch_transforms_active() or torch.compiler.is_exporting():
            return
        if torch.compiler.is_compiling():  # which cannot read versions
            self.last_input = None if x is None else x.detach()
            self._input_version = self._pass_versions = None
            return
        if passed and x is not None and x.is_inference():
            x = x.clone()  # changes in place would not be noticed
        self.__dict__.update(  # a module's own way of setting attributes takes longer than all of this
            last_input=None if x is None else x.detach(),
            _input_version=None if x is None or x.is_inference() else x._version,
            _pass_versions=self._versions() if passed else None,
        )

    def _versions(self) -> list[int] | None:
        """How often every parameter has been changed in place, but for masks and grids, which no optimiser moves."""
        try:
            found = [p._version for p in self._parameters.values() if p is not None]
            for block in self._modules.values():
                for part in (block, *block._modules.values()):  # type: ignore[union-attr]
                    parameters = part._parameters.items()
                    found += [p._version for name, p in parameters if p is not None and name != "mask" and name != "grid"]
        except RuntimeError:  # a parameter that was made in inference mode does not know
            return None
        return found

    def forget_pass(self) -> None:
        """The user has had the model changed: nobody expects its activations to be those of the last pass any more."""
        self._pass_versions = None

    def warn_of_changes(self) -> None:
        """Warn, once, if the parameters are not those of the pass over the last input: for what is read as activations of that pass."""
        if self._pass_versions is not None and self._pass_versions != self._versions() and _is_read_on_purpose():
            self._pass_versions = None
            warnings.warn(
                "the parameters have changed since the pass over the last input, as by a step of an optimiser: activations are "
                "computed when they are read, so these are those of the model as it is now. Read them before the step, or call model(x) "
                "again.",
                stacklevel=_caller()[0],
            )

    def remembered_input(self) -> Tensor:
        """The last input, for calls without data.

        Raises:
            ValueError: if there is none.
        """
        if self.last_input is None:
            raise ValueError("the model hasn't seen any data yet: call model(x) or model.fit(dataset) first.")
        if self._input_version is not None and self._input_version != self.last_input._version:
            self._input_version = None
            warnings.warn(
                "the last input has been changed in place since the model saw it: activations, scores and plots are computed when they "
                "are asked for, so they are those of the numbers that it holds now. Call model(x) again, or give the model a copy, "
                "model(x.clone()).",
                stacklevel=_caller()[0],
            )
        self.last_input = ordinary(self.last_input)  # scores differentiate with respect to what depends on it
        return self.last_input

    def __getstate__(self) -> dict[str, Any]:
        x = self.last_input
        state = {**self.__dict__, "_input_version": None, "_pass_versions": None}  # copies are other tensors
        if x is None or x.untyped_storage().nbytes() <= x.numel() * x.element_size():
            return state
        return {**state, "last_input": x.clone()}  # of a view, copies and pickles would hold the whole tensor behind it


def _caller() -> tuple[int, str]:
    """The nearest caller of the function that asks that is no part of this package: how far up it is, and the name of its module."""
    depth, frame = 2, sys._getframe(2)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).split(".")[0] == "kan":
        depth, frame = depth + 1, frame.f_back
    return depth, str(frame.f_globals.get("__name__"))


def _is_read_on_purpose() -> bool:
    """Whether it is not a tool that looks at every attribute, such as ``inspect.getmembers`` or ``torch.jit.trace``."""
    return _caller()[1].split(".")[0] not in ("inspect", "torch")
