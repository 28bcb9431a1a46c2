"""What changed between two versions."""

import shutil
from pathlib import Path

import pytest
import torch

from kan import KAN
from kan.checkpoint.difference import difference

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def model() -> KAN:
    model = KAN([2, 3, 1], seed=1)
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model.fit((x, x[:, [0]] ** 2), opt="LM", steps=3, progress=False)  # 0.1
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)  # 0.2
    model.fix_symbolic(0, 1, 2, "x^2", verbose=False)  # 0.3
    model.remove_edge(0, 1, 1)  # 0.4
    return model


def test_edges_functions_and_losses(model: KAN) -> None:
    found = model.diff("0.1", "0.4")
    assert found.versions == ("0.1", "0.4") and found.width[0] == found.width[1] == [[2, 0], [3, 0], [1, 0]]
    assert found.edges == ([6, 3], [5, 3]) and found.removed == ((0, 1, 1),) and found.added == ()
    assert found.symbolic == {(0, 0, 0): ("0", "sin"), (0, 1, 2): ("0", "x^2")} and found.symbolic_edges == (0, 2)
    assert found.losses[1] is None and found.losses[0] is not None
    assert found.losses[0]["train_loss"] == KAN.loadckpt("model/0.1").losses["train_loss"]
    text = str(found)
    for line in ("edges removed: (0, 1, 1)", "functions: (0, 0, 0) spline -> sin, (0, 1, 2) spline -> x^2", "0.1", "[6, 3]", "[5, 3]"):
        assert line in text
    assert f"train_loss      {found.losses[0]['train_loss']:.3g}" in text

    back = model.diff("0.4", "0.1")
    assert back.added == ((0, 1, 1),) and back.symbolic == {(0, 0, 0): ("sin", "0"), (0, 1, 2): ("x^2", "0")}
    assert "edges added: (0, 1, 1)" in str(back) and "sin -> spline" in str(back)


def test_the_same(model: KAN) -> None:
    found = model.diff("0.2", "0.2")
    assert found.removed == found.added == found.moved_grids == () and found.symbolic == {}
    assert str(found).count("the same") == 4


def test_grids(model: KAN) -> None:
    refined = model.refine(8)
    found = refined.diff("0.4", "0.5")
    assert found.grid == (3, 8) and found.moved_grids == () and str(found).splitlines()[2].split() == ["grid", "3", "8"]
    refined.update_grid(torch.rand(50, 2, generator=torch.Generator().manual_seed(1)) * 3)
    refined.log_history("update")
    assert refined.diff("0.5", "0.6").moved_grids == (0, 1)
    assert "knots moved in the layers 0, 1" in str(refined.diff("0.5", "0.6"))


def test_other_shapes_have_no_common_edges(model: KAN) -> None:
    smaller = model.prune_node(active_neurons_id=[[0, 2]])
    found = smaller.diff("0.4", "0.5")
    assert found.width == ([[2, 0], [3, 0], [1, 0]], [[2, 0], [2, 0], [1, 0]])
    assert found.removed is None and found.added is None and found.symbolic is None and found.moved_grids == ()
    assert "[[2, 0], [2, 0], [1, 0]]" in str(found)


def test_what_is_not_there(model: KAN) -> None:
    with pytest.raises(ValueError, match="a model version is written round.state"):
        model.diff("0.1", "last")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint '.*0.9'"):
        model.diff("0.1", "0.9")
    shutil.copy("model/0.1_state", "model/0.2_state")
    with pytest.raises(ValueError, match="0.2_state is not the file that was saved"):
        model.diff("0.1", "0.2")


def test_of_files_anywhere(model: KAN) -> None:
    model.saveckpt("here/mine")
    assert Path("here/mine_state").exists()
    assert difference("here/mine", "model/0.4").removed == ()
