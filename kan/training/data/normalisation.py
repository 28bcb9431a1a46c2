r"""Normalisation of data in small, large or shifted units: the maps of inputs and labels that a fit gives to a new network.

A new network has its first grid on ``grid_range`` and gives outputs of order one. Columns of inputs that are far from the grid, and columns
of labels that are far from order one, are out of proportion. They are mapped by

    ``u = (x - mean) / scale``      ``y = v scale + mean``

where ``u`` are the inputs and ``v`` the outputs of the layers. The scale of an input is its standard deviation in units of half the grid,
and that of a label is its standard deviation divided by `LABEL_DEVIATION`. The network keeps the maps as its `normalizer` and
`output_normalizer` and applies them itself (see `kan.network.labels`), so that its inputs and outputs are in the user's units. Columns in
proportion keep mean 0 and scale 1. If all columns are in proportion, there is no map.

Only new networks get maps, since a map would change the function of a trained network. A warning says so if a map is needed but impossible.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kan.errors import level_of_caller, some_of
from kan.network.labels import Normalizer
from kan.training.data.dataset import Data
from kan.training.data.loaders import Loader
from kan.training.data.samples import Samples
from kan.training.models.trainable import Trainable

__all__ = [
    "Labels",
    "adopt_units_",
    "in_network_units",
    "relative_round_off",
    "root_of_loss",
    "spreads_of_labels",
]


class Band(NamedTuple):
    """Bounds within which a column is in proportion.

    Attributes:
        least, largest: smallest and largest standard deviation; for inputs in units of half the first grid.
        offset: largest size of the mean, in standard deviations; for inputs it is measured from the middle of the grid.
    """

    least: float
    largest: float
    offset: float


BAND = Band(1e-3, 1e3, 100.0)
"""Bounds for all methods of training. Beyond them, training by L-BFGS is visibly worse than in units of order one: by a factor of 60 after
20 steps for ``y = 1e-4 sin(3 t)``."""
SECOND_ORDER = {"normalizer": Band(0.2, 5.0, 6.0), "output_normalizer": Band(1e-3, 3.0, 5.0)}
"""Bounds for inputs and labels if Levenberg-Marquardt trains. They are narrower, since its damping is the same for all parameters and
assumes units of order one. A fit fails here if its error is at least a tenth of the labels' deviation. Of ten fits of [1, 3, 1] and [2, 3,
1] to data of deviation 1 around 0, none fails. With inputs of deviation 0.1 or 8 deviations off, or labels of deviation 5 or 15 deviations
off, three to six fail. Inputs in [0, 1] and [1, 2], of deviation 0.29 and at most 5.2 deviations from 0, are within the bounds; of these
one or two fail."""
LABEL_DEVIATION = 0.3
"""Standard deviation of mapped labels inside the network, chosen for Levenberg-Marquardt. With 0.3, none of 44 fits to ``sin(3 x)`` and
``exp(sin(pi x) + y^2)``, with inputs of deviation 1, leaves more than 1e-3 of the variance unexplained; with 1, two of 28 do."""
LARGEST_CONSTANT = 1e3
"""Largest magnitude of a constant column that needs no map: a round choice. Inputs are measured from the middle of the grid in units of
half its length, labels in units of one, as in `Band`."""
RESOLUTION = 1e-3
"""Distance of neighbouring floating-point numbers around the mean of a column, in standard deviations of the column. Above it, the numbers
have lost their third digit, and a warning says that their type is too coarse."""
ROWS = 2**17
"""Largest number of rows from which means and deviations are computed: a round choice. Of more rows, evenly spaced ones are used."""
ROUND_OFF = 8.0
"""Largest standard deviation of a column that counts as constant, in units of the round-off of its mean: a round choice."""
NORMAL_QUARTILES = 1.349
"""Distance between the quartiles of a normal distribution, in standard deviations."""

REGRESSION = (
    nn.functional.mse_loss, nn.functional.l1_loss, nn.functional.smooth_l1_loss, nn.functional.huber_loss,
    nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss,
)  # fmt: skip
"""Losses that compare outputs with labels in the same units; of other losses nothing is assumed."""


class Labels(NamedTuple):
    """Whether the labels of a fit can be mapped.

    Attributes:
        mapped: whether they can. This is so if the loss is the mean squared error of the network's own output, which has a meaning in any
            units.
        compared: whether labels and outputs have the same units.
        reason: why labels that are compared with outputs cannot be mapped.
    """

    mapped: bool
    compared: bool = True
    reason: str = ""

    @classmethod
    def of(cls, loss_fn: Any, pred_fn: Any, own_call: str = "") -> Labels:
        """The labels of a fit with this loss and prediction, of a model with code `own_call` of its user's.

        Fits of residuals count as fits with a `pred_fn`.
        """
        if pred_fn is not None:
            return cls(False, False)
        if own_call:
            reason = f"{own_call} may make something else of the outputs of the layers"
            return cls(False, loss_fn is None or _is_regression(loss_fn), reason)
        if loss_fn is None:
            return cls(True)
        return cls(False, _is_regression(loss_fn), "loss_fn is a function of outputs and labels in your units")


def _is_regression(loss_fn: Any) -> bool:
    return loss_fn in REGRESSION or isinstance(loss_fn, tuple(kind for kind in REGRESSION if isinstance(kind, type)))


class _Column(NamedTuple):
    """Statistics of a column: mean, standard deviation, smallest and largest value, and the relative round-off `eps` of its type."""

    mean: float
    spread: float
    low: float
    high: float
    eps: float

    @property
    def constant(self) -> bool:
        return self.spread <= ROUND_OFF * self.eps * abs(self.mean)

    def within(self, band: Band) -> bool:
        """Whether the column is in proportion, within the bounds of `band`."""
        if self.constant:
            return abs(self.mean) <= LARGEST_CONSTANT
        return band.least <= self.spread <= band.largest and abs(self.mean) <= band.offset * self.spread

    @property
    def lost(self) -> bool:
        """Whether the round-off of the numbers is too large a share of their spread, see `RESOLUTION`."""
        return self.eps * abs(self.mean) > RESOLUTION * (1 / RESOLUTION if self.constant else self.spread)

    def over(self, middle: float, half: float) -> _Column:
        """The statistics of ``(values - middle) / half``."""
        mean, low, high = ((value - middle) / half for value in (self.mean, self.low, self.high))
        return _Column(mean, self.spread / half, low, high, self.eps)


def _columns(values: Tensor, dtype: torch.dtype) -> list[_Column]:
    """Statistics of the columns of `values` ``(N, n)``, stored as `dtype`; they are computed so that no square overflows."""
    eps = torch.finfo(dtype).eps
    values = values.detach()[:: max(1, -(-len(values) // ROWS))].double().cpu()
    size = values.abs().amax(0)
    size = torch.where(size > 0, size, 1.0)
    shares = values / size
    statistics = (shares.mean(0), shares.std(0, correction=0), shares.amin(0), shares.amax(0))
    return [_Column._make([*row, eps]) for row in torch.stack([part * size for part in statistics], 1).tolist()]


class _Side(NamedTuple):
    """The columns of inputs, or those of labels, with the indices of the ones that are out of proportion.

    Attributes:
        label: name of their map, ``"normalizer"`` or ``"output_normalizer"``.
        raw: statistics in the user's units.
        out: indices of the columns that are out of proportion, in the units that the layers have at present.
        far: indices of the columns that are out of proportion for every method of training.
        middle, half: middle and half length of the interval on which the network starts.
    """

    label: str
    raw: list[_Column]
    out: list[int]
    far: list[int]
    middle: float
    half: float

    def map(self, by_range: bool) -> tuple[list[float], list[float]]:
        """Means and scales of the map that brings columns out of proportion onto the interval, or labels to `LABEL_DEVIATION`.

        Args:
            by_range: whether the range of the samples is mapped to the interval. Otherwise one standard deviation is mapped to half of it.
        """
        means, spreads = [0.0] * len(self.raw), [1.0] * len(self.raw)
        for i in self.out:
            column = self.raw[i]
            centre, reach = ((column.low + column.high) / 2, (column.high - column.low) / 2) if by_range else (column.mean, column.spread)
            spreads[i] = (1.0 if column.constant else reach) / (LABEL_DEVIATION if self.label == "output_normalizer" else self.half)
            means[i] = centre - self.middle * spreads[i]
        return means, spreads


def _sides(model: Trainable, samples: Samples, labels: Labels, second_order: bool) -> list[_Side]:
    """The inputs and the labels, each only if there are columns out of proportion, and labels only if outputs have their units."""
    x, y = samples.x, samples.y
    if samples.weight is not None:
        x, y = (values[samples.weight > 0] for values in (x, y))
    seen = _seen(model, x)
    if seen is None:
        return []
    (low, high), dtype = model.interval, model.network.dtype
    found = [("normalizer", seen, seen.dtype, (low + high) / 2, (high - low) / 2 or 1.0)]
    if labels.compared and y.is_floating_point() and tuple(y.shape[1:]) == (model.network.width_in[-1],):
        found.append(("output_normalizer", y, dtype, 0.0, 1.0))
    sides = []
    for label, values, dtype, middle, half in found:
        raw = own = _columns(values, dtype)
        if model.map_of(label) is not None:
            values = model.in_own_units(label, values, torch.float64)
            own = _columns(values, dtype)
        near, far = (
            [i for i, column in enumerate(own) if not _within(column.over(middle, half), band, values[:, i], middle, half)]
            for band in (SECOND_ORDER[label], BAND)
        )
        out = near if second_order or far else []  # a map that is needed anyway is for all columns that gain by it
        if out:
            sides.append(_Side(label, raw, out, far, middle, half))
    return sides


def _seen(model: Trainable, x: Tensor) -> Tensor | None:
    """What the layers are given of the inputs `x`, if that is finite and one row per sample; None if it is not known."""
    if not model.own_call:
        return x
    seen = model.seen(x if model.map_of("normalizer") is not None else x.to(model.network.dtype))
    return None if seen is None or seen.dim() != 2 or not bool(torch.isfinite(seen).all()) else seen


def _within(column: _Column, band: Band, values: Tensor, middle: float, half: float) -> bool:
    """Whether a column is in proportion, or would be without a few outliers."""
    if column.within(band) or column.constant:
        return column.within(band)
    few = values.detach()[:: max(1, -(-len(values) // ROWS))].double().cpu()
    low, centre, high = torch.quantile(few, few.new_tensor([0.25, 0.5, 0.75])).tolist()
    bulk = _Column(centre, (high - low) / NORMAL_QUARTILES, low, high, column.eps).over(middle, half)
    return not bulk.constant and bulk.within(band)


def adopt_units_(model: Trainable, data: Data, labels: Labels, *, follows: bool, second_order: bool = False) -> None:
    """Give a new `model` maps for its columns out of proportion, in place, and warn of these and of columns that cannot be mapped.

    Args:
        model: the model that is about to be trained on `data`.
        data: the data, with the numbers as the user gave them.
        labels: whether labels can be mapped.
        follows: whether the grids will follow the data. If not, the range of every mapped column is put on the present grid.
        second_order: whether Levenberg-Marquardt trains.
    """
    samples = data.first
    sides = _sides(model, samples, labels, second_order)
    if sides and isinstance(data.train, Loader):
        samples = data.train.look(ROWS)  # the first batch may be the beginning of sorted data
        sides = _sides(model, samples, labels, second_order)
    if not sides:
        return
    new = model.is_new
    adopted, refused = [], []
    for side in sides:
        reason = labels.reason if side.label == "output_normalizer" and not labels.mapped else ""
        if not (reason := model.why_unmapped(side.label, reason, new)):
            adopted.append(side)
        elif side.far and (new or not model.explains(samples.x, samples.y)):
            refused.append((side._replace(out=side.far), reason))
    if adopted:
        maps = {side.label: side.map(side.label == "normalizer" and not follows) for side in adopted}
        model.take_maps_(maps)
        warnings.warn(_notice(model, adopted, maps, second_order), stacklevel=level_of_caller())
    for side, reason in refused:
        warnings.warn(
            f"fit: {_listed(model, side)} are out of proportion with the network: a standard deviation between {BAND.least:g} and "
            f"{BAND.largest:g}, and a mean within {BAND.offset:g} of them, are expected. Training may go badly, and nothing is "
            f"normalised, because {reason}. Normalise the columns before, or fit a new KAN.",
            stacklevel=level_of_caller(),
        )
    named = [*adopted, *(side for side, _ in refused)]
    lost = [_names(model, side.label)[i] for side in named for i in side.out if side.raw[i].lost]
    if lost:
        warnings.warn(
            f"fit: {some_of(lost)} cannot be told apart in the numbers' own type: around the mean, neighbouring numbers are more than "
            f"{RESOLUTION:g} standard deviations from each other. Use float64, data and model (model.double()), or subtract the mean "
            f"before the data become numbers of that type.",
            stacklevel=level_of_caller(),
        )


def _names(model: Trainable, label: str) -> list[str]:
    """The names of the columns in messages."""
    inputs = label == "normalizer"
    count = model.network.input_width if inputs else model.network.width_in[-1]
    unnamed = ["y"] if count == 1 and not inputs else [f"{'x' if inputs else 'y'}_{i + 1}" for i in range(count)]
    return model.column_names(label) or unnamed


def _listed(model: Trainable, side: _Side) -> str:
    """The columns out of proportion and their statistics, as the subject of a sentence."""
    names = _names(model, side.label)
    each = some_of([f"{names[i]} ({side.raw[i].mean:.3g} +- {side.raw[i].spread:.3g})" for i in side.out])
    return f"the {'inputs' if side.label == 'normalizer' else 'labels'} {each}"


def _notice(model: Trainable, sides: Sequence[_Side], maps: Mapping[str, Normalizer], second_order: bool) -> str:
    shown = []
    for side in sides:
        names, (means, spreads) = _names(model, side.label), maps[side.label]
        shown += [f"({names[i]} {'+' if means[i] < 0 else '-'} {abs(means[i]):.6g})/{spreads[i]:.6g}" for i in side.out]
    return (
        f"fit: {' and '.join(_listed(model, side) for side in sides)} are out of proportion with a new network"
        f"{' that Levenberg-Marquardt trains' if second_order else ''}. The model normalises them "
        f"inside, as {some_of(shown)}, and takes and gives your units as before: in predictions, formulas, plots and checkpoints. "
        f"The maps are its {' and '.join(side.label for side in sides)}."
    )


def in_network_units(model: Trainable, data: Data, labels: Labels) -> Data:
    """The `data` in the form in which the model is trained on them.

    Inputs that the model maps are left as they are, since it maps them in their own precision. All other numbers are converted to its
    dtype, and labels that it maps are normalised.
    """
    dtype = model.network.dtype

    def ready(samples: Samples) -> Samples:
        x = samples.x if model.map_of("normalizer") is not None else samples.x.to(dtype)
        y = model.in_own_units("output_normalizer", samples.y, dtype) if labels.mapped else samples.y
        return Samples(x, y.to(dtype) if y.is_floating_point() else y, samples.weight)

    train = data.train.prepared_by(ready) if isinstance(data.train, Loader) else ready(data.train)
    validation, test = (None if part is None else ready(part) for part in (data.validation, data.test))
    return Data(train, validation, test, data.classes)


def spreads_of_labels(model: Trainable, labels: Labels) -> list[float]:
    """For every output, the factor that converts an error in the model's units to one in the user's units."""
    pair = model.map_of("output_normalizer") if labels.mapped else None
    return [1.0] * model.network.width_in[-1] if pair is None else pair[1]


def relative_round_off(model: Trainable, y: Tensor, labels: Labels) -> float:
    """Mean square of the round-off that labels in the model's units have because they were stored in the user's units."""
    pair = model.map_of("output_normalizer") if labels.mapped else None
    if pair is not None:
        mean, std = (y.new_tensor(part) for part in pair)
        y = y + mean / std
    return torch.finfo(model.network.dtype).eps ** 2 * float(y.square().mean())


def root_of_loss(spreads: Sequence[float]) -> Callable[[float], float] | None:
    """The function from a mean squared error in the network's units to its root in the user's; None if the outputs have different units."""
    if len(set(spreads)) > 1:
        return None
    return lambda loss: spreads[0] * math.sqrt(loss)
