"""Whether torch looks inside a computation, and the settings of a block."""

import pytest
import torch
from torch.autograd import forward_ad

from kan.modes import composed, composing, in_own_precision, threads

SEEN: list[bool] = []


def noted(x: torch.Tensor) -> torch.Tensor:
    SEEN.append(composed())
    return x * x


@pytest.mark.parametrize(
    "look",
    [
        lambda x: torch.func.vmap(noted)(x),
        lambda x: torch.func.grad(lambda u: noted(u).sum())(x),
        lambda x: torch.jit.trace(noted, x, check_trace=False),
    ],
    ids=["vmap", "grad", "trace"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_transforms_are_seen(look) -> None:
    SEEN.clear()
    look(torch.ones(3))
    assert SEEN and all(SEEN) and not composed()


def test_forward_mode_is_seen_and_plain_calls_and_gradients_are_not() -> None:
    SEEN.clear()
    noted(torch.ones(2, requires_grad=True)).sum().backward()
    assert SEEN == [False]
    with forward_ad.dual_level():
        assert composed()
    assert not composed()


def test_a_block_can_ask_for_it_also_if_it_fails() -> None:
    with pytest.raises(KeyError), composing():
        assert composed()
        raise KeyError
    assert not composed()


def test_the_number_of_threads_is_that_of_before_after_the_block() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_autocast_is_off_within_a_function_and_on_after_it() -> None:
    @in_own_precision
    def product(a: torch.Tensor) -> torch.Tensor:
        return a @ a

    a = torch.rand(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert product(a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16
    assert product.__name__ == "product"
