"""Is the formula the network? The largest relative deviation, over three kinds of networks.

* ``feynman``: the 120 Feynman equations, compiled to networks;
* ``trained``: networks trained on small laws, then made symbolic edge by edge, refitted, some before they are exact;
* ``mixed``: networks half of whose edges stay splines, which appear in the formula as functions.

Each formula is compared with its network by `symbolic_formula` itself, and the source code that it writes, in numpy and in torch, is run
and compared once more. With Feynman equations the way back is counted, too: how many formulas sympy reduces to the equation.
Prints a table and writes ``benchmarks/results/formulas.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import sympy
import torch
from environments import HERE, surroundings, write
from torch import Tensor

from kan import KAN, create_dataset
from kan.compiler import kanpiler
from kan.discovery.formulas.agreement import agreement
from kan.discovery.formulas.network_formula import NetworkFormula
from kan.feynman import get_feynman_dataset

LAWS: dict[str, tuple[int, list[Any], Callable[[Tensor], Tensor]]] = {
    "exp(sin(pi x) + y^2)": (2, [2, 3, 1], lambda x: torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)),
    "x y": (2, [2, [0, 1], 1], lambda x: x[:, [0]] * x[:, [1]]),
    "sin(x + y^2)": (2, [2, 2, 1], lambda x: torch.sin(x[:, [0]] + x[:, [1]] ** 2)),
    "x y z + cos(x)": (3, [3, [1, 2], 1], lambda x: x.prod(dim=1, keepdim=True) + torch.cos(x[:, [0]])),
    "sqrt(x^2 + y^2 + 1)": (2, [2, 2, 1], lambda x: (x.square().sum(dim=1, keepdim=True) + 1).sqrt()),
    "exp(-x^2), tanh(y)": (2, [2, 3, 2], lambda x: torch.cat([torch.exp(-(x[:, [0]] ** 2)), torch.tanh(x[:, [1]])], dim=1)),
}
LIBRARY = ["x", "x^2", "x^3", "exp", "sqrt", "tanh", "sin", "cos", "abs", "gaussian", "1/x", "log"]


def feynman() -> Iterator[tuple[str, KAN, Tensor, sympy.Expr, Any]]:
    """The compiled equations, with samples."""
    for number in range(1, 121):
        symbols, expr, _, ranges = get_feynman_dataset(number)
        pairs = torch.tensor(ranges if isinstance(ranges[0], list) else [ranges] * len(symbols), dtype=torch.float64)
        uniform = torch.rand(1000, len(symbols), generator=torch.Generator().manual_seed(number))
        yield str(number), kanpiler(symbols, expr), pairs[:, 0] + uniform * (pairs[:, 1] - pairs[:, 0]), expr, symbols


def trained(seeds: int) -> Iterator[tuple[str, KAN, Tensor]]:
    """Networks from data to symbolic edges, with one refit; `seeds` of each law, and of each one in single precision."""
    for law, (inputs, width, f) in LAWS.items():
        for seed in range(seeds + 1):
            torch.set_default_dtype(torch.float32 if seed == seeds else torch.float64)
            dataset = create_dataset(f, n_var=inputs, train_num=300, test_num=50, seed=seed)
            model = KAN(width, grid=5, seed=seed, auto_save=False)
            model.fit(dataset, steps=20, lamb=0.001)
            model = model.prune()
            model.fit(dataset, steps=20)
            model.auto_symbolic(lib=LIBRARY, verbose=0)
            model.fit(dataset, steps=10)
            torch.set_default_dtype(torch.float64)
            yield f"{law}, seed {seed}" + (", float32" if seed == seeds else ""), model, dataset["train_input"]


def mixed(seeds: int) -> Iterator[tuple[str, KAN, Tensor]]:
    """Networks with splines, symbolic functions, and both on one edge."""
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        model = KAN([3, [2, 1], [1, 1], 2], mult_arity=3, grid=4, seed=seed, auto_save=False)
        for l, layer in enumerate(model.symbolic_fun):
            for j in range(layer.out_dim):
                for i in range(layer.in_dim):
                    draw = torch.rand(2, generator=generator).tolist()
                    if draw[0] < 0.5:
                        model.fix_symbolic(l, i, j, ["sin", "x^2", "tanh", "gaussian"][int(4 * draw[1])], fit_params_bool=False)
                        model.set_mode(l, i, j, "sn" if draw[0] < 0.2 else "s", 0.7)
        yield f"seed {seed}", model, torch.rand(300, 3, generator=generator) * 2.4 - 1.2


def measured(model: KAN, data: Tensor, var: Any = None) -> tuple[NetworkFormula, dict[str, Any]]:
    """The formula, and how far it and its source code are from the network."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        formula = model.symbolic_formula(var=var, numeric="function", data=data)
    seconds = time.perf_counter() - start
    found = formula.agreement
    assert found is not None
    row = {"deviation": found.deviation, "undefined": len(found.formula_undefined), "samples": found.samples, "seconds": seconds}
    for backend in ("numpy", "torch"):
        names: dict[str, Any] = {}
        exec(formula.python(backend), names)
        row[backend] = agreement(model, called(names["formula"], backend), data).deviation
    return formula, row


def called(function: Callable[..., Any], backend: str) -> Callable[[list[Tensor]], list[Any]]:
    """What `agreement` takes, from the function that source code defines."""

    def formulas(columns: list[Tensor]) -> list[Any]:
        found = function(*(columns if backend == "torch" else [column.numpy() for column in columns]))
        return [torch.as_tensor(value) for value in (found if isinstance(found, tuple) else [found])]

    return formulas


def way_back(expr: sympy.Expr, formula: sympy.Expr) -> bool:
    """Whether sympy finds formula and equation equal."""
    difference = sympy.nsimplify(formula, rational=True, tolerance=1e-13) - sympy.nsimplify(expr, rational=True, tolerance=1e-13)
    difference = sympy.expand(sympy.powdenest(difference, force=True))
    if difference != 0:
        difference = sympy.simplify(difference)
    coefficients = [abs(float(term.as_coeff_Mul()[0])) for term in sympy.Add.make_args(difference)]
    return difference == 0 or max(coefficients) < 1e-10


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "formulas.json")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)

    kinds: dict[str, list[dict[str, Any]]] = {"feynman": [], "trained": [], "mixed": []}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, model, data, expr, symbols in feynman():
            formula, row = measured(model, data, symbols)
            kinds["feynman"].append({"network": name, **row, "equal": way_back(expr, formula[0][0])})
        for kind, networks in (("trained", trained(arguments.seeds)), ("mixed", mixed(10 * arguments.seeds))):
            while True:
                with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
                    entry = next(networks, None)
                if entry is None:
                    break
                kinds[kind].append({"network": entry[0], **measured(*entry[1:])[1]})
    print(f"{'networks':>10} {'number':>7} {'formula':>9} {'numpy':>9} {'torch':>9} {'undefined':>10} {'seconds':>8}   largest of each")
    for kind, rows in kinds.items():
        worst = [max(row[what] for row in rows) for what in ("deviation", "numpy", "torch", "undefined", "seconds")]
        print(f"{kind:>10} {len(rows):>7} {worst[0]:>9.1e} {worst[1]:>9.1e} {worst[2]:>9.1e} {worst[3]:>10} {worst[4]:>8.2f}")
    equal = sum(row["equal"] for row in kinds["feynman"])
    others = ", ".join(row["network"] for row in kinds["feynman"] if not row["equal"])
    print(f"equal by sympy: {equal} of {len(kinds['feynman'])} equations" + (f"; not {others}" if others else ""))
    write({"environment": surroundings(torch.get_num_threads()), "networks": kinds}, arguments.output)


if __name__ == "__main__":
    main()
