r"""Compilation of a formula into a network that computes it.

The network is the expression tree of the formula. Each node computes ``scale * v + bias``, where ``v`` is one of

    a sum          ``sum_t c_t f_t(u_t) + d_t``       a sum node with one edge per term
    a product      ``prod_r (s_r (sum ...) + b_r)``   a multiplication node with one sub-node per factor
    ``f(u)``                                          a sum node with one edge

and every argument ``u`` is either a node of the layer below or ``a x + b`` for a variable ``x``. Affine maps are composed exactly, as
numbers of sympy, and rounded once. The variables are the inputs, and identity edges pass them on to the layers where they are needed. Two
edges from a variable to the same sub-node, as for ``x + sin(x)``, would be one edge of the network. An additional layer then provides a
node for each of them.

Functions that are not in the library are composed of functions that are: other powers of products and roots, ``2**x`` and ``x**y`` of
``exp`` and ``log``, and hyperbolic functions of ``exp`` (see `REWRITTEN`). Checkpoints can therefore name every function of a compiled
network.

Source
    Z. Liu et al., "KAN 2.0: Kolmogorov-Arnold Networks Meet Science", 2024, arXiv:2408.10205, section on the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from kan.discovery.formulas.compiler_nodes import Edge, Node, Subnode, laid_out
from kan.formula_text import as_expression
from kan.network.network import Network
from kan.symbolic.library import SYMBOLIC_LIB

if TYPE_CHECKING:
    import sympy

__all__ = ["LIBRARY", "REWRITTEN", "compiled", "next_nontrivial_operation", "rewrites"]

N = TypeVar("N", bound=Network)

LIBRARY = {
    "exp": "exp", "sin": "sin", "cos": "cos", "tan": "tan", "log": "log", "tanh": "tanh", "asin": "arcsin", "acos": "arccos",
    "atan": "arctan", "atanh": "arctanh", "sign": "sgn", "Abs": "abs",
}  # fmt: skip
"""Names in the library of functions, by sympy's names."""

MAX_LIBRARY_POWER = 5
"""Largest exponent of the integer powers in the library."""

ROOTS = (1, 2, 4, 8)
"""Denominators of the exponents that are composed of square roots; powers with other exponents are composed of ``exp`` and ``log``."""


def compiled(build: Callable[[list[list[int]], list[list[int]]], N], input_variables: Sequence[Any], expr: sympy.Expr) -> N:
    """A network that computes a formula with symbolic edges only.

    Args:
        build: a function that makes a network from its ``width`` and its ``mult_arity``.
        input_variables: sympy symbols or names, in the order of the inputs. The input of a variable that does not occur has no effect.
        expr: a real sympy expression.

    Raises:
        TypeError: if `expr` is not a sympy expression.
        ValueError: if `expr` contains other symbols, or a part that cannot be composed of the library's functions; the message names it.
    """
    variables = _variables(input_variables)
    root = _Builder(variables).node(_checked(expr, variables))
    layers = laid_out(root)
    arities = [[len(node.subnodes) for node in nodes if len(node.subnodes) > 1] for nodes in layers]
    width = [[len(nodes) - len(arity), len(arity)] for nodes, arity in zip(layers, arities, strict=True)]
    width[0] = [len(variables), 0]

    network = build(width, arities)
    _fill(network, layers)
    return network


def next_nontrivial_operation(expr: sympy.Expr, scale: Any = 1, bias: Any = 0) -> tuple[sympy.Expr, Any, Any]:
    """Split an expression into an affine map and the rest: ``(e, s, b)`` such that ``scale * expr + bias = s * e + b``.

    Numeric addends and factors are removed repeatedly, so that nested affine maps are composed. For a number, ``e`` is 0.

    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> next_nontrivial_operation(sympy.pi * (x + 1) + 3)
    (x, pi, 3 + pi)
    """
    import sympy

    while True:
        if not expr.free_symbols:
            return sympy.S.Zero, scale, bias + scale * expr
        numbers = [part for part in expr.args if not part.free_symbols] if expr.is_Add or expr.is_Mul else []
        if not numbers:
            return expr, scale, bias
        rest = [part for part in expr.args if part.free_symbols]
        if expr.is_Add:
            bias = bias + scale * sympy.Add(*numbers)
        else:
            scale = scale * sympy.Mul(*numbers)
        # Not evaluated: products that were taken apart on purpose must not become powers again.
        expr = rest[0] if len(rest) == 1 else expr.func(*rest, evaluate=False)


def _variables(input_variables: Sequence[Any]) -> list[sympy.Symbol]:
    import sympy

    variables = [sympy.Symbol(variable) if isinstance(variable, str) else variable for variable in input_variables]
    if not variables or len(set(variables)) < len(variables) or not all(isinstance(variable, sympy.Symbol) for variable in variables):
        raise ValueError(f"input_variables must be a list of different sympy symbols, at least one; got {list(input_variables)!r}.")
    return variables


def _checked(expr: Any, variables: Sequence[sympy.Symbol]) -> sympy.Expr:
    import sympy

    if isinstance(expr, (int, float)) and not isinstance(expr, bool):
        expr = as_expression(expr)
    if not isinstance(expr, sympy.Expr):
        raise TypeError(f"expr must be one sympy expression, such as sympy.sin(x) + y**2; got {type(expr).__name__}.")
    unknown = sorted(map(str, expr.free_symbols - set(variables)))
    if unknown:
        raise ValueError(
            f"'{expr}' contains {', '.join(unknown)}, but the input variables are {', '.join(map(str, variables))}. Add what is missing to "
            f"input_variables, or put numbers in its place with expr.subs."
        )
    return expr


class _Builder:
    """Builds the tree of nodes of an expression, with one node for equal subexpressions.

    Args:
        variables: the symbols of the inputs.
    """

    def __init__(self, variables: Sequence[sympy.Symbol]) -> None:
        self.index = {variable: i for i, variable in enumerate(variables)}
        self.known: dict[sympy.Expr, Node] = {}

    def node(self, expr: sympy.Expr) -> Node:
        """The node that computes an expression; equal expressions have the same node."""
        if expr not in self.known:
            self.known[expr] = self.new_node(expr)
        return self.known[expr]

    def new_node(self, expr: sympy.Expr) -> Node:
        """A new node for an expression."""
        core, scale, bias = self.stripped(expr)
        if core.is_Mul:
            return Node([self.factor(part) for part in core.args], _number(scale), _number(bias))
        return Node([Subnode(self.edges(core))], _number(scale), _number(bias))

    def factor(self, expr: sympy.Expr) -> Subnode:
        """The sub-node that computes a factor of a product."""
        core, scale, bias = self.stripped(expr)
        return Subnode(self.edges(core), _number(scale), _number(bias))

    def edges(self, core: sympy.Expr) -> list[Edge]:
        """One edge per term of a sum, one edge for any other expression, and none for 0."""
        if core == 0:
            return []
        return [self.edge(*self.stripped(part)) for part in (core.args if core.is_Add else (core,))]

    def edge(self, core: sympy.Expr, c: Any, d: Any) -> Edge:
        """The edge that computes ``c core + d``."""
        if core in self.index:
            return Edge("x", _numbers(1, 0, c, d), self.index[core])
        if core.is_Add or core.is_Mul or core == 0:
            return Edge("x", _numbers(1, 0, c, d), self.node(core))
        name, argument = self.applied(core)
        inner, a, b = self.stripped(argument)
        if inner in self.index:
            return Edge(name, _numbers(a, b, c, d), self.index[inner])
        return Edge(name, _numbers(1, 0, c, d), self.node(argument))

    def stripped(self, expr: sympy.Expr) -> tuple[sympy.Expr, Any, Any]:
        """`next_nontrivial_operation`, after functions and powers that are not in the library are rewritten as sums and products."""
        core, scale, bias = next_nontrivial_operation(expr)
        while (other := _rewritten(core)) is not None:
            core, scale, bias = next_nontrivial_operation(other, scale, bias)
        return core, scale, bias

    def applied(self, core: sympy.Expr) -> tuple[str, sympy.Expr]:
        """The name in the library of a function or power, and its argument."""
        import sympy
        from sympy.core.function import AppliedUndef

        if core.is_Pow:
            return _power(core)
        kind = type(core).__name__
        if isinstance(core, AppliedUndef) and kind in SYMBOLIC_LIB and len(core.args) == 1:
            return kind, core.args[0]
        if isinstance(core, sympy.Function) and kind in LIBRARY and len(core.args) == 1:
            return LIBRARY[kind], core.args[0]
        known = ", ".join(sorted({*LIBRARY, *REWRITTEN}))
        raise ValueError(
            f"'{core}' cannot be computed by a network: {kind} is not among the functions {known}, and is not registered. Rewrite it with "
            f"these, or register a function of one argument with add_symbolic and use sympy.Function of that name."
        )


def _power(core: sympy.Expr) -> tuple[str, sympy.Expr]:
    """The name in the library of the outermost of the functions that a power is composed of, and its argument."""
    import sympy

    base, exponent = core.args
    fraction = _fraction(exponent)
    if fraction is None or fraction.denominator not in ROOTS:
        return _exponential(core)
    p, q = fraction.numerator, fraction.denominator
    if p == q:
        return "x", base
    if q == 1 and abs(p) <= MAX_LIBRARY_POWER:
        return _integer_power(p), base
    if q > 1 and p in (1, -1, 3):
        return {1: "x^0.5", -1: "1/x^0.5", 3: "x^1.5"}[p], base ** sympy.Rational(2, q)
    # One factor of the exponent is applied last. Primes above `MAX_LIBRARY_POWER` get here with a negative sign only, see `_rewritten`.
    outer = _divisor(abs(p))
    return _integer_power(outer if p > 0 else -outer), base ** sympy.Rational(abs(p) // outer, q)


def _exponential(core: sympy.Expr) -> tuple[str, sympy.Expr]:
    """``b**e`` as ``exp(e log b)``."""
    import sympy

    base, exponent = core.args
    if (not base.free_symbols and not base.is_positive) or (not exponent.free_symbols and exponent.is_real is False):
        raise ValueError(f"'{core}' cannot be computed by a network: it is not real. Only powers of positive numbers are real in general.")
    return "exp", sympy.Mul(exponent, sympy.log(base))


def _integer_power(n: int) -> str:
    name = "x" if abs(n) == 1 else f"x^{abs(n)}"
    return name if n > 0 else f"1/{name}"


def _divisor(n: int) -> int:
    """The largest divisor of `n` that is an exponent in the library."""
    return next(d for d in range(MAX_LIBRARY_POWER, 0, -1) if n % d == 0)


def _fraction(exponent: sympy.Expr) -> Fraction | None:
    """The exponent as a fraction; None if it is not rational, or a floating-point number that is not a multiple of 1/8."""
    if exponent.is_Rational:
        return Fraction(int(exponent.p), int(exponent.q))
    if exponent.is_Float and float(exponent) * ROOTS[-1] == int(float(exponent) * ROOTS[-1]):
        return Fraction(float(exponent))
    return None


def _rewritten(core: sympy.Expr) -> sympy.Expr | None:
    """The sum or product that replaces a function or power that is not in the library; None if there is no need to replace it."""
    import sympy

    if core.is_Pow:
        fraction = _fraction(core.exp)
        if fraction is None or fraction.denominator not in ROOTS:
            return None
        p, q = fraction.numerator, fraction.denominator
        if p <= MAX_LIBRARY_POWER or _divisor(p) > 1:
            return None
        # A prime exponent has no factor that is in the library: u^7 = u^6 u.
        return sympy.Mul(core.base ** sympy.Rational(p - 1, q), core.base ** sympy.Rational(1, q), evaluate=False)
    kind = type(core).__name__
    return rewrites()[kind](*core.args) if isinstance(core, (sympy.Function, sympy.Max, sympy.Min)) and kind in REWRITTEN else None


REWRITTEN = (
    "Heaviside", "Max", "Min", "acosh", "acot", "acoth", "acsc", "acsch", "asec", "asech", "asinh", "conjugate", "cosh", "cot", "coth",
    "csc", "csch", "im", "re", "sec", "sech", "sinh",
)  # fmt: skip
"""Names in sympy of the functions that are composed of others."""


@cache
def rewrites() -> dict[str, Callable[..., sympy.Expr]]:
    """For each name in `REWRITTEN`, a function from its arguments to the expression that replaces it."""
    from sympy import Abs, Integer, Rational, acos, asin, atan, atanh, cos, exp, log, sign, sin, sqrt, tan, tanh

    half = Rational(1, 2)

    def extreme(side: int, u: sympy.Expr, v: sympy.Expr, *others: sympy.Expr) -> sympy.Expr:
        value = half * (u + v + side * Abs(u - v))
        return extreme(side, value, *others) if others else value

    def arsinh(u: sympy.Expr) -> sympy.Expr:
        return log(u + sqrt(u**2 + 1))

    def arcosh(u: sympy.Expr) -> sympy.Expr:
        return log(u + sqrt(u - 1) * sqrt(u + 1))

    return {
        "sinh": lambda u: half * (exp(u) - exp(-u)),
        "cosh": lambda u: half * (exp(u) + exp(-u)),
        "coth": lambda u: 1 / tanh(u),
        "sech": lambda u: 2 / (exp(u) + exp(-u)),
        "csch": lambda u: 2 / (exp(u) - exp(-u)),
        "sec": lambda u: 1 / cos(u),
        "csc": lambda u: 1 / sin(u),
        "cot": lambda u: 1 / tan(u),
        "asinh": arsinh,
        "acosh": arcosh,
        "acoth": lambda u: atanh(1 / u),
        "asech": lambda u: arcosh(1 / u),
        "acsch": lambda u: arsinh(1 / u),
        "asec": lambda u: acos(1 / u),
        "acsc": lambda u: asin(1 / u),
        "acot": lambda u: atan(1 / u),
        "Max": lambda *u: extreme(1, *u),
        "Min": lambda *u: extreme(-1, *u),
        # All values are real here. sympy, which does not know that, introduces these functions for plain symbols.
        "re": lambda u: u,
        "im": lambda u: Integer(0),
        "conjugate": lambda u: u,
        "Heaviside": lambda u, at_zero=half: half * (1 + sign(u)),
    }


@torch.no_grad()
def _fill(network: Network, layers: Sequence[Sequence[Node]]) -> None:
    """Write the functions and affine maps of the nodes into a network of the same shape, in place."""
    for l in range(network.depth):
        numeric, symbolic = network.numeric_layers[l], network.symbolic_layers[l]
        numeric.mask.zero_()
        symbolic.mask.fill_(1.0)
        symbolic.affine.copy_(symbolic.affine.new_tensor([1.0, 0.0, 1.0, 0.0]).expand_as(symbolic.affine))
        nodes, below = layers[l + 1], {node: i for i, node in enumerate(layers[l])}
        subnodes = [subnode for node in nodes for subnode in node.subnodes]
        for name, owners in (("node", nodes), ("subnode", subnodes)):
            for kind in ("scale", "bias"):
                parameter = getattr(network, f"{name}_{kind}_{l}")
                parameter.copy_(torch.tensor([getattr(owner, kind) for owner in owners], dtype=torch.float64))
        for j, subnode in enumerate(subnodes):
            for edge in subnode.edges:
                i = below[edge.source] if isinstance(edge.source, Node) else edge.source
                symbolic.set_function(i, j, edge.name, affine=torch.tensor(edge.affine, dtype=torch.float64))


def _numbers(a: Any, b: Any, c: Any, d: Any) -> tuple[float, float, float, float]:
    return _number(a), _number(b), _number(c), _number(d)


def _number(value: Any) -> float:
    """A number of sympy as a float.

    Raises:
        ValueError: if it is not real and finite.
    """
    try:
        number = float(value)
    except TypeError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"the constant '{value}' cannot be computed by a network: it is no finite real number.")
    return number
