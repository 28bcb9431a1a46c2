"""A diagram shows every live edge at its place, in its colour and with its opacity, and leaves nothing behind."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
import sympy
import torch
from matplotlib import pyplot as plt
from matplotlib.collections import Collection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from nbclient import NotebookClient

from kan import KAN
from kan.plotting import Diagram, EdgeCurve, NetworkFigure, diagram_of, draw

Edge = tuple[int, int, int]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def agg_and_no_open_figures() -> Iterator[None]:
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def network_of(
    width: Sequence[int | tuple[int, int]],
    symbolic: Sequence[Edge] = (),
    both: Sequence[Edge] = (),
    dead: Sequence[Edge] = (),
    arity: int = 2,
    samples: int = 200,
) -> Any:
    """Stand-in for a network: the parts that a plot reads, with random curves and scores."""
    generator = torch.Generator().manual_seed(0)
    pairs = [w if isinstance(w, tuple) else (w, 0) for w in width]
    arities = tuple((arity,) * n_mult for _, n_mult in pairs)
    n = [sum(pair) for pair in pairs]
    m = [n_sum + sum(a) for (n_sum, _), a in zip(pairs, arities, strict=True)]
    layers = range(len(width) - 1)
    numeric = [torch.ones(n[l], m[l + 1]) for l in layers]
    formulas = [torch.zeros(m[l + 1], n[l]) for l in layers]
    for l, i, j in [*symbolic, *dead]:
        numeric[l][i, j] = 0.0
    for l, i, j in [*symbolic, *both]:
        formulas[l][j, i] = 1.0
    inputs = [torch.rand(samples, n[l], generator=generator) * 2 - 1 for l in layers]
    outputs = [torch.sin(torch.rand(m[l + 1], 1, generator=generator) * 9 * inputs[l][:, None]) for l in layers]
    scores = [torch.rand(m[l + 1], n[l], generator=generator) for l in layers]
    trace = SimpleNamespace(acts=inputs, postacts=lambda l: outputs[l], acts_scale=scores, edge_actscale=[2 * score for score in scores])
    return SimpleNamespace(
        depth=len(layers), in_vars=None, out_vars=None, class_link=None, of_inputs=list, width_in=n, width_out=m,
        structure=SimpleNamespace(arities=arities),
        act_fun=[SimpleNamespace(mask=mask) for mask in numeric],
        symbolic_fun=[SimpleNamespace(mask=mask) for mask in formulas],
        trace=lambda: trace, scores=scores, curves_in_user_units=lambda l, x, y: (x, y),
    )  # fmt: skip


def show(network: Any, **options: Any) -> NetworkFigure:
    content = {name: options.pop(name) for name in ("beta", "metric", "in_vars", "out_vars", "title", "hidden") if name in options}
    return draw(diagram_of(network, **{"metric": "forward_n", **content}), **options)


def parts(figure: Figure, gid: str) -> Collection:
    (found,) = [artist for artist in figure.axes[0].collections if artist.get_gid() == gid]
    return found


def offsets(figure: Figure, gid: str) -> np.ndarray:
    return np.asarray(parts(figure, gid).get_offsets())


def text_of(figure: Figure, words: str) -> Text:
    (found,) = [text for text in figure.axes[0].texts if text.get_text() == words]
    return found


def extents(figure: Figure, gid: str) -> np.ndarray:
    """Rows of (x0, y0, x1, y1) in pixels."""
    paths = [path.transformed(figure.axes[0].transData) for path in parts(figure, gid).get_paths()]
    return np.array([path.get_extents().extents for path in paths])


# ---- geometry


@pytest.mark.parametrize(("width", "scale", "size"), [([2, 5, 1], 0.5, (5, 4)), ([2, 1, 1, 1], 1.0, (10, 12))])
def test_size_and_axes(width: list[int], scale: float, size: tuple[float, float]) -> None:
    figure = show(network_of(width), scale=scale, in_vars=["a", "b"], title="t")
    depth = len(width) - 1
    assert tuple(figure.get_size_inches()) == pytest.approx(size)
    assert len(figure.axes) == 1
    assert figure.axes[0].get_xlim() == (0.0, 1.0)
    assert figure.axes[0].get_ylim() == pytest.approx((-0.04, 0.4 * depth + 0.04))
    assert not figure.axes[0].axison


def test_nodes_sums_and_products_are_at_their_places() -> None:
    figure = show(network_of([2, (1, 2), 1], arity=3))
    np.testing.assert_allclose(offsets(figure, "nodes_0"), [(0.25, 0.0), (0.75, 0.0)])
    np.testing.assert_allclose(offsets(figure, "nodes_1"), [((i + 0.5) / 3, 0.4) for i in range(3)])
    np.testing.assert_allclose(offsets(figure, "nodes_2"), [(0.5, 0.8)])
    np.testing.assert_allclose(offsets(figure, "sums_1"), [((j + 0.5) / 7, 0.3) for j in range(7)])
    np.testing.assert_allclose(offsets(figure, "products_1"), [(0.5, 0.4), (2.5 / 3, 0.4)])
    assert len(offsets(figure, "products_2")) == 0
    ends = [path.vertices[1][0] for path in parts(figure, "joins_1").get_paths()]
    np.testing.assert_allclose(ends, np.array([0.5, 1.5, 1.5, 1.5, 2.5, 2.5, 2.5]) / 3)


def test_boxes_are_centred_square_and_apart() -> None:
    figure = show(network_of([3, 4, 1]))
    boxes = parts(figure, "boxes_0").get_paths()
    centres = sorted((path.get_extents().x0 + path.get_extents().x1) / 2 for path in boxes)
    np.testing.assert_allclose(centres, (np.arange(12) + 0.5) / 12)
    np.testing.assert_allclose([path.get_extents().y0 + path.get_extents().y1 for path in boxes], 0.3)
    pixels = extents(figure, "boxes_0")
    np.testing.assert_allclose(pixels[:, 2] - pixels[:, 0], pixels[:, 3] - pixels[:, 1], rtol=1e-6)
    pixels = pixels[np.argsort(pixels[:, 0])]
    assert (pixels[1:, 0] > pixels[:-1, 2]).all()


def test_lines_lead_from_node_to_box_to_subnode() -> None:
    figure = show(network_of([2, 1]))
    segments = [path.vertices for path in parts(figure, "stems_0").get_paths()]
    assert len(segments) == 4
    starts = {tuple(np.round(segment[0], 6)) for segment in segments[::2]}
    ends = {tuple(np.round(segment[1], 6)) for segment in segments[1::2]}
    assert starts == {(0.25, 0.0), (0.75, 0.0)}
    assert ends == {(0.5, 0.3)}


@pytest.mark.parametrize("width", [[1, 1], [2, 1, 1], [3, (0, 2)], [10, 5, 1], [4, 10, 10, 1]])
@pytest.mark.parametrize("tick", [False, True])
def test_curves_stay_in_their_boxes(width: list[Any], tick: bool) -> None:
    figure = show(network_of(width), tick=tick, title="title")
    for layer in range(len(width) - 1):
        curves, boxes = extents(figure, f"curves_{layer}"), extents(figure, f"boxes_{layer}")
        assert (curves[:, :2] > boxes[:, :2]).all()
        assert (curves[:, 2:] < boxes[:, 2:]).all()


# ---- edges


def test_colour_and_opacity_of_every_kind_of_edge() -> None:
    network = network_of([2, 2, 1], symbolic=[(0, 0, 1)], both=[(0, 1, 0)], dead=[(0, 1, 1)])
    diagram = diagram_of(network, metric="forward_n", beta=2.0)
    assert {key: diagram.edges[key].kind for key in diagram.edges if key[0] == 0} == {
        (0, 0, 0): "numeric", (0, 0, 1): "symbolic", (0, 1, 0): "both", (0, 1, 1): "none",
    }  # fmt: skip
    assert diagram.edges[0, 1, 1].opacity == 0.0

    figure = draw(diagram)
    expected = {
        (*to_rgb(colour), float(torch.tanh(2.0 * network.scores[0][j, i])))
        for colour, i, j in [("black", 0, 0), ("red", 0, 1), ("purple", 1, 0)]
    }
    for gid, colours in [
        ("curves_0", parts(figure, "curves_0").get_edgecolor()),
        ("boxes_0", parts(figure, "boxes_0").get_edgecolor()),
        ("stems_0", parts(figure, "stems_0").get_edgecolor()[::2]),
    ]:
        found = np.array(sorted(map(tuple, np.asarray(colours))))
        np.testing.assert_allclose(found, np.array(sorted(expected)), rtol=1e-6, err_msg=gid)


def test_fractional_masks_are_alive() -> None:
    network = network_of([1, 1])
    network.act_fun[0].mask[:] = 0.25
    assert diagram_of(network, metric="forward_n").edges[0, 0, 0].kind == "numeric"


def test_metrics_choose_the_score() -> None:
    network = network_of([2, 1])
    score = network.scores[0][0, 0]
    normalised, unnormalised = (diagram_of(network, metric=metric) for metric in ("forward_n", "forward_u"))
    assert normalised.edges[0, 0, 0].opacity == pytest.approx(float(torch.tanh(3 * score)))
    assert unnormalised.edges[0, 0, 0].opacity == pytest.approx(float(torch.tanh(6 * score)))


def test_hidden_nodes_take_their_edges_with_them() -> None:
    figure = show(network_of([2, (1, 2), 1]), hidden={(1, 1)})
    np.testing.assert_allclose(offsets(figure, "nodes_1")[:, 0], [0.5 / 3, 2.5 / 3])
    np.testing.assert_allclose(offsets(figure, "sums_1")[:, 0], np.array([0.5, 3.5, 4.5]) / 5)
    np.testing.assert_allclose(offsets(figure, "products_1")[:, 0], [2.5 / 3])
    assert len(parts(figure, "curves_0").get_paths()) == 2 * 3
    assert len(parts(figure, "curves_1").get_paths()) == 2


def test_a_layer_of_dead_edges_is_empty() -> None:
    figure = show(network_of([1, 1, 1], dead=[(1, 0, 0)]))
    assert {str(artist.get_gid()) for artist in figure.axes[0].collections} & {"curves_0", "curves_1"} == {"curves_0"}


def flat(curve: EdgeCurve) -> np.ndarray:
    figure = draw(Diagram((1, 1), (0, 1), ((), ()), {(0, 0, 0): curve}))
    return np.asarray(parts(figure, "curves_0").get_paths()[0].vertices)


@pytest.mark.parametrize("level", [0.0, 5.0, -1e9])
def test_a_constant_is_a_line_through_the_middle(level: float) -> None:
    x = np.linspace(-1.0, 1.0, 50)
    noise = 1e-8 * level * np.cos(np.arange(50))
    np.testing.assert_allclose(flat(EdgeCurve(x, level + noise, 1.0, "numeric"))[:, 1], 0.15)
    line = flat(EdgeCurve(np.zeros(50), np.full(50, level), 1.0, "numeric"))
    assert np.ptp(line[:, 0]) > 0.05
    np.testing.assert_allclose(line[:, 1], 0.15)


@pytest.mark.parametrize("tick", [False, True])
def test_samples_that_are_not_finite_are_left_out(tick: bool) -> None:
    x, y = np.linspace(-1, 1, 5), np.array([0.0, np.nan, 1.0, np.inf, 2.0])
    diagram = Diagram((1, 1), (0, 1), ((), ()), {(0, 0, 0): EdgeCurve(x, y, 1.0, "numeric")})
    figure = draw(diagram, tick=tick, sample=True)
    assert len(parts(figure, "curves_0").get_paths()[0].vertices) == 3
    diagram.edges[0, 0, 0] = EdgeCurve(x, np.full(5, np.nan), 1.0, "numeric")
    draw(diagram, tick=tick, sample=True).canvas.draw()


def test_outline_keeps_peaks_tails_and_order() -> None:
    x = np.sort(np.random.default_rng(0).standard_normal(20_000))
    y = np.tanh(x)
    y[12_345] = 7.0
    thin_x, thin_y = EdgeCurve(x, y, 1.0, "numeric").outline(100)
    assert len(thin_x) <= 202
    assert (np.diff(thin_x) > 0).all()
    assert (thin_x[0], thin_x[-1], thin_y.max()) == (x[0], x[-1], 7.0)
    inside = np.abs(thin_y) <= 1
    grid = np.linspace(x[0], x[-1], 999)
    np.testing.assert_allclose(np.interp(grid, thin_x[inside], thin_y[inside]), np.tanh(grid), atol=5e-3)


def test_samples_are_marked() -> None:
    figure = show(network_of([2, 1], samples=50), sample=True)
    assert len(offsets(figure, "samples_0")) == 100
    assert len(offsets(show(network_of([2, 1], samples=5000), sample=True), "samples_0")) == 400


def test_ticks_are_the_ranges() -> None:
    curve = EdgeCurve(np.array([-1.5, 0.0, 2.0]), np.array([0.25, -30.0, 4.0]), 1.0, "numeric")
    figure = draw(Diagram((1, 1), (0, 1), ((), ()), {(0, 0, 0): curve}), tick=True)
    assert [text.get_text() for text in figure.axes[0].texts] == ["−1.5", "2", "−30", "4"]


# ---- labels


def test_labels_and_title_stand_where_notebooks_expect_them() -> None:
    figure = show(network_of([2, 5, 1]), in_vars=["a", "b"], out_vars=["y"], title="A title")
    assert text_of(figure, "a").get_position() == pytest.approx((0.25, -0.1))
    assert text_of(figure, "y").get_position() == pytest.approx((0.5, 0.95))
    assert text_of(figure, "A title").get_position() == pytest.approx((0.5, 1.1))
    assert text_of(figure, "a").get_fontsize() == 20.0
    figure = show(network_of([2, 5, 1]), out_vars=["y"], out_vars_offset=0.08, varscale=0.5)
    assert text_of(figure, "y").get_position() == pytest.approx((0.5, 0.88))
    assert text_of(figure, "y").get_fontsize() == 10.0


def test_names_of_the_network_are_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([3, 1], auto_save=False)
    model.in_vars, model.out_vars = ["a", "b", "c"], ["y"]
    model(torch.rand(20, 3, generator=torch.Generator().manual_seed(0)))

    def shown(**options: Any) -> list[str]:
        return [text.get_text() for text in model.plot(**options).axes[0].texts]

    assert shown() == ["a", "b", "c", "y"]
    assert shown(in_vars=["p", "q", "r"]) == ["p", "q", "r", "y"]
    assert shown(out_vars=["z"]) == ["a", "b", "c", "z"]
    model = model.prune_input(active_inputs=[2, 0])
    assert shown() == ["a", "c", "y"]
    assert shown(in_vars=["p", "q"]) == ["p", "q", "y"]
    model.out_vars, model.class_names = None, ["no", "yes"]
    assert shown() == ["a", "c"], "one output is a choice between two classes"
    model = KAN([2, 3], auto_save=False)
    model.class_names = [3, 5, 9]
    model(torch.rand(5, 2))
    assert shown() == ["3", "5", "9"]


def test_expressions_become_mathtext() -> None:
    x, y = sympy.symbols("x_1 y")
    figure = show(network_of([2, 1]), in_vars=[x, y / sympy.sqrt(1 - x**2)], out_vars=[3])
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == ["$x_{1}$", r"$\frac{y}{\sqrt{1 - x_{1}^{2}}}$", "3"]


def test_text_that_is_no_mathtext_is_taken_literally() -> None:
    figure = show(network_of([1, 1]), in_vars=[r"$\frac$"], title=r"$\nonsense$")
    assert not text_of(figure, r"$\frac$").get_parse_math()
    figure.canvas.draw()


LONG = ["age", "sex", "body mass index", "blood pressure", "total cholesterol", *["a long name"] * 5]


@pytest.mark.parametrize(
    ("width", "labels"),
    [
        ([2, 5, 1], {"in_vars": ["$x_1$", "$x_2$"], "out_vars": ["y"], "title": "Step 3"}),
        ([10, 5, 1], {"in_vars": LONG, "out_vars": ["disease progression"], "title": "diabetes"}),
        ([2, 1], {"in_vars": ["a", "b"], "out_vars": ["y"], "title": "a title far too long for such a small figure"}),
        ([3, 2, 4], {"in_vars": ["x", "y", "z"], "out_vars": ["a", "quite long", "b", "c"]}),
        ([3, 10], {"in_vars": ["x", "y", "z"], "out_vars": LONG, "title": "upright"}),
        ([2, 1, 1], {"in_vars": ["a", "b"], "varscale": 3.0}),
    ],
)
def test_labels_fit_into_the_figure_and_touch_nothing(width: list[int], labels: dict[str, Any]) -> None:
    figure = show(network_of(width), **labels)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for extent in boxes:
        assert extent.x0 >= 0
        assert extent.y0 >= 0
        assert extent.x1 <= figure.bbox.width
        assert extent.y1 <= figure.bbox.height
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    low, high = (figure.axes[0].transData.transform((0, y))[1] for y in (0.0, 0.4 * (len(width) - 1)))
    assert not any(extent.y1 > low and extent.y0 < high for extent in boxes)


def test_of_names_for_all_columns_those_of_the_kept_ones_are_shown(tmp_path: Path) -> None:
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).double()
    model = KAN([4, 2, 1], auto_save=False)
    model(x)
    smaller = model.prune_input(active_inputs=[1, 2])
    texts = [[text.get_text() for text in show(smaller, in_vars=names).axes[0].texts] for names in (list("abcd"), ("b", "c"), iter("abcd"))]
    assert texts == [["b", "c"]] * 3
    smaller.fit((x, x[:, [1]]), steps=1, log=-1, save_fig=True, img_folder=tmp_path, in_vars=iter("abcd"))
    assert (tmp_path / "0.jpg").exists()
    with pytest.raises(ValueError, match=r"in_vars has 3 names, but the network has 2 inputs"):
        show(smaller, in_vars=["a", "b", "c"])


# ---- errors


def test_wrong_numbers_of_names() -> None:
    with pytest.raises(ValueError, match=r"in_vars has 3 names, but the network has 2 inputs"):
        show(network_of([2, 1]), in_vars=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"out_vars has 1 names, but the network has 2 outputs"):
        show(network_of([2, 2]), out_vars=["a"])
    assert plt.get_fignums() == []


def test_unknown_metric() -> None:
    with pytest.raises(ValueError, match=r"unknown metric 'foward_n'; did you mean .*'backward', 'forward_n', 'forward_u'"):
        diagram_of(network_of([2, 1]), metric="foward_n")


def test_scales_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"scale and varscale must be positive; got 0 and 1.0"):
        show(network_of([2, 1]), scale=0)


def test_a_diagram_checks_its_widths() -> None:
    with pytest.raises(ValueError, match=r"Level 1 has 4 sub-nodes, but 2 nodes with the arities \[2\] need 3"):
        Diagram((1, 2), (0, 4), ((), (2,)), {})
    with pytest.raises(ValueError, match=r"one entry per level"):
        Diagram((1,), (0,), ((),), {})


def test_a_network_without_data_says_so() -> None:
    def trace() -> None:
        raise ValueError("the network has not seen data")

    network = network_of([2, 1])
    network.trace = trace
    with pytest.raises(ValueError, match="has not seen data"):
        show(network)


# ---- the figure


def test_no_file_is_written_unless_a_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    figure = show(network_of([2, 1]))
    assert list(tmp_path.iterdir()) == []
    assert plt.gcf() is figure
    show(network_of([2, 1])).save_in(Path("some") / "figures")
    assert (tmp_path / "some" / "figures" / "network.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.rglob("*"))) == 3


def test_a_large_network_is_drawn_in_time() -> None:
    network = network_of([100, 10, 10, 1], samples=1000)
    start = time.perf_counter()
    figure = show(network)
    figure.canvas.draw()
    assert time.perf_counter() - start < 5.0
    assert len(parts(figure, "curves_0").get_paths()) == 1000
    assert (np.ptp(extents(figure, "boxes_0")[:, [0, 2]], axis=1) > 0).all()


def test_elsewhere_than_inline_it_is_an_ordinary_figure() -> None:
    figure = show(network_of([2, 1]))
    with pytest.raises(NotImplementedError):
        figure._ipython_display_()
    assert plt.gcf() is figure


FIGURE_IN_NOTEBOOK = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
from kan.plotting import Diagram, EdgeCurve, draw
x = np.linspace(-1, 1, 9)
diagrams = [Diagram((1, 1), (0, 1), ((), ()), {{(0, 0, 0): EdgeCurve(x, y, 1.0, "numeric")}}) for y in (x, x**2)]
"""


def test_a_notebook_shows_every_figure_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest's own process may have chosen Agg for its children.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    cells = {
        "draw(diagrams[0])": 1,
        "draw(diagrams[0]);": 1,
        "figure = draw(diagrams[0])": 1,
        "figure": 1,
        "draw(diagrams[0])\ndraw(diagrams[1])": 2,
        "display(draw(diagrams[0]))": 1,
    }
    sources = [FIGURE_IN_NOTEBOOK.format(root=str(ROOT)), *cells]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(book, timeout=120, kernel_name="python3").execute()

    images = [[out.data["image/png"] for out in cell.outputs if "data" in out] for cell in book.cells[1:]]
    assert [len(shown) for shown in images] == list(cells.values())
    first, second = images[4]
    assert first == images[0][0]
    assert second != first


def test_a_real_network() -> None:
    from kan import KAN

    model = KAN(width=[2, [2, 1], 1], grid=3, k=3, seed=0, auto_save=False)
    with pytest.raises(ValueError, match="data"):
        model.plot()
    model(torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    for metric in ("backward", "forward_n", "forward_u"):
        figure = model.plot(metric=metric, in_vars=["a", "b"], title=metric)
        assert len(parts(figure, "curves_0").get_paths()) == 2 * 4
        assert len(offsets(figure, "products_1")) == 1
        assert (parts(figure, "curves_1").get_edgecolor()[:, 3] > 0).any()
