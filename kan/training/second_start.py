r"""A second start for penalised fits that are stuck.

A strong penalty can switch a new network off before it has learned anything, and a narrow network finds its law from few starts only.
After the first quarter of its steps, a penalised fit is stuck if more than `STUCK` of the labels' variance is unexplained. Then other
starts are tried on some of the samples, one after another:

1. The network is trained without penalty, from its own initial weights and from those of the seeds after its own, until a start explains
   all but `SOLVED` of the variance or `MAX_STARTS` have been tried. In small networks of numeric edges L-BFGS and Levenberg-Marquardt take
   turns, since they find different minima; elsewhere L-BFGS trains all starts.
2. The `FINALISTS` with the least loss, and as many with the least objective, are trained for a few steps with the penalty. Both kinds are
   needed: the longer a fit without penalty goes on, the lower its loss and the farther the network is from being sparse.
3. The network of the least objective and the stuck one both take the steps that the fit has left. If the objective of the former ends
   lower by at least `MIN_GAIN`, the fit goes on from there, and otherwise as if nothing had been tried.

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
from kan.training.models.of_network import RELATIVE_DISTANCE_FROM_NEW
from kan.training.snapshot import restore_, snapshot

__all__ = ["SecondStart", "unexplained"]

STEPS_BEFORE = 1 / 4
"""Share of a fit's steps after which it is decided whether the fit is stuck: a round choice."""
STUCK = 0.1
"""Smallest unexplained share of the labels' variance at which a fit counts as stuck. On the problems of ``benchmarks/entropy.py``, first
starts end in good minima that leave 0.2 % to 11 % and in bad minima that leave 4 % to 100 %: no bound tells them apart, and with this one a
few bad ones are not noticed."""
SOLVED = 0.01
"""Unexplained share of the labels' variance below which no more starts are tried: a round choice."""
MAX_STARTS = 12
"""Largest number of starts that are tried: a round choice."""
FINALISTS = 2
"""Number of starts with the least loss, and of starts with the least objective, that are trained with the penalty: a round choice."""
MIN_GAIN = 0.1
"""Smallest relative decrease of the stuck fit's last objective with which the fit goes on from another start: a round choice."""
MAX_SAMPLES = 1000
"""Largest number of samples that the starts are trained on: ten for every parameter of [4, 2, 1, 1]."""
STEPS_OF_STARTS = {"LBFGS": 5, "LM": 20}
"""Number of steps without a penalty that each start is trained for, by method: round choices."""
MAX_PARAMETERS_OF_LM = 1000
"""Largest number of parameters of a network that Levenberg-Marquardt trains starts of. It trains none with symbolic edges either: with a
Gaussian output, its starts had penalties in the hundreds, and on eight seeds none of them was kept."""
PENALISED_STEPS = 5
"""Number of steps with the penalty that the finalists are trained for: a round choice."""
DRAWN = ("coef", "scale_base", "scale_sp")
"""The parameters of numeric edges that the constructor draws."""


@dataclass
class SecondStart:
    """The search for another start of a fit that is stuck.

    Attributes:
        network: the network that is being trained.
        samples: all training samples, with labels in the user's units.
        trained: trains the network in place, given samples, the name of a method, a number of steps, and whether there is the penalty.
        objective: the objective of the network on samples, with the penalty.
        steps: number of steps of the fit.
        start: snapshot of the network before the first step.
    """

    network: Network
    samples: Samples
    trained: Callable[[Samples, str, int, bool], History]
    objective: Callable[[Samples], float]
    steps: int
    start: list[Tensor]

    def due(self, step: int) -> bool:
        """Whether it is decided before this step if the fit is stuck."""
        return step == int(self.steps * STEPS_BEFORE)

    def find_(self) -> Restarts | None:
        """Replace the network by one from a better start, in place.

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
            if best < 0 or self._ends_at(samples, winner) > (1 - MIN_GAIN) * self._ends_at(samples, stuck):
                return None
            restore_(network, winner)
            kept = True
            return Restarts(seeds, losses, best)
        finally:
            if not kept:
                restore_(network, stuck)

    def _ends_at(self, samples: Samples, network: list[Tensor]) -> float:
        """The objective after the steps that the fit has left, beginning with the network of the snapshot `network`."""
        restore_(self.network, network)
        self._train(samples, "LBFGS", self.steps - int(self.steps * STEPS_BEFORE), True)
        return self.objective(samples)

    def _starts(self, samples: Samples) -> tuple[list[int], list[float], list[float], list[list[Tensor]]]:
        """Seeds, last losses, objectives and networks after some steps without penalty."""
        network = self.network
        small = sum(p.numel() for p in network.parameters()) <= MAX_PARAMETERS_OF_LM
        methods = list(STEPS_OF_STARTS) if small and not any(layer.active() for layer in network.symbolic_layers) else ["LBFGS"]
        seeds: list[int] = []
        losses: list[float] = []
        objectives: list[float] = []
        found: list[list[Tensor]] = []
        for index in range(MAX_STARTS):
            seed = self.network.seed + index
            self._begin_(seed)
            method = methods[index % len(methods)]
            history = self._train(samples, method, STEPS_OF_STARTS[method], False)
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
        """All samples, or `MAX_SAMPLES` of them that the seed chooses."""
        if len(self.samples) <= MAX_SAMPLES:
            return self.samples
        generator = torch.Generator().manual_seed(self.network.seed)
        return self.samples.at(torch.randperm(len(self.samples), generator=generator)[:MAX_SAMPLES])

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
                name not in own
                or own[name].shape != drawn[name].shape
                or not torch.allclose(own[name], drawn[name], rtol=RELATIVE_DISTANCE_FROM_NEW)
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
    """The share of the labels' variance that a mean squared error is; 0 for labels that are all the same."""
    y = samples.y.double()
    weight = torch.ones(len(y), dtype=y.dtype, device=y.device) if samples.weight is None else samples.weight.double()
    weight = weight / weight.sum()
    variance = float(weight @ (y - weight @ y).square().mean(1))
    return loss / variance if variance > 0 else 0.0
