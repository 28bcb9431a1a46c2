"""Formulas laid out in layers."""

import pytest
import sympy
import torch

from kan.compiler import kanpiler
from kan.discovery.formulas import compiler_nodes as formula_nodes
from kan.discovery.formulas.compiler_nodes import Edge, Node, Subnode, laid_out

pytestmark = pytest.mark.usefixtures("float64")

x, y = sympy.symbols("x y")
ONE = (1.0, 0.0, 1.0, 0.0)


def node(*sources: Node | int) -> Node:
    return Node([Subnode([Edge("sin", ONE, source) for source in sources])])


def test_variables_are_passed_on() -> None:
    layers = laid_out(node(node(node(0)), 1))
    assert [len(layer) for layer in layers] == [0, 2, 2, 1]
    names = [[[edge.name for edge in n.subnodes[0].edges] for n in layer] for layer in layers]
    assert names == [[], [["sin"], ["x"]], [["sin"], ["x"]], [["sin", "sin"]]]


def test_edges_that_would_be_one_get_nodes_of_their_own() -> None:
    assert [len(layer) for layer in laid_out(node(0, 1))] == [0, 1]
    assert [len(layer) for layer in laid_out(node(0, 0))] == [0, 2, 1]
    below = node(0)
    assert [len(layer) for layer in laid_out(node(below, below))] == [0, 2, 1]


def test_products_come_last() -> None:
    product = Node([Subnode([Edge("x", ONE, 0)]), Subnode([Edge("x", ONE, 1)])])
    layers = laid_out(node(product, node(0)))
    assert [len(n.subnodes) for n in layers[1]] == [1, 2]


def nested(depth: int) -> sympy.Expr:
    """Every step contains the one before it four times."""
    expression = x
    for _ in range(depth):
        expression = sympy.sin(expression + y) * expression / 2 + sympy.cos(expression) - expression / 3
    return expression


def test_what_occurs_often_has_one_node_per_layer() -> None:
    expression = nested(6)
    model = kanpiler([x, y], expression)
    assert max(map(sum, model.width)) < 20  # the tree has thousands of nodes in a layer
    points = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor(sympy.lambdify([x, y], expression, "numpy", cse=True)(*points.numpy().T))
    torch.testing.assert_close(model(points).detach()[:, 0], truth, rtol=1e-12, atol=1e-12)
    assert (model.symbolic_formula().deviation or 0) < 1e-12


@pytest.mark.parametrize("expression", [nested(2), sympy.exp(x * y) ** 2 + x * y + sympy.sin(x * y) * (x * y + 1) * y, x + sympy.sin(x)])
def test_shared_nodes_compute_the_same(expression: sympy.Expr, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = kanpiler([x, y], expression)
    monkeypatch.setattr(formula_nodes, "MAX_TREE_NODES", 0)
    shared = kanpiler([x, y], expression)
    points = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shared(points), tree(points), rtol=1e-13, atol=1e-14)
    assert sum(map(sum, shared.width)) <= sum(map(sum, tree.width))
