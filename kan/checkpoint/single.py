"""One file for one model: what a checkpoint holds but for data and optimiser, to be handed on.

Where safetensors is installed it is a file of that format, with the configuration as metadata; else a zip archive of the configuration,
``config.yml``, and the tensors, ``state``, both as in a checkpoint. Either is read whatever its name. The configuration is sealed, see
`kan.checkpoint.files`, and knows the digest of the tensors.

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
    """Write `network` to the file `path`, whole or not at all.

    Args:
        network: to be saved, without its last input.
        path: the file.
        format: ``"safetensors"`` or ``"zip"``; the first where safetensors is installed, when not given.
        extra: further plain entries of the configuration.

    Raises:
        ValueError: if the format is another.
        ImportError: if it is ``"safetensors"``, which is not installed.
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
    """The network in the file `path`.

    Args:
        cls: the network's class.
        path: the file.
        map_location: where to put it; the CPU when not given.
        functions: symbolic functions that are not in the library, see `kan.checkpoint.format.load`.
        arguments: further arguments for the class's constructor.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is damaged or not such a file; nothing in it is executed.
        ImportError: if it needs safetensors, which is not installed.
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
        state = safetensors.torch.load(content)  # safe_open would open the file again, where another may be by now
        text = (json.loads(content[8 : 8 + length]).get("__metadata__") or {}).get(CONFIG, "")
    except Exception as error:  # its own kind, and those of torch
        raise ValueError(f"{file} could not be read as a saved KAN, nothing was loaded: {error}") from error
    config = parse(text.encode(), file)
    if config["sha256"].get(STATE) != _fingerprint(state):
        raise _altered(file)
    return config, state


def _altered(file: str) -> ValueError:
    return ValueError(f"{file} was changed or damaged after it was written: the checksum of its tensors does not fit. Nothing was loaded.")


def _fingerprint(state: Mapping[str, Tensor]) -> str:
    """Digest of names, types, shapes and numbers."""
    parts = []
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        numbers = digest(value.view(-1).view(torch.uint8).numpy().data) if value.numel() else ""
        parts.append(f"{name} {value.dtype} {tuple(value.shape)} {numbers}")
    return digest("\n".join(parts).encode())
