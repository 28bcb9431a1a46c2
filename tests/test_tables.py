"""From a file with columns to a formula that speaks of them, and from one with classes to predictions by name."""

import io
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
from matplotlib import pyplot as plt

from kan import KAN, create_dataset_from_data

pytestmark = pytest.mark.usefixtures("float64")


def written(path: Path) -> None:
    """A table of 200 pendulums, with a column of text."""
    random = np.random.default_rng(0)
    speed, angle = random.uniform(-2, 2, 200), random.uniform(-3, 3, 200)
    energy = speed**2 / 2 - np.cos(angle)
    kind = np.where(energy > 1, "turns over", "swings")
    rows = [f"{s!r},{a!r},{e!r},{k}" for s, a, e, k in zip(*(part.tolist() for part in (speed, angle, energy, kind)), strict=True)]
    path.write_text("\n".join(["speed,angle,energy,kind", *rows]))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_file_becomes_a_formula(library: str, tmp_path: Path) -> None:
    frames = pytest.importorskip(library)
    written(tmp_path / "pendulum.csv")
    table = frames.read_csv(tmp_path / "pendulum.csv")
    columns = ["speed", "angle"]
    train, test = table[:160], table[160:]

    model = KAN([2, 1], grid=5, seed=0, auto_save=False)
    model.fit(((train[columns], train["energy"]), (test[columns], test["energy"])), opt="LM", steps=20, metrics=["r2"], progress=False)
    assert model.in_vars == columns and model.out_vars == ["energy"]
    assert model.evaluate((test, test["energy"]), metrics=["r2"])["test_r2"] > 0.999, "the columns are chosen by their names"
    assert np.abs(model.predict(test)[:, 0] - test["energy"].to_numpy()).max() < 0.05
    texts = [text.get_text() for text in model.plot().axes[0].texts]
    plt.close("all")
    assert texts == ["speed", "angle", "energy"]
    model.auto_symbolic(data=(train[columns], train["energy"]), lib=["x", "x^2", "cos"], verbose=0)
    formula = model.symbolic_formula(simplify=True)[0][0]
    speed, angle = sympy.symbols("speed angle", real=True)
    values = [float(formula.subs({str(s): v for s, v in {"speed": 0.7, "angle": 0.3}.items()})), 0.7**2 / 2 - np.cos(0.3)]
    assert {str(symbol) for symbol in formula.free_symbols} == {str(speed), str(angle)} and values[0] == pytest.approx(values[1], abs=1e-6)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_column_of_text_becomes_classes(library: str, tmp_path: Path) -> None:
    frames = pytest.importorskip(library)
    written(tmp_path / "pendulum.csv")
    table = frames.read_csv(io.BytesIO((tmp_path / "pendulum.csv").read_bytes()))
    data = create_dataset_from_data(table[["speed", "angle"]], table["kind"], seed=0)
    model = KAN([2, 2], grid=5, seed=0, auto_save=False)
    model.fit(data, opt="LM", steps=10, lamb=1e-3, loss_fn=torch.nn.CrossEntropyLoss(), metrics=["accuracy"], progress=False)
    assert model.class_names == ["swings", "turns over"] and model.in_vars == ["speed", "angle"]
    assert model.evaluate(data)["test_accuracy"] >= 0.95
    assert float(np.mean(model.predict(table) == table["kind"].to_numpy())) >= 0.95
    with pytest.raises(TypeError, match=r"the columns \{'kind': .* do not \(kind has '(swings|turns over)' in row 0\)"):
        KAN([3, 1], auto_save=False).fit((table[["speed", "angle", "kind"]], table["energy"]), steps=1, progress=False)
