"""States of a network to which it comes back."""

import pytest
import torch

from kan import KAN
from kan.training.snapshot import restore_, round_into_, snapshot, undone_on_error, way_back

X = torch.rand(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def model() -> KAN:
    return KAN([2, 2, 1], grid=3, seed=0, auto_save=False).double()


def test_a_snapshot_holds_parameters_masks_and_grids() -> None:
    network = model()
    saved, before = snapshot(network), network(X).detach()
    with torch.no_grad():
        for values in (*network.parameters(), *network.buffers()):
            if values.is_floating_point():
                values.mul_(0.5)
    assert not torch.equal(network(X), before)
    restore_(network, saved)
    assert torch.equal(network(X), before)


def test_the_way_back_restores_shapes_parts_and_attributes() -> None:
    network = model()
    network(X)
    back, before, parts = way_back(network), network(X).detach(), list(network.modules())
    network.act_fun[0] = model().act_fun[1]
    network.coef_of_mine = 3
    network.node_bias_0 = torch.nn.Parameter(torch.ones(7))
    back()
    assert list(network.modules()) == parts and not hasattr(network, "coef_of_mine")
    assert torch.equal(network(X), before)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_and_interrupts_leave_the_network_alone(error: type[BaseException]) -> None:
    network = model()
    before = network(X).detach()
    with pytest.raises(error), undone_on_error(way_back(network)):
        with torch.no_grad():
            network.act_fun[0].coef.zero_()
        raise error
    assert torch.equal(network(X), before)
    with undone_on_error(way_back(network)), torch.no_grad():
        network.act_fun[0].coef.zero_()
    assert not torch.equal(network(X), before), "without an error the change stays"


def test_values_are_rounded_into_another_format() -> None:
    exact, rounded = model(), model().float()
    with torch.no_grad():
        exact.act_fun[0].coef.fill_(1 / 3)
    round_into_(rounded, exact)
    assert rounded.act_fun[0].coef.dtype == torch.float32
    assert torch.equal(rounded.act_fun[0].coef, exact.act_fun[0].coef.float())
