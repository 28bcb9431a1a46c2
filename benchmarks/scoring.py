r"""When a formula counts as found: SRBench's symbolic rule, and rules that need no computer algebra.

``srbench``
    Numbers are rounded to three decimals, less than 1e-4 is dropped, pi is a number; solved if the difference of truth and formula is
    constant, or their ratio is, after sympy's simplification, or the same with fractions, outside of exponents, as numbers, so that
    ``12 x/5`` is ``2.4 x``. With that comes R^2 > 0.5 on test data. A time-out is a failure.
``structure``
    The numbers of the formula are fitted anew to clean data (not integer exponents, and not 1 and -1). Solved if, after an affine map of
    the formula, the normalised error is below 1e-6 on 2000 fresh points and below 1e-4 where every range is 1.5 times as wide (points
    where the truth is finite and at most 20 times as large as in the data), and if the formula is not bloated.
``exact``
    The same of the formula as it came: no fit, no affine map. At noise this asks for the very constants.
``loose``
    The rule under which other libraries were measured before there was this file: 1e-5 after an affine map, median error 1e-3 on the
    wider box, size at most three times the truth's and 6.

The normalised error is the root mean square error over the standard deviation of the truth. The size of a formula is the number of
operations, numbers and variables in it. Bloated is what, simplified, has more than 1.5 times the size of the simplified truth, or, where
simplification finds no end, more than twice; an affine map around the formula, which the rules above do not look at, is free.

``python benchmarks/scoring.py`` judges one formula in a process of its own: a task as JSON on standard input, a line of JSON for every
stage on standard output. Computer algebra can hang, and takes no notice of a signal while it does; who started the process ends it, and
keeps the stages that are there (`judged`).

Source
    W. La Cava et al., "Contemporary symbolic regression methods and their relative performance", 2021, arXiv:2107.14351, section 4.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from kan.datasets.expression import parsed
from kan.datasets.problem import Problem

ROOT = Path(__file__).resolve().parent.parent
FRESH, WIDER, LARGEST = 2000, 1.5, 20.0
EVALUATIONS = 200
SIMPLIFIED, RETURNED = 1.5, 2.0
"""How much larger than the simplified truth a formula may be, simplified or as it came."""

AFFINE = 4
"""Size of ``a (...) + b`` beside what is inside."""


# Size


def size(expression: Any) -> int:
    """Operations, numbers and variables of an expression.

    >>> x = sympy.Symbol("x")
    >>> size(x), size(2 * x + 1), size(sympy.sin(-x)), size(1 / sympy.sqrt(x))
    (1, 5, 3, 3)
    """
    if not expression.args or expression.is_Number:
        return 1
    if isinstance(expression, (sympy.Add, sympy.Mul)):
        # A minus is an operation and no number.
        parts = [argument for argument in expression.args if argument != -1]
        return sum(map(size, parts)) + len(expression.args) - 1
    if isinstance(expression, sympy.Pow):
        base, exponent = expression.args
        if exponent in (sympy.Rational(1, 2), -1):
            return 1 + size(base)
        if exponent == sympy.Rational(-1, 2):
            return 2 + size(base)
        return 1 + size(base) + size(exponent)
    return 1 + sum(map(size, expression.args))


def rounded(expression: Any, decimals: int = 3, negligible: float = 1e-4) -> Any:
    """An expression with every floating-point number, and pi, rounded; those below `negligible` are zero, and integers are integers.

    The last is our kindness: sympy does not see that sin(1.0 x) is sin(x).
    """
    expression = expression.subs(sympy.pi, sympy.Float(math.pi))
    numbers = {}
    for number in expression.atoms(sympy.Float):
        value = 0.0 if abs(number) < negligible else round(float(number), decimals)
        numbers[number] = sympy.Integer(value) if value.is_integer() else sympy.Float(value)
    return expression.xreplace(numbers)


def decimal(expression: Any) -> Any:
    """With floating-point numbers in the place of fractions, but for those in exponents."""
    if isinstance(expression, sympy.Rational) and not expression.is_Integer:
        return sympy.Float(expression)
    if isinstance(expression, sympy.Pow) and expression.exp.is_Rational:
        return sympy.Pow(decimal(expression.base), expression.exp)
    return expression.func(*map(decimal, expression.args)) if expression.args else expression


def tidied(expression: Any) -> Any:
    """What a reader would write: six significant digits, numbers that are integers as integers, nothing below 1e-6."""
    numbers = {}
    for number in expression.atoms(sympy.Float):
        value = float(f"{float(number):.6g}") if math.isfinite(float(number)) else float(number)
        whole = abs(value - round(value)) < 1e-6 if math.isfinite(value) else False
        numbers[number] = sympy.Integer(round(value)) if whole else sympy.Float(value)
    return expression.xreplace(numbers)


# Values


def evaluator(expression: Any, symbols: Sequence[Any]) -> Callable[..., Any]:
    """An expression as a function of arrays, one for each symbol; NaN where there is no real value."""
    raw = sympy.lambdify(symbols, expression, "numpy")

    def values(*columns: Any) -> Any:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = np.asarray(raw(*columns)) + np.zeros(len(columns[0]))
        if np.iscomplexobj(found):
            found = np.where(np.abs(found.imag) > 1e-12 * np.abs(found.real), np.nan, found.real)
        return found.astype(float)

    return values


def same_values(one: Any, other: Any, symbols: Sequence[Any], columns: Any, tolerance: float = 1e-9) -> bool:
    """Whether two expressions have the same values at the columns, relative to their largest: a quick check before any algebra."""
    a, b = (evaluator(expression, symbols)(*columns) for expression in (one, other))
    return bool(np.isfinite(a).all() and np.isfinite(b).all() and np.abs(a - b).max() <= tolerance * max(np.abs(a).max(), 1e-300))


def normalised_error(truth: Any, found: Any) -> float:
    """Root mean square error over the standard deviation of the truth; infinite where a value is missing."""
    if not np.isfinite(found).all():
        return math.inf
    with np.errstate(over="ignore"):
        error = float(np.sqrt(np.mean((truth - found) ** 2)) / np.std(truth))
    return error if math.isfinite(error) else math.inf


def affine_map(truth: Any, found: Any) -> tuple[float, float]:
    """``(c, d)`` with which ``c found + d`` is nearest to the truth."""
    if not np.isfinite(found).all() or np.ptp(found) == 0 or not np.isfinite(np.var(found)):
        return 0.0, float(np.mean(truth))
    centred = found - found.mean()
    c = float(centred @ (truth - truth.mean()) / (centred @ centred))
    return c, float(truth.mean() - c * found.mean())


# The structure rule


def opened(expression: Any) -> tuple[Any, list[Any], list[float]]:
    """An expression with symbols for its numbers, these symbols, and their values.

    Integer exponents belong to the structure, and so do 1 and -1.
    """
    symbols: list[Any] = []
    values: list[float] = []

    def replaced(node: Any, exponent: bool = False) -> Any:
        number = node.is_Number and (not node.is_Integer if exponent else abs(node) != 1) and node != 0
        # Roots too: the half of a square root is no number to be fitted.
        if number and not (exponent and node.is_Rational):
            symbols.append(sympy.Symbol(f"_c{len(symbols)}"))
            values.append(float(node))
            return symbols[-1]
        if not node.args:
            return node
        if isinstance(node, sympy.Pow):
            return sympy.Pow(replaced(node.base), replaced(node.exp, exponent=True), evaluate=False)
        return node.func(*(replaced(argument, exponent and isinstance(node, sympy.Mul)) for argument in node.args))

    return replaced(expression), symbols, values


def refitted(expression: Any, symbols: Sequence[Any], columns: Any, truth: Any) -> Any:
    """The expression with numbers that fit the truth, by Levenberg and Marquardt's method from those that it has."""
    body, names, start = opened(expression)
    if not names:
        return expression
    f = evaluator(body, [*symbols, *names])
    spread, count = np.std(truth), len(truth)

    def residual(p: Any) -> Any:
        found = f(*columns, *(np.full(count, value) for value in p))
        c, d = affine_map(truth, found)
        return np.where(np.isfinite(found), (c * found + d - truth) / spread, 1e6)

    p, used, damping = np.array(start), 1, 1e-3
    r = residual(p)
    while used < EVALUATIONS and r @ r > 1e-26 * count and damping < 1e12:
        steps = 1e-7 * np.maximum(np.abs(p), 1e-3)
        jacobian = np.stack([(residual(p + h * e) - residual(p - h * e)) / (2 * h) for h, e in zip(steps, np.eye(len(p)), strict=True)], 1)
        used += 1  # a gradient counts once, as with derivatives by rule
        gram, slope = jacobian.T @ jacobian, jacobian.T @ r
        while used < EVALUATIONS and damping < 1e12:
            step = np.linalg.lstsq(gram + damping * np.diag(np.diag(gram) + 1e-12), -slope, rcond=None)[0]
            new = residual(p + step)
            used += 1
            if new @ new < r @ r:
                p, r, damping = p + step, new, damping / 10
                break
            damping *= 10
    return body.xreplace({name: sympy.Float(float(value)) for name, value in zip(names, p, strict=True)})


# Stages of judging


def numeric_scores(formula: Any, truth: Any, symbols: Sequence[Any], problem: Problem, train: Any, seed: int) -> dict[str, Any]:
    """Errors of a formula, as it is and with its numbers fitted anew; what the rules need but for sizes."""
    fresh, wide = problem.sample(FRESH, seed=seed + 10_000), problem.widened(WIDER).sample(FRESH, seed=seed + 20_000)
    x, y = fresh.x.numpy().T, fresh.y.numpy()[:, 0]
    far, there = wide.x.numpy().T, wide.y.numpy()[:, 0]
    kept = np.abs(there) < LARGEST * np.abs(train[1]).max()
    far, there = far[:, kept], there[kept]

    def errors(expression: Any, affine: bool) -> tuple[float, float, float]:
        f = evaluator(expression, symbols)
        near, away = f(*x), f(*far)
        c, d = affine_map(y, near) if affine else (1.0, 0.0)
        # On the wider box a formula may lack values at a few points, where round-off decides on which side of a singularity they are.
        good = np.isfinite(away)
        outside = normalised_error(there[good], c * away[good] + d) if good.mean() > 0.99 else math.inf
        with np.errstate(invalid="ignore"):
            median = float(np.nanmedian(np.abs(c * away + d - there))) / float(np.std(there)) if good.any() else math.inf
        return normalised_error(y, c * near + d), outside, median

    plain, affine = errors(formula, False), errors(formula, True)
    fitted = affine if affine[0] < 1e-9 else errors(refitted(formula, symbols, *train), True)
    found = evaluator(formula, symbols)(*x)
    return {
        "rmse": normalised_error(y, found) * float(np.std(y)),
        "nrmse": plain[0], "nrmse_wider": plain[1],
        "nrmse_affine": affine[0], "median_wider_affine": affine[2],
        "nrmse_refitted": fitted[0], "nrmse_refitted_wider": fitted[1],
    }  # fmt: skip


def constant(expression: Any) -> bool:
    """Whether no symbol matters."""
    return not expression.free_symbols or bool(expression.is_constant())


def srbench_solution(formula: Any, truth: Any) -> str:
    """Which of SRBench's conditions holds: ``'difference'``, ``'ratio'``, or ``''`` for none. May take for ever."""
    reals = {symbol: sympy.Symbol(symbol.name, real=True) for symbol in formula.free_symbols | truth.free_symbols}
    formula, truth = formula.xreplace(reals), truth.xreplace(reals)
    return _constant_difference_or_ratio(formula, truth) or _constant_difference_or_ratio(decimal(formula), decimal(truth))


def _constant_difference_or_ratio(formula: Any, truth: Any) -> str:
    model = sympy.simplify(rounded(formula), ratio=1)
    model, truth = rounded(model), rounded(truth)
    if model == 0 or model.has(sympy.nan, sympy.zoo, sympy.oo):
        return ""
    difference = rounded(truth - model)
    if constant(difference) or constant(rounded(sympy.simplify(difference, ratio=1))):
        return "difference"
    ratio = rounded(model / truth)
    return "ratio" if constant(ratio) or constant(rounded(sympy.simplify(ratio))) else ""


def stages(task: dict[str, Any]) -> Any:
    """The stages of judging a formula, each a dictionary."""
    given = task["problem"]
    problem = Problem(given["name"], given["formula"], tuple(given["variables"]), tuple(map(tuple, given["ranges"])))
    symbols = tuple(sympy.Symbol(f"x_{i + 1}") for i in range(len(problem.variables)))
    truth = problem.expression().subs(dict(zip(problem.symbols(), symbols, strict=True)), simultaneous=True)
    yield {"size_of_truth": size(tidied(truth))}
    formula = read(task["formula"], symbols)
    sample = problem.sample(task["samples"], seed=task["seed"])
    scores = numeric_scores(formula, truth, symbols, problem, (sample.x.numpy().T, sample.y.numpy()[:, 0]), task["seed"])
    yield {"size": size(tidied(formula)), **scores}
    # From here on computer algebra, which may not come back.
    yield {"size_of_truth": min(size(tidied(truth)), size(sympy.simplify(tidied(truth))))}
    if scores["nrmse_refitted"] < 1e-5 or scores["nrmse_affine"] < 1e-4:
        simple = sympy.simplify(tidied(formula))
        yield {"size_simplified": min(size(simple), size(tidied(formula)))}
    # R^2 > 0.5 is the rule's. An affine map and rounding are all that it forgives, so that algebra is spared where more is amiss.
    possible = scores["nrmse"] < math.sqrt(0.5) and scores["nrmse_affine"] < 0.02
    yield {"srbench": srbench_solution(formula, truth) if possible else ""}


def read(text: str, symbols: Sequence[Any]) -> Any:
    """A formula in ``x_1 ... x_n``."""
    expression = parsed(text, {symbol.name: symbol for symbol in symbols})
    if expression.has(sympy.zoo, sympy.nan, sympy.oo, sympy.I):
        raise ValueError(f"{text!r} has no finite real value anywhere: it is {expression}.")
    return expression


# Judging from outside


def judged(problem: Problem, formula: str, samples: int, seed: int, seconds: float = 30.0) -> dict[str, Any]:
    """The scores of a formula, made in a process that lives for at most `seconds`.

    Returns:
        The figures of the stages that were reached, and the verdicts of `verdicts`. ``judging`` says how it ended: ``'done'``,
        ``'time-out'``, or the error.
    """
    fields = {name: value for name, value in asdict(problem).items() if name != "functions"}
    task = {"problem": fields, "formula": formula, "samples": samples, "seed": seed}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}}
    command = [sys.executable, str(Path(__file__).resolve())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        output, errors = process.communicate(json.dumps(task), timeout=seconds)
        judging = "done" if process.returncode == 0 else (errors.strip().splitlines() or [f"ended with {process.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        judging = "time-out"
    scores: dict[str, Any] = {}
    for line in output.splitlines():
        if line.endswith("}"):  # the last line may have been cut off
            scores.update(json.loads(line))
    finite = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in scores.items()}
    return {**finite, **verdicts(scores), "judging": judging}


def verdicts(scores: dict[str, Any]) -> dict[str, Any]:
    """Which rules hold, by the figures."""
    if "nrmse" not in scores:
        return dict.fromkeys(["solved_srbench", "solved_structure", "solved_exact", "solved_loose", "accurate"], False)
    truth = scores["size_of_truth"]
    returned = scores["size"] - AFFINE <= RETURNED * truth
    lean = scores["size_simplified"] - AFFINE <= SIMPLIFIED * truth if "size_simplified" in scores else returned
    smallest = min(scores["size"], scores.get("size_simplified", math.inf))
    return {
        "solved_srbench": bool(scores.get("srbench")),
        "solved_structure": lean and scores["nrmse_refitted"] < 1e-6 and scores["nrmse_refitted_wider"] < 1e-4,
        "solved_exact": lean and scores["nrmse"] < 1e-6 and scores["nrmse_wider"] < 1e-4,
        "solved_loose": smallest <= 3 * truth + 6 and scores["nrmse_affine"] < 1e-5 and scores["median_wider_affine"] < 1e-3,
        "accurate": scores["nrmse"] ** 2 < 1e-3,
    }


def main() -> None:
    sys.setrecursionlimit(20_000)
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    for stage in stages(json.load(sys.stdin)):
        print(json.dumps(stage), flush=True)


if __name__ == "__main__":
    main()
