"""Locks on a folder of versions: one process writes at a time, and a process can detect whether others work there.

Both use locks of the operating system on files in the folder, which are released when a process dies.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["Presence", "locked", "others"]

NAME = ".lock"
PRESENCE = ".writer-"

_own: set[str] = set()
"""Files of the presences of this process, which do not count as other processes."""


@contextmanager
def locked(folder: str, seconds: float) -> Iterator[None]:
    """Hold the lock on `folder`, so that no other process writes there.

    Raises:
        TimeoutError: if another process has held the lock for `seconds`.
    """
    lock = FileLock(os.path.join(folder, NAME))
    try:
        lock.acquire(timeout=seconds, poll_interval=0.01)
    except Timeout as error:
        raise TimeoutError(f"another process has been writing to {folder!r} for {seconds:g} seconds") from error
    except NotImplementedError:  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


class Presence:
    """A sign to other processes that this one writes versions to a folder, for as long as the object lives."""

    def __init__(self, folder: str) -> None:
        file = os.path.abspath(os.path.join(folder, f"{PRESENCE}{uuid.uuid4().hex[:12]}"))
        lock = FileLock(file, thread_local=False)
        with suppress(NotImplementedError):
            lock.acquire(timeout=0)
        _own.add(file)
        self._finalizer = weakref.finalize(self, _leave, lock, file, os.getpid())

    def leave(self) -> None:
        """Remove the sign now."""
        self._finalizer()


def others(folder: str) -> int:
    """Return the number of presences of other processes in `folder`; those of dead processes are removed."""
    count = 0
    for entry in Path(folder).glob(f"{PRESENCE}*"):
        file = os.path.abspath(entry)
        if file in _own:
            continue
        lock = FileLock(file, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            count += 1
        except NotImplementedError:
            continue
        else:
            lock.release()
            with suppress(OSError):
                os.unlink(file)
    return count


def _leave(lock: FileLock, file: str, process: int) -> None:
    if os.getpid() != process:  # a forked child holds the lock as well, but only the parent may release it
        return
    with suppress(OSError):
        lock.release()
        os.unlink(file)
    _own.discard(file)
