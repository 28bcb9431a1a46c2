"""The history names what is complete, whatever a crash has left of it."""

import os
from pathlib import Path

import pytest

from kan.checkpoint import lineage
from kan.checkpoint.lineage import Entry


def text() -> str:
    return Path("history.txt").read_text()


def test_lines_and_entries() -> None:
    lineage.begin(".")
    lineage.append(".", "0.0 => fit => 0.1", "0.1 => my => own => 0.2")
    lineage.append(".", "### Round 1 ###", "0.1 => rewind => 1.1")
    assert text() == "### Round 0 ###\ninit => 0.0\n0.0 => fit => 0.1\n0.1 => my => own => 0.2\n### Round 1 ###\n0.1 => rewind => 1.1\n"
    assert lineage.entries(".") == [
        Entry((0, 0), None, "init", False), Entry((0, 1), (0, 0), "fit", False), Entry((0, 2), (0, 1), "my => own", False),
        Entry((1, 1), (0, 1), "rewind", False),
    ]  # fmt: skip
    lineage.mark_removed(".", [(0, 1)])
    assert lineage.lines(".")[2] == "0.0 => fit => 0.1 (removed)"
    assert [entry.removed for entry in lineage.entries(".")] == [False, True, False, False]
    lineage.append(".", "1.1 => fit => 1.2")  # 1.2 ends with what 0.2 ends with
    lineage.mark_removed(".", [(0, 2)])
    assert [entry.removed for entry in lineage.entries(".")] == [False, True, True, False, False]


@pytest.mark.parametrize("cut", range(1, len("0.1 => fit => 0.12\n")))
def test_half_a_line_names_nothing_and_is_overwritten(cut: int) -> None:
    lineage.begin(".")
    lineage.append(".", "0.0 => fit => 0.1", "0.1 => fit => 0.12")
    os.truncate("history.txt", len(text()) - cut)
    assert [entry.version for entry in lineage.entries(".")] == [(0, 0), (0, 1)]
    lineage.append(".", "0.1 => prune => 0.2")
    assert text().splitlines()[2:] == ["0.0 => fit => 0.1", "0.1 => prune => 0.2"]


def test_a_line_that_cannot_be_written_leaves_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    lineage.begin(".")
    before = text()

    def failing(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", failing)
        lineage.append(".", "0.0 => fit => 0.1")
    assert text() == before


def test_names_of_methods_stay_on_their_line() -> None:
    lineage.begin(".")
    lineage.append(".", "0.0 => two\nlines => 0.1")
    assert lineage.entries(".")[-1] == Entry((0, 1), (0, 0), "two lines", False)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"nonsense\n=> => =>\n1.1\ninit =>\n", b"init => 0.0", b"0.0 => fit => ../../x\n"])
def test_what_names_no_version(content: bytes) -> None:
    Path("history.txt").write_bytes(content)
    assert lineage.entries(".") == []


def test_no_history() -> None:
    assert lineage.entries("nowhere") == lineage.lines("nowhere") == []


def test_the_tree() -> None:
    lineage.begin(".")
    lineage.append(".", "0.0 => fit => 0.1", "0.1 => prune => 0.2", "0.1 => rewind => 1.1", "1.1 => fit => 1.2", "0.2 => fit => 0.3")
    lineage.append(".", "7.7 => fit => 7.8", "init => 2.0", "2.0 => fit => 2.0")  # of a removed folder; of another process; of no sense
    lineage.mark_removed(".", [(0, 2)])
    assert lineage.tree(".").splitlines() == [
        "0.0 init",
        "└── 0.1 fit",
        "    ├── 0.2 prune (removed)",
        "    │   └── 0.3 fit",
        "    └── 1.1 rewind",
        "        └── 1.2 fit",
        "7.8 fit",
        "2.0 init",
        "2.0 fit",
    ]
