"""How often a fit evaluates test data, validation data and metrics: chosen by counting samples, so that every run does the same."""

from __future__ import annotations

import math

__all__ = ["steps_between"]

PASSES_OF_A_STEP = 4
"""Number of forward passes over its mini-batch that a step costs: one, about two for the gradient, and one for the loss afterwards."""
LARGEST_SHARE = 0.1
"""Largest number of samples that are evaluated besides the training, as a share of the samples in the forward passes of the training: a
round choice for which the reports do not determine how long a fit takes."""


def steps_between(batch: int, held_out: int, steps_per_pass: int | None) -> int:
    """Number of steps from one evaluation to the next, with mini-batches.

    The evaluations take at most `LARGEST_SHARE` of the training itself, but there is at least one for each pass over the training samples.

    Args:
        batch: number of samples in a step.
        held_out: number of samples that are evaluated; a small number counts as one mini-batch, since it takes as many operations.
        steps_per_pass: number of steps in a pass over the training samples; None if it is not known.

    Example:
        >>> steps_between(256, 1000, 390), steps_between(256, 10**6, 390)
        (10, 390)
    """
    seldom = math.ceil(max(held_out, batch) / (LARGEST_SHARE * PASSES_OF_A_STEP * batch))
    return seldom if steps_per_pass is None else min(seldom, max(steps_per_pass, 1))
