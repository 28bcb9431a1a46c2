"""Trees of the symmetries of a function: which variables act together, which of these groups do, and so on up to all variables.

Symmetries, separabilities and what a model may be are those of `kan.analysis.hypothesis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kan.analysis.hypothesis import Group, Model, Probe

__all__ = ["Tree", "get_molecule", "get_tree_node", "symmetry_tree"]


@dataclass(frozen=True)
class Tree:
    """Which variables act together, level by level.

    Attributes:
        levels: groups of variables per level, from single variables to the group of all.
        arities: per level from the second on, the number of groups of the level below in each group.
        properties: likewise, what is known of the group as a function of those: ``'Id'`` for a single one, ``'GS'`` for generally,
            ``'Add'`` and ``'Mul'`` for additively and multiplicatively separable (the last two at the top only), ``''`` for nothing.
    """

    levels: list[list[list[int]]]
    arities: list[list[int]]
    properties: list[list[str]]


def get_molecule(model: Model, x: Tensor, sym_th: float = 1e-3, verbose: bool = True) -> list[list[list[int]]]:
    """Groups of variables that act together, of these groups those that act together, and so on up to all variables.

    Each pass walks through the groups of the level below. It opens a group with the first one that is left and adds every following one
    with which the group is still a symmetry (see `test_symmetry`). Since all variables together always are one, a group that has several
    members already is closed before it takes in everything, once.

    Args:
        model, x: see the module.
        sym_th: threshold of the symmetries.
        verbose: print every group in the making and the next candidate.

    Returns:
        Levels of groups, from single variables, in the order in which a tree without crossings has them, to the group of all.

    Raises:
        TypeError, ValueError: for bad samples.
    """
    return _molecule(Probe(model, x), sym_th, verbose)


def get_tree_node(
    model: Model, x: Tensor, moleculess: Sequence[Sequence[Group]], sep_th: float = 1e-2, skip_test: bool = True
) -> tuple[list[list[int]], list[list[str]]]:
    """What the groups of `get_molecule` are as functions of the groups below them.

    Args:
        model, x: see the module.
        moleculess: the levels.
        sep_th: threshold of the separabilities.
        skip_test: test no separability.

    Returns:
        ``arities`` and ``properties``, see `Tree`.

    Raises:
        TypeError, ValueError: for bad samples.
    """
    return _nodes(Probe(model, x), moleculess, sep_th, skip_test)


def symmetry_tree(
    model: Model, x: Tensor, sym_th: float = 1e-3, sep_th: float = 1e-1, skip_sep_test: bool = False, verbose: bool = False
) -> Tree:
    """`get_molecule` and `get_tree_node` in one.

    Raises:
        TypeError, ValueError: for bad samples.

    >>> import torch
    >>> x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    >>> symmetry_tree(lambda x: (x[:, 0] * x[:, 1]).exp() + x[:, 2] * x[:, 3], x, sep_th=1e-2).levels
    [[[0], [1], [2], [3]], [[0, 1], [2, 3]], [[0, 1, 2, 3]]]
    """
    probe = Probe(model, x)
    levels = _molecule(probe, sym_th, verbose)
    return Tree(levels, *_nodes(probe, levels, sep_th, skip_sep_test))


def _molecule(probe: Probe, sym_th: float, verbose: bool) -> list[list[list[int]]]:
    levels = [[[i] for i in range(probe.size)]]
    closed_once = False
    while len(levels[-1]) > 1:
        atoms, groups = list(levels[-1]), list[list[int]]()
        while atoms:
            group, members, left = list[int](), 0, list[list[int]]()
            for atom in atoms:
                if verbose:
                    print(group)
                    print(atom)
                everything = len(levels) > 1 and members > 1 and len(group) + len(atom) == probe.size
                if everything and not closed_once:
                    closed_once = True
                    groups.append(group)
                    group = atom
                elif not group or bool(probe.symmetric(group + atom, sym_th)):
                    group, members = group + atom, members + 1
                else:
                    left.append(atom)
            groups.append(group)
            atoms = left
        if len(groups) == len(levels[-1]):
            groups = [[i for group in groups for i in group]]
        levels.append(groups)
    for l in range(len(levels) - 1, 0, -1):
        place = {i: p for p, group in enumerate(levels[l]) for i in group}
        levels[l - 1].sort(key=lambda group: place[group[0]])  # noqa: B023 (used at once)
    return levels


def _nodes(probe: Probe, levels: Sequence[Sequence[Group]], sep_th: float, skip_test: bool) -> tuple[list[list[int]], list[list[str]]]:
    arities, properties = [], []
    for l in range(1, len(levels)):
        children = [[list(child) for child in levels[l - 1] if set(child) <= set(group)] for group in levels[l]]
        arities.append([len(below) for below in children])
        properties.append([_property(probe, below, sep_th, skip_test, l == len(levels) - 1) for below in children])
    return arities, properties


def _property(probe: Probe, children: list[list[int]], sep_th: float, skip_test: bool, top: bool) -> str:
    if len(children) == 1:
        return "Id"
    if skip_test:
        return ""
    if top and probe.separable(children, "mul", sep_th):
        return "Mul"
    if top and probe.separable(children, "add", sep_th):
        return "Add"
    return "GS" if probe.generally_separable(children, sep_th) else ""
