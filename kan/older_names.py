"""Arguments of pykan 0.0 that have been renamed or have no effect any more.

Such an argument is accepted, with a warning that says what to write. An argument without a counterpart is refused, and the error says what
to use instead. For any other unknown argument, the error names the nearest known one.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from kan.errors import level_of_caller

__all__ = ["OLDER", "OLDER_ATTRIBUTES", "Older", "understood"]


class Older(NamedTuple):
    """An argument of pykan 0.0.

    Attributes:
        advice: a clause that says what to do about it.
        new: its present name; None if it has no effect.
        refused: whether a call that has it is an error.
    """

    advice: str
    new: str | None = None
    refused: bool = False


OLDER: dict[str, dict[str, Older]] = {
    "KAN": {"bias_trainable": Older("leave it out: biases are trained with affine_trainable=True, and splines can be constants anyway")},
    "fit": {
        "sglr_avoid": Older("write singularity_avoiding", "singularity_avoiding"),
        "small_mag_threshold": Older("leave it out: the penalty has no threshold"),
        "small_reg_factor": Older("leave it out: the penalty has no threshold"),
        "device": Older("leave it out: data are moved to where the model is, and model.to(device) moves the model"),
    },
    "plot": {"mode": Older("leave it out: the whole network is drawn")},
    "prune": {name: Older("write prune_node", name) for name in ("threshold", "mode", "active_neurons_id")},
    "symbolic_formula": {
        "floating_digit": Older("round what it returns, as in ex_round(formula, 2), or show .text(digits=2)", refused=True),
    },
    "KANLayer": {
        "scale_base": Older("write scale_base_mu and scale_base_sigma, which are divided by the root of in_dim", refused=True),
    },
}  # fmt: skip
"""By method, or class whose constructor it is, and name."""

OLDER_ATTRIBUTES = {
    "biases": "the biases of the sums of layer l are subnode_bias[l]",
    "mask": "the masks of edges are act_fun[l].mask and symbolic_fun[l].mask, and prune() returns a model without what is dropped",
    "save_ckpt": "write saveckpt",
    "load_ckpt": "write KAN.loadckpt",
    "clear_ckpts": "delete the folder",
    "lock": "edges do not share parameters",
    "unlock": "edges do not share parameters",
}
"""For attributes of pykan 0.0 that no longer exist, a clause that says what to use instead."""


def understood(call: str, function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments `given` under their present names, without those that have no effect; a warning names each of them.

    Args:
        call: key of `OLDER`.
        function: that was called; its other arguments are proposed where a name is unknown.
        given: arguments that `function` does not have.

    Raises:
        TypeError: for an argument that pykan 0.0 did not have, or that has no counterpart.

    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     understood("fit", print, {"sglr_avoid": True, "device": "cpu"})
    {'singularity_avoiding': True}
    """
    found = {}
    for name, value in given.items():
        older = OLDER[call].get(name)
        if older is None:
            close = get_close_matches(name, inspect.signature(function).parameters, n=1)
            raise TypeError(f"{call}() got an unexpected keyword argument {name!r}{f'. Did you mean {close[0]!r}?' if close else ''}")
        if older.refused:
            raise TypeError(f"{call}() has no argument {name!r}, which is pykan 0.0's; {older.advice}.")
        warnings.warn(f"{name!r} is an argument of {call} in pykan 0.0; {older.advice}.", DeprecationWarning, stacklevel=level_of_caller())
        if older.new is not None:
            found[older.new] = value
    return found
