"""What a checkpoint holds of a network, and the network that a checkpoint describes.

``<path>_config.yml`` is the configuration: the constructor's arguments, names of functions, digests of the other files.
``<path>_state`` holds the parameters, ``<path>_cache_data`` the last input, both named and read as pykan does; ``<path>_optimizer`` is what
a fit can be resumed from, if there was one. What pykan's models do not have stands in further entries of the configuration, which pykan
does not look at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from kan.checkpoint.files import (
    Content,
    Link,
    digest_of,
    dump_config,
    dump_tensors,
    identity,
    parse_config,
    parse_tensors,
    read,
    recover,
    write_together,
)
from kan.checkpoint.migrations import FORMAT, migrated
from kan.checkpoint.schema import check_config, check_sizes, check_tensors
from kan.layers.computed import computed, settled
from kan.layers.symbolic_layer import SymbolicLayer
from kan.network.layered import BASE_FUNCTIONS
from kan.network.network import Network
from kan.symbolic.library import SymbolicFunction, anonymous

__all__ = ["build", "describe", "despite_writers", "load", "load_optimizer", "parse", "plain", "read_config", "save", "state_of"]

N = TypeVar("N", bound=Network)
T = TypeVar("T")
Functions = Mapping[str, Callable[[Tensor], Tensor] | SymbolicFunction]

SETTINGS = (
    "width", "grid", "k", "mult_arity", "symbolic_enabled", "affine_trainable", "grid_eps", "grid_range", "sp_trainable", "sb_trainable",
)  # fmt: skip
OWN_SETTINGS = ("seed", "save_act", "noise_scale", "scale_base_mu", "scale_base_sigma", "sparse_init")
MASKS = r"symbolic_fun\.[0-9]+\.mask"
NOISE_SCALE = 0.3
"""Of pykan's models, whose files do not hold it; the constructor's default here as there."""
VERSION = re.compile(r"[0-9]+\.[0-9]+")
MOST_TRIES = 100
"""Number of attempts to read a checkpoint whose files do not fit each other, as while another process replaces it. After these it is
reported as damaged."""


# From a network


def describe(network: Network, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of `network`, plain data, with the entries `extra`."""
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
        labels=network.stated_labels(),
        **{f"symbolic.funs_name.{l}": _names(layer) for l, layer in enumerate(network.symbolic_layers)},
        **(extra or {}),
    )
    return dict(plain(config))


def _names(layer: SymbolicLayer) -> list[list[str]]:
    """The names of a layer's functions, nested ``[out][in]``, as far as they stand for them."""
    names = layer.names_to_save()
    return [[names.get((j, i), "0") for i in range(layer.in_dim)] for j in range(layer.out_dim)]


def state_of(network: Network) -> dict[str, Tensor]:
    """Copies of all parameters: of a view, torch.save would write the whole tensor behind it.

    Parameters that torch computes from others, as pruning does, are saved as ordinary ones.
    """
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    for kind in ("act_fun", "symbolic_fun"):
        for l, layer in enumerate(getattr(network, kind)):
            for name in computed(layer):
                prefix = f"{kind}.{l}."
                for part in [key for key in state if key.startswith((f"{prefix}{name}_", f"{prefix}parametrizations.{name}."))]:
                    del state[part]
                state[prefix + name] = settled(layer, name).clone()
    return state


def save(
    network: Network,
    path: str | os.PathLike[str],
    extra: Mapping[str, Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    *,
    data: bool = True,
    known: Link | None = None,
) -> Link:
    """Write a network under the file names that begin with `path`.

    Args:
        network: to be saved, with its last input.
        path: folder and version, such as ``model/0.1``.
        extra: further plain entries of the configuration.
        optimizer: what a fit can be resumed from, tensors and plain data.
        data: whether to save the last input.
        known: what was written when the network had the same input, to be linked to instead of written again.

    Returns:
        The file with the last input.
    """
    path = os.fspath(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    state = state_of(network)
    if len(network.input_id) != network.input_width:
        # pykan would take the first columns of the input for those that are kept; an entry that it does not know makes it refuse.
        state["input_id"] = network.input_id.detach().clone()
    contents: dict[str, Content] = {"state": dump_tensors(state)}
    if optimizer is not None:
        contents["optimizer"] = dump_tensors(dict(optimizer))
    kept = network.last_input if data else None
    contents["cache_data"] = known or dump_tensors(None if kept is None else kept.clone())
    digests = {kind: digest_of(content) for kind, content in contents.items()}
    config = dump_config(describe(network, {**(extra or {}), "save_data": data, "sha256": digests}))
    with suppress(FileNotFoundError, ValueError):
        recover({f"{path}_{kind}": expected for kind, expected in read_config(path)["sha256"].items()})
    write_together({f"{path}_config.yml": config, **{f"{path}_{kind}": content for kind, content in contents.items()}})
    if optimizer is None:
        Path(f"{path}_optimizer").unlink(missing_ok=True)  # of a version that stood here before
    return Link(f"{path}_cache_data", digests["cache_data"])


# To a network


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of the checkpoint `path`.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the file is no configuration, is damaged, or belongs to another version.
    """
    file = f"{os.fspath(path)}_config.yml"
    try:
        content = read(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint {os.fspath(path)!r}: {file} does not exist.") from None
    config = parse(content, file)
    name, version = os.path.basename(os.fspath(path)), config.get("version")
    if version is not None and VERSION.fullmatch(name) and name != version:
        raise ValueError(f"{file} is that of version {version}, under the name of version {name}; nothing was loaded.")
    if config["sha256"] and "cache_data" not in config["sha256"]:
        raise ValueError(f"{file} is not a configuration of a checkpoint: the digest of the data is missing.")
    if missing := [name for name in ("round", "state_id") if name not in config]:
        raise ValueError(f"{file} is not a configuration of a checkpoint: entries are missing: {', '.join(missing)}.")
    return config


def parse(content: bytes, file: str) -> dict[str, Any]:
    """The configuration in `content` of `file`, brought to the present format.

    Raises:
        ValueError: if it is none.
    """
    config, sealed = parse_config(content, file)
    needed = (*SETTINGS, "base_fun_name")
    missing = [name for name in needed if name not in config]
    if missing:
        raise ValueError(f"{file} is not a configuration of a KAN: entries are missing: {', '.join(missing)}.")
    config = migrated(config, sealed, file)
    check_config(config, file)
    return config


def despite_writers(path: str | os.PathLike[str], load: Callable[[], T]) -> T:
    """What ``load()`` returns, which reads the checkpoint `path`; it is called again if another process has replaced that meanwhile."""
    file = f"{os.fspath(path)}_config.yml"
    for _ in range(MOST_TRIES):
        before = identity(file)
        try:
            return load()
        except (FileNotFoundError, ValueError):
            if before == identity(file):
                raise
    return load()


def load(
    cls: type[N],
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    device: torch.device | str | None = None,
    functions: Functions | None = None,
    **arguments: Any,
) -> N:
    """The network saved under `path`.

    Args:
        cls: the network's class.
        path: folder and version, such as ``model/0.1``.
        config: its configuration, as `read_config` gives it.
        device: where to put it; the device it was saved from if that is at hand, the CPU otherwise, when not given.
        functions: symbolic functions that are not in the library, by name, or by edge, such as ``"(0, 1, 2)"``.
        arguments: further arguments for the class's constructor.

    Raises:
        FileNotFoundError, ValueError: if a file is missing or does not fit.
    """
    path, digests = os.fspath(path), config["sha256"]
    file = f"{path}_state"
    network = build(cls, config, parse_tensors(read(file, digests.get("state")), file), f"{path}_config.yml", file, functions, **arguments)
    network.to(_device(config) if device is None else device)
    network.remember_input(_data(network, f"{path}_cache_data", digests.get("cache_data")))
    return network


def build(
    cls: type[N],
    config: Mapping[str, Any],
    state: Any,
    config_file: str,
    state_file: str,
    functions: Functions | None = None,
    **arguments: Any,
) -> N:
    """The network of a configuration and a state, on the CPU; the names of their files are for messages.

    Raises:
        ValueError: if they do not fit together.
    """
    state = check_tensors(state, state_file)
    check_sizes(config, state, config_file, state_file)
    settings = {name: config[name] for name in (*SETTINGS, *OWN_SETTINGS) if name in config}
    if "format" not in config and not any(bool(value.any()) for name, value in state.items() if re.fullmatch(MASKS, name)):
        # pykan's fit turns symbolic edges off where there are none and saves it so; fix_symbolic would have no effect.
        settings["symbolic_enabled"] = True
    base_fun = (functions or {}).get(config["base_fun_name"], config["base_fun_name"])
    try:
        # The state is to take the place of all splines: none are drawn.
        network = cls(**{"base_fun": base_fun, **settings, **arguments, "noise_scale": 0})
        network.noise_scale = settings.get("noise_scale", NOISE_SCALE)
        network.to(state["act_fun.0.coef"].dtype)
        names = [config[f"symbolic.funs_name.{l}"] for l in range(network.depth)]
        if "input_id" in config:
            network.input_id = torch.tensor(config["input_id"], dtype=torch.long)
            network.input_width = int(config["input_width"])
            if len(network.input_id) != network.width_in[0] or not all(0 <= i < network.input_width for i in config["input_id"]):
                raise ValueError(f"input_id {config['input_id']} does not choose {network.width_in[0]} of {network.input_width} columns.")
        network.set_labels(**config.get("labels", {}))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        missing = "there is no entry " if isinstance(error, KeyError) else ""
        name = config["base_fun_name"]
        remedy = "" if name in BASE_FUNCTIONS else f" Give it to the call, as in functions={{{name!r}: f}}."
        raise ValueError(f"{config_file} does not describe a KAN: {missing}{error}{remedy}") from error
    for l, layer in enumerate(network.symbolic_layers):
        _set_functions(layer, l, names[l], functions or {}, config_file)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{state_file} does not fit {config_file}: {error}") from error
    return network


def load_optimizer(path: str | os.PathLike[str], config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the checkpoint `path` with the configuration `config` has of the last fit to resume from; None if it has nothing.

    Raises:
        ValueError: if the file is damaged.
    """
    file, expected = f"{os.fspath(path)}_optimizer", config["sha256"].get("optimizer")
    if expected is None:  # one that the configuration does not know is of something older
        return None
    try:
        state = parse_tensors(read(file, expected), file)
    except FileNotFoundError:
        return None
    if not isinstance(state, Mapping):
        raise ValueError(f"{file} is not the state of an optimiser; nothing was loaded.")
    return dict(state)


def _set_functions(layer: SymbolicLayer, l: int, names: Any, functions: Functions, config_file: str) -> None:
    if not isinstance(names, list) or [len(row) if isinstance(row, list) else -1 for row in names] != [layer.in_dim] * layer.out_dim:
        raise ValueError(f"{config_file} does not describe a KAN: symbolic.funs_name.{l} must have {layer.out_dim} rows of {layer.in_dim}.")
    for j, row in enumerate(names):
        for i, name in enumerate(row):
            if name == "0":
                continue
            if not isinstance(name, str):
                raise ValueError(f"{config_file} does not describe a KAN: the edge ({l}, {i}, {j}) has a function that is no name.")
            own = functions.get(f"({l}, {i}, {j})", functions.get(name))
            try:
                layer.set_function(i, j, name, None if own is None else _row(own))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{config_file}: the edge ({l}, {i}, {j}) carries the function {name!r}, which is not in SYMBOLIC_LIB. A checkpoint "
                    f"holds names only: register the function with add_symbolic before loading, or give it to the call, as in "
                    f"functions={{{name!r}: f}} or functions={{'({l}, {i}, {j})': f}}."
                ) from error


def _row(function: Callable[[Tensor], Tensor] | SymbolicFunction) -> SymbolicFunction:
    return function if isinstance(function, SymbolicFunction) else anonymous(function)


def _data(network: Network, file: str, expected: str | None) -> Tensor | None:
    """The last input; None if there was none, or if its file has been deleted."""
    try:
        data = parse_tensors(read(file, expected), file)
        if data is None:
            return None
        if not isinstance(data, Tensor) or data.dim() != 2 or not data.is_floating_point() or data.shape[1] != network.input_width:
            what = f"a tensor of shape {tuple(data.shape)}" if isinstance(data, Tensor) else type(data).__name__
            raise ValueError(f"{file} does not hold inputs of shape (number of samples, {network.input_width}), but {what}.")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{error} Delete this file to load the model without its data.") from error
    return data.to(network.device)


def _device(config: Mapping[str, Any]) -> str:
    name = str(config.get("device", "cpu"))
    name = f"cuda:{name}" if name.isdecimal() else name  # as pykan writes numbers
    return name if name == "cpu" or (name.startswith("cuda") and torch.cuda.is_available()) else "cpu"


def plain(value: Any) -> Any:
    """`value` with nothing but dictionaries, lists, strings and numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    return int(value) if float(value).is_integer() and not isinstance(value, float) else float(value)
