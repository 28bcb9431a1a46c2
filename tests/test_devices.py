"""What the library would do on a GPU, as far as a machine without one can tell: mixed devices, copies, and waits for numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kan import KAN, KANConv1d, KANConv2d, KANConv3d, KANLinear, KANStack, create_dataset
from kan.bases import BASES
from kan.bases.base import EXTRAPOLATIONS
from kan.devices import Remembered, constant, fingerprint, number_like, read
from kan.kernels.library import switched
from kan.layers.kan_layer import KANLayer
from kan.layers.symbolic_layer import SymbolicLayer
from kan.symbolic.library import SYMBOLIC_LIB
from kan.training.objectives.back_end import BACK_END
from kan.training.objectives.closed_form import Problem
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty
from kan.training.objectives.sparsity import sparsity_with_slopes
from tests.devices import Readings, as_on_a_device, fake_cuda, one_fake_device, transplanted

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(autouse=True)
def _one_device() -> Iterator[None]:
    with one_fake_device():
        yield


def network(symbolic: bool = True, **options: Any) -> KAN:
    """A network with multiplication nodes and, if wanted, with symbolic edges, one of them masked."""
    model = KAN([2, [3, 1], 1], grid=3, seed=0, auto_save=False, **options)
    model(torch.rand(20, 2, generator=torch.Generator().manual_seed(0)))
    for edge, name in (((0, 0, 0), "sin"), ((0, 1, 2), "1/x"), ((1, 0, 0), "x^2")) if symbolic else ():
        model.fix_symbolic(*edge, name, fit_params_bool=False, verbose=False, log_history=False)
    return model


def symbolic_layer(name: str) -> SymbolicLayer:
    layer = SymbolicLayer(3, 2)
    layer.set_function(0, 0, name)
    layer.set_function(1, 1, name)
    layer.mask.data[0, 0] = 1.0
    return layer


LAYERS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    **{f"KANLinear {b} {e}": partial(lambda b, e: (KANLinear(4, 3, basis=b, extrapolation=e), (9, 4)), b, e)
       for b in BASES for e in EXTRAPOLATIONS},
    **{f"KANLinear, degree {k}, {g} intervals": partial(lambda k, g: (KANLinear(4, 3, g, k), (9, 4)), k, g)
       for k in (0, 1, 2, 4) for g in (2, 40)},
    "KANLinear, wide": lambda: (KANLinear(64, 50, bias=True), (200, 64)),
    "KANStack": lambda: (KANStack([3, 4, 2]), (5, 3)),
    **{f"KANLayer {b}": partial(lambda b: (KANLayer(3, 2, basis=b), (9, 3)), b) for b in BASES},
    **{f"KANConv1d {b}": partial(lambda b: (KANConv1d(2, 3, 3, padding=1, basis=b), (5, 2, 7)), b) for b in BASES},
    "KANConv2d": lambda: (KANConv2d(2, 4, 3, padding="same", groups=2, bias=True), (5, 2, 6, 7)),
    "KANConv3d": lambda: (KANConv3d(2, 3, 2, stride=2, padding=1), (5, 2, 4, 4, 4)),
    "SymbolicLayer": lambda: (symbolic_layer("sin"), (9, 3)),
    **{f"KAN {b}": partial(lambda b: (network(basis=b), (9, 2)), b) for b in BASES},
    "KAN of splines": lambda: (network(symbolic=False), (9, 2)),
    "KAN without symbolic edges": lambda: (network(symbolic_enabled=False), (9, 2)),
}  # fmt: skip


def in_other_units() -> KAN:
    """A network that maps the units of its inputs and outputs itself."""
    model = network()
    model.apply_normalizers_(normalizer=([1.0, 2.0], [3.0, 4.0]), output_normalizer=([1.0], [2.0]))
    return model


LAYERS["KAN in the user's units"] = lambda: (in_other_units(), (9, 2))


def run_on_fake_cuda(module: nn.Module, shape: tuple[int, ...], **options: Any) -> None:
    """Two passes of a module that has seen its grid on the CPU; from the second one on, nothing may be copied any more."""
    module(torch.zeros(shape))
    with fake_cuda(transfers=True):
        module = transplanted("cuda", module)
        x = torch.empty(shape, device="cuda")
        module(x, **options)
    with fake_cuda():
        found = module(x, **options)
    assert all(part.device.type == "cuda" for part in (found if isinstance(found, tuple) else (found,)))


@pytest.mark.parametrize("name", LAYERS)
def test_a_forward_pass_waits_for_nothing_and_copies_nothing(name: str) -> None:
    run_on_fake_cuda(*LAYERS[name]())


@pytest.mark.parametrize("name", SYMBOLIC_LIB)
def test_symbolic_functions_neither(name: str) -> None:
    for avoiding in (False, True):
        run_on_fake_cuda(symbolic_layer(name), (9, 3), singularity_avoiding=avoiding)


FAULTS: dict[str, Callable[[Tensor], Any]] = {
    "a question": lambda x: bool((x > 0).any()),
    "a number": lambda x: x.sum().item(),
    "a list": lambda x: x.tolist(),
    "a comparison": lambda x: torch.equal(x, x + 1),
    "a mask as an index": lambda x: x[x > 0],
    "an index from the CPU": lambda x: x[torch.zeros(2, dtype=torch.long)],
    "a list as an index": lambda x: x[[0, 1]],
    "a constant": lambda x: torch.tensor([1.0, 2.0, 3.0], device=x.device),
    "a number as a tensor": lambda x: x * torch.as_tensor(2.0, device=x.device),
    "a copy to the CPU": lambda x: x.cpu(),
    "a tensor on the CPU": lambda x: x + torch.ones(2, 3),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_fake_device_finds(name: str) -> None:
    with fake_cuda():
        x = torch.empty(2, 3, device="cuda")
        with pytest.raises(Exception, match="|".join(
            ["_local_scalar_dense", "aten.equal", "nonzero", "aten.index", "moves numbers between", "two devices", "not linked"]
        )):  # fmt: skip
            FAULTS[name](x)


def objective_of(model: KAN, **options: Any) -> Objective:
    return Objective(model, nn.functional.mse_loss, 1e-2, Penalty(lamb_coef=0.1, lamb_coefdiff=0.1), corner=1e-2, **options)


@pytest.fixture
def _meta_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let layers take what is on the meta device, which they refuse since users get there by mistake only."""
    for module in ("kan.layers.checks", "kan.layers.kan_layer", "kan.layers.symbolic_layer", "kan.network.last_input"):
        monkeypatch.setattr(f"{module}.check_dense", lambda *arguments: None)
    monkeypatch.setattr(KAN, "check_numbers", lambda self: None)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *kind: False)  # torch knows of none there, and raises an error


@pytest.mark.usefixtures("_meta_is_a_device")
@pytest.mark.parametrize(("device", "options"), [("cuda", {}), ("meta", {}), ("meta", {"singularity_avoiding": True})], ids=str)
@pytest.mark.parametrize(("basis", "symbolic"), [*((basis, False) for basis in BASES), ("bspline", True)])
def test_the_objective_in_closed_form_and_its_gradient_wait_for_nothing(
    device: str, options: dict[str, Any], basis: str, symbolic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, model = torch.rand(9, 2), network(symbolic, basis=basis)
    with as_on_a_device(monkeypatch), switched(False):
        objective = objective_of(model, **options)
        problem = Problem(objective, objective.closed_form, x, x[:, :1].clone(), None, None)
        BACK_END.value_and_gradients(problem, [True] * len(problem.form.parameters))  # prepares the grids
        with fake_cuda(transfers=True):
            there = transplanted(device, problem)
            wanted = [True] * len(there.form.parameters)
            BACK_END.value_and_gradients(there, wanted)
        with fake_cuda():
            value, gradients = BACK_END.value_and_gradients(there, wanted)
    assert [part.device.type for part in value] == [device] * 3
    for p, gradient in zip(there.form.parameters, gradients, strict=True):
        assert gradient is not None and gradient.device.type == device and gradient.shape == p.shape


@pytest.mark.usefixtures("_meta_is_a_device")
@pytest.mark.parametrize("name", LAYERS)
def test_a_training_step_of_a_layer_on_the_meta_device(name: str) -> None:
    module, shape = LAYERS[name]()
    module(torch.zeros(shape))
    module = transplanted("meta", module)
    optimizer = torch.optim.Adam(module.parameters())
    x = torch.empty(shape, device="meta", requires_grad=True)
    found = module(x)
    (found[0] if isinstance(found, tuple) else found).square().mean().backward()
    optimizer.step()
    assert x.grad is not None and x.grad.is_meta
    assert all(p.grad is not None and p.grad.is_meta for p in module.parameters() if p.requires_grad)


@pytest.mark.usefixtures("_meta_is_a_device")
def test_the_objective_recorded_by_autograd_on_the_meta_device() -> None:
    model = network()
    objective = transplanted("meta", objective_of(model))
    total, loss, penalty = objective.composed(torch.empty(9, 2, device="meta"), torch.empty(9, 1, device="meta"))
    total.backward()
    assert total.is_meta and loss.is_meta and penalty.is_meta
    assert all(p.grad is not None and p.grad.is_meta for p in objective.network.parameters() if p.requires_grad)


SAMPLES = create_dataset(lambda x: torch.sin(3 * x[:, [0]]) + x[:, [1]] ** 2, n_var=2, train_num=60, test_num=20, seed=0)


def readings_per_step(
    patch: pytest.MonkeyPatch, symbolic: bool = False, dtype: torch.dtype = torch.float64, **options: Any
) -> Counter[str]:
    """Difference of what fits of three and of two steps read, by the place in the library: neither gets a second start."""
    found = []
    data = {name: value.to(dtype) for name, value in SAMPLES.items()}
    with as_on_a_device(patch), switched(False):
        for steps in (2, 3):
            model = KAN([2, 3, 1], grid=3, seed=0, auto_save=False).to(dtype)
            if symbolic:
                model(data["train_input"])
                model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False, verbose=False, log_history=False)
            with Readings() as readings:
                model.fit(data, steps=steps, update_grid=False, progress=False, **options)
            found.append(readings.found)
    both = found[0].keys() | found[1].keys()
    return Counter({place: found[1][place] - found[0][place] for place in both if found[1][place] != found[0][place]})


def of_methods(readings: Counter[str]) -> int:
    """The readings of a method of training and of all below it: what the loop around it reads is recorded, and is the same for all."""
    return sum(count for place, count in readings.items() if not place.startswith(("training/loop.py", "training/evaluation")))


@pytest.mark.parametrize("options", [{}, {"lamb": 1e-2, "symbolic": True}, {"batch": 20, "dtype": torch.float32}], ids=str)
def test_a_step_of_adam_reads_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    readings = readings_per_step(monkeypatch, opt="Adam", **options)
    assert of_methods(readings) == 0, readings


@pytest.mark.parametrize("options", [{}, {"lamb": 1e-2, "symbolic": True}], ids=str)
def test_an_iteration_of_lbfgs_reads_loss_and_slope_of_each_point_products_and_the_first_slope(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = readings_per_step(monkeypatch, opt="LBFGS", **options)
    points = readings["devices.py read"]
    assert 20 <= points <= 25
    # Twenty iterations: the slope of each direction, and the products of the vectors of each. Two more: is there anything to do?
    assert readings["solvers/lbfgs.py step"] == 22 and readings["solvers/lbfgs.py _arrays"] == 20
    assert of_methods(readings) == points + 42, readings


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"lamb": 1e-2, "symbolic": True}], ids=str)
def test_a_step_of_levenberg_marquardt_reads_three_numbers_and_three_for_each_trial(
    options: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = readings_per_step(monkeypatch, opt="LM", dtype=dtype, **options)
    trials = readings["solvers/levenberg_marquardt.py predicted_decrease"]
    assert trials >= 1
    assert of_methods(readings) <= 3 + 3 * trials, readings


def test_a_layer_in_a_loop_of_ones_own_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(40, 3, requires_grad=True)
    with as_on_a_device(monkeypatch):
        for basis in BASES:
            for extrapolation in EXTRAPOLATIONS:
                layer = KANLinear(3, 2, basis=basis, extrapolation=extrapolation)
                layer(x)
                with Readings() as readings:
                    layer(x).square().mean().backward()
                assert not readings.found, (basis, extrapolation, readings.found)


@pytest.mark.parametrize("basis", [*BASES])
def test_the_ways_of_a_device_lead_to_the_same_numbers(basis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.rand(30, 2, generator=torch.Generator().manual_seed(1)) * 3 - 1.5, torch.rand(30, 1)
    with switched(False):
        found = []
        for away in (False, True):
            with as_on_a_device(monkeypatch) if away else switched(False):
                objective = objective_of(network(basis=basis))
                output, total = objective.network(x), objective.with_gradient(x, y)
                found.append([output, total, *(p.grad for p in objective.network.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) >= 10
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("opt", "dtype"), [("Adam", torch.float32), ("LBFGS", torch.float64), ("LM", torch.float32), ("LM", torch.float64)]
)
def test_fits_are_the_same_on_the_ways_of_a_device(opt: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {name: value.to(dtype) for name, value in SAMPLES.items()}
    losses = []
    for away in (False, True):
        with switched(False), as_on_a_device(monkeypatch) if away else switched(False):
            model = KAN([2, 3, 1], grid=3, seed=0, auto_save=False).to(dtype)
            losses.append(model.fit(data, opt=opt, steps=4, lamb=1e-3, grid_update_num=2, progress=False)["train_loss"])
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-2 if dtype == torch.float32 else 1e-6, atol=0)


def test_a_masked_symbolic_edge_adds_nothing_even_where_its_function_is_infinite(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = symbolic_layer("1/x"), torch.zeros(4, 3)
    layer.mask.data.zero_()
    expected = layer(x)
    assert layer.active() == []
    with as_on_a_device(monkeypatch):
        assert layer.active() == [] and len(layer.evaluated()) == 2
        torch.testing.assert_close(layer(x), expected)


def test_penalty_of_scores_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [torch.rand(3, 2), torch.rand(1, 3) * (torch.rand(1, 3) > 0.5), torch.rand(4, 4)]
    here = sparsity_with_slopes(scores, 1.3, 2.0)
    with as_on_a_device(monkeypatch):
        there = sparsity_with_slopes(scores, 1.3, 2.0)
    assert isinstance(there[0], Tensor)
    torch.testing.assert_close(there[0].item(), here[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(there[1], here[1], rtol=1e-12, atol=1e-14)


def test_what_has_changed_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for away in (False, True):
        with as_on_a_device(monkeypatch) if away else switched(False):
            x = torch.zeros(3)
            then, print_ = Remembered(x), fingerprint(x)
            assert then.is_current(x) and print_ == fingerprint(x) and not then.is_current(torch.ones(3))
            x.add_(1)
            assert not then.is_current(x) and print_ != fingerprint(x)


def test_numbers_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.tensor(1.5), torch.tensor([2], dtype=torch.int32), torch.tensor(0.25, dtype=torch.float32)
    assert read(*numbers) == [1.5, 2.0, 0.25]
    with as_on_a_device(monkeypatch), Readings() as readings:
        assert read(*numbers) == [1.5, 2.0, 0.25]
    assert readings.found == {"devices.py read": 1}


def test_constants() -> None:
    torch.testing.assert_close(constant(((0, 1), (2, 3)), torch.long, torch.device("cpu")), torch.tensor([[0, 1], [2, 3]]))
    with fake_cuda(transfers=True):
        first = constant((1.0, 2.0), torch.float64, torch.device("cuda"))
    with fake_cuda():
        assert constant((1.0, 2.0), torch.float64, torch.device("cuda")) is first
        assert number_like(2.0, first).device.type == "cuda"
    like = torch.zeros(2, dtype=torch.float32)
    assert number_like(2.0, like).dtype == number_like(torch.tensor(2.0, dtype=torch.float64), like).dtype == torch.float32
