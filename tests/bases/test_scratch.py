"""Blocks of memory that are used again: never for two things at once."""

import threading

import torch

from kan.bases.scratch import LARGEST, VIEWS, scratch

LIKE = torch.zeros(1, dtype=torch.float64)


def test_the_same_name_is_the_same_memory_and_others_are_apart() -> None:
    one, again = scratch("a test", (3, 4), LIKE), scratch("a test", (3, 4), LIKE)
    assert one.data_ptr() == again.data_ptr() and one.dtype == torch.float64 and one.shape == (3, 4)
    assert scratch("another test", (3, 4), LIKE).data_ptr() != one.data_ptr()
    assert scratch("a test", (3, 4), LIKE.float()).dtype == torch.float32


def test_a_block_grows_and_views_of_the_former_one_are_not_handed_out() -> None:
    small = scratch("growing", (2,), LIKE)
    large = scratch("growing", (1000,), LIKE)
    assert scratch("growing", (2,), LIKE).data_ptr() == large.data_ptr()
    assert small.shape == (2,), "who has it still can use it"


def test_large_ones_are_fresh_each_time() -> None:
    one, other = (scratch("large", (LARGEST + 1,), LIKE) for _ in range(2))
    assert one.data_ptr() != other.data_ptr()


def test_threads_have_their_own() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(scratch("threads", (5,), LIKE).fill_(1).data_ptr()))
    own = scratch("threads", (5,), LIKE).fill_(2)
    thread.start()
    thread.join()
    assert found[0] != own.data_ptr() and bool((own == 2).all())


def test_many_shapes_and_inference_mode_leave_usable_blocks() -> None:
    for size in range(1, VIEWS + 3):
        assert scratch("shapes", (size,), LIKE).shape == (size,)
    with torch.inference_mode():
        made = scratch("made in inference mode", (4,), LIKE)
    assert not made.is_inference()
