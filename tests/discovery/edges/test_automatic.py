"""All edges made symbolic, with pykan's lines."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kan import KAN, SYMBOLIC_LIB
from tests.data import uniform
from tests.edges import put

pytestmark = pytest.mark.usefixtures("float64")

LIB = ["x", "x^2", "exp", "sin"]


def example(**settings: Any) -> KAN:
    """``exp(0.5 sin(2 x_1) + 0.5 x_2^2)`` on ``[2, 2, 1]``, the second hidden node dead."""
    model = KAN([2, 2, 1], grid=20, auto_save=False, **settings)
    put(model, 0, 0, 0, lambda x: 0.5 * torch.sin(2 * x))
    put(model, 0, 1, 0, lambda x: 0.5 * x**2)
    put(model, 1, 0, 0, torch.exp)
    model.remove_node(1, 1)
    model(uniform(300, 2))
    return model


def names(model: KAN) -> list[list[list[str]]]:
    return [layer.funs_name for layer in model.symbolic_fun]


def test_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    model = example()
    best = {edge: model.suggest_symbolic(*edge, lib=LIB, verbose=False) for edge in [(0, 0, 0), (0, 1, 0), (1, 0, 0)]}
    assert model.auto_symbolic(lib=LIB) is None  # type: ignore[func-returns-value]
    r2 = {edge: found[2] for edge, found in best.items()}
    assert capsys.readouterr().out.splitlines() == [
        f"fixing (0,0,0) with sin, r2={r2[0, 0, 0]:.6f}, c=2",
        "fixing (0,0,1) with 0",
        f"fixing (0,1,0) with x^2, r2={r2[0, 1, 0]:.6f}, c=2",
        "fixing (0,1,1) with 0",
        f"fixing (1,0,0) with exp, r2={r2[1, 0, 0]:.6f}, c=2",
        "fixing (1,1,0) with 0",
    ]
    assert all(0.999999 < value <= 1 for value in r2.values())
    assert names(model) == [[["sin", "x^2"], ["0", "0"]], [["exp", "0"]]]
    assert all(bool((layer.mask == 0).all()) for layer in model.act_fun)


def test_symbolic_edges_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    model = example()
    model.fix_symbolic(0, 0, 0, "x", verbose=False)
    affine = model.symbolic_fun[0].affine[0, 0].detach().clone()
    model.auto_symbolic(lib=LIB)
    assert capsys.readouterr().out.splitlines()[0] == "skipping (0,0,0) since already symbolic"
    assert names(model)[0][0] == ["x", "x^2"]
    assert torch.equal(model.symbolic_fun[0].affine[0, 0], affine)
    model.auto_symbolic(lib=LIB)
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith("skipping (")] == []


def test_edges_that_fit_badly_stay_numeric(capsys: pytest.CaptureFixture[str]) -> None:
    model = example()
    put(model, 0, 0, 0, lambda x: torch.sin(6 * x))
    model(uniform(300, 2))
    r2 = model.suggest_symbolic(0, 0, 0, lib=["x", "x^2"], verbose=False)[2]
    name = model.suggest_symbolic(0, 0, 0, lib=["x", "x^2"], verbose=False)[0]
    model.auto_symbolic(lib=["x", "x^2"], r2_threshold=0.95)
    assert capsys.readouterr().out.splitlines()[0] == (
        f"For (0,0,0) the best fit was {name}, but r^2 = {r2:.6f} and this is lower than 0.95. "
        "This edge was omitted, keep training or try a different threshold."
    )
    assert model.act_fun[0].mask[0, 0] == 1 and model.symbolic_fun[0].mask[0, 0] == 0
    assert names(model)[0][0] == ["0", "x^2"]


def test_the_numbers_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    model = example()
    model.auto_symbolic(lib=["x", "x^2"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "r2=" in line]
    assert {line.index("r2=") for line in lines} == {len("fixing (0,0,0) with x^2, ")} and any("with x,   r2=" in line for line in lines)


def test_verbose_0_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = example()
    model.auto_save = True
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    model.auto_symbolic(lib=LIB, verbose=0, r2_threshold=1.1)
    assert capsys.readouterr() == ("", "") and model.state_id == 2


def test_edges_with_both_branches_are_replaced_by_their_sum() -> None:
    model = KAN([1, 1], grid=20, auto_save=False)
    put(model, 0, 0, 0, lambda x: torch.sin(2 * x))
    x = uniform(300, 1)
    model(x)
    model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False)
    with torch.no_grad():
        model.symbolic_fun[0].affine[0, 0] = torch.tensor([2.0, 0.0, 1.5, 0.25])
    model.set_mode(0, 0, 0, "sn")
    model.auto_symbolic(lib=LIB, verbose=0)
    assert names(model) == [[["sin"]]] and model.act_fun[0].mask[0, 0] == 0
    torch.testing.assert_close(model(x).detach(), 2.5 * torch.sin(2 * x) + 0.25, rtol=0, atol=1e-4)


def test_all_edges_are_judged_by_the_network_as_it_was() -> None:
    # With only 'x' for the first layer's sine, a second layer judged afterwards would see other inputs.
    model = example()
    later = model.trace().layers[1]
    inputs, outputs = later.inputs[:, 0].detach().clone(), later.edge(0, 0).detach().clone()
    model.auto_symbolic(lib=["x"], verbose=0)
    a, b, c, d = model.symbolic_fun[1].affine[0, 0].detach().unbind()
    slope = ((inputs - inputs.mean()) * (outputs - outputs.mean())).sum() / (inputs - inputs.mean()).square().sum()
    torch.testing.assert_close(a * c, slope, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(c * b + d, outputs.mean() - slope * inputs.mean(), rtol=1e-6, atol=1e-9)


def test_fractional_masks_count() -> None:
    model = KAN([1, 1], grid=20, auto_save=False)
    put(model, 0, 0, 0, lambda x: torch.sin(2 * x))
    x = uniform(300, 1)
    model(x)
    with torch.no_grad():
        model.act_fun[0].mask[0, 0] = 0.5
    y = model(x).detach()
    model.auto_symbolic(lib=LIB, verbose=0)
    torch.testing.assert_close(model(x).detach(), y, rtol=0, atol=1e-4)


def test_a_library_of_ones_own_makes_a_formula() -> None:
    model = example()
    model.auto_symbolic(lib={"wave": SYMBOLIC_LIB["sin"], "square": SYMBOLIC_LIB["x^2"], "grow": SYMBOLIC_LIB["exp"]}, verbose=0)
    assert names(model) == [[["wave", "square"], ["0", "0"]], [["grow", "0"]]]
    assert {str(symbol) for symbol in model.symbolic_formula()[0][0].free_symbols} == {"x_1", "x_2"}


def test_the_whole_library() -> None:
    model = example()
    y = model(uniform(300, 2)).detach()
    model.auto_symbolic(verbose=0)
    torch.testing.assert_close(model(uniform(300, 2)).detach(), y, rtol=0, atol=1e-3)
    assert names(model)[0][0] == ["sin", "x^2"] and names(model)[1][0][0] == "exp"


def test_bad_input_changes_nothing() -> None:
    model = example()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for arguments, message in [
        ({"lib": ["sine"]}, "unknown symbolic function 'sine'; did you mean 'sin'"),
        ({"lib": []}, "lib is empty"),
        ({"weight_simple": 2.0}, "weight_simple must be between 0 and 1; got 2.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.auto_symbolic(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hasn't seen any data yet"):
        KAN([2, 1], auto_save=False).auto_symbolic()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# Classes


def drawn(count: int = 300) -> tuple[torch.Tensor, np.ndarray]:
    """Choices with the logit ``3 sin(pi x_1) + 4 x_2^2 - 1``."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (count, 2))
    logit = 3 * np.sin(np.pi * x[:, 0]) + 4 * x[:, 1] ** 2 - 1
    return torch.tensor(x), np.where(random.uniform(size=count) < 1 / (1 + np.exp(-logit)), "yes", "no")


@pytest.mark.parametrize("loss", [None, nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0], dtype=torch.float32))])
def test_the_logit_of_a_class_is_found_by_the_loss_of_the_classes(loss: Any) -> None:
    x, y = drawn()
    model = KAN([2, 1], grid=5, auto_save=False, seed=0)
    model.fit((x, y), loss_fn=nn.BCEWithLogitsLoss(), opt="LM", steps=8, lamb=1e-2, progress=False)
    model.auto_symbolic(data=(x, y), loss_fn=loss, lib=["x", "x^2", "sin"], verbose=0)
    assert names(model) == [[["sin", "x^2"]]] and model.class_names == ["no", "yes"]
    truth = float(nn.functional.binary_cross_entropy_with_logits(
        3 * torch.sin(torch.pi * x[:, [0]]) + 4 * x[:, [1]] ** 2 - 1, torch.tensor(y == "yes").double()[:, None]
    ))  # fmt: skip
    assert model.evaluate((x, y))["test_loss"] < truth + 0.01


def test_classes_that_can_be_told_apart_do_not_drive_the_parameters_away() -> None:
    x = torch.tensor(np.random.default_rng(2).uniform(-1, 1, (260, 3)))
    y = (x[:, 0] + x[:, 1] ** 2 > 0.3).long()
    model = KAN([3, 2], grid=3, auto_save=False, seed=0)
    model.fit((x[:100], y[:100]), loss_fn=nn.CrossEntropyLoss(), opt="Adam", lr=0.05, steps=60, progress=False)
    before = model.evaluate((x[100:], y[100:]))
    model.auto_symbolic(data=(x[:100], y[:100]), lib=["x", "x^2"], verbose=0)
    after = model.evaluate((x[100:], y[100:]))
    assert after["test_loss"] < before["test_loss"] + 0.05 and after["test_accuracy"] > before["test_accuracy"] - 0.03
    assert model.n_edge == 0


def test_classes_without_a_loss_and_losses_that_fail() -> None:
    x, y = drawn(60)
    model = KAN([2, 2], auto_save=False, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TypeError, match=r"the training label y holds the classes \['no', 'yes'\], and without a loss_fn"):
        model.auto_symbolic(data=(x, y), verbose=0)
    with pytest.raises(ValueError, match="loss_fn must return one number"):
        model.auto_symbolic(data=(x, y), loss_fn=nn.CrossEntropyLoss(reduction="none"), verbose=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
