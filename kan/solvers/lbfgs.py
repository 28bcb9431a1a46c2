r"""Limited-memory BFGS with a line search for the strong Wolfe conditions, down to the last digits.

The direction is ``-H g`` with the inverse Hessian approximation in compact form,

    ``H = gamma I + [S  gamma Y] [[R^-T (D + gamma Y'Y) R^-1, -R^-T], [-R^-1, 0]] [S'; gamma Y']``,

where the columns of ``S`` and ``Y`` are the last ``m`` steps and changes of the gradient, ``R_ij = s_i'y_j`` for ``i <= j``,
``D = diag(s_i'y_i)``, and ``gamma = s'y/y'y`` is that of the newest pair. The usual recursion takes ``4 m`` inner products one after
another; the compact form takes two products with tall matrices, which is faster wherever the time goes into calls and not into arithmetic.

``torch.optim.LBFGS`` does not reach the last digits. It drops every curvature pair with ``s'y <= 1e-10``, so that it stops learning the
curvature once the loss is near 1e-10, and its line search accepts NaN. Here the curvature of a pair is compared with the lengths of its two
vectors, and a value that is not finite is never accepted. Close to the optimum, where differences of the loss are lost in round-off, a
point is accepted by its slope (the approximate Wolfe conditions).

References
    R. H. Byrd, J. Nocedal, R. B. Schnabel, "Representations of quasi-Newton matrices and their use in limited memory methods", 1994,
    doi:10.1007/BF01582063, theorem 2.2. J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd edition, 2006, algorithms 3.5 and 3.6.
    W. W. Hager, H. Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search", 2005,
    doi:10.1137/030601880.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from kan.devices import at_hand, read

__all__ = ["LBFGS", "Iterations", "Memory", "Program"]

ARMIJO = 1e-4
"""Share of the decrease along the initial slope that a step must reach (the first Wolfe condition); the value of Nocedal and Wright."""
CURVATURE = 0.9
"""Largest slope at the end of a step, as a share of the initial one (the second Wolfe condition); the value of Nocedal and Wright."""
MAX_RELATIVE_RISE = 1e-6
"""Relative rise of the loss that a step may have by round-off, if its slope satisfies the approximate Wolfe conditions."""
MAX_LINE_SEARCH = 25
"""Largest number of evaluations in a line search: a round choice."""
MIN_COSINE = 1e-12
"""Cosine of the angle between ``s`` and ``y`` below which the curvature of a pair is round-off and the pair is dropped."""
PLAIN_ARRAYS = ("r_inverse", "yy", "d", "order")
"""The arrays of numpy in which the memory of the pairs keeps its small matrices."""


class Point(NamedTuple):
    """A point on the line of a search: its step length, its loss, the slope along the line, and the gradient."""

    t: float
    loss: float
    slope: float
    grad: Tensor

    @property
    def finite(self) -> bool:
        """Whether loss and slope are finite numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.slope)


class Iterations(NamedTuple):
    """What the iterations of a step have come to.

    Attributes:
        first: the loss at the first evaluation.
        loss, grad: loss and gradient at the end.
        evaluations, iterations: their numbers.
        stalled: a loss from which there is no way down; None where none was met.
    """

    first: float
    loss: float
    grad: Tensor
    evaluations: int
    iterations: int
    stalled: float | None


class Program(Protocol):
    """The iterations of a step in other code, for an objective that it knows."""

    def __call__(
        self, x: Tensor, sizes: Sequence[int], memory: Memory, group: Mapping[str, Any], known: tuple[float, Tensor] | None,
        stalled: float | None,
    ) -> Iterations:  # fmt: skip
        """Move `x`, the vector of all parameters, in place, and update `memory`.

        Args:
            x: the vector.
            sizes: the lengths of the parameters in it.
            memory: the curvature pairs.
            group: the settings of `LBFGS`.
            known: loss and gradient at `x`, if they are known.
            stalled: a loss from which there is no way down, if one was met.
        """


class LBFGS(torch.optim.Optimizer):
    """L-BFGS over all parameters as one vector; a drop-in for ``torch.optim.LBFGS``.

    Args:
        params: the parameters (one group).
        lr: the step length that is tried first.
        max_iter: largest number of iterations per call of `step`.
        max_eval: number of evaluations per call of `step` after which no iteration begins; ``max_iter * 5 // 4`` if not given.
        tolerance_grad: a call ends when no component of the gradient is larger.
        tolerance_change: a call ends when the loss or all parameters change by less.
        tolerance_ys: a curvature pair is kept only if ``s'y`` is larger.
        history_size: largest number of pairs that are kept, ``m``.
        line_search_fn: ``'strong_wolfe'``, or None for steps of the fixed length `lr`.
        deterministic: whether the closure depends on the parameters alone, and not on mini-batches, so that a step need not evaluate it
            where the last one ended. `reset` is to be called when the objective changes.

    Raises:
        ValueError: for another line search, a step length that is not positive, or several groups of parameters.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        tolerance_ys: float = 1e-32,
        history_size: int = 100,
        line_search_fn: str | None = None,
        deterministic: bool = False,
    ) -> None:
        if line_search_fn not in (None, "strong_wolfe"):
            raise ValueError(f"line_search_fn must be 'strong_wolfe' or None; got {line_search_fn!r}.")
        if not lr > 0:
            raise ValueError(f"lr must be positive; got {lr}.")
        defaults = {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "tolerance_ys": tolerance_ys,
            "history_size": history_size, "line_search_fn": line_search_fn,
        }  # fmt: skip
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS works on a single group of parameters; pass them in one list.")
        self._params: list[Tensor] = self.param_groups[0]["params"]
        self.deterministic = deterministic
        # All parameters as one vector, and the pieces of it that are copied to them.
        self._vector = torch.cat([p.detach().reshape(-1) for p in self._params])
        pieces = self._vector.split([p.numel() for p in self._params])
        self._pieces = [piece.view_as(p) for p, piece in zip(self._params, pieces, strict=True)]
        self.reset()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add the parameters, but not by torch's wrapper of this method, which imports torch's compiler: a second and 80 MB."""
        wrapped = torch.optim.Optimizer.add_param_group
        getattr(wrapped, "__wrapped__", wrapped)(self, param_group)

    def reset(self) -> None:
        """Forget the curvature, as is needed when the objective has changed, for example by a grid update."""
        self.state.clear()
        self.state[self._params[0]] = {"func_evals": 0, "n_iter": 0, "memory": None, "stalled": None, "known": None}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Take up to ``max_iter`` iterations.

        Args:
            closure: clears the gradients, computes the loss and its gradients, and returns the loss.

        Returns:
            The loss at the first evaluation, as `closure` returned it.
        """
        group, state = self.param_groups[0], self.state[self._params[0]]
        x = torch.cat([p.reshape(-1) for p in self._params])
        evaluate = torch.enable_grad()(closure)
        evals = 0
        known: tuple[Tensor, Any, Point] | None = state["known"]
        if known is not None and torch.equal(known[0], x):
            _, first, here = known
        else:
            first = evaluate()
            here = Point(0.0, _number(first), 0.0, self._gradient())
            evals, state["func_evals"] = 1, state["func_evals"] + 1
        if here.loss == state["stalled"] or not math.isfinite(here.loss) or float(here.grad.abs().max()) <= group["tolerance_grad"]:
            return first

        def along(direction: Tensor, start: Tensor) -> Callable[[float], Point]:
            def at(t: float) -> Point:
                nonlocal evals
                self._set(torch.add(start, direction, alpha=t, out=self._vector))
                loss = evaluate()
                evals += 1
                state["func_evals"] += 1
                grad = self._gradient()
                slope = grad.dot(direction)
                found = read(loss, slope) if isinstance(loss, Tensor) else [float(loss), float(slope)]
                return Point(t, found[0], found[1], grad)

            return at

        if state["memory"] is None:
            state["memory"] = Memory(x, group["history_size"])
        memory: Memory = state["memory"]
        for _ in range(group["max_iter"]):
            fresh = memory.count == 0
            direction = memory.direction(here.grad)
            slope = float(here.grad.dot(direction))
            if not fresh and not slope < 0:
                memory.clear()
                fresh, direction = True, -here.grad
                slope = float(here.grad.dot(direction))
            if not slope < 0:
                break
            state["n_iter"] += 1
            t = min(1.0, 1.0 / float(here.grad.abs().sum())) * group["lr"] if fresh else group["lr"]
            at = along(direction, x)
            start = here._replace(t=0.0, slope=slope)
            new = at(t) if group["line_search_fn"] is None else _strong_wolfe(at, start, t)

            # Where the loss is constant to the last digit, a step may still reduce the gradient. One that does not only moves round-off.
            idle = abs(new.loss - here.loss) < group["tolerance_change"] and float(new.grad.norm()) >= float(here.grad.norm())
            if not new.finite or new.t == 0.0 or idle:  # there is no better point on this line
                self._set(x)
                if fresh:  # nor along the gradient: this is as far as the number format goes
                    state["stalled"] = here.loss
                    break
                memory.clear()
                continue
            step = direction * new.t
            memory.append(step, new.grad - here.grad, group["tolerance_ys"], new.grad)
            x = x + step
            change = abs(new.loss - here.loss)
            here = new
            if (
                evals >= group["max_eval"]
                or change < group["tolerance_change"]
                or (group["tolerance_grad"] > 0 and float(here.grad.abs().max()) <= group["tolerance_grad"])
                or (group["tolerance_change"] > 0 and float(step.abs().max()) <= group["tolerance_change"])
            ):
                break
        self._set(x)
        if self.deterministic:
            state["known"] = x, x.new_full((), here.loss), here
        return first

    @torch.no_grad()
    def iterate(self, program: Program) -> Tensor:
        """As `step`, by a program that knows the objective. The parameters' ``.grad`` are those at the end.

        Returns:
            The loss at the first evaluation.
        """
        state = self.state[self._params[0]]
        x = torch.cat([p.reshape(-1) for p in self._params])
        known: tuple[Tensor, Any, Point] | None = state["known"]
        here = None if known is None or not torch.equal(known[0], x) else (known[2].loss, known[2].grad)
        if state["memory"] is None:
            state["memory"] = Memory(x, self.param_groups[0]["history_size"])
        sizes = [p.numel() for p in self._params]
        done = program(x, sizes, state["memory"], self.param_groups[0], here, state["stalled"])
        state["func_evals"] += done.evaluations
        state["n_iter"] += done.iterations
        state["stalled"] = done.stalled
        self._set(x)
        for p, grad in zip(self._params, done.grad.split(sizes), strict=True):
            p.grad = grad.view_as(p)
        if self.deterministic:
            state["known"] = x, x.new_tensor(done.loss), Point(0.0, done.loss, 0.0, done.grad)
        return x.new_tensor(done.first)

    def _gradient(self) -> Tensor:
        return torch.cat([torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1) for p in self._params])

    def _set(self, x: Tensor) -> None:
        if x is not self._vector:
            self._vector.copy_(x)
        torch._foreach_copy_(self._params, self._pieces)

    @property
    def known_loss(self) -> float | None:
        """The loss at the parameters that the last step ended with, if the closure is deterministic."""
        known = self.state[self._params[0]]["known"]
        return None if known is None else known[2].loss

    def plain_state(self) -> dict[str, Any]:
        """The curvature pairs as tensors and plain data, not copied; empty before the first step.

        They can be read from a file without executing anything. The last evaluation is not among them, for it belongs to the data of a fit.
        """
        memory: Memory | None = self.state[self._params[0]]["memory"]
        if memory is None:
            return {}
        arrays = {name: torch.from_numpy(getattr(memory, name)) for name in PLAIN_ARRAYS}
        return {"pairs": memory.pairs, "spare": memory.spare, "size": memory.size, **arrays}

    def load_plain_state(self, plain: Mapping[str, Any]) -> None:
        """Go on from a state of `plain_state`, whose tensors are used and changed."""
        self.reset()
        if not plain:
            return
        memory = Memory(plain["pairs"][0, 0], plain["size"])
        memory.pairs = plain["pairs"].contiguous()
        memory.rows = memory.pairs.view(2 * (memory.size + 1), -1)
        memory.spare = plain["spare"]
        for name in PLAIN_ARRAYS:
            setattr(memory, name, plain[name].numpy())
        self.state[self._params[0]]["memory"] = memory


def _number(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _arrays(vectors: Sequence[Tensor]) -> list[np.ndarray]:
    """Vectors as arrays in float64, all in one transfer if they are on a device."""
    if at_hand(vectors[0]):
        return [vector.double().numpy() for vector in vectors]
    return np.split(torch.cat(list(vectors)).double().cpu().numpy(), np.cumsum([len(vector) for vector in vectors])[:-1])


class Memory:
    """The last curvature pairs, with the small matrices of the compact form.

    The pairs are kept in two ring buffers; ``R^-1``, ``Y'Y`` and ``D`` run from the oldest pair to the newest. A new pair adds a column to
    the triangle ``R``, and the oldest pair leaves with the first row and column, so that ``R^-1`` is updated by one product with a small
    matrix.
    """

    def __init__(self, like: Tensor, size: int) -> None:
        # S and Y, one pair per row; one row is spare, for a pair whose curvature is not known yet.
        self.pairs = like.new_zeros(2, size + 1, like.numel())
        self.rows = self.pairs.view(2 * (size + 1), -1)
        self.spare = 0
        self.r_inverse, self.yy, self.d = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
        self.size, self.order = size, np.zeros(0, dtype=int)
        self._ahead: tuple[Tensor | None, np.ndarray] = None, np.zeros(0)  # a gradient, and its products with the rows

    @property
    def count(self) -> int:
        """The number of pairs."""
        return len(self.order)

    def clear(self) -> None:
        """Forget all pairs."""
        self.order = self.order[:0]

    def append(self, s: Tensor, y: Tensor, least: float, grad: Tensor) -> None:
        """Add the pair ``(s, y)`` if its curvature ``s'y`` is above `least` and round-off; where the memory is full, the oldest leaves.

        Args:
            s, y: the pair.
            least: see above.
            grad: the gradient for which the next direction is wanted. Its products are read together with those of the pair.
        """
        slot = self.spare
        self.pairs[0, slot], self.pairs[1, slot] = s, y
        of_y, of_grad, (ss,) = _arrays([self.rows @ y, self.rows @ grad, s.dot(s)[None]])
        self._ahead = grad, of_grad
        s_y, y_y = of_y.reshape(2, -1)
        sy, yy = s_y[slot], y_y[slot]
        if not (sy > least and sy > MIN_COSINE * math.sqrt(ss * yy)) or not math.isfinite(yy):
            self.pairs[:, slot] = 0.0  # its weight in a direction is zero, but zero times infinity is NaN
            return
        self.spare = (slot + 1) % (self.size + 1)
        if self.count == self.size:
            self.order = self.order[1:]
            for matrix in (self.r_inverse, self.yy):
                matrix[:-1, :-1] = matrix[1:, 1:].copy()
            self.d[:-1] = self.d[1:].copy()
        n = self.count
        self.r_inverse[:n, n] = self.r_inverse[:n, :n] @ s_y[self.order] / -sy
        self.r_inverse[n, :n], self.r_inverse[n, n] = 0.0, 1 / sy
        self.yy[:n, n] = self.yy[n, :n] = y_y[self.order]
        self.yy[n, n], self.d[n] = yy, sy
        self.order = np.append(self.order, slot)

    def direction(self, grad: Tensor) -> Tensor:
        """The direction of descent ``-H g``."""
        n = self.count
        if n == 0:
            return -grad
        known, of_grad = self._ahead
        if known is not grad:
            (of_grad,) = _arrays([self.rows @ grad])
        p, q = of_grad.reshape(2, -1)[:, self.order]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a direction that is not finite is not taken
            gamma = self.d[n - 1] / self.yy[n - 1, n - 1]
            v = self.r_inverse[:n, :n] @ p
            w = (self.d[:n] * v + gamma * (self.yy[:n, :n] @ v - q)) @ self.r_inverse[:n, :n]
        weights = np.zeros((2, self.size + 1))
        weights[0, self.order], weights[1, self.order] = -w, gamma * v
        combination = torch.from_numpy(weights.reshape(-1)).to(grad)
        return torch.addmv(grad, self.rows.T, combination, beta=-gamma)


def _strong_wolfe(at: Callable[[float], Point], start: Point, t: float) -> Point:
    """A point that satisfies the strong Wolfe conditions, or else the best point evaluated, which may be `start` itself.

    Args:
        at: evaluates the point at a step length.
        start: the point at step length zero.
        t: the step length that is tried first.
    """

    def low_enough(p: Point) -> bool:
        return p.loss <= start.loss + ARMIJO * p.t * start.slope

    def accepted(p: Point) -> bool:
        if abs(p.slope) > -CURVATURE * start.slope or not p.finite:
            return False
        flat = p.loss <= start.loss + MAX_RELATIVE_RISE * abs(start.loss) and p.slope <= (2 * ARMIJO - 1) * start.slope
        return low_enough(p) or flat

    # 1. Widen the interval [low, high] until it holds an acceptable point. `low` has the lower loss, and its slope points to `high`.
    previous, budget = start, MAX_LINE_SEARCH
    while True:
        p = at(t)
        budget -= 1
        if accepted(p):
            return p
        if not p.finite or not low_enough(p) or (previous.t > 0 and p.loss >= previous.loss):
            low, high = previous, p
            break
        if p.slope >= 0:
            low, high = p, previous
            break
        if budget == 0:
            return p
        previous, t = p, min(max(_cubic(previous, p), p.t + 0.01 * (p.t - previous.t)), 10 * p.t)

    # 2. Shrink it.
    while budget > 0 and abs(high.t - low.t) * abs(start.slope) > 1e-12 * abs(start.loss):
        width = abs(high.t - low.t)
        left = min(low.t, high.t)
        t = _cubic(low, high) if high.finite else (low.t + high.t) / 2
        t = min(max(t, left + 0.1 * width), left + 0.9 * width)
        p = at(t)
        budget -= 1
        if accepted(p):
            return p
        if not p.finite or not low_enough(p) or p.loss >= low.loss:
            high = p
        else:
            if p.slope * (high.t - low.t) >= 0:
                high = low
            low = p
    return low


def _cubic(a: Point, b: Point) -> float:
    """The minimiser of the cubic through the losses and slopes of two points; their midpoint where the cubic has no minimum."""
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return (a.t + b.t) / 2
    d2 = math.copysign(math.sqrt(square), b.t - a.t)
    denominator = b.slope - a.slope + 2 * d2
    if denominator == 0:
        return (a.t + b.t) / 2
    return b.t - (b.t - a.t) * (b.slope + d2 - d1) / denominator
