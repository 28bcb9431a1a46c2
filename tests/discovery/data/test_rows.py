"""Which rows a search works on, and what each is for."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.discovery.data.rows import FOLDS, MAX_SEARCHED_ROWS, searched_rows, split_rows
from tests.data import proportions


def test_of_few_rows_all_are_searched() -> None:
    x = proportions(MAX_SEARCHED_ROWS, 2)
    assert torch.equal(x[searched_rows(x, x[:, :1], 0)], x)


def test_of_many_rows_some_are_drawn_by_the_seed_with_the_ends_of_every_column() -> None:
    x, y = proportions(3 * MAX_SEARCHED_ROWS, 5), proportions(3 * MAX_SEARCHED_ROWS, 1, seed=1)
    before = torch.random.get_rng_state()
    rows, again, other = (searched_rows(x, y, seed) for seed in (3, 3, -4))
    assert len(rows) == len(rows.unique()) == len(other) == MAX_SEARCHED_ROWS and bool((rows[1:] > rows[:-1]).all())
    assert torch.equal(rows, again) and not torch.equal(rows, other) and torch.equal(torch.random.get_rng_state(), before)
    for every in (x, y):
        assert torch.equal(every[rows].amin(0), every.amin(0)) and torch.equal(every[rows].amax(0), every.amax(0))
    assert 0.4 < float(rows.double().mean()) / len(x) < 0.6


def test_with_thousands_of_columns_no_more_rows_are_searched() -> None:
    x = proportions(MAX_SEARCHED_ROWS + 1, MAX_SEARCHED_ROWS)
    assert len(searched_rows(x, x[:, :1], 0)) == MAX_SEARCHED_ROWS


def test_rows_are_parted_by_place_and_distance() -> None:
    x = proportions(200, 3)
    fitted, held, outermost = split_rows(x, x[:, :1])
    far = (2 * x - x.amin(0) - x.amax(0)).abs().div(x.amax(0) - x.amin(0)).amax(1)
    assert int(outermost.sum()) == 10 and float(far[outermost].min()) > float(far[~outermost].max())
    assert torch.equal(held, (torch.arange(200) % FOLDS == 2) & ~outermost) and torch.equal(fitted, ~held & ~outermost)


@given(st.integers(3, 30), st.integers(1, 4), st.integers(0, 99), st.sampled_from(["any", "integers", "one", "two"]))
@settings(max_examples=200, deadline=None)
def test_however_few_rows_there_are_some_are_fitted_and_some_are_held_out(count: int, columns: int, seed: int, kind: str) -> None:
    x, y = proportions(count, columns, seed=seed), proportions(count, 1, seed=seed + 1)
    one = (torch.arange(count) == seed % count).double()[:, None]
    x, y = {"any": (x, y), "integers": ((3 * x).floor(), y), "one": (x, one), "two": (one.expand_as(x), (y > y.median()).double())}[kind]
    fitted, held, outermost = split_rows(x, y)
    assert torch.equal(fitted.int() + held.int() + outermost.int(), torch.ones(count, dtype=torch.int32))
    assert int(fitted.sum()) >= min(3, count - 1) and bool(held.any())
    assert len(y[fitted].unique()) > 1
