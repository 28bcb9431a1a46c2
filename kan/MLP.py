"""pykan's import path of the multilayer perceptron: a `Perceptron` with what one does with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kan.analysis import perceptron as analysis
from kan.analysis.perceptron import PerceptronAttribution
from kan.errors import unknown_name
from kan.network.perceptron import Perceptron, PerceptronTrace
from kan.surgery.perceptron import auto_swap_, swap_
from kan.training.callbacks import Callback
from kan.training.fit import fit
from kan.training.history import History
from kan.training.objectives.of_perceptron import PerceptronPenalty, penalise
from kan.training.options import FitOptions
from kan.training.resume import optimizer_state

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MLP"]


class MLP(Perceptron):
    """Multilayer perceptron with the methods of pykan's, see `Perceptron` for its arguments.

    Example:
        >>> model = MLP(width=[2, 5, 1], act="tanh", seed=0)
        >>> model(torch.zeros(4, 2)).shape
        torch.Size([4, 1])
    """

    optimizer_state: Mapping[str, Any] | None = None
    """What the last fit's optimiser remembered, for ``fit(..., resume=True)``."""

    def fit(
        self,
        dataset: Any,
        opt: Any = "LBFGS",
        steps: int = 100,
        log: int = 1,
        lamb: float = 0.0,
        lamb_l1: float = 1.0,
        lamb_entropy: float = 2.0,
        loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
        lr: float = 1.0,
        batch: int = -1,
        metrics: Sequence[Callable[..., Any] | str] | None = None,
        in_vars: Iterable[Any] | None = None,
        out_vars: Iterable[Any] | None = None,
        beta: float = 3,
        device: torch.device | str | None = None,
        reg_metric: str = "w",
        display_metrics: Sequence[str] | None = None,
        pred_fn: Callable[[Any, Tensor], Tensor] | None = None,
        validation: Any = None,
        sample_weight: Any = None,
        lr_scheduler: Any = None,
        clip: float | None = None,
        patience: int | None = None,
        restore_best: bool | None = None,
        time_limit: float | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
        resume: bool = False,
    ) -> History:
        """Train the model in place, as `kan.KAN.fit` does; the data are moved to where the model is.

        Args:
            dataset: dictionary with ``train_input``, ``train_label`` and perhaps ``test_input``, ``test_label``; a pair ``(X, y)``; a
                ``DataLoader``; or a pair of training and test data. Tensors, numpy arrays or pandas frames, see
                `kan.training.data.dataset`.
            opt: ``'LBFGS'``, ``'Adam'`` or another name of `kan.training.methods.by_name`, a class of ``torch.optim``, or an optimiser of
                this model's parameters.
            steps: optimiser steps; one of L-BFGS is up to 20 iterations.
            log: the progress bar is renewed every `log` steps.
            lamb: weight of the penalty.
            lamb_l1, lamb_entropy: weights inside the penalty.
            loss_fn: of prediction and label (and weights, with `sample_weight`); the mean squared error when not given.
            lr: learning rate.
            batch: samples per step, -1 for all.
            metrics: functions without arguments, or of prediction and label, evaluated after every step, see
                `kan.training.evaluation.metrics`.
            in_vars, out_vars, beta, device: not used, as in pykan.
            reg_metric: what the penalty is taken of, see `kan.training.objectives.of_perceptron.PERCEPTRON_METRICS`.
            display_metrics: keys of the result that the progress bar shows.
            pred_fn: the prediction as a function of model and inputs; ``model(x)`` when not given.
            validation: a fraction of the training samples that is held out, or samples ``(X, y)``; the result has ``val_loss`` then.
            sample_weight: how much each training sample counts, ``(N,)``.
            lr_scheduler: function ``optimiser -> scheduler``, or a scheduler of the optimiser `opt`.
            clip: largest norm of the gradient, for first-order optimisers.
            patience: the fit ends after so many steps without a lower loss of validation, test or training data, the first there is.
            restore_best: go back to the step where that loss was lowest; if `patience` or `validation` is given when not given.
            time_limit: the fit ends after so many seconds.
            callbacks: told of every step, see `kan.training.callbacks`.
            progress: whether there is a progress bar; there is none for ``log < 1`` either.
            resume: go on with moments, curvature and random numbers of the last fit, which are kept as `optimizer_state`.

        Returns:
            ``train_loss``, ``test_loss``, ``reg`` and the metrics, a list with one number per step each. Without test data ``test_loss`` is
            that of the validation data, and without these that of the training data. Attributes tell why the fit ended, see `History`.

        Raises:
            TypeError, ValueError: for bad input, before anything is changed.
        """
        penalty = PerceptronPenalty(reg_metric, lamb_l1, lamb_entropy)
        if isinstance(dataset, Mapping):
            dataset = {name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in dataset.items()}
        options = FitOptions(
            opt, steps, log, lamb, penalty, loss_fn=loss_fn, lr=lr, batch=batch, metrics=metrics, display_metrics=display_metrics,
            pred_fn=pred_fn, validation=validation, sample_weight=sample_weight, lr_scheduler=lr_scheduler, clip=clip,
            patience=patience, restore_best=restore_best, time_limit=time_limit, callbacks=callbacks, progress=progress,
            resume=optimizer_state(self.optimizer_state) if resume else None,
        )  # fmt: skip
        results = fit(self, dataset, options)
        if not results.left_as_it_was:
            self.optimizer_state = results.optimizer_state
        return results

    def reg(self, reg_metric: str = "w", lamb_l1: float = 1.0, lamb_entropy: float = 2.0) -> Tensor:
        """The penalty ``R`` on the last input, see `kan.training.objectives.of_perceptron`."""
        return penalise(self.trace(), PerceptronPenalty(reg_metric, lamb_l1, lamb_entropy))

    def get_reg(self, reg_metric: str = "w", lamb_l1: float = 1.0, lamb_entropy: float = 2.0) -> Tensor:
        """As `reg`; what a subclass overrides."""
        return self.reg(reg_metric, lamb_l1, lamb_entropy)

    def get_params(self) -> Iterable[nn.Parameter]:
        """The parameters."""
        return self.parameters()

    def get_act(self, x: Tensor | Mapping[str, Tensor] | None = None) -> None:
        """Take `x`, or the training inputs of a dataset, as the input that activations are read on."""
        if x is not None:
            x = x["train_input"] if isinstance(x, Mapping) else x
            self.checked_input(x)
            self.remember_input(x)
        self.remembered_input()

    # Scores on the last input, differentiable

    def attribute(self) -> None:
        """Check that there is data to read scores on; they are computed when read, see `kan.analysis.perceptron`."""
        self.remembered_input()

    def _attribution(self) -> PerceptronAttribution:
        return analysis.attribute_perceptron(self.trace())

    @property
    def node_scores(self) -> list[Tensor]:
        """Attribution of the nodes, ``(n_l,)`` per layer."""
        return self._attribution().node_scores

    @property
    def edge_scores(self) -> list[Tensor]:
        """Attribution of the edges, ``(n_{l+1}, n_l)`` per linear layer."""
        return self._attribution().edge_scores

    @property
    def wa_backward(self) -> list[Tensor]:
        """As `edge_scores`."""
        return self.edge_scores

    @property
    def cache_data(self) -> Tensor | None:
        """The last input; one that is set takes its place, and None forgets it."""
        return self.last_input

    @cache_data.setter
    def cache_data(self, x: Tensor | None) -> None:
        if x is not None:
            self.check_input(x)
        self.remember_input(x)

    @property
    def acts(self) -> list[Tensor] | None:
        """Inputs of the linear layers on the last input, ``(B, n_l)`` each; None before there is one."""
        return None if self.last_input is None else self._read().acts

    @property
    def acts_scale(self) -> list[Tensor]:
        """Standard deviations of the hidden and output nodes."""
        return self._read().acts_scale

    @property
    def wa_forward(self) -> list[Tensor]:
        """Weights times the standard deviations of their inputs."""
        return self._read().wa_forward

    def _read(self) -> PerceptronTrace:
        """What activations are read from."""
        self.warn_of_changes()
        return self.trace()

    @property
    def a_forward(self) -> list[Tensor]:
        """Always empty, as in pykan."""
        return []

    # Order of the nodes

    @property
    def connection_cost(self) -> Tensor:
        """Sizes of the weights times the distances of their nodes, see `kan.analysis.perceptron.connection_cost`."""
        return analysis.connection_cost(self.w)

    def swap(self, l: int, i1: int, i2: int) -> None:
        """Exchange the nodes `i1` and `i2` of hidden layer `l`; the function stays."""
        swap_(self, l, i1, i2)

    def auto_swap_l(self, l: int) -> None:
        """Order the nodes of hidden layer `l` for short connections; the function stays."""
        auto_swap_(self, l)

    def auto_swap(self) -> None:
        """Order the nodes of all hidden layers for short connections, from the first layer on; the function stays."""
        for l in range(1, self.depth):
            auto_swap_(self, l)

    # Pictures

    def plot(self, beta: float = 3, scale: float = 1.0, metric: str = "w") -> Figure:
        """Draw the weights (``'w'``), the weights times the deviations of their inputs (``'act'``) or the attributions (``'fa'``).

        Args:
            beta: a line is drawn with opacity ``tanh(beta |v|)``.
            scale: size of the figure.
            metric: what the lines show.

        Raises:
            ValueError: for an unknown metric, or a scale that is not positive.
        """
        from kan.plotting.perceptron import plot_perceptron

        choices: dict[str, Callable[[], Sequence[Tensor]]] = {
            "w": lambda: self.w, "act": lambda: self.trace().wa_forward, "fa": lambda: self.edge_scores
        }  # fmt: skip
        if metric not in choices:
            raise unknown_name("metric", metric, choices)
        values = [value.detach().double().cpu().numpy() for value in choices[metric]()]
        return plot_perceptron(self, values, beta=beta, scale=scale)

    def tree(
        self,
        x: Tensor | None = None,
        in_var: Sequence[Any] | None = None,
        style: str = "tree",
        sym_th: float | None = None,
        sep_th: float | None = None,
        skip_sep_test: bool = False,
        verbose: bool = False,
        error: float | None = None,
    ) -> Axes:
        """Draw the tree of the symmetries that this model has at `x`, or at its last input; see `kan.plotting.tree.plot_tree`."""
        from kan.plotting.tree import plot_tree

        x = self.remembered_input() if x is None else x
        return plot_tree(self, x, in_var, style, sym_th, sep_th, skip_sep_test, verbose, error)
