"""Versions survive kills, other writers and full disks: `benchmarks/durability.py` in small, and what it has found."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from kan import KAN
from kan.checkpoint import files, lineage

if os.name == "posix":
    from tests.checkpoint.durability import can_mount, run

posix = pytest.mark.skipif(os.name != "posix", reason="forks, signals and limits of POSIX")
pytestmark = pytest.mark.usefixtures("float64")

TIMEOUT = 120.0


@posix
def test_killed_processes_leave_whole_versions(tmp_path: Path) -> None:
    found = run("kills", tmp_path, count=15, seed=20261121, timeout=TIMEOUT)
    assert found["trouble"] == [] and found["kills"] == 15
    assert found["in the middle of a save"] > 3 and found["listed"] > 15


@posix
@pytest.mark.parametrize("begin", [True, False])
def test_two_writers_lose_nothing(begin: bool, tmp_path: Path) -> None:
    found = run("writers", tmp_path, count=15, begin=begin, timeout=TIMEOUT)
    assert found["trouble"] == [] and found["listed"] == 30 + (2 if begin else 1)
    expected = "another process saves versions" if begin else "another process has taken the next version"
    assert 1 <= len(found["told"]) <= 2 and all(text.startswith(expected) for text in found["told"])


@posix
@pytest.mark.parametrize("story", ["one path", "one file"])
def test_what_is_loaded_while_another_process_saves_is_one_checkpoint(story: str, tmp_path: Path) -> None:
    found = run("reader", tmp_path, story=story, count=150, seed=20261130, timeout=TIMEOUT)
    assert found["trouble"] == [] and found["loads"] > 5 and found["last"] > 70


@posix
@pytest.mark.parametrize("keep", [None, 3])
def test_a_full_disk_costs_no_version(keep: int | None, tmp_path: Path) -> None:
    found = run("outages", tmp_path, levels=[100, 6000, 10000], limit=True, keep=keep, timeout=TIMEOUT)
    assert found["trouble"] == [] and {"_config", "_state", "append"} == {*found["what could not be written"]}


@posix
@pytest.mark.skipif(os.name != "posix" or not can_mount(), reason="needs a file system of its own")
def test_a_small_disk_costs_no_version(tmp_path: Path) -> None:
    found = run("outages", tmp_path, tmpfs="8m", levels=[0, 3, 6, 7, 8], limit=False, keep=3, timeout=TIMEOUT)
    assert found["trouble"] == [] and "mark_removed" in found["what could not be written"]


@posix
def test_a_folder_that_becomes_read_only(tmp_path: Path) -> None:
    mounted = can_mount()
    if not mounted and os.geteuid() == 0:
        pytest.skip("permissions do not bind root, and there is no file system of its own")
    found = run("read_only", tmp_path, tmpfs="2m" if mounted else None, mounted=mounted, timeout=TIMEOUT)
    assert found["trouble"] == []


def marked(number: int, **options: Any) -> KAN:
    model = KAN([2, 2, 1], auto_save=False, seed=number, **options)
    model.remember_input(torch.full((5, 2), float(number)))
    return model


def same(one: KAN, other: KAN) -> bool:
    assert one.last_input is not None and other.last_input is not None
    return torch.equal(one.act_fun[0].coef, other.act_fun[0].coef) and torch.equal(one.last_input, other.last_input)


@pytest.mark.parametrize("place", range(1, 12))
def test_a_save_between_any_two_looks_of_a_load(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    marked(1).saveckpt("v")
    content, looks = files._content, 0

    def replaced(file: str) -> bytes:
        nonlocal looks
        looks += 1
        if looks == place:
            marked(2).saveckpt("v")
        return content(file)

    monkeypatch.setattr(files, "_content", replaced)
    loaded = KAN.loadckpt("v")
    assert same(loaded, marked(1)) or same(loaded, marked(2))
    if place > 5:  # nothing is read twice where nobody writes
        assert looks < place and same(loaded, marked(1))


def test_a_part_that_takes_its_place_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("f").write_bytes(b"old")
    part, digest = Path(files._part("f", files.digest(b"new"))), files.digest(b"new")
    part.write_bytes(b"new")
    whole_part = files._whole_part

    def renamed(file: str, expected: str) -> bytes | None:
        if part.exists():
            part.replace(file)
        return whole_part(file, expected)

    monkeypatch.setattr(files, "_whole_part", renamed)
    assert files.read("f", digest) == b"new"


@pytest.mark.parametrize("renamed", [1, 2])
def test_a_crash_between_renames_and_then_another_in_the_same_save(renamed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    marked(1).saveckpt("v")
    new, rename, calls = marked(2), os.replace, 0

    def crashes(one: str, other: str) -> None:
        nonlocal calls
        calls += 1
        if calls > renamed:
            raise KeyboardInterrupt
        rename(one, other)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", crashes)
        new.saveckpt("v")
    assert same(KAN.loadckpt("v"), new)  # from the parts
    # The same content once more, on a disk that is full: the parts are all that there is of it.
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(os, "fsync", full)
        new.saveckpt("v")
    assert same(KAN.loadckpt("v"), new)
    marked(3).saveckpt("v")
    assert same(KAN.loadckpt("v"), marked(3)) and not list(Path().glob("*.part"))


def test_data_and_optimiser_of_a_first_save_that_was_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rename = marked(1), os.replace
    model.optimizer_state = {"number": torch.tensor(1)}

    def crashes(one: str, other: str) -> None:
        if "config" not in other:
            raise KeyboardInterrupt
        rename(one, other)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", crashes)
        model.saveckpt("v")
    loaded = KAN.loadckpt("v")
    assert same(loaded, model) and loaded.optimizer_state == model.optimizer_state


def test_two_models_in_one_folder_do_not_take_each_others_data() -> None:
    one = KAN([2, 2, 1])
    one.remember_input(torch.zeros(5, 2))
    one.log_history("first")
    other = KAN([2, 2, 1])
    other.remember_input(torch.ones(5, 2))
    other.log_history("over it")
    one.log_history("second")  # with the data of the first, which are no longer there
    loaded = KAN.loadckpt(f"model/{one.round}.{one.state_id}")
    assert loaded.last_input is not None and loaded.last_input.eq(0).all()


def test_a_rewound_version_has_the_state_of_the_optimiser() -> None:
    model = KAN([2, 2, 1])
    model.optimizer_state = {"number": torch.tensor(1)}
    model.log_history("fit")
    model.rewind("0.1")
    assert KAN.loadckpt("model/1.1").optimizer_state == model.optimizer_state


def test_what_could_not_be_removed_goes_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    model = KAN([2, 2, 1], keep=2)
    model.log_history("one")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="cannot be written") as caught:
        patch.setattr(lineage, "replace_file", full)
        model.log_history("two")
        model.log_history("three")
    assert model.state_id == 3 and len(caught) == 1  # saved, though nothing was removed
    model.log_history("four")
    assert [lineage.written(entry.version) for entry in lineage.entries("model") if not entry.removed] == ["0.3", "0.4"]
    assert {path.name.split("_")[0] for path in Path("model").glob("*_state")} == {"0.3", "0.4"}


def test_a_version_that_could_not_be_listed_gives_its_number_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = KAN([2, 2, 1])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="cannot be written"):
        patch.setattr(lineage, "append", full)
        model.log_history("one")
    model.log_history("two")
    assert model.state_id == 1 and lineage.lines("model")[-1] == "0.0 => two => 0.1"


def test_half_a_long_line_is_cut_off_and_no_more() -> None:
    KAN([2, 1]).log_history("fit")
    file = Path("model/history.txt")
    whole = file.read_text()
    file.write_text(whole + "0.1 => " + "long " * 3000)
    lineage.append("model", "0.1 => fit => 0.2")
    assert file.read_text() == whole + "0.1 => fit => 0.2\n"


def test_what_crashes_left_is_removed_when_it_is_old() -> None:
    KAN([2, 1])
    old, young = Path("model/history.txt.a1.part"), Path("model/history.txt.b2.part")
    for part in (old, young):
        part.write_text("half")
    os.utime(old, (0, 0))
    files.replace_file("model/history.txt", Path("model/history.txt").read_bytes())
    assert not old.exists() and young.exists()


def test_writers_are_told_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = KAN([2, 1]).store
        store._tell_once("a")
        store._tell_once("b")
    assert [str(warning.message) for warning in caught] == ["a"]
