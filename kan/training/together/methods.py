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
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from kan.bases.bspline import tabulate
from kan.bases.spline_table import SplineTable
from kan.layers.features import feature_rows, fold, unfold
from kan.layers.kan_layer import KANLayer
from kan.kernels.network import NUMBER_OF_PARAMETERS, Batch
from kan.network.network import Network
from kan.solvers.lbfgs import LBFGS
from kan.solvers.levenberg_marquardt import Damping, Linearisation, Model, damped_cholesky, improve_each
from kan.training.data.samples import Samples
from kan.training.methods.by_name import make_optimizer
from kan.training.together.compiled_stack import CompiledStack, is_known, solves
from kan.training.together.stack_pass import Block, Shared, StackLayer, jacobian, losses, normal_equations, value_and_gradients

__all__ = ["METHODS", "BatchedAdam", "BatchedLM", "BatchedMethod", "Stack", "workers"]

Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""A function like `map`, which may call the function in several threads."""
T = TypeVar("T")

TOGETHER = 2**17
"""Smallest number of coefficients that a block looks up over all samples, which decides how many networks form a block: a round choice."""

TOGETHER_IN_KERNELS = 4
"""Number of networks whose losses, or gradients, a thread computes at a time with the kernels: a round choice."""


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


@dataclass
class SharedSamples:
    """Samples as all networks of a stack share them.

    Attributes:
        batch: inputs, labels and the samples' weights.
        table, layer: the splines of the first layer and the layer, whose features all networks share.
    """

    batch: Batch
    table: SplineTable
    layer: KANLayer

    def __len__(self) -> int:
        return len(self.batch.x)

    @cached_property
    def features(self) -> Shared:
        """What the pass in torch needs. The kernels compute the features themselves."""
        x, y, weight = self.batch
        assert y is not None
        share = torch.full((len(y),), 1 / y.numel(), dtype=y.dtype, device=y.device)
        if weight is not None:
            share = weight / (weight.sum() * y.shape[1])
        with torch.no_grad():
            first = feature_rows(x.t(), self.table, self.layer.base_fun, self.layer.basis).flatten(0, 1)
        return Shared(first, y.t().contiguous(), share)


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
        self.compiled: CompiledStack | None = None
        self.tabulate_()
        if is_known(self.network, dtype):
            self.compiled = CompiledStack(self.network, self.tables, self.parameters, self.masks)
        self._batches: dict[int, tuple[Samples, Batch]] = {}

    def tabulate_(self) -> None:
        """Tabulate the splines again after the knots have moved."""
        self.tables = [tabulate(knots, layer.k) for knots, layer in zip(self.knots, self.layers, strict=True)]
        if self.compiled is not None:
            self.compiled.take_tables_(self.tables)

    def shared(self, samples: Samples) -> SharedSamples:
        """The samples as all networks share them, with features on the present first knots."""
        if id(samples) not in self._batches:
            x = self.network.checked_input(samples.x)
            of_type = (None if t is None else t.to(self.dtype).contiguous() for t in (x, samples.y, samples.weight))
            self._batches[id(samples)] = samples, Batch(*of_type)
        return SharedSamples(self._batches[id(samples)][1], self.tables[0], self.layers[0])

    def weights(self, l: int, ids: Sequence[int] | slice = slice(None)) -> Tensor:
        """The folded weights of layer `l` of all networks, or of some, ``(S, I, n+1, O)``."""
        coef, base, sp, mask = (values[ids] for values in (*self.parameters[3 * l : 3 * l + 3], self.masks[l]))
        folded = fold(coef.flatten(0, 1), base.flatten(0, 1), sp.flatten(0, 1), mask.flatten(0, 1))
        return folded.view(len(coef), -1, *folded.shape[1:])

    def block(self, ids: Sequence[int]) -> Block:
        """A block of some networks."""
        layers = enumerate(self.layers)
        return Block(tuple(StackLayer(self.weights(l, list(ids)), self._table(l, ids), layer.base_fun) for l, layer in layers))

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
    def undo_(self, saved: Sequence[Tensor], ids: Tensor) -> Tensor:
        """Bring the networks where `ids` ``(S,)`` is true back to what was `saved`, if the first grid, which all share, is as it was.

        Returns:
            Which networks are as they were, ``(S,)``.
        """
        numbers, knots = saved[: len(self.parameters)], saved[len(self.parameters) :]
        if not bool(ids.any()) or not torch.equal(knots[0][0], self.knots[0]):
            return torch.zeros_like(ids)
        for values, before in zip(self.parameters, numbers, strict=True):
            values[ids] = before[ids]
        for values, before in zip(self.knots[1:], knots[1:], strict=True):
            values.unflatten(0, (self.count, -1))[ids] = before[ids]
        self.tabulate_()
        return ids

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
    def step(self, shared: SharedSamples, active: Sequence[int]) -> Tensor:
        """Take one step with the networks `active`; returns the losses of all networks afterwards, ``(S,)``."""

    @abstractmethod
    def reset(self, ids: Sequence[int]) -> None:
        """Discard what is no longer valid after the grids of the networks `ids` have moved."""

    @abstractmethod
    def state_of(self, s: int) -> dict[str, Any]:
        """The state of the method for network `s`, as `Stepper.state_dict` returns it."""

    def losses(self, shared: SharedSamples) -> Tensor:
        """The losses of all networks, ``(S,)``."""
        stack, compiled = self.stack, self.stack.compiled
        if compiled is not None:
            return self._numbers(lambda s: compiled.loss(s, shared.batch))
        blocks = stack.blocks(stack.split(range(stack.count), len(shared)))
        return torch.cat(list(self.mapper(_quietly(lambda block: losses(block, shared.features)), blocks)))

    def _numbers(self, function: Callable[[int], float]) -> Tensor:
        """A number of each network, ``(S,)``. Each call of the `mapper` gets several networks, since a call takes as long as some losses."""
        ids = list(range(self.stack.count))
        parts = [ids[start : start + TOGETHER_IN_KERNELS] for start in range(0, len(ids), TOGETHER_IN_KERNELS)]
        found = self.mapper(_quietly(lambda part: [function(s) for s in part]), parts)
        return self.stack.parameters[0].new_tensor([value for values in found for value in values])


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

    def step(self, shared: SharedSamples, active: Sequence[int]) -> Tensor:
        """Take one step. The evaluation after it also gives the gradient of the next step."""
        if not self._current:
            self._evaluate(shared)
        self._optimizer.step()
        return self._evaluate(shared)

    def _evaluate(self, shared: SharedSamples) -> Tensor:
        stack, compiled = self.stack, self.stack.compiled
        if compiled is not None:
            for p in self._trained:
                p.grad = torch.empty_like(p) if p.grad is None else p.grad
            gradients = [p.grad for p in stack.parameters]
            self._current = True
            return self._numbers(lambda s: compiled.value_and_gradients(s, shared.batch, gradients))
        blocks = stack.blocks(stack.split(range(stack.count), len(shared)))
        found = list(self.mapper(_quietly(lambda block: value_and_gradients(block, shared.features)), blocks))
        for l in range(len(stack.layers)):
            part = slice(3 * l, 3 * l + 3)
            arguments = [p.flatten(0, 1) for p in (*stack.parameters[part], stack.masks[l])]
            grad = torch.cat([grads[l] for _, grads in found]).flatten(0, 1)
            for p, own in zip(stack.parameters[part], unfold(grad, arguments, (*stack.trained[part], False)), strict=False):
                p.grad = None if own is None else own.view_as(p)
        self._current = True
        return torch.cat([values for values, _ in found])

    def reset(self, ids: Sequence[int]) -> None:
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
        self._compiled = stack.compiled is not None and solves(stack.network)
        numbers = torch.arange(sum(map(math.prod, self._shapes))).split([math.prod(shape) for shape in self._shapes])
        places = [own.view(shape) for own, shape in zip(numbers, self._shapes, strict=True)]
        alive = [mask[0] != 0 for mask in stack.masks]
        if self._compiled:  # in the order of the parameters: the functions of all edges, then the base functions
            self._columns = torch.cat(
                [part for own, of in zip(places, alive, strict=True) for part in (own[:, 1:].mT[of].flatten(), own[:, 0][of])]
            )
            self._trial = TrialColumns.of(alive, [shape[1] - 1 for shape in self._shapes])
        else:
            self._columns = torch.cat([own[of[:, None].expand_as(own)] for own, of in zip(places, alive, strict=True)])

    @staticmethod
    def dtype(network: Network) -> torch.dtype:
        """The method always computes in float64."""
        return torch.float64

    def step(self, shared: SharedSamples, active: Sequence[int]) -> Tensor:
        """Take one step, with as many trials as each network needs."""
        if self.known is None:
            self.known = self.losses(shared)
        known, todo = self.known, [s for s in active if s not in self.stalled]
        if todo:
            if self._compiled:
                jobs, layers = [[s] for s in todo], range(len(self.stack.layers))
                weights = torch.cat([part for l in layers for part in _in_order(self.stack.weights(l, todo))], 1)
                work = list(zip(todo, weights, strict=True))
                results = self.mapper(_quietly(lambda job: self._improved_alone(shared, known, *job)), work)
            else:
                jobs = self.stack.split(todo, len(shared))
                blocks = list(zip(jobs, self.stack.blocks(jobs), strict=True))
                results = self.mapper(_quietly(lambda job: self._improved(shared.features, known, *job)), blocks)
            found = list(results)
            self._take_(todo, torch.cat([steps for steps, _ in found]))
            for ids, (_, new) in zip(jobs, found, strict=True):
                self.stalled.update(s for s, value in zip(ids, new, strict=True) if value is None)
                for s, value in zip(ids, new, strict=True):
                    known[s] = known[s] if value is None else value
        return known.clone()

    def reset(self, ids: Sequence[int]) -> None:
        """Discard the losses, and let the networks `ids` take steps again; the damping is kept."""
        self.known = None
        self.stalled.difference_update(ids)

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

    def _improved_alone(self, shared: SharedSamples, known: Tensor, s: int, weights: Tensor) -> tuple[Tensor, list[float | None]]:
        """`_improved` for one network by the compiled kernels, from its `weights` in the order of the parameters."""
        stack, trial = self.stack, self._trial
        compiled, batch = stack.compiled, shared.batch
        assert compiled is not None

        def exact() -> Linearisation:
            return _exact(stack.block([s]), shared.features, self._columns)

        def evaluate(_: list[int], steps: list[Tensor]) -> list[float]:
            return [compiled.trial(s, batch, trial.parameters(weights, step)) for step in steps]

        if len(shared) * self.stack.layers[-1].out_dim < len(self._columns):
            model: Model = exact()
        else:
            matrix, slope, _ = compiled.network(s, batch).normal(
                compiled.parameters(s), trial.bases, trial.functions, len(self._columns)
            )
            model = _Gram(matrix, slope, exact)
        (found,) = improve_each([model], [float(known[s])], [self.damping[s]], evaluate)
        if found is None:
            return weights.new_zeros(1, len(weights)), [None]
        return self._scattered([found[0]], len(weights)), [found[1]]

    def _scattered(self, steps: list[Tensor], size: int) -> Tensor:
        """Steps of the weights that are trained as steps of all `size` weights, ``(S, size)``."""
        found = steps[0].new_zeros(len(steps), size)
        found[:, self._columns] = torch.stack(steps)
        return found


def _in_order(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The folded weights ``(S, I, n+1, O)`` of a layer in the order of its parameters: of the functions ``(S, I O n)``, then of the base."""
    return weight[:, :, 1:].mT.flatten(1), weight[:, :, 0].flatten(1)


class TrialColumns(NamedTuple):
    """Where the weights of a network are among the columns of its Jacobian, and among the parameters of a trial.

    Attributes:
        bases, functions: see `KernelNetwork.normal`.
        places: of the columns among all weights, in the order of the parameters; None if all weights are trained.
        sizes: numbers of functions' weights and of edges of every layer, one after another.
        shapes: the shapes of these weights.
        ones: for each layer, what stands for its scales and mask.
    """

    bases: list[Tensor]
    functions: list[Tensor]
    places: Tensor | None
    sizes: list[int]
    shapes: list[tuple[int, ...]]
    ones: list[Tensor]

    @classmethod
    def of(cls, alive: Sequence[Tensor], functions: Sequence[int]) -> TrialColumns:
        """For layers whose edges ``(I, O)`` are `alive` or masked, with so many functions."""
        found = cls([], [], torch.cat([part for a, n in zip(alive, functions, strict=True) for part in (a.flatten().repeat_interleave(n), a.flatten())]), [], [], [])
        first = 0
        for own, n in zip(alive, functions, strict=True):
            edges, rank = int(own.sum()), own.flatten().cumsum(0).view_as(own) - 1
            found.functions.append((first + rank * n).masked_fill(~own, -1).int())
            found.bases.append((first + edges * n + rank).masked_fill(~own, -1).int())
            first += edges * (n + 1)
            found.sizes.extend((own.numel() * n, own.numel()))
            found.shapes.extend(((*own.shape, n), tuple(own.shape)))
            found.ones.append(torch.ones(own.shape, dtype=torch.float64))
        assert found.places is not None
        return found._replace(places=None if bool(found.places.all()) else found.places.nonzero()[:, 0])

    def parameters(self, weights: Tensor, step: Tensor) -> list[Tensor | None]:
        """The parameters of a trial from all weights, in the order of the parameters, and a step of the trained ones."""
        moved = weights + step if self.places is None else weights.index_add(0, self.places, step)
        parts = [part.view(shape) for part, shape in zip(moved.split(self.sizes), self.shapes, strict=True)]
        found: list[Tensor | None] = []
        for coef, base, ones in zip(parts[::2], parts[1::2], self.ones, strict=True):
            found += [coef, base, ones, ones, *[None] * (NUMBER_OF_PARAMETERS - 4)]
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


def _exact(block: Block, shared: Shared, columns: Tensor) -> Linearisation:
    """The quadratic model of the loss of a single network with the Jacobian itself, as a function of the weights `columns`."""

    def chunks() -> Iterator[tuple[Tensor, Tensor]]:
        found, residuals = jacobian(block, shared)
        yield found[0, columns], residuals[0]

    return Linearisation(chunks, len(columns), shared.y.numel())


def _models(block: Block, shared: Shared, columns: Tensor) -> list[Model]:
    """The quadratic model of each network's loss, as a function of the weights `columns`."""
    rows = shared.y.numel()

    def exact(s: int) -> Linearisation:
        return _exact(block.taken([s]), shared, columns)

    if rows < len(columns):
        return [exact(s) for s in range(block.networks)]
    matrices, slopes = normal_equations(block, shared)
    if len(columns) < matrices.shape[1]:
        matrices, slopes = matrices[:, columns][:, :, columns], slopes[:, columns]
    return [_Gram(matrix, slope, partial(exact, s)) for s, (matrix, slope) in enumerate(zip(matrices, slopes, strict=True))]


class BatchedLBFGS(BatchedMethod):
    """L-BFGS for all networks, each with its own curvature pairs, by the compiled kernels."""

    def __init__(self, stack: Stack, lr: float, mapper: Mapper) -> None:
        super().__init__(stack, lr, mapper)
        self._optimizers = [self._optimizer(s, lr) for s in range(stack.count)]

    def _optimizer(self, s: int, lr: float) -> LBFGS:
        parameters = [p[s] for p, trained in zip(self.stack.parameters, self.stack.trained, strict=True) if trained]
        found = make_optimizer("LBFGS", parameters, lr)
        assert isinstance(found, LBFGS)
        found.deterministic = True
        return found

    def step(self, shared: SharedSamples, active: Sequence[int]) -> Tensor:
        """Take one step of up to 20 iterations with each network."""
        compiled = self.stack.compiled
        assert compiled is not None

        def descend(s: int) -> None:
            self._optimizers[s].iterate(compiled.descent(s, shared.batch, self.stack.trained))

        for _ in self.mapper(_quietly(descend), active):
            pass
        found = [optimizer.known_loss for optimizer in self._optimizers]
        return self.stack.parameters[0].new_tensor([math.nan if loss is None else loss for loss in found])

    def reset(self, ids: Sequence[int]) -> None:
        """Forget the curvature of the networks `ids`."""
        for s in ids:
            self._optimizers[s].reset()

    def state_of(self, s: int) -> dict[str, Any]:
        """The state of `TorchStepper` for network `s`."""
        return self._optimizers[s].plain_state()


METHODS: dict[str, type[BatchedMethod]] = {"Adam": BatchedAdam, "LM": BatchedLM, "LBFGS": BatchedLBFGS}
"""The methods of `fit` that can train many networks at once, by name."""
