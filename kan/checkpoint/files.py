"""The files of one checkpoint: written together or not at all, and read without executing anything.

**Writing.** The new files are written under temporary names, ``<name>.<digest>.part``, and synced. Then the first of them, the
configuration, is renamed. From that moment the new checkpoint is valid, and the other files are renamed. The configuration contains the
digests of the other files, so that a reader that comes in between, or after a crash, finds the part with the right digest.

**Reading.** A configuration is YAML without tags, except those of numpy's numbers, see `kan.checkpoint.numpy_numbers`. Its last line is a
comment with the SHA-256 digest of the preceding text. Tensors are written by `torch.save` and read with ``weights_only``. Such a file is a
zip archive, whose checksums are verified here because `torch.load` ignores them. Everything inconsistent is refused with a ``ValueError``
that names the file.
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
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, overload

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
"""PyYAML's dumper in C if available, which is ten times as fast as the one in Python."""
SEAL = b"# sha256 "
"""Beginning of the last line of a configuration, which contains its digest."""
DEEPEST = 32
"""Largest number of nested levels in a configuration; PyYAML's reader in C overflows the stack at very many."""
MOST_REPEATED = 100_000
"""Largest number of entries of a configuration that repeat others by reference."""
STALE = 3600.0
"""Age, in seconds, above which a part is regarded as left behind by a crash and removed."""


class Link(NamedTuple):
    """A file of known content, to which a link can be made instead of writing the same content again."""

    file: str
    digest: str


Content: TypeAlias = bytes | Link


def digest(content: bytes | memoryview) -> str:
    """Return the SHA-256 digest of `content` in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_of(content: Content) -> str:
    """Return the `digest` of `content`, which a link contains already."""
    return content.digest if isinstance(content, Link) else digest(content)


# Configurations


def dump_config(config: Mapping[str, Any]) -> bytes:
    """Return the plain data `config` as YAML, with its digest in the last line."""
    text: bytes = yaml.dump(dict(config), Dumper=DUMPER, default_flow_style=False).encode()
    return text + SEAL + digest(text).encode() + b"\n"


def parse_config(content: bytes, file: str) -> tuple[dict[str, Any], bool]:
    """Return the configuration in `content`, and whether it ends with a digest.

    Args:
        content: the content of the file.
        file: its name, for messages.

    Raises:
        ValueError: if it is not a dictionary of plain data in YAML, or does not have this digest.
    """
    text, mark, seal = content.rpartition(SEAL)
    if mark and digest(text) != seal.decode("ascii", "replace").strip():
        raise ValueError(f"{file} was changed or damaged after it was written: its checksum does not fit. Nothing was loaded.")
    try:
        plain = content.decode("utf-8")
        _check_events(plain)
        config = yaml.load(plain, Loader=Loader)
    except Exception as error:  # PyYAML passes on errors of other libraries, as for dates such as 2026-99-99
        raise ValueError(f"{file} is not a readable configuration: {str(error)[:500]}") from error
    return (dict(config) if isinstance(config, dict) else {}), bool(mark)


def _check_events(text: str) -> None:
    """Refuse text that could execute code or use excessive memory, before anything is constructed from it.

    Refused are tags, merged mappings, deep nesting, and references that multiply or form a circle.
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
    """Return the bytes that `torch.save` writes.

    They are made in memory, because torch reports a full disk with many kinds of errors.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def parse_tensors(content: bytes, file: str) -> Any:
    """Return the tensors and plain data in `content`, on the CPU.

    Raises:
        ValueError: if `content` is incomplete or holds anything but tensors and plain data; nothing is executed.
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
    except Exception as error:  # torch, pickle and zip raise errors of many kinds for invalid files
        raise ValueError(f"{file} could not be read as tensors, nothing was loaded: {_reason(error)}") from error


def _check_tensors(value: Any) -> None:
    """Refuse tensors with more elements than stored numbers, since a copy would allocate them."""
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
    """Return the content of `file`, or of the part that should replace it if that has the digest `expected`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another digest than `expected`, or is not a regular file.
    """
    for _ in range(2):  # the part may be renamed between the two attempts
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
    """Return the content of the part that should replace `file`, if it exists and has the digest."""
    with suppress(FileNotFoundError):
        content = _content(_part(file, expected))
        return content if digest(content) == expected else None
    return None


def recover(digests: Mapping[str, str]) -> None:
    """Rename the parts that a crash has left, before they are overwritten.

    Args:
        digests: digests of the files, by name, from the configuration.
    """
    for file, expected in digests.items():
        part = _part(file, expected)
        if os.path.exists(part) and not _same_file(part, file) and _whole_part(file, expected) is not None:
            os.replace(part, file)


def write_together(contents: Mapping[str, Content]) -> None:
    """Write all files completely, or none.

    Args:
        contents: contents by name of the file, the configuration first. A `Link` becomes a hard link where the file system has them.
    """
    parts = {file: _part(file, digest_of(content)) for file, content in contents.items()}
    committed = False
    try:
        # All are written before any is synced: the first sync then does most of the work of the others.
        with ExitStack() as opened:
            files = [opened.enter_context(one) for one in map(_write_part, parts.values(), contents.values()) if one is not None]
            for one in files:
                os.fsync(one.fileno())
        sync_folder(os.path.dirname(next(iter(parts))))
        for file, part in parts.items():
            os.replace(part, file)
            committed = True
        sync_folder(os.path.dirname(next(iter(parts))))
    finally:
        for part in parts.values():
            # Once the configuration is in place, it refers to the parts that were not renamed. (Renaming a link to a link of the same
            # file leaves the part, too.)
            if not committed or _same_file(part, part.rsplit(".", 2)[0]):
                Path(part).unlink(missing_ok=True)
    folder, name = os.path.split(next(iter(contents)))
    _remove_stale_parts(folder, name.removesuffix("config.yml"))


def replace_file(file: str, content: bytes) -> None:
    """Write one file completely or not at all."""
    folder = os.path.dirname(file) or os.curdir
    handle, part = tempfile.mkstemp(dir=folder, prefix=os.path.basename(file) + ".", suffix=".part")
    try:
        os.close(handle)
        os.unlink(part)  # it is created again, with the permissions of an ordinary file
        with _write_part(part, content) as opened:
            os.fsync(opened.fileno())
        os.replace(part, file)
        sync_folder(folder)
    finally:
        Path(part).unlink(missing_ok=True)
    _remove_stale_parts(folder, os.path.basename(file) + ".")


def sync_folder(folder: str) -> None:
    """Sync the names in `folder` to disk, so that they survive a loss of power."""
    if os.name == "posix":
        handle = os.open(folder or os.curdir, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _part(file: str, expected: str) -> str:
    return f"{file}.{expected[:16]}.part"


@overload
def _write_part(part: str, content: bytes) -> IO[bytes]: ...
@overload
def _write_part(part: str, content: Content) -> IO[bytes] | None: ...
def _write_part(part: str, content: Content) -> IO[bytes] | None:
    """Write the file `part`; returns it open and not yet synced to disk, or None if it is a link to a file that is there already."""
    Path(part).unlink(missing_ok=True)  # from an attempt that crashed, perhaps incomplete
    if isinstance(content, Link):
        with suppress(OSError):
            os.link(content.file, part)
            return None
        content = read(*content)
    file = open(part, "xb")
    try:
        file.write(content)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _remove_stale_parts(folder: str, name: str) -> None:
    """Remove the parts, left behind by crashes, of files whose names begin with `name`."""
    with suppress(OSError), os.scandir(folder or os.curdir) as entries:
        for entry in entries:
            if entry.name.startswith(name) and entry.name.endswith(".part") and time.time() - entry.stat().st_mtime > STALE:
                os.unlink(entry.path)
