"""Validation of configurations: plain data of the right types, and sizes that agree with the tensors.

Configurations come from disk and may be invalid or malicious. They are checked before anything is constructed from them, so that no memory
is allocated for sizes that the tensors do not have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kan.network.bases import USUAL, read
from kan.network.state import check_settings, sizes_of

__all__ = ["check_config", "check_sizes", "check_tensors"]

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST = 2**64


def _is_integer(value: Any, least: int = -(2**63)) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < LARGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_integers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_integer, value))


def _is_switch(value: Any) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _is_losses(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(loss, (int, float)) for loss in value.values()))


Rule = tuple[Callable[[Any], bool], str]

SWITCH: Rule = (_is_switch, "true or false")
NUMBER: Rule = (_is_number, "a finite number")
TEXT: Rule = (lambda value: isinstance(value, str) and "\0" not in value, "text")
COUNTS: Rule = (lambda value: _is_integer(value) or _is_integers(value), "an integer, or one per layer")
COUNT: Rule = (lambda value: _is_integer(value, 0), "an integer of at least 0")

RULES: dict[str, Rule] = {
    "width": (lambda value: isinstance(value, list) and all(_is_integer(n) or _is_integers(n) for n in value), "a list of sizes"),
    "grid": COUNTS, "k": COUNTS,
    "mult_arity": (
        lambda value: _is_integer(value) or (isinstance(value, list) and all(map(_is_integers, value))), "an integer, or a list per layer",
    ),
    "grid_range": (lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)), "two finite numbers"),
    "grid_eps": NUMBER, "noise_scale": NUMBER, "scale_base_mu": NUMBER, "scale_base_sigma": NUMBER,
    "symbolic_enabled": SWITCH, "affine_trainable": SWITCH, "sp_trainable": SWITCH, "sb_trainable": SWITCH, "save_act": SWITCH,
    "sparse_init": SWITCH, "auto_save": SWITCH, "save_data": SWITCH,
    "seed": (_is_integer, "an integer"), "round": COUNT, "state_id": COUNT,
    "base_fun_name": TEXT, "device": (lambda value: isinstance(value, (int, str)), "the name or number of a device"),
    "history": (lambda value: isinstance(value, str), "text"), "dtype": TEXT, "ckpt_path": TEXT, "version": TEXT,
    "input_id": (_is_integers, "a list of integers"), "input_width": COUNT,
    "labels": (lambda value: isinstance(value, dict), "a dictionary"),
    "basis": (lambda value: isinstance(value, (str, dict, list)), "the name or the description of a basis, or one per layer"),
    "keep": (lambda value: value is None or _is_integer(value, 1), "an integer of at least 1, or null"),
    "losses": (_is_losses, "a dictionary of numbers, or null"),
    "sha256": (lambda value: isinstance(value, dict) and all(map(_is_digest, value.values())), "a dictionary of SHA-256 digests"),
}  # fmt: skip
"""Conditions on the entries of a configuration, with their wording in messages; entries of other names are ignored."""


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def check_config(config: Mapping[str, Any], file: str) -> None:
    """Check the types of the entries of `config`, but not whether entries are missing.

    Raises:
        ValueError: if an entry has the wrong type; the message names `file`.
    """
    rest: list[Any] = [dict(config)]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            rest += value
        elif not (value is None or isinstance(value, (str, float)) or (isinstance(value, int) and abs(value) < LARGEST)):
            raise ValueError(f"{file} does not describe a KAN: there is a value of the type {type(value).__name__}, or too large a number.")
    for name, value in config.items():
        holds, expected = RULES.get(name, (None, ""))
        if holds is not None and not holds(value):
            raise ValueError(f"{file} does not describe a KAN: {name} must be {expected}; got {repr(value)[:100]}.")


def check_tensors(state: Any, file: str) -> dict[str, Tensor]:
    """Return `state` without its entry ``input_id``, which the configuration also contains, if it can be the state of a KAN.

    Raises:
        ValueError: if it is not a dictionary of floating-point tensors; the message names `file`.
    """
    if not isinstance(state, Mapping) or "act_fun.0.coef" not in state:
        raise ValueError(f"{file} is not the state of a KAN: the entry 'act_fun.0.coef' is missing.")
    found = {name: value for name, value in state.items() if name != "input_id"}
    for name, value in found.items():
        if not (isinstance(name, str) and isinstance(value, Tensor) and value.dtype in DTYPES):
            raise ValueError(f"{file} is not the state of a KAN: {str(name)[:100]!r} is no tensor of floating-point numbers.")
    return found


def check_sizes(
    config: Mapping[str, Any], state: Mapping[str, Tensor], config_file: str, state_file: str, own: Mapping[str, Any] | None = None
) -> None:
    """Check that the sizes that `config` speaks of are those of `state`: sizes that are not there are not allocated.

    Args:
        config, state: read from the files.
        config_file, state_file: their names, for messages.
        own: bases that are not registered, by name.

    Raises:
        ValueError: if they differ or are not sizes; the message names both files.
    """
    try:
        if sum(sum(layer) if isinstance(layer, list) else layer for layer in config["width"]) > sum(t.numel() for t in state.values()):
            raise ValueError("there are more nodes than numbers.")  # even a list of their arities would be too long
        basis = read(config.get("basis", USUAL), own)
        check_settings(sizes_of(state, basis, config.get("k")), config)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{state_file} does not fit {config_file}: {str(error)[:500]}") from error
