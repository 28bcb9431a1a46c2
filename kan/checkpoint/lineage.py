"""``history.txt``: which versions there are, and what each was made from.

A line is ``init => 0.0`` or ``0.0 => fit => 0.1``; ``### Round 1 ###`` begins a round. The history is written after the files of a version,
so that every version that it names is complete. Versions that have been removed to make room are marked as ``(removed)``. A line without
its end is what a crash has left, and names nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kan.checkpoint.files import replace_file, sync_folder

__all__ = ["HISTORY", "Entry", "append", "begin", "entries", "lines", "mark_removed", "rounds", "taken", "tree", "version_of", "written"]

HISTORY = "history.txt"
REMOVED = " (removed)"
Version = tuple[int, int]
_LINE = re.compile(r"(?:init|(?P<parent>[0-9]+\.[0-9]+) => (?P<method>.*)) => (?P<version>[0-9]+\.[0-9]+)(?P<removed> \(removed\))?")


class Entry(NamedTuple):
    """One version.

    Attributes:
        version: round and state.
        parent: that it was made from, None for a new model.
        method: how.
        removed: whether its files have been removed.
    """

    version: Version
    parent: Version | None
    method: str
    removed: bool


def version_of(model_id: str) -> Version:
    """``'0.1'`` as ``(0, 1)``.

    Raises:
        ValueError: if it is no version.
    """
    if not re.fullmatch(r"[0-9]+\.[0-9]+", str(model_id)):
        raise ValueError(f"a model version is written round.state, such as '0.1'; got {model_id!r}.")
    round_, _, state = str(model_id).partition(".")
    return int(round_), int(state)


def written(version: Version) -> str:
    """``(0, 1)`` as ``'0.1'``."""
    return f"{version[0]}.{version[1]}"


def lines(folder: str) -> list[str]:
    """The whole lines of the history; none if there is no history."""
    try:
        text = Path(folder, HISTORY).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def entries(folder: str) -> list[Entry]:
    """The versions that the history names, in the order in which they were made."""
    found = []
    for line in lines(folder):
        if match := _LINE.fullmatch(line.strip()):
            parent = version_of(match["parent"]) if match["parent"] else None
            found.append(Entry(version_of(match["version"]), parent, match["method"] or "init", bool(match["removed"])))
    return found


def taken(folder: str) -> set[Version]:
    """The versions that are there or were, also those that pykan, which does not write down what it rewound to, only refers to."""
    found = entries(folder)
    return {entry.version for entry in found} | {entry.parent for entry in found if entry.parent is not None}


def rounds(folder: str) -> set[int]:
    """The rounds that have begun."""
    headers = (re.fullmatch(r"### Round ([0-9]+) ###", line.strip()) for line in lines(folder))
    return {int(header[1]) for header in headers if header} | {version[0] for version in taken(folder)}


def begin(folder: str) -> None:
    """A history with the birth of one model and nothing else, in the place of what there was."""
    replace_file(os.path.join(folder, HISTORY), b"### Round 0 ###\ninit => 0.0\n")


def append(folder: str, *new: str) -> None:
    """Add whole lines, in one piece."""
    file = os.path.join(folder, HISTORY)
    text = "".join(" ".join(line.splitlines()) + "\n" for line in new).encode()
    existed = os.path.exists(file)
    with open(file, "ab+") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 4096))
        last = stream.read()
        whole = size - len(last) + last.rfind(b"\n") + 1
        if last and whole < size:
            stream.truncate(whole)  # half a line
        try:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            os.truncate(file, min(whole, size) if last else size)
            raise
    if not existed:
        sync_folder(folder)


def mark_removed(folder: str, versions: Iterable[Version]) -> None:
    """Say of `versions` that they are there no more."""
    endings = tuple(f"=> {written(version)}" for version in versions)
    marked = [line + REMOVED if line.endswith(endings) else line for line in lines(folder)]
    replace_file(os.path.join(folder, HISTORY), "".join(line + "\n" for line in marked).encode())


def tree(folder: str) -> str:
    """The versions as a tree, children under what they were made from."""
    found = entries(folder)
    known = {entry.version for entry in found}
    below: dict[Version | None, list[Entry]] = {}
    for entry in found:
        below.setdefault(entry.parent if entry.parent in known and entry.parent != entry.version else None, []).append(entry)
    drawn: list[str] = []
    stack = [(entry, "", "", "") for entry in reversed(below.pop(None, []))]
    while stack:
        entry, indent, branch, deeper = stack.pop()
        drawn.append(f"{indent}{branch}{written(entry.version)} {entry.method}{REMOVED if entry.removed else ''}")
        children = below.pop(entry.version, [])
        ends = [("├── ", "│   ")] * (len(children) - 1) + [("└── ", "    ")]
        stack.extend(reversed([(child, indent + deeper, *end) for child, end in zip(children, ends, strict=False)]))
    return "\n".join(drawn)
