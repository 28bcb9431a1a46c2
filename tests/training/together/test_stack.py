"""Networks that use the workspaces of another one, and normal equations, by the compiled kernels."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan.kernels.library import library
from kan.network.network import Network
from kan.training.data.samples import Samples
from kan.training.together.compiled_stack import solves
from kan.training.together.lm import TrialColumns
from kan.training.together.stack import Stack
from kan.training.together.stack_pass import losses, normal_equations, value_and_gradients

pytestmark = [
    pytest.mark.usefixtures("float64"), pytest.mark.filterwarnings("error"),
    pytest.mark.skipif(library(torch.float64) is None, reason="there are no kernels"),
]  # fmt: skip


def stack(width: list[int], count: int, dtype: torch.dtype, **arguments: Any) -> Stack:
    networks = [Network(width, seed=seed, grid=4, **arguments).to(dtype) for seed in range(count)]
    for one in networks:
        one.act_fun[0].mask.data[0, 0] = 0.0
        one.act_fun[-1].mask.data[-1, -1] = -0.5
    return Stack(networks, dtype)


def samples(width: list[int], count: int, weighted: bool, dtype: torch.dtype) -> Samples:
    generator = torch.Generator().manual_seed(count)
    x = torch.rand(count, width[0], generator=generator) * 2.4 - 1.2
    y = torch.rand(count, width[-1], generator=generator)
    weight = torch.rand(count, generator=generator) if weighted else None
    return Samples(*(None if t is None else t.to(dtype) for t in (x, y, weight)))


def close(have: Tensor, want: Tensor) -> bool:
    tolerance = 1e-12 if want.dtype == torch.float64 else 2e-5
    scale = max(1.0, float(want.abs().max()))
    return float((have - want).abs().max()) <= tolerance * scale


@settings(deadline=None, max_examples=40)
@given(
    width=st.sampled_from([[2, 3, 1], [1, 2], [3, 9, 2], [2, 4, 3, 2]]), k=st.integers(1, 5), batch=st.sampled_from([1, 7, 128, 300]),
    weighted=st.booleans(), moved=st.booleans(), dtype=st.sampled_from([torch.float64, torch.float32]),
)  # fmt: skip
def test_the_kernels_agree_with_torch(width: list[int], k: int, batch: int, weighted: bool, moved: bool, dtype: torch.dtype) -> None:
    found, data = stack(width, 3, dtype, k=k), samples(width, batch, weighted, dtype)
    compiled = found.compiled
    assert compiled is not None
    for _ in range(1 + moved):  # the second time on other knots, in the same workspaces
        shared, block = found.shared(data), found.block(range(3))
        gradients = [torch.full_like(p, torch.nan) for p in found.parameters]
        values = [compiled.value_and_gradients(s, shared.batch, gradients) for s in (2, 0, 1)]
        with torch.no_grad():
            want, of_weights = value_and_gradients(block, shared.features)
            assert close(losses(block, shared.features), want)
        assert close(want.new_tensor(values), want[[2, 0, 1]])
        assert [compiled.loss(s, shared.batch) for s in (2, 0, 1)] == values
        for l, own in enumerate(of_weights):
            mask, sp = found.masks[l], found.parameters[3 * l + 2]
            assert close(gradients[3 * l], (own[:, :, 1:].mT * (mask * sp)[..., None]))
            assert close(gradients[3 * l + 1], own[:, :, 0] * mask)
        if moved:
            found.move_grids_(samples(width, 50, False, dtype).x, map)


@pytest.mark.parametrize("width", [[2, 3, 1], [1, 2], [3, 9, 2], [2, 4, 3, 2]])
@pytest.mark.parametrize("k", [1, 3])
def test_normal_equations_and_trials(width: list[int], k: int) -> None:
    found, data = stack(width, 3, torch.float64, k=k), samples(width, 300, True, torch.float64)
    shared, compiled = found.shared(data), found.compiled
    assert compiled is not None and solves(found.network)
    alive = [mask[0] != 0 for mask in found.masks]
    trial = TrialColumns.of(alive, [layer.coef.shape[2] for layer in found.layers])
    weights = [found.weights(l) for l in range(len(found.layers))]
    ordered = [torch.arange(w[0].numel()).view(w[0].shape) for w in weights]
    first, places = 0, []
    for own, of in zip(ordered, alive, strict=True):
        places += [first + own[:, 1:].mT[of].flatten(), first + own[:, 0][of]]
        first += own.numel()
    columns = torch.cat(places)
    with torch.no_grad():
        matrices, slopes = normal_equations(found.block(range(3)), shared.features)
    generator = torch.Generator().manual_seed(1)
    for s in (1, 2, 0):
        network = compiled.network(s, shared.batch)
        matrix, slope, loss = network.normal(compiled.parameters(s), trial.bases, trial.functions, len(columns))
        assert close(matrix, matrices[s][columns][:, columns]) and close(slope, slopes[s, columns])
        assert loss == pytest.approx(compiled.loss(s, shared.batch), rel=1e-12)
        step = 0.1 * torch.randn(len(columns), generator=generator)
        flat = torch.cat([part for w in weights for part in (w[s][:, 1:].mT.flatten(), w[s][:, 0].flatten())])
        moved = torch.zeros(1, first).index_copy(1, columns, step[None])
        with torch.no_grad():
            want = losses(found.block([s]).moved(moved), shared.features)
        assert compiled.trial(s, shared.batch, trial.parameters(flat, step)) == pytest.approx(float(want), rel=1e-12)
