"""The state from which a later fit can resume: moments or curvature, the schedule, and the state of the random numbers.

The state is a dictionary of tensors and plain data, so that ``torch.load(..., weights_only=True)`` can read it. Saving the state copies
nothing; a fit that resumes from it makes the copies.

The state also says whether the knots were chosen by a refinement. The user asked for these knots, so that later fits do not move them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeGuard

from torch.optim.lr_scheduler import LRScheduler

from kan.training.data.batches import Batches
from kan.training.methods.stepper import Stepper, TorchStepper

__all__ = ["has_chosen_knots", "is_refined", "load_state", "optimizer_state", "refined_state", "state_of"]


def optimizer_state(kept: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The state that a model has kept of its last fit.

    Raises:
        ValueError: if there is none, or if the model was refined since.
    """
    if kept is None or is_refined(kept):
        raise ValueError("resume=True goes on from the last fit of this model, and there is none; models made by prune or refine are new.")
    return kept


def refined_state(kept: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The state of a refined network, from the state `kept` by the network before; None if there was none."""
    return None if kept is None else {**kept, "refined": True, "chosen_knots": True}


def is_refined(kept: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether the network has been refined since the fit that left this state."""
    return kept is not None and bool(kept.get("refined"))


def has_chosen_knots(kept: Mapping[str, Any] | None) -> bool:
    """Whether the network still has the knots of a refinement."""
    return kept is not None and bool(kept.get("chosen_knots"))


def state_of(name: str, stepper: Stepper, scheduler: LRScheduler | None, batches: Batches, chosen_knots: bool = False) -> dict[str, Any]:
    """The state at the end of a fit with the method `name`."""
    state: dict[str, Any] = {
        "opt": name, "shapes": [list(p.shape) for p in stepper.parameters], "method": stepper.state_dict(), "batches": batches.state_dict(),
        "chosen_knots": chosen_knots,
    }  # fmt: skip
    if scheduler is not None and isinstance(stepper, TorchStepper):
        rates = [float(group["lr"]) for group in stepper.optimizer.param_groups]
        state.update(scheduler=scheduler.state_dict(), rates=rates)
    return state


def load_state(state: Mapping[str, Any], name: str, stepper: Stepper, scheduler: LRScheduler | None, batches: Batches) -> None:
    """Resume from `state`: the stepper, the batches and the scheduler take it over.

    Learning rates are those of the new fit. If both fits have a schedule, the old schedule continues with its learning rates.

    Raises:
        ValueError: if the state is that of another method, or of parameters of other shapes.
    """
    if state["opt"] != name:
        raise ValueError(f"resume goes on with the same optimiser: the state is that of {state['opt']!r}, and opt is {name!r}.")
    shapes = [list(p.shape) for p in stepper.parameters]
    if state["shapes"] != shapes:
        raise ValueError(
            f"resume needs parameters of the shapes that the optimiser's state has, {state['shapes']}; the network now has {shapes}. "
            f"Begin anew with resume=False."
        )
    stepper.load_state_dict(state["method"])
    batches.load_state_dict(state["batches"])
    if scheduler is not None and "scheduler" in state and isinstance(stepper, TorchStepper):
        scheduler.load_state_dict(copy.deepcopy(state["scheduler"]))
        for group, rate in zip(stepper.optimizer.param_groups, state["rates"], strict=True):
            group["lr"] = rate
