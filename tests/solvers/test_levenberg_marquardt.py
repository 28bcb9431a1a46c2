"""Levenberg-Marquardt on functions whose minimum is known: every way of finding the step, the damping, the end."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from kan.solvers import levenberg_marquardt as lm
from kan.solvers.levenberg_marquardt import Chunk, Damping, Linearisation, improve_, improve_each, minimise_, predicted_decrease

pytestmark = pytest.mark.usefixtures("float64")


class Residuals:
    """A problem made of a function of residuals."""

    def __init__(self, function: Callable[[Tensor], Tensor], start: Tensor, parts: int = 1) -> None:
        self.function, self.q, self.parts = function, start.clone(), parts
        self.evaluations = 0

    def value(self) -> float:
        self.evaluations += 1
        return float(self.function(self.q).square().sum())

    def linearise(self) -> Linearisation:
        return Linearisation(self.chunks, len(self.q), len(self.function(self.q)))

    def chunks(self) -> Iterator[Chunk]:
        jacobian, residual = torch.autograd.functional.jacobian(self.function, self.q), self.function(self.q)
        yield from zip((j.t() for j in jacobian.tensor_split(self.parts)), residual.tensor_split(self.parts), strict=True)

    def move_(self, step: Tensor) -> None:
        self.q = self.q + step

    def save(self) -> list[Tensor]:
        return [self.q]

    def restore_(self, saved: list[Tensor]) -> None:
        self.q = saved[0]


def rosenbrock(q: Tensor) -> Tensor:
    return torch.stack([10 * (q[1] - q[0] ** 2), 1 - q[0]])


@pytest.mark.parametrize("parts", [1, 2])
def test_rosenbrock_to_round_off(parts: int) -> None:
    problem = Residuals(rosenbrock, torch.tensor([-1.2, 1.0]), parts)
    assert minimise_(problem, 100) < 1e-25
    torch.testing.assert_close(problem.q, torch.ones(2))


def random_jacobian(rows: int, columns: int, condition: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(rows + 100 * columns)
    u, _ = torch.linalg.qr(torch.randn(rows, min(rows, columns), generator=generator))
    v, _ = torch.linalg.qr(torch.randn(columns, min(rows, columns), generator=generator))
    return u * torch.logspace(0, -math.log10(condition), min(rows, columns)) @ v.t()


@pytest.mark.parametrize(("rows", "columns"), [(20, 5), (5, 20), (7, 7)])
@pytest.mark.parametrize("condition", [1e1, 1e9])
@pytest.mark.parametrize("mu", [1e-1, 1e-8, 1e-18])
@pytest.mark.parametrize("anchored", [False, True])
def test_every_way_finds_the_damped_step(rows: int, columns: int, condition: float, mu: float, anchored: bool) -> None:
    jacobian, residual = random_jacobian(rows, columns, condition), torch.linspace(-1, 1, rows)
    anchor = (1e-6, torch.linspace(0, 1, columns)) if anchored else None
    parts = [(j.t(), r) for j, r in zip(jacobian.split(3), residual.split(3), strict=True)]
    model = Linearisation(lambda: iter(parts), columns, rows, anchor=anchor)
    stack, target = [jacobian, math.sqrt(mu / 2) * torch.eye(columns)], [residual, torch.zeros(columns)]
    if anchor is not None:
        stack.append(1e-3 * torch.eye(columns))
        target.append(1e-3 * anchor[1])
    expected = torch.linalg.lstsq(torch.cat(stack), -torch.cat(target)[:, None], driver="gelsd").solution[:, 0]
    step = model.step(mu)
    # Where the damping says nothing, steps may differ along directions that the residuals hardly see; they must be as good.
    worth = [float((torch.cat(stack) @ s + torch.cat(target)).norm()) for s in (step, expected)]
    assert worth[0] == pytest.approx(worth[1], rel=1e-6, abs=1e-7)
    if mu >= 1e-8:
        torch.testing.assert_close(step, expected, rtol=1e-4, atol=1e-6)


def test_ill_conditioned_steps_are_found_without_squaring(monkeypatch: pytest.MonkeyPatch) -> None:
    jacobian = random_jacobian(30, 6, 1e7)
    solution = torch.linspace(1, 2, 6)
    residual = -jacobian @ solution
    model = Linearisation(lambda: iter([(jacobian.t(), residual)]), 6, 30)
    assert float((model.step(1e-30) - solution).norm()) < 1e-7
    monkeypatch.setattr(lm, "MAX_CONDITION", math.inf)
    assert not float((model.step(1e-30) - solution).norm()) < 1e-7


def test_the_predicted_decrease_is_that_of_linear_residuals() -> None:
    jacobian, offset = random_jacobian(12, 4), torch.linspace(-1, 2, 12)
    problem = Residuals(lambda q: jacobian @ q + offset, torch.zeros(4))
    model, before = problem.linearise(), problem.value()
    step = model.step(0.3)
    problem.move_(step)
    assert predicted_decrease(model, step, 0.3) == pytest.approx(before - problem.value())


def test_the_gradient_given_counts_and_the_residuals_do_not() -> None:
    rows = random_jacobian(8, 3)
    gradient, penalty = torch.tensor([1.0, -2.0, 0.5]), torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    model = Linearisation(lambda: iter([(rows.t(), torch.full((8,), math.nan))]), 3, 8, gradient, penalty)
    expected = torch.linalg.solve(2 * rows.t() @ rows + penalty + 0.1 * torch.eye(3), -gradient)
    torch.testing.assert_close(model.step(0.1), expected)


def test_nothing_better_leaves_everything_as_it_is() -> None:
    problem = Residuals(lambda q: q + 1e3, torch.zeros(3))
    damping = Damping(mu=1.0)
    minimise_(problem, 100)
    q = problem.q.clone()
    assert improve_(problem, damping) is None
    assert torch.equal(problem.q, q) and damping == Damping(mu=1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_steps_to_nowhere_are_undone(bad: float) -> None:
    problem = Residuals(lambda q: torch.where(q > 0, 10 * q + 3, bad), torch.tensor([0.4]))
    value = minimise_(problem, 100)
    assert 9 <= value < 10 and float(problem.q) > 0


def test_bad_starts_are_refused() -> None:
    assert improve_(Residuals(lambda q: q / 0, torch.ones(2)), Damping()) is None


def test_an_interrupt_in_a_trial_leaves_the_parameters() -> None:
    def function(q: Tensor) -> Tensor:
        if calls and not torch.equal(q, start):
            raise KeyboardInterrupt
        return rosenbrock(q)

    calls, start = [True], torch.tensor([-1.2, 1.0])
    problem = Residuals(function, start)
    problem.chunks = Residuals(rosenbrock, start).chunks  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        improve_(problem, Damping())
    assert torch.equal(problem.q, start)


def test_problems_together_take_the_steps_that_they_take_alone() -> None:
    starts = [torch.tensor([-1.2, 1.0]), torch.tensor([0.5, -3.0]), torch.tensor([1.0, 1.0]), torch.tensor([math.nan, 0.0])]
    alone, together = ([Residuals(rosenbrock, start) for start in starts] for _ in range(2))
    dampings, batched = ([Damping() for _ in starts] for _ in range(2))
    for _ in range(5):
        expected = [improve_(problem, damping) for problem, damping in zip(alone, dampings, strict=True)]
        values = [problem.value() for problem in together]

        def evaluate(which: list[int], steps: list[Tensor]) -> list[float]:
            return [float(rosenbrock(together[i].q + step).square().sum()) for i, step in zip(which, steps, strict=True)]

        found = improve_each([problem.linearise() for problem in together], values, batched, evaluate)
        for problem, step in zip(together, found, strict=True):
            if step is not None:
                problem.move_(step[0])
        assert [None if step is None else step[1] for step in found] == expected
        assert batched == dampings
    assert expected[0] is not None and expected[2] is None and expected[3] is None
    for one, other in zip(alone[:3], together[:3], strict=True):
        assert torch.equal(one.q, other.q)


def test_minimisation_ends_where_it_is_told_to() -> None:
    def steps_of(**options: object) -> tuple[int, float]:
        problem = Residuals(rosenbrock, torch.tensor([-1.2, 1.0]))
        counts = [0]
        value = minimise_(problem, **{"steps": 100, "stop": lambda: counts.append(0) or False, **options})
        assert value == float(rosenbrock(problem.q).square().sum())
        return len(counts) - 1, value

    whole, _ = steps_of()
    assert steps_of(steps=3)[0] == 3
    fewer, value = steps_of(tolerance=0.5)
    assert fewer < whole and value > 1e-3
    asked: list[int] = []
    _, value = steps_of(stop=lambda: asked.append(0) or len(asked) == 4)
    assert len(asked) == 4 and value == steps_of(steps=3)[1]
    asked.clear()
    _, value = steps_of(accept=lambda: asked.append(0) or len(asked) < 3)  # the third step is undone
    assert len(asked) == 3 and value == steps_of(steps=2)[1]


def test_the_damping_falls_by_no_more_than_it_may() -> None:
    falls = []
    for damping in (Damping(mu=1.0), Damping(mu=1.0, fall=10.0)):
        damping.after(1.0)
        falls.append(damping.mu)
    assert falls == [1 / 3, 0.1]
    damping = Damping(mu=1.0)
    for expected in (2.0, 8.0, 64.0):
        damping.after(-1.0)
        assert damping.mu == expected
    damping.after(0.5)
    assert damping == Damping(mu=64.0)
