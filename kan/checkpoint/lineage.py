"""The history of a folder of versions, ``history.txt``: the versions, and the version that each was made from.

A line is ``init => 0.0`` or ``0.0 => fit => 0.1``; ``### Round 1 ###`` begins a round. The history is written after the files of a version,
so that every version in it is complete. Versions that were removed to save space are marked ``(removed)``. A last line without a line break
was left by a crash and is ignored.
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
"""Text after the last line break that cannot be the beginning of a line, so that no crash can have left it."""


class Entry(NamedTuple):
    """One version.

    Attributes:
        version: round and state.
        parent: the version that it was made from; None for a new model.
        method: the method that made it.
        removed: whether its files have been removed.
    """

    version: Version
    parent: Version | None
    method: str
    removed: bool


def version_of(model_id: str) -> Version:
    """Return the version ``(0, 1)`` for the text ``'0.1'``.

    Raises:
        ValueError: if the text is not a version.
    """
    if not re.fullmatch(r"[0-9]{1,18}\.[0-9]{1,18}", str(model_id)):
        raise ValueError(f"a model version is written round.state, such as '0.1'; got {model_id!r}.")
    return _parsed(str(model_id))


def _parsed(text: str) -> Version:
    round_, _, state = text.partition(".")
    return int(round_), int(state)


def written(version: Version) -> str:
    """Return the text ``'0.1'`` for the version ``(0, 1)``."""
    return f"{version[0]}.{version[1]}"


def line(entry: Entry) -> str:
    """Return the line of the history for a version that has not been removed."""
    beginning = "" if entry.parent is None else f"{written(entry.parent)} => "
    return f"{beginning}{entry.method} => {written(entry.version)}"


def lines(folder: str) -> list[str]:
    """Return the complete lines of the history; an empty list if there is no history."""
    return _lines(folder)[:-1]


def _lines(folder: str) -> list[str]:
    """Return the complete lines, followed by the text after the last line break."""
    try:
        text = read(os.path.join(folder, HISTORY)).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return [""]
    end = text.rfind("\n") + 1
    return [*text[:end].splitlines(), text[end:]]


def check(folder: str) -> None:
    """Check that the history contains valid lines only.

    Raises:
        ValueError: if it contains others. Then it is unknown which versions were saved, and which of them last.
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
    """Return the versions in the history, in the order in which they were made."""
    found = []
    for line in lines(folder):
        if match := _LINE.fullmatch(line.strip()):
            parent = _parsed(match["parent"]) if match["parent"] else None
            found.append(Entry(_parsed(match["version"]), parent, match["method"] if parent else "init", bool(match["removed"])))
    return found


def taken(folder: str) -> set[Version]:
    """Return all present and former versions.

    They include versions that only occur as parents, since pykan does not record the version that a rewind makes.
    """
    found = entries(folder)
    return {entry.version for entry in found} | {entry.parent for entry in found if entry.parent is not None}


def rounds(folder: str) -> set[int]:
    """Return the numbers of the rounds that have begun."""
    headers = (re.fullmatch(r"### Round ([0-9]+) ###", line.strip()) for line in lines(folder))
    return {int(header[1]) for header in headers if header} | {version[0] for version in taken(folder)}


def begin(folder: str) -> None:
    """Replace the history by one that contains the creation of one model."""
    replace_file(os.path.join(folder, HISTORY), b"### Round 0 ###\ninit => 0.0\n")


def append(folder: str, *new: str) -> None:
    """Append complete lines in a single write."""
    file = os.path.join(folder, HISTORY)
    text = "".join(" ".join(line.splitlines()) + "\n" for line in new).encode()
    existed = os.path.exists(file)
    with open(file, "ab+", buffering=0) as stream:  # a buffer would repeat a failed write when the file is closed
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
    """Return the position where the last complete line ends."""
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
    """Mark `versions` as removed."""
    endings = tuple(f"=> {written(version)}" for version in versions)
    marked = [line + REMOVED if line.endswith(endings) else line for line in lines(folder)]
    replace_file(os.path.join(folder, HISTORY), "".join(line + "\n" for line in marked).encode())


def tree(folder: str) -> str:
    """Draw the versions as a tree, each below the version that it was made from."""
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
