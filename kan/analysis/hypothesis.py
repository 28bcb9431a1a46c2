r"""Hypotheses about a function of several variables, judged at samples.

* ``f`` is additively separable into groups of variables if it is a sum of functions of one group each, multiplicatively if it is their
  product, and generally if it is ``F(h(x_A) + k(x_B) + ...)``.
* ``f = F(h(x_A), rest)`` is a symmetry.

The tests of these are those of `kan.analysis.misses`, the thresholds the largest misses that are granted. Besides, there are pykan's
scores, which have the units of ``f`` or of ``x``. With the gradient ``g``, the Hessian ``H`` and the standard deviations ``s`` of the
variables, these are the interaction ``H_ij s_i s_j``, of ``f`` or of ``log |f|``, and the dependence of the direction ``g_A / |g_A|`` on
other variables. What a score is at a sample is judged by its (lower) median over the samples; those where it is not a number, such as zeros
of ``f`` under the logarithm, are left out.

The model is any function of tensors, ``(B, n)`` to ``(B, 1)`` or ``(B,)``, that treats each sample on its own and can be differentiated.

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

FLOOR = 1e-6
"""Added to the length of a gradient before it is divided by it."""
SIMILAR = 0.9
"""Cosine, and share of the samples, from which on gradients count as parallel."""


def _no_test(function: F) -> F:
    """Keep pytest from taking a function for a test because of its name."""
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
    """Misses of a sum (``'add'``) or a product (``'mul'``) of a function of each group and one of all else."""
    with Misses(lambda x: model(x) + bias, x) as misses:
        test = misses.sum if mode == "add" else misses.product
        return [test(group) for group in groups if 0 < len(group) < misses.size]


def _median(values: Tensor) -> Tensor:
    """Lower median over the samples, of the numbers among the values."""
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
    change: Tensor = h / (length + FLOOR) - g[:, :, None] * lengthening / (length + FLOOR) ** 2
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

    Variables are clustered (complete linkage) by whether they interact. A clustering is accepted if interactions between its groups are
    a share of less than `res_th` of all, and if no group misses being separable by more than that (see `kan.analysis.misses`), which
    derivatives alone do not show: those of ``max(x_1, x_2)`` do not interact. The accepted one with the most groups is taken.

    Args:
        model, x: see the module.
        mode: ``'add'`` or ``'mul'``.
        score_th: least interaction, see the module, of variables that belong together.
        res_th: see above.
        n_clusters: the numbers of groups to try: one, or the first and the last ``[low, high]``; all when not given.
        bias: added to the model for ``'mul'``.
        verbose: print the share for every number of groups.

    Returns:
        ``hessian``, the interactions ``(n, n)``; ``n_groups``; ``labels``, the group of every variable; ``groups``, the variables of every
        group; ``misses``, by how much each group misses being separable from all else, none for a single group. If no clustering is
        accepted, this is said and all variables are in one group.

    Raises:
        ValueError: for an unknown mode, numbers of groups that there cannot be, or bad samples.
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
        model, x: see the module.
        groups: indices of variables.
        mode: ``'add'`` or ``'mul'``.
        threshold: largest miss that is granted, see `kan.analysis.misses`.
        bias: added to the model for ``'mul'``.

    Returns:
        0-dim, bool.

    Raises:
        IndexError, ValueError: for variables that do not exist or are named twice, an unknown mode, or bad samples.
    """
    _checked_mode(mode)
    return _all_within(_separabilities(model, x, Probe(model, x).groups(groups), mode, bias), threshold, x)


@_no_test
def test_general_separability(model: Model, x: Tensor, groups: Sequence[Group], threshold: float = 1e-2) -> Tensor:
    """Whether a model is a function of a sum of functions of the groups, ``F(h(x_A) + k(x_B) + ...)``, by the test of the module.

    Args:
        model, x: see the module.
        groups: indices of variables.
        threshold: largest miss that is granted, see `kan.analysis.misses`.

    Returns:
        0-dim, bool.

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
    """Derivatives with respect to the other variables of the direction ``g_A / (|g_A| + 1e-6)`` that the gradient has within a group.

    Args:
        model, x: see the module.
        group: indices of variables.
        create_graph: whether the result can be differentiated.

    Returns:
        ``(B, |A|, n - |A|)``, the other variables in ascending order.

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
    """Whether a model is a function of a function of the group and the other variables, ``F(h(x_A), rest)``.

    Args:
        model, x: see the module.
        group: indices of variables; for none or all of them the answer is yes.
        dependence_th: largest miss that is granted, see `kan.analysis.misses`.

    Returns:
        0-dim, bool.

    Raises:
        IndexError, ValueError: for variables that do not exist or are named twice, or bad samples.
    """
    (group,) = Probe(model, x).groups([group])
    with Misses(model, x) as misses:
        return _all_within([misses.symmetry(group, _rest(group, misses.size))], dependence_th, x)


@_no_test
def test_symmetry_var(model: Model, x: Tensor, input_vars: Sequence[Any], symmetry_var: Any) -> Tensor:
    """Whether a model depends on some variables through a given expression only: whether the two gradients are parallel.

    Args:
        model, x: see the module.
        input_vars: sympy symbols of the columns of `x`.
        symmetry_var: sympy expression of some of them, or its text, which is parsed and not executed.

    Returns:
        ``|cos|`` of the angle between both gradients within the variables of the expression, ``(B,)``. The share of samples with more than
        0.9 is printed, and what it suggests.

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
    ratio = float((cosine > SIMILAR).double().mean())
    say(f"{round(100 * ratio, 4)}% data have more than {SIMILAR} cosine similarity")
    say("suggesting symmetry" if ratio > SIMILAR else "not suggesting symmetry")
    return cosine
