"""Trees of the symmetries of a function: groups of variables that act together, groups of such groups, and so on up to all variables.

A group ``A`` acts together if the function is ``F(h(x_A), rest)``. If two such groups overlap, their union, intersection and differences
also act together, and the function depends on them through a sum of functions (Gorman, 1968). The groups that overlap with no other group
therefore form a tree, which is unique. The structure of each group is determined by the misses of `kan.analysis.misses`, which are kept as
evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain, combinations, pairwise

from torch import Tensor, nn

from kan.analysis.misses import MAX_ROUNDING, Miss, Misses, worst
from kan.analysis.probe import Group, Model
from kan.output import say

__all__ = ["Finding", "Tree", "get_molecule", "get_tree_node", "symmetry_tree"]

ERROR_OF_VALUES, ERROR_OF_SLOPES = 5.0, 40.0
"""Tolerances of a trained model for the misses of equations between its values and between its slopes, as multiples of its relative error.
Five networks with errors between 0.2 % and 9 % missed equations that their target functions satisfy by 2 to 4 and by 1 to 34 times their
errors."""
MAX_TOLERANCE = 0.15
"""Largest tolerance of a trained model. The smallest miss of these functions for an equation that they do not satisfy was 0.21."""
ASSUMED_ERROR = 1e-3
"""Error of a trained model, relative to the standard deviation of its values, that is assumed if it is unknown."""
MIN_MISS_RATIO = 3.0
"""Smallest ratio of the miss of a product to that of a sum with which a sum is claimed at the top, and vice versa."""


@dataclass(frozen=True)
class Finding:
    """The structure of a group, with the misses that were tested.

    Attributes:
        kind: the structure that is claimed, as in `Tree`.
        misses: the misses by name: ``'symmetry'``, that the group acts together, and ``'Add'``, ``'Mul'`` and ``'GS'``. Those that were not
            tested are left out.
        tolerances: the largest miss with which each of these counts as satisfied, apart from rounding errors.
    """

    kind: str
    misses: Mapping[str, Miss]
    tolerances: Mapping[str, float]

    @property
    def miss(self) -> float | None:
        """The miss of the claimed structure; None if there is none."""
        return self.misses[self.kind].size if self.kind in self.misses else None


@dataclass(frozen=True)
class Tree:
    """The groups of variables that act together, level by level.

    Attributes:
        levels: for each level, the groups of variables, from single variables to the group of all variables.
        arities: for each level from the second on and each of its groups, the number of groups of the level below in it.
        properties: for the same groups, their structure as functions of the groups below: ``'Id'`` for a single group, ``'GS'`` for a
            function of a sum or product of functions of them, ``'Add'`` and ``'Mul'`` for such a sum or product itself (at the top only),
            and ``''`` if none was confirmed.
        findings: for the same groups, the misses that were tested; empty if there were no tests.
        unused: the variables that have no effect on the values. The tree makes no claim about them.
    """

    levels: list[list[list[int]]]
    arities: list[list[int]]
    properties: list[list[str]]
    findings: list[list[Finding]] = field(default_factory=list, compare=False)
    unused: list[int] = field(default_factory=list, compare=False)


def get_molecule(
    model: Model, x: Tensor, sym_th: float | None = None, verbose: bool = True, error: float | None = None
) -> list[list[list[int]]]:
    """Groups of variables that act together, of these groups those that act together, and so on up to all variables.

    Args:
        model, x: see `kan.analysis.hypothesis`.
        sym_th, error: as for `symmetry_tree`.
        verbose: print how the groups of each level are formed: the present group and the next candidate for it.

    Returns:
        The levels of groups, from single variables, in the order of a tree without crossings, to the group of all variables.

    Raises:
        TypeError, ValueError: for bad samples.
    """
    with Misses(model, x) as misses:
        levels = _Search(misses, model, sym_th, None, error).levels()
    if verbose:
        _say_steps(levels)
    return levels


def get_tree_node(
    model: Model,
    x: Tensor,
    moleculess: Sequence[Sequence[Group]],
    sep_th: float | None = None,
    skip_test: bool = True,
    error: float | None = None,
) -> tuple[list[list[int]], list[list[str]]]:
    """The structure of the groups of `get_molecule`, as functions of the groups below them.

    Args:
        model, x: see `kan.analysis.hypothesis`.
        moleculess: the levels of groups.
        sep_th, error: as for `symmetry_tree`.
        skip_test: omit the tests of separability.

    Returns:
        ``arities`` and ``properties``, see `Tree`.

    Raises:
        TypeError, ValueError: for bad samples.
    """
    levels = [[list(group) for group in level] for level in moleculess]
    with Misses(model, x) as misses:
        tree = _Search(misses, model, None, sep_th, error).tree(levels, skip_test)
    return tree.arities, tree.properties


def symmetry_tree(
    model: Model,
    x: Tensor,
    sym_th: float | None = None,
    sep_th: float | None = None,
    skip_sep_test: bool = False,
    verbose: bool = False,
    error: float | None = None,
) -> Tree:
    """The tree of the symmetries that a model has at samples and at their recombinations, with the structure of its groups.

    Claims about a function hold up to rounding errors. A trained model, which is any module with parameters, only approximates the function
    behind its data. The tolerance for its misses follows from its error.

    Args:
        model, x: see `kan.analysis.hypothesis`.
        sym_th, sep_th: tolerances for the misses of symmetries and of separabilities, instead of these.
        skip_sep_test: omit the tests of separability.
        verbose: print how the groups of each level are formed, and all misses.
        error: root mean squared error of the model, in the units of its values. When not given, it is the larger one of the losses of the
            last fit of a `KAN`, if the model was not changed since. Otherwise it is 0.1 % of the standard deviation of the values for a
            trained model, and 0 for a function.

    Returns:
        The tree with its evidence.

    Raises:
        TypeError, ValueError: for bad samples.

    >>> import torch
    >>> x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> tree = symmetry_tree(lambda x: (x[:, 0] * x[:, 1]).exp() + x[:, 2] * x[:, 3], x)
    >>> tree.levels[1:], tree.properties
    ([[[0, 1], [2, 3]], [[0, 1, 2, 3]]], [['GS', 'GS'], ['Add']])
    >>> tree.findings[-1][0].misses["Add"].size < 1e-12 < tree.findings[-1][0].misses["Mul"].size
    True
    """
    with Misses(model, x) as misses:
        search = _Search(misses, model, sym_th, sep_th, error)
        tree = search.tree(search.levels(), skip_sep_test)
    if verbose:
        _say_steps(tree.levels)
        _say_findings(tree)
    return tree


class _Search:
    """The search for the groups of one model at samples, with the tolerances for its misses."""

    def __init__(self, misses: Misses, model: Model, sym_th: float | None, sep_th: float | None, error: float | None) -> None:
        self.misses = misses
        share = _relative_error(model, self.misses.spread, error)
        values, slopes = min(ERROR_OF_VALUES * share, MAX_TOLERANCE), min(ERROR_OF_SLOPES * share, MAX_TOLERANCE)
        self.tolerances = {"symmetry": slopes, "Add": values, "Mul": values, "GS": slopes}
        if sym_th is not None:
            self.tolerances["symmetry"] = sym_th
        if sep_th is not None:
            self.tolerances |= dict.fromkeys(("Add", "Mul", "GS"), sep_th)
        effect = min(share, MAX_TOLERANCE / ERROR_OF_VALUES)
        self.used = [k for k in range(self.misses.size) if not self.misses.effect(k).within(effect)]

    def levels(self) -> list[list[list[int]]]:
        """The levels of groups; unused variables come last, and belong to the group of all variables only."""
        size = self.misses.size
        if size == 1:
            return [[[0]]]
        unused = [k for k in range(size) if k not in self.used]
        heights = {frozenset([k]): 0 for k in range(size)}
        for group in sorted(self._groups(), key=len):
            heights[group] = 1 + max(height for below, height in heights.items() if below < group)
        place = {k: p for p, k in enumerate([*_in_order(set(self.used), heights), *unused])}
        levels = []
        for l in range(max(*heights.values(), 1)):
            there = [group for group, height in heights.items() if height <= l]
            largest = [sorted(group, key=place.__getitem__) for group in there if not any(group < other for other in there)]
            levels.append(sorted(largest, key=lambda group: place[group[0]]))
        return [*levels, [list(place)]]

    def _groups(self) -> set[frozenset[int]]:
        """All groups of several variables that act together and do not overlap with another such group."""
        depends: dict[tuple[int, int], set[int]] = {(i, j): set() for i in self.used for j in self.used}
        for k in self.used:
            size, rounding = self.misses.symmetries(k)
            holds = (size <= rounding.clamp(min=self.tolerances["symmetry"])) & (rounding < MAX_ROUNDING)
            for i, j in (~holds).nonzero().tolist():
                if (i, j) in depends and k not in (i, j):
                    depends[i, j].add(k)

        def closed(group: Iterable[int]) -> frozenset[int]:
            """The smallest group that contains these variables and within which no ratio of slopes depends on a variable outside."""
            found, fresh = set[int](), set(group)
            while fresh:
                new = fresh.pop()
                for other in found:
                    fresh |= depends[new, other]
                found.add(new)
                fresh -= found
            return frozenset(found)

        groups = {closed(pair) for pair in combinations(self.used, 2)}
        while len(merged := {closed(chain(*alike)) for alike in _overlapping(groups)}) < len(groups):
            groups = merged
        return groups | ({frozenset(self.used)} if len(self.used) > 1 else set())

    def tree(self, levels: list[list[list[int]]], skip_test: bool) -> Tree:
        arities, findings = [], []
        for l in range(1, len(levels)):
            children = [[child for child in levels[l - 1] if set(child) <= set(group)] for group in levels[l]]
            arities.append([len(below) for below in children])
            findings.append([self._finding(below, skip_test, l == len(levels) - 1) for below in children])
        properties = [[finding.kind for finding in level] for level in findings]
        return Tree(levels, arities, properties, findings, [k for k in range(self.misses.size) if k not in self.used])

    def _finding(self, children: list[list[int]], skip_test: bool, top: bool) -> Finding:
        below = [[k for k in child if k in self.used] for child in children]
        below = [child for child in below if child]
        group = [k for child in below for k in child]
        if len(children) == 1 or len(below) == 1:
            return Finding("Id", {}, {})
        misses: dict[str, Miss] = {}
        kind = ""
        if not top and below:
            misses["symmetry"] = self.misses.symmetry(group, [k for k in self.used if k not in group])
        if below and not skip_test:
            if top:
                misses["Add"] = worst(self.misses.sum(child) for child in below)
                misses["Mul"] = worst(self.misses.product(child) for child in below)
                best, other = sorted(("Add", "Mul"), key=lambda name: misses[name].size)
                clear = not misses[other].size < MIN_MISS_RATIO * misses[best].size
                kind = best if clear and misses[best].within(self.tolerances[best]) else ""
            if not kind:
                misses["GS"] = worst(self.misses.general(child, [k for k in group if k not in child]) for child in below)
                kind = "GS" if misses["GS"].within(self.tolerances["GS"]) else ""
        return Finding(kind, misses, {name: self.tolerances[name] for name in misses})


def _relative_error(model: Model, spread: float, error: float | None) -> float:
    """The error relative to the standard deviation of the values; 0 for a function."""
    if error is None and not (isinstance(model, nn.Module) and any(True for _ in model.parameters())):
        return 0.0
    losses = getattr(model, "losses", None)
    if error is None and isinstance(losses, Mapping):
        error = max((losses[name] for name in ("train_loss", "test_loss") if name in losses), default=None)
    if error is None:
        return ASSUMED_ERROR
    return error / spread if spread > 0 else 0.0


def _overlapping(groups: Set[frozenset[int]]) -> list[set[frozenset[int]]]:
    """The groups divided into sets that are connected by overlaps; a group that contains another one does not overlap with it."""
    found: list[set[frozenset[int]]] = []
    for group in groups:
        joined = [alike for alike in found if any(group & other and group - other and other - group for other in alike)]
        found = [alike for alike in found if alike not in joined] + [{group}.union(*joined)]
    return found


def _in_order(group: Set[int], groups: Iterable[frozenset[int]]) -> list[int]:
    """The variables of a group, in an order that keeps the variables of each of its subgroups together."""
    if len(group) == 1:
        return list(group)
    inner = [other for other in groups if other < group]
    largest = [other for other in inner if not any(other < another for another in inner)]
    return [k for other in sorted(largest, key=min) for k in _in_order(other, inner)]


def _say_steps(levels: list[list[list[int]]]) -> None:
    """Print how the groups of each level are formed from those below: the present group, and the next candidate for it."""
    for below, level in pairwise(levels):
        left = list(below)
        for group in level:
            found: list[int] = []
            for candidate in left:
                say(found)
                say(candidate)
                found = found + candidate if set(candidate) <= set(group) else found
            left = [candidate for candidate in left if not set(candidate) <= set(group)]


def _say_findings(tree: Tree) -> None:
    for k in tree.unused:
        say(f"[{k}]: no effect")
    for level, findings in zip(tree.levels[1:], tree.findings, strict=True):
        for group, finding in zip(level, findings, strict=True):
            if finding.misses:
                tests = ", ".join(
                    f"{name} misses by {miss.size:.2g} (granted {max(finding.tolerances[name], miss.rounding):.1g})"
                    for name, miss in finding.misses.items()
                )
                say(f"{group}: {finding.kind or 'not seen'}; {tests}")
