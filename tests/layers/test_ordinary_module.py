"""What is built, copied, moved or changed in inference mode can be used and trained outside of it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kan import KAN, KANConv2d, KANLayer, KANLinear, KANStack
from kan.layers.symbolic_layer import SymbolicLayer
from kan.MLP import MLP
from tests.data import proportions

pytestmark = pytest.mark.usefixtures("float64")


def _model() -> KAN:
    model = KAN([2, 3, 1], grid=3, seed=0, auto_save=False)
    model(proportions(30, 2))
    return model


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "KANLinear": (lambda: KANLinear(2, 3), (5, 2)),
    "KANStack": (lambda: KANStack([2, 4, 3]), (5, 2)),
    "KANConv2d": (lambda: KANConv2d(2, 3, 3, bias=True), (5, 2, 4, 4)),
    "KANLayer": (lambda: KANLayer(2, 3), (5, 2)),
    "KAN": (lambda: KAN([2, [3, 1], 1], seed=0, auto_save=False), (5, 2)),
    "MLP": (lambda: MLP([2, 3, 1], seed=0), (5, 2)),
}
WAYS: dict[str, Callable[[Callable[[], nn.Module]], nn.Module]] = {
    "built": lambda make: make(),
    "built and copied": lambda make: copy.deepcopy(make()),
    "built and moved": lambda make: make().float().double(),
}


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_layers_made_in_inference_mode_are_trained(
    make: Callable[[], nn.Module], shape: tuple[int, ...], way: Callable[[Callable[[], nn.Module]], nn.Module]
) -> None:
    with torch.inference_mode():
        module = way(make)
    outside = copy.deepcopy(module)
    assert not any(values.is_inference() for part in (module, outside) for values in (*part.parameters(), *part.buffers()))
    found = module(torch.rand(*shape))
    (found if isinstance(found, Tensor) else found[0]).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)


def test_a_copy_is_a_copy() -> None:
    model = _model()
    twin = copy.deepcopy(model)
    assert type(twin) is KAN and twin.act_fun[0].coef is not model.act_fun[0].coef
    assert torch.equal(twin(proportions(9, 2)), model(proportions(9, 2)))


def test_parameters_that_two_modules_share_stay_shared() -> None:
    layer = SymbolicLayer(2, 3)
    twin = copy.deepcopy(nn.ModuleList([layer, layer]))
    assert twin[0] is twin[1] is not layer


CHANGES: dict[str, Callable[[KAN], Any]] = {
    "refine": lambda model: model.refine(5),
    "prune": lambda model: model.prune(),
    "prune_input": lambda model: model.prune_input(active_inputs=[0, 1]),
    "copy": lambda model: model.copy(),
    "expand_width": lambda model: model.expand_width(1, 2),
    "expand_depth": lambda model: model.expand_depth(),
    "remove_node": lambda model: model.remove_node(1, 0),
    "update_grid": lambda model: model.update_grid(proportions(40, 2)),
    "perturb": lambda model: model.perturb(0.1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_networks_changed_in_inference_mode_are_fitted(change: Callable[[KAN], Any]) -> None:
    model = _model()
    with torch.inference_mode():
        found = change(model)
    fitted = model if found is None else found
    history = fitted.fit((proportions(30, 2), proportions(30, 1)), steps=2, progress=False)
    assert history["train_loss"][-1] < 1.0
    fitted.fit((proportions(30, 2), proportions(30, 1)), opt="LM", steps=1, progress=False)


@pytest.mark.parametrize("opt", ["LBFGS", "LM", "Adam"])
def test_data_from_inference_mode(opt: str) -> None:
    model = _model()
    with torch.inference_mode():
        x, y = proportions(30, 2).clone(), proportions(30, 1).clone()
        model(x)
    assert model.attribute() is None and model.feature_score.shape == (2,)
    model(x).sum().backward()
    model.fit((x, y), opt=opt, steps=1, progress=False)
    model.prune()


@pytest.mark.parametrize("module", [KANLinear(2, 3), KANLayer(2, 3), SymbolicLayer(2, 3), KAN([2, 1], auto_save=False), MLP([2, 1])])
def test_inputs_without_numbers_of_their_own(module: nn.Module) -> None:
    dtype = next(module.parameters()).dtype
    with pytest.raises(ValueError, match=r"the input must be a dense tensor; got torch.sparse_coo. Convert it with .to_dense\(\)"):
        module(torch.ones(3, 2, dtype=dtype).to_sparse())
    with pytest.raises(ValueError, match="the input is on the meta device, which has shapes but no numbers"):
        module(torch.ones(3, 2, dtype=dtype, device="meta"))


@pytest.mark.parametrize("model", [KAN([2, 1], auto_save=False), MLP([2, 1])])
def test_a_model_without_numbers(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="the model is on the meta device"):
        copy.deepcopy(model).to("meta")(torch.ones(3, 2))
    with pytest.raises(ValueError, match="the model is on the meta device"):
        copy.deepcopy(model).to("meta").fit((torch.ones(3, 2), torch.ones(3, 1)), steps=1, progress=False)
