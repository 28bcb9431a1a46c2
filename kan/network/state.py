"""State dictionaries that know their network.

The keys and tensors of a network's state dictionary are pykan's, and they do not tell a network from another: not which functions symbolic
edges have, not how many factors a product has. What is missing travels as plain data in the dictionary's ``_metadata``, where torch keeps
versions; ``torch.save``, ``torch.load`` and ``copy.deepcopy`` keep it, ``dict(state)`` and ``state.copy()`` drop it. Without it, as in
files that pykan or safetensors wrote, shapes tell what they can.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from kan.layers.symbolic_layer import NONE, SymbolicLayer
from kan.network.labels import NORMALIZERS
from kan.network.layered import LayeredNetwork
from kan.network.structure import Structure, per_layer
from kan.symbolic.library import ANONYMOUS, SymbolicFunction, anonymous, lookup

__all__ = [
    "ARCHITECTURE",
    "SymbolicNames",
    "build",
    "check_settings",
    "describe",
    "maps_of",
    "restore_",
    "restore_maps_",
    "same_shapes",
    "sizes_of",
    "still_frozen",
    "unchanged_on_error",
]

N = TypeVar("N", bound=LayeredNetwork)
Functions: TypeAlias = dict[tuple[int, int], tuple[str, SymbolicFunction]]
SymbolicNames: TypeAlias = Sequence[Sequence[Sequence[str | Callable[[Tensor], Tensor]]]]
"""For every layer, nested ``[out][in]``, the names of the edges' functions or the functions themselves; ``'0'`` where there is none."""

ARCHITECTURE = "architecture"
"""The entry of the metadata."""
SETTINGS = (
    "width", "grid", "k", "mult_arity", "noise_scale", "scale_base_mu", "scale_base_sigma", "base_fun", "symbolic_enabled",
    "affine_trainable", "grid_eps", "grid_range", "sp_trainable", "sb_trainable", "seed", "save_act", "sparse_init",
)  # fmt: skip


def describe(network: LayeredNetwork) -> dict[str, Any]:
    """What the tensors of a state dictionary do not say, in lists, strings and numbers.

    The arguments of the constructor, with None for a base function that has no name; ``symbolic``, ``[in, out, name]`` of the edges with
    a function, for every layer; ``input_id`` and ``input_width``; ``frozen``, the names of the parameters that are not trained.
    """
    settings = network.settings()
    base_fun = settings["base_fun"]
    return {
        **{name: _plain(settings[name]) for name in SETTINGS if name != "base_fun"},
        "base_fun": base_fun if isinstance(base_fun, str) else None,
        "symbolic": [[[i, j, name] for (j, i), name in layer.names_to_save().items()] for layer in network.symbolic_layers],
        "input_id": network.input_id.tolist(),
        "input_width": network.input_width,
        "frozen": [
            name for name, parameter in network.named_parameters() if not (parameter.requires_grad or name in _without_functions(network))
        ],
        "labels": {name: _plain(value) for name, value in network.stated_labels().items()},
    }


def maps_of(network: LayeredNetwork) -> dict[str, Tensor]:
    """The normalizers that a network applies itself, each a tensor ``(2, columns)`` of means and deviations, in double precision."""
    pairs = {label: network.applied(label) for label in NORMALIZERS}
    return {label: torch.tensor(pair, dtype=torch.float64) for label, pair in pairs.items() if pair is not None}


def restore_maps_(network: LayeredNetwork, state: Mapping[str, Any], prefix: str) -> set[str]:
    """Let `network` apply the normalizers of a state, and none of its own if the state has its parameters without one, in place.

    Returns:
        The names of the entries that were read.

    Raises:
        TypeError, ValueError: for entries that are no pairs of means and deviations of the network's columns.
    """
    found = {label: state[prefix + label] for label in NORMALIZERS if prefix + label in state}
    if f"{prefix}act_fun.0.coef" in state:
        network.set_labels(**{label: None for label in NORMALIZERS if network.applied(label) is not None})
    network.apply_normalizers_(**{label: [part.tolist() for part in pair] for label, pair in found.items()})
    return {prefix + label for label in found}


def restore_(network: LayeredNetwork, architecture: Any, loaded: Callable[[str], bool]) -> None:
    """Give `network` the symbolic functions and the input columns of the network that a state came from, in place.

    An edge that has a function of the right name already keeps it. A network of another size is left alone: there is nothing to restore,
    and its tensors do not fit.

    Args:
        network: that the state is loaded into.
        architecture: of the network that it came from.
        loaded: whether the state has a tensor of this name.

    Raises:
        ValueError: if the networks differ in what shapes do not show, or a function is not known; nothing is changed then.
    """
    architecture = _checked(architecture)
    theirs, ours = _structure(architecture), network.structure
    if (theirs.width_in, theirs.width_out) != (ours.width_in, ours.width_out):
        return
    if theirs != ours:
        raise ValueError(_another("multiplication arities", theirs.arities, ours.arities))
    base_fun = architecture.get("base_fun")
    if isinstance(base_fun, str) and isinstance(network.base_fun_name, str) and base_fun != network.base_fun_name:
        raise ValueError(_another("base function", base_fun, network.base_fun_name))
    layers = {l: layer for l, layer in enumerate(network.symbolic_layers) if loaded(f"symbolic_fun.{l}.affine")}
    functions = {l: _found(l, architecture["symbolic"][l], layer) for l, layer in layers.items()}
    for l, layer in layers.items():
        layer.put_functions_(functions[l])
    if loaded("act_fun.0.coef"):
        _set_inputs_(network, architecture)
        network.symbolic_enabled = bool(architecture.get("symbolic_enabled", network.symbolic_enabled))


def build(cls: type[N], state: Mapping[str, Tensor], funs_name: SymbolicNames | None, settings: Mapping[str, Any]) -> N:
    """The network that `state` belongs to, see `Network.from_state_dict`."""
    sizes = sizes_of(state)
    metadata = getattr(state, "_metadata", None) or {}
    architecture = _checked(metadata[""][ARCHITECTURE]) if ARCHITECTURE in metadata.get("", {}) else None
    if architecture is None:
        found = _settings_of(sizes, settings.get("mult_arity"))
    else:
        found = {name: architecture[name] for name in SETTINGS if name in architecture}
    arguments = {"device": state["act_fun.0.coef"].device, **found, **settings}
    if arguments.get("base_fun", "") is None:
        raise ValueError("the base function of the state's network has no name, and a state holds names only: give it as base_fun=.")
    check_settings(sizes, arguments)  # before anything is allocated
    functions = _functions_of(sizes, state, architecture, funs_name)

    network = cls(**arguments).to(state["act_fun.0.coef"].dtype)
    try:
        network.load_state_dict(OrderedDict(state))  # without the metadata, which are dealt with here
    except RuntimeError as error:
        raise ValueError(f"the state does not fit a {cls.__name__} of width {network.width}: {error}") from error
    for layer, known in zip(network.symbolic_layers, functions, strict=True):
        layer.put_functions_(known)
    if architecture is not None:
        _set_inputs_(network, architecture)
        network.set_labels(**architecture.get("labels", {}))
        frozen = {*architecture["frozen"], *_without_functions(network)}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name not in frozen)
    return network


def _without_functions(network: LayeredNetwork) -> set[str]:
    """The parameters that are trained from the first symbolic edge on only, of layers that have none."""
    return {f"symbolic_fun.{l}.affine" for l, layer in enumerate(network.symbolic_layers) if not layer.functions}


@contextmanager
def still_frozen(network: LayeredNetwork) -> Iterator[None]:
    """A network of which no parameter is trained stays so, although symbolic edges are new."""
    frozen = not any(parameter.requires_grad for parameter in network.parameters())
    yield
    if frozen:
        network.requires_grad_(False)


@contextmanager
def unchanged_on_error(network: LayeredNetwork) -> Iterator[None]:
    """Put parameters, symbolic functions and input columns back as they were if what follows fails."""
    tensors = [
        (table, name, tensor, tensor.detach().clone())
        for module in network.modules()
        for table in (module._parameters, module._buffers)
        for name, tensor in table.items()
        if tensor is not None
    ]
    functions = [layer.functions for layer in network.symbolic_layers]
    others = {
        name: getattr(network, name) for name in ("input_id", "input_width", "symbolic_enabled", "last_input", "_labels", "_applied")
    }
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for table, name, tensor, value in tensors:
                table[name] = tensor  # type: ignore[assignment]
                tensor.copy_(value)
        for layer, known in zip(network.symbolic_layers, functions, strict=True):
            layer.put_functions_(known)
        for name, value in others.items():
            setattr(network, name, value)
        raise


def same_shapes(network: LayeredNetwork, state: Mapping[str, Any]) -> bool:
    """Whether `state` has tensors of the network's names and shapes, and no others."""
    return {name: value.shape for name, value in network.state_dict().items()} == {
        name: getattr(value, "shape", None) for name, value in state.items()
    }


class LayerSize(NamedTuple):
    """What the shapes of one layer say: inputs, sub-nodes that they lead to, nodes these make up, grid intervals, degree."""

    inputs: int
    subnodes: int
    nodes: int
    grid: int
    k: int

    def shapes(self, l: int) -> dict[str, tuple[int, ...]]:
        """The names of the layer's tensors with their shapes."""
        i, o, knots = self.inputs, self.subnodes, self.grid + 2 * self.k + 1
        numeric = {"grid": (i, knots), "coef": (i, o, self.grid + self.k), "mask": (i, o), "scale_base": (i, o), "scale_sp": (i, o)}
        return {
            **{f"act_fun.{l}.{name}": shape for name, shape in numeric.items()},
            f"symbolic_fun.{l}.mask": (o, i), f"symbolic_fun.{l}.affine": (o, i, 4),
            **{f"{what}_{kind}_{l}": (size,) for what, size in (("node", self.nodes), ("subnode", o)) for kind in ("bias", "scale")},
        }  # fmt: skip


def sizes_of(state: Mapping[str, Tensor]) -> list[LayerSize]:
    """The sizes of all layers.

    Raises:
        ValueError: if this is no state of a network, or its shapes contradict each other.
    """
    if not isinstance(state, Mapping) or "act_fun.0.coef" not in state:
        raise ValueError("this is not the state dictionary of a KAN: it has no entry 'act_fun.0.coef'.")
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}
    sizes: list[LayerSize] = []
    while f"act_fun.{len(sizes)}.coef" in shapes:
        l = len(sizes)
        coef, grid, nodes = (shapes.get(name, ()) for name in (f"act_fun.{l}.coef", f"act_fun.{l}.grid", f"node_bias_{l}"))
        if (len(coef), len(grid), len(nodes)) != (3, 2, 1):
            raise ValueError(f"this is no state of a KAN: coef, grid and node_bias of layer {l} have the shapes {coef}, {grid}, {nodes}.")
        k = grid[1] - 1 - coef[2]  # G + 2k + 1 knots and G + k coefficients
        sizes.append(LayerSize(coef[0], coef[1], nodes[0], coef[2] - k, k))
        if min(*sizes[l][:4], k + 1) < 1 or (l > 0 and sizes[l - 1].nodes != coef[0]):
            raise ValueError(
                f"the state contradicts itself: layer {l} has coef {coef} and grid {grid}, and there are {nodes[0]} nodes behind it"
                + (f" and {sizes[l - 1].nodes} before it." if l else ".")
            )
    for name, shape in [item for l, size in enumerate(sizes) for item in size.shapes(l).items()]:
        if shapes.get(name) != shape:
            raise ValueError(f"the state contradicts itself: {name} should have the shape {shape}, it has {shapes.get(name)}.")
    return sizes


def _settings_of(sizes: Sequence[LayerSize], mult_arity: Any) -> dict[str, Any]:
    """The arguments of the constructor that shapes tell."""
    arities = [()] + [_arities(l, size, mult_arity) for l, size in enumerate(sizes, start=1)]
    nodes = [sizes[0].inputs, *(size.nodes for size in sizes)]
    return {
        "width": [[n - len(a), len(a)] for n, a in zip(nodes, arities, strict=True)],
        "mult_arity": [list(a) for a in arities] if any(arities) else 2,
        "grid": _one_or_all([size.grid for size in sizes]),
        "k": _one_or_all([size.k for size in sizes]),
    }


def _arities(l: int, size: LayerSize, given: Any) -> tuple[int, ...]:
    """Arities of the multiplication nodes of layer of nodes `l`, of a state without metadata: all `given`, or the only ones possible."""
    more = size.subnodes - size.nodes  # a product of a factors makes one node of a sub-nodes
    if given is not None and not isinstance(given, Integral):
        return tuple(given[l]) if isinstance(given, Sequence) and l < len(given) else ()
    if more == 0:
        return ()
    if given is None and more > 0 and (more == 1 or size.nodes == 1):
        return (more + 1,)
    if given is not None and int(given) > 1 and more % (int(given) - 1) == 0 and 0 < more // (int(given) - 1) <= size.nodes:
        return (int(given),) * (more // (int(given) - 1))
    raise ValueError(
        f"layer {l} has {size.nodes} nodes made of {size.subnodes} sub-nodes, which "
        + (f"nodes of arity {given!r} cannot be" if given is not None else "several choices of multiplication nodes can be")
        + "; give mult_arity=, one number for all of them, or for every layer of nodes the list of its nodes' arities."
    )


def _one_or_all(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values


def check_settings(sizes: Sequence[LayerSize], arguments: Mapping[str, Any]) -> None:
    """That the tensors are those of the network that the arguments describe."""
    structure = Structure.parse(arguments["width"], arguments.get("mult_arity", 2))
    wanted = {"inputs": structure.width_in[:-1], "subnodes": structure.width_out[1:], "nodes": structure.width_in[1:]}
    wanted.update({name: per_layer(name, arguments[name], structure.depth, least=0) for name in ("grid", "k")})
    for name, values in wanted.items():
        if values != [getattr(size, name) for size in sizes]:
            raise ValueError(
                f"the state is of layers with {name} {[getattr(size, name) for size in sizes]}; the settings ask for {values}, "
                f"with width {arguments['width']!r}, grid {arguments['grid']!r} and k {arguments['k']!r}."
            )


def _functions_of(
    sizes: Sequence[LayerSize], state: Mapping[str, Tensor], architecture: Mapping[str, Any] | None, funs_name: SymbolicNames | None
) -> list[Functions]:
    """The symbolic functions of every layer: those given, those of the metadata, or none where no edge is symbolic."""
    if funs_name is not None:
        if [[len(row) for row in layer] for layer in funs_name] != [[size.inputs] * size.subnodes for size in sizes]:
            raise ValueError(
                f"funs_name must have for every layer one list per sub-node with one name per input; (sub-nodes, inputs) are "
                f"{[(size.subnodes, size.inputs) for size in sizes]}."
            )
        return [
            {(j, i): _function(l, i, j, given) for j, row in enumerate(layer) for i, given in enumerate(row) if given != NONE}
            for l, layer in enumerate(funs_name)
        ]
    if architecture is not None:
        return [_found(l, entries, None) for l, entries in enumerate(architecture["symbolic"])]
    named = [l for l in range(len(sizes)) if bool((state[f"symbolic_fun.{l}.mask"] != 0).any())]
    if named:
        raise ValueError(
            f"the state has symbolic edges in the layers {named}, but no metadata that name their functions: give funs_name=, for every "
            f"layer the names (or functions of a tensor) nested [out][in], '0' where there is none, as symbolic_fun[l].funs_name is."
        )
    return [{} for _ in sizes]


def _found(l: int, entries: Sequence[Any], holder: SymbolicLayer | None) -> Functions:
    """The functions of layer `l` by the names of the metadata; those that the edges of `holder` have already are kept."""
    held, names = ({}, {}) if holder is None else (holder.functions, holder.names_to_save())
    return {(j, i): held[j, i] if names.get((j, i)) == name else _function(l, i, j, name) for i, j, name in entries}


def _function(l: int, i: int, j: int, given: str | Callable[[Tensor], Tensor]) -> tuple[str, SymbolicFunction]:
    if not isinstance(given, str):
        return ANONYMOUS, anonymous(given)
    try:
        return given, lookup(given)
    except ValueError as error:
        raise ValueError(
            f"the edge ({l}, {i}, {j}) of the state has the symbolic function {given!r}, which is not in SYMBOLIC_LIB, and a state holds "
            f"names only: register it with add_symbolic first, or give from_state_dict all functions as funs_name=. A pickle holds them."
        ) from error


def _set_inputs_(network: LayeredNetwork, architecture: Mapping[str, Any]) -> None:
    if network.input_width != architecture["input_width"]:
        network.remember_input(None)
    network.input_id = torch.tensor(architecture["input_id"], device=network.input_id.device)
    network.input_width = architecture["input_width"]


def _structure(architecture: Mapping[str, Any]) -> Structure:
    return Structure.parse(architecture["width"], architecture["mult_arity"])


def _checked(architecture: Any) -> Mapping[str, Any]:
    """The metadata, which come from a file perhaps, if they describe a network; settings that later versions have may be missing."""
    try:
        structure, columns = _structure(architecture), architecture["input_width"]
        symbolic, n, m = architecture["symbolic"], structure.width_in, structure.width_out
        fits = (
            len(symbolic) == structure.depth and len(architecture["input_id"]) == n[0]
            and all(isinstance(i, int) and 0 <= i < columns for i in architecture["input_id"])
            and all(isinstance(f, str) and i in range(n[l]) and j in range(m[l + 1]) for l, edge in enumerate(symbolic) for i, j, f in edge)
            and all(isinstance(name, str) for name in architecture["frozen"]) and {"grid", "k"} <= set(architecture)
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError("the metadata of the state do not describe a network; dict(state) leaves them out.")
    return cast("Mapping[str, Any]", architecture)


def _another(what: str, theirs: Any, ours: Any) -> str:
    return f"the state is of a network with the {what} {theirs!r}, this one has {ours!r}; dict(state) holds the numbers alone."


def _plain(value: Any) -> Any:
    """With nothing but lists, strings and Python's numbers."""
    if isinstance(value, str) or value is None:
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(entry) for entry in value] if isinstance(value, Iterable) else value
