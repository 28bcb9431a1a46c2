"""Files of one checkpoint: whole or not there, sealed, and read with nothing executed."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from kan.checkpoint import files
from kan.checkpoint.files import Link, digest, dump_config, parse_config, read, replace_file, write_together


def contents(number: int) -> dict[str, bytes]:
    return {"v_config.yml": b"config %d" % number, "v_state": b"state %d" % number, "v_cache_data": b"data"}


def present() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path().iterdir()}


class Killed(BaseException):
    """The process ends here: nothing else is done."""


@pytest.mark.parametrize("step", range(8))
def test_after_any_interruption_there_is_the_old_or_the_new_checkpoint(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_together(contents(0))
    count, unlink = 0, Path.unlink

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > step:
                raise Killed
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "fsync", counted(os.fsync))  # three files, the folder, later the folder again
        patch.setattr(os, "replace", counted(os.replace))  # three files
        patch.setattr(Path, "unlink", lambda path, **_: None if path.name.endswith(".part") else unlink(path))
        write_together(contents(1))
    config = read("v_config.yml")
    number = config.split()[1]
    assert read("v_state", digest(b"state " + number)) == b"state " + number
    assert read("v_cache_data", digest(b"data")) == b"data"
    assert config == b"config %d" % (step > 4)
    write_together(contents(2))
    assert {name: content for name, content in present().items() if not name.endswith(".part")} == contents(2)


@pytest.mark.parametrize("step", [0, 2])
def test_a_failure_before_the_new_configuration_leaves_no_parts(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_together(contents(0))
    calls = 0

    def failing(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > step:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", failing)
        write_together(contents(1))
    assert present() == contents(0)


def test_what_crashes_have_left_is_removed_when_it_is_old() -> None:
    Path("v_state.0123456789abcdef.part").write_bytes(b"half")
    Path("v_state.fedcba9876543210.part").write_bytes(b"young")
    Path("other_state.0123456789abcdef.part").write_bytes(b"of another")
    for name in ("v_state.0123456789abcdef.part", "other_state.0123456789abcdef.part"):
        os.utime(name, (1, 1))
    write_together(contents(0))
    assert set(present()) == {*contents(0), "v_state.fedcba9876543210.part", "other_state.0123456789abcdef.part"}


@pytest.mark.skipif(not hasattr(os, "link"), reason="no hard links")
def test_what_is_there_already_is_linked_to() -> None:
    write_together(contents(0))
    write_together({"w_config.yml": b"config", "w_cache_data": Link("v_cache_data", digest(b"data"))})
    assert os.path.samefile("v_cache_data", "w_cache_data")
    for _ in range(2):  # also onto itself
        write_together({"w_config.yml": b"config", "w_cache_data": Link("v_cache_data", digest(b"data"))})
    assert set(present()) == {*contents(0), "w_config.yml", "w_cache_data"}
    write_together({"w_config.yml": b"config", "w_cache_data": b"other"})
    assert present()["v_cache_data"] == b"data" and present()["w_cache_data"] == b"other"


def test_without_links_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    write_together(contents(0))
    monkeypatch.setattr(os, "link", refused)
    write_together({"w_config.yml": b"config", "w_cache_data": Link("v_cache_data", digest(b"data"))})
    assert present()["w_cache_data"] == b"data" and not os.path.samefile("v_cache_data", "w_cache_data")
    Path("v_cache_data").write_bytes(b"changed")
    with pytest.raises(ValueError, match="v_cache_data is not the file that was saved"):
        write_together({"u_config.yml": b"config", "u_cache_data": Link("v_cache_data", digest(b"data"))})
    assert not any(name.startswith("u_") for name in present())


def test_one_file_is_replaced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file("one", b"old")

    def failing(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", failing)
        replace_file("one", b"new")
    assert present() == {"one": b"old"}
    replace_file("one", b"new")
    assert present() == {"one": b"new"}


def test_reading_names_the_file() -> None:
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        read("nothing")
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        read("nothing", digest(b""))
    Path("one").write_bytes(b"one")
    with pytest.raises(ValueError, match="one is not the file that was saved: its checksum is not the one in the configuration"):
        read("one", digest(b"other"))


# Configurations


def test_every_changed_byte_of_a_configuration_is_seen() -> None:
    sealed = dump_config({"grid": 3, "width": [[2, 0], [1, 0]], "format": 2})
    assert parse_config(sealed, "c") == ({"grid": 3, "width": [[2, 0], [1, 0]], "format": 2}, True)
    for place in range(len(sealed) - 1):  # the last byte ends the line
        changed = bytearray(sealed)
        changed[place] ^= 1
        try:
            _, whole = parse_config(bytes(changed), "c")
        except ValueError as error:
            assert str(error).startswith("c ")
        else:
            assert not whole  # the mark itself is hit; the format says that it is missing
    for length in range(len(sealed) - 1):
        try:
            config, whole = parse_config(sealed[:length], "c")
        except ValueError as error:
            assert str(error).startswith("c ")
        else:
            assert not whole


BOMB = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d, *a%d]\n" % (n, n, n - 1, n - 1, n - 1) for n in range(1, 40))
CHAIN = b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 5000))


NO_CONFIGURATIONS = {
    "bytes": b"\xff\xfe\x00", "open": b"a: [1", "python": b"a: !!python/name:os.system ''", "unknown tag": b"a: !unknown 1",
    "deep": b"[" * 100_000, "date": b"when: 2026-99-99", "control": b"\x00", "references": BOMB, "of itself": b"a: &a [*a]", "chain": CHAIN,
}  # fmt: skip


@pytest.mark.parametrize("content", NO_CONFIGURATIONS.values(), ids=NO_CONFIGURATIONS)
def test_what_is_no_configuration(content: bytes) -> None:
    with pytest.raises(ValueError, match="c is not a readable configuration: "):
        parse_config(content, "c")


def test_other_yaml_has_no_entries() -> None:
    assert parse_config(b"", "c") == parse_config(b"[1, 2]", "c") == ({}, False)


# Tensors


def test_records_are_checked_and_may_not_be_compressed() -> None:
    whole = files.dump_tensors({"a": torch.arange(200.0)})
    assert torch.equal(files.parse_tensors(whole, "t")["a"], torch.arange(200.0))
    place = whole.index(torch.tensor(77.0).numpy().tobytes())
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    assert not torch.equal(torch.load(io.BytesIO(flipped), weights_only=True)["a"], torch.arange(200.0))  # torch is not told
    with pytest.raises(ValueError, match="t could not be read as tensors, nothing was loaded: the record '.*' is damaged"):
        files.parse_tensors(flipped, "t")
