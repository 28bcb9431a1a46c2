"""Levenberg-Marquardt for many networks at once. Every network has its own damping and its own trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kan.kernels.network import NUMBER_OF_PARAMETERS
from kan.network.network import Network
from kan.solvers.levenberg_marquardt import Damping, Linearisation, Model, damped_cholesky, improve_each
from kan.training.together.compiled_stack import solves
from kan.training.together.method import BatchedMethod, quietly
from kan.training.together.stack import Mapper, SharedSamples, Stack
from kan.training.together.stack_pass import Block, Shared, jacobian, losses, normal_equations

__all__ = ["BatchedLM", "TrialColumns"]


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
                results = self.mapper(quietly(lambda job: self._improved_alone(shared, known, *job)), work)
            else:
                jobs = self.stack.split(todo, len(shared))
                blocks = list(zip(jobs, self.stack.blocks(jobs), strict=True))
                results = self.mapper(quietly(lambda job: self._improved(shared.features, known, *job)), blocks)
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
    """The folded weights ``(S, I, n+1, O)`` of a layer in the order of its parameters: the functions' ``(S, I O n)``, the base's."""
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
        found, trained, first = cls([], [], None, [], [], []), [], 0
        for own, n in zip(alive, functions, strict=True):
            edges, rank = int(own.sum()), own.flatten().cumsum(0).view_as(own) - 1
            found.functions.append((first + rank * n).masked_fill(~own, -1).int())
            found.bases.append((first + edges * n + rank).masked_fill(~own, -1).int())
            first += edges * (n + 1)
            found.sizes.extend((own.numel() * n, own.numel()))
            found.shapes.extend(((*own.shape, n), tuple(own.shape)))
            found.ones.append(torch.ones(own.shape, dtype=torch.float64))
            trained += [own.flatten().repeat_interleave(n), own.flatten()]
        all_of = torch.cat(trained)
        return found._replace(places=None if bool(all_of.all()) else all_of.nonzero()[:, 0])

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
