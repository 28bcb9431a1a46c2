"""The files of one version.

``<path>_config.yml``, ``<path>_state`` and ``<path>_cache_data`` are as pykan names them; after a fit there is ``<path>_optimizer``, too.
The configuration is plain YAML, the others are tensors read with ``weights_only``: loading executes nothing. All are written beside their
names, synced and renamed together, so that a name never stands for half a file.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from kan.layers.symbolic_layer import SymbolicLayer
from kan.network.network import Network

__all__ = ["FORMAT", "load", "load_optimizer", "read_config", "save"]

N = TypeVar("N", bound=Network)

FORMAT = 1
"""Version of the configuration's layout; pykan's files carry none."""

SETTINGS = (
    "width", "grid", "k", "mult_arity", "symbolic_enabled", "affine_trainable", "grid_eps", "grid_range", "sp_trainable", "sb_trainable",
)  # fmt: skip
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The one in C where PyYAML was built with it, which is ten times as fast."""
OWN_SETTINGS = ("seed", "save_act", "noise_scale", "scale_base_mu", "scale_base_sigma", "sparse_init")


def save(
    network: Network,
    path: str | os.PathLike[str],
    extra: Mapping[str, Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
) -> None:
    """Write a network under the file names that begin with `path`.

    Args:
        network: to be saved, with its last input.
        path: folder and version, such as ``model/0.1``.
        extra: further plain entries of the configuration.
        optimizer: what a fit can be resumed from, tensors and plain data, for ``<path>_optimizer``, a file that pykan does not look at.
    """
    settings = network.settings()
    base_fun = settings["base_fun"]
    config: dict[str, Any] = {name: settings[name] for name in (*SETTINGS, *OWN_SETTINGS)}
    config.update(
        format=FORMAT,
        base_fun_name=base_fun if isinstance(base_fun, str) else getattr(base_fun, "__name__", "custom"),
        device=str(network.device),
        dtype=str(network.dtype).removeprefix("torch."),
        input_id=network.input_id.tolist(),
        input_width=network.input_width,
        **{f"symbolic.funs_name.{l}": layer.funs_name for l, layer in enumerate(network.symbolic_layers)},
        **(extra or {}),
    )
    text = yaml.dump(_plain(config), Dumper=DUMPER, default_flow_style=False)
    # Copies: of a view, torch.save would write the whole tensor behind it.
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    data = None if network.last_input is None else network.last_input.clone()
    path = os.fspath(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    contents = {f"{path}_state": _bytes(state), f"{path}_cache_data": _bytes(data), f"{path}_config.yml": text.encode()}
    if optimizer is not None:
        contents[f"{path}_optimizer"] = _bytes(dict(optimizer))
    _write_together(contents)
    if optimizer is None:
        Path(f"{path}_optimizer").unlink(missing_ok=True)  # of a version that stood here before


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of the version `path`.

    Raises:
        FileNotFoundError: if there is no such version.
        ValueError: if the file is no configuration.
    """
    file = Path(f"{path}_config.yml")
    if not file.exists():
        raise FileNotFoundError(f"there is no checkpoint {str(path)!r}: {file} does not exist.")
    try:
        config = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not a readable configuration: {error}") from error
    needed = (*SETTINGS, "base_fun_name")
    missing = [name for name in needed if name not in config] if isinstance(config, dict) else needed
    if missing:
        raise ValueError(f"{file} is not a configuration of a KAN: entries are missing: {', '.join(missing)}.")
    return dict(config)


def load(cls: type[N], path: str | os.PathLike[str], device: torch.device | str | None = None, **arguments: Any) -> N:
    """The network saved under `path`.

    Args:
        cls: the network's class.
        path: folder and version, such as ``model/0.1``.
        device: where to put it; the device it was saved from if that is at hand, the CPU otherwise, when not given.
        arguments: further arguments for the class's constructor.

    Raises:
        FileNotFoundError, ValueError: if a file is missing or does not fit.
    """
    config = read_config(path)
    state = _tensors(f"{path}_state")
    if not isinstance(state, Mapping) or "act_fun.0.coef" not in state:
        raise ValueError(f"{path}_state is not the state of a KAN: the entry 'act_fun.0.coef' is missing.")
    own = {name: config[name] for name in OWN_SETTINGS if name in config}
    network = cls(**{"base_fun": config["base_fun_name"], **{name: config[name] for name in SETTINGS}, **own, **arguments})
    network.to(state["act_fun.0.coef"].dtype)
    for l, layer in enumerate(network.symbolic_layers):
        for j, row in enumerate(config[f"symbolic.funs_name.{l}"]):
            for i, name in enumerate(row):
                if name != "0":
                    _set_function(layer, l, i, j, name, path)
    if "input_id" in config:
        network.input_id = torch.tensor(config["input_id"])
        network.input_width = int(config["input_width"])
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path}_state does not fit {path}_config.yml: {error}") from error
    network.to(_device(config) if device is None else device)
    data = _tensors(f"{path}_cache_data") if os.path.exists(f"{path}_cache_data") else None
    network.remember_input(None if data is None else data.to(network.device))
    return network


def load_optimizer(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the version `path` has of the last fit to resume from; None if it has nothing."""
    file = f"{path}_optimizer"
    return dict(_tensors(file)) if os.path.exists(file) else None


def _set_function(layer: SymbolicLayer, l: int, i: int, j: int, name: str, path: str | os.PathLike[str]) -> None:
    try:
        layer.set_function(i, j, name)
    except ValueError as error:
        raise ValueError(
            f"{path}_config.yml: the edge ({l}, {i}, {j}) carries the function {name!r}, which is not in SYMBOLIC_LIB. A checkpoint holds "
            f"names only: register the function with add_symbolic before loading (and before fix_symbolic, if it has no name)."
        ) from error


def _device(config: Mapping[str, Any]) -> str:
    name = str(config.get("device", "cpu"))
    return name if name == "cpu" or (name.startswith("cuda") and torch.cuda.is_available()) else "cpu"


def _tensors(file: str | os.PathLike[str]) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{os.fspath(file)} could not be read as tensors, nothing was loaded: {error}") from error


def _bytes(value: Any) -> bytes:
    """What `torch.save` writes. It is made in memory: of a disk that is full torch speaks in many tongues."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _write_together(contents: Mapping[str, bytes]) -> None:
    """Write all files, each whole, or none."""
    mark = uuid.uuid4().hex
    parts = {path: f"{path}.{mark}.part" for path in contents}
    try:
        for path, content in contents.items():
            with open(parts[path], "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            if os.path.exists(part):
                os.unlink(part)


def _plain(value: Any) -> Any:
    """With nothing but dictionaries, lists, strings and numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    return int(value) if float(value).is_integer() and not isinstance(value, float) else float(value)
