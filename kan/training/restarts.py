"""Several networks from several seeds, of which the best is kept.

Plain networks (numeric edges, SiLU, sum nodes, see `kan.training.objectives.closed_form`) that Adam or Levenberg-Marquardt train on whole
sets of samples for the mean squared error are trained as one computation, see `kan.training.together.stack_pass`: the same steps as one
after another, in a third of the time for small networks on two cores. Everything else, and whatever looks at a network while it is trained
(metrics, callbacks), makes `fit` train them one after another.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from kan.layers.computed import put_, settled
from kan.network.network import Network
from kan.network.user_code.own_code import own_call, own_methods
from kan.training.callbacks import FitState, ProgressBar
from kan.training.data.dataset import Data, check_dataset
from kan.training.data.normalisation import Labels, in_network_units, relative_round_off, spreads_of_labels
from kan.training.data.samples import Model, Samples
from kan.training.fit import fit, trainable_parameters
from kan.training.grid_schedule import LARGEST_RISE, GridSchedule
from kan.training.history import History, Restarts
from kan.training.objectives.closed_form import ClosedForm
from kan.training.snapshot import restore_, snapshot
from kan.training.together.methods import METHODS, BatchedMethod, Stack, workers
from kan.training.together.stack_pass import Shared

__all__ = ["check_restarts", "fit_restarts"]

ALONE = ("loss_fn", "pred_fn", "metrics", "on_step", "callbacks", "lr_scheduler", "clip", "lamb", "history")
"""Arguments of `fit` that make networks be trained one after another, unless they are None, zero or empty."""
SQUARES = Labels(mapped=True)
"""What may be done with labels where the loss is the mean squared error."""


def check_restarts(network: Model, restarts: int | None, options: Mapping[str, Any]) -> None:
    """Raise the errors of `fit_restarts` that `fit` does not know."""
    if restarts is None:
        return
    if isinstance(restarts, bool) or not isinstance(restarts, Integral) or int(restarts) < 1:
        raise ValueError(f"restarts, the number of networks that are trained, must be a positive integer; got {restarts!r}.")
    if restarts == 1:
        return
    if not isinstance(network, Network):
        raise TypeError(f"restarts are those of a KAN; got {type(network).__name__}.")
    if options.get("resume") is not None:
        raise ValueError("resume goes on with one network, and restarts begin with new ones: use one of the two.")
    if isinstance(options.get("opt"), torch.optim.Optimizer):
        raise ValueError("restarts train several networks, and an optimiser that exists holds one: pass its class or its name.")


def fit_restarts(network: Model, dataset: Any, restarts: int | None, **options: Any) -> History:
    """Train networks from the seeds ``seed, seed + 1, ...`` and give `network` the parameters of the best, in place.

    The first one is the network as it is. The others have its structure, masks, symbolic edges and first grid, and numeric edges drawn from
    their seeds. The best is the one with the lowest last loss of validation, test or training data, the first of these that there is.

    Trained together, a network that becomes not finite drops out; a progress bar shows the best one so far; `patience` counts the steps
    without a lower loss of any network. Trained one after another (see above) every one has a fit of its own, of which callbacks are told.

    Args:
        network: a KAN.
        dataset: see `fit`.
        restarts: how many networks; None for one, of which a penalised fit that is stuck may begin anew, see `kan.training.second_start`.
        options: arguments of `fit`. `time_limit` is for all networks together.

    Returns:
        The history of the best network. Its attribute ``restarts`` says how all of them ended.

    Raises:
        TypeError, ValueError: as `fit`; for `restarts` that are no positive integer; for several with `resume` or an optimiser that exists,
            which belong to one network, or of something else than a KAN.
    """
    check_restarts(network, restarts, options)
    if not isinstance(network, Network) or restarts is None or restarts == 1:
        return fit(network, dataset, second_start=restarts is None, **options)
    begun = time.monotonic()
    options.pop("previous", None)  # the other networks begin anew
    # Everything is checked before the first parameter moves.
    fit(network, dataset, **{**options, "steps": 0, "progress": False, "callbacks": (), "on_step": None, "history": None})
    options["units_told"] = True
    seeds = [network.seed + offset for offset in range(restarts)]
    data = _whole(network, dataset, options)
    together = data is not None and _is_plain(network) and not any(options.get(name) for name in ALONE)
    together = together and len(set(spreads_of_labels(network, SQUARES))) == 1
    if together and options.get("opt") in METHODS and options.get("batch", -1) == -1 and _is_count(options.get("steps", 100)):
        assert data is not None
        history = _Together(network, data, seeds, options, begun).run()
    else:
        given = options.get("progress", True)
        bar = options["progress"] = ProgressBar.of(given, options.get("log", 1), options.get("display_metrics"))  # one for all networks
        with nullcontext() if bar is None or bar is given else closing(bar):
            history = _one_after_another(network, dataset, seeds, options, begun)
    history.seconds = time.monotonic() - begun
    return history


def _is_count(steps: Any) -> bool:
    return isinstance(steps, Integral) and not isinstance(steps, bool) and int(steps) > 0


def _whole(network: Network, dataset: Any, options: dict[str, Any]) -> Data | None:
    """The data, if the training samples are arrays and the loss is the mean squared error of the library's own outputs."""
    if options.get("loss_fn") is not None or options.get("pred_fn") is not None or own_call(network):
        return None
    more = {name: options.get(name) for name in ("validation", "sample_weight")}
    data = check_dataset(network, dataset, same_shape=True, floating=True, exact=True, **more)
    return in_network_units(network, data, SQUARES) if isinstance(data.train, Samples) else None


def _is_plain(network: Network) -> bool:
    """Whether the network is what `Stack` wants."""
    grids = ("get_act", "update_grid", "update_grid_from_samples")
    if own_methods(network, *grids) or any(own_methods(layer, *grids[2:]) for layer in network.numeric_layers):
        return False
    form = ClosedForm.of(network)
    if form is None or any(p.symbolic or p.arities or p.trains_maps or p.below or p.above or not p.live for p in form.layers):
        return False
    layers = network.numeric_layers
    return all(layer.k > 0 and layer.coef.requires_grad and layer.scale_base.requires_grad for layer in layers)


@torch.no_grad()
def _begun(network: Network, seed: int) -> Network:
    """A network with the numeric edges of `seed` and the first grid and untrained numeric parameters of `network`."""
    new = network.replace(seed=seed)
    for l, (ours, theirs) in enumerate(zip(new.numeric_layers, network.numeric_layers, strict=True)):
        kept = ["grid"] if l == 0 else []
        kept += [name for name in ("coef", "scale_base", "scale_sp") if not getattr(theirs, name).requires_grad]
        for name in kept:
            getattr(ours, name).copy_(settled(theirs, name))
    return new


@torch.no_grad()
def _begin_(network: Network, seed: int) -> None:
    """Make `network` one of another seed, symbolic edges and affine maps aside."""
    new = _begun(network, seed)
    for ours, theirs in zip(network.numeric_layers, new.numeric_layers, strict=True):
        for name in ("grid", "coef", "scale_base", "scale_sp"):
            put_(ours, name, getattr(theirs, name))


def _last_loss(history: History) -> float:
    """What networks are compared by."""
    values = history["val_loss" if "val_loss" in history else "test_loss"]
    loss = values[history.best_step if history.restored and history.best_step is not None else -1] if values else math.inf
    return loss if math.isfinite(loss) else math.inf


def _one_after_another(network: Network, dataset: Any, seeds: Sequence[int], options: dict[str, Any], begun: float) -> History:
    """Each network in a fit of its own."""
    start, limit = snapshot(network), options.get("time_limit")
    found: list[tuple[float, list[Tensor], History]] = []
    bar: ProgressBar | None = options["progress"]
    afterwards = 0 if bar is None else bar.to_come
    for index, seed in enumerate(seeds):
        left = None if limit is None else limit - (time.monotonic() - begun)
        if index > 0:
            if left is not None and left <= 0:
                break
            restore_(network, start)
            _begin_(network, seed)
        if bar is not None:
            bar.to_come, bar.label = afterwards + len(seeds) - 1 - index, f"seed {seed} "
        history = fit(network, dataset, **{**options, "time_limit": None if left is None else max(left, math.ulp(0.0))})
        found.append((_last_loss(history), snapshot(network), history))
        if history.stopped == "interrupted":
            break
    losses = [loss for loss, _, _ in found]
    best = min(range(len(found)), key=losses.__getitem__)
    restore_(network, found[best][1])
    history = found[best][2]
    history.restarts = Restarts(list(seeds), losses + [math.inf] * (len(seeds) - len(losses)), best)
    if found[-1][2].stopped == "interrupted":
        history.stopped = "interrupted"
    return history


@dataclass
class _Best:
    """The best states so far, each network's own, and when the best of all of them was found."""

    values: Tensor
    states: list[Tensor] | None = None
    step: int = -1

    def look(self, step: int, watched: Tensor, stack: Stack, keeps: bool) -> None:
        """Take note of the losses ``(S,)`` after a step."""
        if bool(watched.min() < self.values.min()):
            self.step = step
        better = watched < self.values
        self.values = torch.where(better, watched, self.values)
        if keeps:
            now = stack.save()
            if self.states is None:
                self.states = now
            for kept, values in zip(self.states, now, strict=True):
                kept[better] = values[better]


@dataclass
class _Together:
    """One fit of all networks at once."""

    network: Network
    data: Data
    seeds: Sequence[int]
    options: dict[str, Any]
    begun: float
    rows: list[dict[str, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        get = self.options.get
        self.patience, self.limit, self.steps = get("patience"), get("time_limit"), get("steps", 100)
        wanted = get("restore_best")
        self.keeps_best = (self.patience is not None or get("validation") is not None) if wanted is None else wanted
        self.schedule: GridSchedule | None = get("grid_schedule")
        self.watched = "test_loss" if self.data.validation is None else "val_loss"
        names = ["train_loss", "test_loss", "reg", *(["val_loss"] if self.data.validation is not None else [])]
        self.history = History(names)
        self.shown = History(names)  # the rows of the best so far
        self.unit = spreads_of_labels(self.network, SQUARES)[0]  # of the losses that are shown
        self.round_off = relative_round_off(self.network, self.data.first.y, SQUARES)

    @torch.no_grad()
    def run(self) -> History:
        """Train, give the network the best parameters, and tell how it went."""
        network, kind = self.network, METHODS[self.options["opt"]]
        networks = [network, *(_begun(network, seed) for seed in self.seeds[1:])]
        with workers() as mapper, self._bar() as bar:
            stack = Stack(networks, kind.dtype(network))
            method = kind(stack, self.options.get("lr", 1.0), mapper)
            best = _Best(torch.full((stack.count,), math.inf, dtype=stack.dtype, device=stack.masks[0].device))
            self.dead: set[int] = set()
            self.after = stack.save()  # as the last complete step left them
            try:
                self.history.stopped = self._steps(method, best, bar)
            except KeyboardInterrupt:
                self.history.stopped = "interrupted"
        return self._finished(method, best)

    def _steps(self, method: BatchedMethod, best: _Best, bar: FitState | None) -> str:
        stack, data = method.stack, self.data
        converged: set[int] = set()
        train = test = validation = None
        for step in range(self.steps):
            if self.schedule is not None and self.schedule.due(step):
                self._move_grids(method)
                converged.clear()
                train = None
            if train is None:
                train = stack.shared(data.first)
                test, validation = (None if part is None else stack.shared(part) for part in (data.test, data.validation))
            active = [s for s in range(stack.count) if s not in self.dead | converged]
            row = self._row(method, method.step(train, active), test, validation)
            watched = row[self.watched]
            bad = ~(torch.isfinite(row["train_loss"]) & torch.isfinite(watched))
            self.dead |= {int(s) for s in bad.nonzero()[:, 0]}
            stack.bury_(sorted(self.dead))
            if len(self.dead) == stack.count:
                return "not finite"
            watched = watched.index_fill(0, torch.tensor(sorted(self.dead), dtype=torch.long, device=watched.device), math.inf)
            converged |= {int(s) for s in ((row["train_loss"] / self.unit) ** 2 <= self.round_off).nonzero()[:, 0]}
            best.look(step, watched, stack, self.keeps_best)
            self.after = stack.save()
            self.rows.append(row)
            if bar is not None:
                self._show(bar, row, watched)
            if self.patience is not None and step - best.step >= self.patience:
                return "patience"
            if self.limit is not None and time.monotonic() - self.begun >= self.limit:
                return "time limit"
        return "steps"

    def _move_grids(self, method: BatchedMethod) -> None:
        """Update the grids of all networks. Where that raises the loss by too much the update is undone, but for one of the first layer."""
        stack, samples = method.stack, self.data.first
        before, saved = method.losses(stack.shared(samples)), stack.save()
        stack.move_grids_(samples.x, method.mapper)
        stack.undo_(saved, method.losses(stack.shared(samples)) > (1 + LARGEST_RISE) * before)
        method.reset()

    def _row(self, method: BatchedMethod, train: Tensor, test: Shared | None, validation: Shared | None) -> dict[str, Tensor]:
        """As `Measure.row`, for all networks."""
        held_out = None if validation is None else method.losses(validation)
        seen = method.losses(test) if test is not None else train if held_out is None else held_out
        row = {"train_loss": train.sqrt() * self.unit, "test_loss": seen.sqrt() * self.unit, "reg": torch.zeros_like(train)}
        return row if held_out is None else {**row, "val_loss": held_out.sqrt() * self.unit}

    @contextmanager
    def _bar(self) -> Iterator[FitState | None]:
        """The progress bar, as the state that it is told of."""
        get = self.options.get
        self.progress = ProgressBar.of(get("progress", True), get("log", 1), get("display_metrics"))
        if self.progress is None:
            yield None
            return
        state = FitState(self.network, self.shown, self.steps)
        self.progress.on_fit_start(state)
        try:
            yield state
        finally:
            self.progress.on_fit_end(state)

    def _show(self, bar: FitState, row: dict[str, Tensor], watched: Tensor) -> None:
        s = int(watched.argmin())
        self.shown.append({name: float(values[s]) for name, values in row.items()})
        bar.step += 1
        assert self.progress is not None
        self.progress.on_step(bar)

    def _finished(self, method: BatchedMethod, best: _Best) -> History:
        stack, history = method.stack, self.history
        last = best.values if self.keeps_best or not self.rows else self.rows[-1][self.watched]
        losses = [math.inf if s in self.dead or not self.rows else float(value) for s, value in enumerate(last)]
        s = min(range(stack.count), key=losses.__getitem__)
        history.restarts = Restarts(list(self.seeds), losses, s)
        if math.isfinite(losses[s]):
            for row in self.rows:
                history.append({name: float(values[s]) for name, values in row.items()})
            watched = history[self.watched]
            history.best_step = min(range(len(watched)), key=watched.__getitem__)
            history.restored = self.keeps_best and history.best_step != len(watched) - 1
            stack.into_(self.network, s, best.states if self.keeps_best and best.states is not None else self.after)
        trained = trainable_parameters(self.network)
        history.optimizer_state = {
            "opt": self.options["opt"], "shapes": [list(p.shape) for p in trained], "method": method.state_of(s), "batches": {}
        }  # fmt: skip
        self.network.remember_input(self.data.first.x)
        if history.stopped == "interrupted":
            left = f"the best of {stack.count} as step {history.steps - 1} left it" if history.steps else "as it was before the first step"
            warnings.warn(f"fit: interrupted in step {len(self.rows)}; the network is {left}.", stacklevel=5)
        if history.stopped == "not finite":
            warnings.warn(
                f"fit: after step {len(self.rows)} none of the {stack.count} networks has an objective that is finite. The fit ends here, "
                f"the network is as it was before the first step. Try a smaller lr, or scale the data.",
                stacklevel=5,
            )
        return history
