"""State dictionaries that know their network: what they tell, what loading restores, and what is refused with nothing changed."""

import copy
import io
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kan.network.network import Network
from kan.symbolic.library import SYMBOLIC_LIB, add_symbolic
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def table() -> Iterator[dict[str, Any]]:
    before = dict(SYMBOLIC_LIB)
    add_symbolic("own", lambda u: u.sin() * 3)
    yield SYMBOLIC_LIB
    SYMBOLIC_LIB.clear()
    SYMBOLIC_LIB.update(before)


def named(network: Network, l: int, i: int, j: int, name: str | Callable[[Tensor], Tensor]) -> Network:
    network.symbolic_layers[l].fix_symbolic(i, j, name)
    network.symbolic_layers[l].mask.data[j, i] = 1.0
    return network


def mixed(seed: int = 1) -> Network:
    return named(named(Network([2, [1, 1], 1], seed=seed), 0, 1, 0, "sin"), 0, 0, 2, "x^2")


def photograph(network: Network) -> dict[str, Any]:
    """Everything that a failed load might have touched."""
    parameters = dict(network.named_parameters())
    return {
        "numbers": {name: (id(p), p.tolist(), p.requires_grad) for name, p in parameters.items()},
        "names": [layer.funs_name for layer in network.symbolic_layers],
        "functions": [layer.functions for layer in network.symbolic_layers],
        "input": (network.input_id.tolist(), network.input_width, network.last_input), "settings": network.settings(),
    }  # fmt: skip


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def entry(state: Any) -> dict[str, Any]:
    found = state._metadata[""]["architecture"]
    assert isinstance(found, dict)
    return found


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(inside) for key, inside in value.items())
    return all(map(plain, value)) if type(value) is list else value is None or type(value) in (str, int, float, bool)


# What a state tells


def test_the_architecture_is_plain_and_passes_a_file_that_executes_nothing() -> None:
    network = Network(
        [2, [1, 2], 1], grid=np.array([4, 5]), mult_arity=[[], np.array([2, 3]), []], seed=np.int64(7), grid_range=torch.tensor([-2.0, 1])
    )
    state = mixed().state_dict()
    assert plain(entry(network.state_dict())) and plain(entry(state))
    assert entry(state)["symbolic"] == [[[1, 0, "sin"], [0, 2, "x^2"]], []]
    assert entry(network.state_dict())["mult_arity"] == [[], [2, 3], []] and entry(network.state_dict())["grid"] == [4, 5]
    for kept in (through_a_file(state), copy.deepcopy(state), copy.copy(state)):
        assert entry(kept) == entry(state)
    assert list(state) == [name for name, _ in mixed().named_parameters()]


def test_an_architecture_is_small_however_large_the_layer() -> None:
    told = [str(entry(Network([n, n], noise_scale=0.0).state_dict())) for n in (10, 200)]
    assert len(told[1]) - len(told[0]) < 2000  # the input columns, no list of edges


# Loading


def test_loading_restores_functions_columns_and_the_switch() -> None:
    network, other = mixed(), named(Network([2, [1, 1], 1], seed=2), 1, 0, 0, "exp")
    network.input_id, network.input_width, network.symbolic_enabled = torch.tensor([0, 3]), 4, False
    other(uniform(6, 2, seed=5))
    assert str(other.load_state_dict(through_a_file(network.state_dict()))) == "<All keys matched successfully>"
    assert [layer.funs_name for layer in other.symbolic_layers] == [layer.funs_name for layer in network.symbolic_layers]
    wide = torch.rand(5, 4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(other(wide), network(wide)) and not other.symbolic_enabled
    assert other.input_width == 4 and other.input_id.tolist() == [0, 3]


def test_a_plain_dictionary_changes_numbers_only() -> None:
    network, other = mixed(), named(Network([2, [1, 1], 1], seed=2), 1, 0, 0, "exp")
    before = photograph(other)
    other.load_state_dict(dict(network.state_dict()))
    after = photograph(other)
    assert all(after[what] == before[what] for what in ("names", "functions", "input", "settings"))
    assert torch.equal(other.numeric_layers[0].coef, network.numeric_layers[0].coef)


def test_functions_that_the_edges_have_are_kept(table: dict[str, Any]) -> None:
    # The best state of a fit must be loaded again by a model whose functions no table has.
    network = named(named(Network([2, 1]), 0, 0, 0, "own"), 0, 1, 0, lambda u: u * 2)
    best, y = copy.deepcopy(network.state_dict()), network(uniform(6, 2, seed=5))
    del table["own"]
    with torch.no_grad():
        network.numeric_layers[0].coef.add_(1)
    network.load_state_dict(best)
    assert torch.equal(network(uniform(6, 2, seed=5)), y)


def test_a_network_inside_another_module_brings_its_functions_along() -> None:
    def outer(seed: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 2), Network([2, [1, 1], 1], seed=seed))

    one, other = outer(1), outer(2)
    named(one[1], 0, 1, 0, "sin")
    state = through_a_file(one.state_dict())
    assert "architecture" in state._metadata["1"]
    other.load_state_dict(state)
    assert torch.equal(other(uniform(6, 2, seed=5)), one(uniform(6, 2, seed=5)))
    one.load_state_dict(dict(other.state_dict()))
    named(one[1], 0, 1, 0, torch.sinc)
    with pytest.raises(RuntimeError, match=r"the edge \(0, 1, 0\) of the state has the symbolic function 'anonymous'"):
        other.load_state_dict(one.state_dict())


def test_strict_and_assign_keep_their_meaning() -> None:
    network, other = mixed(), Network([2, [1, 1], 1], seed=2)
    state = network.state_dict()
    del state["act_fun.1.coef"]
    state["further"] = torch.zeros(1)
    coef = other.numeric_layers[1].coef.detach().clone()
    found = other.load_state_dict(state, strict=False)
    assert found.missing_keys == ["act_fun.1.coef"] and found.unexpected_keys == ["further"]
    assert torch.equal(other.numeric_layers[1].coef, coef) and other.symbolic_layers[0].funs_name == network.symbolic_layers[0].funs_name
    state = copy.deepcopy(network.state_dict())
    other.load_state_dict(state, assign=True)
    assert all(p.data_ptr() == state[name].data_ptr() for name, p in other.named_parameters())
    assert other.numeric_layers[0].coef.requires_grad and torch.equal(other(uniform(6, 2, seed=5)), network(uniform(6, 2, seed=5)))


def test_functions_of_layers_that_a_state_lacks_are_left_alone() -> None:
    state = named(mixed(), 1, 0, 0, "exp").state_dict()
    for name in [name for name in state if name.startswith("symbolic_fun.1")]:
        del state[name]
    other = named(Network([2, [1, 1], 1]), 1, 1, 0, "tanh")
    other.load_state_dict(state, strict=False)
    assert [layer.funs_name for layer in other.symbolic_layers] == [mixed().symbolic_layers[0].funs_name, [["0", "tanh"]]]


# Refusals: nothing is changed


def wrong(kind: str) -> Any:
    state = mixed(3).state_dict()
    if kind == "shape":
        return Network([2, 3, 1]).state_dict()
    if kind == "depth":
        return Network([2, 3, 3, 1]).state_dict()
    if kind == "grid":
        return Network([2, [1, 1], 1], grid=6).state_dict()
    if kind == "missing":
        del state["symbolic_fun.1.mask"]
    if kind == "no tensor":
        state["symbolic_fun.1.mask"] = 3  # the last one: all others have been copied by then
    if kind == "base function":
        return Network([2, [1, 1], 1], base_fun="identity").state_dict()
    if kind == "unknown":
        entry(state)["symbolic"][0][0][2] = "own"
    if kind == "metadata":
        entry(state)["input_id"] = [0, 7]
    return state


HINT = r"(?s)made by Network.from_state_dict\(state\)"
REFUSED = {
    "shape": HINT, "depth": HINT, "grid": HINT, "missing": HINT, "no tensor": r"(?s)expected torch.Tensor",
    "base function": r"base function 'identity', this one has 'silu'; dict\(state\) holds the numbers alone",
    "unknown": r"edge \(0, 1, 0\) of the state has the symbolic function 'own', which is not in SYMBOLIC_LIB",
    "metadata": "metadata of the state do not describe a network",
}  # fmt: skip


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(kind: str, assign: bool) -> None:
    network = named(mixed(), 1, 0, 0, "exp")
    network(uniform(6, 2, seed=5))
    before = photograph(network)
    with pytest.raises(RuntimeError, match=REFUSED[kind]) as caught:
        network.load_state_dict(wrong(kind), assign=assign)
    assert photograph(network) == before
    assert ("from_state_dict(state)" in str(caught.value)) == (kind in ("shape", "depth", "grid", "missing", "no tensor"))


def test_products_of_other_arities_are_another_function() -> None:
    one, other = (Network([2, [0, 2], 1], mult_arity=[[], arities, []]) for arities in ([2, 3], [3, 2]))
    with pytest.raises(RuntimeError, match=r"multiplication arities \(\(\), \(2, 3\), \(\)\), this one has \(\(\), \(3, 2\), \(\)\)"):
        other.load_state_dict(one.state_dict())
    other.load_state_dict(dict(one.state_dict()))


# Making a network


def test_a_state_without_metadata_is_read_from_its_shapes() -> None:
    network = Network([2, [2, 1], 3, 1], grid=[4, 5, 6], k=[3, 2, 0], seed=3)
    found = Network.from_state_dict(dict(network.state_dict()))
    assert (found.width, found.structure, found.grid, found.k) == (network.width, network.structure, [4, 5, 6], [3, 2, 0])
    assert torch.equal(found(uniform(6, 2, seed=5)), network(uniform(6, 2, seed=5)))
    even = Network.from_state_dict(dict(Network([2, 3, 1], grid=5, k=2).state_dict()))
    assert (even.grid, even.k, even.mult_arity) == (5, 2, 2)


def test_settings_stand_in_for_those_found() -> None:
    network = Network([2, 2, 1], seed=3, grid_eps=0.3)
    found = Network.from_state_dict(network.state_dict(), seed=9, base_fun="zero")
    assert found.seed == 9 and found.grid_eps == 0.3 and found.base_fun_name == "zero"
    assert Network.from_state_dict(dict(network.state_dict()), grid_eps=0.5).grid_eps == 0.5


def test_arities_are_asked_for_unless_only_one_choice_is_possible() -> None:
    for width, arity, known in (
        ([2, [3, 1], 1], 2, True),
        ([2, [0, 1], 1], 5, True),
        ([2, [1, 1], 1], 3, False),
        ([2, [1, 2], 1], 2, False),
    ):
        network = Network(width, mult_arity=arity)
        state = dict(network.state_dict())
        if not known:
            with pytest.raises(ValueError, match=r"layer 1 has \d nodes made of \d sub-nodes.*several choices.*give mult_arity="):
                Network.from_state_dict(state)
        for given in ([] if not known else [{}]) + [{"mult_arity": arity}, {"mult_arity": [list(a) for a in network.structure.arities]}]:
            assert Network.from_state_dict(state, **given).structure == network.structure
    with pytest.raises(ValueError, match="which nodes of arity 4 cannot be"):
        Network.from_state_dict(state, mult_arity=4)
    with pytest.raises(ValueError, match=r"subnodes \[5, 1\]; the settings ask for \[4, 1\]"):
        Network.from_state_dict(state, mult_arity=[[], [2], []])


def test_functions_are_asked_for_and_may_be_given(table: dict[str, Any]) -> None:
    network = named(named(mixed(), 1, 0, 0, "own"), 0, 0, 0, torch.sinc)
    state = dict(network.state_dict())
    with pytest.raises(ValueError, match=r"symbolic edges in the layers \[0, 1\], but no metadata .* give funs_name="):
        Network.from_state_dict(state)
    names: Any = [copy.deepcopy(layer.funs_name) for layer in network.symbolic_layers]
    names[0][0][0] = torch.sinc
    for given in (state, network.state_dict()):
        found = Network.from_state_dict(given, names)
        assert torch.equal(found(uniform(6, 2, seed=5)), network(uniform(6, 2, seed=5)))
        assert [layer.funs_name for layer in found.symbolic_layers] == [layer.funs_name for layer in network.symbolic_layers]
    with pytest.raises(ValueError, match=r"\(sub-nodes, inputs\) are \[\(3, 2\), \(1, 2\)\]"):
        Network.from_state_dict(state, names[:1])
    with pytest.raises(ValueError, match=r"edge \(0, 0, 0\) of the state has the symbolic function 'anonymous'"):
        Network.from_state_dict(network.state_dict())
    names[0][0][0] = "sin"
    del table["own"]
    with pytest.raises(ValueError, match=r"edge \(1, 0, 0\) of the state has the symbolic function 'own'.* add_symbolic first"):
        Network.from_state_dict(state, names)


def test_the_order_in_which_edges_were_fixed_does_not_matter() -> None:
    edges = [(0, 0, "sin"), (1, 0, "exp"), (2, 0, "sin"), (3, 0, "exp"), (4, 0, "tanh")]
    data = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    outputs = []
    for order in (edges, edges[::-1], edges[2:] + edges[:2]):
        network = Network([5, 1])
        for i, j, name in order:
            named(network, 0, i, j, name)
        outputs.append(network(data))
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


HUGE = torch.zeros(1).expand(10**6, 10**6, 6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"act_fun.0.coef": None}, "this is not the state dictionary of a KAN: it has no entry 'act_fun.0.coef'"),
        ({"act_fun.0.grid": None}, r"coef, grid and node_bias of layer 0 have the shapes \(2, 3, 6\), \(\), \(2,\)"),
        ({"act_fun.0.coef": HUGE}, "act_fun.0.grid should have the shape"),
        ({"act_fun.1.coef": HUGE}, r"layer 1 has coef \(1000000, 1000000, 6\)"),
        ({"act_fun.0.grid": torch.zeros(2, 5)}, r"layer 0 has coef \(2, 3, 6\) and grid \(2, 5\)"),
        ({"symbolic_fun.0.affine": torch.zeros(3, 2)}, r"symbolic_fun.0.affine should have the shape \(3, 2, 4\), it has \(3, 2\)"),
        ({"subnode_bias_1": None}, r"subnode_bias_1 should have the shape \(1,\), it has None"),
        ({"further": torch.zeros(1)}, "(?s)the state does not fit a Network of width .*further"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused_before_anything_is_allocated(change: dict[str, Any], reason: str) -> None:
    state = OrderedDict(mixed().state_dict())
    for name, value in change.items():
        del_or_set = state.pop(name, None) if value is None else state.update({name: value})
        assert del_or_set is None or value is None
    with pytest.raises(ValueError, match=reason):
        Network.from_state_dict(state, [layer.funs_name for layer in mixed().symbolic_layers])


@pytest.mark.parametrize(
    "change",
    [
        {"width": [2, 10**9, 1]}, {"width": [2, [1, 1], 1, 1]}, {"width": "2"}, {"grid": 10**8}, {"k": None}, {"mult_arity": 3},
        {"mult_arity": 0.5}, {"symbolic": [[]]}, {"symbolic": [[[5, 0, "sin"]], []]}, {"symbolic": [[[0, 0, 3]], []]}, {"input_id": [0]},
        {"input_id": [0, 2]}, {"input_width": "2"}, {"frozen": [1]}, {"base_fun": "__import__"},
    ],
)  # fmt: skip
def test_metadata_that_do_not_fit_are_refused_before_anything_is_allocated(change: dict[str, Any]) -> None:
    state = mixed().state_dict()
    entry(state).update(change)
    with pytest.raises(ValueError):
        Network.from_state_dict(state)


def test_later_versions_may_tell_more_and_earlier_ones_less() -> None:
    network = mixed()
    state = network.state_dict()
    entry(state).update(scaler=[1.0])
    del entry(state)["sparse_init"]
    assert torch.equal(Network.from_state_dict(state)(uniform(6, 2, seed=5)), network(uniform(6, 2, seed=5)))


def test_what_is_no_state_is_refused() -> None:
    for value in ({}, [1], {"linear.weight": torch.zeros(2)}):
        with pytest.raises(ValueError, match="not the state dictionary of a KAN"):
            Network.from_state_dict(value)  # type: ignore[arg-type]


def test_making_a_network_leaves_the_state_alone() -> None:
    state = mixed().state_dict()
    before, told = {name: value.clone() for name, value in state.items()}, copy.deepcopy(entry(state))
    found = Network.from_state_dict(state)
    with torch.no_grad():
        for p in found.parameters():
            p.add_(1)
    assert all(torch.equal(before[name], value) for name, value in state.items()) and entry(state) == told
