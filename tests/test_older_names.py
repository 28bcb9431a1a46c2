"""Programs written for pykan 0.0: their arguments are taken with a warning, or refused with what to write."""

import warnings
from typing import Any

import pytest
import torch

from kan import KAN, KANLayer
from kan.older_names import OLDER, OLDER_ATTRIBUTES, understood
from kan.spline import curve2coef, extend_grid


def data() -> dict[str, torch.Tensor]:
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)).double()
    y = torch.sin(3 * x[:, [0]])
    return {"train_input": x, "train_label": y, "test_input": x, "test_label": y}


def seen() -> KAN:
    model = KAN([2, 3, 1], auto_save=False)
    model(data()["train_input"])
    return model


@pytest.mark.parametrize(
    ("name", "value"), [("small_mag_threshold", 1e-16), ("small_reg_factor", 1.0), ("device", "cpu"), ("sglr_avoid", True)]
)
@pytest.mark.parametrize("method", ["fit", "train"])
def test_arguments_of_a_fit(method: str, name: str, value: Any) -> None:
    one, other = KAN([2, 3, 1], auto_save=False), KAN([2, 3, 1], auto_save=False)
    one.fix_symbolic(0, 0, 0, "1/x", fit_params_bool=False, verbose=False)
    other.fix_symbolic(0, 0, 0, "1/x", fit_params_bool=False, verbose=False)
    with pytest.warns(DeprecationWarning, match=f"^'{name}' is an argument of fit in pykan 0.0; ") as seen_warnings:
        found = getattr(one, method)(data(), opt="Adam", lr=0.01, steps=2, log=0, y_th=2.0, **{name: value})
    assert [warning.filename for warning in seen_warnings] == [__file__]
    assert found == other.fit(data(), opt="Adam", lr=0.01, steps=2, log=0, y_th=2.0, singularity_avoiding=name == "sglr_avoid")
    assert found != other.fit(data(), opt="Adam", lr=0.01, steps=2, log=0, y_th=2.0, singularity_avoiding=True) or name == "sglr_avoid"


def test_train_takes_what_fit_takes_by_position() -> None:
    one, other = KAN([2, 1], auto_save=False), KAN([2, 1], auto_save=False)
    assert one.train(data(), "Adam", 2, 0) == other.fit(data(), "Adam", 2, 0)
    assert one.train(False) is one and not one.training and one.train() is one and one.training
    with pytest.raises(TypeError, match="positional"):
        one.train(True, "Adam")


def test_a_constructor_with_trainable_biases() -> None:
    with pytest.warns(DeprecationWarning, match="^'bias_trainable' is an argument of KAN in pykan 0.0; .*affine_trainable=True"):
        model = KAN([2, 1], bias_trainable=False, auto_save=False)
    assert all(map(torch.equal, model.parameters(), KAN([2, 1], auto_save=False).parameters()))


@pytest.mark.parametrize("call", [lambda model: model.prune(threshold=0.2, mode="auto"), lambda model: model.prune(0.2, "auto")])
def test_prune_of_nodes(call: Any) -> None:
    model = seen()
    with pytest.warns(DeprecationWarning, match="in pykan 0.0; write prune_node"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "prune_node", UserWarning)
        pruned = call(model)
    expected = [int(i) for i in (model.node_scores[1] > 0.2).nonzero()]
    assert 0 < len(expected) < 3 and pruned.width_in[1] == len(expected) and pruned.n_edge == 3 * len(expected)
    assert model._pruned == {(1, i) for i in range(3) if i not in expected}  # for plot(mask=True)


def test_nodes_to_keep() -> None:
    model = seen()
    with pytest.warns(DeprecationWarning):
        assert model.prune(mode="manual", active_neurons_id=[[0, 2]]).width_in == [2, 2, 1]


def test_a_plot_has_no_mode() -> None:
    with pytest.warns(DeprecationWarning, match="the whole network is drawn"):
        assert seen().plot(beta=100, mask=True, mode="supervised") is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seen().symbolic_formula(floating_digit=2), r"no argument 'floating_digit', which is pykan 0.0's; .*ex_round\(formula"),
        (lambda: seen().symbolic_formula(2, numeric="function"), r"var must be a list of the names of the inputs; got 2. .*ex_round"),
        (lambda: KANLayer(3, 2, scale_base=1.0), "has no argument 'scale_base', which is pykan 0.0's; write scale_base_mu and"),
        (lambda: KANLayer(3, 2, noise_scales=1.0), r"an unexpected keyword argument 'noise_scales'. Did you mean 'noise_scale'\?"),
        (lambda: KAN([2, 1], auto_save=False, widht=3), r"KAN\(\) got an unexpected keyword argument 'widht'. Did you mean 'width'\?"),
        (lambda: KAN([2, 1], auto_save=False).fit(data(), stepz=3), r"an unexpected keyword argument 'stepz'. Did you mean 'steps'\?"),
        (lambda: seen().prune(tresholt=1), r"prune\(\) got an unexpected keyword argument 'tresholt'"),
        (lambda: seen().plot(n=3), r"plot\(\) got an unexpected keyword argument 'n'$"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_to_write(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_splines_are_where_their_grid_is() -> None:
    grid = torch.linspace(-1, 1, 10).expand(2, -1).double()
    assert torch.equal(extend_grid(grid, 2, device="cpu"), extend_grid(grid, 2))
    x, y = data()["train_input"], data()["train_input"][:, :, None]
    assert torch.equal(curve2coef(x, y, grid, 3, device="cpu"), curve2coef(x, y, grid, 3))


def test_new_names_are_arguments() -> None:
    for call, function in (("KAN", KAN), ("fit", KAN.fit), ("prune", KAN.prune_node)):
        for name, older in OLDER[call].items():
            with pytest.warns(DeprecationWarning):
                new = understood(call, function, {name: 1})
            assert new == ({} if older.new is None else {older.new: 1})
            assert older.new is None or older.new in function.__code__.co_varnames  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", OLDER_ATTRIBUTES)
def test_attributes_that_are_no_more_say_what_is(name: str) -> None:
    model = KAN([2, 1], auto_save=False)
    assert not hasattr(model, name)
    with pytest.raises(AttributeError, match=f"KAN has no attribute '{name}', which is pykan 0.0's; "):
        getattr(model, name)
