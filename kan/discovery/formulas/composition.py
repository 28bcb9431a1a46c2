r"""The formula that a symbolic network computes.

Constants that a power can hand on are moved where they are easiest to read, without changing the value: ``c (a u)^p -> (c a^p) u^p``;
sympy itself
does ``c exp(u + h) -> (c e^h) exp(u)``. They stay where the new coefficient would be far from one: a term ``1e-10 (u + 445)^3`` reads
badly and is
gone when its numbers are rounded.

A numeric edge has no formula. On demand it appears as an undefined function ``phi_l_i_j`` of its input, with the curve beside the formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import Tensor

from kan.discovery.formulas.edge_spline import EdgeSpline
from kan.discovery.formulas.rounding import slow
from kan.errors import some_of, unknown_name
from kan.formula_text import as_expression
from kan.network.network import Network

if TYPE_CHECKING:
    import sympy

__all__ = ["Composition", "stated_normalizers", "symbolic_formula"]

READABLE = 100.0
"""Constants are not moved into a coefficient that then is beyond this or below its inverse, unless it was as far from one before."""

NUMERIC = ("raise", "function")
"""What becomes of numeric edges."""


class Composition(NamedTuple):
    """A network written out.

    Attributes:
        outputs: their expressions.
        inputs: the input variables, or the expressions that stand for them.
        nodes: expressions of all nodes, per layer of nodes.
        subnodes: of all sub-nodes, per layer from the first hidden one on.
        functions: what is not sympy's in them: curves of numeric edges and functions of `add_symbolic`, by name, as functions of a tensor.
    """

    outputs: list[sympy.Expr]
    inputs: list[sympy.Expr]
    nodes: list[list[sympy.Expr]]
    subnodes: list[list[sympy.Expr]]
    functions: dict[str, Callable[[Tensor], Tensor]]


def symbolic_formula(
    network: Network,
    var: Sequence[Any] | None = None,
    normalizer: Sequence[Any] | None = None,
    output_normalizer: Sequence[Any] | None = None,
    numeric: Literal["raise", "function"] = "raise",
) -> Composition:
    """The formulas of all outputs.

    Args:
        network: every edge of which is symbolic or switched off.
        var: names or sympy expressions of the inputs, or of all columns of the data, some of which `prune_input` may have dropped; the
            network's `in_vars` when not given, and without these ``x_1, x_2, ...``.
        normalizer: ``[mean, std]``: the network was trained on ``(x - mean)/std`` and the formula is wanted in ``x``; what the
            network's `normalizer` says when not given. A map that the network applies itself is a part of its formula in any case.
        output_normalizer: ``[mean, std]``: the formula is wanted of ``output * std + mean``; likewise.
        numeric: ``"raise"`` refuses numeric edges, ``"function"`` lets them appear as functions ``phi_l_i_j``.

    Raises:
        ValueError: if an edge is not symbolic or its function unknown to sympy, a list has the wrong length, or for another `numeric`.
    """
    import sympy

    if numeric not in NUMERIC:
        raise unknown_name("value of numeric:", numeric, NUMERIC)

    splines = [
        (l, i, j)
        for l, layer in enumerate(network.numeric_layers)
        for i, row in enumerate(layer.mask.tolist())
        for j, on in enumerate(row)
        if on != 0
    ]
    if splines and numeric == "raise":
        raise ValueError(
            f"make sure all activations need to be converted to symbolic formulas first! {len(splines)} edge(s) (layer, input, output) are "
            f"still splines: {some_of(splines)}. Use auto_symbolic(), fix_symbolic(l, i, j, name), or remove_edge(l, i, j). With "
            f"numeric='function' they appear in the formula as functions phi_l_i_j."
        )
    named = {f"phi_{l}_{i}_{j}": (l, i, j) for l, i, j in splines}
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        name: EdgeSpline(network.numeric_layers[l], i, j, network.base_fun_name) for name, (l, i, j) in named.items()
    }
    if var is None:
        var = network.used(network.in_vars or [f"x_{column + 1}" for column in range(network.input_width)])
    elif isinstance(var, Iterable):
        var = network.of_inputs(var)
    else:
        raise TypeError(f"var must be a list of the names of the inputs; got {var!r}. To round a formula, use ex_round(formula, n_digit).")
    normalizer, output_normalizer = stated_normalizers(network, normalizer, output_normalizer)
    inputs = [sympy.Symbol(name) if isinstance(name, str) else as_expression(name) for name in var]
    _check_length("var", inputs, network.width_in[0])
    nodes = [list(inputs)]
    own = network.applied("normalizer")
    for pair in (normalizer, None if own is None else [network.used(part) for part in own]):
        if pair is not None:
            mean, std = (_numbers(part, "normalizer", network.width_in[0]) for part in pair)
            nodes[0] = [(x - m) / s for x, m, s in zip(nodes[0], mean, std, strict=True)]
    subnodes: list[list[sympy.Expr]] = []
    for l in range(network.depth):
        sums = _layer_sums(network, l, nodes[-1], named, functions)
        scale, bias = network.subnode_scale[l].tolist(), network.subnode_bias[l].tolist()
        subnodes.append([_affine(s, a, b) for s, a, b in zip(sums, scale, bias, strict=True)])
        scale, bias = network.node_scale[l].tolist(), network.node_bias[l].tolist()
        products = [sympy.Mul(*(subnodes[-1][s] for s in network.structure.subnodes(l + 1, i))) for i in range(network.width_in[l + 1])]
        nodes.append([_affine(p, a, b) for p, a, b in zip(products, scale, bias, strict=True)])
    for pair in (network.applied("output_normalizer"), output_normalizer):
        if pair is not None:
            mean, std = (_numbers(part, "output_normalizer", len(nodes[-1])) for part in pair)
            nodes[-1] = [_affine(y, s, m) for y, m, s in zip(nodes[-1], mean, std, strict=True)]
    return Composition(nodes[-1], inputs, nodes, subnodes, functions)


def stated_normalizers(
    network: Network, normalizer: Sequence[Any] | None = None, output_normalizer: Sequence[Any] | None = None
) -> tuple[Sequence[Any] | None, Sequence[Any] | None]:
    """What inputs and outputs were normalised with outside of `network`: what is given, or else what its labels say."""
    stated = network.stated_labels()
    if normalizer is not None:
        normalizer = [network.of_inputs(part) for part in normalizer]
    elif "normalizer" in stated:
        normalizer = [network.used(part) for part in stated["normalizer"]]
    return normalizer, stated.get("output_normalizer") if output_normalizer is None else output_normalizer


def _layer_sums(
    network: Network,
    l: int,
    inputs: Sequence[sympy.Expr],
    splines: dict[str, tuple[int, int, int]],
    functions: dict[str, Callable[[Tensor], Tensor]],
) -> list[sympy.Expr]:
    """Sums of the edges of each sub-node, with `splines` by their names. Functions that are not sympy's are added to `functions`."""
    import sympy
    from sympy.core.function import AppliedUndef

    layer = network.symbolic_layers[l]
    mask, affine = layer.mask.tolist(), layer.affine.tolist()
    terms: list[list[sympy.Expr]] = [[] for _ in range(layer.out_dim)]
    for name, (at, i, j) in splines.items():
        if at == l:
            terms[j].append(sympy.Function(name)(inputs[i]))
    if network.symbolic_enabled:
        for j, i in sorted(layer.active()):
            a, b, c, d = affine[j][i]
            name, function = layer.function(i, j)
            try:
                value = _applied(function.sympy_fun, _affine(inputs[i], a, b))
            except (TypeError, AttributeError) as error:
                raise ValueError(
                    f"the function {name!r} of the edge ({l}, {i}, {j}) takes no sympy expression ({error}). Register it with add_symbolic "
                    f"and fix the edge by that name, or write one that does into symbolic_fun[{l}].funs_sympy[{j}][{i}]."
                ) from error
            if isinstance(value, AppliedUndef):
                functions.setdefault(type(value).__name__, function.torch_fun)
            coefficient, value = _moved(mask[j][i] * c, value)
            terms[j].append(_affine(value, coefficient, mask[j][i] * d))
    return [sympy.Add(*parts) for parts in terms]


def _applied(sympy_fun: Callable[[Any], Any], argument: sympy.Expr) -> Any:
    """A function of the library of an argument."""
    import sympy

    if slow(argument):
        variable = sympy.Dummy()
        plain = sympy_fun(variable)
        if isinstance(plain, sympy.Function) and plain.args == (variable,):
            return plain.func(argument, evaluate=False)
    return sympy_fun(argument)


def _moved(coefficient: float, value: sympy.Expr) -> tuple[float | sympy.Expr, sympy.Expr]:
    """``coefficient * value`` with constants of `value` moved into the coefficient, where that reads well."""
    factor, rest = _parted(value)
    if coefficient == 0 or factor == 1:
        return coefficient, value
    before, after = (abs(math.log(abs(float(c)))) for c in (coefficient, coefficient * factor))
    return (coefficient * factor, rest) if after <= max(before, math.log(READABLE)) else (coefficient, value)


def _parted(value: sympy.Expr) -> tuple[float | sympy.Expr, sympy.Expr]:
    """``value = factor * rest`` with as much of the constants as possible in `factor`."""
    import sympy

    factor, rest = sympy.S.One, value
    if isinstance(rest, sympy.Pow) and rest.exp.is_number and isinstance(rest.base, sympy.Add):
        content = _leading(rest.base)
        if content.is_positive or (content.is_negative and rest.exp.is_integer):
            factor, rest = content**rest.exp, sympy.expand_mul(rest.base / content) ** rest.exp
    return factor, rest


def _leading(sum_: sympy.Expr) -> sympy.Expr:
    """The coefficient of the first term of a sum that is not a number."""
    for term in sum_.args:
        if not term.is_number:
            return term.as_coeff_Mul()[0]
    return sum_.func.identity


def _affine(value: sympy.Expr, scale: Any, bias: Any) -> sympy.Expr:
    """``scale * value + bias``, without the operations that do nothing."""
    if scale == -1:
        value = -value
    elif scale != 1:
        value = scale * value
    return value + bias if bias != 0 else value


def _numbers(values: Any, name: str, size: int) -> list[float]:
    numbers = [float(v) for v in values]
    _check_length(name, numbers, size)
    return numbers


def _check_length(name: str, values: Sequence[Any], size: int) -> None:
    if len(values) != size:
        raise ValueError(f"{name} must have {size} entries; got {len(values)}.")
