r"""The symbolic layer, whose edges carry named functions.

    ``y_j(x) = sum_i mask_ji (c_ji f_ji(a_ji x_i + b_ji) + d_ji)``

Edges that share a function are evaluated together, as one tensor. Edges without a function cost nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kan.devices import at_hand, constant, number_like
from kan.layers.checks import check_dense
from kan.layers.computed import take_apart_
from kan.layers.function_tables import WritableTable
from kan.layers.ordinary_module import OrdinaryModule
from kan.layers.zero_gradient import with_zero_gradients
from kan.modes import composed
from kan.symbolic.affine_fit import fit_params
from kan.symbolic.function import ANONYMOUS, SymbolicFunction, anonymous
from kan.symbolic.library import SYMBOLIC_LIB, lookup
from kan.symbolic.user_function import name_to_save

__all__ = ["SymbolicEdges", "SymbolicLayer"]

NONE = "0"
"""Name of the zero function, which an edge without a function has."""


class SymbolicEdges(NamedTuple):
    """Outputs of the edges that carry a function.

    Attributes:
        inputs, outputs: indices ``i`` and ``j`` of the edges, ``(E,)``.
        values: their outputs ``mask (c f(a x + b) + d)``, ``(B, E)``.
    """

    inputs: Tensor
    outputs: Tensor
    values: Tensor

    @classmethod
    def of_all(cls, postacts: Tensor) -> SymbolicEdges:
        """Return all edges of a layer, given their activations ``(B, out, in)``."""
        outputs, inputs = (grid.flatten() for grid in torch.meshgrid(
            *(torch.arange(size, device=postacts.device) for size in postacts.shape[1:]), indexing="ij"
        ))  # fmt: skip
        return cls(inputs, outputs, postacts.flatten(1))

    def summed(self, out_dim: int) -> Tensor:
        """Return the sums over the edges of each output, ``(B, out_dim)``."""
        return self.values @ incidence(self.outputs, out_dim, self.values.dtype)

    def added_to(self, postacts: Tensor) -> Tensor:
        """Return the edge activations ``(B, out, in)`` with these outputs added."""
        edges_first = postacts.permute(1, 2, 0)
        return edges_first.index_put((self.outputs, self.inputs), self.values.t(), accumulate=True).permute(2, 0, 1)


def incidence(outputs: Tensor, out_dim: int, dtype: torch.dtype) -> Tensor:
    """1 where an edge leads to an output, else 0, ``(E, out_dim)``; ``one_hot`` would look at the numbers of `outputs` ``(E,)`` first."""
    return (outputs[:, None] == torch.arange(out_dim, device=outputs.device)).to(dtype)


class SymbolicLayer(OrdinaryModule):
    """A layer of ``in_dim * out_dim`` edges ``c f(a x + b) + d``, which all start as the masked zero function.

    Args:
        in_dim, out_dim: numbers of inputs and outputs.
        device: device of the parameters.

    Attributes:
        mask: tensor ``(out, in)``, not trained. Its order of axes is the reverse of that in ``KANLayer``.
        affine: tensor ``(out, in, 4)``, the parameters ``(a, b, c, d)`` of each edge. It requires gradients while an edge has a function.
        funs_name: names of the functions, as a nested list ``[out][in]``; ``'0'`` where there is none.
        funs: functions of tensors, likewise.
        funs_sympy: functions of sympy expressions, likewise.
        funs_avoid_singularity: singularity-safe versions ``(u, y_th) -> (threshold, value)``, likewise. Entries of all four lists can be
            assigned.
    """

    funs_name = WritableTable()
    funs = WritableTable()
    funs_sympy = WritableTable()
    funs_avoid_singularity = WritableTable()

    def __init__(self, in_dim: int = 3, out_dim: int = 2, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.zeros(out_dim, in_dim), requires_grad=False)
        self.affine = nn.Parameter(torch.zeros(out_dim, in_dim, 4), requires_grad=False)
        self._named: dict[tuple[int, int], tuple[str, SymbolicFunction]] = {}
        self.to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SymbolicLayer:
        for _, function in self._named.values():  # a function may be a network, which nothing else converts
            if isinstance(function.torch_fun, nn.Module):
                function.torch_fun._apply(fn)
        return super()._apply(fn, recurse)

    @property
    def in_dim(self) -> int:
        """Number of inputs."""
        return self.mask.shape[1]

    @property
    def out_dim(self) -> int:
        """Number of outputs."""
        return self.mask.shape[0]

    def extra_repr(self) -> str:
        """Sizes, as shown by ``print(layer)``."""
        return f"in_dim={self.in_dim}, out_dim={self.out_dim}"

    def function(self, i: int, j: int) -> tuple[str, SymbolicFunction]:
        """Return name and function of the edge from input `i` to output `j`."""
        return self._named.get((j, i), (NONE, SYMBOLIC_LIB[NONE]))

    @torch.no_grad()
    def set_function(self, i: int, j: int, name: str, function: SymbolicFunction | None = None, affine: Tensor | None = None) -> None:
        """Put a function on the edge from input `i` to output `j`; the mask does not change.

        Args:
            i, j: the edge.
            name: a name of the library, or any other name when `function` is given; ``'0'`` removes the function and leaves ``d``.
            function: the function, if it is not in the library.
            affine: the parameters ``(a, b, c, d)``; by default the identity ``(1, 0, 1, 0)``.
        """
        with self._trained_while_named():
            self._named.pop((j, i), None)
            if name != NONE or (affine is not None and affine[3] != 0):
                self._named[(j, i)] = (name, lookup(name) if function is None else function)
        self.affine[j, i] = torch.tensor([1.0, 0.0, 1.0, 0.0]).to(self.affine) if affine is None else affine.to(self.affine)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        # Edges of the zero function may have a constant d. They are active too, but a state dictionary does not name them.
        if not self.mask.is_meta:
            with self._trained_while_named():
                for j, i in ((self.mask != 0) & (self.affine[..., 3] != 0)).nonzero().tolist():
                    self._named.setdefault((j, i), (NONE, SYMBOLIC_LIB[NONE]))

    @contextmanager
    def _trained_while_named(self) -> Iterator[None]:
        """Switch the gradients of `affine` on with the first edge that gets a function, and off with the last one that loses it.

        In between, a setting of the user such as ``affine.requires_grad_(False)`` is kept.
        """
        before = bool(self._named)
        yield
        if bool(self._named) != before:
            self.affine.requires_grad_(not before)

    @property
    def functions(self) -> dict[tuple[int, int], tuple[str, SymbolicFunction]]:
        """Names and functions of the edges ``(out, in)`` that have a function."""
        return dict(self._named)

    def put_functions_(self, functions: Mapping[tuple[int, int], tuple[str, SymbolicFunction]]) -> None:
        """Replace all functions by these, given as in `functions`; masks and affine parameters do not change."""
        with self._trained_while_named():
            self._named = dict(functions)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.mask.device

    def names_to_save(self) -> dict[tuple[int, int], str]:
        """Return the names of the edges ``(out, in)`` that have a function, by `kan.symbolic.user_function.name_to_save`."""
        return {edge: name_to_save(name, function) for edge, (name, function) in self._named.items()}

    def fix_symbolic(
        self,
        i: int,
        j: int,
        fun_name: str | Callable[[Any], Any],
        x: Tensor | None = None,
        y: Tensor | None = None,
        random: bool = False,
        a_range: tuple[float, float] = (-10, 10),
        b_range: tuple[float, float] = (-10, 10),
        verbose: bool = True,
    ) -> Tensor | None:
        """Put a function on the edge from input `i` to output `j`, in place; the mask does not change.

        Args:
            i, j: the edge.
            fun_name: a name of the library, or a function of tensors, for which `x` and `y` are not used.
            x, y: the curve ``(N,)`` to which ``c f(a x + b) + d`` is fitted; without it, ``(a, b, c, d)`` is ``(1, 0, 1, 0)``.
            random: without a curve, draw ``(a, b, c, d)`` uniformly from ``[-1, 1]`` with torch's global generator.
            a_range, b_range: limits of ``a`` and ``b``, see `kan.symbolic.affine_fit.fit_affine`.
            verbose: print R^2 of the fit.

        Returns:
            R^2 of the fit, 0-dim; None if nothing is fitted.

        Raises:
            IndexError: if the edge does not exist.
            ValueError: if the name is unknown or the curve cannot be fitted.
        """
        for what, index, size in (("input", i, self.in_dim), ("output", j, self.out_dim)):
            if not -size <= index < size:
                raise IndexError(f"the layer has {size} {what}s, numbered 0 to {size - 1}; got {index}.")
        i, j = i % self.in_dim, j % self.out_dim
        if callable(fun_name):
            function, name = anonymous(fun_name), ANONYMOUS
        else:
            function, name = lookup(fun_name), fun_name
            if x is not None and y is not None:
                affine, r2 = fit_params(x, y, function.torch_fun, a_range, b_range, verbose=verbose, device=self.device)
                self.set_function(i, j, name, function, affine)
                return r2
        self.set_function(i, j, name, function, torch.rand(4) * 2 - 1 if random else None)
        return None

    def active(self) -> list[tuple[int, int]]:
        """Return the edges ``(out, in)`` that have a function and are not masked, grouped by function.

        Inside ``torch.func`` and ``torch.compile``, where the values of masks cannot be read, masked edges are included.
        """
        return self._grouped(unmasked=not composed())

    def evaluated(self) -> list[tuple[int, int]]:
        """Return the edges that a pass evaluates: those of `active`, and where reading the mask would wait for a device, the others too."""
        return self._grouped(unmasked=self._reads_mask())

    def _reads_mask(self) -> bool:
        return at_hand(self.mask) and not composed()

    def _grouped(self, unmasked: bool) -> list[tuple[int, int]]:
        if not self._named:
            return []
        edges = sorted(self._named)  # the order of summation must not depend on the order in which edges were fixed
        if unmasked:
            mask = self.mask.tolist()
            edges = [edge for edge in edges if mask[edge[0]][edge[1]] != 0]
        groups: dict[int, int] = {}  # by identity: two functions may share the name "anonymous"
        return sorted(edges, key=lambda edge: groups.setdefault(id(self._named[edge][1]), len(groups)))

    def edges(
        self, x: Tensor, singularity_avoiding: bool = False, y_th: float = 10.0, affine: Tensor | None = None
    ) -> SymbolicEdges | None:
        """Return the outputs of the edges that `evaluated` returns; None if there are none.

        Args:
            x: inputs ``(B, in)``.
            singularity_avoiding: use the versions of the functions that stay finite at their singular points.
            y_th: the threshold of these versions on ``|f|``.
            affine: separate parameters ``(a, b, c, d)`` for every sample, ``(B, E, 4)``, with edges in the order of `evaluated`.
        """
        evaluated = self.evaluated()
        if not evaluated:
            return None
        outputs, inputs = constant(tuple(evaluated), torch.long, x.device).unbind(1)
        a, b, c, d = (self.affine[outputs, inputs] if affine is None else affine).unbind(-1)
        values = []
        for (_, function), group in _runs([self._named[edge] for edge in evaluated]):
            u = a[..., group] * x[:, inputs[group]] + b[..., group]
            if singularity_avoiding:
                values.append(function.singularity_fun(u, number_like(y_th, x))[1])
            else:
                values.append(function.torch_fun(u))
        f = torch.cat(values, dim=1) if len(values) > 1 else values[0]
        mask = self.mask[outputs, inputs]
        found = mask * (c * f + d)
        return SymbolicEdges(inputs, outputs, found if self._reads_mask() else torch.where(mask != 0, found, 0.0))

    def forward(self, x: Tensor, singularity_avoiding: bool = False, y_th: float = 10.0) -> tuple[Tensor, Tensor]:
        """Return the outputs ``(B, out)`` and the edge activations ``(B, out, in)``."""
        check_dense(x)
        postacts = x.new_zeros(x.shape[0], self.out_dim, self.in_dim)
        edges = self.edges(x, singularity_avoiding, y_th)
        if edges is None:
            postacts = with_zero_gradients(postacts, [x, self.affine, self.mask])
        else:
            postacts = edges.added_to(postacts)
        return postacts.sum(-1), postacts

    def get_subset(self, in_id: Sequence[int], out_id: Sequence[int]) -> SymbolicLayer:
        """Return a new layer with the inputs `in_id` and the outputs `out_id` of this one."""
        subset = copy.deepcopy(self)
        take_apart_(subset)
        subset._named = {}
        subset.mask = nn.Parameter(subset.mask.detach()[list(out_id)][:, list(in_id)].clone(), requires_grad=False)
        subset.affine = nn.Parameter(subset.affine.detach()[list(out_id)][:, list(in_id)].clone(), subset.affine.requires_grad)
        for new_j, j in enumerate(out_id):
            for new_i, i in enumerate(in_id):
                if (j, i) in self._named:
                    subset._named[(new_j, new_i)] = self._named[(j, i)]
        subset.affine.requires_grad_(bool(subset._named) and self.affine.requires_grad)
        return subset

    @torch.no_grad()
    def swap(self, i1: int, i2: int, mode: Literal["in", "out"] = "in") -> None:
        """Exchange two inputs (``mode='in'``) or two outputs (``'out'``), in place."""
        axis = 1 if mode == "in" else 0
        for parameter in (self.mask, self.affine):
            order = torch.arange(parameter.shape[axis], device=parameter.device)
            order[[i1, i2]] = order[[i2, i1]]
            parameter.copy_(parameter.index_select(axis, order))
        other = {i1: i2, i2: i1}
        self._named = {(j, other.get(i, i)) if mode == "in" else (other.get(j, j), i): named for (j, i), named in self._named.items()}


def _runs(named: list[tuple[str, SymbolicFunction]]) -> Iterator[tuple[tuple[str, SymbolicFunction], slice]]:
    """Iterate over runs of the same function, each with the slice of edges that it covers."""
    start = 0
    for _, group in groupby(named, key=lambda item: id(item[1])):
        members = list(group)
        yield members[0], slice(start, start + len(members))
        start += len(members)
