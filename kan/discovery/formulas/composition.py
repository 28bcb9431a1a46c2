r"""The formula that a symbolic network computes, composed layer by layer.

Constants inside powers are moved to the coefficient, ``c (a u)^p -> (c a^p) u^p``, which does not change the value and makes the formula
easier to read. sympy itself does the same for exponentials, ``c exp(u + h) -> (c e^h) exp(u)``. Constants are not moved if the new
coefficient would be far from 1, since a term such as ``1e-10 (u + 445)^3`` is hard to read and disappears when its numbers are rounded.

A numeric edge has no formula. On request it appears as an undefined function ``phi_l_i_j`` of its input, whose curve is returned as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import Tensor

from kan.discovery.formulas.edge_spline import EdgeSpline
from kan.discovery.formulas.rounding import has_slow_simplification
from kan.errors import some_of, unknown_name
from kan.formula_text import as_expression
from kan.network.network import Network

if TYPE_CHECKING:
    import sympy

__all__ = ["Composition", "stated_normalizers", "symbolic_formula"]

MAX_READABLE_COEFFICIENT = 100.0
"""Largest size of a coefficient, and inverse of its smallest size, up to which constants are moved into it. They are also moved if that
brings the coefficient no farther from 1."""

NUMERIC = ("raise", "function")
"""Ways of treating numeric edges."""


class Composition(NamedTuple):
    """The expressions that a network computes.

    Attributes:
        outputs: the expressions of the outputs.
        inputs: the input variables, or the expressions that were given in their place.
        nodes: the expressions of all nodes, for each layer of nodes.
        subnodes: the expressions of all sub-nodes, for each layer from the first hidden one on.
        functions: the functions in these that sympy does not know, by their names, as functions of a tensor. They are the curves of
            numeric edges and functions of `add_symbolic`.
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
    """The formulas of the outputs of a network, and of all its nodes.

    Args:
        network: a network every edge of which is symbolic or switched off.
        var: names or sympy expressions for the inputs, or for all columns of the data if `prune_input` has dropped some. When not given,
            the network's `in_vars` are used, and without these ``x_1, x_2, ...``.
        normalizer: ``[mean, std]`` if the network was trained on ``(x - mean)/std`` and the formula is to be one in ``x``. When not given,
            it is what the network's `normalizer` says. A map that the network itself applies is part of its formula in any case.
        output_normalizer: ``[mean, std]`` if the formula is to be one for ``output * std + mean``; otherwise as `normalizer`.
        numeric: ``"raise"`` makes numeric edges an error. With ``"function"`` they appear as functions ``phi_l_i_j``.

    Raises:
        ValueError: if an edge is numeric, sympy does not know its function, a list has the wrong length, or `numeric` has another value.
    """
    import sympy

    if numeric not in NUMERIC:
        raise unknown_name("value of numeric:", numeric, NUMERIC)
    splines = _numeric_edges(network)
    if splines and numeric == "raise":
        raise ValueError(
            f"make sure all activations need to be converted to symbolic formulas first! {len(splines)} edge(s) (layer, input, output) are "
            f"still splines: {some_of(list(splines.values()))}. Use auto_symbolic(), fix_symbolic(l, i, j, name), or remove_edge(l, i, j). "
            f"With numeric='function' they appear in the formula as functions phi_l_i_j."
        )
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        name: EdgeSpline(network.numeric_layers[l], i, j, network.base_fun_name) for name, (l, i, j) in splines.items()
    }
    inputs = _input_expressions(network, var)
    normalizer, output_normalizer = stated_normalizers(network, normalizer, output_normalizer)
    own = network.applied("normalizer")
    values = inputs
    for pair in (normalizer, None if own is None else [network.used(part) for part in own]):
        if pair is not None:
            mean, std = (_numbers(part, "normalizer", network.width_in[0]) for part in pair)
            values = [(x - m) / s for x, m, s in zip(values, mean, std, strict=True)]

    nodes, subnodes = [list(values)], list[list[sympy.Expr]]()
    for l in range(network.depth):
        sums = _layer_sums(network, l, nodes[-1], splines, functions)
        subnodes.append(_affine_maps(sums, network.subnode_scale[l].tolist(), network.subnode_bias[l].tolist()))
        products = [sympy.Mul(*(subnodes[-1][s] for s in network.structure.subnodes(l + 1, i))) for i in range(network.width_in[l + 1])]
        nodes.append(_affine_maps(products, network.node_scale[l].tolist(), network.node_bias[l].tolist()))
    for pair in (network.applied("output_normalizer"), output_normalizer):
        if pair is not None:
            mean, std = (_numbers(part, "output_normalizer", len(nodes[-1])) for part in pair)
            nodes[-1] = _affine_maps(nodes[-1], std, mean)
    return Composition(nodes[-1], inputs, nodes, subnodes, functions)


def _numeric_edges(network: Network) -> dict[str, tuple[int, int, int]]:
    """The edges ``(l, i, j)`` whose splines are on, by the names ``phi_l_i_j``."""
    edges = ((l, i, j) for l, layer in enumerate(network.numeric_layers) for i, j in layer.mask.nonzero().tolist())
    return {f"phi_{l}_{i}_{j}": (l, i, j) for l, i, j in edges}


def _input_expressions(network: Network, var: Any) -> list[sympy.Expr]:
    """The sympy expressions of the inputs for the argument `var` of `symbolic_formula`."""
    import sympy

    if var is None:
        var = network.used(network.in_vars or [f"x_{column + 1}" for column in range(network.input_width)])
    elif isinstance(var, Iterable):
        var = network.of_inputs(var)
    else:
        raise TypeError(f"var must be a list of the names of the inputs; got {var!r}. To round a formula, use ex_round(formula, n_digit).")
    inputs = [sympy.Symbol(name) if isinstance(name, str) else as_expression(name) for name in var]
    _check_length("var", inputs, network.width_in[0])
    return inputs


def stated_normalizers(
    network: Network, normalizer: Sequence[Any] | None = None, output_normalizer: Sequence[Any] | None = None
) -> tuple[Sequence[Any] | None, Sequence[Any] | None]:
    """The normalisations of inputs and outputs that a network does not apply itself: those given, or else those in its labels."""
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
    """The sum of the edges into each sub-node of a layer.

    Args:
        network: the network.
        l: the layer of edges.
        inputs: the expressions of the nodes at which the edges start.
        splines: the numeric edges by their names.
        functions: functions that sympy does not know, by name, to which those of this layer are added.
    """
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
    """The expression ``f(argument)``, without sympy's simplification where that would be slow."""
    import sympy

    if has_slow_simplification(argument):
        variable = sympy.Dummy()
        value = sympy_fun(variable)
        if isinstance(value, sympy.Function) and value.args == (variable,):
            return value.func(argument, evaluate=False)
    return sympy_fun(argument)


def _moved(coefficient: float, value: sympy.Expr) -> tuple[float | sympy.Expr, sympy.Expr]:
    """The product ``coefficient * value`` with constants of `value` moved into the coefficient, if that stays readable."""
    factor, rest = _split(value)
    if coefficient == 0 or factor == 1:
        return coefficient, value
    before, after = (abs(math.log(abs(float(c)))) for c in (coefficient, coefficient * factor))
    return (coefficient * factor, rest) if after <= max(before, math.log(MAX_READABLE_COEFFICIENT)) else (coefficient, value)


def _split(value: sympy.Expr) -> tuple[float | sympy.Expr, sympy.Expr]:
    """The pair ``(factor, rest)`` with ``value = factor * rest`` and a constant factor, which is 1 if `value` is not a power of a sum."""
    import sympy

    factor, rest = sympy.S.One, value
    if isinstance(rest, sympy.Pow) and rest.exp.is_number and isinstance(rest.base, sympy.Add):
        content = _leading(rest.base)
        if content.is_positive or (content.is_negative and rest.exp.is_integer):
            factor, rest = content**rest.exp, sympy.expand_mul(rest.base / content) ** rest.exp
    return factor, rest


def _leading(sum_: sympy.Expr) -> sympy.Expr:
    """The coefficient of the first term of a sum that depends on a variable."""
    for term in sum_.args:
        if not term.is_number:
            return term.as_coeff_Mul()[0]
    return sum_.func.identity


def _affine(value: sympy.Expr, scale: Any, bias: Any) -> sympy.Expr:
    """The expression ``scale * value + bias``, without multiplication by 1 and addition of 0."""
    if scale == -1:
        value = -value
    elif scale != 1:
        value = scale * value
    return value + bias if bias != 0 else value


def _affine_maps(values: Sequence[sympy.Expr], scales: Sequence[Any], biases: Sequence[Any]) -> list[sympy.Expr]:
    """An affine map of each expression."""
    return [_affine(value, scale, bias) for value, scale, bias in zip(values, scales, biases, strict=True)]


def _numbers(values: Any, name: str, size: int) -> list[float]:
    """The `values` as `size` numbers."""
    numbers = [float(v) for v in values]
    _check_length(name, numbers, size)
    return numbers


def _check_length(name: str, values: Sequence[Any], size: int) -> None:
    if len(values) != size:
        raise ValueError(f"{name} must have {size} entries; got {len(values)}.")
