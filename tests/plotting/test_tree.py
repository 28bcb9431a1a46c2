"""Trees as pictures: every variable, group and property is there, in either style, and nothing is shown or written."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from torch import Tensor

from kan import KAN
from kan.analysis.symmetry_tree import Tree
from kan.plotting.tree import draw_tree, plot_tree
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(autouse=True)
def agg_and_no_open_figures() -> Iterator[None]:
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def nested(x: Tensor) -> Tensor:
    return ((x[:, [0]] ** 2 + x[:, [1]] ** 2) ** 2 + (x[:, [2]] ** 2 + x[:, [3]] ** 2) ** 2) ** 2 + x[:, [4]] ** 2


def lines(axes: Axes, name: str) -> np.ndarray:
    (collection,) = [c for c in axes.collections if c.get_gid() == name]
    return np.array([path.vertices for path in collection.get_paths()]).reshape(-1, 2, 2)


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text() and text.get_gid() != "remark"]


def remarks(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text() and text.get_gid() == "remark"]


def test_tree() -> None:
    axes = plot_tree(nested, uniform(200, 5))
    assert axes is plt.gca() and not axes.axison
    assert words(axes) == [f"$x_{{{i}}}$" for i in range(1, 6)]
    assert [text.get_position()[0] for text in axes.texts if text.get_gid() != "remark"] == [0, 1, 2, 3, 4]
    assert len(remarks(axes)) == 4 and all(float(remark.removeprefix("misses ")) < 1e-12 for remark in remarks(axes))
    assert not axes.patches, "everything is known"
    branches = lines(axes, "branches")
    assert len(branches) == 8, "two forks, a fork of these, and the sum at the top"
    tops = {tuple(np.round(branch[1], 9)) for branch in branches}
    assert tops == {(0.5, 0.4), (2.5, 0.4), (1.5, 0.9), (2.0, 1.4)}
    (sign,) = [c for c in axes.collections if c.get_gid() is None]
    assert tuple(sign.get_offsets()[0]) == (2.0, pytest.approx(1.4)) and tuple(sign.get_facecolor()[0]) == to_rgba("red")
    # Every variable is led up to the top without a gap.
    starts = {tuple(np.round(p, 9)) for p in np.concatenate([lines(axes, "connectors")[:, 0], branches[:, 0]])}
    ends = {tuple(np.round(p, 9)) for p in np.concatenate([lines(axes, "connectors")[:, 1], branches[:, 1]])}
    assert starts - ends == {(float(i), 0.0) for i in range(5)} and ends - starts == {(2.0, 1.6)}


def test_boxes() -> None:
    axes = plot_tree(nested, uniform(200, 5), style="box")
    assert words(axes) == ["GS", "GS", "Id", "GS", "Id", "Add", *(f"$x_{{{i}}}$" for i in range(1, 6))]
    assert len(axes.patches) == 6 and len(lines(axes, "branches")) == 0
    spans = [(round(box.get_x(), 9), round(box.get_x() + box.get_width(), 9)) for box in axes.patches]
    assert spans == [(-0.3, 1.3), (1.7, 3.3), (3.7, 4.3), (-0.3, 3.3), (3.7, 4.3), (-0.3, 4.3)]
    # Beside every claim stands by how much it is missed, within its box.
    evidence = [text for text in axes.texts if text.get_gid() == "remark" and text.get_text()]
    assert len(evidence) == 4
    for text in evidence:
        extent = text.get_window_extent().transformed(axes.transData.inverted())
        assert any(box.get_bbox().x0 <= extent.x0 and extent.x1 <= box.get_bbox().x1 for box in axes.patches)


def test_what_is_not_known_is_a_box() -> None:
    axes = plot_tree(nested, uniform(200, 5), skip_sep_test=True)
    assert len(axes.patches) == 4 and len(lines(axes, "branches")) == 0
    assert len(words(axes)) == 5 and remarks(axes) == []


@pytest.mark.parametrize("style", ["tree", "box"])
def test_what_was_not_seen_says_so(style: str) -> None:
    axes = plot_tree(lambda x: x[:, 0] * x[:, 1] * (x[:, 0] + x[:, 1]).exp() + x[:, 0] + x[:, 2], uniform(200, 3), style=style)
    assert words(axes)[0] == "not seen" and words(axes).count("not seen") == 1
    assert len(remarks(axes)) == 1, "that of the sum at the top"


@pytest.mark.parametrize("style", ["tree", "box"])
def test_variables_without_effect_hang_on_nothing(style: str) -> None:
    axes = plot_tree(lambda x: x[:, 0] * x[:, 2], uniform(200, 3), style=style)
    assert words(axes)[-3:] == ["$x_{1}$", "$x_{3}$", "$x_{2}$"] and remarks(axes)[0] == "no\neffect"
    assert lines(axes, "connectors")[..., 0].max() == 1.0 and all(box.get_x() + box.get_width() < 1.5 for box in axes.patches)
    plt.figure()
    axes = plot_tree(lambda x: 0 * x[:, 0] + 1, uniform(200, 3), style=style)
    assert remarks(axes) == ["no\neffect"] * 3 and not axes.patches and len(lines(axes, "connectors")) == 0


@pytest.mark.parametrize("samples", [2, 10])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 12])
def test_any_number_of_variables(size: int, samples: int) -> None:
    for style in ("tree", "box"):
        plt.figure()
        assert len(words(plot_tree(lambda x: x[:, ::2].prod(dim=1) + x[:, -1] ** 2, uniform(samples, size), style=style))) >= size


def test_names_stand_below_their_variables() -> None:
    # pykan's defect 43: any names crash.
    tree = Tree([[[0], [2], [1]], [[0, 2], [1]], [[0, 2, 1]]], [[2, 1], [2]], [["GS", "Id"], ["Mul"]])
    symbols = sympy.symbols("alpha beta gamma")
    for names, expected in (
        (["a", "b", "c"], ["a", "c", "b"]),
        (symbols, [r"$\alpha$", r"$\gamma$", r"$\beta$"]),
        (None, ["$x_{1}$", "$x_{3}$", "$x_{2}$"]),
    ):
        plt.figure()
        assert words(draw_tree(tree, names)) == expected


def test_names_of_a_network_are_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([3, 1], auto_save=False)
    model.in_vars = ["a", "b", "c"]
    model(uniform(50, 3))
    model = model.prune_input(active_inputs=[0, 2])
    assert sorted(words(model.tree())) == ["a", "b", "c"], "the tree is one of all columns"
    plt.figure()
    assert sorted(words(model.tree(in_var=["p", "q", "r"]))) == ["p", "q", "r"]


def test_long_and_strange_names_fit() -> None:
    tree = Tree([[[0], [1], [2]], [[0, 1, 2]]], [[3]], [[""]])
    for names in (["temperature of the air"] * 3, ["pressure outside"] * 3, ["$bad", "b", "c"], ["short"] * 3):
        plt.figure(figsize=(3, 3))
        axes = draw_tree(tree, names)
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text() in names]
        assert len(boxes) == 3
        assert not any(one.overlaps(other) for a, one in enumerate(boxes) for other in boxes[:a])
        assert all(box.y0 >= axes.figure.bbox.y0 for box in boxes)


def test_the_current_axes_are_drawn_into() -> None:
    _, (left, right) = plt.subplots(1, 2)
    plt.sca(left)
    assert plot_tree(nested, uniform(100, 5)) is left
    assert not right.collections


def test_what_is_refused_before_anything_is_drawn() -> None:
    x = uniform(50, 5)
    with pytest.raises(ValueError, match="unknown style 'trees'; did you mean 'tree'"):
        plot_tree(nested, x, style="trees")
    with pytest.raises(ValueError, match=re.escape("in_var must have one name for each of the 5 variables; got 4.")):
        plot_tree(nested, x, in_var=["a"] * 4)
    with pytest.raises(ValueError, match="the model must have one output"):
        plot_tree(lambda x: x, x)
    assert not plt.get_fignums()


def test_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([3, 2, 1], auto_save=False)
    with pytest.raises(ValueError, match=r"hasn't seen any data yet: call model\(x\)"):
        model.tree()
    model(uniform(60, 3))
    axes = model.tree(in_var=["u", "v", "w"], style="box", sym_th=1e-9)
    assert sorted(words(axes)[-3:]) == ["u", "v", "w"]
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == []
    plt.figure()
    assert model.tree(uniform(40, 3, seed=3), verbose=True) is plt.gca()
    assert capsys.readouterr().out.startswith("[]\n[0]\n")
    pruned = KAN([3, 2, 1], auto_save=False)
    pruned(uniform(60, 3))
    plt.figure()
    names = words(pruned.prune_input(active_inputs=[0, 2]).tree())
    assert {"$x_{1}$", "$x_{2}$", "$x_{3}$"} == set(names) - {"not seen"}, "the tree is of the columns that the model is called with"


def test_the_gradient_state_does_not_matter() -> None:
    with torch.no_grad():
        assert len(lines(plot_tree(nested, uniform(100, 5)), "branches")) == 8
