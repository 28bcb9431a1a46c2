r"""Shapes of networks that laws may have: which variables occur together where, the simple ones first.

Most laws are trees: every variable occurs once, alone or in a block ``A`` or ``B`` of variables, and blocks are joined by a sum or a
product,

    ``psi(sum phi)``, ``prod phi``, ``sum_A phi . sum_B phi``, ``sum_A phi + prod_B phi``, ``f(sum_A phi) . g(sum_B phi)``.

Edges that do not occur in a tree are cut, so that the remaining ones are unique up to scales and shifts, and their curves can be named.
Networks with all edges come last, for laws that are not trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from kan.network.network import Network
from kan.surgery.edges import set_mode_

__all__ = ["Shape", "shapes"]

Edge = tuple[int, int, int]
"""An edge ``(l, i, j)`` from node `i` of layer `l` to node `j` of the next."""

MAX_REDUNDANT_TERM = 1e-3
"""Size of a curve, as a share of the deviation of the labels, below which it is cut."""
GRID_INTERVALS = 3
"""Number of grid intervals of a new network."""
MANY_NODES = 5
"""Number of hidden nodes of the network that is tried last."""


@dataclass(frozen=True)
class Shape:
    """The shape of a network to be trained.

    Attributes:
        name: the name in messages.
        width, mult_arity: see `Network`.
        edges: the edges that exist, ``(l, i, j)``; None for all edges.
        identities: edges that are the identity.
        tree: whether every variable occurs once.
    """

    name: str
    width: list[Any]
    mult_arity: Any = 2
    edges: frozenset[Edge] | None = None
    identities: frozenset[Edge] = frozenset()
    tree: bool = True

    @torch.no_grad()
    def cut_(self, network: Network, x: Tensor, y: Tensor) -> None:
        """Cut redundant edges of a trained network, in place.

        In ``f + g + p q``, with ``f`` and ``p`` functions of one variable and ``g`` and ``q`` of another, `p` may be replaced by ``p + c``
        and `g` by ``g - c q`` without a change of the values. If a term vanishes by that, its edge is cut.
        """
        terms = {i for l, i, j in self.edges or () if l == 0 and j == 0}
        factors = {i: j for l, i, j in self.edges or () if l == 0 and j > 0}
        if len(factors) != 2 or network.depth != 2 or network.structure.arities[1] != (2,):
            return
        layer = network.numeric_layers[0]
        rows, weight = layer.features(x), layer.edge_weight()
        rows = rows - rows.mean(0)
        for i, other in zip(factors, reversed(factors), strict=True):
            if i in terms:
                term, factor = rows[:, i] @ weight[i, :, 0], rows[:, i] @ weight[i, :, factors[i]]
                share = float(term @ factor / factor.square().sum().clamp_min(1e-300))
                if float((term - share * factor).square().mean()) < MAX_REDUNDANT_TERM**2 * float(y.var()):
                    layer.mask[i, 0] = 0.0
                    layer.coef[other, factors[other]] += share / float(layer.scale_sp[other, factors[other]])

    @torch.no_grad()
    def network(self, seed: int) -> Network:
        """A new network in float64."""
        network = Network(self.width, grid=GRID_INTERVALS, k=3, mult_arity=self.mult_arity, seed=seed).double()
        if self.edges is not None:
            for l, layer in enumerate(network.numeric_layers):
                for i in range(layer.in_dim):
                    for j in range(layer.out_dim):
                        layer.mask[i, j] = float((l, i, j) in self.edges)
        for l, i, j in self.identities:
            network.symbolic_layers[l].set_function(i, j, "x")
            set_mode_(network, l, i, j, "s")
        return network


def shapes(n: int) -> Iterator[Shape]:
    """The shapes for `n` inputs, the simple ones first."""
    everything = list(range(n))
    yield Shape("sum", [n, 1])
    yield Shape("function of a sum", [n, 1, 1])
    if n == 1:
        yield Shape("two terms", [1, 2, 1], tree=False)
        yield Shape("any", [1, MANY_NODES, 1], tree=False)
        return
    products = [[[i] for i in everything], *([*blocks] for blocks in _splits(n) if n > 2)]
    for blocks in products:
        yield _product(blocks, n, inside_function=False)
    for terms in _subsets(n, 1, n - 2):
        yield _sum_and_product(terms, [i for i in everything if i not in terms], n)
    for factors in _subsets(n, 2, n):
        yield _sum_and_product(everything, factors, n)
    if n > 2:
        for first, second in _splits(n):
            yield _of_two(first, second, n, product=True)
            yield _of_two(first, second, n, product=False)
        for alone in everything:
            yield _nested(alone, n)
    for blocks in products[1:]:
        yield _product(blocks, n, inside_function=True)
    yield Shape("two functions of sums", [n, 2, 1], tree=False)
    yield Shape("any, deep", [n, 2, 1, 1], tree=False)
    yield Shape("any", [n, MANY_NODES, 1], tree=False)


def _product(blocks: Sequence[Sequence[int]], n: int, inside_function: bool) -> Shape:
    """``prod_b sum_{i in b} phi_i``, or a function of that product."""
    edges = {(0, i, j) for j, block in enumerate(blocks) for i in block}
    name, arity = f"product of {_block_text(blocks)}", [[], [len(blocks)], []]
    if not inside_function:
        return Shape(name, [n, [0, 1], 1], arity, frozenset(edges), frozenset({(1, 0, 0)}))
    return Shape(f"function of the {name}", [n, [0, 1], 1], arity, frozenset(edges | {(1, 0, 0)}))


def _sum_and_product(terms: Sequence[int], factors: Sequence[int], n: int) -> Shape:
    """``sum_{i in terms} phi_i + prod_{i in factors} phi_i``."""
    edges = {(0, i, 0) for i in terms} | {(0, i, 1 + j) for j, i in enumerate(factors)}
    name, arity = f"sum of {_block_text([terms])} and product of {_block_text([factors])}", [[], [len(factors)], []]
    return Shape(name, [n, [1, 1], 1], arity, frozenset(edges), frozenset({(1, 0, 0), (1, 1, 0)}))


def _of_two(first: Sequence[int], second: Sequence[int], n: int, product: bool) -> Shape:
    """``psi(f(sum_first phi) . g(sum_second phi))``, or ``psi(f(sum_first phi) + g(sum_second phi))``."""
    blocks = [first, second]
    identities = {(0, block[0], b) for b, block in enumerate(blocks) if len(block) == 1}
    below = {(0, i, b) for b, block in enumerate(blocks) for i in block}
    above = {(1, 0, 0), (1, 1, 1)} if product else {(1, 0, 0), (1, 1, 0), (2, 0, 0)}
    if product:
        identities.add((2, 0, 0))
    width = [n, 2, [0, 1] if product else 1, 1]
    arity = [[], [], [2], []] if product else 2
    name = f"{'product' if product else 'sum'} of functions of {_block_text(blocks)}"
    return Shape(name, width, arity, frozenset(below | above), frozenset(identities))


def _nested(alone: int, n: int) -> Shape:
    """``phi(x_alone) . f(prod of the others)``."""
    others = [i for i in range(n) if i != alone]
    edges = {(0, i, 1 + j) for j, i in enumerate(others)} | {(1, 0, 0), (1, 1, 1)}
    return Shape(
        f"product of {_block_text([[alone]])} and a function of the product of {_block_text([others])}", [n, [1, 1], [0, 1], 1],
        [[], [len(others)], [2], []], frozenset(edges), frozenset({(0, alone, 0), (2, 0, 0)}),
    )  # fmt: skip


def _splits(n: int) -> Iterator[tuple[list[int], list[int]]]:
    """The divisions of the inputs into two blocks."""
    for size in range(1, n // 2 + 1):
        for first in combinations(range(n), size):
            second = [i for i in range(n) if i not in first]
            if size < len(second) or 0 in first:
                yield list(first), second


def _subsets(n: int, least: int, most: int) -> Iterator[list[int]]:
    """The subsets of `n` inputs that have from `least` to `most` of them."""
    for size in range(least, most + 1):
        yield from (list(chosen) for chosen in combinations(range(n), size))


def _block_text(blocks: Sequence[Sequence[int]]) -> str:
    """Blocks of inputs as text, counted from 1."""
    return " and ".join("{" + ", ".join(str(i + 1) for i in block) + "}" for block in blocks)
