"""Levenberg-Marquardt as a method of training: which problem is solved, in which precision, and what is remembered between steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from kan.devices import at_hand
from kan.network.network import Network
from kan.network.precision import in_double
from kan.network.trace import FirstLayer
from kan.network.user_code.own_code import is_called, own_parts
from kan.solvers.levenberg_marquardt import Damping, improve_
from kan.training.least_squares.autograd_problem import CalledProblem
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.network_problem import Anchor, NetworkProblem
from kan.training.methods.stepper import Stepper
from kan.training.objectives.losses import in_dtype
from kan.training.objectives.of_network import Objective

__all__ = ["LMStepper"]


class LMStepper(Stepper):
    """A stepper that takes steps of Levenberg-Marquardt, in float64, see `kan.solvers.levenberg_marquardt`.

    A network in another format is copied; the copy is trained, and rounded into the network after every step.

    Args:
        objective: is minimised.
        parameters: those of its network that are trained.
    """

    def __init__(self, objective: Objective, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(parameters)
        self.objective = objective
        self.damping = Damping()
        self._deterministic = self._stalled = False
        self._known: float | None = None
        self._anchor: Anchor | None = None
        self._exact: Objective | None = None
        self._versions: list[tuple[int, int]] = []  # of the network's tensors, when its copy was last the same
        self._columns: Columns | None = None
        self._problem: tuple[NetworkProblem, tuple[Tensor | None, ...]] | None = None

    def step(self, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None) -> None:
        """Take one step, with as many trials as it needs; the parameters stay as they are if no better point is found."""
        if self._stalled and self._deterministic:
            return
        if self._is_called:
            self._step_called(x, y, weight)
            return
        objective, columns = self._prepared()
        problem = self._problem_of(objective, columns, x, y, first, weight)
        new = improve_(problem, self.damping)
        problem.remember_()
        self._stalled = new is None
        self._known = new if self._anchor is None and objective is self.objective and self._deterministic else None
        if objective is not self.objective:
            self._round_back_()

    def _problem_of(
        self, objective: Objective, columns: Columns, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None
    ) -> NetworkProblem:
        """The problem of these samples; that of the step before where samples and columns are the same."""
        known, given = self._problem, (x, y, weight)
        if known is not None and known[0].columns is columns and all(a is b for a, b in zip(known[1], given, strict=True)):
            known[0].refresh_()
            return known[0]
        if objective is not self.objective:
            x, first = x.double(), None
            y, weight = y.double() if y.is_floating_point() else y, None if weight is None else weight.double()
            if self._deterministic and objective.reads_features(x):
                first = objective.network.first_layer(x)
        problem = NetworkProblem(objective, columns, x, y, first, weight, self._anchor)
        self._problem = problem, given
        return problem

    def _step_called(self, x: Tensor, y: Tensor, weight: Tensor | None) -> None:
        """Take one step of a network with code of its user's, which is not copied, since that code may refer to it."""
        network = self.objective.network
        with in_double(network):
            weight, y = None if weight is None else weight.double(), y.double() if y.is_floating_point() else y
            parameters = [p for p in self.parameters if isinstance(p, nn.Parameter)]
            # In a layer of the library's own, the scale of a spline is redundant: its coefficients can take its place.
            plain = (layer for layer in network.numeric_layers if not is_called(layer))
            spare = {layer.scale_sp for layer in plain if layer._parameters.get("coef") in set(parameters)}
            parameters = [p for p in parameters if p not in spare]
            self._stalled = improve_(CalledProblem(self.objective, parameters, x.double(), y, weight), self.damping) is None

    @cached_property
    def _is_called(self) -> bool:
        network = self.objective.network
        return bool(own_parts(network) or (self.objective.lamb and self.objective.own_penalty))

    def carry_(self, state: Mapping[str, Any], error: float | None) -> None:
        """Anchor the present coefficients until `reset`: they are taken to be right but for a mean squared error of `error`."""
        if error is not None and self.objective.lamb == 0 and not self._is_called:
            self._anchor, self._problem = Anchor(self._prepared()[1].coordinates(), error), None

    def _prepared(self) -> tuple[Objective, Columns]:
        """The objective of a network in float64 and the columns of its Jacobian."""
        network = self.objective.network
        exact = self.objective
        if network.dtype != torch.float64:
            if self._exact is None:
                loss_fn = in_dtype(self.objective.loss_fn, torch.float64)
                self._exact = replace(self.objective, network=copy.deepcopy(network).double(), loss_fn=loss_fn)
                self._versions = _versions(network)
            exact = self._exact
            self._refresh_(exact.network)
        columns = self._columns
        if columns is None or columns.network is not exact.network or not columns.is_current():
            names = {p: name for name, p in network.named_parameters()}
            own = dict(exact.network.named_parameters())
            parameters = [own[names[p]] for p in self.parameters if isinstance(p, nn.Parameter)]
            _wake(exact.network, set(parameters))
            self._columns = columns = Columns(exact.network, parameters)
        return exact, columns

    @torch.no_grad()
    def _refresh_(self, exact: Network) -> None:
        """Copy to the network in float64 those tensors of the other one that are not what its own are when rounded.

        On a device they are not looked at, but those are copied that have been changed since.
        """
        versions = _versions(self.objective.network)
        for ours, theirs, old, new in zip(_tensors(exact), _tensors(self.objective.network), self._versions, versions, strict=True):
            if not (torch.equal(ours.to(theirs.dtype), theirs) if at_hand(theirs) else old == new):
                ours.copy_(theirs)
        self._versions = versions

    @torch.no_grad()
    def _round_back_(self) -> None:
        """Give the network the trained parameters of its copy in float64."""
        assert self._exact is not None
        trained = set(self.parameters)
        for p, exact in zip(self.objective.network.parameters(), self._exact.network.parameters(), strict=True):
            if p in trained:
                p.copy_(exact)
        self._versions = _versions(self.objective.network)

    def shrink(self) -> None:
        """Increase the damping by a factor of a thousand."""
        if self.damping.mu is not None:
            self.damping.mu *= 1e3
        self._forget()

    def reset(self) -> None:
        """Forget the anchor and what is known of the present parameters; the damping stays."""
        self._forget()
        self._anchor = None

    def _forget(self) -> None:
        self._stalled, self._known, self._exact, self._problem = False, None, None, None

    def assume_deterministic(self) -> None:
        """Do not repeat a step that has found no better point, since it would find none again."""
        self._deterministic = True

    @property
    def known_loss(self) -> float | None:
        """The objective after the last step; None unless it was computed for the network itself, in its own format."""
        return self._known

    def state_dict(self) -> dict[str, Any]:
        """The damping and the factor of its growth."""
        return {"mu": self.damping.mu, "growth": self.damping.growth}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the damping that `state_dict` returned."""
        self.damping = Damping(state["mu"], state["growth"])


@torch.no_grad()
def _wake(network: Network, trained: set[nn.Parameter]) -> None:
    """Give edges whose spline is scaled by zero the scale one and zero coefficients, so that their coefficients have an effect."""
    for layer in network.numeric_layers:
        if layer.coef in trained and layer.scale_sp in trained:
            dead = (layer.scale_sp == 0) & (layer.mask != 0)
            if bool(dead.any()):
                layer.coef[dead] = 0.0
                layer.scale_sp[dead] = 1.0


def _tensors(network: Network) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _versions(network: Network) -> list[tuple[int, int]]:
    """Which tensors a network has, and how often each has been changed."""
    return [(id(tensor), tensor._version) for tensor in _tensors(network)]
