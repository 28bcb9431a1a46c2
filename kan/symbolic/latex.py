r"""Formulas in LaTeX, with the names of variables written as in print.

A name of one letter is set in italics. A name of several letters is a word and set upright: ``mass`` becomes :math:`\mathrm{mass}`, not the
product :math:`m\,a\,s\,s`. Names of Greek letters become these letters. Numbers and single letters after an underscore, and numbers at the
end of a name, become subscripts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sympy

__all__ = ["latex", "latex_name"]

GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega varepsilon vartheta varphi varrho varsigma".split()
)
"""Greek letters by their names in LaTeX, which has no others: the remaining capitals look like Latin ones."""
SPECIAL = {**{sign: f"\\{sign}" for sign in "_#$%&{}"}, " ": r"\ ", "\\": r"\backslash ", "^": r"\wedge ", "~": r"\sim "}
"""Replacements of the characters that have a special meaning in LaTeX."""
INDEXED = re.compile(r"([^\W\d_]+)((?:_?\d+)?(?:_[^\W_]+)*)")
"""A name made of letters, followed by possible indices."""


def latex_name(name: str) -> str:
    r"""Return a variable's name in LaTeX.

    A name that is LaTeX already, because it stands between dollar signs or contains a command or a group, is returned as it is.

    >>> [latex_name(name) for name in ("m", "mass", "x_12", "k_b", "T_max", "alpha_1", "blood_pressure", "v [m/s]")]
    ['m', '\\mathrm{mass}', 'x_{12}', 'k_{b}', 'T_{\\mathrm{max}}', '\\alpha_{1}', '\\mathrm{blood\\_pressure}', '\\mathrm{v\\ [m/s]}']
    """
    if len(name) > 2 and name[0] == name[-1] == "$":
        return name[1:-1]
    if re.search(r"\\[A-Za-z]|[_^]\{", name):
        return name
    match = INDEXED.fullmatch(name)
    if match is None:
        return _upright(name)
    base, indices = match[1], [index for index in re.split(r"_|(?<=\d)(?=[^\W\d])", match[2]) if index]
    letter = len(base) == 1 or base in GREEK
    if not letter and any(len(index) > 1 and not index.isdigit() for index in indices):
        return _upright(name)  # words joined by underscores
    below = ",".join(index if index.isdigit() else _word(index) for index in indices)
    return f"{_word(base)}_{{{below}}}" if below else _word(base)


def latex(expression: sympy.Expr) -> str:
    r"""Return an expression in LaTeX, with variables written by `latex_name` and numbers without trailing zeros.

    >>> import sympy
    >>> latex(sympy.Symbol("mass") * sympy.Symbol("v_0") ** 2 / 2)
    '\\frac{\\mathrm{mass} v_{0}^{2}}{2}'
    """
    import sympy

    names = {symbol: latex_name(symbol.name) for symbol in expression.atoms(sympy.Symbol)}
    return str(sympy.latex(expression, symbol_names=names, full_prec=False))


def _word(text: str) -> str:
    """Return a Latin letter as it is, a Greek letter as its command, and a longer word upright."""
    return f"\\{text}" if text in GREEK else text if len(text) == 1 else _upright(text)


def _upright(text: str) -> str:
    return f"\\mathrm{{{''.join(SPECIAL.get(sign, sign) for sign in text)}}}"
