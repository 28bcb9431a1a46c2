"""The KAN: a network with everything that one does with it.

Every method is a delegate to a function of the room that does the work; the names, arguments and printed lines are pykan's.
"""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from kan.analysis import attribution, predictions
from kan.analysis.attribution import Attribution
from kan.analysis.connection import connection_cost
from kan.analysis.indices import layer_index, node_index
from kan.checkpoint.versioned import Versioned
from kan.discovery.edges import automatic, suggest
from kan.discovery.formulas.network_formula import NetworkFormula, network_formula
from kan.network.bases import Bases
from kan.network.network import Network
from kan.network.trace import Trace
from kan.network.user_code.attributes import Lasting, Recorded, derived
from kan.network.user_code.inheritance import left_behind
from kan.network.user_code.observed import given_last
from kan.older_names import understood
from kan.output import say, silent_unless
from kan.surgery import edges, expand, modules, perturb, prune, refine, swap
from kan.surgery.prune import Pruning
from kan.training.callbacks import Callback
from kan.training.evaluation import evaluate
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule
from kan.training.history import History
from kan.training.objectives.penalty import Penalty, regularization
from kan.training.options import FitOptions
from kan.training.residuals import ResidualFunction, fit_residuals
from kan.training.resume import optimizer_state, refined_state

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kan.discovery.discover import Discovery

__all__ = ["KAN", "MultKAN"]


class KAN(Versioned):
    """Kolmogorov-Arnold network.

    Args:
        width: nodes per layer, inputs first, such as ``[2, 5, 1]``; an entry ``[n_sum, n_mult]`` has multiplication nodes.
        grid: grid intervals of the splines, one number or one per layer.
        k: degree of the splines, likewise.
        mult_arity, noise_scale, scale_base_mu, scale_base_sigma, base_fun, symbolic_enabled, affine_trainable, grid_eps, grid_range,
            sp_trainable, sb_trainable, seed, save_act, sparse_init, device: see `Network`.
        auto_save: save every change as a version in `ckpt_path`. With False nothing is ever written.
        first_init: whether this is a new model, whose first version is saved at once.
        ckpt_path: the folder.
        state_id, round: the version that the model starts from.
        noise_scale_base: older name of `scale_base_sigma`.
        keep: how many of the versions that this model and those made from it save stay on disk; None for all.
        save_data: save the last input with the model; without, what needs data asks for them after loading.
        basis: of the edges' functions: B-splines, or another basis by its name or as a `kan.bases.Basis`; see `Network`.
        older: arguments of pykan 0.0, see `kan.older_names`.

    Attributes:
        pruning: of a model that pruning has made, the loss before and after, see `Pruning`; None of others.

    Example:
        >>> model = KAN(width=[2, 5, 1], grid=3, k=3, seed=0, auto_save=False)
        >>> model(torch.zeros(4, 2)).shape
        torch.Size([4, 1])
    """

    attribution: Attribution | None = None
    pruning: Pruning | None = None
    _node_attribution: list[Tensor] | None = None
    _pruned: Set[tuple[int, int]] = frozenset()

    def __init__(
        self,
        width: Sequence[Any],
        grid: int | Sequence[int] = 3,
        k: int | Sequence[int] = 3,
        mult_arity: int | Sequence[Sequence[int]] = 2,
        noise_scale: float = 0.3,
        scale_base_mu: float = 0.0,
        scale_base_sigma: float = 1.0,
        base_fun: str | Callable[[Tensor], Tensor] = "silu",
        symbolic_enabled: bool = True,
        affine_trainable: bool = False,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        sp_trainable: bool = True,
        sb_trainable: bool = True,
        seed: int = 1,
        save_act: bool = True,
        sparse_init: bool = False,
        auto_save: bool = True,
        first_init: bool = True,
        ckpt_path: str | os.PathLike[str] = "./model",
        state_id: int = 0,
        round: int = 0,
        device: torch.device | str = "cpu",
        noise_scale_base: float | None = None,
        keep: int | None = None,
        save_data: bool = True,
        basis: Bases = "bspline",
        **older: Any,
    ) -> None:
        understood("KAN", KAN, older)
        super().__init__(
            width, grid, k, mult_arity, noise_scale, scale_base_mu, scale_base_sigma if noise_scale_base is None else noise_scale_base,
            base_fun, symbolic_enabled, affine_trainable, grid_eps, grid_range, sp_trainable, sb_trainable, seed, save_act, sparse_init,
            device, basis,
        )  # fmt: skip
        self.begin_versions_(auto_save, first_init, ckpt_path, state_id, round, keep, save_data)

    # Training

    def fit(
        self,
        dataset: Any,
        opt: Any = "LBFGS",
        steps: int = 100,
        log: int = 1,
        lamb: float = 0.0,
        lamb_l1: float = 1.0,
        lamb_entropy: float = 2.0,
        lamb_coef: float = 0.0,
        lamb_coefdiff: float = 0.0,
        update_grid: bool = True,
        grid_update_num: int = 10,
        loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
        lr: float = 1.0,
        start_grid_update_step: int = -1,
        stop_grid_update_step: int = 50,
        batch: int = -1,
        metrics: Sequence[Callable[..., Any] | str] | None = None,
        save_fig: bool = False,
        in_vars: Iterable[Any] | None = None,
        out_vars: Iterable[Any] | None = None,
        beta: float = 3,
        save_fig_freq: int = 1,
        img_folder: str | os.PathLike[str] = "./video",
        singularity_avoiding: bool = False,
        y_th: float = 1000.0,
        reg_metric: str = "edge_forward_spline_n",
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
        grids: Sequence[int] = (),
        restarts: int | None = None,
        eval_every: int | None = None,
        **older: Any,
    ) -> History:
        """Train the model in place and save it as a new version.

        The objective is ``loss + lamb R`` with the penalty ``R`` of `kan.training.objectives.of_network`. Ctrl-C ends the training: the
        model is left as the last complete step left it, or at its best state, and saved; before the first step is complete it is left as it
        was, and nothing is saved. An error leaves it there too, and goes on.

        Args:
            dataset: dictionary with ``train_input``, ``train_label`` and perhaps ``test_input``, ``test_label``; a pair ``(X, y)``; a
                ``DataLoader``; or a pair of training and test data. Tensors, arrays, lists or frames, see `kan.training.data.dataset`.
                Columns of frames give their names to the model, as its `in_vars` and `out_vars`, unless it has some. Labels may be
                classes, see `kan.training.data.classes`, which the model keeps as `class_names`.
            opt: ``'LBFGS'``, ``'LM'`` (Levenberg-Marquardt), ``'Adam'`` or another name of `kan.training.methods.by_name`, a class of
                ``torch.optim``, or an optimiser of this model's parameters.
            steps: optimiser steps; one of L-BFGS is up to 20 iterations.
            log: the progress bar is renewed every `log` steps.
            lamb: weight of the penalty, which is computed whether or not `save_act` is on.
            lamb_l1, lamb_entropy, lamb_coef, lamb_coefdiff: weights inside the penalty.
            update_grid: whether the grids follow the activations (an update that raises the objective by more than 10 % is undone),
            grid_update_num, start_grid_update_step, stop_grid_update_step: how often and between which steps.
            loss_fn: of prediction and label (and weights, with `sample_weight`); the mean squared error when not given.
            lr: learning rate.
            batch: samples per step, -1 for all.
            metrics: functions without arguments; functions of prediction and label, as in ``metric(model(x), label)``, whose values on
                training, test and validation data are ``train_<name>``, ``test_<name>`` and ``val_<name>``; or ``"accuracy"`` and
                ``"r2"``. See `kan.training.evaluation.metrics`.
            save_fig: save a picture of the network every `save_fig_freq` steps as ``img_folder/<step>.jpg``, drawn with `in_vars`,
                `out_vars`, `beta`.
            in_vars, out_vars, beta, save_fig_freq, img_folder: see `save_fig`.
            singularity_avoiding, y_th: evaluate symbolic functions in the version bounded by `y_th`.
            reg_metric: scores that the penalty is taken of, see `kan.training.objectives.of_network.METRICS`.
            display_metrics: keys of the result that the progress bar shows.
            pred_fn: the prediction as a function of model and inputs; ``model(x)`` when not given.
            validation: a fraction of the training samples that is held out, or samples ``(X, y)``; the result has ``val_loss`` then.
            sample_weight: how much each training sample counts, ``(N,)``.
            lr_scheduler: function ``optimiser -> scheduler``, or a scheduler of the optimiser `opt`.
            clip: largest norm of the gradient, for first-order optimisers.
            patience: the fit ends after so many steps without a lower loss of validation, test or training data, the first there is.
            restore_best: go back to the step where that loss was lowest; when not given, if `patience` or `validation` is given, or if
                something else than the last step ends a fit without penalty, such as Ctrl-C.
            time_limit: the fit ends after so many seconds.
            callbacks: told of every step, see `kan.training.callbacks`.
            progress: whether there is a progress bar; there is none for ``log < 1`` either.
            resume: go on with moments, curvature and random numbers of the last fit, which are kept as `optimizer_state`.
            grids: numbers of grid intervals, such as ``[3, 5, 10, 20]``: with every one all the steps are taken, and knots are inserted in
                between, see `kan.training.levels`. The grids are updated on the first level only.
            restarts: train so many networks, this one and others from the next seeds, and keep the best on validation, test or training
                data; with `grids` on the first level only. See `kan.training.restarts`. When not given, a penalised fit of a new model by
                L-BFGS that is stuck after a quarter of its steps goes on from another start, see `kan.training.second_start`; 1 for never.
            eval_every: test data, validation data and metrics are evaluated every so many steps, at the first and at the last one; their
                numbers are repeated in between. When not given, it is 1 with full batches; with mini-batches (and loaders) evaluations then
                take about a tenth of the work of the training, but come once for each pass over the data at least.
            older: arguments of pykan 0.0, see `kan.older_names`.

        Returns:
            ``train_loss``, ``test_loss``, ``reg`` and the metrics, a list with one number per step each. Without test data ``test_loss`` is
            that of the validation data, and without these that of the training data. Attributes tell why the fit ended, see `History`.

        Raises:
            TypeError, ValueError: for bad input, before anything is changed.
        """
        singularity_avoiding = understood("fit", KAN.fit, older).get("singularity_avoiding", singularity_avoiding)
        penalty = Penalty(reg_metric, lamb_l1, lamb_entropy, lamb_coef, lamb_coefdiff)
        schedule = GridSchedule(grid_update_num, start_grid_update_step, stop_grid_update_step) if update_grid else None
        frame = None
        if save_fig:
            from kan.plotting.video import frame_saver

            frame = frame_saver(self, img_folder, save_fig_freq, in_vars=in_vars, out_vars=out_vars, beta=beta)
        options = FitOptions(
            opt, steps, log, lamb, penalty, schedule, loss_fn, lr, batch, metrics, singularity_avoiding, y_th, display_metrics, frame,
            pred_fn, validation, sample_weight, lr_scheduler, clip, patience, restore_best, time_limit, callbacks, progress,
            optimizer_state(self.optimizer_state) if resume else None, grids, restarts, eval_every,
        )  # fmt: skip
        results = fit(self, dataset, options, previous=self.optimizer_state)
        if results.left_as_it_was:
            return results
        self.optimizer_state = results.optimizer_state
        self.losses = {name: float(results[name][-1]) for name in ("train_loss", "test_loss") if len(results[name])} or self.losses
        self.log_history("fit")
        return results

    def fit_residuals(
        self,
        residual_fn: ResidualFunction | Sequence[ResidualFunction],
        points: Tensor | Sequence[Tensor],
        steps: int = 50,
        **options: Any,
    ) -> list[float]:
        """Make residuals small, such as those of a differential equation, and save a new version; see `kan.training.residuals`."""
        history = fit_residuals(self, residual_fn, points, steps, **options)
        if history:
            self.losses = {"residuals": float(history[-1])}
            self.log_history("fit_residuals")
        return history

    def train(self, mode: Any = True, *more: Any, **arguments: Any) -> Any:
        """``nn.Module.train``; with a dataset in place of the mode, the older name of `fit`."""
        if isinstance(mode, Mapping):
            return self.fit(mode, *more, **arguments)
        if "dataset" in arguments:
            return self.fit(**arguments)
        return super().train(mode, *more, **arguments)

    def get_params(self) -> Iterable[Tensor]:
        """The parameters."""
        return self.parameters()

    def reg(
        self,
        reg_metric: str = "edge_forward_spline_n",
        lamb_l1: float = 1.0,
        lamb_entropy: float = 2.0,
        lamb_coef: float = 0.0,
        lamb_coefdiff: float = 0.0,
        entropy_offset: float | None = None,
    ) -> Tensor:
        """The penalty ``R`` on the last input, see `kan.training.objectives.of_network`.

        Args:
            reg_metric: the scores that it is taken of. ``'edge_forward_spline_n'``: `acts_scale_spline`, deviations of the numeric parts
                of the edges over those of their inputs; ``'edge_forward_sum'``: `acts_scale`, likewise of whole edges;
                ``'edge_forward_spline_u'``: `edge_actscale`, deviations of whole edges as they are, the symbolic part included;
                ``'edge_backward'``: `edge_scores`; ``'node_backward'``: `node_attribute_scores`.
            lamb_l1, lamb_entropy, lamb_coef, lamb_coefdiff: weights of its terms.
            entropy_offset: accepted for scripts written for other versions of pykan, without effect.
        """
        return regularization(self, self.trace(), Penalty(reg_metric, lamb_l1, lamb_entropy, lamb_coef, lamb_coefdiff))

    def get_reg(
        self,
        reg_metric: str = "edge_forward_spline_n",
        lamb_l1: float = 1.0,
        lamb_entropy: float = 2.0,
        lamb_coef: float = 0.0,
        lamb_coefdiff: float = 0.0,
    ) -> Tensor:
        """As `reg`."""
        return self.reg(reg_metric, lamb_l1, lamb_entropy, lamb_coef, lamb_coefdiff)

    def update_grid(self, x: Any) -> None:
        """`update_grid_from_samples`; `fit` calls this one."""
        self.update_grid_from_samples(x)

    @torch.no_grad()
    def update_grid_from_samples(self, x: Any) -> None:
        """Let every layer's grid follow its inputs for the samples `x` ``(B, inputs)``, from the first layer on; see `Network.update_grid`.

        The inputs are those that `get_act` finds. Layers whose ``coef`` is frozen or computed from other parameters keep their grids.
        """
        self.get_act(x)
        self._adapt_grids_()

    def initialize_grid_from_another_model(self, model: Network, x: Tensor | None = None) -> None:
        """Take over the grids and splines of `model` at its activations for `x`; see `kan.surgery.refine.initialize_grids_from_`."""
        refine.initialize_grids_from_(self, model, None if x is None else self.as_input(x))

    def initialize_from_another_model(self, another_model: Network, x: Tensor | None = None) -> KAN:
        """Compute what `another_model` does, on this model's grids; see `kan.surgery.refine.initialize_from_`. Returns this model."""
        refine.initialize_from_(self, another_model, None if x is None else self.as_input(x))
        return self

    def disable_symbolic_in_fit(self, lamb: float) -> tuple[bool, bool]:
        """Turn off what a fit with the weight `lamb` of the penalty does without; `fit` itself has no need of it.

        Returns:
            `save_act` and `symbolic_enabled` as they were: the first is False now if `lamb` is 0, the second if no edge is symbolic.
        """
        before = self.save_act, self.symbolic_enabled
        self.save_act = self.save_act and lamb != 0
        self.symbolic_enabled = self.symbolic_enabled and self._any_symbolic()
        return before

    def speed(self, compile: bool = False) -> Any:
        """Turn off saving, and the symbolic branch if no edge is symbolic, so that the function stays the same.

        Args:
            compile: return ``torch.compile(model)`` instead of the model.
        """
        self.symbolic_enabled = self.symbolic_enabled and self._any_symbolic()
        self.save_act = self.auto_save = False
        return torch.compile(self) if compile else self

    def _any_symbolic(self) -> bool:
        return any(bool(layer.mask.any()) for layer in self.symbolic_layers)

    def evaluate(
        self, dataset: Any, loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None, metrics: Sequence[Any] | None = None
    ) -> dict[str, Any]:
        """Test loss and metrics, number of numeric edges and grid; see `kan.training.evaluation.evaluate`.

        Args:
            dataset: a dictionary with ``test_input`` and ``test_label``, or these two as a pair ``(X, y)``, as `fit` takes them.
            loss_fn: when not given, the root of the mean squared error, or of a classifier the cross-entropy.
            metrics: as those of `fit` of prediction and label; the accuracy of a classifier when not given.
        """
        return {**evaluate.evaluate(self, dataset, loss_fn, metrics), "n_edge": self.n_edge, "n_grid": self.grid}

    def predict(self, X: Any) -> Tensor | np.ndarray:
        """The outputs for new samples, or, of a classifier, the names of their classes; see `kan.analysis.predictions`.

        Args:
            X: ``(N, inputs)``: a tensor, which gives a tensor; or an array, a list or a frame, which gives an array.
        """
        return predictions.predict(self, X)

    def predict_proba(self, X: Any) -> Tensor | np.ndarray:
        """The probabilities of the classes ``(N, classes)``, in the order of `class_names`, for new samples `X` as of `predict`."""
        return predictions.probabilities(self, X)

    # Structure

    def prune(
        self, node_th: float | None = None, edge_th: float | None = None, *, tolerance: float | None = None, **older: Any
    ) -> KAN:
        """A new model without the hidden nodes and edges that contribute little; this one is left alone.

        The loss before and after, on the samples of the last fit, is in the new model's `pruning`. For a model that has not been fitted, it
        is how far the outputs on the last input move.

        Args:
            node_th: threshold of the node scores, 1e-2 when not given.
            edge_th: threshold of the edge scores, 3e-2 when not given. If one of the two is given both are obeyed, with a warning if the
                loss grows by more than 5 %. If none is, edges without which it would are kept, and a warning tells how many.
            tolerance: in place of thresholds, by what share of it the loss may grow, such as 0.01: as many edges go as are found for that.
            older: arguments of pykan 0.0, where this was `prune_node`, see `kan.older_names`.

        Raises:
            ValueError: if nothing would be left with the thresholds given, naming one that leaves something.
        """
        if isinstance(edge_th, str):
            older = {"mode": edge_th, **older}
        if older:
            new = self.prune_node(**{"threshold": node_th, **understood("prune", KAN.prune, older)})
        else:
            new, pruning = prune.prune(self, node_th, edge_th, tolerance)
            new.pruning = pruning
        assert new.pruning is not None
        nodes = new.pruning.nodes
        self._pruned = {(l, i) for l in range(1, self.depth) for i in range(self.width_in[l]) if i not in nodes[l]}
        return new if older else self._child(new, "prune")

    def prune_node(
        self,
        threshold: float | None = None,
        mode: str = "auto",
        active_neurons_id: Sequence[Sequence[int]] | None = None,
        log_history: bool = True,
    ) -> KAN:
        """A new model with the hidden nodes whose score is above `threshold`, or with those of `active_neurons_id`.

        When neither is given the threshold is 1e-2, but nodes without which the loss would grow by more than 5 % are kept; see `prune`.
        """
        new, pruning = prune.prune_nodes(self, threshold, active_neurons_id)
        new.pruning = pruning
        return self._child(new, "prune_node" if log_history else None)

    def prune_edge(self, threshold: float | None = None, log_history: bool = True, symbolic: bool = False) -> None:
        """Mask the edges whose score is not above `threshold`, in place; the symbolic ones only if `symbolic` is True.

        When it is not given the threshold is 3e-2, but edges without which the loss would grow by more than 5 % are kept; see `prune`.
        """
        self.pruning = prune.prune_edges_(self, threshold, symbolic)
        if log_history:
            self.log_history("prune_edge")

    def prune_input(
        self,
        threshold: float | None = None,
        active_inputs: Sequence[int] | None = None,
        log_history: bool = True,
        verbose: bool = True,
    ) -> KAN:
        """A new model with the inputs whose score is above `threshold`, or with those of `active_inputs`; it still takes all columns.

        When neither is given the threshold is 1e-2, but inputs without which the loss would grow by more than 5 % are kept; see `prune`.
        The model's `in_vars` and `normalizer` stay those of all columns. Plots and formulas show those that are kept.
        With `verbose`, what is kept and saved is printed.
        """
        new, pruning = prune.prune_inputs(self, threshold, active_inputs)
        new.pruning = pruning
        kept = set(new.input_id.tolist())
        with silent_unless(verbose):
            say(f"keep: {[i in kept for i in self.input_id.tolist()]}")
            return self._child(new, "prune_input" if log_history else None)

    def refine(self, new_grid: int | Sequence[int] | None = None, grid: int | Sequence[int] | None = None) -> KAN:
        """A new model with `new_grid` intervals per spline that computes the same function; see `kan.surgery.refine`.

        After a fit new knots are inserted between the old ones where the error of the splines is largest. The next fit leaves them where
        they are, unless its data lie outside of them.

        Args:
            new_grid: number of intervals, or one per layer.
            grid: older name of `new_grid`.

        Returns:
            The new model; by how much its outputs have changed is its `refinement_change`.
        """
        wanted = grid if new_grid is None else new_grid
        if wanted is None:
            raise ValueError("refine needs the new number of grid intervals: refine(10).")
        new = refine.refine(self, wanted, adaptive=self.optimizer_state is not None)
        new.optimizer_state = refined_state(self.optimizer_state)
        return self._child(new, "refine")

    def set_mode(self, l: int, i: int, j: int, mode: str, mask_n: float | None = None) -> None:
        """Switch an edge to numeric ``'n'``, symbolic ``'s'``, both ``'sn'`` or off."""
        edges.set_mode_(self, l, i, j, mode, mask_n)

    def fix_symbolic(
        self,
        l: int,
        i: int,
        j: int,
        fun_name: str | Callable[[Tensor], Tensor],
        fit_params_bool: bool = True,
        a_range: tuple[float, float] = (-10, 10),
        b_range: tuple[float, float] = (-10, 10),
        verbose: bool = True,
        random: bool = False,
        log_history: bool = True,
    ) -> Tensor | None:
        """Make edge ``(l, i, j)`` symbolic; see `kan.surgery.edges.fix_symbolic_`. Without `verbose` nothing is printed."""
        with silent_unless(verbose):
            r2 = edges.fix_symbolic_(self, (l, i, j), fun_name, fit_params_bool, a_range, b_range, verbose, random)
            if log_history:
                self.log_history("fix_symbolic")
        return r2

    def unfix_symbolic(self, l: int, i: int, j: int, log_history: bool = True) -> None:
        """Make edge ``(l, i, j)`` numeric again."""
        edges.unfix_symbolic_(self, l, i, j)
        if log_history:
            self.log_history("unfix_symbolic")

    def unfix_symbolic_all(self, log_history: bool = True) -> None:
        """Make all symbolic edges numeric again; edges that are off stay off."""
        edges.unfix_symbolic_all_(self)
        if log_history:
            self.log_history("unfix_symbolic")

    def swap(self, l: int, i1: int, i2: int, log_history: bool = True) -> None:
        """Exchange the nodes `i1` and `i2` of the hidden layer `l`; the function stays the same. See `kan.surgery.swap`."""
        self._reordered({layer_index(self.structure, l): swap.swap_(self, l, i1, i2)})
        if log_history:
            self.log_history("swap")

    def auto_swap_l(self, l: int) -> None:
        """Exchange nodes of the hidden layer `l` so that `connection_cost` becomes less; see `kan.surgery.swap.auto_swap_layer_`."""
        self._reordered({layer_index(self.structure, l): swap.auto_swap_layer_(self, l)})

    def auto_swap(self) -> None:
        """`auto_swap_l` for all hidden layers, from the first on."""
        self._reordered(swap.auto_swap_(self))
        self.log_history("auto_swap")

    def _reordered(self, orders: Mapping[int, Sequence[int]]) -> None:
        """What is known of single nodes, after node ``orders[l][p]`` of layer ``l`` has come to place ``p``."""
        self._forget_scores()
        self._pruned = {(l, orders[l].index(i) if l in orders else i) for l, i in self._pruned}

    def remove_edge(self, l: int, i: int, j: int, log_history: bool = True) -> None:
        """Switch edge ``(l, i, j)`` off."""
        edges.remove_edge_(self, l, i, j)
        if log_history:
            self.log_history("remove_edge")

    def remove_node(self, l: int, i: int, mode: str = "all", log_history: bool = True) -> None:
        """Switch off the edges to (``'down'``), from (``'up'``) or to and from (``'all'``) node `i` of layer `l`."""
        edges.remove_node_(self, l, i, mode)
        if log_history:
            self.log_history("remove_node")

    def expand_depth(self) -> None:
        """Add a layer that passes the outputs on, in place; see `kan.surgery.expand`."""
        expand.expand_depth_(self)
        self._forget_scores()

    def expand_width(
        self, layer_id: int, n_added_nodes: int, sum_bool: bool = True, mult_arity: int | Sequence[int] = 2, perturb: bool = False
    ) -> None:
        """Add nodes that contribute nothing yet, in place; see `kan.surgery.expand`.

        Args:
            layer_id: layer of nodes; 0 adds inputs, which are columns in front of the others.
            n_added_nodes: how many.
            sum_bool: sum nodes, in front of the others; multiplication nodes behind them otherwise.
            mult_arity: of the multiplication nodes, one number or one per node.
            perturb: switch the splines of the new edges on; those that lead away from the new nodes have scales of zero.
        """
        expand.expand_width_(self, layer_id, n_added_nodes, None if sum_bool else mult_arity, connected=perturb)
        self._forget_scores()
        self._pruned = set()

    def perturb(self, mag: float = 1.0, mode: str = "non-intrusive") -> None:
        """Switch splines on beside symbolic edges, in place; see `kan.surgery.perturb`.

        Args:
            mag: the mask that they get.
            mode: ``'non-intrusive'``, ``'minimal'`` or ``'all'`` (``'best'`` is an older name of it).
        """
        perturb.perturb_(self, mag, mode)
        self.log_history("perturb")

    def module(self, start_layer: int, chain: str) -> None:
        """Cut a module such as ``'[0,1]->[0]->[0]->[1,2]'`` off from the rest, in place; see `kan.surgery.modules`."""
        modules.isolate_module_(self, start_layer, chain)
        self.log_history("module")

    # Discovery

    def suggest_symbolic(
        self,
        l: int,
        i: int,
        j: int,
        a_range: tuple[float, float] = (-10, 10),
        b_range: tuple[float, float] = (-10, 10),
        lib: Sequence[str] | Mapping[str, Any] | None = None,
        topk: int = 5,
        verbose: bool = True,
        r2_loss_fun: Callable[[Any], Any] | None = None,
        c_loss_fun: Callable[[Any], Any] | None = None,
        weight_simple: float = 0.8,
    ) -> tuple[str, Any, float, float]:
        """The best function for an edge, ``(name, library entry, r2, complexity)``; see `kan.discovery.edges.suggest`.

        The model is not changed.
        """
        given = {name: fun for name, fun in (("r2_loss_fun", r2_loss_fun), ("c_loss_fun", c_loss_fun)) if fun is not None}
        best = suggest.suggest_symbolic(self, (l, i, j), a_range, b_range, lib, topk, verbose, suggest.Scoring(weight_simple, **given))
        return best.name, best.function, np.float64(best.r2), np.float64(best.complexity)

    def auto_symbolic(
        self,
        a_range: tuple[float, float] = (-10, 10),
        b_range: tuple[float, float] = (-10, 10),
        lib: Sequence[str] | Mapping[str, Any] | None = None,
        verbose: int = 1,
        weight_simple: float = 0.8,
        r2_threshold: float = 0.0,
        *,
        data: Any = None,
        time_limit: float = math.inf,
        loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        """Make every numeric edge symbolic; see `kan.discovery.edges.automatic`.

        Without `data`, the function of each edge is chosen by the fit to its own curve, as in pykan, and a fit has to follow. With `data`,
        functions are selected jointly, by the fit of the whole network. Splines and constants are refitted, so that the result is trained,
        and edges that no function describes stay splines.

        Args:
            a_range, b_range, weight_simple, r2_threshold: options of the choice without `data`.
            lib: names of the functions to choose from; the whole library when not given.
            verbose: 1 prints a line per edge, 0 prints nothing.
            data: the data on which the model was trained, in one of the forms that `fit` takes.
            time_limit: time limit in seconds, with `data`.
            loss_fn: loss of output and label on `data`; when not given, the cross-entropy for a classifier, and the mean squared error
                for others.
        """
        with silent_unless(verbose):
            if data is None:
                automatic.auto_symbolic_(self, a_range, b_range, lib, weight_simple, r2_threshold)
            else:
                automatic.auto_symbolic_jointly_(self, data, lib, time_limit, loss_fn)
            self.log_history("auto_symbolic")

    def symbolic_formula(
        self,
        var: Sequence[Any] | None = None,
        normalizer: Sequence[Any] | None = None,
        output_normalizer: Sequence[Any] | None = None,
        *,
        numeric: Literal["raise", "function"] = "raise",
        simplify: bool = False,
        time_limit: float = 10.0,
        data: Tensor | None = None,
        **older: Any,
    ) -> NetworkFormula:
        """The formulas of the outputs and the input symbols, ``(outputs, inputs)``; see `kan.discovery.formulas.network_formula`.

        Arguments that are not given are taken from the model: `in_vars`, `normalizer`, `output_normalizer`, and the last input, on which
        the formula is compared with the network.
        """
        understood("symbolic_formula", KAN.symbolic_formula, older)
        found = network_formula(
            self, var, normalizer, output_normalizer, numeric=numeric, simplify=simplify, time_limit=time_limit, data=data
        )
        self.symbolic_acts, self.symbolic_acts_premult = found.composition.nodes, found.composition.subnodes
        return found

    def discover(self, X: Any = None, y: Any = None, *, output: int | None = None, **options: Any) -> Discovery:
        """Look for the law of what this model computes, symbolic or not; see `kan.discovery.laws.network_law`. Changes nothing.

        Args:
            X: ``(N, inputs)``, as the model is called with; its last input when not given.
            y: labels; the model's own values when not given.
            output: which one, where there are several.
            options: of `kan.discover`. The names of the variables are `in_vars`, unless ``variables`` are given.
        """
        from kan.discovery.laws.network_law import discover_law

        return discover_law(self, X, y, output, **options)

    # Looking

    def plot(
        self,
        folder: str | os.PathLike[str] | None = None,
        beta: float = 3,
        metric: str = "backward",
        scale: float = 0.5,
        tick: bool = False,
        sample: bool = False,
        in_vars: Iterable[Any] | None = None,
        out_vars: Iterable[Any] | None = None,
        title: str | None = None,
        varscale: float = 1.0,
        mask: bool = False,
        out_vars_offset: float | None = None,
        **older: Any,
    ) -> Figure:
        """Draw the network with the activations of its last input; see `kan.plotting`.

        The figure becomes pyplot's current one. A notebook shows it at the end of the cell, a script with ``plt.show()``.

        Args:
            folder: folder in which the figure is saved as ``network.png``, created if needed. Nothing is written when it is not given.
            beta: an edge with score ``s`` is drawn with the opacity ``tanh(beta s)``.
            metric: the score: ``"backward"`` (attribution), ``"forward_n"`` (spread of the output relative to that of the input) or
                ``"forward_u"`` (spread of the output).
            scale: size of the figure, which is ``10 scale`` inches wide.
            tick: write the smallest and largest input and output at each box.
            sample: mark samples on the curves.
            in_vars: names of the inputs, strings or sympy expressions; those of the model when not given. After `prune_input` the names of
                all columns of the data may be given instead.
            out_vars: names of the outputs; those of the model, or of its classes, when not given.
            title: a line above the diagram.
            varscale: size of the names; they shrink or are turned upright where they would touch each other.
            mask: leave out the nodes that the last call of `prune` dropped.
            out_vars_offset: distance of the output names from the output nodes, 0.15 when not given.
            older: arguments of pykan 0.0, see `kan.older_names`.

        Raises:
            ValueError: for an unknown metric, a wrong number of names, a scale that is not positive, or a model that has not seen data.
        """
        understood("plot", KAN.plot, older)
        from kan.plotting import diagram_of, draw

        hidden = self._pruned if mask else None
        diagram = diagram_of(self, beta=beta, metric=metric, in_vars=in_vars, out_vars=out_vars, title=title, hidden=hidden)
        figure = draw(diagram, scale=scale, tick=tick, sample=sample, varscale=varscale, out_vars_offset=out_vars_offset)
        if folder is not None:
            figure.save_in(folder)
        return figure

    def attribute(self, l: int | None = None, i: int | None = None, out_score: Tensor | None = None, plot: bool = True) -> Tensor | None:
        """Attribution scores on the last input; see `kan.analysis.attribution`.

        Without `l` the scores become the attributes ``node_scores``, ``edge_scores`` and ``subnode_scores``, and those with ``_all``. With
        `l`, these are left alone and the scores ``(n_l, n_0)`` of the inputs for the nodes of layer `l` are returned, with `i` those
        ``(n_0,)`` for its node `i`, and a bar chart of them is drawn if `plot`.

        Args:
            l: layer of nodes.
            i: node of this layer.
            out_score: initial scores of the outputs, or of the nodes of layer `l`, which has ``(n_l,)`` of them. Ones for the outputs when
                not given, and what a node contributes to the outputs for the others.
            plot: see above.
        """
        if l is None:
            if i is not None:
                raise ValueError(f"attribute needs the layer of the node as well: attribute(l, {i}).")
            self._given = {}
            self.attribution = attribution.attribute(self.trace(), None, out_score)
            return None
        l = layer_index(self.structure, l)
        i = None if i is None else node_index(self.structure, l, i)
        trace = self.trace()
        if out_score is None:
            out_score = attribution.attribute(trace).node_scores[l]
        scores = attribution.attribute(trace, l, out_score).node_scores_all[0]
        if i is None:
            return scores
        if plot:
            from kan.plotting.bars import bar_chart

            bar_chart(scores[i].detach().cpu().numpy())
        return scores[i]

    def node_attribute(self) -> None:
        """Set ``node_attribute_scores``: the scores ``attribute(l)`` for ``l = 1 ... L``, ``(n_l, n_0)`` each."""
        self.node_attribute_scores = None
        self._node_attribution = attribution.node_attribution(self.trace())

    def feature_interaction(self, l: int, neuron_th: float = 1e-2, feature_th: float = 1e-2) -> dict[tuple[int, ...], int]:
        """Which inputs occur together in the nodes of layer `l`, and in how many; see `kan.analysis.attribution.feature_interaction`."""
        with torch.no_grad():
            scores = self.attribute(l)
        assert scores is not None
        return attribution.feature_interaction(scores, neuron_th, feature_th)

    def tree(
        self,
        x: Any = None,
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

        x = given_last(self) if x is None else self.as_input(x)
        return plot_tree(self, x, in_var, style, sym_th, sep_th, skip_sep_test, verbose, error)

    def _forget_scores(self) -> None:
        self.attribution, self._node_attribution, self._given = None, None, {}

    def _scores(self) -> Attribution:
        return self._attribute_anew() if self.attribution is None else self.attribution

    def _attribute_anew(self) -> Attribution:
        """The scores as they are without those that have been set, which stay."""
        given, self._given = self._given, {}
        try:
            self.attribution = attribution.attribute(self.trace())
        finally:
            self._given = given
        return self.attribution

    @Lasting
    def node_scores(self) -> list[Tensor]:
        """Attribution of the nodes per layer of nodes, of the last call of `attribute`."""
        return self._scores().node_scores

    @Lasting
    def edge_scores(self) -> list[Tensor]:
        """Attribution of the edges per layer, ``(m_{l+1}, n_l)``, of the last call of `attribute`."""
        return self._scores().edge_scores

    @Lasting
    def subnode_scores(self) -> list[Tensor]:
        """Attribution of the sub-nodes per layer, of the last call of `attribute`."""
        return self._scores().subnode_scores

    @Lasting
    def node_scores_all(self) -> list[Tensor]:
        """As `node_scores` for each of the ``K`` outputs, ``(K, n_l)`` per layer of nodes."""
        return self._scores().node_scores_all

    @Lasting
    def edge_scores_all(self) -> list[Tensor]:
        """As `edge_scores` for each of the ``K`` outputs, ``(K, m_{l+1}, n_l)`` per layer."""
        return self._scores().edge_scores_all

    @Lasting
    def subnode_scores_all(self) -> list[Tensor]:
        """As `subnode_scores` for each of the ``K`` outputs, ``(K, m_l)`` per layer of nodes but the first."""
        return self._scores().subnode_scores_all

    @Lasting
    def node_attribute_scores(self) -> list[Tensor]:
        """Scores of the inputs for the nodes of layers ``1 ... L``, ``(n_l, n_0)`` each, of the last call of `node_attribute`."""
        if self._node_attribution is None:
            self.node_attribute()
        assert self._node_attribution is not None
        return self._node_attribution

    @property
    def connection_cost(self) -> Tensor:
        """Length of the connections, weighted by their scores on the last input, 0-dim, differentiable; see `kan.analysis.connection`."""
        return connection_cost(self.trace())

    @property
    def feature_score(self) -> Tensor:
        """Attribution of the inputs on the last input, ``(n_0,)``, without gradient: ``node_scores[0]``, computed anew unless set."""
        if "node_scores" not in self._given:
            self._attribute_anew()
        return self.node_scores[0].detach()

    @feature_score.setter
    def feature_score(self, scores: Any) -> None:
        raise AttributeError("feature_score is read from the scores of the nodes: set node_scores, whose first entry it is.")

    @derived("it is made of width")
    def n_sum(self) -> list[int]:
        """Sum nodes per hidden layer."""
        return [n_sum for n_sum, _ in self.width[1:-1]]

    @derived("it is made of width")
    def n_mult(self) -> list[int]:
        """Multiplication nodes per hidden layer."""
        return [n_mult for _, n_mult in self.width[1:-1]]

    @derived("KAN(mult_arity=...) makes a network of other arities")
    def mult_homo(self) -> bool:
        """Whether `mult_arity` is one number for all multiplication nodes."""
        return isinstance(self.mult_arity, Integral)

    @derived("prune_edge() and remove_edge(l, i, j) take edges away")
    def n_edge(self) -> int:
        """Number of numeric edges that are on."""
        return sum(int((layer.mask > 0).sum()) for layer in self.numeric_layers)

    def get_act(self, x: Any = None) -> None:
        """Take `x`, or the training inputs of a dataset, as the input that activations are read on.

        Raises:
            ValueError: without `x` on a model that has seen no data, for a dataset without ``train_input``, or a wrong shape.
        """
        if isinstance(x, Mapping):
            if "train_input" not in x:
                raise ValueError(f"the dataset must have the key 'train_input', as create_dataset gives it; it has {sorted(map(str, x))}.")
            x = x["train_input"]
        if x is not None:
            self.take_input(x)
        self.remembered_input()
        self._records = None

    def get_fun(self, l: int, i: int, j: int, plot: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """The curve of edge ``(l, i, j)`` on the last input: inputs and outputs ``(B,)``, ordered by input; also drawn if `plot`."""
        x, y = self._curve(l, i, j)
        order = np.argsort(x)
        x, y = x[order], y[order]
        if plot:
            from kan.plotting.edge import edge_curve

            edge_curve(x, y)
        return x, y

    def get_range(self, l: int, i: int, j: int, verbose: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Least and largest input, least and largest output of edge ``(l, i, j)`` on the last input, 0-dim; also printed if `verbose`."""
        x, y = self._curve(l, i, j)
        x_min, x_max, y_min, y_max = (np.asarray(end) for end in (x.min(), x.max(), y.min(), y.max()))
        if verbose:
            say(f"x range: [{x_min:.2f} , {x_max:.2f} ]")
            say(f"y range: [{y_min:.2f} , {y_max:.2f} ]")
        return x_min, x_max, y_min, y_max

    def _curve(self, l: int, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        l, i, j = edges.edge_index(self, l, i, j)
        layer = self._seen().layers[l]
        x, y = self.curves_in_user_units(l, layer.inputs[:, [i]], layer.edge(i, j)[:, None, None], [i], [j])
        return x[:, 0].cpu().numpy(), y[:, 0, 0].cpu().numpy()

    def _record(self) -> Trace:
        """What activations are read from."""
        self.warn_of_changes()
        return self.trace()

    def _seen(self) -> Trace:
        with torch.no_grad():
            return self._record()

    @property
    def cache_data(self) -> Tensor | None:
        """The last input; one that is set takes its place, and None forgets it."""
        return self.last_input

    @cache_data.setter
    def cache_data(self, x: Tensor | None) -> None:
        if x is not None:
            x = self.with_all_columns(x)
            self.check_input(x)
        self.remember_input(x)

    @Recorded
    def acts(self) -> list[Tensor] | None:
        """Node values on the last input, ``(B, n_l)`` per layer of nodes."""
        return None if self.last_input is None else [values.contiguous() for values in self._seen().acts]

    @Recorded
    def acts_premult(self) -> list[Tensor]:
        """Sub-node values on the last input, ``(B, m_{l+1})`` per layer."""
        return [layer.premult.contiguous() for layer in self._seen().layers]

    @Recorded
    def spline_preacts(self) -> list[Tensor]:
        """Inputs of the edges on the last input, ``(B, m_{l+1}, n_l)`` per layer."""
        return [layer.inputs[:, None, :].expand(-1, layer.sums.shape[1], -1) for layer in self._seen().layers]

    @Recorded
    def spline_postacts(self) -> list[Tensor]:
        """Outputs of the edges on the last input, ``(B, m_{l+1}, n_l)`` per layer."""
        return [layer.postacts() for layer in self._seen().layers]

    @Recorded
    def spline_postsplines(self) -> list[Tensor]:
        """Bare splines of the edges on the last input, before scale and mask, ``(B, m_{l+1}, n_l)`` per layer."""
        with torch.no_grad():
            return [layer(x)[3] for layer, x in zip(self.numeric_layers, self._seen().acts, strict=False)]

    @Recorded
    def subnode_actscale(self) -> list[Tensor]:
        """Standard deviations of the sub-node sums on the last input."""
        return [scale.detach() for scale in self._record().subnode_actscale]

    @Recorded
    def edge_actscale(self) -> list[Tensor]:
        """Standard deviations of the edges on the last input, ``(m_{l+1}, n_l)`` per layer, differentiable."""
        return self._record().edge_actscale

    @Recorded
    def acts_scale(self) -> list[Tensor]:
        """Standard deviations of the edges over those of their inputs plus 0.1, differentiable."""
        return self._record().acts_scale

    @Recorded
    def acts_scale_spline(self) -> list[Tensor]:
        """As `acts_scale`, of the numeric part alone."""
        return self._record().acts_scale_spline

    def _child(self, new: KAN, method: str | None) -> KAN:
        """A model made from this one, saved as the next version unless `method` is None."""
        for sentence in left_behind(self, new):
            warnings.warn(f"the new model is not all that this one is: {sentence}", stacklevel=3)
        if method is not None:
            new.log_history(method)
        return new

    def __getstate__(self) -> dict[str, Any]:
        # Scores carry their graph, which can be neither copied nor pickled; they are computed anew when asked for.
        given = {name: [torch.as_tensor(score).detach() for score in scores] for name, scores in self._given.items()}
        return {**super().__getstate__(), "attribution": None, "_node_attribution": None, "_records": None, "_given": given}

    def copy(self) -> KAN:
        """A copy that shares nothing with this model but its folder of versions."""
        return copy.deepcopy(self)


MultKAN = KAN
