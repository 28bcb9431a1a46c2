r"""The symbolic layer: edges whose function has a name.

    ``y_j(x) = sum_i mask_ji (c_ji f_ji(a_ji x_i + b_ji) + d_ji)``

Edges are evaluated in groups that share a function, as tensors; edges without one cost nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kan.layers.checks import check_dense
from kan.layers.computed import take_apart_
from kan.layers.function_tables import FunctionTable
from kan.layers.ordinary_module import OrdinaryModule
from kan.layers.zero_gradient import with_zero_gradients
from kan.modes import composed
from kan.symbolic.affine_fit import fit_params
from kan.symbolic.library import ANONYMOUS, SYMBOLIC_LIB, SymbolicFunction, anonymous, lookup
from kan.symbolic.user_function import TABLES, name_to_save, written

__all__ = ["SymbolicEdges", "SymbolicLayer"]

NONE = "0"


class SymbolicEdges(NamedTuple):
    """Outputs of the edges that carry a function.

    Attributes:
        inputs, outputs: indices ``i`` and ``j`` of the edges, ``(E,)``.
        values: ``mask (c f(a x + b) + d)``, ``(B, E)``.
    """

    inputs: Tensor
    outputs: Tensor
    values: Tensor

    @classmethod
    def of_all(cls, postacts: Tensor) -> SymbolicEdges:
        """All edges of a layer, from their activations ``(B, out, in)``."""
        outputs, inputs = (grid.flatten() for grid in torch.meshgrid(
            *(torch.arange(size, device=postacts.device) for size in postacts.shape[1:]), indexing="ij"
        ))  # fmt: skip
        return cls(inputs, outputs, postacts.flatten(1))

    def summed(self, out_dim: int) -> Tensor:
        """Sums over the edges of each output, ``(B, out_dim)``."""
        incidence = nn.functional.one_hot(self.outputs, out_dim).to(self.values.dtype)
        return self.values @ incidence

    def added_to(self, postacts: Tensor) -> Tensor:
        """Edge activations ``(B, out, in)`` with these added."""
        edges_first = postacts.permute(1, 2, 0)
        return edges_first.index_put((self.outputs, self.inputs), self.values.t(), accumulate=True).permute(2, 0, 1)


class SymbolicLayer(OrdinaryModule):
    """Layer of ``in_dim * out_dim`` edges ``c f(a x + b) + d``; all start as the zero function, masked.

    Args:
        in_dim, out_dim: number of inputs and outputs.
        device: where the parameters live.

    Attributes:
        mask: ``(out, in)``, not trained. Note the order, the reverse of ``KANLayer``.
        affine: ``(out, in, 4)``, the numbers ``(a, b, c, d)`` of each edge. It requires gradients while there is an edge with a function.
        funs_name: nested list ``[out][in]`` of function names, which can be written to, as those of the functions can.
    """

    def __init__(self, in_dim: int = 3, out_dim: int = 2, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.zeros(out_dim, in_dim), requires_grad=False)
        self.affine = nn.Parameter(torch.zeros(out_dim, in_dim, 4), requires_grad=False)
        self._named: dict[tuple[int, int], tuple[str, SymbolicFunction]] = {}
        self.to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SymbolicLayer:
        for _, function in self._named.values():  # a function may be a network, which nothing else moves
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

    @property
    def funs_name(self) -> list[list[str]]:
        """Names of all edges' functions, nested ``[out][in]``; ``'0'`` where there is none."""
        return self._table("funs_name")

    @funs_name.setter
    def funs_name(self, names: Sequence[Sequence[str]]) -> None:
        self._write("funs_name", names)

    def function(self, i: int, j: int) -> tuple[str, SymbolicFunction]:
        """Name and function of the edge from input `i` to output `j`."""
        return self._named.get((j, i), (NONE, SYMBOLIC_LIB[NONE]))

    @torch.no_grad()
    def set_function(self, i: int, j: int, name: str, function: SymbolicFunction | None = None, affine: Tensor | None = None) -> None:
        """Put a function on the edge from input `i` to output `j`; the mask is left alone.

        Args:
            i, j: the edge.
            name: a name of the library, or any other when `function` is given; ``'0'`` takes the function away and leaves ``d``.
            function: the function, when it is not in the library.
            affine: ``(a, b, c, d)``; the identity ``(1, 0, 1, 0)`` when not given.
        """
        with self._trained_while_named():
            self._named.pop((j, i), None)
            if name != NONE or (affine is not None and affine[3] != 0):
                self._named[(j, i)] = (name, lookup(name) if function is None else function)
        self.affine[j, i] = torch.tensor([1.0, 0.0, 1.0, 0.0]).to(self.affine) if affine is None else affine.to(self.affine)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        # Edges of the zero function that have a constant: `active` must know of them, and a state has no names.
        if not self.mask.is_meta:
            with self._trained_while_named():
                for j, i in ((self.mask != 0) & (self.affine[..., 3] != 0)).nonzero().tolist():
                    self._named.setdefault((j, i), (NONE, SYMBOLIC_LIB[NONE]))

    @contextmanager
    def _trained_while_named(self) -> Iterator[None]:
        """Let `affine` require gradients from the first edge with a function on, and no more without one.

        What the user says in between, such as ``affine.requires_grad_(False)``, holds as long as there are such edges.
        """
        before = bool(self._named)
        yield
        if bool(self._named) != before:
            self.affine.requires_grad_(not before)

    @property
    def functions(self) -> dict[tuple[int, int], tuple[str, SymbolicFunction]]:
        """Name and function of the edges ``(out, in)`` that have one."""
        return dict(self._named)

    def put_functions_(self, functions: Mapping[tuple[int, int], tuple[str, SymbolicFunction]]) -> None:
        """Let the edges have these functions, as `functions` gives them, and no others; masks and affines are left alone."""
        with self._trained_while_named():
            self._named = dict(functions)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.mask.device

    @property
    def funs(self) -> list[list[Any]]:
        """All edges' functions of a tensor, nested ``[out][in]``."""
        return self._table("funs")

    @funs.setter
    def funs(self, functions: Sequence[Sequence[Any]]) -> None:
        self._write("funs", functions)

    @property
    def funs_sympy(self) -> list[list[Any]]:
        """All edges' functions of a sympy expression, nested ``[out][in]``."""
        return self._table("funs_sympy")

    @funs_sympy.setter
    def funs_sympy(self, functions: Sequence[Sequence[Any]]) -> None:
        self._write("funs_sympy", functions)

    @property
    def funs_avoid_singularity(self) -> list[list[Any]]:
        """All edges' functions ``(u, y_th) -> (threshold, value)`` that stay finite, nested ``[out][in]``."""
        return self._table("funs_avoid_singularity")

    @funs_avoid_singularity.setter
    def funs_avoid_singularity(self, functions: Sequence[Sequence[Any]]) -> None:
        self._write("funs_avoid_singularity", functions)

    def _table(self, table: str) -> FunctionTable:
        def entry(j: int, i: int) -> Any:
            name, function = self.function(i, j)
            return name if table == "funs_name" else getattr(function, TABLES[table])

        def write(j: int, i: int, new: Any) -> None:
            old = entry(j, i)
            if new is not old and not (isinstance(new, str) and new == old):
                with self._trained_while_named():
                    self._named[(j, i)] = written(*self.function(i, j), table, new)

        return FunctionTable.nested([[entry(j, i) for i in range(self.in_dim)] for j in range(self.out_dim)], write)

    def _write(self, table: str, entries: Sequence[Sequence[Any]]) -> None:
        """Write all entries of a table, or, if one of them is refused, none."""
        before = dict(self._named)
        try:
            self._table(table)[:] = entries
        except BaseException:
            self.put_functions_(before)
            raise

    def names_to_save(self) -> dict[tuple[int, int], str]:
        """Names of the edges ``(out, in)`` that have a function; ``'anonymous'`` where one stands for another function than the edge's."""
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
        """Put a function on the edge from input `i` to output `j`, in place; the mask is left alone.

        Args:
            i, j: the edge.
            fun_name: a name of the library, or a function of a tensor (then `x` and `y` are not looked at).
            x, y: ``(N,)`` each, a curve that ``c f(a x + b) + d`` is fitted to; ``(1, 0, 1, 0)`` when not given.
            random: without a curve, draw ``(a, b, c, d)`` uniformly from ``[-1, 1]``; torch's global generator is used.
            a_range, b_range: where the search for ``a`` and ``b`` starts.
            verbose: print the r2 of the fit.

        Returns:
            r2 of the fit, 0-dim; None without one.

        Raises:
            IndexError: for an edge that does not exist.
            ValueError: for an unknown name, or a bad curve.
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
        """The edges ``(out, in)`` that have a function and are not masked, grouped by function.

        Inside ``torch.func`` and ``torch.compile``, where masks cannot be looked at, those that are masked, too.
        """
        if not self._named:
            return []
        edges = sorted(self._named)  # sums are taken in this order: it must not depend on which edge was fixed first
        if not composed():
            mask = self.mask.tolist()
            edges = [edge for edge in edges if mask[edge[0]][edge[1]] != 0]
        groups: dict[int, int] = {}  # by identity: two functions may share the name "anonymous"
        return sorted(edges, key=lambda edge: groups.setdefault(id(self._named[edge][1]), len(groups)))

    def edges(
        self, x: Tensor, singularity_avoiding: bool = False, y_th: float = 10.0, affine: Tensor | None = None
    ) -> SymbolicEdges | None:
        """Outputs of the edges that have a function; None if none has.

        Args:
            x: ``(B, in)``.
            singularity_avoiding: use the versions of the functions that stay finite at their singular points.
            y_th: their bound on ``|f|``.
            affine: ``(B, E, 4)``, numbers ``(a, b, c, d)`` of their own for every sample, edges in the order of `active`.
        """
        active = self.active()
        if not active:
            return None
        outputs, inputs = torch.tensor(active, device=x.device).unbind(1)
        a, b, c, d = (self.affine[outputs, inputs] if affine is None else affine).unbind(-1)
        values = []
        for (_, function), group in _runs([self._named[edge] for edge in active]):
            u = a[..., group] * x[:, inputs[group]] + b[..., group]
            if singularity_avoiding:
                values.append(function.singularity_fun(u, torch.as_tensor(y_th, dtype=x.dtype, device=x.device))[1])
            else:
                values.append(function.torch_fun(u))
        f = torch.cat(values, dim=1) if len(values) > 1 else values[0]
        mask = self.mask[outputs, inputs]
        found = mask * (c * f + d)
        return SymbolicEdges(inputs, outputs, torch.where(mask != 0, found, 0.0) if composed() else found)

    def affine_slopes(self, x: Tensor, singularity_avoiding: bool = False, y_th: float = 10.0) -> Tensor:
        """Derivatives of the active edges' outputs with respect to their ``(a, b, c, d)``, ``(E, 4, B)``; arguments as in `edges`."""
        outputs, inputs = torch.tensor(self.active(), device=x.device).unbind(1)
        with torch.enable_grad():
            own = self.affine.detach()[outputs, inputs].expand(len(x), -1, -1).clone().requires_grad_()
            edges = self.edges(x.detach(), singularity_avoiding, y_th, own)
            assert edges is not None
            (slopes,) = torch.autograd.grad(edges.values.sum(), own)
        return slopes.permute(1, 2, 0)

    def forward(self, x: Tensor, singularity_avoiding: bool = False, y_th: float = 10.0) -> tuple[Tensor, Tensor]:
        """Output ``(B, out)`` and edge activations ``(B, out, in)``."""
        check_dense(x)
        postacts = x.new_zeros(x.shape[0], self.out_dim, self.in_dim)
        edges = self.edges(x, singularity_avoiding, y_th)
        if edges is None:
            postacts = with_zero_gradients(postacts, [x, self.affine, self.mask])
        else:
            postacts = edges.added_to(postacts)
        return postacts.sum(-1), postacts

    def get_subset(self, in_id: Sequence[int], out_id: Sequence[int]) -> SymbolicLayer:
        """A new layer with the inputs `in_id` and the outputs `out_id` of this one."""
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
    """Stretches of equal functions with the slice that each covers."""
    start = 0
    for _, group in groupby(named, key=lambda item: id(item[1])):
        members = list(group)
        yield members[0], slice(start, start + len(members))
        start += len(members)
