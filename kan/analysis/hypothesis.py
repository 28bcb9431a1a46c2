r"""Tests of hypotheses about the structure of a function of several variables, at samples.

* The function ``f`` is additively separable into groups of variables if it is a sum of functions of one group each. It is multiplicatively
  separable if it is a product of such functions, and generally separable if it is ``F(h(x_A) + k(x_B) + ...)``.
* A group ``A`` is a symmetry if ``f = F(h(x_A), rest)``.

The tests compare the misses of `kan.analysis.misses` with a threshold. In addition there are pykan's scores, which have the units of ``f``
or of ``x``. With the gradient ``g``, the Hessian ``H`` and the standard deviations ``s`` of the variables, these are the interaction
``H_ij s_i s_j`` of ``f`` or of ``log |f|``, and the dependence of the direction ``g_A / |g_A|`` on other variables. Each score is the
(lower) median over the samples. Samples where it is not a number, such as zeros of ``f`` under the logarithm, are left out.

A model is any differentiable function of tensors, from ``(B, n)`` to ``(B, 1)`` or ``(B,)``, that treats samples independently.

References
    Z. Liu et al., "KAN 2.0: Kolmogorov-Arnold Networks Meet Science", 2024, arXiv:2408.10205, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from kan.analysis.derivatives import batch_hessian, batch_jacobian
from kan.analysis.misses import Miss, Misses
from kan.analysis.probe import Group, Model, Probe
from kan.errors import unknown_name
from kan.formula_text import as_expression
from kan.output import say

__all__ = [
    "batch_grad_normgrad",
    "detect_separability",
    "get_dependence",
    "test_general_separability",
    "test_separability",
    "test_symmetry",
    "test_symmetry_var",
]

F = TypeVar("F", bound=Callable[..., Any])

LENGTH_FLOOR = 1e-6
"""Number that is added to the length of a gradient before it divides; pykan's value."""
MIN_SIMILARITY = 0.9
"""Cosine of the angle between two gradients above which they count as parallel, and share of samples with parallel gradients above which a
symmetry is suggested; pykan's values."""


def _no_test(function: F) -> F:
    """Mark a function such that pytest does not collect it as a test because of its name."""
    vars(function)["__test__"] = False
    return function


def _interactions(probe: Probe, mode: str, bias: float) -> Tensor:
    """``median_b |H_ij s_i s_j|`` of ``f`` (``'add'``) or of ``log |f + bias|`` (``'mul'``), ``(n, n)``."""
    _checked_mode(mode)
    hessian = probe.hessian if mode == "add" else batch_hessian(lambda x: (probe.values(x) + bias).abs().log(), probe.x).detach()
    return _median((hessian * probe.spread[:, None] * probe.spread).abs())


def _checked_mode(mode: str) -> None:
    if mode not in ("add", "mul"):
        raise unknown_name("mode", mode, ("add", "mul"))


def _separabilities(model: Model, x: Tensor, groups: Sequence[Group], mode: str, bias: float) -> list[Miss]:
    """For each group, the miss of a sum (``'add'``) or product (``'mul'``) of a function of the group and one of all other variables."""
    with Misses(lambda x: model(x) + bias, x) as misses:
        test = misses.sum if mode == "add" else misses.product
        return [test(group) for group in groups if 0 < len(group) < misses.size]


def _median(values: Tensor) -> Tensor:
    """Lower median over the samples, without values that are not numbers."""
    return values.nanmedian(dim=0).values


def _rest(group: Group, size: int) -> list[int]:
    return [i for i in range(size) if i not in set(group)]


def _direction_change(gradient: Tensor, hessian: Tensor, group: Group, rest: Group) -> Tensor:
    """``d/dx_rest [g_A / (|g_A| + 1e-6)]``, ``(B, |A|, |rest|)``, by the quotient rule."""
    within = list(group)
    g, h = gradient[:, within], hessian[:, within][:, :, list(rest)]
    length = g.norm(dim=1)[:, None, None]
    # Where the gradient vanishes it has no direction; the change of its length is taken as 0 there.
    lengthening = (g[:, :, None] * h).sum(dim=1, keepdim=True) / torch.where(length > 0, length, torch.ones_like(length))
    change: Tensor = h / (length + LENGTH_FLOOR) - g[:, :, None] * lengthening / (length + LENGTH_FLOOR) ** 2
    return change


# Separability


def detect_separability(
    model: Model,
    x: Tensor,
    mode: str = "add",
    score_th: float = 1e-2,
    res_th: float = 1e-2,
    n_clusters: int | Sequence[int] | None = None,
    bias: float = 0.0,
    verbose: bool = False,
) -> dict[str, Any]:
    """The finest groups of variables between which a model is separable.

    Variables are clustered by their interactions (complete linkage). A clustering is accepted if the interactions between its groups are
    less than a share `res_th` of all, and if the miss of separability of each group is at most `res_th` (see `kan.analysis.misses`).
    Derivatives alone are not sufficient: the variables of ``max(x_1, x_2)`` do not interact. Of the accepted clusterings, the one with the
    most groups is taken.

    Args:
        model, x: the model and the samples, see the head of this file.
        mode: ``'add'`` or ``'mul'``.
        score_th: smallest interaction of variables that belong to one group.
        res_th: largest share of interactions between groups, and largest miss.
        n_clusters: the number of groups, or the smallest and the largest number to try, ``[low, high]``; all numbers when not given.
        bias: a number that is added to the model for ``'mul'``.
        verbose: print the share for every number of groups.

    Returns:
        A dictionary with ``hessian``, the interactions ``(n, n)``; ``n_groups``; ``labels``, the group of every variable; ``groups``, the
        variables of every group; and ``misses``, the miss of separability of each group, empty for a single group. If no clustering is
        accepted, a line is printed and all variables are in one group.

    Raises:
        ValueError: for an unknown mode, an impossible number of groups, or bad samples.
    """
    probe = Probe(model, x)
    tried = _numbers(n_clusters, probe.size)
    score = _interactions(probe, mode, bias)
    matrix = score.double().cpu().numpy()
    total, labels, accepted = matrix.sum(), [0] * probe.size, False
    missed: list[Miss] = []
    for count in tried:
        found = _clusters(matrix < score_th, count)
        within = np.equal.outer(found, found)
        # A function without any interaction has none between groups.
        residual = float(matrix[~within].sum() / total) if total > 0 else 0.0
        if verbose:
            say(f"n_group={count}, residual_ratio={residual:.6g}")
        if residual < res_th:
            misses = _separabilities(model, x, _members(found), mode, bias)
            if all(miss.within(res_th) for miss in misses):
                labels, missed, accepted = found, misses, True
    groups = _members(labels)
    if not accepted:
        say(f"no clustering into {_listed(tried)} groups has a residual below {res_th:g}; all variables are in one group")
    say(f"{mode} separability {'detected' if len(groups) > 1 else 'not detected'}")
    return {"hessian": score, "n_groups": len(groups), "labels": labels, "groups": groups, "misses": missed}


def _members(labels: list[int]) -> list[list[int]]:
    return [[i for i, label in enumerate(labels) if label == group] for group in range(max(labels) + 1)]


def _numbers(n_clusters: int | Sequence[int] | None, size: int) -> list[int]:
    """The numbers of groups to try."""
    ends = [1, size] if n_clusters is None else [n_clusters] * 2 if isinstance(n_clusters, int) else list(n_clusters)
    if len(ends) != 2 or not 1 <= ends[0] <= ends[1] <= size:
        raise ValueError(f"n_clusters must be a number of groups between 1 and {size}, or two such [low, high]; got {n_clusters!r}.")
    return list(range(ends[0], ends[1] + 1))


def _clusters(apart: np.ndarray, count: int) -> list[int]:
    """Labels of `count` clusters of variables that are at the distance 0, or 1 where `apart`."""
    if count == 1:
        return [0] * len(apart)
    from sklearn.cluster import AgglomerativeClustering

    distance = (apart & apart.T).astype(float)
    found = AgglomerativeClustering(n_clusters=count, metric="precomputed", linkage="complete").fit(distance)
    return [int(label) for label in found.labels_]


def _listed(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


@_no_test
def test_separability(
    model: Model, x: Tensor, groups: Sequence[Group], mode: str = "add", threshold: float = 1e-2, bias: float = 0.0
) -> Tensor:
    """Whether a model is a sum or a product of a function of each group and one of all other variables.

    Args:
        model, x: the model and the samples, see the head of this file.
        groups: indices of the variables of each group.
        mode: ``'add'`` or ``'mul'``.
        threshold: tolerance for the misses, see `kan.analysis.misses`.
        bias: a number that is added to the model for ``'mul'``.

    Returns:
        A truth value, 0-dim.

    Raises:
        IndexError, ValueError: for variables that do not exist or are named twice, an unknown mode, or bad samples.
    """
    _checked_mode(mode)
    return _all_within(_separabilities(model, x, Probe(model, x).groups(groups), mode, bias), threshold, x)


@_no_test
def test_general_separability(model: Model, x: Tensor, groups: Sequence[Group], threshold: float = 1e-2) -> Tensor:
    """Whether a model is a function of a sum of functions of the groups, ``F(h(x_A) + k(x_B) + ...)``.

    Args:
        model, x: the model and the samples, see the head of this file.
        groups: indices of the variables of each group.
        threshold: tolerance for the misses, see `kan.analysis.misses`.

    Returns:
        A truth value, 0-dim.

    Raises:
        IndexError, ValueError: for variables that do not exist or are named twice, or bad samples.
    """
    probe = Probe(model, x)
    groups = probe.groups(groups)
    with Misses(model, x) as misses:
        pairs = list(combinations(groups, 2))
        found = [misses.general(first, second, group, _rest(group, probe.size)) for first, second in pairs for group in groups]
    return _all_within(found, threshold, x)


def _all_within(misses: Sequence[Miss], threshold: float, x: Tensor) -> Tensor:
    return torch.tensor(all(miss.within(threshold) for miss in misses), device=x.device)


# Symmetry


def batch_grad_normgrad(model: Model, x: Tensor, group: Group, create_graph: bool = False) -> Tensor:
    """Derivatives of the direction ``g_A / (|g_A| + 1e-6)`` of the gradient within a group, with respect to the other variables.

    Args:
        model, x: the model and the samples, see the head of this file.
        group: indices of the variables of the group.
        create_graph: whether the result can be differentiated.

    Returns:
        The derivatives ``(B, |A|, n - |A|)``, with the other variables in ascending order.

    Raises:
        IndexError, ValueError: for variables that do not exist or are named twice, or bad samples.
    """
    probe = Probe(model, x)
    (group,) = probe.groups([group])
    if not create_graph:
        return _direction_change(probe.gradient, probe.hessian, group, _rest(group, probe.size))
    gradient = batch_jacobian(probe.values, x, create_graph=True)
    hessian = batch_hessian(probe.values, x, create_graph=True)
    return _direction_change(gradient, hessian, group, _rest(group, probe.size))


def get_dependence(model: Model, x: Tensor, group: Group) -> Tensor:
    """Median size of `batch_grad_normgrad`, times the standard deviations of both variables, ``(|A|, n - |A|)``."""
    probe = Probe(model, x)
    (group,) = probe.groups([group])
    rest = _rest(group, probe.size)
    change = _direction_change(probe.gradient, probe.hessian, group, rest)
    return _median((change * probe.spread[group][:, None] * probe.spread[rest]).abs())


@_no_test
def test_symmetry(model: Model, x: Tensor, group: Group, dependence_th: float = 1e-3) -> Tensor:
    """Whether a model depends on a group of variables through one function only, ``F(h(x_A), rest)``.

    Args:
        model, x: the model and the samples, see the head of this file.
        group: indices of the variables of the group; for no or all variables, the result is True.
        dependence_th: tolerance for the miss, see `kan.analysis.misses`.

    Returns:
        A truth value, 0-dim.

    Raises:
        IndexError, ValueError: for variables that do not exist or are named twice, or bad samples.
    """
    (group,) = Probe(model, x).groups([group])
    with Misses(model, x) as misses:
        return _all_within([misses.symmetry(group, _rest(group, misses.size))], dependence_th, x)


@_no_test
def test_symmetry_var(model: Model, x: Tensor, input_vars: Sequence[Any], symmetry_var: Any) -> Tensor:
    """Whether a model depends on some variables through a given expression only, in which case their gradients are parallel.

    Args:
        model, x: the model and the samples, see the head of this file.
        input_vars: the sympy symbols of the columns of `x`.
        symmetry_var: a sympy expression in some of them, or its text, which is parsed and not executed.

    Returns:
        ``|cos|`` of the angle between the two gradients within the variables of the expression, ``(B,)``. The share of samples for which it
        exceeds 0.9 is printed, and whether that suggests a symmetry.

    Raises:
        ValueError: if the symbols do not fit `x` or the expression, or for bad samples.
    """
    import sympy

    probe = Probe(model, x)
    symbols, expression = list(input_vars), as_expression(symmetry_var, list(input_vars))
    if len(symbols) != probe.size:
        raise ValueError(f"input_vars must have one symbol for each of the {probe.size} columns of x; got {len(symbols)}.")
    used = [i for i, symbol in enumerate(symbols) if symbol in expression.free_symbols]
    if not used or len(used) < len(expression.free_symbols):
        raise ValueError(f"symmetry_var must be an expression of some of the input_vars {symbols}; got {expression}.")
    if expression.atoms(sympy.core.function.AppliedUndef):  # lambdify would write their names, which may be any text, into code
        raise ValueError(f"symmetry_var must be made of functions that sympy knows; got {expression}.")
    slopes = sympy.lambdify(symbols, [sympy.diff(expression, symbols[i]) for i in used], modules="numpy")
    columns = x.detach().double().cpu().numpy().T
    with np.errstate(all="ignore"):  # samples outside of the expression's domain have no slope
        there = np.stack([np.broadcast_to(np.asarray(slope, dtype=float), columns.shape[1]) for slope in slopes(*columns)], axis=1)
    cosine = torch.nn.functional.cosine_similarity(probe.gradient[:, used], torch.from_numpy(there).to(probe.gradient), dim=1).abs()
    ratio = float((cosine > MIN_SIMILARITY).double().mean())
    say(f"{round(100 * ratio, 4)}% data have more than {MIN_SIMILARITY} cosine similarity")
    say("suggesting symmetry" if ratio > MIN_SIMILARITY else "not suggesting symmetry")
    return cosine
