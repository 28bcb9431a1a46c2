"""Attributes that pykan lets programs set: each takes effect where it is used, or is refused with a sentence."""

import copy
import inspect
import pickle
import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import kan
from kan import KAN, KANLayer, KANLinear, Symbolic_KANLayer
from kan.MLP import MLP
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

RECORDS = (
    "acts", "acts_premult", "spline_preacts", "spline_postacts", "spline_postsplines", "acts_scale", "acts_scale_spline",
    "subnode_actscale", "edge_actscale",
)  # fmt: skip
SCORES = (
    "node_scores", "edge_scores", "subnode_scores", "node_scores_all", "edge_scores_all", "subnode_scores_all", "node_attribute_scores",
)  # fmt: skip


def model(width: Any = (3, 4, 1), seen: bool = True) -> KAN:
    net = KAN(list(width), seed=0, auto_save=False)
    if seen:
        net(uniform(40, net.width_in[0]))
    return net


def test_everything_can_be_set_to_what_it_is() -> None:
    net = model()
    y, names = net(uniform(40, 3)), [name for name, _ in inspect.getmembers(net) if not name.startswith("_")]
    built = ("width", "depth", "device", "mult_homo", "mult_arity", "width_in", "width_out", "n_edge", "n_sum", "grid", "k", "input_id")
    numbers = ("node_bias", "node_scale", "subnode_bias", "subnode_scale", "act_fun", "symbolic_fun")
    for name in ("cache_data", *RECORDS, *SCORES, *built, *numbers):
        assert name in names
        setattr(net, name, getattr(net, name))
    assert torch.equal(net(uniform(40, 3)), y)


# The last input


def test_the_data_that_are_set_are_those_of_what_follows() -> None:
    net, other = model(), model()
    other(2 * uniform(40, 3))
    net.cache_data = 2 * uniform(40, 3)
    net.attribute()
    other.attribute()
    for one, two in zip(net.edge_scores, other.edge_scores, strict=True):
        assert torch.equal(one, two)
    assert net.cache_data is not None and torch.equal(net.cache_data, 2 * uniform(40, 3))
    assert torch.equal(torch.as_tensor(net.get_fun(0, 1, 2, plot=False)[1]), torch.as_tensor(other.get_fun(0, 1, 2, plot=False)[1]))
    net.cache_data = None
    with pytest.raises(ValueError, match="hasn't seen any data yet"):
        net.attribute()
    with pytest.raises(ValueError, match=re.escape("(number of samples, 3)")):
        net.cache_data = uniform(40, 2)
    with pytest.raises(TypeError, match="must be a tensor of floating-point numbers"):
        net.cache_data = [[1.0, 2.0, 3.0]]


def test_the_data_of_an_mlp_are_set() -> None:
    net, other = MLP([3, 4, 1], seed=0), MLP([3, 4, 1], seed=0)
    other(uniform(40, 3))
    net.cache_data = uniform(40, 3)
    for one, two in zip(net.acts_scale, other.acts_scale, strict=True):
        assert torch.equal(one, two)
    net.cache_data = None
    assert not hasattr(net, "acts_scale")


def test_data_without_the_columns_that_are_not_used_are_data() -> None:
    net = model().prune_input(active_inputs=[0, 2])
    net(uniform(40, 3))
    scores = [score.detach() for score in net.edge_scores]
    net.cache_data = uniform(40, 3)[:, [0, 2]]  # as pykan has them
    net.attribute()
    for one, two in zip(net.edge_scores, scores, strict=True):
        torch.testing.assert_close(one.detach(), two)


# What a pass leaves


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_freed_is_gone_until_the_next_pass(name: str) -> None:
    net = model()
    before = getattr(net, name)
    setattr(net, name, None)
    assert getattr(net, name) is None
    net.attribute()
    assert net.plot() is not None and net.prune(0, 0).width == net.width, "nothing needs it: it is computed"
    for again in (lambda: net.attribute(), lambda: net(uniform(40, 3)), lambda: net.get_act()):
        setattr(net, name, None)
        again()
        for one, two in zip(getattr(net, name), before, strict=True):
            assert torch.equal(one, two)
    setattr(net, name, None)
    net.fit((uniform(40, 3), uniform(40, 3)[:, :1]), steps=2, progress=False)
    assert len(getattr(net, name)) == len(before)
    delattr(net, name)
    assert getattr(net, name) is None


@pytest.mark.parametrize(
    ("name", "metric"),
    [("acts_scale_spline", "edge_forward_spline_n"), ("acts_scale", "edge_forward_sum"), ("edge_actscale", "edge_forward_spline_u")],
)
def test_scales_that_are_set_are_those_of_the_penalty(name: str, metric: str) -> None:
    net = model()
    setattr(net, name, [2 * scale.detach() for scale in getattr(net, name)])
    torch.testing.assert_close(net.reg(metric, 1.0, 0.0), sum(scale.sum() for scale in getattr(net, name)))
    if name == "edge_actscale":
        scores = model().edge_scores[1]
        net.attribute()
        torch.testing.assert_close(net.edge_scores[1], 2 * scores)


def test_activations_that_are_set_are_those_of_curves() -> None:
    net = model()
    acts, postacts = [act.clone() for act in net.acts], [post.clone() for post in net.spline_postacts]
    acts[0][:, 1], postacts[0][:, 2, 1] = uniform(40, 3)[:, 0], 0.5 * torch.sin(2 * uniform(40, 3)[:, 0])
    net.acts, net.spline_postacts = acts, postacts
    x, y = net.get_fun(0, 1, 2, plot=False)
    torch.testing.assert_close(torch.as_tensor(y), 0.5 * torch.sin(2 * torch.as_tensor(x)))
    assert net.suggest_symbolic(0, 1, 2, lib=["x", "sin", "exp"], verbose=False)[0] == "sin"
    assert net.fix_symbolic(0, 1, 2, "sin", verbose=False) > 0.999999


def test_a_forward_that_records_as_pykans_does_is_what_is_read() -> None:
    class Own(KAN):
        def forward(self, x: Tensor, singularity_avoiding: bool = False, y_th: float = 10.0) -> Tensor:
            x = x[:, self.input_id]
            self.cache_data = x
            self.acts, self.spline_postacts, self.edge_actscale, self.subnode_actscale = [], [], [], []
            self.acts.append(x)
            for l in range(self.depth):
                y, _, postacts, _ = self.act_fun[l](torch.tanh(x))
                self.subnode_actscale.append(y.std(0).detach())
                self.edge_actscale.append(postacts.std(0))
                self.spline_postacts.append(postacts.detach())
                x = self.node_scale[l] * y + self.node_bias[l]
                self.acts.append(x.detach())
            return x

    net = Own([3, 4, 1], seed=0, auto_save=False)
    y = net(uniform(40, 3))
    assert [tuple(act.shape) for act in net.acts] == [(40, 3), (40, 4), (40, 1)] and torch.equal(net.acts[-1], y)
    net.attribute()
    expected = net.edge_actscale[1] / (net.subnode_actscale[1] + 1e-4)
    torch.testing.assert_close(net.edge_scores[1], expected)
    assert torch.equal(torch.as_tensor(net.get_fun(1, 0, 0, plot=False)[1]).sort()[0], net.spline_postacts[1][:, 0, 0].sort()[0])


def test_records_that_do_not_fit_are_named() -> None:
    net = model()
    net.edge_actscale = net.edge_actscale[:1]
    message = "edge_actscale must have 2 tensors of the shapes (4, 3), (1, 4); it has been set to 1 tensors of the shapes (4, 3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        net.attribute()
    net.edge_actscale = []  # as it is in the middle of a pass, and after one that saves nothing
    net.attribute()


def test_copies_are_made_without_records_and_with_scores() -> None:
    net = model()
    net.acts, net.node_scores = None, [score.detach() for score in net.node_scores]
    net.edge_scores = [score + torch.ones((), requires_grad=True) for score in net.edge_scores]
    for copied in (copy.deepcopy(net), net.copy(), pickle.loads(pickle.dumps(net))):
        assert len(copied.acts) == 3
        for name in ("node_scores", "edge_scores"):
            for one, two in zip(getattr(copied, name), getattr(net, name), strict=True):
                assert torch.equal(one, two)


# Scores


def scores_of(net: KAN, dropped: int) -> list[Tensor]:
    """All nodes are important, but for one of the first hidden layer."""
    scores = [torch.ones(n) for n in net.width_in]
    scores[1][dropped] = 0.0
    return scores


def test_scores_of_nodes_steer_pruning() -> None:
    net = model()
    net.node_scores = scores_of(net, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the loss grows is not what is looked at here
        assert net.prune_node(0.5).width == [[3, 0], [3, 0], [1, 0]]
        pruned = net.prune(0.5, 0.0)
    assert net.pruning is None and pruned.pruning is not None and pruned.pruning.nodes[1] == [0, 1, 3]
    net.node_scores = [torch.tensor([1.0, 0.0, 1.0]), torch.ones(4), torch.ones(1)]
    assert torch.equal(net.feature_score, torch.tensor([1.0, 0.0, 1.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert net.prune_input(0.5).input_id.tolist() == [0, 2]
    net.node_scores = [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [1.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert net.prune_input(0.5).input_id.tolist() == [0, 2], "lists of numbers are scores too"


def test_scores_of_edges_steer_pruning_and_the_plot() -> None:
    net = model()
    scores = [torch.ones(4, 3), torch.ones(1, 4)]
    scores[0][1, 2] = 0.0
    net.edge_scores = scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruned = net.prune(0.0, 0.5)
        assert pruned.n_edge == 15 and pruned.act_fun[0].mask[2, 1] == 0
        other = copy.deepcopy(net)
        other.prune_edge(0.5)
    assert other.n_edge == 15 and other.act_fun[0].mask[2, 1] == 0
    # The hidden nodes are dropped by their own scores; the scores of the edges that are left are those that were set.
    net.node_scores = scores_of(net, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert net.prune(0.5, 0.5).n_edge == 12
    from kan.plotting.network import diagram_of

    opacity = diagram_of(net).edges[0, 2, 1].opacity, diagram_of(net).edges[0, 0, 0].opacity
    assert opacity[0] == 0.0 and opacity[1] > 0.9


def test_scores_hold_until_they_are_computed_anew() -> None:
    net = model()
    own = [score.detach() for score in net.node_scores]
    net.node_scores = scores_of(net, 2)
    net(2 * uniform(40, 3))
    assert net.node_scores[1][2] == 0.0, "a pass leaves them"
    assert len(net.edge_scores) == 2 and net.node_scores[1][2] == 0.0, "and so does reading others"
    net(uniform(40, 3))
    net.attribute()
    for one, two in zip(net.node_scores, own, strict=True):
        torch.testing.assert_close(one.detach(), two)
    net.node_scores = scores_of(net, 2)
    net.node_scores = None
    torch.testing.assert_close(net.node_scores[1].detach(), own[1])
    net.edge_scores = [torch.ones(4, 3), torch.ones(1, 4)]
    inspect.getmembers(net)
    assert net.edge_scores[0].sum() == 12, "looking at all attributes leaves them"
    net.node_attribute_scores = [torch.ones(4, 3), torch.ones(1, 3)]
    assert net.reg("node_backward", 1.0, 0.0) == 15
    net.node_attribute()
    assert net.reg("node_backward", 1.0, 0.0) != 15


def test_scores_that_do_not_fit_are_named() -> None:
    net = model()
    net.node_scores = [torch.ones(3), torch.ones(5), torch.ones(1)]
    message = "node_scores must have 3 tensors of the shapes (3,), (4,)"
    with pytest.raises(ValueError, match=re.escape(message)):
        net.prune_node(0.5)
    with pytest.raises(TypeError, match="edge_scores must be a list with one tensor for every layer, or None; got 3"):
        net.edge_scores = 3


def test_feature_scores_have_no_gradient() -> None:
    net = model()
    score = net.feature_score
    assert score.shape == (3,) and not score.requires_grad
    torch.testing.assert_close(score, net.node_scores[0].detach())
    assert score.numpy().shape == (3,)
    with pytest.raises(AttributeError, match="set node_scores, whose first entry it is"):
        net.feature_score = score


# How a network is built


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("width", [3, 5, 1], r"width follows .* is \[\[3, 0\], \[4, 0\], \[1, 0\]\] here, not \[3, 5, 1\]: KAN\(width"),
        ("depth", 3, r"depth .* is 2 here, not 3: expand_depth\(\) adds"),
        ("mult_homo", False, "mult_homo follows"),
        ("mult_arity", [[], [2], []], None),
        ("width_in", [3, 5, 1], "made of width and mult_arity"),
        ("width_out", [3, 5, 1], "made of width and mult_arity"),
        ("n_edge", 3, r"n_edge .* is 16 here, not 3: prune_edge\(\) and remove_edge"),
    ],
)
def test_what_follows_from_the_layers_is_refused(name: str, value: Any, message: str | None) -> None:
    net = model()
    y = net(uniform(40, 3))
    with pytest.raises((AttributeError, ValueError), match=message or "mult_arity must be"):
        setattr(net, name, value)
    assert torch.equal(net(uniform(40, 3)), y)


def test_another_arity_is_refused() -> None:
    net = KAN([2, [1, 2], 1], mult_arity=3, seed=0, auto_save=False)
    net.mult_arity = [[], [3, 3], []]
    with pytest.raises(AttributeError, match=r"arities \[\[\], \[3, 3\], \[\]\]; got 2"):
        net.mult_arity = 2


def test_the_width_is_equal_in_any_spelling() -> None:
    net = model()
    for width in ([3, 4, 1], (3, [4, 0], 1), net.width):
        net.width = width
    assert net.width == [[3, 0], [4, 0], [1, 0]]


def test_the_device_that_is_set_is_where_the_model_goes() -> None:
    net = model()
    net.device = "cpu"
    assert net.device == torch.device("cpu")
    net.device = torch.device("meta")
    assert all(parameter.is_meta for parameter in net.parameters()) and net.device.type == "meta"


def test_subclasses_set_attributes_on_both_sides_of_the_constructor() -> None:
    class Own(KAN):
        def __init__(self, width: list[int]) -> None:
            self.width = width
            self.device = "cpu"
            self.acts, self.cache_data, self.node_scores = None, None, None
            assert self.width == [3, 4, 1]
            super().__init__(width=self.width, auto_save=False, seed=0)
            self.width, self.depth, self.device = width, len(width) - 1, "cpu"
            self.node_scores, self.cache_data = None, None

    net = Own([3, 4, 1])
    assert torch.equal(net(uniform(40, 3)), model()(uniform(40, 3))) and net.width == [[3, 0], [4, 0], [1, 0]]
    with pytest.raises(AttributeError, match="width follows from the layers"):
        net.width = [3, 5, 1]


# Scales and biases


@pytest.mark.parametrize("name", ["node_bias", "node_scale", "subnode_bias", "subnode_scale"])
def test_affine_numbers_are_written(name: str) -> None:
    net = KAN([2, [2, 1], 1], mult_arity=2, seed=0, auto_save=False)
    x, size = uniform(40, 2), len(getattr(net, name)[0])
    expected = copy.deepcopy(net)
    getattr(expected, f"{name}_0").data[:] = torch.arange(1.0, size + 1)
    new = nn.Parameter(torch.arange(1.0, size + 1))
    getattr(net, name)[0] = new
    assert torch.equal(net(x), expected(x))
    assert getattr(net, f"{name}_0") is new and getattr(net, name)[0] is new and any(new is p for p in net.parameters())
    getattr(net, name)[-2] = torch.ones(size)  # a tensor becomes a parameter that is trained as the old one was
    assert isinstance(getattr(net, name)[0], nn.Parameter) and getattr(net, name)[0].requires_grad
    setattr(net, name, [torch.arange(1.0, size + 1), getattr(net, name)[1]])
    assert torch.equal(net(x), expected(x))


def test_fit_trains_what_was_written() -> None:
    net = KAN([1, 1], seed=0, auto_save=False)
    net.node_bias[0] = nn.Parameter(torch.tensor([0.5]))
    x = uniform(40, 1)
    net.fit((x, net(x).detach() + 0.3), steps=5, progress=False)
    assert net.node_bias_0.item() != 0.5 and net.node_bias[0] is net.node_bias_0


def test_affine_numbers_that_do_not_fit_are_refused() -> None:
    net = model()
    for l, wrong, message in (
        (0, torch.ones(3), r"node_bias\[0\] must be a parameter or a tensor of shape \(4,\), one .* of the 4 nodes; got \(3,\)"),
        (0, nn.Parameter(torch.ones(4, dtype=torch.float32)), r"with torch.float64 on cpu as the network's; got torch.float32"),
        (1, torch.ones(1, requires_grad=True) * 2, r"gradients end here; pass value.detach\(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            net.node_bias[l] = wrong
    with pytest.raises(ValueError, match="node_bias has one entry for each of the 2 layers; got 1"):
        net.node_bias = [torch.ones(4)]
    with pytest.raises(TypeError, match=r"2 layers: assign to these, or call expand_depth\(\)"):
        net.node_bias.append(nn.Parameter(torch.ones(1)))
    with pytest.raises(TypeError, match="neither more nor less"):
        net.node_bias.pop()
    with pytest.raises(IndexError):
        net.node_bias[2] = torch.ones(1)
    assert all(not bool(bias.any()) for bias in net.node_bias)
    assert type(copy.deepcopy(net.node_bias)) is list


# Before there are data


FRESH: list[nn.Module] = [
    model(seen=False), MLP([3, 4, 1], seed=0), KANLayer(3, 2), Symbolic_KANLayer(3, 2), KANLinear(3, 2), kan.KANConv2d(1, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize("module", FRESH, ids=lambda module: type(module).__name__)
def test_tools_that_look_at_every_attribute_work(module: nn.Module) -> None:
    assert len(inspect.getmembers(module)) > 50
    for name in dir(module):
        getattr(module, name, None)


@pytest.mark.parametrize("net", [model(seen=False), MLP([3, 4, 1], seed=0)], ids=["KAN", "MLP"])
def test_a_new_model_has_no_activations_and_says_why(net: nn.Module) -> None:
    of_a_kan = (*RECORDS[1:], *SCORES, "connection_cost", "feature_score")
    for name in of_a_kan if isinstance(net, KAN) else ("acts_scale", "node_scores", "edge_scores", "wa_forward"):
        assert not hasattr(net, name) and getattr(net, name, None) is None
        with pytest.raises(AttributeError, match=r"hasn't seen any data yet: call model\(x\) or model.fit\(dataset\) first"):
            getattr(net, name)
        with pytest.raises(ValueError, match="hasn't seen any data yet"):
            getattr(net, name)
    with pytest.raises(AttributeError, match="object has no attribute 'no_such_thing'"):
        net.no_such_thing  # noqa: B018


def test_errors_inside_of_properties_are_told() -> None:
    class Own(KAN):
        @property
        def own(self) -> Any:
            return self.act_fun[0].no_such_thing

    with pytest.raises(AttributeError, match="'KANLayer' object has no attribute 'no_such_thing'"):
        Own([2, 1], auto_save=False).own  # noqa: B018


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("make", [lambda: model(seen=False), lambda: MLP([3, 4, 1], seed=0), lambda: model()], ids=["KAN", "MLP", "seen"])
def test_new_models_are_traced(make: Any, inside: bool) -> None:
    net: Any = nn.Sequential(nn.Linear(3, 3), make()) if inside else make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of branches, and of itself
        traced = torch.jit.trace(net, uniform(40, 3))
    torch.testing.assert_close(traced(2 * uniform(7, 3)), net(2 * uniform(7, 3)))


# On one line


def test_repr() -> None:
    net = KAN([2, [4, 1], 1], grid=[5, 3], seed=0, auto_save=False)
    net.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False)
    net.remove_edge(0, 1, 0)
    assert repr(net) == (
        "KAN(width=[2, [4, 1], 1], mult_arity=2, grid=[5, 3], k=3, basis='bspline', 164 parameters, 15 numeric edges, 1 symbolic edge)"
    )
    assert repr(nn.Sequential(nn.Linear(2, 3), KAN([3, 1], seed=0, auto_save=False))).splitlines()[2:] == [
        "  (1): KAN(width=[3, 1], grid=3, k=3, basis='bspline', 24 parameters, 3 numeric edges, 0 symbolic edges)", ")",
    ]  # fmt: skip
    assert repr(net.to("meta")).endswith("basis='bspline', 160 parameters)"), "masks cannot be looked at there"
