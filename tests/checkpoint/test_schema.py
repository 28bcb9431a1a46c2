"""What a configuration and a state must be, before anything is made of them."""

import pytest
import torch

from kan import KAN
from kan.checkpoint.schema import RULES, check_config, check_sizes, check_tensors


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("width", "2", "a list of sizes"),
        ("width", [2, True], "a list of sizes"),
        ("grid", 2.5, "an integer, or one per layer"),
        ("grid_range", [0, float("inf")], "two finite numbers"),
        ("grid_eps", True, "a finite number"),
        ("noise_scale", float("nan"), "a finite number"),
        ("save_act", 2, "true or false"),
        ("round", -1, "an integer of at least 0"),
        ("base_fun_name", "a\x00b", "text"),
        ("keep", 0, "an integer of at least 1, or null"),
        ("sha256", {"a": "00"}, "a dictionary of SHA-256 digests"),
        ("losses", {"a": "b"}, "a dictionary of numbers, or null"),
        ("input_id", [0, "1"], "a list of integers"),
        ("labels", [], "a dictionary"),
        ("mult_arity", [2], "an integer, or a list per layer"),
    ],
)
def test_an_entry_of_another_kind_is_named_with_the_file(name: str, value: object, expected: str) -> None:
    assert name in RULES
    with pytest.raises(ValueError, match=f"^0.0_config.yml does not describe a KAN: {name} must be {expected}; got "):
        check_config({name: value}, "0.0_config.yml")


def test_names_that_nobody_knows_may_hold_plain_values_only() -> None:
    check_config({"more": [1, "two", None, {"three": 3.0}]}, "file")
    with pytest.raises(ValueError, match="a value of the type set, or too large a number"):
        check_config({"more": [{"deep": {1}}]}, "file")
    with pytest.raises(ValueError, match="too large a number"):
        check_config({"more": 2**64}, "file")


def test_a_state_is_a_dictionary_of_tensors_of_real_numbers() -> None:
    state = KAN([2, 1], auto_save=False).state_dict()
    assert check_tensors(state, "file").keys() == state.keys() - {"input_id"}
    with pytest.raises(ValueError, match="'act_fun.0.coef' is missing"):
        check_tensors([], "file")
    for bad in (3, torch.ones(2, dtype=torch.int64)):
        with pytest.raises(ValueError, match="'node_bias_0' is no tensor of floating-point numbers"):
            check_tensors({**state, "node_bias_0": bad}, "file")


@pytest.mark.parametrize(("width", "grid"), [([2, 3], 3), ([2, 10**12], 3), ([10**15], 3), ([2, 1], 10**9), (["x"], 3)])
def test_sizes_are_those_of_the_state(width: list, grid: int) -> None:
    state = KAN([2, 1], grid=3, auto_save=False).state_dict()
    config = {"width": width, "grid": grid, "k": 3, "mult_arity": 2}
    with pytest.raises(ValueError, match="^state does not fit config: "):
        check_sizes(config, check_tensors(state, "state"), "config", "state")
