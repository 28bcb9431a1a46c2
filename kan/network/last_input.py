"""How networks check their input, and keep the last one, to which calls without data refer."""

from __future__ import annotations

import inspect
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from kan.datasets.real_numbers import check_all_finite, columns_of, is_table, real_numbers, select
from kan.errors import NoDataError, level_of_caller, module_of_caller
from kan.layers.checks import check_dense
from kan.layers.ordinary_module import OrdinaryModule, ordinary

__all__ = ["LastInput"]

OF_LAST_INPUT = ("last_input", "_input_version", "_pass_versions", "_records")
"""Attributes of the last input."""


class LastInput(OrdinaryModule):
    """A module that checks its input and keeps a reference to the last one.

    Attributes:
        input_width: columns of the input.
        last_input: as the user gave it, or None.
    """

    input_width: int
    last_input: Tensor | None = None

    _input_version: int | None = None
    """How often the last input had been changed in place when it was remembered."""

    _pass_versions: list[int] | None = None
    """How often the parameters had been changed in place at the pass over the last input."""

    _records: dict[str, Any] | None = None
    """What has been put in the place of what the last pass has left, see `kan.network.user_code.attributes.Recorded`."""

    _given: Mapping[str, Any] = MappingProxyType({})
    """Scores that have been set, see `kan.network.user_code.attributes.Lasting`."""

    def __init__(self) -> None:
        super().__init__()
        self.remember_input(None)

    def __getattr__(self, name: str) -> Any:
        """What is found in none of the usual places: parameters, buffers and submodules; and the error of a property that raised one.

        Python asks here for an attribute whose property has raised an ``AttributeError``, and torch's own version would say that there is
        no such attribute.
        """
        own = self.__dict__
        for table in ("_parameters", "_buffers", "_modules"):  # as torch does, without a second call: layers are asked for in every pass
            if table in own and name in own[table]:
                return own[table][name]
        if inspect.isdatadescriptor(getattr(type(self), name, None)):
            return getattr(type(self), name).__get__(self, type(self))
        return self._absent(name)

    def _absent(self, name: str) -> Any:
        """The value of an attribute that is nowhere, or an ``AttributeError``."""
        return super().__getattr__(name)

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the parameters live."""

    def as_input(self, x: Any) -> Tensor:
        """`x` as a tensor, if the module can be called with it: whatever holds real numbers, one row per sample.

        Arrays, lists, frames and series become tensors on the module's device. If the module knows the names of its columns, it takes
        those of a frame by their names: they may be in another order, and others may stand among them. Integers become floating-point
        numbers. For a module with one input, `x` may be ``(N,)``.

        Raises:
            TypeError: for what holds no real numbers.
            ValueError: for frames without a column that is needed, and for arrays and frames with missing or infinite numbers.
        """
        if not isinstance(x, Tensor):
            if not is_table(x):
                raise TypeError(
                    f"the input must be a tensor, an array, a list of numbers or a frame, with one row per sample; got {type(x).__name__}."
                )
            columns: list[str] | None = getattr(self, "frame_columns", None)
            x = x if columns is None else select("the input", x, columns)
            names = columns_of(x)
            x = real_numbers("the input", x, "must hold numbers; got {}").to(self.device)
            if x.dim() > 0:
                check_all_finite("the input", x, names, self.dtype)
        found: Tensor = x if x.is_floating_point() or x.is_complex() else x.to(self.dtype)
        return found[:, None] if found.dim() == 1 and self.input_width == 1 else found

    def check_numbers(self) -> None:
        """Raise ``NoDataError``, a ``ValueError``, for a model on the meta device."""
        if self.device.type == "meta":
            raise NoDataError("the model is on the meta device, which has shapes but no numbers: load or make it on another device.")

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
            single = " For a single sample write x[None], or [x] for a list."
            raise ValueError(
                f"the input must have the shape (number of samples, {self.input_width}), one column per input of the network; "
                f"got {tuple(x.shape)}.{single if tuple(x.shape) == (self.input_width,) else ''}"
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
            self._input_version = self._pass_versions = self._records = None
            return
        if passed and x is not None and x.is_inference():
            x = x.clone()  # changes in place would not be noticed
        self.__dict__.update(  # a module's own way of setting attributes takes longer than all of this
            last_input=None if x is None else x.detach(),
            _input_version=None if x is None or x.is_inference() else x._version,
            _pass_versions=self._versions() if passed else None,
            _records=None,
        )

    @contextmanager
    def same_last_input(self) -> Iterator[None]:
        """Let the last input, and what is known of it, be the same after the block as before, whatever passes the block makes."""
        own = self.__dict__
        kept = {name: own[name] for name in OF_LAST_INPUT if name in own}
        try:
            yield
        finally:
            own.update(kept)
            for name in OF_LAST_INPUT:
                if name not in kept:
                    own.pop(name, None)

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
                "the parameters have changed since the last pass, as by a step of an optimiser. Activations are computed when they are "
                "read, so they are those of the present parameters. Read them before the step, or call model(x) again.",
                stacklevel=level_of_caller(),
            )

    def remembered_input(self) -> Tensor:
        """The last input, for calls without data.

        Raises:
            NoDataError: if there is none.
        """
        if self.last_input is None:
            raise NoDataError("the model hasn't seen any data yet: call model(x) or model.fit(dataset) first.")
        if self._input_version is not None and self._input_version != self.last_input._version:
            self._input_version = None
            warnings.warn(
                "the last input has been changed in place since the model was called with it. Activations, scores and plots are computed "
                "when they are read, so they are those of the present numbers. Call model(x) again, or give the model a copy, "
                "model(x.clone()).",
                stacklevel=level_of_caller(),
            )
        self.last_input = ordinary(self.last_input)  # scores differentiate with respect to what depends on it
        return self.last_input

    def __getstate__(self) -> dict[str, Any]:
        x = self.last_input
        state = {**super().__getstate__(), "_input_version": None, "_pass_versions": None}  # copies are other tensors
        if x is None or x.untyped_storage().nbytes() <= x.numel() * x.element_size():
            return state
        return {**state, "last_input": x.clone()}  # of a view, copies and pickles would hold the whole tensor behind it


def _is_read_on_purpose() -> bool:
    """Whether it is not a tool that looks at every attribute, such as ``inspect.getmembers`` or ``torch.jit.trace``."""
    return module_of_caller().split(".")[0] not in ("inspect", "torch")
