"""What pykan 0.2.8 computes on networks that are told here, recorded in ``golden_pykan.json``.

``python tests/reference/golden_pykan.py`` installs pykan into an environment of its own (it also calls itself `kan`) and runs this file
there with ``--record``; ``--python PATH`` names an interpreter that has pykan already. `tests/test_golden_pykan.py` makes the same networks
of ours, looks at them with the functions of this file and compares. Nothing is imported from `kan` by name but the class and two functions,
so that both libraries go the same way.

An array of more than `WHOLE` numbers is recorded as its shape, its Euclidean norm, its inner products with two cosines and its first
numbers.

References
    Z. Liu et al., "KAN 2.0: Kolmogorov-Arnold Networks Meet Science", 2024, arXiv:2408.10205; pykan 0.2.8 on PyPI.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GOLDEN = HERE / "golden_pykan.json"

DIGITS = {"float64": 17, "float32": 9}
"""Significant digits that tell every number of a type from its neighbours."""
WHOLE = 6
"""Arrays of up to so many numbers are recorded number by number."""
FIRST = 2
"""Of larger ones, how many numbers are."""
METRICS = ["edge_forward_spline_n", "edge_forward_sum", "edge_forward_spline_u", "edge_backward", "node_backward"]
LAMBDAS = [(1.0, 2.0, 0.0, 0.0), (0.3, 0.7, 1.1, 0.9)]
"""Weights of l1, entropy, coefficients and their differences in the penalties."""

# The networks


@dataclass(frozen=True)
class Case:
    """A network with what is done to it before it is looked at.

    Attributes:
        name: unlike all others.
        width: of the network.
        arguments: the constructor's others.
        dtype: torch's default while it lives.
        data_seed: seeds samples, coefficients and affines.
        samples: number of them.
        span: they are uniform on ``[-span, span]``.
        lively: the initial splines, which are small noise, are replaced by large random ones.
        affine: scales and biases of nodes and sub-nodes are random.
        operations: names in `OPERATIONS` with their arguments, done in order.
        refined: the grid that it is refined to in the end.
        omitted: what is not recorded, since pykan's number is wrong, and why.
    """

    name: str
    width: list[Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float64"
    data_seed: int = 0
    samples: int = 60
    span: float = 1.0
    lively: bool = True
    affine: bool = False
    operations: Sequence[tuple[Any, ...]] = ()
    refined: int | list[int] = 6
    omitted: dict[str, str] = field(default_factory=dict)


MIXED = "pykan spreads the score of a node over its factors along the wrong axis: an error, or silently transposed scores"
MIXED_OUTPUTS = dict.fromkeys(["edge_backward", "scores", "pruned", "attribute"], MIXED)
MIXED_NODES = dict.fromkeys(["node_backward", "attribute"], MIXED)
"""Arities per node: wrong as soon as the scores of several nodes are traced at once, outputs in the first case and hidden nodes here."""


GELSY = "pykan's solver takes the five interpolation conditions of an edge for dependent; its splines miss the noise by a third of its size"


def fixed(l: int, i: int, j: int, name: str, *affine: float) -> tuple[Any, ...]:
    return ("fix", l, i, j, name, list(affine) or [1.0, 0.0, 1.0, 0.0])


CASES = [
    # Plain networks as constructed
    Case("small", [2, 3, 1], lively=False),
    Case("hello", [2, 5, 1], {"grid": 5, "seed": 42}, lively=False),
    Case("hello, float32", [2, 5, 1], {"grid": 5, "seed": 42}, "float32", lively=False),
    Case("default seed, float32", [2, 3, 1], {}, "float32", lively=False),
    Case("one layer", [3, 2], {"seed": 3}, lively=False),
    Case("one edge", [1, 1], {"grid": 5, "seed": 4}, lively=False),
    Case("deep", [2, 3, 3, 2, 1], {"seed": 5}, lively=False),
    Case("wide", [6, 10, 4], {"seed": 6}, lively=False),
    Case("noise 0", [2, 3, 1], {"noise_scale": 0.0, "seed": 7}, lively=False),
    Case("noise 1", [2, 3, 1], {"noise_scale": 1.0, "seed": 8}, lively=False),
    Case("base with a mean", [3, 3, 1], {"scale_base_mu": 0.5, "scale_base_sigma": 0.3, "seed": 9}, lively=False),
    Case("base identity", [2, 3, 1], {"base_fun": "identity", "seed": 10}, lively=False),
    Case("base zero", [2, 3, 1], {"base_fun": "zero", "seed": 11, "noise_scale": 2.0}, lively=False),
    Case("large seed", [2, 2, 1], {"seed": 123456789}, lively=False),
    Case("sparse", [4, 6, 3], {"sparse_init": True, "seed": 12}, lively=False),
    Case("sparse, float32", [4, 6, 3], {"sparse_init": True, "seed": 13}, "float32", lively=False),
    # Degrees, grids
    Case("degree 1", [2, 4, 1], {"k": 1, "grid": 5, "seed": 14}, refined=10),
    Case("degree 2", [2, 4, 1], {"k": 2, "grid": 5, "seed": 15}, refined=10),
    Case("degree 3", [2, 4, 1], {"k": 3, "grid": 5, "seed": 16}, refined=10),
    Case("degree 4", [2, 4, 1], {"k": 4, "grid": 5, "seed": 17}, refined=10),
    Case("degree 5", [2, 4, 1], {"k": 5, "grid": 5, "seed": 18}, refined=10),
    Case("degree 1, float32", [2, 4, 1], {"k": 1, "grid": 4, "seed": 19}, "float32"),
    Case("degree 2, float32", [2, 4, 1], {"k": 2, "grid": 4, "seed": 20}, "float32"),
    Case("degree 4, float32", [2, 4, 1], {"k": 4, "grid": 4, "seed": 21}, "float32"),
    Case("degree 5, float32", [2, 4, 1], {"k": 5, "grid": 4, "seed": 22}, "float32", omitted={"coef": GELSY}),
    Case("one interval", [2, 3, 1], {"grid": 1, "seed": 23}, refined=2),
    Case("fine", [2, 3, 1], {"grid": 12, "seed": 24}, samples=120, refined=24),
    Case("per-layer grids", [2, 3, 2, 1], {"grid": [3, 5, 2], "seed": 25}, refined=[6, 10, 4]),
    Case("per-layer grids, refined to others", [2, 3, 2, 1], {"grid": [3, 5, 2], "seed": 26}, refined=[5, 7, 3]),
    Case("per-layer degrees", [2, 3, 2, 1], {"k": [1, 2, 3], "seed": 27}),
    Case("per-layer degrees and grids", [2, 3, 1], {"k": [4, 2], "grid": [2, 6], "seed": 28}, refined=[4, 12]),
    Case("range 0 to 3", [2, 3, 1], {"grid_range": [0, 3], "seed": 29}, span=3.0),
    Case("range -5 to 5, float32", [2, 3, 1], {"grid_range": [-5, 5], "seed": 30}, "float32", span=5.0),
    Case("uniform grid updates", [2, 3, 1], {"grid_eps": 1.0, "seed": 31}),
    Case("quantile grid updates", [2, 3, 1], {"grid_eps": 0.0, "seed": 32}),
    Case("half and half", [2, 3, 1], {"grid_eps": 0.5, "seed": 33}, data_seed=7),
    Case("samples beyond the grid", [2, 3, 1], {"seed": 34}, span=3.0),
    Case("samples beyond all splines", [2, 3, 1], {"seed": 35}, span=6.0),
    Case("samples inside the grid", [3, 3, 1], {"seed": 36}, span=0.4),
    Case("refined to a number that is no multiple", [2, 3, 1], {"grid": 4, "seed": 37}, refined=7),
    Case("few samples", [2, 3, 1], {"grid": 5, "seed": 38}, samples=7, span=0.9, refined=20),
    Case("too few samples to refine", [2, 3, 1], {"grid": 3, "seed": 39}, samples=20, span=0.9, refined=24),
    # Trained affines, several outputs
    Case("node affines", [2, 3, 1], {"seed": 40}, affine=True),
    Case("node affines, deep, several outputs", [3, 4, 3, 2], {"seed": 41}, affine=True),
    Case("several outputs, float32", [3, 4, 3], {"seed": 42}, "float32", affine=True),
    # Multiplication
    Case("product", [2, [1, 1], 1], {"seed": 43}),
    Case("products only", [2, [0, 3], 1], {"seed": 44}),
    Case("products, float32", [3, [2, 2], 2], {"seed": 45}, "float32", affine=True),
    Case("products of three", [3, [2, 2], 1], {"mult_arity": 3, "seed": 46}),
    Case("products of four, affine", [2, [1, 2], 2], {"mult_arity": 4, "seed": 47}, affine=True),
    Case("products in two layers", [2, [2, 1], [1, 2], 1], {"seed": 48}, affine=True),
    Case("a product as output", [2, 2, [1, 1]], {"seed": 49}),
    Case("products as constructed", [2, [2, 2], 1], {"seed": 50}, lively=False),
    Case("sparse products", [4, [2, 2], 1], {"seed": 51, "sparse_init": True}),
    Case("mixed arity", [2, [1, 2], 1], {"mult_arity": [[], [2, 3], []], "seed": 52}, omitted=MIXED_NODES),
    Case("mixed arity, affine", [3, [2, 3], 1], {"mult_arity": [[], [3, 2, 4], []], "seed": 53}, affine=True, omitted=MIXED_NODES),
    Case(
        "mixed arity, two layers", [2, [2, 1], [1, 2], 1], {"mult_arity": [[], [3], [2, 3], []], "seed": 54}, omitted=MIXED_NODES
    ),
    Case(
        "mixed arity, several outputs", [2, [1, 2], 3], {"mult_arity": [[], [2, 3], []], "seed": 55}, omitted=MIXED_NODES | MIXED_OUTPUTS
    ),
    Case("mixed arity, float32", [2, [1, 2], 1], {"mult_arity": [[], [2, 3], []], "seed": 56}, "float32", omitted=MIXED_NODES),
    # Masks
    Case("masked", [2, 4, 1], {"seed": 57}, operations=[("remove", 0, 0, 1), ("remove", 0, 1, 3), ("remove", 1, 2, 0)]),
    Case("masked node", [2, 4, 2], {"seed": 58}, operations=[("remove", 0, 0, 1), ("remove node", 1, 2, "up")]),
    Case("masked, float32", [3, 4, 2], {"seed": 59}, "float32", operations=[("remove", 0, 0, 1), ("remove", 1, 3, 1)]),
    Case("masked products", [3, [2, 1], 1], {"seed": 60}, operations=[("remove", 0, 0, 2), ("remove", 0, 2, 1)], affine=True),
    Case("half masks", [2, 3, 1], {"seed": 61}, operations=[("mode", 0, 0, 1, "sn", 0.3), ("mode", 1, 2, 0, "sn", 0.7)]),
    # Symbolic edges
    Case("symbolic", [2, 3, 1], {"seed": 62}, operations=[fixed(0, 0, 1, "sin", 1.5, 0.2, 0.7, -0.1), fixed(1, 1, 0, "x^2", 0.8, 0.1)]),
    Case(
        "symbolic throughout", [2, 2, 1], {"seed": 63}, lively=False,
        operations=[
            fixed(0, 0, 0, "sin", 3.0, 0.1, 1.0, 0.0), fixed(0, 1, 0, "x^2", 1.0, 0.0, 0.5, 0.2), fixed(0, 0, 1, "abs"),
            fixed(0, 1, 1, "tanh", 2.0, -0.3, 0.9, 0.1), fixed(1, 0, 0, "exp", 0.5, 0.1, 1.2, -1.0), fixed(1, 1, 0, "x", 0.4, 0.0),
        ],
        omitted={"updated": "no spline is left", "refined": "no spline is left"},
    ),
    Case(
        "symbolic and numeric at once", [2, 3, 2], {"seed": 64}, affine=True,
        operations=[fixed(0, 0, 1, "cos", 2.0, 0.3, 0.7, 0.1), ("mode", 0, 0, 1, "sn", 0.6), fixed(1, 2, 1, "gaussian", 1.3)],
    ),
    Case(
        "symbolic products", [2, [1, 2], 1], {"seed": 65, "mult_arity": 3}, affine=True,
        operations=[fixed(0, 1, 3, "x^3", 0.9, 0.2, 0.7, 0.0), fixed(0, 0, 6, "arctan", 2.0), fixed(1, 2, 0, "sin", 0.5, 0.5)],
    ),
    Case(
        "symbolic, mixed arity", [2, [1, 2], 1], {"seed": 66, "mult_arity": [[], [2, 3], []]},
        operations=[fixed(0, 1, 3, "exp", 0.9, 0.2, 0.7, 0.0), ("remove", 0, 0, 0)], omitted=MIXED_NODES,
    ),
    Case("symbolic, float32", [2, 3, 1], {"seed": 67}, "float32", operations=[fixed(0, 0, 1, "sin", 1.5, 0.2), fixed(1, 0, 0, "cos", 0.4)]),
    Case(
        "singular", [2, 3, 1], {"seed": 68},
        operations=[
            fixed(0, 0, 0, "1/x", 1.0, 0.0, 0.3), fixed(0, 1, 0, "log", 1.0, 1.2), fixed(0, 0, 1, "1/x^2", 1.0, 0.1, 0.02),
            fixed(0, 1, 2, "arcsin", 0.9), fixed(1, 2, 0, "exp", 0.3),
        ],
    ),
    Case(
        "symbolic switched off", [2, 3, 1], {"seed": 69, "symbolic_enabled": False},
        operations=[fixed(0, 0, 1, "sin"), ("mode", 0, 0, 1, "sn")],
    ),
    # Updated and refined before anything is looked at
    Case("updated", [2, 3, 1], {"seed": 70}, operations=[("update",)]),
    Case("updated, degree 2, several outputs", [3, 3, 2], {"seed": 71, "k": 2}, operations=[("update",)], affine=True),
    Case("updated, float32", [2, 3, 1], {"seed": 72}, "float32", operations=[("update",)]),
    Case("refined", [2, 3, 1], {"seed": 73}, span=0.9, operations=[("update",), ("refine", 6)], refined=12),
    Case("refined, degree 1", [2, 3, 1], {"seed": 74, "k": 1}, operations=[("update",), ("refine", 7)], refined=14),
    Case("refined, degree 5", [2, 3, 1], {"seed": 75, "k": 5, "grid": 2}, operations=[("update",), ("refine", 4)], refined=8),
    Case("refined, float32", [2, 3, 1], {"seed": 76}, "float32", operations=[("update",), ("refine", 6)], refined=12),
    Case("refined products", [2, [1, 1], 1], {"seed": 77}, affine=True, operations=[("update",), ("refine", [6, 9])], refined=[12, 18]),
    Case(
        "refined, mixed arity, masked", [2, [1, 2], 1], {"seed": 78, "mult_arity": [[], [2, 3], []]},
        operations=[("remove", 0, 1, 2), ("update",), ("refine", 6)], refined=12, omitted=MIXED_NODES,
    ),
    Case(
        "refined, symbolic", [2, 3, 1], {"seed": 79}, operations=[fixed(0, 0, 1, "sin", 2.0), ("update",), ("refine", 5)], refined=10
    ),
]  # fmt: skip


DATASETS: dict[str, dict[str, Any]] = {
    "default": {},
    "one variable": {"n_var": 1, "ranges": [0, 3], "seed": 1},
    "ranges per variable": {"n_var": 3, "ranges": [[0, 1], [-2, 2], [5, 6]], "seed": 2},
    "rows": {"n_var": 2, "f_mode": "row", "seed": 3, "train_num": 30, "test_num": 7},
    "normalised": {"n_var": 2, "normalize_input": True, "normalize_label": True, "seed": 4},
    "few": {"n_var": 4, "train_num": 3, "test_num": 2, "seed": 5},
    "no column": {"n_var": 2, "seed": 6, "train_num": 9, "test_num": 9},
}
"""Arguments of ``create_dataset``."""

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": lambda x: torch.sin(x[0]) + x[1] ** 2,
    "no column": lambda x: x[:, 0] * x[:, 1],
}


def column(x: Tensor) -> Tensor:
    return torch.exp(torch.sin(math.pi * x[:, [0]]) + x[:, [-1]] ** 2)


# Numbers as they are recorded


def numbers(t: Tensor) -> dict[str, Any]:
    """An array as it is recorded, in full precision."""
    flat = t.detach().double().flatten()
    if len(flat) <= WHOLE:
        return {"shape": list(t.shape), "values": flat.tolist()}
    index = torch.arange(len(flat), dtype=torch.float64)
    sums = [float(flat @ torch.cos(speed * index + 0.3)) for speed in (0.7, 2.1)]
    return {"shape": list(t.shape), "norm": float(flat.norm()), "sums": sums, "values": flat[:FIRST].tolist()}


def each(tensors: Any) -> list[dict[str, Any]]:
    return [numbers(t) for t in tensors]


# What is done to a network


def _draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator)


@torch.no_grad()
def enliven(model: Any, generator: torch.Generator) -> None:
    for layer in model.act_fun:
        layer.coef.copy_(0.5 * _draw(layer.coef.shape, generator))


@torch.no_grad()
def bend(model: Any, generator: torch.Generator) -> None:
    for parameters in (model.node_scale, model.node_bias, model.subnode_scale, model.subnode_bias):
        for parameter in parameters:
            parameter.add_(0.3 * _draw(parameter.shape, generator))


def _fix(model: Any, x: Tensor, l: int, i: int, j: int, name: str, affine: list[float]) -> Any:
    model.fix_symbolic(l, i, j, name, fit_params_bool=False, verbose=False, log_history=False)
    model.symbolic_fun[l].affine.data[j, i] = torch.tensor(affine + [1.0, 0.0, 1.0, 0.0][len(affine) :])
    return model


def _mode(model: Any, x: Tensor, *arguments: Any) -> Any:
    model.set_mode(*arguments)
    return model


def _remove(model: Any, x: Tensor, l: int, i: int, j: int) -> Any:
    model.remove_edge(l, i, j, log_history=False)
    return model


def _remove_node(model: Any, x: Tensor, l: int, i: int, mode: str) -> Any:
    model.remove_node(l, i, mode, log_history=False)
    return model


def _update(model: Any, x: Tensor) -> Any:
    model.update_grid(x)
    return model


def _refine(model: Any, x: Tensor, grid: Any) -> Any:
    model(x)
    return model.refine(grid)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "fix": _fix,
    "mode": _mode,
    "remove": _remove,
    "remove node": _remove_node,
    "update": _update,
    "refine": _refine,
}


@contextlib.contextmanager
def default_dtype(name: str) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def samples(case: Case) -> Tensor:
    width = case.width[0]
    return case.span * (2 * torch.rand(case.samples, width, generator=torch.Generator().manual_seed(case.data_seed)) - 1)


def constructed(case: Case, make: Callable[..., Any]) -> Any:
    """The network as its constructor leaves it. pykan changes the width that it is given."""
    return make(width=json.loads(json.dumps(case.width)), **json.loads(json.dumps(case.arguments)))


def prepared(case: Case, make: Callable[..., Any]) -> tuple[Any, Tensor]:
    """The network with everything done to it, having seen its samples."""
    model, x = constructed(case, make), samples(case)
    generator = torch.Generator().manual_seed(case.data_seed + 1000)
    if case.lively:
        enliven(model, generator)
    if case.affine:
        bend(model, generator)
    for name, *arguments in case.operations:
        model = OPERATIONS[name](model, x, *arguments)
    model(x)
    return model, x


# What is looked at


def initial(case: Case, make: Callable[..., Any]) -> dict[str, Any]:
    """Parameters as constructed."""
    model = constructed(case, make)
    names = [name for name in ("grid", "coef", "scale_base", "scale_sp", "mask") if name not in case.omitted]
    return {name: each(getattr(layer, name) for layer in model.act_fun) for name in names}


def activations(case: Case, make: Callable[..., Any]) -> dict[str, Any]:
    """Outputs and everything that a pass knows."""
    model, x = prepared(case, make)
    found = {"output": [numbers(model(x))]}
    for name in (
        "acts", "acts_premult", "spline_postacts", "spline_postsplines", "subnode_actscale", "edge_actscale", "acts_scale",
        "acts_scale_spline",
    ):  # fmt: skip
        found[name] = each(getattr(model, name))
    if any(name == "fix" for name, *_ in case.operations):
        found["output, avoiding singularities"] = [numbers(model(x, singularity_avoiding=True, y_th=10.0))]
    return found


def penalties(
    case: Case, make: Callable[..., Any], before: Callable[[Any, str], None] = lambda model, metric: None
) -> dict[str, list[float]]:
    """By metric, with each of `LAMBDAS`; `before` is called with the network and the metric."""
    found = {}
    model, _ = prepared(case, make)
    for metric in METRICS:
        if metric not in case.omitted:
            before(model, metric)
            found[metric] = [float(model.reg(metric, *lambdas).detach()) for lambdas in LAMBDAS]
    return found


def scores(case: Case, make: Callable[..., Any]) -> dict[str, Any]:
    """Attribution."""
    found: dict[str, Any] = {}
    model, _ = prepared(case, make)
    if "scores" not in case.omitted:
        model.attribute()
        for name in ("node_scores", "edge_scores", "subnode_scores"):
            found[name] = each(getattr(model, name))
        found["feature_score"] = [numbers(model.feature_score)]
    if "attribute" not in case.omitted:  # last, since pykan's network keeps the scores of this call instead of its own
        found["attribute(1)"] = [numbers(model.attribute(1))]
        found["attribute(1, 0)"] = [numbers(model.attribute(1, 0, plot=False))]
    return found


def _threshold(layers: Sequence[Tensor]) -> float:
    """In the widest gap between scores, and below the largest of every layer."""
    limit = min(float(layer.max()) for layer in layers)
    pool = sorted({0.0, limit, *(v for layer in layers for v in layer.flatten().tolist() if v < limit)})
    low, high = max(zip(pool[:-1], pool[1:], strict=True), key=lambda pair: pair[1] - pair[0])
    return (low + high) / 2


def thresholds(case: Case, make: Callable[..., Any]) -> dict[str, float]:
    """Such that pruning drops something and leaves something."""
    model, _ = prepared(case, make)
    model.attribute()
    nodes = [score.detach() for score in model.node_scores]
    found = {"edge": _threshold([score.detach() for score in model.edge_scores]), "input": _threshold(nodes[:1])}
    if len(nodes) > 2:
        found["node"] = _threshold(nodes[1:-1])
    return found


def remains(model: Any) -> dict[str, Any]:
    """Which nodes and edges are left, seen by the parameters."""
    return {
        "width": [list(pair) for pair in model.width],
        "mult_arity": model.mult_arity if isinstance(model.mult_arity, int) else [list(arities) for arities in model.mult_arity],
        "masks": ["".join(str(int(v > 0)) for v in layer.mask.flatten().tolist()) for layer in model.act_fun],
        "names": [layer.funs_name for layer in model.symbolic_fun],
        "coef": [numbers(torch.cat([layer.coef.flatten() for layer in model.act_fun]))],
        "affine": [numbers(torch.cat([layer.affine.flatten() for layer in model.symbolic_fun]))],
        "input_id": model.input_id.tolist(),
    }


def pruned(case: Case, make: Callable[..., Any], at: dict[str, float]) -> dict[str, Any]:
    """What pruning leaves with the thresholds `at`."""
    found: dict[str, Any] = {}
    if "node" in at:
        found["prune_node"] = remains(prepared(case, make)[0].prune_node(at["node"], log_history=False))
        kept = [[0] for _ in case.width[1:-1]]
        found["prune_node, named"] = remains(prepared(case, make)[0].prune_node(active_neurons_id=kept, log_history=False))
        found["prune"] = remains(prepared(case, make)[0].prune(node_th=-1.0, edge_th=at["edge"]))
        found["prune, nodes too"] = remains(prepared(case, make)[0].prune(node_th=at["node"], edge_th=0.5 * at["edge"]))
    model, _ = prepared(case, make)
    model.attribute()
    model.prune_edge(at["edge"], log_history=False)
    found["prune_edge"] = remains(model)
    found["prune_input"] = remains(prepared(case, make)[0].prune_input(at["input"], log_history=False))
    # pykan's network without some inputs has lost the symbolic functions of all layers but the first.
    found["prune_input"]["names"] = found["prune_input"]["names"][:1]
    return found


def knots(model: Any) -> list[dict[str, Any]]:
    return each(layer.grid for layer in model.act_fun)


def moved(before: Tensor, after: Tensor) -> float:
    """How far a function has moved, as a share of its largest value."""
    return float((after - before).detach().abs().max() / before.detach().abs().max().clamp(min=1e-300))


def updated(case: Case, make: Callable[..., Any]) -> tuple[dict[str, Any], Any]:
    """After a grid update: knots and function on the samples."""
    model, x = prepared(case, make)
    model.update_grid(x)
    return {"knots": knots(model), "output": [numbers(model(x))]}, model


def refined(case: Case, make: Callable[..., Any]) -> tuple[dict[str, Any], Any]:
    """After a grid update and a refinement, so that no sample lies outside of the grids that are refined.

    Also how far the function has moved, on the samples and between them.
    """
    model, x = prepared(case, make)
    model.update_grid(x)
    between = torch.lerp(x, x.roll(1, dims=0), 0.3)
    before_between, before = model(between).detach(), model(x).detach()
    new = model.refine(json.loads(json.dumps(case.refined)))
    found = {
        "knots": knots(new),
        "moved between the samples": moved(before_between, new(between)),
        "moved on the samples": moved(before, new(x)),
        "output": [numbers(new(x))],
    }
    return found, new


def dataset(name: str, create_dataset: Callable[..., dict[str, Tensor]]) -> dict[str, Any]:
    data = create_dataset(FUNCTIONS.get(name, column), **DATASETS[name])
    return {part: [numbers(values)] for part, values in data.items()}


# The recording, which runs where `kan` is pykan


def _rounded(record: Any, digits: int) -> Any:
    if isinstance(record, float):
        return float(f"{record:.{digits}g}")
    if isinstance(record, dict):
        return {name: _rounded(value, digits) for name, value in record.items()}
    return [_rounded(value, digits) for value in record] if isinstance(record, list) else record


def _smallest_share(model: Any) -> float:
    """Over all inputs of all layers, the smallest singular value of the splines at the last activations, as a share of the largest."""
    from kan.spline import B_batch

    shares = []
    for layer, x in zip(model.act_fun, model.acts, strict=False):
        design = B_batch(x.detach().double(), layer.grid.double(), k=layer.k)
        for i in range(design.shape[1]):
            values = torch.linalg.svdvals(design[:, i])
            shares.append(float(values[-1] / values[0]) if len(design) >= design.shape[2] else 0.0)
    return min(shares)


def _as_pykan_needs(model: Any, metric: str) -> None:
    """pykan's penalties of scores are taken of the scores that lie about."""
    if metric == "edge_backward":
        model.attribute()
    elif metric == "node_backward":
        model.node_attribute()


def observed(case: Case, make: Callable[..., Any]) -> dict[str, Any]:
    record: dict[str, Any] = {"initial": initial(case, make), "activations": activations(case, make)}
    record["penalties"] = penalties(case, make, _as_pykan_needs)
    record["scores"] = scores(case, make)
    if "pruned" not in case.omitted:
        at = thresholds(case, make)
        record["pruned"] = {"thresholds": at, **pruned(case, make, at)}
    for name, look in (("updated", updated), ("refined", refined)):
        if name not in case.omitted:
            found, model = look(case, make)
            record[name] = {**found, "smallest share": _smallest_share(model)}
    return record


def record() -> dict[str, Any]:
    """Everything, with the package called `kan` that is installed here."""
    import importlib.metadata

    from kan import KAN
    from kan.utils import create_dataset

    golden: dict[str, Any] = {"pykan": importlib.metadata.version("pykan"), "torch": torch.__version__.partition("+")[0]}
    golden["datasets"] = {}
    for dtype in DIGITS:
        with default_dtype(dtype):
            golden["datasets"][dtype] = {name: _rounded(dataset(name, create_dataset), DIGITS[dtype]) for name in DATASETS}
    golden["networks"] = {}
    for case in CASES:
        with default_dtype(case.dtype):
            try:
                found = observed(case, KAN)
            except Exception as error:
                raise RuntimeError(f"the network {case.name!r} cannot be recorded") from error
        golden["networks"][case.name] = _rounded(found, DIGITS[case.dtype])
    return golden


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="an interpreter that has pykan 0.2.8; without it, an environment is made")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "pykan-environment", help="where pykan is installed")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record with the interpreter that runs this")
    arguments = parser.parse_args()
    if arguments.record:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
            golden = record()
        # One network a line, so that a change of one shows as such.
        lines = [f"  {json.dumps(name)}: {json.dumps(found, separators=(',', ':'))}" for name, found in golden.pop("networks").items()]
        head = json.dumps(golden, separators=(",", ":"))[:-1]
        arguments.record.write_text(head + ',"networks":{\n' + ",\n".join(lines) + "\n}}\n")
        return

    python = arguments.python
    if python is None:
        sys.path.insert(0, str(ROOT))  # the benchmarks need the same environment
        from benchmarks.environments import PYKAN, python_of

        python = python_of(PYKAN, arguments.environment)
    with tempfile.TemporaryDirectory() as folder:  # pykan leaves its versions where it runs
        command = [python, str(Path(__file__).resolve()), "--record", str(GOLDEN)]
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": ""}, check=True)
    print(f"{len(CASES)} networks written to {GOLDEN}, {GOLDEN.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
