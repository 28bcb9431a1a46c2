"""Separability and symmetry: functions whose structure is known, pykan's numbers, and the slow ways."""

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor

import kan.hypothesis
from kan import KAN
from kan.analysis import hypothesis
from kan.analysis.derivatives import batch_jacobian
from kan.analysis.hypothesis import batch_grad_normgrad, detect_separability, get_dependence
from kan.analysis.misses import Misses, worst
from kan.analysis.symmetry_tree import get_molecule, symmetry_tree
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

Function = Callable[[Tensor], Tensor]


def added(x: Tensor) -> Tensor:
    return x[:, [0]] ** 2 * x[:, [1]] + torch.exp(x[:, [2]] + x[:, [3]] ** 2) + torch.sin(x[:, [4]] * x[:, [5]] * 3)


def multiplied(x: Tensor) -> Tensor:
    return (x[:, [0]] ** 2 + x[:, [1]] ** 2) * (x[:, [2]] + x[:, [3]] ** 2 + 2) * (x[:, [4]] * x[:, [5]] + 2)


def generally(x: Tensor) -> Tensor:
    return torch.exp(x[:, [0]] ** 2 + x[:, [1]] * x[:, [2]] + 0.3 * x[:, [3]] + x[:, [4]] * x[:, [5]])


def symmetric(x: Tensor) -> Tensor:
    return torch.sin(x[:, [0]] ** 2 + x[:, [1]] ** 2) * x[:, [2]] + x[:, [3]] + x[:, [4]] * x[:, [5]]


def nested(x: Tensor) -> Tensor:
    return ((x[:, [0]] ** 2 + x[:, [1]] ** 2) ** 2 + (x[:, [2]] ** 2 + x[:, [3]] ** 2) ** 2) ** 2 + x[:, [4]] ** 2


# Separability; the numbers are those of pykan 0.2.8 on the same samples


def test_added_groups(capsys: pytest.CaptureFixture[str]) -> None:
    found = detect_separability(added, uniform(200, 6), mode="add", verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"n_group={n}, residual_ratio=0" for n in (1, 2, 3)] and lines[-1] == "add separability detected"
    ratios = [float(re.fullmatch(r"n_group=\d, residual_ratio=(.*)", line)[1]) for line in lines[3:6]]
    assert ratios == pytest.approx([0.3053573878868356, 0.4318775385333425, 0.5346659144094181], rel=1e-5)
    assert found["groups"] == [[4, 5], [2, 3], [0, 1]] and found["labels"] == [2, 2, 1, 1, 0, 0] and found["n_groups"] == 3
    expected = torch.tensor([[0.30093394, 0.31939005, 0, 0, 0, 0], [0, 0, 0.39313081, 1.37483942, 0, 0]])
    torch.testing.assert_close(found["hessian"][[0, 3]], expected, rtol=0, atol=1e-8)


def test_multiplied_groups(capsys: pytest.CaptureFixture[str]) -> None:
    x = uniform(200, 6)
    found = detect_separability(multiplied, x, mode="mul")
    assert capsys.readouterr().out == "mul separability detected\n"
    assert found["groups"] == [[4, 5], [2, 3], [0, 1]]
    expected = torch.tensor([[0.709533752, 0.734345323, 0, 0, 0, 0], [0, 0, 0.0555898752, 0.225895362, 0, 0]])
    torch.testing.assert_close(found["hessian"][[0, 3]], expected, rtol=0, atol=1e-8)
    shifted = detect_separability(multiplied, x, mode="mul", bias=0.5)
    assert shifted["n_groups"] == 1 and capsys.readouterr().out == "mul separability not detected\n"
    torch.testing.assert_close(
        shifted["hessian"][0], torch.tensor([0.45221727, 0.43404304, 0.03672911, 0.02711577, 0.01537044, 0.01408111]), rtol=0, atol=1e-8
    )
    assert detect_separability(multiplied, x, mode="add")["n_groups"] == 1
    assert detect_separability(lambda x: multiplied(x) - 0.5, x, mode="mul", bias=0.5)["n_groups"] == 3


def test_numbers_of_groups(capsys: pytest.CaptureFixture[str]) -> None:
    x = uniform(200, 6)
    assert detect_separability(added, x, n_clusters=[1, 2])["n_groups"] == 2
    assert detect_separability(added, x, n_clusters=2)["groups"] == [[0, 1, 2, 3], [4, 5]]
    capsys.readouterr()
    # pykan's defect 43: KeyError.
    for tried, words in ((5, "5"), ([4, 6], "4 to 6")):
        found = detect_separability(added, x, n_clusters=tried)
        assert found["n_groups"] == 1 and found["groups"] == [[0, 1, 2, 3, 4, 5]] and found["labels"] == [0] * 6
        assert capsys.readouterr().out == (
            f"no clustering into {words} groups has a residual below 0.01; all variables are in one group\nadd separability not detected\n"
        )
    for wrong in (0, 7, [2], [3, 2], [0, 2], [1, 2, 3]):
        with pytest.raises(ValueError, match=re.escape("n_clusters must be a number of groups between 1 and 6, or two such [low, high]")):
            detect_separability(added, x, n_clusters=wrong)


def test_without_any_interaction() -> None:
    slopes = torch.tensor([[1.0], [2.0], [3.0]])
    assert sorted(detect_separability(lambda x: x @ slopes, uniform(50, 3))["groups"]) == [[0], [1], [2]]
    assert detect_separability(lambda x: x[:, 0] ** 2, uniform(50, 1))["groups"] == [[0]]
    assert detect_separability(lambda x: x[:, 0] * 0 + 3, uniform(50, 2))["n_groups"] == 2


def test_separability_of_given_groups() -> None:
    test, x = hypothesis.test_separability, uniform(200, 6)
    yes: list[list[list[int]]] = [[[0, 1], [2, 3]], [[0, 1], [2, 3], [4, 5]], [[0, 1]], [[-2, -1], [0, 1]], [], [[], [0, 1]]]
    for groups in yes:
        answer = test(added, x, groups)
        assert answer.dtype == torch.bool and answer.dim() == 0 and bool(answer)
    no = [[[0, 2], [1, 3]], [[0]], [[0, 1], [2]]]
    assert not any(bool(test(added, x, groups)) for groups in no), "also against a variable in no group"
    assert test(multiplied, x, yes[1], mode="mul") and not test(multiplied, x, yes[1], mode="add")
    assert not test(multiplied, x, yes[1], mode="mul", bias=0.5) and test(multiplied, x, yes[1], mode="mul", bias=0.5, threshold=1.0)
    assert test(added, x, [[0, 2], [1, 3]], threshold=2.0)


def test_general_separability_of_given_groups() -> None:
    test, x = hypothesis.test_general_separability, uniform(200, 6)
    for groups in ([[0], [1, 2]], [[0], [1, 2], [3], [4, 5]], [[0, 3], [1, 2]], [[0]], []):
        assert bool(test(generally, x, groups))
    assert not test(lambda x: torch.sin(x[:, 0] * x[:, 1] + x[:, 2]) + x[:, 0], x, [[0, 1], [2]])
    assert test(lambda x: torch.sin(x[:, 0] * x[:, 1] + x[:, 2]), x, [[0, 1], [2]])


def test_thresholds_are_misses() -> None:
    x, weights = uniform(60, 4, seed=3), torch.rand(4, 4, generator=torch.Generator().manual_seed(0))

    def model(x: Tensor) -> Tensor:
        return torch.sin(x @ weights).sum(dim=1, keepdim=True) + (x[:, [0]] * x[:, [1]]).exp()

    misses, groups = Misses(model, x), [[0, 1], [2, 3]]
    for mode, test in (("add", misses.sum), ("mul", misses.product)):
        miss = worst(test(group) for group in groups)
        assert hypothesis.test_separability(model, x, groups, mode, threshold=miss.size * 1.0001)
        assert not hypothesis.test_separability(model, x, groups, mode, threshold=miss.size * 0.9999)
    miss = misses.general([0, 1], [2, 3])
    assert hypothesis.test_general_separability(model, x, groups, threshold=miss.size * 1.0001)
    assert not hypothesis.test_general_separability(model, x, groups, threshold=miss.size * 0.9999)
    miss = misses.symmetry([0, 1], [2, 3])
    assert hypothesis.test_symmetry(model, x, [0, 1], miss.size * 1.0001)
    assert not hypothesis.test_symmetry(model, x, [0, 1], miss.size * 0.9999)


def test_units_do_not_matter() -> None:
    """pykan's scores have units: of 1e-3 x_1 x_2 they say that it is a sum."""
    x = uniform(200, 2)
    for unit in (1e-6, 1.0, 1e6):
        assert not hypothesis.test_separability(lambda x, unit=unit: unit * x[:, 0] * x[:, 1], x, [[0], [1]])
        assert hypothesis.test_separability(lambda x, unit=unit: unit * (x[:, 0] + x[:, 1] ** 2), x, [[0], [1]])


def test_kinks_are_interactions() -> None:
    """The Hessian of a maximum is zero nearly everywhere."""
    x = uniform(200, 3)

    def model(x: Tensor) -> Tensor:
        return torch.maximum(x[:, 0], x[:, 1]) + x[:, 2]

    assert not hypothesis.test_separability(model, x, [[0], [1]]) and hypothesis.test_separability(model, x, [[2]])
    found = detect_separability(model, x)
    assert sorted(found["groups"]) == [[0, 1], [2]]
    found = detect_separability(added, uniform(200, 6))
    assert len(found["misses"]) == 3 and all(miss.size < 1e-12 for miss in found["misses"])


# Symmetry


def test_dependence_is_pykans() -> None:
    x = uniform(200, 6)
    expected = torch.tensor([[0.13637322, 0.0, 0.0, 0.0], [0.17544527, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(get_dependence(symmetric, x, [2, 0]), expected, rtol=0, atol=1e-8)
    expected = torch.tensor([[0.01622701, 0.09335776, 0.0, 0.09321764], [0.02874379, 0.14266456, 0.0, 0.12851803]])
    torch.testing.assert_close(get_dependence(symmetric, x, [-2, 1]), expected, rtol=0, atol=1e-8)
    change = batch_grad_normgrad(symmetric, x, [2, 0])
    assert change.shape == (200, 2, 4) and not change.requires_grad
    expected = torch.tensor([[0.01429285, 0.0, 0.0, 0.0], [0.16563637, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(change[0], expected, rtol=0, atol=1e-8)


def test_change_of_the_direction_is_a_derivative() -> None:
    x = uniform(20, 6, seed=2)

    def direction(x: Tensor) -> Tensor:
        slopes = batch_jacobian(symmetric, x, create_graph=True)[:, [0, 2, 5]]
        return slopes / (slopes.norm(dim=1, keepdim=True) + 1e-6)

    expected = batch_jacobian(direction, x, mode="vector")[:, :, [1, 3, 4]]
    torch.testing.assert_close(batch_grad_normgrad(symmetric, x, [0, 2, 5]), expected)
    point = x.clone().requires_grad_()
    change = batch_grad_normgrad(symmetric, point, [0, 2, 5], create_graph=True)
    torch.testing.assert_close(change.detach(), expected)
    (third,) = torch.autograd.grad(change.square().sum(), point)
    assert bool(torch.isfinite(third).all()) and bool(third.any())


def test_a_gradient_of_zero_has_no_direction() -> None:
    x = torch.zeros(4, 3)
    change = batch_grad_normgrad(lambda x: (x[:, 0] ** 2 + x[:, 1] ** 2) * x[:, 2], x, [0, 1])
    assert bool(torch.isfinite(change).all())


def test_symmetry_of_given_groups() -> None:
    test, x = hypothesis.test_symmetry, uniform(200, 6)
    for group in ([0, 1], [0, 1, 2], [4, 5], [-1, -2], [], list(range(6))):
        answer = test(symmetric, x, group)
        assert answer.dtype == torch.bool and answer.dim() == 0 and bool(answer)
    assert not test(symmetric, x, [0, 2]) and not test(symmetric, x, [1, 4])
    assert test(symmetric, x, [0, 2], dependence_th=0.9)
    assert test(lambda x: x[:, 0] * x[:, 1], x, [0, 5]), "a variable without effect belongs to any group"


def test_symmetry_in_a_given_expression(capsys: pytest.CaptureFixture[str]) -> None:
    x, v = uniform(200, 6), sympy.symbols("a b c d e f")
    cosine = hypothesis.test_symmetry_var(symmetric, x, v, v[0] ** 2 + v[1] ** 2)
    torch.testing.assert_close(cosine, torch.ones(200))
    assert capsys.readouterr().out == "100.0% data have more than 0.9 cosine similarity\nsuggesting symmetry\n"
    cosine = hypothesis.test_symmetry_var(symmetric, x, list(v), v[0] * v[1])
    torch.testing.assert_close(cosine[:4], torch.tensor([0.73965890, 0.76282437, 0.98544715, 0.86751081]), rtol=0, atol=1e-8)
    assert capsys.readouterr().out == "39.0% data have more than 0.9 cosine similarity\nnot suggesting symmetry\n"
    # Not only arithmetic, and constants among the slopes.
    for expression in (sympy.sin(v[0] ** 2 + v[1] ** 2), sympy.exp(v[4] * v[5] + 2), v[3] * 2):
        assert float(hypothesis.test_symmetry_var(symmetric, x, v, expression).min()) > 1 - 1e-9
    for symbols, expression, words in (
        (v[:5], v[0], "input_vars must have one symbol for each of the 6 columns of x; got 5."),
        (v, v[0] + sympy.Symbol("z"), "symmetry_var must be an expression of some of the input_vars"),
        (v, sympy.Integer(3), "symmetry_var must be an expression of some of the input_vars"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            hypothesis.test_symmetry_var(symmetric, x, symbols, expression)


def test_a_network() -> None:
    # pykan 0.2.8, KAN([4, 5, 5, 1], seed=2).
    model, x = KAN([4, 5, 5, 1], seed=2, auto_save=False), uniform(100, 4)
    score = detect_separability(model, x, score_th=1e-4)["hessian"]
    torch.testing.assert_close(score[0], torch.tensor([0.00453435, 0.00055359, 0.00023179, 0.00028496]), rtol=0, atol=1e-8)
    expected = torch.tensor([[0.00078766, 0.00117940], [0.00763040, 0.00983529]])
    torch.testing.assert_close(get_dependence(model, x, [0, 1]), expected, rtol=0, atol=1e-8)
    assert not any(p.grad is not None for p in model.parameters())


# What goes in


def test_what_is_refused() -> None:
    x = uniform(20, 3)
    with pytest.raises(ValueError, match=re.escape("the model must have one output, the shape (20, 1) or (20,); got (20, 3).")):
        get_dependence(lambda x: x, x, [0])
    with pytest.raises(TypeError, match="x must be a tensor of floating-point numbers; got ndarray"):
        get_molecule(nested, x.numpy())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got torch\.int64"):
        get_molecule(nested, x.long())
    for wrong in (x[0], x[:1]):
        with pytest.raises(ValueError, match=re.escape("x must have the shape (number of samples, variables) with at least two samples")):
            get_dependence(nested, wrong, [0])
    with pytest.raises(ValueError, match="unknown mode 'mull'; did you mean 'mul'"):
        detect_separability(added, uniform(20, 6), mode="mull")
    for call in (hypothesis.test_separability, hypothesis.test_general_separability):
        with pytest.raises(IndexError, match=re.escape("variable must be between 0 and 2 (or -3 and -1, from the end); got 3.")):
            call(multiplied, x, [[0], [3]])
        with pytest.raises(ValueError, match=re.escape("a variable may be named once only; got [[0, 1], [1]].")):
            call(multiplied, x, [[0, 1], [1]])
    with pytest.raises(ValueError, match="once only"):
        hypothesis.test_symmetry(multiplied, x, [0, -3])


def test_what_comes_from_where() -> None:
    names = {
        *["detect_separability", "batch_grad_normgrad", "get_dependence", "test_symmetry", "test_separability", "get_molecule"],
        *["test_general_separability", "get_tree_node", "plot_tree", "test_symmetry_var"],
    }
    assert set(kan.hypothesis.__all__) == names and all(callable(getattr(kan.hypothesis, name)) for name in names)
    # pykan's defect 50: pytest takes them for tests.
    assert all(getattr(kan.hypothesis, name).__test__ is False for name in names if name.startswith("test_"))
    with pytest.raises(AttributeError, match="module 'kan.hypothesis' has no attribute 'nonsense'"):
        kan.hypothesis.nonsense  # noqa: B018


def test_arguments_and_random_states_are_left_alone() -> None:
    def states() -> Any:
        return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()

    x, before = uniform(50, 5), states()
    copy = x.clone()
    with torch.no_grad():
        symmetry_tree(nested, x)
        detect_separability(nested, x)
    assert torch.equal(x, copy) and not x.requires_grad and states() == before


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu() -> None:
    # pykan's defect 43.
    x, v = uniform(200, 6), sympy.symbols("a b c d e f")
    there = x.cuda()
    found = detect_separability(added, there)
    assert found["groups"] == [[4, 5], [2, 3], [0, 1]] and found["hessian"].is_cuda
    assert symmetry_tree(multiplied, there) == symmetry_tree(multiplied, x)
    assert hypothesis.test_symmetry_var(symmetric, there, v, v[0] ** 2 + v[1] ** 2).is_cuda
    model = KAN([6, 3, 1], auto_save=False, device="cuda")
    model(there)
    assert sum(model.feature_interaction(1).values()) == 3
    model.auto_swap()
    model.tree()
