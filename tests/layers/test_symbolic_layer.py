"""The symbolic layer: what it costs, and what moves along when edges are exchanged or selected."""

from collections.abc import Callable

import pytest
import sympy
import torch
from torch import Tensor

from kan.layers.symbolic_layer import SymbolicLayer
from kan.symbolic.library import SymbolicFunction, lookup

pytestmark = pytest.mark.usefixtures("float64")


def data(inputs: int) -> Tensor:
    return torch.rand(20, inputs, generator=torch.Generator().manual_seed(0)) + 0.1


def layer_of(in_dim: int, out_dim: int, edges: dict[tuple[int, int], str]) -> SymbolicLayer:
    """With functions on the edges ``(i, j)`` and affines that differ everywhere."""
    layer = SymbolicLayer(in_dim, out_dim)
    generator = torch.Generator().manual_seed(1)
    for (i, j), name in edges.items():
        layer.set_function(i, j, name, affine=torch.rand(4, generator=generator) + 0.1)
        layer.mask.data[j, i] = 1.0
    return layer


def test_functions_are_called_once_each_and_dead_edges_never() -> None:
    # pykan's defect 53: a call for every edge, whether it is on or not.
    calls: list[str] = []

    def counted(name: str) -> SymbolicFunction:
        row = lookup(name)

        def call(u: Tensor) -> Tensor:
            calls.append(f"{name} {tuple(u.shape)}")
            return row.torch_fun(u)

        return SymbolicFunction(name, call, row.sympy_fun, row.complexity, row.singularity_fun)

    functions = {name: counted(name) for name in ("sin", "exp")}
    layer, x = SymbolicLayer(4, 5), data(4)
    assert layer.edges(x) is None and not bool(layer(x)[0].any())
    for i in range(4):
        for j in range(4):
            layer.set_function(i, j, "sin" if (i + j) % 2 else "exp", functions["sin" if (i + j) % 2 else "exp"])
            layer.mask.data[j, i] = float(i != j)
    y, postacts = layer(x)
    assert sorted(calls) == ["exp (20, 4)", "sin (20, 8)"], "all edges of a function together, the masked ones left out"
    torch.testing.assert_close(y, postacts.sum(-1))
    torch.testing.assert_close(postacts[:, 1, 0], torch.sin(x[:, 0]))
    assert not bool(postacts[:, 0, 0].any())


@pytest.mark.parametrize(("mode", "take"), [("in", lambda p: p[:, :, [1, 0, 2]]), ("out", lambda p: p[:, [1, 0]])])
def test_what_is_exchanged_takes_its_function_along(mode: str, take: Callable[[Tensor], Tensor]) -> None:
    # pykan's defect 10: the functions that are evaluated stay where they are.
    layer, x = layer_of(3, 2, {(0, 0): "sin", (1, 0): "exp", (2, 1): "x^2", (0, 1): "sqrt"}), data(3)
    before = layer(x)[1].detach()
    layer.swap(0, 1, mode)  # type: ignore[arg-type]
    after = layer(x[:, [1, 0, 2]] if mode == "in" else x)[1].detach()
    torch.testing.assert_close(after, take(before))
    layer.swap(0, 1, mode)  # type: ignore[arg-type]
    assert layer.funs_name == [["sin", "exp", "0"], ["sqrt", "0", "x^2"]]
    torch.testing.assert_close(layer(x)[1].detach(), before)


def test_a_part_has_the_same_edges_and_shares_nothing() -> None:
    layer, x = layer_of(3, 2, {(0, 0): "sin", (2, 1): "x^2", (0, 1): "sqrt"}), data(3)
    before = layer(x)[1].detach()
    part = layer.get_subset([2, 0], [1])
    assert part.funs_name == [["x^2", "sqrt"]]
    torch.testing.assert_close(part(x[:, [2, 0]])[1].detach(), before[:, [1]][:, :, [2, 0]])
    with torch.no_grad():
        part.affine.zero_()
        part.mask.zero_()
    part.set_function(0, 0, "0")
    torch.testing.assert_close(layer(x)[1].detach(), before)
    assert layer.funs_name == [["sin", "0", "0"], ["sqrt", "0", "x^2"]]


def test_functions_are_put_on_edges_by_pykans_call(capsys: pytest.CaptureFixture[str]) -> None:
    layer = SymbolicLayer(2, 2)
    assert layer.fix_symbolic(0, 1, "sin") is None
    assert layer.funs_name == [["0", "0"], ["sin", "0"]] and layer.affine[1, 0].tolist() == [1.0, 0.0, 1.0, 0.0]
    u = torch.linspace(-1, 1, 50)
    assert torch.equal(layer.funs[1][0](u), u.sin()) and not bool(layer.funs[0][0](u).any())
    assert torch.equal(layer.funs_avoid_singularity[1][0](u, torch.tensor(10.0))[1], u.sin())
    assert str(layer.funs_sympy[1][0](sympy.Symbol("t"))) == "sin(t)"

    r2 = layer.fix_symbolic(-1, 0, "x^2", u, 2 * (3 * u + 1) ** 2 - 4)
    assert r2 is not None and r2.item() == pytest.approx(1.0)
    assert "r2 is" in capsys.readouterr().out
    layer.mask.data.fill_(1.0)
    torch.testing.assert_close(layer(torch.stack([0 * u, u], 1))[1][:, 0, 1], 2 * (3 * u + 1) ** 2 - 4)

    assert layer.fix_symbolic(0, 0, torch.tanh, u, u) is None and layer.funs_name[0][0] == "anonymous"
    layer.fix_symbolic(1, 1, "exp", random=True)
    assert bool((layer.affine[1, 1].abs() <= 1).all()) and layer.device == torch.device("cpu")
    with pytest.raises(IndexError, match="2 inputs, numbered 0 to 1; got 2"):
        layer.fix_symbolic(2, 0, "sin")


def test_the_zero_function_keeps_its_constant() -> None:
    layer, x = SymbolicLayer(2, 1), data(2)
    layer.mask.data[0, 0] = 0.5
    layer.set_function(0, 0, "0", affine=torch.tensor([1.0, 0.0, 3.0, 0.7]))
    assert layer.funs_name == [["0", "0"]]
    assert torch.equal(layer(x)[0], torch.full((20, 1), 0.35))
    again = SymbolicLayer(2, 1)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x)[0], layer(x)[0])

    layer.set_function(0, 0, "0")  # takes it away
    assert layer.edges(x) is None
