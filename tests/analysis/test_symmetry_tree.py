"""Trees of functions whose structure is known, of random ones against independent tests, of networks, and of what has none."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from kan import KAN
from kan.analysis.symmetry_tree import Tree, get_molecule, get_tree_node, symmetry_tree
from kan.MLP import MLP
from tests.data import uniform
from tests.edges import put

pytestmark = pytest.mark.usefixtures("float64")

Function = Callable[..., Tensor]
sin, exp = torch.sin, torch.exp


def nested(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
    return ((a**2 + b**2) ** 2 + (c**2 + d**2) ** 2) ** 2 + e**2


# Function, then what is below the top and between, from the bottom up: groups of several variables with what they are, and the top.
FUNCTIONS: list[tuple[str, int, Function, dict[tuple[int, ...], str]]] = [
    ("x1 + x2", 2, lambda a, b: a + b, {(0, 1): "Add"}),
    ("x1 - x2", 2, lambda a, b: a - b, {(0, 1): "Add"}),
    ("x1 x2", 2, lambda a, b: a * b, {(0, 1): "Mul"}),
    ("x1 / x2", 2, lambda a, b: a / b, {(0, 1): "Mul"}),
    ("log(x1 + 2) + log(x2 + 2)", 2, lambda a, b: (a + 2).log() + (b + 2).log(), {(0, 1): "Add"}),
    ("exp(x1 + x2)", 2, lambda a, b: exp(a + b), {(0, 1): "Mul"}),
    ("1 + x1 x2", 2, lambda a, b: 1 + a * b, {(0, 1): "GS"}),
    ("(x1 - x2)^2", 2, lambda a, b: (a - b) ** 2, {(0, 1): "GS"}),
    ("sqrt(x1^2 + x2^2)", 2, lambda a, b: (a**2 + b**2).sqrt(), {(0, 1): "GS"}),
    ("(x1 + 2)^x2", 2, lambda a, b: (a + 2) ** b, {(0, 1): "GS"}),
    ("(x1 + x2) / (1 + x1 x2)", 2, lambda a, b: (a + b) / (1 + a * b), {(0, 1): "GS"}),
    ("relu(x1) + relu(x2)", 2, lambda a, b: a.relu() + b.relu(), {(0, 1): "Add"}),
    ("max(x1, x2)", 2, torch.maximum, {(0, 1): ""}),
    ("x1 + x2 + x1^2 x2^2", 2, lambda a, b: a + b + a**2 * b**2, {(0, 1): ""}),
    ("x1 + x2 + 0.0001 x1^2 x2^2", 2, lambda a, b: a + b + 1e-4 * a**2 * b**2, {(0, 1): ""}),
    ("x1 + x2 + x3", 3, lambda a, b, c: a + b + c, {(0, 1, 2): "Add"}),
    ("x1 x2 x3", 3, lambda a, b, c: a * b * c, {(0, 1, 2): "Mul"}),
    ("x1 (x2 + x3)", 3, lambda a, b, c: a * (b + c), {(1, 2): "GS", (0, 1, 2): "Mul"}),
    ("x1 x2 + x1 x3 + 1", 3, lambda a, b, c: a * b + a * c + 1, {(1, 2): "GS", (0, 1, 2): "GS"}),
    ("x1 x2 + x2 x3 + x3 x1", 3, lambda a, b, c: a * b + b * c + c * a, {(0, 1, 2): ""}),
    ("sigmoid(x1 x2 - x3)", 3, lambda a, b, c: torch.sigmoid(a * b - c), {(0, 1): "GS", (0, 1, 2): "GS"}),
    ("max(x1, x2) + x3", 3, lambda a, b, c: torch.maximum(a, b) + c, {(0, 1, 2): ""}),
    ("1000000 + x1 + x2 x3", 3, lambda a, b, c: 1e6 + a + b * c, {(1, 2): "GS", (0, 1, 2): "Add"}),
    ("Gaussian", 3, lambda a, b, c: exp(-(((a - b) / (c + 2)) ** 2)) / (c + 2), {(0, 1): "GS", (0, 1, 2): ""}),
    ("x1 x2 + exp(x3^2 + x4^2)", 4, lambda a, b, c, d: a * b + exp(c**2 + d**2), {(0, 1): "GS", (2, 3): "GS", (0, 1, 2, 3): "Add"}),
    ("1e-6 of it", 4, lambda a, b, c, d: 1e-6 * (a * b + exp(c**2 + d**2)), {(0, 1): "GS", (2, 3): "GS", (0, 1, 2, 3): "Add"}),
    ("sin(x1 + x2) exp(x3^2 + x4^2)", 4, lambda a, b, c, d: sin(a + b) * exp(c**2 + d**2), {(0, 1): "GS", (0, 1, 2, 3): "Mul"}),
    ("sin(x1 + x2) (x3 + x4^2)", 4, lambda a, b, c, d: sin(a + b) * (c + d**2), {(0, 1): "GS", (2, 3): "GS", (0, 1, 2, 3): "Mul"}),
    (
        "f(g(x1, x2) h(x3, x4))", 4, lambda a, b, c, d: sin(3 * sin(a + b) * (c - d**2)),
        {(0, 1): "GS", (2, 3): "GS", (0, 1, 2, 3): "GS"},
    ),
    ("f(g(x1, x2) + h(x3, x4))", 4, lambda a, b, c, d: torch.tanh(a * b + c / (d + 2)), {(0, 1): "GS", (2, 3): "GS", (0, 1, 2, 3): "GS"}),
    (
        "distance", 4, lambda a, b, c, d: ((a - b) ** 2 + (c - d) ** 2).sqrt(),
        {(0, 1): "GS", (2, 3): "GS", (0, 1, 2, 3): "GS"},
    ),
    ("(x1 + x2) x3 + x4", 4, lambda a, b, c, d: (a + b) * c + d, {(0, 1): "GS", (0, 1, 2): "GS", (0, 1, 2, 3): "Add"}),
    (
        "F(u(x1, x2), v(x3, x4))", 4, lambda a, b, c, d: (u := a * b) + (v := c + d**2) + u**2 * v**2,
        {(0, 1): "GS", (2, 3): "GS", (0, 1, 2, 3): ""},
    ),
    ("none", 4, lambda a, b, c, d: a * b + b * c + c * d + d * a**2, {(0, 1, 2, 3): ""}),
    ("1 / x1 + x2 x3 + x4", 4, lambda a, b, c, d: 1 / a + b * c + d, {(1, 2): "GS", (0, 1, 2, 3): "Add"}),
    ("nested", 5, nested, {(0, 1): "GS", (2, 3): "GS", (0, 1, 2, 3): "GS", (0, 1, 2, 3, 4): "Add"}),
    (
        "x1 x2 + x2 x3 + x3 x1 + sin(x4 x5)", 5, lambda a, b, c, d, e: a * b + b * c + c * a + sin(d * e),
        {(0, 1, 2): "", (3, 4): "GS", (0, 1, 2, 3, 4): "Add"},
    ),
    (
        "three factors", 6, lambda a, b, c, d, e, f: (a**2 + b**2) * (c + d**2 + 2) * (e * f + 2),
        {(0, 1): "GS", (2, 3): "GS", (4, 5): "GS", (0, 1, 2, 3, 4, 5): "Mul"},
    ),
    (
        "three terms", 6, lambda a, b, c, d, e, f: sin(a**2 + b**2) * c + d + e * f,
        {(0, 1): "GS", (0, 1, 2): "GS", (4, 5): "GS", (0, 1, 2, 3, 4, 5): "Add"},
    ),
    (
        "a product of exponentials", 6, lambda a, b, c, d, e, f: exp(a**2 + b * c + 0.3 * d + e * f),
        {(1, 2): "GS", (4, 5): "GS", (0, 1, 2, 3, 4, 5): "Mul"},
    ),
]  # fmt: skip


def of_columns(function: Function) -> Callable[[Tensor], Tensor]:
    return lambda x: function(*x.unbind(dim=1))


def groups(tree: Tree) -> dict[tuple[int, ...], str]:
    """Groups of several variables with what they are, but for those that are only led on."""
    found = {}
    for level, properties in zip(tree.levels[1:], tree.properties, strict=True):
        found |= {tuple(sorted(group)): kind for group, kind in zip(level, properties, strict=True) if kind != "Id"}
    return found


@pytest.mark.parametrize(("function", "expected"), [(row[1:3], row[3]) for row in FUNCTIONS], ids=[row[0] for row in FUNCTIONS])
def test_known_functions(function: tuple[int, Function], expected: dict[tuple[int, ...], str]) -> None:
    size, f = function
    x = uniform(200, size)
    tree = symmetry_tree(of_columns(f), x)
    assert groups(tree) == expected and tree.unused == []
    # Every level has each variable once, in one order, in groups of groups of the level below.
    order = [i for group in tree.levels[0] for i in group]
    assert sorted(order) == list(range(size)) and all([i for group in level for i in group] == order for level in tree.levels)
    for below, level, arities in zip(tree.levels, tree.levels[1:], tree.arities, strict=False):
        assert [sum(set(child) <= set(group) for child in below) for group in level] == arities and sum(arities) == len(below)
    # What is claimed holds but for rounding errors, what was tested and is not claimed is missed.
    for finding in (finding for level in tree.findings for finding in level):
        assert (finding.miss is None) == (finding.kind in ("", "Id")) and (finding.miss is None or finding.miss < 1e-12)
        assert all(not miss.size < 1e-9 for name, miss in finding.misses.items() if name not in (finding.kind, "symmetry"))
    # The parts give the same.
    levels = get_molecule(of_columns(f), x, verbose=False)
    assert levels == tree.levels and get_tree_node(of_columns(f), x, levels, skip_test=False) == (tree.arities, tree.properties)
    untested = [["Id" if kind == "Id" else "" for kind in level] for level in tree.properties]
    assert get_tree_node(of_columns(f), x, levels) == (tree.arities, untested)
    assert symmetry_tree(of_columns(f), x, skip_sep_test=True).properties == untested


def test_levels_are_pykans_where_it_has_the_tree() -> None:
    x = uniform(200, 5)
    assert symmetry_tree(of_columns(nested), x) == Tree(
        [[[0], [1], [2], [3], [4]], [[0, 1], [2, 3], [4]], [[0, 1, 2, 3], [4]], [[0, 1, 2, 3, 4]]],
        [[2, 2, 1], [2, 1], [2]], [["GS", "GS", "Id"], ["GS", "Id"], ["Add"]],
    )  # fmt: skip
    # pykan's own levels of a product of three are judged as well.
    levels = [[[i] for i in range(6)], [[0, 1], [2, 3], [4, 5]], [[0, 1, 2, 3], [4, 5]], [[0, 1, 2, 3, 4, 5]]]
    product = of_columns(next(f for name, _, f, _ in FUNCTIONS if name == "three factors"))
    expected = ([[2, 2, 2], [2, 1], [2]], [["GS", "GS", "GS"], ["GS", "Id"], ["Mul"]])
    assert get_tree_node(product, uniform(200, 6), levels, sep_th=0.1, skip_test=False) == expected


# Random functions


CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": lambda u: sin(2 * u), "exp": exp, "square": lambda u: u**2, "tanh": torch.tanh, "shift": lambda u: u + 0.7,
    "root": lambda u: (u**2 + 0.1).sqrt(), "cos": torch.cos, "same": lambda u: u,
}  # fmt: skip


def drawn(variables: list[int], generator: random.Random) -> Callable[[Tensor], Tensor]:
    """A formula of these variables, some of which may be in several places."""
    curve = CURVES[generator.choice(list(CURVES))]
    if len(variables) == 1:
        return lambda x: curve(x[:, variables[0]])
    cut = generator.randint(1, len(variables) - 1)
    left, right = variables[:cut], variables[cut:]
    if generator.random() < 0.3:
        right = [*right, generator.choice(left)]
    one, other = drawn(left, generator), drawn(right, generator)
    weight = generator.choice([1.0, 1.0, 0.01])
    joined: Callable[[Tensor], Tensor] = {
        "+": lambda x: one(x) + weight * other(x), "*": lambda x: one(x) * other(x), "/": lambda x: one(x) / (3 + other(x) ** 2),
    }[generator.choice("+**/+")]  # fmt: skip
    return (lambda x: curve(joined(x) / 2)) if generator.random() < 0.5 else joined


def differ(left: Tensor, right: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return float((left - right).abs().max() / (left.abs().max() + right.abs().max() + 1e-300))


def slope(f: Callable[[Tensor], Tensor], x: Tensor, i: int) -> Tensor:
    """By differences of fourth order."""
    step = torch.zeros_like(x)
    step[:, i] = 1e-3
    return (8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))) / 12e-3


@pytest.mark.parametrize("seed", range(60))
def test_no_tree_says_what_is_not_so(seed: int) -> None:
    generator = random.Random(seed)
    size = generator.randint(2, 6)
    f = drawn(list(range(size)), generator)
    tree = symmetry_tree(f, uniform(generator.choice([20, 100, 300]), size, seed=seed))
    x, y = uniform(100, size, seed=seed + 1000), uniform(100, size, seed=seed + 2000)

    def taken(group: list[int]) -> Tensor:
        z = x.clone()
        z[:, group] = y[:, group]
        return z

    for k in tree.unused:
        assert differ(f(x), f(taken([k]))) < 1e-9
    for l in range(1, len(tree.levels)):
        for group, kind in zip(tree.levels[l], tree.properties[l - 1], strict=True):
            children = [child for child in tree.levels[l - 1] if set(child) <= set(group) and not set(child) <= set(tree.unused)]
            # The group acts together: no other variable changes the ratio of two of its slopes.
            for k in set(range(size)) - set(group) - set(tree.unused):
                for i, j in zip(group, group[1:], strict=False):
                    there = taken([k])
                    assert differ(slope(f, x, i) * slope(f, there, j), slope(f, x, j) * slope(f, there, i)) < 1e-5
            for child in children if kind in ("Add", "Mul", "GS") else []:
                rest = [k for k in group if k not in child]
                here, one, other, both = corners = x, taken(child), taken(rest), taken(child + rest)
                if kind == "Add":
                    assert differ(f(here) + f(both), f(one) + f(other)) < 1e-12
                elif kind == "Mul":
                    assert differ(f(here) * f(both), f(one) * f(other)) < 1e-12
                else:
                    p, q = child[0], next(k for k in rest if k not in tree.unused)
                    p0, pa, pb, pab = (slope(f, corner, p) for corner in corners)
                    q0, qa, qb, qab = (slope(f, corner, q) for corner in corners)
                    assert differ(p0 * pab * qa * qb, q0 * qab * pa * pb) < 1e-5


@pytest.mark.parametrize("seed", range(20))
def test_sums_and_products_of_parts_are_seen(seed: int) -> None:
    generator = random.Random(seed)
    one, other = drawn([0, 1, 2], generator), drawn([3, 4], generator)
    x = uniform(200, 5, seed=seed)
    for model, allowed in (
        (lambda x: one(x) + other(x), {"Add"}), (lambda x: (one(x) + 0.1) * (other(x) + 0.1), {"Mul"}),
        (lambda x: sin(one(x) + other(x)), {"GS"}), (lambda x: sin(one(x) * other(x)), {"GS"}),
    ):  # fmt: skip
        tree = symmetry_tree(model, x)
        (top,) = tree.properties[-1]
        assert top in allowed or tree.unused
        children = [set(group) for group in tree.levels[-2]]
        assert all(child <= {0, 1, 2} or child <= {3, 4} for child in children), "no group across the parts"


# What has no structure, or hardly any data


def test_variables_without_effect() -> None:
    x = uniform(100, 3)
    tree = symmetry_tree(lambda x: x[:, 0] * x[:, 2], x)
    assert tree == Tree([[[0], [2], [1]], [[0, 2, 1]]], [[3]], [["Mul"]]) and tree.unused == [1]
    tree = symmetry_tree(lambda x: x[:, 1] ** 2, x)
    assert tree == Tree([[[1], [0], [2]], [[1, 0, 2]]], [[3]], [["Id"]]) and tree.unused == [0, 2]
    for constant in (lambda x: 0 * x[:, 0] + 3, lambda x: torch.zeros(len(x)), lambda x: torch.ones(len(x), 1)):
        tree = symmetry_tree(constant, x)
        assert tree == Tree([[[0], [1], [2]], [[0, 1, 2]]], [[3]], [[""]]) and tree.unused == [0, 1, 2]
    x[:, 1] = 0.3
    tree = symmetry_tree(lambda x: x[:, 0] * x[:, 1] + x[:, 2], x)
    assert tree.unused == [1] and tree.properties == [["Add"]], "what does not vary has no effect"


def test_few_variables_and_samples() -> None:
    assert symmetry_tree(lambda x: x[:, 0] ** 2, uniform(20, 1)) == Tree([[[0]]], [], [])
    assert symmetry_tree(lambda x: x[:, 0] * x[:, 1], uniform(50, 2)) == Tree([[[0], [1]], [[0, 1]]], [[2]], [["Mul"]])
    for samples in (2, 5):
        for _, size, f, _ in FUNCTIONS[::4]:
            tree = symmetry_tree(of_columns(f), uniform(samples, size))
            assert sorted(tree.levels[-1][0]) == list(range(size))
    same = torch.ones(10, 2)
    assert symmetry_tree(lambda x: x[:, 0] * x[:, 1], same).unused == [0, 1]


def test_values_that_are_not_numbers() -> None:
    x = uniform(200, 3)
    tree = symmetry_tree(lambda x: (x[:, 0] + x[:, 1]).log() * x[:, 2], x)
    assert groups(tree) == {(0, 1): "GS", (0, 1, 2): "Mul"}
    for nothing in (lambda x: x[:, 0] * torch.nan, lambda x: torch.where(x[:, 0] == x[:, 0].max(), x[:, 0], torch.nan)):
        tree = symmetry_tree(nothing, x)
        assert groups(tree) == {(0, 1, 2): ""} and tree.unused == []
    tree = symmetry_tree(lambda x: x[:, 0].exp() * x[:, 1] / (x[:, 2] - x[0, 2]), x)
    assert groups(tree) == {(0, 1, 2): "Mul"}


# Models that only come near to a function


def test_trained_models_are_granted_their_error() -> None:
    x = uniform(300, 3)
    noise = torch.randn(40, generator=torch.Generator().manual_seed(1))
    waves = torch.randn(3, 40, generator=torch.Generator().manual_seed(2)) * 3

    def near(share: float) -> Callable[[Tensor], Tensor]:
        return lambda x: x[:, 0] * x[:, 1] + x[:, 2] ** 2 + share * (sin(x @ waves) @ noise) / 40**0.5

    error = float((near(1e-3)(x) - near(0)(x)).square().mean().sqrt())
    true = groups(symmetry_tree(near(0), x))
    assert true == {(0, 1): "GS", (0, 1, 2): "Add"}
    assert groups(symmetry_tree(near(1e-3), x)) == {(0, 1, 2): ""}, "of a function, nothing is claimed that does not hold"
    tree = symmetry_tree(near(1e-3), x, error=error)
    assert groups(tree) == true and 1e-4 < tree.findings[-1][0].miss < 1e-2
    assert groups(symmetry_tree(near(1e-3), x, sym_th=0.1, sep_th=0.1)) == true, "thresholds that are given are taken"
    assert groups(symmetry_tree(near(1.0), x, error=error * 1e3)) == {(0, 1, 2): ""}, "no error is granted everything"

    class Module(nn.Module):
        def __init__(self, trained: bool) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1)) if trained else None

        def forward(self, x: Tensor) -> Tensor:
            return near(1e-4)(x)

    assert groups(symmetry_tree(Module(trained=True), x)) == true
    assert groups(symmetry_tree(Module(trained=False), x)) == {(0, 1, 2): ""}


def test_neither_a_sum_nor_a_product_by_a_clear_margin() -> None:
    (finding,) = symmetry_tree(lambda x: (x[:, 0] - x[:, 1]) ** 2, uniform(200, 2), sep_th=1.0).findings[0]
    small, large = sorted(finding.misses[name].size for name in ("Add", "Mul"))
    assert large < 3 * small and finding.kind == "GS"


def test_networks() -> None:
    model, x = KAN([3, 2, 1], auto_save=False, seed=0), uniform(200, 3)
    put(model, 0, 0, 0, lambda x: x)
    for i, j in ((0, 1), (1, 0), (2, 0), (1, 1), (2, 1)):
        put(model, 0, i, j, lambda x: 0 * x)
    put(model, 0, 1, 1, lambda x: x**2)
    put(model, 1, 0, 0, lambda x: x**3)
    put(model, 1, 1, 0, lambda x: x)
    tree = symmetry_tree(model, x)
    assert groups(tree) == {(0, 1, 2): "Add"} and tree.unused == [2]
    assert torch.equal(model.last_input, x), "not a recombination"
    assert not any(p.grad is not None for p in model.parameters())
    # The error of a fit is known, but not after a change.
    model.losses = {"train_loss": 1e-3, "test_loss": 0.002}
    spread = float(model(x).detach().std())
    (top,) = symmetry_tree(model, x).findings[-1]
    assert top.tolerances["Add"] == pytest.approx(5 * 0.002 / spread, rel=1e-6)
    perceptron = MLP([2, 8, 1])
    assert len(symmetry_tree(perceptron, uniform(50, 2)).levels) == 2


# What is said


def test_the_way_and_the_misses_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    way = [
        *["[]", "[0]", "[0]", "[1]", "[0, 1]", "[2]", "[0, 1]", "[3]", "[0, 1]", "[4]"],
        *["[]", "[2]", "[2]", "[3]", "[2, 3]", "[4]", "[]", "[4]"],
        *["[]", "[0, 1]", "[0, 1]", "[2, 3]", "[0, 1, 2, 3]", "[4]", "[]", "[4]"],
        *["[]", "[0, 1, 2, 3]", "[0, 1, 2, 3]", "[4]"],
    ]
    get_molecule(of_columns(nested), uniform(200, 5))
    assert capsys.readouterr().out.splitlines() == way
    symmetry_tree(of_columns(nested), uniform(200, 5))
    assert capsys.readouterr().out == ""
    symmetry_tree(lambda x: x[:, 0] * x[:, 1] + x[:, 1] ** 2 * x[:, 0] ** 2 + x[:, 3], uniform(200, 4), verbose=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if ":" in line]
    assert lines[0] == "[2]: no effect"
    assert lines[1].startswith("[0, 1]: GS; symmetry misses by 0 (granted 0), GS misses by ") and len(lines) == 3
    assert lines[2].startswith("[0, 1, 3, 2]: Add; Add misses by ") and ", Mul misses by " in lines[2]
    symmetry_tree(of_columns(torch.maximum), uniform(200, 2), verbose=True)
    assert "[0, 1]: not seen; Add misses by 0.5" in capsys.readouterr().out
