"""Experiments: the rounds, their versions and numbers, and frontiers against the definition."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kan import KAN, create_dataset
from kan.experiment import pareto_frontier, runner1


def test_rounds_of_pruning_and_refinement(tmp_path: Path) -> None:
    data = create_dataset(lambda x: x[:, [0]] * x[:, [1]], n_var=2, train_num=60, test_num=30)

    def spread(model: KAN, dataset: Any) -> Any:
        return model(dataset["test_input"]).std()

    found = runner1(
        [2, 3, 1], data, grids=[3, 6], steps=2, prune_round=2, refine_round=2, metrics=[spread], seed=0, ckpt_path=tmp_path / "versions"
    )
    assert list(found) == ["test_loss", "c", "G", "id", "spread"]
    # pykan's versions: fit, prune (noted), refine, fit (noted), refine, fit (noted); the second round starts from the pruned model.
    assert found["id"].tolist() == ["0.2", "0.4", "0.6", "1.4", "1.6", "1.8"]
    assert found["G"].tolist() == [3, 3, 6, 3, 3, 6]
    assert found["c"].dtype.kind == "i" and 0 < found["c"].max() <= 9 and (np.diff(found["c"]) <= 0).all()
    assert found["test_loss"].shape == found["spread"].shape == (6,) and np.isfinite(found["test_loss"]).all()
    assert "0.2 => rewind => 1.2" in (tmp_path / "versions" / "history.txt").read_text()


def test_grids_are_counted_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("grids must have at least one entry, and one for each of the 3 refinements; got [5].")):
        runner1([2, 1], {}, grids=[5], ckpt_path=tmp_path / "versions")
    assert not (tmp_path / "versions").exists()


def test_pykans_frontier() -> None:
    x, y, ids = pareto_frontier(np.array([1, 2, 3, 1, 2.0, 0]), np.array([3, 2, 1, 3, 2.5, 5]))
    assert (x.tolist(), y.tolist(), ids.tolist()) == ([2, 3, 0], [2, 1, 5], [1, 2, 5])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
@settings(deadline=None)
def test_the_frontier_is_what_its_definition_says(points: list[tuple[int, int]]) -> None:
    x, y = (np.array([p[axis] for p in points]) for axis in (0, 1))
    expected = [i for i in range(len(x)) if not any(x[j] <= x[i] and y[j] <= y[i] for j in range(len(x)) if j != i)]
    found_x, found_y, ids = pareto_frontier(x, y)
    assert ids.tolist() == expected and found_x.tolist() == x[expected].tolist() and found_y.tolist() == y[expected].tolist()


def test_frontiers_want_two_columns_of_one_length() -> None:
    with pytest.raises(ValueError, match=re.escape("x and y must be one-dimensional and of one length; got the shapes (2,) and (3,).")):
        pareto_frontier([1, 2], [1, 2, 3])
