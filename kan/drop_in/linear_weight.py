"""The ``weight`` of a layer that stands where a ``torch.nn.Linear`` stood.

Programs read ``layer.weight`` of a linear layer: for its dtype, device and shape, to initialise it, or to multiply with it themselves, as
``torch.nn.MultiheadAttention`` and the fused kernels of ``torch.nn.TransformerEncoderLayer`` do. A plain matrix would let the latter go on
without the splines, in silence. This one is the matrix of the base function for all that reads or writes numbers, and the
whole layer for ``torch.nn.functional.linear``. Where it would be multiplied with in another way there is an error. Torch's fused
kernels leave tensors alone that have a ``__torch_function__``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LinearLayer", "LinearWeight"]

_fused = (getattr(torch, name, None) for name in ("_transformer_encoder_layer_fwd", "_native_multi_head_attention"))
PRODUCTS = {
    *(torch.matmul, torch.mm, torch.mv, torch.bmm, torch.addmm, torch.addmv, torch.baddbmm, torch.einsum, torch.tensordot),
    *(Tensor.matmul, Tensor.mm, Tensor.mv, Tensor.bmm, Tensor.addmm, Tensor.addmv, Tensor.__matmul__, Tensor.__rmatmul__),
    *(F.linear, F.bilinear, torch.inner, Tensor.inner, torch.linalg.multi_dot, *filter(None, _fused)),
}
"""Functions that multiply with matrices, for which the weight of this layer is none."""
TURNS = {
    *(torch.t, torch.transpose, torch.swapaxes, torch.permute, Tensor.t, Tensor.transpose, Tensor.swapaxes, Tensor.permute),
    *(Tensor.T.__get__, Tensor.mT.__get__),  # type: ignore[attr-defined]
}
"""Functions that a matrix goes through before it is multiplied with."""


class LinearLayer(Protocol):
    """What is asked of the layer that a weight stands for; `KANLinear` is one."""

    in_features: int
    base_weight: nn.Parameter
    spline_weight: nn.Parameter
    spline_scaler: nn.Parameter | None
    bias: nn.Parameter | None

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output at `x`."""

    def summed(self, x: Tensor) -> Tensor:
        """The output without the bias."""


class _NoMatrix(Tensor):
    """Numbers that are not to be multiplied with as a matrix."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """What `func` makes of the weight; see the module."""
        kwargs = kwargs or {}
        if issubclass(cls, LinearWeight) and func in _HANDLERS:
            return _HANDLERS[func](*args, **kwargs)
        if func in PRODUCTS:
            raise _error()
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **kwargs)
            return found.as_subclass(_NoMatrix) if func in TURNS else found


class LinearWeight(_NoMatrix):
    """See the module. It shares its memory with ``base_weight``."""

    layer: LinearLayer

    @staticmethod
    def of(layer: LinearLayer) -> LinearWeight:
        """The weight of `layer`."""
        weight = layer.base_weight.as_subclass(LinearWeight)
        weight.layer = layer
        return weight


def _error() -> RuntimeError:  # torch's operators hide a TypeError
    return RuntimeError(
        "the weight of a KANLinear is no matrix to multiply with: every edge is a function of its input. Call the layer, or "
        "torch.nn.functional.linear(x, layer.weight, layer.bias), which does so. The factors of the base function alone are "
        "layer.base_weight."
    )


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not isinstance(weight, LinearWeight):  # it is the input
        raise _error()
    layer = weight.layer
    if bias is layer.bias:
        return layer(input)
    return layer.summed(input) if bias is None else layer.summed(input) + bias


_attention = inspect.signature(F.multi_head_attention_forward)


def _attend(*args: Any, **kwargs: Any) -> Any:
    """Attention whose output projection is a layer: that of torch with the identity in its place, then the layer."""
    given = _attention.bind(*args, **kwargs)
    weight, bias = given.arguments["out_proj_weight"], given.arguments["out_proj_bias"]
    if not isinstance(weight, LinearWeight):
        raise _error()  # it is an input projection
    size = weight.layer.in_features
    given.arguments.update(out_proj_weight=torch.eye(size, dtype=weight.dtype, device=weight.device), out_proj_bias=None)
    attended, shares = F.multi_head_attention_forward(*given.args, **given.kwargs)
    return _linear(attended, weight, bias), shares


def _require_gradient(weight: LinearWeight, requires_grad: bool = True) -> LinearWeight:
    for parameter in (weight.layer.base_weight, weight.layer.spline_weight, weight.layer.spline_scaler):
        if parameter is not None:
            parameter.requires_grad_(requires_grad)
    return weight


def _set_data(weight: LinearWeight, value: Tensor) -> None:
    weight.layer.base_weight.data = value


def _set_grad(weight: LinearWeight, value: Tensor | None) -> None:
    weight.layer.base_weight.grad = value


_grad: Any = Tensor.grad
_HANDLERS: dict[Any, Callable[..., Any]] = {
    F.linear: _linear,
    F.multi_head_attention_forward: _attend,
    Tensor.requires_grad_: _require_gradient,
    Tensor.requires_grad.__set__: _require_gradient,  # type: ignore[attr-defined]
    Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    _grad.__get__: lambda weight: weight.layer.base_weight.grad,
    _grad.__set__: _set_grad,
}
