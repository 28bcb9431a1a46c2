"""Formulas as straight-line programs: lists of steps, each of which takes the results of earlier ones.

A sympy expression is a tree in which equal subexpressions may occur many times, as they often do in the formula of a network. A program
computes each of them once. A step is one of

    ``x_i`` | a number | ``s_1 + ... + s_m`` | ``s_1 ... s_m`` | ``s_1 / s_2`` | ``-s_1`` | ``s_1^p`` | ``f(s_1, ...)``

where the ``s`` are results of earlier steps. Evaluation (`Program.evaluated`) and source code (`kan.discovery.formulas.python_code`) use
the same list of steps, so that they agree. Functions that neither numpy nor torch has are rewritten as in
`kan.discovery.formulas.compiler`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kan.discovery.formulas.compiler import REWRITTEN, rewrites
from kan.errors import unknown_name
from kan.formula_text import as_expression
from kan.symbolic.library import SYMBOLIC_LIB

if TYPE_CHECKING:
    import sympy

__all__ = ["FUNCTIONS", "Program", "Step", "as_float"]

TensorFunction = Callable[[Tensor], Tensor]

FUNCTIONS: dict[str, tuple[str, str]] = {
    "Abs": ("abs", "abs"), "sign": ("sign", "sign"), "exp": ("exp", "exp"), "log": ("log", "log"), "sqrt": ("sqrt", "sqrt"),
    "sin": ("sin", "sin"), "cos": ("cos", "cos"), "tan": ("tan", "tan"),
    "asin": ("arcsin", "asin"), "acos": ("arccos", "acos"), "atan": ("arctan", "atan"), "atan2": ("arctan2", "atan2"),
    "sinh": ("sinh", "sinh"), "cosh": ("cosh", "cosh"), "tanh": ("tanh", "tanh"),
    "asinh": ("arcsinh", "asinh"), "acosh": ("arccosh", "acosh"), "atanh": ("arctanh", "atanh"),
    "floor": ("floor", "floor"), "ceiling": ("ceil", "ceil"), "Max": ("maximum", "maximum"), "Min": ("minimum", "minimum"),
}  # fmt: skip
"""Names of functions in numpy and in torch, by sympy's names."""

LARGEST_INTEGER = 2**53
"""Largest integer that source code contains as such. numpy cannot compute with integers that exceed a machine word; larger ones are written
as floating-point numbers."""


class Step(NamedTuple):
    """One step of a program.

    Attributes:
        kind: ``variable, number, sum, product, quotient, negative, power`` or ``call``.
        arguments: indices of the steps whose results it takes.
        value: the index of the variable, the number or the exponent as sympy's, or the name of the function; None for other kinds, and
            for a power whose exponent is its second argument.
    """

    kind: str
    arguments: tuple[int, ...] = ()
    value: Any = None


@dataclass(frozen=True)
class Program:
    """A straight-line program for one or several formulas.

    Attributes:
        steps: the steps in the order of computation.
        outputs: the indices of the steps that compute the formulas.
        functions: the functions of a tensor that steps call and that are not in `FUNCTIONS`, by name.
    """

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    functions: Mapping[str, TensorFunction]

    @classmethod
    def of(cls, expressions: Iterable[Any], variables: Sequence[Any], functions: Mapping[str, TensorFunction] | None = None) -> Program:
        """The program that computes some expressions.

        Args:
            expressions: sympy expressions or numbers.
            variables: the symbols of the variables, all different, in the order of the columns for `evaluated`.
            functions: functions of a tensor, by the names of undefined functions in the expressions. Those that are registered with
                `add_symbolic` need not be given.

        Raises:
            ValueError: for a symbol that is not a variable, or an unknown function.

        >>> import sympy
        >>> x = sympy.Symbol("x")
        >>> [step.kind for step in Program.of([sympy.sin(x) / 2], [x]).steps]
        ['variable', 'call', 'number', 'quotient']
        """
        builder = _Builder(variables, functions or {})
        outputs = tuple(builder.index(expression) for expression in expressions)
        return cls(tuple(builder.steps), outputs, builder.used)

    def evaluated(self, columns: Sequence[Any]) -> list[Any]:
        """The values of the formulas; a formula without variables gives a number.

        Args:
            columns: the values of the variables, either arrays or tensors.
        """
        library: Any = torch if any(isinstance(column, Tensor) for column in columns) else np
        last_use = {index: n for n, step in enumerate(self.steps) for index in step.arguments}
        results: list[Any] = []
        for n, step in enumerate(self.steps):
            results.append(self._result(step, [results[index] for index in step.arguments], columns, library))
            for index in step.arguments:
                if last_use[index] == n and index not in self.outputs:
                    results[index] = None  # frees the memory
        return [results[index] for index in self.outputs]

    def _result(self, step: Step, values: list[Any], columns: Sequence[Any], library: Any) -> Any:
        if step.kind == "variable":
            return columns[step.value]
        if step.kind == "number":
            return as_float(step.value)
        if step.kind == "sum":
            return sum(values[1:], values[0])
        if step.kind == "product":
            return math.prod(values[1:], start=values[0])
        if step.kind == "quotient":
            return values[0] / values[1]
        if step.kind == "negative":
            return -values[0]
        if step.kind == "power":
            if step.value is None:
                return values[0] ** values[1]
            return values[0] ** (int(step.value) if step.value.is_Integer else as_float(step.value))
        if step.value in self.functions:
            return _applied(self.functions[step.value], values[0], library)
        name = FUNCTIONS[step.value][library is torch]
        if library is torch:
            like = next(value for value in values if isinstance(value, Tensor))
            values = [torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values]
        return getattr(library, name)(*values)


def _applied(function: TensorFunction, value: Any, library: Any) -> Any:
    """The value of a function of a tensor for a tensor or an array."""
    if library is torch:
        return function(value)
    with torch.no_grad():
        return function(torch.as_tensor(value)).numpy()


def as_float(number: sympy.Expr) -> float:
    """A number of sympy in double precision: NaN if it is not real, infinite if it is too large.

    >>> import sympy
    >>> as_float(sympy.Rational(1, 4)), as_float(sympy.zoo), as_float(-sympy.oo)
    (0.25, nan, -inf)
    """
    try:
        return float(number)
    except TypeError:  # complex, although the value may be real
        real, imaginary = number.as_real_imag()
        return float(real) if imaginary.is_zero and real.is_comparable else math.nan
    except OverflowError:
        return math.inf if number.is_positive else -math.inf


class _Builder:
    """Builds the list of steps, with one step for equal subexpressions."""

    def __init__(self, variables: Sequence[Any], functions: Mapping[str, TensorFunction]) -> None:
        self.given = functions
        self.used: dict[str, TensorFunction] = {}
        self.steps: list[Step] = []
        self.known: dict[Any, int] = {}
        self.variables = list(variables)
        for i, variable in enumerate(self.variables):
            self.known[variable] = self.step("variable", value=i)

    def step(self, kind: str, *arguments: int, value: Any = None) -> int:
        """The index of a new step."""
        self.steps.append(Step(kind, arguments, value))
        return len(self.steps) - 1

    def number(self, value: Any) -> int:
        """The index of the step of a number."""
        value = as_expression(value)
        if value not in self.known:
            self.known[value] = self.step("number", value=value)
        return self.known[value]

    def index(self, expression: Any) -> int:
        """The index of the step that computes an expression."""
        expression = as_expression(expression, self.variables)
        if expression not in self.known:
            self.known[expression] = self.new_step(expression)
        return self.known[expression]

    def new_step(self, expression: Any) -> int:
        """The index of a new step that computes an expression."""
        import sympy
        from sympy.core.function import AppliedUndef

        if expression.is_number:
            return self.step("number", value=expression)
        if expression.is_Symbol:
            raise ValueError(
                f"the formula contains the symbol {expression}, which is none of the variables {', '.join(map(str, self.variables))}. "
                f"Name it among the variables, or put a number in its place with expr.subs."
            )
        if expression.is_Add:
            return self.step("sum", *map(self.index, sorted(expression.args, key=_term_order)))
        if expression.is_Mul:
            return self.product(expression)
        if expression.is_Pow:
            return self.power(*expression.args)
        name = type(expression).__name__
        if isinstance(expression, AppliedUndef):
            return self.undefined_function(name, expression)
        if name in ("Max", "Min"):
            first, *others = map(self.index, expression.args)
            for other in others:
                first = self.step("call", first, other, value=name)
            return first
        if name in FUNCTIONS:
            return self.step("call", *map(self.index, expression.args), value=name)
        if name in REWRITTEN and isinstance(expression, sympy.Function):
            return self.index(rewrites()[name](*expression.args))
        raise unknown_name("function in the formula:", name, FUNCTIONS)

    def undefined_function(self, name: str, expression: Any) -> int:
        """The index of a call of a function that sympy does not know."""
        row = SYMBOLIC_LIB.get(name)
        function = self.given.get(name, None if row is None else row[0])
        if function is None or len(expression.args) != 1:
            raise ValueError(
                f"the formula contains '{expression}', and there is no function {name} of one argument. Register it with add_symbolic, or "
                f"give it as functions={{{name!r}: ...}}, a function of a tensor."
            )
        (argument,) = expression.args
        if argument.is_number:
            with torch.no_grad():
                return self.number(float(function(torch.tensor([as_float(argument)], dtype=torch.float64))[0]))
        self.used[name] = function
        return self.step("call", self.index(argument), value=name)

    def product(self, expression: Any) -> int:
        """The index of a product, in which factors with negative exponents become a denominator."""
        import sympy

        coefficient, factors = expression.as_coeff_mul()
        above, below = [], []
        for factor in factors:
            if factor.is_Pow and _negative(factor.exp):
                below.append(self.index(factor.base**-factor.exp))
            else:
                above.append(self.index(factor))
        if coefficient.is_Rational and coefficient.q != 1:
            below = [self.number(coefficient.q), *below]
            coefficient = sympy.Integer(coefficient.p)
        if abs(coefficient) != 1 or not above:
            above = [self.number(abs(coefficient) if coefficient == -1 else coefficient), *above]
        result = above[0] if len(above) == 1 else self.step("product", *above)
        if below:
            result = self.step("quotient", result, below[0] if len(below) == 1 else self.step("product", *below))
        return self.step("negative", result) if coefficient == -1 else result

    def power(self, base: Any, exponent: Any) -> int:
        """The index of a power, which becomes a quotient or a square root where it can."""
        if _negative(exponent):
            return self.step("quotient", self.number(1), self.index(base**-exponent))
        if not exponent.is_number:
            return self.step("power", self.index(base), self.index(exponent))
        if as_float(exponent) == 0.5:
            return self.step("call", self.index(base), value="sqrt")
        return self.step("power", self.index(base), value=exponent)


def _term_order(term: Any) -> tuple[bool, bool]:
    """Sort key of the terms of a sum: numbers come last, and terms that are subtracted after those that are added."""
    return bool(term.is_number), bool(term.as_coeff_Mul()[0].is_negative)


def _negative(exponent: Any) -> bool:
    return bool(exponent.is_number and exponent.is_negative)
