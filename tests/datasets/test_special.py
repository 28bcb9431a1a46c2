"""The special functions of the KAN paper against scipy's."""

import re
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch

from kan.datasets.problem import Problem
from kan.datasets.problem_sets import problems


def scipy_truth(name: str, x: Any, y: Any) -> Any:
    if name == "ellipj":
        return scipy.special.ellipj(x, y)[0]
    if name.startswith("lpmv"):
        return scipy.special.lpmv(int(name[4:]), x, y)
    if name.startswith("sph_harm"):
        m, n = map(int, re.findall(r"\d", name))
        values = scipy.special.sph_harm_y(n, m, y, x) if hasattr(scipy.special, "sph_harm_y") else scipy.special.sph_harm(m, n, x, y)
        return values.real
    return getattr(scipy.special, name)(x, y)


@pytest.mark.parametrize("problem", problems("special"), ids=lambda problem: problem.name)
def test_special_functions(problem: Problem) -> None:
    x, y, _ = problem.sample(300, seed=1)
    np.testing.assert_allclose(y.numpy()[:, 0], scipy_truth(problem.name, *x.numpy().T), rtol=1e-11, atol=1e-12)
    assert torch.autograd.gradcheck(problem.function(), x[:3].clone().requires_grad_())
