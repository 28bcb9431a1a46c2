"""Checkpoints that pykan 0.2.8 wrote open here: the same outputs, settings, functions and data, and the same flow of versions.

The files and what pykan told of them are in ``tests/checkpoint/pykan``, with the script that made them.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kan import KAN
from tests.checkpoint.pykan import make

HERE = Path(__file__).resolve().parent / "pykan"
EXPECTED: dict[str, dict[str, Any]] = json.loads((HERE / "expected.json").read_text())
TOLERANCE = {"float64": 1e-12, "float32": 1e-6}


@pytest.fixture
def model_folder() -> Path:
    """A copy of the folder of versions, where pykan left it: in the current folder."""
    shutil.copytree(HERE / "model", "model")
    return Path("model")


def history() -> list[str]:
    return Path("model/history.txt").read_text().splitlines()


def dataset() -> dict[str, Any]:
    return {name: value.double() for name, value in make.data().items()}


@pytest.mark.parametrize("name", EXPECTED)
def test_outputs_settings_functions_and_data_are_those_that_pykan_told(name: str) -> None:
    expected, model = EXPECTED[name], KAN.loadckpt(HERE / name)
    assert str(model.dtype) == f"torch.{expected['dtype']}" and model.device.type == "cpu"
    settings = {setting: getattr(model, setting) for setting in make.SETTINGS}
    symbolic = any(bool(layer.mask.any()) for layer in model.symbolic_fun)
    assert settings == {
        **expected["settings"],
        # A folder of versions is where it is, and not where pykan wrote it.
        "ckpt_path": str(HERE / "model") if name.startswith("model/") else expected["settings"]["ckpt_path"],
        # pykan's fit turns off what is not there, and fix_symbolic would have no effect.
        "symbolic_enabled": expected["settings"]["symbolic_enabled"] or not symbolic,
    }
    assert [layer.funs_name for layer in model.symbolic_fun] == expected["functions"]
    useless = {f"symbolic_fun.{l}.affine" for l, layer in enumerate(model.symbolic_fun) if not layer.functions}  # which pykan trains, too
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == set(expected["trained"]) - useless

    if expected["data"] is None:
        assert model.cache_data is None
    else:
        assert model.cache_data is not None and model.cache_data.dtype == model.dtype
        assert model.cache_data.tolist() == expected["data"]
    with torch.no_grad():
        outputs = model(torch.tensor(expected["inputs"], dtype=model.dtype)).numpy()
    np.testing.assert_allclose(outputs, expected["outputs"], rtol=TOLERANCE[expected["dtype"]], atol=TOLERANCE[expected["dtype"]])


@pytest.mark.parametrize("name", EXPECTED)
def test_the_next_round_begins_with_whole_numbers(name: str) -> None:
    # pykan writes state_id of what rewind saves as a string, as in model/1.1.
    model, (round_, state) = KAN.loadckpt(HERE / name), EXPECTED[name]["version"]
    assert (model.round, model.state_id) == (round_ + 1, state)
    assert type(model.round) is int and type(model.state_id) is int


def test_what_pykan_could_write_otherwise_is_there() -> None:
    # What the other tests rely on, so that files made anew do not lose it.
    assert "state_id: '1'" in (HERE / "model" / "1.1_config.yml").read_text()
    assert "numpy.dtype" in (HERE / "numpy_config.yml").read_text()
    assert all(text in (HERE / "numbers_config.yml").read_text() for text in ("- i4", "- i2", "- f8", "- f4", "*id001", "!!python/tuple"))
    assert "device: '0'" in (HERE / "device_config.yml").read_text()
    assert not [line for line in (HERE / "model" / "history.txt").read_text().splitlines() if "rewind" in line]
    assert EXPECTED["model/1.1"]["functions"] == EXPECTED["model/0.2"]["functions"]  # it saves the model that is left, not the one gone to


@pytest.mark.parametrize("name", EXPECTED)
def test_opening_prints_and_writes_nothing(name: str, model_folder: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def files() -> dict[Path, bytes]:
        paths = [path for folder in (HERE, tmp_path) for path in folder.rglob("*") if "__pycache__" not in path.parts]
        return {path: path.read_bytes() for path in paths if path.is_file()}

    before, state = files(), torch.get_rng_state()
    KAN.loadckpt(HERE / name)
    assert files() == before
    assert torch.equal(torch.get_rng_state(), state)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_what_only_executing_it_would_open_is_refused_with_the_file_and_the_line_named() -> None:
    assert "!!python/object" in (HERE / "inputs_pruned_config.yml").read_text()
    with pytest.raises(ValueError, match=r"inputs_pruned_config.yml.*in line 3 it has the tag.*python/object.*write the plain value there"):
        KAN.loadckpt(HERE / "inputs_pruned")


def test_what_numpys_numbers_were_is_saved_as_plain_data() -> None:
    for name in ("numpy", "numbers"):
        assert "!!python/object/apply:numpy" in (HERE / f"{name}_config.yml").read_text()
        KAN.loadckpt(HERE / name).saveckpt("again")
        assert "!!" not in Path("again_config.yml").read_text()
        assert KAN.loadckpt("again").settings() == {**KAN.loadckpt(HERE / name).settings(), "round": 2}
    own = KAN([2, np.int64(2), 1], grid=np.int32(4), k=np.array([2])[0], grid_eps=np.float32(0.5), seed=np.int64(3), auto_save=False)
    own.saveckpt("own")
    assert "!!" not in Path("own_config.yml").read_text() and KAN.loadckpt("own").grid == 4


def test_a_fit_goes_on_in_pykans_folder(model_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in model_folder.iterdir() if path.name != "history.txt"}
    lines = history()
    model = KAN.loadckpt("model/0.2")
    model.fit(dataset(), steps=1, log=-1)
    assert (model.round, model.state_id) == (1, 3)
    assert {name: (model_folder / name).read_bytes() for name in before} == before
    assert history() == [*lines, "0.2 => fit => 1.3"]
    loaded = KAN.loadckpt("model/1.3")
    assert (loaded.round, loaded.state_id) == (2, 3)
    x = dataset()["test_input"]
    assert torch.equal(loaded(x), model(x))


def test_the_way_back_overwrites_nothing(model_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in model_folder.iterdir() if path.name != "history.txt"}
    model = KAN.loadckpt("model/1.2").rewind("0.1")
    assert (model.round, model.state_id) == (2, 1)
    assert {name: (model_folder / name).read_bytes() for name in before} == before
    expected = EXPECTED["model/0.1"]
    with torch.no_grad():
        outputs = KAN.loadckpt("model/2.1")(torch.tensor(expected["inputs"], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(outputs, expected["outputs"], rtol=0, atol=1e-12)


def test_what_needs_data_finds_pykans() -> None:
    # It is refined to a nested grid, which leaves the function at the data.
    model = KAN.loadckpt(HERE / "symbolic")
    x = model.cache_data
    assert x is not None and model.feature_score.shape == (2,)
    torch.testing.assert_close(model.refine(6)(x), model(x), rtol=0, atol=1e-12)


# What pykan writes down nowhere, and what it must not take for something else


def versions() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("model").iterdir() if path.name[0].isdigit()}


def test_a_version_that_pykan_rewound_to_is_not_overwritten(model_folder: Path) -> None:
    before = versions()
    KAN.loadckpt("model/0.0").log_history("fit")
    assert {name: versions()[name] for name in before} == before and history()[-1] == "0.0 => fit => 1.3"


def test_a_round_that_pykan_only_began_is_not_overwritten(model_folder: Path) -> None:
    for file in Path("model").glob("1.2_*"):
        file.unlink()
    text = Path("model/history.txt")
    text.write_text(text.read_text().replace("1.1 => fit => 1.2\n", ""))
    before = versions()
    KAN.loadckpt("model/0.0").log_history("fit")
    KAN.loadckpt("model/0.2").rewind("0.1")
    assert {name: versions()[name] for name in before} == before
    assert history()[-3:] == ["0.0 => fit => 1.2", "### Round 2 ###", "0.1 => rewind => 2.1"]


def test_pykan_is_made_to_refuse_a_network_without_some_inputs() -> None:
    model = KAN([3, 2, 1], auto_save=False)
    model(torch.rand(20, 3, generator=torch.Generator().manual_seed(0)).double())
    model.saveckpt("whole")
    model.prune_input(active_inputs=[0, 2], log_history=False).saveckpt("some")
    assert "input_id" not in torch.load("whole_state") and torch.load("some_state")["input_id"].tolist() == [0, 2]
    assert KAN.loadckpt("some").input_id.tolist() == [0, 2]
