"""The networks of ``checkpoints.py``, made by the same lines in either library: both are called `kan`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Data = dict[str, Any]
Change = Callable[[Any, Data], Any]
OWN = "bump"
"""Name of a function of one's own."""


def looked(model: Any, data: Data) -> Any:
    model(data["train_input"])
    return model


def fitted(model: Any, data: Data, **options: Any) -> Any:
    model.fit(data, **{"opt": "LBFGS", "steps": 3, "lamb": 1e-3, **options})
    return model


def attributed(model: Any, data: Data) -> Any:
    fitted(model, data)
    model.attribute()
    return model


def edge_pruned(model: Any, data: Data) -> Any:
    attributed(model, data).prune_edge(threshold=0.1)
    return model


def updated(model: Any, data: Data) -> Any:
    model.update_grid_from_samples(2 * data["train_input"] + 0.3)
    return model


def with_functions(model: Any, data: Data) -> Any:
    """Some edges of the first layer fitted, one of the second not, one numeric and symbolic at once."""
    looked(model, data)
    for i, j, name in [(0, 0, "sin"), (0, 1, "x^2"), (1, 0, "exp"), (1, 2, "tanh"), (0, 3, "gaussian")]:
        model.fix_symbolic(0, i, j, name, verbose=False)
    model.fix_symbolic(1, 1, 0, "abs", fit_params_bool=False)
    model.set_mode(0, 1, 2, "sn", 0.25)
    return model


def with_every_function(model: Any, data: Data) -> Any:
    """Every function of the library on an edge of its own, at arguments between 0.1 and 0.9; of the zero function a constant remains."""
    import torch

    from kan import SYMBOLIC_LIB

    looked(model, data)
    with torch.no_grad():
        for j, name in enumerate(SYMBOLIC_LIB):
            model.fix_symbolic(0, 0, j, name, fit_params_bool=name == "0", verbose=False, log_history=False)
            if name != "0":
                model.symbolic_fun[0].affine[j, 0] = torch.tensor([0.4, 0.5, 1 + 0.1 * j, -0.2])
    return looked(model, data)


def named(model: Any, data: Data) -> Any:
    fitted(model, data).auto_symbolic(lib=["x", "x^2", "sin", "exp"], verbose=0)
    return model


def freed(model: Any, data: Data) -> Any:
    with_functions(model, data).unfix_symbolic(0, 0, 1)
    return model


def masked(model: Any, data: Data) -> Any:
    looked(model, data).remove_edge(0, 1, 2)
    model.remove_node(1, 0)
    model.set_mode(1, 3, 0, "n", 0.5)
    return looked(model, data)


def scaled(model: Any, data: Data) -> Any:
    """Scales and biases of nodes and sub-nodes are others than 1 and 0."""
    import torch

    with torch.no_grad():
        for number, (name, parameter) in enumerate(model.named_parameters()):
            if "node" in name:
                at = torch.arange(parameter.numel(), dtype=parameter.dtype)
                parameter.copy_(("scale" in name) + 0.3 * torch.cos(at + number))
    return fitted(model, data, steps=1)


def with_symbols_off(model: Any, data: Data) -> Any:
    with_functions(model, data).symbolic_enabled = False
    return model


def rewound(model: Any, data: Data) -> Any:
    fitted(model, data, steps=1)
    fitted(model, data, steps=1)
    return fitted(model.rewind("0.1"), data, steps=1)


def compiled(model: Any, data: Data) -> Any:
    import sympy

    from kan.compiler import kanpiler

    x, y = sympy.symbols("x y")
    return looked(kanpiler([x, y], sympy.sin(x) * sympy.exp(y) + x**2), data)


def widened(model: Any, data: Data) -> Any:
    model = compiled(model, data)
    model.expand_width(1, 1)
    model.perturb(mag=0.1, mode="all")
    return looked(model, data)


def deepened(model: Any, data: Data) -> Any:
    looked(model, data).expand_depth()
    return looked(model, data)


def without_inputs(model: Any, data: Data) -> Any:
    looked(model, data)
    return model.prune_input(active_inputs=[1])


def nameless(model: Any, data: Data) -> Any:
    import torch

    looked(model, data).fix_symbolic(0, 0, 0, torch.sinc, fit_params_bool=False)
    return model


def tell(name: str) -> None:
    """Register a function of one's own."""
    import torch

    from kan import add_symbolic

    add_symbolic(name, torch.sinc)


def of_ones_own(model: Any, data: Data) -> Any:
    tell(OWN)
    looked(model, data).fix_symbolic(0, 0, 0, OWN, fit_params_bool=False)
    return model


@dataclass(frozen=True)
class Case:
    """A network.

    Attributes:
        name: unlike all others.
        width: of the network.
        arguments: the constructor's others; strings in braces stand for values, see `constructed`.
        change: what is done to it before it is saved.
        dtype: torch's default when it is made.
        span: inputs are uniform on it.
        beyond: what it has that pykan's files cannot hold; empty for what both libraries should read of each other.
        told: what a process must be told before it can open it, by `tell`.
        untold: it is opened without that, and is to be refused with the reason.
    """

    name: str
    width: list[Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    change: Change = fitted
    dtype: str = "float64"
    span: tuple[float, float] = (-1, 1)
    beyond: str = ""
    told: str = ""
    untold: bool = False


CASES = [
    Case("as constructed", [2, 5, 1], change=lambda model, data: model),
    Case("after a pass", [2, 5, 1], change=looked),
    Case("fitted", [2, 5, 1]),
    Case("fitted in float32", [2, 5, 1], dtype="float32"),
    Case("functions in float32", [2, 4, 1], change=with_functions, dtype="float32"),
    Case("deeper", [3, 4, 3, 2, 1]),
    Case("several outputs", [3, 4, 2]),
    Case("multiplication", [2, [2, 2], 1], {"mult_arity": 3}),
    Case("multiplication of mixed arities", [2, [1, 2], [2, 1], 1], {"mult_arity": [[], [2, 3], [4], []]}),
    Case("grid 10, degree 5", [2, 3, 1], {"grid": 10, "k": 5}),
    Case("grid 1, degree 1", [2, 3, 1], {"grid": 1, "k": 1}),
    Case("grids and degrees by layer", [2, 3, 1], {"grid": [3, 7], "k": [2, 4]}),
    Case("updated grid", [2, 3, 1], {"grid_eps": 0.5, "grid_range": [-3, 2]}, updated),
    Case("updated grid, uniform", [2, 3, 1], {"grid_eps": 1.0}, updated),
    Case("pruned", [2, 5, 1], change=lambda model, data: attributed(model, data).prune(node_th=0.05, edge_th=0.1)),
    Case("pruned and fitted", [2, 5, 1], change=lambda model, data: fitted(attributed(model, data).prune(0.05, 0.1), data)),
    Case("nodes pruned", [2, 5, 1], change=lambda model, data: attributed(model, data).prune_node(active_neurons_id=[[0, 2, 4]])),
    Case("edges pruned", [2, 5, 1], change=edge_pruned),
    Case("refined", [2, 3, 1], change=lambda model, data: fitted(model, data).refine(10)),
    Case("refined and fitted", [2, 3, 1], change=lambda model, data: fitted(fitted(model, data).refine(10), data)),
    Case("functions", [2, 4, 1], change=with_functions),
    Case("every function", [1, 29, 1], change=with_every_function, span=(-0.9, 0.9)),
    Case("automatic functions", [2, 1, 1], change=named),
    Case("functions freed", [2, 4, 1], change=freed),
    Case("functions switched off", [2, 4, 1], change=with_symbols_off),
    Case("edges and nodes removed", [2, 4, 1], change=masked),
    Case("scales and biases", [2, [2, 1], 1], {"affine_trainable": True}, scaled),
    Case("sparse", [4, 4, 1], {"sparse_init": True}),
    Case("base function identity", [2, 3, 1], {"base_fun": "identity"}),
    Case("base function zero", [2, 3, 1], {"base_fun": "zero"}),
    Case("frozen weights", [2, 3, 1], {"sp_trainable": False, "sb_trainable": False, "save_act": True}),
    Case("noise and scales", [2, 3, 1], {"noise_scale": 1.0, "scale_base_mu": 0.5, "scale_base_sigma": 0.1}),
    Case("rewound", [2, 3, 1], change=rewound),
    Case("modified by hand", [2, 4, 1], change=lambda model, data: (looked(model, data).swap(1, 0, 2), model)[1]),
    Case("compiled from a formula", [2, 1], change=compiled),
    Case("compiled, widened, perturbed", [2, 1], change=widened),
    Case("numpy integers", [2, 3, 1], {"grid": "{numpy}"}, beyond="pykan writes YAML tags, which it refuses to read; ours are plain"),
    Case("inputs pruned", [2, 3, 1], change=without_inputs, beyond="which columns are kept, and the base function of what remains"),
    Case("deepened", [2, 2, 1], {"mult_arity": [[], [], []]}, deepened, beyond="pykan leaves new affine parameters out of the state"),
    Case("nameless function", [2, 3, 1], change=nameless, beyond="a symbolic function without a name", untold=True),
    Case("function of one's own", [2, 3, 1], change=of_ones_own, beyond="a symbolic function that nobody registered", untold=True),
    Case("base function of one's own", [2, 3, 1], {"base_fun": "{tanh}"}, beyond="a base function that is no name", untold=True),
    Case("degree 0", [2, 3, 1], {"k": 0}, looked, beyond="splines of degree 0, which pykan cannot make"),
    Case("function of one's own, registered", [2, 3, 1], change=of_ones_own, told=OWN),
    Case("optimiser's memory", [2, 3, 1], change=lambda model, data: fitted(model, data, opt="Adam", lr=0.01), beyond="what a fit resumes"),
]


def constructed(case: Case) -> Any:
    import torch

    from kan import KAN

    stand_ins = {"{numpy}": np.int64(4), "{tanh}": torch.tanh}
    arguments = {name: stand_ins.get(value, value) if isinstance(value, str) else value for name, value in case.arguments.items()}
    return KAN(width=[*case.width], **arguments, seed=3)


def samples(case: Case) -> Data:
    """The same in both libraries."""
    import torch

    inputs = case.width[0]
    span = np.random.default_rng(5).uniform(*case.span, (60, inputs))
    x = torch.tensor(span, dtype=torch.get_default_dtype())
    y = torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [-1]] ** 2)
    width = case.width[-1]
    y = torch.cat([y + i * x[:, [0]] for i in range(width)], dim=1)
    return {"train_input": x[:40], "train_label": y[:40], "test_input": x[40:], "test_label": y[40:]}
