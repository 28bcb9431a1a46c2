"""Devices without a device: how a program would run on a GPU, as far as a machine without one can tell.

Fake tensors have shapes and devices, but no numbers. A program that asks for a number of one fails, and so does one that mixes devices
(`fake_cuda`). Tensors on the meta device have gradients as well; with these, torch as it is built for CPUs aborts on a fake GPU. How often
a program waits for a device is counted on a CPU, with numbers, while the library takes the ways that it takes on a device
(`as_on_a_device`, `Readings`).
"""

from __future__ import annotations

import copy
import importlib
import pkgutil
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import kan
from kan import devices
from kan.bases import chebyshev
from kan.layers.prepared_grid import PreparedGrid

aten: Any = torch.ops.aten
T = TypeVar("T")


def _sliced(x: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """The part of `x` that the plain entries of an index select, a view, and the tensors that index its axes, None for none."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if not any(entry is Ellipsis for entry in entries):
        entries.append(Ellipsis)
    axis, found = 0, list[Tensor | None]()
    for place, entry in enumerate(entries):
        if entry is Ellipsis:
            count = x.dim() - axis - sum(later is not None for later in entries[place + 1 :])
        elif isinstance(entry, int):
            x, count = x.select(axis, entry), 0
        elif entry is None:
            x, count = x.unsqueeze(axis), 1
        elif isinstance(entry, slice):
            start, stop, step = entry.indices(x.shape[axis])
            x, count = aten.slice.Tensor(x, axis, start, max(start, stop), step), 1
        else:
            found.append(entry if isinstance(entry, Tensor) else torch.tensor(entry))
            axis, count = axis + 1, 0
        found += [None] * count
        axis += count
    while found and found[-1] is None:
        found.pop()
    return x, found


class _WithoutGuard(TorchFunctionMode):
    """Operations for which torch asks the driver of the device, which a build for CPUs has not, by means that do not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            x, tensors = _sliced(*args)
            return aten.index.Tensor(x, tensors) if tensors else x
        if func is Tensor.__setitem__:
            x, tensors = _sliced(args[0], args[1])
            value = args[2] if isinstance(args[2], Tensor) else torch.full((), args[2], dtype=x.dtype, device=x.device)
            return aten.index_put_.default(x, tensors, value) if tensors else aten.copy_.default(x, value)
        if func is Tensor.copy_:
            return aten.copy_.default(*args)
        if func is torch.matmul and kwargs and "out" in kwargs:
            return aten.copy_.default(kwargs["out"], func(*args))
        if func in (Tensor.contiguous, torch.conv1d):
            args = (args[0].clone(memory_format=torch.contiguous_format), *args[1:])
        return args[0] if func is Tensor.contiguous else func(*args, **(kwargs or {}))


class _NoTransfers(TorchDispatchMode):
    """Fails where numbers move from one device to another, but for tensors without dimensions in arithmetic."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        copies = func in (aten._to_copy.default, aten.copy_.default)
        there = {t.device.type for t in tree_leaves((args, kwargs, found)) if isinstance(t, Tensor) and (copies or t.dim() > 0)}
        if len(there) > 1:
            raise RuntimeError(f"{func} moves numbers between {' and '.join(sorted(there))}")
        return found


@contextmanager
def fake_cuda(transfers: bool = False) -> Iterator[None]:
    """Within the block ``device="cuda"`` makes fake tensors. To read their numbers fails, and to copy them, too, without `transfers`."""
    with FakeTensorMode() if _fake is None else _fake, _WithoutGuard(), torch.no_grad():
        if transfers:
            yield
        else:
            with _NoTransfers():
                yield


_fake: FakeTensorMode | None = None


@contextmanager
def one_fake_device() -> Iterator[None]:
    """Let all blocks of `fake_cuda` within this one be the same device, and nothing be left of it afterwards."""
    global _fake
    constants = devices._constant, chebyshev._differentiation
    _fake = FakeTensorMode()
    for known in constants:
        known.cache_clear()
    try:
        yield
    finally:
        _fake = None
        for known in constants:
            known.cache_clear()


def _parts(thing: Any, seen: dict[int, Any]) -> None:
    """Put an object into `seen`, with its attributes and entries, and theirs, as far as they are torch's or the library's."""
    if id(thing) in seen or isinstance(thing, (str, int, float, type, torch.Generator)):
        return
    seen[id(thing)] = thing
    if isinstance(thing, (dict, list, tuple, set)):
        parts: Any = thing.values() if isinstance(thing, dict) else thing
    else:
        own = not isinstance(thing, Tensor) and type(thing).__module__.split(".")[0] in ("kan", "torch", "tests")
        parts = vars(thing).values() if own and hasattr(thing, "__dict__") else ()
    for part in list(parts):
        _parts(part, seen)


def transplanted(device: str, thing: T) -> T:
    """A copy of an object with all its tensors on a device without numbers, and with what was prepared of grids."""
    seen: dict[int, Any] = {}
    _parts(thing, seen)
    memo: dict[int, Any] = {}
    for tensor in [part for part in seen.values() if isinstance(part, Tensor)]:
        new = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
        with torch.no_grad():
            while new._version < tensor._version:  # by which it is seen to be unchanged
                new.zero_()
        memo[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
    for prepared in [part for part in seen.values() if isinstance(part, PreparedGrid)]:
        memo[id(prepared)] = twin = PreparedGrid()
        twin.__dict__.update(copy.deepcopy(vars(prepared), memo))
    return copy.deepcopy(thing, memo)


@contextmanager
def as_on_a_device(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the library treat tensors of the CPU within the block as it treats those of a device."""
    for found in pkgutil.walk_packages(kan.__path__, "kan."):
        if not found.name.rpartition(".")[2].startswith("_"):  # the library of compiled kernels is no module
            importlib.import_module(found.name)
    with patch.context() as patched:
        at_hand = devices.at_hand
        for name, module in list(sys.modules.items()):
            if name.startswith("kan.") and getattr(module, "at_hand", None) is at_hand:
                patched.setattr(module, "at_hand", lambda x: False)
        yield


class Readings(TorchDispatchMode):
    """Counts, within the block, by the function of the library, how often numbers of a tensor are read, or Python's numbers made a tensor.

    On a device each of these waits, but for constants that are there already. What optimisers of torch read, the numbers of their steps,
    they keep on the CPU.
    """

    OPERATIONS = (aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default)
    METHODS = (Tensor.tolist, Tensor.numpy)
    COPIES = (torch.tensor, torch.as_tensor, Tensor.new_tensor)

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self._methods = _Methods(self)

    def __enter__(self) -> Readings:
        self._methods.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._methods.__exit__(*error)

    def note(self) -> None:
        for frame in reversed(traceback.extract_stack()):
            path = frame.filename.replace("\\", "/")
            if "/torch/optim/" in path and "lr_scheduler" not in path or path.endswith("/kan/devices.py") and frame.name == "constant":
                return
            if "/kan/" in path:
                self.found[f"{path.split('/kan/')[-1]} {frame.name}"] += 1
                return

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = func in (aten.index.Tensor, aten.index_put_.default) and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if func in self.OPERATIONS or masks:
            self.note()
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, readings: Readings) -> None:
        super().__init__()
        self.readings = readings

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        index = args[1] if func in (Tensor.__getitem__, Tensor.__setitem__) else ()
        lists = any(isinstance(entry, list) for entry in (index if isinstance(index, tuple) else (index,)))
        copies = func in Readings.COPIES and not isinstance(args[-1], Tensor)
        if func in Readings.METHODS or copies or lists:
            self.readings.note()
        return func(*args, **(kwargs or {}))
