"""Activations are computed when they are read; where they would not be those of the pass, a warning says so."""

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.MLP import MLP
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

READ = (
    *("acts", "acts_premult", "spline_preacts", "spline_postacts", "spline_postsplines"),
    *("subnode_actscale", "edge_actscale", "acts_scale", "acts_scale_spline"),
)
INPUT = r"the last input has been changed in place since the model was called with it.*model\(x.clone\(\)\)"
PARAMETERS = r"the parameters have changed since the last pass.*Read them before the step, or call model\(x\) again"


def model() -> KAN:
    return KAN([2, 3, 1], grid=3, seed=0, auto_save=False)


def step(network: Any, x: Tensor) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    network(x).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("attribute", READ)
def test_a_step_of_an_optimiser_is_noticed(attribute: str) -> None:
    network, x = model(), uniform(30, 2)
    step(network, x)
    with pytest.warns(UserWarning, match=PARAMETERS) as seen:
        getattr(network, attribute)
    assert seen[0].filename == __file__
    getattr(network, attribute)  # it is said once
    network(x)
    torch.testing.assert_close(network.acts[-1], network(x))


@pytest.mark.parametrize("change", [lambda x: x.mul_(0), lambda x: x.copy_(uniform(30, 2) + 5), lambda x: x[3:].zero_()])
@pytest.mark.parametrize("read", [lambda m: m.acts, lambda m: m.feature_score, lambda m: m.attribute(), lambda m: m.acts_scale])
def test_an_input_changed_in_place_is_noticed(change: Callable[[Tensor], Any], read: Callable[[KAN], Any]) -> None:
    network, x = model(), uniform(30, 2)
    network(x)
    change(x)
    with pytest.warns(UserWarning, match=INPUT):
        read(network)
    read(network)
    network(x)
    read(network)


def test_the_attributes_of_a_perceptron_likewise() -> None:
    network, x = MLP([2, 3, 1], seed=0), uniform(30, 2)
    for attribute in ("acts", "acts_scale", "wa_forward"):
        step(network, x)
        with pytest.warns(UserWarning, match=PARAMETERS):
            getattr(network, attribute)
    network(x)
    x.add_(1)
    with pytest.warns(UserWarning, match=INPUT):
        network.acts  # noqa: B018
    step(network, uniform(30, 2))
    network.plot(metric="act")


def test_an_input_of_inference_mode_is_copied() -> None:
    network, ordinary = model(), uniform(30, 2)
    network(ordinary)
    expected = network.acts[-1]
    with torch.inference_mode():
        x = ordinary.clone()
        network(x)
        x.zero_()
        assert torch.equal(network.acts[-1], expected)


FLOWS: dict[str, Callable[[KAN, Tensor], Any]] = {
    "pass": lambda m, x: m(x),
    "writing into the output": lambda m, x: m(x).detach().zero_(),
    "fit": lambda m, x: m.fit((x, x[:, :1]), steps=2, progress=False),
    "fit with batches": lambda m, x: m.fit((x, x[:, :1]), opt="Adam", batch=7, steps=3, progress=False),
    "fit with a prediction": lambda m, x: m.fit((x, x[:, :1]), steps=2, progress=False, pred_fn=lambda n, z: n(z)),
    "attribute": lambda m, x: (m(x), m.attribute()),
    "attribute after a step": lambda m, x: (step(m, x), m.attribute(), m.feature_score, m.plot(), m(x)),
    "penalty in a loop": lambda m, x: (step(m, x), m(x), m.reg(), step(m, x), m(x)),
    "prune": lambda m, x: (m(x), m.prune(), m.prune_edge()),
    "fix_symbolic": lambda m, x: (m(x), m.fix_symbolic(0, 0, 0, "sin", verbose=False), m.set_mode(0, 1, 0, "s")),
    "remove": lambda m, x: (m(x), m.remove_edge(0, 0, 0), m.remove_node(1, 1)),
    "unfix": lambda m, x: (m.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False), m(x), m.unfix_symbolic(0, 0, 0)),
    "swap": lambda m, x: (m(x), m.swap(1, 0, 1), m.auto_swap()),
    "perturb": lambda m, x: (m(x), m.perturb(0.1)),
    "expand": lambda m, x: (m(x), m.expand_depth()),
    "update_grid": lambda m, x: (m(x), m.update_grid(x)),
    "load_state_dict": lambda m, x: (m(x), m.load_state_dict(KAN([2, 3, 1], grid=3, seed=1, auto_save=False).state_dict())),
    "freeze": lambda m, x: (m(x), m.requires_grad_(False)),
    "another type": lambda m, x: (m(x), m.float(), m.double()),
}


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_no_warning_where_the_model_was_changed_by_its_own_methods(flow: Callable[[KAN, Tensor], Any]) -> None:
    network, x = model(), uniform(30, 2)
    flow(network, x)
    for attribute in READ:
        getattr(network, attribute)
    for other in (network.refine(4), network.prune(0.0, 0.0), copy.deepcopy(network), network.copy()):
        assert other.acts is not None


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_tools_that_look_at_every_attribute_hear_nothing() -> None:
    network, x = model(), uniform(30, 2)
    step(network, x)
    inspect.getmembers(network)
    torch.jit.trace(network, x[:5])
    step(network, x)
    inspect.getmembers(network)
    with pytest.warns(UserWarning, match=PARAMETERS):
        network.acts  # noqa: B018


def test_nothing_is_said_of_a_model_that_stays_as_it_is() -> None:
    network, x = model(), uniform(30, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            network(x).sum().backward()
            assert network.acts is not None
            network.zero_grad()
