"""The state of a search for a law: the task that is given, and what has been found so far.

A step of the search is a function of the state and of some views of the data (`kan.discovery.reduction.views`). It yields candidates as
`Proposal` and leaves it to the search to add them to the state.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kan.discovery.laws.candidates import Evaluator, Law
from kan.discovery.laws.noise import NoiseEstimate
from kan.discovery.laws.sums_of_products import FittedSum
from kan.discovery.reduction.invariance import Reduction
from kan.discovery.reduction.views import View

__all__ = ["Proposal", "SearchState", "SearchTask", "TentativeSum"]

PROGRESS_CHARACTERS = 90
"""Largest number of characters of the best candidate in the progress bar; the description of the step has half as many. A round choice
for a line of a terminal."""


class Proposal(NamedTuple):
    """A candidate and where it came from, in words; the candidate is None if a formula has no finite real values."""

    law: Law | None
    origin: str


class TentativeSum(NamedTuple):
    """A fitted sum of products whose error exceeds the noise, the view that it is a fit to, and the largest relative error allowed."""

    view: View
    fitted: FittedSum
    max_error: float


@dataclass(frozen=True)
class SearchTask:
    """What a search is given.

    Attributes:
        root: the data in all variables.
        evaluator: makes candidates from formulas.
        library: the functions that may occur, see `kan.discover`.
        seed: seed of networks and of the starts of fits.
        late: whether the time is up.
        left: returns the seconds that are left.
        notify: receives the present step and the best candidate, as texts.
        known_reduction: a reduction of the variables that follows from their units, if any.
        use_networks: whether the slow steps run, too: networks, and the residuals of candidates. They do not for a part of a law.
    """

    root: View
    evaluator: Evaluator
    library: Any
    seed: int
    late: Callable[[], bool]
    left: Callable[[], float]
    notify: Callable[[str, str], None]
    known_reduction: Reduction | None = None
    use_networks: bool = True

    @property
    def given_noise(self) -> float | None:
        """Standard deviation of the noise given by the user, or None. When only a part of the law is searched, it is an upper bound."""
        return self.evaluator.given_noise if self.use_networks else None


@dataclass
class SearchState:
    """What a search has found so far. It is owned by one call of `kan.discovery.laws.search.search`.

    Attributes:
        task: what is searched.
        noise: the noise of the labels as it is known so far.
        laws: the candidates.
        explored: the candidates whose residuals were searched for a law.
        certain: sums of products that fit the data to `noise.MIN_NOISE`, whose curves will be named more thoroughly.
        tentative: sums of products whose curves will be named although their errors exceed the noise.
        noise_hypotheses: how many sums were named on the hypothesis that their errors are noise.
        step: name of the present step.
    """

    task: SearchTask
    noise: NoiseEstimate = NoiseEstimate()
    laws: list[Law] = field(default_factory=list)
    explored: list[Law] = field(default_factory=list)
    certain: list[tuple[View, FittedSum]] = field(default_factory=list)
    tentative: list[TentativeSum] = field(default_factory=list)
    noise_hypotheses: int = 0
    step: str = ""

    def add(self, proposal: Proposal) -> None:
        """Add a candidate, if there is one."""
        if proposal.law is not None:
            self.laws.append(proposal.law)
            self.report(proposal.origin)

    def report(self, origin: str = "") -> None:
        """Report the present step, the origin of the last candidate, and the best candidate so far."""
        best = min(self.laws, key=lambda law: law.bits, default=None)
        step = textwrap.shorten(f"{self.step} {origin}", PROGRESS_CHARACTERS // 2)
        self.task.notify(step, "" if best is None else textwrap.shorten(str(best), PROGRESS_CHARACTERS))

    @property
    def settled(self) -> bool:
        """Whether there is a law with which the search may end."""
        return any(law.settled for law in self.laws)

    @property
    def done(self) -> bool:
        """Whether the present step should end: the time is up, or a law is settled.

        With noise that is given, other laws of the same step may be as good as one that is settled, so that the step goes on.
        """
        return self.task.late() or (not self.task.given_noise and self.settled)
