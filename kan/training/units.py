r"""Data in small, large or shifted units: maps of inputs and labels that a fit finds for a new network, and what it says of them.

A new network has its first grid on ``grid_range`` and gives outputs of order one. Columns that are far from both are mapped by

    ``u = (x - mean) / scale``      ``y = v scale + mean``

with ``u`` and ``v`` the columns that the layers take and give. The scale is the deviation of an input in halves of the grid, and that of
a label over `LABEL_DEVIATION`. The network keeps the maps as its `normalizer` and `output_normalizer` and applies them itself, see
`kan.network.labels`: it takes and gives the user's units. Columns in proportion keep mean 0 and scale 1; without others there is no map.

Only new networks get maps, since a map changes the function of one that has been trained. Where there can be none, a warning says so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kan.network.labels import NORMALIZERS
from kan.network.network import Network
from kan.training.data import Data
from kan.training.loaders import Loader
from kan.training.samples import Model, Samples

__all__ = [
    "Labels",
    "adopt_units_",
    "in_network_units",
    "labels_unchanged_on_error",
    "relative_round_off",
    "root_of_loss",
    "spreads_of_labels",
]



class Band(NamedTuple):
    """Which columns are in proportion.

    Attributes:
        least, largest: standard deviations, in units of half the first grid for inputs, of 1 for labels.
        offset: largest mean, in standard deviations; for inputs from the middle of the grid.
    """

    least: float
    largest: float
    offset: float


BAND = Band(1e-3, 1e3, 100.0)
"""Outside, trainings by L-BFGS are visibly worse than in units of order one: ``y = 1e-4 sin(3 t)`` by a factor of 60 after 20 steps."""
SECOND_ORDER = {"normalizer": Band(0.2, 5.0, 6.0), "output_normalizer": Band(1e-3, 3.0, 5.0)}
"""The same for inputs and labels of Levenberg-Marquardt, whose damping is that of all parameters and takes units of order one for
granted. Of ten fits of [1, 3, 1] and [2, 3, 1] to data of deviation 1 around 0, none misses the labels by a tenth of their deviation.
With inputs of deviation 0.1 or 8 deviations off, or labels of deviation 5 or 15 deviations off, three to six do. The intervals [0, 1] and
[1, 2], with deviation 0.29 and at most 5.2 of these from 0, are within, where one or two do."""
LABEL_DEVIATION = 0.3
"""Deviation of mapped labels inside the network, for the sake of Levenberg-Marquardt: of 44 fits to ``sin(3 x)`` and ``exp(sin(pi x) +
y^2)`` with inputs of deviation 1, none leaves more than 1e-3 of the variance of labels of deviation 0.3; with deviation 1, two of 28 do."""
LARGEST_CONSTANT = 1e3
"""Value of a constant column in proportion, at most, in the same units."""
RESOLUTION = 1e-3
"""Distance of neighbouring floating-point numbers around the mean of a column, in its standard deviations, above which a warning says that
its type cannot hold it: the numbers have lost their third digit."""
ROWS = 2**17
"""Rows that the means and deviations are taken of, at most; of more, evenly spaced ones."""
ROUND_OFF = 8.0
"""Deviation of a column, in round-off of its mean, up to which it counts as constant."""
NORMAL_QUARTILES = 1.349
"""Distance of the quartiles of a normal distribution, in standard deviations."""
NEAR = 1e-3
"""Relative distance of parameters from those that the constructor draws, up to which they are the same; processors round differently."""

REGRESSION = (
    nn.functional.mse_loss, nn.functional.l1_loss, nn.functional.smooth_l1_loss, nn.functional.huber_loss,
    nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss,
)  # fmt: skip
"""Losses that compare outputs with labels in the same units; others may compare anything."""


class Labels(NamedTuple):
    """What may be done with labels.

    Attributes:
        mapped: whether the loss is the mean squared error of the network's own output, which can be taken in any units.
        compared: whether labels and outputs have the same units.
        reason: why they are not mapped.
    """

    mapped: bool
    compared: bool = True
    reason: str = ""

    @classmethod
    def of(cls, loss_fn: Any, pred_fn: Any) -> Labels:
        """Those of a fit with these arguments; residuals are predictions of their own."""
        if pred_fn is not None:
            return cls(False, False)
        if loss_fn is None:
            return cls(True)
        compared = loss_fn in REGRESSION or isinstance(loss_fn, tuple(kind for kind in REGRESSION if isinstance(kind, type)))
        return cls(False, compared, "loss_fn is a function of outputs and labels in your units")


class _Column(NamedTuple):
    """Statistics of a column; `eps` is the relative distance of neighbouring numbers of its type."""

    mean: float
    spread: float
    low: float
    high: float
    eps: float

    @property
    def constant(self) -> bool:
        return self.spread <= ROUND_OFF * self.eps * abs(self.mean)

    def within(self, band: Band) -> bool:
        """Whether the column is in proportion."""
        if self.constant:
            return abs(self.mean) <= LARGEST_CONSTANT
        return band.least <= self.spread <= band.largest and abs(self.mean) <= band.offset * self.spread

    @property
    def lost(self) -> bool:
        """Whether round-off of the numbers themselves is a visible share of the spread."""
        return self.eps * abs(self.mean) > RESOLUTION * (1 / RESOLUTION if self.constant else self.spread)

    def over(self, middle: float, half: float) -> _Column:
        """In units of `half`, from `middle` on."""
        mean, low, high = ((value - middle) / half for value in (self.mean, self.low, self.high))
        return _Column(mean, self.spread / half, low, high, self.eps)


def _columns(values: Tensor, dtype: torch.dtype) -> list[_Column]:
    """Statistics of the columns of `values` ``(N, n)``, which numbers of `dtype` hold, computed so that no square overflows."""
    eps = torch.finfo(dtype).eps
    values = values.detach()[:: max(1, -(-len(values) // ROWS))].double().cpu()
    size = values.abs().amax(0)
    size = torch.where(size > 0, size, 1.0)
    shares = values / size
    statistics = (shares.mean(0), shares.std(0, correction=0), shares.amin(0), shares.amax(0))
    return [_Column._make([*row, eps]) for row in torch.stack([part * size for part in statistics], 1).tolist()]


class _Side(NamedTuple):
    """The columns of inputs or of labels.

    Attributes:
        label: the name of their map.
        raw: statistics, in the user's units.
        out: indices of the columns that are out of proportion, in the units that the layers have now.
        far: those of them that are so for every method.
        middle, half: of the interval that the network starts on.
    """

    label: str
    raw: list[_Column]
    out: list[int]
    far: list[int]
    middle: float
    half: float

    def map(self, by_range: bool) -> tuple[list[float], list[float]]:
        """What to take off the columns out of proportion and to divide them by, to bring them onto the interval or to `LABEL_DEVIATION`.

        Args:
            by_range: put the whole range of the samples on it, instead of one standard deviation on its half.
        """
        means, spreads = [0.0] * len(self.raw), [1.0] * len(self.raw)
        for i in self.out:
            column = self.raw[i]
            centre, reach = ((column.low + column.high) / 2, (column.high - column.low) / 2) if by_range else (column.mean, column.spread)
            spreads[i] = (1.0 if column.constant else reach) / (LABEL_DEVIATION if self.label == "output_normalizer" else self.half)
            means[i] = centre - self.middle * spreads[i]
        return means, spreads


def _sides(network: Model, samples: Samples, labels: Labels, second_order: bool) -> list[_Side]:
    """Inputs, and labels where they matter, if there are columns out of proportion among them."""
    x, y = samples.x, samples.y
    if samples.weight is not None:
        x, y = (values[samples.weight > 0] for values in (x, y))
    low, high = network.grid_range if isinstance(network, Network) else (-1.0, 1.0)
    found = [("normalizer", x, x.dtype, (low + high) / 2, (high - low) / 2 or 1.0)]
    if labels.compared and y.is_floating_point() and tuple(y.shape[1:]) == (network.width_in[-1],):
        found.append(("output_normalizer", y, network.dtype, 0.0, 1.0))
    sides = []
    for label, values, dtype, middle, half in found:
        raw = own = _columns(values, dtype)
        if isinstance(network, Network) and network.applied(label) is not None:
            values = network.in_own_units(label, values, torch.float64)
            own = _columns(values, dtype)
        near, far = (
            [i for i, column in enumerate(own) if not _within(column.over(middle, half), band, values[:, i], middle, half)]
            for band in (SECOND_ORDER[label], BAND)
        )
        out = near if second_order or far else []  # where there is a map anyway, it is for all columns that gain by it
        if out:
            sides.append(_Side(label, raw, out, far, middle, half))
    return sides


def _within(column: _Column, band: Band, values: Tensor, middle: float, half: float) -> bool:
    """Whether a column is in proportion, or would be but for a few outliers."""
    if column.within(band) or column.constant:
        return column.within(band)
    few = values.detach()[:: max(1, -(-len(values) // ROWS))].double().cpu()
    low, centre, high = torch.quantile(few, few.new_tensor([0.25, 0.5, 0.75])).tolist()
    bulk = _Column(centre, (high - low) / NORMAL_QUARTILES, low, high, column.eps).over(middle, half)
    return not bulk.constant and bulk.within(band)


def adopt_units_(network: Model, data: Data, labels: Labels, *, follows: bool, second_order: bool = False, quiet: bool = False) -> None:
    """Let a new `network` map columns out of proportion, in place, and say so; say so, too, where it cannot.

    Args:
        network: that is about to be trained on `data`.
        data: with the numbers as they were given.
        labels: what may be done with labels.
        follows: whether the grids will follow the data. Else the map puts the range of every column on the grid as it is.
        second_order: whether Levenberg-Marquardt trains.
        quiet: do not warn of what cannot be mapped.
    """
    samples = data.first
    sides = _sides(network, samples, labels, second_order)
    if sides and isinstance(data.train, Loader):
        samples = data.train.look(ROWS)  # the first batch may be the beginning of sorted data
        sides = _sides(network, samples, labels, second_order)
    if not sides:
        return
    new = isinstance(network, Network) and _is_new(network)
    adopted, refused = [], []
    for side in sides:
        reason = _reason(network, side.label, labels, new)
        if not reason:
            adopted.append(side)
        elif side.far and not quiet and not (isinstance(network, Network) and not new and _fits_already(network, samples)):
            refused.append((side._replace(out=side.far), reason))
    if adopted:
        assert isinstance(network, Network)
        network.apply_normalizers_(**{side.label: side.map(side.label == "normalizer" and not follows) for side in adopted})
        warnings.warn(_notice(network, adopted, second_order), stacklevel=6)
    for side, reason in refused:
        warnings.warn(
            f"fit: {_listed(network, side)} are out of proportion with the network: a standard deviation between {BAND.least:g} and "
            f"{BAND.largest:g}, and a mean within {BAND.offset:g} of them, are expected. Training may go badly, and nothing is "
            f"normalised, because {reason}. Normalise the columns before, or fit a new KAN.",
            stacklevel=6,
        )
    told = [*adopted, *(side for side, _ in refused)]
    lost = [_names(network, side.label)[i] for side in told for i in side.out if side.raw[i].lost]
    if lost and not quiet:
        warnings.warn(
            f"fit: {', '.join(lost)} cannot be told apart in the numbers' own type: around the mean, neighbouring numbers are more than "
            f"{RESOLUTION:g} standard deviations from each other. Use float64, data and model (model.double()), or subtract the mean "
            f"before the data become numbers of that type.",
            stacklevel=6,
        )


def _reason(network: Model, label: str, labels: Labels, new: bool) -> str:
    """Why a side cannot be mapped; nothing if it can."""
    if not isinstance(network, Network):
        return f"{type(network).__name__} has no maps of units"
    if label == "output_normalizer" and not labels.mapped:
        return labels.reason
    if getattr(network, label) is not None and network.applied(label) is None:
        return f"model.{label} says that you have normalised them"
    return "" if new else "the model is not new: a map would change what its trained or symbolic edges compute"


@torch.no_grad()
def _is_new(network: Network) -> bool:
    """Whether the network has the grids, splines and scales that its constructor gives it, and nothing symbolic; masks do not matter."""
    if any(layer.active() for layer in network.symbolic_layers) or any(network.applied(label) for label in NORMALIZERS):
        return False
    fresh = Network(**Network.settings(network)).to(network.dtype).state_dict()  # a subclass may want other arguments
    ours = network.state_dict()
    names = [name for name in ours if not name.endswith((".mask", ".affine"))]
    return ours.keys() == fresh.keys() and all(
        ours[name].shape == fresh[name].shape and bool((ours[name] - fresh[name]).abs().max() <= NEAR * fresh[name].abs().max())
        for name in names
    )


@torch.no_grad()
def _fits_already(network: Network, samples: Samples) -> bool:
    """Whether the network explains some of every label: it has been made for these units then."""
    if tuple(samples.y.shape[1:]) != (network.width_in[-1],) or not samples.y.is_floating_point():
        return False
    missed = (network.trace(samples.x).output.double() - samples.y.double()).square().mean(0)
    return bool((missed < samples.y.double().var(0, correction=0)).all())


def _names(network: Model, label: str) -> list[str]:
    """What messages call the columns."""
    inputs = label == "normalizer"
    given = (network.in_vars if inputs else network.out_vars) if isinstance(network, Network) else None
    count = network.input_width if inputs else network.width_in[-1]
    return given or (["y"] if count == 1 and not inputs else [f"{'x' if inputs else 'y'}_{i + 1}" for i in range(count)])


def _listed(network: Model, side: _Side) -> str:
    """The columns out of proportion with their statistics, as the subject of a sentence."""
    names = _names(network, side.label)
    each = ", ".join(f"{names[i]} ({side.raw[i].mean:.3g} +- {side.raw[i].spread:.3g})" for i in side.out)
    return f"the {'inputs' if side.label == 'normalizer' else 'labels'} {each}"


def _notice(network: Network, sides: Sequence[_Side], second_order: bool) -> str:
    maps = []
    for side in sides:
        names, (means, spreads) = _names(network, side.label), getattr(network, side.label)
        maps += [f"({names[i]} {'+' if means[i] < 0 else '-'} {abs(means[i]):.6g})/{spreads[i]:.6g}" for i in side.out]
    return (
        f"fit: {' and '.join(_listed(network, side) for side in sides)} are out of proportion with a new network"
        f"{' that Levenberg-Marquardt trains' if second_order else ''}. The model normalises them "
        f"inside, as {', '.join(maps)}, and takes and gives your units as before: in predictions, formulas, plots and checkpoints. "
        f"The maps are its {' and '.join(side.label for side in sides)}."
    )


@contextmanager
def labels_unchanged_on_error(network: Model) -> Iterator[None]:
    """Put names and normalizers of the network back as they were if what follows fails."""
    if not isinstance(network, Network):
        yield
        return
    before = network._labels, network._applied
    try:
        yield
    except BaseException:
        network._labels, network._applied = before
        raise


def in_network_units(network: Model, data: Data, labels: Labels) -> Data:
    """`data` as a network is trained on them.

    Inputs that the network maps stay as they are: it maps them in their own precision. All else is in its dtype, and labels that it maps
    are normalised.
    """

    def ready(samples: Samples) -> Samples:
        x, y, dtype = samples.x, samples.y, network.dtype
        if not isinstance(network, Network) or network.applied("normalizer") is None:
            x = x.to(dtype)
        if isinstance(network, Network) and labels.mapped:
            y = network.in_own_units("output_normalizer", y, dtype)
        return Samples(x, y.to(dtype) if y.is_floating_point() else y, samples.weight)

    train = data.train.prepared_by(ready) if isinstance(data.train, Loader) else ready(data.train)
    return Data(train, *(None if part is None else ready(part) for part in (data.validation, data.test)))


def spreads_of_labels(network: Model, labels: Labels) -> list[float]:
    """What an error of every output has to be multiplied by to be one in the user's units."""
    pair = network.applied("output_normalizer") if isinstance(network, Network) and labels.mapped else None
    return [1.0] * network.width_in[-1] if pair is None else pair[1]


def relative_round_off(network: Model, y: Tensor, labels: Labels) -> float:
    """Mean square of the round-off that labels in the network's units have from being stored in the user's."""
    pair = network.applied("output_normalizer") if isinstance(network, Network) and labels.mapped else None
    if pair is not None:
        mean, std = (y.new_tensor(part) for part in pair)
        y = y + mean / std
    return torch.finfo(network.dtype).eps ** 2 * float(y.square().mean())


def root_of_loss(spreads: Sequence[float]) -> Callable[[float], float] | None:
    """From a mean squared error in the network's units to its root in the user's; None where outputs have different units."""
    if len(set(spreads)) > 1:
        return None
    return lambda loss: spreads[0] * math.sqrt(loss)
