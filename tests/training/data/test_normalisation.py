"""Data far from the units that a new network starts in: the maps that a fit finds, who carries them, and what is said."""

import copy
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan import KAN, fit_residuals
from kan.MLP import MLP
from kan.training.callbacks import Every
from kan.training.data.normalisation import BAND
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

NOTICE = "out of proportion with a new network.*takes and gives your units"
OFFSET, SPREAD, SIZE = 1.7e9, 10.0, 1e-9


def far(count: int = 120) -> tuple[Tensor, Tensor]:
    """Seconds since 1970, and a small label."""
    t = uniform(count, 1)
    return OFFSET + SPREAD * t, SIZE * torch.sin(3 * t)


def new(width: tuple[int, ...] = (1, 3, 1), seed: int = 0, **arguments: Any) -> KAN:
    return KAN([*width], grid=5, seed=seed, **{"auto_save": False, **arguments})


def fitted(x: Tensor, y: Tensor, model: KAN | None = None, **options: Any) -> KAN:
    model = new((x.shape[1], 3, y.shape[1])) if model is None else model
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fit: the|grid update")
        model.fit((x, y), **{"steps": 10, "progress": False, **options})
    return model


def error(model: Any, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x) - y).square().mean().sqrt())


def share(model: Any, x: Tensor, y: Tensor) -> float:
    return error(model, x, y) / float(y.std())


# In any units


@pytest.mark.parametrize("opt", ["LBFGS", "LM"])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(unit=st.sampled_from([1e-9, 1e-6, 1e4, 1e9]), size=st.sampled_from([1e-9, 1e-6, 1e4, 1e9]),
       offset=st.sampled_from([0.0, 1e3, 1e6]), shift=st.sampled_from([0.0, 1e3, 1e6]))  # fmt: skip
def test_a_fit_is_as_good_in_any_units(opt: str, unit: float, size: float, offset: float, shift: float) -> None:
    torch.set_default_dtype(torch.float64)
    t = uniform(120, 1)
    x, y = (t + offset) * unit, (torch.sin(3 * t) + shift) * size
    assert share(fitted(x, y, opt=opt, steps=15), x, y) < 0.01


def test_losses_are_in_the_units_of_the_labels() -> None:
    x, y = far()
    seen: list[float] = []
    model = new()
    with pytest.warns(UserWarning, match=NOTICE):
        told = Every(1, lambda state: seen.append(error(model, x[:80], y[:80])))
        history = model.fit(((x[:80], y[:80]), (x[80:], y[80:])), steps=5, progress=False, callbacks=[told])
    assert history["train_loss"] == pytest.approx(seen, rel=1e-6)
    assert history["test_loss"][-1] == pytest.approx(error(model, x[80:], y[80:]), rel=1e-6)


@pytest.mark.parametrize("opt", ["LBFGS", "Adam"])
def test_outputs_of_different_units_are_all_learnt_and_the_loss_is_in_theirs(opt: str) -> None:
    t = uniform(120, 1)
    y = torch.cat([1e-9 * torch.sin(3 * t), t.square(), 1e6 * t], 1)
    weight = torch.linspace(0.1, 1, len(t))
    model = new((1, 3, 3))
    with pytest.warns(UserWarning, match=NOTICE):
        history = model.fit((t, y), opt=opt, steps=40, lr=1.0 if opt == "LBFGS" else 0.02, sample_weight=weight, progress=False)
    assert model.normalizer is None and model.output_normalizer is not None
    assert model.output_normalizer[0][1] == 0.0 and model.output_normalizer[1][1] == 1.0
    with torch.no_grad():
        errors = (model(t) - y).square()
    assert history["train_loss"][-1] == pytest.approx(float((weight @ errors.mean(1) / weight.sum()).sqrt()), rel=1e-9)
    if opt == "LBFGS":
        assert bool((errors.mean(0).sqrt() < 0.02 * y.std(0)).all())


# What is left alone


@settings(max_examples=10, deadline=None, derandomize=True)
@given(unit=st.sampled_from([0.01, 1.0, 50.0]), size=st.sampled_from([0.01, 1.0, 500.0]), offset=st.sampled_from([0.0, 20.0]))
def test_data_in_proportion_are_left_untouched(unit: float, size: float, offset: float) -> None:
    torch.set_default_dtype(torch.float64)
    t = uniform(40, 1)
    model = new()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(((t + offset) * unit, torch.sin(3 * t) * size), steps=1, progress=False)
    assert model.labels() == {} and not any("normalizer" in name for name in model.state_dict())


def test_only_the_columns_out_of_proportion_are_mapped() -> None:
    t = uniform(120, 3)
    x = torch.stack([t[:, 0], 1e6 * t[:, 1] + 3e6, torch.full((len(t),), 4e5)], 1)
    model = fitted(x, t[:, [0]] + t[:, [1]])
    assert model.normalizer is not None and model.output_normalizer is None
    (_, mean, constant), (first, deviation, one) = model.normalizer
    assert model.normalizer[0][0] == 0 and first == one == 1 and constant == 4e5
    assert mean == pytest.approx(float(x[:, 1].mean())) and deviation == pytest.approx(float(x[:, 1].std(correction=0)))


def test_beside_a_mapped_column_all_are_brought_to_order_one() -> None:
    t = uniform(120, 2)
    assert fitted(t * torch.tensor([1.0, 50.0]), t[:, [0]], steps=1).normalizer is None
    model = fitted(t * torch.tensor([1e5, 50.0]), t[:, [0]], steps=1)
    deviations = t.std(0, correction=0) * torch.tensor([1e5, 50.0])
    assert model.normalizer is not None and model.normalizer[1] == pytest.approx(deviations.tolist())


def test_constant_columns_of_order_one_and_a_few_outliers_are_no_reason() -> None:
    x = uniform(120, 2)
    x[:, 1] = 0.3
    x[0, 0] = 1e8
    model = new((2, 2, 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "grid update")
        warnings.filterwarnings("error", "fit: the")
        model.fit((x, uniform(120, 1)), steps=1, progress=False)
    assert model.labels() == {}


def test_a_grid_that_was_made_for_the_data_needs_no_map() -> None:
    x, y = far()
    assert fitted(x, torch.sin(uniform(120, 1)), new(grid_range=[OFFSET - SPREAD, OFFSET + SPREAD]), update_grid=False).normalizer is None


def test_without_grid_updates_all_samples_lie_on_the_grid() -> None:
    x, y = far()
    model = fitted(x, y, update_grid=False)
    ends = model.checked_input(x).aminmax()
    assert (float(ends.min), float(ends.max)) == pytest.approx((-1, 1), abs=1e-6)
    assert bool((model.act_fun[0].grid == new().act_fun[0].grid).all())


def test_levenberg_marquardt_wants_units_nearer_to_one() -> None:
    t = uniform(120, 1) * 5 + 105
    y = torch.sin(t)
    assert fitted(t, y, steps=1).labels() == {}
    model = fitted(t, y, opt="LM", steps=30, grids=(5, 10))
    assert model.normalizer is not None and share(model, t, y) < 0.01


# What is said


def test_the_notice_comes_once_and_names_columns_and_map() -> None:
    x, y = far()
    model = new()
    model.in_vars, model.out_vars = ["t"], ["z"]
    with pytest.warns(UserWarning) as said:
        model.fit((x, y), steps=2, progress=False)
        model.fit((x, y), steps=2, progress=False)
        model.fit((x, y), opt="LM", steps=2, grids=(6, 12), progress=False)
    (message,) = [str(one.message) for one in said]
    assert re.search(r"inputs t \(1.7e\+09 \+- \d.*labels z \(.*\(t - 1.7e\+09\)/\d.*\(z \+ .*normalizer and output_normalizer", message)


def test_columns_of_frames_are_called_by_their_names() -> None:
    pandas = pytest.importorskip("pandas")
    x, y = far()
    model = new()
    with pytest.warns(UserWarning, match=r"inputs t \(1.7e\+09 \+- .*labels z \("):
        model.fit((pandas.DataFrame({"t": x[:, 0].numpy()}), pandas.Series(y[:, 0].numpy(), name="z")), steps=2, progress=False)
    assert model.in_vars == ["t"] and model.out_vars == ["z"] and share(model, x, y) < 0.1


@pytest.mark.parametrize("options", [{"restarts": 2}, {"restarts": 2, "opt": "Adam", "lr": 0.01}, {"grids": (3, 6)}])
def test_the_notice_comes_once_for_several_fits_in_one(options: dict[str, Any]) -> None:
    x, y = far()
    model = new()
    with pytest.warns(UserWarning, match=NOTICE) as said:
        history = model.fit((x, y), steps=3, progress=False, **options)
    assert len(said) == 1
    assert history["train_loss"][-1] == pytest.approx(error(model, x, y), rel=1e-6)


def test_restarts_together_and_one_after_another_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = far()
    together, single = new(), new()
    with pytest.warns(UserWarning, match=NOTICE):
        one = together.fit((x, y), opt="LM", steps=4, restarts=2, progress=False)
    with pytest.warns(UserWarning, match=NOTICE):
        other = single.fit((x, y), opt="LM", steps=4, restarts=2, progress=False, metrics=[lambda: 0.0])
    assert one.restarts is not None and other.restarts is not None
    assert one.restarts.losses == pytest.approx(other.restarts.losses, rel=1e-4)
    assert error(together, x, y) == pytest.approx(min(one.restarts.losses), rel=1e-6)


def test_what_cannot_be_mapped_is_told() -> None:
    x, y = far()
    mine = new()
    mine.normalizer = [0.0], [2.0]
    trained = fitted(uniform(120, 1), torch.sin(uniform(120, 1)))
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (mine, {}, "inputs .*model.normalizer says that you have normalised them"),
        (trained, {}, "inputs .*labels .*|.*the model is not new"),
        (new(), {"loss_fn": nn.MSELoss()}, "labels .*loss_fn is a function of outputs and labels in your units"),
        (MLP([1, 3, 1], seed=0), {}, "MLP has no maps of units"),
    ]
    for model, options, message in cases:
        with pytest.warns(UserWarning, match=message), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "fit: the .*new network")
            model.fit((x, y), steps=1, progress=False, **options)
    assert mine.normalizer == ([0.0], [2.0]) and mine.applied("normalizer") is None and trained.labels() == {}


def test_a_model_that_knows_the_units_already_is_trained_without_a_word() -> None:
    x, y = 1e4 * uniform(120, 1), 1e5 * uniform(120, 1)
    model = new((1, 1))
    model.fix_symbolic(0, 0, 0, "x", fit_params_bool=False, verbose=False)
    with torch.no_grad():
        model.symbolic_fun[0].affine[0, 0] = torch.tensor([1.0, 0.0, 9.0, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit((x, y), opt="LM", steps=3, progress=False)
    assert model.labels() == {}


def test_a_class_of_ones_own_with_other_arguments_is_new_too() -> None:
    class Mine(KAN):
        def __init__(self) -> None:
            super().__init__([1, 3, 1], grid=5, auto_save=False)

    x, y = far()
    assert fitted(x, y, Mine()).normalizer is not None


def test_bad_arguments_leave_no_map_behind() -> None:
    x, y = far()
    for options in ({"opt": "Nonsense"}, {"display_metrics": ["nothing"]}):
        model = new()
        with pytest.raises(ValueError), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "fit: the .*new network")
            model.fit((x, y), steps=1, progress=False, **options)
        assert model.labels() == {}
    with pytest.raises(UserWarning), warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit((x, y), steps=1, progress=False)
    assert model.labels() == {}


def test_numbers_that_their_type_cannot_hold_are_told() -> None:
    x, y = far()
    rounded = x.float()
    with pytest.warns(UserWarning, match="x_1 cannot be told apart in the numbers' own type.*float64"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fit: the|grid update")
        new().float().fit((rounded, y.float()), steps=1, progress=False)


def test_a_network_in_float32_reads_times_in_float64() -> None:
    x, y = far()
    for data in ((x.numpy(), y.numpy()), (np.floor(x.numpy() * 100).astype(np.int64), y.numpy())):
        model = new().float()
        with pytest.warns(UserWarning, match=NOTICE) as said:
            model.fit(data, steps=10, progress=False)
        assert len(said) == 1
        assert share(model, torch.as_tensor(data[0]).double(), y) < 0.02


# Other losses and data


def test_a_loss_of_ones_own_sees_the_users_units() -> None:
    x, y = far()
    classes = (uniform(120, 1)[:, 0] > 0).long()
    model = new((1, 3, 2))
    with pytest.warns(UserWarning, match=NOTICE):
        model.fit((x, classes), steps=10, loss_fn=nn.CrossEntropyLoss(), progress=False)
    assert model.output_normalizer is None
    assert float((model(x).argmax(1) == classes).double().mean()) > 0.95

    model = fitted(x, y)
    sizes: list[float] = []

    def loss(output: Tensor, label: Tensor) -> Tensor:
        sizes.append(float(label.detach().abs().max()))
        return (output - label).square().mean() / SIZE**2

    for opt in ("LBFGS", "LM"):
        history = model.fit((x, y), opt=opt, steps=3, loss_fn=loss, progress=False)
        assert history["train_loss"][-1] == pytest.approx((error(model, x, y) / SIZE) ** 2, rel=1e-6)
    assert sizes == [pytest.approx(float(y.abs().max()))] * len(sizes)
    weight = torch.linspace(0, 1, len(x))
    weighted = [
        copy.deepcopy(model).fit((x, y), steps=0 + 1, opt="Adam", lr=1e-9, loss_fn=f, sample_weight=weight, progress=False)["train_loss"][0]
        for f in (nn.functional.mse_loss, nn.MSELoss())
    ]
    expected = float(weight @ (model(x) - y).detach().square()[:, 0] / weight.sum())
    assert weighted == pytest.approx([expected] * 2, rel=1e-3)


def test_predictions_of_ones_own_are_in_the_users_units() -> None:
    x, _ = far()

    def slope(model: KAN, at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        return torch.autograd.grad(model(at).sum(), at, create_graph=True)[0]

    model = new()
    with pytest.warns(UserWarning, match=NOTICE):
        history = model.fit((x, 0.3 * torch.cos(3 * uniform(120, 1))), steps=15, pred_fn=slope, progress=False)
    assert history["train_loss"][-1] < 0.02 and model.output_normalizer is None


@pytest.mark.parametrize("sort", [False, True])
def test_a_loader_is_looked_at_once_and_read_in_the_same_order(sort: bool) -> None:
    x, y = far()
    if sort:
        order = x[:, 0].argsort()
        x, y = x[order], y[order]
    batches = [(x[i : i + 20], y[i : i + 20]) for i in range(0, len(x), 20)]
    model = new()
    with pytest.warns(UserWarning, match=NOTICE):
        model.fit(batches, opt="Adam", lr=0.01, steps=7, progress=False)
    assert model.normalizer is not None
    assert model.normalizer[1][0] == pytest.approx(float(x.std(correction=0)))
    seen: list[float] = []
    told = Every(1, lambda state: seen.append(error(model, *batches[state.step % len(batches)])))
    model = new()
    with pytest.warns(UserWarning, match=NOTICE):
        history = model.fit(batches, opt="Adam", lr=0.01, steps=7, progress=False, callbacks=[told])
    assert history["train_loss"] == pytest.approx(seen, rel=1e-6)
    known = new()
    known.apply_normalizers_(**{name: model.labels()[name] for name in ("normalizer", "output_normalizer")})
    known.fit(batches, opt="Adam", lr=0.01, steps=7, progress=False)
    assert torch.equal(known(x), model(x))


def test_a_sorted_loader_of_data_in_proportion_gets_no_map() -> None:
    x = torch.linspace(0, 900, 300)[:, None]
    batches = [(x[i : i + 3], torch.sin(x[i : i + 3] / 100)) for i in reversed(range(0, 300, 3))]
    model = new()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(batches, opt="Adam", lr=0.01, steps=3, progress=False)
    assert model.labels() == {}


def test_mini_batches_validation_weights_and_resuming() -> None:
    x, y = far()
    weight = torch.ones(len(x))
    weight[:5] = 0
    x[:5] = -1e300  # rows that count for nothing
    model = new()
    with pytest.warns(UserWarning, match=NOTICE):
        history = model.fit((x, y), opt="Adam", lr=0.02, steps=60, batch=30, sample_weight=weight, patience=50, progress=False)
    assert model.normalizer is not None and model.normalizer[0][0] == pytest.approx(OFFSET, rel=1e-6)
    more = model.fit((x, y), opt="Adam", lr=0.02, steps=60, batch=30, sample_weight=weight, progress=False, resume=True)
    assert more["train_loss"][-1] < history["train_loss"][0]
    x, y = far()
    model = new()
    with pytest.warns(UserWarning, match=NOTICE):
        history = model.fit((x, y), steps=3, validation=0.25, progress=False)
    assert max(history["val_loss"]) < 1e-8


def test_residuals_are_functions_of_the_points_as_they_are() -> None:
    scale = 1e4
    x = torch.linspace(0, scale, 60)[:, None]

    def decay(u: Any, t: Tensor) -> Tensor:
        value = u(t)
        return torch.autograd.grad(value.sum(), t, create_graph=True)[0] * scale + value

    model = new()
    with pytest.warns(UserWarning, match=NOTICE):
        fit_residuals(model, [decay, lambda u, t: u(t) - 1], [x, torch.zeros(1, 1)], steps=30)
    assert model.output_normalizer is None
    assert float((model(x) - torch.exp(-x / scale)).detach().abs().max()) < 1e-3


# Who carries them


def same(one: KAN, other: KAN, x: Tensor) -> bool:
    return torch.equal(one(x), other(x)) and one.labels() == other.labels() and one._applied == other._applied


def test_copies_pickles_and_states_carry_the_maps(tmp_path: Path) -> None:
    x, y = far()
    model = fitted(x, y)
    keys = set(new().state_dict())
    assert set(model.state_dict()) == {*keys, "normalizer", "output_normalizer"}
    assert same(copy.deepcopy(model), model, x) and same(model.copy(), model, x) and same(pickle.loads(pickle.dumps(model)), model, x)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    for state in (saved, dict(saved)):
        assert same(KAN.from_state_dict(state, auto_save=False), model, x)
        other = new(seed=3)
        other.load_state_dict(state)
        assert same(other, model, x)
    outer = nn.Sequential(new(seed=3))
    outer.load_state_dict(nn.Sequential(model).state_dict())
    assert same(outer[0], model, x)


def test_a_state_without_maps_takes_them_away_and_a_refused_one_does_not() -> None:
    x, y = far()
    model = fitted(x, y)
    before = copy.deepcopy(model)
    with pytest.raises(RuntimeError):
        model.load_state_dict({**model.state_dict(), "normalizer": torch.ones(2, 5)})
    with pytest.raises(RuntimeError):
        model.load_state_dict(new((1, 4, 1)).state_dict())
    assert same(model, before, x)
    model.load_state_dict(new().state_dict())
    assert model.labels() == {} and torch.equal(model(uniform(120, 1)), new()(uniform(120, 1)))


@pytest.mark.parametrize("form", ["versions", "one file"])
def test_checkpoints_carry_the_maps(form: str, tmp_path: Path) -> None:
    x, y = far()
    model = fitted(x, y, new(auto_save=True, ckpt_path=str(tmp_path / "kept")))
    if form == "one file":
        model.save(tmp_path / "model.kan")
        assert same(KAN.load(tmp_path / "model.kan"), model, x)
        return
    assert same(KAN.loadckpt(str(tmp_path / "kept" / "0.1")), model, x)
    assert same(model.rewind("0.1"), model, x)
    assert model.rewind("0.0").labels() == {}


def test_models_made_of_one_another_carry_the_maps() -> None:
    t = uniform(120, 2)
    x, y = OFFSET + SPREAD * t, SIZE * torch.cat([torch.sin(3 * t[:, [0]]), t[:, [0]] ** 2], 1)
    model = fitted(x, y, steps=20, lamb=1e-3)
    before = model(x).detach()
    assert torch.allclose(model.refine(10)(x), before, rtol=1e-9)
    pruned = model.prune(node_th=0, edge_th=0)
    assert torch.allclose(pruned(x), before, rtol=1e-9)
    fewer = model.prune_input(active_inputs=[0])
    assert fewer.normalizer == model.normalizer and fewer(x).shape == before.shape and bool((fewer(x).std(0) > 0.1 * before.std(0)).all())
    wider = model.copy()
    wider.expand_width(0, 1)
    wider.expand_width(1, 1)
    wider.expand_depth()
    assert torch.allclose(wider(torch.cat([torch.zeros(len(x), 1), x], 1)), before, rtol=1e-9)
    assert wider.normalizer is not None and len(wider.normalizer[0]) == 3 and wider.applied("normalizer") is not None


def test_a_pair_that_the_user_sets_is_the_users_again() -> None:
    x, y = far()
    model = fitted(x, y)
    t = (x - model.normalizer[0][0]) / model.normalizer[1][0]  # type: ignore[index]
    expected = model(x)
    model.normalizer = model.normalizer
    assert model.applied("normalizer") is None and model.applied("output_normalizer") is not None
    assert torch.allclose(model(t), expected, rtol=1e-12)
    model.output_normalizer = None
    assert torch.allclose(model(t) * SIZE, expected, atol=SIZE)
    with pytest.raises(ValueError):
        model.apply_normalizers_(normalizer=([1.0], [0.0]))
    assert model.applied("normalizer") is None


# Reading them


def test_formulas_are_in_the_users_units() -> None:
    t = uniform(120, 1)
    x, y = 300 + 1e-4 * t, 1e7 * torch.sin(3 * t) + 1e9
    model = fitted(x, y, new((1, 1)), opt="LM", steps=30, grids=(5, 20))
    model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    model.fit((x, y), opt="LM", steps=20, progress=False)
    formula = model.symbolic_formula()
    assert formula.deviation is not None and formula.deviation < 1e-7
    value = formula.to_numpy()(x[:, 0].numpy())
    assert float(np.abs(value - y[:, 0].numpy()).max()) < 1e-2 * 1e7
    numeric = fitted(x, y).symbolic_formula(numeric="function")
    assert numeric.deviation is not None and numeric.deviation < 1e-7
    again = model.symbolic_formula(normalizer=([1.0], [2.0]), output_normalizer=([3.0], [4.0])).to_numpy()(2 * x[:, 0].numpy() + 1)
    assert np.allclose(again, 4 * value + 3, rtol=1e-7)


def test_joint_selection_and_discover_read_the_maps() -> None:
    t = uniform(120, 1)
    x, y = 1e5 * t, 1e-7 * (t**2 + t)
    model = fitted(x, y, new((1, 1)), opt="LM", steps=20)
    found = model.discover(time_limit=5, progress=False)
    assert found.ranked if hasattr(found, "ranked") else len(found)
    law = found[0]
    assert float(np.abs(np.asarray(law.predict(x.numpy()) if hasattr(law, "predict") else y[:, 0]) - y[:, 0].numpy()).max()) < 1e-9
    x, y = 1e5 * t, 1e-7 * torch.exp(t)
    model = fitted(x, y, new((1, 1)), opt="LM", steps=20)
    model.auto_symbolic(data=(x, y), lib=["exp", "x", "sin"], verbose=0)
    assert model.symbolic_fun[0].funs_name == [["exp"]] and share(model, x, y) < 1e-6


def test_plots_and_curves_are_in_the_users_units() -> None:
    x, y = far()
    model = fitted(x, y, new((1, 1)), steps=20)
    from kan.plotting.network import diagram_of

    curve = diagram_of(model).edges[0, 0, 0]
    at, value = model.get_fun(0, 0, 0, plot=False)
    assert np.allclose(curve.x, np.sort(x[:, 0].numpy()), rtol=0, atol=1e-5) and np.array_equal(at, curve.x)
    assert np.allclose(value, curve.y, rtol=1e-9) and 0.5 < np.ptp(value) / float(y.max() - y.min()) < 2
    low, high, *_ = model.get_range(0, 0, 0, verbose=False)
    assert (low, high) == pytest.approx((float(x.min()), float(x.max())))
    assert model.plot(tick=True) is not None


def test_gradients_reach_the_users_columns() -> None:
    x, y = far(8)
    model = fitted(*far())
    x.requires_grad_()
    points = uniform(8, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: model(t * SPREAD + OFFSET) / SIZE, points, eps=1e-3, atol=1e-2, rtol=1e-2)
    assert torch.allclose(torch.func.vmap(lambda row: model(row[None])[0])(x), model(x), rtol=1e-9)


def test_the_band_is_what_the_page_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    assert "below 1e-3 or above 1e3" in page and "more than 100 deviations from zero" in page and BAND == (1e-3, 1e3, 100.0)
