r"""Hypotheses about a function of several variables, judged by its derivatives at samples.

With gradient ``g`` and Hessian ``H`` of ``f`` at the samples, and the variables' standard deviations ``s``:

* ``f`` is additively separable into groups of variables if ``H_ij s_i s_j`` vanishes between groups, multiplicatively if that of
  ``log |f|`` does, and generally, ``f = F(h(x_A) + k(x_B))``, if the ratio of the slopes ``g_q / g_p`` is multiplicatively separable for
  ``p`` in ``A`` and ``q`` in ``B``.
* ``f = F(h(x_A), rest)``, a symmetry, if the direction ``g_A / |g_A|`` does not depend on the rest.

The model is any function of tensors, ``(B, n)`` to ``(B, 1)`` or ``(B,)``, that treats each sample on its own and can be differentiated two
or three times. What a score is at a sample is judged by its (lower) median over the samples; those where it is not a number, such as zeros
of ``f`` under the logarithm, are left out.

References
    Z. Liu et al., "KAN 2.0: Kolmogorov-Arnold Networks Meet Science", 2024, arXiv:2408.10205, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from kan.analysis.derivatives import batch_hessian, batch_jacobian
from kan.analysis.indices import checked_index
from kan.errors import unknown_name
from kan.formula_text import as_expression

__all__ = [
    "Group",
    "Model",
    "Probe",
    "batch_grad_normgrad",
    "detect_separability",
    "get_dependence",
    "test_general_separability",
    "test_separability",
    "test_symmetry",
    "test_symmetry_var",
]

Model = Callable[[Tensor], Tensor]
Group = Sequence[int]
F = TypeVar("F", bound=Callable[..., Any])

FLOOR = 1e-6
"""Added to the length of a gradient before it is divided by it."""
SIMILAR = 0.9
"""Cosine, and share of the samples, from which on gradients count as parallel."""


def _no_test(function: F) -> F:
    """Keep pytest from taking a function for a test because of its name."""
    vars(function)["__test__"] = False
    return function


class Probe:
    """The derivatives of a model at samples, each computed once.

    Args:
        model: ``(B, n)`` to ``(B, 1)`` or ``(B,)``.
        x: ``(B, n)``, at least two samples.

    Raises:
        TypeError: if `x` is no tensor of floating-point numbers.
        ValueError: for another shape of `x` or of the model's values.
    """

    def __init__(self, model: Model, x: Tensor) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            what = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x must be a tensor of floating-point numbers; got {what}. Convert it with torch.as_tensor(x).")
        if x.dim() != 2 or len(x) < 2:
            raise ValueError(f"x must have the shape (number of samples, variables) with at least two samples; got {tuple(x.shape)}.")
        self.model, self.x = model, x
        self.size = x.shape[1]
        self.spread = x.detach().std(dim=0)
        self._slopes: dict[int, Tensor] = {}

    def values(self, x: Tensor) -> Tensor:
        """``f``, ``(B,)``."""
        y = self.model(x)
        if y.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(
                f"the model must have one output, the shape ({len(x)}, 1) or ({len(x)},); got {tuple(y.shape)}. Choose one of several "
                f"with lambda x: model(x)[:, [0]]."
            )
        return y.reshape(-1)

    @cached_property
    def gradient(self) -> Tensor:
        """``(B, n)``."""
        return batch_jacobian(self.values, self.x).detach()

    @cached_property
    def hessian(self) -> Tensor:
        """``(B, n, n)``."""
        return batch_hessian(self.values, self.x).detach()

    def interactions(self, mode: str, bias: float = 0.0) -> Tensor:
        """``median_b |H_ij s_i s_j|`` of ``f`` (``'add'``) or of ``log |f + bias|`` (``'mul'``), ``(n, n)``."""
        if mode not in ("add", "mul"):
            raise unknown_name("mode", mode, ("add", "mul"))
        if mode == "add":
            return self._score(self.hessian)
        return self._score(batch_hessian(lambda x: (self.values(x) + bias).abs().log(), self.x).detach())

    def _score(self, hessian: Tensor) -> Tensor:
        return _median((hessian * self.spread[:, None] * self.spread).abs())

    def separable(self, groups: Sequence[Group], mode: str, threshold: float, bias: float = 0.0) -> Tensor:
        """Whether the variables of each group interact with no others, 0-dim."""
        return self._apart(self.interactions(mode, bias), groups, threshold)

    def _apart(self, score: Tensor, groups: Sequence[Group], threshold: float) -> Tensor:
        between = torch.zeros_like(score, dtype=torch.bool)
        for group in groups:
            inside = torch.zeros(self.size, dtype=torch.bool, device=score.device)
            inside[list(group)] = True
            between |= inside[:, None] & ~inside
        # What is not a number is not small.
        return (score[between] < threshold).all()

    def generally_separable(self, groups: Sequence[Group], threshold: float) -> Tensor:
        """Whether all ratios of slopes between groups are multiplicatively separable, 0-dim.

        The logarithm of a ratio is a difference, so one Hessian per variable does instead of one per pair.
        """
        result = torch.tensor(True, device=self.x.device)
        for a, first in enumerate(groups):
            for second in groups[a + 1 :]:
                for p in first:
                    for q in second:
                        score = self._score(self._log_slope_hessian(q) - self._log_slope_hessian(p))
                        result = result & self._apart(score, groups, threshold)
                        if not result:
                            return result
        return result

    def _log_slope_hessian(self, v: int) -> Tensor:
        """Hessian of ``log |df/dx_v|``, ``(B, n, n)``."""
        if v not in self._slopes:
            slope = lambda x: batch_jacobian(self.values, x, create_graph=True)[:, v].abs().log()  # noqa: E731
            self._slopes[v] = batch_hessian(slope, self.x).detach()
        return self._slopes[v]

    def dependence(self, group: Group) -> Tensor:
        """How the direction of the gradient within `group` depends on each other variable, ``(|A|, n - |A|)``."""
        rest = _rest(group, self.size)
        change = _direction_change(self.gradient, self.hessian, group, rest)
        return _median((change * self.spread[list(group)][:, None] * self.spread[rest]).abs())

    def symmetric(self, group: Group, threshold: float) -> Tensor:
        """Whether that dependence vanishes, 0-dim."""
        if len(group) in (0, self.size):
            return torch.tensor(True, device=self.x.device)
        return (self.dependence(group) < threshold).all()

    def groups(self, groups: Sequence[Group]) -> list[list[int]]:
        """`groups` without negative indices.

        Raises:
            IndexError: for a variable that does not exist.
            ValueError: if one is named twice.
        """
        found = [[checked_index("variable", i, self.size) for i in group] for group in groups]
        named = [i for group in found for i in group]
        if len(set(named)) < len(named):
            raise ValueError(f"a variable may be named once only; got {[list(group) for group in groups]}.")
        return found


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
    a share of less than `res_th` of all; the accepted one with the most groups is taken.

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
        group. If no clustering is accepted, this is said and all variables are in one group.

    Raises:
        ValueError: for an unknown mode, numbers of groups that there cannot be, or bad samples.
    """
    probe = Probe(model, x)
    tried = _numbers(n_clusters, probe.size)
    score = probe.interactions(mode, bias)
    matrix = score.double().cpu().numpy()
    total, labels, accepted = matrix.sum(), [0] * probe.size, False
    for count in tried:
        found = _clusters(matrix < score_th, count)
        within = np.equal.outer(found, found)
        # A function without any interaction has none between groups.
        residual = float(matrix[~within].sum() / total) if total > 0 else 0.0
        if verbose:
            print(f"n_group={count}, residual_ratio={residual}")
        if residual < res_th:
            labels, accepted = found, True
    groups = [[i for i, label in enumerate(labels) if label == group] for group in range(max(labels) + 1)]
    if not accepted:
        print(f"no clustering into {_listed(tried)} groups has a residual below {res_th:g}; all variables are in one group")
    print(f"{mode} separability {'detected' if len(groups) > 1 else 'not detected'}")
    return {"hessian": score, "n_groups": len(groups), "labels": labels, "groups": groups}


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
    """Whether no variable of a group interacts with one outside of it, whether that is in another group or in none.

    Args:
        model, x: see the module.
        groups: indices of variables.
        mode: ``'add'`` or ``'mul'``.
        threshold: an interaction below it is none.
        bias: added to the model for ``'mul'``.

    Returns:
        0-dim, bool.

    Raises:
        IndexError, ValueError: for variables that do not exist or are named twice, an unknown mode, or bad samples.
    """
    probe = Probe(model, x)
    return probe.separable(probe.groups(groups), mode, threshold, bias)


@_no_test
def test_general_separability(model: Model, x: Tensor, groups: Sequence[Group], threshold: float = 1e-2) -> Tensor:
    """Whether a model is a function of a sum of functions of the groups, ``F(h(x_A) + k(x_B) + ...)``, by the test of the module.

    Args:
        model, x: see the module.
        groups: indices of variables.
        threshold: an interaction in the logarithm of a ratio of slopes below it is none.

    Returns:
        0-dim, bool.

    Raises:
        IndexError, ValueError: for variables that do not exist or are named twice, or bad samples.
    """
    probe = Probe(model, x)
    return probe.generally_separable(probe.groups(groups), threshold)


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
    return probe.dependence(probe.groups([group])[0])


@_no_test
def test_symmetry(model: Model, x: Tensor, group: Group, dependence_th: float = 1e-3) -> Tensor:
    """Whether a model is a function of a function of the group and the other variables, ``F(h(x_A), rest)``.

    Args:
        model, x: see the module.
        group: indices of variables; for none or all of them the answer is yes.
        dependence_th: what `get_dependence` must be below.

    Returns:
        0-dim, bool.

    Raises:
        IndexError, ValueError: for variables that do not exist or are named twice, or bad samples.
    """
    probe = Probe(model, x)
    return probe.symmetric(probe.groups([group])[0], dependence_th)


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
    print(f"{100 * ratio}% data have more than {SIMILAR} cosine similarity")
    print("suggesting symmetry" if ratio > SIMILAR else "not suggesting symmetry")
    return cosine
