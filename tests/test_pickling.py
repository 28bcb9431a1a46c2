"""Functions are pickled with their code, and what cannot be is named."""

import copy
import math
import pickle
import threading

import pytest

from kan.pickling import Portable, dumps, packed, unpacked


def test_lambdas_and_closures_come_back_and_compute() -> None:
    factor = 3
    found = pickle.loads(dumps({"f": lambda x: factor * x, "g": math.sin}, "a table"))
    assert found["f"](2) == 6 and found["g"] is math.sin


def test_what_cannot_be_pickled_is_named_with_what_to_do() -> None:
    lock = threading.Lock()
    with pytest.raises(pickle.PicklingError, match="^the loss cannot be pickled: .* Write it as a function at the top of a module"):
        dumps(lambda: lock, "the loss")


def test_a_state_goes_there_and_back_and_one_function_stays_one() -> None:
    def shift(x: float) -> float:
        return x + 1

    state = {"a": shift, "b": shift, "c": 5, "d": None}
    stored = packed(state, "a", "b", "d", "missing")
    assert isinstance(stored["a"], Portable) and stored["a"] is stored["b"] and stored["c"] == 5 and stored["d"] is None
    again = unpacked(pickle.loads(pickle.dumps(stored)))
    assert again["a"](1) == 2 and again["a"] is again["b"] and (again["c"], again["d"]) == (5, None)
    assert state["a"] is shift, "the state itself is left alone"


def test_copies_share_the_function_and_pickles_name_what_they_cannot_hold() -> None:
    lock = threading.Lock()

    def locked() -> None:
        lock.acquire()

    assert copy.deepcopy(Portable(locked)).function is locked
    with pytest.raises(pickle.PicklingError, match="the function 'locked' cannot be pickled"):
        pickle.dumps(Portable(locked))
