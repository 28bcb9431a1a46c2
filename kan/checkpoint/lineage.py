"""``history.txt``: which versions there are, and what each was made from.

A line is ``init => 0.0`` or ``0.0 => fit => 0.1``; ``### Round 1 ###`` begins a round. The history is written after the files of a version,
so that every version that it names is complete. Versions that have been removed to make room are marked as ``(removed)``. A line without
its end is what a crash has left, and names nothing.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from io import FileIO
from typing import NamedTuple

from kan.checkpoint.files import read, replace_file, sync_folder

__all__ = [
    "HISTORY",
    "Entry",
    "append",
    "begin",
    "check",
    "entries",
    "line",
    "lines",
    "mark_removed",
    "rounds",
    "taken",
    "tree",
    "version_of",
    "written",
]

HISTORY = "history.txt"
REMOVED = " (removed)"
Version = tuple[int, int]
_LINE = re.compile(
    r"(?:init|(?P<parent>[0-9]{1,18}\.[0-9]{1,18}) => (?P<method>.*)) => (?P<version>[0-9]{1,18}\.[0-9]{1,18})(?P<removed> \(removed\))?"
)


_ROUND = re.compile(r"(### Round [0-9]+ ###)?")
_NOT_TORN = re.compile(r".* => [0-9]+\.[0-9]+[^0-9].*")
"""The rest of a history after its last end of a line, if it is no beginning of a line."""


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
    if not re.fullmatch(r"[0-9]{1,18}\.[0-9]{1,18}", str(model_id)):
        raise ValueError(f"a model version is written round.state, such as '0.1'; got {model_id!r}.")
    return _parsed(str(model_id))


def _parsed(text: str) -> Version:
    round_, _, state = text.partition(".")
    return int(round_), int(state)


def written(version: Version) -> str:
    """``(0, 1)`` as ``'0.1'``."""
    return f"{version[0]}.{version[1]}"


def line(entry: Entry) -> str:
    """The line of a version that has not been removed."""
    beginning = "" if entry.parent is None else f"{written(entry.parent)} => "
    return f"{beginning}{entry.method} => {written(entry.version)}"


def lines(folder: str) -> list[str]:
    """The whole lines of the history; none if there is no history."""
    return _lines(folder)[:-1]


def _lines(folder: str) -> list[str]:
    """The whole lines, and the rest."""
    try:
        text = read(os.path.join(folder, HISTORY)).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return [""]
    end = text.rfind("\n") + 1
    return [*text[:end].splitlines(), text[end:]]


def check(folder: str) -> None:
    """Check that the history has only lines that were written to it.

    Raises:
        ValueError: if it has others: then it is not known which version was saved last, and which were saved at all.
    """
    *whole, rest = _lines(folder)
    strange = [text for text in whole if not (_LINE.fullmatch(text.strip()) or _ROUND.fullmatch(text.strip()))]
    strange += [rest] if _NOT_TORN.fullmatch(rest) else []
    if strange:
        raise ValueError(
            f"{os.path.join(folder, HISTORY)} was changed or damaged: {strange[0][:100]!r} is no line of a history. Mend or remove it, or "
            f"load a version by its name."
        )


def entries(folder: str) -> list[Entry]:
    """The versions that the history names, in the order in which they were made."""
    found = []
    for line in lines(folder):
        if match := _LINE.fullmatch(line.strip()):
            parent = _parsed(match["parent"]) if match["parent"] else None
            found.append(Entry(_parsed(match["version"]), parent, match["method"] if parent else "init", bool(match["removed"])))
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
    with open(file, "ab+", buffering=0) as stream:  # what a buffer could not write it would try again at the end
        size = stream.seek(0, os.SEEK_END)
        whole = _end_of_lines(stream, size)
        if whole < size:
            stream.truncate(whole)
        try:
            if stream.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(whole)
            raise
    if not existed:
        sync_folder(folder)


def _end_of_lines(stream: FileIO, size: int) -> int:
    """Where the last whole line ends."""
    end = size
    while end:
        begin = max(0, end - 4096)
        stream.seek(begin)
        found = stream.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


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
