"""The samples of each step: all of them, some drawn at random, or the next batch of a loader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kan.network.trace import FirstLayer
from kan.training.data.dataset import Data
from kan.training.data.loaders import Loader
from kan.training.data.samples import Samples
from kan.training.models.trainable import Trainable

__all__ = ["Batches", "Everything", "FromLoader", "Some", "make_batches"]

CACHED_FEATURES = 2**26
"""Largest number of features of the first layer that are kept between steps. Larger ones are computed anew in every step."""
REMEMBERED_SAMPLES = 2**13
"""Number of a loader's samples from which on no further batch is remembered."""
SAMPLES_AT_ONCE = 2**13
"""Number of samples, or one batch if it is larger, that are gathered from the data at once. With 256 samples per step, indexing the data
in every step takes five times as long as one gathering for 32 steps; the bound keeps a second copy of large data from being made."""


class Batches(ABC):
    """The source of the samples of each step.

    Attributes:
        model: the model that is trained.
        whole: whether all steps have the same samples.
    """

    whole = False

    def __init__(self, model: Trainable) -> None:
        self.model = model

    @abstractmethod
    def draw(self) -> Samples:
        """The samples of the next step."""

    @abstractmethod
    def fitted(self) -> Samples:
        """The samples on which the model keeps the loss of the fit."""

    def seen(self) -> Tensor:
        """The inputs that become the model's last input, ``(N, n)``."""
        return self.fitted().x

    @abstractmethod
    def size(self) -> int:
        """Number of samples in a step."""

    @abstractmethod
    def steps_per_pass(self) -> int | None:
        """Number of steps in which every sample is drawn about once; None if it is not known."""

    def first_layer(self, x: Tensor) -> FirstLayer | None:
        """The features of the first layer for the drawn `x`, if they are kept between steps; else None."""
        return None

    def forget(self) -> None:  # noqa: B027 (most sources keep nothing)
        """Forget what was kept for the first layer's grid, which has moved."""

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers, by which a later fit can go on."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 (nothing random here)
        """Go on from a state that `state_dict` has returned."""


class Everything(Batches):
    """All samples in every step; the features of the first layer are kept between steps."""

    whole = True

    def __init__(self, model: Trainable, samples: Samples) -> None:
        super().__init__(model)
        self.samples = samples
        self._first: FirstLayer | None = None
        self._keeps = len(samples) * model.width(layers=1) <= CACHED_FEATURES

    def draw(self) -> Samples:
        """The samples of the next step, which are all."""
        return self.samples

    def fitted(self) -> Samples:
        """The samples that the fit is about, which are all."""
        return self.samples

    def size(self) -> int:
        """Number of samples in a step."""
        return len(self.samples)

    def steps_per_pass(self) -> int:
        """One step, which has all samples."""
        return 1

    def first_layer(self, x: Tensor) -> FirstLayer | None:
        """The first layer's features, computed once for each grid."""
        if self._first is None and self._keeps:
            self._first = self.model.first_layer(x)
        return self._first

    def forget(self) -> None:
        """Forget what was kept for the first layer's grid, which has moved."""
        self._first = None


class Some(Batches):
    """Samples drawn at random: `count` in each step, among those whose weight is not zero.

    They are shuffled once for every pass over them, and each step takes the next `count`, so that no sample is drawn twice in a pass. The
    fewer than `count` that are left at the end of a pass are not drawn in it.
    """

    def __init__(self, model: Trainable, samples: Samples, count: int) -> None:
        super().__init__(model)
        self.samples, self.count = samples, count
        self.generator = torch.Generator().manual_seed(int(model.network.seed))
        self._rows = None if samples.weight is None else samples.weight.nonzero()[:, 0]
        self._available = len(samples) if self._rows is None else len(self._rows)
        self._begin(self.generator.get_state(), 0)

    def _begin(self, random: Tensor, position: int) -> None:
        """Go on with the pass that the random numbers with the state `random` have shuffled, at its step `position`."""
        self.generator.set_state(random)
        self._random, self._position = random, position
        self._order: Tensor | None = None
        self._gathered: Iterator[Samples] = iter(())

    def draw(self) -> Samples:
        """The samples of the next step."""
        batch = next(self._gathered, None)
        if batch is None:
            self._gathered = self._gather()
            batch = next(self._gathered)
        self._position += 1
        return batch

    def _gather(self) -> Iterator[Samples]:
        """The samples of the next steps."""
        order = self._order = self._shuffled() if self._order is None else self._order
        if self._position >= self.steps_per_pass():
            self._begin(self.generator.get_state(), 0)
            order = self._order = self._shuffled()
        begin = self._position * self.count
        steps = min(max(SAMPLES_AT_ONCE // self.count, 1), self.steps_per_pass() - self._position)
        parts = self.samples.at(order[begin : begin + steps * self.count])
        weights = [None] * steps if parts.weight is None else parts.weight.split(self.count)
        return map(Samples, parts.x.split(self.count), parts.y.split(self.count), weights)

    def _shuffled(self) -> Tensor:
        """All rows that may be drawn, in a random order."""
        order = torch.randperm(self._available, generator=self.generator).to(self.samples.x.device)
        return order if self._rows is None else self._rows[order]

    def fitted(self) -> Samples:
        """The samples that the fit is about, which are all."""
        return self.samples

    def size(self) -> int:
        """Number of samples in a step."""
        return self.count

    def steps_per_pass(self) -> int:
        """Number of whole batches among the samples, at least one."""
        return max(self._available // self.count, 1)

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers that shuffled the present pass, and the number of its steps so far."""
        return {"random": self._random, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` has returned; with another number of samples per step, where that many steps lead."""
        if "random" in state:
            self._begin(state["random"].clone(), int(state.get("position", 0)))


class FromLoader(Batches):
    """Batches of a loader, one in each step."""

    def __init__(self, model: Trainable, loader: Loader) -> None:
        super().__init__(model)
        loader.rewind()
        self.loader = loader
        self._size = len(loader.first)
        self._seen = [loader.first]

    def draw(self) -> Samples:
        """The samples of the next step."""
        batch = self.loader.draw()
        first = self._seen[0]
        if batch is not first and batch.y.shape[1:] == first.y.shape[1:] and sum(map(len, self._seen)) < REMEMBERED_SAMPLES:
            self._seen.append(batch)
        return batch

    def fitted(self) -> Samples:
        """The batches that were drawn first, up to about `REMEMBERED_SAMPLES` samples."""
        return Samples(torch.cat([batch.x for batch in self._seen]), torch.cat([batch.y for batch in self._seen]))

    def size(self) -> int:
        """Number of samples in the first batch."""
        return self._size

    def steps_per_pass(self) -> int | None:
        """Number of batches of the loader, if it can tell it."""
        return self.loader.number_of_batches

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers, by which a later fit can go on."""
        return {"random": self.loader.random_state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin a new pass over the loader, with the random numbers of a state that `state_dict` has returned."""
        if "random" in state:
            self.loader.restart(state["random"])


def make_batches(model: Trainable, data: Data, size: int) -> Batches:
    """The samples of each step.

    Args:
        model: the model that is trained.
        data: its data.
        size: number of samples per step, -1 for all; a loader has a size of its own.

    Raises:
        ValueError: for a size with a loader.
    """
    if isinstance(data.train, Loader):
        if size != -1:
            raise ValueError(f"batch={size} is for data in arrays; a loader has batches of its own size, {len(data.first)}.")
        return FromLoader(model, data.train)
    return Everything(model, data.train) if size == -1 or size >= len(data.train) else Some(model, data.train, size)
