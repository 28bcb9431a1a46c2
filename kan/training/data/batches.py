"""The samples of each step: all of them, some drawn at random, or the next batch of a loader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
"""Largest number of first-layer features that are kept between steps instead of being computed anew."""
REMEMBERED_SAMPLES = 2**13
"""Number of a loader's samples from which on no further batch is remembered."""


class Batches(ABC):
    """Where the samples of a step come from.

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
        """What the network is to remember for its loss."""

    def seen(self) -> Tensor:
        """What the network is to remember as its last input, ``(N, n)``."""
        return self.fitted().x

    @abstractmethod
    def size(self) -> int:
        """Number of samples in a step."""

    def first_layer(self, x: Tensor) -> FirstLayer | None:
        """The features of the first layer for the drawn `x`, if they are kept."""
        return None

    def forget(self) -> None:  # noqa: B027 (most keep nothing)
        """The first layer's grid has moved."""

    def state_dict(self) -> dict[str, Any]:
        """Where the random generator stands."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 (nothing random here)
        """Go on from there."""


class Everything(Batches):
    """All samples in every step, with the first layer's features kept."""

    whole = True

    def __init__(self, model: Trainable, samples: Samples) -> None:
        super().__init__(model)
        self.samples = samples
        self._first: FirstLayer | None = None
        self._keeps = len(samples) * model.width(layers=1) <= CACHED_FEATURES

    def draw(self) -> Samples:
        """All samples."""
        return self.samples

    def fitted(self) -> Samples:
        """All samples."""
        return self.samples

    def size(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def first_layer(self, x: Tensor) -> FirstLayer | None:
        """The first layer's features, computed once for each grid."""
        if self._first is None and self._keeps:
            self._first = self.model.first_layer(x)
        return self._first

    def forget(self) -> None:
        """The first layer's grid has moved."""
        self._first = None


class Some(Batches):
    """`count` samples in each step, drawn without replacement, of those that count at all."""

    def __init__(self, model: Trainable, samples: Samples, count: int) -> None:
        super().__init__(model)
        self.samples, self.count = samples, count
        self.generator = torch.Generator().manual_seed(int(model.network.seed))
        self._rows = None if samples.weight is None else samples.weight.nonzero()[:, 0]

    def draw(self) -> Samples:
        """The drawn ones."""
        available = len(self.samples) if self._rows is None else len(self._rows)
        chosen = torch.randperm(available, generator=self.generator)[: self.count].to(self.samples.x.device)
        return self.samples.at(chosen if self._rows is None else self._rows[chosen])

    def fitted(self) -> Samples:
        """All samples."""
        return self.samples

    def size(self) -> int:
        """Number of samples that are drawn."""
        return self.count

    def state_dict(self) -> dict[str, Any]:
        """Where the random generator stands."""
        return {"random": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        if "random" in state:
            self.generator.set_state(state["random"])


class FromLoader(Batches):
    """The next batch of a loader in each step."""

    def __init__(self, model: Trainable, loader: Loader) -> None:
        super().__init__(model)
        loader.rewind()
        self.loader = loader
        self._size = len(loader.first)
        self._seen = [loader.first]

    def draw(self) -> Samples:
        """The next batch."""
        batch = self.loader.draw()
        first = self._seen[0]
        if batch is not first and batch.y.shape[1:] == first.y.shape[1:] and sum(map(len, self._seen)) < REMEMBERED_SAMPLES:
            self._seen.append(batch)
        return batch

    def fitted(self) -> Samples:
        """The first batches."""
        return Samples(torch.cat([batch.x for batch in self._seen]), torch.cat([batch.y for batch in self._seen]))

    def size(self) -> int:
        """Number of samples in the first batch."""
        return self._size

    def state_dict(self) -> dict[str, Any]:
        """Where the random generator stands."""
        return {"random": self.loader.random_state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin a new pass from there."""
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
