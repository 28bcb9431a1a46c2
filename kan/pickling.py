"""Functions that are pickled with their code.

Python pickles functions by name, which says nothing in a process that has no function of that name: lambdas, closures, functions of a
script or a notebook. These go by value here, for the same version of Python; functions of a module that can be imported stay names.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Portable", "dumps", "packed", "unpacked"]


def dumps(value: Any, what: str) -> bytes:
    """`value` pickled, the functions in it with their code; ``pickle.loads`` reads it.

    Raises:
        PicklingError: if it cannot be; the message speaks of `what`.
    """
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:
        raise pickle.PicklingError(
            f"{what} cannot be pickled: {error}. Write it as a function at the top of a module, or such that it refers only to what can be "
            f"pickled."
        ) from error


class Portable:
    """Stands for a function in the state of an object that is pickled or copied; copies share the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __deepcopy__(self, memo: dict[int, Any]) -> "Portable":
        return self

    def __reduce__(self) -> tuple[Callable[..., "Portable"], tuple[bytes]]:
        return _loaded, (dumps(self.function, f"the function {getattr(self.function, '__name__', self.function)!r}"),)


def _loaded(function: bytes) -> Portable:
    return Portable(pickle.loads(function))


def packed(state: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The state of an object with a `Portable` for the functions under `names`."""
    functions = {name: state[name] for name in names if callable(state.get(name))}
    stand_ins = {id(function): Portable(function) for function in functions.values()}  # what is one function stays one
    return {**state, **{name: stand_ins[id(function)] for name, function in functions.items()}}


def unpacked(state: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `packed`."""
    return {name: value.function if isinstance(value, Portable) else value for name, value in state.items()}
