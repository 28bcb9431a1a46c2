r"""A second start for penalised fits that are stuck.

A strong penalty can switch a new network off before it has learned anything, and a narrow network finds its law from few starts only.
After the first quarter of its steps, a penalised fit is stuck if more than `STUCK` of the labels'
variance is unexplained. Then other starts are tried on some of the samples, one after another:

1. The network is trained without penalty, from its own initial weights and from those of the seeds after its own, until a start explains
   all but `SOLVED` of the variance or `STARTS` have been tried. L-BFGS and, in small networks of numeric edges, Levenberg-Marquardt take
   turns, since they find different minima.
2. A few steps with the penalty follow from the `FINALISTS` with the least loss and from as many with the least objective: where a fit
   without penalty goes far, the ones with less loss are the further from being sparse.
3. The network of the least objective and the stuck one both take the steps that the fit has left. If the objective of the former ends
   lower by at least `GAIN`, the fit goes on from there, else as if nothing had been tried.

A fit that is not stuck is not changed in any number. Only new networks get another start, since a trained one is the work of its user.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kan.network.network import Network
from kan.training.data.samples import Samples
from kan.training.history import History, Restarts
from kan.training.snapshot import restore_, snapshot

__all__ = ["SecondStart", "unexplained"]

PARTS = 4
"""The fit is looked at after one of so many parts of its steps."""
STUCK = 0.1
"""Least unexplained share of the labels' variance at which a fit counts as stuck. On the problems of
``benchmarks/entropy.py``, first starts end in good minima that leave 0.2 % to 11 % and in bad ones that leave 4 % to 100 %: no bound tells
them apart, and with this one a few bad ones are not noticed."""
SOLVED = 0.01
"""Unexplained share at which no more starts are tried."""
STARTS = 12
"""Largest number of starts."""
FINALISTS = 2
"""Number of starts with the least loss, and of those with the least objective, that are trained with the penalty."""
GAIN = 0.1
"""Share of the stuck fit's last objective by which that of another start must be lower."""
ROWS = 1000
"""Largest number of samples that the starts are trained on: ten for every parameter of [4, 2, 1, 1]."""
METHODS = {"LBFGS": 5, "LM": 20}
"""Steps of the methods that train the starts."""
LARGEST = 1000
"""Number of parameters beyond which Levenberg-Marquardt does not take part. It does not with symbolic edges either: with a Gaussian output,
its starts had penalties in the hundreds, and on eight seeds none of them was kept."""
PENALISED_STEPS = 5
"""Steps of the finalists with the penalty."""
DRAWN = ("coef", "scale_base", "scale_sp")
"""What the constructor draws for numeric edges."""
NEAR = 1e-3
"""Relative distance up to which parameters are those that the constructor draws; processors round differently."""


@dataclass
class SecondStart:
    """What is done about a fit that is stuck.

    Attributes:
        network: is being trained.
        samples: all training samples, with labels in the user's units.
        trained: trains the network in place on samples, for a method, steps, and with or without the penalty.
        objective: of the network on samples, with the penalty.
        steps: of the fit.
        start: the network before the first step.
    """

    network: Network
    samples: Samples
    trained: Callable[[Samples, str, int, bool], History]
    objective: Callable[[Samples], float]
    steps: int
    start: list[Tensor]

    def due(self, step: int) -> bool:
        """Whether `step` is the one after which the fit is looked at."""
        return step == self.steps // PARTS

    def find_(self) -> Restarts | None:
        """Replace the network by one from a better start.

        Returns:
            The starts that were tried, with their losses before the penalty; None if the network is as it was.
        """
        network, stuck = self.network, snapshot(self.network)
        kept = False
        try:
            if not self._is_new():
                return None
            restore_(network, stuck)
            samples = self._some()
            seeds, losses, objectives, found = self._starts(samples)
            finalists = {i for values in (losses, objectives) for i in sorted(range(len(values)), key=values.__getitem__)[:FINALISTS]}
            best, winner, least = -1, stuck, math.inf
            for index in sorted(finalists):
                restore_(network, found[index])
                self._train(samples, "LBFGS", PENALISED_STEPS, True)
                objective = self.objective(samples)
                if objective < least:
                    best, winner, least = index, snapshot(network), objective
            if best < 0 or self._ends_at(samples, winner) > (1 - GAIN) * self._ends_at(samples, stuck):
                return None
            restore_(network, winner)
            kept = True
            return Restarts(seeds, losses, best)
        finally:
            if not kept:
                restore_(network, stuck)

    def _ends_at(self, samples: Samples, network: list[Tensor]) -> float:
        """The objective after the steps that the fit has left, from a network of which this is the snapshot."""
        restore_(self.network, network)
        self._train(samples, "LBFGS", self.steps - self.steps // PARTS, True)
        return self.objective(samples)

    def _starts(self, samples: Samples) -> tuple[list[int], list[float], list[float], list[list[Tensor]]]:
        """Seeds, last losses, objectives and networks after some steps without penalty."""
        network = self.network
        small = sum(p.numel() for p in network.parameters()) <= LARGEST
        methods = list(METHODS) if small and not any(layer.active() for layer in network.symbolic_layers) else ["LBFGS"]
        seeds: list[int] = []
        losses: list[float] = []
        objectives: list[float] = []
        found: list[list[Tensor]] = []
        for index in range(STARTS):
            seed = self.network.seed + index
            self._begin_(seed)
            method = methods[index % len(methods)]
            history = self._train(samples, method, METHODS[method], False)
            seeds.append(seed)
            losses.append(history["train_loss"][-1] if history.steps else math.inf)
            objectives.append(self.objective(samples))
            found.append(snapshot(self.network))
            if unexplained(losses[-1] ** 2, samples) < SOLVED:
                break
        return seeds, losses, objectives, found

    def _train(self, samples: Samples, method: str, steps: int, penalised: bool) -> History:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to say of the data has been said
            history = self.trained(samples, method, steps, penalised)
        if history.stopped == "interrupted":
            raise KeyboardInterrupt
        return history

    def _some(self) -> Samples:
        """At most `ROWS` of the samples, the same ones for the same seed."""
        if len(self.samples) <= ROWS:
            return self.samples
        generator = torch.Generator().manual_seed(self.network.seed)
        return self.samples.at(torch.randperm(len(self.samples), generator=generator)[:ROWS])

    def _drawn(self, seed: int) -> Network:
        """What the constructor draws for a seed."""
        return Network(**{**Network.settings(self.network), "seed": seed}).to(self.network.dtype)

    @torch.no_grad()
    def _is_new(self) -> bool:
        """Whether the fit began with numeric edges as the constructor draws them; masks and symbolic edges may differ."""
        restore_(self.network, self.start)
        fresh = self._drawn(self.network.seed)
        for ours, theirs in zip(self.network.numeric_layers, fresh.numeric_layers, strict=True):
            own, drawn = (dict(layer.named_parameters(recurse=False)) for layer in (ours, theirs))
            if type(ours) is not type(theirs) or any(
                name not in own or own[name].shape != drawn[name].shape or not torch.allclose(own[name], drawn[name], rtol=NEAR)
                for name in DRAWN
            ):
                return False
        return True

    @torch.no_grad()
    def _begin_(self, seed: int) -> None:
        """The network before the first step, with the numeric edges of another seed where they are trained."""
        restore_(self.network, self.start)
        if seed == self.network.seed:
            return
        for ours, theirs in zip(self.network.numeric_layers, self._drawn(seed).numeric_layers, strict=True):
            for name in DRAWN:
                if getattr(ours, name).requires_grad:
                    getattr(ours, name).copy_(getattr(theirs, name))


def unexplained(loss: float, samples: Samples) -> float:
    """A mean squared error as a share of that of the labels' mean; 0 for labels that are all the same."""
    y = samples.y.double()
    weight = torch.ones(len(y), dtype=y.dtype, device=y.device) if samples.weight is None else samples.weight.double()
    weight = weight / weight.sum()
    variance = float(weight @ (y - weight @ y).square().mean(1))
    return loss / variance if variance > 0 else 0.0
