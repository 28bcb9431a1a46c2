"""Layers and networks that torch records: torch.export with a batch of any size, torch.jit.trace, and ONNX."""

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from kan import KAN, KANConv1d, KANConv2d, KANConv3d, KANLayer, KANLinear, KANStack
from kan.MLP import MLP

pytestmark = [
    pytest.mark.usefixtures("float64"),
    # Of torch itself: sizes that are checked are Python's numbers while it traces, and both ways of recording are old.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def _uniform(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * (2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 1)


def _generator() -> dict[str, Any]:
    return {"generator": torch.Generator().manual_seed(0)}


def _seen(model: KAN) -> KAN:
    model(_uniform(30, 2))
    return model


def _half_symbolic() -> KAN:
    model = _seen(KAN([2, 3, 1], seed=0, auto_save=False))
    model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False, verbose=False)
    model.fix_symbolic(0, 1, 1, "x^2", fit_params_bool=False, verbose=False)
    model.remove_edge(0, 0, 1)
    model.remove_edge(0, 1, 2)
    with torch.no_grad():
        model.node_scale_0.mul_(2)
        model.node_bias_0.add_(0.3)
    return model


def _pruned() -> KAN:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what these thresholds cost
        return _seen(KAN([2, 5, 1], seed=0, auto_save=False)).prune(0.2, 0.2)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "KANLinear": (lambda: KANLinear(2, 3, **_generator()), (2,)),
    "KANLinear, inner axis": (lambda: KANLinear(2, 3, **_generator()), (5, 2)),
    "KANLinear, fine": (lambda: KANLinear(2, 3, grid_size=60, **_generator()), (2,)),
    "KANLinear, step functions": (lambda: KANLinear(2, 3, spline_order=0, **_generator()), (2,)),
    "KANLinear, constant outside": (lambda: KANLinear(2, 3, extrapolation="constant", **_generator()), (2,)),
    "KANLinear, rbf": (lambda: KANLinear(2, 3, basis="rbf", **_generator()), (2,)),
    "KANStack": (lambda: KANStack([2, 8, 3], **_generator()), (2,)),
    "KANConv1d": (lambda: KANConv1d(2, 3, 3, padding=1, **_generator()), (2, 6)),
    "KANConv2d": (lambda: KANConv2d(2, 3, 3, padding=1, padding_mode="reflect", **_generator()), (2, 4, 5)),
    "KANConv3d": (lambda: KANConv3d(2, 3, 2, **_generator()), (2, 3, 3, 3)),
    "KANLayer": (lambda: KANLayer(2, 3, **_generator()), (2,)),
    "KAN": (lambda: _seen(KAN([2, [3, 2], 1], seed=0, auto_save=False)), (2,)),
    "KAN, pruned": (_pruned, (2,)),
    "KAN, half symbolic": (_half_symbolic, (2,)),
    "MLP": (lambda: _seen(MLP([2, 5, 1], seed=0)), (2,)),  # type: ignore[type-var]
}
models = pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
BATCHES = (7, 1, 5000)


def _output(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found[0]


def _check_alike(recorded: Callable[[Tensor], Any], model: nn.Module, shape: tuple[int, ...], batches: tuple[int, ...] = BATCHES) -> None:
    for batch in batches:
        for scale in (0.9, 4.0):  # inside of the grids and far outside
            x = _uniform(batch, *shape, seed=batch, scale=scale)
            torch.testing.assert_close(_output(recorded(x)), _output(model(x)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "least"),
    [(name, 0) for name in ("KANLinear", "KANStack", "KANConv2d", "KAN, half symbolic")]
    + [(name, least) for name in ("KANLinear", "KANStack", "KAN, half symbolic") for least in (2, None)],
)
def test_export_with_a_batch_of_any_size(name: str, least: int | None) -> None:
    make, shape = MODELS[name]
    model, size = make(), Dim.AUTO if least is None else Dim("b", min=least)
    program = torch.export.export(model, (_uniform(50, *shape),), dynamic_shapes=({0: size},))
    _check_alike(program.module(), model, shape, BATCHES if least != 2 else (7, 5000))


@models
@pytest.mark.parametrize("batch", [5, 3000])
def test_a_trace_holds_for_other_batches_and_can_be_saved(make: Callable[[], nn.Module], shape: tuple[int, ...], batch: int) -> None:
    model = make()
    traced = torch.jit.trace(model, (_uniform(batch, *shape),), check_trace=False)
    stored = io.BytesIO()
    torch.jit.save(traced, stored)
    stored.seek(0)
    _check_alike(torch.jit.load(stored), model, shape)


@models
def test_what_onnx_gets_is_the_model(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """ONNX has no search in a sorted list and no ``mT``; without them a trace computes the same."""
    model = make()
    with mock.patch.object(torch.onnx, "is_in_onnx_export", return_value=True):
        traced = torch.jit.trace(model, (_uniform(5, *shape),), check_trace=False)
    used = {node.kind() for node in traced.inlined_graph.nodes()}
    assert not used & {"aten::searchsorted", "aten::mT", "prim::PythonOp"}
    _check_alike(traced, model, shape)


@pytest.mark.filterwarnings("ignore")  # of the exporters, which have much to say of themselves
@pytest.mark.parametrize("name", ["KANLinear", "KANStack", "KAN, pruned", "KAN, half symbolic"])  # onnxruntime has no Conv in float64
@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_files_compute_what_the_model_does(name: str, dynamo: bool) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    make, shape = MODELS[name]
    model = make().eval()
    sizes: dict[str, Any] = {"dynamic_shapes": ({0: Dim("b")},)} if dynamo else {"input_names": ["x"], "dynamic_axes": {"x": {0: "b"}}}
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(model, (_uniform(50, *shape),), "model.onnx", dynamo=dynamo, **sizes)
    session = runtime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    _check_alike(lambda x: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]), model, shape)
