"""One file for one model, to be passed on: a checkpoint without the data and the optimiser.

If safetensors is installed, it is a file of that format with the configuration as metadata. Otherwise it is a zip archive of the
configuration, ``config.yml``, and the tensors, ``state``, both as in a checkpoint. Either can be read under any name. The configuration
ends with its own digest, see `kan.checkpoint.files`, and contains that of the tensors.

References
    The safetensors format, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from kan.checkpoint.files import digest, dump_config, dump_tensors, parse_tensors, read, replace_file
from kan.checkpoint.format import Functions, build, describe, parse, state_of
from kan.network.network import Network

__all__ = ["load", "save"]

N = TypeVar("N", bound=Network)

FORMATS = ("safetensors", "zip")
CONFIG, STATE = "config.yml", "state"


def save(network: Network, path: str | os.PathLike[str], format: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
    """Write `network` to the file `path`, completely or not at all.

    Args:
        network: the network, which is saved without its last input.
        path: the file.
        format: ``"safetensors"`` or ``"zip"``; by default the first if safetensors is installed.
        extra: further plain entries of the configuration.

    Raises:
        ValueError: if the format is another one.
        ImportError: if the format is ``"safetensors"``, and that is not installed.
        OSError: if the file cannot be written.
    """
    if format not in (None, *FORMATS):
        raise ValueError(f"format must be 'safetensors' or 'zip', or None for the first where it is installed; got {format!r}.")
    installed = importlib.util.find_spec("safetensors") is not None
    if format == "safetensors" and not installed:
        raise ImportError("format='safetensors' needs the package safetensors: install it, or use format='zip'.")
    state = state_of(network)
    if installed and format != "zip":
        import safetensors.torch

        config = dump_config(describe(network, {**(extra or {}), "sha256": {STATE: _fingerprint(state)}}))
        content = safetensors.torch.save({name: value.cpu().contiguous() for name, value in state.items()}, {CONFIG: config.decode()})
    else:
        tensors = dump_tensors(state)
        config = dump_config(describe(network, {**(extra or {}), "sha256": {STATE: digest(tensors)}}))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(CONFIG, config)
            archive.writestr(STATE, tensors)
        content = buffer.getvalue()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_file(os.fspath(path), content)


def load(
    cls: type[N],
    path: str | os.PathLike[str],
    map_location: torch.device | str | None = None,
    functions: Functions | None = None,
    **arguments: Any,
) -> N:
    """Load the network in the file `path`.

    Args:
        cls: class of the network.
        path: the file.
        map_location: device of the network; by default the CPU.
        functions: symbolic functions that are not in the library, see `kan.checkpoint.format.load`.
        arguments: further arguments for the constructor.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if the file is damaged or was not written by `save`; nothing in it is executed.
        ImportError: if the file needs safetensors, and that is not installed.
    """
    file = os.fspath(path)
    content = read(file)
    config, state = _of_zip(content, file) if content[:2] == b"PK" else _of_safetensors(content, file)
    network = build(cls, config, state, file, file, functions, **arguments)
    return network.to("cpu" if map_location is None else map_location)


def _of_zip(content: bytes, file: str) -> tuple[dict[str, Any], Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if sorted(info.filename for info in infos) != [CONFIG, STATE] or any(info.compress_type for info in infos):
                raise ValueError(f"it holds {[info.filename for info in infos]}, where {CONFIG} and {STATE} are expected, uncompressed")
            text, tensors = archive.read(CONFIG), archive.read(STATE)
    except (ValueError, RuntimeError, NotImplementedError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} could not be read as a saved KAN, nothing was loaded: {error}") from error
    config = parse(text, file)
    if config["sha256"].get(STATE) != digest(tensors):
        raise _altered(file)
    return config, parse_tensors(tensors, file)


def _of_safetensors(content: bytes, file: str) -> tuple[dict[str, Any], Any]:
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= len(content) - 8 or content[8:9] != b"{":
        raise ValueError(f"{file} is not a file that KAN.save has written: it is neither a safetensors file nor a zip archive.")
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(f"{file} is a safetensors file, which needs the package safetensors: install it.") from error
    try:
        state = safetensors.torch.load(content)  # safe_open would open the file again, which may have been replaced
        text = (json.loads(content[8 : 8 + length]).get("__metadata__") or {}).get(CONFIG, "")
    except Exception as error:  # errors of safetensors and of torch
        raise ValueError(f"{file} could not be read as a saved KAN, nothing was loaded: {error}") from error
    config = parse(text.encode(), file)
    if config["sha256"].get(STATE) != _fingerprint(state):
        raise _altered(file)
    return config, state


def _altered(file: str) -> ValueError:
    return ValueError(f"{file} was changed or damaged after it was written: the checksum of its tensors does not fit. Nothing was loaded.")


def _fingerprint(state: Mapping[str, Tensor]) -> str:
    """Return a digest of the names, types, shapes and values of tensors."""
    parts = []
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        numbers = digest(value.view(-1).view(torch.uint8).numpy().data) if value.numel() else ""
        parts.append(f"{name} {value.dtype} {tuple(value.shape)} {numbers}")
    return digest("\n".join(parts).encode())
