"""`KANLinear` in the place of ``nn.Linear``: its `weight` and `bias` for programs that read them, and torch's own fast paths."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kan import KANLinear
from kan.drop_in.linear_weight import LinearWeight

pytestmark = pytest.mark.usefixtures("float64")

MODES: dict[str, Callable[[], Any]] = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}


def layer(n: int = 8, m: int = 8, bias: bool = False) -> KANLinear:
    """With splines that count as much as the base function."""
    made = KANLinear(n, m, bias=bias, init="pykan", generator=torch.Generator().manual_seed(n * m))
    if made.bias is not None:
        nn.init.normal_(made.bias, generator=torch.Generator().manual_seed(2))
    return made


def points(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def replaced_(block: Any, bias: bool, projection: bool) -> Any:
    block.linear1, block.linear2 = layer(8, 16, bias), layer(16, 8, bias)
    if projection:
        block.self_attn.out_proj = layer(8, 8, bias)
    return block


def encoder_layer(norm_first: bool = False, activation: str = "relu") -> nn.TransformerEncoderLayer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation, batch_first=True, norm_first=norm_first)


def stacked(first: nn.TransformerEncoderLayer, *others: nn.TransformerEncoderLayer) -> nn.TransformerEncoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that normalise first torch says that they cannot have a fast path
        stack = nn.TransformerEncoder(first, 2)
    stack.layers = nn.ModuleList([first, *others] if others else [first, copy.deepcopy(first)])
    return stack


@pytest.mark.parametrize("projection", [False, True], ids=["feed-forward", "projection too"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize(("norm_first", "activation"), [(False, "relu"), (True, "gelu")])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_an_encoder_layer_is_the_same_function_in_every_mode(
    mode: Callable[[], Any], norm_first: bool, activation: str, bias: bool, projection: bool
) -> None:
    block, x = replaced_(encoder_layer(norm_first, activation), bias, projection), points(3, 5, 8)
    expected = block.train()(x)
    with mode():
        torch.testing.assert_close(block.eval()(x), expected)
        for part in (block.linear1, block.linear2):  # they count
            kept = part.spline_weight.detach().clone()
            part.spline_weight.data.zero_()
            assert not torch.allclose(block(x), expected)
            part.spline_weight.data.copy_(kept)


@pytest.mark.parametrize("which", ["both", "first", "second"])
@pytest.mark.parametrize("projection", [False, True], ids=["feed-forward", "projection too"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_an_encoder_with_padding(projection: bool, which: str) -> None:
    if which == "second" and projection:
        pytest.skip("torch refuses the tensors that its first layer makes for attention that is not its own, in a sentence")
    blocks = [encoder_layer(), encoder_layer()]
    for number, block in enumerate(blocks):
        if which in ("both", ("first", "second")[number]):
            replaced_(block, True, projection)
    stack, x = stacked(*blocks), points(3, 5, 8)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    expected = stack.train()(x, src_key_padding_mask=padding)[~padding]
    for mode in MODES.values():
        with mode():
            torch.testing.assert_close(stack.eval()(x, src_key_padding_mask=padding)[~padding], expected)


def test_batches_of_different_lengths() -> None:
    made, rows = layer(8, 3, bias=True), [points(4, 8), points(2, 8)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's nested tensors are a prototype
        found = made(torch.nested.nested_tensor(rows))
    for one, row in zip(found.unbind(), rows, strict=True):
        torch.testing.assert_close(one, made(row))


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_attention_is_projected_by_the_layer(bias: bool) -> None:
    x = points(3, 5, 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
    plain = copy.deepcopy(attention)
    attention.out_proj = layer(8, 8, bias)  # type: ignore[assignment]
    with torch.no_grad():
        plain.out_proj.weight.copy_(torch.eye(8))
        plain.out_proj.bias.zero_()
        expected, shares = plain(x, x, x)
        expected = attention.out_proj(expected)
    for train in (True, False):
        for mode in MODES.values():
            with mode():
                found, seen = attention.train(train)(x, x, x)
                torch.testing.assert_close((found, seen), (expected, shares))
                torch.testing.assert_close(attention(x[0], x[0], x[0], need_weights=False)[0], expected[0])
    attention(x, x, x)[0].sum().backward()
    assert all(p.grad is not None for p in attention.parameters())


def test_decoder_layers() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = replaced_(nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True), True, True)
    x = points(3, 5, 8)
    expected = block.train()(x, x)
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(x, x), expected)


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_linear_of_weight_and_bias_is_the_layer(bias: bool) -> None:
    made, x = layer(4, 3, bias), points(2, 5, 4)
    assert torch.equal(F.linear(x, made.weight, made.bias), made(x))
    torch.testing.assert_close(F.linear(x, made.weight), made(x) - (0 if made.bias is None else made.bias))
    torch.testing.assert_close(F.linear(x, made.weight, torch.ones(3)), F.linear(x, made.weight) + 1)
    seen: list[int] = []
    made.register_forward_hook(lambda *_: seen.append(1))
    F.linear(x, made.weight, made.bias)
    assert seen == [1]


def test_bias() -> None:
    made, x = KANLinear(3, 2, bias=True, generator=torch.Generator().manual_seed(0)), points(5, 3)
    plain = KANLinear(3, 2, generator=torch.Generator().manual_seed(0))
    assert made.bias is not None and plain.bias is None and not made.bias.any()
    assert "bias=True" in repr(made) and "bias" not in repr(plain)
    assert set(made.state_dict()) - set(plain.state_dict()) == {"bias"}
    assert torch.equal(made(x), plain(x))
    with torch.no_grad():
        made.bias.copy_(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(made(x), plain(x) + torch.tensor([1.0, 2.0]))
    made(x).sum().backward()
    assert torch.equal(made.bias.grad, torch.full((2,), 5.0))
    made.reset_parameters()
    assert not made.bias.any()
    with pytest.raises(TypeError, match="a bias is asked for by name: bias=True"):
        KANLinear(3, 2, True)


def test_what_is_read_of_a_weight() -> None:
    made = layer(4, 3).float()
    weight = made.weight
    assert isinstance(weight, LinearWeight) and isinstance(weight, Tensor)
    assert (weight.dtype, weight.device, weight.shape, weight.requires_grad) == (torch.float32, torch.device("cpu"), (3, 4), True)
    assert torch.equal(weight, made.base_weight) and weight.data_ptr() == made.base_weight.data_ptr()
    assert weight.grad is None
    made(points(2, 4).float()).sum().backward()
    assert weight.grad is made.base_weight.grad and weight.grad is not None
    assert type(weight.detach()) is Tensor and type(weight + 1) is Tensor and "weight" not in dict(made.named_parameters())
    torch.testing.assert_close(copy.deepcopy(made).weight.norm(), made.base_weight.norm())


INITIALISERS: dict[str, Callable[[Any], Any]] = {
    "xavier": nn.init.xavier_uniform_,
    "kaiming": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
    "truncated": nn.init.trunc_normal_,
    "constant": lambda weight: nn.init.constant_(weight, 0.5),
    "data in place": lambda weight: weight.data.normal_(0, 0.02),
    "data": lambda weight: setattr(weight, "data", torch.full((3, 4), 0.25)),
}


@pytest.mark.parametrize("initialise", INITIALISERS.values(), ids=INITIALISERS)
def test_initialisers_change_the_base_weight(initialise: Callable[[Any], Any]) -> None:
    made = layer(4, 3)
    before, splines = made.base_weight.detach().clone(), made.spline_weight.detach().clone()
    with torch.random.fork_rng():
        initialise(made.weight)
    assert not torch.equal(made.base_weight, before) and torch.equal(made.spline_weight, splines)
    assert made.base_weight.is_leaf and made.base_weight.requires_grad
    made.weight.requires_grad_(False)
    assert not any(p.requires_grad for p in made.parameters())
    made.weight.requires_grad = True
    assert all(p.requires_grad for p in made.parameters())


PRODUCTS: dict[str, Callable[[Tensor, Any], Any]] = {
    "@": lambda x, layer: x @ layer.weight.T,
    "@ from the left": lambda x, layer: layer.weight @ x.T,
    "matmul": lambda x, layer: torch.matmul(x, layer.weight.t()),
    "mm": lambda x, layer: x.mm(layer.weight.transpose(0, 1)),
    "addmm": lambda x, layer: torch.addmm(torch.zeros(3), x, layer.weight.mT),
    "einsum": lambda x, layer: torch.einsum("oi,bi->bo", layer.weight, x),
    "turned": lambda x, layer: F.linear(x.T, layer.weight.T),
    "as input": lambda x, layer: F.linear(layer.weight, x),
}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_a_weight_is_no_matrix(product: Callable[[Tensor, Any], Any]) -> None:
    with pytest.raises(RuntimeError, match="no matrix to multiply with.*Call the layer.*layer.base_weight"):
        product(points(5, 4), layer(4, 3))


def test_a_weight_cannot_be_replaced() -> None:
    made = layer(4, 4)
    with pytest.raises(AttributeError, match="the weight of a KANLinear cannot be replaced, and so not be shared with an embedding"):
        made.weight = nn.Embedding(4, 4).weight  # type: ignore[misc]
    with pytest.raises(ValueError, match="does not have a parameter"):
        nn.utils.parametrize.register_parametrization(made, "weight", nn.Identity())


def test_input_projections_are_those_of_the_layer() -> None:
    query, key, value, out = (KANLinear(4, 4, init="pykan", generator=torch.Generator().manual_seed(seed)) for seed in range(4))
    x, eye = points(3, 1, 4), torch.eye(4)

    def attended(q: Any, k: Any, v: Any, o: Any, *inputs: Tensor) -> Tensor:
        found: Tensor = F.multi_head_attention_forward(
            *inputs, 4, 2, None, None, None, None, False, 0.0, o, None, need_weights=False,
            use_separate_proj_weight=True, q_proj_weight=q, k_proj_weight=k, v_proj_weight=v,
        )[0]  # fmt: skip
        return found

    expected = out(attended(eye, eye, eye, eye, query(x), key(x), value(x)))
    torch.testing.assert_close(attended(query.weight, key.weight, value.weight, out.weight, x, x, x), expected)
    with pytest.raises(RuntimeError, match="no matrix to multiply with"):
        F.multi_head_attention_forward(x, x, x, 4, 2, out.weight, None, None, None, False, 0.0, eye, None)
