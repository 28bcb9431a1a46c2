"""Comparison of two checkpoints by their files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from kan.checkpoint.files import parse_tensors, read
from kan.checkpoint.format import read_config
from kan.checkpoint.schema import check_sizes, check_tensors

__all__ = ["Difference", "Edge", "difference"]

Edge: TypeAlias = tuple[int, int, int]
"""Layer, input node, output sub-node, as in ``fix_symbolic(l, i, j)``."""


@dataclass(frozen=True)
class Difference:
    """The changes from one version to another, which print as a table.

    Pairs hold the values for the first and the second version.

    Attributes:
        versions: the names of the versions.
        width: their shapes.
        grid: their numbers of grid intervals.
        moved_grids: layers with the same number of intervals, but other knots.
        edges: numbers of edges that are not pruned, layer by layer.
        removed, added: edges that only the first or only the second has; None if the shapes differ, since nodes then have other indices.
        symbolic: for every edge whose function changed, the pair of names, ``"0"`` for none; None if the shapes differ.
        symbolic_edges: numbers of symbolic edges.
        losses: losses of the fits that made the versions; None for a version that was not made by a fit.
    """

    versions: tuple[str, str]
    width: tuple[Any, Any]
    grid: tuple[Any, Any]
    moved_grids: tuple[int, ...]
    edges: tuple[list[int], list[int]]
    removed: tuple[Edge, ...] | None
    added: tuple[Edge, ...] | None
    symbolic: dict[Edge, tuple[str, str]] | None
    symbolic_edges: tuple[int, int]
    losses: tuple[Mapping[str, float] | None, Mapping[str, float] | None]

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("", *self.versions)]
        both: dict[str, tuple[Any, Any]] = {
            "shape": self.width, "grid": self.grid, "edges": self.edges, "symbolic edges": self.symbolic_edges
        }  # fmt: skip
        rows += [(name, str(one), "the same" if one == other else str(other)) for name, (one, other) in both.items()]
        for name in dict.fromkeys([*(self.losses[0] or {}), *(self.losses[1] or {})]):
            rows.append((name, *(f"{values[name]:.3g}" if values and name in values else "-" for values in self.losses)))
        wide = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, wide, strict=True)).rstrip() for row in rows]
        if self.moved_grids:
            lines.append(f"knots moved in the layers {', '.join(map(str, self.moved_grids))}")
        if self.removed:
            lines.append(f"edges removed: {', '.join(map(str, self.removed))}")
        if self.added:
            lines.append(f"edges added: {', '.join(map(str, self.added))}")
        if self.symbolic:
            changes = (f"{edge} {_named(one)} -> {_named(other)}" for edge, (one, other) in self.symbolic.items())
            lines.append("functions: " + ", ".join(changes))
        return "\n".join(lines)

    __repr__ = __str__


def difference(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> Difference:
    """Return the changes from the checkpoint `one` to the checkpoint `other`.

    Raises:
        FileNotFoundError, ValueError: if a file is missing or damaged.
    """
    a, b = _Read(one), _Read(other)
    width = a.width, b.width
    removed = added = symbolic = None
    moved: list[int] = []
    if width[0] == width[1] and a.arity == b.arity:
        removed, added = tuple(sorted(a.edges - b.edges)), tuple(sorted(b.edges - a.edges))
        both = sorted({*a.functions, *b.functions})
        symbolic = {edge: (a.functions.get(edge, "0"), b.functions.get(edge, "0")) for edge in both}
        symbolic = {edge: names for edge, names in symbolic.items() if names[0] != names[1]}
        moved = [l for l in range(a.depth) if (x := a.knots(l)).shape == (y := b.knots(l)).shape and not x.equal(y)]
    return Difference(
        (a.name, b.name), width, (a.config["grid"], b.config["grid"]), tuple(moved), (a.counts(), b.counts()), removed, added, symbolic,
        (len(a.functions), len(b.functions)), (a.config.get("losses"), b.config.get("losses")),
    )  # fmt: skip


class _Read:
    """The properties of one checkpoint that are compared."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.config, self.name = read_config(path), os.path.basename(path)
        file, config_file = f"{os.fspath(path)}_state", f"{os.fspath(path)}_config.yml"
        self.state = check_tensors(parse_tensors(read(file, self.config["sha256"].get("state")), file), file)
        check_sizes(self.config, self.state, config_file, file)
        self.width, self.arity = self.config["width"], self.config["mult_arity"]
        self.depth = len(self.width) - 1
        self.functions: dict[Edge, str] = {}
        self.edges: set[Edge] = set()
        try:
            self._look()
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{file} does not fit {config_file}: {error}") from error

    def _look(self) -> None:
        for l in range(self.depth):
            symbolic = self.state[f"symbolic_fun.{l}.mask"] != 0
            for j, row in enumerate(self.config[f"symbolic.funs_name.{l}"]):
                for i, name in enumerate(row):
                    if name != "0" and bool(symbolic[j, i]):
                        self.functions[(l, i, j)] = name
            numeric = {(l, i, j) for i, j in (self.state[f"act_fun.{l}.mask"] != 0).nonzero().tolist()}
            self.edges |= numeric | {edge for edge in self.functions if edge[0] == l}
            self.knots(l)

    def knots(self, l: int) -> Tensor:
        return self.state[f"act_fun.{l}.grid"]

    def counts(self) -> list[int]:
        return [sum(edge[0] == l for edge in self.edges) for l in range(self.depth)]


def _named(name: str) -> str:
    return "spline" if name == "0" else name
