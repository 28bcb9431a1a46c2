"""Values that stand alone, and those that only lie far out."""

import pytest
import torch

from kan.discovery.data.fill_values import is_fill_value, rows_with_fill_values

RANDOM = torch.Generator().manual_seed(0)
ORDINARY = {
    "normal": torch.randn(300, generator=RANDOM, dtype=torch.float64),
    "steps": (torch.rand(300, generator=RANDOM, dtype=torch.float64) * 4).floor(),
    "far from zero": 1.7e9 + torch.randn(300, generator=RANDOM, dtype=torch.float64),
    "decades": 10 ** (8 * torch.rand(300, generator=RANDOM, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("fill", [-999.0, 9.97e36, -1e20])
@pytest.mark.parametrize("count", [2, 30])
def test_fill_values_are_seen_among_ordinary_ones(name: str, fill: float, count: int) -> None:
    values = ORDINARY[name].clone()
    assert not bool(is_fill_value(values).any())
    values[:count] = fill
    expected = [*range(count)] if fill != -999.0 or name in ("normal", "steps", "far from zero") else []
    assert is_fill_value(values).nonzero().flatten().tolist() == expected


def test_single_values_need_a_wider_gap() -> None:
    values = ORDINARY["normal"].clone()
    values[5] = 1e3 * 3
    assert not bool(is_fill_value(values).any())
    values[5] = 1e6
    assert is_fill_value(values).nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("values", [[0.0] * 50, [0.0] * 49 + [1.0], [0.0, 1e9] * 25, [1.0], [1.0, 1e9]])
def test_values_without_a_bulk_are_left_alone(values: list[float]) -> None:
    assert not bool(is_fill_value(torch.tensor(values, dtype=torch.float64)).any())


def test_the_rows_are_named() -> None:
    x = torch.stack([ORDINARY["normal"], ORDINARY["steps"]], 1)
    y = ORDINARY["normal"].clone()
    assert not bool(rows_with_fill_values(x, y, ["a", "b"]).any())
    y[:3], x[7:9, 1] = -999.0, 1e30
    with pytest.warns(UserWarning, match=r"y = -999 in 3 row\(s\); b = 1e\+30 in 2 row\(s\)\. They look like fill values"):
        alone = rows_with_fill_values(x, y, ["a", "b"])
    assert alone.nonzero().flatten().tolist() == [0, 1, 2, 7, 8]
