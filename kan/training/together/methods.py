"""Methods that train many plain networks of one structure at once: Adam and Levenberg-Marquardt.

Each network takes the steps that `fit` would take with it alone. Adam works entry by entry, so that one optimiser of the stacked parameters
equals one for each network. In Levenberg-Marquardt every network has its own damping and its own trials. A network whose trials find no
lower loss takes no further steps until the grids move.

The networks are divided into blocks of a few, which fit into the processor's cache, and the blocks are distributed over the threads of
torch. The blocks do not depend on the number of threads, and so neither do the results.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from kan.bases.bspline import tabulate
from kan.bases.spline_table import SplineTable
from kan.layers.features import feature_rows, fold, unfold
from kan.layers.kan_layer import KANLayer
from kan.network.network import Network
from kan.solvers.levenberg_marquardt import Damping, Linearisation, Model, damped_cholesky, improve_each
from kan.training.data.samples import Samples
from kan.training.together.stack_pass import Block, Shared, StackLayer, jacobian, losses, normal_equations, value_and_gradients

__all__ = ["METHODS", "BatchedAdam", "BatchedLM", "BatchedMethod", "Stack", "workers"]

Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""A function like `map`, which may call the function in several threads."""
T = TypeVar("T")

TOGETHER = 2**17
"""Smallest number of coefficients that a block looks up over all samples, which decides how many networks form a block: a round choice."""


@contextmanager
def workers() -> Iterator[Mapper]:
    """A `map` over as many threads as torch may use; each of them runs its tensor operations without further threads."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(count)


class Stack:
    """Copies of the parameters and knots of several networks, stacked.

    Args:
        networks: plain networks with the same structure, masks and first knots.
        dtype: data type of the copies.

    Attributes:
        parameters: for each layer ``coef`` ``(S, I, O, n)``, ``scale_base``, ``scale_sp`` ``(S, I, O)``, one after another.
        masks: for each layer, the mask of its edges, ``(S, I, O)``.
        knots: for each layer, the knots, ``(S I, P)``; for the first, which all networks share, ``(I, P)``.
        trained: for each of `parameters`, whether it is trained.
    """

    def __init__(self, networks: Sequence[Network], dtype: torch.dtype) -> None:
        self.network, self.count, self.dtype = networks[0], len(networks), dtype
        self.layers = networks[0].numeric_layers
        self.parameters: list[Tensor] = []
        self.masks: list[Tensor] = []
        self.knots: list[Tensor] = []
        self.trained: list[bool] = []
        for l, layer in enumerate(self.layers):
            all_of = [network.numeric_layers[l] for network in networks]
            for name in ("coef", "scale_base", "scale_sp"):
                self.parameters.append(torch.stack([getattr(one, name).detach() for one in all_of]).to(dtype))
                self.trained.append(bool(getattr(layer, name).requires_grad))
            self.masks.append(layer.mask.detach().to(dtype).expand(self.count, -1, -1))
            self.knots.append(layer.grid.detach().to(dtype) if l == 0 else torch.cat([one.grid.detach() for one in all_of]).to(dtype))
        self.tabulate_()

    def tabulate_(self) -> None:
        """Tabulate the splines again after the knots have moved."""
        self.tables = [tabulate(knots, layer.k) for knots, layer in zip(self.knots, self.layers, strict=True)]

    def shared(self, samples: Samples) -> Shared:
        """The samples as all networks share them, with features on the present first knots."""
        x = self.network.checked_input(samples.x).to(self.dtype)
        y = samples.y.to(self.dtype)
        weight = samples.weight
        share = torch.full((len(y),), 1 / y.numel(), dtype=self.dtype, device=y.device)
        if weight is not None:
            share = weight.to(self.dtype) / (weight.sum() * y.shape[1])
        first = feature_rows(x.t(), self.tables[0], self.layers[0].base_fun, self.layers[0].basis).flatten(0, 1)
        return Shared(first, y.t().contiguous(), share)

    def weights(self, l: int) -> Tensor:
        """The folded weights of layer `l`, ``(S, I, n+1, O)``."""
        coef, base, sp = self.parameters[3 * l : 3 * l + 3]
        folded = fold(coef.flatten(0, 1), base.flatten(0, 1), sp.flatten(0, 1), self.masks[l].flatten(0, 1))
        return folded.view(self.count, -1, *folded.shape[1:])

    def blocks(self, ids: Sequence[Sequence[int]]) -> list[Block]:
        """A block for each list of network indices."""
        weights = [self.weights(l) for l in range(len(self.layers))]
        return [
            Block(tuple(StackLayer(weight[list(some)], self._table(l, some), self.layers[l].base_fun) for l, weight in enumerate(weights)))
            for some in ids
        ]

    def _table(self, l: int, ids: Sequence[int]) -> SplineTable | None:
        if l == 0:
            return None
        inputs, first, last = self.layers[l].in_dim, ids[0], ids[-1] + 1
        if len(ids) == last - first:
            return self.tables[l].inputs(first * inputs, last * inputs)
        return self.tables[l].taken([s * inputs + i for s in ids for i in range(inputs)])

    def split(self, ids: Sequence[int], samples: int) -> list[list[int]]:
        """Divide `ids` into the lists that become blocks, see `TOGETHER`."""
        each = max(layer.in_dim * layer.out_dim * (layer.k + 1) for layer in self.layers[-1:]) * samples
        size = max(1, math.ceil(TOGETHER / each))
        return [list(ids[start : start + size]) for start in range(0, len(ids), size)]

    def move_grids_(self, x: Tensor, mapper: Mapper) -> None:
        """Let all grids follow their inputs on the samples `x`, as `Network.update_grid` does."""
        x = self.network.checked_input(x).to(self.dtype)
        first = _layer_like(self.layers[0], self.knots[0], self._units())
        first.update_grid_from_samples(x)
        change = first.coef.detach()  # new coefficients of every old function, (I, n, n)
        self.knots[0] = first.grid.detach()
        self.parameters[0].copy_(torch.einsum("siom,imn->sion", self.parameters[0], change))
        self.tables[0] = tabulate(self.knots[0], self.layers[0].k)
        rows = feature_rows(x.t(), self.tables[0], self.layers[0].base_fun, self.layers[0].basis).flatten(0, 1)
        blocks = self.split(range(self.count), len(x))
        weight = self.weights(0)
        nodes = [weight[ids].flatten(1, 2).mT @ rows for ids in blocks]
        for l in range(1, len(self.layers)):
            found = list(mapper(partial(self._moved, l), list(zip(blocks, nodes, strict=True))))
            self.knots[l] = torch.cat([knots for knots, _, _ in found])
            self.parameters[3 * l].copy_(torch.cat([coef for _, coef, _ in found]))
            nodes = [outputs for _, _, outputs in found]
        self.tabulate_()

    def _units(self) -> Tensor:
        size = self.layers[0].coef.shape[2]
        return torch.eye(size, dtype=self.dtype, device=self.knots[0].device).expand(self.layers[0].in_dim, -1, -1)

    @torch.no_grad()
    def _moved(self, l: int, job: tuple[list[int], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Knots, coefficients and outputs ``(S, O, B)`` of layer `l` of some networks after a grid update at nodes ``(S, I, B)``."""
        ids, nodes = job
        inputs, part = self.layers[l].in_dim, slice(3 * l, 3 * l + 3)
        coef, base, sp = (values[ids].flatten(0, 1) for values in self.parameters[part])
        knots = self.knots[l].unflatten(0, (self.count, inputs))[ids].flatten(0, 1)
        layer = _layer_like(self.layers[l], knots, coef)
        x = nodes.flatten(0, 1)
        layer.adapt_grid_(x.t())
        moved = layer.coef.detach()
        outputs = nodes.new_empty(0)
        if l + 1 < len(self.layers):
            weight = fold(moved, base, sp, self.masks[l][ids].flatten(0, 1)).unflatten(0, (len(ids), inputs))
            outputs = weight.flatten(1, 2).mT @ layer.feature_rows(x).unflatten(0, (len(ids), inputs)).flatten(1, 2)
        return layer.grid.detach(), moved.unflatten(0, (len(ids), inputs)), outputs

    def save(self) -> list[Tensor]:
        """Copies of all tensors that training changes, ``(S, ...)`` each."""
        first, *rest = self.knots
        knots = [first.expand(self.count, -1, -1), *(values.unflatten(0, (self.count, -1)) for values in rest)]
        return [values.clone() for values in (*self.parameters, *knots)]

    @torch.no_grad()
    def undo_(self, saved: Sequence[Tensor], ids: Tensor) -> None:
        """Bring the networks where `ids` ``(S,)`` is true back to what was `saved`, if the first grid, which all share, is as it was."""
        numbers, knots = saved[: len(self.parameters)], saved[len(self.parameters) :]
        if not bool(ids.any()) or not torch.equal(knots[0][0], self.knots[0]):
            return
        for values, before in zip(self.parameters, numbers, strict=True):
            values[ids] = before[ids]
        for values, before in zip(self.knots[1:], knots[1:], strict=True):
            values.unflatten(0, (self.count, -1))[ids] = before[ids]
        self.tabulate_()

    def bury_(self, ids: Sequence[int]) -> None:
        """Set the parameters of the networks `ids` to zero, so that their numbers, which are not finite, do not spread."""
        for values in self.parameters:
            values[list(ids)] = 0.0

    @torch.no_grad()
    def into_(self, network: Network, s: int, saved: Sequence[Tensor]) -> None:
        """Copy the parameters and knots of network `s` from `saved` into `network`."""
        for l, layer in enumerate(network.numeric_layers):
            for name, values in zip(("coef", "scale_base", "scale_sp"), saved[3 * l : 3 * l + 3], strict=True):
                getattr(layer, name).copy_(values[s])
            layer.grid.copy_(saved[3 * len(self.layers) + l][s])


def _layer_like(layer: KANLayer, knots: Tensor, coef: Tensor) -> KANLayer:
    """A layer with the settings of `layer`, and with the knots ``(I, P)`` and coefficients ``(I, O, n)`` that are given."""
    inputs, outputs = coef.shape[:2]
    found = KANLayer(
        inputs, outputs, layer.num, layer.k, noise_scale=0.0, base_fun=layer.base_fun, grid_eps=layer.grid_eps, generator=torch.Generator()
    ).to(device=coef.device, dtype=coef.dtype)
    with torch.no_grad():
        found.grid.copy_(knots)
        found.coef.copy_(coef)
    return found


class BatchedMethod(ABC):
    """A method of training all networks of a stack.

    Args:
        stack: the networks.
        lr: learning rate.
        mapper: the function like `map` that goes through the blocks.
    """

    def __init__(self, stack: Stack, lr: float, mapper: Mapper) -> None:
        self.stack, self.mapper = stack, mapper

    @staticmethod
    def dtype(network: Network) -> torch.dtype:
        """The data type in which the method computes."""
        return network.dtype

    @abstractmethod
    def step(self, shared: Shared, active: Sequence[int]) -> Tensor:
        """Take one step with the networks `active`; returns the losses of all networks afterwards, ``(S,)``."""

    @abstractmethod
    def reset(self) -> None:
        """Discard what is no longer valid after the grids have moved."""

    @abstractmethod
    def state_of(self, s: int) -> dict[str, Any]:
        """The state of the method for network `s`, as `Stepper.state_dict` returns it."""

    def losses(self, shared: Shared) -> Tensor:
        """The losses of all networks, ``(S,)``."""
        blocks = self.stack.blocks(self.stack.split(range(self.stack.count), len(shared.share)))
        return torch.cat(list(self.mapper(_quietly(lambda block: losses(block, shared)), blocks)))


def _quietly(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """`function` with gradients switched off, in whichever thread it is called."""

    def run(argument: Any) -> T:
        with torch.no_grad():
            return function(argument)

    return run


class BatchedAdam(BatchedMethod):
    """Adam for all networks at once."""

    def __init__(self, stack: Stack, lr: float, mapper: Mapper) -> None:
        super().__init__(stack, lr, mapper)
        self._trained = [p for p, trained in zip(stack.parameters, stack.trained, strict=True) if trained]
        self._optimizer = torch.optim.Adam(self._trained, lr=lr)
        self._current = False

    def step(self, shared: Shared, active: Sequence[int]) -> Tensor:
        """Take one step. The evaluation after it also gives the gradient of the next step."""
        if not self._current:
            self._evaluate(shared)
        self._optimizer.step()
        return self._evaluate(shared)

    def _evaluate(self, shared: Shared) -> Tensor:
        stack = self.stack
        blocks = stack.blocks(stack.split(range(stack.count), len(shared.share)))
        found = list(self.mapper(_quietly(lambda block: value_and_gradients(block, shared)), blocks))
        for l in range(len(stack.layers)):
            part = slice(3 * l, 3 * l + 3)
            arguments = [p.flatten(0, 1) for p in (*stack.parameters[part], stack.masks[l])]
            grad = torch.cat([grads[l] for _, grads in found]).flatten(0, 1)
            for p, own in zip(stack.parameters[part], unfold(grad, arguments, (*stack.trained[part], False)), strict=False):
                p.grad = None if own is None else own.view_as(p)
        self._current = True
        return torch.cat([values for values, _ in found])

    def reset(self) -> None:
        """Discard the gradient; the moments of Adam are kept."""
        self._current = False

    def state_of(self, s: int) -> dict[str, Any]:
        """The state of ``torch.optim.Adam`` for network `s` alone."""
        state = self._optimizer.state_dict()
        own = {i: {key: v[s].clone() if v.dim() else v.clone() for key, v in entries.items()} for i, entries in state["state"].items()}
        return {**state, "state": own}


class BatchedLM(BatchedMethod):
    """Levenberg-Marquardt for all networks at once, in float64."""

    def __init__(self, stack: Stack, lr: float, mapper: Mapper) -> None:
        super().__init__(stack, lr, mapper)
        self.damping = [Damping() for _ in range(stack.count)]
        self.known: Tensor | None = None
        self.stalled: set[int] = set()
        for coef, sp, mask in zip(stack.parameters[::3], stack.parameters[2::3], stack.masks, strict=True):
            dead = (sp == 0) & (mask != 0)  # coefficients must have an effect
            coef[dead], sp[dead] = 0.0, 1.0
        self._shapes = [tuple(stack.weights(l).shape[1:]) for l in range(len(stack.layers))]
        alive = [(mask[0] != 0)[:, None].expand(shape).reshape(-1) for mask, shape in zip(stack.masks, self._shapes, strict=True)]
        self._columns = torch.cat(alive).nonzero()[:, 0]

    @staticmethod
    def dtype(network: Network) -> torch.dtype:
        """The method always computes in float64."""
        return torch.float64

    def step(self, shared: Shared, active: Sequence[int]) -> Tensor:
        """Take one step, with as many trials as each network needs."""
        if self.known is None:
            self.known = self.losses(shared)
        known, todo = self.known, [s for s in active if s not in self.stalled]
        if todo:
            jobs = self.stack.split(todo, len(shared.share))
            work = list(zip(jobs, self.stack.blocks(jobs), strict=True))
            for ids, (steps, new) in zip(jobs, self.mapper(_quietly(lambda job: self._improved(shared, known, *job)), work), strict=True):
                self._take_(ids, steps)
                self.stalled.update(s for s, value in zip(ids, new, strict=True) if value is None)
                for s, value in zip(ids, new, strict=True):
                    known[s] = known[s] if value is None else value
        return known.clone()

    def reset(self) -> None:
        """Discard the losses, and let all networks take steps again; the damping is kept."""
        self.known = None
        self.stalled.clear()

    def state_of(self, s: int) -> dict[str, Any]:
        """The state of `LMStepper` for network `s`."""
        return {"mu": self.damping[s].mu, "growth": self.damping[s].growth}

    def _take_(self, ids: list[int], step: Tensor) -> None:
        """Add a step of the weights, ``(S, P)``, to the parameters."""
        parts = step.split([math.prod(shape) for shape in self._shapes], dim=1)
        for l, (part, shape) in enumerate(zip(parts, self._shapes, strict=True)):
            coef, base, sp = self.stack.parameters[3 * l : 3 * l + 3]
            move, mask = part.view(len(ids), *shape), self.stack.masks[l][ids]
            scale = (mask * sp[ids]).where(mask != 0, 1.0)
            base[ids] += move[:, :, 0] / mask.where(mask != 0, 1.0)
            coef[ids] += move[:, :, 1:].mT / scale[..., None]

    def _improved(self, shared: Shared, known: Tensor, ids: list[int], block: Block) -> tuple[Tensor, list[float | None]]:
        """Trials for a block of networks: steps of the weights ``(S, P)``, and the losses after them, None if no step lowers them."""
        values = known[ids].tolist()

        def evaluate(own: list[int], steps: list[Tensor]) -> list[float]:
            return losses(block.taken(own).moved(self._scattered(steps, block.size)), shared).tolist()

        found = improve_each(_models(block, shared, self._columns), values, [self.damping[s] for s in ids], evaluate)
        still = shared.share.new_zeros(len(self._columns))
        steps = self._scattered([still if each is None else each[0] for each in found], block.size)
        return steps, [None if each is None else each[1] for each in found]

    def _scattered(self, steps: list[Tensor], size: int) -> Tensor:
        """Steps of the weights that are trained as steps of all `size` weights, ``(S, size)``."""
        found = steps[0].new_zeros(len(steps), size)
        found[:, self._columns] = torch.stack(steps)
        return found


class _Gram:
    """The quadratic model of one network's loss from its Gram matrix; a `Linearisation` takes over where that is ill-conditioned."""

    def __init__(self, matrix: Tensor, slope: Tensor, exact: Callable[[], Linearisation]) -> None:
        self._matrix, self.gradient, self._exact = matrix.mul_(2), 2 * slope, exact
        self._found: Linearisation | None = None
        self.largest = float(self._matrix.diagonal().amax())

    def step(self, mu: float) -> Tensor:
        """The step ``p`` with the damping `mu`."""
        factor = damped_cholesky(self._matrix, mu)
        if factor is not None:
            return -torch.cholesky_solve(self.gradient[:, None], factor)[:, 0]
        if self._found is None:
            self._found = self._exact()
        return self._found.step(mu)


def _models(block: Block, shared: Shared, columns: Tensor) -> list[Model]:
    """The quadratic model of each network's loss, as a function of the weights `columns`."""
    rows = shared.y.numel()

    def exact(s: int) -> Linearisation:
        """The model of network `s` with the Jacobian itself."""

        def chunks() -> Iterator[tuple[Tensor, Tensor]]:
            found, residuals = jacobian(block.taken([s]), shared)
            yield found[0, columns], residuals[0]

        return Linearisation(chunks, len(columns), rows)

    if rows < len(columns):
        return [exact(s) for s in range(block.networks)]
    matrices, slopes = normal_equations(block, shared)
    if len(columns) < matrices.shape[1]:
        matrices, slopes = matrices[:, columns][:, :, columns], slopes[:, columns]
    return [_Gram(matrix, slope, partial(exact, s)) for s, (matrix, slope) in enumerate(zip(matrices, slopes, strict=True))]


METHODS: dict[str, type[BatchedMethod]] = {"Adam": BatchedAdam, "LM": BatchedLM}
"""The methods of `fit` that can train many networks at once, by name."""
