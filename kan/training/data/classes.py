"""Labels that are classes, as the loss of a fit takes them.

The losses of torch take one of three kinds of labels:

- an *index* of a class per sample, ``(N,)``, integers (cross-entropy, negative log-likelihood, margins);
- an *indicator* per sample and output, ``(N, outputs)``, 0 or 1 or between (binary cross-entropy);
- *numbers* (mean squared error, which is that of no `loss_fn`, mean absolute error, Huber's losses).

Text, categories and truth values become indices or indicators, and so do integers other than the indices ``0 ... outputs - 1``. Losses of
numbers refuse text and categories. A loss of the user's own gets the indices of text and categories, and all other labels as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kan.datasets.classes import ClassNames, codes_of, named_classes, shown
from kan.datasets.real_numbers import is_frame, is_table, real_numbers

__all__ = ["ClassLabels", "Target", "check_function", "loss_of_link", "target_of"]

SUSPECTED_CLASSES = 20
"""Bound for labels that may be meant as classes: a round choice. If there is no `loss_fn` and all labels are integers below it, `fit`
warns that it takes them for numbers."""


class Target(Enum):
    """What a loss takes as labels."""

    NUMBERS = "numbers"
    INDEX = "the index of a class"
    INDICATOR = "indicators of classes"
    OTHER = "what a loss of the user's own takes"


NUMBERS = (
    nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss,
    functional.huber_loss,
)  # fmt: skip
"""Losses whose labels are numbers."""
INDEX = (
    nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss, functional.cross_entropy, functional.nll_loss, functional.multi_margin_loss,
)  # fmt: skip
"""Losses whose labels are the index of a class."""
INDICATOR = (
    nn.BCEWithLogitsLoss, nn.BCELoss, nn.MultiLabelSoftMarginLoss, functional.binary_cross_entropy_with_logits,
    functional.binary_cross_entropy, functional.multilabel_soft_margin_loss,
)  # fmt: skip
"""Losses whose labels are 0 or 1 for each class."""


def target_of(loss_fn: Any) -> Target:
    """What `loss_fn` takes as labels, if it is a loss of torch, or a partial function of one.

    >>> target_of(nn.CrossEntropyLoss()), target_of(None)
    (<Target.INDEX: 'the index of a class'>, <Target.NUMBERS: 'numbers'>)
    """
    if loss_fn is None:
        return Target.NUMBERS
    function = loss_fn.func if isinstance(loss_fn, partial) else loss_fn
    for known, target in ((NUMBERS, Target.NUMBERS), (INDEX, Target.INDEX), (INDICATOR, Target.INDICATOR)):
        if function in known or isinstance(function, tuple(kind for kind in known if isinstance(kind, type))):
            return target
    return Target.OTHER


def check_function(name: str, function: Any) -> None:
    """Raise ``TypeError`` if `function`, the argument called `name`, is neither None nor can be called with tensors."""
    if isinstance(function, type) and issubclass(function, nn.Module):
        raise TypeError(f"{name} must be a function; got the class {function.__name__}. Pass an object of it, {function.__name__}().")
    if function is not None and not callable(function):
        raise TypeError(f"{name} must be a function; got {type(function).__name__}.")


def loss_of_link(link: str | None) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The logarithmic loss of a classifier, by the link of its outputs, see `kan.network.labels`; None for a model without classes."""
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"softmax": nn.CrossEntropyLoss(), "sigmoid": nn.BCEWithLogitsLoss()}
    return None if link is None else losses[link]


@dataclass
class ClassLabels:
    """The classes of a fit. The first labels that are read determine them, and all later labels must belong to them.

    Attributes:
        target: what the loss takes.
        outputs: number of outputs of the network; None if a `pred_fn` makes something else of them.
        names: names of the classes; None before they are known, and for labels that are no classes.
        ignored: index that the loss leaves out.
        indices: whether integers are indices of the classes, and not their names. They are in batches, the first of which need not
            contain all classes, and in data sets that know the names.
        found: whether labels that are classes have been read.
        loss: name of the `loss_fn` that is given; empty for none.
        remark: warning about labels that are taken as numbers; empty if there is none.
    """

    target: Target
    outputs: int | None
    names: ClassNames | None = None
    ignored: int = -100
    indices: bool = False
    loss: str = ""
    found: bool = field(default=False, init=False)
    remark: str = field(default="", init=False)

    @classmethod
    def of(
        cls, loss_fn: Any, outputs: int, known: ClassNames | None = None, names: ClassNames | None = None, pred_fn: Any = None
    ) -> ClassLabels:
        """The classes of a fit.

        Args:
            loss_fn, pred_fn: see `kan.training.options.FitOptions`.
            outputs: number of outputs of the model.
            known: names of the classes that the model has been trained on.
            names: names of the classes that the data set gives.

        Raises:
            TypeError: if `loss_fn` is no function.
            ValueError: if the names of the model and of the data set differ.
        """
        check_function("loss_fn", loss_fn)
        target = target_of(loss_fn)
        if pred_fn is not None:  # what it returns need not have the shape of the network's output
            return cls(Target.OTHER if loss_fn is not None else target, None, names, indices=names is not None)
        known = None if target is Target.NUMBERS else known
        if known is not None and names is not None and known != list(names):
            raise ValueError(
                f"the model has the classes {shown(known)} and the dataset has {shown(names)}. Set model.class_names = None to train the "
                f"model on other classes."
            )
        options = loss_fn.keywords if isinstance(loss_fn, partial) else {}
        ignored = options.get("ignore_index", getattr(loss_fn, "ignore_index", -100))
        loss = "" if loss_fn is None else str(getattr(loss_fn, "__name__", type(loss_fn).__name__))
        return cls(target, outputs, known or names, int(ignored), names is not None, loss)

    @property
    def link(self) -> str | None:
        """The link from outputs to classes, see `kan.network.labels`; None if the labels are no classes, or not as many as the outputs."""
        if not self.found or self.names is None or self.outputs is None:
            return None
        if self.target is Target.INDICATOR or (self.outputs == 1 and len(self.names) == 2):
            return "sigmoid"
        return "softmax" if self.outputs == len(self.names) else None

    def read(self, label: str, y: Any) -> Any:
        """`y` as a tensor that the loss takes, if it holds classes; else `y` as it is.

        Args:
            label: what messages call `y`.
            y: labels of any kind.

        Raises:
            TypeError: for classes without a loss that takes them.
            ValueError: if a label is missing or of no known class, or if the number of classes does not suit the outputs.
        """
        named = named_classes(label, y)
        if self.target is Target.NUMBERS:
            self._check_numbers(label, y, named)
            return y
        if named is not None and (self.target is not Target.OTHER or not isinstance(named[1][0], bool)):
            return self._coded(label, *named)
        values = None if self.target is Target.OTHER else _numbers(label, y)
        if values is None or not len(values):
            return y
        return self._index(label, values) if self.target is Target.INDEX else self._indicator(label, values)

    def _coded(self, label: str, entries: Sequence[Any], names: ClassNames) -> Tensor:
        """Labels that are names of classes, as the loss takes them."""
        self._decide(label, names, flat=True)
        assert self.names is not None
        codes = codes_of(label, entries, self.names)
        return codes.to(torch.get_default_dtype())[:, None] if self.target is Target.INDICATOR else codes

    def _index(self, label: str, values: Tensor) -> Tensor:
        """Labels for a loss that takes indices. Whole numbers become indices of classes, and probabilities of classes stay as they are."""
        assert self.outputs is not None
        if values.dim() == 2 and values.shape[1] == 1 and self.outputs > 1:
            values = values[:, 0]
        if values.dim() != 1:
            return values
        if values.is_floating_point() and not bool((torch.isfinite(values) & (values == values.round())).all()):
            return values
        values = values.long()
        counts = values != self.ignored
        different = values[counts].unique().tolist()
        indices: ClassNames = list(range(self.outputs))
        by_index = self.indices or {*different} <= {*indices}
        if not different:
            return values
        self._decide(label, indices if by_index else different)
        return self._places(label, values.masked_fill(~counts, different[0]), different).masked_fill(~counts, self.ignored)

    def _indicator(self, label: str, values: Tensor) -> Tensor:
        """Labels for a loss that takes indicators. Integers become 0 and 1, and numbers between 0 and 1 stay; one output gets a column."""
        if values.dim() == 1 and self.outputs == 1:
            values = values[:, None]
        if values.is_floating_point():
            if bool(((values >= 0) & (values <= 1)).all()):
                self._decide(label, [0, 1])
            return values
        different = values.unique().tolist()
        if isinstance(different[0], bool):
            self._decide(label, [False, True])
            return values.to(torch.get_default_dtype())
        self._decide(label, [0, 1] if self.indices or {*different} <= {0, 1} else different)
        return self._places(label, values.long(), different).to(torch.get_default_dtype())

    def _decide(self, label: str, names: ClassNames, flat: bool = False) -> None:
        """Check that the classes suit the outputs of the network; they are called `names` unless their names are known already.

        Args:
            label: what messages call the labels.
            names: of the classes.
            flat: whether a sample has a single class, which makes one indicator, so that there has to be one output.
        """
        chosen = self.names or names
        if not self.found:
            count, binary = len(chosen), len(chosen) == 2
            suits = {Target.INDEX: count == self.outputs and count > 1, Target.INDICATOR: binary and (self.outputs == 1 or not flat)}
            if not suits.get(self.target, True):
                single = ", or torch.nn.BCEWithLogitsLoss() and one output" if binary else ""
                raise ValueError(
                    f"{label} holds the {count} classes {shown(chosen)}, and the network has {self.outputs} output(s). Take "
                    f"torch.nn.CrossEntropyLoss() and one output per class, as in KAN([..., {max(count, 2)}]){single}."
                )
        self.names, self.found = chosen, True

    def _places(self, label: str, values: Tensor, different: Sequence[int]) -> Tensor:
        """The indices of the classes that integers stand for: as names of the classes, or, where these are text, as indices."""
        assert self.names is not None
        integers = [] if self.indices else [int(name) for name in self.names if isinstance(name, int)]
        known = integers if len(integers) == len(self.names) else list(range(len(self.names)))
        if others := [value for value in different if value not in known]:
            raise ValueError(f"{label} must hold the classes {shown(known)}; it holds {shown(others)} as well.")
        names = torch.tensor(known, device=values.device)
        order = names.argsort()
        return order[torch.searchsorted(names[order], values)]

    def _check_numbers(self, label: str, y: Any, named: tuple[list[Any], ClassNames] | None) -> None:
        """Refuse labels that a loss of numbers cannot take, and keep a warning about those that may be classes."""
        choices = named is not None and isinstance(named[1][0], bool)
        classes = self.names if named is None or choices else named[1]
        if classes is not None:
            why = f"{self.loss} is a loss of numbers" if self.loss else "without a loss_fn the mean squared error of numbers is minimised"
            raise TypeError(
                f"{label} holds the classes {shown(classes)}, and {why}. Pass loss_fn=torch.nn.CrossEntropyLoss() and take a "
                f"network with one output per class, as in KAN([..., {len(classes)}]); or replace the classes by numbers."
            )
        values = _numbers(label, y)
        if values is None or not len(values) or (values.is_floating_point() and not choices) or self.outputs is None:
            return
        if self.loss:
            return
        if values.dim() == 1 and self.outputs > 1:
            raise ValueError(
                f"{label} must have the shape of the network's output, ({len(values)}, {self.outputs}), as without a loss_fn the mean "
                f"squared error is minimised; got integers of the shape {tuple(values.shape)}. If they are classes, pass "
                f"loss_fn=torch.nn.CrossEntropyLoss()."
            )
        if values.numel() != len(values) or self.remark:
            return
        different = values.unique().tolist()
        dense = different[0] in (-1, 0, 1) and different[-1] < SUSPECTED_CLASSES and 2 * len(different) <= len(values)
        if (dense or choices) and len(different) > 1:
            kind = "truth values" if choices else "integers"
            values_shown = shown(named[1] if named is not None else different)
            loss = "BCEWithLogitsLoss()" if len(different) == 2 else "CrossEntropyLoss() and take one output per class"
            self.remark = (
                f"fit: {label} holds {len(different)} different {kind}, {values_shown}, and without a loss_fn the mean squared error "
                f"takes them for numbers. If they are classes, pass loss_fn=torch.nn.{loss}; if they are numbers, convert them to a "
                f"floating-point type, and there is no warning."
            )


def _numbers(label: str, y: Any) -> Tensor | None:
    """Labels as real numbers; None if they are something else, which is accepted or refused elsewhere."""
    if not is_table(y):
        return None
    try:
        values = real_numbers(label, y)
    except (TypeError, ValueError):
        return None
    if isinstance(y, Tensor) or not is_frame(y) or values.dim() == 1 or values.shape[1] > 1:
        return None if values.is_complex() or values.dim() == 0 else values
    return values[:, 0]
