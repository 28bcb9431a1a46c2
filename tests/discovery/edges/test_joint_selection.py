"""Joint selection of the functions of all edges."""

import copy

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.discovery.edges.joint_selection import SelectionOptions, refit_, select_jointly, sharpen_
from kan.network.network import Network
from kan.training.fit import fit
from kan.training.grid_schedule import GridSchedule
from kan.training.options import FitOptions

LIBRARY = ["x", "x^2", "x^3", "exp", "log", "sqrt", "tanh", "sin", "abs"]


def data(count: int = 400) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    return x, torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)


@pytest.fixture(scope="module")
def trained() -> Network:
    network = Network([2, 1, 1], grid=3, seed=0).double()
    fit(network, data(), FitOptions(opt="LM", steps=30, grid_schedule=GridSchedule(4, 0, 8), progress=False))
    return network


def test_the_law_is_found_among_all_functions_and_the_network_left_alone(trained: Network) -> None:
    before = copy.deepcopy(trained.state_dict())
    best, *others = select_jointly(trained, *data(), SelectionOptions(LIBRARY))
    assert {edge: candidate.name for edge, candidate in best.functions.items()} == {(0, 0, 0): "sin", (0, 1, 0): "x^2", (1, 0, 0): "exp"}
    assert best.error < 1e-24 and not best.splines and all(best.bits <= other.bits for other in others)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in before.items())


def test_an_edge_that_no_function_describes_stays_a_spline() -> None:
    x, _ = data()
    y = torch.sin(6 * x[:, [0]]) * torch.exp(x[:, [0]]) + x[:, [1]]
    network = Network([2, 1], grid=20, seed=0).double()
    fit(network, (x, y), FitOptions(opt="LM", steps=30, progress=False))
    best = select_jointly(network, x, y, SelectionOptions(["x", "x^2", "sin"]))[0]
    assert best.splines == [(0, 0, 0)] and {edge: candidate.name for edge, candidate in best.functions.items()} == {(0, 1, 0): "x"}


def test_the_search_stops_when_it_is_told_to(trained: Network) -> None:
    best = select_jointly(trained, *data(), SelectionOptions(LIBRARY, stop=lambda: True))[0]
    assert not best.functions and sorted(best.splines) == [(0, 0, 0), (0, 1, 0), (1, 0, 0)]


@torch.no_grad()
def test_refitting_keeps_what_is_trained_and_never_gets_worse(trained: Network) -> None:
    network, (x, y) = copy.deepcopy(trained), data()
    wanted = [p.requires_grad for p in network.parameters()]
    before = float((network.trace(x).output - y).square().mean())
    assert refit_(network, x, y, 5) <= before
    assert [p.requires_grad for p in network.parameters()] == wanted
    sharpen_(network, x, y)
    assert network.grid == 10 and float((network.trace(x).output - y).square().mean()) < before


def test_a_model_names_its_edges_on_data(capsys: pytest.CaptureFixture[str]) -> None:
    model, (x, y) = KAN([2, 1, 1], grid=3, seed=0, auto_save=False).double(), data()
    model.fit((x, y), opt="LM", steps=30, progress=False)
    model.auto_symbolic(lib=LIBRARY, data=(x, y))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[2] for line in lines] == ["0) with sin", "0) with x^2", "0) with exp"]
    assert float((model(x) - y).detach().square().mean()) < 1e-24 and model.symbolic_formula()[0][0].free_symbols
    with pytest.raises(ValueError, match="sine"):
        model.auto_symbolic(lib=["sine"], data=(x, y))


def test_what_is_kept_is_said_and_the_function_stays_near(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data()
    model = KAN([2, 1, 1], grid=3, seed=0, auto_save=False).double()
    model.fit((x, y), opt="LM", steps=30, progress=False)
    before = float((model(x) - y).detach().square().mean())
    model.auto_symbolic(lib=LIBRARY, data={"train_input": x, "train_label": y}, time_limit=0)
    assert capsys.readouterr().out.splitlines() == [f"({edge}) stays a spline" for edge in ("0,0,0", "0,1,0", "1,0,0")]
    assert float((model(x) - y).detach().square().mean()) <= before * (1 + 1e-9)


def test_a_hidden_node_that_another_can_do_without_goes_first(capsys: pytest.CaptureFixture[str]) -> None:
    # exp(sin(pi x_1)) = g_1(x_1) + g_2(x_1) for any g_1: with two nodes their curves are nothing in particular.
    model, (x, y) = KAN([2, 2, 1], grid=3, seed=0, auto_save=False).double(), data()
    model.fit((x, y), opt="LM", steps=30, progress=False)
    model.auto_symbolic(lib=LIBRARY, data=(x, y))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and sum(line.endswith(" with 0") for line in lines) == 3
    assert float((model(x) - y).detach().square().mean()) < 1e-24
    assert all(bool((layer.mask == 0).all()) for layer in model.act_fun)


def test_nodes_that_are_needed_stay() -> None:
    x, _ = data()
    y = torch.sin(3 * (x[:, [0]] + x[:, [1]])) + torch.exp(x[:, [0]] - x[:, [1]])
    network = Network([2, 2, 1], grid=5, seed=0).double()
    fit(network, (x, y), FitOptions(opt="LM", steps=60, progress=False))
    best = select_jointly(network, x, y, SelectionOptions(["x", "x^2", "sin", "exp"], stop=lambda: False))[0]
    assert len(best.functions) + len(best.splines) == 6


def test_the_constant_of_a_zero_function_is_taken_over() -> None:
    x, _ = data()
    y = torch.sin(2 * x[:, [0]]) + 3
    model = KAN([2, 1], grid=5, seed=0, auto_save=False).double()
    model.fit((x, y), opt="LM", steps=30, progress=False)
    model.auto_symbolic(lib=["0", "sin"], data=(x, y), verbose=0)
    assert model.symbolic_fun[0].funs_name == [["sin", "0"]]
    assert float((model(x) - y).detach().square().mean()) < 1e-24
