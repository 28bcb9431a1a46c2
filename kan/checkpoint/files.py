"""Bytes of one checkpoint on disk: written together or not at all, read with nothing executed.

**Writing.** The new files are written beside their names as parts, ``<name>.<digest>.part``, and synced. Then the first of them, the
configuration, is renamed: from there on the new checkpoint holds, and the others follow. As the configuration knows the digests of the
others, a reader that comes in between, or after a crash there, takes the part that has the digest.

**Reading.** A configuration is YAML without tags, but for those of numpy's numbers, see `kan.checkpoint.numpy_numbers`. Its last line is a
comment with the SHA-256 of what precedes it. Tensors are what `torch.save` writes: a zip archive, whose own checksums `torch.load` does not
look at, so that we do, read with ``weights_only``. Whatever does not fit is refused with a ``ValueError`` that names the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import stat
import tempfile
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
import yaml
from torch import Tensor

from kan.checkpoint.numpy_numbers import HARMLESS_TAGS, Loader

__all__ = [
    "SEAL",
    "Content",
    "Link",
    "digest",
    "digest_of",
    "dump_config",
    "dump_tensors",
    "identity",
    "parse_config",
    "parse_tensors",
    "read",
    "recover",
    "replace_file",
    "sync_folder",
    "write_together",
]

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The one in C where PyYAML was built with it, which is ten times as fast."""
SEAL = b"# sha256 "
"""Begins the last line of a configuration."""
DEEPEST = 32
"""Levels of nesting in a configuration; PyYAML's reader in C overflows the stack on very many."""
MOST_REPEATED = 100_000
"""Entries of a configuration that are there by reference only."""
STALE = 3600.0
"""Seconds after which a part is taken for what a crash has left."""


class Link(NamedTuple):
    """A file of known content, which may be linked to where the same is to be written."""

    file: str
    digest: str


Content: TypeAlias = bytes | Link


def digest(content: bytes | memoryview) -> str:
    """SHA-256 of `content`, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_of(content: Content) -> str:
    """`digest`, which is known of a link."""
    return content.digest if isinstance(content, Link) else digest(content)


# Configurations


def dump_config(config: Mapping[str, Any]) -> bytes:
    """`config`, plain data, as sealed YAML."""
    text: bytes = yaml.dump(dict(config), Dumper=DUMPER, default_flow_style=False).encode()
    return text + SEAL + digest(text).encode() + b"\n"


def parse_config(content: bytes, file: str) -> tuple[dict[str, Any], bool]:
    """The configuration in `content`, and whether it is sealed.

    Args:
        content: of the file.
        file: its name, for messages.

    Raises:
        ValueError: if it is no dictionary in YAML of plain data, or not what was sealed.
    """
    text, mark, seal = content.rpartition(SEAL)
    if mark and digest(text) != seal.decode("ascii", "replace").strip():
        raise ValueError(f"{file} was changed or damaged after it was written: its checksum does not fit. Nothing was loaded.")
    try:
        plain = content.decode("utf-8")
        _check_events(plain)
        config = yaml.load(plain, Loader=Loader)
    except Exception as error:  # PyYAML lets through what goes wrong inside: of dates such as 2026-99-99, for example
        raise ValueError(f"{file} is not a readable configuration: {str(error)[:500]}") from error
    return (dict(config) if isinstance(config, dict) else {}), bool(mark)


def _check_events(text: str) -> None:
    """Refuse what could execute something or cost more than it says, before anything is made of it.

    These are tags, merged mappings, deep nesting, and references that multiply or lead in a circle.
    """
    sizes: dict[str, int] = {}
    above: list[tuple[str | None, int]] = []
    count = repeated = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the reference {event.anchor!r} leads nowhere, or in a circle")
            count += sizes[event.anchor]
            repeated += sizes[event.anchor]
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            if event.tag is not None and event.tag not in HARMLESS_TAGS:
                line = event.start_mark.line + 1  # type: ignore[union-attr]
                raise ValueError(
                    f"in line {line} it has the tag {event.tag!r}, and tags could execute anything when they are loaded; write the plain "
                    f"value there"
                )
            count += 1
            if isinstance(event, yaml.CollectionStartEvent):
                above.append((event.anchor, count))
            elif event.anchor is not None:
                sizes[event.anchor] = 1
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                raise ValueError("it merges mappings")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, begun = above.pop()
            if anchor is not None:
                sizes[anchor] = count - begun + 1
        if len(above) > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        if repeated > MOST_REPEATED:
            raise ValueError(f"it repeats more than {MOST_REPEATED} entries")


# Tensors


def dump_tensors(value: Any) -> bytes:
    """What `torch.save` writes. It is made in memory: of a disk that is full torch speaks in many tongues."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def parse_tensors(content: bytes, file: str) -> Any:
    """The tensors and plain data in `content`, on the CPU.

    Raises:
        ValueError: if it is not whole, or anything but tensors and plain data; nothing is executed.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
            damaged = None if packed else archive.testzip()
        if packed or damaged is not None:
            raise ValueError(f"the record {packed[0] if packed else damaged!r} is {'compressed' if packed else 'damaged'}")
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        _check_tensors(value)
        return value
    except Exception as error:  # of a file that anyone may have made, torch, pickle and zip complain in their own ways
        raise ValueError(f"{file} could not be read as tensors, nothing was loaded: {_reason(error)}") from error


def _check_tensors(value: Any) -> None:
    """Refuse tensors that speak of more numbers than they have: a copy would allocate these."""
    rest, seen = [value], set()
    while rest:
        value = rest.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.is_meta:
                raise ValueError("it holds a tensor that is sparse, quantised, or without numbers")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {tuple(value.shape)} has more elements than numbers")
        elif isinstance(value, Mapping):
            rest += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            rest += value


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "it holds something other than tensors and plain data, which could execute anything when it is loaded."
    return str(error)[:500]


# Folders


def read(file: str, expected: str | None = None) -> bytes:
    """The content of `file`, or of a part that was to replace it, if that is what has the digest `expected`.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it has another digest than `expected`, or is no regular file.
    """
    for _ in range(2):  # the part may take its place between the two looks
        try:
            content = _content(file)
        except FileNotFoundError:
            content = None
        if content is not None and expected in (None, digest(content)):
            return content
        part = None if expected is None else _whole_part(file, expected)
        if part is not None:
            return part
    if content is None:
        raise FileNotFoundError(f"{file} does not exist.")
    raise ValueError(
        f"{file} is not the file that was saved: its checksum is not the one in the configuration beside it. It was damaged, replaced or "
        f"renamed; nothing was loaded."
    )


def identity(file: str) -> tuple[int, ...] | None:
    """Tells whether a file is still the same, and none has been put in its place; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _content(file: str) -> bytes:
    if os.path.isdir(file):
        raise ValueError(f"{file} is a folder, and no regular file; nothing was loaded. KAN.loadckpt loads a folder of versions.")
    with open(file, "rb", opener=_opened_at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise ValueError(f"{file} is no regular file; nothing was loaded.")
        return stream.read()


def _opened_at_once(file: str, flags: int) -> int:
    # Opening a pipe would wait for someone to write to it.
    return os.open(file, flags | getattr(os, "O_NONBLOCK", 0))


def _whole_part(file: str, expected: str) -> bytes | None:
    """The content of the part that was to replace `file`, if it is there and has the digest."""
    with suppress(FileNotFoundError):
        content = _content(_part(file, expected))
        return content if digest(content) == expected else None
    return None


def recover(digests: Mapping[str, str]) -> None:
    """Rename the parts that a crash has left to be renamed, before anything is written over them.

    Args:
        digests: of the files, by name, as the configuration has them.
    """
    for file, expected in digests.items():
        part = _part(file, expected)
        if os.path.exists(part) and not _same_file(part, file) and _whole_part(file, expected) is not None:
            os.replace(part, file)


def write_together(contents: Mapping[str, Content]) -> None:
    """Write all files, each whole, or none.

    Args:
        contents: by name of the file, the configuration first. Of a link a hard link is made where the file system has them.
    """
    parts = {file: _part(file, digest_of(content)) for file, content in contents.items()}
    committed = False
    try:
        for file, content in contents.items():
            _write_part(parts[file], content)
        sync_folder(os.path.dirname(next(iter(parts))))
        for file, part in parts.items():
            os.replace(part, file)
            committed = True
        sync_folder(os.path.dirname(next(iter(parts))))
    finally:
        for part in parts.values():
            # Once the configuration stands, what was not renamed is what it refers to. (Renaming one link to another leaves it, too.)
            if not committed or _same_file(part, part.rsplit(".", 2)[0]):
                Path(part).unlink(missing_ok=True)
    folder, name = os.path.split(next(iter(contents)))
    _remove_stale_parts(folder, name.removesuffix("config.yml"))


def replace_file(file: str, content: bytes) -> None:
    """Write one file, whole or not at all."""
    folder = os.path.dirname(file) or os.curdir
    handle, part = tempfile.mkstemp(dir=folder, prefix=os.path.basename(file) + ".", suffix=".part")
    try:
        os.close(handle)
        os.unlink(part)  # to be made anew with the permissions of any other file
        _write_part(part, content)
        os.replace(part, file)
        sync_folder(folder)
    finally:
        Path(part).unlink(missing_ok=True)
    _remove_stale_parts(folder, os.path.basename(file) + ".")


def sync_folder(folder: str) -> None:
    """Make the names in `folder` survive a loss of power."""
    if os.name == "posix":
        handle = os.open(folder or os.curdir, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _part(file: str, expected: str) -> str:
    return f"{file}.{expected[:16]}.part"


def _write_part(part: str, content: Content) -> None:
    Path(part).unlink(missing_ok=True)  # the same content of a crashed attempt, perhaps not all of it
    if isinstance(content, Link):
        with suppress(OSError):
            os.link(content.file, part)
            return
        content = read(*content)
    with open(part, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _remove_stale_parts(folder: str, name: str) -> None:
    """Remove the parts that crashes have left of files whose names begin with `name`."""
    with suppress(OSError), os.scandir(folder or os.curdir) as entries:
        for entry in entries:
            if entry.name.startswith(name) and entry.name.endswith(".part") and time.time() - entry.stat().st_mtime > STALE:
                os.unlink(entry.path)
