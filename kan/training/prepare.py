"""The model and the data of a fit, checked once and shared by all its networks and grids."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from kan.errors import level_of_caller
from kan.training.callbacks import ProgressBar
from kan.training.data.dataset import Data, check_dataset, names_of_columns
from kan.training.data.loaders import Loader
from kan.training.data.normalisation import Labels, adopt_units_, in_network_units
from kan.training.data.samples import Samples
from kan.training.models.trainable import Trainable
from kan.training.options import FitOptions

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model and the data that it is trained on.

    Attributes:
        model: the model.
        given: the training samples with labels in the user's units.
        data: all data in the model's units.
        labels: whether labels are mapped to the model's units.
        weighted: whether the training samples have weights.
        begun: time at which the fit began, by ``time.monotonic()``.
        bar: the progress bar of the whole fit, if there is one.
    """

    model: Trainable
    given: Samples | Loader
    data: Data
    labels: Labels
    weighted: bool
    begun: float
    bar: ProgressBar | None = None


def prepare(model: Trainable, dataset: Any, options: FitOptions, begun: float) -> Prepared:
    """Check `dataset` and let the model take from it what it needs: names of columns and classes, and maps of its units.

    Raises:
        TypeError, ValueError: for data that do not fit the model.
    """
    labels = Labels.of(options.loss_fn, options.pred_fn, model.own_call)
    data = check_dataset(
        model, dataset, options.loss_fn, options.pred_fn, validation=options.validation, sample_weight=options.sample_weight
    )  # fmt: skip
    names = names_of_columns(dataset)
    if options.pred_fn is not None:  # labels need not be what the outputs stand for
        names.pop("out_vars", None)
    model.take_column_names_(names)
    classes = data.classes
    if classes is not None and classes.link is not None and classes.names is not None:
        model.take_classes_(classes.link, classes.names)
    if classes is not None and classes.remark:
        warnings.warn(classes.remark, stacklevel=level_of_caller())
    adopt_units_(model, data, labels, follows=options.grid_schedule is not None, second_order=options.method == "LM")
    bar = ProgressBar.of(options.progress, options.log, options.display_metrics)
    return Prepared(model, data.train, in_network_units(model, data, labels), labels, options.sample_weight is not None, begun, bar)
