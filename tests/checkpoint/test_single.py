"""One file for one model, in either format; what is not that is refused."""

import builtins
import importlib.util
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from kan import KAN
from kan.checkpoint.files import dump_config
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

pytest.importorskip("safetensors")
FORMATS = ["safetensors", "zip"]


def example(**settings: Any) -> KAN:
    model = KAN(**{"width": [2, [2, 1], 1], "seed": 7, "auto_save": False, **settings})
    model(uniform(50, 2))
    model.fix_symbolic(0, 0, 1, "sin", verbose=False)
    model.set_mode(0, 1, 1, "sn", 0.25)
    model.in_vars, model.normalizer = ["a", "b"], ([0.0, 1.0], [1.0, 2.0])
    return model


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "history.txt")
    for name in ("pipe", "."):
        with pytest.raises(ValueError, match="no regular file; nothing was loaded"):
            KAN.load(tmp_path / name)
    with pytest.raises(ValueError, match="history.txt is no regular file; nothing was loaded"):
        KAN.loadckpt(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing.kan does not exist"):
        KAN.load(tmp_path / "missing.kan")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("settings", [{}, {"grid": [2, 5], "k": [3, 2], "affine_trainable": True}, {"grid_range": [-3, 2]}])
def test_round_trip_is_bit_for_bit(format: str, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = example(**settings)
    if not settings:
        model = model.prune_input(active_inputs=[1], log_history=False)
    model.save("folder/law.kan", format)
    new = KAN.load("folder/law.kan")
    old_state, new_state = model.state_dict(), new.state_dict()
    assert old_state.keys() == new_state.keys() and all(torch.equal(old_state[name], new_state[name]) for name in old_state)
    assert torch.equal(new(uniform(50, 2)), model(uniform(50, 2))) and new.input_id.tolist() == model.input_id.tolist()
    assert new.labels() == model.labels() and new.in_vars == ["a", "b"]
    assert [layer.funs_name for layer in new.symbolic_fun] == [layer.funs_name for layer in model.symbolic_fun]
    assert {n: p.requires_grad for n, p in new.named_parameters()} == {n: p.requires_grad for n, p in model.named_parameters()}
    assert not new.auto_save and [path.name for path in (tmp_path / "folder").iterdir()] == ["law.kan"]
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith("keep")] == []


@pytest.mark.parametrize("format", FORMATS)
def test_data_stay_out(format: str) -> None:
    model = KAN([2, 1], auto_save=False).float()
    model(torch.full((10_000, 2), 0.123))
    model.save("one", format)
    assert Path("one").stat().st_size < 10_000
    loaded = KAN.load("one", map_location="cpu")
    assert loaded.last_input is None and loaded.dtype == torch.float32
    with pytest.raises(ValueError, match="the model hasn't seen any data yet"):
        loaded.trace()


def test_the_default_is_safetensors_where_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = example()
    model.save("one")
    assert Path("one").read_bytes()[8:9] == b"{"
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        model.save("two")
        with pytest.raises(ImportError, match="format='safetensors' needs the package safetensors: install it, or use format='zip'"):
            model.save("three", "safetensors")
    assert Path("two").read_bytes()[:2] == b"PK" and not Path("three").exists()
    assert torch.equal(KAN.load("two")(uniform(50, 2)), model(uniform(50, 2)))
    with pytest.raises(ValueError, match="format must be 'safetensors' or 'zip'.*got 'pickle'"):
        model.save("three", "pickle")


def test_a_safetensors_file_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    example().save("one", "safetensors")
    load = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("safetensors"):
            raise ImportError
        return load(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="one is a safetensors file, which needs the package safetensors"):
        KAN.load("one")


@pytest.mark.parametrize("format", FORMATS)
def test_functions_that_have_no_name_are_given(format: str) -> None:
    model = KAN([1, 1], auto_save=False)
    model.fix_symbolic(0, 0, 0, torch.sinc)
    with pytest.warns(UserWarning, match=r"save: the function of the edge\(s\) \(0, 0, 0\) is one of your own"):
        model.save("one", format)
    with pytest.raises(ValueError, match=r"one: the edge \(0, 0, 0\) carries the function 'anonymous'"):
        KAN.load("one")
    assert torch.equal(KAN.load("one", functions={"anonymous": torch.sinc})(uniform(50, 1)), model(uniform(50, 1)))


@pytest.mark.parametrize("format", FORMATS)
def test_every_flipped_bit_is_seen_or_means_nothing(format: str) -> None:
    model = KAN([1, 1], grid=1, k=1, auto_save=False)
    model.save("one", format)
    whole = Path("one").read_bytes()
    expected = model(uniform(50, 1))
    for place in range(0, len(whole), 7):
        Path("two").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            loaded = KAN.load("two")
        except ValueError as error:
            assert "two" in str(error)
        else:  # in what archives hold of dates and paddings
            assert torch.equal(loaded(uniform(50, 1)), expected) and loaded.settings() == {**model.settings(), "first_init": False}


@pytest.mark.parametrize("format", FORMATS)
def test_every_truncation_is_refused(format: str) -> None:
    KAN([1, 1], grid=1, k=1, auto_save=False).save("one", format)
    whole = Path("one").read_bytes()
    for length in range(0, len(whole), 13):
        Path("two").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="two"):
            KAN.load("two")


def test_other_files_are_refused() -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        KAN.load("nothing")
    Path("text").write_text("some text")
    with pytest.raises(ValueError, match="text is not a file that KAN.save has written"):
        KAN.load("text")
    torch.save({"a": torch.zeros(2)}, "tensors")
    with pytest.raises(ValueError, match="tensors could not be read as a saved KAN, nothing was loaded: it holds .* where config.yml and"):
        KAN.load("tensors")
    with zipfile.ZipFile("archive", "w") as archive:
        archive.writestr("config.yml", dump_config({}))
        archive.writestr("state", b"")
    with pytest.raises(ValueError, match="archive is not a configuration of a KAN: entries are missing: width"):
        KAN.load("archive")


def test_a_failure_leaves_the_former_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = example()
    model.save("one")
    before = Path("one").read_bytes()

    def failing(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(OSError, match="No space"):
        example(seed=8).save("one")
    assert Path("one").read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["one"]
