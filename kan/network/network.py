r"""The network: layers of learnable edge functions between layers of sum and multiplication nodes.

One layer, from nodes ``x`` ``(B, n_l)`` to the next nodes ``(B, n_{l+1})``:

    ``s_j    = sum_i phi_ij(x_i) + sum_i symbolic_ij(x_i)``      sub-node sums, ``(B, m_{l+1})``
    ``p_j    = subnode_scale_j s_j + subnode_bias_j``
    ``node_r = p_r`` for a sum node, the product of its factors' ``p`` for a multiplication node
    ``x'_r   = node_scale_r node_r + node_bias_r``

References
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756; Z. Liu et al., "KAN 2.0: Kolmogorov-Arnold Networks Meet
    Science", 2024, arXiv:2408.10205 (multiplication nodes).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kan.errors import unknown_name
from kan.layers.base_functions import is_elementwise, register_elementwise
from kan.layers.kan_layer import KANLayer
from kan.layers.symbolic_layer import SymbolicEdges, SymbolicLayer
from kan.layers.zero_gradient import with_zero_gradients
from kan.modes import composed
from kan.network import state
from kan.network.affine_list import AffineList
from kan.network.attributes import STATED, being_built, derived
from kan.network.attributes import state as state_attribute
from kan.network.bases import Bases, bases_of, of_layers, resized
from kan.network.fit_loss import FitLoss
from kan.network.labels import Labelled
from kan.network.recorded_trace import with_records
from kan.network.structure import Structure, per_layer
from kan.network.trace import CalledRecord, FirstLayer, LayerRecord, Trace
from kan.network.user_code.inheritance import built
from kan.network.user_code.observed import OBSERVED, Pass, called, observed, seen_by_layers, unseen
from kan.network.user_code.own_code import check_layer, is_called, own_call, own_methods
from kan.older_names import OLDER_ATTRIBUTES
from kan.pickling import packed, unpacked

__all__ = ["BASE_FUNCTIONS", "Network"]

Self = TypeVar("Self", bound="Network")


@register_elementwise
def _identity(x: Tensor) -> Tensor:
    return x


@register_elementwise
def _zero(x: Tensor) -> Tensor:
    return x * 0.0


BASE_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": nn.SiLU(), "identity": _identity, "zero": _zero}
"""Base functions by name."""


class Network(Labelled):
    """What a KAN is: structure, parameters, forward pass.

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

    @property
    def node_bias(self) -> list[nn.Parameter]:
        """Biases of the nodes of layers ``1 ... L``; assigning to an entry replaces the parameter."""
        return AffineList(self, "node_bias")

    @node_bias.setter
    def node_bias(self, parameters: Sequence[Any]) -> None:
        AffineList(self, "node_bias").write(parameters)

    @property
    def node_scale(self) -> list[nn.Parameter]:
        """Scales of the nodes of layers ``1 ... L``; assigning to an entry replaces the parameter."""
        return AffineList(self, "node_scale")

    @node_scale.setter
    def node_scale(self, parameters: Sequence[Any]) -> None:
        AffineList(self, "node_scale").write(parameters)

    @property
    def subnode_bias(self) -> list[nn.Parameter]:
        """Biases of the sub-nodes of layers ``1 ... L``; assigning to an entry replaces the parameter."""
        return AffineList(self, "subnode_bias")

    @subnode_bias.setter
    def subnode_bias(self, parameters: Sequence[Any]) -> None:
        AffineList(self, "subnode_bias").write(parameters)

    @property
    def subnode_scale(self) -> list[nn.Parameter]:
        """Scales of the sub-nodes of layers ``1 ... L``; assigning to an entry replaces the parameter."""
        return AffineList(self, "subnode_scale")

    @subnode_scale.setter
    def subnode_scale(self, parameters: Sequence[Any]) -> None:
        AffineList(self, "subnode_scale").write(parameters)

    def __repr__(self) -> str:
        """Width, grid, degree, basis, and the numbers of parameters that are trained and of edges, on one line.

        >>> Network([2, [4, 1], 1], grid=5)
        Network(width=[2, [4, 1], 1], mult_arity=2, grid=5, k=3, basis='bspline', 170 parameters, 17 numeric edges, 0 symbolic edges)
        """
        if "act_fun" not in self._modules or "symbolic_fun" not in self._modules:  # of a subclass that is still being built
            return super().__repr__()
        pairs = zip(self.structure.n_sum, self.structure.arities, strict=True)
        parts = [f"width={[[n_sum, len(arities)] if arities else n_sum for n_sum, arities in pairs]}"]
        parts += [f"mult_arity={self.mult_arity}"] * any(self.structure.arities)
        # The numbers of a symbolic edge count where there is one, and an edge can only be told by its mask.
        masks = {name: mask for name, mask in self.named_parameters() if name.endswith(".mask") and not mask.is_meta}
        edges = {kind: sum(int((mask != 0).sum()) for name, mask in masks.items() if name.startswith(layers))
                 for kind, layers in (("numeric", "act_fun"), ("symbolic", "symbolic_fun"))}  # fmt: skip
        trained = sum(p.numel() for name, p in self.named_parameters() if p.requires_grad and not name.endswith(".affine"))
        parts += [f"grid={self.grid}", f"k={self.k}", f"basis={bases_of(self.numeric_layers)!r}"]
        parts += [f"{trained + 4 * edges['symbolic']} parameters"]
        parts += [f"{count} {kind} edge{'s' * (count != 1)}" for kind, count in edges.items()] if masks else []
        return f"{type(self).__name__}({', '.join(parts)})"

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

    def replace(self: Self, **changes: Any) -> Self:
        """A new network of the same class and settings with some of them changed, freshly initialised, in the same dtype.

        What a subclass has beside the layers, hooks and methods of the user's are taken over, see `kan.network.user_code.inheritance`.
        With as many inputs it reads the same columns of the data. Labels of inputs and outputs are taken over where their number stays.
        """
        settings = {**self.settings(), **changes}
        if isinstance(settings["base_fun"], nn.Module):  # it may have parameters, which are not to be shared
            settings["base_fun"] = copy.deepcopy(settings["base_fun"])
        if "basis" not in changes:
            depth = Structure.parse(settings["width"], settings["mult_arity"]).depth
            settings["basis"] = resized(settings["basis"], settings["grid"], settings["k"], depth)
        new = built(self, settings).to(self.dtype)
        if new.width_in[0] == self.width_in[0]:
            new.input_id, new.input_width = self.input_id.to(new.device, copy=True), self.input_width
        new.inherit_labels(self)
        new.remember_input(self.last_input)
        new.fit_loss = self.fit_loss
        return new

    def blank(self: Self, **changes: Any) -> Self:
        """As `replace`, with splines that are zero: quicker, for callers that overwrite them."""
        new = self.replace(**changes, noise_scale=0.0)
        new.noise_scale = self.noise_scale
        return new

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if self._shown is not None:
            state = {**state, "_shown": None}
        return packed(state, "base_fun", "base_fun_name")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpacked(state))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata.setdefault(prefix[:-1], {})[state.ARCHITECTURE] = state.describe(self)
        destination.update({prefix + label: tensor for label, tensor in state.maps_of(self).items()})

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Mapping[str, Any], strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        if state.ARCHITECTURE in local_metadata:
            try:
                with state.still_frozen(self):
                    state.restore_(self, local_metadata[state.ARCHITECTURE], lambda name: prefix + name in state_dict)
            except ValueError as error:
                error_msgs.append(str(error))
        try:
            known = state.restore_maps_(self, state_dict, prefix)
        except (TypeError, ValueError) as error:
            error_msgs.append(str(error))
        else:
            unexpected_keys[:] = [name for name in unexpected_keys if name not in known]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """``nn.Module.load_state_dict``, all or nothing.

        A state that comes from `state_dict`, or such a one through ``torch.save``, brings along which functions symbolic edges have, which
        columns of the input are used and whether symbolic edges are enabled. Maps of units that the network applies itself are those of the
        state, or none if that has its parameters without one. An edge that has a function of the right name keeps it,
        others are looked up in ``SYMBOLIC_LIB``. A plain dictionary of tensors changes nothing but parameters.

        Args:
            state_dict: of a network with the same shapes; see `from_state_dict` for those that have none of the same shape yet.
            strict, assign: as there.

        Raises:
            RuntimeError: if the shapes or names of tensors, the arities or the base function differ, or a symbolic function is not known;
                the network is as it was then.
        """
        try:
            with state.unchanged_on_error(self):
                self.forget_pass()
                return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            if state.same_shapes(self, state_dict):
                raise
            name = type(self).__name__
            raise RuntimeError(f"{error}\n\tA network of the state's own shape is made by {name}.from_state_dict(state).") from error

    @classmethod
    def from_state_dict(
        cls: type[Self], state_dict: Mapping[str, Tensor], funs_name: state.SymbolicNames | None = None, **settings: Any
    ) -> Self:
        """The network that a state dictionary comes from, whatever has been pruned, refined or made symbolic.

        With what `state_dict` tells beside the tensors it is the same network bit for bit, with its settings, symbolic functions, input
        columns, dtype and parameters that are not trained. Where that is missing, as in dictionaries that pykan or safetensors wrote, the
        shapes tell width, grid and degree, and all else is as by default or as given.

        Args:
            state_dict: of a network, perhaps through ``torch.save`` and ``torch.load(weights_only=True)``. It is copied.
            funs_name: for every layer, nested ``[out][in]``, names of the edges' symbolic functions or functions of a tensor, ``'0'``
                where there is none. Needed only if they are not told, or not registered with `add_symbolic`.
            settings: arguments of the constructor in place of those found, such as ``device=`` or ``base_fun=``; ``mult_arity=`` where
                neither the dictionary nor the shapes tell it.

        Raises:
            ValueError: if this is no state of a network, shapes and settings contradict each other, or something needed is not told.

        Example:
            >>> state = Network([2, [1, 1], 1], grid=4).state_dict()
            >>> Network.from_state_dict(state).width
            [[2, 0], [1, 1], [1, 0]]
        """
        return state.build(cls, state_dict, funs_name, settings)

    def per_layer(self, name: str, value: int | Sequence[int]) -> list[int]:
        """One positive integer per KAN layer from `value`, one for all or a list of them; errors speak of `name`."""
        return per_layer(name, value, self.depth, least=1)

    def with_all_columns(self, x: Tensor) -> Tensor:
        """`x`, with zeros for the columns that are not used if it lacks these, as what pykan remembers of an input does."""
        used = len(self.input_id)
        if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[1] != used or used == self.input_width:
            return x
        return x.new_zeros(len(x), self.input_width).index_copy(1, self.input_id.to(x.device), x)

    def checked_input(self, x: Tensor) -> Tensor:
        """`x` as the first layer takes it: normalised, if the network does that, in its dtype, without the unused columns.

        Errors are those of `check_input`.
        """
        x = self.in_own_units("normalizer", self.trainable_input(x), self.dtype)
        return x if len(self.input_id) == self.input_width else x[:, self.input_id]

    def forward(self, x: Any, singularity_avoiding: bool = False, y_th: float = 10.0) -> Tensor:
        """The network's output, ``(B, outputs)``.

        Args:
            x: ``(B, inputs)``: a tensor, or what `as_input` makes one of.
            singularity_avoiding: evaluate symbolic functions in the version that stays finite at singular points.
            y_th: bound of ``|f|`` in that version.
        """
        if not (isinstance(x, Tensor) and x.is_floating_point() and x.dim() == 2):
            x = self.as_input(x)
        trace = self.layer_trace(x, singularity_avoiding=singularity_avoiding, y_th=y_th)
        self.remember_input(x, passed=True)  # after the pass: an input that is refused is not remembered
        if OBSERVED.passes and id(self) in OBSERVED.passes and not torch._C._are_functorch_transforms_active():
            OBSERVED.passes[id(self)].append(Pass(x, trace))  # stand-ins of torch.func are of no use afterwards
        return trace.output

    def trace(
        self,
        x: Tensor | None = None,
        *,
        first: FirstLayer | None = None,
        singularity_avoiding: bool = False,
        y_th: float = 10.0,
        corner: float = 0.0,
    ) -> Trace:
        """The record of a call of the network with `x`, or of a pass of its last input through the layers.

        A call has the user's own ``forward`` and hooks in it, if there are any: the layers see what these give them, and the output is what
        these make of it. The input that is remembered, and stands for `x` when that is not given, is the one that the layers saw.

        Args:
            x: ``(B, inputs)``, what the network is called with. When not given, the record is that of the last input, with what has
                been put in the place of what its pass left.
            first: the first layer's features for this `x`, when they are known already and the call is the library's own.
            singularity_avoiding, y_th: as in `forward`.
            corner: rounds the corner that the deviations of the edges have at zero, as ``sqrt(variance + corner^2) - corner``.

        Raises:
            ValueError: if there is no last input, or the user's own ``forward`` does not use the one of this class.
        """
        evaluation: dict[str, Any] = {"singularity_avoiding": singularity_avoiding, "y_th": y_th, "corner": corner}
        if x is None:
            return self._shown or self._with_what_was_set(self.layer_trace(self.remembered_input(), first=first, **evaluation))
        if between := own_call(self):
            trace = observed(self, x, **evaluation).trace
            if trace is None:
                raise unseen(between)
            return trace
        return self.layer_trace(x, first=first, **evaluation)

    def layer_trace(
        self,
        x: Tensor,
        *,
        first: FirstLayer | None = None,
        singularity_avoiding: bool = False,
        y_th: float = 10.0,
        corner: float = 0.0,
    ) -> Trace:
        """The record of a pass through the layers, with nothing of the user's in front of and behind them; arguments as of `trace`."""
        x = self.checked_input(x)
        layers = []
        for l in range(self.depth):
            record = self._advance(l, x, first if l == 0 else None, singularity_avoiding, y_th)
            record.corner = corner
            layers.append(record)
            x = record.outputs
        return Trace(self.structure, layers, self.in_user_units(x).contiguous())  # users view it in other shapes

    def _with_what_was_set(self, trace: Trace) -> Trace:
        """`trace` with records and scores that a program has put in the place of its own."""
        if not (self._records or self._given):
            return trace
        self._records = {name: values for name, values in (self._records or {}).items() if values is not None} or None
        return with_records(trace, {**(self._records or {}), **self._given})

    def curves_in_user_units(
        self, l: int, x: Tensor, y: Tensor, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Curves of edges of layer `l` as they are to be read, where the network maps units itself; as they are where it does not.

        Inputs of the first layer are the user's columns then. Outputs of the last one are shares of an output, whose mean they lack.

        Args:
            l: the layer.
            x: ``(B, I)`` inputs of the edges.
            y: ``(B, O, I)`` their outputs.
            inputs, outputs: indices of the ``I`` nodes and ``O`` sub-nodes; all of them when not given.
        """
        into, out = self.applied("normalizer"), self.applied("output_normalizer")
        if l == 0 and into is not None:
            mean, std = (torch.tensor(self.used(part), dtype=torch.float64, device=x.device) for part in into)
            chosen = slice(None) if inputs is None else list(inputs)
            x = x.double() * std[chosen] + mean[chosen]
        if l == self.depth - 1 and out is not None:
            scale = y.new_ones(self.width_out[-1], dtype=torch.float64)
            sums = self.structure.n_sum[-1]  # a factor of a product has no part in the output's unit
            scale[:sums] = torch.tensor(out[1][:sums], dtype=torch.float64)
            y = y.double() * scale[slice(None) if outputs is None else list(outputs), None]
        return x, y

    @torch.no_grad()
    def take_input(self, x: Any) -> None:
        """Make `x` the last input, as a call of the network with it does.

        Raises:
            ValueError: if it is no input, or the user's own ``forward`` does not use the one of this class.
        """
        if not own_call(self):
            x = self.as_input(x)
            self.checked_input(x)
        self.remember_input(seen_by_layers(self, x))

    @torch.no_grad()
    def update_grid(self, x: Any) -> None:
        """Let every layer's grid follow its inputs, from the first layer on; see `KANLayer.update_grid_from_samples`.

        Layers whose coefficients are frozen (``requires_grad_(False)``) or computed from other parameters, as ``torch.nn.utils.prune``
        does, keep their grids.

        Raises:
            ValueError: if `x` is not finite.
        """
        self.take_input(x)
        self._adapt_grids_()

    def _adapt_grids_(self) -> None:
        """`update_grid` at the last input."""
        x = self.checked_input(self.remembered_input())
        for l, layer in enumerate(self.numeric_layers):
            coef = layer._parameters.get("coef")
            if coef is not None and coef.requires_grad:
                # Hidden nodes may be dead, which is no news; a constant column of the data is.
                if l == 0 or own_methods(layer, "update_grid_from_samples"):
                    layer.update_grid_from_samples(x)
                else:
                    layer.adapt_grid_(x)
            x = self._advance(l, x, None, False, 0.0).outputs

    def first_layer(self, x: Tensor) -> FirstLayer | None:
        """What a pass over `x` needs of the first layer and what stays the same while only weights change.

        None if the base function may change, too: it may have parameters, or draw random numbers.
        """
        if not is_elementwise(self.numeric_layers[0].base_fun):
            return None
        x = self.checked_input(x)
        with torch.no_grad():
            return FirstLayer.of(self.numeric_layers[0].features(x), x)

    def _advance(self, l: int, x: Tensor, first: FirstLayer | None, singularity_avoiding: bool, y_th: float) -> LayerRecord:
        """One layer: from nodes `x` to the next nodes."""
        numeric, functions, size = self.numeric_layers[l], self.symbolic_layers[l], self.width_out[l + 1]
        features = weight = symbolic = sums = values = None
        if is_called(numeric):
            sums, _, values, _ = called(numeric, f"act_fun[{l}]", 4, x)
        # On a GPU, looking at the mask would wait for the device; evaluating it costs less. A composed pass may hold many masks at once.
        elif numeric.mask.is_cuda or composed() or bool(numeric.mask.any()):
            rows = numeric.feature_rows(x.t()) if first is None else first.features.permute(1, 2, 0)
            features, weight = rows.permute(2, 0, 1), numeric.edge_weight()
            # The batch comes last in memory from here on, which is how the next layer wants its inputs.
            sums = (weight.flatten(0, 1).t() @ rows.flatten(0, 1)).t()
        if self.symbolic_enabled:
            added = None
            if is_called(functions):
                added, postacts = called(functions, f"symbolic_fun[{l}]", 2, x, singularity_avoiding=singularity_avoiding, y_th=y_th)
                symbolic = SymbolicEdges.of_all(postacts)
            elif (symbolic := functions.edges(x, singularity_avoiding, y_th)) is not None:
                added = symbolic.summed(size)
            if added is not None:
                sums = added if sums is None else sums + added
        if sums is None:
            sums = x.new_zeros(x.shape[0], size)
        unused: list[Tensor] = [numeric.grid]
        if features is None and values is None:
            unused += [x, numeric.coef, numeric.scale_base, numeric.scale_sp, numeric.mask]
            unused += numeric.base_fun.parameters() if isinstance(numeric.base_fun, nn.Module) else []
        if symbolic is None:
            unused += [functions.affine, functions.mask]
        sums = with_zero_gradients(sums, unused)
        premult = self._transform("subnode", l, sums)
        nodes = self._transform("node", l, self.multiplied(l + 1, premult))
        if values is not None:
            return CalledRecord(x, None, None, symbolic, sums, premult, nodes, values=values)
        return LayerRecord(x, features, weight, symbolic, sums, premult, nodes, first)

    def _transform(self, name: str, l: int, x: Tensor) -> Tensor:
        """``scale x + bias`` of nodes or sub-nodes; `x` itself where that is the identity and stays it."""
        scale, bias = getattr(self, f"{name}_scale_{l}"), getattr(self, f"{name}_bias_{l}")
        # On a GPU, looking at the values would wait for the device; using them costs less.
        looked_at = not (scale.requires_grad or bias.requires_grad or scale.is_cuda or composed())
        if looked_at and set(scale.tolist()) <= {1.0} and set(bias.tolist()) <= {0.0}:
            return x
        return torch.addcmul(bias, scale, x)

    def multiplied(self, l: int, premult: Tensor) -> Tensor:
        """Nodes of layer `l` from their sub-nodes: sum nodes as they are, then the products of the multiplication nodes."""
        arities = self.structure.arities[l]
        if not arities:
            return premult
        sums, *factors = premult.split([self.structure.n_sum[l], *arities], dim=1)
        return torch.cat([sums, *(factor.prod(dim=1, keepdim=True) for factor in factors)], dim=1)
