"""The methods that look for formulas, each with one configuration for all problems.

``python benchmarks/discovery_methods.py METHOD`` reads data from standard input and prints candidates, best first; it runs in the
environment of its library, so this file imports nothing of ours. Variables are ``x_1 ... x_n``. No method is told the noise, nor units;
Operon alone is told whether there is any noise, for which it has another configuration.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Candidates = list[dict[str, Any]]


def ours(x: Any, y: Any, seconds: float, seed: int) -> Candidates:
    import kan

    found = kan.discover(x, y, time_limit=seconds, seed=seed, progress=False)
    return [{"formula": text_of(one.formula), "verdict": one.verdict, "rmse": float(one.rmse)} for one in list(found)[:5]]


def text_of(expression: Any) -> str:
    """A sympy expression as text that reads back with every digit."""
    from sympy.printing.str import StrPrinter

    class Printer(StrPrinter):  # type: ignore[misc]
        def _print_Float(self, number: Any) -> str:
            return repr(float(number))

        def _print_Exp1(self, number: Any) -> str:
            return "exp(1)"

    return str(Printer().doprint(expression))


def operon(x: Any, y: Any, seconds: float, seed: int) -> Candidates:
    """One objective, R^2, and least squares in the loop: for exact data."""
    return _operon(x, y, seconds, seed, ["r2"], 1e-16)


def operon_in_noise(x: Any, y: Any, seconds: float, seed: int) -> Candidates:
    """Two objectives, R^2 and length; of the front that formula for which ``N log(MSE) + length log(N)`` is least.

    Its own choice by description length took lines for curves, since it is not told the noise; with one objective it fits the noise.
    """
    return _operon(x, y, seconds, seed, ["r2", "length"], 1e-5)


def _operon(x: Any, y: Any, seconds: float, seed: int, objectives: list[str], epsilon: float) -> Candidates:
    import numpy as np
    from pyoperon.sklearn import SymbolicRegressor

    model = SymbolicRegressor(
        allowed_symbols="add,sub,mul,div,square,sqrt,exp,log,sin,cos,tanh,asin,pow,constant,variable",
        objectives=objectives, offspring_generator="basic", population_size=1000, generations=10**6, max_evaluations=10**9,
        max_length=30, optimizer_iterations=5, max_time=max(1, round(seconds)), n_threads=1, random_state=seed + 1, epsilon=epsilon,
        model_selection_criterion="minimum_description_length",
    )  # fmt: skip
    model.fit(x, y)
    names = [f"x_{i + 1}" for i in range(x.shape[1])]
    parsimony = np.log(len(y)) if len(objectives) > 1 else 0.0
    front = sorted(
        model.pareto_front_, key=lambda entry: len(y) * np.log(entry["mean_squared_error"] + 1e-300) + parsimony * entry["complexity"]
    )
    trees = [entry["tree"] for entry in front[:5]] if parsimony else [model.model_, *(entry["tree"] for entry in front[:4])]
    found = []
    for tree in trees:
        rmse = float(np.sqrt(np.mean((model.evaluate_model(tree, x) - y) ** 2)))
        found.append({"formula": model.get_model_string(tree, 17, names).replace("^", "**"), "rmse": rmse})
    return found


def gplearn(x: Any, y: Any, seconds: float, seed: int) -> Candidates:
    """Generations are added until the time is up."""
    import numpy as np
    from gplearn.fitness import make_fitness
    from gplearn.functions import make_function
    from gplearn.genetic import SymbolicRegressor

    begun = time.monotonic()
    exp = make_function(function=lambda a: np.exp(np.clip(a, -50, 50)), name="exp", arity=1)
    tanh = make_function(function=np.tanh, name="tanh", arity=1)
    rmse = make_fitness(function=lambda truth, found, w: np.sqrt(np.average((truth - found) ** 2, weights=w)), greater_is_better=False)
    model = SymbolicRegressor(
        population_size=1000, generations=1, metric=rmse, warm_start=True, random_state=seed, parsimony_coefficient=0.001,
        function_set=("add", "sub", "mul", "div", "sqrt", "log", "neg", "sin", "cos", exp, tanh), const_range=(-5.0, 5.0), low_memory=True,
    )  # fmt: skip
    best, least = None, float("inf")
    while time.monotonic() - begun < seconds and least > 1e-10 * np.std(y):
        model.fit(x, y)
        if model._program.raw_fitness_ < least:
            best, least = list(model._program.program), float(model._program.raw_fitness_)
        model.set_params(generations=model.generations + 1)
    return [{"formula": infix(best), "rmse": least}] if best else []


def infix(program: list[Any]) -> str:
    """A program of gplearn, whose roots and logarithms are of absolute values, as text."""
    forms = {
        "add": "({} + {})", "sub": "({} - {})", "mul": "({}*{})", "div": "({}/{})", "neg": "(-{})", "sqrt": "sqrt(Abs({}))",
        "log": "log(Abs({}))",
    }  # fmt: skip

    def read(nodes: Any) -> str:
        node = next(nodes)
        if hasattr(node, "arity"):
            form = forms.get(node.name, node.name + "({})")
            return form.format(*(read(nodes) for _ in range(node.arity)))
        return f"x_{node + 1}" if isinstance(node, int) else f"({float(node)!r})"

    return read(iter(program))


def pykan(x: Any, y: Any, seconds: float, seed: int) -> Candidates:
    """The recipe of its README, with its default library and no choice by hand. It cannot be given a time."""
    import torch

    from kan import KAN

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    inputs, labels = torch.tensor(x), torch.tensor(y)[:, None]
    data = {"train_input": inputs, "train_label": labels, "test_input": inputs, "test_label": labels}
    model = KAN(width=[x.shape[1], 5, 1], grid=3, k=3, seed=seed)
    model(inputs)
    model.fit(data, opt="LBFGS", steps=50, lamb=0.001)
    model = model.prune()
    model.fit(data, opt="LBFGS", steps=50)
    model = model.refine(10)
    model.fit(data, opt="LBFGS", steps=50)
    model.auto_symbolic()
    model.fit(data, opt="LBFGS", steps=50)
    rmse = float((model(inputs) - labels).square().mean().sqrt())
    return [{"formula": text_of(model.symbolic_formula()[0][0]), "rmse": rmse}]


METHODS: dict[str, Callable[[Any, Any, float, int], Candidates]] = {
    "ours": ours, "operon": operon, "operon_in_noise": operon_in_noise, "gplearn": gplearn, "pykan": pykan,
}  # fmt: skip


def main() -> None:
    import numpy as np

    task = json.load(sys.stdin)
    x, y = np.array(task["x"]), np.array(task["y"])
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        begun = time.perf_counter()
        found = METHODS[sys.argv[1]](x, y, task["seconds"], task["seed"])
        used = time.perf_counter() - begun
    print(json.dumps({"seconds": used, "candidates": found}))


if __name__ == "__main__":
    main()
