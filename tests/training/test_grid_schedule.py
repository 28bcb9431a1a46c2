"""Which steps begin with a grid update."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kan.training.grid_schedule import GridSchedule


@given(st.integers(1, 60), st.integers(-1, 30), st.integers(0, 60))
def test_updates_are_evenly_spaced_between_start_and_stop(number: int, start: int, stop: int) -> None:
    due = [step for step in range(100) if GridSchedule(number, start, stop).due(step)]
    assert all(max(start, 0) <= step < stop for step in due)
    assert len(set(b - a for a, b in zip(due, due[1:], strict=False))) <= 1
    if start <= 0 and stop > 0:
        assert due[0] == 0 and len(due) >= min(number, stop)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [((1.5, 0, 5), TypeError, "grid_update_num must be an integer; got 1.5"), ((1, 0, "5"), TypeError, "stop_grid_update_step"),
     ((0, 0, 5), ValueError, "at least 1; got 0. Use update_grid=False")],
)  # fmt: skip
def test_numbers_that_cannot_be(values: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GridSchedule(*values)
