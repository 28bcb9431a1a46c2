"""Batches from a ``DataLoader``, or from any iterable of pairs ``(x, y)`` that can be iterated again and again.

A loader draws from torch's global generator even where it does not shuffle. While a loader works, that generator is therefore in a state of
the loader's own, which begins with the network's seed: the order is the same every time, and the global state is as before afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kan.datasets.real_numbers import check_dense, is_array
from kan.training.data.samples import Samples, Wanted, checked_samples

__all__ = ["Loader"]


class Loader:
    """The batches of a source, one pass after another. Each is checked when it is drawn, and moved to the network's device.

    Args:
        source: iterable of pairs ``(x, y)`` that starts anew for every pass.
        name: name of the loader in messages.
        wanted: the conditions that all batches must meet.

    Raises:
        TypeError, ValueError: if there is no first batch, or if it is not what is wanted.
    """

    def __init__(self, source: Iterable[Any], name: str, wanted: Wanted) -> None:
        if isinstance(source, Iterator):
            raise TypeError(
                f"the {name} must be an iterable of batches (x, y) that starts anew for every pass, as a DataLoader or a list; "
                f"got {type(source).__name__}, which can be iterated only once."
            )
        self.source, self.name, self.wanted = source, name, wanted
        self.random_state = self._start()
        self._batches: Iterator[Any] | None = None
        self._number = 0
        self._peeked: Samples | None = None
        self._prepare: Callable[[Samples], Samples] | None = None
        self._peeked = self.draw()

    @property
    def first(self) -> Samples:
        """The first batch, as long as it has not been drawn."""
        assert self._peeked is not None
        return self._peeked

    @property
    def number_of_batches(self) -> int | None:
        """Number of batches in a pass; None if the source cannot tell it."""
        try:
            return len(self.source) if isinstance(self.source, Sized) else None
        except TypeError:  # a DataLoader of an iterable data set
            return None

    def draw(self) -> Samples:
        """The next batch; after the last batch of a pass, the first one of the next pass."""
        if self._peeked is not None:
            batch, self._peeked = self._peeked, None
            return batch
        with self._own_randomness():
            for _ in range(2):
                if self._batches is None:
                    self._batches, self._number = iter(self.source), 0
                for found in self._batches:
                    return self._checked(found)
                if self._number == 0:
                    break
                self._batches = None
        raise ValueError(f"the {self.name} yields no batches: its data are empty, or drop_last drops the only batch.")

    def look(self, rows: int) -> Samples:
        """The first `rows` samples, or all samples of a pass if these are fewer. Afterwards the loader is at its start again."""
        self.restart(self._start())
        self._number, parts = 0, list[Samples]()
        with self._own_randomness():
            for found in self.source:
                parts.append(self._checked(found))
                if sum(map(len, parts)) >= rows:
                    break
        self.rewind()
        return _joined(parts)

    def rewind(self) -> None:
        """Begin anew with the first batch, in the order of the first time; nothing is done if no batch has been drawn."""
        if self._peeked is None:
            self.restart(self._start())
            self._peeked = self.draw()

    def prepared_by(self, function: Callable[[Samples], Samples]) -> Loader:
        """This loader, which from now on gives `function` of every batch instead of the batch."""
        self._prepare = function
        if self._peeked is not None:
            self._peeked = function(self._peeked)
        return self

    def everything(self) -> Samples:
        """All samples of one pass."""
        parts = [self.draw()]
        with self._own_randomness():
            parts += [self._checked(found) for found in self._batches or ()]
        return _joined(parts)

    def restart(self, random_state: Tensor) -> None:
        """Begin a new pass with the state `random_state` of the random numbers."""
        self.random_state, self._batches, self._peeked = random_state.clone(), None, None

    def _start(self) -> Tensor:
        """The state of the random numbers before the first pass."""
        return torch.Generator().manual_seed(int(self.wanted.model.network.seed)).get_state()

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        outside = torch.get_rng_state()
        torch.set_rng_state(self.random_state)
        try:
            yield
        finally:
            self.random_state = torch.get_rng_state()
            torch.set_rng_state(outside)

    def _checked(self, batch: Any) -> Samples:
        name = f"batch {self._number} of the {self.name}"
        self._number += 1
        if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not all(map(is_array, batch)):
            inside = f" of {', '.join(type(value).__name__ for value in batch)}" if isinstance(batch, (tuple, list)) else ""
            raise TypeError(f"{name} must be a pair (x, y) of tensors or arrays; got {type(batch).__name__}{inside}.")
        device = self.wanted.model.network.device
        for which, value in zip("xy", batch, strict=True):
            if isinstance(value, Tensor):
                check_dense(f"{which} in {name}", value)  # before it is moved, which one without numbers cannot be
        x, y = (value.to(device) if isinstance(value, Tensor) else value for value in batch)
        samples = checked_samples(self.wanted, (f"x in {name}", f"y in {name}"), x, y)
        return samples if self._prepare is None else self._prepare(samples)


def _joined(parts: list[Samples]) -> Samples:
    return Samples(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))
