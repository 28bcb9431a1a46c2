"""Formulas as Python functions, and as source code that needs nothing but numpy or torch.

Numbers are written with all their digits. Subexpressions that occur several times are computed once.
"""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kan.discovery.formulas.edge_spline import SPLINE_SOURCE, EdgeSpline
from kan.discovery.formulas.straight_line import FUNCTIONS, LARGEST_INTEGER, Program, Step, TensorFunction, as_float
from kan.errors import unknown_name

__all__ = ["python_source", "to_numpy", "to_torch"]

LIBRARIES = {"numpy": "np", "torch": "torch"}
"""Libraries for which source code is written, with their names in it."""

SUM, PRODUCT, POWER, ATOM = range(4)
"""Precedence of the outermost operation of an expression in source code, the weakest first."""

MAX_NESTING = 12
"""Largest depth of nested operations in a line of source code; deeper subexpressions are assigned to a name, to keep lines readable."""


def to_numpy(expressions: Any, variables: Sequence[Any], functions: Mapping[str, TensorFunction] | None = None) -> Callable[..., Any]:
    """A formula as a function of arrays.

    Args:
        expressions: a sympy expression, or a sequence of them.
        variables: the symbols of the variables in the order of the arguments.
        functions: functions of a tensor, by the names of undefined functions in the formula. Those of `add_symbolic` need not be given.

    Returns:
        A function of one array or number per variable, which are broadcast. It returns an array in double precision, or a tuple of arrays
        for a sequence of expressions. Outside of the domain of the formula values are NaN or infinite, without a warning.

    Raises:
        ValueError: for a symbol that is not a variable or an unknown function; and from the function, for a wrong number of arguments.

    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> to_numpy(sympy.sqrt(x) / y, [x, y])([4.0, 9.0], 2)
    array([1. , 1.5])
    """
    several, program = _program(expressions, variables, functions)

    def formula(*values: Any) -> Any:
        _check_count(values, variables)
        columns = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values))
        with np.errstate(all="ignore"):
            found = [np.broadcast_to(result, columns[0].shape) for result in program.evaluated(columns)]
        found = [np.array(result, dtype=np.float64) for result in found]
        return tuple(found) if several else found[0]

    return formula


def to_torch(expressions: Any, variables: Sequence[Any], functions: Mapping[str, TensorFunction] | None = None) -> Callable[..., Any]:
    """A formula as a differentiable function of tensors, with results in their dtype; arguments and errors are those of `to_numpy`.

    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> to_torch(sympy.sqrt(x) / y, [x, y])(torch.tensor([4.0, 9.0]), torch.tensor(2.0))
    tensor([1.0000, 1.5000])
    """
    several, program = _program(expressions, variables, functions)

    def formula(*values: Tensor) -> Any:
        _check_count(values, variables)
        columns = torch.broadcast_tensors(*values)
        found = [columns[0].new_zeros(()) + result for result in program.evaluated(columns)]
        found = [result.expand(columns[0].shape) for result in found]
        return tuple(found) if several else found[0]

    return formula


def python_source(
    expressions: Any,
    variables: Sequence[Any],
    backend: str = "numpy",
    *,
    name: str = "formula",
    functions: Mapping[str, TensorFunction] | None = None,
) -> str:
    """A formula as the source code of a Python function that needs nothing but numpy or torch.

    Args:
        expressions, variables, functions: as for `to_numpy`.
        backend: ``"numpy"`` or ``"torch"``.
        name: the name of the function.

    Returns:
        The source code, which defines the splines of numeric edges as well. Functions of `add_symbolic`, whose source is not known, are
        keyword arguments of the function. A variable whose name is not allowed in Python gets a similar name, and a comment says so.

    Raises:
        ValueError: for an unknown backend, or as `to_numpy`.

    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> print(python_source(sympy.exp(x / 2) - sympy.pi * y**2, [x, y]))
    import numpy as np
    <BLANKLINE>
    <BLANKLINE>
    def formula(x, y):
        return np.exp(x/2) - np.pi*y**2
    <BLANKLINE>
    """
    if backend not in LIBRARIES:
        raise unknown_name("backend", backend, LIBRARIES)
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"name must be a name in Python; got {name!r}.")
    several, program = _program(expressions, variables, functions)
    taken = {name, "spline", *LIBRARIES.values(), *dir(builtins)}
    names = _names([str(variable) for variable in variables], taken)
    called = dict(zip(program.functions, _names(list(program.functions), taken), strict=True))
    own = {key: function for key, function in program.functions.items() if not isinstance(function, EdgeSpline)}

    library = LIBRARIES[backend]
    writer = _Writer(program, names, called, library, taken)
    lines = [f"# {new} is {str(old)!r}" for old, new in zip(variables, names, strict=True) if str(old) != new]
    lines += writer.lines
    results = [writer.result(index) for index in program.outputs]
    lines.append(f"return {', '.join(results)}{',' if len(results) == 1 else ''}" if several else f"return {results[0]}")
    arguments = ", ".join([*names, *(["*"] if own else []), *(called[key] for key in own)])

    source = "import numpy as np\n" if backend == "numpy" else "import torch\n"
    splines = {key: function for key, function in program.functions.items() if isinstance(function, EdgeSpline)}
    for part in ([SPLINE_SOURCE] if splines else []) + [f.source(called[key], library) for key, f in splines.items()]:
        source += f"\n{part}"
    body = "".join(f"    {line}\n" for line in lines)
    return f"{source}\n\ndef {name}({arguments}):\n{body}"


def _program(expressions: Any, variables: Sequence[Any], functions: Mapping[str, TensorFunction] | None) -> tuple[bool, Program]:
    """Whether `expressions` is a sequence, and the program of the formulas."""
    several = isinstance(expressions, Iterable)
    return several, Program.of(expressions if several else [expressions], variables, functions)


def _check_count(values: Sequence[Any], variables: Sequence[Any]) -> None:
    if len(values) != len(variables):
        raise ValueError(f"expected {len(variables)} argument(s), {', '.join(map(str, variables))}; got {len(values)}.")


def _names(wanted: Sequence[str], taken: set[str]) -> list[str]:
    """Names that Python allows, similar to those wanted, different from each other and from those in `taken`, to which they are added."""
    names = []
    for text in wanted:
        base = re.sub(r"\W", "_", unicodedata.normalize("NFKC", text))
        base = base if base.isidentifier() else f"_{base}"
        name, number = base, 1
        while name in taken or keyword.iskeyword(name):
            name, number = (f"{base}_", number) if number == 1 else (f"{base}_{number}", number)
            number += 1
        taken.add(name)
        names.append(name)
    return names


class _Writer:
    """Writes the steps of a program as source code.

    Args:
        program: the program.
        names: the names of the variables.
        called: the names of the functions that the library does not have, by their names in the program.
        library: the name of the library.
        taken: names that are not free.

    Attributes:
        lines: the assignments that come before the results.
    """

    def __init__(self, program: Program, names: Sequence[str], called: Mapping[str, str], library: str, taken: set[str]) -> None:
        self.names, self.called, self.library, self.steps = names, called, library, program.steps
        self.lines: list[str] = []
        uses = [0] * len(program.steps)
        for index in [*program.outputs, *(index for step in program.steps for index in step.arguments)]:
            uses[index] += 1
        self.texts: list[tuple[str, int, int]] = []
        self.varies: list[bool] = []
        for step, count in zip(program.steps, uses, strict=True):
            text, level = self.text(step)
            depth = 1 + max((self.texts[index][2] for index in step.arguments), default=-1)
            if step.kind not in ("variable", "number") and (count > 1 or depth > MAX_NESTING):
                (name,) = _names([f"t{len(self.lines) + 1}"], taken)
                self.lines.append(f"{name} = {text}")
                text, level, depth = name, ATOM, 0
            self.texts.append((text, level, depth))
            self.varies.append(step.kind == "variable" or any(self.varies[index] for index in step.arguments))

    def result(self, index: int) -> str:
        """The text of a formula; that of a constant formula has the shape of the first variable."""
        text = self.texts[index][0]
        dtype = "" if self.library == "torch" else ", dtype=float"
        return text if self.varies[index] else f"{self.library}.full_like({self.names[0]}, {text}{dtype})"

    def operand(self, index: int, precedence: int) -> str:
        """The text of a step, in brackets if its outermost operation has a lower precedence than the given one."""
        text, level, _ = self.texts[index]
        return text if level >= precedence else f"({text})"

    def text(self, step: Step) -> tuple[str, int]:
        """The text of a step, and the precedence of its outermost operation."""
        if step.kind == "variable":
            return self.names[step.value], ATOM
        if step.kind == "number":
            return self.number(step.value)
        if step.kind == "sum":
            terms = [self.operand(index, PRODUCT) for index in step.arguments]
            rest = (f" - {term[1:]}" if term.startswith("-") else f" + {term}" for term in terms[1:])
            return terms[0] + "".join(rest), SUM
        if step.kind == "product":
            first, *others = step.arguments
            return "*".join([self.operand(first, PRODUCT), *(self.operand(index, POWER) for index in others)]), PRODUCT
        if step.kind == "quotient":
            above, below = step.arguments
            return f"{self.operand(above, PRODUCT)}/{self.operand(below, POWER)}", PRODUCT
        if step.kind == "negative":
            text = self.operand(step.arguments[0], PRODUCT)
            return f"-({text})" if text.startswith("-") else f"-{text}", PRODUCT
        if step.kind == "power":
            exponent, level = self.texts[step.arguments[1]][:2] if step.value is None else self.number(step.value)
            return f"{self.operand(step.arguments[0], ATOM)}**{exponent if level == ATOM else f'({exponent})'}", POWER
        arguments = [self.argument(index) for index in step.arguments]
        if step.value in self.called:
            return f"{self.called[step.value]}({arguments[0]})", ATOM
        function = FUNCTIONS[step.value][self.library == "torch"]
        return f"{self.library}.{function}({', '.join(arguments)})", ATOM

    def argument(self, index: int) -> str:
        """The text of an argument of a function; torch takes no plain numbers."""
        text = self.texts[index][0]
        if self.library == "torch" and self.steps[index].kind == "number":
            return f"torch.tensor({text}, dtype=torch.float64)"
        return text

    def number(self, value: Any) -> tuple[str, int]:
        """The text of a number, and its precedence, which for negative numbers is that of a product."""
        if value.is_Integer and abs(int(value)) <= LARGEST_INTEGER:
            return str(int(value)), ATOM if value >= 0 else PRODUCT
        if value.is_Rational and max(abs(int(value.p)), int(value.q)) <= LARGEST_INTEGER:
            return f"{int(value.p)}/{int(value.q)}", PRODUCT
        if str(value) in ("pi", "E"):
            return f"{self.library}.{str(value).lower()}", ATOM
        text = repr(as_float(value))
        if text.lstrip("-") in ("inf", "nan"):
            text = f"-{self.library}.inf" if text.startswith("-") else f"{self.library}.{text}"
        return text, PRODUCT if text.startswith("-") else ATOM
