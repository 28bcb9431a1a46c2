"""What a network consists of: its structure, its layers, its affine maps of nodes, and the settings that describe them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from kan.errors import unknown_name
from kan.layers.base_functions import COMPILED_IDENTITY, COMPILED_ZERO, register_elementwise
from kan.layers.kan_layer import KANLayer
from kan.layers.symbolic_layer import SymbolicLayer
from kan.network.bases import Bases, bases_of, of_layers
from kan.network.fit_loss import FitLoss
from kan.network.labels import Labelled
from kan.network.structure import Structure, per_layer
from kan.network.trace import Trace
from kan.network.user_code.affine_list import affine_list
from kan.network.user_code.attributes import STATED, being_built, derived
from kan.network.user_code.attributes import state as state_attribute
from kan.network.user_code.own_code import check_layer
from kan.older_names import OLDER_ATTRIBUTES
from kan.pickling import packed, unpacked

__all__ = ["BASE_FUNCTIONS", "LayeredNetwork"]


def _identity(x: Tensor) -> Tensor:
    return x


def _zero(x: Tensor) -> Tensor:
    return x * 0.0


register_elementwise(_identity, lambda x, value: torch.ones_like(x), COMPILED_IDENTITY)
register_elementwise(_zero, lambda x, value: torch.zeros_like(x), COMPILED_ZERO)

BASE_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": nn.SiLU(), "identity": _identity, "zero": _zero}
"""Base functions by name."""


class LayeredNetwork(Labelled):
    """Structure and parameters of a KAN; `Network` adds the forward pass.

    Args:
        width: nodes per layer, inputs first; each entry ``n`` or ``[n_sum, n_mult]``. Not changed.
        grid: grid intervals of the splines, one number or one per KAN layer.
        k: degree of the splines, likewise.
        mult_arity: arity of the multiplication nodes, one number or a list per layer of nodes.
        noise_scale, scale_base_mu, scale_base_sigma: size of the initial splines and base functions, see `KANLayer`.
        base_fun: ``'silu'``, ``'identity'``, ``'zero'`` or a function of a tensor.
        symbolic_enabled: whether symbolic edges take part in the forward pass.
        affine_trainable: whether the nodes' scales and biases are trained.
        grid_eps, grid_range, sp_trainable, sb_trainable: see `KANLayer`.
        seed: seed of the private generator that draws the initial weights; the global random state is neither read nor changed.
        save_act: accepted for compatibility. Activations are never kept; they are computed when asked for.
        sparse_init: start from sparse masks, see `kan.layers.kan_layer.sparse_mask`.
        device: where the parameters live.
        basis: of the edges' functions: the name of a registered basis, which then has ``grid + k`` functions per edge as splines have; or a
            `Basis`, whose number of functions counts, with ``k`` or fewer of them more than there are grid intervals; or a list of these,
            one per layer.

    Attributes:
        structure: the parsed `Structure`.
        act_fun: the numeric layers; ``act_fun[l]`` leads from ``n_l`` nodes to ``m_{l+1}`` sub-nodes.
        symbolic_fun: the symbolic layers beside them.
        input_id: indices of the input columns that are used.
        in_vars, out_vars, normalizer, output_normalizer, class_names, class_link, frame_columns: names and normalisation of inputs and
            outputs, see `Labelled`.
        fit_loss: the loss of the last fit on its samples, by which pruning is judged; None of networks that have not been fitted.
        refinement_change: of a network that `refine` has made, the root mean square by which the outputs at the last input changed, as a
            share of their standard deviation; else None.
    """

    refinement_change: float | None = None
    fit_loss: FitLoss | None = None

    # Of a subclass that builds itself; the constructor sets them all.
    structure: Structure
    input_id: Tensor
    grid: int | list[int] = 3
    k: int | list[int] = 3
    noise_scale: float = 0.3
    scale_base_mu: float = 0.0
    scale_base_sigma: float = 1.0
    base_fun_name: str | Callable[[Tensor], Tensor]  # without a default, which would hide a module of this name
    symbolic_enabled: bool = True
    affine_trainable: bool = False
    grid_eps: float = 0.02
    grid_range: Sequence[float] = (-1, 1)
    sp_trainable: bool = True
    sb_trainable: bool = True
    seed: int = 1
    save_act: bool = True
    sparse_init: bool = False
    _shown: Trace | None = None
    """The record that stands for the last input, while a penalty is computed of it."""

    def __init__(
        self,
        width: Sequence[Any],
        grid: int | Sequence[int] = 3,
        k: int | Sequence[int] = 3,
        mult_arity: int | Sequence[Sequence[int]] = 2,
        noise_scale: float = 0.3,
        scale_base_mu: float = 0.0,
        scale_base_sigma: float = 1.0,
        base_fun: str | Callable[[Tensor], Tensor] = "silu",
        symbolic_enabled: bool = True,
        affine_trainable: bool = False,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        sp_trainable: bool = True,
        sb_trainable: bool = True,
        seed: int = 1,
        save_act: bool = True,
        sparse_init: bool = False,
        device: torch.device | str = "cpu",
        basis: Bases = "bspline",
    ) -> None:
        super().__init__()
        self.structure = Structure.parse(width, mult_arity)
        self.__dict__.pop(STATED, None)  # what a subclass has set before
        intervals = per_layer("grid", grid, self.depth, least=1)
        degrees = per_layer("k", k, self.depth, least=0)
        bases = of_layers(basis, intervals, degrees, stated=intervals + degrees != [3] * (2 * self.depth))
        intervals, degrees = [num for _, num, _ in bases], [degree for _, _, degree in bases]
        if isinstance(base_fun, str) and base_fun not in BASE_FUNCTIONS:
            raise unknown_name("base function", base_fun, BASE_FUNCTIONS)
        self.grid = [*intervals] if hasattr(grid, "__len__") or len(set(intervals)) > 1 else intervals[0]
        self.k = [*degrees] if hasattr(k, "__len__") or len(set(degrees)) > 1 else degrees[0]
        self.mult_arity = mult_arity
        self.noise_scale, self.scale_base_mu, self.scale_base_sigma = noise_scale, scale_base_mu, scale_base_sigma
        self.base_fun_name = base_fun
        # A copy: SiLU is a module, and another network's eval() must not reach it.
        self.base_fun = copy.deepcopy(BASE_FUNCTIONS[base_fun]) if isinstance(base_fun, str) else base_fun
        self.symbolic_enabled = symbolic_enabled
        self.affine_trainable = affine_trainable
        self.grid_eps, self.grid_range = grid_eps, [float(end) for end in grid_range]
        self.sp_trainable, self.sb_trainable = sp_trainable, sb_trainable
        self.seed, self.save_act, self.sparse_init = seed, save_act, sparse_init

        generator = torch.Generator().manual_seed(int(seed))
        n, m = self.width_in, self.width_out
        numeric, symbolic = [], []
        for l in range(self.depth):
            layer = KANLayer(
                n[l], m[l + 1], intervals[l], degrees[l], noise_scale=noise_scale, scale_base_mu=scale_base_mu,
                scale_base_sigma=scale_base_sigma, scale_sp=1.0, base_fun=self.base_fun, grid_eps=grid_eps, grid_range=self.grid_range,
                sp_trainable=sp_trainable, sb_trainable=sb_trainable, sparse_init=sparse_init, generator=generator,
                basis=bases[l][0],
            )  # fmt: skip
            numeric.append(layer)
            symbolic.append(SymbolicLayer(n[l], m[l + 1]))
            for name, size in (("node", n[l + 1]), ("subnode", m[l + 1])):
                self.register_parameter(f"{name}_bias_{l}", nn.Parameter(torch.zeros(size), affine_trainable))
                self.register_parameter(f"{name}_scale_{l}", nn.Parameter(torch.ones(size), affine_trainable))
        self.act_fun = nn.ModuleList(numeric)
        self.symbolic_fun = nn.ModuleList(symbolic)
        self.register_buffer("input_id", torch.arange(n[0]), persistent=False)
        self.input_width = n[0]
        self.to(device)

    def _absent(self, name: str) -> Any:
        """What a subclass that builds itself has not set: it follows from the width."""
        stated = self.__dict__.get(STATED)
        if stated is not None and "width" in stated and name in ("structure", "input_width", "input_id"):
            if name == "structure":
                self.__dict__["structure"] = Structure.parse(stated["width"], self.mult_arity)
                return self.__dict__["structure"]
            inputs = self.structure.width_in[0]
            return inputs if name == "input_width" else torch.arange(inputs, device=self.device)
        if name == "base_fun_name":
            return getattr(self, "base_fun", "silu")
        if name == "structure":
            raise AttributeError(f"{type(self).__name__} has no layers yet: call super().__init__(width, ...) first, or set self.width.")
        if name in OLDER_ATTRIBUTES:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}, which is pykan 0.0's; {OLDER_ATTRIBUTES[name]}.")
        return super()._absent(name)

    @derived("expand_depth() adds a layer, and KAN(width=...) makes a network of another depth")
    def depth(self) -> int:
        """Number of KAN layers ``L``."""
        return self.structure.depth

    @property
    def numeric_layers(self) -> list[KANLayer]:
        """The layers of ``act_fun``."""
        return list(self.act_fun)  # type: ignore[arg-type]

    @property
    def symbolic_layers(self) -> list[SymbolicLayer]:
        """The layers of ``symbolic_fun``."""
        return list(self.symbolic_fun)  # type: ignore[arg-type]

    @derived("KAN(width=...) makes a network of another width; expand_width, expand_depth and prune change one")
    def width(self) -> list[list[int]]:
        """``[n_sum, n_mult]`` per layer of nodes."""
        return self.structure.width

    @property
    def mult_arity(self) -> int | Sequence[Sequence[int]]:
        """Arity of the multiplication nodes: one number for all of them, or a list per layer of nodes."""
        arity: int | Sequence[Sequence[int]] = self.__dict__.get("mult_arity", 2)
        return arity

    @mult_arity.setter
    def mult_arity(self, arity: int | Sequence[Sequence[int]]) -> None:
        if not being_built(self) and Structure.parse(self.structure.width, arity) != self.structure:
            arities = [list(layer) for layer in self.structure.arities]
            raise AttributeError(
                f"mult_arity follows from the layers of the network, whose nodes have the arities {arities}; got {arity!r}. "
                f"KAN(mult_arity=...) makes a network of other arities."
            )
        self.__dict__["mult_arity"] = arity

    @derived("it is made of width and mult_arity")
    def width_in(self) -> list[int]:
        """Nodes per layer of nodes."""
        return self.structure.width_in

    @derived("it is made of width and mult_arity")
    def width_out(self) -> list[int]:
        """Sub-nodes per layer of nodes."""
        return self.structure.width_out

    @property
    def device(self) -> torch.device:
        """Where the parameters live; setting it moves them there."""
        if not being_built(self):
            return self.input_id.device
        parameter = next(self.parameters(), None) if "_parameters" in self.__dict__ else None
        return torch.device(self.__dict__.get(STATED, {}).get("device", "cpu")) if parameter is None else parameter.device

    @device.setter
    def device(self, device: torch.device | str) -> None:
        if being_built(self):
            state_attribute(self, "device", device)
        else:
            self.to(device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        layer = self.numeric_layers[0]
        if not hasattr(layer, "grid"):  # a pass says what is wrong
            return next((p.dtype for p in self.parameters()), torch.get_default_dtype())
        return layer.grid.dtype  # a coefficient that a pre-hook computes may be from before a change of the type

    node_bias = affine_list("node_bias", "Biases of the nodes")
    node_scale = affine_list("node_scale", "Scales of the nodes")
    subnode_bias = affine_list("subnode_bias", "Biases of the sub-nodes")
    subnode_scale = affine_list("subnode_scale", "Scales of the sub-nodes")

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments that describe this network as it is now."""
        base_fun = self.base_fun_name
        if isinstance(base_fun, str) and base_fun not in BASE_FUNCTIONS:  # a name that a class that builds itself has made up
            base_fun = self.base_fun
        return {
            "width": self.width, "grid": self._of_the_layers("grid", self.grid), "k": self._of_the_layers("k", self.k),
            "mult_arity": self.mult_arity if isinstance(self.mult_arity, Integral) else [list(a) for a in self.structure.arities],
            "noise_scale": self.noise_scale, "scale_base_mu": self.scale_base_mu, "scale_base_sigma": self.scale_base_sigma,
            "base_fun": base_fun, "symbolic_enabled": self.symbolic_enabled, "affine_trainable": self.affine_trainable,
            "grid_eps": self.grid_eps, "grid_range": self.grid_range, "sp_trainable": self.sp_trainable, "sb_trainable": self.sb_trainable,
            "seed": self.seed, "save_act": self.save_act, "sparse_init": self.sparse_init, "device": self.device,
            "basis": bases_of(self.numeric_layers),
        }  # fmt: skip

    def _of_the_layers(self, name: str, stated: int | Sequence[int]) -> int | Sequence[int]:
        """``grid`` or ``k`` as `stated`, unless a program has put in layers of another one."""
        for l, layer in enumerate(self.numeric_layers):
            check_layer(layer, f"act_fun[{l}]")
        found = [layer.num if name == "grid" else layer.k for layer in self.numeric_layers]
        return stated if ([*stated] if isinstance(stated, Sequence) else [stated] * len(found)) == found else found

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if self._shown is not None:
            state = {**state, "_shown": None}
        return packed(state, "base_fun", "base_fun_name")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpacked(state))
